"""Which parent for an edge."""

from collections import Counter

import msgspec
import pytest

from mesh.directory.facts import CarriedStream, Load
from mesh.model import NodeId
from mesh.routing.costs import SETTLE_S, Reach
from mesh.routing.owners import Publication
from mesh.routing.parents import (
    DEPTH_MAX,
    Choice,
    Edge,
    Member,
    choose_parent,
    lower,
    objection,
    parent_of,
    rung,
)

ORIGIN, A, B, C, ME = (bytes([number]) * 32 for number in (1, 2, 3, 4, 9))
LIVE = Publication(1000, ORIGIN)
EDGE = Edge(ME, "garden", LIVE)
M = 1_000_000
FULL = Load(10 * M, 10 * M, 0.0, 0, 0, 0)
FREE = Load(0, 10 * M, 0.0, 0, 0, 0)


def carried(node: NodeId, depth: int, parent: NodeId = b"", live: Publication = LIVE) -> CarriedStream:
    origin = b"" if depth == 0 else live.origin
    return CarriedStream("garden", live.epoch_unix_us, depth, [], origin, parent, 3 * M)


def member(
    node: NodeId, depth: int, rtt_s: float | None = 0.02, *, parent: NodeId = b"", load: Load | None = FREE
) -> Member:
    return Member(node, carried(node, depth, parent), load, Reach.DIRECT, rtt_s)


def edge(parent: NodeId | None = None, since: float = 0.0, floor: int | None = None) -> Edge:
    below = None if floor is None else rung(ME, "garden", floor)
    return msgspec.structs.replace(EDGE, parent=parent, parent_since=since, floor=below)


def why(choice: Choice, node: NodeId) -> str:
    (found,) = [candidate for candidate in choice.candidates if candidate.node == node]
    return found.excluded or found.weak or found.above


def test_the_nearest_by_measure_is_taken_and_all_are_shown() -> None:
    choice = choose_parent(EDGE, [member(ORIGIN, 0, 0.2), member(A, 1, 0.01), member(B, 1, 0.1)], 0.0)
    assert choice.parent == A
    assert [candidate.node for candidate in choice.candidates] == [A, B, ORIGIN]
    assert choice.candidates[0].terms.path_ms == 10.0
    assert choice.candidates[0].terms.depth_ms == 20.0
    assert not choice.last_resort


def test_of_equal_paths_the_less_deep() -> None:
    assert choose_parent(EDGE, [member(A, 2), member(B, 1), member(C, 3)], 0.0).parent == B


def test_measured_before_guessed() -> None:
    guessed = msgspec.structs.replace(member(A, 1, None), distance_km=100.0)
    assert choose_parent(EDGE, [guessed, member(B, 1, 0.03)], 0.0).parent == B


def test_a_full_uplink_is_left_alone() -> None:
    choice = choose_parent(EDGE, [member(ORIGIN, 0, 0.001, load=FULL), member(A, 1, 0.2)], 0.0)
    assert choice.parent == A
    assert why(choice, ORIGIN) == "its uplink is full"


def test_the_origin_rather_than_nobody() -> None:
    choice = choose_parent(EDGE, [member(A, 1, 0.001, load=FULL), member(ORIGIN, 0, 0.2, load=FULL)], 0.0)
    assert choice.parent == ORIGIN
    assert choice.last_resort
    assert choice.reason == "rather than nobody: its uplink is full"
    assert choose_parent(EDGE, [member(A, 1, load=FULL)], 0.0).parent == A, (
        "any, where the origin is not known"
    )


def test_the_present_parent_is_not_full_by_what_it_sends_here() -> None:
    choice = choose_parent(edge(A), [member(A, 1, load=FULL)], 100.0)
    assert (choice.parent, choice.last_resort) == (A, False)


def test_a_small_difference_moves_nobody() -> None:
    choice = choose_parent(edge(A), [member(A, 1, 0.05), member(B, 1, 0.04)], 100.0)
    assert choice.parent == A
    assert choice.reason == "no other is better by enough"
    assert choose_parent(edge(A), [member(A, 1, 0.2), member(B, 1, 0.04)], 100.0).parent == B


