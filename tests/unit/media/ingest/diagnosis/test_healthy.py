"""A stream that is well gets no findings, whatever the network and the rounding do to it."""

import pytest

HEALTHY = {
    "obs": {},
    "obs 60 fps": {"fps": 60.0},
    "one-second groups": {"gop_s": 1.0, "fps": 25.0},
    "half-second groups": {"gop_s": 0.5},
    "29.97 fps in milliseconds": {"fps": 30_000 / 1_001},
    "23.976 fps in milliseconds": {"fps": 24_000 / 1_001},
    "59.94 fps in microseconds": {"fps": 60_000 / 1_001, "rounding_us": 1},
    "mpeg-ts clock": {"rounding_us": 11},
    "sound only": {"video": None},
    "picture only": {"audio": None},
    "five pictures a second": {"fps": 5.0},
    "a slide every two seconds": {"fps": 0.5, "gop_s": 2.0},
    "bad wifi": {"jitter_s": 0.08},
    "late by a second": {"latency_s": 1.0},
    "picture 300 ms after the sound": {"video_delay_s": 0.3},
    "sound card 100 ppm off": {"speed": 1.0001},
}


@pytest.mark.parametrize("ways", HEALTHY.values(), ids=HEALTHY.keys())
@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_stream_has_no_findings(publisher, ways, seed):
    stream = publisher(seed, **ways)
    assert [codes for codes in stream.watch(70) if codes] == []


def test_b_frames_are_the_only_thing_to_say_of_obs_defaults(publisher):
    stream = publisher(b_frames=2, fps=60.0)
    stream.run(10)
    assert {tuple(codes) for codes in stream.watch(60)} == {("b-frames",)}


@pytest.mark.parametrize("origin_us", [0, 12_345_678_901, 9_000_000_000_000, -5_000_000])
def test_any_origin_of_the_publishers_clock_is_fine(publisher, shifted, origin_us):
    stream = publisher(mangle=shifted(origin_us))
    assert [codes for codes in stream.watch(40) if codes] == []


def test_a_burst_at_the_start_is_fine(publisher):
    """A relay or a full send buffer gives its newest group at once."""
    stream = publisher(speed=20.0)
    stream.run(4)
    stream.speed = 1.0
    assert [codes for codes in stream.watch(60) if codes] == []


def test_a_wrap_of_a_32_bit_clock_is_nobodys_fault(publisher, shifted):
    stream = publisher(mangle=shifted((1 << 32) * 1_000 - 30_000_000))
    stream.run(30)
    stream.mangle = shifted(-30_000_000)
    assert [codes for codes in stream.watch(40) if codes] == []


def test_a_short_hiccup_of_the_network_is_not_worth_a_word(publisher):
    stream = publisher()
    stream.run(30)
    stream.latency_s = 2.5
    assert stream.codes(2.5) == []
    stream.latency_s = 0.0
    assert [codes for codes in stream.watch(40) if codes] == []


def test_occasional_scene_cuts_are_fine(publisher):
    """x264 adds a keyframe at a scene cut and begins a new group there."""
    stream = publisher()
    found = []
    for _ in range(8):
        found += stream.watch(7)
        stream.cut()
    assert [codes for codes in found if codes] == []


def test_a_still_picture_under_cbr_is_fine(publisher, video):
    stream = publisher(video=video(declared_bps=4_000_000), frame_bytes=1_500)
    assert [codes for codes in stream.watch(60) if codes] == []
