"""An edge's side of replication: makes the origin's stream again, from one parent after another. Pure.

Packets go into the stream as they come; a part's proof must be there and right before the next
part may begin. As packaging completes a part with the next one's first packet, what is served
whole is always proven, and what goes out packet by packet is ahead of that by one part at most.
A part that is not proven is taken back. A new parent is asked for what follows on the last proven
part; what it repeats of the open part is compared, not written again, and what it repeats of parts that
were proven since it was asked is passed over.

One replica makes one epoch. What the stream holds of an earlier one stays: this epoch's numbers go on
behind it, a few may be missing. Where they do not, what is held is let go of.
"""

from collections.abc import Sequence

import msgspec

from media.bitstream.describe import describe
from media.errors import WireError
from media.package.window import GAPS_MAX
from media.replicate.signing import Failure, Identity, Proofs, Verifier, Verify, section_digest
from media.replicate.wire import (
    FIELD_MAX,
    Alive,
    Describe,
    End,
    FrameReader,
    Gone,
    Marked,
    PartSigned,
    Retract,
    Skip,
    State,
    ToEdge,
    Vouched,
    Want,
    parse_to_edge_untrusted,
    section_of,
)
from media.track.marked import MarkedWriter
from media.track.model import MICROSECONDS, Hollow, Packet, Track
from media.track.stream import Section, StreamState

AHEAD_SEGMENTS_MAX = 3  # that viewers here may wait for another epoch's numbers; their buffers bear as much
# An honest part ends with the first frame beyond its target; these are for those who never end one.
PART_PACKETS_MAX = 8192  # sixteen tracks of 500 packets
PART_BYTES_MAX = 64 * 1024 * 1024  # two of the largest packets


class Failed(msgspec.Struct, frozen=True):
    """The parent sent what the origin did not sign: leave it, tell of it, `adopt` another one."""

    failure: Failure


class Conflicted(msgspec.Struct, frozen=True):
    """Two parents differ about a part that neither has proven; the present one's is taken for now."""

    segment: int
    part: int


class Skipped(msgspec.Struct, frozen=True):
    """Media between was lost, and what was held was let go."""

    segment: int


class Lost(msgspec.Struct, frozen=True):
    """The parent sends no more; the stream may go on at another one. `full`: it would rather than nobody."""

    reason: str
    full: bool = False


class Ended(msgspec.Struct, frozen=True):
    """The stream has ended; the writer is closed."""

    reason: str


Event = Failed | Conflicted | Skipped | Lost | Ended | Alive


