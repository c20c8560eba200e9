"""Numbered objects between members: serves sequences, and reads them over whatever path is best now."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeAlias

import trio

from mesh.errors import MeshError, Refused, StateError, Unavailable, WireError
from mesh.link.model import Connection
from mesh.model import NodeId
from mesh.node.core import RETRY_S, MeshCore
from mesh.node.objects.frame import (
    HEADER_BYTES,
    NUMBER_MAX,
    OBJECT_BYTES_MAX,
    FrameReader,
    Kind,
    pack_frame,
    pack_refusal,
    parse_header_untrusted,
)
from mesh.node.objects.mover import Close, Ended, Missed, Mover, Object, Open, Suspect, Switched
from mesh.node.streams.service import BulkStreams, Opened
from mesh.node.ways import way_name

START_S = 5.0  # for a reader to say where to begin: a round trip
OPEN_S = 15.0  # for a stream: a link, three ways, and a round trip
BEAT_S = 1.0  # between signs of life of an idle sequence
STUCK_S = 60.0  # for CHUNK_BYTES to be taken: a reader that pauses longer opens another stream
CHUNK_BYTES = 256 << 10
SMALL_BYTES = 8 << 10  # sent together with its head: one record and one packet instead of two
SERVED_MAX = 512  # streams of objects that this node sends at a time
SERVED_PER_PEER_MAX = 64
PATHS_KEPT = 64  # the newest; a path that moves more often is no path

Buffer: TypeAlias = bytes | bytearray | memoryview
Source: TypeAlias = Callable[[NodeId, bytes, int, "ObjectSender"], Awaitable[None]]


class MissedObjects(Exception):
    """The peer has the objects from `first` to before `next` no more; the reader goes on with `next`."""

    def __init__(self, first: int, next_number: int) -> None:
        super().__init__(f"objects {first} to {next_number - 1} are gone")
        self.first = first
        self.next = next_number


@dataclass(frozen=True, slots=True)
class PathUsed:
    """From which object on a path was used."""

    path: str  # "relayed via NAME", "punched", "direct", "lan"
    first: int


class ObjectSender:
    """What a source sends its objects with, in order; at most OBJECT_BYTES_MAX each."""

    def __init__(self, connection: Connection, first: int) -> None:
        self._connection = connection
        self._next = first
        self._turn = trio.Lock()
        self._idle = True

    async def __call__(self, number: int, *parts: Buffer) -> None:
        """Send one object, given as one or more buffers, when the reader takes it.

        A number that leaves some out tells the reader that those are gone. Raises StateError for a number
        that was sent; BrokenResourceError when the reader is away, upon which the source has nothing to do.
        """
        length = sum(memoryview(part).nbytes for part in parts)
        if not self._next <= number < NUMBER_MAX or length > OBJECT_BYTES_MAX:
            raise StateError(f"object {number} of {length} bytes, where {self._next} is next")
        async with self._turn:
            head = pack_frame(Kind.GONE, number) if number > self._next else b""
            head += pack_frame(Kind.OBJECT, number, length)
            if length <= SMALL_BYTES:
                await self._send(b"".join((head, *parts)))
            else:
                await self._send(head)
                for part in parts:
                    await self._send(part)
            self._next = number + 1
            self._idle = False

    async def say(self, kind: Kind) -> None:
        """A frame about the next object."""
        async with self._turn:
            await self._send(pack_frame(kind, self._next))

    async def refuse(self, reason: str) -> None:
        """The last frame."""
        async with self._turn:
            await self._send(pack_refusal(reason))

    async def beat(self) -> None:
        """Show that the sequence is there while nothing comes of it."""
        while True:
            await trio.sleep(BEAT_S)
            if self._idle and not self._turn.locked():
                await self.say(Kind.IDLE)
            self._idle = True

    async def _send(self, data: Buffer) -> None:
        with memoryview(data).cast("B") as view:
            for at in range(0, len(view), CHUNK_BYTES):
                with trio.move_on_after(STUCK_S) as scope:
                    await self._connection.send_all(view[at : at + CHUNK_BYTES])
                if scope.cancelled_caught:
                    raise trio.BrokenResourceError("the reader does not read")


class Objects:
    """Sequences of objects of one node."""

    def __init__(self, streams: BulkStreams, core: MeshCore, random: Random) -> None:
        self._streams = streams
        self._core = core
        self._random = random
        self._served: dict[NodeId, int] = {}  # streams by peer

    def serve(self, name: str, source: Source) -> None:
        """Answer `subscribe` of members by this name.

        `source(peer, argument, first, send)` sends objects from number `first` on; it is cancelled when the
        reader goes, and called again, perhaps before that, when the reader moves to another path. What it
        returns from has ended. It raises Refused for what the peer may not have.
        """
        self._streams.serve(name, partial(self._serve, source))

    @asynccontextmanager
    async def subscribe(
        self, peer: NodeId, name: str, argument: bytes = b"", first: int = 0
    ) -> AsyncIterator["ObjectReader"]:
        """Read a member's sequence from object `first` on, until the block is left."""
        assert 0 <= first < NUMBER_MAX
        reader = ObjectReader(self._streams, self._core, self._random, peer, name, argument, first)
        self._streams.listen(peer, reader.link_changed)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.open_streams)
                try:
                    yield reader
                except Exception as error:
                    failure = error  # raised below: the nursery would wrap it
                nursery.cancel_scope.cancel()
        finally:
            self._streams.ignore(peer, reader.link_changed)
            reader.close()
        if failure is not None:
            raise failure

    async def _serve(self, source: Source, connection: Connection) -> None:
        peer = connection.peer.node_id
        if sum(self._served.values()) >= SERVED_MAX or self._served.get(peer, 0) >= SERVED_PER_PEER_MAX:
            return
        self._served[peer] = self._served.get(peer, 0) + 1
        try:
            await self._answer(source, connection)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._served[peer] -= 1
            if not self._served[peer]:
                del self._served[peer]

    async def _answer(self, source: Source, connection: Connection) -> None:
        with trio.move_on_after(START_S) as scope:
            head = bytearray()
            while len(head) < HEADER_BYTES:
                data = await connection.receive_some(HEADER_BYTES - len(head))
                if not data:
                    return
                head += data
        if scope.cancelled_caught:
            return
        kind, first, _ = parse_header_untrusted(head)
        if kind != Kind.START:
            raise WireError(f"a reader begins with START, not {kind.name}")
        sender = ObjectSender(connection, first)
        await sender.say(Kind.OPENED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, connection, nursery.cancel_scope)
            nursery.start_soon(sender.beat)
            try:
                await source(connection.peer.node_id, connection.argument, first, sender)
            except Refused as refused:
                await sender.refuse(str(refused))
            else:
                await sender.say(Kind.END)
            nursery.cancel_scope.cancel()


