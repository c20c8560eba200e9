"""Answers that are wrong: what a fault does to the parts of a success."""

from dataclasses import replace
from random import Random

from livepeer_gateway.framing import Part

NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184  # MPEG-TS padding, which every reader skips
PADDING_BYTES = 24_000_000  # beyond any bound by bitrate and duration
GARBAGE_BYTES = 10_000
LENGTH_LIE_BYTES = 1000


def damaged(kind: str, parts: list[Part], source: bytes, random: Random) -> list[Part]:
    """The parts as a fault of this kind has them; the same list for faults that strike elsewhere."""
    *before, last = parts
    if kind == "garbage":
        return [replace(part, data=random.randbytes(GARBAGE_BYTES)) for part in parts]
    if kind == "missing":
        return before
    if kind == "doubled":
        return [*parts, last]
    if kind == "renamed":
        return [*before, replace(last, name=f"{last.name}-other")]
    if kind == "source":
        return [replace(part, data=source) for part in parts]
    if kind == "oversized":
        padding = NULL_PACKET * (PADDING_BYTES // len(NULL_PACKET))
        return [replace(part, data=part.data + padding) for part in parts]
    if kind == "wrong-length":
        return [*before, replace(last, length=len(last.data) + LENGTH_LIE_BYTES)]
    return parts
