"""Which node for a viewer; among others the faults that people found in other balancers."""

import msgspec
import pytest

from mesh.directory.facts import CarriedStream, Load
from mesh.geo.model import Located
from mesh.model import NodeId
from mesh.routing.costs import SETTLE_S
from mesh.routing.field import Field
from mesh.routing.owners import Publication
from mesh.routing.parents import DEPTH_MAX
from mesh.routing.reservations import RESERVED_S, Reservations
from mesh.routing.viewers import (
    KEPT_FEEDS,
    Candidate,
    Protocol,
    Ranked,
    Ranking,
    Standing,
    Viewer,
    Wanted,
    explain,
    rank,
    reserve,
)

M = 1_000_000
ORIGIN, A, B, C = (bytes([number]) * 32 for number in (1, 2, 3, 4))
LIVE = Publication(1000, ORIGIN)
WANTED = Wanted("garden", LIVE, 4 * M)
UTRECHT, BERLIN, TOKYO = Located(52.1, 5.1), Located(52.5, 13.4), Located(35.7, 139.7)
VIEWER = Viewer(b"viewer", UTRECHT, tls=True, asked=A)
DOORS = frozenset({"http", "https"})
FREE = Load(0, 100 * M, 0.1, 0, 0, 0)
FULL = Load(100 * M, 100 * M, 0.1, 25, 25, 0)
NOBODY = Reservations()


def carried(node: NodeId, depth: int, epoch: int = 1000) -> CarriedStream:
    return CarriedStream("garden", epoch, depth, [], b"" if depth == 0 else ORIGIN)


def candidate(
    node: NodeId, place: Located | None = UTRECHT, depth: int | None = None, load: Load | None = FREE
) -> Candidate:
    stream = None if depth is None else carried(node, depth)
    return Candidate(node, place, load, doors=DOORS, carried=stream)


def but(candidate: Candidate, **changes: object) -> Candidate:
    return msgspec.structs.replace(candidate, **changes)


def ranked(*candidates: Candidate, viewer: Viewer = VIEWER, now: float = 0.0) -> Ranking:
    return rank(viewer, WANTED, candidates, NOBODY, now)


def of(ranking: Ranking, node: NodeId) -> Ranked:
    (found,) = [each for each in ranking.ranked if each.node == node]
    return found


# --- distance


def test_the_nearest_with_room_and_all_are_shown() -> None:
    ranking = ranked(candidate(ORIGIN, TOKYO, 0), candidate(A, BERLIN, 1), candidate(B, UTRECHT, 1))
    assert ranking.chosen == B
    assert [each.node for each in ranking.ranked] == [B, A, ORIGIN]
    assert not ranking.last_resort


def test_a_measured_round_trip_counts_for_the_asked_node() -> None:
    viewer = msgspec.structs.replace(VIEWER, rtt_s=0.3)
    ranking = ranked(candidate(A, UTRECHT, 1), candidate(B, BERLIN, 1), viewer=viewer)
    assert ranking.chosen == B
    assert of(ranking, A).terms.path_ms == 300.0


def test_a_node_that_is_slow_from_here_is_not_next_to_those_who_are_near() -> None:
    """Whatever place it claims: no way is shorter than what the other two sides leave."""
    viewer = msgspec.structs.replace(VIEWER, here=UTRECHT)
    liar = but(candidate(B, UTRECHT, 1), rtt_s=0.25)
    ranking = ranked(liar, candidate(C, BERLIN, 1), viewer=viewer)
    assert ranking.chosen == C
    assert of(ranking, B).terms.path_ms > 200


def test_a_viewer_without_a_place_is_as_far_as_the_asked_node_measures() -> None:
    viewer = msgspec.structs.replace(VIEWER, place=None, here=UTRECHT, rtt_s=0.02)
    near, far = candidate(B, BERLIN, 1), candidate(C, TOKYO, 1)
    ranking = ranked(candidate(A, UTRECHT, 1), near, far, viewer=viewer)
    assert [each.node for each in ranking.ranked] == [A, B, C]
    assert of(ranking, A).terms.path_ms == 20.0


