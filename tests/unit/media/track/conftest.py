"""Publishers that a test makes up, and a stream that takes them in."""

import dataclasses
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import pytest

from media.bitstream.duration import frame_duration
from media.track.marker import MarkerSettings
from media.track.model import Codec, Frame, Packet, Track
from media.track.stream import Source, Stream, StreamSettings, Writer

SECOND = 1_000_000
VIDEO = Track(1, Codec.H264, 90_000, b"\x01\x42\xc0\x0d", width=320, height=180)
AUDIO = Track(2, Codec.AAC, 44_100, b"\x12\x10", sample_rate=44_100, channels=2)


def pictures(
    seconds: float,
    fps: Fraction | float = 30,
    gop: int = 60,
    *,
    start_us: int = 0,
    track: int = 1,
    step: int = 1000,
) -> list[Frame]:
    """Video frames with times rounded to `step` microseconds; `gop` 0: one keyframe only."""
    count = int(seconds * fps)
    return [
        Frame(
            track,
            start_us + round(index * SECOND / fps / step) * step,
            0,
            index % (gop or count) == 0,
            b"V" * 50,
        )
        for index in range(count)
    ]


def sounds(
    seconds: float,
    rate: int = 44_100,
    *,
    start_us: int = 0,
    track: int = 2,
    step: int = 1000,
    samples: int = 1024,
) -> list[Frame]:
    """Audio frames of 1024 samples with times rounded to `step` microseconds."""
    return [
        Frame(track, start_us + round(index * samples * SECOND / rate / step) * step, 0, True, b"A" * 20)
        for index in range(int(seconds * rate / samples))
    ]


def merged(*lists: Iterable[Frame]) -> list[Frame]:
    """Frames of all lists in the order of their times; ties in the order of the lists."""
    return sorted((frame for frames in lists for frame in frames), key=lambda frame: frame.dts_us)


def shifted(frames: Iterable[Frame], by_us: int) -> list[Frame]:
    """The same frames on a clock that is `by_us` ahead."""
    return [Frame(f.track_id, f.dts_us + by_us, f.cts_us, f.keyframe, f.data) for f in frames]


@dataclasses.dataclass
class Studio:
    """A stream and its publisher."""

    stream: Stream
    writer: Writer
    tracks: tuple[Track, ...]
    now: float = 100.0
    stopped: list[str] = dataclasses.field(default_factory=list)
    closed: list[str] = dataclasses.field(default_factory=list)

    def again(self, *tracks: Track) -> None:
        """Another publisher continues the stream."""
        self.writer.stop("replaced")
        self.writer = _writer(self.stream, self.now, self.stopped, self.closed)
        self.tracks = tracks or self.tracks
        self.describe(*self.tracks)

    def describe(self, *tracks: Track) -> None:
        for track in tracks:
            self.writer.describe(track, self.now)

    def publish(self, frames: Iterable[Frame], *, delay_s: float = 0.0) -> list[Packet]:
        """Write frames as they come; `now` follows their times. Returns the packets made of them."""
        begin = self.stream.ring.next
        base: int | None = None
        began = self.now
        for frame in frames:
            base = frame.dts_us if base is None else base
            self.now = max(self.now, began + delay_s + (frame.dts_us - base) / SECOND)
            self.writer.write(frame, self.now)
        self.writer.flush(self.now)
        return self.stream.ring.slice(begin, self.stream.ring.next)

    def packets(self, track: int | None = None) -> list[Packet]:
        held = self.stream.ring.slice(0, self.stream.ring.next)
        return [packet for packet in held if track is None or packet.track.id == track]


def _writer(stream: Stream, now: float, stopped: list[str], closed: list[str]) -> Writer:
    return Writer(
        stream,
        Source("test", "127.0.0.1:1"),
        now,
        1_800_000_000 * SECOND + round(now * SECOND),
        on_stop=stopped.append,
        on_close=lambda writer, reason, now: closed.append(reason),
        measure=frame_duration,
        observer=None,
    )


def _studio(
    *tracks: Track,
    segment_us: int = 2_000_000,
    part_us: int = 500_000,
    window_us: int = 1 << 60,
    ring_bytes: int = 1 << 40,
) -> Studio:
    settings = StreamSettings(MarkerSettings(segment_us, part_us), window_us, ring_bytes)
    stream = Stream("test", settings, 100.0, 1_800_000_000 * SECOND)
    stopped: list[str] = []
    closed: list[str] = []
    studio = Studio(
        stream, _writer(stream, 100.0, stopped, closed), tracks or (VIDEO, AUDIO), 100.0, stopped, closed
    )
    studio.describe(*studio.tracks)
    return studio


@pytest.fixture
def open_studio() -> Callable[..., Studio]:
    """Makes a stream with a publisher of these tracks (H.264 and AAC by default)."""
    return _studio


@pytest.fixture
def made() -> Any:
    """The makers of frames: `pictures`, `sounds`, `merged`, `shifted`; and tracks `VIDEO`, `AUDIO`."""

    class Made:
        pass

    for maker in (pictures, sounds, merged, shifted):
        setattr(Made, maker.__name__, staticmethod(maker))
    Made.VIDEO, Made.AUDIO = VIDEO, AUDIO  # type: ignore[attr-defined]  # a namespace, made for tests only
    return Made
