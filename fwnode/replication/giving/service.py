"""Gives streams to edges: what is published here, and what this node itself takes from others.

One bulk stream of the mesh for each subscriber, called SERVICE, with the stream's name as its argument. The
edge says what it wants, this node answers whether it gets that; the rest is media.replicate.wire's.

An edge is let in as long as the uplink's budget has room for it (giving.uplink), and beyond that only when it
says that it has nobody else. What viewers of this node take is never refused here, so they come first; when
they leave too little for the edges, the newest edges are sent to other parents.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import msgspec
import structlog
import trio

from fwnode.replication.answer import Answer, encode_answer
from fwnode.replication.copy import ALIVE_S, Copy
from fwnode.replication.giving.uplink import Fed, Uplink
from fwnode.replication.model import Counters, EdgeView
from fwnode.replication.origins import Origins
from media.errors import WireError
from media.replicate.publication import Publication as Feed
from media.replicate.replica import Replica
from media.replicate.signing import Identity, Proofs, Sign
from media.replicate.vouching import Voucher
from media.replicate.wire import TO_PARENT_BYTES_MAX, FrameReader, ToParent, Want, parse_to_parent_untrusted
from media.track.stream import Stream, StreamState
from mesh.link.model import Connection
from mesh.model import NodeId

SERVICE = "media"
SUBSCRIBERS_MAX = 256  # edges and streams that are fed at a time, whatever the budget; 750 Mb/s of usual ones
SUBSCRIBERS_OF_PEER_MAX = 64  # all that a node takes; one that wants more leaves room for others
# Openings that have not said what they want yet; who is fed is counted apart, so they take nobody's place. An
# edge that begins with many viewers opens all of its streams at once: it may, while few others are waiting.
WAITING_MAX = 512  # of all edges; some 50 kB each
CROWDED_AT = WAITING_MAX // 2  # from here on nobody may have more than
WAITING_OF_PEER_MAX = 16
PULL_BYTES = 65536  # taken from a stream at once: what one system call sends
WANT_S = 10.0  # for an edge to say what it wants
ANSWER_S = 10.0  # for the answer to leave: an edge that takes nothing in is gone
SEND_S = 30.0  # for PULL_BYTES to leave: slower than any stream, the edge is gone
ALIVE_EARLY_S = 0.06  # before it is due a word goes along with media: a packet of its own costs more
BEAT_MIN_S = 0.02  # between two looks who has to be told something
WANTS_PAUSE_S = 0.1  # between two reads of what an edge says: it changes its mind at segments, not more often
STOPPING = "this node is about to stop"


@dataclass(frozen=True, slots=True)
class _Offer:
    """A stream that can be given to an edge."""

    stream: Stream
    proofs: Proofs
    identity: Identity
    answer: Answer
    voucher: Voucher | None = None
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

    def still(self) -> None:
        """What it rang for is being looked at now."""
        if self._rung.is_set():
            self._rung = trio.Event()

    async def wait(self) -> None:
        await self._rung.wait()
        self.still()


class Giving:
    """The edges that are fed by this node."""

    def __init__(
        self,
        node: NodeId,
        origins: Origins,
        copy_of: Callable[[str], Copy | None],
        clock: Callable[[], float],
        *,
        uplink: Uplink,
        sign: Sign,
        counters: Counters,
        refuse: Callable[[Stream], str] = lambda stream: "",
    ) -> None:
        """`copy_of`: this node's copy of another node's stream, by name; `sign` with the node's key.

        `refuse`: why no edge gets a stream now, whatever room there is.
        """
        self._refuse = refuse
        self.uplink = uplink
        self._node = node
        self._origins = origins
        self._copy_of = copy_of
        self._clock = clock
        self._sign = sign
        self._counters = counters
        self._draining = False
        self._subscribers: Counter[NodeId] = Counter()  # streams of each, also those that wait for a Want
        self._waiting: Counter[NodeId] = Counter()  # those of them
        self._words_due: dict[Bell, float] = {}  # when those who are fed must hear that this node lives
        self._began = Bell()
        self._feeds: dict[Feed, Fed] = {}
        self._vouchers: WeakKeyDictionary[Replica, Voucher] = WeakKeyDictionary()
        self._log = structlog.get_logger()

    @property
    def edges(self) -> int:
        """How many are fed, each as often as it takes a stream."""
        return len(self._feeds)

    def fed(self) -> Counter[Stream]:
        """How many edges take each stream from here now."""
        return Counter(feed.stream for feed in self._feeds)

    def edges_of(self, stream: Stream, name_of: Callable[[NodeId], str]) -> list[EdgeView]:
        """Who takes a stream from here, for people."""
        now = self._clock()
        return [
            EdgeView(
                fed.peer.hex(),
                name_of(fed.peer),
                round(now - fed.began_at, 3),
                fed.bytes_out,
                fed.last_resort,
            )
            for fed in self._feeds.values()
            if fed.stream is stream
        ]

    def wanted(self, stream: Stream) -> list[frozenset[int]]:
        """Tracks that each edge wants that takes a stream from here, none: all."""
        return [feed.wanted for feed in self._feeds if feed.stream is stream]

    def let_go(self, stream: Stream, reason: str) -> None:
        """Send those who are fed a stream to other parents."""
        for feed in list(self._feeds):
            if feed.stream is stream:
                feed.end(reason, self._clock())

    async def run(self) -> None:
        """Have those who are fed told that this node lives while no media does; until cancelled.

        One clock for all of them: a timer for each packet of each would cost more than the packet.
        """
        while True:
            if not self._words_due:
                await self._began.wait()
            now = self._clock()
            pause_s = ALIVE_S
            for bell, due in self._words_due.items():
                if due <= now:
                    bell.ring()
                else:
                    pause_s = min(pause_s, due - now)
            await trio.sleep(max(pause_s, BEAT_MIN_S))

    def drain(self) -> None:
        """The node is about to stop: nobody more is let in, and edges that can go elsewhere go now.

        What is published here there is nowhere else, so those who take that stay as long as the node does.
        """
        self._draining = True
        self.send_elsewhere()

    def send_elsewhere(self) -> None:
        """Edges that can have their stream from another node are to go there now."""
        for feed in list(self._feeds):
            if feed.stream.replicated:
                feed.end(STOPPING, self._clock())

    def look(self) -> None:
        """Every second or so: when the uplink was over its budget for long, let the newest edges go."""
        now = self._clock()
        self.uplink.look(now)
        excess = self.uplink.take_excess(now)
        for feed, fed in list(self._feeds.items()):
            if fed in excess:
                self._counters.let_go += 1
                self._log.info("edge let go", stream=feed.stream.name, peer=fed.peer.hex()[:8])
                feed.end("this node's uplink is over its budget", now, full=True)

    async def serve(self, connection: Connection) -> None:
        """Service of the mesh: one edge that wants one stream."""
        peer = connection.peer.node_id
        trouble = self._trouble(peer)
        self._subscribers[peer] += 1
        try:
            if not trouble:
                trouble = await self._serve(connection)
            if trouble:
                await self._answer(connection, Answer(refusal=trouble))
                self._counters.refused += 1
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except* WireError as group:
            self._log.warning("an edge broke the protocol", peer=connection.peer.name, reason=_first(group))
        finally:
            self._subscribers[peer] -= 1
            self._subscribers += Counter()  # drops those that have none

    def _trouble(self, peer: NodeId) -> str:
        """Why an edge is not even asked what it wants."""
        if self._draining:
            return STOPPING
        if self._subscribers[peer] >= SUBSCRIBERS_OF_PEER_MAX:
            return f"this node gives you {SUBSCRIBERS_OF_PEER_MAX} streams already"
        waiting = self._waiting.total()
        if waiting >= WAITING_MAX:
            return f"{WAITING_MAX} others have not said what they want yet"
        if waiting >= CROWDED_AT and self._waiting[peer] >= WAITING_OF_PEER_MAX:
            return f"you have not said what you want of {WAITING_OF_PEER_MAX} streams already"
        return self._full()

    def _full(self) -> str:
        """Why nobody more can be fed."""
        full = len(self._feeds) >= SUBSCRIBERS_MAX
        return f"this node feeds {SUBSCRIBERS_MAX} edges already" if full else ""

    async def _serve(self, connection: Connection) -> str:
        """Feed an edge what it wants; returns why it gets nothing, "" when it got something."""
        name, peer = connection.argument.decode("ascii", "replace"), connection.peer.node_id
        found = self._offer(name)
        if isinstance(found, str):
            return found
        reader = FrameReader(parse_to_parent_untrusted, TO_PARENT_BYTES_MAX)
        said = await self._wanted(connection, reader)
        if not said or not isinstance(said[0], Want):
            return ""
        want, now = said[0], self._clock()
        found = self._offer(name)  # as it is now
        if isinstance(found, str):
            return found
        if self._draining:
            return STOPPING
        if full := self._full():
            return full
        if refusal := self._refuse(found.stream):
            return refusal
        if not want.last_resort and not self.uplink.has_room(found.stream.bitrate_bps, now):
            await self._answer(connection, Answer(refusal="this node's uplink is full", full=True))
            self._counters.refused += 1
            return ""
        fed = Fed(peer, found.stream, now, want.last_resort)
        await self._feed(connection, found, fed, reader, said)
        return ""

    async def _wanted(self, connection: Connection, reader: FrameReader[ToParent]) -> list[ToParent]:
        """What an edge says first; nothing when it hangs up."""
        peer = connection.peer.node_id
        self._waiting[peer] += 1
        try:
            with trio.fail_after(WANT_S):
                while data := await connection.receive_some():
                    if said := list(reader.feed(data)):
                        return said
            return []
        finally:
            self._waiting[peer] -= 1
            self._waiting += Counter()

    def _offer(self, name: str) -> _Offer | str:
        """The stream that an edge asks for, or why it does not get it."""
        signer = self._origins.get(name)
        if signer is not None and signer.stream.state is not StreamState.ENDED:
            answer = Answer(signer.identity.epoch, self._node, 0, segment=_newest(signer.stream))
            return _Offer(signer.stream, signer.proofs, signer.identity, answer)
        copy = self._copy_of(name)
        if copy is None or copy.parent is None or copy.stream.state is StreamState.ENDED:
            return "this node does not have that stream now"
        if not copy.hears(self._clock()):
            return "nothing comes here from this node's own parent"
        publication, replica = copy.publication, copy.replica
        segment = _newest(copy.stream)
        answer = Answer(publication.epoch_unix_us, publication.origin, copy.depth, segment=segment)
        return _Offer(copy.stream, replica.proofs, replica.identity, answer, self._voucher(copy), copy)

    def _voucher(self, copy: Copy) -> Voucher:
        """One for all who take that copy."""
        replica = copy.replica
        voucher = self._vouchers.get(replica)
        if voucher is None:
            voucher = Voucher(copy.stream, replica.identity, copy.publication.origin, self._sign)
            self._vouchers[replica] = voucher
        return voucher

    async def _answer(self, connection: Connection, answer: Answer) -> None:
        with trio.fail_after(ANSWER_S):
            await connection.send_all(encode_answer(answer))

    async def _feed(
        self,
        connection: Connection,
        offer: _Offer,
        fed: Fed,
        reader: FrameReader[ToParent],
        said: list[ToParent],
    ) -> None:
        """`said` begins with the Want that was granted."""
        bell = Bell()
        want, *more = said
        assert isinstance(want, Want)
        affordable_us = self.uplink.history_us(want.history_us, offer.stream.bitrate_bps, fed.began_at)
        want = msgspec.structs.replace(want, history_us=affordable_us)
        feed = Feed(offer.stream, offer.proofs, offer.identity, want, bell.ring, voucher=offer.voucher)
        self._feeds[feed] = fed
        self.uplink.add(fed, fed.began_at)
        try:
            if all(_heed(feed, message) for message in more):
                await self._answer(connection, offer.answer)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_hear, connection, reader, feed, nursery.cancel_scope)
                    await self._send(connection, feed, fed, bell, offer)
                    nursery.cancel_scope.cancel()
        finally:
            del self._feeds[feed]
            self._words_due.pop(bell, None)
            self.uplink.remove(fed)
            feed.close()

    async def _send(self, connection: Connection, feed: Feed, fed: Fed, bell: Bell, offer: _Offer) -> None:
        """Everything that a subscriber is to get, as its transport takes it, and that this node is alive."""
        depth, due = offer.depth, self._clock()
        self._words_due[bell] = due
        self._began.ring()
        with trio.CancelScope() as stuck:
            while not feed.done:
                bell.still()  # before looking: what comes from here on rings again
                now = self._clock()
                if now >= due - ALIVE_EARLY_S or depth != offer.depth:
                    depth = offer.depth
                    due = self._words_due[bell] = now + ALIVE_S
                    stuck.deadline = trio.current_time() + SEND_S  # not for each packet, as that is dear
                    if offer.is_alive(now):
                        feed.say_alive(depth, now)
                frames = feed.pull(PULL_BYTES)
                if frames:
                    data = b"".join(frames)
                    await connection.send_all(data)
                    self.uplink.count(fed, len(data))
                    self._counters.bytes_out += len(data)
                elif not feed.done:
                    await bell.wait()


async def _hear(
    connection: Connection, reader: FrameReader[ToParent], feed: Feed, done: trio.CancelScope
) -> None:
    """What the edge says after its first Want, until it hangs up or wants no more."""
    while data := await connection.receive_some():
        if not all(_heed(feed, message) for message in reader.feed(data)):
            break
        await trio.sleep(WANTS_PAUSE_S)
    done.cancel()


def _heed(feed: Feed, message: ToParent) -> bool:
    """Whether the edge wants to be fed any more."""
    if isinstance(message, Want):
        feed.want(message)
        return True
    return False


def _newest(stream: Stream) -> int:
    return max(stream.continuation.segment - 1, 0)


def _first(group: BaseExceptionGroup[WireError]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
