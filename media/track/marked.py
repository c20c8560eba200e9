"""Writes a stream with packets that another node marked: nothing is decided here. Pure."""

from collections.abc import Callable

from media.track.model import MICROSECONDS, Packet
from media.track.stream import Section, Source, Stream, StreamState


class MarkedWriter:
    """A copy's right to write a stream. Marks, sections and targets are the origin's.

    The newest part is unproven until `prove`; only unproven packets can be taken back.
    """

    def __init__(
        self,
        stream: Stream,
        source: Source,
        now: float,
        *,
        on_stop: Callable[[str], None],
        on_close: Callable[["MarkedWriter", str, float], None],
        on_state: Callable[[str, float], None],
    ) -> None:
        """What the stream holds already stays, as what another origin wrote."""
        self.stream = stream
        self.source = source
        self._on_stop, self._on_close, self._on_state = on_stop, on_close, on_state
        self._closed = False
        self._whole = self._proven_whole = True  # the newest segment got all its origin gave it
        self._promised_us = 0  # target duration before this epoch
        self._proven = stream.ring.next
        self._proven_section = max(stream.sections, default=-1)
        stream.source = source
        stream._observer = None
        stream.replicated = True
        stream._publishers += 1
        self._begin_epoch(now)

    @property
    def newest(self) -> Packet | None:
        """The last packet that was proven, here or in an earlier epoch."""
        return self.stream._last

    def begin_section(self, section: Section, now: float) -> None:
        """The packets of `section.discontinuity` follow."""
        if not self._closed:
            self.stream._adopt_section(section, now)

    def write(self, packet: Packet) -> None:
        """One packet of a section that has begun. Ignored after `close` and `stop`."""
        if self._closed:
            return
        stream = self.stream
        if stream.state is StreamState.LINGERING:
            stream.state = StreamState.STARTING  # what begins now is not at rest
            stream.cut_off = False
        stream.ring.append(packet)
        self._whole = False
        track = packet.track
        rate = stream._rates[track.id]
        rate.packets += 1
        rate.bytes += len(packet.data)
        stream._timeline.reach((packet.dts + packet.duration) * MICROSECONDS // track.timescale)

    def prove(self, part_target_us: int, target_duration_us: int, *, whole: bool) -> None:
        """All that was written is as the origin wrote it, which has these targets now.

        `whole`: its publisher went, and nothing will be added to the newest segment.
        """
        if self._closed:
            return
        stream = self.stream
        ring = stream.ring
        self._proven = stream._proven = ring.next
        if ring.first < ring.next:
            stream._last = ring.get(ring.next - 1)
        self._proven_section = max(stream.sections, default=-1)
        self._whole = self._proven_whole = whole
        if whole:
            stream.cut_off = False
        stream._marker.part_target_us = part_target_us
        stream._marker.target_duration_us = max(self._promised_us, target_duration_us)

    def retract(self, now: float) -> None:
        """Take back what is not proven; readers that had it are told at once: it may be altered."""
        if not self._closed:
            stream = self.stream
            self._take_back()
            stream.altered = True
            stream._notify(now)
            stream.altered = False

    def begin_epoch(self, source: Source, now: float) -> None:
        """What comes next is another origin's and follows on what is proven, without blame for the rest."""
        if not self._closed:
            self._leave()
            self.source = self.stream.source = source
            self._begin_epoch(now)

    def rest(self, now: float) -> None:
        """Nobody gives it now: it lingers as if its publisher had gone, and what is held is kept as it is."""
        stream = self.stream
        if not self._closed and stream.state is not StreamState.LINGERING:
            stream.cut_off = not self._whole
            self.set_state(StreamState.LINGERING, now)

    def skip(self, now: float) -> None:
        """What comes next does not follow on what is held: let go of that."""
        if not self._closed:
            stream = self.stream
            stream.ring.clear()
            self._proven = stream._proven = stream.ring.next
            stream._notify(now)

    def let_go(self, now: float) -> None:
        """As `skip`, where an epoch begins whose numbers and times do not go on behind those before."""
        if not self._closed:
            stream = self.stream
            stream.sections = {number: stream.sections[number] for number in self._unproven()}
            stream.cut_segments = set()
            stream._timeline.forget()
            self._proven_section = -1
            self.skip(now)

    def set_state(self, state: StreamState, now: float) -> None:
        """The stream starts, is live or lingers, as its origin says."""
        stream = self.stream
        if not self._closed and stream.state is not state:
            stream.state = state
            if state is StreamState.LIVE:
                stream.cut_off = False
            stream._notify(now)
            if state is not StreamState.LIVE:
                self._on_state(stream.name, now)

    def flush(self, now: float) -> None:
        """Tell readers; call once after the writes of one batch."""
        if not self._closed:
            for rate in self.stream._rates.values():
                rate.update(now)
            self.stream._notify(now)

    def close(self, reason: str, now: float) -> None:
        """The stream ends here: its origin said so, or it can be had no more."""
        if not self._closed:
            self._end()
            self._on_close(self, reason, now)

    def stop(self, reason: str) -> None:
        """The operator ends this copy: it is told, and writes no more."""
        if not self._closed:
            self._end()
            self._on_stop(reason)

    def give_way(self, reason: str) -> None:
        """A publisher here goes on with the stream behind what is proven; as `stop`."""
        if not self._closed:
            self._leave()
            self._closed = True
            self._on_stop(reason)

    def _end(self) -> None:
        self._closed = True
        self.stream.cut_off = not self._whole

    def _begin_epoch(self, now: float) -> None:
        stream = self.stream
        stream._begin_epoch(now)
        self._proven = stream._proven = stream.ring.next
        self._promised_us = stream.target_duration_us if stream._last is not None else 0

    def _take_back(self) -> None:
        stream = self.stream
        stream.ring.retract(self._proven)
        for number in self._unproven():
            del stream.sections[number]

    def _unproven(self) -> list[int]:
        """Sections that begin with the part that is not proven."""
        return [number for number in self.stream.sections if number > self._proven_section]

    def _leave(self) -> None:
        """Another writer's packets will follow: the newest segment stays as it is, proven so far."""
        stream = self.stream
        self._take_back()
        if not self._proven_whole and stream._last is not None:
            stream.cut_segments.add(stream._last.segment)
        if not self._whole:
            stream.state = StreamState.STARTING  # a stream at rest has whole segments only
        self._whole = self._proven_whole = True
        stream.cut_off = False
