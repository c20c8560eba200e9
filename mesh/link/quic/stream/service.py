"""A stream of a QUIC connection as tasks use it: the same as a connection of its own over TLS."""

from typing import Protocol

import trio

from mesh.link.model import Peer
from mesh.link.quic.inbox import Stream
from mesh.link.quic.machine import Machine

CLOSED_HERE = "this connection was closed here"
BROKEN = "this connection is broken"


class Carrier(Protocol):
    """The connection that a stream is of."""

    machine: Machine

    def flush(self) -> None:
        """Send what there is to send now."""
        ...

    def let_go(self) -> None:
        """A stream was closed."""
        ...


class QuicStream:
    """An authenticated, encrypted stream of bytes to a member: `mesh.link.model.Connection` over QUIC.

    One task may send while one other receives. A send that was cancelled leaves a part behind: nothing can be
    sent after it. The end of the stream is authenticated: a stream that was cut is broken.
    """

    def __init__(self, carrier: Carrier, stream: Stream, peer: Peer, purpose: str, argument: bytes) -> None:
        self.peer = peer
        self.purpose = purpose
        self.argument = argument
        self.bytes_in = 0
        self.bytes_out = 0
        self.carrier = carrier
        self._stream = stream
        self._closed = False
        self._broken = False
        self._sending = False
        self._changed: trio.Event | None = None
        stream.wake = self._wake

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Raises BrokenResourceError, ClosedResourceError; BusyResourceError for two."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        self._require()
        await trio.lowlevel.checkpoint()
        self._sending = True
        whole = False
        try:
            with memoryview(data).cast("B") as view:
                await self._send(view)
            whole = True
        finally:
            self._sending = False
            self._broken = self._broken or not whole

    async def _send(self, view: memoryview) -> None:
        machine, stream, at = self.carrier.machine, self._stream, 0
        while at < len(view):
            self._require()
            if stream.broken or stream.stopped:
                raise self._lost(stream.broken or "the other side reads no more")
            room = machine.room(stream)
            if room <= 0:
                await self._wait()
                continue
            part = view[at : at + room]
            machine.write(stream, part)
            at += len(part)
            self.bytes_out += len(part)
            self.carrier.flush()

    async def receive_some(self, n: int = 65536) -> bytes:
        """At least one byte and at most `n`; b"" at the end. Raises as `send_all`."""
        await self._arrived()
        data = self._stream.take(n)
        self._took(len(data))
        return data

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Fill as much of `buffer` as has arrived, at least one byte; 0 at the end. Raises as `send_all`."""
        await self._arrived()
        with memoryview(buffer).cast("B") as view:
            count = self._stream.take_into(view)
        self._took(count)
        return count

    def hand_over(self, purpose: str | None = None, argument: bytes | None = None) -> "QuicStream":
        """The same stream as another object, and perhaps for another purpose; this one is closed."""
        self._require()
        taken = QuicStream(
            self.carrier,
            self._stream,
            self.peer,
            self.purpose if purpose is None else purpose,
            self.argument if argument is None else argument,
        )
        self._closed = True
        self._wake()
        return taken

    async def aclose(self) -> None:
        """Say goodbye to the other side, which still gets all that was sent, and close."""
        if not self._closed and not self._broken and not self._sending:
            self._closed = True
            self.carrier.machine.finish(self._stream)
            self._let_go()
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Cut the stream at once. A task that sends or receives gets ClosedResourceError. May be repeated."""
        if self._closed:
            return
        self._closed = True
        self.carrier.machine.abandon(self._stream)
        self._let_go()

    def _let_go(self) -> None:
        self._wake()
        self.carrier.let_go()

    async def _arrived(self) -> None:
        """Wait for bytes or the end."""
        await trio.lowlevel.checkpoint()
        stream = self._stream
        while True:
            self._require()
            if stream.size or stream.ended:
                return
            if stream.broken:
                raise self._lost(stream.broken)
            await self._wait()

    def _took(self, count: int) -> None:
        self.bytes_in += count
        if count and self.carrier.machine.consumed(self._stream, count):
            self.carrier.flush()

    def _require(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(CLOSED_HERE)
        if self._broken:
            raise trio.BrokenResourceError(BROKEN)

    def _lost(self, reason: str) -> trio.BrokenResourceError:
        self._broken = True
        return trio.BrokenResourceError(reason)

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
