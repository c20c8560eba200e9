"""When seeds are tried."""

from random import Random

import pytest

from mesh.discovery.seeds import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    JITTER,
    RESOLVE_EVERY_S,
    SEEDS_MAX,
    TRY_S,
    SeedList,
)

A, B = "a.example:7000", "[2001:db8::1]:7000"


def make(*seeds: str) -> SeedList:
    return SeedList(seeds, Random(1), 100.0)


def wait_s(seeds: SeedList, now: float) -> float:
    deadline = seeds.deadline()
    assert deadline is not None
    return deadline - now


def test_all_are_due_at_once_and_only_once() -> None:
    seeds = make(A, B, A, "no address")
    assert seeds.addresses == [A, B]
    assert seeds.deadline() == 100.0
    assert seeds.due(100.0) == [A, B]
    assert seeds.due(101.0) == []


def test_without_seeds_there_is_no_deadline() -> None:
    assert make().deadline() is None
    assert make().due(1e9) == []


def test_failures_wait_twice_as_long_up_to_a_minute() -> None:
    seeds = make(A)
    now = 100.0
    waits = []
    for _ in range(2000):
        assert seeds.due(now) == [A]
        seeds.failed(A, now)
        waits.append(wait_s(seeds, now))
        now += waits[-1]
    for expected, waited in zip([1, 2, 4, 8, 16, 32, 60, 60], waits, strict=False):
        assert expected * (1 - JITTER) <= waited <= expected
    assert max(waits) <= BACKOFF_MAX_S
    assert len(set(waits[10:])) > 100  # jitter


def test_a_seed_in_use_is_resolved_again() -> None:
    seeds = make(A)
    seeds.due(100.0)
    seeds.connected(A, 100.0)
    assert RESOLVE_EVERY_S * (1 - JITTER) <= wait_s(seeds, 100.0) <= RESOLVE_EVERY_S
    assert seeds.due(100.0 + RESOLVE_EVERY_S) == [A]


def test_a_lost_seed_is_tried_soon_and_success_forgets_failures() -> None:
    seeds = make(A)
    for _ in range(6):
        seeds.failed(A, 100.0)
    seeds.connected(A, 100.0)
    seeds.lost(A, 110.0)
    assert wait_s(seeds, 110.0) <= BACKOFF_MIN_S
    seeds.due(112.0)
    seeds.failed(A, 112.0)
    assert wait_s(seeds, 112.0) <= BACKOFF_MIN_S


def test_a_try_of_which_nothing_is_heard_has_failed() -> None:
    seeds = make(A)
    seeds.due(100.0)
    assert seeds.deadline() == 100.0 + TRY_S
    assert seeds.due(100.0 + TRY_S) == []
    assert 0 < wait_s(seeds, 100.0 + TRY_S) <= BACKOFF_MIN_S


def test_a_change_of_the_network_makes_waiting_ones_due() -> None:
    seeds = make(A, B)
    seeds.due(100.0)
    seeds.failed(A, 100.0)
    seeds.hurry(100.1)
    assert seeds.due(100.1) == [A]  # the other is being tried


def test_a_new_set_keeps_what_is_known_of_the_old() -> None:
    seeds = make(A)
    seeds.due(100.0)
    seeds.connected(A, 100.0)
    seeds.set([B, A], 101.0)
    assert seeds.due(101.0) == [B]
    seeds.set([], 102.0)
    seeds.failed(B, 103.0)  # answered after it was removed
    assert seeds.deadline() is None


def test_seeds_are_bounded() -> None:
    assert len(make(*(f"n{i}:1" for i in range(1000))).addresses) == SEEDS_MAX


@pytest.mark.parametrize("seed", range(3))
def test_jitter_comes_from_the_given_randomness(seed: int) -> None:
    one, two = (SeedList([A], Random(seed), 0.0) for _ in range(2))
    for seeds in (one, two):
        seeds.due(0.0)
        seeds.failed(A, 0.0)
    assert one.deadline() == two.deadline()
