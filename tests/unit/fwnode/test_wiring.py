"""The composed node: what settings reach which part, and what draining does."""

import tempfile
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from fwnode import config, wiring
from fwnode.agent import greeting
from fwnode.keys import Keyring, make_key
from fwnode.network import Network
from fwnode.wiring import Services
from media.errors import Refused
from media.ingest.gate import PublishRequest
from media.net.reactor import Reactor
from media.track.registry import Takeover
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.identity.store import IdentityStore


def compose(**values: str) -> Services:
    loaded = config.load({"name": "here", "data_dir": "/data"}, "", "", {}, values)
    return wiring.compose(
        loaded,
        alone(),
        Keyring(),
        Reactor(lambda kind, error, peer: None),
        started_at=0.0,
        unix_us=lambda: 10**15,
        random=Random(1),
        player_files={},
    )


def alone() -> Network:
    """A node in no network; nothing is written after it was read."""
    with tempfile.TemporaryDirectory() as folder:
        return Network(
            IdentityStore(Path(folder)),
            PeersFile(Path(folder) / FILE_NAME),
            name="here",
            program="fwnode test",
            unix_s=lambda: 1e9,
            entropy=lambda count: bytes(count),
        )


def publish(services: Services, stream: str) -> None:
    request = PublishRequest("rtmp", stream, "", "192.0.2.1", 9, "obs")
    services.node.gate.publish(request, lambda reason: None, 1.0)


def test_settings_reach_the_streams() -> None:
    loaded = compose(**{"hls.part_s": "0.25", "hls.segment_s": "4", "ingest.takeover": "refuse"}).node.config
    settings = wiring.stream_settings(loaded)
    assert (settings.stream.marker.part_us, settings.stream.marker.segment_us) == (250_000, 4_000_000)
    assert settings.stream.window_us >= 16_000_000
    assert settings.takeover is Takeover.REFUSE and settings.linger_s == 10.0


def test_a_second_publisher_as_configured() -> None:
    for takeover, refused in (("takeover", False), ("refuse", True)):
        services = compose(**{"ingest.open": "true", "ingest.takeover": takeover})
        publish(services, "x")
        if refused:
            with pytest.raises(Refused, match="being published"):
                publish(services, "x")
        else:
            publish(services, "x")


def test_the_demo_reserves_its_name() -> None:
    publish(compose(**{"ingest.open": "true"}), "demo")
    with pytest.raises(Refused, match="test stream"):
        publish(compose(**{"ingest.open": "true", "demo": "true"}), "demo")


def test_the_public_addresses_are_there() -> None:
    names = {route.name for route in compose().node.router.routes}
    assert {"live", "home", "watch", "embed", "player"} <= names


def test_draining_closes_rtmp_and_keeps_http_for_viewers() -> None:
    services = compose(http="127.0.0.1:0", rtmp="127.0.0.1:0", **{"ingest.open": "true"})
    node = services.node
    services.listen("http")
    services.listen("rtmp")
    try:
        publish(services, "x")
        assert node.viewers == 0
        stream = node.streams.get("x")
        assert stream is not None
        stream.viewer_came("hls")
        assert services.busy and node.viewers == 1 and node.publishers == 1
        services.drain()
        assert node.draining
        assert not node.listeners["rtmp"]._open and node.listeners["http"]._open
        with pytest.raises(Refused, match="stopping"):
            publish(services, "y")
    finally:
        services.close_listeners()


def test_revoking_disconnects_the_streams_of_that_key_only() -> None:
    services = compose()
    node = services.node
    stopped: list[str] = []
    for number, name in enumerate(("one", "two")):
        text, key = make_key(bytes([number]) * 20, name, "", number)
        node.keyring.add(key)
        request = PublishRequest("rtmp", text, "", "192.0.2.1", 9, "obs")
        node.gate.publish(request, lambda reason, name=name: stopped.append(name), 1.0)  # type: ignore[misc]  # bound early
    assert node.revoke(node.keyring.all()[0].id) is not None
    assert stopped == ["one"]
    assert node.revoke("nothing") is None


@pytest.mark.parametrize(
    ("values", "key", "says"),
    [
        ({}, "sk_x", "sk_x  (shown this once"),
        ({}, "", "make one with `fwnode key new`"),
        ({"ingest.open": "true"}, "", "any stream name"),
    ],
)
def test_greeting_says_where_to_watch_and_to_publish(values: dict[str, str], key: str, says: str) -> None:
    services = compose(http="127.0.0.1:0", rtmp="0.0.0.0:0", **values)
    services.listen("http")
    services.listen("rtmp")
    services.node.admin_address = "127.0.0.1:7078"
    addresses = services.node.addresses
    text = greeting(services.node, key, "192.0.2.9")
    services.close_listeners()
    assert says in text
    assert f"http://{addresses['http']}/\n" in text
    assert f"rtmp://192.0.2.9:{addresses['rtmp'].rpartition(':')[2]}/live\n" in text
    assert "dashboard   http://127.0.0.1:7078/\n" in text


def test_draining_tells_edges_and_waits_for_them() -> None:
    services = compose()
    told: list[str] = []
    replication = SimpleNamespace(edges=2, drain=lambda: told.append("drain"))
    services.node.replication = replication  # type: ignore[assignment]  # as much as is asked of it
    services.drain()
    assert told == ["drain"] and services.busy
    replication.edges = 0
    assert not services.busy
