"""The segments and parts of a stream that can be had now, indexed from the packets' marks. Pure.

Nothing is decided here: a window built over the same marked packets is the same on every
node, whichever segment it begins with. What it did not see from its first packet on, it
does not offer.
"""

from collections.abc import Sequence

from media.container import fmp4
from media.package.rendition import Rendition, renditions_of
from media.track.model import MICROSECONDS, Hollow, Kind, Packet, is_gap
from media.track.ring import Ring
from media.track.stream import Section, Stream, StreamState

GAPS_MAX = 4  # numbers in a row that may be missing; beyond it a copy forgets what it had before them
SEQUENCE_PARTS = 256  # a fragment's sequence number is msn * 256 + part, modulo 2^32


class Part:
    """Packets `first` to `stop` - 1 of the ring. Complete once the next part has begun.

    `duration_us` is the leading track's, for every rendition: so all have one timeline, and
    differ from it by what fits into one frame of theirs and by the muxer's interleaving.
    """

    __slots__ = (
        "_bytes",
        "_last",
        "clean",
        "complete",
        "duration_us",
        "first",
        "gaps",
        "hollow",
        "index",
        "start_us",
        "stop",
    )

    def __init__(self, index: int, first: int, packet: Packet) -> None:
        self.index = index
        self.first = first
        self.stop = first + 1
        self.complete = False
        self.start_us = packet.dts_us
        self.duration_us = 0  # media time; known when complete
        self.clean = {packet.track.id: packet.keyframe}  # by track: does its first packet need no other?
        self.hollow = {packet.track.id} if type(packet) is Hollow else set()  # tracks not fetched here
        self.gaps = {packet.track.id} if is_gap(packet) else set()  # tracks of which packets are missing
        self._last = packet  # newest of the track that began this part
        self._bytes: dict[str, bytes] = {}

    def add(self, packet: Packet) -> None:
        """One more packet."""
        track = packet.track
        if type(packet) is Hollow:
            self.hollow.add(track.id)
        if track.id == self._last.track.id:
            self._last = packet
        elif track.id not in self.clean:
            self.clean[track.id] = packet.keyframe
        if not packet.data and is_gap(packet):
            self.gaps.add(track.id)

    def close(self, stop: int, following: Packet | None) -> None:
        """Complete it. `following` begins the next part, None when that is in another section.

        The last duration is a guess, as its track's next frame was not known; the next part's
        beginning is the truth, unless frames were lost between them.
        """
        last = self._last
        guess_us = last.duration * MICROSECONDS // last.track.timescale
        length_us = last.dts_us + guess_us - self.start_us
        if following is not None:
            exact_us = following.dts_us - self.start_us
            if following.track.id != last.track.id or abs(exact_us - length_us) * 2 <= guess_us:
                length_us = exact_us
        self.stop = stop
        self.duration_us = max(length_us, 0)
        self.complete = True

    def holds(self, rendition: Rendition) -> bool:
        """Is there anything of `rendition` in this part, and nothing missing?"""
        tracks = rendition.tracks
        if self.gaps and any([track.id in self.gaps for track in tracks]):
            return False
        return any([track.id in self.clean for track in tracks])

    def lacks(self, rendition: Rendition) -> bool:
        """Was something of `rendition` not fetched to this node?"""
        return bool(self.hollow) and any([track.id in self.hollow for track in rendition.tracks])

    def starts_clean(self, rendition: Rendition) -> bool:
        """Can decoding begin with this part's first picture, or first sound where there is no picture?"""
        lead = rendition.lead
        return self.clean.get(lead.id, lead.kind is Kind.AUDIO or self.index == 0)

    def data(self, ring: Ring, rendition: Rendition, msn: int) -> bytes:
        """The part as one movie fragment (moof and mdat); made once, kept while the part is held.

        Empty when it holds nothing of `rendition`, or something that this node did not fetch.
        """
        made = self._bytes.get(rendition.name)
        if made is None:
            made = self._bytes[rendition.name] = self._make(ring, rendition, msn)
        return made

    def _make(self, ring: Ring, rendition: Rendition, msn: int) -> bytes:
        if not self.holds(rendition) or self.lacks(rendition):
            return b""
        wanted = {track.id for track in rendition.tracks}
        packets: Sequence[Packet] = ring.slice(self.first, self.stop)
        if not wanted.issuperset(self.clean):
            packets = [packet for packet in packets if packet.track.id in wanted]
        sequence = (msn * SEQUENCE_PARTS + self.index) & 0xFFFFFFFF
        return b"".join(fmp4.fragment(rendition.tracks, packets, sequence))


