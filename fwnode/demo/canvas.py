"""A picture in memory as three planes, and the few ways in which the demo draws on it. Pure."""

from collections.abc import Sequence

Colour = tuple[int, int, int]  # Y, Cb, Cr


def colour(red: int, green: int, blue: int) -> Colour:
    """8-bit RGB as BT.709 limited range (ITU-R BT.709 3.2 to 3.4)."""
    luma = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    cb = (blue / 255 - luma) / 1.8556
    cr = (red / 255 - luma) / 1.5748
    return round(16 + 219 * luma), round(128 + 224 * cb), round(128 + 224 * cr)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0 to 1) of `second`."""
    y, u, v = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return y, u, v


def shades(first: int, second: int) -> bytes:
    """A table for bytes.translate: coverage 0 to 255 becomes the sample between `first` and `second`."""
    return bytes(first + (second - first) * share // 255 for share in range(256))


class Canvas:
    """YUV 4:2:0, 8 bits: planes of `width` x `height` and twice half of that, without padding.

    Coordinates and sizes are luma pixels; where chroma is touched they are rounded down to even.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        half = width // 2 * (height // 2)
        self.y = bytearray(width * height)
        self.u = bytearray(half)
        self.v = bytearray(half)

    def fill(self, x: int, y: int, width: int, height: int, paint: Colour) -> None:
        """Fill a rectangle."""
        luma = bytes((paint[0],)) * width
        for row in range(y, y + height):
            at = row * self.width + x
            self.y[at : at + width] = luma
        half, across = self.width // 2, (width + 1) // 2
        for plane, value in ((self.u, paint[1]), (self.v, paint[2])):
            chroma = bytes((value,)) * across
            for row in range(y // 2, (y + height + 1) // 2):
                at = row * half + x // 2
                plane[at : at + across] = chroma

    def blit_luma(self, x: int, y: int, rows: Sequence[bytes]) -> None:
        """Copy rows of luma; chroma stays as it is."""
        at = y * self.width + x
        for row in rows:
            self.y[at : at + len(row)] = row
            at += self.width

    def copy_rows(self, source: "Canvas", first: int, last: int) -> None:
        """Copy whole rows `first` to `last`, both even, `last` not included, of a canvas of this size."""
        self.y[first * self.width : last * self.width] = source.y[first * self.width : last * self.width]
        quarter = self.width // 4
        for mine, other in ((self.u, source.u), (self.v, source.v)):
            mine[first * quarter : last * quarter] = other[first * quarter : last * quarter]

    def copy_box(self, source: "Canvas", x: int, y: int, width: int, height: int) -> None:
        """Copy a rectangle, all four numbers even, of a canvas of this size."""
        for row in range(y, y + height):
            at = row * self.width + x
            self.y[at : at + width] = source.y[at : at + width]
        half = self.width // 2
        for row in range(y // 2, (y + height) // 2):
            at, end = row * half + x // 2, row * half + (x + width) // 2
            self.u[at:end] = source.u[at:end]
            self.v[at:end] = source.v[at:end]
