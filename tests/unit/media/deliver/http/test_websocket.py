"""WebSocket handshake, frames, and a second opinion by wsproto."""

import struct
from typing import Any

import pytest
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.events import Request as WsRequest

from media.deliver.http.websocket import (
    MESSAGE_MAX_BYTES,
    PING_S,
    CloseCode,
    FrameError,
    FrameReader,
    Opcode,
    unmask,
    websocket_frame,
)

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(
    payload: bytes, opcode: int = Opcode.BINARY, final: bool = True, mask: bytes = b"\1\2\3\4"
) -> bytes:
    """A client's frame, after RFC 6455 5.2."""
    first = (0x80 if final else 0) | opcode
    if len(payload) < 126:
        header = struct.pack(">BB", first, 0x80 | len(payload))
    elif len(payload) < 65536:
        header = struct.pack(">BBH", first, 0x80 | 126, len(payload))
    else:
        header = struct.pack(">BBQ", first, 0x80 | 127, len(payload))
    return header + mask + unmask(mask, payload)


@pytest.fixture
def sinks(server: Any) -> list[Any]:
    found: list[Any] = []
    server.route("GET", "/ws", lambda request, reply: found.append(reply.websocket()))
    return found


@pytest.fixture
def viewer(client: Any, sinks: list[Any]) -> Any:
    client.send(HANDSHAKE)
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in client.take()  # RFC 6455 1.3
    return client


def test_frames_to_viewers_are_the_same_for_all() -> None:
    assert websocket_frame(b"Hello", opcode=Opcode.TEXT) == b"\x81\x05Hello"  # RFC 6455 5.7
    assert websocket_frame(b"a" * 100, b"b" * 156)[:4] == b"\x82\x7e\x01\x00"
    assert websocket_frame(bytes(65536))[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("Upgrade: WebSocket\r\n", "", 426),
        ("Connection: keep-alive, Upgrade\r\n", "", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "not base64!", 426),
        ("Version: 13", "Version: 8", 426),
        ("HTTP/1.1", "HTTP/1.0", 426),
        ("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: ", 400),
    ],
)
def test_what_is_no_handshake(client: Any, sinks: list[Any], old: str, new: str, status: int) -> None:
    client.send(HANDSHAKE.replace(old, new))
    (answer,) = client.answers()
    assert answer.status == status
    assert not any(sinks)


def test_messages_in_pieces_and_fragments(viewer: Any, sinks: list[Any]) -> None:
    heard: list[Any] = []
    sinks[0].on_message = lambda message, now: heard.append(message)
    wire = (
        masked(b"one", Opcode.TEXT)
        + masked(b"tw", Opcode.TEXT, final=False)
        + masked(b"ping", Opcode.PING)
        + masked(b"o", Opcode.CONTINUATION)
        + masked(b"\xff" * 300)
    )
    for index in range(len(wire)):
        viewer.send(wire[index : index + 1])
    assert heard == ["one", "two", b"\xff" * 300]
    assert viewer.take() == websocket_frame(b"ping", opcode=Opcode.PONG)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x82\x01a", CloseCode.PROTOCOL_ERROR),
        (b"\xc2\x80\0\0\0\0", CloseCode.PROTOCOL_ERROR),
        (masked(b"", 3), CloseCode.PROTOCOL_ERROR),
        (masked(b"a" * 126, Opcode.PING), CloseCode.PROTOCOL_ERROR),
        (masked(b"", Opcode.PING, final=False), CloseCode.PROTOCOL_ERROR),
        (masked(b"a", Opcode.CONTINUATION), CloseCode.PROTOCOL_ERROR),
        (masked(b"a", final=False) + masked(b"b"), CloseCode.PROTOCOL_ERROR),
        (b"\x82\xff" + b"\xff" * 8, CloseCode.TOO_BIG),
        (masked(bytes(65000), final=False) + masked(bytes(65000), 0), CloseCode.TOO_BIG),
        (masked(b"\xff", Opcode.TEXT), CloseCode.NOT_TEXT),
    ],
)
def test_frames_that_break_the_protocol(viewer: Any, sinks: list[Any], wire: bytes, code: int) -> None:
    sinks[0].on_message = lambda message, now: None
    viewer.send(wire)
    frame = viewer.take()
    assert frame[0] == 0x80 | Opcode.CLOSE
    assert int.from_bytes(frame[2:4], "big") == code
    assert viewer.transport.closing
    viewer.send(masked(b"more"))
    assert viewer.take() == b""


def test_close_is_answered_and_counted_once(viewer: Any, sinks: list[Any]) -> None:
    gone: list[float] = []
    sinks[0].on_close = gone.append
    viewer.send(masked(struct.pack(">H", 1001) + b"bye", Opcode.CLOSE))
    assert viewer.take() == b"\x88\x02" + struct.pack(">H", 1001)
    assert viewer.transport.closing
    sinks[0].close()
    assert viewer.take() == b""
    viewer.connection.closed(5.0)
    assert gone == [5.0]


def test_a_dead_viewer_is_found_by_pings(viewer: Any) -> None:
    viewer.advance(PING_S)
    assert viewer.take() == b"\x89\x00"
    viewer.send(masked(b"", Opcode.PONG))
    viewer.advance(PING_S)
    assert viewer.take() == b"\x89\x00"
    assert not viewer.transport.aborted
    viewer.advance(PING_S)
    assert viewer.transport.aborted


def test_a_viewer_that_takes_nothing_gets_no_pongs(viewer: Any) -> None:
    viewer.transport.blocked = True
    for _ in range(10_000):
        viewer.send(masked(b"p" * 100, Opcode.PING))
    assert viewer.transport.queued_bytes < 70_000


def test_reader_holds_one_message_at_most() -> None:
    reader = FrameReader()
    assert reader.feed_untrusted(masked(bytes(MESSAGE_MAX_BYTES))) == [
        (Opcode.BINARY, bytes(MESSAGE_MAX_BYTES))
    ]
    with pytest.raises(FrameError):
        reader.feed_untrusted(masked(bytes(MESSAGE_MAX_BYTES + 1)))


def test_subprotocol(client: Any, server: Any) -> None:
    server.route("GET", "/sub", lambda request, reply: reply.websocket("fmp4"))
    client.send(HANDSHAKE.replace("/ws", "/sub"))
    assert b"\r\nSec-WebSocket-Protocol: fmp4\r\n" in client.take()


def test_wsproto_agrees(client: Any, sinks: list[Any]) -> None:
    peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    client.send(peer.send(WsRequest(host="h", target="/ws")))
    peer.receive_data(client.take())
    assert isinstance(next(peer.events()), AcceptConnection)
    heard: list[Any] = []
    sinks[0].on_message = lambda message, now: heard.append(message)
    client.send(
        peer.send(TextMessage("grüße")) + peer.send(BytesMessage(b"\0" * 1000)) + peer.send(Ping(b"p"))
    )
    assert heard == ["grüße", b"\0" * 1000]
    sinks[0].send(websocket_frame(b"x" * 70_000), websocket_frame(b"{}", opcode=Opcode.TEXT))
    sinks[0].close(CloseCode.GOING_AWAY, "grüße " * 50)
    peer.receive_data(client.take())
    pong, *data, close = list(peer.events())
    assert isinstance(pong, Pong)
    assert b"".join(event.data for event in data if isinstance(event, BytesMessage)) == b"x" * 70_000
    assert [event.data for event in data if isinstance(event, TextMessage)] == ["{}"]
    assert isinstance(close, CloseConnection)
    assert close.code == CloseCode.GOING_AWAY
