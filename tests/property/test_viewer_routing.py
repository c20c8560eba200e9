"""Which node for a viewer: every term counts one way, promises are kept, and a look at few finds the best."""

from collections.abc import Callable
from random import Random

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mesh.directory.facts import CarriedStream, Load
from mesh.geo.light import distance_km
from mesh.geo.model import Located
from mesh.model import NodeId
from mesh.routing.claims import believed_budget_bps
from mesh.routing.field import Field
from mesh.routing.owners import Publication
from mesh.routing.reservations import RESERVED_S, Reservations
from mesh.routing.viewer_address import seen_as
from mesh.routing.viewer_costs import apart_km, point
from mesh.routing.viewers import Candidate, Protocol, Ranking, Standing, Viewer, Wanted, explain, rank

unhurried = settings(deadline=None)  # the machine is shared
NAME = "garden"
NOW = 100.0
BITRATE_BPS = 4_000_000
PREFIXES = ["198.51.100.0/24", "2001:db8::/48"]
DOORS = [frozenset[str](), frozenset({"http"}), frozenset({"https"}), frozenset({"http", "https", "srt"})]


def key(number: int) -> NodeId:
    return bytes([number]) * 32


ORIGIN = key(0)
LIVE = Publication(1_700_000_000_000_000, ORIGIN)
WANTED = Wanted(NAME, LIVE, BITRATE_BPS)


def entry(node: NodeId, depth: int) -> CarriedStream:
    return CarriedStream(NAME, LIVE.epoch_unix_us, depth, [], b"" if depth == 0 else ORIGIN)


PLACES = st.none() | st.builds(
    Located,
    latitude=st.floats(-90, 90) | st.sampled_from([52.0, 52.3, 90.0]),
    longitude=st.floats(-180, 180) | st.sampled_from([4.9, 5.1, 179.9, -179.9]),
)
LOADS = st.none() | st.builds(
    Load,
    uplink_bps=st.integers(0, 60_000_000),
    uplink_budget_bps=st.sampled_from([0, 2_000_000, 10_000_000, 20_000_000, 50_000_000, 10**12]),
    cpu=st.floats(0, 1),
    viewers=st.just(0),
    sessions=st.just(0),
    reservations=st.integers(0, 5),
)
RTTS = st.none() | st.floats(0, 1)


FAULTS = st.sampled_from(
    [
        *[{}] * 8,
        {"edge": False},
        {"compatible": False},
        {"draining": True},
        {"paused": True},
        {"failing": "it is silent"},
        {"allowed": ("other",)},
        {"allowed": (NAME, "other*")},
    ]
)


@st.composite
def candidate_lists(draw: st.DrawFn, most: int = 6) -> list[Candidate]:
    found = []
    for number in range(draw(st.integers(0, most))):
        node = key(number)
        depth = 0 if number == 0 else draw(st.none() | st.integers(1, 9))
        has_stream = draw(st.integers(0, 3)) > 0
        found.append(
            Candidate(
                node,
                place=draw(PLACES),
                load=draw(LOADS),
                load_at=draw(st.floats(0, NOW)),
                proven_bps=draw(st.sampled_from([0, 10_000_000, 10**12])),
                doors=draw(st.sampled_from(DOORS)),
                lan_doors=draw(st.sampled_from(DOORS)),
                lan=draw(st.booleans()),
                prefixes=draw(st.frozensets(st.sampled_from(PREFIXES))),
                rtt_s=draw(RTTS),
                carried=entry(node, depth) if depth is not None and has_stream else None,
                **draw(FAULTS),
            )
        )
    return found


VIEWERS = st.builds(
    Viewer,
    key=st.binary(max_size=80),
    place=PLACES,
    prefix=st.sampled_from(["", *PREFIXES]),
    local=st.booleans(),
    protocol=st.sampled_from(Protocol),
    tls=st.booleans(),
    asked=st.integers(0, 8).map(key),
    here=PLACES,
    rtt_s=RTTS,
    current=st.none() | st.integers(0, 8).map(key),
    since=st.floats(0, NOW),
    tried=st.frozensets(st.integers(0, 8).map(key), max_size=2),
)
PROMISES = st.lists(st.tuples(st.integers(0, 8), st.floats(0, NOW) | st.floats(95, NOW)), max_size=8)


