"""The private listener's application, called without a socket."""

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from fwnode import config
from fwnode.admin.access import Access
from fwnode.admin.feed import Feed
from fwnode.admin.server import dashboard, make_app
from fwnode.admin.service import Api
from fwnode.config import Config
from fwnode.errors import StoreError
from fwnode.gate import NodeGate
from fwnode.keys import Keyring, StreamKey
from fwnode.network import Network
from fwnode.node import Node
from fwnode.password import hash_password
from fwnode.promise.service import Keeping
from fwnode.replication.model import (
    Counters,
    EdgeView,
    StreamPlace,
    StreamTree,
    TreeList,
    TreeNode,
    UplinkView,
)
from fwnode.store import Database
from media.ingest.gate import PublishRequest
from media.net.reactor import Reactor
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.errors import Unavailable as MeshUnavailable
from mesh.identity.store import IdentityStore
from mesh.identity.store import StoreError as IdentityStoreError
from mesh.model import NodeId
from mesh.node.model import (
    MeshStatus,
    NatStatus,
    PeerLoad,
    PeerPlace,
    PeerView,
    RefusedPeer,
    SecondOpinion,
)
from mesh.node.speed.model import SpeedPath, SpeedResult

TOKEN = "t" * 43


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def make_network(folder: Path, name: str) -> Network:
    return Network(
        IdentityStore(folder),
        PeersFile(folder / FILE_NAME),
        name=name,
        program="fwnode 0",
        unix_s=lambda: 1_700_000_000.0,
        entropy=os.urandom,
        addresses=lambda: ["192.0.2.1:7077"],
    )


class Mesh:
    """Stands for a mesh that runs."""

    def __init__(self) -> None:
        place = PeerPlace(52.5, 13.4, "DE", "city", "")
        self._peer = PeerView(
            *("cellar", "ab" * 32, "connected", "lan", "10.0.0.2:7077", 12.5, place, "open"),
            *(PeerLoad(0.1, 1000, 0, 2, 0), ["cam"], ["edge"], "fwnode 0", 1_700_000_000, "", 0.25),
        )
        refused = [RefusedPeer("10.0.0.3", "", "expired", True, 4, 1_700_000_000)]
        self._status = MeshStatus(
            *("cd" * 32, True, "ef" * 32, "here", ["edge"], 1_800_000_000, 2, 1, [], refused),
            {"gossip_bytes_out": 7, "refused": 4},
            NatStatus(True, "consistent", tcp="closed", counters={"nat_punched": 5}),
        )
        self.asked = 0

    def peers(self) -> list[PeerView]:
        return [self._peer, msgspec.structs.replace(self._peer, node="99" * 32), UNLINKED]

    def status(self) -> MeshStatus:
        return self._status

    def addresses(self) -> list[str]:
        return ["10.0.0.1:7077"]

    async def second_opinion(self) -> SecondOpinion:
        self.asked += 1
        if self.asked > 1:
            raise MeshUnavailable("nobody answers", 1.0)
        return SecondOpinion("some NAT", "198.51.100.7:9", ["192.0.2.1:7077"], 5)

    async def speed_test(self, peer: NodeId, total: int) -> SpeedResult:
        paths = [SpeedPath("lan", 0)]
        return SpeedResult(
            peer.hex(), "loft", total, True, 1.0, total, 0.1, 0.1, 1, 0, 0, paths, "ab" * 32, True
        )


UNLINKED = PeerView(
    *("loft", "77" * 32, "known", "", "", None, None, ""), *(None, [], [], "", 1_700_000_000, "")
)


class Client:
    """A node with a database and nothing that listens."""

    def __init__(self, folder: Path, loaded: Config) -> None:
        self.database = Database(folder)
        self.reactor = Reactor(lambda kind, error, peer: None)
        self.ring = Keyring()
        streams = Streams(
            RegistrySettings(linger_s=0.0), call_at=self.reactor.call_at, measure=lambda track, data: None
        )
        gate = NodeGate(self.ring, streams, open_ingest=False, reserved=frozenset(), unix_us=lambda: 10**15)
        self.network = make_network(folder / "identity", loaded.name)
        self.node = Node(
            loaded, self.network, self.ring, streams, gate, self.reactor, self.reactor.now(), 10**9
        )
        api = Api(self.node, self.database, Keeping(self.node, self.database))
        self.feed = Feed(streams, api.snapshot)
        streams.subscribe(self.feed.stream_changed)
        access = Access(needs_password=bool(loaded.admin_password_hash), token=TOKEN, memory_key=b"k" * 32)
        self.app = make_app(self.node, api, self.feed, access)

    def close(self) -> None:
        self.database.close()

    async def __call__(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None, **headers: str
    ) -> Answer:
        answer = Answer()
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        sent = {"host": "127.0.0.1:7078"} | ({"content-type": "application/json"} if data else {})
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await self.app(scope(method, path, sent), receive, send)
        return answer

    def publish(self, key: str, stopped: Callable[[str], None]) -> None:
        request = PublishRequest("rtmp", key, "", "192.0.2.1", 9, "obs")
        self.node.gate.publish(request, stopped, self.reactor.now())


