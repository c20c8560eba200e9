"""A publisher's timestamps made trustworthy: one monotonic media time per stream. Pure.

All tracks of a publisher share one offset from its clock to media time, so that sound and
picture stay together. A timestamp is believed when it continues its own track and lies near
the newest media time of any track. One that does not is taken as missing until the next
confirms it. A confirmed break (a wrap, a jump, an encoder that restarted its clock, a long
stall) moves the track to a new offset that continues where the stream was; a track that
breaks later takes the offset of the one that broke first, if that brings it in line.
"""

import dataclasses

import msgspec

from media.track.model import MICROSECONDS, Frame, Kind, Track

MEDIA_START_US = 4_000_000  # first media time; above BEHIND_US, so that no time is negative
AHEAD_US = 3_000_000  # a longer hole in all tracks is closed, a shorter one kept; guess
BEHIND_US = 3_000_000  # interleaving of the worst muxers seen, GStreamer's flvmux, is about 1 s
NEAR_US = 1_500_000  # believed at once when no further ahead; one frame a second needs 1 s
REORDER_US = 100_000  # a step back that is jitter of a capture clock, not a clock set back
RESYNC_US = 500_000  # tracks closer than this are taken to run on the same clock
AUDIO_SLACK_US = 45_000  # two AAC frames: below this, audio is made gapless and exact
AUDIO_DRIFT_US = 5_000  # audio further from the publisher's clock than this is led back to it
VIDEO_STEP_US = 1_000_000  # a longer distance tells a frame's duration only when it comes twice
CTS_MAX_US = 10_000_000  # a composition offset beyond this is damage, not reordering
CTS_SHIFT_MAX_US = 500_000  # negative offsets are made positive by a shift of up to this
NOMINAL_VIDEO_US = 33_333  # until two frames have been seen and no frame rate was declared
NOMINAL_AUDIO_HZ = 50  # frames a second where the codec does not tell their length

_DRIFT_SHIFT = 6  # audio's error is averaged over 2^6 frames, 1.4 s of AAC


@dataclasses.dataclass(slots=True)
class TimelineStatistics:
    """What was repaired, in frames."""

    jumps: int = 0  # timestamps out of line with the stream; media time continued instead
    outliers: int = 0  # timestamps out of line that were not confirmed, taken as missing
    backward: int = 0  # before the frame before; video moved forward, audio dropped
    duplicates: int = 0  # the same timestamp again, taken as missing
    audio_gaps: int = 0  # silence of more than AUDIO_SLACK_US between two frames
    bad_offsets: int = 0  # negative or absurd composition offsets


@dataclasses.dataclass(slots=True)
class _TrackClock:
    offset_us: int
    timescale: int
    last_us: int = -1  # media time of the newest frame; -1 before the first
    end_us: int = -1  # and its end
    last_dts: int = -1  # the same in ticks
    last_duration: int = 0  # ticks
    last_step: int = 0  # distance of the two newest video frames, ticks
    last_raw_us: int | None = None  # None before the publisher's first frame
    hole_us: int | None = None  # where the newest frame left a hole behind it begins
    suspect_us: int | None = None  # publisher's time of a frame that waits to be confirmed
    drift: int = 0  # mean of audio's error, ticks shifted left by _DRIFT_SHIFT
    cts_shift_us: int = 0


class Times(msgspec.Struct, frozen=True, gc=False):
    """Repaired times of one frame: ticks of its track's timescale, and the same in microseconds."""

    dts: int
    cts: int
    duration: int
    dts_us: int
    duration_us: int
    jumped: bool  # media time was continued by force here


