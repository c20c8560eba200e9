"""All members as `mesh.routing.viewers.rank` judges them; the best is found by a look at few. Pure.

For every cell of the earth that a viewer came from the members are kept in order of the least that the way
to them can cost. A choice goes along that order, passes over members whom told load alone puts behind the
best so far, judges the others as `rank` does, and stops where the way alone costs more than the best does in
all: further terms are at least 0, so nobody behind can be better. Whoever may be nearer than the cell says,
or is ahead for another reason (it serves the viewer now, is on its network, was measured), comes first.

What sources cost a member that lacks the stream is remembered for each, and compared with new sources only.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from heapq import nsmallest
from math import asin, sqrt

import msgspec

from mesh.directory.facts import CarriedStream
from mesh.geo.light import EARTH_RADIUS_KM
from mesh.model import NodeId
from mesh.routing.reservations import Reservations
from mesh.routing.viewer_costs import (
    ACCESS_MS,
    AWAY_MS,
    COLD_MS,
    COLD_SHARE,
    HOP_MS,
    KM_MS,
    Point,
    apart_km,
    cpu_ms,
    estimate_ms,
    point,
    uplink_ms,
)
from mesh.routing.viewers import (
    KEPT_FEEDS,
    Candidate,
    Feed,
    Judge,
    Known,
    Ranked,
    Standing,
    Viewer,
    Wanted,
    best_feed,
    can_feed,
    depth_of,
    feed_ms,
)

CELL_DEGREES = 1.0  # 111 km: finer ones are more orders to make, coarser ones judge more members
CELL_MARGIN_KM = 1.0  # so that rounding never makes a bound too large
ORDERS_MAX = 2048  # cells kept: 8 kB each at a thousand members, and half a millisecond to make
PATCHES_MAX = 16  # members that came, went or moved since an order was made; with more it is made anew
LOG_MAX = 4096  # of those; then all orders are made anew
INFINITE = float("inf")
NEAREST_FEEDERS = 4  # remembered for each who lacks the stream: one may be full the next moment
FEW_SOURCES = 64  # as many are judged before the others; guess
JOINED_MAX = 1024  # sources that came since what they cost was looked at; then that is forgotten
FAR = 5.0  # beyond the other side of the earth, which is a chord of 2 squared away
CHORD_PER_MS = 1 / KM_MS / EARTH_RADIUS_KM  # of a sphere of radius 1
CHORD_SLACK = 1e-9  # rounding in squares of chords: some 200 m
SLACK_MS = 1e-6  # rounding in sums of terms
COLD_LEAST_MS = COLD_MS + HOP_MS + COLD_SHARE * ACCESS_MS  # nobody who lacks the stream costs less

_NOWHERE = (1 << 16, 0)  # no cell: for viewers of whom nothing is known
_Cell = tuple[int, int]
_Cost = tuple[float, NodeId, int]  # of being fed: milliseconds, by whom, its slot


class _Order:
    """Slots by the least that the way to them costs, for one cell; as of a length of the log."""

    __slots__ = ("as_of", "centre", "lows", "radius_km", "slots")

    def __init__(self, centre: Point | None, radius_km: float) -> None:
        self.centre = centre
        self.radius_km = radius_km
        self.lows = array("f")  # 4 bytes' rounding is within CELL_MARGIN_KM
        self.slots = array("I")
        self.as_of = 0

    def low(self, at: Point | None) -> float:
        """The least that the way from anywhere in the cell costs."""
        if self.centre is None or at is None:
            return estimate_ms(None, None)
        return ACCESS_MS + KM_MS * max(0.0, apart_km(self.centre, at) - self.radius_km)

    def fill(self, points: Mapping[int, Point | None]) -> None:
        """All at once: what `low` says of each, in less time."""
        if self.centre is None:
            ordered = [(0.0, slot) for slot in points]
        else:
            x, y, z = self.centre
            ordered = [
                (FAR if at is None else (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2, slot)
                for slot, at in points.items()
            ]
        ordered.sort()
        unknown, near = estimate_ms(None, None), self.radius_km
        lows = [
            unknown
            if self.centre is None or squared == FAR
            else ACCESS_MS + KM_MS * max(0.0, 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(squared) / 2)) - near)
            for squared, _ in ordered
        ]
        # Once more: who is nowhere costs less than who is on the other side of the earth.
        pairs = sorted(zip(lows, [slot for _, slot in ordered], strict=True))
        self.lows = array("f", [low for low, _ in pairs])
        self.slots = array("I", [slot for _, slot in pairs])

    def patch(self, slot: int, points: Mapping[int, Point | None]) -> None:
        """A member came, went or moved."""
        try:
            at = self.slots.index(slot)
        except ValueError:
            pass
        else:
            del self.slots[at], self.lows[at]
        if slot in points:
            low = self.low(points[slot])
            at = bisect_left(self.lows, low)
            self.lows.insert(at, low)
            self.slots.insert(at, slot)


class _Supply:
    """One stream: who has it, who of them can feed an edge, and what that costs edges."""

    __slots__ = ("ample", "carried", "cold", "feeders", "joined", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.carried: dict[int, CarriedStream] = {}
        self.feeders: dict[int, int] = {}  # slot to depth
        self.ample: set[int] = set()
        self.joined: list[int] = []
        self.cold: dict[int, tuple[list[_Cost], int]] = {}  # slot to its best feeds, as of joined

    def forget_costs(self) -> None:
        self.cold.clear()
        self.joined.clear()


class Field:
    """The members of a network and their streams, for one node's choices."""

    def __init__(self) -> None:
        self._slots: dict[NodeId, int] = {}
        self._known: list[Known | None] = []
        self._free: list[float] = []  # room by what was told, without reservations; below 0: of no use
        self._base: list[float] = []  # the least that the rest costs
        self._unused: list[int] = []
        self._points: dict[int, Point | None] = {}
        self._measured: set[int] = set()
        self._on_lan: set[int] = set()
        self._by_prefix: dict[str, set[int]] = {}
        self._supplies: dict[str, _Supply] = {}
        self._carries: dict[int, set[str]] = {}
        self._orders: dict[_Cell, _Order] = {}
        self._log: list[int] = []

    def put(self, candidate: Candidate) -> None:
        """A member, new or with other facts. What it carries is told by `carry`."""
        slot = self._slots.get(candidate.node)
        before = self._known[slot] if slot is not None else None
        if slot is None:
            slot = self._new_slot(candidate.node)
        known = self._known[slot] = Known.of(candidate)
        if before is None or before.candidate.place != candidate.place:
            self._points[slot] = known.point
            self._moved(slot)
        if before is None or _where(before.candidate) != _where(candidate):
            self._index(slot, before.candidate if before else None, candidate)
        self._free[slot] = known.budget_bps - known.used_bps if _is_of_use(candidate) else -1.0
        load = candidate.load
        self._base[slot] = (
            AWAY_MS + uplink_ms(known.used_bps, known.budget_bps) + cpu_ms(None if load is None else load.cpu)
        )
        for stream in self._carries.get(slot, ()):
            self._refresh(self._supplies[stream], slot)

    def remove(self, node: NodeId) -> None:
        """A member is gone."""
        slot = self._slots.pop(node, None)
        if slot is None:
            return
        for stream in list(self._carries.get(slot, ())):
            self._drop(self._supplies[stream], slot)
        known = self._known[slot]
        assert known is not None
        self._index(slot, known.candidate, None)
        self._known[slot] = None
        self._free[slot] = -1.0
        del self._points[slot]
        self._moved(slot)
        self._unused.append(slot)

    def want(self, wanted: Wanted) -> None:
        """A stream's publication or bitrate, new or another one. Say again then who carries it."""
        supply = self._supplies.get(wanted.stream)
        if supply is not None and supply.wanted == wanted:
            return
        self.forget(wanted.stream)
        self._supplies[wanted.stream] = _Supply(wanted)

    def forget(self, stream: str) -> None:
        """Nobody has it any more."""
        supply = self._supplies.pop(stream, None)
        for slot in supply.carried if supply else ():
            self._carries[slot].discard(stream)

    def carry(self, stream: str, node: NodeId, carried: CarriedStream | None) -> None:
        """What a member says of a stream that is wanted; None: it has it no more."""
        slot, supply = self._slots.get(node), self._supplies.get(stream)
        if slot is None or supply is None:
            return
        known = self._known[slot]
        assert known is not None
        said = msgspec.structs.replace(known.candidate, carried=carried)
        if carried is None or depth_of(said, supply.wanted) is None:
            self._drop(supply, slot)
            return
        before = supply.carried.get(slot)
        if before is not None and before.depth != carried.depth:
            supply.forget_costs()
        supply.carried[slot] = carried
        self._carries.setdefault(slot, set()).add(stream)
        self._refresh(supply, slot)

    def candidates(self, stream: str) -> list[Candidate]:
        """Everybody, as `rank` takes them."""
        supply = self._supplies.get(stream)
        carried = supply.carried if supply is not None else {}
        return [
            msgspec.structs.replace(known.candidate, carried=carried.get(slot))
            for slot, known in enumerate(self._known)
            if known is not None
        ]

    def choose(self, viewer: Viewer, stream: str, reservations: Reservations, now: float) -> Ranked | None:
        """The first of what `rank` gives for the same; None when nobody can serve."""
        supply = self._supplies.get(stream)
        if supply is None:
            return None
        judge = Judge(viewer, supply.wanted, reservations, now)
        first = [self._judged(judge, supply, slot) for slot in self._ahead(viewer, judge)]
        best = min(first, key=lambda each: each.order, default=None)
        walk = _Walk(self, judge, supply, best)
        return walk.best()

    def judged(
        self, viewer: Viewer, stream: str, node: NodeId, reservations: Reservations, now: float
    ) -> Ranked | None:
        """What `rank` says of one member; None when nothing is known of it or of the stream."""
        supply, slot = self._supplies.get(stream), self._slots.get(node)
        if supply is None or slot is None:
            return None
        return self._judged(Judge(viewer, supply.wanted, reservations, now), supply, slot)

    def wanted(self, stream: str) -> Wanted | None:
        """What is known of a stream; None: nobody has it."""
        supply = self._supplies.get(stream)
        return supply.wanted if supply is not None else None

    # --- for walks

    def order(self, at: Point | None, place: tuple[float, float] | None) -> _Order:
        """The order of the cell that a place is in, made when it is first asked for."""
        cell = _NOWHERE if place is None else _cell(*place)
        order = self._orders.pop(cell, None)
        if order is not None and len(self._log) - order.as_of > PATCHES_MAX:
            order = None
        if order is None:
            order = _Order(None, 0.0) if at is None else _Order(*_round(cell))
            order.fill(self._points)
            if len(self._orders) >= ORDERS_MAX:
                del self._orders[next(iter(self._orders))]
        else:
            for slot in self._log[order.as_of :]:
                order.patch(slot, self._points)
        order.as_of = len(self._log)
        self._orders[cell] = order
        return order

    def _judged(self, judge: Judge, supply: _Supply, slot: int) -> Ranked:
        known, ample = self._known[slot], supply.ample
        assert known is not None
        carried = supply.carried.get(slot)
        if carried is not None:
            alone = not ample or (len(ample) == 1 and slot in ample)
            last = alone and slot in supply.feeders
            return judge(known, HOP_MS * carried.depth, has_stream=True, last=last)
        feed = self._feed(judge, supply, slot, known)
        rather = None if feed is not None else self._feed_rather(supply, known)
        return judge.without_stream(known, feed, rather, scarce=not ample)

    def _feed(self, judge: Judge, supply: _Supply, slot: int, known: Known) -> Feed | None:
        """The best source that has room, with what this node promised of it."""
        feeders = supply.feeders
        for ms, node, source in self._nearest(supply, slot, known):
            if source in feeders and self._feeds(judge, source):
                return ms, node
        open_to = [source for source in feeders if self._feeds(judge, source)]
        found = min(self._costs(known, feeders, open_to), default=None)
        return None if found is None else found[:2]

    def _feeds(self, judge: Judge, slot: int) -> bool:
        known = self._known[slot]
        return known is not None and judge.has_room_to_feed(known)

    def _nearest(self, supply: _Supply, slot: int, known: Known) -> list[_Cost]:
        """The best of those that can feed a member by what they told, best first."""
        feeders, joined = supply.feeders, supply.joined
        remembered = supply.cold.get(slot)
        if remembered is not None and remembered[1] == len(joined) and remembered[0][0][2] in feeders:
            return remembered[0]
        kept = [each for each in remembered[0] if each[2] in feeders] if remembered is not None else []
        if kept and remembered is not None:
            others = {other for other in joined[remembered[1] :] if other in feeders}
            others.difference_update(source for *_, source in kept)
            last_ms = kept[-1][0]
            found = [each for each in self._costs(known, feeders, others) if each[0] < last_ms]
            kept = sorted(kept + found)[:NEAREST_FEEDERS]
        else:
            kept = nsmallest(NEAREST_FEEDERS, self._costs(known, feeders, feeders))
        if kept:
            supply.cold[slot] = kept, len(joined)
        return kept

    def _costs(self, known: Known, feeders: Mapping[int, int], sources: Iterable[int]) -> Iterator[_Cost]:
        for slot in sources:
            source = self._known[slot]
            assert source is not None
            yield feed_ms(known.point, source, feeders[slot]), source.candidate.node, slot

    def _feed_rather(self, supply: _Supply, known: Known) -> Feed | None:
        """The best source of all."""
        sources = [self._source(slot, carried) for slot, carried in supply.carried.items()]
        return best_feed(known, [each for each in sources if can_feed(each, each.candidate.carried)])

    def _source(self, slot: int, carried: CarriedStream) -> Known:
        known = self._known[slot]
        assert known is not None
        candidate = msgspec.structs.replace(known.candidate, carried=carried)
        return msgspec.structs.replace(known, candidate=candidate)

    def _ahead(self, viewer: Viewer, judge: Judge) -> Iterator[int]:
        """Who may cost less than the order of the viewer's cell says."""
        ahead = {self._slots.get(viewer.asked), self._slots.get(viewer.current or b"")}
        if viewer.prefix:
            ahead |= self._by_prefix.get(viewer.prefix, set())
        if viewer.local:
            ahead |= self._on_lan
        if judge.point is None:
            ahead |= self._measured
        else:
            ahead |= {slot for slot in self._measured if self._points[slot] is None}
        return (slot for slot in ahead if slot is not None)

    # --- keeping

    def _new_slot(self, node: NodeId) -> int:
        if self._unused:
            slot = self._unused.pop()
        else:
            slot = len(self._known)
            self._known.append(None)
            self._free.append(-1.0)
            self._base.append(0.0)
        self._slots[node] = slot
        return slot

    def _moved(self, slot: int) -> None:
        self._log.append(slot)
        if len(self._log) > LOG_MAX:
            self._log.clear()
            self._orders.clear()
        for supply in self._supplies.values():
            if slot in supply.carried:
                supply.forget_costs()
            else:
                supply.cold.pop(slot, None)

    def _index(self, slot: int, before: Candidate | None, after: Candidate | None) -> None:
        for prefix in before.prefixes if before else ():
            slots = self._by_prefix[prefix]
            slots.discard(slot)
            if not slots:
                del self._by_prefix[prefix]
        for prefix in after.prefixes if after else ():
            self._by_prefix.setdefault(prefix, set()).add(slot)
        for slots, holds in (
            (self._measured, after is not None and after.rtt_s is not None),
            (self._on_lan, after is not None and after.lan),
        ):
            (slots.add if holds else slots.discard)(slot)

    def _drop(self, supply: _Supply, slot: int) -> None:
        if supply.carried.pop(slot, None) is not None:
            self._carries[slot].discard(supply.wanted.stream)
        supply.feeders.pop(slot, None)
        supply.ample.discard(slot)

    def _refresh(self, supply: _Supply, slot: int) -> None:
        """Whether a member that has the stream can feed edges, by what it tells now."""
        known, carried, wanted = self._known[slot], supply.carried[slot], supply.wanted
        assert known is not None
        free_bps = known.free_bps(wanted.bps)
        if free_bps >= wanted.bps and can_feed(known, carried):
            if slot not in supply.feeders:
                supply.joined.append(slot)
            supply.feeders[slot] = carried.depth
            if free_bps >= (KEPT_FEEDS + 1) * wanted.bps:
                supply.ample.add(slot)
            else:
                supply.ample.discard(slot)
        else:
            supply.feeders.pop(slot, None)
            supply.ample.discard(slot)
        if len(supply.joined) > JOINED_MAX:
            supply.forget_costs()


