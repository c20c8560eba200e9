"""Control messages: what is encoded comes back, garbage and anything out of bounds raises only WireError."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.link.control import (
    ADDRESS_CHARS_MAX,
    ADDRESSES_MAX,
    CONTROL_BYTES_MAX,
    FORWARD_BYTES_MAX,
    REASON_CHARS_MAX,
    Bye,
    CallMe,
    Control,
    Forward,
    Forwarded,
    Hold,
    OpenTcp,
    Ping,
    Pong,
    RelayAsk,
    RelayDeny,
    RelayGrant,
    RelayOffer,
    TcpSide,
    Tried,
    Try,
    encode,
    parse_control_untrusted,
)

U64 = st.integers(0, 2**64 - 1)
NODE = st.binary(min_size=32, max_size=32)
TICKET = st.binary(min_size=16, max_size=16)
BODY = st.binary(max_size=FORWARD_BYTES_MAX)
ADDRESS = st.text(st.characters(max_codepoint=127), max_size=ADDRESS_CHARS_MAX)
REASON = st.text(max_size=REASON_CHARS_MAX)
MESSAGES: st.SearchStrategy[Control] = st.one_of(
    st.builds(Ping, U64),
    st.builds(Pong, U64),
    st.builds(Forward, NODE, BODY),
    st.builds(Forwarded, NODE, BODY),
    st.builds(CallMe, TICKET, st.lists(ADDRESS, max_size=ADDRESSES_MAX)),
    st.builds(RelayAsk, NODE, TICKET),
    st.builds(RelayGrant, TICKET, TICKET),
    st.builds(RelayDeny, TICKET, REASON),
    st.builds(RelayOffer, NODE, TICKET, TICKET),
    st.builds(Try, TICKET, ADDRESS),
    st.builds(Tried, TICKET, st.booleans(), REASON),
    st.builds(Bye, REASON),
    st.builds(Hold, st.booleans()),
    st.builds(OpenTcp, TICKET, st.booleans()),
    st.builds(TcpSide, TICKET, st.lists(ADDRESS, max_size=ADDRESSES_MAX)),
)
T, N = b"t" * 16, b"n" * 32


@given(MESSAGES)
def test_messages_come_back(message: Control) -> None:
    assert parse_control_untrusted(encode(message)) == message


@given(st.binary(max_size=400))
def test_garbage(data: bytes) -> None:
    try:
        parse_control_untrusted(data)
    except WireError:
        pass


@given(MESSAGES, st.integers(0, 10**6), st.binary(max_size=8))
def test_damaged(message: Control, at: int, put: bytes) -> None:
    data = bytearray(encode(message))
    at %= len(data)
    data[at : at + len(put)] = put
    try:
        parse_control_untrusted(bytes(data))
    except WireError:
        pass


@given(MESSAGES, st.integers(0, 10**6))
def test_cut(message: Control, at: int) -> None:
    data = encode(message)
    with pytest.raises(WireError):
        parse_control_untrusted(data[: at % len(data)])


JSON = st.recursive(
    st.none() | st.booleans() | U64 | st.floats() | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
)


@given(st.integers(-1, 20), st.lists(JSON, max_size=4))
def test_other_shapes(kind: int, fields: list[object]) -> None:
    try:
        parse_control_untrusted(msgspec.msgpack.encode([kind, *fields]))
    except WireError:
        pass


@pytest.mark.parametrize(
    "message",
    [
        Ping(-1),
        Forward(N, bytes(FORWARD_BYTES_MAX + 1)),
        Forward(N[:31], b""),
        CallMe(T, ["a:1"] * (ADDRESSES_MAX + 1)),
        CallMe(T, ["a" * (ADDRESS_CHARS_MAX + 1)]),
        CallMe(T[:15], []),
        OpenTcp(T + b"t", False),
        TcpSide(T, ["a:1"] * (ADDRESSES_MAX + 1)),
        TcpSide(T, ["a" * (ADDRESS_CHARS_MAX + 1)]),
        RelayAsk(N + b"n", T),
        RelayGrant(T, T + b"t"),
        RelayDeny(T, "r" * (REASON_CHARS_MAX + 1)),
        Tried(T, False, "r" * (REASON_CHARS_MAX + 1)),
    ],
)
def test_out_of_bounds(message: Control) -> None:
    with pytest.raises(WireError):
        parse_control_untrusted(encode(message))


def test_size_is_checked_before_parsing() -> None:
    with pytest.raises(WireError, match="at most"):
        parse_control_untrusted(b"\x92" * (CONTROL_BYTES_MAX + 1))


def test_the_largest_messages_fit() -> None:
    for message in (
        CallMe(T, ["a" * ADDRESS_CHARS_MAX] * ADDRESSES_MAX),
        Forward(N, bytes(FORWARD_BYTES_MAX)),
    ):
        assert parse_control_untrusted(encode(message)) == message
