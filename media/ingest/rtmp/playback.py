"""One viewer's place in an RTMP feed. Pure."""

from collections.abc import Callable

from media.ingest.rtmp.chunk import for_stream
from media.ingest.rtmp.feed import STREAM_ID, RtmpFeed
from media.net.transport import Transport
from media.track.model import Codec
from media.track.stream import Section

QUEUE_MAX_BYTES = 2 * 1024 * 1024  # unsent bytes beyond which a viewer gets nothing new; 5 s at 3 Mb/s

_LEGACY = (Codec.H264, Codec.AAC)  # every player takes these, whatever it says


class Playback:
    """Sends a feed's messages to one viewer, as fast as it takes them.

    A viewer that falls behind goes on where it was while its group is still held, and at the
    newest group when it is not; what it missed is counted.
    """

    def __init__(
        self,
        feed: RtmpFeed,
        transport: Transport,
        *,
        stream_id: int,
        codecs: frozenset[Codec] | None,
        flush_s: float,
        wake_at: Callable[[float], None],
        on_ended: Callable[[], None],
        on_unplayable: Callable[[str], None],
    ) -> None:
        """`codecs`: what the player said it takes, None if nothing. `flush_s`: least time between sends."""
        self.skips = 0
        self.skipped_packets = 0
        self.packets = 0
        self.bytes = 0
        self._feed = feed
        self._transport = transport
        self._stream_id = stream_id
        self._codecs = codecs
        self._flush_s = flush_s
        self._wake_at = wake_at
        self._on_ended = on_ended
        self._on_unplayable = on_unplayable
        self._section: Section | None = None  # whose header was sent
        self._next = -1  # ring index of the next packet to send; nothing was sent before
        self._due = 0.0

    def start(self, now: float) -> None:
        """Join the feed, sending the newest group so far."""
        self._feed.join(self)
        self.pump(now)

    def stop(self) -> None:
        self._feed.leave(self)

    def news(self, now: float, *, last: bool) -> None:
        if now < self._due and not last:
            self._wake_at(self._due)
        else:
            self.pump(now)

    def ended(self, now: float) -> None:
        self._on_ended()

    def pump(self, now: float) -> None:
        """Send what there is, if the viewer has room for it."""
        feed = self._feed
        if self._next >= feed.next or self._transport.queued_bytes > QUEUE_MAX_BYTES:
            return
        if self._next < feed.first and not self._skip():
            return
        if feed.section is not self._section and not self._begin():
            return
        messages = feed.since(self._next)
        self.packets += len(messages)
        self._next = feed.next
        self._due = now + self._flush_s
        self._send(messages)

    def _skip(self) -> bool:
        """Go to the newest group's beginning; False when that is gone as well."""
        feed = self._feed
        if not feed.intact:
            return False
        if self._next >= 0:
            self.skips += 1
            self.skipped_packets += feed.first - self._next
            feed.stream.reader_skips += 1
        self._next = feed.first
        return True

    def _begin(self) -> bool:
        """Send the header of a new section; False when the player said it cannot take its codecs.

        A player that says nothing gets everything: ffmpeg before 8 plays HEVC and AV1 without
        announcing them, and older ones leave out what they do not know.
        """
        feed = self._feed
        self._section = feed.section
        for track in feed.leads:
            if self._codecs is not None and track.codec not in self._codecs and track.codec not in _LEGACY:
                self._on_unplayable(
                    f"this stream's {track.kind} is {track.codec}, which your player does not take"
                )
                return False
        self._send(list(feed.header))
        return True

    def _send(self, messages: list[bytes]) -> None:
        if self._stream_id != STREAM_ID:
            messages = [for_stream(message, self._stream_id) for message in messages]
        if messages:
            self.bytes += sum(map(len, messages))
            self._transport.send(*messages)
