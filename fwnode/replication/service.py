"""Runs replication between the nodes of a network: gives streams to edges, fetches those that viewers want.

One bulk stream of the mesh for each subscriber, called SERVICE, with the stream's name as its argument. What
is sent on it is media.replicate.wire's, behind the parent's Answer.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

import structlog
import trio

from fwnode.node import Node
from fwnode.replication.answer import Answer, AnswerReader, encode_answer
from fwnode.replication.catalogue import Catalogue
from fwnode.replication.copy import Copy
from fwnode.replication.members import may_publish, members_of
from fwnode.replication.origins import Origins
from media.errors import Refused, WireError
from media.replicate.publication import Publication as Feed
from media.replicate.replica import Conflicted, Ended, Event, Failed, Lost, Replica, Skipped
from media.replicate.signing import Identity, Proofs
from media.replicate.wire import (
    TO_PARENT_BYTES_MAX,
    FrameReader,
    ToParent,
    Want,
    encode,
    parse_to_parent_untrusted,
)
from media.track.model import MICROSECONDS
from media.track.stream import Source, Stream, StreamState
from mesh.directory.facts import CarriedStream
from mesh.errors import MeshError
from mesh.identity.key import verify
from mesh.link.model import Connection
from mesh.model import NodeId
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication, current_publication, has_lost

SERVICE = "media"
SUBSCRIBERS_MAX = 64  # edges and streams that are fed at a time; 200 Mb/s of usual streams
SUBSCRIBERS_OF_PEER_MAX = 32  # a node that wants everything leaves room for others
COPIES_MAX = 64  # streams fetched at a time: what a record tells of a node
PULL_BYTES = 65536  # taken from a stream at once: what one system call sends
WANT_S = 10.0  # for an edge to say what it wants
SEND_S = 30.0  # for PULL_BYTES to leave: slower than any stream, the edge is gone
OPEN_S = 12.0  # a link, then a way to the parent
ANSWER_S = 5.0
STALL_S = 5.0  # without a byte of a live stream another parent is looked for
REST_S = 60.0  # the same of a stream that starts or rests at its origin: nothing is sent then
RETRY_S = 0.25  # between looks for a parent when there is none
LOOK_S = 1.0  # between looks whether anybody watches, and for streams that viewers wait for
RESTING_MAX = 512  # publications that ended and are not fetched again at once, the latest
RESTING_S = 20.0  # the directory may tell of a stream for so long after its origin died; as ENDED_KEEP_S


@dataclass(slots=True)
class _Run:
    """A copy that is being kept."""

    copy: Copy
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    reason: str = "this node takes no part in the network any more"  # why it ends when it is cancelled


@dataclass(frozen=True, slots=True)
class _Offer:
    """A stream that can be given to an edge."""

    stream: Stream
    proofs: Proofs
    identity: Identity
    answer: Answer


class _Bell:
    """Wakes one task; a ring that nobody waits for is kept."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self, now: float = 0.0) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = trio.Event()