def scope(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def load(**values: str) -> Config:
    return config.load({"name": "here", "data_dir": "/data"}, "", "", {}, values)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path, load())
    yield made
    made.close()


async def test_status_and_streams(client: Client) -> None:
    status = await client("GET", "/api/v1/status")
    assert status.status == 200 and status.json["state"] == "ready" and status.json["name"] == "here"
    assert status.headers["cache-control"] == "no-store"
    assert (await client("GET", "/api/v1/streams")).json == {"streams": []}
    assert (await client("GET", "/api/v1/streams/x")).status == 404


async def test_a_key_publishes_until_it_is_revoked(client: Client) -> None:
    made = await client("POST", "/api/v1/keys", {"stream": "cam", "label": "stage"})
    assert made.status == 201
    key = made.json
    listed = (await client("GET", "/api/v1/keys")).json["keys"]
    assert [entry["id"] for entry in listed] == [key["id"]] and key["key"] not in str(listed)
    reasons: list[str] = []
    client.publish(key["key"], reasons.append)
    assert (await client("GET", "/api/v1/streams/cam")).json["source"]["key_id"] == key["id"]
    assert (await client("DELETE", f"/api/v1/keys/{key['id']}")).status == 204
    assert reasons == ["the stream key was revoked"]
    assert len(client.database.keyring()) == 0 and client.ring.match(key["key"]) is None
    assert (await client("DELETE", f"/api/v1/keys/{key['id']}")).status == 404


async def test_a_publisher_is_disconnected(client: Client) -> None:
    key = (await client("POST", "/api/v1/keys", {})).json["key"]
    reasons: list[str] = []
    client.publish(key, reasons.append)
    assert (await client("DELETE", "/api/v1/streams/live")).status == 204
    assert reasons == ["the node's operator stopped this stream"]
    assert (await client("DELETE", "/api/v1/streams/live")).status == 404


@pytest.mark.parametrize(
    ("raw", "status", "says"),
    [
        (b'{"stream": "A"}', 400, "stream pattern"),
        (b'{"stream": 5}', 400, "Expected `str`"),
        (b'{"streams": "a"}', 400, "unknown field"),
        (b"{", 400, "cannot be used"),
        (b'{"label": "%s"}' % (b"x" * 81), 400, "length <= 80"),
        (b'"%s"' % (b"x" * 70_000), 413, "longer than"),
    ],
)
async def test_bad_bodies(client: Client, raw: bytes, status: int, says: str) -> None:
    answer = await client("POST", "/api/v1/keys", raw=raw)
    assert answer.status == status and says in answer.json["message"]
    assert len(client.ring) == 0


async def test_drain_pause_and_resume(client: Client) -> None:
    drained = await client("POST", "/api/v1/promise/drain", {"roles": ["viewers"], "for_s": 3600})
    assert drained.status == 200 and list(drained.json["drain"]) == ["viewers"]
    again = await client("POST", "/api/v1/promise/drain", {})
    assert again.json["drain"] == {"viewers": 0.0, "publishers": 0.0, "edges": 0.0}
    paused = await client("POST", "/api/v1/promise/pause", {})
    assert paused.json["paused_until_unix_s"] == 0.0
    assert client.database.promise().holds == client.node.promise.holds, "it is on disk"
    status = (await client("GET", "/api/v1/status")).json
    assert status["state"] == "draining" and status["promise"]["state"] == "draining"
    resumed = await client("POST", "/api/v1/promise/resume")
    assert resumed.json["state"] == "open" and not client.database.promise().holds.any
    assert (await client("GET", "/api/v1/promise")).json == resumed.json


