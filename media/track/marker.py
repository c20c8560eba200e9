"""Where groups, segments and parts begin: the origin's decision, made once per packet. Pure.

The leading track decides: the first video track, or the first audio track when there is no
video. A section begins with a packet of the leading track that can be decoded, and its set
of tracks does not change; a change of the tracks waits for the leader's next keyframe while
what did not change goes on. When leading video falls silent while audio goes on, audio
begins the parts; when the silence lasts, it begins segments and groups, too, until video
returns with a keyframe. Whoever leads, a part begins where its first packet does.
"""

import dataclasses

import msgspec

from media.track.model import Kind, Track

PART_JITTER_US = 2_000  # RTMP rounds to milliseconds, so a part of whole frames may be 1 to 2 ms long
PART_LEAST_PERCENT = 85  # of the part target (RFC 8216bis 4.4.4.9)
SEGMENT_MAX_US = 20_000_000  # without a keyframe for so long, a segment ends all the same
SECTION_LEAST_US = 1_000_000  # a publisher with a broken clock cannot begin sections more often
HOLE_US = 100_000  # lost frames; they do not make a segment longer
LEADER_LATE_US = 500_000  # video silent for so much audio: audio begins parts
SLOW_FRAME_US = 1_500_000  # one frame a second still leads alone; slides leave the parts to audio
LEADER_LOST_US = 3_000_000  # and for so much: segments and groups
LEADER_WAIT_US = 2_000_000  # a described video track that never starts holds audio back so long
KEYFRAME_WAIT_US = 10_000_000  # and one that starts without a keyframe so long
RETURN_WAIT_US = 2_000_000  # video that was lost comes back without a keyframe after so long


@dataclasses.dataclass(frozen=True, slots=True)
class MarkerSettings:
    """Targets for boundaries, microseconds of media time."""

    segment_us: int = 2_000_000
    part_us: int = 500_000


class Mark(msgspec.Struct, frozen=True, gc=False):
    """The origin's marks for one packet; see Packet."""

    group: int
    segment: int
    part: int
    discontinuity: int
    starts_section: bool  # first packet of a new discontinuity


