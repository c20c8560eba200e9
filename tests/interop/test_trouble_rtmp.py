"""Clients that break RTMP against a whole node: the log names each, and nobody else is hurt."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clips import FPS, Clips, publishing
from fwbench import rtmp
from live_node import LiveNode, StartNode, until
from rtmp_client import CHUNK_BYTES, Gone, RtmpClient, connect_command, headers_of, message, publish_command
from witness import Witness

pytestmark = pytest.mark.interop

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "rtmp").glob("bad-*.bin"))
STEADY = "steady"
GROWTH_KIB = 24 * 1024  # what a test may leave behind, allocator's reserves included
OBJECT_STARTS, OBJECT_ENDS = b"\x03\x00\x01x", b"\x00\x00\x09"
LONG_STRING = b"\x0c"  # AMF0: a 4-byte length follows
AMF3_ARRAY = b"\x09\x03\x01"


@pytest.fixture(scope="module")
def node(start_for_module: StartNode, clips: Clips) -> Iterator[LiveNode]:
    """Serves a stream to a witness all the while."""
    node = start_for_module(ingest__open=True, ingest__linger_s=0, hls__segment_s=1)
    node.faults_expected = {"remote"}
    with publishing(node, clips.long, STEADY):
        yield node


@pytest.fixture(autouse=True)
def witness(node: LiveNode) -> Iterator[None]:
    with Witness(node, STEADY):
        yield


@pytest.fixture
def flat_memory(node: LiveNode) -> Iterator[None]:
    before = node.rss_kib()
    yield
    assert node.rss_kib() - before < GROWTH_KIB


# What each sends, and what the log says of it. The log names five of a kind in ten seconds, then counts.

Attack = tuple[Callable[[RtmpClient], None], str]


def after_connect(data: bytes) -> Callable[[RtmpClient], None]:
    def attack(client: RtmpClient) -> None:
        client.connect()
        client.send(data)

    return attack


def after_publish(*pieces: bytes) -> Callable[[RtmpClient], None]:
    def attack(client: RtmpClient) -> None:
        assert client.publish("attacker").endswith("Start")
        for piece in pieces:
            client.send(piece)

    return attack


def after_handshake(data: bytes) -> Callable[[RtmpClient], None]:
    def attack(client: RtmpClient) -> None:
        client.handshake()
        client.send(data)

    return attack


def command_of(value: bytes) -> bytes:
    body = rtmp.encode("connect") + rtmp.encode(1.0) + value
    return rtmp.set_chunk_size(CHUNK_BYTES) + rtmp.message(rtmp.COMMAND, body)


def unfinished(chunk_stream: int, size: int, chunk_bytes: int) -> bytes:
    """All whole chunks of a video message, but not its end."""
    length, kind, stream = size.to_bytes(3, "big"), b"\x09", (1).to_bytes(4, "little")
    rest = bytes([0xC0 | chunk_stream]) + bytes(chunk_bytes)
    head = bytes([chunk_stream]) + bytes(3) + length + kind + stream + bytes(chunk_bytes)
    return head + rest * (size // chunk_bytes - 1)


NOT_RTMP: dict[str, Attack] = {
    "noise": (lambda client: client.send(b"\xfe" + os.urandom(8192)), "RTMP version 254, not 3"),
    "http": (
        lambda client: client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        "HTTP on a port that speaks RTMP",
    ),
    "tls": (lambda client: client.send(b"\x16\x03\x01\x02\x00\x01"), "TLS on a port that speaks plain RTMP"),
    "no header": (after_handshake(b"\xc7" * 512), "chunk stream 7 begins without a header"),
    "no connect": (after_handshake(publish_command("x")), "command 'publish' before connect"),
}
TOO_MUCH: dict[str, Attack] = {
    "endless chunk streams": (
        after_connect(b"".join(bytes(1) + unfinished(number, 5000, CHUNK_BYTES) for number in range(65))),
        "more than 64 RTMP chunk streams",
    ),
    "16 MB message": (
        after_publish(unfinished(9, 0xFFFFFF, CHUNK_BYTES)[:64]),
        "type 9 with 16777215 bytes, more than",
    ),
    "messages without an end": (
        after_publish(
            rtmp.set_chunk_size(65536), unfinished(10, 9_000_000, 65536), unfinished(11, 9_000_000, 65536)
        ),
        "bytes of unfinished RTMP messages",
    ),
    "2 GB string": (after_handshake(command_of(LONG_STRING + b"\x7f\xff\xff\xff")), "AMF"),
    "nested a thousand deep": (
        after_handshake(command_of(OBJECT_STARTS * 1000 + b"\x05" + OBJECT_ENDS * 1000)),
        "AMF",
    ),
}


def run_attacks(node: LiveNode, attacks: dict[str, Attack]) -> None:
    for name, (attack, reason) in attacks.items():
        with RtmpClient(node.address("rtmp")) as client:
            try:
                attack(client)
            except (ConnectionError, Gone):
                pass  # closed on it before it was done
            client.drain_until_closed()
            line = node.await_log("connection fault: remote", peer=client.address)
            assert reason in line["reason"], (name, line)


@pytest.mark.usefixtures("flat_memory")
def test_what_is_not_rtmp_is_named_in_the_log(node: LiveNode) -> None:
    run_attacks(node, NOT_RTMP)


@pytest.mark.usefixtures("flat_memory")
def test_what_is_too_much_is_named_in_the_log(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True, ingest__linger_s=0)
    node.faults_expected = {"remote"}
    with publishing(node, clips.long, STEADY), Witness(node, STEADY):
        run_attacks(node, TOO_MUCH)
        assert node.rss_kib() < 150 * 1024


@pytest.mark.usefixtures("flat_memory")
def test_everything_ever_found_that_is_bad(node: LiveNode) -> None:
    assert len(CORPUS) > 10
    for path in CORPUS:
        with RtmpClient(node.address("rtmp")) as client:
            try:
                client.send(path.read_bytes())
                client.stop_sending()
            except ConnectionError:
                continue
            client.drain_until_closed()
    assert "bug" not in node.status()["faults"]


def session_bytes(clips: Clips, name: str, seconds: int = 1) -> bytes:
    """A whole session of a publisher, from its first byte; no answer need be waited for."""
    setup = rtmp.set_chunk_size(CHUNK_BYTES) + connect_command() + rtmp.command("createStream", 2.0, None)
    media = b"".join(message(tag.kind, tag.body, tag.time_ms) for tag in clips.usual(seconds))
    return rtmp.hello() + bytes(rtmp.HANDSHAKE_BYTES) + setup + publish_command(name) + media


def test_a_session_byte_by_byte(node: LiveNode, clips: Clips) -> None:
    with RtmpClient(node.address("rtmp")) as client:
        for byte in session_bytes(clips, "slow"):
            client.send(bytes((byte,)))
        stream = until(lambda: node.stream("slow"), "the stream")
        assert stream["state"] == "live"
        until(lambda: (node.stream("slow") or stream)["tracks"][0]["packets"] == FPS, "every frame of it")


def test_sessions_cut_off_anywhere(node: LiveNode, clips: Clips) -> None:
    """By FIN and by RST, in the handshake, in commands, in the middle of a frame."""
    whole = session_bytes(clips, "cut")
    connections, descriptors = node.status()["connections"], node.descriptors()
    for number, end in enumerate(range(1, len(whole), len(whole) // 60)):
        client = RtmpClient(node.address("rtmp"))
        client.send(whole[:end])
        if number % 2:
            client.reset()
        else:
            client.close()
    until(lambda: node.status()["connections"] <= connections, "the connections gone")
    assert node.descriptors() <= descriptors + 2
    node.await_stream("cut", "ended")


def test_a_frame_cut_off_by_a_reset_harms_no_viewer(node: LiveNode, clips: Clips) -> None:
    tags = clips.usual(2)
    with RtmpClient(node.address("rtmp")) as client:
        client.publish("torn")
        client.send_tags(tags[:-1])
        client.settle()
        client.send(message(tags[-1].kind, bytes(5000), tags[-1].time_ms)[:4000])
        client.reset()
    stream = node.await_stream("torn", "ended")
    assert stream["packets"] + stream["dropped_before_start"] == len(tags) - 1 - len(headers_of(tags))
    assert node.fetch("/live/torn/v1/index.m3u8").text.endswith("#EXT-X-ENDLIST\n")


def test_a_flood_of_connections_is_served_beside(node: LiveNode) -> None:
    """Each is opened and left at once; the log is not flooded with it."""
    lines = len(node.log())
    for _ in range(1000):
        sock = socket.create_connection(node.address("rtmp"))
        sock.send(b"\x00")
        sock.close()
    until(lambda: node.status()["connections"] < 10, "the connections gone")
    assert len(node.log()) - lines < 20
