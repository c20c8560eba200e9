"""Bit fields and Exp-Golomb codes."""

import pytest

from media.bitstream.bits import BitReader
from media.errors import WireError


def test_reads_fields_in_order() -> None:
    bits = BitReader(b"\xa5\x0f")
    assert (bits.u(4), bits.flag(), bits.u(3), bits.u(0), bits.u(8)) == (0xA, False, 5, 0, 0x0F)
    assert bits.left == 0


@pytest.mark.parametrize(
    ("code", "value"), [("1", 0), ("010", 1), ("011", 2), ("00100", 3), ("00111", 6), ("0001000", 7)]
)
def test_unsigned_golomb_of_the_standards_table(code: str, value: int) -> None:
    assert BitReader(int(code.ljust(8, "0"), 2).to_bytes(1, "big")).ue() == value


def test_signed_golomb_alternates() -> None:
    # 0, 1, -1, 2, -2 by codes 0 to 4
    bits = BitReader(int("101001100100001010000000", 2).to_bytes(3, "big"))
    assert [bits.se() for _ in range(5)] == [0, 1, -1, 2, -2]


@pytest.mark.parametrize("read", ["ue", "se", "uvlc", "flag"])
def test_end_of_input_is_a_wire_error(read: str) -> None:
    with pytest.raises(WireError):
        getattr(BitReader(b""), read)()


def test_golomb_code_without_end_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="too long"):
        BitReader(bytes(100)).ue()


def test_uvlc_saturates() -> None:
    assert BitReader(bytes(4) + b"\x80").uvlc() == (1 << 32) - 1


def test_align_goes_to_the_next_byte() -> None:
    bits = BitReader(b"\xff\x01")
    bits.align()
    assert bits.left == 16
    bits.skip(3)
    bits.align()
    assert bits.u(8) == 1
