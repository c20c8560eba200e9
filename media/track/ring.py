"""The one bounded buffer of a stream, and the cursors that readers hold in it. Pure."""

import dataclasses
from collections import deque

from media.track.model import Packet

RING_BYTES_MAX = 128 * 1024 * 1024  # a 100 Mb/s stream for 10 s; guess
PACKET_OVERHEAD_BYTES = 256  # measured: the Packet, its integers, the header of its data
SEGMENTS_MIN = 4  # three must stay listed (RFC 8216bis 6.2.2), one is being made
GROUP_STARTS_MAX = 4096  # 68 minutes of one-second groups; older ones can still be read in order
TRIM_DIVISOR = 16  # a segment too large for the ring loses this part of it at once


@dataclasses.dataclass(slots=True)
class RingStatistics:
    """What went through and what is held; bytes are those of the packets' data."""

    packets: int = 0
    bytes: int = 0
    held_packets: int = 0
    held_bytes: int = 0
    evicted_by_size: int = 0


class Ring:
    """Packets by ever-growing index; the oldest segments go when time or size is over the bound.

    `first` is the index of the oldest packet held, `next` the one that the next packet gets.
    """

    def __init__(self, window_us: int, max_bytes: int = RING_BYTES_MAX) -> None:
        self.first = 0
        self.next = 0
        self.statistics = RingStatistics()
        self._window_us = window_us
        self._max_bytes = max_bytes
        self._packets: list[Packet] = []
        self._segment_starts: deque[int] = deque()  # of the segments held whole
        self._group_starts: deque[int] = deque(maxlen=GROUP_STARTS_MAX)
        self._last_segment = -1
        self._last_group = -1

    def append(self, packet: Packet) -> None:
        """Add the newest packet; may evict whole segments, or the beginning of one huge segment."""
        index = self.next
        self._packets.append(packet)
        self.next = index + 1
        statistics = self.statistics
        size = len(packet.data)
        statistics.packets += 1
        statistics.bytes += size
        statistics.held_packets += 1
        statistics.held_bytes += size
        if packet.group != self._last_group:
            self._last_group = packet.group
            self._group_starts.append(index)
        if packet.segment != self._last_segment:
            self._last_segment = packet.segment
            self._segment_starts.append(index)
            self._evict_old(packet.dts_us)
        if self._is_over_size():
            self._evict_large()

    def retract(self, index: int) -> None:
        """Take back the packets from `index` on; their indices are given again.

        Readers that were beyond it find `next` below their place, and must hear of it before more comes.
        """
        index = max(index, self.first)
        gone = self._packets[index - self.first :]
        self._forget(gone)
        del self._packets[index - self.first :]
        self.next = index
        for starts in (self._segment_starts, self._group_starts):
            while starts and starts[-1] >= index:
                starts.pop()
        last = self._packets[-1] if self._packets else None
        self._last_segment, self._last_group = (last.segment, last.group) if last is not None else (-1, -1)

    def clear(self) -> None:
        """Drop everything that is held: what comes next does not follow on it."""
        self._drop_until(self.next)

    def get(self, index: int) -> Packet:
        """The packet at `index`; IndexError when it is not held."""
        if not self.first <= index < self.next:
            raise IndexError(index)
        return self._packets[index - self.first]

    def slice(self, start: int, stop: int) -> list[Packet]:
        """Packets start..stop-1 that are still held."""
        first = self.first
        start = max(start, first)
        return self._packets[start - first : max(start, stop) - first]

    def newest_group(self) -> int:
        """Index of the newest group's first packet; `next` when there is none."""
        starts = self._group_starts
        return starts[-1] if starts else self.next

    def group_at_or_before(self, index: int) -> int:
        """Index of the first packet of the last group that starts at or before `index`.

        The oldest group held when that one is gone, `next` when there is none.
        """
        starts = self._group_starts
        for start in reversed(starts):
            if start <= index:
                return start
        return starts[0] if starts else self.next

    def group_at_or_after(self, index: int) -> int:
        """Index of the first packet of the first group from `index` on; `next` when there is none."""
        return next((start for start in self._group_starts if start >= index), self.next)

    def segment_starts(self) -> list[int]:
        """Indices of the first packets of the segments that are held whole; the last may be growing."""
        return list(self._segment_starts)

    def _is_over_size(self) -> bool:
        held = self.statistics
        return held.held_bytes + held.held_packets * PACKET_OVERHEAD_BYTES > self._max_bytes

    def _evict_old(self, newest_us: int) -> None:
        starts = self._segment_starts
        while len(starts) > SEGMENTS_MIN and newest_us - self.get(starts[1]).dts_us >= self._window_us:
            self._drop_until(starts[1])

    def _evict_large(self) -> None:
        starts = self._segment_starts
        while self._is_over_size() and self.first < self.next - 1:
            self.statistics.evicted_by_size += 1
            whole = next((start for start in starts if start > self.first), None)
            # Without a younger segment this one is too large by itself, and loses its beginning.
            trimmed = self.first + max(1, self.statistics.held_packets // TRIM_DIVISOR)
            self._drop_until(trimmed if whole is None else whole)

    def _drop_until(self, index: int) -> None:
        gone = self._packets[: index - self.first]
        self._forget(gone)
        del self._packets[: len(gone)]
        self.first = index
        for starts in (self._segment_starts, self._group_starts):
            while starts and starts[0] < index:
                starts.popleft()

    def _forget(self, gone: list[Packet]) -> None:
        self.statistics.held_packets -= len(gone)
        self.statistics.held_bytes -= sum([len(packet.data) for packet in gone])


class Cursor:
    """A reader's place in a ring. Late readers skip to the newest group; skips are counted."""

    __slots__ = ("_late_us", "_lost", "_ring", "index", "skipped_packets", "skips")

    def __init__(self, ring: Ring, index: int | None = None, late_us: int = 0) -> None:
        """Start at `index`, or at the newest group. `late_us` > 0: skip when further behind."""
        self._ring = ring
        self._late_us = late_us
        self._lost = index is None  # only a group's first packet may be read next
        self.index = ring.newest_group() if index is None else index
        self.skips = 0
        self.skipped_packets = 0

    def read(self, limit: int) -> list[Packet]:
        """Up to `limit` next packets; empty when there are none yet."""
        ring = self._ring
        if self.index > ring.next:  # what it has read was taken back
            self.index, self._lost = ring.next, True
        elif self.index < ring.first or (self._late_us and self._is_late()):
            self.skip_to(max(ring.newest_group(), self.index))
            self._lost = True
        if self._lost and not self._find_group():
            return []
        packets = ring.slice(self.index, min(ring.next, self.index + limit))
        self.index += len(packets)
        return packets

    def skip_to(self, index: int) -> None:
        """Go forward to `index`, counting what is passed over."""
        if index > self.index:
            self.skips += 1
            self.skipped_packets += index - self.index
            self.index = index

    def _find_group(self) -> bool:
        """Go on to the first group from here; False while there is none."""
        ring = self._ring
        start = ring.group_at_or_after(self.index)
        self.skipped_packets += start - self.index
        self.index = start
        self._lost = start == ring.next
        return not self._lost

    def _is_late(self) -> bool:
        ring = self._ring
        if self.index >= ring.next or ring.newest_group() <= self.index:
            return False
        lag = ring.get(ring.next - 1).dts_us - ring.get(self.index).dts_us
        return lag > self._late_us