@pytest.mark.parametrize(
    "raw", [b'{"roles": ["everybody"]}', b'{"for_s": 0}', b'{"for_s": 1e12}', b'{"until": 1}', b"[]"]
)
async def test_bad_drains(client: Client, raw: bytes) -> None:
    answer = await client("POST", "/api/v1/promise/drain", raw=raw)
    assert answer.status == 400 and not client.node.promise.holds.any


async def test_a_form_cannot_post(client: Client) -> None:
    answer = await client("POST", "/api/v1/keys", raw=b'{"stream":"*"}', content_type="text/plain")
    assert answer.status == 415


async def test_keys_of_other_nodes(client: Client) -> None:
    local = (await client("POST", "/api/v1/keys", {"local": True})).json
    assert local["local"] is True
    attic, cellar = bytes([1]) * 32, bytes([2]) * 32
    others = [
        StreamKey("aaaaaaaa", attic, "cam-*", "", 1, maker=attic, maker_name="attic"),
        StreamKey("bbbbbbbb", attic, "*", "", 2, maker=attic, maker_name="attic"),
        StreamKey("bbbbbbbb", cellar, "*", "", 3, maker=cellar, maker_name="cellar"),
    ]
    client.ring.set_foreign(others)
    listed = (await client("GET", "/api/v1/keys")).json["keys"]
    assert [(key["id"], key["node_name"], key["made_here"], key["local"]) for key in listed] == [
        (local["id"], listed[0]["node_name"], True, True),
        ("aaaaaaaa", "attic", False, False),
        ("bbbbbbbb", "attic", False, False),
        ("bbbbbbbb", "cellar", False, False),
    ]
    assert listed[1]["node"] == attic.hex()
    answer = await client("DELETE", "/api/v1/keys/aaaaaaaa")
    assert (answer.status, answer.json["error"]) == (409, "made_elsewhere")
    assert "attic (01010101)" in answer.json["message"] and "owner" in answer.json["message"]
    answer = await client("DELETE", "/api/v1/keys/bbbbbbbb")
    assert (answer.status, answer.json["error"]) == (409, "ambiguous")
    assert f"bbbbbbbb@{cellar.hex()[:16]}" in answer.json["message"]
    assert len(client.ring.foreign()) == 3

    # With the owner key, which comes with a network that is made here.
    assert (await client("POST", "/api/v1/network/invites", {})).status == 201
    assert (await client("DELETE", f"/api/v1/keys/bbbbbbbb@{cellar.hex()[:16]}")).status == 204
    assert [key.maker_name for key in client.ring.foreign()] == ["attic", "attic"]
    assert client.node.network.membership.revocations.is_revoked(cellar)
    assert (await client("DELETE", "/api/v1/keys/bbbbbbbb")).status == 204
    assert (await client("DELETE", "/api/v1/keys/bbbbbbbb")).status == 404


async def test_a_full_disk_changes_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, local: bool) -> None:
        raise StoreError("disk is full: free some space")

    monkeypatch.setattr(client.database, "new_key", full)
    answer = await client("POST", "/api/v1/keys", {})
    assert answer.status == 503 and "free some space" in answer.json["message"]
    assert len(client.ring) == 0


async def test_other_hosts_and_origins_are_refused(client: Client) -> None:
    assert (await client("GET", "/api/v1/status", host="evil.example")).status == 403
    answer = await client("POST", "/api/v1/keys", {}, origin="https://evil.example")
    assert answer.status == 403 and answer.json["error"] == "cross_origin"
    assert len(client.ring) == 0


async def test_unknown_paths_and_methods(client: Client) -> None:
    assert (await client("GET", "/api/v1/nothing")).json["error"] == "not_found"
    assert (await client("PUT", "/api/v1/keys")).status == 405


async def test_config_masks_secrets(tmp_path: Path) -> None:
    encoded = hash_password("secret", b"s" * 16)
    loaded = config.load(
        {"name": "here", "data_dir": "/data"}, "", "", {"FWNODE_ADMIN_PASSWORD_HASH": encoded}, {}
    )
    client = Client(tmp_path, loaded)
    answer = await client("GET", "/api/v1/config", authorization=f"Bearer {TOKEN}")
    assert encoded not in answer.body.decode()
    shown = {entry["key"]: entry for entry in answer.json["settings"]}
    assert shown["admin_password_hash"]["value"] == "***"
    assert shown["admin_password_hash"]["origin"] == "FWNODE_ADMIN_PASSWORD_HASH"
    client.close()


