"""Viewers that misbehave or come in crowds against a whole node, while one that behaves watches."""

import base64
import hashlib
import os
import re
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from clips import FPS, Clips, publishing
from fwbench import flv
from live_node import LiveNode, StartNode, until
from rtmp_client import RtmpClient
from witness import FlvViewer, Witness, steps

pytestmark = pytest.mark.interop

STEADY = "steady"
PLAYLIST = f"/live/{STEADY}/v1/index.m3u8"
READ_BYTES = 1 << 18
GROWTH_KIB = 24 * 1024  # what a test may leave behind, allocator's reserves included
QUICK_S = 0.25  # an answer takes a millisecond on an idle machine; the tests' own work stands in line, too


@pytest.fixture(scope="module")
def node(start_for_module: StartNode, clips: Clips) -> Iterator[LiveNode]:
    """Serves a stream to a witness all the while."""
    node = start_for_module(ingest__open=True, ingest__linger_s=0, hls__segment_s=1)
    with publishing(node, clips.long, STEADY):
        yield node


@pytest.fixture(autouse=True)
def witness(node: LiveNode) -> Iterator[None]:
    with Witness(node, STEADY):
        yield


def connect(node: LiveNode, listener: str = "http", receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(20)
    sock.connect(node.address(listener))
    return sock


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *fields, "", "")).encode()


def read_all(sock: socket.socket) -> bytes:
    """Until the node closes."""
    said = bytearray()
    try:
        while data := sock.recv(READ_BYTES):
            said += data
    except ConnectionResetError:
        pass
    return bytes(said)


def answer_times(node: LiveNode, times: int = 20) -> list[float]:
    """How long a new viewer waits for a playlist."""
    found = []
    for _ in range(times):
        began = time.monotonic()
        assert node.fetch(PLAYLIST).status == 200
        found.append(time.monotonic() - began)
    return found


# Crowds.


def test_a_thousand_that_say_nothing_and_fifty_that_dribble(node: LiveNode) -> None:
    """A byte a second is not enough: those are told so in ten seconds. The others may stay for now."""
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(node)) for _ in range(700)]
        idle += [stack.enter_context(connect(node, "rtmp")) for _ in range(300)]
        slow = [stack.enter_context(connect(node)) for _ in range(50)]
        until(lambda: node.status()["connections"] >= 1050, "all of them connected")
        assert statistics.median(answer_times(node)) < QUICK_S
        began = time.monotonic()
        for byte in get("/", "X-Long: " + "x" * 100):
            for sock in slow:
                try:
                    sock.send(bytes((byte,)))
                except ConnectionError:
                    pass
            if is_readable(slow[0], 1.0):
                break
        assert 9 < time.monotonic() - began < 15
        for sock in slow:
            assert read_all(sock).startswith(b"HTTP/1.1 408 ")
        node.await_log("request refused", peer="127.0.0.1:", reason="the request took too long")
        assert 'fwnode_http_refused_total{status="408"} 50.0' in node.fetch("/metrics", listener="admin").text
        assert not is_readable(idle[0], 0)
        assert statistics.median(answer_times(node)) < QUICK_S
    until(lambda: node.status()["connections"] < 50, "the connections gone")


def is_readable(sock: socket.socket, timeout_s: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))


def pipelined(node: LiveNode, requests: list[bytes], expected: bytes) -> int:
    """Send them all on one connection while reading; how many answers begin as `expected`."""
    sock = connect(node)

    def send() -> None:
        for start in range(0, len(requests), 1000):
            sock.sendall(b"".join(requests[start : start + 1000]))

    sender = threading.Thread(target=send)
    sender.start()
    count, rest = 0, b""
    while count < len(requests):
        data = sock.recv(READ_BYTES)
        assert data, f"closed after {count} answers"
        rest += data
        count += rest.count(expected)
        rest = rest[-len(expected) + 1 :]
    sender.join()
    sock.close()
    return count


def test_ten_thousand_pipelined_requests(node: LiveNode) -> None:
    before = node.rss_kib()
    requests = [get(path) for path in ("/healthz", PLAYLIST)] * 5000
    assert pipelined(node, requests, b"HTTP/1.1 200 OK\r\n") == 10_000
    assert node.rss_kib() - before < GROWTH_KIB


