"""An uplink with room for one edge, the tree that comes of it, and a node in the middle that stops."""

import signal
import time
from functools import partial

import m3u8
import pytest
from clips import Clips, publishing
from live_node import LiveNode, StartNode, until

pytestmark = pytest.mark.interop

STREAM = "cam"
PLAYLIST = f"/live/{STREAM}/v1/index.m3u8"
BUDGET_MBPS = 0.3  # the clip has 0.17 Mb/s, and links between nodes some kb/s
DRAIN_S = 8.0
LEAVES_S = 4.0  # edges are told at once


def network(start: StartNode) -> list[LiveNode]:
    settings = {"ingest__open": True, "hls__segment_s": 1}
    first = start("--name", "n0", "--uplink-mbps", str(BUDGET_MBPS), **settings)
    nodes = [first, start("--name", "n1", **settings, drain_s=DRAIN_S), start("--name", "n2", **settings)]
    line = first.cli_json("invite", "--uses", "5")["invite"]
    for node in nodes[1:]:
        node.cli("join", line)
    for node in nodes:
        until(lambda node=node: len(node.cli_json("peers")["peers"]) == 3, "all know each other")  # type: ignore[misc]  # bound early
    return nodes


def parent(node: LiveNode) -> str:
    place = (node.stream(STREAM) or {"place": None})["place"]
    return str(place["parent_name"]) if place else ""


def tree(node: LiveNode) -> dict[str, int]:
    """Depths by name, as that node knows them."""
    trees = node.cli_json("streams", "--tree")["trees"]
    return {row["name"]: row["depth"] for found in trees for row in found["nodes"]}


def is_measured(node: LiveNode) -> bool:
    tracks = (node.stream(STREAM) or {"tracks": []})["tracks"]
    return len(tracks) == 2 and all(track["bitrate_bps"] for track in tracks)


def test_budget_tree_and_drain(start: StartNode, clips: Clips) -> None:
    origin, middle, last = nodes = network(start)
    with publishing(origin, clips.long, STREAM, to_the_end=False):
        until(partial(is_measured, origin), "the bitrate is known")
        for depth, node in enumerate(nodes[1:], 1):
            until(lambda node=node, depth=depth: len(tree(node)) == depth, "the directory tells")  # type: ignore[misc]  # bound early
            until(lambda node=node: node.fetch(PLAYLIST).status == 200, "the edge has it")  # type: ignore[misc]  # bound early
        assert (parent(middle), parent(last)) == ("n0", "n1")
        until(lambda: tree(last) == {"n0": 0, "n1": 1, "n2": 2}, "the tree is told")
        shown = last.cli("streams", "--tree").stdout.splitlines()
        assert shown[0] == "cam: published on n0, 3 nodes"
        assert shown[2].startswith("└─ n1  1 hop") and shown[3].startswith("   └─ n2  2 hops")
        assert "from n1, 2 hops from n0" in last.cli("streams").stdout
        place = (origin.stream(STREAM) or {})["place"]
        assert not place["copy"] and [edge["name"] for edge in place["edges"]] == ["n1"]
        assert middle.status()["publishers"] == 0 and origin.status()["publishers"] == 1
        metrics = middle.fetch("/metrics", listener="admin").text
        assert "fwnode_replication_edges 1.0" in metrics and "fwnode_stream_publishers_total{" not in metrics

        began = time.monotonic()
        middle.signal(signal.SIGTERM)
        until(lambda: parent(last) == "n0", "the edge moved")
        print(f"moved after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < LEAVES_S
        until(lambda: "n1" not in tree(last), "nobody is sent to it any more")
        assert middle.process.wait(DRAIN_S + 5) == 0
        segments = m3u8.loads(last.fetch(PLAYLIST).text).segments
        assert len(segments) >= 2 and not any(segment.discontinuity for segment in segments)
        assert (last.stream(STREAM) or {})["place"]["skips"] == 0
