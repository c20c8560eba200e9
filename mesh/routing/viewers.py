"""Which member a viewer is sent to: a pure function of what members say, what is measured and promised.

`rank` judges every candidate and keeps every term, so that a choice can be told in words (`explain`). It is
what the choice means; `mesh.routing.field` finds the same best one without looking at all of them.

Who stands where, before any cost:

1. `ROOM`: the viewer fits into what the owner allows, as far as it is believed (`mesh.routing.claims`);
2. `KEPT`: it fits, but it is nearly full and the viewer was sent on once already, as records are late; or no
   other source has room to spare for edges: a place there, or the feed of an edge that is too small to feed
   others, serves one viewer, and a larger edge a thousand;
3. `STRETCHED`: it fits, but a source has to feed it beyond its promise: once, for all who come behind;
4. `FULL`: the promise would be broken. Only rather than nobody, and there who has the stream comes first;
5. `BARRED`: never. Draining, paused, failing, of another version, without a door for this viewer.

A member that lacks the stream is judged like any other, with the way to the best source that can feed it.
Only members' own records count, each for its owner alone: nobody comes in through another one's summary.
"""

import fnmatch
from collections.abc import Callable, Iterable
from enum import IntEnum, StrEnum
from typing import TypeAlias

import msgspec

from mesh.directory.facts import CarriedStream, Load
from mesh.geo.model import Spot
from mesh.model import NodeId, short
from mesh.routing.claims import believed_budget_bps
from mesh.routing.costs import ASSUMED_BITRATE_BPS, MS, UNKNOWN_MS, UNTOLD, stay_ms
from mesh.routing.owners import Publication, publication_of
from mesh.routing.parents import DEPTH_MAX
from mesh.routing.reservations import Reservations
from mesh.routing.tie import spread
from mesh.routing.viewer_costs import (
    ACCESS_MS,
    AWAY_MS,
    COLD_MS,
    COLD_SHARE,
    HOP_MS,
    LAN_MS,
    PREFIX_MS,
    SPREAD_MS,
    Point,
    Terms,
    cpu_ms,
    estimate_ms,
    point,
    uplink_ms,
)

SPARE_SHARE = 0.2  # left free by who was sent on: twice what may change untold (LOAD_CHANGE)
SPARE_VIEWERS = 8  # and for so many at least, whom others may have sent there meanwhile; guess
KEPT_FEEDS = 2  # edges that the last source with room is kept for: they feed others then
HASH_KEY_BYTES = 64  # blake2b's longest key
TRIED_MAX = 2  # redirects of one viewer; whoever is asked then serves, or says that nobody can


class Protocol(StrEnum):
    """How a viewer takes a stream. A door is a protocol's name, with `s` behind it where TLS is asked for."""

    HTTP = "http"  # HLS, WebSocket, progressive
    WHEP = "whep"
    RTMP = "rtmp"
    SRT = "srt"


class Standing(IntEnum):
    """Whom a viewer may be sent to; the lower ones first, whatever they cost."""

    ROOM = 0
    KEPT = 1
    STRETCHED = 2
    FULL = 3
    BARRED = 4


class Viewer(msgspec.Struct, frozen=True):
    """Who asks. All but `asked` and `here` is of the viewer, as far as it is known."""

    key: bytes  # stands for the viewer in tie breaks: its address, or its session
    place: Spot | None = None
    prefix: str = ""  # `mesh.routing.viewer_address.seen_as`
    local: bool = False  # likewise: it is on a network that the asked node is on
    protocol: Protocol = Protocol.HTTP
    tls: bool = False  # a page that came over TLS may fetch nothing without
    asked: NodeId = b""  # the node that decides; the viewer has reached it
    here: Spot | None = None  # where that is
    rtt_s: float | None = None  # measured between the two
    current: NodeId | None = None  # who serves the viewer now
    since: float = 0.0  # from when, monotonic seconds
    tried: frozenset[NodeId] = frozenset()  # who sent it on, or did not answer it

    @property
    def doors(self) -> frozenset[str]:
        """Any of these will do."""
        secure = f"{self.protocol}s"
        return frozenset((secure,)) if self.tls else frozenset((self.protocol.value, secure))


class Wanted(msgspec.Struct, frozen=True):
    """What is asked for: a stream's publication of now and its bitrate, 0 where nobody says it."""

    stream: str
    publication: Publication
    bitrate_bps: int = 0

    @property
    def bps(self) -> int:
        return self.bitrate_bps or ASSUMED_BITRATE_BPS