async def test_passwords(tmp_path: Path) -> None:
    encoded = hash_password("secret", b"s" * 16)
    loaded = config.load(
        {"name": "here", "data_dir": "/data"}, "", "", {"FWNODE_ADMIN_PASSWORD_HASH": encoded}, {}
    )
    client = Client(tmp_path, loaded)
    refused = await client("GET", "/metrics")
    assert refused.status == 401 and refused.headers["www-authenticate"].startswith("Basic")
    for password, status in (("secret", 200), ("secret", 200), ("wrong", 401), ("", 401)):
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        answer = await client("GET", "/metrics", host="node.example", authorization=f"Basic {credentials}")
        assert answer.status == status
    client.close()


async def test_metrics_parse_and_carry_units(client: Client) -> None:
    key = (await client("POST", "/api/v1/keys", {})).json["key"]
    client.publish(key, lambda reason: None)
    text = (await client("GET", "/metrics")).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    states = {sample.labels["state"]: sample.value for sample in families["fwnode_streams"].samples}
    assert states == {"starting": 1.0, "live": 0.0, "lingering": 0.0, "ended": 0.0}
    for family in families.values():
        assert family.documentation.endswith(".")
        assert re.fullmatch(r"(fwnode|process)_[a-z_]+", family.name)
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


async def test_a_node_alone_makes_a_network_and_leaves_it(client: Client) -> None:
    assert (await client("GET", "/api/v1/network")).json["network"] == ""
    assert [peer["path"] for peer in (await client("GET", "/api/v1/peers")).json["peers"]] == ["self"]
    assert (await client("DELETE", "/api/v1/network")).status == 409
    made = await client("POST", "/api/v1/network/invites", {"uses": 2, "roles": ["edge"], "expires_s": 3600})
    assert made.status == 201 and made.json["expires_unix_s"] == 1_700_003_600
    assert (made.json["seeds"], made.json["roles"]) == (["192.0.2.1:7077"], ["edge"])
    status = (await client("GET", "/api/v1/network")).json
    assert status["owner"] and status["network"] == made.json["network"] and status["members"] == 1
    assert (await client("DELETE", "/api/v1/network")).status == 204
    assert (await client("GET", "/api/v1/network")).json["network"] == ""


async def test_joining_and_being_revoked(client: Client, tmp_path: Path) -> None:
    owner = Client(tmp_path / "identity", load(name="attic"))
    line = (await owner("POST", "/api/v1/network/invites", {})).json["invite"]
    joined = await client("POST", "/api/v1/network/join", {"invite": line, "name": "cellar"})
    assert joined.status == 200 and joined.json["name"] == "cellar" and joined.json["notes"] == []
    again = await client("POST", "/api/v1/network/join", {"invite": line[:-1]})
    assert again.status == 400 and "cut off" in again.json["message"]
    no_owner = await client("POST", "/api/v1/network/revocations", {"node": "attic"})
    assert no_owner.status == 409 and "owner" in no_owner.json["message"]
    key = client.network.node_key.node_id.hex()
    revoked = await owner("POST", "/api/v1/network/revocations", {"node": key})
    assert (revoked.status, revoked.json["node"]) == (201, key)
    owner.close()


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("invites", {"roles": ["king"]}, 400, "king"),
        ("invites", {"uses": 0}, 400, ">= 1"),
        ("invites", {"expires_s": 1}, 400, ">= 60"),
        ("invites", {"seeds": ["x"]}, 409, "seeds are at most"),
        ("join", {"invite": "hello"}, 400, "begins with fwinvite1"),
        ("join", {"invite": "x" * 20_000}, 400, "length"),
        ("revocations", {"node": "x"}, 409, "in no network"),
        ("owner-export", {"passphrase": "0123456789"}, 409, "no owner key"),
        ("owner-import", {"passphrase": "0123456789", "line": "x"}, 400, "fwowner1"),
    ],
)
async def test_what_a_network_refuses(client: Client, path: str, body: Any, status: int, says: str) -> None:
    answer = await client("POST", f"/api/v1/network/{path}", body)
    assert (answer.status, says in answer.json["message"]) == (status, True), answer.json
    assert client.network.membership is None