def test_without_any_place_and_measure_somebody_is_chosen() -> None:
    viewer = msgspec.structs.replace(VIEWER, place=None, asked=b"")
    assert ranked(candidate(B, None, 1), candidate(C, None, 1), viewer=viewer).chosen in (B, C)


def test_a_viewer_on_the_local_network_gets_the_node_there_through_its_own_door() -> None:
    at_home = but(candidate(B, TOKYO, 1), lan=True, doors=frozenset(), lan_doors=frozenset({"https"}))
    viewer = msgspec.structs.replace(VIEWER, local=True, place=None)
    assert ranked(at_home, candidate(C, UTRECHT, 1), viewer=viewer).chosen == B
    away = msgspec.structs.replace(VIEWER, local=False)
    assert of(ranked(at_home, viewer=away), B).standing is Standing.BARRED


def test_the_same_block_of_addresses_is_near() -> None:
    viewer = msgspec.structs.replace(VIEWER, place=None, prefix="198.51.100.0/24")
    same = but(candidate(B, None, 1), prefixes=frozenset({"198.51.100.0/24"}))
    assert ranked(same, candidate(C, None, 1), viewer=viewer).chosen == B


# --- what others got wrong


def test_nodes_that_lack_the_stream_are_considered() -> None:
    ranking = ranked(candidate(ORIGIN, TOKYO, 0), candidate(B, UTRECHT))
    assert ranking.chosen == B
    assert not ranking.ranked[0].has_stream
    assert ranking.ranked[0].source == ORIGIN
    assert ranking.ranked[0].terms.source_ms > 0


@pytest.mark.parametrize(
    "fault",
    [
        {"draining": True},
        {"edge": False},
        {"paused": True},
        {"failing": "it is silent"},
        {"compatible": False},
        {"allowed": ("other",)},
        {"doors": frozenset()},
        {"doors": frozenset({"http"})},
    ],
    ids=str,
)
def test_who_must_not_be_chosen_is_not_however_near(fault: dict[str, object]) -> None:
    ranking = ranked(but(candidate(B, UTRECHT, 1), **fault), candidate(C, TOKYO, 1))
    assert ranking.chosen == C
    assert of(ranking, B).standing is Standing.BARRED
    assert of(ranking, B).why
    assert ranked(but(candidate(B, UTRECHT, 1), **fault)).chosen is None


def test_a_viewer_without_tls_may_take_either_door() -> None:
    viewer = msgspec.structs.replace(VIEWER, tls=False)
    for door in ("http", "https"):
        assert ranked(but(candidate(B, depth=1), doors=frozenset({door})), viewer=viewer).chosen == B
    rtmp = msgspec.structs.replace(VIEWER, tls=False, protocol=Protocol.RTMP)
    assert ranked(candidate(B, depth=1), viewer=rtmp).chosen is None


def test_the_only_source_is_used_however_loaded() -> None:
    ranking = ranked(candidate(ORIGIN, TOKYO, 0, FULL))
    assert ranking.chosen == ORIGIN
    assert ranking.last_resort
    assert "rather than nobody: its uplink is full" in ranking.reason


def test_of_full_ones_the_source_comes_first() -> None:
    assert ranked(candidate(ORIGIN, TOKYO, 0, FULL), candidate(B, UTRECHT, load=FULL)).chosen == ORIGIN


def test_a_busy_processor_weighs_by_its_share_of_one() -> None:
    busy = candidate(B, UTRECHT, 1, msgspec.structs.replace(FREE, cpu=1.0))
    idle = candidate(C, BERLIN, 1, msgspec.structs.replace(FREE, cpu=0.1))
    ranking = ranked(busy, idle)
    assert ranking.chosen == C
    assert of(ranking, B).terms.cpu_ms == 50.0
    assert of(ranking, C).terms.cpu_ms < 0.001


def test_another_publication_of_the_name_is_no_source() -> None:
    other = but(candidate(B, UTRECHT), carried=carried(B, 1, epoch=999))
    ranking = ranked(other, candidate(ORIGIN, BERLIN, 0))
    assert not of(ranking, B).has_stream
    assert ranked(other).chosen is None


# --- promises


