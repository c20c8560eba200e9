"""Keyframes of one video track: how far apart, of what kind, with how much reordering. Pure.

Only keyframes and the frames right after them are looked at, at most once in SAMPLE_EVERY_S.
"""

import enum
from collections import deque

from media.bitstream.inspect import inspect_video
from media.errors import WireError
from media.track.model import Codec, Frame
from media.track.timeline import CTS_MAX_US

INTERVALS_KEPT = 8  # enough to tell a habit from a scene cut
GROUPS_KEPT = 4  # inspected groups that a verdict rests on
SAMPLE_FRAMES = 8  # after a keyframe; deeper than any reordering of H.264 and HEVC in live encoders
SAMPLE_EVERY_S = 1.0  # bounds the cost for streams of nothing but keyframes
DAMAGE_KEPT = 16


class Entry(enum.Enum):
    """What a decoder finds that starts at a keyframe."""

    CLEAN = enum.auto()
    OPEN = enum.auto()  # frames follow that need the group before
    GRADUAL = enum.auto()  # a recovery point: the picture builds up over the next frames
    FALSE = enum.auto()  # marked by the container, but no keyframe at all


class GopWatch:
    """Fed with keyframes and, while `sampling`, with the frames after them."""

    __slots__ = (
        "_codec", "_entry", "_sample", "_sampled_at", "bad_offsets", "damage", "entries",
        "intervals_us", "last_us", "reorder", "sampling",
    )  # fmt: skip

    def __init__(self, codec: Codec) -> None:
        self.sampling = False
        self.last_us: int | None = None  # newest keyframe's time on the publisher's clock
        self.intervals_us: deque[int] = deque(maxlen=INTERVALS_KEPT)
        self.entries: deque[Entry] = deque(maxlen=GROUPS_KEPT)
        self.reorder: deque[int] = deque(maxlen=GROUPS_KEPT)  # frames, of each inspected group
        self.bad_offsets: deque[bool] = deque(maxlen=GROUPS_KEPT)
        self.damage: deque[float] = deque(maxlen=DAMAGE_KEPT)  # when a frame did not parse
        self._codec = codec
        self._entry = Entry.CLEAN
        self._sample: list[Frame] = []
        self._sampled_at = -SAMPLE_EVERY_S

    def add(self, frame: Frame, now: float) -> None:
        """A keyframe, or a frame while `sampling`."""
        if frame.keyframe:
            self._keyframe(frame, now)
        else:
            self._sample.append(frame)
            if len(self._sample) > SAMPLE_FRAMES:
                self._finish()

    def shift(self, shift_us: int) -> None:
        """The publisher's clock jumped: intervals are measured on as if it had not."""
        self._drop_sample()
        if self.last_us is not None:
            self.last_us += shift_us

    def restart(self, codec: Codec) -> None:
        """The encoder was started anew: what was seen of its pictures holds no more."""
        self._drop_sample()
        self._codec = codec
        self.last_us = None
        self._sampled_at = -SAMPLE_EVERY_S
        for seen in (self.intervals_us, self.entries, self.reorder, self.bad_offsets, self.damage):
            seen.clear()

    def _keyframe(self, frame: Frame, now: float) -> None:
        if self.sampling:
            self._finish()
        if self.last_us is not None and frame.dts_us > self.last_us:
            self.intervals_us.append(frame.dts_us - self.last_us)
        self.last_us = frame.dts_us
        if now - self._sampled_at < SAMPLE_EVERY_S:
            return
        self._sampled_at = now
        try:
            facts = inspect_video(self._codec, frame.data)
        except WireError:
            self.damage.append(now)
            return
        if not facts.keyframe:
            self._entry = Entry.FALSE
        elif facts.idr or not facts.open_gop:
            self._entry = Entry.CLEAN
        else:
            self._entry = Entry.OPEN if self._codec is Codec.AV1 else Entry.GRADUAL
        self.sampling = True
        self._sample.append(frame)

    def _finish(self) -> None:
        shown_us = [frame.dts_us + frame.cts_us for frame in self._sample]
        entry = self._entry
        if entry is Entry.GRADUAL:
            if min(shown_us) < shown_us[0]:
                entry = Entry.OPEN
            elif self._codec is Codec.HEVC:
                entry = Entry.CLEAN  # a CRA picture that nothing leads is as good as an IDR picture
        self.entries.append(entry)
        if len(shown_us) > 1:
            self.reorder.append(reorder_depth(shown_us))
        self.bad_offsets.append(any(not 0 <= frame.cts_us <= CTS_MAX_US for frame in self._sample))
        self._drop_sample()

    def _drop_sample(self) -> None:
        self.sampling = False
        self._sample.clear()


def reorder_depth(shown_us: list[int]) -> int:
    """How many frames, at most, are coded before one that is shown before them. In coding order."""
    return max(
        sum(earlier > time_us for earlier in shown_us[:index]) for index, time_us in enumerate(shown_us)
    )
