"""Findings on keyframes, reordering, frame rate, bitrate: each comes, says its number, and goes."""

import itertools
import re

import pytest

from media.track.stream import Severity

IDR = bytes.fromhex("0000000665888040ffff")
P_SLICE = bytes.fromhex("00000006419a8040ffff")
RECOVERY_POINT = bytes.fromhex("00000004060601c4") + P_SLICE  # SEI, then a slice that is no IDR picture


@pytest.mark.parametrize(
    ("gop_s", "severity", "text"),
    [
        (3.0, Severity.INFO, "Keyframe every 3.0 s"),
        (250 / 30, Severity.WARNING, "Keyframe every 8.3 s"),
        (10.0, Severity.WARNING, "Keyframe every 10.0 s"),
    ],
)
def test_keyframes_too_far_apart(publisher, gop_s, severity, text):
    stream = publisher(gop_s=gop_s)
    stream.run(60)
    finding = stream.find("keyframe-interval")
    assert finding.severity is severity and finding.message.startswith(text)
    assert "Keyframe Interval 2 s" in finding.fix and "-g 60" in finding.fix
    stream.gop_s = 2.0
    stream.run(30)
    assert stream.find("keyframe-interval") is None


def test_the_interval_is_known_before_the_second_keyframe(publisher):
    assert publisher(gop_s=60.0).codes(6) == ["keyframe-interval"]


def test_an_interval_at_the_threshold_does_not_flap(publisher):
    stream = publisher()
    stream.run(30)
    seen = []
    for gop_s in (4.4, 4.7, 4.5, 4.8, 4.4, 4.7, 4.3, 4.8) * 2:
        stream.gop_s = gop_s
        seen += stream.watch(gop_s)
    stands = ["keyframe-interval" in codes for codes in seen]
    assert stands == sorted(stands), "it came once and stayed"
    assert seen[-1] == ["keyframe-interval"]


def test_no_more_keyframes(publisher):
    stream = publisher()
    stream.run(30)
    stream.gop_s = 10_000.0
    stream.run(25)
    finding = stream.find("no-keyframe")
    assert finding.severity is Severity.ERROR and "No keyframe for 2" in finding.message
    assert stream.find("keyframe-interval") is None, "one of the two says it"
    stream.gop_s = 2.0
    stream.run(30)
    assert stream.diagnosis.findings(stream.now) == []


def test_keyframes_that_never_came(publisher):
    stream = publisher(audio=None, undecodable=True)
    stream.run(8)
    finding = stream.find("no-keyframe")
    assert finding.severity is Severity.ERROR and "nobody can see the picture" in finding.message
    stream.undecodable = False
    assert stream.codes(15) == []


def test_irregular_keyframes(publisher):
    stream = publisher()
    for _ in range(10):
        stream.run(0.7)
        stream.cut()
        stream.run(2)
    finding = stream.find("keyframes-irregular")
    assert finding.severity is Severity.INFO and "667 ms to 2.0 s apart" in finding.message
    assert "scenecut=0" in finding.fix and "-sc_threshold 0" in finding.fix
    stream.run(25)
    assert stream.find("keyframes-irregular") is None


@pytest.mark.parametrize(
    ("gop_s", "text"), [(1 / 30, "Every frame is a keyframe"), (0.2, "A keyframe every 200 ms")]
)
def test_keyframes_all_the_time(publisher, gop_s, text):
    stream = publisher(gop_s=gop_s)
    assert stream.codes(20) == ["keyframes-frequent"]
    assert stream.find("keyframes-frequent").message.startswith(text)
    stream.gop_s = 2.0
    assert stream.codes(30) == []


def test_b_frames(publisher):
    stream = publisher(b_frames=2)
    stream.run(10)
    finding = stream.find("b-frames")
    assert finding.severity is Severity.INFO
    assert "reordered by up to 1 frame: 33 ms" in finding.message and "-bf 0" in finding.fix
    stream.b_frames = 0
    assert stream.codes(20) == []


def test_open_groups(publisher):
    stream = publisher(open_gop=True, b_frames=2, keyframe_data=RECOVERY_POINT)
    stream.run(10)
    finding = stream.find("open-gop")
    assert finding.severity is Severity.WARNING and "-flags +cgop" in finding.fix
    stream.open_gop, stream.b_frames, stream.keyframe_data = False, 0, IDR
    assert stream.codes(20) == []


