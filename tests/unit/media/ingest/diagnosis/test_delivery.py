"""Findings on arrival and timestamps: each comes, says its number, and goes."""

import re

import pytest

from media.track.stream import Severity


def test_a_stall(publisher):
    stream = publisher()
    stream.run(20)
    assert stream.wait(2) == []
    stream.wait(3)
    finding = stream.find("stall")
    assert finding.severity is Severity.ERROR and "No data for 5." in finding.message
    stream.run(2)
    finding = stream.find("stall")
    assert finding.severity is Severity.WARNING
    assert finding.message == "The stream stood still 1 time in the last 30 s, for up to 5.0 s"
    assert stream.codes(40) == []


def test_a_stall_that_nobody_asked_about(publisher):
    stream = publisher()
    stream.run(20)
    stream.pause(6)
    stream.run(2)
    assert [finding.code for finding in stream.diagnosis.findings(stream.now)] == ["stall"]
    assert stream.codes(40) == []


def test_a_publisher_that_announces_and_sends_nothing(publisher, video):
    diagnosis = publisher().diagnosis
    diagnosis.announce(video(), 100.0)
    assert diagnosis.findings(100.0) == []
    assert "announcements for 5.0 s" in diagnosis.findings(105.0)[0].message


def test_nothing_at_all_is_no_finding(publisher):
    diagnosis = publisher().diagnosis
    assert diagnosis.findings(1.0) == []


@pytest.mark.parametrize(
    ("kind", "code", "severity"),
    [("video", "no-video", Severity.ERROR), ("audio", "no-audio", Severity.WARNING)],
)
def test_a_track_that_never_comes(publisher, kind, code, severity):
    stream = publisher()
    stream.diagnosis.announce(getattr(stream, kind), stream.now)
    track = getattr(stream, kind)
    setattr(stream, kind, None)
    assert [codes for codes in stream.watch(4) if codes] == []
    stream.run(4)
    finding = stream.find(code)
    assert finding.severity is severity and "though it was announced" in finding.message
    setattr(stream, kind, track)
    assert stream.codes(20) == []


@pytest.mark.parametrize(("kind", "code"), [("video", "no-video"), ("audio", "no-audio")])
def test_a_track_that_stops(publisher, kind, code):
    stream = publisher()
    stream.run(20)
    track = getattr(stream, kind)
    setattr(stream, kind, None)
    assert stream.codes(8) == [code]
    assert "announced" not in stream.find(code).message
    setattr(stream, kind, track)
    stream.run(20)
    assert stream.find(code) is None


@pytest.mark.parametrize(("speed", "severity"), [(0.94, Severity.WARNING), (0.8, Severity.ERROR)])
def test_slower_than_real_time(publisher, speed, severity):
    stream = publisher(speed=speed)
    stream.run(40)
    finding = stream.find("too-slow")
    assert finding.severity is severity and f"{speed:.2f} times real time" in finding.message
    assert [f.code for f in stream.diagnosis.findings(stream.now)] == ["too-slow"], "no jitter beside it"
    stream.speed = 1.0
    assert stream.codes(60) == []


@pytest.mark.parametrize("speed", [1.1, 3.0])
def test_faster_than_real_time(publisher, speed):
    stream = publisher(speed=speed)
    stream.run(40 * speed)
    finding = stream.find("too-fast")
    assert finding is not None and "-re" in finding.fix
    assert [f.code for f in stream.diagnosis.findings(stream.now)] == ["too-fast"]
    stream.speed = 1.0
    assert stream.codes(60) == []


def test_a_backlog_that_is_caught_up_is_not_faster_than_real_time(publisher):
    stream = publisher()
    stream.run(40)
    stream.latency_s = 2.5
    seen = stream.watch(25)
    stream.latency_s = 0.0
    seen += stream.watch(40)
    assert not any("too-fast" in codes for codes in seen)
    assert seen[-1] == []


def test_jitter(publisher, bunched):
    stream = publisher(mangle=bunched(0.6))
    stream.run(25)
    finding = stream.find("arrival-jitter")
    assert finding.severity is Severity.WARNING and "ms late" in finding.message
    stream.mangle = None
    assert stream.codes(25) == []


def test_sound_and_picture_apart(publisher):
    stream = publisher(video_delay_s=1.2)
    stream.run(30)
    finding = stream.find("interleaving")
    assert (
        finding.severity is Severity.WARNING and "Sound comes 1.1 s ahead of the picture" in finding.message
    )
    stream.video_delay_s = 0.0
    assert stream.codes(25) == []


def test_clock_drift(publisher):
    stream = publisher(speed=0.998)
    stream.run(8 * 60)
    finding = stream.find("clock-drift")
    assert finding.severity is Severity.INFO and "runs slow by 0.20 % (7.2 s an hour)" in finding.message
    assert stream.find("too-slow") is None
    stream.speed = 1.0
    stream.run(15 * 60)
    assert stream.find("clock-drift") is None


@pytest.mark.parametrize(("by_us", "text"), [(3_600_000_000, "+3600.0 s"), (-50_000_000, "-50.0 s")])
def test_a_jump_of_the_clock(publisher, shifted, by_us, text):
    stream = publisher()
    stream.run(20)
    stream.mangle = shifted(by_us)
    stream.run(2)
    finding = stream.find("timestamp-jump")
    assert finding.severity is Severity.WARNING
    assert f"jumped 1 time in the last 60 s, last by {text}" in finding.message
    seen = stream.watch(80)
    assert seen[-1] == [] and {code for codes in seen for code in codes} == {"timestamp-jump"}


def test_timestamps_that_go_backwards(publisher, retimed):
    stream = publisher()
    stream.run(20)
    for _ in range(3):
        stream.mangle = retimed("video", shift_us=-100_000)
        stream.run(0.05)
        stream.mangle = None
        stream.run(1)
    assert re.search("went backwards [23] times", stream.find("timestamps-backward").message)
    assert stream.codes(75) == []


def test_duplicate_timestamps(publisher, repeated):
    stream = publisher(mangle=repeated(every=30))
    stream.run(10)
    assert re.search(r"repeated the timestamp before \d+ times", stream.find("timestamps-duplicate").message)
    stream.mangle = None
    assert stream.codes(75) == []


def test_a_change_of_resolution(publisher, video):
    stream = publisher()
    stream.run(20)
    stream.video = video(width=640, height=360)
    stream.run(3)
    finding = stream.find("format-changed")
    assert finding.severity is Severity.INFO and "from h264 1280x720 to h264 640x360" in finding.message
    stream.video = video()
    stream.run(3)
    assert stream.find("format-changed").severity is Severity.WARNING
    assert stream.codes(70) == []


def test_a_change_of_the_declaration_alone_is_no_change_of_format(publisher, video):
    stream = publisher()
    stream.run(20)
    stream.video = video(declared_fps=30.0, title="x")
    assert stream.codes(10) == []
