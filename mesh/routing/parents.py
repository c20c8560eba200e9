"""Which member an edge takes a stream from: a pure function of what members say and what the edge measures.

No loops, however old what an edge knows is: a node may be chosen as parent only if it is on a lower `Rung`
than the lowest that the edge itself was ever told to be on in this publication, its `floor` (the feasibility
condition of DUAL and Babel, RFC 8966 2.4 and 3.5.1). Along every edge of the tree floors then fall strictly,
whatever happens above. A parent that moves down the tree afterwards is kept: that does not lift its floor.
One that moves up tells its children; by then its floor has sunk, and a child's, which sinks with the depth
that it was told, stays above it. DEPTH_MAX is kept by children, who leave a parent that moved too far down.
Whoever is to replace a parent may have answered long ago: its last word is put to `objection` again then.

The price is that an edge may see nobody lower although there are others (`Choice.starved`; RFC 8966 2.5). It
then stops feeding its own children, takes back what it said, forgets its floor and chooses again as a new
edge. For that to be safe a parent is asked before it counts: it answers with its publication and depth of
now, `objection` is put to the answer, and a node without a parent feeds nobody.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from mesh.directory.facts import CarriedStream, Load
from mesh.model import KEY_BYTES, NodeId, short
from mesh.routing.costs import (
    DEPTH_MS,
    LOSS_MS,
    REACH_MS,
    SPREAD_MS,
    Reach,
    Terms,
    cpu_ms,
    has_room,
    path_ms,
    stay_ms,
    uplink_ms,
)
from mesh.routing.owners import Publication, publication_of
from mesh.routing.tie import order, spread

DEPTH_MAX = 8  # hops from the origin; with two children each, all a slow line feeds, 510 edges


class Rung(NamedTuple):
    """A node's place in the order that forbids loops: by depth, then in an order that differs by stream."""

    depth: int
    order: bytes
    node: NodeId


class Member(msgspec.Struct, frozen=True):
    """A member that carries the stream: what its records say, and what this edge found out itself."""

    node: NodeId
    carried: CarriedStream
    load: Load | None = None
    reach: Reach = Reach.INDIRECT
    rtt_s: float | None = None  # measured
    loss: float = 0.0  # measured, 0 to 1
    distance_km: float | None = None
    excluded: str = ""  # why it must not be taken: it altered media, refused a moment ago, was revoked
    weak: str = ""  # why it is taken only before nobody: slower than the stream, draining


class Edge(msgspec.Struct, frozen=True):
    """The edge that chooses. Times are monotonic seconds."""

    node: NodeId
    stream: str
    publication: Publication
    parent: NodeId | None = None  # of now
    parent_since: float = 0.0
    floor: Rung | None = None  # see `lower`; None: nobody was told anything yet
    bitrate_bps: int = 0  # of the tracks that it takes; 0: as each member says


class Candidate(msgspec.Struct, frozen=True):
    """One member's place in the ranking, and why."""

    node: NodeId
    depth: int
    terms: Terms
    excluded: str = ""  # never
    weak: str = ""  # before nobody
    above: str = ""  # only when this edge begins anew


class Choice(msgspec.Struct, frozen=True):
    """What to do. `parent` None and not `starved`: there is nobody."""

    parent: NodeId | None
    last_resort: bool  # the parent is weak: ask it to feed this edge beyond its budget
    starved: bool  # stop feeding children, forget the floor, choose again
    reason: str
    candidates: tuple[Candidate, ...]  # best first


def choose_parent(edge: Edge, members: Iterable[Member], now: float) -> Choice:
    """Rank all members for this edge. The order in which they are given does not matter."""
    others = [member for member in members if member.node != edge.node]
    feeders = {
        member.node: parent_of(member.carried)
        for member in others
        if publication_of(member.node, member.carried) == edge.publication
    }
    candidates = [_candidate(edge, member, feeders, now) for member in others]
    candidates.sort(key=lambda candidate: _rank(edge, candidate))
    if edge.node == edge.publication.origin:
        return Choice(None, False, False, "this node is the origin", tuple(candidates))
    best = candidates[0] if candidates else None
    if best is None or best.excluded:
        return Choice(None, False, False, "no member can give the stream", tuple(candidates))
    if best.above:
        return Choice(None, False, True, best.above, tuple(candidates))
    return Choice(best.node, bool(best.weak), False, _reason(edge, best), tuple(candidates))