class Timeline:
    """Maps one stream's publishers' timestamps to media time, over reconnects."""

    def __init__(self) -> None:
        self.statistics = TimelineStatistics()
        self._clocks: dict[int, _TrackClock] = {}
        self._front_us = -1  # newest media time of any track
        self._newest_us = -1  # the greatest end of any frame
        self._offset_us: int | None = None  # the offset that was agreed on last

    @property
    def newest_us(self) -> int:
        """End of the newest frame in media time, microseconds; -1 before the first."""
        return self._newest_us

    def reach(self, end_us: int) -> None:
        """A packet that another node gave its times ends here."""
        self._newest_us = max(self._newest_us, end_us)

    def forget(self) -> None:
        """What comes next does not follow on anything."""
        self._newest_us = -1

    def go_on(self, end_us: int) -> None:
        """What comes next follows on media that another node wrote and that ends here."""
        self._clocks, self._offset_us = {}, None
        self._front_us = self._newest_us = max(end_us, MEDIA_START_US)

    def restart(self) -> None:
        """A new publisher with a clock of its own continues this stream."""
        self._offset_us = None
        used = {number: clock for number, clock in self._clocks.items() if clock.last_raw_us is not None}
        for clock in used.values():
            clock.last_raw_us = clock.suspect_us = None
        self._clocks = used

    def repair(self, track: Track, frame: Frame, audio_duration: int | None) -> Times | None:
        """Times for `frame`, None when it is sound for a time that sound was given for already.

        `audio_duration` is its exact length in ticks where the codec tells it.
        """
        raw_us = frame.dts_us
        clock = self._clocks.get(track.id)
        if clock is None or clock.last_raw_us is None or clock.timescale != track.timescale:
            clock = self._begin(track, clock, raw_us)
        front = self._front_us
        if clock.offset_us != self._offset_us and front - clock.end_us > RESYNC_US:
            self._rejoin(clock, raw_us)
        media_us = raw_us + clock.offset_us
        jumped = False
        if clock.last_us <= media_us and (
            front - BEHIND_US <= media_us <= (front if front > clock.end_us else clock.end_us) + NEAR_US
        ):
            clock.suspect_us = None
        else:
            media_us, jumped = self._doubt(track, frame, clock, media_us)
        if track.kind is Kind.AUDIO:
            dts, duration = self._audio(track.timescale, clock, media_us, audio_duration)
            if dts < 0:
                clock.last_raw_us = raw_us
                return None
            cts = 0
        else:
            dts, duration = self._video(track, clock, media_us, raw_us)
            cts = self._composition(track, clock, frame.cts_us)
        dts_us = dts * MICROSECONDS // track.timescale
        duration_us = duration * MICROSECONDS // track.timescale
        clock.last_raw_us = raw_us
        clock.last_dts, clock.last_duration = dts, duration
        clock.last_us, clock.end_us = dts_us, dts_us + duration_us
        if dts_us > front:
            self._front_us = dts_us
        if clock.end_us > self._newest_us:
            self._newest_us = clock.end_us
        return Times(dts, cts, duration, dts_us, duration_us, jumped)

    def _begin(self, track: Track, before: _TrackClock | None, raw_us: int) -> _TrackClock:
        """The clock of a track whose first frame this is: from this publisher, or in this timescale."""
        if before is not None and before.last_raw_us is not None:
            offset_us = before.offset_us
        else:
            if self._offset_us is None:
                start_us = MEDIA_START_US if self._newest_us < 0 else self._newest_us
                self._offset_us = start_us - raw_us
            offset_us = self._offset_us
            media_us, front = raw_us + offset_us, self._front_us
            if front >= 0 and not front - BEHIND_US <= media_us <= front + AHEAD_US:
                offset_us = front - raw_us  # this track has a clock of its own
        clock = _TrackClock(offset_us, track.timescale)
        if before is not None:
            clock.last_us, clock.end_us = before.last_us, before.end_us
            clock.last_duration = before.last_duration * track.timescale // before.timescale
            # Rounded up, so that times keep growing over a change of timescale.
            clock.last_dts = -(-before.last_dts * track.timescale // before.timescale)
        self._clocks[track.id] = clock
        return clock

    def _doubt(self, track: Track, frame: Frame, clock: _TrackClock, media_us: int) -> tuple[int, bool]:
        """Media time of a frame whose timestamp is out of line, and whether its offset was changed."""
        front, raw_us = self._front_us, frame.dts_us
        if clock.last_us < 0:
            return media_us, False
        in_line = front - BEHIND_US <= media_us <= front + AHEAD_US
        if in_line and media_us < clock.last_us:
            # Jitter, or one frame was ahead by mistake and those after it fill the hole it left.
            begin_us = clock.last_us - REORDER_US if clock.hole_us is None else clock.hole_us
            if media_us >= begin_us:
                return media_us, False
        suspect, clock.suspect_us = clock.suspect_us, raw_us
        confirmed = suspect is not None and 0 < raw_us - suspect <= AHEAD_US
        # An encoder that restarted begins with a keyframe: readers get a new section right there.
        restarted = frame.keyframe and not in_line and track.kind is Kind.VIDEO
        if not confirmed and not restarted:
            self.statistics.outliers += 1
            return self._continued(clock), False
        clock.suspect_us = None
        if in_line and (media_us > clock.last_us or self._has_company(track.id, clock, media_us)):
            return media_us, False
        self.statistics.jumps += 1
        agreed = self._agreed_offset(clock, raw_us)
        self._offset_us = clock.offset_us = self._continued(clock) - raw_us if agreed is None else agreed
        return raw_us + clock.offset_us, agreed is None

    def _rejoin(self, clock: _TrackClock, raw_us: int) -> None:
        """A silent track is back, and others broke since: take their offset if it fits better."""
        assert self._offset_us is not None
        error_us = abs(raw_us + self._offset_us - self._front_us)
        if error_us <= RESYNC_US and error_us < abs(raw_us + clock.offset_us - self._front_us):
            clock.offset_us = self._offset_us

    def _continued(self, clock: _TrackClock) -> int:
        """Where a track goes on when its timestamps do not tell."""
        return clock.end_us if clock.end_us >= self._front_us - NEAR_US else self._front_us

    def _has_company(self, track_id: int, clock: _TrackClock, media_us: int) -> bool:
        """Is another track with the same offset at this time? Then this one was ahead by mistake."""
        return any(
            number != track_id
            and other.offset_us == clock.offset_us
            and abs(other.last_us - media_us) <= RESYNC_US
            for number, other in self._clocks.items()
        )

    def _agreed_offset(self, clock: _TrackClock, raw_us: int) -> int | None:
        """Another track's offset that brings this one in line."""
        front = self._front_us
        for offset_us in [self._offset_us, *(other.offset_us for other in self._clocks.values())]:
            if offset_us is None or offset_us == clock.offset_us:
                continue
            media_us = raw_us + offset_us
            if front - BEHIND_US <= media_us <= front + AHEAD_US and media_us >= clock.last_us - RESYNC_US:
                return offset_us
        return None

    def _audio(self, timescale: int, clock: _TrackClock, media_us: int, exact: int | None) -> tuple[int, int]:
        """Start and duration; the start is -1 when this time is taken."""
        dts = (media_us * timescale + MICROSECONDS // 2) // MICROSECONDS
        duration = exact or clock.last_duration or timescale // NOMINAL_AUDIO_HZ
        if clock.last_dts < 0:
            return dts, duration
        expected = clock.last_dts + clock.last_duration
        error = dts - expected
        slack = timescale * AUDIO_SLACK_US // MICROSECONDS
        if -slack <= error <= slack:
            clock.hole_us = None
            clock.drift += error - (clock.drift >> _DRIFT_SHIFT)
            limit = timescale * AUDIO_DRIFT_US // MICROSECONDS << _DRIFT_SHIFT
            # One tick a frame is 0.1 %: more than clocks differ by, less than can be heard.
            return expected + (clock.drift > limit) - (clock.drift < -limit), duration
        clock.drift = 0
        if error > 0:
            self.statistics.audio_gaps += 1
            clock.hole_us = clock.end_us
            return dts, duration
        self.statistics.backward += 1
        return -1, duration

    def _video(self, track: Track, clock: _TrackClock, media_us: int, raw_us: int) -> tuple[int, int]:
        """Start, and duration: the distance to the frame before, as the next is not known yet."""
        timescale, last = track.timescale, clock.last_dts
        dts = (media_us * timescale + MICROSECONDS // 2) // MICROSECONDS
        nominal = clock.last_duration or _nominal_video(track)
        if last < 0:
            return dts, nominal
        if dts <= last:
            if raw_us == clock.last_raw_us:
                self.statistics.duplicates += 1
                return last + max(1, nominal // 2), nominal
            self.statistics.backward += 1
            return last + 1, nominal
        step = dts - last
        clock.hole_us = clock.end_us if step > 3 * nominal else None
        before, clock.last_step = clock.last_step, step
        if step * MICROSECONDS > VIDEO_STEP_US * timescale:
            step = min(step, before) if before * MICROSECONDS > VIDEO_STEP_US * timescale else nominal
        return dts, step

    def _composition(self, track: Track, clock: _TrackClock, cts_us: int) -> int:
        if not -CTS_SHIFT_MAX_US <= cts_us <= CTS_MAX_US:
            self.statistics.bad_offsets += 1
            cts_us = 0
        elif cts_us + clock.cts_shift_us < 0:
            self.statistics.bad_offsets += 1
            clock.cts_shift_us = -cts_us
        return _ticks(cts_us + clock.cts_shift_us, track.timescale)


def _nominal_video(track: Track) -> int:
    if 1.0 <= track.declared_fps <= 480.0:
        return round(track.timescale / track.declared_fps)
    return _ticks(NOMINAL_VIDEO_US, track.timescale)


def _ticks(us: int, timescale: int) -> int:
    """Nearest tick, in integers."""
    return (us * timescale + MICROSECONDS // 2) // MICROSECONDS
