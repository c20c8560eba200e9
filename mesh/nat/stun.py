"""STUN messages (RFC 8489): encoding, parsing, and what a Binding answer says. Pure.

Only Binding is spoken. Message integrity is carried, not checked: there are no passwords here, and an answer
is believed for the transaction that it names, from the address that was asked.
"""

import ipaddress
from binascii import crc32
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from mesh.address import numeric_address, split_address
from mesh.errors import WireError

MAGIC_COOKIE = 0x2112A442  # RFC 8489 5
HEADER_BYTES = 20
TRANSACTION_BYTES = 12
MESSAGE_BYTES_MAX = 1500  # RFC 8489 6.1: a message over UDP fits a packet of its path
ATTRIBUTES_MAX = 32  # a TURN message with everything in it has about fifteen
AMPLIFICATION_MAX = 2  # an answer is at most so many times the request: nobody gains by forging its source
SOFTWARE_BYTES_MAX = 64
UNKNOWN_MAX = 8  # named in a 420
BINDING = 0x001

_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
_FINGERPRINT_XOR = 0x5354554E  # RFC 8489 14.7
_V4, _V6 = 1, 2  # RFC 8489 14.1


class Kind(IntEnum):
    """Class of a message (RFC 8489 5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


class Type(IntEnum):
    """Attributes that are known here (RFC 8489 18.3); below 0x8000 they must be understood."""

    MAPPED_ADDRESS = 0x0001
    SOURCE_ADDRESS = 0x0004  # RFC 3489 11.2.5: of old servers, nothing to understand in it
    CHANGED_ADDRESS = 0x0005  # RFC 3489 11.2.3
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    PASSWORD_ALGORITHM = 0x001D
    USERHASH = 0x001E
    XOR_MAPPED_ADDRESS = 0x0020
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    OTHER_ADDRESS = 0x802C  # RFC 5780 7.4


_KNOWN = frozenset(Type)
_REQUIRED_BELOW = 0x8000
_AFTER_INTEGRITY = frozenset((Type.MESSAGE_INTEGRITY_SHA256, Type.FINGERPRINT))


class Attribute(NamedTuple):
    """One attribute, its padding removed."""

    type: int
    value: bytes


@dataclass(frozen=True, slots=True)
class StunMessage:
    """A message. `size` is what it had on the wire; `unknown`: types that must be understood and are not."""

    kind: Kind
    method: int
    transaction: bytes
    attributes: tuple[Attribute, ...] = ()
    size: int = HEADER_BYTES

    @property
    def unknown(self) -> tuple[int, ...]:
        return tuple(a.type for a in self.attributes if a.type < _REQUIRED_BELOW and a.type not in _KNOWN)

    def first(self, kind: Type) -> bytes | None:
        """The value of the first such attribute: later ones are ignored (RFC 8489 14)."""
        return next((value for type_, value in self.attributes if type_ == kind), None)


# --- parsing


def parse_stun_untrusted(data: bytes | memoryview) -> StunMessage:
    """One datagram as a message; raises WireError. A fingerprint is checked when there is one."""
    data = bytes(data[: MESSAGE_BYTES_MAX + 1])
    if not HEADER_BYTES <= len(data) <= MESSAGE_BYTES_MAX:
        raise WireError(f"a STUN message of {len(data)} bytes or more")
    kind = int.from_bytes(data[0:2], "big")
    if kind >= 0x4000 or data[4:8] != _COOKIE:
        raise WireError("not a STUN message")
    length = int.from_bytes(data[2:4], "big")
    if length % 4 or length != len(data) - HEADER_BYTES:
        raise WireError(f"a STUN message that says {length} bytes and has {len(data) - HEADER_BYTES}")
    # RFC 8489 5: the class is bits 4 and 8, between them and around them is the method
    method = kind & 0x000F | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2
    which = Kind((kind & 0x0010) >> 4 | (kind & 0x0100) >> 7)
    return StunMessage(which, method, data[8:HEADER_BYTES], _attributes_untrusted(data), len(data))


def message_bytes_untrusted(head: bytes) -> int:
    """How long the message is that begins with these HEADER_BYTES: over TCP none says else (RFC 8489 6.2.2).

    Raises WireError for what is no beginning of a message, or of one that is too long.
    """
    size = HEADER_BYTES + int.from_bytes(head[2:4], "big")
    if len(head) < HEADER_BYTES or head[0] >= 0x40 or head[4:8] != _COOKIE or size > MESSAGE_BYTES_MAX:
        raise WireError("not a STUN message")
    return size


def _attributes_untrusted(data: bytes) -> tuple[Attribute, ...]:
    found: list[Attribute] = []
    at, count, sealed = HEADER_BYTES, 0, False
    while at < len(data):
        count += 1
        if count > ATTRIBUTES_MAX:
            raise WireError(f"a STUN message with more than {ATTRIBUTES_MAX} attributes")
        # the length is a multiple of four, so the four bytes of an attribute's head are there
        type_, size = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 4 + size + -size % 4  # padding may have any value (RFC 8489 14)
        if end > len(data):
            raise WireError("a STUN attribute reaches beyond its message")
        if type_ == Type.FINGERPRINT:
            _check_fingerprint_untrusted(data, at, end, size)
        if not sealed or type_ in _AFTER_INTEGRITY:  # RFC 8489 14.5: others there are not to be believed
            found.append(Attribute(type_, data[at + 4 : at + 4 + size]))
        sealed = sealed or type_ in (Type.MESSAGE_INTEGRITY, Type.MESSAGE_INTEGRITY_SHA256)
        at = end
    return tuple(found)


def _check_fingerprint_untrusted(data: bytes, at: int, end: int, size: int) -> None:
    if size != 4 or end != len(data):
        raise WireError("a STUN fingerprint that is not the last four bytes")
    if _fingerprint(data[:at]) != data[at + 4 :]:
        raise WireError("the STUN fingerprint is wrong")


def mapped_address(message: StunMessage) -> str | None:
    """Where a Binding success says that the request came from, "host:port"; None when it does not say.

    XOR-MAPPED-ADDRESS before the old MAPPED-ADDRESS, which some routers rewrite. None too for an address
    that no host can have.
    """
    if message.kind is not Kind.SUCCESS or message.method != BINDING:
        return None
    value = message.first(Type.XOR_MAPPED_ADDRESS)
    if value is not None:
        return _read_address(value, _COOKIE + message.transaction)
    value = message.first(Type.MAPPED_ADDRESS)
    return None if value is None else _read_address(value, bytes(16))


def other_address(message: StunMessage) -> str | None:
    """The server's second address, for those that have one (RFC 5780 7.4, RFC 3489 11.2.3)."""
    value = message.first(Type.OTHER_ADDRESS) or message.first(Type.CHANGED_ADDRESS)
    return None if value is None else _read_address(value, bytes(16))


