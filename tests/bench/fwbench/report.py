"""Rows as a terminal table and as Markdown. Pure."""

from collections.abc import Iterable, Mapping

from fwbench.summary import Check, RowResult, Spread, significant


def cell(spread: Spread | None) -> str:
    """`median (low–high)`, or the value alone when all rounds agree in three digits."""
    if spread is None:
        return "-"
    median, low, high = (significant(value) for value in (spread.median, spread.low, spread.high))
    return median if low == high else f"{median} ({low}–{high})"


def verdict(check: Check) -> str:
    mark = "met" if check.met else "MISSED"
    return f"{mark}: {check.label} {cell(check.value)}, target ≤ {significant(check.limit)}"


def table(result: RowResult) -> tuple[list[str], list[list[str]]]:
    """Header and body: one line for each side, one column for each figure that any side has."""
    shown = [
        column for column in result.columns if any(result.spread(side, column.key) for side in result.sides)
    ]
    header = ["", *(column.label for column in shown)]
    body = [[side, *(cell(result.spread(side, column.key)) for column in shown)] for side in result.sides]
    return header, body


def markdown(results: Iterable[RowResult], machine: Mapping[str, object]) -> str:
    parts = [_machine(machine)]
    parts.extend(_row(result) for result in results)
    return "\n\n".join(parts) + "\n"


def _machine(machine: Mapping[str, object]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in machine.items())


def _row(result: RowResult) -> str:
    lines = [f"### `{result.name}`: {result.title}", ""]
    if result.skipped:
        return "\n".join([*lines, f"Not run: {result.skipped}"])
    header, body = table(result)
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|---|" + "---:|" * (len(header) - 1))
    lines.extend("| " + " | ".join(line) + " |" for line in body)
    lines.append("")
    lines.extend(f"- {verdict(check)}" for check in result.checks())
    lines.extend(f"- {note}" for note in result.notes)
    return "\n".join(lines)
