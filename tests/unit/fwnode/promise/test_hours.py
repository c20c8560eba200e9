"""Quiet hours on the wall's clock: over midnight, on days of 23 and 25 hours, and what is no hours."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fwnode.promise.hours import DAY_MIN, Hours, parse_hours

BERLIN = ZoneInfo("Europe/Berlin")


def minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("23:00-07:00", ("23:00", "23:59", "00:00", "06:59"), ("07:00", "12:00", "22:59")),
        ("09:30-17:00", ("09:30", "16:59"), ("09:29", "17:00", "00:00")),
        ("00:00-23:59", ("00:00", "23:58"), ("23:59",)),
        ("23:59-00:00", ("23:59",), ("00:00", "23:58")),
    ],
)
def test_when_they_are(hours: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    found = parse_hours(hours)
    assert found is not None and str(found) == hours
    assert all(found.hold(minute(text)) for text in inside)
    assert not any(found.hold(minute(text)) for text in outside)


@pytest.mark.parametrize("text", ["", "23-7", "24:00-07:00", "7:00-8:00", "08:00-08:00", "23:00–07:00", "x"])
def test_what_is_no_hours(text: str) -> None:
    assert parse_hours(text) is None


def test_how_long_they_last() -> None:
    for hours in (Hours(1380, 420), Hours(60, 120)):
        for now in range(DAY_MIN):
            left = hours.left_min(now)
            if hours.hold(now):
                assert not hours.hold((now + left) % DAY_MIN) and hours.hold((now + left - 1) % DAY_MIN)


@pytest.mark.parametrize(("day", "quiet_h"), [((2026, 3, 28), 7), ((2026, 10, 24), 9), ((2026, 7, 1), 8)])
def test_nights_on_which_the_clock_changes(day: tuple[int, int, int], quiet_h: int) -> None:
    """The wall's clock says when they begin and end, so such a night is an hour shorter or longer."""
    hours = Hours(1380, 420)
    noon = datetime(*day, 12, tzinfo=BERLIN).timestamp()
    quiet = 0
    for passed in range(0, 24 * 60, 10):
        local = datetime.fromtimestamp(noon, BERLIN).fromtimestamp(noon + passed * 60, BERLIN)
        quiet += 10 * hours.hold(local.hour * 60 + local.minute)
    assert timedelta(minutes=quiet) == timedelta(hours=quiet_h)
