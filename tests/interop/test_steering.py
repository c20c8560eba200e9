"""Viewers of three nodes: each is sent where the formula says, and to none that is full or stops."""

import http.client
import json
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import mmdb
import pytest
from clips import Clips, publishing
from live_node import Answer, LiveNode, StartNode, until

pytestmark = pytest.mark.interop

STREAM = "cam"
BUDGET_MBPS = 1.0  # the clip has 0.17 Mb/s: room for a few viewers, and for edges beside them
DRAIN_S = 15.0
# Not farther apart than two configured places may be wrong: on loopback light refutes the rest.
PLACES = {"n0": (52.5, 13.4), "n1": (51.3, 12.4), "n2": (51.05, 13.75)}
NETWORKS = {"n0": "81.2.69.0/24", "n1": "89.160.20.0/24", "n2": "216.160.83.0/24"}


def viewer_near(name: str, number: int = 1) -> str:
    return NETWORKS[name].replace("0/24", str(number))


@pytest.fixture
def nodes(start: StartNode, tmp_path: Path) -> list[LiveNode]:
    records = {NETWORKS[name]: mmdb.city(*PLACES[name], "DE", name) for name in PLACES}
    database = tmp_path / "places.mmdb"
    database.write_bytes(mmdb.write(records))
    found = [launch(start, name, database) for name in PLACES]
    line = found[0].cli_json("invite", "--uses", "5")["invite"]
    for node in found[1:]:
        node.cli("join", line)
    return found


