"""A simulated publisher: frames as an encoder makes them, arriving as a network brings them."""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator

import msgspec
import pytest

from media.ingest.diagnosis.observer import Diagnosis
from media.track.model import Codec, Frame, Packet, Track
from media.track.stream import Finding

IDR = bytes.fromhex("0000000665888040ffff")
P_SLICE = bytes.fromhex("00000006419a8040ffff")
B_SLICE = bytes.fromhex("00000006019e8040ffff")
AAC_48K = bytes.fromhex("1190")
AAC_FRAME = b"\x21" * 400
AAC_SAMPLES = 1_024
START = 1_000.0
TRACK_IDS = {"video": 1, "audio": 2}

Mangle = Callable[[Frame, float], Iterable[tuple[Frame, float]]]


def change(frame: Frame, **fields: object) -> Frame:
    return msgspec.structs.replace(frame, **fields)


def video_track(**fields: object) -> Track:
    return msgspec.structs.replace(Track(1, Codec.H264, 90_000, b"", width=1280, height=720), **fields)


def audio_track(**fields: object) -> Track:
    track = Track(2, Codec.AAC, 48_000, AAC_48K, sample_rate=48_000, channels=2)
    return msgspec.structs.replace(track, **fields)


def fill(data: bytes, size: int) -> bytes:
    """A sample made `size` bytes long with a filler data unit."""
    missing = size - len(data) - 4
    return data + missing.to_bytes(4, "big") + b"\x0c".ljust(missing, b"\xff") if missing > 0 else data


class Publisher:
    """Feeds a Diagnosis. Change its fields between two `run`s to change its ways."""

    def __init__(self, seed: int = 1, **fields: object) -> None:
        self.diagnosis = Diagnosis()
        self.video: Track | None = video_track()
        self.audio: Track | None = audio_track()
        self.fps = 30.0
        self.gop_s = 2.0
        self.b_frames = 0
        self.open_gop = False
        self.keyframe_data = IDR
        self.frame_bytes = 0  # filled up to
        self.rounding_us = 1_000  # RTMP counts milliseconds
        self.jitter_s = 0.02
        self.latency_s = 0.0
        self.speed = 1.0  # media seconds per second
        self.video_delay_s = 0.0  # of arrival
        self.undecodable = False  # the stream drops every frame
        self.mangle: Mangle | None = None
        for name, value in fields.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.random = random.Random(seed)
        self.media_s = 0.0
        self.wall_s = START
        self._frame = self._sample = self._in_group = 0
        self._video_s = self._audio_s = 0.0
        self._last_at = START
        self._under_way: list[tuple[float, int, Track, Frame]] = []
        self._count = itertools.count()
        self._sent = {1: START, 2: START}

    @property
    def now(self) -> float:
        return max(self.wall_s, self._last_at)

    def run(self, seconds: float) -> list[Finding]:
        """Publish for so long (media time); what the diagnosis says at the end."""
        for track, frame, at in self._frames(seconds):
            # A connection keeps the order: what is late delays what follows.
            at = self._sent[track.id] = max(self._sent[track.id], at)
            heapq.heappush(self._under_way, (at, next(self._count), track, frame))
        while self._under_way and self._under_way[0][0] <= self.wall_s:
            at, _, track, frame = heapq.heappop(self._under_way)
            self._last_at = max(self._last_at, at + self.random.uniform(0, 2 * self.jitter_s))
            if self.undecodable:
                self.diagnosis.dropped(track, frame, self._last_at)
                continue
            packet = Packet(track, 0, 0, self._duration(track), frame.keyframe, frame.data, 0, 0, 0, 0)
            self.diagnosis.observe(packet, frame, self._last_at)
        return self.diagnosis.findings(self.now)

    def codes(self, seconds: float) -> list[str]:
        return [finding.code for finding in self.run(seconds)]

    def watch(self, seconds: float, step_s: float = 1.0) -> list[list[str]]:
        """The codes after each second."""
        return [self.codes(step_s) for _ in range(round(seconds / step_s))]

    def wait(self, seconds: float) -> list[Finding]:
        """Nothing comes for so long, and nothing was made meanwhile."""
        self.wall_s = self.now + seconds
        self._last_at = self.wall_s
        return self.diagnosis.findings(self.now)

    def cut(self) -> None:
        """A scene cut: the next picture is a keyframe."""
        self._in_group = 0

    def pause(self, seconds: float) -> None:
        """Nothing is made or sent for so long; the publisher's clock goes on. Nobody asks meanwhile."""
        self.media_s += seconds
        self.wall_s += seconds
        self._video_s = self._audio_s = self.media_s

    def find(self, code: str) -> Finding | None:
        found = self.diagnosis.findings(self.now)
        return next((finding for finding in found if finding.code == code), None)

    def _frames(self, seconds: float) -> Iterator[tuple[Track, Frame, float]]:
        begin_s, begin_wall = self.media_s, self.wall_s
        self.media_s += seconds
        self.wall_s += seconds / self.speed
        while self._video_s < self.media_s or self._audio_s < self.media_s:
            if self._video_s <= self._audio_s:
                track, frame, made_s = self.video, self._picture(), self._video_s
                self._video_s += 1 / self.fps
                delay_s = self.video_delay_s
            else:
                track, frame, made_s = self.audio, self._sound(), self._audio_s
                self._audio_s += AAC_SAMPLES / 48_000
                delay_s = 0.0
            if track is None:
                continue
            at = begin_wall + (made_s - begin_s) / self.speed + self.latency_s + delay_s
            for mangled, mangled_at in self.mangle(frame, at) if self.mangle else ((frame, at),):
                yield track, mangled, mangled_at

    def _picture(self) -> Frame:
        keyframe = self._in_group == 0 or self._in_group >= round(self.gop_s * self.fps)
        if keyframe:
            self._in_group = 0
        shown, data = self._order(self._in_group)
        cts_us = self._round((shown - self._in_group) * 1e6 / self.fps)
        data = fill(self.keyframe_data if keyframe else data, self.frame_bytes)
        self._in_group += 1
        return Frame(1, self._round(self._video_s * 1e6), cts_us, keyframe, data)

    def _order(self, coded: int) -> tuple[int, bytes]:
        """Display index, with the reordering delay, of the frame coded as number `coded` of its group."""
        if not self.b_frames:
            return coded, P_SLICE
        delay = 1 + self.open_gop * self.b_frames
        if self.open_gop and 0 < coded <= self.b_frames:
            return coded - 1 - self.b_frames + delay, B_SLICE
        first = 1 + self.open_gop * self.b_frames
        if coded < first:
            return coded + delay, P_SLICE
        group, place = divmod(coded - first, self.b_frames + 1)
        base = group * (self.b_frames + 1)
        if place == 0:
            return base + self.b_frames + 1 + delay, P_SLICE
        return base + place + delay, B_SLICE

    def _sound(self) -> Frame:
        return Frame(2, self._round(self._audio_s * 1e6), 0, True, AAC_FRAME)

    def _round(self, us: float) -> int:
        return round(us / self.rounding_us) * self.rounding_us

    def _duration(self, track: Track) -> int:
        return AAC_SAMPLES if track is self.audio else round(track.timescale / self.fps)


