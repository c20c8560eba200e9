"""A stream as RTMP messages, made once and shared by all its RTMP viewers. Pure.

Viewers get the first video and the first audio track: what there is beyond them, only players
that speak multitrack could take, and no player in use does. The messages since the newest group
began are kept, so that a viewer who joins has a picture at once and one who is slow can go on
where it was, or skip to the newest group when the rest of the older one is gone.
"""

from collections.abc import Callable
from typing import Protocol

from media.container import flv
from media.container.amf import encode
from media.ingest.rtmp.chunk import OUT_CHUNK_BYTES, MessageType, to_chunks
from media.ingest.rtmp.connection import AUDIO_CHUNKS, DATA_CHUNKS, VIDEO_CHUNKS
from media.track.model import Kind, Packet, Track
from media.track.stream import Section, Stream, StreamState

STREAM_ID = 1  # that messages are made for; `for_stream` makes them fit another

# Flash Player asks for leave to read samples of what it plays; librtmp's users expect it, too.
_SAMPLE_ACCESS = encode("|RtmpSampleAccess", True, True)


class Follower(Protocol):
    """One viewer of a feed."""

    def news(self, now: float, *, last: bool) -> None:
        """Messages were added, or with `last` will be gone after this call: send what is new."""

    def ended(self, now: float) -> None:
        """The stream has ended; everything it had was added before."""


class RtmpFeed:
    """Messages of the newest group. Indices are the ring's; tracks that are left out have empty ones."""

    def __init__(self, stream: Stream, on_empty: Callable[[], None]) -> None:
        self.stream = stream
        self.section: Section | None = None  # of the messages held
        self.leads: tuple[Track, ...] = ()  # the tracks that are sent
        self.header: tuple[bytes, ...] = ()  # messages to precede the section's first
        self.first = self.next = stream.ring.newest_group()
        self.intact = False  # `first` begins a group, so that a viewer can begin there
        self._messages: list[bytes] = []
        self._group = -1
        self._on_empty = on_empty
        self._followers: dict[Follower, None] = {}
        self._lead_ids: frozenset[int] = frozenset()
        stream.subscribe(self._on_news)
        self._build(0.0)

    def join(self, follower: Follower) -> None:
        self._followers[follower] = None

    def leave(self, follower: Follower) -> None:
        """The last one out ends the feed."""
        if follower in self._followers:
            del self._followers[follower]
            if not self._followers:
                self.stream.unsubscribe(self._on_news)
                self._on_empty()

    def since(self, index: int) -> list[bytes]:
        """The messages from `index`, at least `first`, to the newest."""
        return [message for message in self._messages[index - self.first :] if message]

    def _on_news(self, now: float) -> None:
        if self.next < self.stream.ring.next:
            self._build(now)
            self._tell(now, last=False)
        if self.stream.state is StreamState.ENDED:
            for follower in tuple(self._followers):
                follower.ended(now)

    def _build(self, now: float) -> None:
        ring = self.stream.ring
        if self.next < ring.first:  # more than the whole ring came at once
            self._forget(ring.first)
        for packet in ring.slice(self.next, ring.next):
            if packet.group != self._group:
                self._tell(now, last=True)
                self._enter(packet)
            self._messages.append(self._message(packet))
            self.next += 1
        if self.first < ring.first:  # a group longer than the ring: its beginning can go, too
            del self._messages[: ring.first - self.first]
            self.first = ring.first
            self.intact = False

    def _tell(self, now: float, *, last: bool) -> None:
        if self._messages:
            for follower in tuple(self._followers):
                follower.news(now, last=last)

    def _enter(self, packet: Packet) -> None:
        self._group = packet.group
        self._forget(self.next)
        self.intact = True
        if self.section is None or packet.discontinuity != self.section.discontinuity:
            self.section = self.stream.section_of(packet)
            self.leads = flv.lead_tracks(self.section.tracks)
            self._lead_ids = frozenset(track.id for track in self.leads)
            self.header = _header(self.leads, flv.timestamp_ms(packet))

    def _forget(self, first: int) -> None:
        self._messages = []
        self.first = self.next = first
        self.intact = False

    def _message(self, packet: Packet) -> bytes:
        track = packet.track
        if track.id not in self._lead_ids:
            return b""
        head = flv.frame_head(packet, 0)
        return _media(track, flv.timestamp_ms(packet), head, packet.data)


class RtmpFeeds:
    """The feeds that have viewers now, by stream name."""

    def __init__(self) -> None:
        self._feeds: dict[str, RtmpFeed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def of(self, stream: Stream) -> RtmpFeed:
        """The feed of `stream`; made for its first viewer, forgotten with its last."""
        feed = self._feeds.get(stream.name)
        if feed is not None and feed.stream is stream:
            return feed

        def forget() -> None:
            if self._feeds.get(stream.name) is made:
                del self._feeds[stream.name]

        made = self._feeds[stream.name] = RtmpFeed(stream, forget)
        return made


def _header(tracks: tuple[Track, ...], time_ms: int) -> tuple[bytes, ...]:
    """Metadata and sequence headers as messages."""
    data = [_SAMPLE_ACCESS, flv.metadata(tracks)]
    return (
        *(to_chunks(DATA_CHUNKS, MessageType.DATA, STREAM_ID, time_ms, OUT_CHUNK_BYTES, one) for one in data),
        *(_media(track, time_ms, flv.sequence_header(track, 0)) for track in tracks),
    )


def _media(track: Track, time_ms: int, *body: bytes) -> bytes:
    video = track.kind is Kind.VIDEO
    chunks, kind = (VIDEO_CHUNKS, MessageType.VIDEO) if video else (AUDIO_CHUNKS, MessageType.AUDIO)
    return to_chunks(chunks, kind, STREAM_ID, time_ms, OUT_CHUNK_BYTES, *body)
