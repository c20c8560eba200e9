"""NAL units in both of their wrappings: Annex B start codes and 4-byte lengths; emulation prevention. Pure.

ITU-T H.264 annex B and 7.4.1, H.265 annex B, ISO 14496-15 5.3.4.2.
"""

import re
from collections.abc import Iterable, Iterator

from media.errors import WireError

# 8K pictures of one slice per 16 lines have about 300; broadcast encoders stay far below.
MAX_NALS = 2_048

START_CODE = b"\0\0\0\1"
_SHORT_START_CODE = b"\0\0\1"
_NEEDS_ESCAPE = re.compile(rb"\0\0(?=[\0-\3])")


def split_annexb_untrusted(data: bytes) -> list[bytes]:
    """NAL units of an Annex B byte stream, without start codes and trailing zero bytes.

    Empty units are dropped. Raises WireError when no start code begins the stream or there are
    more than MAX_NALS units.
    """
    head, *units = data.split(_SHORT_START_CODE, MAX_NALS + 1)
    if head.strip(b"\0"):
        raise WireError("an Annex B stream does not begin with a start code")
    if len(units) > MAX_NALS:
        raise WireError(f"an access unit has more than {MAX_NALS} NAL units")
    # A NAL unit never ends with a zero byte: those belong to the next start code (H.264 B.1.1).
    return [unit for unit in (unit.rstrip(b"\0") for unit in units) if unit]


def split_sample_untrusted(data: bytes) -> list[bytes]:
    """NAL units of a length-prefixed sample (4-byte lengths). Raises WireError when lengths do not add up."""
    return list(_units(data, 4))


def heads_untrusted(data: bytes, head_bytes: int, limit: int) -> Iterator[bytes]:
    """The first `head_bytes` of each of the first `limit` NAL units of a sample. Copies nothing else."""
    position, end = 0, len(data)
    for _ in range(limit):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "big")
        if position > end:
            raise WireError("a NAL unit is longer than its sample")
        if position > start:
            yield data[start : min(position, start + head_bytes)]
        if position == end:
            return


def relength_untrusted(data: bytes, length_bytes: int) -> bytes:
    """A sample whose NAL lengths have `length_bytes` bytes (1, 2 or 4) with 4-byte lengths instead."""
    return join_sample(_units(data, length_bytes))


def join_sample(units: Iterable[bytes]) -> bytes:
    """NAL units with a 4-byte length before each."""
    return b"".join([piece for unit in units for piece in (len(unit).to_bytes(4, "big"), unit)])


def join_annexb(units: Iterable[bytes]) -> bytes:
    """NAL units with a 4-byte start code before each."""
    return b"".join([piece for unit in units for piece in (START_CODE, unit)])


def annexb_to_sample_untrusted(data: bytes) -> bytes:
    return join_sample(split_annexb_untrusted(data))


def sample_to_annexb_untrusted(data: bytes) -> bytes:
    return join_annexb(split_sample_untrusted(data))


def unescape(unit: bytes) -> bytes:
    """A NAL unit's payload without emulation prevention bytes (H.264 7.3.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")


def escape(payload: bytes) -> bytes:
    """A payload with emulation prevention bytes; the inverse of `unescape` (H.264 7.4.1.1).

    The payload ends, as every RBSP does, with a byte other than zero or with zero words.
    """
    unit = _NEEDS_ESCAPE.sub(b"\0\0\3", payload)
    return unit + b"\3" if unit.endswith(b"\0\0") else unit


def _units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    position, end = 0, len(data)
    for _ in range(MAX_NALS):
        if position == end:
            return
        start = position + length_bytes
        position = start + int.from_bytes(data[position:start], "big")
        if position > end or start > end:
            raise WireError("a NAL unit is longer than its sample")
        if position > start:
            yield data[start:position]
    if position != end:
        raise WireError(f"a sample has more than {MAX_NALS} NAL units")