async def test_the_owner_key_travels(client: Client, tmp_path: Path) -> None:
    await client("POST", "/api/v1/network/invites", {})
    short = await client("POST", "/api/v1/network/owner-export", {"passphrase": "short"})
    assert short.status == 409 and "at least 10" in short.json["message"]
    line = (await client("POST", "/api/v1/network/owner-export", {"passphrase": "0123456789"})).json["line"]
    other = Client(tmp_path / "identity", load(name="attic"))
    wrong = await other("POST", "/api/v1/network/owner-import", {"passphrase": "9876543210", "line": line})
    assert wrong.status == 409 and other.network.membership is None
    moved = await other("POST", "/api/v1/network/owner-import", {"passphrase": "0123456789", "line": line})
    assert moved.status == 200 and other.network.owner_key == client.network.owner_key
    other.close()


async def test_a_disk_that_is_full_makes_no_network(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise IdentityStoreError("disk is full: free some space")

    monkeypatch.setattr(IdentityStore, "keep_membership", full)
    answer = await client("POST", "/api/v1/network/invites", {})
    assert answer.status == 503 and "free some space" in answer.json["message"]
    assert client.network.membership is None


async def test_a_running_mesh_is_shown(client: Client) -> None:
    client.network.mesh = Mesh()
    peers = (await client("GET", "/api/v1/peers")).json["peers"]
    assert [peer["name"] for peer in peers] == ["cellar", "cellar", "loft"]
    snapshot = client.feed.join(lambda: None).take()
    assert b'"network":{"network":"cdcd' in snapshot and b'"path":"lan"' in snapshot
    text = (await client("GET", "/metrics")).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: families[name].samples[0].value for name in families if name.startswith("fwnode_mesh")} == {
        "fwnode_mesh_members": 2,
        "fwnode_mesh_links": 1,
        "fwnode_mesh_gossip_bytes_out": 7,
        "fwnode_mesh_refused": 4,
        "fwnode_mesh_refusals": 4,
        "fwnode_mesh_rtt_seconds": 0.0125,
        "fwnode_mesh_loss_ratio": 0.25,
        "fwnode_mesh_nat_punched": 5,
        "fwnode_mesh_paths": 2,
        "fwnode_mesh_router": 1,
    }
    paths = {sample.labels["path"]: sample.value for sample in families["fwnode_mesh_paths"].samples}
    assert paths == {"lan": 2, "direct": 0, "mapped": 0, "punched": 0, "relayed": 0}
    [router] = families["fwnode_mesh_router"].samples
    assert router.labels == {"kind": "consistent", "tcp": "closed", "portmap": "off"}
    refusals = {sample.labels["side"]: sample.value for sample in families["fwnode_mesh_refusals"].samples}
    assert refusals == {"us": 4, "them": 0}
    assert len(families["fwnode_mesh_rtt_seconds"].samples) == 2  # of one name


async def test_a_second_opinion_is_asked_for_and_may_not_be_had(client: Client) -> None:
    where = ("POST", "/api/v1/network/second-opinion")
    assert (await client(*where)).status == 503
    client.network.mesh = Mesh()
    answer = await client(*where)
    assert (answer.status, answer.json["said"], answer.json["sent"]) == (200, "some NAT", 5)
    answer = await client(*where)
    assert (answer.status, answer.json["message"]) == (503, "nobody answers")


async def test_how_fast_bytes_come_from_a_node(client: Client) -> None:
    assert (await client("POST", "/api/v1/peers/loft/test", {})).status == 503
    client.network.mesh = Mesh()
    for name in ("loft", "77777777", "77" * 32):
        answer = await client("POST", f"/api/v1/peers/{name}/test", {"bytes": 7})
        assert (answer.status, answer.json["node"], answer.json["bytes"]) == (200, "77" * 32, 7)
    answer = await client("POST", "/api/v1/peers/loft/test", {})
    assert answer.json["bytes"] == 100_000_000
    for wrong in (0, (1 << 30) + 1, "1"):
        assert (await client("POST", "/api/v1/peers/loft/test", {"bytes": wrong})).status == 400
    answer = await client("POST", "/api/v1/peers/nobody/test", {})
    assert (answer.status, answer.json["message"]) == (409, "'nobody' is no node's name: see `fwnode peers`")


