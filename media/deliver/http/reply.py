"""How a handler answers one request, at once or later. Pure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from media.deliver.http.response import HeaderPairs, Response
from media.net.transport import Transport

if TYPE_CHECKING:
    from media.deliver.http.connection import HttpConnection
    from media.deliver.http.request import Head
    from media.deliver.http.websocket import WebSocketSink

IGNORED_MAX_BYTES = 65536  # what a progressive viewer may send in vain

Closed = Callable[[float], None]


class Sink(Protocol):
    """A viewer that takes one endless answer."""

    send: Callable[..., None]  # (*buffers: Buffer); the transport's own, with nothing in between
    on_close: Closed | None  # called once when the viewer is gone, however that came

    @property
    def queued_bytes(self) -> int:
        """Sent and not yet taken by the kernel: the sender bounds it."""

    def close(self) -> None:
        """Send what is queued and close."""

    def abort(self) -> None:
        """Close now."""


class Reply:
    """The answer to one request, to be given once. An answer to a viewer that has gone does nothing."""

    __slots__ = ("_connection", "head", "on_close")

    def __init__(self, connection: "HttpConnection", head: "Head") -> None:
        self._connection = connection
        self.head = head
        self.on_close: Closed | None = None  # called when the viewer goes before the answer is given

    def send(self, response: Response) -> None:
        self._connection.answer(self, response)

    def stream(self, content_type: str, headers: HeaderPairs = ()) -> "StreamSink":
        """Begin an answer without an end: 200, and closed when it ends.

        It has no chunks, so every viewer is sent the same bytes. To HEAD the sink is closed at once.
        """
        return self._connection.stream(self, content_type, headers)

    def websocket(self, subprotocol: str = "") -> "WebSocketSink | None":
        """Accept a WebSocket (RFC 6455). None when the request is none; that has been answered then."""
        return self._connection.websocket(self, subprotocol)


class StreamSink:
    """A progressive viewer: bytes until somebody closes. Owns the connection from now on."""

    __slots__ = ("_received_bytes", "_transport", "on_close", "send")

    def __init__(self, transport: Transport) -> None:
        self.send: Callable[..., None] = transport.send
        self.on_close: Closed | None = None
        self._transport = transport
        self._received_bytes = 0

    @property
    def queued_bytes(self) -> int:
        return self._transport.queued_bytes

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def receive(self, data: bytes, now: float) -> None:
        """A viewer has nothing to say here; a pipelined request is never answered."""
        self._received_bytes += len(data)
        if self._received_bytes > IGNORED_MAX_BYTES:
            self._transport.abort()

    def receive_eof(self, now: float) -> None:
        self._transport.abort()  # a viewer that has closed its side watches no more

    def on_deadline(self, now: float) -> None:
        pass

    def closed(self, now: float) -> None:
        if self.on_close is not None:
            self.on_close(now)