def test_polling_a_stream_that_does_not_exist_100_000_times(node: LiveNode) -> None:
    """Half of them for names that never come again: nothing of it is kept."""

    def poll(times: int, tag: str) -> None:
        same = [get("/live/offline/index.m3u8")] * (times // 2)
        others = [get(f"/live/{tag}{number}/v1/index.m3u8") for number in range(times // 2)]
        assert pipelined(node, same + others, b"HTTP/1.1 404 Not Found\r\n") == times

    poll(20_000, "warm")
    before = node.rss_kib()
    for turn in range(4):
        poll(20_000, f"turn{turn}-")
    assert node.rss_kib() - before < 4 * 1024
    assert node.status()["streams"] < 5


def test_publishing_and_stopping_500_times(node: LiveNode, clips: Clips) -> None:
    tags = clips.usual(1)
    folder = "/live/again{}/v1/index.m3u8"

    def turn(number: int) -> None:
        name = number % 10
        with RtmpClient(node.address("rtmp")) as client:
            assert client.publish(f"again{name}") == "NetStream.Publish.Start"
            client.send_tags(tags)
            client.settle()
            assert node.fetch(folder.format(name)).status == 200
            client.stop_publishing()

    for number in range(100):
        turn(number)
    before, descriptors = node.rss_kib(), node.descriptors()
    for number in range(400):
        turn(number)
    assert node.rss_kib() - before < 4 * 1024
    assert node.descriptors() <= descriptors + 5


# Requests that are too much.


def test_a_megabyte_of_headers_is_refused(node: LiveNode) -> None:
    before = node.rss_kib()
    for request in (
        get("/", *(f"X-{number}: {'y' * 1000}" for number in range(1000))),
        get("/" + "z" * 10**6),
    ):
        with connect(node) as sock:
            try:
                sock.sendall(request)
            except ConnectionError:
                pass
            assert re.match(rb"HTTP/1\.1 4(14|31) ", read_all(sock))
    assert node.rss_kib() - before < GROWTH_KIB


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x03" + bytes(1536),
    ],
    ids=["tls", "two-hosts", "smuggling", "huge-body", "climbing", "encoded", "no-host", "rtmp"],
)
def test_what_is_no_request_is_answered_and_closed(node: LiveNode, request_bytes: bytes) -> None:
    with connect(node) as sock:
        sock.sendall(request_bytes)
        assert re.match(rb"HTTP/1\.1 4\d\d ", read_all(sock))


# Viewers that do not read.


def test_who_asks_and_reads_nothing_costs_little(node: LiveNode) -> None:
    before = node.rss_kib()
    paths = re.findall(r"^\d+\.m4s$", node.fetch(PLAYLIST).text, re.MULTILINE)
    requests = b"".join(get(f"/live/{STEADY}/v1/{path}") for path in paths) * 2000
    with ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(connect(node, receive_buffer=4096))
            sock.setblocking(False)
            sent = 1
            while sent:
                try:
                    sent = sock.send(requests)
                except BlockingIOError:
                    sent = 0
        for _ in range(20):
            sock = stack.enter_context(connect(node, receive_buffer=4096))
            sock.sendall(get(f"/live/{STEADY}.mp4"))
        assert statistics.median(answer_times(node)) < QUICK_S
        assert node.rss_kib() - before < GROWTH_KIB
    until(lambda: node.status()["connections"] < 50, "the connections gone")


def test_a_viewer_that_reads_too_slowly_skips_and_hurts_nobody(node: LiveNode, clips: Clips) -> None:
    """It stops reading while 40 MB pass by, then goes on: with a keyframe, and with what is live."""
    tags = heavy_tags(clips, seconds=42, frame_bytes=40_000)
    begin, pass_by, live = (
        [tag for tag in tags if first <= tag.time_ms < last]
        for first, last in ((0, 2000), (2000, 40_000), (40_000, 42_000))
    )
    before = node.rss_kib()
    with RtmpClient(node.address("rtmp")) as client, connect(node, receive_buffer=65536) as slow:
        client.publish("heavy")
        client.send_tags(begin)
        client.settle()
        slow.sendall(get("/live/heavy.flv"))
        until(lambda: (node.stream("heavy") or {})["viewers"] == {"flv": 1}, "the slow viewer")
        with FlvViewer(node, "heavy") as other:
            # As fast as the viewer that reads can follow: it began with the second group.
            joined_ms = [tag.time_ms for tag in begin if tag.kind == flv.VIDEO and not tag.is_config][FPS]
            until(partial(has_seen, other, 960), "the viewer that reads")
            for few in slices(pass_by, 50):
                client.send_tags(few)
                seen_ms = max(tag.time_ms for tag in few if tag.kind == flv.VIDEO) - joined_ms
                until(partial(has_seen, other, seen_ms), "the viewer that reads")
            client.settle()
            assert node.rss_kib() - before < 120 * 1024  # the ring may hold 18 s of it
            data = read_while_it_comes(slow)
            for few in slices(live, 10):
                client.send_tags(few)
                client.settle()
                data += read_while_it_comes(slow, patience_s=0.05)
            until(partial(has_seen, other, 40_960), "the last frame")
            data += read_while_it_comes(slow)
        assert (node.stream("heavy") or {})["reader_skips"] == 1
    assert set(steps(other.times("video"))) == {1000 // FPS}, "the viewer that reads missed nothing"
    pictures = [tag for tag in whole_tags(data) if tag.kind == flv.VIDEO and not tag.is_config]
    after_gaps = [
        tag
        for tag, step in zip(pictures[1:], steps([tag.time_ms for tag in pictures]), strict=True)
        if step > 40
    ]
    assert [tag.body[0] >> 4 for tag in after_gaps] == [1], "it goes on once, with a keyframe"
    assert pictures[-1].time_ms == other.times("video")[-1], "and with what is live"


def slices(tags: list[flv.Tag], count: int) -> list[list[flv.Tag]]:
    """So many tags at a time."""
    return [tags[at : at + count] for at in range(0, len(tags), count)]


def has_seen(viewer: FlvViewer, span_ms: int) -> bool:
    """Has the viewer got so much video?"""
    times = viewer.times("video")
    return bool(times) and times[-1] - times[0] >= span_ms


def read_while_it_comes(sock: socket.socket, patience_s: float = 1.0) -> bytes:
    """Everything until nothing came for a while."""
    data = bytearray()
    while is_readable(sock, patience_s):
        data += sock.recv(READ_BYTES)
    return bytes(data)


def heavy_tags(clips: Clips, seconds: int, frame_bytes: int) -> list[flv.Tag]:
    """The clip with filler NAL units that make its frames so large."""
    filler = b"\x0c" + b"\xff" * (frame_bytes - 6) + b"\x80"
    fill = len(filler).to_bytes(4, "big") + filler
    found = []
    for tag in clips.usual(seconds):
        if tag.kind == flv.VIDEO and not tag.is_config:
            tag = flv.Tag(tag.kind, tag.time_ms, tag.body + fill)
        found.append(tag)
    return found


def whole_tags(answer: bytes) -> list[flv.Tag]:
    found = []
    try:
        for tag in flv.tags(answer.partition(b"\r\n\r\n")[2]):
            found.append(tag)
    except flv.FlvError:
        pass  # cut off at the end
    return found


# Viewers that come before the publisher.


def test_viewers_who_come_first_get_the_picture_and_break_nothing(node: LiveNode, clips: Clips) -> None:
    name = "soon"
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(node)) for _ in range(60)]
        for sock in sockets:
            sock.sendall(upgrade(f"/live/{name}/ws"))
        players = [stack.enter_context(RtmpClient(node.address("rtmp"))) for _ in range(10)]
        for player in players:
            player.ask_to_play(name)
        for path in (f"/live/{name}/index.m3u8", f"/live/{name}.mp4", f"/live/{name}/v1/1.m4s"):
            answer = node.fetch(path)
            assert answer.status == 404 and answer.header("content-length") == str(len(answer.body))
        for sock in sockets:
            assert b'{"type":"offline"}' in receive_until(sock, b"offline")
        # Some of them have gone by the time the publisher comes.
        for sock in sockets[:20]:
            sock.close()
        players[0].reset()
        with RtmpClient(node.address("rtmp")) as client:
            assert client.publish(name) == "NetStream.Publish.Start"
            client.send_tags(clips.usual(2))
            client.settle()
            for sock in sockets[20:]:
                assert b"moof" in receive_until(sock, b"moof")
            for player in players[1:]:
                assert player.await_status() == "NetStream.Play.Reset"
                assert player.await_status() == "NetStream.Play.Start"
                player.await_message(lambda found: found.kind == flv.VIDEO)
            stream = node.await_stream(name)
            assert stream["tracks"][0]["packets"] == 2 * FPS
            assert stream["viewers"] == {"ws": 40, "rtmp": 9}
    until(lambda: not (node.stream(name) or {"viewers": {}})["viewers"], "the viewers gone")


