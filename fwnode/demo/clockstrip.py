"""The wall clock as blocks of pixels along the picture's bottom edge, for programs to read. Pure.

64 blocks fill the width, each a 64th of it wide; the strip is a 36th of the height high (20 pixels
at 1280x720), so it is found in any scaled copy. From the left: black, white, 44 bits of
milliseconds since 1970 (most significant first, white is 1), 16 bits of CRC-16/CCITT-FALSE over
the milliseconds as 6 bytes, white, black. The four outer blocks give the threshold.
"""

import binascii
from collections.abc import Sequence

BLOCKS = 64
ROWS_IN_HEIGHT = 36
TIME_BITS = 44  # enough until the year 2527
CHECK_BITS = 16
BLACK, WHITE = 16, 235  # 8-bit limited range luma
_LEAST_CONTRAST = 60  # of luma between the outer blocks; less is no strip


def strip_blocks(unix_ms: int) -> list[bool]:
    """The blocks from left to right, True for white."""
    word = unix_ms << CHECK_BITS | _check(unix_ms)
    bits = [bool(word >> shift & 1) for shift in reversed(range(TIME_BITS + CHECK_BITS))]
    return [False, True, *bits, True, False]


def strip_row(unix_ms: int, width: int) -> bytes:
    """One row of luma; `width` is a multiple of 64."""
    block = width // BLOCKS
    black, white = bytes((BLACK,)) * block, bytes((WHITE,)) * block
    return b"".join(white if bit else black for bit in strip_blocks(unix_ms))


def read_strip(luma: bytes | bytearray | memoryview, stride: int, width: int, height: int) -> int | None:
    """Milliseconds since 1970 read from a decoded picture's luma plane; None when there is no whole strip."""
    plane = memoryview(luma).cast("B")
    y = height - height / ROWS_IN_HEIGHT / 2
    return read_levels([_level(plane, stride, (i + 0.5) * width / BLOCKS, y) for i in range(BLOCKS)])


def read_levels(levels: Sequence[float]) -> int | None:
    """Milliseconds since 1970 from the brightness of the 64 blocks, in any scale."""
    black, white = (levels[0] + levels[-1]) / 2, (levels[1] + levels[-2]) / 2
    if white - black < _LEAST_CONTRAST:
        return None
    threshold = (black + white) / 2
    word = 0
    for level in levels[2:-2]:
        word = word << 1 | (level > threshold)
    unix_ms, check = word >> CHECK_BITS, word & 0xFFFF
    return unix_ms if check == _check(unix_ms) else None


def _check(unix_ms: int) -> int:
    return binascii.crc_hqx(unix_ms.to_bytes(6, "big"), 0xFFFF)


def _level(plane: memoryview, stride: int, x: float, y: float) -> float:
    """Mean of the four pixels around a block's centre."""
    left, top = max(0, round(x) - 1), max(0, round(y) - 1)
    return sum(plane[row * stride + column] for row in (top, top + 1) for column in (left, left + 1)) / 4
