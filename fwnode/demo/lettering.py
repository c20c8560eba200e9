"""Letters drawn as strokes with smooth edges: no font file, any size. Pure."""

import itertools
import math

Point = tuple[float, float]

# Each stroke is a list of points on a grid 4 wide and 6 high, two digits a point; `~` rounds the corners.
_STROKES: dict[str, tuple[str, ...]] = {
    "0": ("~204046060020",),
    "1": ("112026",),
    "2": ("~0200404306", "0646"),
    "3": ("~01004023", "~2343460605"),
    "4": ("36300444",),
    "5": ("400003", "~034246464606"),
    "6": ("~400004", "~224246060222"),
    "7": ("004016",),
    "8": ("~204043030020", "~234346060323"),
    "9": ("~204044040020", "~064642"),
    "A": ("062046", "1434"),
    "B": ("0006", "~00404303", "~03434606"),
    "C": ("~414000064645",),
    "D": ("0006", "~00404606"),
    "E": ("40000646", "0333"),
    "F": ("400006", "0333"),
    "G": ("~414000064643", "4323"),
    "H": ("0006", "4046", "0343"),
    "I": ("2026",),
    "J": ("~40460604",),
    "K": ("0006", "400346"),
    "L": ("000646",),
    "M": ("0600234046",),
    "N": ("06004640",),
    "O": ("~204046060020",),
    "P": ("0006", "~00404303"),
    "Q": ("~204046060020", "2446"),
    "R": ("0006", "~00404303", "2346"),
    "S": ("~4140000343460605",),
    "T": ("0040", "2026"),
    "U": ("~00064640",),
    "V": ("002640",),
    "W": ("0016223640",),
    "X": ("0046", "4006"),
    "Y": ("002340", "2326"),
    "Z": ("00400646",),
    ":": ("2222", "2525"),
    ".": ("2626",),
    "-": ("1333",),
    "+": ("0343", "2125"),
    "_": ("0646",),
    "/": ("0640",),
    "×": ("0245", "4205"),
}
_ROUNDING = 3  # corner cuts: three make a curve that looks round at 100 pixels


def draw_letter(letter: str, width: int, height: int, stroke: float) -> bytes:
    """Coverage, 0 to 255 a pixel, of one letter in a box of `width` by `height` pixels; blank if unknown.

    `stroke` is the line's thickness in pixels; the letter's outline stays inside the box.
    """
    coverage = bytearray(width * height)
    inset = stroke * 0.7 + 0.5
    scale_x, scale_y = (width - 2 * inset) / 4, (height - 2 * inset) / 6
    for path in _STROKES.get(letter.upper(), ()):
        points = [(inset + x * scale_x, inset + y * scale_y) for x, y in _points(path)]
        for start, end in itertools.pairwise(points):
            radius = stroke / 2 if start != end else stroke * 0.7  # a dot as thin as a line looks lost
            _draw_segment(coverage, width, height, start, end, radius)
    return bytes(coverage)


def _points(path: str) -> list[Point]:
    digits = path.removeprefix("~")
    points = [(float(digits[i]), float(digits[i + 1])) for i in range(0, len(digits), 2)]
    if path.startswith("~"):
        for _ in range(_ROUNDING):
            points = _cut_corners(points)
    return points


def _cut_corners(points: list[Point]) -> list[Point]:
    """One step of Chaikin's corner cutting; the ends stay, unless the path is closed."""
    cut: list[Point] = []
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        cut.append((0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by))
        cut.append((0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by))
    if points[0] == points[-1]:
        return [*cut, cut[0]]
    return [points[0], *cut[1:-1], points[-1]]


def _draw_segment(
    coverage: bytearray, width: int, height: int, start: Point, end: Point, radius: float
) -> None:
    (ax, ay), (bx, by) = start, end
    reach = radius + 1
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    for y in range(max(0, int(min(ay, by) - reach)), min(height, int(max(ay, by) + reach) + 1)):
        py = y + 0.5 - ay
        for x in range(max(0, int(min(ax, bx) - reach)), min(width, int(max(ax, bx) + reach) + 1)):
            px = x + 0.5 - ax
            along = min(1.0, max(0.0, (px * dx + py * dy) / length2)) if length2 else 0.0
            shade = radius + 0.5 - math.hypot(px - along * dx, py - along * dy)
            if shade > 0:
                at = y * width + x
                coverage[at] = max(coverage[at], min(255, int(shade * 255)))
