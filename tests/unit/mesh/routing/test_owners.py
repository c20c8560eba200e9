"""Whose stream a name means."""

import pytest

from mesh.directory.facts import CarriedStream
from mesh.model import NodeId
from mesh.routing.owners import (
    EPOCH_US_MAX,
    SETTLE_S,
    YIELD_S,
    Publication,
    Yielded,
    current_publication,
    has_lost,
    next_epoch,
    publication_of,
    refusal,
)

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


def published(epoch: int) -> CarriedStream:
    return CarriedStream("garden", epoch, 0, [])


def carried(epoch: int, origin: NodeId, depth: int = 1) -> CarriedStream:
    return CarriedStream("garden", epoch, depth, [], origin)


def anybody(_: NodeId) -> bool:
    return True


def test_the_newest_epoch_wins() -> None:
    assert current_publication([(A, published(1)), (B, published(2))], anybody) == Publication(2, B)


def test_of_equal_epochs_the_smaller_key_wins() -> None:
    assert current_publication([(B, published(1)), (A, published(1))], anybody) == Publication(1, A)


def test_an_origin_that_speaks_comes_before_what_is_left_of_another() -> None:
    said = [(A, published(1)), (C, carried(2, B))]
    assert current_publication(said, anybody) == Publication(1, A)
    assert current_publication(said[1:], anybody) == Publication(2, B)
    assert current_publication([], anybody) is None


def test_only_members_with_the_role_own_names() -> None:
    said = [(A, published(2)), (C, carried(2, A)), (B, published(1))]
    assert current_publication(said, lambda node: node != A) == Publication(1, B)


@pytest.mark.parametrize(
    "stream",
    [
        CarriedStream("garden", 1, 0, [], B),
        CarriedStream("garden", 1, 1, []),
        CarriedStream("garden", 1, 1, [], A),
        CarriedStream("garden", 1, 1, [], b"short"),
    ],
    ids=["another's origin at depth 0", "no origin", "itself as origin", "no key"],
)
def test_what_cannot_be_so_counts_for_nothing(stream: CarriedStream) -> None:
    assert publication_of(A, stream) is None
    assert current_publication([(A, stream)], anybody) is None


def test_an_origin_may_name_itself() -> None:
    assert publication_of(A, CarriedStream("garden", 1, 0, [], A)) == Publication(1, A)


def test_a_streamer_who_comes_back_goes_on_whatever_the_clock_says() -> None:
    said = [(A, published(5_000)), (C, carried(6_000, B))]
    assert next_epoch(said, 7_000) == 7_000
    assert next_epoch(said, 1_000) == 6_001
    assert next_epoch(said, 1_000, before=8_000) == 8_001
    assert next_epoch([], 1_000) == 1_000
    assert next_epoch([(A, published(EPOCH_US_MAX))], 1_000) == EPOCH_US_MAX


def test_who_lost() -> None:
    own = Publication(1, B)
    assert has_lost(own, Publication(2, C))
    assert has_lost(own, Publication(1, A))
    assert not has_lost(own, Publication(1, C))
    assert not has_lost(own, own)
    assert not has_lost(own, None)


def test_the_loser_refuses_publishers_for_a_while() -> None:
    winner = Publication(2, A)
    yielded = Yielded(winner, at=100.0)
    assert "another node" in refusal(yielded, winner, 100.0)
    assert refusal(yielded, Publication(3, C), 101.0), "a newer one took it from the winner"
    assert refusal(yielded, winner, 100.0 + YIELD_S) == ""
    assert refusal(yielded, None, 100.1), "the winner is not known yet"
    settled = 100.0 + SETTLE_S
    assert refusal(yielded, None, settled) == "", "the winner has gone"
    assert refusal(yielded, Publication(1, C), settled) == ""
    assert refusal(yielded, winner, settled, rests=True) == "", "the winner's publisher has gone"
    assert refusal(None, winner, 101.0) == ""
