"""One picture for each scenario, as SVG that is readable on light and on dark pages. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL, TOP, LEFT, RIGHT, GAP, BOTTOM = 880, 190, 86, 84, 156, 58, 44
LIGHT = {"a": "#0969da", "b": "#bc4c00", "c": "#8250df", "d": "#9a6700", "e": "#6e7781"}
DARK = {"a": "#4493f8", "b": "#f0883e", "c": "#ab7df8", "d": "#d29922", "e": "#9198a1"}
FONT = "12.5px system-ui,sans-serif"
CLASSES = {"fwnode": "a", "nearest": "b", "random": "c", "mist": "d", "perfect": "e"}
LABELS = {
    "fwnode": "fwnode",
    "nearest": "nearest only",
    "random": "random",
    "mist": "MistServer's weights",
    "perfect": "best possible",
}
LABEL_STEP = 15.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time, for each policy; `mark` is a value to stay below."""

    title: str
    unit: str
    lines: dict[str, list[tuple[float, float]]]
    low: float
    high: float
    mark: float | None = None


def draw(title: str, subtitle: str, panels: Sequence[Panel], event: tuple[float, float, str] | None) -> str:
    """The whole picture. All panels share the time axis; values are on logarithmic ones."""
    end = max(when for panel in panels for line in panel.lines.values() for when, _ in line)
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    body = [
        f'<rect class="bg" width="{WIDTH}" height="{height}" rx="8"/>',
        _text(20, 30, title, "t ink"),
        _text(20, 50, subtitle, "s dim"),
    ]
    for number, panel in enumerate(panels):
        body += _panel(panel, TOP + number * (PANEL + GAP), end, event, named=number == 0)
    y = height - 14
    body += [_text(_x(when, end), y, f"{when / 60:g} min", "s dim", "middle") for when in _minutes(end)]
    inside = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{_style()}</style>\n{inside}\n</svg>\n'
    )


def _style() -> str:
    rules = [
        f".t{{font:600 15px system-ui,sans-serif}}.s{{font:{FONT}}}.l{{font:600 {FONT}}}",
        ".grid,.mark{stroke-width:1}.mark{stroke-dasharray:4 3}.event{fill:#818b98;opacity:.16}",
        ".line{fill:none;stroke-width:2;stroke-linejoin:round}.a.line{stroke-width:3}",
        _colours(LIGHT, "#ffffff", "#1f2328", "#59636e", "#d1d9e0"),
        f"@media (prefers-color-scheme:dark){{{_colours(DARK, '#0d1117', '#f0f6fc', '#9198a1', '#3d444d')}}}",
    ]
    return "\n".join(rules)


def _colours(lines: dict[str, str], page: str, ink: str, dim: str, grid: str) -> str:
    fixed = (
        f".bg{{fill:{page}}}.ink{{fill:{ink}}}.dim{{fill:{dim}}}.grid{{stroke:{grid}}}.mark{{stroke:{dim}}}"
    )
    return fixed + "".join(f".{key}{{stroke:{at}}}.{key}f{{fill:{at}}}" for key, at in lines.items())


def _panel(
    panel: Panel, top: float, end: float, event: tuple[float, float, str] | None, *, named: bool
) -> list[str]:
    def y(value: float) -> float:
        value = min(panel.high, max(panel.low, value))
        share = math.log(value / panel.low) / math.log(panel.high / panel.low)
        return top + PANEL * (1 - share)

    body = [_text(LEFT, top - 12, panel.title, "l ink")]
    if event is not None:
        begin, until, what = event
        x, wide = _x(begin, end), max(3.0, _x(until, end) - _x(begin, end))
        body.append(f'<rect class="event" x="{x:.1f}" y="{top}" width="{wide:.1f}" height="{PANEL}"/>')
        if named:
            body.append(_text(x + 6, top + 14, what, "s dim"))
    for value in _ticks(panel.low, panel.high):
        body.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        body.append(_text(LEFT - 8, y(value) + 4, f"{value:,g}{panel.unit}", "s dim", "end"))
    if panel.mark is not None:
        body.append(f'<path class="mark" d="M{LEFT} {y(panel.mark):.1f}H{WIDTH - RIGHT}"/>')
    ends = []
    for policy, line in reversed(panel.lines.items()):  # the first is drawn on top
        path = "L".join(f"{_x(when, end):.1f} {y(value):.1f}" for when, value in line)
        body.append(f'<path class="line {CLASSES[policy]}" d="M{path}"/>')
        ends.append((y(line[-1][1]), policy))
    for at, policy in _apart(ends):
        body.append(_text(WIDTH - RIGHT + 8, at + 4, LABELS[policy], f"s {CLASSES[policy]}f"))
    return body


def _apart(ends: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Labels beside the ends of lines, moved down where they would overlap, and all up again by half."""
    placed: list[tuple[float, str]] = []
    for at, policy in sorted(ends):
        last = placed[-1][0] if placed else -math.inf
        placed.append((max(at, last + LABEL_STEP), policy))
    return placed


def _x(when: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * when / end


def _minutes(end: float) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 60, 600) if end / 60 / step <= 8)
    return [60.0 * step * number for number in range(int(end / 60 / step) + 1)]


def _ticks(low: float, high: float) -> list[float]:
    values = [base * 10.0**power for power in range(-2, 6) for base in (1, 2, 5)]
    few = [value for value in values if low <= value <= high]
    return few if len(few) <= 7 else [value for value in few if math.log10(value).is_integer()]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