def test_promises_count_before_they_are_seen_and_end_with_what_is_measured() -> None:
    reservations, one = Reservations(), Load(0, 6 * M, 0.1, 0, 0, 0)
    near, far = candidate(B, UTRECHT, 1, one), candidate(C, BERLIN, 1)
    reservations.make(B, WANTED.bps, 10.0)
    assert rank(VIEWER, WANTED, [near, far], NOBODY, 10.0).chosen == B
    assert rank(VIEWER, WANTED, [near, far], reservations, 10.0).chosen == C
    assert rank(VIEWER, WANTED, [but(near, load_at=12.0), far], reservations, 12.0).chosen == B
    assert rank(VIEWER, WANTED, [near, far], reservations, 10.0 + RESERVED_S).chosen == B


def test_a_crowd_is_spread_before_anybody_tells_its_load() -> None:
    reservations = Reservations()
    nodes = [bytes([number]) * 32 for number in range(10, 20)]
    candidates = [candidate(node, UTRECHT, 1, Load(0, 20 * M, 0.1, 0, 0, 0)) for node in nodes]
    for number in range(50):
        viewer = msgspec.structs.replace(VIEWER, key=number.to_bytes(2, "big"))
        ranking = rank(viewer, WANTED, candidates, reservations, 1.0)
        assert not ranking.last_resort
        reserve(ranking.ranked[0], WANTED, reservations, 1.0)
    assert all(reservations.count(node, 0.0, 1.0) == 5 for node in nodes)


def test_equals_are_not_chosen_alike() -> None:
    nodes = [bytes([number]) * 32 for number in range(10, 20)]
    candidates = [candidate(node, UTRECHT, 1) for node in nodes]
    viewers = [msgspec.structs.replace(VIEWER, asked=b"", key=bytes([number])) for number in range(60)]
    chosen = [rank(viewer, WANTED, candidates, NOBODY, 0.0).chosen for viewer in viewers]
    assert len(set(chosen)) == len(nodes)
    assert chosen == [rank(viewer, WANTED, candidates, NOBODY, 0.0).chosen for viewer in viewers]


def test_an_endless_uplink_is_not_believed() -> None:
    boaster = candidate(B, UTRECHT, 1, Load(99 * M, 10**15, 0.1, 0, 0, 0))
    ranking = ranked(boaster, candidate(C, TOKYO, 1))
    assert ranking.chosen == C
    assert ranked(but(boaster, proven_bps=200 * M), candidate(C, TOKYO, 1)).chosen == B


# --- sources


def test_the_last_source_with_room_is_kept_for_edges() -> None:
    small = Load(0, (KEPT_FEEDS + 1) * 4 * M - 1, 0.1, 0, 0, 0)
    origin = candidate(ORIGIN, UTRECHT, 0, small)
    ranking = ranked(origin, candidate(B, BERLIN))
    assert ranking.chosen == B
    assert of(ranking, ORIGIN).standing is Standing.KEPT
    assert ranked(origin).chosen == ORIGIN, "there are no edges to keep it for"
    assert ranked(origin, candidate(B, BERLIN, 1)).chosen == ORIGIN, "another source has room"


def test_the_last_feed_goes_to_an_edge_that_can_feed_others() -> None:
    small = Load(0, 5 * M, 0.1, 0, 0, 0)
    origin = candidate(ORIGIN, TOKYO, 0, Load(0, 8 * M, 0.1, 0, 0, 0))
    ranking = ranked(origin, candidate(B, UTRECHT, load=small), candidate(C, BERLIN))
    assert ranking.chosen == C
    assert of(ranking, B).standing is Standing.KEPT


def test_a_full_source_feeds_one_edge_beyond_its_promise_rather_than_all_viewers() -> None:
    reservations = Reservations()
    candidates = [candidate(ORIGIN, TOKYO, 0, FULL), candidate(B, UTRECHT), candidate(C, BERLIN)]
    ranking = rank(VIEWER, WANTED, candidates, reservations, 1.0)
    assert ranking.chosen == B
    assert ranking.last_resort
    reserve(ranking.ranked[0], WANTED, reservations, 1.0)
    elsewhere = msgspec.structs.replace(VIEWER, place=BERLIN)
    ranking = rank(elsewhere, WANTED, candidates, reservations, 1.0)
    assert ranking.chosen == B, "not a second one, though C is nearer"
    assert not ranking.last_resort


