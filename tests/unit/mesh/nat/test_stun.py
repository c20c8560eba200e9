"""STUN messages: the vectors of RFC 5769, bounds, answers that never amplify."""

import hashlib
import hmac

import pytest

from mesh.errors import Refused, WireError
from mesh.nat.stun import (
    AMPLIFICATION_MAX,
    ATTRIBUTES_MAX,
    BINDING,
    MESSAGE_BYTES_MAX,
    Attribute,
    Kind,
    StunMessage,
    Type,
    encode_binding_indication,
    encode_binding_request,
    encode_binding_success,
    encode_error,
    error_of,
    mapped_address,
    parse_stun_untrusted,
)

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
COOKIE = bytes.fromhex("2112a442")

# RFC 5769 2.1 to 2.4
REQUEST = bytes.fromhex(
    "00010058 2112a442 b7e7a701bc34d686fa87dfae"
    "80220010 5354554e207465737420636c69656e74"
    "00240004 6e0001ff"
    "80290008 932ff9b151263b36"
    "00060009 6576746a3a6836765920 2020"
    "00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004 e57a3bcf"
)
SUCCESS_V4 = bytes.fromhex(
    "0101003c 2112a442 b7e7a701bc34d686fa87dfae"
    "8022000b 7465737420766563746f7220"
    "00200008 0001a147e112a643"
    "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004 c07d4c96"
)
SUCCESS_V6 = bytes.fromhex(
    "01010048 2112a442 b7e7a701bc34d686fa87dfae"
    "8022000b 7465737420766563746f7220"
    "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014 a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004 c8fb0b4c"
)
LONG_TERM_REQUEST = bytes.fromhex(
    "00010060 2112a442 78ad3433c6ad72c029da412e"
    "00060012 e3839ee38388e383aae38383e382afe382b9 0000"
    "0015001c 662f2f3439396b39353464364f4c33346f4c39465354767936347341"
    "0014000b 6578616d706c652e6f726700"
    "00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666"
)


def message(*attributes: tuple[int, bytes], kind: int = 0x0001) -> bytes:
    body = b"".join(
        type_.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for type_, value in attributes
    )
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + COOKIE + TRANSACTION + body


def request_of(size: int, fingerprint: bool = False) -> StunMessage:
    """A request that took `size` bytes."""
    attributes = (Attribute(Type.FINGERPRINT, bytes(4)),) if fingerprint else ()
    return StunMessage(Kind.REQUEST, BINDING, TRANSACTION, attributes, size)


def integrity(data: bytes, password: bytes) -> bytes:
    """RFC 8489 14.5, for a message that ends with MESSAGE-INTEGRITY or has a fingerprint after it."""
    at = data.rindex(b"\0\x08\0\x14")
    head = data[:2] + (at + 24 - 20).to_bytes(2, "big") + data[4:at]
    return hmac.new(password, head, hashlib.sha1).digest()


# --- RFC 5769


def test_sample_request() -> None:
    parsed = parse_stun_untrusted(REQUEST)
    assert (parsed.kind, parsed.method, parsed.transaction) == (Kind.REQUEST, BINDING, TRANSACTION)
    assert parsed.size == len(REQUEST) == 108
    assert parsed.first(Type.SOFTWARE) == b"STUN test client"
    assert parsed.first(Type.USERNAME) == b"evtj:h6vY"
    assert parsed.first(Type.FINGERPRINT) == bytes.fromhex("e57a3bcf")
    assert parsed.first(Type.MESSAGE_INTEGRITY) == integrity(REQUEST, b"VOkJxbRl1RmTxUk/WvJxBt")
    assert parsed.unknown == (0x0024,)  # PRIORITY is ICE's (RFC 8445 7.1.1)


