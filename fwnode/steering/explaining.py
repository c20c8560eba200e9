"""One decision in full, for people and programs: every candidate, every term, and why it lost. Pure."""

from fwnode.steering.choosing import Came, Choosing
from fwnode.steering.model import CandidateView, ExplainView, SteeringView, TermsView, ViewerPlace
from mesh.directory.facts import Doors
from mesh.geo.model import Located, Spot
from mesh.model import NodeId
from mesh.routing.viewers import Protocol, Ranked, Viewer

ALONE = "this node is in no network"
DOORS = ("http", "https", "rtmp", "rtmps")  # what `--protocol` takes
EVERY_DIGIT = 3  # of milliseconds


def door_of(text: str) -> tuple[Protocol, bool]:
    """What a viewer needs, and whether over TLS, from one of DOORS. Raises ValueError."""
    if text not in DOORS:
        raise ValueError(f"{text[:16]!r} is no protocol: give one of {', '.join(DOORS)}")
    return Protocol(text.removesuffix("s")), text.endswith("s")


def explain(choosing: Choosing, stream: str, address: str, door: str, now: float) -> ExplainView | None:
    """The decision for a viewer at an address; None: nobody has that stream. Raises ValueError."""
    protocol, tls = door_of(door)
    came = Came(address, tls, carrying=protocol)
    explained = choosing.explain(came, stream, now)
    if explained is None:
        return _alone(choosing, stream, address, door) if choosing.is_here(stream) else None
    viewer, _, ranking = explained
    best = ranking.ranked[0] if ranking.chosen is not None else None
    return ExplainView(
        stream=stream,
        address=address,
        door=door,
        place=_place(viewer.place),
        prefix=viewer.prefix,
        local=viewer.local,
        chosen=ranking.chosen.hex() if ranking.chosen is not None else "",
        chosen_name=choosing.name_of(ranking.chosen) if ranking.chosen is not None else "",
        last_resort=ranking.last_resort,
        reason=ranking.reason,
        candidates=[_candidate(choosing, each, best, viewer) for each in ranking.ranked],
    )


def steering_view(choosing: Choosing, now: float) -> SteeringView:
    """Doors, candidates and counts."""
    doors, census = choosing.own_doors, choosing.census
    return SteeringView(
        public_doors=doors.public,
        lan_doors=doors.lan,
        closed=doors.closed,
        candidates=len(census.candidates) if census is not None else 1,
        reserved=choosing.reserved(choosing.own.load_at, now),
        counters=choosing.counters.named(),
        distances=choosing.counters.distances(),
    )


def _alone(choosing: Choosing, stream: str, address: str, door: str) -> ExplainView:
    name = choosing.name_of(b"")
    return ExplainView(stream, address, door, None, "", False, "", name, False, ALONE, [])


def _candidate(choosing: Choosing, each: Ranked, best: Ranked | None, viewer: Viewer) -> CandidateView:
    terms = {
        name.removesuffix("_ms"): round(getattr(each.terms, name), EVERY_DIGIT)
        for name in each.terms.__struct_fields__
    }
    distance = choosing.distance_km(each.node, viewer.place)
    return CandidateView(
        node=each.node.hex(),
        name=choosing.name_of(each.node),
        standing=each.standing.name.lower(),
        total_ms=round(each.terms.total_ms, EVERY_DIGIT),
        terms=TermsView(**terms),
        has_stream=each.has_stream,
        why=each.why or _why_it_lost(choosing, each, best),
        source=each.source.hex(),
        source_name=choosing.name_of(each.source) if each.source else "",
        doors=_doors(choosing, each.node),
        distance_km=None if distance is None else round(distance),
    )


def _why_it_lost(choosing: Choosing, each: Ranked, best: Ranked | None) -> str:
    if best is None or each is best:
        return ""
    more = {
        name.removesuffix("_ms"): getattr(each.terms, name) - getattr(best.terms, name)
        for name in each.terms.__struct_fields__
    }
    most = max(more, key=lambda name: more[name])
    total = each.terms.total_ms - best.terms.total_ms
    return f"{total:.1f} ms behind {choosing.name_of(best.node)}, most of it by {most}"


def _doors(choosing: Choosing, node: NodeId) -> list[str]:
    census = choosing.census
    doors = census.doors.get(node, Doors([])) if census is not None else choosing.own_doors
    return [*doors.public, *doors.lan]


def _place(place: Spot | None) -> ViewerPlace | None:
    if place is None:
        return None
    city = place.city if isinstance(place, Located) else ""
    return ViewerPlace(place.latitude, place.longitude, place.country, city, place.source)
