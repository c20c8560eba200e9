"""RTMP as a client that publishes, for restreaming to other services. Pure."""

from collections.abc import Callable, Sequence

from media.container import amf, flv
from media.errors import RemoteError, StateError, WireError
from media.ingest.rtmp.chunk import OUT_CHUNK_BYTES, MessageType, to_chunks
from media.ingest.rtmp.command import CAPS_MULTITRACK, Command
from media.ingest.rtmp.connection import AUDIO_CHUNKS, DATA_CHUNKS, VIDEO_CHUNKS, Connection
from media.ingest.rtmp.handshake import ClientHandshake, Randomness
from media.net.transport import Transport
from media.track.model import Codec, Kind, Packet, Track

SETUP_S = 10.0  # from the connection to the server's leave to publish

_AGENT = "FMLE/3.0 (compatible; fwnode)"  # some services turn away what does not begin like this
_CONNECT, _RELEASE, _FC_PUBLISH, _CREATE, _PUBLISH = 1.0, 2.0, 3.0, 4.0, 5.0  # transaction ids


class RtmpPublisher:
    """Implements media.net.transport.Protocol on a connected transport.

    Calls `on_ready(now)` when the server lets us publish; from then on give it `describe` and
    `write`. The caller bounds the queue by the transport's `queued_bytes`. When the server
    refuses or goes, `on_ended(reason)` is called once.
    """

    def __init__(
        self,
        transport: Transport,
        now: float,
        *,
        tc_url: str,
        app: str,
        stream: str,
        random: Randomness,
        on_ready: Callable[[float], None],
        on_ended: Callable[[str], None],
    ) -> None:
        """`rtmp://host/app/stream`: `tc_url` is all before `/stream`."""
        handshake = ClientHandshake(random)
        self.ready = False
        self._transport = transport
        self._connection = Connection(handshake, self)
        self._tc_url, self._app, self._stream = tc_url, app, stream
        self._on_ready, self._on_ended = on_ready, on_ended
        self._now = now
        self._asked = False
        self._ended = False
        self._stream_id = 0
        self._base_ms: int | None = None
        self._indices: dict[int, int] = {}  # multitrack index by track id
        transport.send(handshake.hello)
        transport.wake_at(now + SETUP_S)

    def describe(self, tracks: Sequence[Track]) -> None:
        """Send metadata and sequence headers: at first, and whenever a new section begins."""
        self._must_be_ready()
        self._indices = {track.id: flv.track_index(track.id) for track in tracks}
        messages = [self._message(DATA_CHUNKS, MessageType.DATA, 0, _SET_DATA_FRAME + flv.metadata(tracks))]
        for track in tracks:
            messages.append(self._media(track, 0, flv.sequence_header(track, self._indices[track.id])))
        self._transport.send(*messages)

    def write(self, packets: Sequence[Packet]) -> None:
        """Send frames of described tracks; others are left out. Times begin at the first one's."""
        self._must_be_ready()
        messages = []
        for packet in packets:
            index = self._indices.get(packet.track.id)
            if index is None:
                continue
            time_ms = flv.timestamp_ms(packet)
            if self._base_ms is None:
                self._base_ms = time_ms
            head = flv.frame_head(packet, index)
            messages.append(self._media(packet.track, max(time_ms - self._base_ms, 0), head, packet.data))
        if messages:
            self._transport.send(*messages)

    def close(self) -> None:
        """End the stream properly, then the connection."""
        if self.ready:
            self._call("FCUnpublish", 0.0, None, self._stream)
            self._call("deleteStream", 0.0, None, float(self._stream_id))
        self._end("closed")

    # What the reactor calls.

    def receive(self, data: bytes, now: float) -> None:
        self._now = now
        try:
            self._connection.receive(data)
        except RemoteError as error:
            self._end(str(error))
            raise
        if self._connection.open and not self._asked:
            self._asked = True
            self._connect()

    def receive_eof(self, now: float) -> None:
        self._end("the server closed the connection")

    def drained(self, now: float) -> None:
        pass

    def on_deadline(self, now: float) -> None:
        if not self.ready:
            self._end(f"the server did not let us publish within {SETUP_S:g} s")

    def closed(self, now: float) -> None:
        self._end("the connection was lost")

    # What the connection calls (its Handler).

    def send(self, data: bytes) -> None:
        self._transport.send(data)

    def on_command(self, command: Command) -> None:
        if command.name == "_result" and command.transaction == _CONNECT:
            self._call("releaseStream", _RELEASE, None, self._stream)
            self._call("FCPublish", _FC_PUBLISH, None, self._stream)
            self._call("createStream", _CREATE, None)
        elif command.name == "_result" and command.transaction == _CREATE:
            self._stream_id = int(command.number(0))
            payload = amf.encode("publish", _PUBLISH, None, self._stream, "live")
            self._connection.send_command(payload, self._stream_id)
        elif command.name == "_error" and command.transaction in (_CONNECT, _CREATE, _PUBLISH):
            self._end(_description(command))
        elif command.name == "onStatus":
            self._on_status(command)

    def on_media(self, kind: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        raise WireError("RTMP media from a server that we publish to")

    def on_data(self, stream_id: int, payload: bytes) -> None:
        pass

    def on_user_control(self, event: int, payload: bytes) -> None:
        pass

    def _on_status(self, command: Command) -> None:
        info = command.arguments[0] if command.arguments else None
        if not isinstance(info, dict):
            return
        if info.get("level") == "error":
            self._end(_description(command))
        elif info.get("code") == "NetStream.Publish.Start" and not self.ready and not self._ended:
            self.ready = True
            self._on_ready(self._now)

    def _connect(self) -> None:
        self._connection.announce_chunk_size()
        self._call(
            "connect",
            _CONNECT,
            {
                "app": self._app,
                "type": "nonprivate",
                "flashVer": _AGENT,
                "tcUrl": self._tc_url,
                "fourCcList": [flv.FOURCC[codec].decode() for codec in Codec],
                "capsEx": CAPS_MULTITRACK,
            },
        )

    def _call(self, *values: amf.Value) -> None:
        self._connection.send_command(amf.encode(*values))

    def _media(self, track: Track, time_ms: int, *body: bytes) -> bytes:
        if track.kind is Kind.VIDEO:
            return self._message(VIDEO_CHUNKS, MessageType.VIDEO, time_ms, *body)
        return self._message(AUDIO_CHUNKS, MessageType.AUDIO, time_ms, *body)

    def _message(self, chunks: int, kind: MessageType, time_ms: int, *body: bytes) -> bytes:
        return to_chunks(chunks, kind, self._stream_id, time_ms, OUT_CHUNK_BYTES, *body)

    def _must_be_ready(self) -> None:
        if not self.ready:
            raise StateError("the RTMP server has not let us publish yet")

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._transport.close()
            self._on_ended(reason)


_SET_DATA_FRAME = amf.encode("@setDataFrame")


def _description(command: Command) -> str:
    """The server's own words for an error."""
    for value in command.arguments:
        if isinstance(value, dict):
            text = value.get("description") or value.get("code")
            if isinstance(text, str):
                return f"the server says: {text[:256]}"
    return "the server refused"
