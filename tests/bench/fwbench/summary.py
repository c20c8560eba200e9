"""Samples of repeated runs, their medians and ranges, and how they stand to a target. Pure."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if not values:
            raise ValueError("no values")
        return cls(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed (nearest rank)."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def significant(value: float) -> str:
    """Three significant digits without an exponent; infinities and NaN by name."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a row's table."""

    key: str
    label: str  # with its unit


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure may be at most. With `beside`, the figure is a ratio to that side in the same round."""

    side: str
    key: str
    limit: float
    label: str
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A target beside what was measured. `met` is judged on the median."""

    label: str
    limit: float
    value: Spread
    met: bool


@dataclass(slots=True)
class RowResult:
    """All rounds of one row: `sides` maps the side measured to one sample for each round."""

    name: str
    title: str
    columns: Sequence[Column]
    targets: Sequence[Target]
    sides: dict[str, list[Sample]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    def add(self, side: str, sample: Sample) -> None:
        self.sides.setdefault(side, []).append(sample)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def spread(self, side: str, key: str) -> Spread | None:
        values = [sample[key] for sample in self.sides.get(side, []) if key in sample]
        return Spread.of(values) if values else None

    def checks(self) -> list[Check]:
        found = (self._check(target) for target in self.targets)
        return [check for check in found if check is not None]

    def _check(self, target: Target) -> Check | None:
        ours = self.sides.get(target.side, [])
        if target.beside:
            values = ratios(ours, self.sides.get(target.beside, []), target.key)
        else:
            values = [sample[target.key] for sample in ours if target.key in sample]
        if not values:
            return None
        spread = Spread.of(values)
        return Check(target.label, target.limit, spread, spread.median <= target.limit)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "RowResult":
        """What `as_json` made; its checks are judged anew."""
        columns = [Column(**column) for column in stored["columns"]]
        targets = [Target(**target) for target in stored["targets"]]
        rest = {key: stored[key] for key in ("sides", "notes", "skipped")}
        return cls(stored["name"], stored["title"], columns, targets, **rest)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "title": self.title,
            "skipped": self.skipped,
            "notes": self.notes,
            "columns": [asdict(column) for column in self.columns],
            "targets": [asdict(target) for target in self.targets],
            "sides": self.sides,
            "checks": [asdict(check) for check in self.checks()],
        }


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample], key: str) -> list[float]:
    """Round by round ours ÷ theirs: what disturbed the machine in a round disturbed both."""
    pairs = zip(ours, theirs, strict=False)
    return [a[key] / b[key] for a, b in pairs if key in a and b.get(key, 0) > 0]


def interleave(sides: Sequence[str], rounds: int, run: Callable[[str, int], None]) -> None:
    """Run every side once a round, turning the order about each round so that none is always first."""
    for number in range(rounds):
        for side in sides if number % 2 == 0 else tuple(reversed(sides)):
            run(side, number)
