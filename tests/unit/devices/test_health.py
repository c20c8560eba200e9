"""Devices that do not keep up."""

from devices.health import BREAK_MAX_S, BREAK_S, FORGIVEN_S, WINDOW_S, Health


def fed(*factors: float, now: float = 0.0) -> Health:
    health = Health()
    for factor in factors:
        health.factor(factor, now)
    return health


def test_one_slow_segment_in_many_is_nothing() -> None:
    assert fed(*[0.5] * 30, 3.0).trouble(0.0) == ""


def test_a_slow_twentieth_is_a_veto() -> None:
    health = fed(*[0.5] * 18, 0.9, 0.9)
    assert health.p95(0.0) == 0.9
    assert health.trouble(0.0) == "transcoding takes 90% of real time (p95)"


def test_too_few_say_nothing() -> None:
    assert fed(5.0, 5.0).trouble(0.0) == ""


def test_a_veto_ends_lower_than_it_began() -> None:
    health = fed(*[0.85] * 10)
    assert health.is_behind(0.0)
    for _ in range(40):
        health.factor(0.75, WINDOW_S + 1)
    assert health.is_behind(WINDOW_S + 1)
    for _ in range(40):
        health.factor(0.65, 2 * WINDOW_S + 2)
    assert not health.is_behind(2 * WINDOW_S + 2)


def test_a_veto_does_not_outlive_what_it_stands_on() -> None:
    health = fed(*[2.0] * 100)
    assert health.is_behind(1.0)
    assert not health.is_behind(WINDOW_S + 1)


def test_three_segments_that_waited() -> None:
    health = Health()
    for wait in (0.6, 0.6):
        health.wait(wait, 0.0)
    assert health.trouble(0.0) == ""
    health.wait(0.6, 0.0)
    assert health.trouble(0.0) == "segments wait for more than 0.5 of their duration"
    health.wait(0.1, 1.0)
    assert health.trouble(1.0) == ""


def test_a_device_that_fails_is_left_alone_for_longer_each_time() -> None:
    health = Health()
    health.failed("no memory", 0.0)
    assert health.trouble(BREAK_S - 1) == "failed: no memory"
    assert health.trouble(BREAK_S) == ""
    health.failed("no memory", 100.0)
    assert health.trouble(100.0 + 2 * BREAK_S - 1)
    for number in range(20):
        health.failed("again", 200.0 + number)
    assert not health.trouble(219.0 + BREAK_MAX_S)
    later = 219.0 + FORGIVEN_S + 1
    health.failed("once", later)
    assert not health.trouble(later + BREAK_S)