async def _watch(connection: Connection, scope: trio.CancelScope) -> None:
    """End the work for a reader that is away; it has no more to say."""
    try:
        await connection.receive_some(1)
    except trio.BrokenResourceError:
        pass
    scope.cancel()


@dataclass(slots=True)
class _Reading:
    """A stream that was opened."""

    opened: Opened
    path: str
    frames: FrameReader = field(default_factory=FrameReader)


class ObjectReader:
    """One sequence, for one task. It holds one object, and the kernel what came on two streams."""

    def __init__(
        self,
        streams: BulkStreams,
        core: MeshCore,
        random: Random,
        peer: NodeId,
        name: str,
        argument: bytes,
        first: int,
    ) -> None:
        self.paths: deque[PathUsed] = deque(maxlen=PATHS_KEPT)
        self.moves = 0  # changes of stream
        self._bulk = streams
        self._core = core
        self._peer = peer
        self._name = name
        self._argument = argument
        self._mover = Mover(first, random, trio.current_time())
        self._streams: dict[int, _Reading] = {}
        self._wanted: Open | None = None
        self._wake_opener = trio.Event()
        self._opening: trio.CancelScope | None = None
        self._opening_number = 0
        self._waiting: trio.CancelScope | None = None
        self._receiving = False

    @property
    def duplicates(self) -> int:
        """Objects that came a second time and were dropped."""
        return self._mover.duplicates

    async def receive(self) -> tuple[int, bytearray]:
        """The next object's number and bytes, which are the caller's.

        Raises MissedObjects when the peer has the next one no more, after which it may be called again;
        EndOfChannel at the end; Refused when the peer says so; Unavailable when it is out of reach for long.
        A call that is cancelled loses nothing.
        """
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._receiving = True
        self._mover.resume(trio.current_time())
        try:
            while True:
                self._carry_out()
                result = self._mover.result()
                if result is not None:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return _given(result)
                await self._step()
        finally:
            self._receiving = False
            self._mover.pause(trio.current_time())

    async def _step(self) -> None:
        """Take what has come on the current stream, or wait until something else happens."""
        mover = self._mover
        number = mover.current
        with trio.CancelScope(deadline=mover.deadline()) as self._waiting:
            if number is None:
                await trio.sleep_forever()
            else:
                await self._read(number, self._streams[number])
        self._waiting = None
        mover.on_deadline(trio.current_time(), doubted=self._doubted())

    async def _read(self, number: int, stream: _Reading) -> None:
        mover = self._mover
        try:
            count = await stream.opened.connection.receive_into(stream.frames.space())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            mover.lost(number, str(error), trio.current_time())
            return
        now = trio.current_time()
        if mover.current != number:
            return
        if not count:
            mover.lost(number, "the peer ended the stream", now)
            return
        try:
            frame = stream.frames.filled(count)
            mover.heard(stream.frames.object_in_progress, now)
            if frame is not None:
                mover.receive(frame, now)
        except WireError as error:
            mover.lost(number, str(error), now)

    def _doubted(self) -> bool:
        link = self._core.connector.links.get(self._peer)
        return link is None or link.doubted

    # --- streams

    def link_changed(self) -> None:
        """The peer's link has another connection."""
        self._mover.link_changed(trio.current_time())
        self._carry_out()
        self._wake()

    def close(self) -> None:
        """Close every stream."""
        for stream in self._streams.values():
            stream.opened.connection.close()
        self._streams.clear()

    def _carry_out(self) -> None:
        """Do what the mover wants."""
        for step in self._mover.steps():
            match step:
                case Open():
                    self._wanted = step
                    self._wake_opener.set()
                case Close():
                    self._close(step.stream)
                case Suspect():
                    self._bulk.suspect(self._peer)
                case Switched():
                    self.moves += bool(self.paths)
                    self.paths.append(PathUsed(self._streams[step.stream].path, step.number))

    def _wake(self) -> None:
        """There is another stream to read, or another time to wait for."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _close(self, number: int) -> None:
        if self._wanted is not None and self._wanted.stream == number:
            self._wanted = None
        if self._opening is not None and self._opening_number == number:
            self._opening.cancel()
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.opened.connection.close()

    async def open_streams(self) -> None:
        """Open what is wanted, one stream at a time, for ever."""
        while True:
            self._carry_out()
            step, self._wanted = self._wanted, None
            if step is None:
                self._wake_opener = trio.Event()
                await self._wake_opener.wait()
                continue
            self._opening_number = step.stream
            with trio.CancelScope() as self._opening:
                await self._open(step)
            self._opening = None

    async def _open(self, step: Open) -> None:
        mover, reason, unserved = self._mover, "", False
        try:
            with trio.fail_after(OPEN_S):
                unserved = not await self._begin(step)
        except trio.TooSlowError:
            reason = "no answer in time"
        except (MeshError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            reason = str(error)
        now = trio.current_time()
        if reason or unserved:
            mover.lost(step.stream, reason or "the peer ended the stream at once", now, unserved=unserved)
        elif not mover.ready(step.stream, now):
            self._close(step.stream)
        self._carry_out()
        self._wake()

    async def _begin(self, step: Open) -> bool:
        """Have a stream that the peer confirmed; False when the peer ended it without a word."""
        old = self._streams.get(step.avoid) if step.avoid is not None else None
        opened = await self._bulk.open_way(
            self._peer,
            self._name,
            self._argument,
            avoid=old.opened if old is not None else None,
            best_only=step.upgrade,
        )
        connection, kept = opened.connection, False
        try:
            first = self._mover.opened(step.stream, best=opened.best)
            if first is None:
                raise Unavailable("it is not needed any more", RETRY_S)
            await connection.send_all(pack_frame(Kind.START, first))
            stream = _Reading(opened, way_name(opened.way, connection.peer.remote, self._core.name_of))
            frame = None
            while frame is None:
                count = await connection.receive_into(stream.frames.space())
                if not count:
                    return False
                frame = stream.frames.filled(count)
            if frame.kind != Kind.OPENED or frame.number != first:
                raise WireError(f"the peer answers {frame.kind.name} {frame.number} to START {first}")
            self._streams[step.stream] = stream
            kept = True
            return True
        finally:
            if not kept:
                connection.close()


def _given(result: Object | Missed | Ended) -> tuple[int, bytearray]:
    if isinstance(result, Object):
        return result.number, result.data
    if isinstance(result, Missed):
        raise MissedObjects(result.first, result.next)
    if result.refused:
        raise Refused(result.reason)
    if result.reason:
        raise Unavailable(result.reason, RETRY_S)
    raise trio.EndOfChannel