def launch(start: StartNode, name: str, database: Path) -> LiveNode:
    address = f"127.0.0.1:{free_port()}"
    options = ["--name", name, "--http", address]
    if name == "n1":
        options += ["--uplink-mbps", str(BUDGET_MBPS)]
    settings = {"drain_s": DRAIN_S} if name == "n2" else {}
    return start(
        *options,
        ingest__open=True,
        hls__segment_s=1,
        public_url=f"http://{address}",
        trusted_proxies="127.0.0.0/8",
        geoip__database=database,
        geoip__place=",".join(map(str, PLACES[name])),
        **settings,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ask(node: LiveNode, path: str, viewer: str) -> Answer:
    return node.fetch(path, x_forwarded_for=viewer, user_agent="test")


def lands_on(nodes: list[LiveNode], answer: Answer) -> str:
    """The name of the node that a redirect leads to."""
    assert answer.status == 307 and answer.header("cache-control") == "no-store", answer
    location = answer.header("location")
    names = [name for name, node in zip(PLACES, nodes, strict=True) if location.startswith(node.url(""))]
    return names[0] if names else "here"


def explain(node: LiveNode, viewer: str) -> dict[str, Any]:
    path = f"/api/v1/explain/{STREAM}?address={viewer}"
    answer = node.fetch(path, listener="admin")
    found: dict[str, Any] = json.loads(answer.body)
    return {each["name"]: each for each in found["candidates"]} if answer.status == 200 else {}


def standings(node: LiveNode, viewer: str) -> dict[str, str]:
    return {name: each["standing"] for name, each in explain(node, viewer).items()}


def watch_through(node: LiveNode) -> http.client.HTTPResponse:
    """A viewer who stays until the answer is closed, so that the node does not stop at once."""
    connection = node.connect()
    connection.request("GET", f"/live/{STREAM}.mp4")
    answer = connection.getresponse()
    assert answer.read(1000)
    return answer


def test_viewers_of_three_nodes(nodes: list[LiveNode], clips: Clips) -> None:
    with publishing(nodes[0], clips.long, STREAM, to_the_end=False):
        everybody = dict.fromkeys(PLACES, "room")
        for node in nodes:
            until(
                partial(lambda node: standings(node, viewer_near("n0")) == everybody, node), "all are known"
            )
        near_is_best(nodes)
        near_is_full(nodes)
        draining_is_left_out(nodes)
        counters = json.loads(nodes[0].fetch("/api/v1/steering", listener="admin").body)["counters"]
        assert counters["redirects"] > 3 and counters["unknown"] == 1 and counters["placed"] > 3
        assert b"fwnode_steering_redirects_total" in nodes[0].fetch("/metrics", listener="admin").body


def near_is_best(nodes: list[LiveNode]) -> None:
    """Round trips are measured, and a busy machine has odd ones: what is nearest holds soon, not at once."""
    for name in ("n1", "n2"):
        for asked in (nodes[0], nodes[2 if name == "n1" else 1]):
            lands = partial(lambda asked, name: sent_to(nodes, asked, viewer_near(name)) == name, asked, name)
            until(lands, f"a viewer near {name} lands there")
    until(lambda: sent_to(nodes, nodes[0], viewer_near("n0")) == "here", "a viewer near n0 stays")
    told = until(lambda: best_first(nodes[0], "n2"), "n2 is told first")
    assert len(told) == 3 and told[0]["urls"]["hls"] == nodes[2].url(f"/live/{STREAM}/index.m3u8")
    assert ask(nodes[0], "/play/nobody.m3u8", viewer_near("n2")).status == 404
    moved = ask(nodes[2], f"/live/{STREAM}/index.m3u8?moved={'0' * 8}", viewer_near("n2"))
    assert moved.status == 200 and moved.body.startswith(b"#EXTM3U")
    until(lambda: "behind n2, most of it by path" in explain(nodes[0], viewer_near("n2"))["n1"]["why"], "why")
    shown = nodes[0].cli("explain", STREAM, "--from", viewer_near("n2")).stdout
    assert shown.startswith(f"{STREAM}: n") and "the least cost" in shown and "81.2.69" not in shown


def sent_to(nodes: list[LiveNode], asked: LiveNode, viewer: str) -> str:
    return lands_on(nodes, ask(asked, f"/play/{STREAM}.m3u8", viewer))


def best_first(asked: LiveNode, name: str) -> list[dict[str, Any]]:
    """The nodes of /play/{stream} once that one is first."""
    found: list[dict[str, Any]] = json.loads(ask(asked, f"/play/{STREAM}", viewer_near(name)).body)["nodes"]
    return found if found[0]["name"] == name else []


def near_is_full(nodes: list[LiveNode]) -> None:
    """A crowd is spread before the load is seen, and whoever comes to a full node by itself goes on."""
    crowd = [sent_to(nodes, nodes[0], viewer_near("n1", number)) for number in range(10, 30)]
    assert crowd.count("n1") < 15 and crowd[-1] in ("here", "n2"), crowd
    behind = explain(nodes[0], viewer_near("n1", 99))["n1"]
    assert behind["terms"]["uplink"] > 0.1 and "uplink" in behind["why"]
    newcomers = iter(range(100, 200))

    def sent_on() -> Answer | None:
        answer = ask(nodes[1], f"/watch/{STREAM}", viewer_near("n1", next(newcomers)))
        return answer if answer.status == 307 else None

    away = until(sent_on, "those who come by themselves fill it")
    assert lands_on(nodes, away) in ("n0", "n2") and "moved=" in away.header("location")
    stays = ask(nodes[1], f"/watch/{STREAM}?moved=aaaaaaaa.bbbbbbbb", viewer_near("n1", 97))
    assert stays.status == 200


def draining_is_left_out(nodes: list[LiveNode]) -> None:
    staying = watch_through(nodes[2])
    nodes[2].signal(signal.SIGTERM)
    viewer = viewer_near("n2", 50)
    until(lambda: explain(nodes[0], viewer).get("n2", {}).get("why") == "it is draining", "it says so")
    assert lands_on(nodes, ask(nodes[0], f"/play/{STREAM}.m3u8", viewer)) != "n2"
    assert lands_on(nodes, ask(nodes[2], f"/watch/{STREAM}", viewer)) in ("n0", "n1")
    staying.close()
