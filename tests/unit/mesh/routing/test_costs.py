"""What a parent costs, term by term."""

import pytest

from mesh.directory.facts import Load
from mesh.routing.costs import (
    ASSUMED_BITRATE_BPS,
    ESTIMATE_MS,
    REACH_MS,
    SETTLE_S,
    UPLINK_MS,
    Reach,
    cpu_ms,
    has_room,
    path_ms,
    stay_ms,
    uplink_ms,
)

M = 1_000_000


def load(used: int, budget: int, reservations: int = 0, cpu: float = 0.0) -> Load:
    return Load(used, budget, cpu, 0, 0, reservations)


def test_a_measured_path_goes_before_distance() -> None:
    assert path_ms(0.02, 10_000.0) == path_ms(0.02, None) == 20.0
    assert path_ms(None, 0.0) == ESTIMATE_MS
    assert path_ms(None, 1000.0) == pytest.approx(ESTIMATE_MS + 19.88)
    assert path_ms(None, 1000.0) < path_ms(None, None)
    assert path_ms(-0.001, None) == 0.0


def test_the_uplink_weighs_by_how_full_it_would_be() -> None:
    assert uplink_ms(load(7 * M, 10 * M), 3 * M, fed=False) == UPLINK_MS
    assert uplink_ms(load(7 * M, 10 * M), 3 * M, fed=True) == pytest.approx(49.0)
    assert uplink_ms(load(1 * M, 10 * M, reservations=2), 3 * M, fed=False) == UPLINK_MS
    assert uplink_ms(None, 3 * M, fed=False) == 25.0
    assert uplink_ms(load(17 * M, 0), 3 * M, fed=False) == UPLINK_MS, "no budget: a home line"


def test_a_full_uplink_takes_no_more() -> None:
    assert has_room(load(7 * M, 10 * M), 3 * M)
    assert not has_room(load(7 * M + 1, 10 * M), 3 * M)
    assert not has_room(load(5 * M, 10 * M, reservations=1), 3 * M)
    assert has_room(load(900 * M, 0), 3 * M), "no limit was set"
    assert has_room(load(0, ASSUMED_BITRATE_BPS), 0)
    assert not has_room(load(1, ASSUMED_BITRATE_BPS), 0)


def test_processor() -> None:
    assert cpu_ms(load(0, 0, cpu=1.0)) == 50.0
    assert cpu_ms(None) == 12.5


def test_who_is_there_has_an_advantage() -> None:
    assert stay_ms(100.0, SETTLE_S) == -40.0
    assert stay_ms(100.0, SETTLE_S - 1) == -100.0
    assert stay_ms(10.0, SETTLE_S - 1) == -22.0


def test_every_reach_has_a_cost_and_links_that_use_others_the_most() -> None:
    assert set(REACH_MS) == set(Reach)
    assert REACH_MS[Reach.DIRECT] < REACH_MS[Reach.PUNCHED] < REACH_MS[Reach.RELAYED] < REACH_MS[Reach.NONE]