class Segment:
    """A media sequence number and its parts."""

    __slots__ = (
        "complete",
        "cut",
        "first",
        "msn",
        "parts",
        "renditions",
        "section",
        "silence_us",
        "start_us",
    )

    def __init__(
        self, msn: int, section: Section, renditions: dict[str, Rendition], start_us: int, first: int
    ) -> None:
        self.msn = msn
        self.section = section
        self.renditions = renditions  # by name
        self.start_us = start_us  # media time of the first packet
        self.first = first  # ring index of that
        self.parts: list[Part] = []
        self.complete = False
        self.cut = False  # its origin went before its end, so other nodes may have more of it: a gap
        self.silence_us = 0  # length of a gap without parts

    @property
    def unix_us(self) -> int:
        return self.section.unix_us_at(self.start_us)

    @property
    def duration_us(self) -> int:
        """Media time of its complete parts."""
        return self.silence_us + sum([part.duration_us for part in self.parts])

    def starts_clean(self, rendition: Rendition) -> bool:
        """Can this segment be decoded without the one before?"""
        lead = rendition.lead.id
        return next((part.clean[lead] for part in self.parts if lead in part.clean), True)

    def holds(self, rendition: Rendition) -> bool:
        """Is it whole, is there anything of `rendition` in it, and nothing missing?"""
        if self.cut:
            return False
        if any([part.gaps for part in self.parts]):
            missing = {number for part in self.parts for number in part.gaps}
            if any([track.id in missing for track in rendition.tracks]):
                return False
        return any(part.holds(rendition) for part in self.parts)

    def lacks(self, rendition: Rendition) -> bool:
        """Was something of `rendition` in this segment not fetched to this node?"""
        return any(part.lacks(rendition) for part in self.parts)

    def part(self, index: int) -> Part | None:
        """The part of that index."""
        return self.parts[index] if 0 <= index < len(self.parts) else None

    @property
    def begun(self) -> bool:
        """Has it a complete part?"""
        return bool(self.parts) and self.parts[0].complete

    def complete_parts(self) -> list[Part]:
        """The parts that can be had; all but the last while the segment grows."""
        return self.parts if self.complete else self.parts[:-1]


