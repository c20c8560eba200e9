"""A stream published on one node and watched on others: real nodes on loopback, ffmpeg publishing."""

import hashlib
import itertools
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import m3u8
import pytest
from clips import FPS, Clips, decoded_frames, publishing
from live_node import PATIENCE_S, LiveNode, StartNode, until
from networks import await_carried, network
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, Request

pytestmark = pytest.mark.interop

STREAM = "cam"
FOLDER = f"/live/{STREAM}/v1/"
FAST_S = 1.0  # for a 404; some milliseconds when the machine is idle
ENDS_S = 15.0  # for a stream whose origin was killed
VIEWERS = 40
STALL_MAX_S = 2.0  # between two parts; 0.7 s on an idle machine, where one comes every third of a second
BEFORE_S, AFTER_S = 1.5, 2.5  # watched around a parent's end
DEEP = """
import sys
from fwnode.cli import main
from mesh.routing import parents

parents.DEPTH_MS = -100.0  # takes streams from edges rather than from origins: more than all else on loopback
sys.argv = sys.argv[sys.argv.index("fwnode") :]
main()
"""


@pytest.fixture
def nodes(start: StartNode) -> list[LiveNode]:
    """Three members of one network; the first made it."""
    return network(start, 3)


def objects(node: LiveNode) -> dict[str, str]:
    """Hashes of everything whole that the media playlist names, by address."""
    answer = node.fetch(FOLDER + "index.m3u8")
    assert answer.status == 200, answer.text
    playlist = m3u8.loads(answer.text)
    names = [section.uri for section in playlist.segment_map]
    for segment in playlist.segments:
        names += [part.uri for part in segment.parts] + ([segment.uri] if segment.uri else [])
    found = {}
    for name in names:
        body = node.fetch(FOLDER + name)
        if body.status == 200:
            found[name] = hashlib.sha256(body.body).hexdigest()
    return found


def segments(node: LiveNode) -> int:
    answer = node.fetch(FOLDER + "index.m3u8")
    return len(m3u8.loads(answer.text).segments) if answer.status == 200 else 0


@pytest.fixture
def published(nodes: list[LiveNode], clips: Clips) -> Iterator[list[LiveNode]]:
    with publishing(nodes[0], clips.long, STREAM, to_the_end=False):
        for node in nodes[1:]:
            await_carried(node, "n0", STREAM)
        yield nodes


def test_every_node_serves_the_same_bytes(published: list[LiveNode]) -> None:
    """Also to a hundred first viewers at once, with one fetch; and what nobody has is 404 fast."""
    origin, edge, late = published
    began = time.monotonic()
    with ThreadPoolExecutor(VIEWERS) as pool:
        answers = list(pool.map(lambda _: edge.fetch(f"/live/{STREAM}/index.m3u8"), range(VIEWERS)))
    assert {answer.status for answer in answers} == {200}
    print(f"first picture for {VIEWERS} after {time.monotonic() - began:.2f} s")
    fetches = [line for line in edge.log() if line["event"] == "stream fetched"]
    assert len(fetches) == 1, fetches
    until(lambda: segments(edge) >= 4, "four segments on the edge")
    objects(late)  # joins later than the other
    until(lambda: segments(late) >= 4, "four segments on the late one")
    compared = [objects(node) for node in (origin, edge, late)]
    shared = set(compared[0]) & set(compared[1]) & set(compared[2])
    print(f"{len(shared)} objects are on all nodes")
    assert len(shared) >= 10
    assert any("init" in name for name in shared)
    for name in shared:
        assert len({found[name] for found in compared}) == 1, name

    began = time.monotonic()
    for path in ("/live/nobody/index.m3u8", "/live/nobody/v1/1.m4s", "/live/nobody.ts"):
        assert edge.fetch(path).status == 404
    assert time.monotonic() - began < FAST_S
    assert edge.stream("nobody") is None


def await_fragment(node: LiveNode) -> None:
    """A WebSocket brings a fragment of the stream."""
    protocol = WSConnection(ConnectionType.CLIENT)
    host, port = node.address("http")
    with socket.create_connection((host, port), timeout=PATIENCE_S) as sock:
        sock.sendall(protocol.send(Request(host=f"{host}:{port}", target=f"/live/{STREAM}/ws")))
        binaries = bytearray()
        while b"moof" not in binaries:
            data = sock.recv(65536)
            assert data, "the socket ended"
            protocol.receive_data(data)
            for event in protocol.events():
                if isinstance(event, BytesMessage):
                    binaries += event.data


