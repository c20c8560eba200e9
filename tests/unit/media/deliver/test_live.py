"""The public addresses on one node, through the HTTP machine, with a stream published by hand."""

import json
import re
from typing import Any

import msgspec
import pytest

from media.container.feed import QUEUE_MAX_BYTES, Feeds, FeedSettings
from media.deliver.http.connection import HttpConnection
from media.deliver.http.site import Site
from media.deliver.live import HLS_IDLE_S, SOCKET_WAIT_S, Live
from media.deliver.poster.posters import Posters
from media.deliver.routes import Pages, public_router
from media.track.stream import Source, StreamState

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Wire:
    """A transport that takes everything."""

    peer_host, peer_port, secure = "192.0.2.7", 40000, False

    def __init__(self) -> None:
        self.sent = bytearray()
        self.queued_bytes = 0
        self.closed = False

    def send(self, *buffers: bytes) -> None:
        if not self.closed:
            self.sent += b"".join(buffers)

    def close(self) -> None:
        self.closed = True

    abort = close

    def wake_at(self, when: float | None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Viewer:
    """One HTTP connection to the node."""

    def __init__(self, site: Site, clock: Any) -> None:
        self.wire = Wire()
        self.clock = clock
        self.connection = HttpConnection(site, self.wire, clock.now)

    def ask(self, target: str, fields: str = "") -> None:
        text = f"GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\n{fields}\r\n"
        self.connection.receive(text.encode(), self.clock.now)

    def get(self, target: str) -> tuple[int, str, bytes]:
        self.wire.sent.clear()
        self.ask(target)
        return self.answer

    @property
    def answer(self) -> tuple[int, str, bytes]:
        head, _, body = bytes(self.wire.sent).partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), body

    def leave(self) -> None:
        self.wire.closed = True
        self.connection.closed(self.clock.now)


