"""Pictures cut into closed segments."""

import msgspec
import pytest
from livepeer_sources import SOURCE, STEP, cut, picture, source

from media.bitstream.annexb import join_sample
from media.container.mpegts import LEAD_TICKS
from media.track.model import Codec, Packet
from media.transcode.livepeer.demux import demux_video_untrusted
from media.transcode.livepeer.order import profiles_of
from media.transcode.livepeer.segmenter import place_of, unfit_track


@pytest.mark.parametrize(
    ("gop", "target_s", "expected"),
    [
        (30, 2.0, [60, 60, 60]),
        (30, 1.0, [30] * 6),
        (15, 1.0, [30] * 6),  # at least a second
        (60, 2.0, [60, 60, 60]),
        (90, 2.0, [90, 90]),
        (50, 2.0, [50, 50, 50, 30]),  # 1.67 s is nearer to 2 s than 3.33 s is
        (180, 2.0, [180]),
    ],
)  # fmt: skip
def test_segments_are_whole_groups_near_the_target(gop: int, target_s: float, expected: list[int]) -> None:
    segments = cut(source(180, gop=gop), target_s)
    assert [len(segment.packets) for segment in segments] == expected
    assert [segment.number for segment in segments] == list(range(len(expected)))
    assert all(segment.packets[0].keyframe and not segment.unfit for segment in segments)
    assert [segment.duration for segment in segments] == [count * STEP for count in expected]


@pytest.mark.parametrize("start", [0, 49 * 86_400 * 90_000])
def test_transport_stream_has_the_pictures_ten_seconds_in(start: int) -> None:
    segment = cut(source(60, start=start))[0]
    coded = demux_video_untrusted(segment.body)
    assert coded.config == SOURCE.config
    assert [each.pts for each in coded.pictures] == segment.presentation()
    assert coded.pictures[0].pts == 10 * 90_000 + LEAD_TICKS
    assert [each.data for each in coded.pictures] == [packet.data for packet in segment.packets]
    assert [each.idr for each in coded.pictures] == [True] + [False] * 29 + [True] + [False] * 29


def test_nothing_before_the_first_keyframe() -> None:
    assert cut(source(90)[10:])[0].packets[0].dts == 30 * STEP


def test_a_group_that_needs_the_one_before_stays_with_it() -> None:
    packets = source(120)
    recovery = join_sample([b"\x06\x06\x01\xc4\x80", b"\x41\xb8abc"])  # a recovery point, an I slice
    packets[60] = msgspec.structs.replace(packets[60], data=recovery)
    assert [len(segment.packets) for segment in cut(packets)] == [90, 30]
    packets[0] = msgspec.structs.replace(packets[0], data=recovery)
    assert "IDR" in cut(packets)[0].unfit


def test_too_long_a_group_is_unfit_and_bounded() -> None:
    segments = cut(source(420, gop=400))
    assert "within 10 s" in segments[0].unfit
    assert len(segments[0].packets) == 301
    assert not segments[0].body
    assert not segments[1].unfit


def test_another_size_begins_another_segment() -> None:
    other = msgspec.structs.replace(SOURCE, width=480, init=1)
    packets = [*source(45), *[picture(n, key=n == 45, track=other) for n in range(45, 90)]]
    assert [len(segment.packets) for segment in cut(packets)] == [45, 45]


def test_pictures_that_do_not_parse_are_unfit() -> None:
    packets = source(60)
    packets[3] = msgspec.structs.replace(packets[3], data=b"\0\0\1\0x")
    assert "do not parse" in cut(packets)[0].unfit


def test_what_gateways_do_not_decode() -> None:
    replace = msgspec.structs.replace
    assert not unfit_track(SOURCE)
    assert "VP9" in unfit_track(replace(SOURCE, codec=Codec.VP9))
    assert "HEVC" in unfit_track(replace(SOURCE, codec=Codec.HEVC))
    assert "parse" in unfit_track(replace(SOURCE, config=b"\1"))
    assert "8192" in unfit_track(replace(SOURCE, width=8192))
    high10 = bytes.fromhex(
        "01 6e001f ffe1 000f 676e001fa6cd940a02ff9608d40000 01 0004 68ee3c80".replace(" ", "")
    )
    assert unfit_track(replace(SOURCE, config=high10))


def test_place_is_the_nearest() -> None:
    assert place_of([0, 10, 20], 14, 5) == 1
    assert place_of([0, 10, 20], 16, 5) == 2
    assert place_of([0, 10, 20], 26, 5) is None
    assert place_of([0, 10, 20], -5, 5) == 0


class _Rung(msgspec.Struct):
    side: int
    width: int
    height: int
    bps: int
    fps: int


@pytest.mark.parametrize(
    ("source_fps", "fps", "expected"),
    [
        (60.0, 30, (30, 1)),
        (30.0, 60, (0, 1)),
        (30.0, 30, (0, 1)),
        (0.0, 30, (0, 1)),
        (59.94, 30, (29.97, 1)),
        (25.0, 10, (25 / 3, 1)),
    ],
)  # fmt: skip
def test_rates_are_whole_numbers(source_fps: float, fps: int, expected: tuple[float, int]) -> None:
    (profile,) = profiles_of([_Rung(480, 854, 480, 1_000_000, fps)], source_fps)
    assert isinstance(profile.fps_num, int)
    assert profile.fps_num / profile.fps_den == pytest.approx(expected[0] / expected[1], rel=1e-4)
    assert profile.name == "480p"


def test_reordered_pictures_keep_their_times() -> None:
    packets: list[Packet] = [
        msgspec.structs.replace(
            packet, cts=STEP * (2, 4, 1, 1)[number % 30 % 4] if number % 30 < 28 else 2 * STEP
        )
        for number, packet in enumerate(source(60))
    ]
    segment = cut(packets)[0]
    times = [each.pts - LEAD_TICKS - 900_000 for each in demux_video_untrusted(segment.body).pictures]
    assert times == [packet.pts for packet in packets]
    assert segment.presentation() == sorted(each + LEAD_TICKS + 900_000 for each in times)


def test_a_pause_of_the_source_is_not_a_long_segment() -> None:
    later = [msgspec.structs.replace(packet, dts=packet.dts + 40 * 90_000) for packet in source(120)[60:]]
    first, second = cut([*source(60), *later])
    assert (first.duration, second.duration) == (60 * STEP, 60 * STEP)
    assert not first.unfit