@pytest.fixture
def publisher() -> Callable[..., Publisher]:
    """Makes publishers; see Publisher for what can be set."""
    return Publisher


@pytest.fixture
def video() -> Callable[..., Track]:
    return video_track


@pytest.fixture
def audio() -> Callable[..., Track]:
    return audio_track


@pytest.fixture
def shifted() -> Callable[[int], Mangle]:
    """The publisher's clock is so many microseconds ahead."""
    return lambda by_us: lambda frame, at: ((change(frame, dts_us=frame.dts_us + by_us), at),)


@pytest.fixture
def retimed() -> Callable[..., Mangle]:
    """Times of one kind changed: dts_us * stretch + shift_us, and another composition offset."""

    def make(kind: str, *, stretch: float = 1.0, shift_us: int = 0, cts_us: int | None = None) -> Mangle:
        def mangle(frame: Frame, at: float) -> Iterable[tuple[Frame, float]]:
            if frame.track_id != TRACK_IDS[kind]:
                return ((frame, at),)
            dts_us = round(frame.dts_us * stretch / 1_000) * 1_000 + shift_us
            cts = frame.cts_us if cts_us is None else cts_us
            return ((change(frame, dts_us=dts_us, cts_us=cts), at),)

        return mangle

    return make


@pytest.fixture
def thinned() -> Callable[..., Mangle]:
    """Of each `every` frames of a kind, the first `run` never come; keyframes of video always do."""

    def make(every: int, kind: str = "video", run: int = 1) -> Mangle:
        count = itertools.count()

        def mangle(frame: Frame, at: float) -> Iterable[tuple[Frame, float]]:
            concerned = frame.track_id == TRACK_IDS[kind] and (kind == "audio" or not frame.keyframe)
            return () if concerned and next(count) % every < run else ((frame, at),)

        return mangle

    return make


@pytest.fixture
def repeated() -> Callable[[int], Mangle]:
    """Each `every`th picture comes twice with one timestamp."""

    def make(every: int) -> Mangle:
        count = itertools.count(1)

        def mangle(frame: Frame, at: float) -> Iterable[tuple[Frame, float]]:
            twice = frame.track_id == 1 and not frame.keyframe and next(count) % every == 0
            return ((frame, at),) * (1 + twice)

        return mangle

    return make


@pytest.fixture
def bunched() -> Callable[[float], Mangle]:
    """The network lets packets through only each so many seconds."""
    return lambda every_s: lambda frame, at: ((frame, math.ceil(at / every_s) * every_s),)
