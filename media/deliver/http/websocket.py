"""WebSocket, server side (RFC 6455), without extensions. Pure."""

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable
from enum import IntEnum

from media.deliver.http.reply import Closed
from media.deliver.http.request import Head
from media.errors import WireError
from media.net.transport import Buffer, Transport

MESSAGE_MAX_BYTES = 65536  # from a viewer: small requests; media goes the other way
PING_S = 20.0  # keeps NAT bindings and proxies open, and finds a dead viewer within twice that
PONG_QUEUE_MAX_BYTES = 65536  # a viewer that takes nothing gets no pongs either
REASON_MAX_BYTES = 123  # RFC 6455 5.5: a control frame has 125, two of them the code
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


class Opcode(IntEnum):
    """RFC 6455 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """RFC 6455 7.4.1, of those that this server sends."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NOT_TEXT = 1007
    TOO_BIG = 1009


class FrameError(WireError):
    """Frames that break RFC 6455; `code` is for the close frame."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def websocket_frame(*parts: Buffer, opcode: Opcode = Opcode.BINARY) -> bytes:
    """One whole message as an unmasked frame: the same bytes for every viewer (RFC 6455 5.2)."""
    length = sum(map(len, parts))
    first = 0x80 | opcode
    if length < 126:
        header = bytes((first, length))
    elif length < 65536:
        header = struct.pack(">BBH", first, 126, length)
    else:
        header = struct.pack(">BBQ", first, 127, length)
    return b"".join((header, *parts))


def accept_value(head: Head) -> str | None:
    """Sec-WebSocket-Accept for a handshake (RFC 6455 4.2.2); None when the request is not one."""
    fields = head.fields
    tokens = [token.strip() for token in fields.get(b"connection", b"").lower().split(b",")]
    key = fields.get(b"sec-websocket-key", b"")
    if (
        head.method != "GET"
        or head.version != "1.1"
        or fields.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in tokens
        or fields.get(b"sec-websocket-version") != b"13"
        or not _is_key(key)
    ):
        return None
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def close_payload(code: int, reason: str = "") -> bytes:
    """Payload of a close frame; the reason is cut to what fits (RFC 6455 5.5.1)."""
    text = reason.encode()[:REASON_MAX_BYTES].decode(errors="ignore")
    return struct.pack(">H", code) + text.encode()


class FrameReader:
    """A client's bytes to messages. Holds at most one message and one frame."""

    __slots__ = ("_buffer", "_message", "_opcode")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._opcode: Opcode | None = None  # of the message whose fragments are coming
        self._message = bytearray()

    def feed_untrusted(self, data: bytes) -> list[tuple[Opcode, bytes]]:
        """Complete messages and control frames, in order. Raises FrameError."""
        self._buffer += data
        messages = []
        while (frame := self._frame()) is not None:
            message = self._join(*frame)
            if message is not None:
                messages.append(message)
        return messages

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """The next whole frame: is it final, its opcode, its payload; None when more bytes are needed."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & 0x70:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        if not second & 0x80:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a client's frame must be masked")
        length, start = second & 0x7F, 2
        if first & 0x08 and (length > 125 or not first & 0x80):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a control frame is long or in fragments")
        if length > 125:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if length > MESSAGE_MAX_BYTES:
            raise FrameError(CloseCode.TOO_BIG, f"a message is longer than {MESSAGE_MAX_BYTES} bytes")
        end = start + 4 + length
        if len(buffer) < end:
            return None
        payload = unmask(bytes(buffer[start : start + 4]), bytes(buffer[start + 4 : end]))
        del buffer[:end]
        return bool(first & 0x80), first & 0x0F, payload

    def _join(self, final: bool, code: int, payload: bytes) -> tuple[Opcode, bytes] | None:
        try:
            opcode = Opcode(code)
        except ValueError as error:
            raise FrameError(CloseCode.PROTOCOL_ERROR, f"opcode {code} is reserved") from error
        if opcode >= Opcode.CLOSE:
            return opcode, payload
        if (opcode is Opcode.CONTINUATION) == (self._opcode is None):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments are out of order")
        if self._opcode is None:
            if final:
                return opcode, payload
            self._opcode = opcode
        self._message += payload
        if len(self._message) > MESSAGE_MAX_BYTES:
            raise FrameError(CloseCode.TOO_BIG, f"a message is longer than {MESSAGE_MAX_BYTES} bytes")
        if not final:
            return None
        opcode, self._opcode = self._opcode, None
        message, self._message = bytes(self._message), bytearray()
        return opcode, message


def unmask(mask: bytes, payload: bytes) -> bytes:
    """Undo a client's masking (RFC 6455 5.3); its own inverse."""
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


class WebSocketSink:
    """A viewer on a WebSocket: `send` takes frames made by `websocket_frame`. Owns the connection."""

    __slots__ = ("_heard", "_open", "_reader", "_transport", "on_close", "on_message", "send")

    def __init__(self, transport: Transport, now: float) -> None:
        self.send: Callable[..., None] = transport.send
        self.on_close: Closed | None = None
        self.on_message: Callable[[str | bytes, float], None] | None = None
        self._transport = transport
        self._reader = FrameReader()
        self._open = True
        self._heard = True
        transport.wake_at(now + PING_S)

    @property
    def queued_bytes(self) -> int:
        return self._transport.queued_bytes

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say why, send what is queued, and close."""
        if self._open:
            self._open = False
            self.send(websocket_frame(close_payload(code, reason), opcode=Opcode.CLOSE))
            self._transport.close()

    def abort(self) -> None:
        self._open = False
        self._transport.abort()

    def receive(self, data: bytes, now: float) -> None:
        self._heard = True
        try:
            for opcode, payload in self._reader.feed_untrusted(data):
                if self._open:
                    self._take(opcode, payload, now)
        except FrameError as error:
            self.close(error.code, str(error))

    def receive_eof(self, now: float) -> None:
        self.abort()

    def on_deadline(self, now: float) -> None:
        if not self._open:
            return
        if not self._heard:
            self.abort()
            return
        self._heard = False
        self.send(websocket_frame(opcode=Opcode.PING))
        self._transport.wake_at(now + PING_S)

    def closed(self, now: float) -> None:
        self._open = False
        if self.on_close is not None:
            self.on_close(now)

    def _take(self, opcode: Opcode, payload: bytes, now: float) -> None:
        if opcode is Opcode.CLOSE:
            self._open = False
            self.send(websocket_frame(payload[:2], opcode=Opcode.CLOSE))
            self._transport.close()
        elif opcode is Opcode.PING:
            if self.queued_bytes < PONG_QUEUE_MAX_BYTES:
                self.send(websocket_frame(payload, opcode=Opcode.PONG))
        elif opcode is not Opcode.PONG and self.on_message is not None:
            self.on_message(_text(payload) if opcode is Opcode.TEXT else payload, now)


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError(CloseCode.NOT_TEXT, "a text message is not UTF-8") from error
