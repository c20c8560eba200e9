"""Streams to package: written by hand, followed by windows that begin where a test wants."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from media.bitstream.duration import frame_duration
from media.package.window import LiveWindow
from media.track.marker import MarkerSettings
from media.track.model import Codec, Frame, Packet, Track
from media.track.stream import Source, Stream, StreamSettings, StreamState, Writer

SECOND = 1_000_000
UNIX_US = 1_700_000_000 * SECOND
AVCC = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=320, height=180, declared_fps=30.0)
AUDIO = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
FRENCH = Track(
    3, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2, language="fra", title="Français"
)


@dataclasses.dataclass
class Studio:
    """A stream, its publisher, and a clock that follows what is published."""

    stream: Stream
    writer: Writer
    tracks: tuple[Track, ...]
    published_us: int = 0  # how much the present publisher has sent

    def send(
        self,
        seconds: float,
        *,
        gop: int = 60,
        silent: Iterable[int] = (),
        on_flush: Callable[[], Any] = lambda: None,
    ) -> None:
        """30 frames a second and the sound beside them, flushed with each frame of the first track."""
        end_us = self.published_us + round(seconds * SECOND)
        last = min(track.id for track in self.tracks if track.id not in silent)
        for at_us, frame in self._frames(self.published_us, end_us, gop):
            if frame.track_id in silent:
                continue
            now = 100 + at_us / SECOND
            self.writer.write(frame, now)
            if frame.track_id == last:
                self.writer.flush(now)
                on_flush()
        self.published_us = end_us

    def _frames(self, begin_us: int, end_us: int, gop: int) -> list[tuple[int, Frame]]:
        frames = []
        for track in self.tracks:
            if track.codec is Codec.H264:
                indices = range(-(-begin_us * 30 // SECOND), -(-end_us * 30 // SECOND))
                for i in indices:
                    data = b"\0\0\0\x06\x65" + track.id.to_bytes() + i.to_bytes(4)
                    at = round(i * 1000 / 30) * 1000
                    frames.append((at, Frame(track.id, at, 0, i % gop == 0, data)))
            else:
                indices = range(-(-begin_us * 48 // 1024_000), -(-end_us * 48 // 1024_000))
                for i in indices:
                    at = round(i * 1024 / 48) * 1000
                    frames.append((at, Frame(track.id, at, 0, True, b"\x21" + i.to_bytes(4))))
        return sorted(frames, key=lambda pair: (pair[0], pair[1].track_id))

    def again(self, *tracks: Track) -> None:
        """Another publisher, with these tracks."""
        self.writer.stop("replaced")
        self.writer = _writer(self.stream)
        self.tracks = tracks
        self.published_us = 0
        for track in tracks:
            self.writer.describe(track, 100.0)

    def end(self, state: StreamState = StreamState.ENDED) -> None:
        self.writer.close("bye", 100.0)
        self.stream.state = state

    def window(self) -> LiveWindow:
        return LiveWindow(self.stream)


def _writer(stream: Stream) -> Writer:
    return Writer(
        stream,
        Source("test", "127.0.0.1:1"),
        100.0,
        UNIX_US,
        on_stop=lambda reason: None,
        on_close=lambda writer, reason, now: None,
        measure=frame_duration,
        observer=None,
    )


def _studio(
    *tracks: Track, segment_us: int = 2_000_000, part_us: int = 500_000, window_us: int = 1 << 60
) -> Studio:
    stream = Stream("test", StreamSettings(MarkerSettings(segment_us, part_us), window_us), 100.0, UNIX_US)
    studio = Studio(stream, _writer(stream), tracks or (VIDEO, AUDIO))
    for track in studio.tracks:
        studio.writer.describe(track, 100.0)
    return studio


class Copy:
    """Another node's copy of a stream: the same packets and sections, from a place in the middle on."""

    def __init__(self, origin: Stream, first: int = 0) -> None:
        self.stream = Stream(origin.name, StreamSettings(window_us=1 << 60), 200.0, 0)
        self.origin = origin
        self._next = first

    def follow(self, limit: int | None = None) -> None:
        ring = self.origin.ring
        packets: list[Packet] = ring.slice(self._next, ring.next if limit is None else self._next + limit)
        for packet in packets:
            self.stream.sections.setdefault(packet.discontinuity, self.origin.section_of(packet))
            self.stream.ring.append(packet)
        self._next += len(packets)
        self.stream.state = self.origin.state


@pytest.fixture
def open_studio() -> Callable[..., Studio]:
    """Makes a stream with a publisher of these tracks (H.264 and AAC by default)."""
    return _studio


@pytest.fixture
def copy_of() -> type[Copy]:
    return Copy


@pytest.fixture
def tracks() -> dict[str, Track]:
    return {"video": VIDEO, "audio": AUDIO, "french": FRENCH}
