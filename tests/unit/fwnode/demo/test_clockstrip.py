"""The burnt-in clock for programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwnode.demo.clockstrip import BLOCKS, read_levels, read_strip, strip_blocks, strip_row

NOON = 1_795_003_600_123


def plane(unix_ms: int, width: int, height: int) -> bytes:
    rows = height // 36
    return bytes(width * (height - rows)) + strip_row(unix_ms, width) * rows


@given(st.integers(0, 2**44 - 1))
def test_reads_what_was_written(unix_ms: int) -> None:
    assert read_levels([235 if bit else 16 for bit in strip_blocks(unix_ms)]) == unix_ms


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (1920, 1080), (320, 180)])
def test_reads_from_a_plane_of_any_size(width: int, height: int) -> None:
    assert read_strip(plane(NOON, width, height), width, width, height) == NOON


def test_reads_from_rows_with_padding() -> None:
    tight = plane(NOON, 640, 360)
    padded = b"".join(tight[row * 640 : (row + 1) * 640] + bytes(32) for row in range(360))
    assert read_strip(padded, 672, 640, 360) == NOON


@given(st.integers(2, BLOCKS - 3))
def test_one_wrong_bit_is_noticed(wrong: int) -> None:
    levels = [235 if bit else 16 for bit in strip_blocks(NOON)]
    levels[wrong] = 251 - levels[wrong]
    assert read_levels(levels) is None


def test_survives_noise_and_a_narrow_range() -> None:
    levels = [120 + (bit * 80) + (7 * place % 21) for place, bit in enumerate(strip_blocks(NOON))]
    assert read_levels(levels) == NOON


def test_a_picture_without_strip_gives_nothing() -> None:
    assert read_strip(bytes(640 * 360), 640, 640, 360) is None
