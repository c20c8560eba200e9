"""Publishers whose frames are damaged on the way, every codec, while viewers of every kind watch."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from random import Random

import pytest
from clips import AAC, GROUP, H264, PICTURE, TONE, Clips, publishing
from fwbench import flv
from live_node import LiveNode, StartNode
from rtmp_client import Gone, RtmpClient
from witness import Witness

pytestmark = pytest.mark.interop

STEADY = "steady"
ROUNDS = 60
HEAD_BYTES = 12  # of a tag's body: codec, frame type, composition time, a NAL unit's length
NAMES = 7  # streams that the rounds share, so that they also meet what the one before left
BOTH = (*PICTURE, *TONE, "-t", "4")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:open-gop=0")
SVT = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "pred-struct=1")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
SOURCES = {
    "damage-h264": (*BOTH, *H264, *GROUP, *AAC),
    "damage-reordered": (*BOTH, "-c:v", "libx264", "-bf", "2", *GROUP, *AAC),
    "damage-hevc": (*BOTH, *X265, *GROUP, *AAC),
    "damage-av1": (*BOTH, *SVT, *GROUP, "-c:a", "libopus"),
    "damage-vp9": (*BOTH, *VP9, *GROUP, "-c:a", "flac"),
    "damage-ac3": (*BOTH, *H264, *GROUP, "-c:a", "ac3"),
}
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def node(start_for_module: StartNode, clips: Clips) -> Iterator[LiveNode]:
    """Serves a stream to a witness all the while."""
    node = start_for_module(ingest__open=True, ingest__linger_s=0, hls__segment_s=1)
    node.faults_expected = {"remote"}
    with publishing(node, clips.long, STEADY):
        yield node


def damaged(random: Random, tags: list[flv.Tag]) -> list[flv.Tag]:
    """One tag in twenty has wrong bytes, is cut off, out of time, lost or doubled.

    In a third of the rounds that may be the beginning of its body, too, where the codec is told: such
    a publisher is mostly sent away at once, the others go on.
    """
    first = 0 if random.random() < 0.3 else HEAD_BYTES
    found = []
    for tag in tags:
        time_ms, body = tag.time_ms, bytearray(tag.body)
        harm = random.choices(("none", "bytes", "cut", "time", "lost", "twice"), (190, 5, 2, 1, 1, 1))[0]
        if harm == "bytes" and len(body) > first:
            for _ in range(random.randint(1, 8)):
                body[random.randrange(first, len(body))] = random.randrange(256)
        elif harm == "cut" and len(body) > first:
            del body[random.randrange(first, len(body)) :]
        elif harm == "time":
            time_ms = random.choice((0, time_ms + random.randint(-5000, 5000), random.randrange(1 << 32)))
        elif harm == "twice":
            found.append(tag)
        if harm != "lost":
            found.append(flv.Tag(tag.kind, time_ms & 0xFFFFFFFF, bytes(body)))
    return found


def send(client: RtmpClient, tags: list[flv.Tag]) -> None:
    """Send until the node has read it, or has had enough."""
    with suppress(OSError, Gone):
        client.send_tags(tags)
        client.settle()


def watch(node: LiveNode, stack: ExitStack, name: str) -> None:
    """A viewer of each kind, none of which reads."""
    for path, fields in ((".flv", ""), (".ts", ""), (".mp4", ""), ("/index.m3u8", ""), ("/ws", UPGRADE)):
        sock = stack.enter_context(socket.create_connection(node.address("http"), timeout=20))
        sock.sendall(f"GET /live/{name}{path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
    stack.enter_context(RtmpClient(node.address("rtmp"))).ask_to_play(name)


def fetch_hls(node: LiveNode, name: str) -> int:
    """Every playlist, and every object that it says is there; how many objects."""
    stream, count = node.stream(name), 0
    if stream is None or stream["state"] != "live":
        return 0
    for path in ["", *(f"{track['name']}/" for track in stream["tracks"])]:
        answer = node.fetch(f"/live/{name}/{path}index.m3u8")
        assert answer.status in (200, 404)
        there = answer.text.partition("#EXT-X-PRELOAD-HINT")[0] if answer.status == 200 and path else ""
        there = re.sub(r".*GAP=YES.*|#EXT-X-GAP\n#EXTINF.*\n.*", "", there)  # what it says is not there
        for uri in re.findall(r"[\w.-]+\.m(?:4s|p4)", there):
            assert node.fetch(f"/live/{name}/{path}{uri}").status == 200
            count += 1
    return count


def test_damage_of_any_kind_hurts_nobody_else(node: LiveNode, clips: Clips) -> None:
    tags = {name: clips.tags(name, *arguments) for name, arguments in SOURCES.items()}
    objects = 0
    with Witness(node, STEADY):
        for seed in range(ROUNDS):
            random = Random(seed)
            sent = damaged(random, tags[random.choice(list(tags))])
            if random.random() < 0.3:
                later = damaged(random, tags[random.choice(list(tags))])
                sent = sent[: len(sent) // 2] + [
                    flv.Tag(tag.kind, (tag.time_ms + 2000) & 0xFFFFFFFF, tag.body) for tag in later
                ]
            name = f"damaged{seed % NAMES}"
            with ExitStack() as stack:
                client = stack.enter_context(RtmpClient(node.address("rtmp")))
                assert client.publish(name) == "NetStream.Publish.Start"
                send(client, sent[: len(sent) // 3])
                watch(node, stack, name)
                send(client, sent[len(sent) // 3 :])
                objects += fetch_hls(node, name)
            assert node.status()["faults"].keys() <= {"remote"}, f"seed {seed}: {node.log()[-3:]}"
    assert objects > 10 * ROUNDS, "most of them could be watched"
