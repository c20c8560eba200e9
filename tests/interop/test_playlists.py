"""Playlists read by parsers that we did not write: Python's m3u8, npm's hls-parser."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import m3u8
import pytest

from media.bitstream.duration import frame_duration
from media.package.playlist import media_playlist, multivariant_playlist
from media.package.window import LiveWindow
from media.track.model import Codec, Frame, Track
from media.track.stream import Source, Stream, StreamSettings, StreamState, Writer

pytestmark = pytest.mark.interop

SECOND = 1_000_000
UNIX_US = 1_700_000_000 * SECOND
WINDOW_US = 16 * SECOND
NODE = Path(__file__).parent / "node"
AVCC = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=320, height=180, declared_fps=30.0)
AUDIO = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
FRENCH = Track(
    3, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2, language="fra", title="Français"
)
READ = """
const HLS = require('hls-parser');
HLS.setOptions({strictMode: true});
const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const brief = (playlist) => playlist.isMasterPlaylist ? {
  variants: playlist.variants.map(v => ({
    uri: v.uri, codecs: v.codecs, bandwidth: v.bandwidth, frameRate: v.frameRate,
    audio: v.audio.map(a => ({name: a.name, uri: a.uri, language: a.language, isDefault: a.isDefault})),
  })),
} : {
  target: playlist.targetDuration, partTarget: playlist.partTargetDuration, first: playlist.mediaSequenceBase,
  discontinuities: playlist.discontinuitySequenceBase, ended: playlist.endlist, skipped: playlist.skip,
  control: playlist.lowLatencyCompatibility,
  segments: playlist.segments.map(s => ({
    uri: s.uri, duration: s.duration, msn: s.mediaSequenceNumber, discontinuity: s.discontinuity,
    map: s.map && s.map.uri, time: s.programDateTime,
    parts: s.parts.map(p => ({
      uri: p.uri, duration: p.duration, hint: p.hint, independent: p.independent, gap: p.gap,
    })),
  })),
  reports: playlist.renditionReports.map(r => ({uri: r.uri, msn: r.lastMSN, part: r.lastPart})),
};
process.stdout.write(JSON.stringify(texts.map(text => brief(HLS.parse(text)))));
"""


class Studio:
    """A stream that is published to in no time."""

    def __init__(self, *tracks: Track) -> None:
        self.stream = Stream("test", StreamSettings(), 100.0, UNIX_US)
        self.begin(*tracks)

    def begin(self, *tracks: Track) -> None:
        self.tracks = tracks
        self.writer = Writer(
            self.stream, Source("test", "[::1]:1"), 100.0, UNIX_US, on_stop=lambda reason: None,
            on_close=lambda writer, reason, now: None, measure=frame_duration, observer=None,
        )  # fmt: skip
        for track in tracks:
            self.writer.describe(track, 100.0)

    def send(self, seconds: float, silent: int = 0) -> None:
        frames = []
        for track in self.tracks:
            step_us = 33_333 if track.codec is Codec.H264 else 21_333
            for index in range(round(seconds * SECOND) // step_us):
                keyframe = track.codec is not Codec.H264 or index % 60 == 0
                frames.append(Frame(track.id, index * step_us // 1000 * 1000, 0, keyframe, bytes(500)))
        for frame in sorted(frames, key=lambda frame: (frame.dts_us, frame.track_id)):
            if frame.track_id != silent:
                self.writer.write(frame, 100 + frame.dts_us / SECOND)


def live() -> LiveWindow:
    studio = Studio(VIDEO, AUDIO)
    studio.send(31.2)
    return LiveWindow(studio.stream)


def ended() -> LiveWindow:
    studio = Studio(VIDEO, AUDIO)
    studio.send(7.2)
    studio.stream.state = StreamState.ENDED
    return LiveWindow(studio.stream)


def changing() -> LiveWindow:
    """Sound comes and goes; two sounds, of which one is silent; then one."""
    studio = Studio(VIDEO)
    studio.send(5.2)
    studio.begin(VIDEO, AUDIO, FRENCH)
    studio.send(4.3, silent=3)
    studio.begin(VIDEO, AUDIO)
    studio.send(3.4)
    return LiveWindow(studio.stream)


def several() -> LiveWindow:
    studio = Studio(VIDEO, AUDIO, FRENCH)
    studio.send(9.6)
    return LiveWindow(studio.stream)


def sound() -> LiveWindow:
    studio = Studio(AUDIO)
    studio.send(9.6)
    return LiveWindow(studio.stream)


CASES = {"live": live, "ended": ended, "changing": changing, "several": several, "sound": sound}


def media_texts(window: LiveWindow) -> Iterator[tuple[str, str]]:
    for name in sorted({name for segment in window.segments for name in segment.renditions}):
        text = media_playlist(window, name, WINDOW_US)
        assert text is not None
        yield name, text.decode()


def expected(window: LiveWindow, name: str) -> list[tuple[str, float, int]]:
    """URI, duration and init of each complete segment that is to be listed, by the window alone."""
    run: list[tuple[str, float, int]] = []
    for segment in reversed(window.segments):
        rendition = segment.renditions.get(name)
        if rendition is None:
            if run:
                break
            continue
        if segment.complete and segment.start_us >= window.segments[-1].start_us - WINDOW_US:
            run.append((f"{segment.msn}.m4s", segment.duration_us / SECOND, rendition.init))
    return run[::-1]


@pytest.mark.parametrize("case", CASES)
def test_m3u8_reads_them(case: str) -> None:
    window = CASES[case]()
    for name, text in media_texts(window):
        read = m3u8.loads(text)
        segments = [segment for segment in read.segments if segment.uri]
        wanted = expected(window, name)
        assert [segment.uri for segment in segments] == [uri for uri, _, _ in wanted]
        assert [segment.duration for segment in segments] == pytest.approx(
            [length for _, length, _ in wanted], abs=1e-5
        )
        assert [segment.init_section.uri for segment in segments] == [f"init-{n}.mp4" for _, _, n in wanted]
        assert read.version == 9 and read.target_duration >= max(s.duration for s in segments) - 0.5
        assert str(read.media_sequence) == segments[0].uri.removesuffix(".m4s")
        control: Any = read.server_control
        assert control.can_block_reload == "YES"
        assert control.part_hold_back >= 3 * read.part_inf.part_target - 1e-9
        assert control.can_skip_until >= 6 * read.target_duration
        parts = [part for segment in read.segments for part in segment.parts]
        assert all(part.duration <= read.part_inf.part_target for part in parts)
        assert read.is_endlist == (case == "ended" or name not in window.segments[-1].renditions)
        turns = [segment.discontinuity for segment in segments[1:]]
        by_msn = {f"{s.msn}.m4s": s.section.discontinuity for s in window.segments}
        assert turns == [by_msn[b.uri] != by_msn[a.uri] for a, b in pairwise(segments)]
        times = [segment.program_date_time for segment in segments]
        assert times == sorted(times)


def test_m3u8_reads_delta_updates() -> None:
    text = media_playlist(live(), "v1", WINDOW_US, skip=True)
    assert text is not None
    read = m3u8.loads(text.decode())
    assert read.skip.skipped_segments == 2
    whole = media_playlist(live(), "v1", WINDOW_US)
    assert whole is not None
    assert [s.uri for s in m3u8.loads(whole.decode()).segments][2:] == [s.uri for s in read.segments]


@pytest.mark.parametrize("case", CASES)
def test_m3u8_reads_multivariant_playlists(case: str) -> None:
    window = CASES[case]()
    text = multivariant_playlist(window, "?token=t")
    assert text is not None
    read = m3u8.loads(text.decode())
    assert read.is_variant
    renditions = window.segments[-1].renditions.values()
    assert [p.uri for p in read.playlists] == [
        f"{r.name}/index.m3u8?token=t" for r in renditions if not r.audio_group and not r.sound_only
    ]
    assert [medium.uri for medium in read.media] == [
        f"{r.name}/index.m3u8?token=t" for r in renditions if r.audio_group
    ]
    for playlist in read.playlists:
        assert playlist.stream_info.bandwidth >= playlist.stream_info.average_bandwidth > 0


@pytest.fixture(scope="module")
def read_by_node() -> Any:
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "hls-parser").is_dir():
        pytest.skip("needs node and `npm ci` in tests/interop/node")

    def read(texts: list[str]) -> Any:
        ran = subprocess.run(
            [node, "-e", READ], cwd=NODE, input=json.dumps(texts), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return read


def test_hls_parser_reads_them_strictly(read_by_node: Any) -> None:
    windows = {case: make() for case, make in CASES.items()}
    texts = [(case, name, text) for case in windows for name, text in media_texts(windows[case])]
    for (case, name, _), read in zip(texts, read_by_node([text for _, _, text in texts]), strict=True):
        window = windows[case]
        segments = [segment for segment in read["segments"] if segment["uri"]]
        wanted = expected(window, name)
        assert [(s["uri"], s["map"]) for s in segments] == [(uri, f"init-{n}.mp4") for uri, _, n in wanted]
        assert [s["duration"] for s in segments] == pytest.approx(
            [length for _, length, _ in wanted], abs=1e-5
        )
        assert [f"{s['msn']}.m4s" for s in segments] == [uri for uri, _, _ in wanted]
        assert read["control"]["canBlockReload"] is True
        hints = [part["uri"] for s in read["segments"] for part in s["parts"] if part["hint"]]
        if case == "ended" or name not in window.segments[-1].renditions:
            assert read["ended"] and hints == []
        else:
            msn, part = window.upcoming()
            assert hints == [f"{msn}.{part}.m4s"]
        for segment in segments:
            parts = [part for part in segment["parts"] if not part["hint"]]
            if parts:
                assert sum(part["duration"] for part in parts) == pytest.approx(segment["duration"], abs=1e-4)


def test_hls_parser_reads_multivariant_playlists_strictly(read_by_node: Any) -> None:
    made = [multivariant_playlist(make()) for make in CASES.values()]
    for read in read_by_node([text.decode() for text in made if text is not None]):
        assert read["variants"]
    (read,) = read_by_node([(multivariant_playlist(several()) or b"").decode()])
    (variant,) = read["variants"]
    assert variant["codecs"] == "avc1.42c00d,mp4a.40.2" and variant["frameRate"] == 30
    assert [(a["name"], a["language"], a["isDefault"]) for a in variant["audio"]] == [
        ("a2", "und", True),
        ("Français", "fra", False),
    ]
