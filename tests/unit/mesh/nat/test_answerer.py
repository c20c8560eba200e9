"""What a node's STUN server answers, how often, and what it remembers."""

import pytest

from mesh.nat.answerer import (
    ADDRESSES_MAX,
    BURST,
    PER_S,
    TOTAL_BURST,
    TOTAL_PER_S,
    StunAnswerer,
)
from mesh.nat.stun import (
    Kind,
    Type,
    encode_binding_indication,
    encode_binding_request,
    encode_binding_success,
    error_of,
    mapped_address,
    parse_stun_untrusted,
)

REQUEST = encode_binding_request(b"t" * 12, software="fwnode")
CHANGE_REQUEST = REQUEST[:2] + b"\0\x08" + REQUEST[4:20] + bytes.fromhex("0003000400000006")
HOME = "203.0.113.5:40000"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (HOME, HOME),
        ("[2001:db8::5]:7077", "[2001:db8::5]:7077"),
        ("[fe80::1%eth0]:7077", "[fe80::1]:7077"),
        ("[::ffff:203.0.113.5]:40000", HOME),
    ],
)
def test_answers_with_the_source(source: str, told: str) -> None:
    answer = StunAnswerer(0.0).answer(memoryview(REQUEST), source, 0.0)
    assert answer is not None
    parsed = parse_stun_untrusted(answer)
    assert (parsed.kind, parsed.transaction) == (Kind.SUCCESS, b"t" * 12)
    assert mapped_address(parsed) == told
    assert len(answer) <= 2 * len(REQUEST)


def test_what_must_be_understood_and_is_not() -> None:
    answerer = StunAnswerer(0.0)
    answer = answerer.answer(CHANGE_REQUEST, HOME, 0.0)
    assert answer is not None
    parsed = parse_stun_untrusted(answer)
    assert error_of(parsed) is not None
    assert parsed.first(Type.UNKNOWN_ATTRIBUTES) == b"\0\3"
    assert answerer.counters.refused == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\1",
        bytes(20),
        REQUEST[:-1],
        encode_binding_indication(b"t" * 12),
        b"\0\3" + REQUEST[2:],  # Allocate
        encode_binding_success(parse_stun_untrusted(REQUEST), HOME) or b"",
        b"\1\x11" + REQUEST[2:],
    ],
)
def test_nothing_else_is_answered_or_remembered(data: bytes) -> None:
    answerer = StunAnswerer(0.0)
    for number in range(100):
        assert answerer.answer(data, f"203.0.113.{number}:1", 0.0) is None
    assert answerer.counters.ignored == 100
    assert not answerer._spent


@pytest.mark.parametrize("source", ["", "x", "relay.example.org:1", "203.0.113.5:0", "255.255.255.255:1"])
def test_sources_that_cannot_be(source: str) -> None:
    assert StunAnswerer(0.0).answer(REQUEST, source, 0.0) is None


def test_ipv6_needs_a_longer_request() -> None:
    answerer = StunAnswerer(0.0)
    bare = encode_binding_request(b"t" * 12)
    assert answerer.answer(bare, HOME, 0.0) is not None
    assert answerer.answer(bare, "[2001:db8::5]:7077", 0.0) is None
    assert answerer.counters.too_short == 1


def answered(answerer: StunAnswerer, source: str, per_s: int, seconds: int, start: float = 0.0) -> int:
    return sum(
        answerer.answer(REQUEST, source, start + turn / per_s) is not None for turn in range(per_s * seconds)
    )


def test_ten_a_second_for_each_address() -> None:
    answerer = StunAnswerer(0.0)
    assert answered(answerer, HOME, 100, 10) == pytest.approx(BURST + 10 * PER_S, abs=1)
    assert answered(answerer, "203.0.113.5:1", 100, 1, start=10.0) == pytest.approx(PER_S, abs=1)
    assert answered(answerer, "203.0.113.6:1", 10, 5, start=11.0) == 50
    assert answerer.counters.too_fast == pytest.approx(1100 - BURST - 110, abs=2)


def test_an_ipv6_network_is_one_address() -> None:
    answerer = StunAnswerer(0.0)
    taken = sum(answerer.answer(REQUEST, f"[2001:db8::{n:x}]:1", 0.0) is not None for n in range(1, 100))
    assert taken == BURST
    assert answerer.answer(REQUEST, "[2001:db8:0:1::1]:1", 0.0) is not None


def test_forged_sources_get_a_bounded_number_of_answers_and_bounded_memory() -> None:
    answerer = StunAnswerer(0.0)
    taken, most = 0, 0
    for turn in range(40_000):  # 10,000 a second from ever new addresses
        source = f"11.{turn >> 16}.{turn >> 8 & 255}.{turn & 255}:7"
        taken += answerer.answer(REQUEST, source, turn / 10_000) is not None
        most = max(most, len(answerer._spent))
    assert taken == pytest.approx(TOTAL_BURST + 4 * TOTAL_PER_S, abs=2)
    assert most < ADDRESSES_MAX
    answerer.answer(REQUEST, HOME, 10.0)
    assert len(answerer._spent) == 1


def test_who_has_spent_its_share_is_not_forgotten_for_others() -> None:
    answerer = StunAnswerer(0.0)
    assert answered(answerer, HOME, 1000, 1) <= BURST + PER_S
    for turn in range(900):
        answerer.answer(REQUEST, f"11.0.{turn >> 8}.{turn & 255}:7", 1.0)
    assert sum(answerer.answer(REQUEST, HOME, 1.0) is not None for _ in range(20)) <= 1
