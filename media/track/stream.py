"""A live stream: its tracks, its ring, who writes it and who follows it. Pure."""

import enum
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from media.errors import Refused, StateError, WireError
from media.track.continuation import Continuation, furthest
from media.track.marker import Mark, Marker, MarkerSettings
from media.track.model import MICROSECONDS, Codec, Frame, Kind, Packet, Track
from media.track.rate import TrackRate
from media.track.ring import PACKET_OVERHEAD_BYTES, RING_BYTES_MAX, Ring
from media.track.timeline import Timeline, Times

TRACKS_MAX = 16  # Enhanced RTMP's multitrack could name 512; sixteen renditions are plenty
CHANGES_MAX = 60  # changes of a publisher's tracks in CHANGES_WINDOW_S; each costs readers a new section
CHANGES_WINDOW_S = 60.0
HELD_MAX = 256  # frames of further video tracks that wait for the leading one; 16 of each
HELD_US = 1_000_000  # and so long at most; a muxer that interleaves worse than this is seen rarely
DELAYED_BYTES_MAX = 32 * 1024 * 1024  # of a publisher that waits to know where it goes on; 100 Mb/s for 2 s

Listener = Callable[[float], None]
AudioMeasure = Callable[[Track, bytes], int | None]


class StreamState(enum.StrEnum):
    STARTING = "starting"  # a publisher is there, nothing decodable yet
    LIVE = "live"
    LINGERING = "lingering"  # the publisher went and may come back
    ENDED = "ended"


class Source(msgspec.Struct, frozen=True):
    """Who publishes."""

    protocol: str
    peer: str  # "host:port"
    agent: str = ""  # what the client calls itself
    key_id: str = ""


class Section(msgspec.Struct, frozen=True):
    """What stays the same between two discontinuities."""

    discontinuity: int
    tracks: tuple[Track, ...]  # video first, by id
    media_us: int  # media time of the first packet
    unix_us: int  # wall clock when it arrived

    def unix_us_at(self, media_us: int) -> int:
        """Wall clock of a media time in this section."""
        return self.unix_us + media_us - self.media_us


