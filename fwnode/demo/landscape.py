"""What the demo's picture shows behind the clock: a sunset over a grid that runs towards the viewer. Pure."""

import itertools
import math

from fwnode.demo.canvas import Canvas, Colour, colour, mix, shades

_SKY = (
    (0.0, colour(9, 7, 30)),
    (0.55, colour(52, 19, 84)),
    (0.85, colour(158, 42, 116)),
    (1.0, colour(255, 121, 84)),
)
_SUN_TOP, _SUN_FOOT = colour(255, 226, 110), colour(255, 66, 132)
_MOUNTAIN, _RIDGE = colour(17, 9, 44), colour(120, 72, 190)
_FLOOR_FAR, _FLOOR_NEAR = colour(46, 12, 74), colour(10, 6, 30)
_GRID_FAR, _GRID_NEAR = colour(196, 60, 160), colour(70, 214, 255)
_LEVELS = 8  # steps of brightness of a grid line that covers a row in part
_STARS = 90


def draw_sky(canvas: Canvas, horizon: int) -> None:
    """Sky, stars and mountains above row `horizon`."""
    for row in range(0, horizon, 2):
        canvas.fill(0, row, canvas.width, 2, _gradient(row / horizon))
    for star in range(_STARS):
        # Multiples of the golden ratio spread points evenly without looking like a pattern.
        x = int(canvas.width * (star * 0.6180339887 % 1))
        y = int(horizon * 0.62 * (star * 0.7548776662 % 1))
        at = y * canvas.width + x
        canvas.y[at] = max(canvas.y[at], 90 + star * 53 % 130)
    _draw_mountains(canvas, horizon)


def _gradient(share: float) -> Colour:
    for (start, first), (end, second) in itertools.pairwise(_SKY):
        if share <= end:
            return mix(first, second, (share - start) / (end - start))
    return _SKY[-1][1]


