"""Whether a connection still carries: what is asked when, and when it is doubted and given up."""

from math import inf
from random import Random

import pytest

from mesh.link.pulse import ASK_AGAIN_S, ASK_S, DEAD_S, KEEP, LOSS_S, MEASURE_S, PINGS_MAX, Pulse

NOW = 1000.0
RTT_S = 0.05


def measured(rtt_s: float = RTT_S, now: float = NOW) -> Pulse:
    """A connection whose first ping was answered: nothing is outstanding."""
    pulse = Pulse(rtt_s, now)
    nonce = pulse.ping_due(now)
    assert nonce is not None
    pulse.heard(now + rtt_s)
    pulse.pong(nonce, now + rtt_s)
    return pulse


def test_a_new_connection_is_measured_at_once() -> None:
    pulse = Pulse(None, NOW)
    assert pulse.deadline(NOW) <= NOW
    nonce = pulse.ping_due(NOW)
    assert nonce is not None
    assert pulse.ping_due(NOW) is None
    pulse.heard(NOW + 0.2)
    pulse.pong(nonce, NOW + 0.2)
    assert pulse.rtt_s == pulse.fastest_s == pytest.approx(0.2)


def test_round_trips_are_smoothed_and_the_fastest_is_kept() -> None:
    pulse = measured(0.1)
    nonce = pulse.ping_now(NOW + 5)
    pulse.pong(nonce, NOW + 5.5)
    assert pulse.rtt_s == pytest.approx(KEEP * 0.1 + (1 - KEEP) * 0.5)
    assert pulse.fastest_s == pytest.approx(0.1)
    nonce = pulse.ping_now(NOW + 6)
    pulse.pong(nonce, NOW + 6.02)
    assert pulse.fastest_s == pytest.approx(0.02)


def test_answers_to_other_pings_and_second_answers_measure_nothing() -> None:
    pulse = measured()
    old = pulse.ping_now(NOW + 1)
    new = pulse.ping_now(NOW + 2)
    for nonce in (old, new + 1, -1, 0):
        pulse.pong(nonce, NOW + 9)
    assert pulse.rtt_s == pytest.approx(RTT_S)
    pulse.pong(new, NOW + 2 + RTT_S)
    before = pulse.rtt_s
    pulse.pong(new, NOW + 100)
    assert pulse.rtt_s == before


def test_an_idle_connection_is_measured_now_and_then() -> None:
    pulse = measured()
    assert pulse.deadline(NOW + 1) == pytest.approx(NOW + MEASURE_S)
    assert pulse.ping_due(NOW + MEASURE_S - 0.1) is None
    assert pulse.ping_due(NOW + MEASURE_S) is not None
    assert not pulse.doubted(NOW + MEASURE_S)


def test_an_idle_connection_is_neither_doubted_nor_dead() -> None:
    pulse = measured()
    assert not pulse.doubted(NOW + 9 * DEAD_S)
    assert not pulse.dead(NOW + 9 * DEAD_S)


def test_unanswered_traffic_is_asked_about_then_doubted_then_given_up() -> None:
    pulse = measured()
    at = NOW + 2
    pulse.sent(at)
    assert pulse.deadline(at) == pytest.approx(at + ASK_S)
    assert pulse.ping_due(at + ASK_S - 0.01) is None
    assert pulse.ping_due(at + ASK_S) is not None
    assert not pulse.doubted(at + 2 * ASK_S - 0.01)
    assert pulse.deadline(at + ASK_S) == pytest.approx(at + 2 * ASK_S)
    assert pulse.doubted(at + 2 * ASK_S + 0.01)
    assert not pulse.dead(at + DEAD_S - 0.01)
    assert pulse.dead(at + DEAD_S)


def test_more_traffic_into_silence_does_not_put_the_end_off() -> None:
    pulse = measured()
    for number in range(100):
        pulse.sent(NOW + 1 + number * DEAD_S / 100)
    assert pulse.dead(NOW + 1 + DEAD_S)


def test_silence_is_asked_about_again_and_again() -> None:
    pulse = measured()
    pulse.sent(NOW + 1)
    now, asked = NOW + 1, 0
    while not pulse.dead(now):
        now = pulse.deadline(now)
        asked += pulse.ping_due(now) is not None
    assert now == pytest.approx(NOW + 1 + DEAD_S)
    assert (DEAD_S - ASK_S) / ASK_AGAIN_S - 1 <= asked <= (DEAD_S - ASK_S) / ASK_AGAIN_S + 1