def promised(made: list[tuple[int, float]]) -> Reservations:
    reservations = Reservations()
    for number, when in sorted(made, key=lambda each: each[1]):
        reservations.make(key(number), BITRATE_BPS, when)
        if number % 3 == 1:
            reservations.expect(NAME, key(number), when)
    return reservations


def place_of(ranking: Ranking, node: NodeId) -> int:
    return [each.node for each in ranking.ranked].index(node)


def candidate_of(candidates: list[Candidate], node: NodeId | None) -> Candidate:
    (found,) = [each for each in candidates if each.node == node]
    return found


def room_bps(candidate: Candidate, reservations: Reservations) -> float:
    """What is left of what its owner allows, with all that was promised."""
    budget = believed_budget_bps(candidate.load, candidate.proven_bps)
    used = candidate.load.uplink_bps if candidate.load else budget / 2
    own = candidate.load.reservations * BITRATE_BPS if candidate.load else 0
    return budget - used - own - reservations.bps(candidate.node, candidate.load_at, NOW)


# --- terms


def worse_distance(candidate: Candidate, by: float) -> Candidate:
    """Away from a viewer at 0, 0."""
    place = candidate.place or Located(0.0, 0.0)
    return msgspec.structs.replace(
        candidate, place=Located(0.0, min(180.0, abs(place.longitude) + 50 * by)), rtt_s=None
    )


def worse_rtt(candidate: Candidate, by: float) -> Candidate:
    return msgspec.structs.replace(candidate, rtt_s=(candidate.rtt_s or 0.0) + by)


def worse_uplink(candidate: Candidate, by: float) -> Candidate:
    load = candidate.load or Load(0, 0, 0.5, 0, 0, 0)
    used = load.uplink_bps + int(by * 10_000_000)
    return msgspec.structs.replace(candidate, load=msgspec.structs.replace(load, uplink_bps=used))


def worse_reservations(candidate: Candidate, by: float) -> Candidate:
    load = candidate.load or Load(0, 0, 0.5, 0, 0, 0)
    more = msgspec.structs.replace(load, reservations=load.reservations + int(by))
    return msgspec.structs.replace(candidate, load=more)


def worse_cpu(candidate: Candidate, by: float) -> Candidate:
    load = candidate.load or Load(0, 0, 0.5, 0, 0, 0)
    busier = msgspec.structs.replace(load, cpu=min(1.0, load.cpu + by))
    return msgspec.structs.replace(candidate, load=busier)


def worse_proof(candidate: Candidate, _: float) -> Candidate:
    return msgspec.structs.replace(candidate, proven_bps=0)


def worse_state(candidate: Candidate, _: float) -> Candidate:
    return msgspec.structs.replace(candidate, draining=True)


def worse_doors(candidate: Candidate, _: float) -> Candidate:
    return msgspec.structs.replace(candidate, doors=frozenset(), lan_doors=frozenset())


WORSE = [
    worse_distance,
    worse_rtt,
    worse_uplink,
    worse_reservations,
    worse_cpu,
    worse_proof,
    worse_state,
    worse_doors,
]


