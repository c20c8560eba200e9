"""The choice of nodes for viewers: what is known, what was promised, what came of it. Pure.

One per node, also while it is in no network: then it is the only candidate and nothing is weighed.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from fwnode.steering.census import Census, Own
from fwnode.steering.model import Counters
from mesh.directory.facts import Doors, Load
from mesh.geo.light import distance_km
from mesh.geo.model import Located, Spot
from mesh.model import NodeId
from mesh.routing.costs import ASSUMED_BITRATE_BPS
from mesh.routing.reservations import RESERVED_S, Reservations
from mesh.routing.viewer_address import seen_as
from mesh.routing.viewer_costs import cpu_ms, estimate_ms, point, uplink_ms
from mesh.routing.viewers import Protocol as Carrying
from mesh.routing.viewers import Ranked, Ranking, Standing, Viewer, Wanted, rank, reserve

FALLBACKS = 2  # given beside the best one
INGEST_NODES = 3  # given to whoever wants to publish
MUCH_BETTER_MS = 40.0  # a viewer who came by itself is sent on for no less; guess: four times LAN to town
RECENT_MAX = 8192  # viewers remembered: 2 MB; the oldest go first
HERE = b""  # stands for this node while it is in no network

Locate = Callable[[str], Located | None]


class Came(NamedTuple):
    """From where, and how a viewer asks."""

    host: str  # numeric, "" when it is not known
    secure: bool
    session: str = ""  # tells viewers behind one address apart
    carrying: Carrying = Carrying.HTTP
    tried: tuple[str, ...] = ()  # see fwnode.steering.moves


class Chosen(NamedTuple):
    """A node for a viewer; `node` may be HERE. `doors`: what the viewer reaches of it."""

    node: NodeId
    here: bool
    doors: tuple[str, ...]
    standing: Standing
    distance_km: float | None
    name: str


class Publishing(Protocol):
    """Whether streams are known before the directory has them."""

    def __call__(self, stream: str) -> bool: ...


class Choosing:
    """Decides for viewers. All methods are synchronous and for the reactor's thread."""

    def __init__(self, is_here: Publishing, name: str) -> None:
        """`is_here`: this node has a stream of that name; `name` is its own."""
        self.counters = Counters()
        self.census: Census | None = None
        self.own = Own()
        self.own_doors = Doors([])
        self.reservations = Reservations()
        self.is_here = is_here
        self._name = name
        self._locate: Locate = lambda host: None
        self._name_of: Callable[[NodeId], str] = lambda node: name
        self._recent: dict[tuple[str, str, str], tuple[NodeId, float]] = {}

    def attach(self, census: Census, locate: Locate, name_of: Callable[[NodeId], str]) -> None:
        """The node is in a network."""
        self.census, self._locate, self._name_of = census, locate, name_of

    def detach(self) -> None:
        """It is in none any more."""
        self.census = None
        self.reservations = Reservations()
        self._recent.clear()

    def measured(self, load: Load, at: float) -> None:
        """This node's load. What it promised is counted apart."""
        alone = msgspec.structs.replace(load, reservations=0)
        self.own = Own(alone, at, max(self.own.most_bps, load.uplink_bps))

    # --- deciding

    def choose(self, came: Came, stream: str, now: float, *, fallbacks: int = 0) -> list[Chosen] | None:
        """The best node first and others behind it; empty when nobody can serve, None: no such stream.

        The best one is promised the viewer, and this node remembers that.
        """
        self.counters.decisions += 1
        census = self.census
        if census is None or census.field.wanted(stream) is None:
            if not self.is_here(stream):
                self.counters.unknown += 1
                return None
            return [self._only_here()]
        viewer = self.viewer(came, stream, now)
        found: list[Ranked] = []
        for _ in range(1 + fallbacks):
            tried = viewer.tried.union(each.node for each in found)
            asked = msgspec.structs.replace(viewer, tried=tried) if found else viewer
            best = census.field.choose(asked, stream, self.reservations, now)
            if best is None or (found and best.standing >= Standing.STRETCHED):
                break
            found.append(best)
        if not found:
            self.counters.refused += 1
            return []
        self._promise(came, stream, viewer, found[0], now)
        return [self._of(each.node, each.standing, viewer) for each in found]

    def elsewhere(self, came: Came, stream: str, now: float) -> Chosen | None:
        """The node that a viewer who came here by itself is sent to; None when it stays."""
        census = self.census
        if census is None or census.field.wanted(stream) is None:
            return None
        self.counters.decisions += 1
        viewer = self.viewer(came, stream, now)
        if viewer.current is not None and viewer.current != census.node:
            viewer = msgspec.structs.replace(viewer, current=None)  # it has come here meanwhile
        best = census.field.choose(viewer, stream, self.reservations, now)
        own = census.field.judged(viewer, stream, census.node, self.reservations, now)
        if best is None or best.node == census.node or own is None or not _is_worth_it(own, best):
            if own is not None and own.standing is not Standing.BARRED:
                self._promise(came, stream, viewer, own, now)
            return None
        self._promise(came, stream, viewer, best, now)
        return self._of(best.node, best.standing, viewer)

    def publishable(self, came: Came, now: float) -> list[Chosen]:
        """Nodes that a publisher reaches, nearest and with room first; this one when it is in no network."""
        census = self.census
        if census is None:
            return [self._only_here()]
        viewer = self.viewer(came, "", now)
        at = point(viewer.place)
        found = []
        for node, candidate in census.candidates.items():
            here = node == census.node
            reached = here or not viewer.doors.isdisjoint(candidate.doors)
            reached = reached or (viewer.local and candidate.lan and "rtmp" in candidate.lan_doors)
            if not reached or candidate.draining or candidate.paused or candidate.failing:
                continue
            if not candidate.compatible or not census.takes_publishers(node):
                continue
            load = candidate.load or Load(0, 0, 0.5, 0, 0, 0)
            budget_bps = load.uplink_budget_bps or candidate.proven_bps or ASSUMED_BITRATE_BPS * 4
            cost = (
                estimate_ms(at, point(candidate.place))
                + uplink_ms(load.uplink_bps + ASSUMED_BITRATE_BPS, budget_bps)
                + cpu_ms(load.cpu)
            )
            found.append((cost, not here, node))
        found.sort()
        return [self._of(node, Standing.ROOM, viewer) for _, _, node in found[:INGEST_NODES]]

    def viewer(self, came: Came, stream: str, now: float) -> Viewer:
        """What the address and the past say of a viewer."""
        census = self.census
        assert census is not None
        seen = seen_as(came.host)
        own = census.candidates.get(census.node)
        recent = self._recent.get((came.host, came.session, stream))
        current = recent if recent is not None and now - recent[1] < RESERVED_S else None
        tried = frozenset(census.by_short[each] for each in came.tried if each in census.by_short)
        return Viewer(
            came.host.encode(),
            place=self._locate(came.host) if seen.prefix else None,
            prefix=seen.prefix,
            local=seen.local,
            protocol=came.carrying,
            tls=came.secure,
            asked=census.node,
            here=own.place if own is not None else None,
            current=current[0] if current is not None and current[0] not in tried else None,
            since=current[1] if current is not None else 0.0,
            tried=tried - {census.node},
        )

    def explain(self, came: Came, stream: str, now: float) -> tuple[Viewer, Wanted, Ranking] | None:
        """All candidates with every term; nothing is promised. None: no such stream in the network."""
        census = self.census
        wanted = census.field.wanted(stream) if census is not None else None
        if census is None or wanted is None:
            return None
        viewer = msgspec.structs.replace(self.viewer(came, stream, now), current=None)
        return viewer, wanted, rank(viewer, wanted, census.field.candidates(stream), self.reservations, now)

    def reserved(self, measured_at: float, now: float) -> int:
        """Viewers expected on this node that a load measured then does not show."""
        return self.reservations.count(self.census.node, measured_at, now) if self.census is not None else 0

    def name_of(self, node: NodeId) -> str:
        """For people."""
        return self._name_of(node)

    # --- inside

    def _promise(self, came: Came, stream: str, viewer: Viewer, best: Ranked, now: float) -> None:
        census = self.census
        assert census is not None
        wanted = census.field.wanted(stream)
        assert wanted is not None
        if best.node != viewer.current:
            reserve(best, wanted, self.reservations, now)
        if best.standing >= Standing.STRETCHED:
            self.counters.last_resort += 1
        key = (came.host, came.session, stream)
        since = viewer.since if best.node == viewer.current else now
        self._recent.pop(key, None)
        self._recent[key] = best.node, since
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        self.counters.sent(self.distance_km(best.node, viewer.place))

    def distance_km(self, node: NodeId, place: Spot | None) -> float | None:
        """From a viewer's place to a member; None when one of the two is not known."""
        candidate = self.census.candidates.get(node) if self.census is not None else None
        if candidate is None or candidate.place is None or place is None:
            return None
        there = candidate.place
        return distance_km(place.latitude, place.longitude, there.latitude, there.longitude)

    def _only_here(self) -> Chosen:
        node = self.census.node if self.census is not None else HERE
        return Chosen(node, True, tuple(self.own_doors.public), Standing.ROOM, None, self._name)

    def _of(self, node: NodeId, standing: Standing, viewer: Viewer) -> Chosen:
        census = self.census
        assert census is not None
        here = node == census.node
        doors = self.own_doors if here else census.doors.get(node, Doors([]))
        # Hairpinning through one's own router usually fails: inside a network its own addresses come first.
        inside = doors.lan if viewer.local and census.candidates[node].lan else ()
        distance = self.distance_km(node, viewer.place)
        return Chosen(node, here, (*inside, *doors.public), standing, distance, self._name_of(node))


def _is_worth_it(own: Ranked, best: Ranked) -> bool:
    """Whether a viewer who is here already should go: not for little."""
    if best.standing >= Standing.FULL:
        return own.standing is Standing.BARRED
    if best.standing < own.standing:
        return True
    return own.terms.total_ms - best.terms.total_ms > MUCH_BETTER_MS
