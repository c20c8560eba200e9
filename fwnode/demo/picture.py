"""The demo's moving picture: clocks for people and for programs, motion that shows judder. Pure."""

import datetime
import math

from fwnode.demo.canvas import Canvas, colour, shades
from fwnode.demo.clockstrip import ROWS_IN_HEIGHT, strip_row
from fwnode.demo.landscape import Floor, Sun, draw_sky
from fwnode.demo.lettering import draw_letter

FLASH_MS = 100  # the disc beside the clock is lit, and the beep sounds, this long from each full second
_BALL_CROSSING_S = 8
_WHITE = 235
_PANEL = colour(20, 14, 40)
_BALL_DARK, _BALL_LIGHT = colour(22, 96, 150), colour(236, 252, 255)


class Text:
    """A line of letters in cells of equal width; only cells whose letter changed are drawn again."""

    def __init__(
        self, canvas: Canvas, x: int, y: int, cell: tuple[int, int], brightness: int = _WHITE
    ) -> None:
        """`cell` is the width and height of a letter's cell in pixels; the ground is what is there now."""
        self._canvas = canvas
        self._x, self._y = x, y
        self._cell = cell
        self._table = shades(canvas.y[(y + cell[1] // 2) * canvas.width + x], brightness)
        self._drawn = ""
        self._letters: dict[str, list[bytes]] = {}

    def show(self, text: str) -> None:
        """Draw what differs from the text shown before; both should be of one length."""
        for place, letter in enumerate(text):
            if self._drawn[place : place + 1] != letter:
                self._canvas.blit_luma(self._x + place * self._cell[0], self._y, self._rows(letter))
        self._drawn = text

    def _rows(self, letter: str) -> list[bytes]:
        rows = self._letters.get(letter)
        if rows is None:
            width, height = self._cell
            ink = draw_letter(letter, width * 13 // 16, height, height / 9)
            pad = bytes(width - width * 13 // 16)
            wide = width * 13 // 16
            rows = [(ink[i * wide : (i + 1) * wide] + pad).translate(self._table) for i in range(height)]
            self._letters[letter] = rows
        return rows


class Picture:
    """Draws the picture of any instant on `canvas`, changing only what moved since the one before."""

    def __init__(self, width: int, height: int, title: str) -> None:
        """`width` is a multiple of 64 and `height` of 36."""
        self.canvas = Canvas(width, height)
        self._strip_rows = height // ROWS_IN_HEIGHT
        horizon = height * 31 // 50 // 2 * 2
        foot = (height - self._strip_rows) // 2 * 2
        draw_sky(self.canvas, horizon)
        self._sun = Sun(self.canvas, horizon)
        self._floor = Floor(width, horizon, foot)
        self._horizon = horizon
        self._layout_clock(title)
        self._backdrop = Canvas(width, height)
        self._backdrop.copy_rows(self.canvas, 0, horizon)
        self._ball = Ball(width, height, foot)
        self.canvas.fill(0, foot, width, height - foot, (16, 128, 128))

    def _layout_clock(self, title: str) -> None:
        canvas = self.canvas
        unit = canvas.height / 720
        cell = int(60 * unit), int(88 * unit)
        small = int(17 * unit), int(22 * unit)
        wide, high = 12 * cell[0] + int(150 * unit), int(168 * unit)
        left, top = (canvas.width - wide) // 4 * 2, int(36 * unit) // 2 * 2
        canvas.fill(left, top, wide // 2 * 2, high // 2 * 2, _PANEL)
        x, y = left + int(28 * unit), top + int(22 * unit)
        self._clock = Text(canvas, x, y, cell)
        self._date = Text(canvas, x, y + int(106 * unit), small, 170)
        label = f"{title} {canvas.width}×{canvas.height}".upper()
        title_x = x + 12 * cell[0] + int(94 * unit) - len(label) * small[0]
        Text(canvas, title_x, y + int(106 * unit), small, 170).show(label)
        self._bar = (
            left,
            top + high // 2 * 2 - int(8 * unit) // 2 * 2,
            wide // 2 * 2,
            int(8 * unit) // 2 * 2,
        )
        self._disc = Disc(x + 12 * cell[0] + int(14 * unit), y + int(10 * unit), int(68 * unit))

    def draw(self, unix_ms: int) -> None:
        """Draw the picture of an instant, in milliseconds since 1970."""
        seconds = unix_ms % 3_600_000 / 1000
        self._ball.erase(self.canvas, self._backdrop, self._horizon)
        self._sun.draw(self.canvas, seconds)
        self._floor.draw(self.canvas, seconds)
        self._ball.draw(self.canvas, seconds)
        self._draw_clock(unix_ms)
        row = strip_row(unix_ms, self.canvas.width)
        self.canvas.blit_luma(0, self.canvas.height - self._strip_rows, [row] * self._strip_rows)

    def _draw_clock(self, unix_ms: int) -> None:
        moment = datetime.datetime.fromtimestamp(unix_ms // 1000, datetime.UTC)
        self._clock.show(f"{moment:%H:%M:%S}.{unix_ms % 1000:03d}")
        self._date.show(f"{moment:%Y-%m-%d} UTC")
        self._disc.draw(self.canvas, unix_ms % 1000 < FLASH_MS)
        x, y, width, height = self._bar
        done = width * (unix_ms % 1000) // 1000 // 2 * 2
        for left, across, luma in ((x, done, 200), (x + done, width - done, 60)):
            self.canvas.blit_luma(left, y, [bytes((luma,)) * across] * height)


class Disc:
    """The light that flashes with the beep."""

    def __init__(self, x: int, y: int, size: int) -> None:
        self._x, self._y = x, y
        lit, dark = shades(_PANEL[0], _WHITE), shades(_PANEL[0], 56)
        rows = [_disc_row(row, size) for row in range(size)]
        self._lit, self._dark = [r.translate(lit) for r in rows], [r.translate(dark) for r in rows]

    def draw(self, canvas: Canvas, lit: bool) -> None:
        canvas.blit_luma(self._x, self._y, self._lit if lit else self._dark)


def _disc_row(row: int, size: int) -> bytes:
    """Coverage of one row of a disc with a smooth edge."""
    middle = (size - 1) / 2
    edges = (middle + 0.5 - math.hypot(x - middle, row - middle) for x in range(size))
    return bytes(int(255 * min(1.0, max(0.0, edge))) for edge in edges)


class Ball:
    """A ball that crosses the picture and touches the ground at each full second."""

    def __init__(self, width: int, height: int, foot: int) -> None:
        self._width = width
        self._radius = height // 18 // 2 * 2
        self._ground = foot - height // 24
        self._leap = self._ground - height // 2 + self._radius
        self._spans = [self._span(row) for row in range(2 * self._radius)]
        self._luma = [self._shade(row, left) for row, left in enumerate(self._spans)]
        self._box = (0, 0)

    def _span(self, row: int) -> int:
        """Columns left free before the ball at a row; even, for chroma."""
        reach = math.sqrt(self._radius**2 - (row + 0.5 - self._radius) ** 2)
        return int(self._radius - reach + 1) // 2 * 2

    def _shade(self, row: int, left: int) -> bytes:
        """Lit from the upper left."""
        size = 2 * self._radius
        light = self._radius * 0.62
        nearness = (1 - math.hypot(x - light, row - light) / (size * 0.72) for x in range(left, size - left))
        dark, bright = _BALL_DARK[0], _BALL_LIGHT[0]
        return bytes(int(dark + (bright - dark) * max(0.0, near) ** 1.5) for near in nearness)

    def erase(self, canvas: Canvas, backdrop: Canvas, horizon: int) -> None:
        """Put the backdrop back above the horizon; the floor is drawn anew each time anyhow."""
        x, y = self._box
        size = 2 * self._radius
        if y < horizon:
            canvas.copy_box(backdrop, x, y, size, min(size, horizon - y))

    def draw(self, canvas: Canvas, seconds: float) -> None:
        size = 2 * self._radius
        along = abs(seconds / _BALL_CROSSING_S % 2 - 1)
        since_bounce = seconds % 1
        rise = self._leap * 4 * since_bounce * (1 - since_bounce)
        x = int(along * (self._width - size)) // 2 * 2
        y = int(self._ground - rise - size) // 2 * 2
        self._box = (x, y)
        for row, left in enumerate(self._spans):
            at = (y + row) * self._width + x + left
            canvas.y[at : at + size - 2 * left] = self._luma[row]
        half = self._width // 2
        for row in range(0, size, 2):
            left = self._spans[row]
            start, across = (y + row) // 2 * half + (x + left) // 2, self._radius - left
            canvas.u[start : start + across] = bytes((_BALL_DARK[1],)) * across
            canvas.v[start : start + across] = bytes((_BALL_DARK[2],)) * across