class Replication:
    """Everything of one node that has to do with streams of other nodes, while it is in a network."""

    def __init__(self, node: Node, mesh: MeshNode) -> None:
        self._node = node
        self._streams = node.streams
        self._mesh = mesh
        self._clock = node.reactor.now
        self._catalogue = Catalogue(mesh.core.gossip.directory, self._clock)
        self._origins = Origins(self._streams, self._catalogue.said, node.network.node_key.sign, _unix_us)
        self._history_us = round(node.config.hls.window_s * MICROSECONDS)
        self._runs: dict[str, _Run] = {}
        self._begun_send, self._begun = trio.open_memory_channel[_Run](COPIES_MAX)
        self._subscribers: Counter[NodeId] = Counter()  # streams of each, also those that wait for a Want
        self._feeds: dict[Feed, None] = {}
        self._resting: dict[tuple[str, Publication], float] = {}  # until when
        self._news = _Bell()
        self._log = structlog.get_logger()

    def carried(self) -> list[CarriedStream]:
        """What this node can give to others, for the directory."""
        copies = [run.copy.carried() for run in self._runs.values()]
        return self._origins.carried() + [carried for carried in copies if carried is not None]

    async def changed(self) -> None:
        """Wait until `carried` may give something else."""
        await self._news.wait()

    async def run(self) -> None:
        """Give and fetch until cancelled; what was fetched ends then."""
        self._origins.follow(self._clock())
        self._streams.subscribe(self._stream_changed)
        self._streams.fetch = self._fetch
        self._mesh.serve(SERVICE, self._serve)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                async for run in self._begun:
                    nursery.start_soon(self._keep, run)
        finally:
            self._streams.fetch = None
            self._streams.unsubscribe(self._stream_changed)
            self._origins.close()
            for run in list(self._runs.values()):
                self._finish(run, run.reason)

    def _stream_changed(self, name: str, now: float) -> None:
        self._news.ring()

    # --- giving

    async def _serve(self, connection: Connection) -> None:
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
            answer = Answer(signer.identity.epoch, self._mesh.core.node, 0)
            return _Offer(signer.stream, signer.proofs, signer.identity, answer)
        run = self._runs.get(name)
        if run is None or run.copy.parent is None or run.copy.stream.state is StreamState.ENDED:
            return "this node does not have that stream now"
        copy, publication = run.copy, run.copy.publication
        answer = Answer(publication.epoch_unix_us, publication.origin, copy.depth)
        return _Offer(copy.stream, copy.replica.proofs, copy.replica.identity, answer)

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
        bell = _Bell()
        feed = Feed(offer.stream, offer.proofs, offer.identity, waiting[0], bell.ring)
        self._feeds[feed] = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, connection, reader, feed, nursery.cancel_scope)
                await _send(connection, feed, bell)
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

    def _let_go(self, stream: Stream, reason: str) -> None:
        """Send those who are fed a stream to other parents."""
        for feed in list(self._feeds):
            if feed.stream is stream:
                feed.end(reason, self._clock())

    # --- fetching

    def _fetch(self, name: str, now: float) -> None:
        """A viewer looks for a stream that is not here: begin one copy of it, if somebody has it."""
        if name in self._runs or len(self._runs) >= COPIES_MAX:
            return
        core = self._mesh.core
        publication = self._current(name)
        if publication is None or publication.origin == core.node or self._rests(name, publication, now):
            return
        run: _Run | None = None

        def on_stop(reason: str) -> None:
            assert run is not None
            run.reason = reason
            self._rest(run.copy)  # or the next viewer would undo what the operator did
            run.scope.cancel()

        source = Source("mesh", core.name_of(publication.origin))
        try:
            writer = self._streams.open_copy(name, source, now, _unix_us(), on_stop)
        except Refused as refused:
            self._log.warning("stream not fetched", stream=name, reason=str(refused))
            return
        identity = Identity(name, publication.epoch_unix_us)
        replica = Replica(writer, identity, publication.origin, verify)
        run = self._runs[name] = _Run(Copy(core.node, publication, replica, now))
        self._begun_send.send_nowait(run)

    def _current(self, name: str) -> Publication | None:
        """What the name means in the network now; None at the price of a look-up when nobody has it."""
        core, said = self._mesh.core, self._catalogue.said(name)
        return current_publication(said, lambda node: may_publish(core, node)) if said else None

    def _is_superseded(self, copy: Copy) -> bool:
        """Whether the streamer came back on another node, or anew: the next viewer is given that."""
        current = self._current(copy.name)
        return current is not None and has_lost(copy.publication, current)

    def _rests(self, name: str, publication: Publication, now: float) -> bool:
        """Whether that publication ended here a moment ago."""
        return self._resting.get((name, publication), now) > now

    async def _keep(self, run: _Run) -> None:
        """Have a stream here until it ends, is lost, or nobody watches it."""
        reason = ""
        with run.scope:
            reason = await self._follow(run.copy)
        self._finish(run, reason or run.reason)

    def _finish(self, run: _Run, reason: str) -> None:
        copy, now = run.copy, self._clock()
        if self._runs.get(copy.name) is run:
            del self._runs[copy.name]
        copy.replica.abandon(reason, now)
        self._log.info("stream no longer fetched", stream=copy.name, reason=reason)
        self._news.ring()

    async def _follow(self, copy: Copy) -> str:
        """Take the stream from one parent after another; returns why it ended."""
        while True:
            now = self._clock()
            said = self._catalogue.said(copy.name)
            choice = copy.choose(members_of(self._mesh.core, said, trio.current_time()), now)
            if choice.starved:
                self._let_go(copy.stream, "this node has no parent")
                copy.begin_anew()
            elif choice.parent is not None:
                trouble = await self._take_from(copy, choice.parent)
                if trouble is None:
                    self._rest(copy)
                    return "the stream has ended"
                self._part(copy, choice.parent, trouble)
            else:
                await trio.sleep(RETRY_S)
            if copy.is_lost(self._clock()):
                self._rest(copy)
                return f"nobody gives it any more: {choice.reason}"

    def _rest(self, copy: Copy) -> None:
        """Its records are still about: do not fetch it again for a while."""
        self._resting[copy.name, copy.publication] = self._clock() + RESTING_S
        if len(self._resting) > RESTING_MAX:
            del self._resting[next(iter(self._resting))]

    def _part(self, copy: Copy, parent: NodeId, trouble: "str | Failed") -> None:
        """Leave a parent: for a moment, or for ever if it gave what the origin did not sign."""
        name = self._mesh.core.name_of(parent)
        if isinstance(trouble, Failed):
            failure = trouble.failure
            self._log.error(
                "a node gave altered media",
                stream=copy.name,
                peer=name,
                fault=failure.fault.value,
                segment=failure.segment,
                part=failure.part,
                signed=failure.signed.hex(),
                found=failure.found.hex(),
            )
            copy.left(parent, "it altered media", self._clock(), for_ever=True)
        else:
            self._log.info("parent left", stream=copy.name, peer=name, reason=trouble)
            copy.left(parent, trouble, self._clock())
        self._news.ring()

    async def _take_from(self, copy: Copy, parent: NodeId) -> "str | Failed | None":
        """Receive from one parent; returns what went wrong with it, None when the stream ended."""
        try:
            with trio.fail_after(OPEN_S):
                connection = await self._mesh.open_stream(parent, SERVICE, copy.name.encode())
        except (MeshError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return str(error) or type(error).__name__
        except trio.TooSlowError:
            return "no connection in time"
        try:
            return await self._receive(copy, parent, connection)
        except (WireError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return str(error) or "the connection broke"
        except trio.TooSlowError:
            return "no answer in time"
        except Exception:  # a fault of ours in what one parent sent costs this stream that parent only
            self._log.exception("fault", stream=copy.name)
            return "a fault of this program"
        finally:
            connection.close()

    async def _receive(self, copy: Copy, parent: NodeId, connection: Connection) -> "str | Failed | None":
        await connection.send_all(encode(copy.replica.adopt(history_us=self._history_us)))
        reader = AnswerReader()
        data = b""
        with trio.fail_after(ANSWER_S):
            while reader.answer is None:
                data = await _some(connection)
                data = reader.feed(data)
        answer = reader.answer
        if answer.refusal:
            return answer.refusal
        publication = Publication(answer.epoch_unix_us, answer.origin)
        if objection := copy.objection(parent, publication, answer.depth):
            return objection
        copy.adopted(parent, answer.depth, self._clock())
        core = self._mesh.core
        self._log.info("stream fetched", stream=copy.name, peer=core.name_of(parent), depth=copy.depth)
        self._news.ring()
        while True:
            for event in copy.replica.receive(data, self._clock()) if data else ():
                if isinstance(event, Ended):
                    return None
                if isinstance(event, Failed | Lost):
                    return event if isinstance(event, Failed) else event.reason
                self._note(copy, event)
            with trio.move_on_after(STALL_S if copy.stream.state is StreamState.LIVE else REST_S) as stall:
                data = await _some(connection)
            if stall.cancelled_caught:
                return "nothing came any more"

    def _note(self, copy: Copy, event: Event) -> None:
        if isinstance(event, Conflicted | Skipped):
            self._log.info(
                "media skipped" if isinstance(event, Skipped) else "parents differ", stream=copy.name
            )

    async def _look(self) -> None:
        """Let go of what nobody watches; fetch what viewers have been waiting for since before it began."""
        while True:
            await trio.sleep(LOOK_S)
            now = self._clock()
            fed = Counter(feed.stream for feed in self._feeds)
            for run in self._runs.values():
                if run.copy.is_idle(fed[run.copy.stream], now):
                    run.reason = "nobody watches it here"
                    run.scope.cancel()
                elif self._is_superseded(run.copy):
                    run.reason = "it is published on another node now"
                    run.scope.cancel()
            for name in self._streams.awaited():
                self._streams.find(name, now)
            self._resting = {key: until for key, until in self._resting.items() if until > now}


async def _send(connection: Connection, feed: Feed, bell: _Bell) -> None:
    """Everything that a subscriber is to get, as its transport takes it."""
    while True:
        frames = feed.pull(PULL_BYTES)
        if frames:
            with trio.fail_after(SEND_S):
                await connection.send_all(b"".join(frames))
        elif feed.done:
            return
        else:
            await bell.wait()


async def _some(connection: Connection) -> bytes:
    """What came. Raises WireError at the end: a parent says so before it goes."""
    data = await connection.receive_some()
    if not data:
        raise WireError("the parent hung up")
    return data


def _unix_us() -> int:
    return time.time_ns() // 1000


def _first(group: BaseExceptionGroup[WireError]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