def test_a_new_parent_stays_for_a_while_unless_it_fails() -> None:
    members = [member(A, 1, 0.5), member(B, 1, 0.04)]
    assert choose_parent(edge(A, 100.0), members, 99.0 + SETTLE_S).parent == A
    assert choose_parent(edge(A, 100.0), members, 100.0 + SETTLE_S).parent == B
    failed = msgspec.structs.replace(members[0], excluded="it altered media")
    assert choose_parent(edge(A, 100.0), [failed, members[1]], 100.0).parent == B
    slow = msgspec.structs.replace(members[0], weak="1.2 of 3.0 Mb/s")
    assert choose_parent(edge(A, 100.0), [slow, members[1]], 100.0).parent == B
    alone = choose_parent(edge(A, 100.0), [slow], 100.0)
    assert (alone.parent, alone.last_resort) == (A, True)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (Member(A, carried(A, 1, live=Publication(999, ORIGIN)), reach=Reach.DIRECT), "another epoch"),
        (Member(A, carried(A, 1, live=Publication(1000, B)), reach=Reach.DIRECT), "the stream of 03030303"),
        (Member(A, carried(A, 0), reach=Reach.DIRECT), "the stream of 02020202"),
        (Member(A, CarriedStream("garden", 1000, 1, []), reach=Reach.DIRECT), "cannot be so"),
        (Member(A, carried(A, 1), reach=Reach.NONE), "cannot be reached"),
        (member(A, DEPTH_MAX), "nobody may be more than"),
        (member(A, 2, parent=ME), "this node feeds it"),
        (Member(A, carried(A, 1), reach=Reach.DIRECT, excluded="it altered media"), "it altered media"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_is_never_taken(other: Member, reason: str) -> None:
    choice = choose_parent(EDGE, [other], 0.0)
    assert choice.parent is None
    assert not choice.starved
    assert reason in why(choice, A)


def test_who_is_fed_by_us_over_others_is_not_taken() -> None:
    members = [member(A, 3, parent=B), member(B, 2, parent=ME)]
    choice = choose_parent(EDGE, members, 0.0)
    assert why(choice, A) == why(choice, B) == "this node feeds it"
    looped = [member(A, 3, parent=B), member(B, 2, parent=A), member(C, 3)]
    assert choose_parent(EDGE, looped, 0.0).parent == C
    assert "lead nowhere" in why(choose_parent(EDGE, looped, 0.0), A)


def test_only_lower_nodes_once_others_were_told() -> None:
    deeper, same = member(A, 3), member(B, 2)
    choice = choose_parent(edge(floor=2), [deeper, member(C, 1, 0.5)], 0.0)
    assert choice.parent == C
    assert "may be fed by this node" in why(choice, A)
    ours, theirs = rung(ME, "garden", 2), rung(B, "garden", 2)
    assert (choose_parent(edge(floor=2), [same], 0.0).parent == B) == (theirs < ours)
    assert objection(edge(floor=2), A, LIVE, 3)
    assert not objection(edge(floor=2), A, LIVE, 1)


def test_nobody_lower_means_to_begin_anew() -> None:
    members = [member(A, 3), member(B, 4)]
    choice = choose_parent(edge(floor=2), members, 0.0)
    assert (choice.parent, choice.starved) == (None, True)
    assert choose_parent(edge(), members, 0.0).parent == A


def test_a_parent_that_moves_down_is_kept() -> None:
    assert choose_parent(edge(A, floor=2), [member(A, 4)], 100.0).parent == A


def test_two_equals_never_feed_each_other() -> None:
    a = msgspec.structs.replace(EDGE, node=A, floor=rung(A, "garden", 2))
    b = msgspec.structs.replace(EDGE, node=B, floor=rung(B, "garden", 2))
    assert bool(objection(a, B, LIVE, 2)) != bool(objection(b, A, LIVE, 2))


def test_the_floor_only_sinks() -> None:
    floor = lower(None, rung(ME, "garden", 3))
    assert lower(floor, rung(ME, "garden", 2)) == rung(ME, "garden", 2)
    assert lower(floor, rung(ME, "garden", 5)) == floor


def test_equal_edges_do_not_choose_alike() -> None:
    members = [member(A, 1), member(B, 1), member(C, 1)]
    edges = [msgspec.structs.replace(EDGE, node=bytes([number]) * 32) for number in range(100, 200)]
    chosen = Counter(choose_parent(one, members, 0.0).parent for one in edges)
    assert set(chosen) == {A, B, C}
    assert max(chosen.values()) < 60


def test_the_origin_needs_nobody() -> None:
    origin = msgspec.structs.replace(EDGE, node=ORIGIN)
    choice = choose_parent(origin, [member(A, 1), member(ORIGIN, 0)], 0.0)
    assert choice.parent is None
    assert choice.reason == "this node is the origin"
    assert [candidate.node for candidate in choice.candidates] == [A]
    assert choose_parent(EDGE, [], 0.0).reason == "no member can give the stream"


def test_an_answer_is_held_against_what_is_wanted() -> None:
    assert objection(EDGE, A, None, 1)
    assert objection(EDGE, A, Publication(1001, ORIGIN), 1) == "has another epoch"
    assert objection(EDGE, A, LIVE, 0), "only the origin is at depth 0"
    assert objection(EDGE, ORIGIN, LIVE, 1)
    assert objection(EDGE, A, LIVE, DEPTH_MAX)
    assert not objection(EDGE, ORIGIN, LIVE, 0)


def test_who_feeds_a_member() -> None:
    assert parent_of(carried(ORIGIN, 0)) is None
    assert parent_of(carried(A, 1)) == ORIGIN
    assert parent_of(carried(A, 2, parent=B)) == B
    assert parent_of(carried(A, 2)) is None
    assert parent_of(carried(A, 2, parent=b"short")) is None
