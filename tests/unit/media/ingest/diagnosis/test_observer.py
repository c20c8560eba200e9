"""The diagnosis as the stream's writer drives it, and its bounds."""

from pathlib import Path

import pytest

from media.ingest.diagnosis.meter import EVENTS_KEPT, WINDOW
from media.ingest.diagnosis.observer import CODES, Diagnosis
from media.track.model import Codec, Frame, Packet, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import TRACKS_MAX, Source

IDR = bytes.fromhex("0000000665888040ffff")
P_SLICE = bytes.fromhex("00000006419a8040ffff")


class NoTimer:
    def cancel(self) -> None: ...


def test_a_writer_drives_it():
    streams = Streams(
        RegistrySettings(),
        call_at=lambda when, callback: NoTimer(),
        measure=lambda track, data: None,
        observer=Diagnosis,
    )
    writer = streams.open("live", Source("rtmp", "127.0.0.1:1"), 0.0, 10**15, lambda reason: None)
    writer.describe(Track(1, Codec.H264, 90_000, b"", width=640, height=360), 0.0)
    for index in range(30 * 20):
        now = index / 30
        frame = Frame(1, round(now * 1_000) * 1_000, 0, index % 150 == 0, P_SLICE if index % 150 else IDR)
        writer.write(frame, now)
        writer.flush(now)
    found = writer.stream.statistics(20.0).findings
    assert [finding.code for finding in found] == ["keyframe-interval"]
    assert found[0].message.startswith("Keyframe every 5.0 s")


def test_several_renditions_make_one_finding():
    diagnosis = Diagnosis()
    tracks = [Track(number, Codec.H264, 90_000, b"", width=640 // number) for number in (1, 3)]
    for index in range(30 * 20):
        for track in tracks:
            frame = Frame(track.id, index * 33_333, 0, index % 150 == 0, P_SLICE if index % 150 else IDR)
            diagnosis.observe(packet(track, frame), frame, index / 30)
    (finding,) = diagnosis.findings(20.0)
    assert finding.message.startswith("v1: Keyframe every 5.0 s")
    assert finding.message.endswith("(also v3)")


def packet(track: Track, frame: Frame) -> Packet:
    return Packet(track, 0, 0, 3_000, frame.keyframe, frame.data, 0, 0, 0, 0)


@pytest.mark.parametrize("extra", [1, 100])
def test_tracks_are_bounded(extra):
    diagnosis = Diagnosis()
    for number in range(1, TRACKS_MAX + extra + 1):
        track = Track(number, Codec.H264, 90_000, b"")
        frame = Frame(number, 0, 0, True, IDR)
        diagnosis.observe(packet(track, frame), frame, 0.0)
        diagnosis.dropped(track, frame, 0.0)
    assert len(diagnosis._meters) == TRACKS_MAX


def test_events_and_windows_are_bounded():
    diagnosis, track = Diagnosis(), Track(1, Codec.H264, 90_000, b"")
    for index in range(3_000):
        frame = Frame(1, index % 2 * 10_000_000 - index * 40_000, 0, index % 7 == 0, IDR)
        diagnosis.observe(packet(track, frame), frame, index / 20)
    meter = diagnosis._meters[1]
    assert len(meter.seconds) == WINDOW and len(meter.jumps) == EVENTS_KEPT
    assert "64 times or more" in next(
        finding.message for finding in diagnosis.findings(150.0) if finding.code == "timestamp-jump"
    )


def test_a_track_id_that_changes_its_kind_is_another_track():
    diagnosis = Diagnosis()
    picture, sound = Track(1, Codec.H264, 90_000, b""), Track(1, Codec.AAC, 48_000, b"")
    for index in range(400):
        frame = Frame(1, index * 33_333, 0, True, IDR)
        diagnosis.observe(packet(picture, frame), frame, index / 30)
    assert [finding.code for finding in diagnosis.findings(13.4)] == ["keyframes-frequent"]
    frame = Frame(1, 400 * 33_333, 0, True, b"sound")
    diagnosis.observe(packet(sound, frame), frame, 13.4)
    assert diagnosis.findings(15.0) == []


def test_codes_are_unique():
    assert len(set(CODES)) == len(CODES)


def test_every_code_is_explained_to_users():
    guide = (Path(__file__).parents[5] / "docs" / "ingest.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in guide] == []
