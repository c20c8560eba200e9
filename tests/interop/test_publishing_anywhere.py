"""A streamer who comes back on another node, and two who publish one name: real nodes, ffmpeg publishing."""

import signal
import subprocess
import time

import pytest
from clips import FFMPEG_9, Clips, publishing
from hls_viewer import HlsViewer
from live_node import LiveNode, StartNode, until
from networks import await_carried, network

pytestmark = pytest.mark.interop

STREAM = "cam"
FOLDER = f"/live/{STREAM}/v1/"
AWAY_S = 2.0  # until an encoder connects again
LEAST_SHARED = 6  # two segments with their parts
PAUSE_MAX_S = 10.0  # for what takes three on an idle machine


def breaks(*viewers: HlsViewer) -> bool:
    """All have seen segments of two epochs."""
    return all(len(viewer.breaks) == 2 and _newest_break(viewer) >= 3 for viewer in viewers)


def _newest_break(viewer: HlsViewer) -> int:
    newest = viewer.breaks[-1]
    return sum(discontinuity == newest for discontinuity, _ in viewer.numbers.values())


def assert_same(*viewers: HlsViewer) -> None:
    """What several have under one name is the same."""
    for viewer in viewers[1:]:
        shared = viewers[0].objects.keys() & viewer.objects.keys()
        assert len(shared) >= LEAST_SHARED
        assert all(viewers[0].objects[name] == viewer.objects[name] for name in shared)
        numbers = viewers[0].numbers.keys() & viewer.numbers.keys()
        assert all(viewers[0].numbers[number] == viewer.numbers[number] for number in numbers)


def test_the_origin_is_killed_and_the_streamer_comes_to_another_node(start: StartNode, clips: Clips) -> None:
    """To one that had nothing of it. Nobody who watches notices more than a discontinuity."""
    nodes = network(start, 3)
    with publishing(nodes[0], clips.long, STREAM, to_the_end=False):
        await_carried(nodes[2], "n0", STREAM)
        viewer = HlsViewer(nodes[2], FOLDER)
        until(lambda: len(viewer.numbers) >= 3, "segments on n2")
        nodes[0].signal(signal.SIGKILL)
        killed_at = time.monotonic()
        time.sleep(AWAY_S)
    with publishing(nodes[1], clips.long, STREAM):
        other = HlsViewer(nodes[1], FOLDER)
        before = viewer.new_at
        until(lambda: viewer.new_at > before, "something new on n2")
        print(f"new media on n2 {viewer.new_at - killed_at:.1f} s after n0 was killed")
        until(lambda: breaks(viewer), "three segments of the new epoch")
        for each in (viewer, other):
            each.stop()
        viewer.assert_undisturbed()
    assert_same(viewer, other)
    assert len(viewer.gaps) <= 2, viewer.gaps
    assert viewer.breaks == [0, 1]


def test_two_publishers_of_one_name(start: StartNode, clips: Clips) -> None:
    """The later one wins; who watches on the node of the other goes on, and its encoder is told why."""
    nodes = network(start, 3)
    with publishing(nodes[0], clips.long, STREAM, to_the_end=False):
        await_carried(nodes[2], "n0", STREAM)
        viewers = [HlsViewer(nodes[0], FOLDER), HlsViewer(nodes[2], FOLDER)]
        until(lambda: all(len(viewer.numbers) >= 2 for viewer in viewers), "segments on n0 and n2")
        with publishing(nodes[1], clips.long, STREAM):
            began_at = time.monotonic()
            nodes[0].await_log("publisher left", reason="published on node n1 now")
            assert "another node" in refusal(nodes[0], clips)
            until(lambda: breaks(*viewers), "three segments of the new epoch")
            print(f"three segments of the new epoch after {time.monotonic() - began_at:.1f} s")
            for viewer in viewers:
                viewer.stop()
                viewer.assert_undisturbed()
            assert not viewers[0].gaps and not viewers[1].gaps
            assert (nodes[0].stream(STREAM) or {})["source"]["protocol"] == "mesh"
    assert_same(*viewers)


def refusal(node: LiveNode, clips: Clips) -> str:
    """What an encoder that connects there is told."""
    subprocess.run(
        [FFMPEG_9, "-re", "-i", str(clips.long), "-c", "copy", "-f", "flv", node.rtmp_url(STREAM)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PAUSE_MAX_S,
        check=False,
    )
    return str(node.await_log("publisher refused", reason="another node")["reason"])


def test_one_node_of_a_network_has_the_demo(start: StartNode) -> None:
    nodes = network(start, 2, "--demo")
    until(lambda: sorted(protocols(nodes)) == ["demo", "mesh"], "one publishes it, one has it from there")
    winner = next(node for node in nodes if protocols([node]) == ["demo"])
    loser = next(node for node in nodes if node is not winner)
    winner.signal(signal.SIGTERM)
    until(lambda: protocols([loser]) == ["demo"], "the other one takes over")


def protocols(nodes: list[LiveNode]) -> list[str]:
    """How each node has the demo; they are asked for it as a viewer asks."""
    found = []
    for node in nodes:
        node.fetch("/live/demo.ts", method="HEAD")
        stream = node.stream("demo") or {}
        found.append((stream.get("source") or {"protocol": ""})["protocol"])
    return found