def test_a_source_at_the_greatest_depth_feeds_nobody() -> None:
    ranking = ranked(candidate(B, TOKYO, DEPTH_MAX), candidate(C, UTRECHT))
    assert ranking.chosen == B


# --- those who are somewhere already


def test_a_viewer_stays_unless_another_is_better_by_enough() -> None:
    there = msgspec.structs.replace(VIEWER, current=B)
    assert ranked(candidate(B, BERLIN, 1), candidate(C, UTRECHT, 1), viewer=there, now=99).chosen == B
    assert ranked(candidate(B, TOKYO, 1), candidate(C, UTRECHT, 1), viewer=there, now=99).chosen == C
    new = msgspec.structs.replace(there, since=99 - SETTLE_S / 2)
    assert ranked(candidate(B, TOKYO, 1), candidate(C, UTRECHT, 1), viewer=new, now=99).chosen == B


def test_a_draining_node_is_left() -> None:
    there = msgspec.structs.replace(VIEWER, current=B)
    leaving = but(candidate(B, UTRECHT, 1), draining=True)
    assert ranked(leaving, candidate(C, TOKYO, 1), viewer=there).chosen == C


def test_of_viewers_at_a_node_over_its_promise_a_share_makes_room() -> None:
    over = candidate(B, UTRECHT, 1, Load(125 * M, 100 * M, 0.1, 0, 0, 0))
    moved = 0
    for number in range(200):
        viewer = msgspec.structs.replace(VIEWER, key=bytes([number]), current=B)
        moved += ranked(over, candidate(C, BERLIN, 1), viewer=viewer, now=99).chosen == C
    assert 25 < moved < 55, "a fifth of 200"


def test_who_sent_a_viewer_on_is_not_chosen_again() -> None:
    viewer = msgspec.structs.replace(VIEWER, tried=frozenset({B}))
    assert ranked(candidate(B, UTRECHT, 1), candidate(C, TOKYO, 1), viewer=viewer).chosen == C


# --- words


def test_a_ranking_in_words() -> None:
    ranking = ranked(
        candidate(B, UTRECHT, 1), candidate(ORIGIN, TOKYO, 0, FULL), but(candidate(C, BERLIN), draining=True)
    )
    lines = explain(ranking, {ORIGIN: "attic", B: "cellar", C: "shed"}.__getitem__)
    assert lines[0] == "garden: cellar, the least cost of those that have room"
    assert lines[1].startswith("1. cellar: ")
    assert " = way 15.0 + redirect 0.2 + stream 0.5 + " in lines[1]
    assert lines[2].endswith("(its uplink is full)")
    assert lines[3] == "3. shed (it is draining)"


def test_nobody_in_words() -> None:
    assert explain(ranked()) == ["garden: nobody, no member can serve this viewer"]


# --- the field


def test_a_field_forgets_streams_and_members() -> None:
    field = Field()
    field.put(candidate(B))
    assert field.choose(VIEWER, "garden", NOBODY, 0.0) is None
    field.want(WANTED)
    assert field.choose(VIEWER, "garden", NOBODY, 0.0) is None, "nobody has it"
    field.carry("garden", B, carried(B, 1))
    found = field.choose(VIEWER, "garden", NOBODY, 0.0)
    assert found is not None and found.node == B
    field.want(msgspec.structs.replace(WANTED, publication=Publication(2000, ORIGIN)))
    assert field.choose(VIEWER, "garden", NOBODY, 0.0) is None, "another publication"
    field.carry("garden", B, carried(B, 1, 2000))
    assert field.choose(VIEWER, "garden", NOBODY, 0.0) == found
    field.remove(B)
    field.remove(B)
    field.carry("garden", B, carried(B, 1, 2000))
    assert field.choose(VIEWER, "garden", NOBODY, 0.0) is None
    field.forget("garden")
    assert field.candidates("garden") == []
