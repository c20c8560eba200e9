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
from fwnode.promise.door import Lent
from fwnode.promise.holds import EVERYBODY, Holds, Role
from fwnode.promise.hours import Hours
from fwnode.promise.promise import DRAINS, Kept
from fwnode.promise.terms import Terms
from fwnode.wiring import Services
from fwnode.workers.wire import Lend, encode, worker_reader
from media.errors import Refused
from media.ingest.gate import PlayRequest, PublishRequest
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


def compose_kept(kept: Kept) -> Services:
    loaded = config.load({"name": "here", "data_dir": "/data"}, "", "", {}, {})
    return wiring.compose(
        loaded,
        alone(),
        Keyring(),
        Reactor(lambda kind, error, peer: None),
        started_at=0.0,
        unix_us=lambda: 10**15,
        random=Random(1),
        player_files={},
        kept=kept,
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


def test_a_drain_of_roles_is_in_force_and_ends() -> None:
    services = compose(**{"ingest.open": "true"})
    node = services.node
    publish(services, "x")
    node.promise.hold(Holds().drained([Role.VIEWERS, Role.PUBLISHERS]))
    node.on_hold()
    assert node.state == "draining" and node.standing == "draining" and not node.draining
    assert services._http.site.draining and node.why_not("x") == DRAINS
    with pytest.raises(Refused, match="operator drains it"):
        publish(services, "y")
    stream = node.streams.get("x")
    assert stream is not None and stream.state.value != "ended", "who publishes is waited for"
    node.promise.hold(Holds().paused())
    node.on_hold()
    assert node.state == "paused" and not services._http.site.draining
    publish(services, "y")
    node.promise.hold(Holds())
    node.on_hold()
    assert node.state == "ready" and node.standing == node.why_not("x") == ""


def test_what_is_kept_is_in_force_at_the_start() -> None:
    kept = Kept(Holds().drained(EVERYBODY), {"2026-11": 5}, 7)
    node = compose_kept(kept).node
    assert node.state == "draining" and node.promise.kept == kept
    assert node.promise_view().drain == dict.fromkeys(EVERYBODY, 0.0)


def test_the_promise_of_the_settings() -> None:
    values = {"uplink_mbps": "8", "promise.monthly_gb": "1.5", "promise.quiet": "23:00-07:00"}
    node = compose(**values, **{"promise.quiet_mbps": "2", "promise.streams": "news*, cam"}).node
    expected = Terms(8_000_000, 1_500_000_000, Hours(1380, 420), 2_000_000, ("news*", "cam"))
    assert node.promise.terms == expected
    assert "uplink is full" not in node.why_not("cam") and "does not serve x" in node.why_not("x")


def test_players_by_rtmp_and_workers_are_told() -> None:
    services = compose(workers="2", uplink_mbps="8", **{"ingest.open": "true"})
    node = services.node
    publish(services, "x")
    stream = node.streams.get("x")
    assert stream is not None and services.lending is not None
    request = PlayRequest("rtmp", "x", "", "192.0.2.1", 9, "vlc")
    assert node.gate.play(request, 1.0) is stream
    stream.viewer_came("rtmp")  # of a stream whose bitrate is not known: 5.25 Mb/s
    with pytest.raises(Refused, match=r"uplink is full.*try again in 10 s"):
        node.gate.play(request, 1.0)
    services.lend()
    share = (8_000_000 - 5_250_000) // 2
    assert services.lending.lent == encode(Lend(Lent(share)))
    node.promise.hold(Holds().paused())
    node.on_hold()
    told = worker_reader().feed(services.lending.lent)
    assert [message.lent.refusal.why for message in told if isinstance(message, Lend)] == ["paused"]


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
