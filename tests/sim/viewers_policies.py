"""Who is sent where: the real routing code, and what it is compared with, all told the same.

`nearest`: the nearest node that is up. `random`: any such node. `mist`: MistServer's load balancer, its score
from `src/utils/util_load.cpp` (`hostDetailsCalc::rate`, `addViewer`, `update`) with its default weights; RAM,
which nodes here do not tell, is taken to be used like the processor. `perfect`: the nearest node that in truth
has room at that moment, which nobody can know: what distance a promise costs at least, one viewer at a time.
"""

from array import array
from operator import add
from random import Random
from typing import Protocol

import msgspec
from viewers_world import SimNode, SimStream, SimViewer, World

from mesh.directory.facts import CarriedStream, Load
from mesh.routing.field import Field
from mesh.routing.owners import Publication
from mesh.routing.reservations import Reservations
from mesh.routing.viewer_costs import KM_MS, Point, apart_km, estimate_ms, point
from mesh.routing.viewers import Candidate, Viewer, Wanted, reserve

EPOCH_US = 1_700_000_000_000_000
BOTH, PLAIN = frozenset({"http", "https"}), frozenset({"http"})


class Policy(Protocol):
    """`reasks`: players ask again now and then. `sends_on`: a full node sends new viewers on."""

    name: str
    reasks: bool
    sends_on: bool

    def told_load(self, index: int, load: Load, measured_at: float) -> None: ...

    def told_carry(self, stream: SimStream, index: int, depth: int | None) -> None: ...

    def told_node(self, index: int) -> None: ...

    def choose(
        self, decider: int, viewer: SimViewer, tried: frozenset[int], now: float
    ) -> tuple[int, bool] | None:
        """The node, and whether it was chosen although it is thought to be full."""


