"""One muxed live feed of a stream, made once and sent to every viewer of that format. Pure.

A viewer gets a header and everything since the newest group began, then the same chunks as
everybody else. Chunks are cut by time: at once while viewers are few, less often when they
are many, which trades latency for system calls. A viewer that does not take what it is sent
is skipped to the newest group once it has, and costs nobody else anything.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from media.container import flv, fmp4
from media.container.mpegts import TsMuxer
from media.errors import RemoteError, WireError
from media.track.model import Hollow, Packet, Track
from media.track.registry import CallAt, Timer
from media.track.stream import Section, Stream, StreamState

QUEUE_MAX_BYTES = 1024 * 1024  # unsent bytes of one viewer; shared with others, so mostly free
CATCH_UP_MAX_BYTES = 32 * 1024 * 1024  # the group so far; beyond it a viewer waits for the next group
FLUSH_MAX_S = 0.085  # longest time between two chunks while packets arrive
RETRY_S = 0.05  # how often viewers that are late are looked at while the publisher sends nothing
FLUSH_PER_VIEWER_S = 0.000425  # 200 viewers get the longest; 14 us of work each, so 4 % of a core


class Muxer(Protocol):
    """Turns packets of one section into a byte stream that is the same for every viewer."""

    def header(self) -> bytes:
        """What a viewer must have before its first chunk."""

    def chunk(self, packets: list[Packet], index: int) -> bytes:
        """Packets as bytes; `index` is the ring index of the first."""


class MuxerFactory(Protocol):
    """Makes a muxer."""

    def __call__(self, tracks: tuple[Track, ...], section: Section, /) -> Muxer:
        """A muxer for the first video and audio tracks of a section. Raises Refused when it cannot be."""


class Member(Protocol):
    """One viewer's way out."""

    @property
    def queued_bytes(self) -> int: ...

    def begin(self, section: Section, header: bytes) -> bool:
        """A section begins here. False: this viewer cannot follow, and is let go."""

    def send(self, *chunks: bytes) -> None: ...

    def end(self, reason: str) -> None:
        """No more will come."""


@dataclasses.dataclass(frozen=True, slots=True)
class FeedSettings:
    """`flush_s` fixes the time between chunks; None lets it grow with the viewers."""

    flush_s: float | None = None


class Mp4Muxer:
    """Fragmented MP4: every chunk one movie fragment."""

    def __init__(self, tracks: tuple[Track, ...], section: Section) -> None:
        self._tracks = tracks

    def header(self) -> bytes:
        return fmp4.init_segment(self._tracks)

    def chunk(self, packets: list[Packet], index: int) -> bytes:
        return b"".join(fmp4.fragment(self._tracks, packets, (index + 1) & 0xFFFFFFFF))


class FlvMuxer:
    """FLV, legacy tags for H.264 and AAC, Enhanced ones for the rest."""

    def __init__(self, tracks: tuple[Track, ...], section: Section) -> None:
        self._tracks = tracks

    def header(self) -> bytes:
        return flv.file_header(self._tracks)

    def chunk(self, packets: list[Packet], index: int) -> bytes:
        return b"".join([flv.file_tag(packet) for packet in packets])


class TsFeedMuxer:
    """MPEG-TS with tables before each keyframe; a viewer begins with a group, and so with tables."""

    def __init__(self, tracks: tuple[Track, ...], section: Section) -> None:
        self._muxer = TsMuxer(tracks)
        self._group = -1

    def header(self) -> bytes:
        return b""

    def chunk(self, packets: list[Packet], index: int) -> bytes:
        pieces = []
        for packet in packets:
            if packet.group != self._group:
                self._group = packet.group
                pieces.append(self._muxer.tables())
            pieces.append(self._muxer.packet(packet))
        return b"".join(pieces)


class _Viewer:
    """A member's place: waiting for its first group, following, or late."""

    __slots__ = ("following", "group", "member", "passed", "section", "sent")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.following = False
        self.section: Section | None = None  # whose header it has
        self.group = -1  # when it was late: the group it was in, and how many of its chunks it was sent
        self.sent = 0
        self.passed: int | None = None  # a group that it is not sent, as it came without its past


