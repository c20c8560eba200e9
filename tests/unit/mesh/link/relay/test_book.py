"""Which pairs are granted, how their tokens live, how fast they may be."""

from random import Random

import pytest

from mesh.link.relay.book import (
    BURST_BYTES_MIN,
    BURST_S,
    PASS_BYTES_MAX,
    TOKEN_S,
    Denial,
    Denied,
    Granted,
    Paired,
    RelayBook,
    RelaySettings,
    Waiting,
)

A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))


def book(**settings: int) -> RelayBook:
    return RelayBook(RelaySettings(**settings), Random(1).randbytes, 0.0)


def granted(relay: RelayBook, origin: bytes = A, target: bytes = B, now: float = 0.0) -> Granted:
    answer = relay.ask(origin, target, now)
    assert isinstance(answer, Granted)
    return answer


def denial(relay: RelayBook, origin: bytes = A, target: bytes = B, now: float = 0.0) -> Denial:
    answer = relay.ask(origin, target, now)
    assert isinstance(answer, Denied)
    return answer.reason


def spliced(relay: RelayBook, origin: bytes = A, target: bytes = B, now: float = 0.0) -> int:
    pair = granted(relay, origin, target, now)
    relay.arrived(pair.origin_token, now)
    relay.arrived(pair.target_token, now)
    return pair.pair


def test_both_halves_make_a_pair_in_either_order() -> None:
    relay = book()
    first, second = granted(relay), granted(relay)
    assert relay.arrived(first.origin_token, 1.0) == Waiting(first.pair)
    assert relay.arrived(second.target_token, 1.0) == Waiting(second.pair)
    assert relay.spliced() == []
    assert relay.arrived(second.origin_token, 1.0) == Paired(second.pair, B)
    assert relay.arrived(first.target_token, 1.0) == Paired(first.pair, A)
    assert relay.spliced() == [(A, B), (A, B)]
    assert (relay.counters.granted, relay.counters.spliced) == (2, 2)


def test_a_token_is_good_once_and_pairs_nobody_with_itself() -> None:
    relay = book()
    pair = granted(relay)
    relay.arrived(pair.origin_token, 0.0)
    assert relay.arrived(pair.origin_token, 0.0) is None
    assert relay.counters.unknown == 1


@pytest.mark.parametrize("token", [b"", b"x" * 16, b"x" * 1000])
def test_a_guessed_token_is_unknown(token: bytes) -> None:
    relay = book()
    granted(relay)
    assert relay.arrived(token, 0.0) is None


def test_unused_tokens_expire() -> None:
    relay = book()
    pair = granted(relay)
    assert relay.arrived(pair.origin_token, TOKEN_S) is None
    assert (len(relay), relay.counters.expired) == (0, 1)


def test_the_other_half_has_its_time_after_the_first() -> None:
    relay = book()
    on_time, late = granted(relay), granted(relay)
    relay.arrived(on_time.origin_token, TOKEN_S - 1)
    relay.arrived(late.origin_token, TOKEN_S - 1)
    assert isinstance(relay.arrived(on_time.target_token, 2 * TOKEN_S - 2), Paired)
    assert relay.arrived(late.target_token, 2 * TOKEN_S - 1) is None
    assert relay.spliced() == [(A, B)]


def test_denials_are_counted_by_reason() -> None:
    relay = book(pairs_max=3, pair_per_node_max=2)
    assert denial(relay, A, A) == Denial.SELF
    pair = granted(relay)
    granted(relay)
    assert denial(relay, A, C) == Denial.NODE_FULL
    assert denial(relay, C, B) == Denial.NODE_FULL
    granted(relay, C, b"d" * 32)
    assert denial(relay, C, b"e" * 32) == Denial.FULL
    relay.close(pair.pair)
    granted(relay, C, B)
    assert denial(book(pairs_max=0)) == Denial.OFF
    assert relay.counters.denied == {Denial.SELF: 1, Denial.NODE_FULL: 2, Denial.FULL: 1}


def test_room_for_new_pairs_when_tokens_expire() -> None:
    relay = book(pairs_max=1)
    granted(relay)
    assert denial(relay, now=TOKEN_S - 1) == Denial.FULL
    granted(relay, now=TOKEN_S)


def test_forgetting_a_node_closes_its_pairs_only() -> None:
    relay = book()
    closed: list[int] = []
    relay.subscribe(closed.append)
    running, other = spliced(relay, A, B), spliced(relay, B, C)
    asked = granted(relay, C, A)
    relay.forget(A)
    assert closed == [running, asked.pair]
    assert relay.arrived(asked.origin_token, 0.0) is None
    assert relay.room(running, 0.0) == 0
    assert relay.room(other, 0.0) > 0
    relay.close(running)
    assert closed == [running, asked.pair]


def passed_in(relay: RelayBook, pairs: list[int], seconds: float) -> list[int]:
    """Bytes of pairs that always have more to pass."""
    passed, now = dict.fromkeys(pairs, 0), 0.0
    while now < seconds:
        for pair in pairs:
            count = relay.room(pair, now)
            relay.passed(pair, count)
            passed[pair] += count
        now += max(0.001, min(relay.wait_s(pair) for pair in pairs))
    assert relay.counters.bytes == sum(passed.values())
    return list(passed.values())


@pytest.mark.parametrize("bps", [64_000, 8_000_000, 4_000_000_000])
def test_a_pair_keeps_to_its_rate(bps: int) -> None:
    relay = book(total_bps=0, pair_bps=bps)
    (passed,) = passed_in(relay, [spliced(relay)], 10.0)
    burst = max(bps / 8 * BURST_S, BURST_BYTES_MIN)
    assert 0.9 * 10 * bps / 8 <= passed <= 10 * bps / 8 + burst


def test_all_pairs_together_keep_to_the_total() -> None:
    relay = book(total_bps=8_000_000, pair_bps=6_000_000)
    passed = passed_in(relay, [spliced(relay), spliced(relay, B, C)], 10.0)
    assert 9_000_000 <= sum(passed) <= 10_250_000
    assert max(passed) <= 7_700_000


def test_no_budget_is_no_limit() -> None:
    relay = book(total_bps=0, pair_bps=0)
    pair = spliced(relay)
    for _ in range(100):
        assert relay.room(pair, 0.0) == PASS_BYTES_MAX
        relay.passed(pair, PASS_BYTES_MAX)
