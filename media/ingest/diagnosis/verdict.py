"""What a rule says of a stream, and thresholds that do not flap. Pure."""

from typing import NamedTuple

from media.ingest.diagnosis.arrival import Arrival
from media.ingest.diagnosis.meter import SHORT_WINDOW, WINDOW, Meter, Total
from media.track.stream import Severity


class Verdict(NamedTuple):
    """A finding without its code."""

    severity: Severity
    message: str
    fix: str


class Subject(NamedTuple):
    """One track as its rules see it."""

    meter: Meter
    short: Total  # over SHORT_WINDOW
    long: Total  # over WINDOW
    now: float


class Scene(NamedTuple):
    """A whole publisher as rules that compare its tracks see it."""

    arrival: Arrival
    video: list[Meter]
    audio: list[Meter]
    now: float


class Step(NamedTuple):
    """A severity holds from `enter` on until the value is below `leave`."""

    severity: Severity
    enter: float
    leave: float


SEVERITIES = (Severity.INFO, Severity.WARNING, Severity.ERROR)


def subject(meter: Meter, now: float) -> Subject:
    return Subject(meter, meter.total(SHORT_WINDOW), meter.total(WINDOW), now)


def graded(value: float, steps: tuple[Step, ...], last: Severity | None) -> Severity | None:
    """The severity of `value`; `steps` begin with the worst, `last` is what it was graded before."""
    for severity, enter, leave in steps:
        held = last is not None and SEVERITIES.index(last) >= SEVERITIES.index(severity)
        if value >= (leave if held else enter):
            return severity
    return None


def many(count: int, thing: str) -> str:
    """`1 frame`, `3 frames`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def duration(seconds: float) -> str:
    """For people: `340 ms`, `2.4 s`, `15 s`."""
    if abs(seconds) < 1:
        return f"{seconds * 1_000:.0f} ms"
    return f"{seconds:.1f} s" if abs(seconds) < 100 else f"{seconds:.0f} s"
