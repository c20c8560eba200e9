"""A source's packets with other pictures in their places: what a ladder's ring gets. Pure.

Every picture of the source leaves a place in the ladder, in decoding order, with its time and its
marks; a rendition's pictures, which come in presentation order, fill the places one after the
other. So segments and parts begin at the same times under the same numbers as the source's,
whatever B-frames or rates it has, and presentation times are the source's to the tick. Sound
stays where it stood. Nothing leaves before what stood in front of it.

A place that will not be filled gets a packet without data in each rendition, which makes its part a gap.
"""

from collections import deque
from collections.abc import Sequence

from media.track.model import Packet, Track
from media.transcode.wire import Encoded

ENTRIES_MAX = 4096  # places and sound; a dozen seconds of 240 pictures a second and two sounds
STEP_MAX_S = 1  # pictures further apart tell nothing about how long the last one lasts

_SOUND, _LOST = -1, -2


class _Rung:
    """One rendition's pictures on their way to their places."""

    __slots__ = ("active", "done", "last_dts", "pictures", "track")

    def __init__(self, track: Track) -> None:
        self.track = track
        self.active = False
        self.done = -1  # every number up to this one was made or left out
        self.pictures: deque[Encoded] = deque()
        self.last_dts = -1

    def take(self, number: int) -> Encoded | None:
        """The picture for that place; those for earlier ones come too late."""
        pictures = self.pictures
        while pictures and pictures[0].number < number:
            pictures.popleft()
        return pictures.popleft() if pictures and pictures[0].number == number else None


class Splice:
    """Places and sound in the source's order, waiting for pictures."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Packet, int]] = deque()
        self._sections: dict[int, list[_Rung]] = {}  # those that were opened, by discontinuity
        self._bound: list[_Rung] = []  # by the worker's numbers of rungs
        self._from = 0  # what the worker makes for places before this one is not wanted any more

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> tuple[int, int] | None:
        """Number and decoding time of the first place that waits for pictures; None when none does."""
        return next(((number, packet.dts_us) for packet, number in self._entries if number >= 0), None)

    def tracks(self, discontinuity: int) -> tuple[Track, ...]:
        """The renditions of an opened section; none before it is."""
        return tuple([rung.track for rung in self._sections.get(discontinuity, ())])

    def open(self, discontinuity: int, tracks: Sequence[Track], bound: Sequence[int], first: int) -> None:
        """From number `first` on the worker's rungs are `bound`: the places of their tracks in `tracks`.

        The tracks of one section stay the same; those that are not bound have gaps.
        """
        rungs = self._sections.setdefault(discontinuity, [_Rung(track) for track in tracks])
        for number in [number for number in self._sections if number < discontinuity - 1]:
            del self._sections[number]
        for rung in [*self._bound, *rungs]:
            rung.done = max(rung.done, first - 1)
            rung.active = False
        self._bound = [rungs[place] for place in bound]
        for rung in self._bound:
            rung.active = True

    def add_sound(self, packet: Packet) -> None:
        self._add(packet, _SOUND)

    def add_place(self, packet: Packet, number: int) -> None:
        """A picture that the worker was given; numbers only grow."""
        self._add(packet, number)

    def add_lost(self, packet: Packet) -> None:
        """A picture that it was not given."""
        self._add(packet, _LOST)

    def encoded(self, message: Encoded) -> None:
        """What the worker made; a rung that it was not asked for is ignored."""
        if message.rung >= len(self._bound):
            return
        rung = self._bound[message.rung]
        if message.number <= rung.done or message.number < self._from:
            return
        rung.done = message.number
        if message.data and len(rung.pictures) < ENTRIES_MAX:
            rung.pictures.append(message)

    def lose(self) -> None:
        """Nobody fills the places that still wait. Those of a section that was not opened leave no trace."""
        numbers = [number for _, number in self._entries if number >= 0]
        self._from = max([self._from, *(number + 1 for number in numbers)])
        filled = min([rung.done for rung in self._bound if rung.active], default=-1)
        self._entries = deque(
            (packet, number if number == _SOUND or 0 <= number <= filled else _LOST)
            for packet, number in self._entries
            if packet.discontinuity in self._sections
        )

    def take(self) -> list[Packet]:
        """The packets that can go now, in order."""
        ready: list[Packet] = []
        entries = self._entries
        while entries:
            packet, number = entries[0]
            rungs = self._sections.get(packet.discontinuity)
            if rungs is None and packet.discontinuity > max(self._sections, default=-1):
                break
            if rungs is None:
                pass  # sections came and went faster than they were written
            elif number == _SOUND:
                ready.append(packet)
            elif number == _LOST:
                for rung in rungs:
                    self._gap(rung, packet, ready)
            elif all([rung.done >= number or not rung.active for rung in rungs]):
                for rung in rungs:
                    self._fill(rung, packet, number, ready)
            else:
                break
            entries.popleft()
        return ready

    def _add(self, packet: Packet, number: int) -> None:
        self._entries.append((packet, number))
        if len(self._entries) > ENTRIES_MAX:
            self.lose()

    def _fill(self, rung: _Rung, place: Packet, number: int, ready: list[Packet]) -> None:
        if not rung.active and rung.done < number:
            self._gap(rung, place, ready)
            return
        made = rung.take(number)
        if made is None or made.pts < place.dts:
            return
        duration, step = place.duration, place.dts - rung.last_dts
        if rung.last_dts >= 0 and 0 < step <= STEP_MAX_S * rung.track.timescale:
            duration = step
        rung.last_dts = place.dts
        ready.append(_at(place, rung.track, made.pts - place.dts, duration, made.keyframe, made.data))

    def _gap(self, rung: _Rung, place: Packet, ready: list[Packet]) -> None:
        rung.last_dts = -1
        ready.append(_at(place, rung.track, 0, place.duration, False, b""))


def _at(place: Packet, track: Track, cts: int, duration: int, keyframe: bool, data: bytes) -> Packet:
    return Packet(
        track, place.dts, cts, duration, keyframe, data,
        place.group, place.segment, place.part, place.discontinuity,
    )  # fmt: skip


def contiguous(before: Packet, packet: Packet) -> bool:
    """Is this of the same part, or of one that follows on it?"""
    position, last = (packet.segment, packet.part), (before.segment, before.part)
    return position in (last, (last[0], last[1] + 1), (last[0] + 1, 0))