async def test_the_page_allows_its_own_script_only(client: Client) -> None:
    answer = await client("GET", "/")
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert "'unsafe-inline'" not in answer.headers["content-security-policy"]
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert not re.search(r"\son\w+=|\sstyle=|innerHTML", page)
    assert len(re.findall("<script", page)) == 1 == len(re.findall("<style", page))
    assert dashboard()[0] == answer.body


async def test_events_follow_streams_and_end_with_the_client(client: Client) -> None:
    key = (await client("POST", "/api/v1/keys", {})).json["key"]
    bodies: list[bytes] = []
    news, gone = trio.Event(), trio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            if b"event: stream" in message["body"]:
                news.set()

    headers = {"host": "127.0.0.1"}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.app, scope("GET", "/api/v1/events", headers), receive, send)
            await trio.testing.wait_all_tasks_blocked()
            client.publish(key, lambda reason: None)
            await news.wait()
            gone.set()
    assert bodies[0].startswith(b'event: snapshot\ndata: {"status":')
    assert b'{"name":"live","state":"starting"}' in bodies[1]
    assert not client.feed._mailboxes


class Replicates:
    """Stands for replication that runs."""

    edges = 2
    counters = Counters(bytes_out=9, verified_parts=7, parent_changes=1)

    def drain(self) -> None:
        raise AssertionError

    def place_of(self, name: str) -> StreamPlace | None:
        edge = EdgeView("cd" * 32, "cellar", 1.5, 9, False)
        return StreamPlace("ab" * 32, "attic", 10**15, 2, True, "ef" * 32, "barn", [edge], 7, 0, 1)

    def tree(self) -> TreeList:
        nodes = [TreeNode("ab" * 32, "attic", 0, "", 3_000_000, ["v1"], None, None)]
        return TreeList([StreamTree("cam", "ab" * 32, "attic", 10**15, True, nodes)])

    def uplink(self) -> UplinkView:
        return UplinkView(2_000_000, 8_000_000, 3_000_000)

    def liars(self) -> list[str]:
        return ["12" * 32]


async def test_a_node_alone_replicates_nothing(client: Client) -> None:
    assert (await client("GET", "/api/v1/tree")).json == {"trees": [], "left_out": 0}
    alone = (await client("GET", "/api/v1/replication")).json
    assert (alone["active"], alone["edges"], alone["uplink"], alone["liars"]) == (False, 0, None, [])
    assert "fwnode_replication" not in (await client("GET", "/metrics")).body.decode()


async def test_replication_is_shown(client: Client) -> None:
    client.node.replication = Replicates()
    key = (await client("POST", "/api/v1/keys", {"stream": "cam"})).json["key"]
    client.publish(key, lambda reason: None)
    for stream in (
        (await client("GET", "/api/v1/streams")).json["streams"][0],
        (await client("GET", "/api/v1/streams/cam")).json,
    ):
        place = stream["place"]
        assert (place["origin_name"], place["parent_name"], place["depth"]) == ("attic", "barn", 2)
        assert place["copy"] and place["edges"][0]["name"] == "cellar" and place["verified_parts"] == 7
    assert (await client("GET", "/api/v1/tree")).json["trees"][0]["nodes"][0]["name"] == "attic"
    shown = (await client("GET", "/api/v1/replication")).json
    assert shown["uplink"] == {"sent_bps": 2_000_000, "budget_bps": 8_000_000, "promised_bps": 3_000_000}
    assert shown["counters"]["verified_parts"] == 7 and shown["liars"] == ["12" * 32]
    assert (await client("GET", "/api/v1/status")).json["edges"] == 2
    text = (await client("GET", "/metrics")).body.decode()
    values = {
        family.name: family.samples[0].value
        for family in text_string_to_metric_families(text)
        if family.samples
    }
    assert values["fwnode_replication_edges"] == 2 and values["fwnode_replication_sent_bytes"] == 9
    assert values["fwnode_uplink_budget_bits_per_second"] == 8_000_000


async def test_copies_are_no_publishers(client: Client) -> None:
    client.node.replication = Replicates()
    source = Source("mesh", "attic")
    client.node.streams.open_copy("cam", source, client.reactor.now(), 10**15, lambda reason: None)
    status = (await client("GET", "/api/v1/status")).json
    assert (status["streams"], status["publishers"]) == (1, 0)
    text = (await client("GET", "/metrics")).body.decode()
    assert "fwnode_replication_copies 1.0" in text and "fwnode_publishers 0.0" in text
    assert "fwnode_stream_publishers_total{" not in text