class Feed:
    """One stream in one format. Exists while it has viewers."""

    def __init__(
        self,
        stream: Stream,
        muxer: MuxerFactory,
        settings: FeedSettings,
        *,
        call_at: CallAt,
        on_empty: Callable[[], None],
    ) -> None:
        self.stream = stream
        self._make_muxer = muxer
        self._settings = settings
        self._call_at = call_at
        self._on_empty = on_empty
        self._viewers: dict[Member, _Viewer] = {}
        self._following: list[Member] = []
        self._section: Section | None = None
        self._muxer: Muxer | None = None
        self._header = b""
        self._index = stream.ring.newest_group()
        self.unpackable = 0  # packets that this format could not carry
        self._sent_at = 0.0
        self._timer: Timer | None = None
        self._retry: Timer | None = None
        self._group = -1
        self._group_chunks: list[bytes] = []  # what was sent since the newest group began
        self._group_bytes = 0
        self._lead_ids: frozenset[int] | None = None  # set when the section has more than one file can carry
        self._pump(0.0)
        stream.subscribe(self._news)

    def __len__(self) -> int:
        return len(self._viewers)

    def join(self, member: Member, *, past: bool = True) -> None:
        """Add a viewer; it gets the picture at once if there is one. Raises Refused when it cannot.

        Without `past` it begins with the next group.
        """
        viewer = self._viewers[member] = _Viewer(member)
        if not past:
            viewer.passed = self._group
        self._start(viewer)

    def leave(self, member: Member) -> None:
        """Forget a viewer; the last one out ends the feed."""
        viewer = self._viewers.pop(member, None)
        if viewer is None:
            return
        if viewer.following:
            self._following.remove(member)
        if not self._viewers:
            self._close()

    def _close(self) -> None:
        self.stream.unsubscribe(self._news)
        self._cancel_timer()
        if self._retry is not None:
            self._retry.cancel()
        self._on_empty()

    def _news(self, now: float) -> None:
        if self._index > self.stream.ring.next:
            self._retract()
        if self.stream.state is StreamState.ENDED:
            self._follow_ring(now)
            self._end_all("the stream has ended")
            return
        due = self._sent_at + self._interval_s()
        if now >= due:
            self._follow_ring(now)
        elif self._timer is None:
            self._timer = self._call_at(due, self._on_timer)

    def _interval_s(self) -> float:
        fixed = self._settings.flush_s
        return fixed if fixed is not None else min(FLUSH_MAX_S, len(self._viewers) * FLUSH_PER_VIEWER_S)

    def _retract(self) -> None:
        """Some of what viewers were sent was taken back.

        If it was altered they stop; who comes next begins before it. If its origin merely went before it was
        signed, they go on with what follows.
        """
        if not self.stream.altered:
            self._index = self.stream.ring.next
            return
        self._index = self.stream.ring.newest_group()
        self._group, self._group_chunks, self._group_bytes = -1, [], 0
        self._section = None
        self._end_all("this stream was altered on its way here: try again")

    def _on_timer(self, now: float) -> None:
        self._timer = None
        self._follow_ring(now)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _follow_ring(self, now: float) -> None:
        """Pump; a section that this format cannot carry ends the feed's viewers and nobody else."""
        try:
            self._pump(now)
        except RemoteError as error:
            self._end_all(str(error))

    def _end_all(self, reason: str) -> None:
        for viewer in list(self._viewers.values()):
            viewer.member.end(reason)

    def _pump(self, now: float) -> None:
        """Send everything new, cut where a group begins. Raises Refused for tracks it cannot carry."""
        self._cancel_timer()
        ring = self.stream.ring
        if self._index >= ring.next:
            return
        self._sent_at = now
        if self._index < ring.first:
            self._index = ring.newest_group()
        packets = ring.slice(self._index, ring.next)
        start = 0
        for position, packet in enumerate(packets):
            if packet.group != self._group:
                self._send(packets[start:position])
                start = position
                self._enter_group(packet)
        self._send(packets[start:])
        self._start_waiting()
        self._look_again(now)

    def _send(self, packets: list[Packet]) -> None:
        if not packets:
            return
        assert self._muxer is not None
        index, self._index = self._index, self._index + len(packets)
        if self.stream.replicated:
            packets = [packet for packet in packets if type(packet) is not Hollow]
        if self._lead_ids is not None:
            packets = [packet for packet in packets if packet.track.id in self._lead_ids]
        if not packets:
            return
        try:
            chunk = self._muxer.chunk(packets, index)
        except WireError:
            self.unpackable += len(packets)  # a publisher's damaged frame; the next group starts clean
            return
        late = []
        for member in self._following:
            if member.queued_bytes > QUEUE_MAX_BYTES:
                late.append(member)
            else:
                member.send(chunk)
        for member in late:
            self._stop_following(member)
        self._remember(chunk)

    def _remember(self, chunk: bytes) -> None:
        self._group_bytes += len(chunk)
        if self._group_bytes > CATCH_UP_MAX_BYTES:
            self._group_chunks.clear()
        else:
            self._group_chunks.append(chunk)

    def _enter_group(self, packet: Packet) -> None:
        self._group = packet.group
        self._group_chunks = []
        self._group_bytes = 0
        if self._section is None or packet.discontinuity != self._section.discontinuity:
            before, self._section = self._section, self.stream.section_of(packet)
            if self._muxer is None or before is None or before.tracks != self._section.tracks:
                tracks = flv.lead_tracks(self._section.tracks)
                several = len(tracks) < len(self._section.tracks)
                self._lead_ids = frozenset(track.id for track in tracks) if several else None
                self._muxer = self._make_muxer(tracks, self._section)
                self._header = self._muxer.header()
            self._announce()

    def _announce(self) -> None:
        assert self._section is not None
        for member in tuple(self._following):
            self._viewers[member].section = self._section
            if not member.begin(self._section, self._header):
                member.end("the stream's tracks changed")

    def _stop_following(self, member: Member) -> None:
        viewer = self._viewers[member]
        viewer.following = False
        viewer.group, viewer.sent = self._group, len(self._group_chunks)
        self._following.remove(member)

    def _start_waiting(self) -> None:
        """Viewers without a picture yet, and late ones that have taken all they were sent."""
        if len(self._following) == len(self._viewers):
            return
        for viewer in tuple(self._viewers.values()):
            if not viewer.following and viewer.member.queued_bytes == 0:
                self._start(viewer)

    def _look_again(self, now: float) -> None:
        """A late viewer's queue may empty while no packet comes; a timer apart, as it delays nobody else."""
        waiting = len(self._following) < len(self._viewers) and bool(self._group_chunks)
        if waiting and self._retry is None:
            self._retry = self._call_at(now + RETRY_S, self._on_retry)

    def _on_retry(self, now: float) -> None:
        self._retry = None
        self._start_waiting()
        self._look_again(now)

    def _start(self, viewer: _Viewer) -> None:
        """Header and the newest group so far, then follow; without them, wait for the next group.

        A viewer that was late goes on where it was while its group is the newest, else it skips.
        """
        if self._section is None or not self._group_chunks or viewer.passed == self._group:
            return
        if viewer.section is not self._section:
            viewer.section = self._section
            if not viewer.member.begin(self._section, self._header):
                viewer.member.end("the stream's tracks changed")
                return
        first = viewer.sent if viewer.group == self._group else 0
        if viewer.group not in (-1, self._group):
            self.stream.reader_skips += 1
        viewer.following = True
        self._following.append(viewer.member)
        viewer.member.send(*self._group_chunks[first:])


FORMATS: dict[str, MuxerFactory] = {"mp4": Mp4Muxer, "flv": FlvMuxer, "ts": TsFeedMuxer}


class Feeds:
    """The feeds of a node that have viewers now, by stream and format."""

    def __init__(self, settings: FeedSettings, call_at: CallAt) -> None:
        self._settings = settings
        self._call_at = call_at
        self._feeds: dict[tuple[str, str], Feed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def of(self, stream: Stream, form: str, muxer: MuxerFactory) -> Feed:
        """The feed of `stream` in the format named `form`, made with `muxer` for its first viewer.

        Raises Refused when that format cannot carry the stream.
        """
        key = (stream.name, form)
        feed = self._feeds.get(key)
        if feed is not None and feed.stream is stream:
            return feed

        def forget() -> None:
            if self._feeds.get(key) is made:
                del self._feeds[key]

        made = Feed(stream, muxer, self._settings, call_at=self._call_at, on_empty=forget)
        self._feeds[key] = made
        return made
