"""A copy's place in the tree: its depth, whom it avoids, when it is lost."""

import pytest

from fwnode.replication.copy import AVOID_S, HEARD_S, LOST_S, WEAK_S, Copy
from media.bitstream.duration import frame_duration
from media.replicate.replica import Replica
from media.replicate.signing import Identity
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source
from mesh.directory.facts import CarriedStream
from mesh.model import NodeId
from mesh.routing.costs import Reach
from mesh.routing.owners import Publication
from mesh.routing.parents import DEPTH_MAX, Member

ME, ORIGIN, A, B = (bytes([number]) * 32 for number in (9, 0, 1, 2))
LIVE = Publication(1000, ORIGIN)


@pytest.fixture
def copy() -> Copy:
    streams = Streams(RegistrySettings(), call_at=lambda when, callback: callback, measure=frame_duration)
    writer = streams.open_copy("cam", Source("mesh", "origin"), 0.0, 0, lambda reason: None)
    return Copy(ME, LIVE, Replica(writer, Identity("cam", 1000), ORIGIN, lambda *_: True), 0.0)


def member(node: NodeId, depth: int, rtt_s: float = 0.02) -> Member:
    origin = b"" if depth == 0 else ORIGIN
    return Member(node, CarriedStream("cam", 1000, depth, [], origin), reach=Reach.DIRECT, rtt_s=rtt_s)


def test_it_moves_with_its_parent_and_its_floor_only_sinks(copy: Copy) -> None:
    copy.adopted(A, 3, 0.0)
    assert copy.depth == 4
    assert copy.moved(1) == ""
    assert copy.depth == 2
    assert copy.moved(5) == ""
    assert copy.depth == 6
    assert copy.objection(B, LIVE, 3), "it was at depth 2 once, and may feed one that is at 3"
    assert not copy.objection(B, LIVE, 1)


def test_depth_is_bounded(copy: Copy) -> None:
    copy.adopted(A, DEPTH_MAX - 1, 0.0)
    assert "nobody may be more" in copy.moved(DEPTH_MAX)
    assert copy.depth == DEPTH_MAX
    assert "origin" in copy.moved(0)


def test_who_was_slow_comes_after_the_others_for_ever_longer(copy: Copy) -> None:
    members = [member(A, 1, 0.01), member(B, 1, 0.1)]
    assert copy.choose(members, 0.0).parent == A
    copy.weaken(A, "slower than the stream", 0.0)
    assert copy.choose(members, 1.0).parent == B
    assert copy.choose(members[:1], 1.0).last_resort
    assert copy.choose(members, WEAK_S).parent == A
    copy.weaken(A, "slower than the stream", WEAK_S)
    assert copy.choose(members, 2.5 * WEAK_S).parent == B
    assert copy.choose(members, 3 * WEAK_S).parent == A


def test_who_refused_is_left_alone_for_a_moment_and_who_lied_for_good(copy: Copy) -> None:
    copy.left(A, "no room", 0.0)
    copy.left(B, "it altered media", 0.0, for_ever=True)
    assert copy.choose([member(A, 1), member(B, 1)], 0.5).parent is None
    assert copy.choose([member(A, 1), member(B, 1)], AVOID_S).parent == A
    assert copy.choose([member(B, 1)], 1e9).parent is None


def test_one_who_is_asked_is_not_asked_twice(copy: Copy) -> None:
    members = [member(A, 1, 0.01), member(B, 1, 0.1)]
    assert copy.choose(members, 0.0, asked=[A]).parent == B
    copy.adopted(A, 1, 0.0)
    assert copy.choose(members, 1.0, weak="the parent is silent").parent == B


def test_parents_that_bring_nothing_do_not_keep_a_stream(copy: Copy) -> None:
    for second in range(round(LOST_S)):
        copy.adopted(A, 1, second)
        copy.left(A, "garbage", second + 0.5)
    assert copy.is_lost(LOST_S)
    copy.adopted(A, 1, LOST_S)
    copy.brought()
    copy.left(A, "it hung up", 2 * LOST_S)
    assert not copy.is_lost(3 * LOST_S - 0.1)
    assert copy.is_lost(3 * LOST_S)


def test_it_says_that_it_is_there_only_while_it_hears_its_parent(copy: Copy) -> None:
    assert not copy.hears(0.0)
    copy.adopted(A, 1, 0.0)
    assert copy.hears(HEARD_S)
    assert not copy.hears(HEARD_S + 0.1)
    copy.heard_at = 1.0
    assert copy.hears(1.1)
