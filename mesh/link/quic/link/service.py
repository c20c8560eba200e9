"""One QUIC connection to a member, as those see it who have one of its streams."""

from collections.abc import Callable
from math import inf

import trio

from mesh.errors import StateError, Unavailable
from mesh.link.connection.service import RETRY_S
from mesh.link.hello import ARGUMENT_BYTES_MAX, TEXT_LENGTH_MAX
from mesh.link.model import Peer
from mesh.link.quic.header import pack_header
from mesh.link.quic.inbox import Stream
from mesh.link.quic.machine import CLOSED, Machine
from mesh.link.quic.stream.service import QuicStream

LINGER_S = 1.0  # for the last bytes of the last stream to be acknowledged


class QuicLink:
    """One QUIC connection to a member. Streams are opened by either side; it ends with the last of them."""

    def __init__(self, machine: Machine, flush: "Callable[[QuicLink], None]") -> None:
        """For QuicEndpoint; `flush` sends what there is to send, and looks after the connection."""
        self.machine = machine
        self.peer: Peer | None = None  # None until the greeting is over
        self.first: Stream | None = None  # the one that the server opened for the greeting
        self.deadline = inf
        self.linger_until = inf
        self.pinged_at = 0.0
        self.ids: set[bytes] = set()
        self._flush = flush
        self._changed = trio.Event()
        machine.on_change = self.changed

    @property
    def reason(self) -> str:
        """Why it ended, "" while it lives."""
        return "" if self.machine.ended is None else (self.machine.ended.reason or "closed")

    @property
    def remote(self) -> str:
        """The peer's "host:port" now: it changes when its router gives it another."""
        return self.machine.path[0]

    @property
    def round_trip_s(self) -> float:
        """Smoothed, as QUIC measures it, 0 before that."""
        return self.machine.round_trip_s

    async def open_stream(self, purpose: str, argument: bytes = b"") -> QuicStream:
        """A further stream to the peer. Raises Unavailable when the connection is over or has too many."""
        assert self.peer is not None, "opened before the greeting"
        assert 0 < len(purpose) <= TEXT_LENGTH_MAX
        assert len(argument) <= ARGUMENT_BYTES_MAX
        stream = QuicStream(self, self.open(), self.peer, purpose, argument)
        try:
            await stream.send_all(pack_header(purpose, argument))
        except BaseException as error:
            stream.close()
            if isinstance(error, trio.BrokenResourceError):
                raise Unavailable(str(error), RETRY_S) from None
            raise
        stream.bytes_out = 0
        return stream

    def close(self, reason: str, code: int = CLOSED) -> None:
        """End the connection and all its streams now."""
        self.machine.close(reason, code)
        self.flush()

    def leave(self, reason: str) -> None:
        """End the connection when what was said on its streams has arrived."""
        for stream in list(self.machine.streams.values()):
            self.machine.finish(stream)
        self.let_go()

    def flush(self) -> None:
        """Send what there is to send now."""
        self._flush(self)

    def let_go(self) -> None:
        """A stream was closed; with the last of them the connection ends."""
        if not self.machine.streams and self.linger_until == inf:
            self.linger_until = trio.current_time() + LINGER_S
        self.flush()

    def open(self) -> Stream:
        """A new stream, bare. Raises Unavailable."""
        if self.machine.ended is not None or self.linger_until != inf:
            raise Unavailable(f"the connection was closed: {self.reason}", RETRY_S)
        try:
            return self.machine.open()
        except StateError as error:
            raise Unavailable(str(error), RETRY_S) from None

    def meet(self, peer: Peer) -> None:
        """The greeting is over."""
        self.peer = peer
        self.changed()

    async def wait(self) -> None:
        """Wait until the connection, or who it is with, changed."""
        await self._changed.wait()

    def changed(self) -> None:
        """Wake those who wait."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()
