"""As much of RTMP as a load generator speaks. Pure.

Source: Adobe RTMP specification 1.0 (chunk stream 5, messages 6 and 7), AMF0 specification.
"""

import struct
from dataclasses import dataclass, field

CHUNK_BYTES = 4096  # what OBS sends
HANDSHAKE_BYTES = 1536
SET_CHUNK_SIZE, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_SIZE, PEER_BANDWIDTH = 1, 3, 4, 5, 6
AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20
_CHUNK_STREAM = {AUDIO: 4, VIDEO: 6, DATA: 4, COMMAND: 3}
_EXTENDED = 0xFFFFFF
_HEADER_BYTES = (11, 7, 3, 0)

Value = float | bool | str | None | dict[str, "Value"]


def hello() -> bytes:
    """C0 and C1 of the simple handshake (5.2.2, 5.2.3)."""
    return b"\x03" + bytes(HANDSHAKE_BYTES)


def chunk_tail(kind: int, body: bytes, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    """A message's body cut into chunks, without the first chunk's header: the same at every timestamp."""
    stream = bytes([0xC0 | _CHUNK_STREAM.get(kind, 2)])
    if len(body) <= chunk_bytes:
        return body
    return stream.join(body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes))


def chunk_header(kind: int, body_bytes: int, time_ms: int, stream_id: int) -> bytes:
    """The first chunk's header, type 0 (5.3.1.2.1). `time_ms` below 0xFFFFFF."""
    if time_ms >= _EXTENDED:
        raise ValueError("extended timestamps are not spoken here: 4.6 hours are enough for a load")
    first = _CHUNK_STREAM.get(kind, 2)
    fields = struct.pack(">BIHB", first, time_ms << 8 | body_bytes >> 16, body_bytes & 0xFFFF, kind)
    return fields + stream_id.to_bytes(4, "little")


def message(kind: int, body: bytes, time_ms: int = 0, stream_id: int = 0) -> bytes:
    return chunk_header(kind, len(body), time_ms, stream_id) + chunk_tail(kind, body)


def set_chunk_size(size: int) -> bytes:
    return message(SET_CHUNK_SIZE, size.to_bytes(4, "big"))


def acknowledgement(received: int) -> bytes:
    return message(ACKNOWLEDGEMENT, (received & 0xFFFFFFFF).to_bytes(4, "big"))


def command(*values: Value, stream_id: int = 0) -> bytes:
    return message(COMMAND, b"".join(encode(value) for value in values), 0, stream_id)


def encode(value: Value) -> bytes:
    """AMF0 of one value."""
    if value is None:
        return b"\x05"
    if isinstance(value, bool):
        return bytes([1, value])
    if isinstance(value, str):
        return b"\x02" + _text(value)
    if isinstance(value, dict):
        return b"\x03" + b"".join(_text(key) + encode(item) for key, item in value.items()) + b"\0\0\x09"
    return b"\0" + struct.pack(">d", value)


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


@dataclass(frozen=True, slots=True)
class Message:
    kind: int
    stream_id: int
    body: bytes

    def command(self) -> tuple[str, float]:
        """(name, transaction) of a command; ("", 0) of anything else."""
        if self.kind != COMMAND or self.body[:1] != b"\x02":
            return "", 0.0
        end = 3 + int.from_bytes(self.body[1:3], "big")
        number = self.body[end + 1 : end + 9]
        return self.body[3:end].decode("latin-1"), struct.unpack(">d", number)[0] if len(number) == 8 else 0.0

    def last_number(self) -> float:
        """The AMF0 number at the end: the stream's id in createStream's answer."""
        return float(struct.unpack(">d", self.body[-8:])[0])


@dataclass(slots=True)
class _ChunkStream:
    length: int = 0
    kind: int = 0
    stream_id: int = 0
    extended: bool = False
    body: bytearray = field(default_factory=bytearray)


class ChunkReader:
    """Bytes from a server to messages, whatever their cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunk_bytes = 128  # 5.4.1: until the other side says otherwise
        self._streams: dict[int, _ChunkStream] = {}

    def receive(self, data: bytes) -> list[Message]:
        self._buffer += data
        found: list[Message] = []
        while (taken := self._chunk(found)) > 0:
            del self._buffer[:taken]
        return found

    def _chunk(self, found: list[Message]) -> int:
        """Take one chunk: its size, or 0 when it is not whole yet."""
        data = self._buffer
        if not data:
            return 0
        form, number, at = data[0] >> 6, data[0] & 63, 1
        if number < 2:
            at = 2 + number
            if len(data) < at:
                return 0
            number = 64 + data[1] + (data[2] << 8 if number else 0)
        header_end = at + _HEADER_BYTES[form]
        if len(data) < header_end:
            return 0
        stream = self._streams.get(number) or _ChunkStream()
        length, kind, stream_id, extended = _header(stream, form, bytes(data[at:header_end]))
        at = header_end + (4 if extended else 0)
        size = min(length - len(stream.body), self._chunk_bytes)
        if len(data) < at + size:
            return 0
        stream.length, stream.kind, stream.stream_id, stream.extended = length, kind, stream_id, extended
        self._streams[number] = stream
        stream.body += data[at : at + size]
        if len(stream.body) == length:
            self._finish(stream, found)
        return at + size

    def _finish(self, stream: _ChunkStream, found: list[Message]) -> None:
        body, stream.body = bytes(stream.body), bytearray()
        if stream.kind == SET_CHUNK_SIZE:
            self._chunk_bytes = int.from_bytes(body[:4], "big") & 0x7FFFFFFF
        found.append(Message(stream.kind, stream.stream_id, body))


def _header(stream: _ChunkStream, form: int, fields: bytes) -> tuple[int, int, int, bool]:
    """(length, kind, stream id, extended timestamp?) after a chunk header of type `form`."""
    if form == 3:
        return stream.length, stream.kind, stream.stream_id, stream.extended
    extended = int.from_bytes(fields[:3], "big") == _EXTENDED
    if form == 2:
        return stream.length, stream.kind, stream.stream_id, extended
    length, kind = int.from_bytes(fields[3:6], "big"), fields[6]
    stream_id = int.from_bytes(fields[7:11], "little") if form == 0 else stream.stream_id
    return length, kind, stream_id, extended
