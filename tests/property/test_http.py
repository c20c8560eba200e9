"""HTTP requests and WebSocket frames in any chunks, and garbage."""

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from media.deliver.http.connection import HttpConnection
from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import Response, parse_range_untrusted, slice_body
from media.deliver.http.router import Router
from media.deliver.http.site import Site
from media.deliver.http.websocket import FrameError, FrameReader, Opcode, unmask
from media.errors import WireError

METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
TARGETS = st.sampled_from(["/", "/echo", "/echo?a=b", "/late", "/none", "/%41", "/big", "*", "/a%2fb", "x"])
FIELD_LINES = st.sampled_from(
    [
        "Accept-Encoding: gzip",
        "Range: bytes=1-2",
        'If-None-Match: "e"',
        "Connection: close",
        "X: y",
        "Host: b",
    ]
)


class Wire:
    """A transport that keeps what it is given and lets queues form when told to."""

    peer_host, peer_port, secure, queued_bytes = "192.0.2.1", 1, False, 0

    def __init__(self) -> None:
        self.sent = bytearray()
        self.over = False
        self.wake: float | None = None

    def send(self, *buffers: bytes) -> None:
        if not self.over:
            self.sent += b"".join(buffers)

    def close(self) -> None:
        self.over = True

    abort = close

    def wake_at(self, when: float | None) -> None:
        self.wake = when

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def answers(chunks: list[bytes]) -> bytes:
    """Everything that a connection says to these bytes; answers to /late are given between reads."""
    held: list[Reply] = []

    def echo(request: Request, reply: Reply) -> None:
        text = f"{request.method} {request.path} {request.query_text} {request.body!r}"
        reply.send(Response(200, text.encode() * 9, etag="e", compress=True))

    router = Router()
    router.add("GET POST", "/echo", echo, name="echo")
    router.add("GET", "/late", lambda request, reply: held.append(reply), name="late")
    router.add("GET", "/big", lambda request, reply: reply.send(Response(200, (b"b" * 9, b"c"))), name="big")
    site = Site(router, lambda: 0.0, lambda: 0.0)
    wire: Any = Wire()
    connection = HttpConnection(site, wire, 0.0)
    for chunk in chunks:
        connection.receive(chunk, 0.0)
        while held or (wire.wake is not None and wire.wake <= 0.0):
            if held:
                held.pop().send(Response(200, b"late"))
            else:
                wire.wake = None
                connection.on_deadline(0.0)
    connection.closed(0.0)
    return bytes(wire.sent)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method, target = draw(METHODS), draw(TARGETS)
    lines = [f"{method} {target} HTTP/1.{draw(st.sampled_from('1110'))}", "Host: h"]
    lines += draw(st.lists(FIELD_LINES, max_size=3))
    body = b""
    match draw(st.integers(0, 4)):
        case 0:
            body = draw(st.binary(max_size=40))
            lines.append(f"Content-Length: {len(body)}")
        case 1:
            parts = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3))
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            lines.append("Transfer-Encoding: chunked")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(st.lists(requests(), min_size=1, max_size=6), st.lists(st.integers(0, 5000), max_size=12))
@example([b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"] * 80, [])
def test_chunking_changes_no_answer(asked: list[bytes], places: list[int]) -> None:
    data = b"".join(asked)
    assert answers(cut(data, places)) == answers([data]) == answers(asked)


@given(requests())
def test_one_byte_at_a_time(asked: bytes) -> None:
    data = asked * 2
    assert answers([data[index : index + 1] for index in range(len(data))]) == answers([data])


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_garbage_gets_a_refusal_or_nothing(chunks: list[bytes]) -> None:
    said = answers(chunks)
    assert not said or said.startswith(b"HTTP/1.1 4")


@given(
    requests(),
    st.integers(0, 300),
    st.binary(min_size=1, max_size=4),
    st.lists(st.integers(0, 999), max_size=3),
)
def test_damaged_requests_are_answered_or_refused(
    asked: bytes, place: int, damage: bytes, places: list[int]
) -> None:
    data = asked[: place % len(asked)] + damage + asked[place % len(asked) :]
    said = answers(cut(data, places))
    assert not said or said.startswith(b"HTTP/1.1 ")


def client_frame(opcode: int, payload: bytes, mask: bytes, final: bool) -> bytes:
    length = len(payload)
    size = bytes((0x80 | length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return bytes(((0x80 if final else 0) | opcode,)) + size + mask + unmask(mask, payload)


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.binary(min_size=4, max_size=4)), min_size=1, max_size=5),
    st.lists(st.integers(0, 2000), max_size=10),
)
def test_websocket_message_survives_fragments_and_chunks(
    parts: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    wire = b""
    for index, (payload, mask) in enumerate(parts):
        wire += client_frame(0 if index else Opcode.BINARY, payload, mask, index == len(parts) - 1)
        wire += client_frame(Opcode.PING, payload[:9], mask, True)
    reader = FrameReader()
    heard = [message for chunk in cut(wire, places) for message in reader.feed_untrusted(chunk)]
    messages = [message for message in heard if message[0] is Opcode.BINARY]
    assert messages == [(Opcode.BINARY, b"".join(payload for payload, _ in parts))]
    assert len(heard) == len(parts) + 1


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20))
def test_websocket_garbage_raises_only_its_error(chunks: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for chunk in chunks:
            reader.feed_untrusted(chunk)
    except FrameError as error:
        assert isinstance(error, WireError)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_masking_is_its_own_inverse(payload: bytes, mask: bytes) -> None:
    assert unmask(mask, unmask(mask, payload)) == payload
    assert unmask(mask, payload) == bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


@given(
    st.binary(max_size=30) | st.from_regex(rb"bytes=\d{0,4}-\d{0,4}", fullmatch=True), st.integers(0, 2000)
)
def test_a_range_lies_within_its_body(value: bytes, size: int) -> None:
    span = parse_range_untrusted(value, size)
    if span is not None and span[1]:
        assert 0 <= span[0] < span[0] + span[1] <= size


@given(st.lists(st.binary(max_size=20), max_size=6), st.data())
def test_a_slice_of_buffers_is_the_slice_of_their_bytes(buffers: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(buffers)
    first = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, len(whole) - first))
    sliced = slice_body(tuple(buffers), first, length)
    assert isinstance(sliced, tuple)
    assert b"".join(sliced) == whole[first : first + length]


@pytest.mark.parametrize("size", [0, 1, 5])
def test_suffix_longer_than_the_body(size: int) -> None:
    assert parse_range_untrusted(b"bytes=-10", size) == (0, size)
