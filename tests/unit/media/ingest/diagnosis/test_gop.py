"""What is read from keyframes and the frames after them."""

import pytest

from media.ingest.diagnosis.gop import SAMPLE_FRAMES, Entry, GopWatch, reorder_depth
from media.track.model import Codec, Frame

IDR = bytes.fromhex("0000000665888040ffff")
P_SLICE = bytes.fromhex("00000006419a8040ffff")
HEVC_CRA = bytes.fromhex("000000062a01afffffff")
HEVC_TRAIL = bytes.fromhex("000000060201d0ffffff")


@pytest.mark.parametrize(
    ("shown", "depth"),
    [
        ([0], 0),
        ([0, 1, 2, 3], 0),
        ([0, 3, 1, 2, 6, 4, 5], 1),  # I P B B
        ([0, 4, 2, 1, 3, 8, 6, 5, 7], 2),  # with a pyramid
        ([3, 1, 2, 6, 4, 5], 1),  # leading frames
    ],
)
def test_reorder_depth(shown, depth):
    assert reorder_depth(shown) == depth


def feed(watch: GopWatch, codec_key: bytes, codec_other: bytes, shown: list[int], now: float) -> None:
    for coded, place in enumerate(shown):
        data = codec_other if coded else codec_key
        watch.add(Frame(1, coded * 40_000, (place - coded) * 40_000, coded == 0, data), now)


def test_a_group_is_judged_by_its_first_frames():
    watch = GopWatch(Codec.H264)
    feed(watch, IDR, P_SLICE, list(range(SAMPLE_FRAMES)), 0.0)
    assert watch.sampling and not watch.entries
    feed(watch, IDR, P_SLICE, list(range(SAMPLE_FRAMES + 1)), 2.0)
    assert not watch.sampling
    assert list(watch.entries) == [Entry.CLEAN, Entry.CLEAN]
    assert list(watch.reorder) == [0, 0]


def test_a_cra_picture_that_nothing_leads_is_clean():
    watch = GopWatch(Codec.HEVC)
    feed(watch, HEVC_CRA, HEVC_TRAIL, list(range(9)), 0.0)
    assert list(watch.entries) == [Entry.CLEAN]
    feed(watch, HEVC_CRA, HEVC_TRAIL, [2, 0, 1, 3, 4, 5, 6, 7, 8], 2.0)
    assert list(watch.entries) == [Entry.CLEAN, Entry.OPEN]


def test_keyframes_are_inspected_once_a_second():
    watch = GopWatch(Codec.H264)
    for index in range(100):
        watch.add(Frame(1, index * 10_000, 0, True, b"\xff"), index / 100)
    assert len(watch.damage) == 1
    assert len(watch.intervals_us) == watch.intervals_us.maxlen


def test_a_jump_of_the_clock_makes_no_interval():
    watch = GopWatch(Codec.H264)
    watch.add(Frame(1, 0, 0, True, IDR), 0.0)
    watch.shift(5_000_000_000)
    watch.add(Frame(1, 5_002_000_000, 0, True, IDR), 2.0)
    assert list(watch.intervals_us) == [2_000_000]