class Replica:
    """One stream at an edge. `adopt` each parent, then `receive` what it sends."""

    def __init__(self, writer: MarkedWriter, identity: Identity, key: bytes, verify: Verify) -> None:
        """`identity` and `key`: of the stream and its origin, from somewhere that vouches for them."""
        self.writer = writer
        self.identity = identity
        self.proofs = Proofs()
        self.verified = 0
        self.listening = False  # a parent was adopted, and is still believed
        self._verifier = Verifier(identity, key, verify)
        self._reader = FrameReader(parse_to_edge_untrusted)
        self._digests: dict[int, bytes] = {}  # of sections, by discontinuity
        self._section: Section | None = None  # which the next packet belongs to
        self._tracks: dict[int, Track] = {}  # of it
        self._proven_section = -1
        self._last: PartSigned | None = None  # the last proven part; None: what comes follows on nothing
        self._breaks_before = writer.stream.breaks_before
        self._before = writer.newest  # the last packet of an earlier epoch; None: there is none
        self._place = _Place(-1, {})
        self._proven_place = _Place(-1, {})  # as it was when the open part began
        self._open: tuple[int, int] | None = None  # the part that is not proven yet
        self._packets: list[Packet] = []  # of the open part
        self._leaves: list[bytes] = []
        self._bytes = 0
        self._repeated = 0  # how many of them the present parent has sent
        self._vouch = b""  # its word on the part that it is about to prove
        self._repeats = False  # the present parent may begin with parts that are proven

    @property
    def follows_on(self) -> tuple[int, int] | None:
        """The last proven part; None: what comes next follows on nothing."""
        return self._last.position if self._last is not None else None

    def adopt(self, tracks: Sequence[int] = (), history_us: int = 0, *, last_resort: bool = False) -> Want:
        """What to say to a parent, the first or the next one, whose answers are received from now on."""
        self._reader = FrameReader(parse_to_edge_untrusted)
        self._repeated = 0
        self._vouch = b""
        self._repeats = True
        self.listening = True
        return self.want(tracks, history_us, last_resort=last_resort)

    def want(self, tracks: Sequence[int] = (), history_us: int = 0, *, last_resort: bool = False) -> Want:
        """What to say to the present parent to be sent other tracks, none: all, from the next segment on.

        Also to a node that may be adopted later; not if by then the first part was proven that it knows
        nothing of: what it sends would begin elsewhere.
        """
        beyond = self._before.segment if self._before is not None else None
        return Want(list(tracks), history_us, self.identity.epoch, self.follows_on, beyond, last_resort)

    def is_ahead(self, segment: int) -> bool:
        """Are viewers here too far ahead of a parent with this newest segment to wait for its numbers?"""
        return self._before is not None and segment + AHEAD_SEGMENTS_MAX < self._before.segment

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes from the parent. Raises WireError when it broke the protocol: leave it, `adopt` another."""
        events: list[Event] = []
        if not self.listening:
            return events
        try:
            for message in self._reader.feed(data):
                if self.listening and isinstance(message, Marked):
                    self._take(message, events, now)
                elif self.listening and not isinstance(message, Marked):
                    self._hear(message, events, now)
        except WireError:
            self.listening = False
            raise
        finally:
            self.writer.flush(now)
        return events

    def abandon(self, reason: str, now: float) -> None:
        """The stream can be had from nobody any more: it ends here with what was proven."""
        self.listening = False
        self.writer.close(reason, now)

    def _hear(self, message: ToEdge, events: list[Event], now: float) -> None:
        match message:
            case Vouched():
                self._vouch = message.signature
            case PartSigned():
                self._prove(message, events, now)
            case Describe():
                self._describe(message, events, now)
            case State():
                self._follow_state(message.state, now)
            case Skip():
                self._skip(message, events, now)
            case Alive():
                events.append(message)
            case Retract():
                if self._is_proven((message.segment, message.part)):
                    return
                if (message.segment, message.part) != self._open or not self._repeated:
                    raise WireError("a part is taken back that was not sent")
                self._take_back(now)
            case Gone():
                self.listening = False
                events.append(Lost(message.reason, message.full))
            case End():
                self._require_whole("ends")
                self.listening = False
                self.writer.close(message.reason, now)
                events.append(Ended(message.reason))

    def _describe(self, message: Describe, events: list[Event], now: float) -> None:
        if message.epoch != self.identity.epoch:
            raise WireError(f"epoch {message.epoch} where {self.identity.epoch} was asked for")
        section = section_of(message)
        number = section.discontinuity
        digest = section_digest(section, message.epoch)
        if self._digests.get(number) != digest:
            if number <= self._proven_section:
                raise WireError(f"section {number} is described otherwise than before, or late")
            if self._repeated:
                raise WireError(f"section {number} begins within a part")
            for track in section.tracks:
                describe(track.codec, track.config)
            self._conflict(events)
            self._take_back(now)
            self._break(number, events, now)
            self.writer.begin_section(section, now)
            held = self.writer.stream.sections
            self._digests = {known: value for known, value in self._digests.items() if known in held}
            self._digests[number] = digest
        self._use(self.writer.stream.sections.get(number, section))

    def _break(self, number: int, events: list[Event], now: float) -> None:
        """A section begins, perhaps of an epoch whose count of them went on without us, or never met ours."""
        before = self._before
        if before is None:
            return
        if number <= before.discontinuity:
            self.writer.stream.breaks_before = self._breaks_before + before.discontinuity + 1 - number
        if not 0 < number - before.discontinuity <= GAPS_MAX:
            self._let_go(before.segment + 1, events, now)

    def _use(self, section: Section | None) -> None:
        self._section = section
        self._tracks = {track.id: track for track in section.tracks} if section is not None else {}

    def _take(self, marked: Marked, events: list[Event], now: float) -> None:
        """One packet: new, or repeated by a parent that continues for another."""
        position = (marked.segment, marked.part)
        if self._repeats:
            if self._is_proven(position):
                return
            self._repeats = False
        leaf = marked.marks + marked.payload_hash
        if self._repeated < len(self._leaves):
            if leaf == self._leaves[self._repeated]:
                self._repeated += 1
                return
            self._cut(events, now)
        if position != self._open:
            self._begin_part(marked, position, events, now)
        self._append(self._packet(marked), leaf)

    def _is_proven(self, position: tuple[int, int]) -> bool:
        """Whether a parent just adopted repeats what another one has proven since it was asked."""
        return self._repeats and self._last is not None and position <= self._last.position

    def _append(self, packet: Packet, leaf: bytes) -> None:
        track, place = packet.track, self._place
        self._bytes += len(packet.data)
        if len(self._leaves) >= PART_PACKETS_MAX or self._bytes > PART_BYTES_MAX:
            raise WireError(f"part {self._open} has no end")
        place.group = packet.group
        place.dts[track.id] = packet.dts
        self._packets.append(packet)
        self._leaves.append(leaf)
        self._repeated += 1
        self.writer.write(packet)

    def _begin_part(self, marked: Marked, position: tuple[int, int], events: list[Event], now: float) -> None:
        if self._open is not None:
            raise WireError(f"part {position} begins before {self._open} is proven")
        if self._section is None or marked.discontinuity != self._section.discontinuity:
            raise WireError(f"section {marked.discontinuity} was not described")
        last, before = self._last, self._before
        if last is None:
            follows = position[1] == 0 and (before is None or position[0] > before.segment)
        elif last.closes or marked.discontinuity != last.discontinuity:
            follows = position == (last.segment + 1, 0) and marked.discontinuity >= last.discontinuity
        else:
            follows = position in ((last.segment, last.part + 1), (last.segment + 1, 0))
        if not follows:
            raise WireError(f"part {position} does not follow on what was sent")
        if before is not None:
            self._go_on_behind(before, marked, events, now)
        self._open = position
        self._proven_place = self._place
        same_clocks = marked.discontinuity == self._proven_section
        self._place = _Place(self._place.group, dict(self._place.dts) if same_clocks else {})

    def _go_on_behind(self, before: Packet, marked: Marked, events: list[Event], now: float) -> None:
        """The first packet behind another epoch: let go of what it does not follow on."""
        track = self._tracks.get(marked.track)
        begin_us = marked.dts * MICROSECONDS // track.timescale if track is not None else 0
        if marked.segment - before.segment - 1 > GAPS_MAX or begin_us < before.dts_us:
            self._let_go(marked.segment, events, now)

    def _let_go(self, segment: int, events: list[Event], now: float) -> None:
        ring = self.writer.stream.ring
        if ring.first < ring.next:
            self.writer.let_go(now)
            events.append(Skipped(segment))

    def _packet(self, marked: Marked) -> Packet:
        """Raises WireError for what packaging could not put into numbers."""
        track = self._tracks.get(marked.track)
        assert self._section is not None
        if track is None or marked.discontinuity != self._section.discontinuity:
            raise WireError(f"a packet of track {marked.track}, which its section does not have")
        place = self._place
        before = place.dts.get(track.id)
        if before is not None and not before < marked.dts <= before + FIELD_MAX:
            raise WireError(f"times of track {track.id} jump from {before} to {marked.dts}")
        group = place.group
        if group >= 0 and marked.group not in (group, group + 1):
            raise WireError(f"group {marked.group} comes after {group}")
        fields = (
            track, marked.dts, marked.cts, marked.duration, marked.keyframe, marked.data or b"",
            marked.group, marked.segment, marked.part, marked.discontinuity,
        )  # fmt: skip
        return Packet(*fields) if marked.data is not None else Hollow(*fields, marked.payload_hash)

    def _prove(self, part: PartSigned, events: list[Event], now: float) -> None:
        if self._is_proven(part.position):
            return
        if part.position != self._open or not self._repeated:
            raise WireError(f"a signature for part {part.position}, which was not sent")
        if self._repeated < len(self._leaves):
            self._cut(events, now)
        failure = self._verifier.check(self._digests[self._packets[0].discontinuity], self._leaves, part)
        vouch, self._vouch = self._vouch, b""
        if failure is not None:
            self._take_back(now)
            self.listening = False
            events.append(Failed(msgspec.structs.replace(failure, vouch=vouch)))
            return
        self.verified += 1
        self._proven_section = self._packets[0].discontinuity
        self._last, self._before = part, None
        self._forget_open()
        self.writer.prove(part.part_target_us, part.target_duration_us, whole=part.closes)
        self.proofs.add(part, self.writer.stream)

    def _cut(self, events: list[Event], now: float) -> None:
        """The present parent's part is not what was held of it: keep only what it has sent, too."""
        self._conflict(events)
        section, opened = self._section, self._open
        kept = list(zip(self._packets, self._leaves, strict=True))[: self._repeated]
        digest = self._digests[self._packets[0].discontinuity]
        self._take_back(now)
        if section is not None and section.discontinuity not in self._digests:
            self.writer.begin_section(section, now)
            self._digests[section.discontinuity] = digest
        self._use(section)
        if kept:
            self._open = opened
            for packet, leaf in kept:
                self._append(packet, leaf)

    def _conflict(self, events: list[Event]) -> None:
        """Before anything is proven, a parent that begins elsewhere contradicts nobody."""
        if self._open is not None and (self._last is not None or self._repeated):
            events.append(Conflicted(*self._open))

    def _take_back(self, now: float) -> None:
        """Forget what is not proven: the open part, and a section that begins with it."""
        unproven = [number for number in self._digests if number > self._proven_section]
        if self._open is None and not unproven:
            return
        for number in unproven:
            del self._digests[number]
        if self._open is not None:
            self._place = self._proven_place
        self._forget_open()
        self.writer.retract(now)
        self._use(self.writer.stream.sections.get(self._proven_section))

    def _forget_open(self) -> None:
        self._open = None
        self._packets, self._leaves = [], []
        self._bytes = self._repeated = 0

    def _skip(self, message: Skip, events: list[Event], now: float) -> None:
        if self._is_proven((message.segment, 0)):
            return
        last = self._last or self._before
        if last is not None and message.segment <= last.segment:
            raise WireError(f"a skip back to segment {message.segment}")
        self._last = None
        self._forget_open()
        self._place = _Place(-1, {})
        self._verifier.break_chain()
        self.writer.skip(now)
        events.append(Skipped(message.segment))

    def _follow_state(self, state: StreamState, now: float) -> None:
        if state is StreamState.LINGERING:
            self._require_whole("rests")
        elif state is StreamState.STARTING and self.writer.stream.state is StreamState.LIVE:
            return  # this parent has less than we have
        self.writer.set_state(state, now)

    def _require_whole(self, what: str) -> None:
        """A stream rests or ends where its origin has signed that nothing more comes of a segment."""
        if self._open is not None or (self._last is not None and not self._last.closes):
            raise WireError(f"the stream {what} in the middle of a segment")


class _Place:
    """Where the packets are: the newest group, and the newest time of each track."""

    __slots__ = ("dts", "group")

    def __init__(self, group: int, dts: dict[int, int]) -> None:
        self.group = group
        self.dts = dts
