"""One track of a publisher, measured: sizes, steps of time, lateness, second by second. Pure."""

import statistics
from collections import deque
from typing import NamedTuple

from media.ingest.diagnosis.gop import GopWatch
from media.track.model import MICROSECONDS, Codec, Frame, Kind, Packet, Track

WINDOW = 30  # seconds kept; bitrates are means over them
SHORT_WINDOW = 10  # seconds for what should show and clear sooner
EVENTS_KEPT = 64  # of each kind; more in a minute reads as so many "or more"
LEARN_STEPS = 15  # frames until the nominal distance of frames is known
STRANGE_SECONDS = 8  # a frame rate that held for so long is the new normal
JUMP_US = 3_000_000  # as the timeline: beyond it, media time is continued by force
PAUSE_SLACK_US = 2_000_000  # a step that took about as long to arrive is a pause, not a jump
LATE_STEP = 1.6  # frame distances; below it is rounding and capture jitter, above it frames are missing
AUDIO_GAP_US = 60_000  # over the frame's length; players conceal or stretch less than this
DTX_GAP_US = 500_000  # Opus sends a frame each 400 ms while it hears silence (RFC 6716 2.1.9)
# Clocks of 32-bit milliseconds (RTMP) and of 33 bits at 90 kHz (MPEG-TS) begin anew; nobody's fault.
_NEVER = (float("inf"), float("-inf"))  # least and greatest of nothing
WRAPS_US = ((1 << 32) * 1_000, (1 << 33) * 100 // 9)


class Second(NamedTuple):
    """About a second of arrivals (longer when fewer came)."""

    packets: int
    bytes: int
    media_us: int  # advance of the publisher's clock
    early_us: float  # least arrival time minus timestamp: what the network and the encoder add at best
    spread_us: float  # between the earliest and the latest packet, each against its timestamp
    missing: int  # frames that the frame rate asks for and that never came
    ticks: int  # of sound


class Total(NamedTuple):
    """Sums over the newest seconds."""

    seconds: int
    packets: int
    bytes: int
    media_us: int
    missing: int
    ticks: int


class Meter:
    """Counts one track's packets. `add` runs for every packet of every stream: it does only sums.

    Read `dts_us` and `arrived` at any time, everything else after `close`.
    """

    __slots__ = (
        "_base_us", "_bytes", "_early_us", "_high_us", "_late_us", "_learned", "_low_us", "_missing", "_odd",
        "_packets", "_started", "_strange", "_ticks", "announced", "arrived", "backward", "changes", "dts_us",
        "duplicates", "gaps", "gop", "jumps", "seconds", "shifted", "step_us", "track", "undecodable_since",
    )  # fmt: skip

    def __init__(self, track: Track, now: float) -> None:
        self.track = track
        self.announced = now
        self.arrived: float | None = None  # when the newest packet came
        self.dts_us = 0  # of the newest packet, publisher's clock
        self.step_us = 0.0  # nominal distance of frames; 0 while it is not known
        self.shifted = False  # the clock jumped since this was last set back
        self.undecodable_since: float | None = None  # frames come, but none can be decoded
        self.seconds: deque[Second] = deque(maxlen=WINDOW)
        self.jumps: deque[tuple[float, int]] = deque(maxlen=EVENTS_KEPT)  # when, by how much
        self.gaps: deque[tuple[float, int]] = deque(maxlen=EVENTS_KEPT)  # of sound: when, how long
        self.backward: deque[float] = deque(maxlen=EVENTS_KEPT)
        self.duplicates: deque[float] = deque(maxlen=EVENTS_KEPT)
        self.changes: deque[tuple[float, str]] = deque(maxlen=EVENTS_KEPT)  # of format: when, what
        self.gop = GopWatch(track.codec) if track.kind is Kind.VIDEO else None
        self._started = False
        self._strange = 0
        self._early_us, self._late_us = _NEVER
        self._restart()
        self._begin_second()

    @property
    def fps(self) -> float:
        """Nominal frame rate; 0.0 while it is not known."""
        return MICROSECONDS / self.step_us if self.step_us else 0.0

    def add(self, packet: Packet, frame: Frame, now: float) -> None:
        """Count one packet."""
        dts_us = frame.dts_us
        step_us = dts_us - self.dts_us
        if not self._low_us <= step_us <= self._high_us:
            self._odd_step(packet, step_us, now)
        self.dts_us = dts_us
        self.arrived = now
        self._packets += 1
        self._bytes += len(frame.data)
        late_us = now * 1e6 - dts_us
        if late_us < self._early_us:
            self._early_us = late_us
        if late_us > self._late_us:
            self._late_us = late_us
        if self.gop is None:
            self._ticks += packet.duration
        elif frame.keyframe or self.gop.sampling:
            self.gop.add(frame, now)

    def skip(self, frame: Frame, now: float) -> None:
        """A frame that the stream dropped, as nothing could be decoded yet: follow the clock only."""
        self.arrived = now
        if self.undecodable_since is None:
            self.undecodable_since = now
        if self._started:
            self._base_us += frame.dts_us - self.dts_us
            self.dts_us = frame.dts_us

    def close(self) -> bool:
        """End the present second; False when nothing came in it."""
        if not self._packets:
            return False
        self.undecodable_since = None
        media_us = self.dts_us - self._base_us
        spread_us = self._late_us - self._early_us
        self.seconds.append(
            Second(
                self._packets, self._bytes, media_us, self._early_us, spread_us, self._missing, self._ticks
            )
        )
        if self.gop is not None and self.step_us:
            self._watch_rate(media_us)
        self._begin_second()
        return True

    def total(self, count: int) -> Total:
        """Sums over the newest `count` seconds."""
        seconds = list(self.seconds)[-count:]
        if not seconds:
            return Total(0, 0, 0, 0, 0, 0)
        packets, size, media, _, _, missing, ticks = zip(*seconds, strict=True)
        return Total(len(seconds), sum(packets), sum(size), sum(media), sum(missing), sum(ticks))

    def change(self, track: Track, now: float) -> bool:
        """The track's description changed. True when the format did: then measuring begins anew."""
        old, self.track = self.track, track
        if _format(old) == _format(track):
            return False
        if self._started:
            self.changes.append((now, _change(_describe(old), _describe(track))))
        if self.gop is not None:
            self.gop.restart(track.codec)
        self.seconds.clear()
        self.gaps.clear()
        self._restart()
        self._begin_second()
        return True

    def _restart(self) -> None:
        self.step_us = 0.0
        self._low_us, self._high_us = 1, 0  # every step is odd until the nominal one is known
        self._learned: list[int] = []
        self._odd = 0

    def _begin_second(self) -> None:
        self._packets = self._bytes = self._missing = self._ticks = self._odd = 0
        self._base_us = self.dts_us
        self._early_us, self._late_us = _NEVER

    def _odd_step(self, packet: Packet, step_us: int, now: float) -> None:
        if not self._started:
            self._started = True
            self._base_us = step_us  # the first packet: measured from zero, this is its time
        elif abs(step_us) >= JUMP_US:
            self._leap(step_us, now)
        elif step_us < 0:
            self.backward.append(now)
        elif self.gop is None:
            self._odd_sound(packet, step_us, now)
        elif step_us == 0:
            self.duplicates.append(now)
        elif self.step_us:
            self._odd += 1
            self._missing += max(1, round(step_us / self.step_us) - 1)
        else:
            self._learn(step_us)

    def _leap(self, step_us: int, now: float) -> None:
        """A step too long to be real: shift everything that is measured against the clock."""
        waited_us = (now - self.arrived) * MICROSECONDS if self.arrived is not None else 0.0
        self._base_us += step_us
        if self.gop is not None:
            self.gop.shift(step_us)
        if abs(step_us - waited_us) <= PAUSE_SLACK_US:
            return
        self._early_us, self._late_us = _NEVER
        self.shifted = True
        if not _is_wrap(step_us):
            self.jumps.append((now, step_us))

    def _odd_sound(self, packet: Packet, step_us: int, now: float) -> None:
        """Sound: learn how long frames are from the first; later, a longer step is a gap."""
        length_us = packet.duration * MICROSECONDS // packet.track.timescale
        if self.step_us and step_us > self._high_us:
            self.gaps.append((now, step_us - length_us))
        self.step_us = float(length_us)
        self._low_us = 0  # several frames may share one timestamp of a coarse clock
        self._high_us = length_us + (DTX_GAP_US if self.track.codec is Codec.OPUS else AUDIO_GAP_US)

    def _learn(self, step_us: int) -> None:
        self._learned.append(step_us)
        if len(self._learned) < LEARN_STEPS:
            return
        middle_us = statistics.median(self._learned)
        usual = [step for step in self._learned if step < LATE_STEP * middle_us]
        self.step_us = sum(usual) / len(usual)
        declared = self.track.declared_fps
        if declared > 0 and abs(self.fps - declared) < declared / 20:
            self.step_us = MICROSECONDS / declared  # without the rounding of a coarse clock
        self._high_us = round(LATE_STEP * self.step_us)

    def _watch_rate(self, media_us: int) -> None:
        """Learn anew when another frame rate has held for STRANGE_SECONDS."""
        faster = media_us < 0.7 * self._packets * self.step_us
        slower = self._odd > 0.8 * self._packets
        self._strange = self._strange + 1 if faster or slower else 0
        if self._strange >= STRANGE_SECONDS:
            self._strange = 0
            self._restart()


def _is_wrap(step_us: int) -> bool:
    return any(abs(step_us + wrap_us) < JUMP_US for wrap_us in WRAPS_US)


def _format(track: Track) -> tuple[object, ...]:
    return track.codec, track.config, track.width, track.height, track.sample_rate, track.channels


def _describe(track: Track) -> str:
    if track.kind is Kind.VIDEO:
        return f"{track.codec} {track.width}x{track.height}"
    return f"{track.codec} {track.sample_rate} Hz {track.channels} ch"


def _change(old: str, new: str) -> str:
    return f"from {old} to {new}" if old != new else f"other settings of {new}"
