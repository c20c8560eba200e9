"""Unix seconds as people read them, and how wrong a clock may be."""

import datetime

# Ten minutes wrong must work wherever the claims allow it (a home machine without NTP after a night off);
# half as much again because the other clock may be wrong the other way.
CLOCK_TOLERANCE_S = 900
SHOWN_MAX = 253_402_300_799  # the end of the year 9999, the last that `datetime` knows


def moment(unix_s: float) -> str:
    """`2025-06-01 12:00 UTC`."""
    shown = datetime.datetime.fromtimestamp(min(max(unix_s, 0), SHOWN_MAX), datetime.UTC)
    return shown.strftime("%Y-%m-%d %H:%M UTC")