class Known:
    """What is told of nodes, and what every policy makes of it: who can be given to a viewer at all."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = [True] * world.size
        self.points: list[Point] = []
        self.field = Field()
        for node in world.nodes:
            at = point(node.spot.known)
            assert at is not None
            self.points.append(at)
            self.field.put(Candidate(node.id, node.spot.known))  # slots are indices then

    def told_load(self, index: int, load: Load, measured_at: float) -> None: ...

    def told_carry(self, stream: SimStream, index: int, depth: int | None) -> None: ...

    def told_node(self, index: int) -> None:
        node = self.world.nodes[index]
        self.up[index] = node.up and not node.draining

    def fits(self, node: SimNode, viewer: SimViewer, tried: frozenset[int]) -> bool:
        return (
            self.up[node.index]
            and node.reachable
            and (node.tls or not viewer.tls)
            and node.index not in tried
        )

    def nearest(self, viewer: SimViewer, tried: frozenset[int], *, with_room: bool) -> int | None:
        known = viewer.spot.known
        at = point(known)
        assert at is not None
        order = self.field.order(at, (known.latitude, known.longitude))
        best, best_km = None, float("inf")
        least = estimate_ms(at, at)
        for low, index in zip(order.lows, order.slots, strict=True):
            if low > least + KM_MS * best_km:
                break
            node = self.world.nodes[index]
            if not self.fits(node, viewer, tried):
                continue
            if with_room and not (node.up and self.world.has_room(node, viewer.stream.bitrate_bps)):
                continue
            km = apart_km(at, self.points[index])
            if km < best_km:
                best, best_km = index, km
        return best


class Nearest(Known):
    name, reasks, sends_on = "nearest", False, False

    def choose(
        self, decider: int, viewer: SimViewer, tried: frozenset[int], now: float
    ) -> tuple[int, bool] | None:
        found = self.nearest(viewer, tried, with_room=False)
        return None if found is None else (found, False)


class Perfect(Known):
    name, reasks, sends_on = "perfect", False, False

    def choose(
        self, decider: int, viewer: SimViewer, tried: frozenset[int], now: float
    ) -> tuple[int, bool] | None:
        found = self.nearest(viewer, tried, with_room=True)
        if found is None:
            found = self.nearest(viewer, tried, with_room=False)
        return None if found is None else (found, False)


class AnyOne(Known):
    name, reasks, sends_on = "random", False, False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._random = Random(f"random policy {world.seed}")

    def choose(
        self, decider: int, viewer: SimViewer, tried: frozenset[int], now: float
    ) -> tuple[int, bool] | None:
        for _ in range(1000):
            index = self._random.randrange(self.world.size)
            if self.fits(self.world.nodes[index], viewer, tried):
                return index, False
        return None


class Mist(Known):
    """One balancer beside each node, as its users run it beside their servers."""

    name, reasks, sends_on = "mist", False, False
    CPU, RAM, BANDWIDTH, GEO, BONUS = 500, 500, 1000, 1000, 50
    ADD_LEAST_BPS, ADD_MOST_BPS = 524_288, 8_388_608
    DECAY, DECAY_S = 0.75, 5.0
    NEVER = -1e9

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._loads: list[Load] = [Load(0, node.budget_bps, 0.0, 0, 0, 0) for node in world.nodes]
        self._score = [self.NEVER] * world.size
        self._score_plain = [self.NEVER] * world.size
        self._has: list[set[int]] = [set() for _ in world.streams]
        self._added: list[dict[int, tuple[float, float]]] = [{} for _ in world.nodes]
        self._geo: dict[tuple[int, int], array[float]] = {}

    def told_load(self, index: int, load: Load, measured_at: float) -> None:
        self._loads[index] = load
        self._rescore(index)

    def told_node(self, index: int) -> None:
        super().told_node(index)
        self._rescore(index)

    def told_carry(self, stream: SimStream, index: int, depth: int | None) -> None:
        (self._has[stream.index].discard if depth is None else self._has[stream.index].add)(index)

    def _rescore(self, index: int) -> None:
        node = self.world.nodes[index]
        score = self._rate(index, 0.0) if self.up[index] and node.reachable else self.NEVER
        self._score_plain[index] = score
        self._score[index] = score if node.tls else self.NEVER

    def _rate(self, index: int, added_bps: float) -> float:
        load = self._loads[index]
        share = (load.uplink_bps + added_bps) / load.uplink_budget_bps
        if share >= 1:
            return self.NEVER
        return (self.CPU + self.RAM) * (1 - load.cpu) + self.BANDWIDTH * (1 - share)

    def choose(
        self, decider: int, viewer: SimViewer, tried: frozenset[int], now: float
    ) -> tuple[int, bool] | None:
        scores = list(map(add, self._score if viewer.tls else self._score_plain, self._by_distance(viewer)))
        has = self._has[viewer.stream.index]
        for index in has:
            scores[index] += self.BONUS
        for index in tried:
            scores[index] = self.NEVER
        added = self._added[decider]
        for index, (bps, when) in list(added.items()):
            left = bps * self.DECAY ** ((now - when) // self.DECAY_S)
            if left < self.ADD_LEAST_BPS / 10:
                del added[index]
            else:
                scores[index] += self._rate(index, left) - self._rate(index, 0.0)
        best = max(scores)
        if best < 0:
            return None
        chosen = scores.index(best)
        bps = min(self.ADD_MOST_BPS, max(self.ADD_LEAST_BPS, viewer.stream.bitrate_bps))
        before, when = added.get(chosen, (0.0, now))
        added[chosen] = before * self.DECAY ** ((now - when) // self.DECAY_S) + bps, now
        return chosen, False

    def _by_distance(self, viewer: SimViewer) -> "array[float]":
        """1000 where the viewer is, 0 on the other side of the earth; by tenths of a degree."""
        known = viewer.spot.known
        cell = round(known.latitude * 4), round(known.longitude * 4)
        geo = self._geo.get(cell)
        if geo is None:
            at = point(known)
            assert at is not None
            geo = array("d", [self.GEO * (1 - apart_km(at, other) / 20_015) for other in self.points])
            self._geo[cell] = geo
        return geo


class Ours:
    """mesh.routing as nodes run it: one directory that all share, promises of each node's own."""

    name, reasks, sends_on = "fwnode", True, True

    def __init__(self, world: World) -> None:
        self.world = world
        self.field = Field()
        self.promises = [Reservations() for _ in world.nodes]
        self._candidates = [
            Candidate(
                node.id,
                node.spot.known,
                proven_bps=node.budget_bps,  # they have run for long
                doors=(BOTH if node.tls else PLAIN) if node.reachable else frozenset(),
            )
            for node in world.nodes
        ]
        self._streams = [
            Wanted(stream.name, Publication(EPOCH_US, world.nodes[stream.origin].id), stream.bitrate_bps)
            for stream in world.streams
        ]
        for candidate in self._candidates:
            self.field.put(candidate)
        for wanted in self._streams:
            self.field.want(wanted)
        self.decisions = 0

    def told_load(self, index: int, load: Load, measured_at: float) -> None:
        self._put(index, load=load, load_at=measured_at)

    def told_node(self, index: int) -> None:
        node = self.world.nodes[index]
        self._put(index, draining=node.draining, failing="" if node.up else "it is dead")

    def _put(self, index: int, **changes: object) -> None:
        changed = self._candidates[index] = msgspec.structs.replace(self._candidates[index], **changes)
        self.field.put(changed)

    def told_carry(self, stream: SimStream, index: int, depth: int | None) -> None:
        wanted, node = self._streams[stream.index], self.world.nodes[index].id
        carried = None
        if depth is not None:
            origin = b"" if depth == 0 else wanted.publication.origin
            carried = CarriedStream(stream.name, EPOCH_US, depth, [], origin, b"", stream.bitrate_bps)
        self.field.carry(stream.name, node, carried)

    def choose(
        self, decider: int, viewer: SimViewer, tried: frozenset[int], now: float
    ) -> tuple[int, bool] | None:
        nodes, stream = self.world.nodes, viewer.stream
        asks = Viewer(
            viewer.number.to_bytes(4, "big"),
            viewer.spot.known,
            tls=viewer.tls,
            asked=nodes[decider].id,
            current=nodes[viewer.node].id if viewer.node >= 0 else None,
            since=viewer.since,
            tried=frozenset(nodes[index].id for index in tried) if tried else frozenset(),
        )
        best = self.field.choose(asks, stream.name, self.promises[decider], now)
        self.decisions += 1
        if best is None:
            return None
        if best.node != asks.current:
            reserve(best, self._streams[stream.index], self.promises[decider], now)
        return int.from_bytes(best.node[:4], "big"), best.standing > 0
