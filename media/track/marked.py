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
        *,
        on_stop: Callable[[str], None],
        on_close: Callable[["MarkedWriter", str, float], None],
        on_state: Callable[[str, float], None],
    ) -> None:
        self.stream = stream
        self.source = source
        self._on_stop, self._on_close, self._on_state = on_stop, on_close, on_state
        self._closed = False
        self._whole = True  # the newest segment got all its origin gave it
        self._proven = stream.ring.next
        self._proven_section = -1
        stream.source = source
        stream.replicated = True
        stream._publishers += 1

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
        self._proven = stream.ring.next
        self._proven_section = max(stream.sections, default=-1)
        self._whole = whole
        stream._marker.part_target_us = part_target_us
        stream._marker.target_duration_us = target_duration_us

    def retract(self, now: float) -> None:
        """Take back what is not proven; readers that had it are told at once."""
        stream = self.stream
        if self._closed:
            return
        stream.ring.retract(self._proven)
        for number in [number for number in stream.sections if number > self._proven_section]:
            del stream.sections[number]
        stream._notify(now)

    def skip(self, now: float) -> None:
        """What comes next does not follow on what is held: let go of that."""
        if not self._closed:
            self.stream.ring.clear()
            self._proven = self.stream.ring.next
            self.stream._notify(now)

    def set_state(self, state: StreamState, now: float) -> None:
        """The stream starts, is live or lingers, as its origin says."""
        stream = self.stream
        if not self._closed and stream.state is not state:
            stream.state = state
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
        """A publisher or the operator ends this copy: it is told, and writes no more."""
        if not self._closed:
            self._end()
            self._on_stop(reason)

    def _end(self) -> None:
        self._closed = True
        self.stream.cut_off = not self._whole
