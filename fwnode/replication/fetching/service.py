"""Takes streams from other nodes for the viewers of this one: each from one parent after another."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
import trio

from fwnode.replication.catalogue import Catalogue
from fwnode.replication.copy import Copy
from fwnode.replication.fetching.client import Follower, Surroundings
from fwnode.replication.giving.service import Giving
from fwnode.replication.liars import Liars
from fwnode.replication.members import may_publish, members_of
from fwnode.replication.model import Counters
from media.errors import Refused
from media.replicate.replica import Replica
from media.replicate.signing import Identity
from media.track.continuation import Continuation
from media.track.marked import MarkedWriter
from media.track.registry import Streams
from media.track.stream import Source, StreamState
from mesh.identity.key import verify
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication, current_publication, has_lost
from mesh.routing.parents import Member

COPIES_MAX = 64  # streams fetched at a time: what a record tells of a node
FINISH_S = 2.0  # for the rest of a publication to come whose successor has begun
RESTING_MAX = 512  # publications that ended and are not fetched again at once, the latest
ANEW_S = 5.0  # for those who watch to be told that it ended, before others are given it with other numbers
RESTING_S = 20.0  # the directory may tell of a stream for so long after its origin died; as ENDED_KEEP_S


@dataclass(slots=True)
class _Run:
    """A copy that is being kept."""

    copy: Copy
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    follower: Follower | None = None  # of the present publication
    lost_since: float | None = None  # when the directory told of a successor
    reason: str = "this node takes no part in the network any more"  # why it ends when it is cancelled


class Fetching:
    """The streams that this node takes from others. `fetch` is Streams.fetch; `run` keeps what it began."""

    def __init__(
        self,
        streams: Streams,
        mesh: MeshNode,
        catalogue: Catalogue,
        clock: Callable[[], float],
        *,
        history_us: int,
        on_news: Callable[[], None],
        liars: Liars,
        counters: Counters,
    ) -> None:
        """`history_us`: the length of playlists, more of a stream's past is not asked for.

        `on_news`: `copies` or `liars` changed.
        """
        self._streams = streams
        self._mesh = mesh
        self._catalogue = catalogue
        self._clock = clock
        self._on_news = on_news
        self._liars = liars
        self._around = Surroundings(
            mesh=mesh,
            members=self._members,
            clock=clock,
            fed=self._fed,
            let_go=self._let_go,
            on_news=on_news,
            window_us=history_us,
            linger_s=streams.linger_s,
            liars=liars,
            counters=counters,
        )
        self._giving: Giving | None = None
        self._runs: dict[str, _Run] = {}
        self._begun_send, self._begun = trio.open_memory_channel[_Run](COPIES_MAX)
        self._resting: dict[tuple[str, Publication], float] = {}  # until when
        self._log = structlog.get_logger()

    def copies(self) -> Iterable[Copy]:
        """What is fetched now."""
        return [run.copy for run in self._runs.values()]

    def copy_of(self, name: str) -> Copy | None:
        """The copy of a stream of another node, while there is one."""
        run = self._runs.get(name)
        return run.copy if run is not None else None

    async def run(self, giving: Giving) -> None:
        """Keep what `fetch` begins, until cancelled; then all of it ends."""
        self._giving = giving
        try:
            async with trio.open_nursery() as nursery:
                async for run in self._begun:
                    nursery.start_soon(self._keep, run)
        finally:
            for run in list(self._runs.values()):
                self._finish(run, run.reason)

    def fetch(self, name: str, now: float) -> None:
        """A viewer looks for a stream that is not here: begin one copy of it, if somebody has it."""
        if name in self._runs or len(self._runs) >= COPIES_MAX:
            return
        core = self._mesh.core
        publication = self.current(name)
        if publication is None or publication.origin == core.node or self._rests(name, publication, now):
            return
        run: _Run | None = None

        def on_stop(reason: str) -> None:
            assert run is not None
            run.reason = reason
            self._rest(run.copy)  # or the next viewer would undo what the operator did
            run.scope.cancel()

        try:
            writer = self._streams.open_copy(name, self._source(publication), now, _unix_us(), on_stop)
        except Refused as refused:
            self._log.warning("stream not fetched", stream=name, reason=str(refused))
            return
        replica = _replica(writer, publication)
        run = self._runs[name] = _Run(Copy(core.node, publication, replica, now))
        self._begun_send.send_nowait(run)

    def current(self, name: str) -> Publication | None:
        """What the name means in the network now; None at the price of a look-up when nobody has it.

        What only edges have, and from nobody, cannot be had.
        """
        core, said = self._mesh.core, self._catalogue.said(name)
        had = [(node, carried) for node, carried in said if carried.depth == 0 or carried.resume is None]
        return current_publication(had, lambda node: may_publish(core, node)) if had else None

    def yield_to(self, name: str, winner: Publication, now: float) -> Continuation | None:
        """Take nothing more of what `winner` comes before; returns where the stream goes on."""
        run = self._runs.get(name)
        if run is None or not has_lost(run.copy.publication, winner):
            return None
        self._succeed(run, winner)
        stream = run.copy.stream
        return stream.continuation if stream.ring.next else None

    def _source(self, publication: Publication) -> Source:
        return Source("mesh", self._mesh.core.name_of(publication.origin))

    def _succeed(self, run: _Run, successor: Publication) -> None:
        """Go on with what was published behind the copy's publication."""
        copy, now = run.copy, self._clock()
        self._log.info("stream goes on", stream=copy.name, peer=self._mesh.core.name_of(successor.origin))
        run.lost_since = None
        copy.replica.writer.begin_epoch(self._source(successor), now)
        copy.succeed(successor, _replica(copy.replica.writer, successor), now)
        if run.follower is not None:
            run.follower.stop()
        self._on_news()

    def _follow_successor(self, run: _Run, now: float) -> None:
        """The streamer came back on another node, or anew: go there once the rest has come."""
        copy, current = run.copy, self.current(run.copy.name)
        if current is None or not has_lost(copy.publication, current):
            run.lost_since = None
            return
        if run.lost_since is None:
            run.lost_since = now
        rests = copy.parent is None or copy.stream.state is StreamState.LINGERING
        if current.origin != self._mesh.core.node and (rests or now - run.lost_since >= FINISH_S):
            self._succeed(run, current)

    def _rests(self, name: str, publication: Publication, now: float) -> bool:
        """Whether that publication ended here a moment ago."""
        return self._resting.get((name, publication), now) > now

    async def _keep(self, run: _Run) -> None:
        """Have a stream here until it ends, is lost, or nobody watches it."""
        reason = ""
        with run.scope:
            while not reason:
                follower = run.follower = Follower(run.copy, self._around)
                reason = await follower.run()
                if reason:
                    self._rest(run.copy, ANEW_S if follower.begins_anew else RESTING_S)
        self._finish(run, reason or run.reason)

    def _finish(self, run: _Run, reason: str) -> None:
        copy, now = run.copy, self._clock()
        if self._runs.get(copy.name) is run:
            del self._runs[copy.name]
        copy.replica.abandon(reason, now)
        self._log.info("stream no longer fetched", stream=copy.name, reason=reason)
        self._on_news()

    def _members(self, name: str) -> list[Member]:
        said = self._catalogue.said(name)
        return members_of(self._mesh.core, said, trio.current_time(), self._liars.reason)

    def _fed(self, copy: Copy) -> list[frozenset[int]]:
        assert self._giving is not None
        return self._giving.wanted(copy.stream)

    def _let_go(self, copy: Copy) -> None:
        assert self._giving is not None
        self._giving.let_go(copy.stream, "this node has no parent")

    def _rest(self, copy: Copy, for_s: float = RESTING_S) -> None:
        """Its records are still about: do not fetch it again for a while."""
        self._resting[copy.name, copy.publication] = self._clock() + for_s
        if len(self._resting) > RESTING_MAX:
            del self._resting[next(iter(self._resting))]

    def look(self, now: float) -> None:
        """Let go of what nobody watches; fetch what viewers have been waiting for since before it began."""
        assert self._giving is not None
        fed = self._giving.fed()
        for run in list(self._runs.values()):
            if run.copy.is_idle(fed[run.copy.stream], now):
                run.reason = "nobody watches it here"
                run.scope.cancel()
            else:
                self._follow_successor(run, now)
        for name in self._streams.awaited():
            self._streams.find(name, now)
        self._resting = {key: until for key, until in self._resting.items() if until > now}


def _replica(writer: MarkedWriter, publication: Publication) -> Replica:
    identity = Identity(writer.stream.name, publication.epoch_unix_us)
    return Replica(writer, identity, publication.origin, verify)


def _unix_us() -> int:
    return time.time_ns() // 1000