def test_intra_refresh_is_told_from_open_groups(publisher):
    stream = publisher(keyframe_data=RECOVERY_POINT)
    assert stream.codes(10) == ["false-keyframes"]
    finding = stream.find("false-keyframes")
    assert finding.severity is Severity.WARNING and "recovery points" in finding.message


def test_frames_that_only_claim_to_be_keyframes(publisher):
    stream = publisher(keyframe_data=P_SLICE)
    stream.run(10)
    finding = stream.find("false-keyframes")
    assert finding.severity is Severity.ERROR and "are none" in finding.message
    stream.keyframe_data = IDR
    assert stream.codes(20) == []


def test_damaged_keyframes(publisher):
    stream = publisher(keyframe_data=b"\xff\xff\xff\xff")
    assert stream.codes(10) == ["damaged-frames"]
    assert stream.find("damaged-frames").severity is Severity.ERROR
    stream.keyframe_data = IDR
    stream.run(35)
    assert stream.codes(6) == []


def test_pictures_shown_before_they_are_decoded(publisher, retimed):
    stream = publisher(mangle=retimed("video", cts_us=-33_000))
    assert stream.codes(10) == ["composition-offsets"]
    stream.mangle = None
    assert stream.codes(20) == []


@pytest.mark.parametrize("fps", [30.0, 30_000 / 1_001, 60.0])
def test_missing_frames(publisher, thinned, fps):
    stream = publisher(fps=fps)
    stream.run(20)
    stream.mangle = thinned(every=5)
    stream.run(20)
    finding = stream.find("frames-missing")
    assert finding.severity is Severity.WARNING and re.match(
        rf"{fps * 0.8:.0f}\.\d of {fps:.1f} frames", finding.message
    )
    assert "Dropped Frames" in finding.fix
    stream.mangle = None
    assert stream.codes(20) == []


def test_a_few_missing_frames_are_fine(publisher, thinned):
    stream = publisher(mangle=thinned(every=60))
    assert [codes for codes in stream.watch(60) if codes] == []


def test_frames_missing_at_the_threshold_do_not_flap(publisher, thinned):
    stream = publisher()
    stream.run(20)
    seen = []
    for every in (18, 25, 19, 30, 18, 25, 40, 19, 30):
        stream.mangle = thinned(every=every)
        seen += stream.watch(6)
    flips = sum(before != after for before, after in itertools.pairwise(seen))
    assert flips <= 1


def test_another_steady_frame_rate_becomes_the_new_normal(publisher):
    stream = publisher(fps=60.0)
    stream.run(20)
    stream.fps = 30.0
    assert "frames-missing" in stream.codes(5)
    assert stream.codes(30) == []
    stream.fps = 60.0
    assert [codes for codes in stream.watch(30) if codes] == []


def test_frame_rate_that_was_not_declared(publisher, video):
    stream = publisher(video=video(declared_fps=60.0))
    stream.run(10)
    finding = stream.find("declared-fps")
    assert finding.severity is Severity.INFO
    assert "30 frames a second arrive, 60 were declared" in finding.message
    stream.video = video(declared_fps=30.0)
    assert stream.codes(10) == []


def test_120_frames_a_second(publisher):
    stream = publisher(fps=120.0)
    assert stream.codes(10) == ["high-fps"]
    assert "120 frames a second" in stream.find("high-fps").message
    stream.fps = 60.0
    assert stream.codes(30) == []


def test_bitrate_above_what_was_declared(publisher, video):
    stream = publisher(video=video(declared_bps=1_000_000), frame_bytes=8_000)
    stream.run(40)
    finding = stream.find("bitrate-high")
    assert finding.severity is Severity.WARNING
    assert "1.92 Mb/s over 30 s, 1.00 Mb/s were declared" in finding.message
    stream.frame_bytes = 4_200
    stream.run(45)
    assert stream.find("bitrate-high") is None


def test_bitrate_far_below_what_was_declared(publisher, video):
    stream = publisher(video=video(declared_bps=6_000_000), frame_bytes=500)
    assert stream.codes(40) == ["bitrate-low"]
    assert stream.find("bitrate-low").severity is Severity.INFO
    stream.frame_bytes = 20_000
    assert stream.codes(45) == []


def test_bitrate_counts_media_time_not_arrival(publisher, video):
    """A burst after a pause of the network is no higher bitrate."""
    stream = publisher(video=video(declared_bps=1_000_000), frame_bytes=4_000)
    stream.run(20)
    stream.speed = 10.0
    stream.run(10)
    stream.speed = 1.0
    stream.run(10)
    assert stream.find("bitrate-high") is None
