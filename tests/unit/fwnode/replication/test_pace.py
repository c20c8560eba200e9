"""Silence and lateness, as an edge measures them."""

import pytest

from fwnode.replication.copy import ALIVE_S
from fwnode.replication.fetching.pace import (
    BEST_S,
    PATIENCE_MAX_S,
    PATIENCE_MIN_S,
    RHYTHM_S,
    SLOW_S,
    SLOW_WINDOW_S,
    Delay,
    Rhythm,
    first_history_us,
)
from media.replicate.wire import Alive

SECOND = 1_000_000


def beat(rhythm: Rhythm, now: float, every_s: float, for_s: float) -> float:
    end = now + for_s
    while now < end:
        now += every_s
        rhythm.heard(now)
    return now


def test_patience_follows_the_rhythm() -> None:
    rhythm = Rhythm(0.0)
    assert rhythm.patience_s == pytest.approx(3 * ALIVE_S)
    now = beat(rhythm, 0.0, 0.03, 2.1 * RHYTHM_S)
    assert rhythm.patience_s == PATIENCE_MIN_S
    assert not rhythm.is_silent(now + 0.9 * PATIENCE_MIN_S)
    assert rhythm.is_silent(now + 1.1 * PATIENCE_MIN_S)
    now = beat(rhythm, now, 0.6, RHYTHM_S)
    assert rhythm.patience_s == PATIENCE_MAX_S
    beat(rhythm, now, 0.03, 2.1 * RHYTHM_S)
    assert rhythm.patience_s == PATIENCE_MIN_S, "a pause is forgotten"


class Link:
    """Alive every ALIVE_S, from a clock of its own, through a queue that grows by `rate` seconds a second."""

    def __init__(self, drift: float = 0.0) -> None:
        self.delay = Delay(0.0)
        self.now = 0.0
        self.queue_s = 0.05
        self.behind_us = 0
        self.drift = drift

    def run(self, for_s: float, rate: float = 0.0) -> bool:
        """True when it was found slow on the way."""
        end, slow = self.now + for_s, False
        while self.now < end:
            self.now += ALIVE_S
            self.queue_s = max(0.05, self.queue_s + rate * ALIVE_S)
            sent_s = 1000 + (self.now - self.queue_s) * (1 + self.drift)
            newest_us = round(self.now * SECOND)
            alive = Alive(1, newest_us, round(sent_s * 1000))
            self.delay.heard(alive, newest_us - self.behind_us, self.now)
            slow = slow or self.delay.is_slow(self.now)
        return slow


def test_a_line_that_keeps_up_is_not_slow() -> None:
    assert not Link().run(60)


@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_clocks_that_drift_apart_do_not_matter(drift: float) -> None:
    assert not Link(drift).run(20 * BEST_S)


def test_a_queue_that_grows_is_found_within_seconds() -> None:
    link = Link()
    link.run(20)
    assert not link.run(SLOW_S / 0.4 - 0.1, 0.4)
    assert link.run(2 * SLOW_WINDOW_S, 0.4)


def test_what_catches_up_is_not_slow() -> None:
    link = Link()
    link.queue_s = 4.0
    assert not link.run(10, -0.3)


def test_a_burst_is_not_slow() -> None:
    link = Link()
    link.run(10)
    link.queue_s = 1.0
    assert not link.run(3, -0.8)


def test_what_waits_at_the_parent_counts() -> None:
    link = Link()
    link.run(5)
    link.behind_us = SECOND
    assert link.run(2 * SLOW_WINDOW_S)
    assert link.delay.late_s == pytest.approx(1.0, abs=0.01)


def test_a_word_that_does_not_come_is_under_way() -> None:
    link = Link()
    link.run(5)
    assert link.delay.is_slow(link.now + SLOW_S + SLOW_WINDOW_S + 0.1)
    link.delay.forgive(link.now + 3)
    assert not link.delay.is_slow(link.now + 3)


def test_the_past_is_asked_for_as_far_as_it_costs_little() -> None:
    assert first_history_us(5_000_000, 0.001, 16 * SECOND) == 12 * SECOND
    assert first_history_us(5_000_000, 0.001, 6 * SECOND) == 6 * SECOND
    assert first_history_us(5_000_000, 0.05, 16 * SECOND) == 3 * SECOND // 2
    assert first_history_us(0, None, 16 * SECOND) == 3 * SECOND // 2
    assert first_history_us(50_000_000, None, 16 * SECOND) == 150_000
