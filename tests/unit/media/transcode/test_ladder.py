"""Which rungs a source gets."""

import re
from fractions import Fraction

import pytest

from media.track.model import Codec
from media.transcode.ladder import (
    Policy,
    Rung,
    SourceVideo,
    fitted,
    least_step,
    parse_policy,
    plan,
    thinned,
)

AUTO = Policy("auto")


def source(width: int, height: int, fps: float = 30, bps: int = 0, codec: Codec = Codec.H264) -> SourceVideo:
    return SourceVideo(codec, width, height, fps, bps)


def sizes(policy: Policy, video: SourceVideo) -> list[tuple[int, int]]:
    return [(rung.width, rung.height) for rung in plan(policy, video).rungs]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("off", Policy("off")),
        ("", Policy("off")),
        ("auto", AUTO),
        ("720p", Policy("list", (Rung(720),))),
        ("480p@1200k,720p30@2.5m", Policy("list", (Rung(720, 2_500_000, 30), Rung(480, 1_200_000)))),
        ("360p/h264", Policy("list", (Rung(360),))),
    ],
)
def test_what_the_operator_may_say(text: str, policy: Policy) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("720", '"720" is no rung'),
        ("720p, big", '"big" is no rung'),
        ("720p,480p,720p@1m", '"720p": there are two rungs of 720p'),
        ("100p", '"100p": from 144p'),
        ("720p@10k", '"720p@10k": from 50k'),
        ("720p0@1m", "pictures a second"),
        ("720p/av1", '"720p/av1": only h264'),
        (",".join(f"{side}p" for side in range(200, 207)), "7 rungs"),
        ("720p,", '"" is no rung'),
    ],
)
def test_errors_name_the_entry(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=re.escape(names)):
        parse_policy(text)


def test_nothing_is_enlarged_and_the_source_is_not_made_again() -> None:
    assert sizes(AUTO, source(1920, 1080)) == [(1280, 720), (854, 480), (640, 360)]
    assert sizes(AUTO, source(1280, 720)) == [(854, 480), (640, 360)]
    assert sizes(parse_policy("1080p,720p,360p"), source(1280, 720)) == [(640, 360)]
    small = plan(AUTO, source(426, 240))
    assert not small.rungs
    assert "240p" in small.reason


def test_other_codecs_get_a_rung_of_their_own_size() -> None:
    assert sizes(AUTO, source(1280, 720, codec=Codec.HEVC))[0] == (1280, 720)
    assert sizes(parse_policy("720p,480p"), source(1280, 720, codec=Codec.AV1)) == [(1280, 720), (854, 480)]


def test_upright_pictures_are_named_by_their_width() -> None:
    assert sizes(AUTO, source(1080, 1920)) == [(720, 1280), (480, 854), (360, 640)]


def test_off_and_unknown_sizes() -> None:
    assert plan(Policy(), source(1920, 1080)).rungs == ()
    unknown = plan(AUTO, source(0, 0))
    assert not unknown.rungs
    assert unknown.reason


def test_low_rungs_have_half_of_sixty_pictures() -> None:
    rungs = plan(AUTO, source(1920, 1080, 60)).rungs
    assert [rung.fps for rung in rungs] == [60, 30, 30]
    assert rungs[0].bps > plan(AUTO, source(1920, 1080, 30)).rungs[0].bps
    assert rungs[1].bps == plan(AUTO, source(1920, 1080, 30)).rungs[1].bps


def test_a_thin_source_is_not_blown_up() -> None:
    assert [rung.bps for rung in plan(AUTO, source(1280, 720, 30, 800_000)).rungs] == [392_148, 254_558]
    assert plan(parse_policy("480p@1200k"), source(1280, 720, 30, 800_000)).rungs[0].bps == 1_200_000


@pytest.mark.parametrize(
    ("rate", "most", "left"),
    [
        (30, 30, Fraction(30)),
        (29.97, 30, Fraction(2997, 100)),
        (60, 30, Fraction(30)),
        (59.94, 30, Fraction(2997, 100)),
        (50, 30, Fraction(25)),
        (120, 60, Fraction(60)),
        (120, 30, Fraction(30)),
        (15, 30, Fraction(15)),
    ],
)
def test_pictures_are_left_out_evenly(rate: float, most: int, left: Fraction) -> None:
    assert abs(thinned(rate, most) - left) < Fraction(1, 50)
    step = round(90_000 / rate)
    kept = [0]
    for number in range(240):
        if number * step - kept[-1] >= least_step(most, 90_000):
            kept.append(number * step)
    assert len(kept) == pytest.approx(240 / rate * float(left), abs=1.5)


def test_pixels_that_are_not_square() -> None:
    assert fitted(480, 1440, 1080, Fraction(4, 3)) == (854, 480)
    assert fitted(480, 720, 576, Fraction(16, 15)) == (640, 480)
    assert fitted(1080, 640, 360) == (640, 360)
