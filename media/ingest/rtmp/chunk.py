"""RTMP messages cut into chunks, and put together again. Pure. RTMP 1.0 5.3, 5.4.1, 5.4.2."""

from collections.abc import Callable
from enum import IntEnum

from media.errors import WireError

DEFAULT_CHUNK_BYTES = 128  # both ways until said otherwise (5.3)
# What we announce. ffmpeg then sends in the same size, so that most messages are one chunk.
OUT_CHUNK_BYTES = 65_536
# The specification allows 1; below its own default a chunk costs us more than it carries.
MIN_CHUNK_BYTES = 128
MAX_MESSAGE_BYTES = 10 * 1024 * 1024  # one frame; ten times a 4K keyframe at 100 Mb/s
MAX_COMMAND_BYTES = 256 * 1024  # commands and metadata; also everything before a publisher is let in
MAX_CONTROL_BYTES = 64  # protocol control; the longest defined one has 10 bytes
MAX_CHUNK_STREAMS = 64  # per connection; clients use up to 8
MAX_PARTIAL_BYTES = 16 * 1024 * 1024  # of unfinished messages on all chunk streams of a connection

_EXTENDED = 0xFFFFFF
_HEADER_BYTES = (11, 7, 3, 0)  # message header by chunk type


class MessageType(IntEnum):
    """Message type ids (RTMP 1.0 5.4, 6.2, 7.1)."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACK_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA = 18
    COMMAND = 20
    AGGREGATE = 22


_MEDIA = (MessageType.AUDIO, MessageType.VIDEO, MessageType.AGGREGATE)

OnMessage = Callable[[int, int, int, bytes], None]  # type, message stream id, 32-bit timestamp in ms, payload


class _ChunkStream:
    """What headers leave out because it is as before, and the message under way."""

    __slots__ = ("delta", "extended", "kind", "length", "missing", "partial", "stream_id", "timestamp")

    def __init__(self) -> None:
        self.timestamp = 0
        self.delta = 0  # the header's timestamp field, absolute after type 0 (5.3.1.2.4)
        self.extended = False
        self.length = 0
        self.kind = 0
        self.stream_id = 0
        self.missing = 0  # bytes of the message that have not come; 0 between messages
        self.partial: bytearray | None = None


class ChunkReader:
    """Chunks to messages. Handles Set Chunk Size and Abort itself and hands on everything else.

    Unfinished messages are kept as received, never as announced, so that a length costs nothing.
    """

    def __init__(self, on_message: OnMessage) -> None:
        self.message_limit = MAX_COMMAND_BYTES  # for media; the session raises it for a publisher
        self.chunk_bytes = DEFAULT_CHUNK_BYTES  # as the peer sends
        self._on_message = on_message
        self._streams: dict[int, _ChunkStream] = {}
        self._head = b""  # a chunk header of which the end has not come
        self._current: _ChunkStream | None = None  # in the middle of whose chunk we are
        self._marker = b""  # header byte of that chunk stream's continuation chunks, if they have one byte
        self._chunk_left = 0
        self._partial_bytes = 0
        self._stopped = False

    def stop(self) -> None:
        """Read no more, also not what was given to the `receive` that is under way."""
        self._stopped = True

    def receive(self, data: bytes) -> None:
        """Read chunks, calling `on_message` for each message that is complete. Raises WireError."""
        if self._head:
            data = self._head + data
            self._head = b""
        position, end = 0, len(data)
        while position < end and not self._stopped:
            stream = self._current
            if stream is None:
                start = position
                position = self._read_header(data, start)
                if not position:
                    self._head = data[start:]
                    return
                stream = self._current
                if stream is None:
                    continue  # an empty message
            if stream.missing <= self._chunk_left and stream.partial is None:
                stop = position + stream.missing
                if stop <= end:  # a whole message in one chunk, which is most of them
                    stream.missing = 0
                    self._current = None
                    self._deliver(stream, data[position:stop])
                    position = stop
                    continue
            position = self._read_payload(stream, data, position)

    def _read_payload(self, stream: _ChunkStream, data: bytes, position: int) -> int:
        """Take what there is of this chunk and of the chunks that directly continue its message."""
        size, left = self.chunk_bytes, self._chunk_left
        taken = min(left, len(data) - position)
        stop = position + taken
        piece = data[position:stop]
        left -= taken
        if not left and stream.missing > taken and self._marker:
            # Continuations lie at a fixed distance: count how many of those follow, cut out their headers.
            wire = stream.missing - taken
            wire += -(-wire // size)
            run = data[stop : stop + wire]
            heads = run[:: size + 1]
            count = len(heads) - len(heads.lstrip(self._marker))
            if count:
                body = bytearray(run[: count * (size + 1)])
                stop += len(body)
                left = min(count * size, stream.missing - taken) + count - len(body)
                del body[:: size + 1]
                piece += body
        self._chunk_left = left
        stream.missing -= len(piece)
        self._current = stream if left else None
        if stream.missing:
            self._keep(stream, piece)
        else:
            self._finish(stream, piece)
        return stop

    def _keep(self, stream: _ChunkStream, piece: bytes) -> None:
        self._partial_bytes += len(piece)
        if self._partial_bytes > MAX_PARTIAL_BYTES:
            raise WireError(f"more than {MAX_PARTIAL_BYTES} bytes of unfinished RTMP messages")
        if stream.partial is None:
            stream.partial = bytearray(piece)
        else:
            stream.partial += piece

    def _finish(self, stream: _ChunkStream, piece: bytes) -> None:
        if stream.partial is not None:
            self._partial_bytes -= len(stream.partial)
            stream.partial += piece
            piece = bytes(stream.partial)
            stream.partial = None
        self._deliver(stream, piece)

    def _deliver(self, stream: _ChunkStream, payload: bytes) -> None:
        kind = stream.kind
        if kind > 2:
            self._on_message(kind, stream.stream_id, stream.timestamp, payload)
        elif kind == MessageType.SET_CHUNK_SIZE:
            self._set_chunk_size(payload)
        elif kind == MessageType.ABORT:
            self._abort(payload)

    def _set_chunk_size(self, payload: bytes) -> None:
        size = int.from_bytes(payload[:4])
        if len(payload) < 4 or size & 0x80000000 or size < MIN_CHUNK_BYTES:
            raise WireError(f"RTMP chunk size {size}, not at least {MIN_CHUNK_BYTES}")
        self.chunk_bytes = size

    def _abort(self, payload: bytes) -> None:
        stream = self._streams.get(int.from_bytes(payload[:4]))
        if stream is not None and stream.missing:
            if stream.partial is not None:
                self._partial_bytes -= len(stream.partial)
                stream.partial = None
            stream.missing = 0

    def _read_header(self, data: bytes, start: int) -> int:
        """Parse a chunk header; returns where its payload begins, 0 when its end has not come.

        Leaves the chunk stream in `_current`. Changes nothing before the whole header is there.
        """
        first = data[start]
        position = start + 1
        chunk_stream_id = first & 0x3F
        marker = bytes((first | 0xC0,))
        if chunk_stream_id < 2:
            marker = b""
            position += 1 + chunk_stream_id
            if position > len(data):
                return 0
            chunk_stream_id = 64 + int.from_bytes(data[start + 1 : position], "little")
        form = first >> 6
        fields = position
        position += _HEADER_BYTES[form]
        if position > len(data):
            return 0
        stream = self._streams.get(chunk_stream_id) or self._open(chunk_stream_id, form)
        if form == 3:
            position = self._continue(stream, data, position)
        else:
            position = self._begin(stream, form, data, fields, position)
        if not position:
            return 0
        self._current = stream
        self._marker = b"" if stream.extended else marker
        self._chunk_left = min(self.chunk_bytes, stream.missing)
        if not stream.missing:
            self._current = None
            self._deliver(stream, b"")
        return position

    def _open(self, chunk_stream_id: int, form: int) -> _ChunkStream:
        # Type 1 cannot begin a chunk stream by the book; old librtmp does it for its first ping.
        if form > 1:
            raise WireError(f"RTMP chunk stream {chunk_stream_id} begins without a header")
        if len(self._streams) >= MAX_CHUNK_STREAMS:
            raise WireError(f"more than {MAX_CHUNK_STREAMS} RTMP chunk streams")
        stream = self._streams[chunk_stream_id] = _ChunkStream()
        return stream

    def _begin(self, stream: _ChunkStream, form: int, data: bytes, fields: int, position: int) -> int:
        """A header of type 0, 1 or 2 begins a message (5.3.1.2)."""
        if stream.missing:
            raise WireError("an RTMP message begins inside another one of its chunk stream")
        field = int.from_bytes(data[fields : fields + 3])
        extended = field == _EXTENDED
        if extended:
            if position + 4 > len(data):
                return 0
            field = int.from_bytes(data[position : position + 4])
            position += 4
        if form < 2:
            stream.length = int.from_bytes(data[fields + 3 : fields + 6])
            stream.kind = data[fields + 6]
        if form == 0:
            stream.stream_id = int.from_bytes(data[fields + 7 : fields + 11], "little")
            stream.timestamp = field
        else:
            stream.timestamp = (stream.timestamp + field) & 0xFFFFFFFF
        stream.delta = field
        stream.extended = extended
        self._start(stream)
        return position

    def _continue(self, stream: _ChunkStream, data: bytes, position: int) -> int:
        """A header of type 3 goes on with a message, or begins one like the one before (5.3.1.2.4)."""
        if stream.extended:
            # The extended timestamp should be repeated here (5.3.1.3). Some peers leave it out, and
            # some repeat the message's time where it was a difference: look before taking it.
            if position + 4 > len(data):
                return 0
            if int.from_bytes(data[position : position + 4]) in (stream.delta, stream.timestamp):
                position += 4
        if not stream.missing:
            stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
            self._start(stream)
        return position

    def _start(self, stream: _ChunkStream) -> None:
        limit = MAX_COMMAND_BYTES
        if stream.kind in _MEDIA:
            limit = self.message_limit
        elif stream.kind < 7:
            limit = MAX_CONTROL_BYTES
        if stream.length > limit:
            raise WireError(
                f"RTMP message of type {stream.kind} with {stream.length} bytes, more than {limit}"
            )
        stream.missing = stream.length


def to_chunks(
    chunk_stream_id: int, kind: int, stream_id: int, timestamp: int, chunk_bytes: int, *payload: bytes
) -> bytes:
    """One message as chunks: a full header, then type 3. `chunk_stream_id` is 2 to 63.

    With a full header the bytes depend on nothing sent before, so they can be shared by readers.
    `timestamp` counts milliseconds and is reduced to 32 bits.
    """
    length = sum(map(len, payload))
    timestamp &= 0xFFFFFFFF
    extended = timestamp.to_bytes(4) if timestamp >= _EXTENDED else b""
    field = min(timestamp, _EXTENDED)
    fixed = (chunk_stream_id << 24 | field) << 32 | length << 8 | kind
    head = fixed.to_bytes(8) + stream_id.to_bytes(4, "little") + extended
    if length <= chunk_bytes:
        return b"".join((head, *payload))
    body = b"".join(payload)
    again = bytes((0xC0 | chunk_stream_id,)) + extended
    pieces = [body[at : at + chunk_bytes] for at in range(0, length, chunk_bytes)]
    return head + again.join(pieces)
