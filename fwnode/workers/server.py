"""A public port that the agent shares with its workers.

The agent makes a listening socket for each worker and keeps it: the kernel spreads connections over
the sockets (SO_REUSEPORT), whoever reads them. While a worker starts, or is started again, the agent
itself accepts from that one's socket, so that nobody waits and nothing in its queue is lost.
"""

import socket
from collections.abc import Callable

from media.net.address import format_address
from media.net.server import Listener, bind_shared

Serve = Callable[[socket.socket], Listener]


class SharedPort:
    """One public listener. Its workers are counted from 0."""

    def __init__(self, address: str, workers: int, serve: Serve, elsewhere: Callable[[], int]) -> None:
        """`serve` accepts here; `elsewhere` counts the workers' connections. Raises OSError."""
        self._sockets = bind_shared(address, workers)
        self._serve = serve
        self._elsewhere = elsewhere
        self._here: dict[int, Listener] = {}
        self._past: list[Listener] = []  # accept no more, and may have connections
        self.address = format_address(*self._sockets[0].getsockname()[:2])
        for worker in range(workers):
            self.accept_for(worker)

    @property
    def connections(self) -> int:
        """Open ones, here and in the workers."""
        here = sum(listener.connections for listener in (*self._here.values(), *self._past))
        return here + self._elsewhere()

    def descriptor(self, worker: int) -> int:
        """The listening socket of that worker, to be inherited."""
        return self._sockets[worker].fileno()

    def accept_for(self, worker: int) -> None:
        """Accept here what is that worker's."""
        if worker not in self._here and self._sockets[worker].fileno() >= 0:
            self._here[worker] = self._serve(self._sockets[worker].dup())

    def leave_to(self, worker: int) -> None:
        """It accepts by itself now; connections that are here stay."""
        listener = self._here.pop(worker, None)
        if listener is not None:
            listener.close()
            self._past = [past for past in (*self._past, listener) if past.connections]

    def close(self) -> None:
        """Accept no more here; a worker goes on as long as it lives."""
        for worker in list(self._here):
            self.leave_to(worker)
        for sock in self._sockets:
            sock.close()