@settings(deadline=None, max_examples=300)
@given(
    worse=st.sampled_from(WORSE),
    viewer=VIEWERS,
    candidates=candidate_lists(),
    made=PROMISES,
    at=st.integers(0, 7),
    by=st.floats(0, 3),
)
def test_what_gets_worse_never_rises(
    worse: Callable[[Candidate, float], Candidate],
    viewer: Viewer,
    candidates: list[Candidate],
    made: list[tuple[int, float]],
    at: int,
    by: float,
) -> None:
    """Only a source may rise when it gets worse: past those whom nobody feeds then."""
    assume(candidates)
    at %= len(candidates)
    subject = candidates[at]
    assume(subject.node != viewer.current)  # those who are there make room by a share, not all
    if worse is worse_distance:
        viewer = msgspec.structs.replace(viewer, place=Located(0.0, 0.0))
        place = subject.place and Located(0.0, abs(subject.place.longitude))
        assume(place is not None)
        subject = candidates[at] = msgspec.structs.replace(subject, place=place, rtt_s=None)
    if worse is worse_rtt and subject.rtt_s is None:
        subject = candidates[at] = msgspec.structs.replace(subject, rtt_s=0.0)
    if worse in (worse_uplink, worse_reservations, worse_cpu) and subject.load is None:
        subject = candidates[at] = msgspec.structs.replace(subject, load=Load(0, 0, 0.5, 0, 0, 0))
    reservations = promised(made)
    before = rank(viewer, WANTED, candidates, reservations, NOW)
    changed = [*candidates[:at], worse(subject, by), *candidates[at + 1 :]]
    after = rank(viewer, WANTED, changed, reservations, NOW)
    was, is_now = before.ranked[place_of(before, subject.node)], after.ranked[place_of(after, subject.node)]
    assert is_now.standing >= was.standing
    if worse is not worse_distance:  # the way from its source changes too
        if subject.carried is None:
            assert place_of(after, subject.node) >= place_of(before, subject.node)
        for term in was.terms.__struct_fields__:
            assert getattr(is_now.terms, term) >= getattr(was.terms, term)
    elif not (viewer.local and subject.lan):
        assert is_now.terms.path_ms >= was.terms.path_ms - 1e-6
    if after.chosen == subject.node and worse is not worse_distance and subject.carried is None:
        assert before.chosen == subject.node


@unhurried
@given(VIEWERS, candidate_lists(), PROMISES, st.integers())
def test_the_order_of_candidates_does_not_matter(
    viewer: Viewer, candidates: list[Candidate], made: list[tuple[int, float]], seed: int
) -> None:
    shuffled = Random(seed).sample(candidates, len(candidates))
    assert rank(viewer, WANTED, candidates, promised(made), NOW) == rank(
        viewer, WANTED, shuffled, promised(made), NOW
    )


# --- promises


@unhurried
@given(VIEWERS, candidate_lists(), PROMISES)
def test_who_is_chosen_may_be(
    viewer: Viewer, candidates: list[Candidate], made: list[tuple[int, float]]
) -> None:
    reservations = promised(made)
    ranking = rank(viewer, WANTED, candidates, reservations, NOW)
    assert len(ranking.ranked) == len(candidates)
    if ranking.chosen is None:
        return
    chosen = candidate_of(candidates, ranking.chosen)
    assert chosen.edge and chosen.compatible
    assert not (chosen.draining or chosen.paused or chosen.failing)
    assert chosen.node not in viewer.tried
    assert not chosen.allowed or NAME in chosen.allowed
    doors = chosen.doors | (chosen.lan_doors if viewer.local and chosen.lan else frozenset())
    assert chosen.node == viewer.asked or doors & viewer.doors
    if viewer.tls and chosen.node != viewer.asked:
        assert f"{viewer.protocol}s" in doors
    assert any(each.carried for each in candidates), "nobody has the stream"


@unhurried
@given(VIEWERS, candidate_lists(), PROMISES)
def test_nobody_is_over_its_promise_while_another_has_room(
    viewer: Viewer, candidates: list[Candidate], made: list[tuple[int, float]]
) -> None:
    reservations = promised(made)
    ranking = rank(viewer, WANTED, candidates, reservations, NOW)
    with_room = [each for each in ranking.ranked if each.standing <= Standing.STRETCHED]
    for each in with_room:
        if each.node != viewer.current:
            assert room_bps(candidate_of(candidates, each.node), reservations) >= BITRATE_BPS
    if with_room:
        assert ranking.last_resort == (ranking.ranked[0].standing is Standing.STRETCHED)
        assert ranking.chosen in {each.node for each in with_room}


@unhurried
@given(VIEWERS, candidate_lists(), PROMISES)
def test_the_only_source_however_loaded_rather_than_nobody(
    viewer: Viewer, candidates: list[Candidate], made: list[tuple[int, float]]
) -> None:
    ranking = rank(viewer, WANTED, candidates, promised(made), NOW)
    sources = [each for each in ranking.ranked if each.has_stream and each.standing < Standing.BARRED]
    if sources:
        assert ranking.chosen is not None
    if ranking.ranked and ranking.ranked[0].standing is Standing.FULL and sources:
        assert ranking.chosen in {each.node for each in sources}