class Marker:
    """Decides the boundaries of one stream. Times given to it are repaired media time."""

    def __init__(self, settings: MarkerSettings, first_segment: int) -> None:
        self.part_target_us = settings.part_us + PART_JITTER_US  # no part of the present section is longer
        self.target_duration_us = settings.segment_us  # longest segment so far, never shrinks
        self.active: dict[int, Track] = {}  # tracks of the present section by id; none before it begins
        self.leader_us = 0  # media time of the leading track's newest packet
        self._settings = settings
        self._described: tuple[Track, ...] = ()
        self._turn_leader: Track | None = None  # its next keyframe begins a section; None: none is wanted
        self._break = False  # media time no longer follows the publisher's
        self._passing: dict[int, Track] = {}  # described tracks that are as the section has them
        self._leader_id = 0
        self._audio_id = 0  # the audio track that leads when video is silent
        self._lost = False  # it leads now
        self._off_beat = False  # a segment began without a keyframe; the next keyframe begins another
        self._back_us = -1  # since when the lost leader sends without a keyframe
        self._leader_frame_us = 0
        self._audio_us = -1  # media time of that audio track's newest packet; -1 before its first
        self._audio_then_us = -1  # what it was when the leader's newest packet came
        self._late_us = LEADER_LATE_US  # grows to what the publisher's interleaving needs
        self._waiting_since_us: int | None = None
        self._leader_came = False  # a leader that is waited for sends, but no keyframe yet
        self._group = 0
        self._segment = first_segment - 1
        self._part = 0
        self._discontinuity = -1
        self._section_start_us = 0
        self._segment_start_us = 0
        self._hole_us = 0  # of the present segment, where nothing came
        self._part_start_us = 0
        self._part_target_known = False
        self._long_part_us = 0  # a part that was longer than wanted, as the next ones may be
        self._part_limit_us = 0
        self._end_us = 0  # end of the leading track's newest packet
        self._mark = Mark(0, 0, 0, 0, False)  # what packets get until the next boundary

    def describe(self, tracks: list[Track]) -> None:
        """The set of tracks, or one of them, changed. `mark` is given these objects from now on."""
        self._described = tuple(tracks)
        self._passing = {
            track.id: track
            for track in tracks
            if track.id in self.active and track.describes_same(self.active[track.id])
        }
        self._turn_leader = _leader_of(tracks)
        self._waiting_since_us = None

    def restart(self) -> None:
        """Another publisher continues: nothing passes before the next section."""
        self.active = {}
        self._passing = {}
        self._turn_leader = _leader_of(self._described)
        self._waiting_since_us = None
        self._break = False

    @property
    def next_segment(self) -> int:
        """The number of the segment that would begin next."""
        return self._segment + 1

    def go_on(self, segment: int, discontinuity: int, group: int, target_duration_us: int) -> None:
        """What comes next begins with these numbers: another node was the origin before."""
        self._segment, self._discontinuity, self._group = segment - 1, discontinuity - 1, group - 1
        self.target_duration_us = max(self.target_duration_us, target_duration_us)
        self.restart()

    def break_soon(self) -> None:
        """Media time no longer follows the publisher's: a new section begins with the next group."""
        self._break = True

    def leads(self, track: Track) -> bool:
        """Is this the track that decides, or will it be when it begins?"""
        leader = self._turn_leader
        return track.id == (leader.id if leader is not None else self._leader_id)

    def mark(self, track: Track, dts_us: int, duration_us: int, *, keyframe: bool) -> Mark | None:
        """Marks for the next packet, or None: it cannot be decoded where it comes, drop it."""
        if self._turn_leader is not None:
            mark = self._turn(self._turn_leader, track, dts_us, duration_us, keyframe)
            if mark is not None:
                return mark
        if self._passing.get(track.id) is not track:
            return None
        if track.id == self._leader_id:
            return self._lead(track, dts_us, duration_us, keyframe)
        if track.id == self._audio_id:
            return self._beside(dts_us, duration_us)
        return self._mark

    def _turn(
        self, leader: Track, track: Track, dts_us: int, duration_us: int, keyframe: bool
    ) -> Mark | None:
        """The section that is wanted begins, if this packet can begin it."""
        if track is leader:
            if keyframe:
                return self._start_section(self._described, track, dts_us, duration_us)
            self._leader_came = True
        elif not self.active and track.kind is Kind.AUDIO:
            if self._waiting_since_us is None:
                self._waiting_since_us, self._leader_came = dts_us, False
            patience_us = KEYFRAME_WAIT_US if self._leader_came else LEADER_WAIT_US
            if dts_us - self._waiting_since_us > patience_us:
                # Players stall on a track that is announced and does not come.
                audio = tuple(track for track in self._described if track.kind is Kind.AUDIO)
                mark = self._start_section(audio, track, dts_us, duration_us)
                self._turn_leader = leader
                return mark
        return None

    def _lead(self, track: Track, dts_us: int, duration_us: int, keyframe: bool) -> Mark | None:
        if self._lost and not keyframe:
            # Those who joined since cannot decode it, those who watched all along can.
            if self._back_us < 0:
                self._back_us = dts_us
            if dts_us - self._back_us <= RETURN_WAIT_US:
                return None
            self._lost = False
        if dts_us > self._end_us + HOLE_US:
            self._hole_us += dts_us - self._end_us
        ahead_us = self._audio_us - self._audio_then_us
        if ahead_us > self._late_us and dts_us - self.leader_us <= LEADER_LATE_US:
            # Nothing was missing: the muxer sends sound and picture in turns as long as this.
            self._late_us = min(ahead_us * 3 // 2, LEADER_LOST_US)
        self.leader_us = dts_us
        self._audio_then_us = self._audio_us
        self._leader_frame_us = duration_us
        self._end_us = dts_us + duration_us
        if not keyframe:
            return self._within_group(dts_us, duration_us)
        if self._break and dts_us - self._section_start_us >= SECTION_LEAST_US:
            return self._start_section(self._described, track, dts_us, duration_us)
        if track.kind is Kind.AUDIO:
            return self._sound(dts_us, duration_us)
        if self._lost or self._off_beat or self._segment_is_long(dts_us, duration_us):
            self._lost = self._off_beat = False
            return self._start_segment(dts_us, new_group=True)
        return self._start_group(dts_us, duration_us)

    def _within_group(self, dts_us: int, duration_us: int) -> Mark:
        longest_us = self.target_duration_us if self._off_beat else SEGMENT_MAX_US
        if dts_us - self._segment_start_us >= longest_us:
            self._off_beat = True
            return self._start_segment(dts_us, new_group=False)
        if self._part_is_full(dts_us, duration_us):
            return self._start_part(dts_us, new_group=False)
        return self._mark

    def _start_group(self, dts_us: int, duration_us: int) -> Mark:
        """A keyframe within a segment: a part begins with it unless the one before were too short."""
        long_enough = (dts_us - self._part_start_us) * 100 >= self.part_target_us * PART_LEAST_PERCENT
        if self._part_is_full(dts_us, duration_us) or long_enough:
            return self._start_part(dts_us, new_group=True)
        self._group += 1
        self._mark = msgspec.structs.replace(self._mark, group=self._group)
        return self._mark

    def _sound(self, dts_us: int, duration_us: int) -> Mark:
        """A packet of an audio track that leads: any can begin a group, each part does."""
        if self._segment_is_long(dts_us, duration_us):
            return self._start_segment(dts_us, new_group=True)
        if self._part_is_full(dts_us, duration_us):
            return self._start_part(dts_us, new_group=True)
        return self._mark

    def _beside(self, dts_us: int, duration_us: int) -> Mark:
        """A packet of the audio track that leads only while video is silent.

        Silence is told by what audio has come since video's last packet, and by media time:
        either alone may be the muxer's interleaving or a hole in the sound.
        """
        self._audio_us = dts_us
        if self._audio_then_us < 0:
            self._audio_then_us = dts_us
        if self._lost:
            self._end_us = dts_us + duration_us
            return self._sound(dts_us, duration_us)
        silent_us = min(dts_us - self._audio_then_us, dts_us - self.leader_us)
        if silent_us <= self._late_us or silent_us <= min(2 * self._leader_frame_us, SLOW_FRAME_US):
            return self._mark
        self._end_us = dts_us + duration_us
        if silent_us > LEADER_LOST_US and silent_us > 3 * self._leader_frame_us:
            self._lost, self._back_us = True, -1
            return self._start_segment(dts_us, new_group=True)
        if dts_us - self._segment_start_us >= self.target_duration_us:
            # Longer than any before, it would change what players were told to expect.
            self._off_beat = True
            return self._start_segment(dts_us, new_group=False)
        if dts_us + duration_us > self._part_limit_us:
            return self._start_part(dts_us, new_group=False)
        return self._mark

    def _segment_is_long(self, dts_us: int, duration_us: int) -> bool:
        """Is this keyframe nearer to the wanted length of a segment than the next frame?"""
        return dts_us - self._segment_start_us + duration_us // 2 >= self._settings.segment_us

    def _part_is_full(self, dts_us: int, duration_us: int) -> bool:
        """Would this frame make the part too long?"""
        if dts_us + duration_us <= self._part_limit_us:
            return False
        if not self._part_target_known:
            self._learn_part_target(dts_us - self._part_start_us)
        return True

    def _learn_part_target(self, length_us: int) -> None:
        """The first part of usual length sets the section's target: a whole number of frames.

        So no part but a segment's last is under 85 % of it (RFC 8216bis 4.4.4.9). A part that
        is too long counts when it comes twice: frames are that far apart, it was no hiccup.
        """
        wanted_us = self._settings.part_us
        if length_us > wanted_us + PART_JITTER_US:
            before_us, self._long_part_us = self._long_part_us, length_us
            self._part_target_known = abs(length_us - before_us) * 10 <= length_us
        else:
            self._part_target_known = length_us * 2 >= wanted_us
        if self._part_target_known:
            self.part_target_us = length_us + PART_JITTER_US

    def _start_section(self, tracks: tuple[Track, ...], track: Track, dts_us: int, duration_us: int) -> Mark:
        self._count_segment(self._end_us)
        self.active = {each.id: each for each in tracks}
        self._passing = self.active
        self._leader_id = track.id
        audio = [each.id for each in tracks if each.kind is Kind.AUDIO]
        self._audio_id = audio[0] if audio and track.kind is Kind.VIDEO else 0
        self._turn_leader = None
        self._break = self._lost = self._off_beat = False
        self._discontinuity += 1
        self._section_start_us = self.leader_us = dts_us
        self._audio_us = self._audio_then_us = -1
        self._late_us = LEADER_LATE_US
        self._leader_frame_us, self._end_us = duration_us, dts_us + duration_us
        self._part_target_known, self._long_part_us = False, 0
        self.part_target_us = self._settings.part_us + PART_JITTER_US
        self._segment_start_us = dts_us
        self._start_segment(dts_us, new_group=True)
        return msgspec.structs.replace(self._mark, starts_section=True)

    def _start_segment(self, dts_us: int, *, new_group: bool) -> Mark:
        self._count_segment(dts_us)
        self._segment += 1
        self._part = -1
        self._segment_start_us = dts_us
        return self._start_part(dts_us, new_group=new_group)

    def _count_segment(self, end_us: int) -> None:
        length_us = end_us - self._segment_start_us - self._hole_us
        self.target_duration_us = max(self.target_duration_us, length_us)
        self._hole_us = 0

    def _start_part(self, dts_us: int, *, new_group: bool) -> Mark:
        self._group += new_group
        self._part += 1
        self._part_start_us = dts_us
        self._part_limit_us = dts_us + self.part_target_us
        self._mark = Mark(self._group, self._segment, self._part, self._discontinuity, False)
        return self._mark


def _leader_of(tracks: list[Track] | tuple[Track, ...]) -> Track | None:
    video = [track for track in tracks if track.kind is Kind.VIDEO]
    return next(iter(video or tracks), None)
