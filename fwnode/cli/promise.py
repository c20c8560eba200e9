"""What `fwnode drain`, `pause`, `resume` and `status` have in common: times, and the promise in words."""

import datetime
import re
from typing import Annotated, Any

import typer

from fwnode.cli.output import bitrate, size
from fwnode.errors import UsageError

SPAN_S_MAX = 366 * 86_400  # as the control API has it
_SPAN = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")

For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Resume by itself after so long: 90s, 30m, 2h, 1d12h."),
]


def parse_span(text: str | None) -> float | None:
    """Seconds of "1h30m"; None of None. Raises UsageError."""
    if text is None:
        return None
    match = _SPAN.fullmatch(text.strip())
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    span = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not 0 < span <= SPAN_S_MAX:
        raise UsageError(f"--for {text}: give a time such as 90s, 30m, 2h or 1d12h, up to 366d")
    return float(span)


def lines(promise: dict[str, Any]) -> list[tuple[str, str]]:
    """The promise as people read it, in rows of a name and a text."""
    budget = bitrate(promise["budget_bps"]) if promise["budget_bps"] else "no limit"
    used = f"{bitrate(promise['sent_bps'])} sent, {bitrate(promise['taken_bps'])} taken of {budget}"
    limit = f" of {size(promise['month_limit_bytes'])}" if promise["month_limit_bytes"] else ""
    found = [("uplink", used), ("month", f"{size(promise['month_bytes'])} sent{limit} in {promise['month']}")]
    if promise["quiet"]:
        found.append(("quiet", promise["quiet"]))
    if promise["streams"]:
        found.append(("serves", f"{', '.join(promise['streams'])} of other nodes"))
    if promise["state"] != "open":
        found.append(("closed", f"{promise['state']}: {promise['reason']}"))
    for role, until in sorted(promise["drain"].items()):
        found.append(("drain", f"{role}, {_until(until)}"))
    if promise["paused_until_unix_s"] is not None:
        found.append(("paused", _until(promise["paused_until_unix_s"])))
    if promise["refused"]:
        refused = ", ".join(f"{count} by {why}" for why, count in sorted(promise["refused"].items()))
        found.append(("turned away", refused))
    return found


def left(promise: dict[str, Any], roles: list[str]) -> str:
    """Who is still here of those who are drained."""
    return ", ".join(f"{promise[role]} {role}" for role in roles)


def _until(unix_s: float) -> str:
    if not unix_s:
        return "until `fwnode resume`"
    return f"until {datetime.datetime.fromtimestamp(unix_s).astimezone():%Y-%m-%d %H:%M:%S}"
