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
from fwnode.replication.members import may_publish, members_of
from media.errors import Refused
from media.replicate.replica import Replica
from media.replicate.signing import Identity
from media.track.registry import Streams
from media.track.stream import Source
from mesh.identity.key import verify
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication, current_publication, has_lost
from mesh.routing.parents import Member

COPIES_MAX = 64  # streams fetched at a time: what a record tells of a node
RESTING_MAX = 512  # publications that ended and are not fetched again at once, the latest
RESTING_S = 20.0  # the directory may tell of a stream for so long after its origin died; as ENDED_KEEP_S


@dataclass(slots=True)
class _Run:
    """A copy that is being kept."""

    copy: Copy
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
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
    ) -> None:
        """`history_us`: the length of playlists, more of a stream's past is not asked for.

        `on_news`: `copies` changed.
        """
        self._streams = streams
        self._mesh = mesh
        self._catalogue = catalogue
        self._clock = clock
        self._on_news = on_news
        self._around = Surroundings(mesh, self._members, clock, self._fed, self._let_go, on_news, history_us)
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
            reason = await Follower(run.copy, self._around).run()
            self._rest(run.copy)
        self._finish(run, reason or run.reason)

    def _finish(self, run: _Run, reason: str) -> None:
        copy, now = run.copy, self._clock()
        if self._runs.get(copy.name) is run:
            del self._runs[copy.name]
        copy.replica.abandon(reason, now)
        self._log.info("stream no longer fetched", stream=copy.name, reason=reason)
        self._on_news()

    def _members(self, name: str) -> list[Member]:
        return members_of(self._mesh.core, self._catalogue.said(name), trio.current_time())

    def _fed(self, copy: Copy) -> list[frozenset[int]]:
        assert self._giving is not None
        return self._giving.wanted(copy.stream)

    def _let_go(self, copy: Copy) -> None:
        assert self._giving is not None
        self._giving.let_go(copy.stream, "this node has no parent")

    def _rest(self, copy: Copy) -> None:
        """Its records are still about: do not fetch it again for a while."""
        self._resting[copy.name, copy.publication] = self._clock() + RESTING_S
        if len(self._resting) > RESTING_MAX:
            del self._resting[next(iter(self._resting))]

    def look(self, now: float) -> None:
        """Let go of what nobody watches; fetch what viewers have been waiting for since before it began."""
        assert self._giving is not None
        fed = self._giving.fed()
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


def _unix_us() -> int:
    return time.time_ns() // 1000