class Severity(enum.StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing about a publisher that hurts viewers, and what to do about it."""

    code: str
    severity: Severity
    message: str
    fix: str


class Observer(Protocol):
    """Watches a publisher's frames beside the stream."""

    def observe(self, packet: Packet, frame: Frame, now: float) -> None: ...

    def announce(self, track: Track, now: float) -> None:
        """A track was described, or described anew."""

    def dropped(self, track: Track, frame: Frame, now: float) -> None:
        """A frame came before anything could be decoded."""

    def findings(self, now: float) -> list[Finding]: ...


class TrackStatistics(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    codec: Codec
    width: int
    height: int
    sample_rate: int
    channels: int
    packets: int
    bytes: int
    bitrate_bps: int
    frame_rate: float  # packets a second


class StreamStatistics(msgspec.Struct, frozen=True):
    """A stream's counters, all since it began."""

    name: str
    state: StreamState
    source: Source | None
    age_s: float
    tracks: list[TrackStatistics]
    viewers: dict[str, int]
    sections: int
    publishers: int
    packets: int
    bytes: int
    held_packets: int
    held_bytes: int
    dropped_before_start: int  # frames that nobody could decode, or that came for a time already filled
    timestamp_jumps: int
    timestamp_outliers: int
    timestamps_backward: int
    timestamps_duplicate: int
    audio_gaps: int
    bad_composition_offsets: int
    evicted_by_size: int
    reader_skips: int
    findings: list[Finding]


class StreamSettings(msgspec.Struct, frozen=True):
    """What every stream of a node shares."""

    marker: MarkerSettings = MarkerSettings()
    window_us: int = 16_000_000  # media kept for readers
    ring_bytes: int = RING_BYTES_MAX


class Stream:
    """What readers see of a stream. Only its Writer changes it.

    Readers take packets from `ring` with cursors of their own and hear of news by `subscribe`.
    """

    def __init__(
        self, name: str, settings: StreamSettings, now: float, unix_us: int, *, first_segment: int = 0
    ) -> None:
        self.name = name
        self.state = StreamState.STARTING
        self.source: Source | None = None
        self.ring = Ring(settings.window_us, settings.ring_bytes)
        self.sections: dict[int, Section] = {}
        self.viewers: dict[str, int] = {}
        self.remarks: dict[str, Finding] = {}  # findings of others than the publisher's observer, by code
        self.reader_skips = 0
        self.started_at = now
        self.ended_at: float | None = None
        self.asked_at = now  # when a viewer looked for it last
        self.track_asked_at: dict[int, float] = {}  # likewise for one track of several, by its id
        self.replicated = False  # written with another node's marks
        self.cut_off = False  # nobody gives more of it: the newest segment may not be whole
        self.cut_segments: set[int] = set()  # those held that got no end, as another epoch came
        self.breaks_before = 0  # discontinuities that playlists count and the present epoch's marks do not
        self.epoch_begin = 0  # ring index of the present epoch's first packet
        self.altered = False  # while readers are told: what was taken back was not its origin's
        # Media objects are cached for ever under their segment's number, also by others and over
        # restarts of this node: numbers from the clock never come back for other bytes.
        clock = max(unix_us // MICROSECONDS, first_segment)
        self._marker = Marker(settings.marker, clock)
        self._listeners: dict[Listener, None] = {}
        self._timeline = Timeline()
        self._rates: dict[int, TrackRate] = {}
        self._described: dict[int, Track] = {}
        self._settled: dict[int, Track] = {}  # as described when the newest frame was written
        self._next_init = clock
        self._dropped = 0
        self._proven: int | None = None  # ring index up to which a copy is proven
        self._last: Packet | None = None  # the newest packet that was proven, or of an earlier epoch
        self._floor: Continuation | None = None  # where this node began an epoch behind another
        self._publishers = 0
        self._observer: Observer | None = None

    @property
    def tracks(self) -> dict[int, Track]:
        """Present description of each track by id, video first."""
        return self._described

    @property
    def part_target_us(self) -> int:
        """Longest part of the present section."""
        return self._marker.part_target_us

    @property
    def target_duration_us(self) -> int:
        """Longest segment so far, at least the configured one; never shrinks."""
        return self._marker.target_duration_us

    @property
    def newest_us(self) -> int:
        """End of the newest packet in media time."""
        return self._timeline.newest_us

    @property
    def bitrate_bps(self) -> int:
        """Of all tracks, over the last seconds; 0 until it is known."""
        return sum(rate.bitrate_bps for rate in self._rates.values())

    @property
    def viewer_bps(self) -> int:
        """What one viewer takes at most: the largest track of each kind; 0 until it is known."""
        rates = [(track.kind, self._rates[number].bitrate_bps) for number, track in self._described.items()]
        return sum(max((bps for kind, bps in rates if kind is each), default=0) for each in Kind)

    @property
    def next_segment(self) -> int:
        """A number above those of all segments and inits so far."""
        return max(self.continuation.segment, self._next_init)

    @property
    def continuation(self) -> Continuation:
        """Where it would go on now; of a copy behind what is proven."""
        ring, last, init, target_us = self.ring, self._last, self._next_init, self.target_duration_us
        if ring.first < ring.next and self._proven is None:
            last = ring.get(ring.next - 1)
        if last is None:
            return self._floor or Continuation(self._marker.next_segment, 0, 0, init, 0, 0, target_us)
        section, end_us = self.sections.get(last.discontinuity), max(self.newest_us, 0)
        unix_us = section.unix_us_at(end_us) if section is not None else 0
        numbers = last.segment + 1, last.discontinuity + 1, last.group + 1
        after = Continuation(*numbers, init, end_us, unix_us, target_us)
        return furthest(after, self._floor)

    @property
    def continues(self) -> bool:
        """Does its present epoch, of which nothing is here yet, follow on another?"""
        return self._last is not None and self.ring.next == self.epoch_begin

    def subscribe(self, listener: Listener) -> None:
        """Call `listener(now)` after packets were added or the state changed."""
        self._listeners[listener] = None

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners.pop(listener, None)

    def viewer_came(self, protocol: str) -> None:
        self.viewers[protocol] = self.viewers.get(protocol, 0) + 1

    def track_asked(self, tracks: Iterable[Track], now: float) -> None:
        """A viewer asks for these tracks, and not for the others."""
        for track in tracks:
            self.track_asked_at[track.id] = now

    def viewer_left(self, protocol: str) -> None:
        self.viewers[protocol] -= 1

    def section_of(self, packet: Packet) -> Section:
        return self.sections[packet.discontinuity]

    def statistics(self, now: float) -> StreamStatistics:
        held, repairs = self.ring.statistics, self._timeline.statistics
        return StreamStatistics(
            name=self.name,
            state=self.state,
            source=self.source,
            age_s=round(now - self.started_at, 3),
            tracks=[self._track_statistics(track, now) for track in self._described.values()],
            viewers={protocol: count for protocol, count in self.viewers.items() if count},
            sections=max(self.sections, default=-1) + 1,
            publishers=self._publishers,
            packets=held.packets,
            bytes=held.bytes,
            held_packets=held.held_packets,
            held_bytes=held.held_bytes,
            dropped_before_start=self._dropped,
            timestamp_jumps=repairs.jumps,
            timestamp_outliers=repairs.outliers,
            timestamps_backward=repairs.backward,
            timestamps_duplicate=repairs.duplicates,
            audio_gaps=repairs.audio_gaps,
            bad_composition_offsets=repairs.bad_offsets,
            evicted_by_size=held.evicted_by_size,
            reader_skips=self.reader_skips,
            findings=self._findings(now),
        )

    def _track_statistics(self, track: Track, now: float) -> TrackStatistics:
        rate = self._rates[track.id]
        rate.update(now)
        return TrackStatistics(
            name=track.name,
            kind=track.kind,
            codec=track.codec,
            width=track.width,
            height=track.height,
            sample_rate=track.sample_rate,
            channels=track.channels,
            packets=rate.packets,
            bytes=rate.bytes,
            bitrate_bps=rate.bitrate_bps,
            frame_rate=round(rate.frame_rate, 2),
        )

    def _findings(self, now: float) -> list[Finding]:
        """Only while somebody publishes: the observer does not learn that the publisher went."""
        published = self.state in (StreamState.STARTING, StreamState.LIVE)
        found = self._observer.findings(now) if self._observer and published else []
        return [*found, *self.remarks.values()]

    def _describe(self, tracks: dict[int, Track], now: float) -> None:
        """Take over a publisher's tracks and number their inits.

        One number serves all that changed since the last frame: what is as it was keeps its own,
        so a publisher that comes back with the same settings costs players no new init segment.
        In another set of tracks everything is new, as one init segment describes several.
        """
        settled = self._settled if self._settled.keys() == tracks.keys() else {}
        numbered: list[Track] = []
        for track in sorted(tracks.values(), key=lambda track: (track.kind is not Kind.VIDEO, track.id)):
            before = settled.get(track.id)
            if before is None or not before.describes_same(track):
                before = msgspec.structs.replace(track, init=self._next_init)
            numbered.append(before)
        self._described = {track.id: track for track in numbered}
        self._rates = {
            track.id: self._rates.get(track.id) or TrackRate(now) for track in self._described.values()
        }
        self._marker.describe(numbered)

    def _settle(self) -> None:
        """A frame of the tracks as they are described now is about to be written."""
        if any(track.init == self._next_init for track in self._described.values()):
            self._next_init += 1
        self._settled = self._described

    def _begin_section(self, mark: Mark, media_us: int, unix_us: int) -> None:
        sections = self.sections
        before = sections.get(mark.discontinuity - 1)
        if before is not None:
            # Packets come late as the network likes; wall clock still grows with media time.
            unix_us = max(unix_us, before.unix_us_at(media_us))
        if self._floor is not None:
            unix_us = max(unix_us, self._floor.unix_us)
        sections[mark.discontinuity] = Section(
            mark.discontinuity, tuple(self._marker.active.values()), media_us, unix_us
        )
        self.state = StreamState.LIVE
        self._forget_sections()

    def _adopt_section(self, section: Section, now: float) -> None:
        """Another node began a section and numbered its tracks' inits."""
        self.sections[section.discontinuity] = section
        self._described = {track.id: track for track in section.tracks}
        self._rates = {track.id: self._rates.get(track.id) or TrackRate(now) for track in section.tracks}
        asked_at = self.track_asked_at
        self.track_asked_at = {number: asked_at[number] for number in asked_at if number in self._rates}
        self._next_init = max([self._next_init, *(track.init + 1 for track in section.tracks)])
        self._forget_sections()

    def _forget_sections(self) -> None:
        """Let go of sections of which no packet is held."""
        if self.ring.first < self.ring.next:
            oldest = self.ring.get(self.ring.first)
            for number in [number for number in self.sections if number < oldest.discontinuity]:
                del self.sections[number]
            self.cut_segments = {segment for segment in self.cut_segments if segment >= oldest.segment}

    def _begin_epoch(self, now: float) -> None:
        """Another origin's packets follow, or this node's behind another's; who sends it on must stop.

        What is not proven has been taken back.
        """
        ring = self.ring
        if ring.first < ring.next:
            self._last = ring.get(ring.next - 1)
        self._proven = None
        self.epoch_begin = ring.next
        self._notify(now)

    def _go_on(self, where: Continuation) -> None:
        """The next packet is this node's own, the first of its epoch, with these numbers or higher ones."""
        if self._last is not None:
            where = furthest(where, self.continuation)
        self._floor = where
        self._marker.go_on(where.segment, where.discontinuity, where.group, where.target_duration_us)
        self._timeline.go_on(where.media_us)
        self._next_init, self._settled = where.init, {}

    def _notify(self, now: float) -> None:
        for listener in tuple(self._listeners):
            if listener in self._listeners:  # those called before may have unsubscribed it
                listener(now)


class Writer:
    """One publisher's right to write a stream. Repairs times, marks boundaries, feeds the ring."""

    def __init__(
        self,
        stream: Stream,
        source: Source,
        now: float,
        unix_us: int,
        *,
        on_stop: Callable[[str], None],
        on_close: Callable[["Writer", str, float], None],
        measure: AudioMeasure,
        observer: Observer | None,
    ) -> None:
        self.stream = stream
        self.source = source
        self._opened_at, self._opened_unix_us = now, unix_us
        self._on_stop, self._on_close = on_stop, on_close
        self._measure = measure
        self._observer = observer
        self._closed = False
        self._tracks: dict[int, Track] = {}  # as this publisher described them
        self._settled = False
        self._several_pictures = False
        self._changes: deque[float] = deque(maxlen=CHANGES_MAX)
        self._held: deque[tuple[Track, Frame, Times, float]] = deque()
        self._delayed: list[tuple[Track | Frame, float]] | None = None  # what came since `delay`
        self._delayed_bytes = 0
        if stream.replicated:
            stream.replicated = stream.cut_off = False
            stream.state = StreamState.STARTING
            stream._begin_epoch(now)
        stream.source = source
        stream._observer = observer
        stream._publishers += 1
        stream._timeline.restart()
        stream._marker.restart()

    def delay(self, now: float) -> None:
        """Begin an epoch, but keep what comes, DELAYED_BYTES_MAX of it, until `begin` tells where that is."""
        if not self._closed:
            self._delayed = []
            self.stream._begin_epoch(now)

    def begin(self, where: Continuation | None, now: float) -> None:
        """An epoch begins with this publisher; None: nobody knows of an earlier one.

        Takes in what was delayed. Only before the first frame; ignored when this publisher has gone,
        or went on without.
        """
        delayed, self._delayed = self._delayed, None
        stream = self.stream
        if self._closed or (delayed is None and stream.ring.next > stream.epoch_begin):
            return
        if where is not None or stream._last is not None:
            stream._go_on(where or stream.continuation)
        try:
            for each, then in delayed or ():
                if isinstance(each, Frame):
                    self.write(each, then)
                else:
                    self.describe(each, then)
        except Refused as refused:
            self.close(str(refused), now)
            self._on_stop(str(refused))
        self.flush(now)

    def describe(self, track: Track, now: float) -> None:
        """A new track, or a changed one; the same again changes nothing.

        `track.init` is given here and ignored in the argument. Raises Refused beyond TRACKS_MAX
        and CHANGES_MAX.
        """
        if self._closed or self._is_delayed(track, len(track.config), now):
            return
        known = self._tracks.get(track.id)
        if known is not None and known.describes_same(track):
            return
        if known is None and len(self._tracks) >= TRACKS_MAX:
            raise Refused(f"more than {TRACKS_MAX} tracks in one stream: send fewer renditions")
        changes = self._changes
        if len(changes) == CHANGES_MAX and now - changes[0] < CHANGES_WINDOW_S:
            raise Refused(f"the tracks changed {CHANGES_MAX} times in a minute: the encoder is broken")
        changes.append(now)
        self._release_all()
        self._tracks[track.id] = track
        self._settled = False
        self._several_pictures = sum(each.kind is Kind.VIDEO for each in self._tracks.values()) > 1
        self.stream._describe(self._tracks, now)
        if self._observer is not None:
            self._observer.announce(self.stream._described[track.id], now)

    def write(self, frame: Frame, now: float) -> None:
        """One frame of a described track. Ignored after `close` and after a take-over."""
        if self._closed or self._is_delayed(frame, len(frame.data), now):
            return
        stream = self.stream
        if not self._settled:
            self._settled = True
            stream._settle()
        if frame.track_id not in self._tracks:
            raise StateError(f"track {frame.track_id} was not described")
        track = stream._described[frame.track_id]
        video = track.width or track.kind is Kind.VIDEO
        times = stream._timeline.repair(track, frame, None if video else self._length(track, frame.data))
        if times is None:
            stream._dropped += 1
            return
        marker = stream._marker
        if times.jumped:
            marker.break_soon()
        if self._several_pictures and video and not marker.leads(track):
            self._hold(track, frame, times, now)
            return
        self._append(track, frame, times, now)
        if self._held:
            self._release(marker.leader_us + times.duration_us // 2)

    def flush(self, now: float) -> None:
        """Tell readers; call once after the writes of one batch."""
        if not self._closed:
            for rate in self.stream._rates.values():
                rate.update(now)
            self.stream._notify(now)

    def close(self, reason: str, now: float) -> None:
        """The publisher went. The stream lingers; its owner decides for how long."""
        if not self._closed:
            self._release_all()
            self._closed = True
            self._on_close(self, reason, now)

    def stop(self, reason: str) -> None:
        """Another publisher or the operator ends this one: it is told, and writes no more."""
        if not self._closed:
            self._release_all()
            self._closed = True
            self._on_stop(reason)

    def _is_delayed(self, each: Track | Frame, size: int, now: float) -> bool:
        """Whether it is kept for later."""
        if self._delayed is None:
            return False
        self._delayed.append((each, now))
        self._delayed_bytes += size + PACKET_OVERHEAD_BYTES
        if self._delayed_bytes > DELAYED_BYTES_MAX:
            self.begin(None, now)
        return True

    def _length(self, track: Track, data: bytes) -> int | None:
        """Exact duration of an audio frame; None when it does not tell."""
        try:
            return self._measure(track, data)
        except WireError:
            return None

    def _hold(self, track: Track, frame: Frame, times: Times, now: float) -> None:
        """Let a frame of a further video track wait until the leading one got as far.

        Renditions of one picture have their keyframes at the same time: a segment must not
        begin between them.
        """
        leader_us = self.stream._marker.leader_us
        held = self._held
        held.append((track, frame, times, now))
        if len(held) > HELD_MAX:
            self._append(*held.popleft())
        self._release(max(leader_us, times.dts_us - HELD_US))

    def _release(self, until_us: int) -> None:
        held = self._held
        while held and held[0][2].dts_us <= until_us:
            self._append(*held.popleft())

    def _release_all(self) -> None:
        while self._held:
            self._append(*self._held.popleft())

    def _append(self, track: Track, frame: Frame, times: Times, now: float) -> None:
        stream = self.stream
        keyframe = frame.keyframe
        mark = stream._marker.mark(track, times.dts_us, times.duration_us, keyframe=keyframe)
        if mark is None:
            stream._dropped += 1
            if self._observer is not None:
                self._observer.dropped(track, frame, now)
            return
        if mark.starts_section:
            unix_us = self._opened_unix_us + round((now - self._opened_at) * MICROSECONDS)
            stream._begin_section(mark, times.dts_us, unix_us)
        data = frame.data
        packet = Packet(
            stream._marker.active[track.id],
            times.dts,
            times.cts,
            times.duration,
            keyframe,
            data,
            mark.group,
            mark.segment,
            mark.part,
            mark.discontinuity,
        )
        stream.ring.append(packet)
        rate = stream._rates[track.id]
        rate.packets += 1
        rate.bytes += len(data)
        if self._observer is not None:
            self._observer.observe(packet, frame, now)