class _Walk:
    """One choice: along the order of the viewer's cell, as far as somebody better may come."""

    __slots__ = ("_at", "_best", "_field", "_judge", "_least_ms", "_offset", "_order", "_supply", "_tier")

    def __init__(self, field: Field, judge: Judge, supply: _Supply, best: Ranked | None) -> None:
        self._field, self._judge, self._supply, self._best = field, judge, supply, best
        viewer = judge.viewer
        at, spot, self._offset = judge.point, viewer.place, 0.0
        if at is None:  # the way leads over the asked node
            at, spot, self._offset = judge.here, viewer.here, judge.rtt_ms
        place = (spot.latitude, spot.longitude) if spot is not None and at is not None else None
        self._at = at
        self._order = field.order(at, place)
        self._tier = Standing.ROOM
        self._least_ms = self._limit()

    def best(self) -> Ranked | None:
        """The least of all by `Ranked.order`."""
        for self._tier in (Standing.ROOM, Standing.KEPT, Standing.STRETCHED):
            self._least_ms = self._limit()
            self._walk_within()
            if self._best is not None and self._best.standing <= self._tier:
                return self._best
        self._walk_full(has_stream=True)
        if self._best is None or self._best.standing is Standing.BARRED or not self._best.has_stream:
            self._walk_full(has_stream=False)
        best = self._best
        return None if best is None or best.standing is Standing.BARRED else best

    def _take(self, slot: int) -> None:
        judged = self._field._judged(self._judge, self._supply, slot)
        if self._best is None or judged.order < self._best.order:
            self._best = judged
            self._least_ms = self._limit()

    def _limit(self) -> float:
        """What the way and the rest of a better one may cost at most, less what leads to the asked node."""
        best = self._best
        if best is None or best.standing is not self._tier:
            return INFINITE
        return best.terms.total_ms + SLACK_MS - self._offset

    def _walk_within(self) -> None:
        """Those who may have room by what they told; few sources first, as others have to cost more then."""
        field, carried, bps = self._field, self._supply.carried, self._supply.wanted.bps
        free = field._free
        few = len(carried) <= FEW_SOURCES
        may_fetch = bool(self._supply.feeders) or self._tier is Standing.STRETCHED
        expected = {field._slots.get(node) for node in self._judge.expected}
        to_feed = not self._supply.ample and self._tier is not Standing.KEPT
        to_fetch = bps * (1 + KEPT_FEEDS if to_feed else 1)
        for slot in carried if few else ():
            if free[slot] >= bps:
                self._consider(slot, 0.0)
        if few and not (may_fetch or expected):
            return
        least = AWAY_MS + (COLD_LEAST_MS if few else 0.0)
        base, limit = self._field._base, self._least_ms
        for low, slot in zip(self._order.lows, self._order.slots, strict=True):
            if low + least > limit:
                return
            if free[slot] < bps or low + base[slot] > limit:
                continue
            if slot not in carried:
                if slot in expected or (may_fetch and free[slot] >= to_fetch):
                    self._consider(slot, COLD_LEAST_MS)
            elif not few:
                self._consider(slot, 0.0)
            limit = self._least_ms

    def _consider(self, slot: int, fetch_ms: float) -> None:
        """Judge a member, unless a closer look shows that it cannot be the best."""
        known, at = self._field._known[slot], self._at
        assert known is not None
        if self._judge.doors.isdisjoint(known.candidate.doors):
            return  # whoever has other doors for this viewer was judged first
        if at is not None and known.point is not None:  # who is beyond the chord is beyond its arc
            reach = (self._least_ms - self._field._base[slot] - fetch_ms - ACCESS_MS) * CHORD_PER_MS
            x, y, z = known.point
            if (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2 > reach * reach + CHORD_SLACK:
                return
            if reach < 0:
                return
        wanted_bps = self._judge.wanted_bps(known)
        if wanted_bps > known.budget_bps or self._judge.bars(known.candidate):
            return
        load, least_ms = known.candidate.load, self._least_ms + self._offset
        if least_ms < INFINITE and least_ms < (
            self._judge.path_ms(known)
            + fetch_ms
            + uplink_ms(wanted_bps, known.budget_bps)
            + cpu_ms(None if load is None else load.cpu)
        ):
            return
        self._take(slot)

    def _walk_full(self, *, has_stream: bool) -> None:
        """Those who are taken only before nobody; first of those that have the stream, then of the others."""
        field, carried, offset = self._field, self._supply.carried, self._offset
        limit = INFINITE
        for low, slot in zip(self._order.lows, self._order.slots, strict=True):
            if low > limit:
                return
            if (slot in carried) is not has_stream or low + field._base[slot] > limit:
                continue
            self._take(slot)
            best = self._best
            if best is not None and best.standing is Standing.FULL and best.has_stream is has_stream:
                limit = best.terms.total_ms + SLACK_MS - offset


def _is_of_use(candidate: Candidate) -> bool:
    """Whether any viewer may be sent there from outside its network; those inside are judged first."""
    held_back = candidate.draining or candidate.paused or bool(candidate.failing)
    return bool(candidate.doors) and candidate.edge and candidate.compatible and not held_back


def _where(candidate: Candidate) -> tuple[frozenset[str], bool, bool]:
    return candidate.prefixes, candidate.rtt_s is None, candidate.lan


def _cell(latitude: float, longitude: float) -> _Cell:
    return int(latitude // CELL_DEGREES), int(longitude // CELL_DEGREES)


class _Corner(msgspec.Struct, frozen=True):
    latitude: float
    longitude: float
    country: str = ""
    source: str = ""


def _round(cell: _Cell) -> tuple[Point | None, float]:
    """A cell's middle, and how far its corners are from that."""
    south, west = cell[0] * CELL_DEGREES, cell[1] * CELL_DEGREES
    centre = point(_Corner(south + CELL_DEGREES / 2, west + CELL_DEGREES / 2))
    assert centre is not None
    corners = [point(_Corner(south + up, west)) for up in (0.0, CELL_DEGREES)]
    far = max(apart_km(centre, corner) for corner in corners if corner is not None)
    return centre, far + CELL_MARGIN_KM