class Candidate(msgspec.Struct, frozen=True):
    """A member, by its own records and by what this node found out itself."""

    node: NodeId
    place: Spot | None = None  # as it is believed: `mesh.routing.claims.believed_place`
    load: Load | None = None
    load_at: float = 0.0  # when that was measured at the latest, on this node's monotonic clock
    proven_bps: int = 0  # the most that this node or others took from it
    doors: frozenset[str] = frozenset()  # what anybody can open there: dialled, forwarded or mapped
    lan_doors: frozenset[str] = frozenset()  # what can be opened from its own network
    lan: bool = False  # this node is on that network, or is this node
    prefixes: frozenset[str] = frozenset()  # `mesh.routing.viewer_address.seen_as` of its public addresses
    rtt_s: float | None = None  # measured between this node and it
    carried: CarriedStream | None = None  # the wanted stream, if it says that it has it
    edge: bool = True  # its membership has the role
    compatible: bool = True  # its version serves what ours does
    draining: bool = False
    paused: bool = False  # its owner wants no viewers now
    failing: str = ""  # why it is not well: silent, revoked, altered media
    allowed: tuple[str, ...] = ()  # patterns of streams that its owner lets it serve; none: all


class Ranked(msgspec.Struct, frozen=True):
    """One member's place in the ranking, and why."""

    node: NodeId
    standing: Standing
    terms: Terms
    has_stream: bool
    why: str = ""  # it is not with ROOM
    source: NodeId = b""  # who is to feed it, where it lacks the stream and is not fed already

    @property
    def order(self) -> tuple[Standing, bool, float, NodeId]:
        """Sort key: the least is the best."""
        late = self.standing is Standing.FULL and not self.has_stream
        return self.standing, late, self.terms.total_ms, self.node


class Ranking(msgspec.Struct, frozen=True):
    """Whom to send a viewer to; `chosen` None: nobody can serve it."""

    stream: str
    chosen: NodeId | None
    last_resort: bool  # beyond its owner's promise
    reason: str
    ranked: tuple[Ranked, ...]  # best first


class Known(msgspec.Struct, frozen=True):
    """A candidate with what does not depend on who asks."""

    candidate: Candidate
    point: Point | None
    budget_bps: int
    used_bps: float  # as it told; of one that did not, half

    @classmethod
    def of(cls, candidate: Candidate) -> "Known":
        load = candidate.load
        budget_bps = believed_budget_bps(load, candidate.proven_bps)
        used_bps = UNTOLD * budget_bps if load is None else load.uplink_bps
        return cls(candidate, point(candidate.place), budget_bps, used_bps)

    def free_bps(self, bitrate_bps: int) -> float:
        """Room by what it told, its own reservations taken off."""
        load = self.candidate.load
        promised = load.reservations * bitrate_bps if load is not None else 0
        return self.budget_bps - self.used_bps - promised


def rank(
    viewer: Viewer, wanted: Wanted, candidates: Iterable[Candidate], reservations: Reservations, now: float
) -> Ranking:
    """Judge all candidates for this viewer. The order in which they are given does not matter."""
    known = [Known.of(candidate) for candidate in candidates]
    sources = [
        each
        for each in known
        if depth_of(each.candidate, wanted) is not None and can_feed(each, each.candidate.carried)
    ]
    feeders = [each for each in sources if each.free_bps(wanted.bps) >= wanted.bps]
    ample = [each for each in feeders if each.free_bps(wanted.bps) >= (KEPT_FEEDS + 1) * wanted.bps]
    feeding, others = {each.candidate.node for each in feeders}, {each.candidate.node for each in ample}
    judge = Judge(viewer, wanted, reservations, now)
    open_to = [each for each in feeders if judge.has_room_to_feed(each)]
    ranked = []
    for each in known:
        depth = depth_of(each.candidate, wanted)
        if depth is None:
            feed = best_feed(each, open_to)
            ranked.append(judge.without_stream(each, feed, best_feed(each, sources), scarce=not others))
        else:
            node = each.candidate.node
            last = node in feeding and not others - {node}
            ranked.append(judge(each, HOP_MS * depth, has_stream=True, last=last))
    ranked.sort(key=lambda each: each.order)
    best = ranked[0] if ranked else None
    if best is None or best.standing is Standing.BARRED:
        return Ranking(wanted.stream, None, False, "no member can serve this viewer", tuple(ranked))
    return Ranking(
        wanted.stream, best.node, best.standing >= Standing.STRETCHED, reason_for(viewer, best), tuple(ranked)
    )


def reason_for(viewer: Viewer, best: Ranked) -> str:
    """Why the best one is it."""
    if best.standing is not Standing.ROOM:
        return f"rather than nobody: {best.why}"
    if best.node == viewer.current:
        return "no other is better by enough"
    return "the least cost of those that have room"