def objection(edge: Edge, node: NodeId, publication: Publication | None, depth: int) -> str:
    """Why a node that has `publication` at `depth` cannot be this edge's parent; "" when it can.

    To be asked of a member's record, and again of its own answer before it becomes the parent.
    """
    return _mismatch(edge, node, publication, depth) or _not_below(edge, node, depth)


def parent_of(carried: CarriedStream) -> NodeId | None:
    """Whom a member says that it takes the stream from."""
    if carried.depth == 0:
        return None
    parent = carried.parent or (carried.origin if carried.depth == 1 else b"")
    return parent if len(parent) == KEY_BYTES else None


def rung(node: NodeId, stream: str, depth: int) -> Rung:
    """Where a node at that depth stands."""
    return Rung(depth, order(node, stream), node)


def lower(floor: Rung | None, told: Rung) -> Rung:
    """The floor of an edge that now tells others, by record or by answer, that it is on `told`."""
    return told if floor is None else min(floor, told)


def _candidate(edge: Edge, member: Member, feeders: Mapping[NodeId, NodeId | None], now: float) -> Candidate:
    carried, node = member.carried, member.node
    fed = node == edge.parent
    bitrate_bps = edge.bitrate_bps or carried.bitrate_bps
    excluded = (
        member.excluded
        or _mismatch(edge, node, publication_of(node, carried), carried.depth)
        or ("cannot be reached" if member.reach is Reach.NONE else "")
        or _fed_by_us(edge, node, feeders)
    )
    full = not fed and member.load is not None and not has_room(member.load, bitrate_bps)
    terms = Terms(
        path_ms=path_ms(member.rtt_s, member.distance_km),
        loss_ms=LOSS_MS * member.loss,
        reach_ms=REACH_MS[member.reach],
        depth_ms=DEPTH_MS * carried.depth,
        uplink_ms=uplink_ms(member.load, bitrate_bps, fed=fed),
        cpu_ms=cpu_ms(member.load),
        spread_ms=SPREAD_MS * spread(edge.node, edge.stream, node),
    )
    if fed:
        terms = msgspec.structs.replace(terms, stay_ms=stay_ms(terms.cost_ms, now - edge.parent_since))
    return Candidate(
        node,
        carried.depth,
        terms,
        excluded,
        member.weak or ("its uplink is full" if full else ""),
        _not_below(edge, node, carried.depth),
    )


def _rank(edge: Edge, candidate: Candidate) -> tuple[bool, bool, bool, bool, float, bool, NodeId]:
    """Sort key: who may be taken, among weak ones the origin first, then cost."""
    weak = bool(candidate.weak)
    return (
        bool(candidate.excluded),
        weak,
        bool(candidate.above),
        weak and candidate.node != edge.publication.origin,
        candidate.terms.total_ms,
        candidate.node != edge.parent,
        candidate.node,
    )


def _mismatch(edge: Edge, node: NodeId, publication: Publication | None, depth: int) -> str:
    if publication is None:
        return "what it says of the stream cannot be so"
    if publication != edge.publication:
        same = publication.origin == edge.publication.origin
        return "has another epoch" if same else f"has the stream of {short(publication.origin)}"
    if (depth == 0) != (node == publication.origin):
        return "what it says of the stream cannot be so"
    if depth >= DEPTH_MAX:
        return f"{depth} hops from the origin: nobody may be more than {DEPTH_MAX}"
    return ""


def _not_below(edge: Edge, node: NodeId, depth: int) -> str:
    if node == edge.parent or edge.floor is None or rung(node, edge.stream, depth) < edge.floor:
        return ""
    return f"at depth {depth} it may be fed by this node, which was at depth {edge.floor.depth}"


def _fed_by_us(edge: Edge, node: NodeId, feeders: Mapping[NodeId, NodeId | None]) -> str:
    """By what members say of their parents: a second guard, against those who do not keep to the first."""
    above = feeders.get(node)
    for _ in range(DEPTH_MAX):
        if above is None:
            return ""
        if above == edge.node:
            return "this node feeds it"
        above = feeders.get(above)
    return "by what its parents say, they lead nowhere"


def _reason(edge: Edge, best: Candidate) -> str:
    if best.weak:
        return f"rather than nobody: {best.weak}"
    if best.node == edge.parent:
        return "no other is better by enough"
    return "the best of those that can be taken"
