"""Viewers that are not let in: each protocol says so in its own way, and nothing of the stream is sent."""

from typing import Any

import pytest

from media.container.feed import Feeds, FeedSettings
from media.deliver.http.connection import HttpConnection
from media.deliver.http.router import Router
from media.deliver.http.site import Site
from media.deliver.live import ALLOWED, Entry, Live
from media.deliver.poster.posters import Posters

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SHUT = Entry("this node's uplink is full", 7)


class Doorman:
    """Says the same to everybody and remembers who asked."""

    def __init__(self) -> None:
        self.entry = ALLOWED
        self.asked: list[tuple[str, str]] = []

    def ask(self, stream: Any, session: str, now: float) -> Entry:
        self.asked.append((stream.name, session))
        return self.entry


class Wire:
    """A transport that takes everything."""

    peer_host, peer_port, secure = "192.0.2.7", 40000, False

    def __init__(self) -> None:
        self.sent = bytearray()
        self.queued_bytes = 0

    def send(self, *buffers: bytes) -> None:
        self.sent += b"".join(buffers)

    def close(self) -> None: ...

    abort = close

    def wake_at(self, when: float | None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Desk:
    def __init__(self, streams: Any, clock: Any) -> None:
        self.clock, self.door = clock, Doorman()
        live = Live(
            streams,
            Feeds(FeedSettings(), clock.call_at),
            Posters(),
            window_us=12_000_000,
            put_file=lambda parts: None,
            call_at=clock.call_at,
            door=self.door,
        )
        router = Router()
        router.add("GET", "/live/*", live.handle, name="live")
        self.site = Site(router, lambda: clock.now, lambda: 1_700_000_000.0)

    def ask(self, target: str, fields: str = "") -> Wire:
        wire: Any = Wire()
        connection = HttpConnection(self.site, wire, self.clock.now)
        text = f"GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\n{fields}\r\n"
        connection.receive(text.encode(), self.clock.now)
        found: Wire = wire
        return found


@pytest.fixture
def desk(streams: Any, publisher: Any, clock: Any) -> Desk:
    publisher.send(80)
    return Desk(streams, clock)


PATHS = {
    "/live/live/index.m3u8": "192.0.2.7 test",
    "/live/live/v1/index.m3u8": "192.0.2.7 test",
    "/live/live.mp4": "",
    "/live/live.ts": "",
    "/live/live/ws": "",
}


@pytest.mark.parametrize("path", PATHS)
def test_who_is_not_let_in_is_told_why_and_when_to_ask_again(desk: Desk, path: str) -> None:
    desk.door.entry = SHUT
    sent = bytes(desk.ask(path, UPGRADE if path.endswith("ws") else "").sent)
    assert sent.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 7\r\n" in sent
    assert sent.endswith(b"this node's uplink is full\n")
    assert desk.door.asked == [("live", PATHS[path])]


@pytest.mark.parametrize("path", PATHS)
def test_who_is_let_in_is_served(desk: Desk, path: str) -> None:
    sent = bytes(desk.ask(path, UPGRADE if path.endswith("ws") else "").sent)
    assert sent.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 101 "))


def test_nobody_is_asked_about_a_stream_that_is_not_here(desk: Desk) -> None:
    desk.door.entry = SHUT
    assert b" 404 " in desk.ask("/live/none.mp4").sent
    assert desk.door.asked == []


def test_a_socket_that_waited_is_asked_when_its_stream_begins(streams: Any, publish: Any, clock: Any) -> None:
    desk = Desk(streams, clock)
    wire = desk.ask("/live/live/ws", UPGRADE)
    desk.door.entry = SHUT
    publish().send(80)
    assert desk.door.asked == [("live", "")]
    assert b"this node's uplink is full" in wire.sent and b"moof" not in wire.sent


def test_who_comes_without_the_past_begins_with_the_next_group(desk: Desk, publisher: Any) -> None:
    desk.door.entry = Entry(past=False)
    late = desk.ask("/live/live.ts")
    desk.door.entry = ALLOWED
    soon = desk.ask("/live/live.ts")
    head = len(late.sent)
    assert len(soon.sent) > head
    publisher.send(200)
    assert head < len(late.sent) < len(soon.sent)
    assert soon.sent.endswith(late.sent[head:])