def reserve(best: Ranked, wanted: Wanted, reservations: Reservations, now: float) -> None:
    """Promise the place that a viewer is sent to, and the feed that it takes."""
    reservations.make(best.node, wanted.bps, now)
    if best.source:
        reservations.make(best.source, wanted.bps, now)
        reservations.expect(wanted.stream, best.node, now)


def explain(ranking: Ranking, name: Callable[[NodeId], str] = short) -> list[str]:
    """The ranking in words: the choice, then one line for each candidate, best first."""
    chosen = name(ranking.chosen) if ranking.chosen is not None else "nobody"
    lines = [f"{ranking.stream}: {chosen}, {ranking.reason}"]
    for number, each in enumerate(ranking.ranked, 1):
        terms = "" if each.standing is Standing.BARRED else f": {_in_words(each)}"
        why = f" ({each.why})" if each.why else ""
        lines.append(f"{number}. {name(each.node)}{terms}{why}")
    return lines


def _in_words(each: Ranked) -> str:
    terms = each.terms
    source = "stream" if each.has_stream else "stream to be fetched"
    parts = [
        ("way", terms.path_ms),
        ("redirect", terms.away_ms),
        (source, terms.source_ms),
        ("uplink", terms.uplink_ms),
        ("processor", terms.cpu_ms),
        ("tie break", terms.spread_ms),
        ("is there already", terms.stay_ms),
    ]
    return f"{terms.total_ms:.1f} ms = " + " + ".join(f"{what} {ms:.1f}" for what, ms in parts if ms)


def depth_of(candidate: Candidate, wanted: Wanted) -> int | None:
    """Hops from the origin of the wanted publication; None when it does not have that."""
    carried = candidate.carried
    if carried is None or publication_of(candidate.node, carried) != wanted.publication:
        return None
    return carried.depth


def can_feed(source: Known, carried: CarriedStream | None) -> bool:
    """Whether a member that has the stream could give it to an edge, if it has room."""
    candidate = source.candidate
    return (
        carried is not None
        and carried.depth < DEPTH_MAX
        and not (candidate.draining or candidate.failing or candidate.paused)
        and candidate.compatible
    )


def feed_ms(at: Point | None, source: Known, depth: int) -> float:
    """What a viewer pays for a stream that has yet to be fetched from that source."""
    return COLD_MS + HOP_MS * (depth + 1) + COLD_SHARE * estimate_ms(at, source.point)


Feed: TypeAlias = tuple[float, NodeId]
"""What being fed costs, and by whom."""


def best_feed(edge: Known, sources: Iterable[Known]) -> Feed | None:
    """The least of all; None when there is no source."""
    return min(
        (
            (feed_ms(edge.point, source, source.candidate.carried.depth), source.candidate.node)
            for source in sources
            if source is not edge and source.candidate.carried is not None
        ),
        default=None,
    )


