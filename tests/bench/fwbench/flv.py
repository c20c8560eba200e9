"""FLV files cut into tags, and the endless schedule of a file played in a loop. Pure.

Source: Adobe Flash Video File Format Specification 10.1, annex E.
"""

from collections.abc import Iterator
from dataclasses import dataclass

AUDIO, VIDEO, SCRIPT = 8, 9, 18
_HEADER_BYTES = 9
_TAG_HEADER_BYTES = 11
_AAC, _AVC = 10, 7
_SHORTEST_FRAME_BYTES = 5


@dataclass(frozen=True, slots=True)
class Tag:
    kind: int  # AUDIO, VIDEO, SCRIPT
    time_ms: int
    body: bytes

    @property
    def is_config(self) -> bool:
        """An AAC or AVC sequence header (E.4.2.2, E.4.3.2: packet type 0)."""
        if len(self.body) < 2 or self.body[1] != 0:
            return False
        if self.kind == AUDIO:
            return self.body[0] >> 4 == _AAC
        return self.kind == VIDEO and self.body[0] & 15 == _AVC


class FlvError(ValueError):
    """Not an FLV file as we make them."""


def tags(data: bytes) -> Iterator[Tag]:
    """Every tag of a file, in order."""
    if not b"FLV".startswith(data[:3]):
        raise FlvError("no FLV header")
    if len(data) < _HEADER_BYTES + 4:
        raise FlvError("cut off in the header")
    at = _HEADER_BYTES + 4
    while at < len(data):
        if at + _TAG_HEADER_BYTES > len(data):
            raise FlvError("cut off in a tag header")
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        time_ms = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        start = at + _TAG_HEADER_BYTES
        if start + size > len(data):
            raise FlvError("cut off in a tag")
        yield Tag(data[at], time_ms, data[start : start + size])
        at = start + size + 4


@dataclass(frozen=True, slots=True)
class Clip:
    """A file ready to be looped: what is sent once, what is sent in each turn, how long a turn is."""

    head: tuple[Tag, ...]  # metadata and sequence headers
    body: tuple[Tag, ...]  # by time, from 0 to below length_ms
    length_ms: int

    @property
    def bps(self) -> float:
        return sum(len(tag.body) for tag in self.body) * 8000 / self.length_ms

    def schedule(self) -> Iterator[tuple[int, Tag]]:
        """(time in milliseconds on an endless clock, tag), growing."""
        turn_ms = 0
        while True:
            for tag in self.body:
                yield turn_ms + tag.time_ms, tag
            turn_ms += self.length_ms


def clip(data: bytes, length_ms: int) -> Clip:
    """Cut a file to `length_ms`, a whole number of video groups and of audio frames.

    Each track is taken from its own first tag on for `length_ms` and bent round into the turn, so that no
    track has a hole where the turns meet.
    """
    head: list[Tag] = []
    body: list[Tag] = []
    first: dict[int, int] = {}
    for tag in tags(data):
        if tag.kind == SCRIPT or tag.is_config:
            head.append(tag)
        elif len(tag.body) > _SHORTEST_FRAME_BYTES:  # less is an end of sequence
            start = first.setdefault(tag.kind, tag.time_ms)
            if tag.time_ms < start + length_ms:
                body.append(Tag(tag.kind, tag.time_ms % length_ms, tag.body))
    if first.get(VIDEO) != 0:
        raise FlvError("the video does not begin at time 0")
    return Clip(tuple(head), tuple(sorted(body, key=_order)), length_ms)


def _order(tag: Tag) -> tuple[int, bool]:
    return tag.time_ms, tag.kind == AUDIO
