"""AMF0 and AMF3 values, and the limits on them."""

import struct

import pytest

from media.container.amf import (
    MAX_DEPTH,
    MAX_STRING_BYTES,
    MAX_VALUES,
    EcmaArray,
    Value,
    decode_untrusted,
    encode,
)
from media.errors import WireError


def test_amf0_values_as_written() -> None:
    assert encode("live", 1.0, True, None) == bytes.fromhex("0200046c697665 003ff0000000000000 0101 05")
    assert encode({"a": "b"}) == bytes.fromhex("03 000161 02000162 000009")
    assert encode(EcmaArray({"a": 1})) == bytes.fromhex("08 00000001 000161 003ff0000000000000 000009")
    assert encode([None, False]) == bytes.fromhex("0a 00000002 05 0100")


def test_amf0_values_that_we_only_read() -> None:
    data = bytes.fromhex("06 0d 0b 4197d78400000000 0000 0f 00000003 3c612f 10 0001 43 000161 05 000009")
    assert decode_untrusted(data) == [None, None, 100_000_000.0, "<a/", {"a": None}]


def test_a_long_string_is_written_as_one() -> None:
    text = "x" * MAX_STRING_BYTES
    assert encode(text)[0] == 0x0C
    assert decode_untrusted(encode(text)) == [text]


def test_references_read_as_null() -> None:
    assert decode_untrusted(encode({"a": 1.0}) + b"\x07\0\0") == [{"a": 1.0}, None]
    with pytest.raises(WireError, match="nothing"):
        decode_untrusted(b"\x07\0\0")


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert decode_untrusted(b"\x02\0\x02\xff\xfe") == ["\ufffd\ufffd"]


def three(*parts: bytes) -> Value:
    return decode_untrusted(b"\x11" + b"".join(parts))[0]


def test_amf3_scalars() -> None:
    assert [three(bytes((marker,))) for marker in (0, 1, 2, 3)] == [None, None, False, True]
    assert three(b"\x04\x7f") == 127.0
    assert three(b"\x04\x81\x00") == 128.0
    assert three(b"\x04\xff\xff\xff\xff") == -1.0
    assert three(b"\x05", struct.pack(">d", 2.5)) == 2.5
    assert three(b"\x06\x09live") == "live"
    assert three(b"\x08\x01", struct.pack(">d", 5.0)) == 5.0
    assert three(b"\x0c\x07abc") == b"abc"
    assert three(b"\x07\x07<a>") == "<a>"


def test_amf3_arrays() -> None:
    assert three(b"\x09\x05\x01\x04\x01\x04\x02") == [1.0, 2.0]
    assert three(b"\x09\x03\x03k\x06\x03v\x01\x04\x05") == {"k": "v", "0": 5.0}


def test_amf3_objects_with_sealed_and_dynamic_members_and_traits_by_reference() -> None:
    array = b"\x09\x05\x01"
    first = b"\x0a\x1b\x03C\x03a\x04\x01" + b"\x03b\x04\x02" + b"\x01"  # class C: sealed a, dynamic
    second = b"\x0a\x01" + b"\x04\x03" + b"\x01"  # the same traits again
    assert three(array, first, second) == [{"a": 1.0, "b": 2.0}, {"a": 3.0}]


def test_amf3_strings_by_reference() -> None:
    assert three(b"\x09\x05\x01", b"\x06\x05hi", b"\x06\x00") == ["hi", "hi"]


def test_amf3_vectors_and_dictionaries() -> None:
    assert three(b"\x0d\x05\x00\xff\xff\xff\xff\0\0\0\x02") == [-1.0, 2.0]
    assert three(b"\x0e\x03\x00\xff\xff\xff\xff") == [4294967295.0]
    assert three(b"\x0f\x03\x00", struct.pack(">d", 1.5)) == [1.5]
    assert three(b"\x10\x03\x00\x01\x06\x03x") == ["x"]
    assert three(b"\x11\x03\x00\x06\x03k\x04\x07") == {"k": 7.0}
    with pytest.raises(WireError, match="key"):
        three(b"\x11\x03\x00\x09\x01\x01\x04\x07")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01", b"\x01", b"\x02\0\x05ab", b"\x03\0\x01a", b"\x03\0\0", b"\x08\0\0",
        b"\x0a\0\0\0\x02\x05", b"\x0b\0", b"\x0c\0\0\0\x05a", b"\x04", b"\x0e", b"\xff",
        b"\x11", b"\x11\x04\x80", b"\x11\x0a\x07\x01",
        b"\x11\x0a\x02", b"\x11\x0a\x01", b"\x11\x06\x02", b"\x11\x0c\xff", b"\x11\x0d\xff\xff\xff\xff\0",
        b"\x11\x09\x02", b"\x11\x12", b"\x11\x0a\xff\xff\xff\xf3\x01",
    ],
)  # fmt: skip
def test_damage_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_untrusted(data)


def nested(depth: int) -> bytes:
    return b"\x03\0\x01a" * depth + b"\x05" + b"\0\0\x09" * depth


def test_depth_is_bounded() -> None:
    assert decode_untrusted(nested(MAX_DEPTH))
    for data in (nested(MAX_DEPTH + 1), b"\x03\0\x01a" * 1000, b"\x0a\0\0\0\x01" * 1000):
        with pytest.raises(WireError, match="deep"):
            decode_untrusted(data)
    with pytest.raises(WireError, match="deep"):
        decode_untrusted(b"\x11" + b"\x09\x03\x01" * 1000)


def test_counts_and_lengths_are_bounded() -> None:
    with pytest.raises(WireError, match="values"):
        decode_untrusted(b"\x05" * (MAX_VALUES + 1))
    with pytest.raises(WireError, match="values"):
        decode_untrusted(b"\x0a\xff\xff\xff\xff" + b"\x05" * (MAX_VALUES + 1))
    with pytest.raises(WireError, match="string"):
        decode_untrusted(b"\x0c\x7f\xff\xff\xff" + b"a")
    with pytest.raises(WireError, match="values"):
        decode_untrusted(b"\x11\x0f\xff\xff\xff\xff\0")