def messages(viewer: Viewer) -> list[tuple[int, bytes]]:
    """(opcode, payload) of the WebSocket frames after the handshake."""
    data = bytes(viewer.wire.sent).partition(b"\r\n\r\n")[2]
    found = []
    while data:
        length, start = data[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        found.append((data[0] & 15, data[start : start + length]))
        data = data[start + length :]
    return found


@pytest.fixture
def live(streams, clock):
    feeds = Feeds(FeedSettings(flush_s=0.0), clock.call_at)
    return Live(
        streams,
        feeds,
        Posters(),
        window_us=12_000_000,
        put_file=lambda parts: None,
        call_at=clock.call_at,
    )


@pytest.fixture
def draining():
    return []


@pytest.fixture
def viewer(streams, clock, live, draining):
    pages = Pages(streams, node="here", hls_script=True, ready=lambda: not draining)
    router = public_router(live, pages, {"player.js": b"// player"})
    site = Site(router, lambda: clock.now, lambda: 1_800_000_000.0)
    return lambda: Viewer(site, clock)


def test_playlists_lead_to_media(viewer, publisher):
    publisher.send(80)
    one = viewer()
    status, _, body = one.get("/live/live/index.m3u8")
    assert status == 200
    rendition = body.decode().splitlines()[-1]
    status, _, body = one.get(f"/live/live/{rendition}")
    assert status == 200
    for uri in re.findall(r'URI="([^"]+)"', body.decode())[:-1]:
        status, head, media = one.get(f"/live/live/v1/{uri}")
        assert status == 200 and media and "immutable" in head


def test_a_token_is_repeated_in_the_multivariant_playlist(viewer, publisher):
    publisher.send(80)
    assert b"v1/index.m3u8?token=abc\n" in viewer().get("/live/live/index.m3u8?token=abc")[2]
    assert b'"' not in viewer().get("/live/live/index.m3u8?token=%22x")[2].splitlines()[-1]


@pytest.fixture
def add_ladder(streams, clock):
    """Gives a stream a rendition: the source's own pictures under another name."""

    def add(stream):
        writer = streams.open_derived(
            "live+ladder", Source("transcode", "local"), clock.now, 0, lambda reason: None
        )
        section = stream.section_of(stream.ring.get(stream.ring.first))
        smaller = msgspec.structs.replace(section.tracks[0], id=160)
        writer.begin_section(
            msgspec.structs.replace(section, tracks=(smaller, *section.tracks[1:])), clock.now
        )
        for packet in stream.ring.slice(stream.ring.first, stream.ring.next):
            writer.write(msgspec.structs.replace(packet, track=smaller) if packet.track.width else packet)
        writer.prove(stream.part_target_us, stream.target_duration_us, whole=False)
        writer.set_state(StreamState.LIVE, clock.now)
        writer.flush(clock.now)

    return add


def test_renditions_of_the_ladder_are_the_streams_own(viewer, publisher, add_ladder, streams):
    publisher.send(80)
    add_ladder(publisher.stream)
    one = viewer()
    body = one.get("/live/live/index.m3u8")[2].decode()
    assert [line for line in body.splitlines() if line.endswith("m3u8")] == [
        f"{name}/index.m3u8" for name in ("v1", "v160", "a2")
    ]
    status, _, body = one.get("/live/live/v160/index.m3u8")
    assert status == 200
    assert b"../v1/index.m3u8" in body
    for uri in re.findall(r'URI="([^".]+\.m(?:p4|4s))"', body.decode()):
        assert one.get(f"/live/live/v160/{uri}")[0] == 200
    assert b"../v160/index.m3u8" in one.get("/live/live/v1/index.m3u8?_HLS_skip=YES")[2]
    assert one.get("/live/live/v161/index.m3u8")[0] == 404
    assert publisher.stream.viewers == {"hls": 1}
    assert streams.get("live+ladder").viewers == {}


def test_a_ladder_is_no_stream_to_viewers(viewer, publisher, add_ladder):
    publisher.send(80)
    add_ladder(publisher.stream)
    one = viewer()
    for path in (
        "+ladder/index.m3u8",
        "+ladder.mp4",
        "+ladder/ws",
        "+ladder/v160/index.m3u8",
        "+ladder/poster.jpg",
    ):
        assert one.get(f"/live/live{path}")[0] == 404
    assert b"ladder" not in one.get("/")[2]


def test_the_multivariant_playlist_waits_a_moment_for_a_ladder_that_begins(viewer, publisher, streams, clock):
    publisher.send(80)
    streams.open_derived("live+ladder", Source("transcode", "local"), clock.now, 0, lambda reason: None)
    one = viewer()
    one.ask("/live/live/index.m3u8")
    assert not one.wire.sent
    publisher.send(90)
    assert one.answer[0] == 200
    assert b"v1/index.m3u8" in one.answer[2]


def test_blocking_reload_over_http(viewer, publisher, live):
    publisher.send(80)
    one = viewer()
    body = one.get("/live/live/v1/index.m3u8")[2].decode()
    msn, part = re.search(r'PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)', body).groups()
    one.wire.sent.clear()
    one.ask(f"/live/live/v1/index.m3u8?_HLS_msn={msn}&_HLS_part={part}")
    assert not one.wire.sent and live.waiting == 1
    publisher.send(16)
    assert one.answer[0] == 200 and f"{msn}.{part}.m4s".encode() in one.answer[2]


def test_a_viewer_that_leaves_is_not_waited_for(viewer, publisher, live):
    publisher.send(80)
    one = viewer()
    newest = live._hls_of("live", 0.0).window.newest()
    one.ask(f"/live/live/v1/index.m3u8?_HLS_msn={newest[0]}&_HLS_part={newest[1] + 1}")
    one.leave()
    publisher.send(16)
    assert live.waiting == 0 and not one.wire.sent


@pytest.mark.parametrize(
    "target",
    [
        "/live/nothing/index.m3u8",
        "/live/nothing/v1/index.m3u8",
        "/live/nothing/v1/1.m4s",
        "/live/nothing.mp4",
        "/live/live.avi",
        "/live/live",
        "/live/",
        "/live/live/v1/2/3",
        "/live/live/v9/index.m3u8",
        "/watch/NOT-A-NAME",
        "/watch/a/b",
        "/player/nothing.js",
        "/nothing",
    ],
)
def test_what_is_not_there_is_404_with_a_length(viewer, publisher, target):
    publisher.send(80)
    status, head, body = viewer().get(target)
    assert status == 404 and body and f"Content-Length: {len(body)}" in head


def test_unknown_names_leave_nothing_behind(viewer, streams, live, clock):
    one = viewer()
    for number in range(2000):
        one.get(f"/live/none-{number}/index.m3u8")
        one.get(f"/live/none-{number}.mp4")
    assert not live._hls and not streams.names() and len(live.audience) == 0 and clock.pending == 0


def test_a_playlist_of_a_stream_that_starts_is_held(viewer, publisher):
    one = viewer()
    one.ask("/live/live/index.m3u8")
    assert not one.wire.sent
    publisher.send(20)
    assert one.answer[0] == 200


@pytest.mark.parametrize("form, magic", [("mp4", b"ftyp"), ("flv", b"FLV"), ("ts", b"\x47")])
def test_progressive_viewers_are_counted_while_they_are_there(viewer, publisher, form, magic):
    publisher.send(40)
    one = viewer()
    one.ask(f"/live/live.{form}")
    status, head, body = one.answer
    assert status == 200 and "Connection: close" in head and magic in body[:8]
    assert publisher.stream.viewers[form] == 1
    before = len(one.wire.sent)
    publisher.send(3)
    assert len(one.wire.sent) > before
    one.leave()
    assert publisher.stream.viewers[form] == 0
    publisher.send(3)


def test_a_progressive_viewer_is_closed_when_the_stream_ends(viewer, publisher, clock):
    publisher.send(40)
    one = viewer()
    one.ask("/live/live.mp4")
    publisher.writer.close("gone", clock.now)
    clock.advance(11.0)
    assert one.wire.closed


def test_a_websocket_gets_a_description_an_init_segment_and_fragments(viewer, publisher):
    publisher.send(40)
    one = viewer()
    one.ask("/live/live/ws", UPGRADE)
    (code, text), (_, init), *rest = messages(one)
    about = json.loads(text)
    assert code == 1 and about["type"] == "init"
    assert about["mime"].startswith('video/mp4; codecs="avc1.') and "mp4a.40.2" in about["mime"]
    assert [track["kind"] for track in about["tracks"]] == ["video", "audio"]
    assert init[4:8] == b"ftyp" and rest and all(fragment[4:8] == b"moof" for _, fragment in rest)
    assert publisher.stream.viewers["ws"] == 1
    one.leave()
    assert publisher.stream.viewers["ws"] == 0


def test_a_websocket_waits_for_its_stream(viewer, publish):
    from_before = viewer()
    from_before.ask("/live/live/ws", UPGRADE)
    assert json.loads(messages(from_before)[0][1]) == {"type": "offline"}
    publisher = publish()
    publisher.send(3)
    kinds = [json.loads(text)["type"] for code, text in messages(from_before) if code == 1]
    assert kinds == ["offline", "init"]
    from_before.leave()
    assert publisher.stream.viewers["ws"] == 0


def test_a_websocket_does_not_wait_for_ever(viewer, clock, streams):
    one = viewer()
    one.ask("/live/live/ws", UPGRADE)
    clock.advance(SOCKET_WAIT_S + 1)
    assert one.wire.closed and clock.pending == 0
    one.leave()


def test_a_websocket_that_leaves_while_it_waits_is_forgotten(viewer, clock, streams):
    one = viewer()
    one.ask("/live/live/ws", UPGRADE)
    one.leave()
    assert clock.pending == 0 and not streams._waiting


def test_a_slow_websocket_is_skipped_and_others_are_not(viewer, publisher):
    publisher.send(40)
    slow, quick = viewer(), viewer()
    for one in (slow, quick):
        one.ask("/live/live/ws", UPGRADE)
    slow.wire.queued_bytes = QUEUE_MAX_BYTES + 1
    publisher.send(60)
    assert len(messages(quick)) > len(messages(slow)) + 50
    slow.wire.queued_bytes = 0
    publisher.send(2)
    assert publisher.stream.reader_skips == 1
    assert len(messages(quick)) > 50


def test_what_hls_packaged_is_let_go_when_nobody_asks(viewer, publisher, live, clock):
    publisher.send(80)
    viewer().get("/live/live/v1/index.m3u8")
    assert live._hls
    publisher.send(round(HLS_IDLE_S * 1.5 * 30))
    assert not live._hls


def test_hls_viewers_are_counted(viewer, publisher, clock):
    publisher.send(80)
    one = viewer()
    for _ in range(3):
        one.get("/live/live/v1/index.m3u8")
    assert publisher.stream.viewers["hls"] == 1


def test_pages(viewer, publisher):
    publisher.send(40)
    one = viewer()
    for target, text in (("/", b"live"), ("/watch/live", b"<video"), ("/embed/live", b"<video")):
        status, head, body = one.get(target)
        assert status == 200 and text in body
        assert "Content-Security-Policy" in head and "text/html" in head
    assert one.get("/player/player.js")[2] == b"// player"


def test_health_says_when_the_node_drains(viewer, draining):
    assert viewer().get("/healthz")[0] == 200
    draining.append(True)
    assert viewer().get("/healthz")[0] == 503