class Judge:
    """Judges candidates one at a time, for one viewer and one stream at one moment."""

    def __init__(self, viewer: Viewer, wanted: Wanted, reservations: Reservations, now: float) -> None:
        self.viewer = viewer
        self.point = point(viewer.place)
        self.here = point(viewer.here)
        self._key = viewer.key[:HASH_KEY_BYTES]
        self.doors = viewer.doors
        self._stream = wanted.stream
        self._bps = wanted.bps
        self._reservations = reservations
        self._now = now
        self.expected = reservations.expected(wanted.stream, now)
        self.rtt_ms = UNKNOWN_MS if viewer.rtt_s is None else max(0.0, viewer.rtt_s) * MS

    def has_room_to_feed(self, source: Known) -> bool:
        """Whether one that can feed edges has room for one more with what was promised of it."""
        promised = self._reservations.bps(source.candidate.node, source.candidate.load_at, self._now)
        return source.free_bps(self._bps) - promised >= self._bps

    def wanted_bps(self, known: Known) -> float:
        """What a member will send with this viewer: by what it told, and what was promised since."""
        candidate = known.candidate
        promised = self._reservations.bps(candidate.node, candidate.load_at, self._now)
        if candidate.load is not None:
            promised += candidate.load.reservations * self._bps
        return known.used_bps + promised + (0 if candidate.node == self.viewer.current else self._bps)

    def without_stream(self, known: Known, feed: Feed | None, rather: Feed | None, *, scarce: bool) -> Ranked:
        """Judge one that lacks the stream: fed by `feed`, or rather than by nobody by `rather`, without room.

        `scarce`: no source has room to spare for edges.
        """
        best = feed or rather
        if best is None:
            return self(known, None)
        if known.candidate.node in self.expected:
            return self(known, best[0])
        return self(known, best[0], source=best[1], last=scarce, stretched=feed is None)

    def __call__(
        self,
        known: Known,
        source_ms: float | None,
        *,
        source: NodeId = b"",
        has_stream: bool = False,
        last: bool = False,
        stretched: bool = False,
    ) -> Ranked:
        """`source_ms`: what the stream's way costs; None: nobody can give it. `source`: who shall feed it.

        `last`: sources have no room to spare for edges, this one not counted. `stretched`: `source` has none.
        """
        candidate, viewer = known.candidate, self.viewer
        node, load = candidate.node, candidate.load
        present = node == viewer.current
        tie = spread(self._key, self._stream, node)
        wanted_bps = self.wanted_bps(known)
        terms = Terms(
            path_ms=self.path_ms(known),
            away_ms=0.0 if node == viewer.asked else AWAY_MS,
            source_ms=source_ms or 0.0,
            uplink_ms=0.0 if present else uplink_ms(wanted_bps, known.budget_bps),
            cpu_ms=cpu_ms(None if load is None else load.cpu),
            spread_ms=SPREAD_MS * tie,
        )
        if present:
            stay = stay_ms(terms.cost_ms, self._now - viewer.since)
            terms = msgspec.structs.replace(terms, stay_ms=stay)
        barred = self.bars(candidate) or ("nobody can give it the stream" if source_ms is None else "")
        if barred:
            return Ranked(node, Standing.BARRED, terms, has_stream, barred)
        over_bps = wanted_bps - known.budget_bps
        if over_bps > 0 and (not present or tie * wanted_bps < over_bps):
            why = "it is over its promise and this viewer makes room" if present else "its uplink is full"
            return Ranked(node, Standing.FULL, terms, has_stream, why, source)
        small = over_bps + KEPT_FEEDS * self._bps > 0 and not present
        if stretched:
            standing = Standing.FULL if small else Standing.STRETCHED
            return Ranked(node, standing, terms, has_stream, "no source has room to feed it", source)
        spare_bps = max(SPARE_SHARE * known.budget_bps, SPARE_VIEWERS * self._bps)
        if self.viewer.tried and over_bps + spare_bps > 0 and not present:
            why = "nearly full, and the viewer was sent on once"
            return Ranked(node, Standing.KEPT, terms, has_stream, why, source)
        if last and small:
            why = "kept for feeding edges" if has_stream else "too small to feed others, and feeds are scarce"
            return Ranked(node, Standing.KEPT, terms, has_stream, why, source)
        return Ranked(node, Standing.ROOM, terms, has_stream, source=source)

    def path_ms(self, known: Known) -> float:
        """The round trip between the viewer and a member."""
        candidate, viewer = known.candidate, self.viewer
        if viewer.local and candidate.lan:
            return LAN_MS
        if candidate.node == viewer.asked and (viewer.rtt_s is not None or self.point is None):
            return self.rtt_ms
        measured = None if candidate.rtt_s is None else max(0.0, candidate.rtt_s) * MS
        if self.point is None:  # as far as from the asked node, and from there
            path = self.rtt_ms + (estimate_ms(self.here, known.point) if measured is None else measured)
        elif measured is None:
            path = estimate_ms(self.point, known.point)
        else:
            to_here = estimate_ms(self.point, self.here)
            if known.point is None:
                path = to_here + measured
            else:  # no way is shorter than what the other two sides leave
                path = max(estimate_ms(self.point, known.point), measured - to_here, ACCESS_MS)
        if viewer.prefix and viewer.prefix in candidate.prefixes:
            return min(path, PREFIX_MS)
        return path

    def _allows(self, candidate: Candidate) -> bool:
        patterns = candidate.allowed
        return not patterns or any(fnmatch.fnmatchcase(self._stream, pattern) for pattern in patterns)

    def bars(self, candidate: Candidate) -> str:
        """Why this viewer is never sent there; "" when it may be."""
        if candidate.node in self.viewer.tried:
            return "the viewer comes from there"
        if candidate.failing:
            return candidate.failing
        if not candidate.edge:
            return "it has not the role to serve viewers"
        if not candidate.compatible:
            return "its version differs"
        if candidate.draining:
            return "it is draining"
        if candidate.paused:
            return "its owner has paused it"
        if not self._allows(candidate):
            return "its owner does not allow this stream"
        if candidate.node == self.viewer.asked or not self.doors.isdisjoint(candidate.doors):
            return ""
        if self.viewer.local and candidate.lan and not self.doors.isdisjoint(candidate.lan_doors):
            return ""
        return f"it has no {min(self.doors)} door that this viewer can reach"
