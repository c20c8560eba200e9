"""Which renditions a source gets: from the operator's words and from what the source is. Pure.

The source itself is always the first choice of viewers and is never touched. A rung is smaller than
the source: nothing is enlarged, and nothing of the source's own size is made again, except for a
codec that few players have. Sizes are named by the short side, so `720p` of an upright picture is
720 wide. Bitrates are those of 30 pictures a second.
"""

import re
from fractions import Fraction
from typing import Literal

import msgspec

from media.track.model import Codec

RUNGS_MAX = 6  # guess: more than anybody watches; each costs an encoder
SHORT_SIDE_MIN, SHORT_SIDE_MAX = 144, 2160
BPS_MIN, BPS_MAX = 50_000, 60_000_000
FPS_MIN, FPS_MAX = 1, 240
LOW_SHORT_SIDE = 480  # up to here pictures that move fast are not worth their bits: 30 a second
LOW_FPS, HIGH_FPS = 30, 60
AUTO_SIDES = (1080, 720, 480, 360)  # what "auto" makes of larger sources; at most AUTO_RUNGS
AUTO_RUNGS = 3
LEAST_STEP = 0.85  # a rung whose side is more than this part of the source's is not worth making
SOURCE_SHARE = 0.9  # of the source's bitrate at equal size, more would be wasted
AREA_EXPONENT = 0.75  # bits grow slower than the picture's area
HIGH_FPS_SHARE = 1.4  # bits of 60 pictures a second, those of 30 being 1
KEEP_SLACK = 0.9  # timestamps in whole milliseconds make 60 pictures a second look like 62

# Bits/s at 30 pictures a second by short side: the middle of what the large services recommend.
USUAL_BPS = (
    (2160, 16_000_000),
    (1440, 9_000_000),
    (1080, 4_500_000),
    (720, 2_500_000),
    (480, 1_200_000),
    (360, 700_000),
    (240, 400_000),
    (144, 200_000),
)
COMMON = frozenset((Codec.H264,))  # what every player decodes

_ENTRY = re.compile(
    r"(?P<side>\d{2,4})p(?P<fps>\d{1,3})?(?:@(?P<rate>\d+(?:\.\d+)?)(?P<unit>[kKmM]))?(?:/(?P<codec>[a-z0-9]+))?"
)
_SHAPE = '"720p", "720p@2500k" or "720p30@2.5m"'


class Rung(msgspec.Struct, frozen=True):
    """One rendition that is wanted. 0: decided from the source."""

    side: int  # pixels of the short side
    bps: int = 0
    fps: int = 0  # at most so many pictures a second


class Policy(msgspec.Struct, frozen=True):
    """What the operator wants: nothing, what fits the source, or these rungs."""

    mode: Literal["off", "auto", "list"] = "off"
    rungs: tuple[Rung, ...] = ()  # largest first


class SourceVideo(msgspec.Struct, frozen=True):
    """The picture that comes in. 0 where it is not known."""

    codec: Codec
    width: int
    height: int
    fps: float = 0.0
    bps: int = 0


class PlannedRung(msgspec.Struct, frozen=True):
    """A rendition to make. `fps` is the most, pictures beyond it are left out."""

    side: int
    width: int
    height: int
    bps: int
    fps: int


class Plan(msgspec.Struct, frozen=True):
    """The renditions of one source, largest first; `reason` says why there are none."""

    rungs: tuple[PlannedRung, ...] = ()
    reason: str = ""


def parse_policy(text: str) -> Policy:
    """The setting `transcode.ladder`. Raises ValueError, whose text names the entry that is wrong."""
    word = text.strip()
    if word in ("off", ""):
        return Policy("off")
    if word == "auto":
        return Policy("auto")
    entries = [entry.strip() for entry in word.split(",")]
    if len(entries) > RUNGS_MAX:
        raise ValueError(f"{len(entries)} rungs: at most {RUNGS_MAX}")
    rungs = [_parse_rung(entry) for entry in entries]
    sides = [rung.side for rung in rungs]
    for entry, side in zip(entries, sides, strict=True):
        if sides.count(side) > 1:
            raise ValueError(f'"{entry}": there are two rungs of {side}p')
    return Policy("list", tuple(sorted(rungs, key=lambda rung: -rung.side)))


