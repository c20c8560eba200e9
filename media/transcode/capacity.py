"""What transcoding asks of the machine, and who says whether it may. Pure."""

from typing import Protocol

import msgspec

from media.track.model import Codec
from media.transcode.ladder import PlannedRung, SourceVideo
from media.transcode.wire import X264, Engine

USUAL_FPS = 30.0  # of a source that does not say


class Cost(msgspec.Struct, frozen=True):
    """What one stream's renditions take of the machine."""

    source: Codec
    decoded_pixels_per_s: int
    encoded_pixels_per_s: int  # of all rungs
    encoders: int
    video: SourceVideo
    rungs: tuple[PlannedRung, ...]  # largest first


class Capacity(Protocol):
    """Grants shares of the machine, one for each owner at most."""

    def reserve(self, owner: str, cost: Cost) -> str:
        """Take a share, in place of the one that `owner` has. "" when granted, else why not, for people."""

    def release(self, owner: str) -> None:
        """Give it back; nothing when there is none."""

    def engine(self, owner: str, side: int) -> Engine | None:
        """Who makes the rung of that short side from the next keyframe on; None: it is not made for now."""

    def reason(self, owner: str) -> str:
        """Why some rungs are not made for now, or what else is wrong, for people; "" when nothing is."""

    def failed(self, owner: str, reason: str) -> None:
        """The engines that `owner` was told could not do it."""


class StreamsAtMost:
    """So many streams and no more, whatever they cost."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self._owners: set[str] = set()

    def reserve(self, owner: str, cost: Cost) -> str:
        if owner not in self._owners and len(self._owners) >= self._streams:
            return f"renditions of {self._streams} streams are made already (transcode.streams)"
        self._owners.add(owner)
        return ""

    def release(self, owner: str) -> None:
        self._owners.discard(owner)

    def engine(self, owner: str, side: int) -> Engine | None:
        """Always the same."""
        return X264

    def reason(self, owner: str) -> str:
        """All is made that was granted."""
        return ""

    def failed(self, owner: str, reason: str) -> None:
        """There is no other engine."""


def cost_of(source: SourceVideo, rungs: tuple[PlannedRung, ...]) -> Cost:
    """The work in a second of media."""
    fps = source.fps or USUAL_FPS
    made = [rung.width * rung.height * min(fps, rung.fps) for rung in rungs]
    decoded = round(source.width * source.height * fps)
    return Cost(source.codec, decoded, round(sum(made)), len(rungs), source, rungs)