def upgrade(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return get(
        path,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )


def receive_until(sock: socket.socket, wanted: bytes) -> bytes:
    said = bytearray()
    while wanted not in said:
        data = sock.recv(READ_BYTES)
        assert data, bytes(said[-200:])
        said += data
    return bytes(said)


def test_a_websocket_that_breaks_the_protocol_is_closed_in_words(node: LiveNode) -> None:
    with connect(node) as sock:
        sock.sendall(upgrade(f"/live/{STEADY}/ws"))
        receive_until(sock, b'"type":"init"')
        sock.sendall(b"\x82\x05hello")  # not masked (RFC 6455 5.1)
        assert b"a client's frame must be masked" in read_all(sock)
    with connect(node) as sock:
        sock.sendall(upgrade(f"/live/{STEADY}/ws"))
        receive_until(sock, b'"type":"init"')
        sock.sendall(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
        assert b"a message is longer than" in read_all(sock)


# Waiting requests.


def test_held_requests_whose_viewers_left_cost_nothing(node: LiveNode) -> None:
    text = node.fetch(PLAYLIST).text
    [msn] = re.findall(r"PRELOAD-HINT:TYPE=PART,URI=\"(\d+)", text)
    descriptors = node.descriptors()
    for number in range(300):
        sock = connect(node)
        sock.sendall(get(f"{PLAYLIST}?_HLS_msn={int(msn) + 1}"))
        if number % 3:
            sock.close()
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
    until(lambda: node.descriptors() <= descriptors + 5, "their connections gone")


def test_a_body_that_was_not_asked_for_is_not_kept(node: LiveNode) -> None:
    digest = hashlib.sha256(b"x").hexdigest().encode() * 1000
    with connect(node) as sock:
        try:
            sock.sendall(
                b"POST /live/x.flv HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + digest
            )
        except ConnectionError:
            pass
        assert re.match(rb"HTTP/1\.1 4(05|13) ", read_all(sock))