def _draw_mountains(canvas: Canvas, horizon: int) -> None:
    """Silhouettes at both sides with a valley in the middle for the sun."""
    ridge = max(2, horizon // 220)
    for x in range(0, canvas.width, 2):
        side = abs(x / canvas.width - 0.5) * 2
        waves = 1.4 + math.sin(side * 9.1 + 1) * 0.5 + math.sin(x / canvas.width * 47) * 0.3
        height = int(horizon * 0.125 * max(0.0, side - 0.24) ** 0.8 * waves) // 2 * 2
        if height:
            canvas.fill(x, horizon - height, 2, height, _MOUNTAIN)
            canvas.fill(x, horizon - height, 2, min(ridge, height), _RIDGE)


class Sun:
    """A disc that stands on the horizon, cut by slits that sink."""

    def __init__(self, canvas: Canvas, horizon: int) -> None:
        """Draw the disc on `canvas` and remember the sky behind the part that the slits cut."""
        self._sky = Canvas(canvas.width, canvas.height)
        self._sky.copy_rows(canvas, 0, horizon)
        radius = int(canvas.height * 0.19)
        self._centre_x, self._centre_y = canvas.width // 2, horizon - int(radius * 0.72)
        self._radius = radius
        self._first_slit_row = (self._centre_y - radius // 6) // 2 * 2
        self._horizon = horizon
        for row in range(self._centre_y - radius, horizon, 2):
            self._draw_rows(canvas, row // 2 * 2)
        self._disc = Canvas(canvas.width, canvas.height)
        self._disc.copy_rows(canvas, 0, horizon)

    def _span(self, row: int) -> tuple[int, int]:
        """Left edge and width of the disc at a pair of rows, both even."""
        reach = math.sqrt(max(0.0, self._radius**2 - (row + 1 - self._centre_y) ** 2))
        left = int(self._centre_x - reach) // 2 * 2
        return left, 2 * (self._centre_x - left)

    def _draw_rows(self, canvas: Canvas, row: int) -> None:
        """Paint a pair of rows; the luma of both ends is mixed with the sky, so that the edge is smooth."""
        left, width = self._span(row)
        if width <= 0:
            return
        share = (row - self._centre_y + self._radius) / (2 * self._radius)
        paint = mix(_SUN_TOP, _SUN_FOOT, min(1.0, share * 1.25))
        sky = canvas.y[row * canvas.width + left]
        canvas.fill(left, row, width, 2, paint)
        for line in (row, row + 1):
            self._soften(canvas, line, range(left, left + width), paint[0], sky)
            self._soften(canvas, line, range(left + width - 1, left, -1), paint[0], sky)

    def _soften(self, canvas: Canvas, row: int, columns: range, paint: int, sky: int) -> None:
        """Mix luma from the disc's edge inwards until wholly inside."""
        for x in columns:
            inside = self._radius + 0.5 - math.hypot(x - self._centre_x + 0.5, row - self._centre_y + 0.5)
            if inside >= 1:
                return
            canvas.y[row * canvas.width + x] = round(sky + (paint - sky) * max(0.0, inside))

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Draw the slits as they are at a time."""
        pitch = self._radius / 5
        shift = seconds * pitch / 2 % pitch
        for row in range(self._first_slit_row, self._horizon, 2):
            depth = row - self._first_slit_row
            slit = (depth - shift) % pitch < pitch * 0.6 * depth / (self._radius * 0.9)
            left, width = self._span(row)
            canvas.copy_box(self._sky if slit else self._disc, left, row, width, 2)


class Floor:
    """A grid in perspective, its cross lines moving one cell towards the viewer each second."""

    def __init__(self, width: int, horizon: int, foot: int) -> None:
        """Between rows `horizon` and `foot`, both even. All that can be drawn ahead is drawn here."""
        self._width = width
        self._horizon = horizon
        self._luma: list[tuple[bytes, ...]] = []
        self._chroma: list[tuple[tuple[bytes, bytes], ...]] = []
        self._depths: list[tuple[float, float]] = []
        rows = foot - horizon
        for row in range(rows):
            nearness = (row + 1) / rows
            back, line = mix(_FLOOR_FAR, _FLOOR_NEAR, nearness), mix(_GRID_FAR, _GRID_NEAR, nearness)
            coverage = _spokes(width, nearness, rows)
            steps = [mix(back, line, level / (_LEVELS - 1)) for level in range(_LEVELS)]
            self._luma.append(tuple(coverage.translate(shades(step[0], line[0])) for step in steps))
            if row % 2 == 0:
                thin = coverage[::2]
                self._chroma.append(
                    tuple(
                        (thin.translate(shades(step[1], line[1])), thin.translate(shades(step[2], line[2])))
                        for step in steps
                    )
                )
            self._depths.append((1.5 / nearness, 1.5 / nearness - 1.5 / (nearness + 1 / rows)))

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Draw the whole floor as it is at a time."""
        at = self._horizon * self._width
        chroma_at = at // 4
        half = self._width // 2
        for row, (depth, span) in enumerate(self._depths):
            distance = abs((depth + seconds + 0.5) % 1 - 0.5)
            # A row that spans many cells is evenly lit: without this far rows would flicker.
            cover = min(1.0, max(0.0, (0.035 + span / 2 - distance) / span)) * min(1.0, 0.3 / span)
            level = int(cover * (_LEVELS - 1) + 0.5)
            canvas.y[at : at + self._width] = self._luma[row][level]
            at += self._width
            if row % 2 == 0:
                u, v = self._chroma[row // 2][level]
                canvas.u[chroma_at : chroma_at + half] = u
                canvas.v[chroma_at : chroma_at + half] = v
                chroma_at += half


def _spokes(width: int, nearness: float, rows: int) -> bytes:
    """Coverage of one row by the lines that run away from the viewer; fades towards the horizon."""
    coverage = bytearray(width)
    spacing = rows * 0.62 * nearness
    thickness = max(1.0, rows * 0.011 * nearness)
    strength = 255 * min(1.0, nearness * 2.5)
    reach = int(width / 2 / spacing) + 1 if spacing > 6 else 0
    for spoke in range(-reach, reach + 1):
        left = width / 2 + spoke * spacing - thickness / 2
        for x in range(max(0, int(left)), min(width, int(left + thickness) + 1)):
            covered = min(x + 1.0, left + thickness) - max(float(x), left)
            coverage[x] = max(coverage[x], int(strength * max(0.0, covered)))
    return bytes(coverage)