def test_every_way_to_watch_fetches_it(start: StartNode, clips: Clips) -> None:
    origin, *edges = network(start, 4)
    with publishing(origin, clips.long, STREAM, to_the_end=False):
        for edge in edges:
            await_carried(edge, "n0", STREAM)
        assert decoded_frames(edges[0].rtmp_url(STREAM), seconds=1) >= FPS - 1
        assert decoded_frames(edges[1].url(f"/live/{STREAM}.ts"), seconds=1) >= FPS - 1
        await_fragment(edges[2])
        for edge in edges:
            assert (edge.stream(STREAM) or {})["source"]["protocol"] == "mesh"


def test_the_origin_dies(published: list[LiveNode]) -> None:
    origin, edge, _ = published
    until(lambda: segments(edge) >= 2, "segments on the edge")
    origin.signal(signal.SIGKILL)
    began = time.monotonic()
    edge.await_stream(STREAM, "ended")
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < ENDS_S
    assert "#EXT-X-ENDLIST" in edge.fetch(FOLDER + "index.m3u8").text


def test_the_publisher_goes(start: StartNode, clips: Clips) -> None:
    origin, edge = network(start, 2)
    with publishing(origin, clips.long, STREAM, to_the_end=False):
        await_carried(edge, "n0", STREAM)
        until(lambda: segments(edge) >= 2, "segments on the edge")
    edge.await_stream(STREAM, "ended")
    assert objects(edge).items() <= objects(origin).items()
    assert m3u8.loads(edge.fetch(FOLDER + "index.m3u8").text).is_endlist


class PartViewer(threading.Thread):
    """A player of LL-HLS: asks for each part when it is due. Leaves out no segment, or fails."""

    def __init__(self, node: LiveNode) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.numbers: list[tuple[int, int]] = []
        self.came_at: list[float] = []
        self.enough = threading.Event()
        self.trouble = ""

    def run(self) -> None:
        playlist = m3u8.loads(self.node.fetch(FOLDER + "index.m3u8").text)
        msn, part = playlist.media_sequence + len(playlist.segments) - 1, 0
        with closing(self.node.connect()) as connection:
            while not self.enough.is_set():
                connection.request("GET", f"{FOLDER}{msn}.{part}.m4s")
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.numbers.append((msn, part))
                    self.came_at.append(time.monotonic())
                    part += 1
                elif part:
                    msn, part = msn + 1, 0
                else:
                    self.trouble = f"{msn}.{part} is {answer.status}"
                    return

    def longest_pause_s(self) -> float:
        return max(after - before for before, after in itertools.pairwise(self.came_at))


def parent_of(node: LiveNode) -> str:
    """Whom it takes the stream from, by its log."""
    return str([line["peer"] for line in node.log() if line["event"] == "stream fetched"][-1])


def test_a_parent_falls_silent_the_next_is_killed(
    start: StartNode, running_node: Any, tmp_path: Path, clips: Clips
) -> None:
    """Whoever watches on its child sees hardly a pause, and every segment."""
    origin, *middle = network(start, 3)
    invite = origin.cli_json("invite")["invite"]
    options = ("--name", "deep", "--set", "hls.segment_s=1", "--set", "drain_s=0")
    deep = LiveNode(running_node(tmp_path / "deep", *options, prefix=(sys.executable, "-c", DEEP)))
    try:
        deep.cli("join", invite)
        with publishing(origin, clips.long, STREAM, to_the_end=False):
            by_name = {"n1": middle[0], "n2": middle[1]}
            for name, node in by_name.items():
                await_carried(node, "n0", STREAM)
                until(partial(segments, node), "a segment on an edge")
                await_carried(deep, name, STREAM)
            until(partial(segments, deep), "a segment below them")
            viewer = PartViewer(deep)
            viewer.start()
            for how in (signal.SIGSTOP, signal.SIGKILL):
                time.sleep(BEFORE_S)
                by_name[parent_of(deep)].signal(how)
                time.sleep(AFTER_S)
            viewer.enough.set()
            viewer.join(PATIENCE_S)
            for node in middle:
                node.process.kill()
            assert not viewer.trouble
            pause_s = viewer.longest_pause_s()
            print(f"{len(viewer.numbers)} parts, longest pause {pause_s:.2f} s, then from {parent_of(deep)}")
            assert {msn for msn, _ in viewer.numbers} == set(
                range(viewer.numbers[0][0], viewer.numbers[-1][0] + 1)
            )
            assert pause_s < STALL_MAX_S
            assert parent_of(deep) == "n0"
    finally:
        deep.finish()
