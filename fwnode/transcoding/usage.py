"""Sums of what a node made and sent, as they are kept by day and told by `fwnode report`. Pure."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

Line: TypeAlias = tuple[str, str, str]  # kind, engine, rendition
MEDIA, BYTES, SENT = "transcoded_us", "transcoded_bytes", "sent_bytes"  # kinds; of SENT there is one line
MONTH_LETTERS = len("2026-01")
US_PER_MINUTE = 60_000_000


def rendition_name(side: int) -> str:
    """As people and reports call it."""
    return f"{side}p"


class Used(msgspec.Struct, frozen=True):
    """What one day had of a kind: microseconds of media, or bytes."""

    day: str  # UTC, "2026-01-31"
    kind: str
    engine: str
    rendition: str
    amount: int


def report(used: Iterable[Used], *, months: bool) -> list[dict[str, Any]]:
    """One entry for each day or month, the newest first."""
    periods: dict[str, dict[Line, int]] = {}
    for one in used:
        sums = periods.setdefault(one.day[:MONTH_LETTERS] if months else one.day, {})
        line = (one.kind, one.engine, one.rendition)
        sums[line] = sums.get(line, 0) + one.amount
    return [_period(period, sums) for period, sums in sorted(periods.items(), reverse=True)]


def _period(period: str, sums: dict[Line, int]) -> dict[str, Any]:
    made = [
        {
            "engine": engine,
            "rendition": rendition,
            "minutes": round(amount / US_PER_MINUTE, 2),
            "bytes": sums.get((BYTES, engine, rendition), 0),
        }
        for (kind, engine, rendition), amount in sorted(sums.items())
        if kind == MEDIA
    ]
    minutes = sum(amount for (kind, _, _), amount in sums.items() if kind == MEDIA) / US_PER_MINUTE
    sent = sum(amount for (kind, _, _), amount in sums.items() if kind == SENT)
    return {"period": period, "sent_bytes": sent, "transcoded_minutes": round(minutes, 2), "transcoded": made}