def _read_address(value: bytes, mask: bytes) -> str | None:
    """RFC 8489 14.1 and 14.2: zero, family, port, address."""
    if len(value) not in (8, 20) or value[1] != (_V4 if len(value) == 8 else _V6):
        return None
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(mask[:2], "big")
    host = ipaddress.ip_address(_xor(value[4:], mask))
    return numeric_address(f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}") or None


def error_of(message: StunMessage) -> tuple[int, str] | None:
    """Code and reason of an error answer; the reason is fit to show."""
    value = message.first(Type.ERROR_CODE)
    if message.kind is not Kind.ERROR or value is None or len(value) < 4:
        return None
    hundreds, number = value[2] & 7, value[3]
    if not 3 <= hundreds <= 6 or number > 99:
        return None
    reason = value[4 : 4 + SOFTWARE_BYTES_MAX].decode("utf-8", "replace")
    return hundreds * 100 + number, "".join(c for c in reason if c.isprintable())


# --- encoding


def encode_binding_request(transaction: bytes, *, software: str = "") -> bytes:
    """A request; `transaction` is 12 bytes that nobody can foresee. With a name the answer may be longer."""
    return _encode(Kind.REQUEST, transaction, _software(software))


def encode_binding_indication(transaction: bytes) -> bytes:
    """A message that wants no answer: a probe that somebody asked for, or a keepalive."""
    return _encode(Kind.INDICATION, transaction, [])