def plan(policy: Policy, source: SourceVideo) -> Plan:
    """The rungs for a source of known size."""
    if policy.mode == "off":
        return Plan()
    side = min(source.width, source.height)
    if side < 2:
        return Plan(reason="the source does not say how large its picture is")
    again = source.codec not in COMMON  # its own size once more, in a codec that every player has
    rungs = policy.rungs if policy.mode == "list" else _automatic(side, again)
    fitting = [rung for rung in rungs if rung.side < side or (rung.side == side and again)]
    if not fitting:
        return Plan(reason=f"the source is {side}p, no rung of the ladder is smaller")
    return Plan(tuple(_planned(rung, source) for rung in fitting))


def fitted(side: int, width: int, height: int, aspect: Fraction = Fraction(1)) -> tuple[int, int]:
    """Even width and height of square pixels, `side` the short one; never larger than the source.

    `aspect` is that of the source's pixels.
    """
    wide, high = Fraction(width), Fraction(height)
    if aspect > 1:
        high /= aspect
    else:
        wide *= aspect
    scale = min(Fraction(1), side / min(wide, high))
    return max(2, round(wide * scale / 2) * 2), max(2, round(high * scale / 2) * 2)


def least_step(fps: int, timescale: int) -> int:
    """Ticks that two pictures of a rung are apart at least."""
    return int(KEEP_SLACK * timescale / fps)


def thinned(source_fps: float, fps: int) -> Fraction:
    """Pictures a second that are left of a steady source: every one, every second, every third..."""
    every = 1
    while every < FPS_MAX and every / source_fps < KEEP_SLACK / fps:
        every += 1
    return Fraction(source_fps).limit_denominator(1001) / every


def _automatic(side: int, again: bool) -> tuple[Rung, ...]:
    smaller = [Rung(each) for each in AUTO_SIDES if each <= side * LEAST_STEP]
    if again and side <= max(AUTO_SIDES):
        smaller.insert(0, Rung(side))
    return tuple(smaller[:AUTO_RUNGS])


def _planned(rung: Rung, source: SourceVideo) -> PlannedRung:
    width, height = fitted(rung.side, source.width, source.height)
    fps = rung.fps or (LOW_FPS if rung.side <= LOW_SHORT_SIDE else HIGH_FPS)
    bps = rung.bps or _usual_bps(rung.side, min(source.fps or LOW_FPS, fps))
    if not rung.bps and source.bps:
        share = Fraction(width * height, source.width * source.height)
        bps = min(bps, round(source.bps * SOURCE_SHARE * float(share) ** AREA_EXPONENT))
    return PlannedRung(rung.side, width, height, max(BPS_MIN, bps), fps)


def _usual_bps(side: int, fps: float) -> int:
    """Between the sizes of the table bits go with the area."""
    above, base = min((row for row in USUAL_BPS if row[0] >= side), default=USUAL_BPS[0])
    bps: float = base * (side / above) ** (2 * AREA_EXPONENT)
    return round(bps * (HIGH_FPS_SHARE if fps > 1.2 * LOW_FPS else 1))


def _parse_rung(entry: str) -> Rung:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise ValueError(f'"{entry}" is no rung: write {_SHAPE}, "auto" or "off"')
    if found["codec"] not in (None, "h264"):
        raise ValueError(f'"{entry}": only h264 can be made here')
    side, fps = int(found["side"]), int(found["fps"] or 0)
    bps = round(float(found["rate"] or 0) * (1000 if (found["unit"] or "k") in "kK" else 1_000_000))
    if not SHORT_SIDE_MIN <= side <= SHORT_SIDE_MAX:
        raise ValueError(f'"{entry}": from {SHORT_SIDE_MIN}p to {SHORT_SIDE_MAX}p')
    if found["fps"] and not FPS_MIN <= fps <= FPS_MAX:
        raise ValueError(f'"{entry}": from {FPS_MIN} to {FPS_MAX} pictures a second')
    if found["rate"] and not BPS_MIN <= bps <= BPS_MAX:
        raise ValueError(f'"{entry}": from {BPS_MIN // 1000}k to {BPS_MAX // 1_000_000}m')
    return Rung(side, bps, fps)
