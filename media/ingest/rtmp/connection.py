"""One RTMP connection below the level of streams: handshake, chunks, protocol control. Pure.

RTMP 1.0 5.4, 6.2, 7.1. The same machine serves both ends: a server's begins with
`ServerHandshake`, a client's with `ClientHandshake`.
"""

from typing import Protocol

from media.container import flv_parse
from media.errors import WireError
from media.ingest.rtmp.chunk import (
    DEFAULT_CHUNK_BYTES,
    OUT_CHUNK_BYTES,
    ChunkReader,
    MessageType,
    to_chunks,
)
from media.ingest.rtmp.command import Command, parse_command_untrusted
from media.ingest.rtmp.handshake import ClientHandshake, ServerHandshake

WINDOW_BYTES = 2_500_000  # both ways; what ffmpeg and Adobe's servers use
MIN_WINDOW_BYTES = 16_384  # a peer that asks for less gets an acknowledgement this often

# Chunk streams that we send on. 2 is for protocol control (5.4), the others are ours to choose.
CONTROL_CHUNKS, COMMAND_CHUNKS, AUDIO_CHUNKS, DATA_CHUNKS, VIDEO_CHUNKS = 2, 3, 4, 5, 6

STREAM_BEGIN, STREAM_EOF, PING_REQUEST, PING_RESPONSE = 0, 1, 6, 7  # user control events (7.1.7)


class Handler(Protocol):
    """What a connection tells its session, synchronously."""

    def send(self, data: bytes) -> None: ...

    def on_command(self, command: Command) -> None: ...

    def on_media(self, kind: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        """An audio or video message; `timestamp` is 32-bit milliseconds."""

    def on_data(self, stream_id: int, payload: bytes) -> None:
        """A data message: AMF values, the first of them a name."""

    def on_user_control(self, event: int, payload: bytes) -> None:
        """A user control event other than a ping request, which is answered here."""


class Connection:
    """Bytes to commands and media, and back. Input may raise WireError; then drop the connection."""

    def __init__(self, handshake: ServerHandshake | ClientHandshake, handler: Handler) -> None:
        self.reader = ChunkReader(self._on_message)
        self.messages = 0
        self.bytes_in = 0
        self.bytes_acknowledged = 0  # by the peer, modulo 2**32
        self._handshake: ServerHandshake | ClientHandshake | None = handshake
        self._handler = handler
        self._out_chunk_bytes = DEFAULT_CHUNK_BYTES
        self._window = WINDOW_BYTES
        self._unacknowledged = 0

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. Raises WireError, and what the handler raises."""
        self.bytes_in += len(data)
        handshake = self._handshake
        if handshake is not None:
            reply = handshake.receive(data)
            if reply:
                self._handler.send(reply)
            if not handshake.done:
                return
            self._handshake = None
            data = handshake.rest
        self._unacknowledged += len(data)
        if self._unacknowledged >= self._window:
            self._unacknowledged = 0
            self._control(MessageType.ACKNOWLEDGEMENT, (self.bytes_in & 0xFFFFFFFF).to_bytes(4))
        self.reader.receive(data)

    @property
    def open(self) -> bool:
        """The handshake is done."""
        return self._handshake is None

    def announce(self) -> None:
        """Tell the peer our windows and chunk size; from here on we send in large chunks."""
        window = WINDOW_BYTES.to_bytes(4)
        self._control(MessageType.WINDOW_ACK_SIZE, window)
        self._control(MessageType.SET_PEER_BANDWIDTH, window + b"\x02")  # 2: dynamic
        self.announce_chunk_size()

    def announce_chunk_size(self) -> None:
        self._control(MessageType.SET_CHUNK_SIZE, OUT_CHUNK_BYTES.to_bytes(4))
        self._out_chunk_bytes = OUT_CHUNK_BYTES

    def user_control(self, event: int, value: int) -> None:
        self._control(MessageType.USER_CONTROL, event.to_bytes(2) + value.to_bytes(4))

    def send_command(self, payload: bytes, stream_id: int = 0) -> None:
        self._send(COMMAND_CHUNKS, MessageType.COMMAND, stream_id, payload)

    def send_data(self, payload: bytes, stream_id: int) -> None:
        self._send(DATA_CHUNKS, MessageType.DATA, stream_id, payload)

    def _control(self, kind: MessageType, payload: bytes) -> None:
        self._send(CONTROL_CHUNKS, kind, 0, payload)

    def _send(self, chunks: int, kind: MessageType, stream_id: int, payload: bytes) -> None:
        self._handler.send(to_chunks(chunks, kind, stream_id, 0, self._out_chunk_bytes, payload))

    def _on_message(self, kind: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        self.messages += 1
        match kind:
            case MessageType.VIDEO | MessageType.AUDIO:
                self._handler.on_media(kind, stream_id, timestamp, payload)
            case MessageType.COMMAND | MessageType.COMMAND_AMF3:
                amf3 = kind == MessageType.COMMAND_AMF3
                self._handler.on_command(parse_command_untrusted(payload, stream_id, amf3=amf3))
            case MessageType.DATA:
                self._handler.on_data(stream_id, payload)
            case MessageType.DATA_AMF3:
                self._handler.on_data(stream_id, payload[1:] if payload[:1] == b"\0" else payload)
            case MessageType.AGGREGATE:
                self._split(stream_id, timestamp, payload)
            case MessageType.ACKNOWLEDGEMENT:
                self.bytes_acknowledged = int.from_bytes(payload[:4])
            case MessageType.USER_CONTROL:
                self._on_user_control(payload)
            case MessageType.WINDOW_ACK_SIZE:
                self._window = max(int.from_bytes(payload[:4]), MIN_WINDOW_BYTES)
            case _:
                pass  # shared objects, peer bandwidth, what later versions may bring

    def _on_user_control(self, payload: bytes) -> None:
        if len(payload) < 2:
            raise WireError("RTMP user control message is cut off")
        event = int.from_bytes(payload[:2])
        if event == PING_REQUEST:
            self._control(MessageType.USER_CONTROL, PING_RESPONSE.to_bytes(2) + payload[2:6])
        else:
            self._handler.on_user_control(event, payload[2:])

    def _split(self, stream_id: int, timestamp: int, payload: bytes) -> None:
        """An aggregate message: FLV tags, their times counted from the first one's (7.1.6)."""
        first_time: int | None = None
        for kind, time_ms, body in flv_parse.split_tags_untrusted(payload):
            if first_time is None:
                first_time = time_ms
            if kind in (MessageType.AUDIO, MessageType.VIDEO):
                at = (timestamp + time_ms - first_time) & 0xFFFFFFFF
                self._handler.on_media(kind, stream_id, at, body)
            elif kind == MessageType.DATA:
                self._handler.on_data(stream_id, body)
