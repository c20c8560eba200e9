"""Splices connections: the bytes go from socket to socket inside the kernel, which are ciphertext to us.

*Measured* on loopback, the relay in a process of its own, 1 GB/s and above: 0.3 CPU seconds per GB, with
`recv` and `send` 0.6. By size of the pipes: 128 KiB 0.50, 256 KiB 0.43, 512 KiB 0.31, 1 MiB 0.24.
"""

import fcntl
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import trio

from mesh.link.relay.book import TOKEN_S, Pair, Paired, RelayBook, Waiting

IDLE_S = 90.0  # without a byte either way; links beat each 5 s, a bulk stream that is silent so long is dead
PIPE_BYTES = (
    512 * 1024
)  # two for each of PAIRS_MAX are what one user may have (fs.pipe-user-pages-soft: 64 MiB)
COPY_BYTES = 256 * 1024  # where there is no splice
TURN_BYTES = 4 * 1024 * 1024  # passed without waiting, then others have their turn: about a millisecond


class Carrier(Protocol):
    """Moves bytes from one socket to another, both non-blocking, through what it holds in between."""

    held: int  # bytes taken and not given yet

    def take(self, source: socket.socket, limit: int) -> int:
        """Take up to `limit` bytes while nothing is held: how many, 0 at the end; or BlockingIOError."""
        ...

    def give(self, sink: socket.socket) -> None:
        """Give some of what is held; or BlockingIOError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PipeCarrier:
    """By `os.splice` through a pipe: pages are handed on, not copied (splice(2))."""

    def __init__(self) -> None:
        self.held = 0
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # over this user's share (fs.pipe-user-pages-soft): the pipe stays small, more turns

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def take(self, source: socket.socket, limit: int) -> int:
        self.held = os.splice(source.fileno(), self._writer, limit, flags=os.SPLICE_F_NONBLOCK)
        return self.held

    def give(self, sink: socket.socket) -> None:
        self.held -= os.splice(self._reader, sink.fileno(), self.held, flags=os.SPLICE_F_NONBLOCK)


class CopyCarrier:
    """By receiving and sending, where the system has no splice."""

    def __init__(self) -> None:
        self.held = 0
        self._view = memoryview(bytearray(COPY_BYTES))
        self._from = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._view.release()

    def take(self, source: socket.socket, limit: int) -> int:
        self._from = 0
        self.held = source.recv_into(self._view[:limit])
        return self.held

    def give(self, sink: socket.socket) -> None:
        sent = sink.send(self._view[self._from : self._from + self.held])
        self._from += sent
        self.held -= sent


@dataclass(slots=True)
class _Half:
    """A connection that waits for its other half, then belongs to that one's task."""

    sock: socket.socket
    waiting: trio.CancelScope
    splicing: trio.CancelScope = field(default_factory=trio.CancelScope)
    met: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)


class Splicer:
    """Joins the two connections of each pair of the book, whose times are `trio.current_time()`."""

    def __init__(self, book: RelayBook, carrier: Callable[[], Carrier] | None = None) -> None:
        self._book = book
        self._carrier = carrier or (PipeCarrier if hasattr(os, "splice") else CopyCarrier)
        self._halves: dict[Pair, _Half] = {}
        book.subscribe(self._cut)

    async def join(self, sock: socket.socket, token: bytes) -> None:
        """Splice a connected socket with the other half of its pair; returns when that is over.

        The socket is closed then, by cancellation too. `token` is what its first bytes said, untrusted; they
        are read already.
        """
        half = _Half(sock, trio.CancelScope(deadline=trio.current_time() + TOKEN_S))
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            _close(sock)  # reset before it began
            return
        match self._book.arrived(token, trio.current_time()):
            case Waiting(pair):
                await self._wait(pair, half)
            case Paired(pair):
                await self._splice(pair, self._halves[pair], sock)
            case None:
                _close(sock)

    async def _wait(self, pair: Pair, half: _Half) -> None:
        self._halves[pair] = half
        try:
            with half.waiting:
                await half.met.wait()
            if half.met.is_set():
                await half.ended.wait()
        finally:
            if half.met.is_set():
                half.splicing.cancel()  # has an effect only when this task was cancelled
            else:
                del self._halves[pair]
                self._book.close(pair)
                _close(half.sock)

    async def _splice(self, pair: Pair, half: _Half, sock: socket.socket) -> None:
        half.met.set()
        try:
            with half.splicing as scope:
                scope.deadline = trio.current_time() + IDLE_S
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, pair, half.sock, sock, scope)
                    nursery.start_soon(self._pass_on, pair, sock, half.sock, scope)
        finally:
            del self._halves[pair]
            self._book.close(pair)
            _close(half.sock)
            _close(sock)
            half.ended.set()

    async def _pass_on(
        self, pair: Pair, source: socket.socket, sink: socket.socket, scope: trio.CancelScope
    ) -> None:
        """One direction until its end, which is passed on; an error of either side ends the pair."""
        try:
            with self._carrier() as carrier:
                await self._pump(pair, source, sink, carrier, scope)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            scope.cancel()

    async def _pump(
        self,
        pair: Pair,
        source: socket.socket,
        sink: socket.socket,
        carrier: Carrier,
        scope: trio.CancelScope,
    ) -> None:
        book, turn = self._book, 0
        while True:
            now = trio.current_time()
            room = book.room(pair, now)
            if not room:
                await trio.sleep(book.wait_s(pair))
                continue
            try:
                count = carrier.take(source, room)
            except BlockingIOError:
                turn = 0
                await trio.lowlevel.wait_readable(source)
                continue
            if not count:
                return
            scope.deadline = now + IDLE_S
            book.passed(pair, count)
            while carrier.held:
                try:
                    carrier.give(sink)
                except BlockingIOError:
                    turn = 0
                    await trio.lowlevel.wait_writable(sink)
                    scope.deadline = trio.current_time() + IDLE_S
            turn += count
            if turn >= TURN_BYTES:
                turn = 0
                await trio.lowlevel.checkpoint()

    def _cut(self, pair: Pair) -> None:
        """The book closed this pair."""
        half = self._halves.get(pair)
        if half is not None:
            half.waiting.cancel()
            half.splicing.cancel()


def _close(sock: socket.socket) -> None:
    trio.lowlevel.notify_closing(sock)
    sock.close()
