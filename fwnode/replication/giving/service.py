"""Gives streams to edges: what is published here, and what this node itself takes from others.

One bulk stream of the mesh for each subscriber, called SERVICE, with the stream's name as its argument. What
is sent on it is media.replicate.wire's, behind this node's Answer.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from fwnode.replication.answer import Answer, encode_answer
from fwnode.replication.copy import ALIVE_S, Copy
from fwnode.replication.origins import Origins
from media.errors import WireError
from media.replicate.publication import Publication as Feed
from media.replicate.signing import Identity, Proofs
from media.replicate.wire import TO_PARENT_BYTES_MAX, FrameReader, ToParent, Want, parse_to_parent_untrusted
from media.track.stream import Stream, StreamState
from mesh.link.model import Connection
from mesh.model import NodeId

SERVICE = "media"
SUBSCRIBERS_MAX = 64  # edges and streams that are fed at a time; 200 Mb/s of usual streams
SUBSCRIBERS_OF_PEER_MAX = 32  # a node that wants everything leaves room for others
PULL_BYTES = 65536  # taken from a stream at once: what one system call sends
WANT_S = 10.0  # for an edge to say what it wants
SEND_S = 30.0  # for PULL_BYTES to leave: slower than any stream, the edge is gone


@dataclass(frozen=True, slots=True)
class _Offer:
    """A stream that can be given to an edge."""

    stream: Stream
    proofs: Proofs
    identity: Identity
    answer: Answer
    copy: Copy | None = None  # where it comes from; None: it is published here

    @property
    def depth(self) -> int:
        """Hops from the origin now."""
        return self.copy.depth if self.copy is not None else 0

    def is_alive(self, now: float) -> bool:
        """Whether it comes in here now, as far as the line to the origin goes."""
        return self.copy is None or self.copy.hears(now)


class Bell:
    """Wakes one task; a ring that nobody waits for is kept."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self, now: float = 0.0) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = trio.Event()


class Giving:
    """The edges that are fed by this node."""

    def __init__(
        self,
        node: NodeId,
        origins: Origins,
        copy_of: Callable[[str], Copy | None],
        clock: Callable[[], float],
    ) -> None:
        """`copy_of`: this node's copy of another node's stream, by name."""
        self._node = node
        self._origins = origins
        self._copy_of = copy_of
        self._clock = clock
        self._subscribers: Counter[NodeId] = Counter()  # streams of each, also those that wait for a Want
        self._feeds: dict[Feed, None] = {}
        self._log = structlog.get_logger()

    def fed(self) -> Counter[Stream]:
        """How many edges take each stream from here now."""
        return Counter(feed.stream for feed in self._feeds)

    def wanted(self, stream: Stream) -> list[frozenset[int]]:
        """Tracks that each edge wants that takes a stream from here, none: all."""
        return [feed.wanted for feed in self._feeds if feed.stream is stream]

    def let_go(self, stream: Stream, reason: str) -> None:
        """Send those who are fed a stream to other parents."""
        for feed in list(self._feeds):
            if feed.stream is stream:
                feed.end(reason, self._clock())

    async def serve(self, connection: Connection) -> None:
        """Service of the mesh: one edge that wants one stream."""
        name, peer = connection.argument.decode("ascii", "replace"), connection.peer.node_id
        found = self._offer(name, peer)
        self._subscribers[peer] += 1
        try:
            if isinstance(found, str):
                await connection.send_all(encode_answer(Answer(refusal=found)))
                return
            await connection.send_all(encode_answer(found.answer))
            await self._feed(connection, found)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except* WireError as group:
            self._log.warning("an edge broke the protocol", peer=connection.peer.name, reason=_first(group))
        finally:
            self._subscribers[peer] -= 1
            self._subscribers += Counter()  # drops those that have none

    def _offer(self, name: str, peer: NodeId) -> _Offer | str:
        """The stream that an edge asks for, or why it does not get it."""
        if self._subscribers.total() >= SUBSCRIBERS_MAX:
            return f"this node feeds {SUBSCRIBERS_MAX} edges already"
        if self._subscribers[peer] >= SUBSCRIBERS_OF_PEER_MAX:
            return f"this node gives you {SUBSCRIBERS_OF_PEER_MAX} streams already"
        signer = self._origins.get(name)
        if signer is not None and signer.stream.state is not StreamState.ENDED:
            answer = Answer(signer.identity.epoch, self._node, 0, segment=_newest(signer.stream))
            return _Offer(signer.stream, signer.proofs, signer.identity, answer)
        copy = self._copy_of(name)
        if copy is None or copy.parent is None or copy.stream.state is StreamState.ENDED:
            return "this node does not have that stream now"
        if not copy.hears(self._clock()):
            return "nothing comes here from this node's own parent"
        publication = copy.publication
        answer = Answer(
            publication.epoch_unix_us, publication.origin, copy.depth, segment=_newest(copy.stream)
        )
        return _Offer(copy.stream, copy.replica.proofs, copy.replica.identity, answer, copy)

    async def _feed(self, connection: Connection, offer: _Offer) -> None:
        reader = FrameReader(parse_to_parent_untrusted, TO_PARENT_BYTES_MAX)
        waiting: list[ToParent] = []
        with trio.fail_after(WANT_S):
            while not waiting:
                data = await connection.receive_some()
                if not data:
                    return
                waiting.extend(reader.feed(data))
        if not isinstance(waiting[0], Want):
            return
        bell = Bell()
        feed = Feed(offer.stream, offer.proofs, offer.identity, waiting[0], bell.ring)
        self._feeds[feed] = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, connection, reader, feed, nursery.cancel_scope)
                await _send(connection, feed, bell, offer, self._clock)
                nursery.cancel_scope.cancel()
        finally:
            del self._feeds[feed]
            feed.close()

    async def _hear(
        self, connection: Connection, reader: FrameReader[ToParent], feed: Feed, done: trio.CancelScope
    ) -> None:
        """What the edge says after its first Want, until it hangs up or wants no more."""
        while data := await connection.receive_some():
            for message in reader.feed(data):
                if not isinstance(message, Want):
                    done.cancel()
                    return
                feed.want(message)
        done.cancel()


def _newest(stream: Stream) -> int:
    return max(stream.continuation.segment - 1, 0)


async def _send(
    connection: Connection, feed: Feed, bell: Bell, offer: _Offer, clock: Callable[[], float]
) -> None:
    """Everything that a subscriber is to get, as its transport takes it, and that this node is alive."""
    due, depth = clock(), offer.depth
    while True:
        now = clock()
        if now >= due or depth != offer.depth:
            due, depth = now + ALIVE_S, offer.depth
            if offer.is_alive(now):
                feed.say_alive(depth, now)
        frames = feed.pull(PULL_BYTES)
        if frames:
            with trio.fail_after(SEND_S):
                await connection.send_all(b"".join(frames))
        elif feed.done:
            return
        else:
            with trio.move_on_after(due - now):
                await bell.wait()


def _first(group: BaseExceptionGroup[WireError]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
