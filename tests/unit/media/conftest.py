"""A stream that a test publishes to by hand, on a clock that it turns by hand."""

import heapq
import itertools
from collections.abc import Callable

import pytest

from media.bitstream.duration import frame_duration
from media.track.model import Codec, Frame, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, Writer

VIDEO = Track(
    id=1,
    codec=Codec.H264,
    timescale=90_000,
    config=bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8"),
    width=320,
    height=180,
    declared_fps=30.0,
)
AUDIO = Track(id=2, codec=Codec.AAC, timescale=48_000, config=b"\x11\x90", sample_rate=48_000, channels=2)


class Alarm:
    def __init__(self, callback: Callable[[float], None]) -> None:
        self.callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """Monotonic seconds and timers under a test's control."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = itertools.count()
        self._alarms: list[tuple[float, int, Alarm]] = []

    def call_at(self, when: float, callback: Callable[[float], None], /) -> Alarm:
        alarm = Alarm(callback)
        heapq.heappush(self._alarms, (when, next(self._order), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            when, _, alarm = heapq.heappop(self._alarms)
            self.now = max(self.now, when)
            if alarm.callback is not None:
                alarm.callback(self.now)
        self.now = end

    @property
    def pending(self) -> int:
        return sum(alarm.callback is not None for _, _, alarm in self._alarms)


class Publisher:
    """Writes 30 fps video with a keyframe each second, and AAC beside it, in real time of the clock."""

    def __init__(self, streams: Streams, clock: Clock, name: str = "live") -> None:
        self.clock = clock
        self.frames = 0
        self.audio_frames = 0
        self.stopped: list[str] = []
        source = Source(protocol="test", peer="127.0.0.1:1")
        unix_us = 1_800_000_000_000_000 + round(clock.now * 1e6)
        self.writer: Writer = streams.open(name, source, clock.now, unix_us, self.stopped.append)
        self.describe()

    @property
    def stream(self) -> Stream:
        return self.writer.stream

    def describe(self, video: Track | None = VIDEO, audio: Track | None = AUDIO) -> None:
        for track in (video, audio):
            if track is not None:
                self.writer.describe(track, self.clock.now)

    def send(self, frames: int, *, size: int = 1000, gop: int = 30) -> None:
        """The next video frames, each with the audio that belongs beside it."""
        for _ in range(frames):
            number = self.frames
            dts_us = number * 1_000_000 // 30
            unit = b"\x65NUMBER" + number.to_bytes(4, "big") + bytes(size)
            data = len(unit).to_bytes(4, "big") + unit
            self.writer.write(Frame(1, dts_us, 0, number % gop == 0, data), self.clock.now)
            while self.audio_frames * 1024 * 30 <= (number + 1) * 48_000:
                audio_us = self.audio_frames * 1024 * 1_000_000 // 48_000
                self.writer.write(Frame(2, audio_us, 0, True, b"\x21" * 100), self.clock.now)
                self.audio_frames += 1
            self.frames += 1
            self.writer.flush(self.clock.now)
            self.clock.advance(1 / 30)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streams(clock: Clock) -> Streams:
    return Streams(RegistrySettings(), call_at=clock.call_at, measure=frame_duration)


@pytest.fixture
def publish(streams: Streams, clock: Clock) -> Callable[[], Publisher]:
    """Begins to publish."""
    return lambda: Publisher(streams, clock)


@pytest.fixture
def publish_on(clock: Clock) -> Callable[[Streams], Publisher]:
    """Begins to publish to other streams."""
    return lambda streams: Publisher(streams, clock)


@pytest.fixture
def publisher(publish: Callable[[], Publisher]) -> Publisher:
    return publish()
