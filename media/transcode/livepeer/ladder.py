"""What comes back, beside the source's sound: the packets of a ladder's ring. Pure.

As the local worker's splice: every picture of the source leaves a place with its decoding time and
its marks, renditions' pictures fill the places, sound stays where it stood, and nothing leaves
before what stood in front of it. A place whose segment fell back gets a packet without data in each
rendition, which makes its part a gap, unless its section has no renditions yet: then it is left out.
"""

from collections import deque
from collections.abc import Sequence

from media.track.model import Codec, Packet, Track
from media.transcode.livepeer.rendition import Picture, Rendition
from media.transcode.livepeer.schedule import FellBack, Released

# A segment of 10 s and its budget, with 240 pictures and two sounds' frames a second, and as much again.
ENTRIES_MAX = 16_384
STEP_MAX_S = 1  # pictures further apart tell nothing about how long the last one lasts


def track_of(rendition: Rendition, timescale: int, source_fps: float = 0.0, init: int = 0) -> Track:
    """The rendition's track; its id is its short side, its times are in the source's ticks."""
    profile = rendition.profile
    fps = profile.fps_num / profile.fps_den if profile.fps_num else source_fps
    return Track(
        profile.side, Codec.H264, timescale, rendition.config, init, rendition.width, rendition.height,
        declared_bps=profile.bps, declared_fps=fps,
    )  # fmt: skip


class LadderSplice:
    """One ladder's packets. The source's go in through `source`, the engine's outputs through `decided`."""

    def __init__(self) -> None:
        self.tracks: tuple[Track, ...] = ()  # of the newest section that has renditions
        self.changed = False  # `tracks` are others than before: describe them, before what `take` gives
        self._entries: deque[tuple[Packet, bool]] = deque()  # and whether it is a picture
        self._decided: deque[Released | FellBack] = deque()
        self._at = 0  # in the packets of the first decision
        self._filled: dict[tuple[int, int], Picture] = {}  # the first decision's, by rendition and place
        self._last_dts: dict[int, int] = {}  # by track
        self._section = -1  # discontinuity that `tracks` belong to
        self._inits = 0

    def source(self, packet: Packet, *, leads: bool) -> None:
        """The next packet of the source's ring: a picture of the leading track, or sound."""
        self._entries.append((packet, leads))
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popleft()

    def decided(self, out: Released | FellBack) -> None:
        """The engine's next output."""
        self._decided.append(out)
        if len(self._decided) == 1:
            self._enter()

    def take(self) -> list[Packet]:
        """What can go now, in order; up to where other tracks begin."""
        ready: list[Packet] = []
        entries = self._entries
        while entries:
            packet, leads = entries[0]
            if leads:
                if not self._decided:
                    break
                if self._reaches(packet) is None:
                    self._next()
                    continue
                if self._opens(packet) and ready:
                    break
                self._open(packet)
                self._fill(packet, ready)
            elif packet.discontinuity == self._section:
                ready.append(packet)
            entries.popleft()
        return ready

    def _reaches(self, packet: Packet) -> bool | None:
        """Is this picture in the first decision (or before it: False)? None: it is behind it."""
        packets = self._decided[0].segment.packets
        while self._at < len(packets) and _time(packets[self._at]) < _time(packet):
            self._at += 1
        if self._at == len(packets):
            return None
        return _time(packets[self._at]) == _time(packet)

    def _next(self) -> None:
        self._decided.popleft()
        self._enter()

    def _enter(self) -> None:
        self._at, self._filled = 0, {}
        if self._decided and isinstance(out := self._decided[0], Released):
            self._filled = {
                (index, picture.place): picture
                for index, rendition in enumerate(out.renditions)
                for picture in rendition.pictures
            }

    def _renditions(self) -> Sequence[Rendition]:
        out = self._decided[0]
        return out.renditions if isinstance(out, Released) else ()

    def _opens(self, packet: Packet) -> bool:
        """Do other tracks begin with this picture?"""
        renditions = self._renditions()
        if not renditions:
            return False
        before = [(track.id, track.config, track.timescale) for track in self.tracks]
        now = [(each.profile.side, each.config, packet.track.timescale) for each in renditions]
        return packet.discontinuity != self._section or before != now

    def _open(self, packet: Packet) -> None:
        if not self._opens(packet):
            if packet.discontinuity != self._section:
                self._section, self.tracks = -1, ()  # nothing is known of the section that begins
            return
        source = packet.track
        self._inits = max(self._inits, source.init) + 1
        self.tracks = tuple(
            [
                track_of(each, source.timescale, source.declared_fps, self._inits)
                for each in self._renditions()
            ]
        )
        self.changed, self._section = True, packet.discontinuity
        self._last_dts.clear()

    def _fill(self, packet: Packet, ready: list[Packet]) -> None:
        """This picture's packets, one of each rendition that has a picture there."""
        inside = self._reaches(packet)
        for index, track in enumerate(self.tracks):
            if not inside or not self._filled:
                self._last_dts.pop(track.id, None)
                ready.append(_at(packet, track, 0, packet.duration, False, b""))
                continue
            picture = self._filled.get((index, self._at))
            if picture is None:
                continue
            duration, step = packet.duration, packet.dts - self._last_dts.get(track.id, packet.dts)
            if 0 < step <= STEP_MAX_S * track.timescale:
                duration = step
            self._last_dts[track.id] = packet.dts
            ready.append(
                _at(packet, track, picture.pts - packet.dts, duration, picture.keyframe, picture.data)
            )


def _time(packet: Packet) -> tuple[int, int]:
    return packet.discontinuity, packet.dts


def _at(place: Packet, track: Track, cts: int, duration: int, keyframe: bool, data: bytes) -> Packet:
    return Packet(
        track, place.dts, cts, duration, keyframe, data,
        place.group, place.segment, place.part, place.discontinuity,
    )  # fmt: skip
