"""What the demo draws."""

from fwnode.demo.canvas import Canvas, colour
from fwnode.demo.clockstrip import read_strip
from fwnode.demo.lettering import draw_letter
from fwnode.demo.picture import Picture

NOON = 1_795_003_200_000


def test_colours_are_limited_range() -> None:
    assert colour(0, 0, 0) == (16, 128, 128)
    assert colour(255, 255, 255) == (235, 128, 128)
    assert colour(255, 0, 0) == (63, 102, 240)


def test_letters_differ_and_stay_inside() -> None:
    drawn = {
        letter: draw_letter(letter, 20, 32, 3) for letter in "0123456789:.ABCDEFGHIJKLMNPQRSTUVWXYZ-+_/×"
    }
    assert len(set(drawn.values())) == len(drawn)
    for letter, ink in drawn.items():
        assert len(ink) == 20 * 32
        assert max(ink) > 200, letter
        assert not any(ink[:20]) or max(ink[:20]) < 255, letter


def test_unknown_letters_are_blank() -> None:
    assert not any(draw_letter("~", 8, 12, 2))


def test_copying_a_box_leaves_the_rest() -> None:
    red, black = Canvas(64, 36), Canvas(64, 36)
    red.fill(0, 0, 64, 36, (60, 100, 240))
    black.copy_box(red, 4, 2, 8, 6)
    assert sum(black.y) == 60 * 8 * 6
    assert sum(black.v) == 240 * 4 * 3
    assert black.y[2 * 64 + 4] == 60
    assert black.y[2 * 64 + 12] == 0


def test_the_strip_tells_the_time_drawn() -> None:
    picture = Picture(640, 360, "test")
    for unix_ms in (NOON, NOON + 33, NOON + 999, NOON + 86_400_000):
        picture.draw(unix_ms)
        assert read_strip(picture.canvas.y, 640, 640, 360) == unix_ms


def test_a_picture_depends_only_on_its_time() -> None:
    fresh, used = Picture(640, 360, "test"), Picture(640, 360, "test")
    for step in range(40):
        used.draw(NOON + step * 133)
    used.draw(NOON + 7_350)
    fresh.draw(NOON + 7_350)
    assert used.canvas.y == fresh.canvas.y
    assert used.canvas.u == fresh.canvas.u
    assert used.canvas.v == fresh.canvas.v


def test_planes_keep_their_size() -> None:
    picture = Picture(320, 180, "a title that is far too long for it")
    picture.draw(NOON)
    assert len(picture.canvas.y) == 320 * 180
    assert len(picture.canvas.u) == len(picture.canvas.v) == 160 * 90


def test_the_disc_flashes_at_full_seconds() -> None:
    picture = Picture(640, 360, "test")
    picture.draw(NOON + 50)
    lit = sum(picture.canvas.y[: 640 * 120])
    picture.draw(NOON + 150)
    assert lit > sum(picture.canvas.y[: 640 * 120]) + 50_000