def encode_binding_success(request: StunMessage, address: str) -> bytes | None:
    """The answer that `request` came from the numeric `address` "host:port".

    XOR-MAPPED-ADDRESS, then a fingerprint if the request had one, then the old MAPPED-ADDRESS, as far as the
    answer stays within AMPLIFICATION_MAX times the request. None when not even the first does: an IPv6 client
    has to send 22 bytes or more, for example with SOFTWARE. Raises Refused or ValueError for no address.
    """
    host, port = split_address(address)
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    head = bytes((0, _V6 if ip.version == 6 else _V4))
    plain = port.to_bytes(2, "big") + ip.packed
    mask = _COOKIE + request.transaction
    xored = _xor(plain[:2], mask) + _xor(plain[2:], mask)
    attributes = [Attribute(Type.XOR_MAPPED_ADDRESS, head + xored)]
    room = request.size * AMPLIFICATION_MAX - HEADER_BYTES - (4 + len(head + xored))
    if room < 0:
        return None
    marked = request.first(Type.FINGERPRINT) is not None and room >= 8
    if room - 8 * marked >= 4 + len(head + plain):
        attributes.append(Attribute(Type.MAPPED_ADDRESS, head + plain))
    return _encode(Kind.SUCCESS, request.transaction, attributes, fingerprint=marked)


def encode_error(request: StunMessage, code: int, reason: str = "", unknown: Sequence[int] = ()) -> bytes:
    """An error answer (RFC 8489 6.3.1.3, 14.8): code 300 to 699. `unknown` belongs to 420.

    Without its reason, and without some of `unknown`, where it would exceed AMPLIFICATION_MAX.
    """
    room = request.size * AMPLIFICATION_MAX - HEADER_BYTES - 8
    named = b"".join(type_.to_bytes(2, "big") for type_ in unknown[:UNKNOWN_MAX])
    named = named[: max(0, (room - 4) // 4 * 4)]
    room -= 4 + len(named) + -len(named) % 4 if named else 0
    text = reason.encode()
    text = text if len(text) + -len(text) % 4 <= room else b""
    attributes = [Attribute(Type.ERROR_CODE, bytes((0, 0, code // 100, code % 100)) + text)]
    if named:
        attributes.append(Attribute(Type.UNKNOWN_ATTRIBUTES, named))
    return _encode(Kind.ERROR, request.transaction, attributes)


def _software(name: str) -> list[Attribute]:
    return [Attribute(Type.SOFTWARE, name.encode()[:SOFTWARE_BYTES_MAX])] if name else []


def _encode(
    kind: Kind, transaction: bytes, attributes: Sequence[Attribute], *, fingerprint: bool = False
) -> bytes:
    assert len(transaction) == TRANSACTION_BYTES
    body = b"".join(
        type_.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for type_, value in attributes
    )
    first = BINDING | (kind & 1) << 4 | (kind & 2) << 7
    length = len(body) + 8 * fingerprint
    data = first.to_bytes(2, "big") + length.to_bytes(2, "big") + _COOKIE + transaction + body
    if fingerprint:
        data += Type.FINGERPRINT.to_bytes(2, "big") + b"\0\4" + _fingerprint(data)
    return data


def _fingerprint(before: bytes) -> bytes:
    """Of all bytes before the attribute, whose header already counts it (RFC 8489 14.7)."""
    return (crc32(before) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _xor(data: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, mask, strict=False))