@pytest.mark.parametrize(
    ("data", "address"),
    [(SUCCESS_V4, "192.0.2.1:32853"), (SUCCESS_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")],
    ids=["v4", "v6"],
)
def test_sample_success(data: bytes, address: str) -> None:
    parsed = parse_stun_untrusted(data)
    assert (parsed.kind, parsed.transaction, parsed.unknown) == (Kind.SUCCESS, TRANSACTION, ())
    assert parsed.first(Type.SOFTWARE) == b"test vector"
    assert mapped_address(parsed) == address
    assert parsed.first(Type.MESSAGE_INTEGRITY) == integrity(data, b"VOkJxbRl1RmTxUk/WvJxBt")
    xored = next(a.value for a in parsed.attributes if a.type == Type.XOR_MAPPED_ADDRESS)
    made = encode_binding_success(request_of(28, fingerprint=True), address)
    assert made is not None
    assert parse_stun_untrusted(made).first(Type.XOR_MAPPED_ADDRESS) == xored


def test_sample_long_term_request() -> None:
    parsed = parse_stun_untrusted(LONG_TERM_REQUEST)
    username = parsed.first(Type.USERNAME)
    assert username is not None
    assert username.decode() == "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
    assert parsed.first(Type.NONCE) == b"f//499k954d6OL34oL9FSTvy64sA"
    assert parsed.first(Type.REALM) == b"example.org"
    assert parsed.unknown == ()
    key = hashlib.md5(username + b":example.org:TheMatrIX").digest()
    assert parsed.first(Type.MESSAGE_INTEGRITY) == integrity(LONG_TERM_REQUEST, key)


@pytest.mark.parametrize("data", [REQUEST, SUCCESS_V4, SUCCESS_V6], ids=["request", "v4", "v6"])
def test_a_changed_byte_breaks_the_fingerprint(data: bytes) -> None:
    for at in (*range(20, len(data) - 8), *range(len(data) - 4, len(data))):
        with pytest.raises(WireError):
            parse_stun_untrusted(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


# --- bounds


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        REQUEST[:-4],
        REQUEST + bytes(4),
        message()[:4] + bytes(4) + message()[8:],  # no cookie: RFC 3489
        b"\x40" + message()[1:],
        message()[:2] + b"\0\3" + message()[4:] + bytes(3),
        message((0x8022, bytes(MESSAGE_BYTES_MAX))),
        message(*[(0x8022, b"")] * (ATTRIBUTES_MAX + 1)),
        message((0x8022, b"abcd"))[:22] + b"\0\5" + message((0x8022, b"abcd"))[24:],
        message((0x8022, b"abcd"))[:22] + b"\xff\xff" + message((0x8022, b"abcd"))[24:],
        message((0x8028, bytes(4))),
        message((0x8028, bytes(8))),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_stun_untrusted(data)


def test_kinds_and_methods() -> None:
    for kind, first in ((0, 0x0001), (1, 0x0011), (2, 0x0101), (3, 0x0111)):
        assert parse_stun_untrusted(message(kind=first)).kind == kind
        assert parse_stun_untrusted(message(kind=first)).method == BINDING
    assert parse_stun_untrusted(message(kind=0x0003)).method == 3  # TURN Allocate
    assert parse_stun_untrusted(message(kind=0x3EEF)).method == 0xFFF


def test_nothing_after_message_integrity_is_believed() -> None:
    plain = bytes((0, 1)) + (7077).to_bytes(2, "big") + bytes((203, 0, 113, 5))
    data = message((0x0008, bytes(20)), (0x0001, plain), kind=0x0101)
    assert mapped_address(parse_stun_untrusted(data)) is None
    data = message((0x0001, plain), (0x0008, bytes(20)), kind=0x0101)
    assert mapped_address(parse_stun_untrusted(data)) == "203.0.113.5:7077"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0001",
        "00011b",
        "00031ba5cb007105",  # no such family
        "00021ba5cb007105",  # the family of the other length
        "00010000cb007105",  # port 0
        "00011ba500000000",
        "00011ba5ffffffff",
        "00011ba5e0000001",
        "00021ba500000000000000000000000000000000",
        "00011ba500000000000000000000000000000000",
    ],
)
def test_no_address(value: str) -> None:
    data = message((0x0001, bytes.fromhex(value)), kind=0x0101)
    assert mapped_address(parse_stun_untrusted(data)) is None


def test_where_an_address_is_looked_for() -> None:
    old = bytes.fromhex("00011ba5cb007105")
    new = bytes.fromhex("0001a147e112a643")
    both = parse_stun_untrusted(message((0x0001, old), (0x0020, new), (0x0020, old), kind=0x0101))
    assert mapped_address(both) == "192.0.2.1:32853"  # the first of the new kind
    only = parse_stun_untrusted(message((0x0001, old), kind=0x0101))
    assert mapped_address(only) == "203.0.113.5:7077"
    for kind in (0x0001, 0x0011, 0x0111, 0x0103):
        assert mapped_address(parse_stun_untrusted(message((0x0001, old), kind=kind))) is None


def test_a_v4_mapped_address_is_v4() -> None:
    request = request_of(100)
    made = encode_binding_success(request, "[::ffff:203.0.113.5]:7077")
    assert made is not None
    assert mapped_address(parse_stun_untrusted(made)) == "203.0.113.5:7077"
    value = bytes.fromhex("00021ba5 00000000000000000000ffff cb007105")
    assert mapped_address(parse_stun_untrusted(message((1, value), kind=0x0101))) == "203.0.113.5:7077"


# --- answers


@pytest.mark.parametrize("size", range(20, 80, 4))
@pytest.mark.parametrize("fingerprint", [False, True])
@pytest.mark.parametrize("address", ["203.0.113.5:7077", "[2001:db8::5]:7077"])
def test_answers_are_at_most_twice_the_request(size: int, fingerprint: bool, address: str) -> None:
    made = encode_binding_success(request_of(size, fingerprint), address)
    if made is None:
        assert (size, address[0]) == (20, "[")
        return
    assert len(made) <= AMPLIFICATION_MAX * size
    parsed = parse_stun_untrusted(made)
    assert mapped_address(parsed) == address
    old = parsed.first(Type.MAPPED_ADDRESS)
    if size >= 48:
        assert old is not None
        assert (parsed.first(Type.FINGERPRINT) is not None) == fingerprint


def test_the_shortest_request_gets_the_new_address_only() -> None:
    made = encode_binding_success(request_of(20), "203.0.113.5:7077")
    assert made is not None
    assert len(made) == 32
    made = encode_binding_success(request_of(24), "203.0.113.5:7077")
    assert made is not None
    assert len(made) == 44


@pytest.mark.parametrize("address", ["nonsense", "relay.example.org:1", "203.0.113.5:0"])
def test_no_such_source(address: str) -> None:
    with pytest.raises((Refused, ValueError)):
        encode_binding_success(request_of(28), address)


@pytest.mark.parametrize("count", range(1, ATTRIBUTES_MAX))
def test_errors_are_at_most_twice_the_request(count: int) -> None:
    request = parse_stun_untrusted(message(*[(0x0003 + 0x40 * i, b"") for i in range(count)]))
    made = encode_error(request, 420, "Unknown Attribute", request.unknown)
    assert len(made) <= AMPLIFICATION_MAX * request.size
    parsed = parse_stun_untrusted(made)
    assert parsed.transaction == TRANSACTION
    found = error_of(parsed)
    assert found is not None
    assert found[0] == 420
    assert found[1] in ("", "Unknown Attribute")
    named = parsed.first(Type.UNKNOWN_ATTRIBUTES)
    assert named is not None
    assert named[:2] == b"\0\3"


def test_error_of() -> None:
    assert error_of(parse_stun_untrusted(encode_error(request_of(60), 487, "R\u00f4le\n"))) == (
        487,
        "R\u00f4le",
    )
    for value in ("", "0000", "00000163", "00000704", "00000464"):
        data = message((0x0009, bytes.fromhex(value)), kind=0x0111)
        assert error_of(parse_stun_untrusted(data)) is None
    assert error_of(parse_stun_untrusted(message((0x0009, b"\0\0\4\0"), kind=0x0101))) is None
    assert error_of(parse_stun_untrusted(message((0x0009, b"\0\0\4\0\xff"), kind=0x0111))) == (400, "\ufffd")


def test_requests() -> None:
    plain = parse_stun_untrusted(encode_binding_request(TRANSACTION))
    assert (plain.kind, plain.size, plain.attributes) == (Kind.REQUEST, 20, ())
    named = parse_stun_untrusted(encode_binding_request(TRANSACTION, software="fwnode"))
    assert (named.size, named.first(Type.SOFTWARE)) == (32, b"fwnode")
    assert parse_stun_untrusted(encode_binding_indication(TRANSACTION)).kind is Kind.INDICATION
