"""The private listener's application, called without a socket."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from fwnode.keys import Keyring
from fwnode.node import Node
from fwnode.password import hash_password
from fwnode.store import Database
from media.ingest.gate import PublishRequest
from media.net.reactor import Reactor
from media.track.registry import RegistrySettings, Streams

TOKEN = "t" * 43


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


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
        self.node = Node(loaded, self.ring, streams, gate, self.reactor, self.reactor.now(), 10**9)
        api = Api(self.node, self.database)
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


async def test_a_form_cannot_post(client: Client) -> None:
    answer = await client("POST", "/api/v1/keys", raw=b'{"stream":"*"}', content_type="text/plain")
    assert answer.status == 415


async def test_a_full_disk_changes_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
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