@pytest.mark.parametrize("silence_s", [0.3, 0.5, 1.0, 5.9])
def test_anything_that_comes_ends_the_doubt(silence_s: float) -> None:
    pulse = measured()
    pulse.sent(NOW + 1)
    pulse.ping_due(NOW + 1 + min(silence_s, ASK_S))
    pulse.heard(NOW + 1 + silence_s)
    assert pulse.heard_at == NOW + 1 + silence_s
    assert not pulse.doubted(NOW + 1 + 10 * DEAD_S)
    assert not pulse.dead(NOW + 1 + 10 * DEAD_S)


def test_a_slow_path_is_given_two_round_trips() -> None:
    pulse = measured(1.5)
    assert pulse.patience_s == 3.0
    pulse.sent(NOW + 3)
    assert pulse.ping_due(NOW + 5.9) is None
    assert pulse.ping_due(NOW + 6) is not None
    assert not pulse.doubted(NOW + 8.9)
    assert pulse.doubted(NOW + 9)


@pytest.mark.parametrize("rtt_s", [0.001, 0.2, 0.6, 1.5, 4.0])
def test_a_path_slower_than_it_was_is_measured_anew(rtt_s: float) -> None:
    """Answers come `rtt_s` after the pings, though the connection began at RTT_S."""
    pulse, now = measured(), NOW + 1
    answers: list[tuple[float, int]] = []
    for _ in range(200):
        now = min([pulse.deadline(now), *(at for at, _ in answers[:1])])
        while answers and answers[0][0] <= now:
            _, nonce = answers.pop(0)
            pulse.heard(now)
            pulse.pong(nonce, now)
        assert not pulse.dead(now)
        if (due := pulse.ping_due(now)) is not None:
            answers.append((now + rtt_s, due))
    assert pulse.rtt_s == pytest.approx(rtt_s, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_doing_what_is_due_always_puts_the_deadline_off(seed: int) -> None:
    random, now = Random(seed), NOW
    pulse = Pulse(random.choice([None, 0.001, 3.0]), now)
    nonce = 0
    for _ in range(300):
        match random.randrange(4):
            case 0:
                pulse.sent(now)
            case 1:
                pulse.heard(now)
                pulse.pong(nonce, now)
            case 2:
                nonce = pulse.ping_now(now)
            case 3:
                pass
        if pulse.dead(now):
            pulse.heard(now)
        nonce = pulse.ping_due(now) or nonce
        due = pulse.deadline(now)
        assert now < due < inf
        now = random.choice([due, now + random.random() * (due - now)])


def test_loss_is_the_share_of_pings_that_nobody_answered() -> None:
    pulse = Pulse(RTT_S, NOW)
    assert pulse.loss(NOW) is None
    nonces = [pulse.ping_now(NOW + number) for number in range(4)]
    for place, nonce in enumerate(nonces):
        if place != 2:
            pulse.pong(nonce, NOW + place + RTT_S)
    assert pulse.loss(NOW + 4) == 0.25


def test_a_ping_that_may_still_be_answered_is_not_lost() -> None:
    pulse = Pulse(RTT_S, NOW)
    nonce = pulse.ping_now(NOW)
    assert pulse.loss(NOW + ASK_S - 0.01) is None
    assert pulse.loss(NOW + ASK_S) == 1.0
    pulse.pong(nonce, NOW + 2.0)  # late: TCP sent it again
    assert pulse.loss(NOW + 2.0) == 0.0


def test_an_answer_to_an_older_ping_is_no_loss_and_no_measurement() -> None:
    pulse = measured()
    old, _ = pulse.ping_now(NOW + 1), pulse.ping_now(NOW + 2)
    pulse.pong(old, NOW + 3)
    assert pulse.loss(NOW + 9) == pytest.approx(1 / 3)
    assert pulse.rtt_s == pytest.approx(RTT_S)


def test_loss_is_of_the_last_minute_and_of_a_bounded_number() -> None:
    pulse = Pulse(RTT_S, NOW)
    pulse.ping_now(NOW)
    assert pulse.loss(NOW + LOSS_S) == 1.0
    assert pulse.loss(NOW + LOSS_S + 0.1) is None
    for number in range(3 * PINGS_MAX):
        nonce = pulse.ping_now(NOW + LOSS_S + number * 0.01)
        if number >= 2 * PINGS_MAX:
            pulse.pong(nonce, NOW + LOSS_S + number * 0.01)
    assert pulse.loss(NOW + LOSS_S + 10) == 0.0


def test_a_link_that_loses_every_third_ping_shows_it() -> None:
    pulse, now = measured(), NOW
    for number in range(1, 13):
        now = NOW + number * LOSS_S / 12
        nonce = pulse.ping_now(now)
        if number % 3:
            pulse.heard(now + RTT_S)
            pulse.pong(nonce, now + RTT_S)
    assert pulse.loss(now + 1) == pytest.approx(1 / 3)
