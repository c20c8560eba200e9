"""What one subscriber is sent of a stream, by its origin or by an edge that relays it. Pure.

Nothing is queued here: what is to be sent is a place in the stream's ring, and the shell pulls
frames when its transport takes them. A part's proof goes out before the next part's first
packet, so that an edge completes no part unproven. A subscriber that is too slow is skipped to
the newest segment, and told so: objects of a part of a segment could be checked by nobody.
"""

import bisect
from collections.abc import Callable

from media.replicate.signing import Identity, Proofs
from media.replicate.wire import (
    Alive,
    End,
    Gone,
    Retract,
    Skip,
    State,
    ToEdge,
    Want,
    describe_section,
    encode,
    encode_hollow,
    encode_packet,
)
from media.track.model import Packet
from media.track.stream import Stream, StreamState

LATE_US = 6_000_000  # further behind than this, playlists' last parts come too late; guess
ANOTHER_EPOCH = "the stream goes on in another epoch"
SLICE_PACKETS = 64  # taken from the ring at once

_Position = tuple[int, int]


class Publication:
    """One subscriber's place in a stream. `on_ready(now)` says that `pull` may have something."""

    def __init__(
        self,
        stream: Stream,
        proofs: Proofs,
        identity: Identity,
        want: Want,
        on_ready: Callable[[float], None],
        *,
        late_us: int = LATE_US,
    ) -> None:
        """`proofs` are a Signer's or, on an edge, a Replica's."""
        self.stream = stream
        self.done = False  # End or Gone was pulled
        self.packets = self.skips = 0
        self._proofs = proofs
        self._identity = identity
        self._on_ready = on_ready
        self._late_us = late_us
        self._wanted = self._sending = frozenset(want.tracks)
        self._after: _Position | None = want.after if want.epoch == identity.epoch else None
        self._history_us = want.history_us
        self._beyond = want.beyond
        self._epoch_begin = stream.epoch_begin
        self._stop: int | None = None  # where another epoch begins
        self._index: int | None = None  # the next packet; None: a segment's beginning is looked for
        self._open: _Position | None = None  # the part whose proof was not sent yet
        self._last = self._after  # the part that the edge has or was sent last
        self._segment = self._section = -1  # of the last packet sent
        self._skipping = False  # the edge has something that what comes does not follow on
        self._caught_up = False
        self._state: StreamState | None = None  # as was told
        self._gone = ""
        self._alive: Alive | None = None
        self._frames: list[bytes] = []
        self._bytes = 0
        stream.subscribe(self._news)

    def want(self, message: Want) -> None:
        """Other tracks from the next segment on."""
        self._wanted = frozenset(message.tracks)

    @property
    def wanted(self) -> frozenset[int]:
        """Ids of the tracks that are asked for, none: all."""
        return self._wanted

    def say_alive(self, depth: int, now: float) -> None:
        """Have the edge told that this node is there, `depth` hops from the origin."""
        self._alive = Alive(depth, max(0, self.stream.newest_us), round(now * 1000))
        self._on_ready(now)

    def end(self, reason: str, now: float) -> None:
        """Let this subscriber go, to another parent."""
        self._gone = reason
        self._on_ready(now)

    def close(self) -> None:
        """The subscriber went."""
        self.stream.unsubscribe(self._news)
        self.done = True

    def pull(self, bytes_max: int) -> list[bytes]:
        """Buffers to send now: whole frames, ended with the one that reaches `bytes_max`."""
        if self._alive is not None and not self.done:
            self._say(self._alive)
            self._alive = None
        while not self.done and self._bytes < bytes_max:
            if self._gone:
                self._leave(Gone(self._gone))
            elif not self._advance(bytes_max):
                break
        frames, self._frames, self._bytes = self._frames, [], 0
        return frames

    def _news(self, now: float) -> None:
        ring = self.stream.ring
        if self._stop is None and self.stream.epoch_begin != self._epoch_begin:
            self._stop = self.stream.epoch_begin
        if self._stop is not None:
            self._index = self._index if self._index is None else min(self._index, self._stop)
        elif self._index is not None and self._index > ring.next:
            self._index = ring.next
            if self._open is not None:
                self._say(Retract(*self._open))
                self._open, self._last, self._section = None, None, -1
        self._on_ready(now)

    def _advance(self, bytes_max: int) -> bool:
        """Go on by some packets or by one message. False: nothing can be sent now."""
        ring = self.stream.ring
        index = self._index
        if index is not None and (index < ring.first or self._is_late(index)):
            index = self._skip()
        if index is None:
            index = self._begin()
            if index is None:
                return self._rest()
        if index == self._end:
            return self._rest()
        begin = self._bytes
        for packet in ring.slice(index, min(index + SLICE_PACKETS, self._end)):
            if self._after is not None and (packet.segment, packet.part) <= self._after:
                index += 1
                continue
            if self._bytes >= bytes_max or not self._send(packet):
                break
            index += 1
        moved = index != self._index
        self._index = index
        return moved or self._bytes > begin

    def _send(self, packet: Packet) -> bool:
        """One packet with what must come before it. False: the proof of the part before is not there."""
        position = (packet.segment, packet.part)
        if position != self._open and not self._enter(packet, position):
            return False
        if self._sending and packet.track.id not in self._sending:
            self._put(encode_hollow(packet))
        else:
            head, data = encode_packet(packet)
            self._put(head)
            if data:
                self._put(data)
        self.packets += 1
        return True

    def _enter(self, packet: Packet, position: _Position) -> bool:
        """A part begins. False: it must wait for the proof of the one before."""
        if self._last is not None and not _follows(position, self._last):
            self._skipping, self._open = True, None  # the ring itself has a hole here
        if self._open is not None and not self._prove(self._open):
            return False
        if self._skipping:
            self._skipping = False
            self._say(Skip(packet.segment))
        if packet.discontinuity != self._section:
            self._section = packet.discontinuity
            self._say(describe_section(self.stream.section_of(packet), self._identity.epoch))
        if packet.segment != self._segment:
            self._segment, self._sending = packet.segment, self._wanted
        self._after, self._open, self._last = None, position, position
        return True

    def _prove(self, position: _Position) -> bool:
        proof = self._proofs.get(*position)
        if proof is None:
            return False
        self._say(proof)
        self._open = None
        return True

    def _rest(self) -> bool:
        """All packets are sent: tell the stream's state. False: it was told."""
        self._caught_up = True
        if self._stop is not None:
            if self._open is not None:
                self._prove(self._open)
            self._leave(Gone(ANOTHER_EPOCH))
            return True
        state = self.stream.state
        if state is self._state:
            return False
        at_rest = state in (StreamState.LINGERING, StreamState.ENDED)
        if at_rest and self.stream.cut_off:
            self._leave(Gone("the stream was lost on its way here"))
            return True
        if at_rest and self._open is not None and not self._prove(self._open):
            return False
        self._state = state
        if state is StreamState.ENDED:
            self._leave(End("the stream has ended"))
        else:
            self._say(State(state))
        return True

    def _begin(self) -> int | None:
        """Where to begin: after what the edge has, else with a segment; None while there is neither."""
        ring = self.stream.ring
        if self._after is not None:
            found = self._find(self._after)
            if found is not None:
                return found
            self._after, self._last, self._skipping = None, None, True
        starts = self._starts()
        if self._beyond is not None:
            return next((start for start in starts if ring.get(start).segment > self._beyond), None)
        if not starts:
            return None
        newest_us = ring.get(ring.next - 1).dts_us
        old_enough = [start for start in starts if newest_us - ring.get(start).dts_us >= self._history_us]
        return old_enough[-1] if old_enough else starts[0]

    @property
    def _end(self) -> int:
        """Index of the first packet that is not for this subscriber yet, or never."""
        return self.stream.ring.next if self._stop is None else self._stop

    def _starts(self) -> list[int]:
        """Where whole segments of this epoch begin."""
        return [
            start for start in self.stream.ring.segment_starts() if self._epoch_begin <= start < self._end
        ]

    def _find(self, after: _Position) -> int | None:
        """Index of the first packet behind that part, None when it does not follow on it."""
        ring = self.stream.ring
        if ring.first == ring.next:
            return ring.next
        packets = ring.slice(ring.first, ring.next)
        found = bisect.bisect_right(packets, after, key=_position_of)
        if found == len(packets):
            return ring.next
        if _follows(_position_of(packets[found]), after):
            return ring.first + found
        return None

    def _skip(self) -> int | None:
        """Pass over what is too old, to the newest segment; None while none begins."""
        starts = self._starts()
        self._index = starts[-1] if starts else None
        self._open = self._after = self._last = None
        self._skipping, self._history_us = True, 0
        self.skips += 1
        self.stream.reader_skips += 1
        return self._index

    def _is_late(self, index: int) -> bool:
        """Too far behind, and is there a newer segment?"""
        ring = self.stream.ring
        if not self._caught_up or index >= self._end:
            return False
        if ring.get(ring.next - 1).dts_us - ring.get(index).dts_us <= self._late_us:
            return False
        starts = self._starts()
        return bool(starts) and starts[-1] > index

    def _leave(self, message: End | Gone) -> None:
        self._say(message)
        self.close()

    def _say(self, message: ToEdge) -> None:
        self._put(encode(message))

    def _put(self, data: bytes) -> None:
        self._frames.append(data)
        self._bytes += len(data)


def _position_of(packet: Packet) -> _Position:
    return packet.segment, packet.part


def _follows(position: _Position, before: _Position) -> bool:
    segment, part = before
    return position in ((segment, part + 1), (segment + 1, 0))
