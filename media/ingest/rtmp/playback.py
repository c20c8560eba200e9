"""A stream as RTMP messages, and one viewer of it. Pure.

Viewers get the first video and the first audio track: what there is beyond them, only players
that speak multitrack could take, and no player in use does.
"""

from collections.abc import Callable

from media.container import flv
from media.container.amf import encode
from media.ingest.rtmp.chunk import OUT_CHUNK_BYTES, MessageType, to_chunks
from media.ingest.rtmp.connection import AUDIO_CHUNKS, DATA_CHUNKS, VIDEO_CHUNKS
from media.net.transport import Transport
from media.track.model import Codec, Kind, Packet, Track
from media.track.stream import Section

# Flash Player asks for leave to read samples of what it plays; librtmp's users expect it, too.
_SAMPLE_ACCESS = encode("|RtmpSampleAccess", True, True)
_LEGACY = (Codec.H264, Codec.AAC)  # every player takes these, whatever it says


class RtmpMuxer:
    """A media.container.feed.Muxer: RTMP messages on one message stream, as chunks."""

    def __init__(self, tracks: tuple[Track, ...], section: Section, stream_id: int) -> None:
        self._tracks = tracks
        self._time_ms = section.media_us // 1000
        self._stream_id = stream_id

    def header(self) -> bytes:
        """Metadata and sequence headers."""
        data = (_SAMPLE_ACCESS, flv.metadata(self._tracks))
        messages = [self._chunks(DATA_CHUNKS, MessageType.DATA, self._time_ms, one) for one in data]
        for track in self._tracks:
            messages.append(self._media(track, self._time_ms, flv.sequence_header(track, 0)))
        return b"".join(messages)

    def chunk(self, packets: list[Packet], index: int) -> bytes:
        messages = []
        for packet in packets:
            head = flv.frame_head(packet, 0)
            messages.append(self._media(packet.track, flv.timestamp_ms(packet), head, packet.data))
        return b"".join(messages)

    def _media(self, track: Track, time_ms: int, *body: bytes) -> bytes:
        if track.kind is Kind.VIDEO:
            return self._chunks(VIDEO_CHUNKS, MessageType.VIDEO, time_ms, *body)
        return self._chunks(AUDIO_CHUNKS, MessageType.AUDIO, time_ms, *body)

    def _chunks(self, chunk_stream_id: int, kind: MessageType, time_ms: int, *body: bytes) -> bytes:
        return to_chunks(chunk_stream_id, kind, self._stream_id, time_ms, OUT_CHUNK_BYTES, *body)


class RtmpViewer:
    """A media.container.feed.Member: one RTMP player."""

    __slots__ = ("_codecs", "_on_ended", "_on_unplayable", "_transport", "_unplayable", "bytes")

    def __init__(
        self,
        transport: Transport,
        codecs: frozenset[Codec] | None,
        *,
        on_ended: Callable[[], None],
        on_unplayable: Callable[[str], None],
    ) -> None:
        """`codecs`: what the player said it takes, None if nothing."""
        self.bytes = 0
        self._transport = transport
        self._codecs = codecs
        self._on_ended = on_ended
        self._on_unplayable = on_unplayable
        self._unplayable = ""

    @property
    def queued_bytes(self) -> int:
        return self._transport.queued_bytes

    def begin(self, section: Section, header: bytes) -> bool:
        """Send the header of a section; False when the player said it cannot take its codecs.

        A player that says nothing gets everything: ffmpeg before 8 plays HEVC and AV1 without
        announcing them, and older ones leave out what they do not know.
        """
        for track in flv.lead_tracks(section.tracks):
            if self._codecs is not None and track.codec not in self._codecs and track.codec not in _LEGACY:
                self._unplayable = (
                    f"this stream's {track.kind} is {track.codec}, which your player does not take"
                )
                return False
        self.send(header)
        return True

    def send(self, *chunks: bytes) -> None:
        self.bytes += sum(map(len, chunks))
        self._transport.send(*chunks)

    def end(self, reason: str) -> None:
        if self._unplayable:
            self._on_unplayable(self._unplayable)
        else:
            self._on_ended()