@unhurried
@given(VIEWERS, candidate_lists(), PROMISES)
def test_every_ranking_can_be_told(
    viewer: Viewer, candidates: list[Candidate], made: list[tuple[int, float]]
) -> None:
    ranking = rank(viewer, WANTED, candidates, promised(made), NOW)
    lines = explain(ranking)
    assert len(lines) == len(candidates) + 1
    for each in ranking.ranked:
        assert each.terms.total_ms == pytest.approx(
            sum(getattr(each.terms, term) for term in each.terms.__struct_fields__)
        )
        assert bool(each.why) == (each.standing is not Standing.ROOM)


@unhurried
@given(VIEWERS, candidate_lists(), PROMISES)
def test_a_viewer_stays_with_what_was_chosen(
    viewer: Viewer, candidates: list[Candidate], made: list[tuple[int, float]]
) -> None:
    ranking = rank(viewer, WANTED, candidates, promised(made), NOW)
    if ranking.chosen is None or ranking.last_resort:
        return
    there = msgspec.structs.replace(viewer, current=ranking.chosen, since=NOW)
    assert rank(there, WANTED, candidates, promised(made), NOW).chosen == ranking.chosen


# --- the field


@settings(deadline=None, max_examples=250)
@given(
    viewers=st.lists(VIEWERS, min_size=1, max_size=3),
    first=candidate_lists(),
    second=candidate_lists(),
    made=PROMISES,
    gone=st.sets(st.integers(0, 8)),
)
def test_a_look_at_few_finds_what_a_look_at_all_finds(
    viewers: list[Viewer],
    first: list[Candidate],
    second: list[Candidate],
    made: list[tuple[int, float]],
    gone: set[int],
) -> None:
    """After any changes of records, with orders and costs remembered from before."""
    field = Field()
    field.want(WANTED)
    reservations = promised(made)
    present: dict[NodeId, Candidate] = {}
    for candidates in (first, second):
        for candidate in candidates:
            present[candidate.node] = candidate
            field.put(msgspec.structs.replace(candidate, carried=None))
            field.carry(NAME, candidate.node, candidate.carried)
        check(field, viewers, present, reservations)
    for number in gone:
        present.pop(key(number), None)
        field.remove(key(number))
    check(field, viewers, present, reservations)


def check(
    field: Field, viewers: list[Viewer], present: dict[NodeId, Candidate], reservations: Reservations
) -> None:
    for viewer in viewers:
        ranking = rank(viewer, WANTED, present.values(), reservations, NOW)
        found = field.choose(viewer, NAME, reservations, NOW)
        assert (found and found.node) == ranking.chosen
        assert found is None or found == ranking.ranked[0]


@given(PLACES.filter(bool), PLACES.filter(bool))
def test_distance_by_the_chord(one: Located, other: Located) -> None:
    a, b = point(one), point(other)
    assert a is not None and b is not None
    expected = distance_km(one.latitude, one.longitude, other.latitude, other.longitude)
    assert apart_km(a, b) == pytest.approx(expected, abs=1.0)


# --- viewers' addresses, reservations


@given(st.text(max_size=80) | st.ip_addresses().map(str) | st.ip_addresses(v=4).map(lambda a: f"::ffff:{a}"))
def test_any_text_is_an_address_or_none(text: str) -> None:
    seen = seen_as(text)
    assert not (seen.prefix and seen.local)


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_what_it_maps(address: object) -> None:
    assert seen_as(f"::ffff:{address}") == seen_as(str(address))


@given(PROMISES, st.floats(0, NOW), st.floats(0, 3 * RESERVED_S))
def test_reservations_age_out_and_are_replaced_by_what_is_measured(
    made: list[tuple[int, float]], measured_at: float, later: float
) -> None:
    reservations = promised(made)
    for number in range(9):
        node = key(number)
        mine = [when for to, when in made if to == number]
        assert 0 <= reservations.bps(node, 0.0, NOW) <= len(mine) * BITRATE_BPS
        assert reservations.bps(node, measured_at, NOW) <= reservations.bps(node, 0.0, NOW)
        assert reservations.bps(node, 0.0, NOW + later) <= reservations.bps(node, 0.0, NOW)
        assert reservations.bps(node, 0.0, NOW + RESERVED_S) == 0
        assert reservations.bps(node, 0.0, NOW) == reservations.count(node, 0.0, NOW) * BITRATE_BPS
