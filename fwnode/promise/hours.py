"""Quiet hours by the clock on the wall, and the month that volume is counted in. Pure.

The wall clock is given, so a day of 23 or 25 hours needs no rule: an hour that comes twice is quiet twice.
"""

import re
from typing import NamedTuple

DAY_MIN = 24 * 60
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d) ?- ?([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


class WallTime(NamedTuple):
    """Local time, as far as promises go."""

    month: str  # "2026-11"
    minute: int  # since midnight


class Hours(NamedTuple):
    """From `begin` until before `end`, in minutes since midnight; over midnight when `end` is earlier."""

    begin: int
    end: int

    def hold(self, minute: int) -> bool:
        """Whether they are now."""
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def left_min(self, minute: int) -> int:
        """Until they end, on a day of 24 hours."""
        return (self.end - minute) % DAY_MIN

    def __str__(self) -> str:
        return f"{_clock(self.begin)}-{_clock(self.end)}"


def parse_hours(text: str) -> Hours | None:
    """Hours of "23:00-07:00"; None when the text is no such thing, or they never end."""
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        return None
    begin_h, begin_min, end_h, end_min = map(int, match.groups())
    hours = Hours(begin_h * 60 + begin_min, end_h * 60 + end_min)
    return hours if hours.begin != hours.end else None


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
