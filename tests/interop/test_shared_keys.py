"""A stream key made on one node and used on others: real nodes on loopback, ffmpeg publishing."""

import json
import re
import signal
import subprocess
import time
from functools import partial
from typing import Any

import pytest
from clips import FFMPEG_9, Clips, publishing
from live_node import LiveNode, StartNode, until

pytestmark = pytest.mark.interop

STREAM = "cam"
REVOKED_S = 5.0  # everywhere in a connected network; some milliseconds on an idle machine
KEY = re.compile(r"sk_[a-z2-7]{32}")


def api(node: LiveNode, method: str, path: str, body: object = None) -> Any:
    """What the control API answers; a command would take most of the time that is measured here."""
    connection = node.connect("admin")
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, f"/api/v1{path}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        data = response.read()
        assert response.status < 500, data
        return response.status, json.loads(data) if data else None
    finally:
        connection.close()


def make_key(node: LiveNode, **wanted: object) -> dict[str, str]:
    status, made = api(node, "POST", "/keys", wanted)
    assert status == 201
    return dict(made)


def key_view(node: LiveNode, key_id: str) -> dict[str, Any] | None:
    return next((key for key in api(node, "GET", "/keys")[1]["keys"] if key["id"] == key_id), None)


def lacks(node: LiveNode, key_id: str) -> bool:
    return key_view(node, key_id) is None


def notices_learned(node: LiveNode) -> int:
    return int(api(node, "GET", "/network")[1]["counters"]["membership_learned_notices"])


def is_refused(node: LiveNode, clips: Clips, key: str) -> bool:
    """Whether ffmpeg cannot publish with the key."""
    before = node.status()["publishers_refused"]
    command = (FFMPEG_9, "-nostdin", "-loglevel", "error", "-t", "0.2", "-i", str(clips.long), "-c", "copy")
    ran = subprocess.run(
        [*command, "-f", "flv", node.rtmp_url(key)], capture_output=True, timeout=60, check=False
    )
    return ran.returncode != 0 and int(node.status()["publishers_refused"]) > before


def is_linked(node: LiveNode, others: int) -> bool:
    peers = api(node, "GET", "/peers")[1]["peers"]
    return sum(peer["state"] == "connected" for peer in peers) >= others


@pytest.fixture(scope="module")
def nodes(start_for_module: StartNode) -> list[LiveNode]:
    """The owner's node, two others that take streams in, and one that may not."""
    nodes = [start_for_module("--name", name) for name in ("attic", "cellar", "den", "edge")]
    for node, roles in zip(nodes[1:], ((), (), ("edge", "relay")), strict=True):
        options = [part for role in roles for part in ("--role", role)]
        node.cli("join", nodes[0].cli_json("invite", *options)["invite"])
    for node in nodes:
        until(partial(is_linked, node, 3), "all are linked")
    return nodes


def test_a_key_works_elsewhere_and_dies_everywhere(nodes: list[LiveNode], clips: Clips) -> None:
    attic, cellar, den, edge = nodes
    first = KEY.search(attic.stdout)  # made before there was a network
    assert first is not None
    key = make_key(attic, stream=STREAM, label="mine")
    began = time.monotonic()
    until(lambda: key_view(den, key["id"]), "the key is known")
    print(f"works elsewhere after {time.monotonic() - began:.2f} s")
    seen = key_view(den, key["id"]) or {}
    assert (seen["node_name"], seen["made_here"], seen["local"], seen["label"]) == ("attic", False, False, "")
    listed = den.cli("key", "list").stdout
    assert re.search(rf"{key['id']}\tcam\t\tattic\t", listed), listed
    until(lambda: key_view(cellar, key["id"]), "the key is known on the third")

    with publishing(den, clips.long, key["key"], stream=STREAM, to_the_end=False):
        # Neither who has not made it nor who may not publish takes part in it.
        assert api(den, "DELETE", f"/keys/{key['id']}")[0] == 409
        refusal = cellar.cli("key", "revoke", key["id"], check=False)
        assert refusal.returncode == 1 and "was made on attic" in refusal.stderr
        assert is_refused(edge, clips, key["key"])
        assert api(attic, "DELETE", f"/keys/{key['id']}")[0] == 204
        began = time.monotonic()
        until(lambda: lacks(den, key["id"]), "the key is refused", REVOKED_S)
        print(f"refused elsewhere after {time.monotonic() - began:.2f} s")
        until(lambda: (den.stream(STREAM) or {"state": ""})["state"] != "live", "disconnected", REVOKED_S)
    until(lambda: lacks(cellar, key["id"]), "the key is refused on the third", REVOKED_S)
    assert is_refused(den, clips, key["key"])
    with publishing(cellar, clips.long, first[0], stream="live"):
        pass

    # What is local is nobody else's, and what den made the owner may revoke.
    kept = make_key(attic, local=True)
    other = make_key(den, stream="cam-*")
    until(lambda: key_view(attic, other["id"]), "den's key is known")
    assert key_view(den, kept["id"]) is None
    assert api(attic, "DELETE", f"/keys/{other['id']}")[0] == 204
    for node in (attic, cellar, den):
        until(partial(lacks, node, other["id"]), "the key is refused", REVOKED_S)
    assert is_refused(den, clips, other["key"])

    # A node that leaves takes its keys with it.
    left = make_key(cellar)
    until(lambda: key_view(den, left["id"]), "cellar's key is known")
    cellar.cli("leave")
    until(lambda: lacks(den, left["id"]), "cellar's key is refused", REVOKED_S)
    assert [key["node_name"] for key in api(cellar, "GET", "/keys")[1]["keys"]] == ["cellar", "cellar"]


def test_a_node_that_was_away(nodes: list[LiveNode], start_for_module: StartNode, clips: Clips) -> None:
    """Its disk says yes until a neighbour says no, also when who made and revoked the key is away by then.

    The neighbour need not be one that takes streams in.
    """
    attic, cellar, den, edge = nodes
    key, other = make_key(attic, stream=STREAM), make_key(attic, stream=STREAM)
    for wanted in (key, other):
        until(lambda wanted=wanted: key_view(den, wanted["id"]), "the key is known")
    assert den.stop(signal.SIGTERM) == 0
    assert cellar.stop(signal.SIGTERM) == 0
    told = notices_learned(edge)
    assert api(attic, "DELETE", f"/keys/{key['id']}")[0] == 204
    until(lambda: notices_learned(edge) > told, "the edge knows", REVOKED_S)
    attic.signal(signal.SIGKILL)

    again = start_for_module("--name", "den", data_dir=den.data_dir)
    assert key_view(again, other["id"]), "its disk says so"
    until(partial(is_linked, again, 1), "den is back")
    began = time.monotonic()
    until(lambda: lacks(again, key["id"]), "the key is refused", REVOKED_S)
    print(f"refused {time.monotonic() - began:.2f} s after it is linked again")
    assert is_refused(again, clips, key["key"])
    with publishing(again, clips.long, other["key"], stream=STREAM):
        pass  # its maker is away, and it works
