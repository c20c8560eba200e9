"""Writes small MMDB files (MaxMind DB file format 2.0), so that tests need no real database."""

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"
SEPARATOR = bytes(16)


def city(latitude: float, longitude: float, country: str, name: str = "", radius: int = 20) -> dict[str, Any]:
    """A record as GeoIP2 City has them."""
    record: dict[str, Any] = {
        "country": {"iso_code": country},
        "location": {"latitude": latitude, "longitude": longitude, "accuracy_radius": radius},
    }
    return record | ({"city": {"names": {"en": name}}} if name else {})


def write(
    records: Mapping[str, Any], kind: str = "Test-City", built_unix_s: int = 1_760_000_000, version: int = 6
) -> bytes:
    """A database of `records` by network, none of which may lie in another."""
    nodes: list[list[int | None]] = [[None, None]]
    data = b""
    leaves: list[tuple[int, int, int]] = []
    for network, record in records.items():
        bits = _bits(network, version)
        at = 0
        for bit in bits[:-1]:
            following = nodes[at][bit]
            if following is None:
                nodes.append([None, None])
                following = nodes[at][bit] = len(nodes) - 1
            at = following
        leaves.append((at, bits[-1], len(data)))
        data += encode(record)
    for at, bit, offset in leaves:
        nodes[at][bit] = len(nodes) + len(SEPARATOR) + offset
    tree = b"".join(struct.pack(">II", *(len(nodes) if side is None else side for side in n)) for n in nodes)
    metadata = {
        "node_count": _integer(6, len(nodes)),
        "record_size": _integer(5, 32),
        "ip_version": _integer(5, version),
        "database_type": encode(kind),
        "languages": encode(["en"]),
        "binary_format_major_version": _integer(5, 2),
        "binary_format_minor_version": _integer(5, 0),
        "build_epoch": _integer(9, built_unix_s),
        "description": encode({"en": "made by a test"}),
    }
    fields = b"".join(encode(name) + value for name, value in metadata.items())
    return tree + SEPARATOR + data + MARKER + _control(7, len(metadata)) + fields


def encode(value: Any) -> bytes:
    """One value of the data section."""
    if isinstance(value, str):
        text = value.encode()
        return _control(2, len(text)) + text
    if isinstance(value, bool):
        return _control(14, int(value))
    if isinstance(value, float):
        return _control(3, 8) + struct.pack(">d", value)
    if isinstance(value, int):
        return _integer(6, value)
    if isinstance(value, Mapping):
        return _control(7, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    return _control(11, len(value)) + b"".join(map(encode, value))


def _integer(kind: int, value: int) -> bytes:
    """Unsigned: kind 5 has up to 16 bits, 6 up to 32, 9 up to 64. Readers insist on the kind in metadata."""
    number = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(kind, len(number)) + number


def _control(kind: int, size: int) -> bytes:
    """The control byte of a field, with the type's and the size's extra bytes."""
    extended = bytes([kind - 7]) if kind > 7 else b""
    first = (0 if kind > 7 else kind) << 5
    if size < 29:
        return bytes([first | size]) + extended
    if size < 285:
        return bytes([first | 29]) + extended + bytes([size - 29])
    return bytes([first | 30]) + extended + struct.pack(">H", size - 285)


def _bits(network: str, version: int) -> list[int]:
    """The path from the root. IPv4 networks lie below ::/96 in a tree of IPv6."""
    parsed = ipaddress.ip_network(network)
    width, length = parsed.max_prefixlen, parsed.prefixlen
    number = int(parsed.network_address)
    bits = [number >> (width - 1 - i) & 1 for i in range(length)]
    return ([0] * 96 if version == 6 and parsed.version == 4 else []) + bits