class LiveWindow:
    """Follows one stream's ring. `update` after news; `version` grows when a part completed."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.segments: list[Segment] = []  # oldest first; the last may be open
        self.version = 0
        self.ended = False
        self.bandwidths: dict[str, tuple[int, int]] = {}  # as told last, of renditions that were held
        self._next = 0  # index of the next packet to take in
        self._part: Part | None = None  # the open one
        self._retracted = False  # its packets were taken back; it begins again with the next
        self._msn = self._index = -1  # its segment and index
        self._begin()
        self.update()

    def update(self) -> bool:
        """Take in what is new. True when the playlists changed."""
        before = self.version
        ring = self.stream.ring
        if self._next < ring.first:
            self._begin()
        elif self._next > ring.next:
            self._retract()
        index = self._next
        for packet in ring.slice(index, ring.next):
            if packet.part != self._index or packet.segment != self._msn:
                self._enter(index, packet)
            elif self._part is not None:
                self._part.add(packet)
            index += 1
        self._next = index
        if self._part is not None:
            self._part.stop = index
        if self.segments and self.segments[0].first < ring.first:
            self._evict(ring.first)
        if self.stream.state is not StreamState.LIVE:
            self._rest()
        return self.version != before

    def newest(self) -> tuple[int, int] | None:
        """(msn, part) of the newest complete part, or None before the first."""
        segment = self.newest_segment()
        return (segment.msn, segment.complete_parts()[-1].index) if segment is not None else None

    def newest_segment(self) -> Segment | None:
        """The newest segment of which something can be had."""
        return next((segment for segment in reversed(self.segments) if segment.complete_parts()), None)

    def upcoming(self) -> tuple[int, int]:
        """(msn, part) of the part that is being made, or of the next one while nothing comes."""
        last = self.segments[-1]
        if last.complete:
            return last.msn + 1, 0
        return last.msn, last.parts[-1].index

    def find(self, msn: int) -> Segment | None:
        """The segment with that number, if it is held."""
        if not self.segments:
            return None
        offset = msn - self.segments[0].msn
        found = self.segments[offset] if 0 <= offset < len(self.segments) else None
        return found if found is not None and found.msn == msn else None

    def rendition(self, name: str) -> Rendition | None:
        """The rendition as the newest section has it."""
        newest = self.newest_segment()
        return newest.renditions.get(name) if newest is not None else None

    def part_bytes(self, name: str, msn: int, index: int) -> bytes | None:
        """A complete part, or None; None, too, when it holds nothing of this rendition."""
        segment = self.find(msn)
        rendition = segment.renditions.get(name) if segment else None
        part = segment.part(index) if segment else None
        if rendition is None or part is None or not part.complete:
            return None
        return part.data(self.stream.ring, rendition, msn) or None

    def segment_bytes(self, name: str, msn: int) -> tuple[bytes, ...] | None:
        """A complete segment, as the bytes of its parts, or None, as with `part_bytes`."""
        segment = self.find(msn)
        rendition = segment.renditions.get(name) if segment else None
        if segment is None or rendition is None or not segment.complete or not segment.holds(rendition):
            return None
        ring = self.stream.ring
        made = tuple([part.data(ring, rendition, msn) for part in segment.parts if part.holds(rendition)])
        return made if made and all(made) else None

    def init_bytes(self, name: str, number: int) -> bytes | None:
        """The init segment of that number, while a segment that needs it is held."""
        for segment in reversed(self.segments):
            rendition = segment.renditions.get(name)
            if rendition is not None and rendition.init == number and segment.begun:
                return fmp4.init_segment(rendition.tracks)
        return None

    def _begin(self) -> None:
        """Begin, or begin again when the ring moved on without us, at its oldest whole segment."""
        ring = self.stream.ring
        starts = ring.segment_starts()
        self._next = starts[0] if starts else ring.next
        before = ring.slice(self._next - 1, self._next)
        # What has no beginning here is passed over until the next segment begins.
        self._msn, self._index = (before[0].segment, before[0].part) if before else (-1, -1)
        self._part, self._retracted = None, False
        if self.segments:
            self.segments.clear()
            self.version += 1

    def _retract(self) -> None:
        """The open part's packets were taken back; complete parts never are."""
        self._next = self.stream.ring.next
        if self._part is not None:
            self._retracted, self._index = True, -1

    def _enter(self, index: int, packet: Packet) -> None:
        """A part begins with this packet."""
        if self._retracted:
            self._discard_part()
        new_segment = packet.segment != self._msn
        self._msn, self._index = packet.segment, packet.part
        last = self.segments[-1] if self.segments else None
        same_section = last is not None and last.section.discontinuity == packet.discontinuity
        self._close_part(index, packet if same_section else None)
        if new_segment:
            self._close_segment()
            self._fill(index, packet)
            last = self._segment(index, packet, last if same_section else None)
            self.segments.append(last)
        if last is not None:
            self._part = Part(packet.part, index, packet)
            last.parts.append(self._part)

    def _fill(self, index: int, packet: Packet) -> None:
        """Gaps for the numbers that this node has nothing of: another origin went, and others had more."""
        if not self.segments:
            return
        last = self.segments[-1]
        missing = packet.segment - last.msn - 1
        if not 0 < missing <= GAPS_MAX:
            return
        start_us = last.start_us + last.duration_us
        share_us = max(packet.dts_us - start_us, 0) // missing
        length_us = max(min(share_us, self.stream.target_duration_us), self.stream.part_target_us)
        for number in range(missing):
            begin_us = start_us + number * length_us
            gap = Segment(last.msn + 1 + number, last.section, last.renditions, begin_us, index)
            gap.complete = gap.cut = True
            gap.silence_us = length_us
            self.segments.append(gap)

    def _segment(self, index: int, packet: Packet, before: Segment | None) -> Segment:
        """A new segment; `before` is the last one of the same section."""
        if before is not None:
            section, renditions = before.section, before.renditions
        else:
            section = self.stream.section_of(packet)
            renditions = {rendition.name: rendition for rendition in renditions_of(section)}
        return Segment(packet.segment, section, renditions, packet.dts_us, index)

    def _discard_part(self) -> None:
        self._part, self._retracted = None, False
        last = self.segments[-1]
        last.parts.pop()
        if not last.parts:
            self.segments.pop()
            self._msn = -1

    def _close_part(self, stop: int, following: Packet | None) -> None:
        if self._part is not None:
            self._part.close(stop, following)
            self._part = None
            self.version += 1

    def _close_segment(self) -> None:
        if self.segments and not self.segments[-1].complete:
            last = self.segments[-1]
            last.complete, last.cut = True, last.msn in self.stream.cut_segments
            self.version += 1

    def _rest(self) -> None:
        """The publisher went: what it began will not grow, a returning one begins a new segment.

        Of a stream that was cut off, another node may have more: it keeps the parts, completes nothing.
        """
        state = self.stream.state
        if state is not StreamState.STARTING and not self.stream.cut_off:
            self._close_part(self._next, None)
            self._close_segment()
        if state is StreamState.ENDED and not self.ended:
            self.ended = True
            self.version += 1

    def _evict(self, first: int) -> None:
        while self.segments and self.segments[0].first < first:
            del self.segments[0]
        if not self.segments:
            self._part, self._retracted = None, False  # one segment was too large for the ring
        self.version += 1
