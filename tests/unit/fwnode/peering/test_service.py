"""A node's part in its network: what it tells, how changes of its membership reach the mesh, and its end.

Real nodes on loopback. mDNS is replaced: it has tests of its own, and the LAN of this machine is not ours.
"""

import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from fwnode import config, wiring
from fwnode.keys import Keyring
from fwnode.network import Network
from fwnode.node import Node
from fwnode.observe.metrics import render
from fwnode.observe.probe import process_usage
from fwnode.peering import service
from fwnode.peering.server import bind_mesh
from fwnode.peering.service import Peering
from fwnode.sharing.service import KeySharing
from fwnode.store import Database
from media.ingest.gate import PublishRequest
from media.net.reactor import Reactor
from mesh.discovery.mdns.names import MdnsOwn
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.identity.invite import Terms
from mesh.identity.notices import Notices
from mesh.identity.store import MEMBERSHIP, IdentityStore
from mesh.node.model import PeerView
from mesh.node.service import MeshNode

WAIT_S = 10.0  # real seconds, for what takes milliseconds on an idle machine
LOOK_S = 0.01  # between looks of the nodes under test at themselves


class Clockwork:
    """Every turn of a mesh is an occasion to look again; stands in for nothing."""

    def __init__(self) -> None:
        self._moved = trio.Event()

    def stir(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        with trio.fail_after(WAIT_S):
            while not condition():
                await self._moved.wait()


class Home:
    """One node with its data folder, and its peering."""

    def __init__(self, folder: Path, **values: str) -> None:
        self.folder = folder
        settings = {"geoip.place": "", "ingest.open": "true"} | values
        loaded = config.load({"name": folder.name, "data_dir": str(folder)}, "", "", {}, settings)
        self.network = Network(
            IdentityStore(folder),
            PeersFile(folder / FILE_NAME),
            name=folder.name,
            program="fwnode test",
            unix_s=time.time,
            entropy=os.urandom,
            turn=threading.Lock(),
        )
        self.reactor = Reactor(lambda kind, error, peer: None)
        self.node: Node = wiring.compose(
            loaded,
            self.network,
            Keyring(),
            self.reactor,
            started_at=0.0,
            unix_us=lambda: time.time_ns() // 1000,
            random=Random(1),
            player_files={},
        ).node
        self.sock = bind_mesh("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"

    @asynccontextmanager
    async def run(self) -> AsyncIterator["Home"]:
        async with trio.open_nursery() as nursery:
            with closing(Database(self.folder)) as database:
                nursery.start_soon(Peering(self.node, KeySharing(self.node, database)).run, self.sock)
                yield self
                nursery.cancel_scope.cancel()

    def invite(self) -> str:
        return self.network.invite(Terms(), (self.address,)).carry_out().line()

    def join(self, line: str) -> None:
        self.network.join(line).carry_out()

    def view(self, name: str) -> PeerView | None:
        return next((view for view in self.network.peers() if view.name == name), None)

    def is_linked(self, name: str) -> bool:
        view = self.view(name)
        return view is not None and view.state == "connected"

    def publish(self, name: str) -> None:
        request = PublishRequest("rtmp", name, "", "192.0.2.1", 9, "obs")
        self.node.gate.publish(request, lambda reason: None, self.reactor.now())

    def answers(self) -> bool:
        """Whether something listens at its address."""
        host, port = self.address.split(":")
        with socket.socket() as sock:
            return sock.connect_ex((host, int(port))) == 0


@pytest.fixture
def found_by(monkeypatch: pytest.MonkeyPatch) -> list[tuple[MdnsOwn, Any]]:
    """What mDNS was asked to announce, and where."""
    asked: list[tuple[MdnsOwn, Any]] = []

    async def serve(own: MdnsOwn, on_found: Any, *, on_trouble: Any, interfaces: Any) -> None:
        asked.append((own, interfaces))
        await trio.sleep_forever()

    monkeypatch.setattr("mesh.node.service.serve_mdns", serve)
    monkeypatch.setattr("mesh.node.service.own_addresses", lambda: ["127.0.0.1"])
    return asked


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch, found_by: Any) -> Clockwork:
    turns = Clockwork()
    advance = MeshNode._advance

    def stirring(node: MeshNode) -> None:
        advance(node)
        turns.stir()

    monkeypatch.setattr(MeshNode, "_advance", stirring)
    monkeypatch.setattr(service, "LOAD_S", LOOK_S)
    return turns


@pytest.fixture
def make(tmp_path: Path) -> Any:
    homes: list[Home] = []

    def home(name: str, **values: str) -> Home:
        folder = tmp_path / name
        homes.append(Home(folder, **values))
        return homes[-1]

    yield home
    for made in homes:
        made.sock.close()


async def test_a_node_in_no_network_answers_nobody(make: Any, turns: Clockwork) -> None:
    alone = make("attic")
    async with alone.run():
        await trio.testing.wait_all_tasks_blocked()
        assert alone.network.mesh is None
        assert not alone.answers()
        assert [view.name for view in alone.network.peers()] == ["attic"]
    assert alone.sock.fileno() == -1


async def test_a_member_sees_the_others_load_streams_and_version(make: Any, turns: Clockwork) -> None:
    attic, cellar = make("attic"), make("cellar")
    attic.publish("roof")
    stream = attic.node.streams.get("roof")
    stream.viewer_came("hls")
    cellar.join(attic.invite())
    async with attic.run(), cellar.run():
        await turns.until(lambda: attic.is_linked("cellar") and cellar.is_linked("attic"))
        await turns.until(lambda: (view := cellar.view("attic")) and view.streams and view.load)
        view = cellar.view("attic")
        assert view.streams == ["roof"]
        assert view.load.viewers == 1
        assert view.load.uplink_budget_bps == 0
        assert view.version.startswith("fwnode ")
        assert view.path == "lan"
        assert attic.address in attic.network.mesh.addresses()
        assert cellar.network.status().members == 2
        assert attic.network.status().owner and not cellar.network.status().owner
        # What begins and ends later is told as well.
        attic.publish("garden")
        await turns.until(lambda: cellar.view("attic").streams == ["garden", "roof"])
        attic.node.stop_stream("roof")
        await turns.until(lambda: cellar.view("attic").streams == ["garden"])


async def test_a_running_node_joins_leaves_and_joins_again(make: Any, turns: Clockwork) -> None:
    attic, cellar = make("attic"), make("cellar")
    async with attic.run(), cellar.run():
        lines = attic.invite(), attic.invite()
        await turns.until(lambda: attic.network.mesh)
        cellar.join(lines[0])
        await turns.until(lambda: attic.is_linked("cellar"))
        assert cellar.answers()
        cellar.network.leave().carry_out()
        await turns.until(lambda: attic.view("cellar") is None)
        await trio.testing.wait_all_tasks_blocked()
        assert cellar.network.mesh is None
        # The mesh that stopped kept nothing of the network that was left.
        assert not (cellar.folder / MEMBERSHIP).exists()
        cellar.join(lines[1])
        await turns.until(lambda: attic.is_linked("cellar") and cellar.is_linked("attic"))
        assert cellar.answers()


async def test_a_revocation_reaches_the_running_mesh(make: Any, turns: Clockwork) -> None:
    attic, cellar, den = make("attic"), make("cellar"), make("den")
    async with attic.run(), cellar.run(), den.run():
        for home in (cellar, den):
            home.join(attic.invite())
        await turns.until(lambda: all(cellar.is_linked(name) for name in ("attic", "den")))
        await turns.until(lambda: all(attic.is_linked(name) for name in ("cellar", "den")))
        mesh = attic.network.mesh
        attic.network.revoke("den").carry_out()
        await turns.until(lambda: attic.view("den") is None and cellar.view("den") is None)
        assert attic.network.mesh is mesh
        assert cellar.network.membership.revocations.is_revoked(den.network.node_key.node_id)
        assert attic.is_linked("cellar")
    # The one that learned of it has it after a restart.
    again = IdentityStore(cellar.folder)
    kept = again.membership(again.node_key())
    assert kept and kept.revocations.is_revoked(den.network.node_key.node_id)


async def test_a_node_that_starts_again_is_a_member_at_once(make: Any, turns: Clockwork) -> None:
    attic, cellar = make("attic"), make("cellar")
    cellar.join(attic.invite())
    async with attic.run():
        async with cellar.run():
            await turns.until(lambda: attic.is_linked("cellar"))
        await turns.until(lambda: attic.view("cellar") is None)
        async with make("cellar").run():
            await turns.until(lambda: attic.is_linked("cellar"))


async def test_a_configured_place_is_told(make: Any, turns: Clockwork) -> None:
    attic = make("attic", **{"geoip.place": "52.5, 13.4"})
    attic.invite()
    async with attic.run():
        await turns.until(lambda: attic.view("attic").place)
        place = attic.view("attic").place
        assert (place.latitude, place.longitude, place.source) == (52.5, 13.4, "configured")


async def test_settings_reach_the_mesh(make: Any, turns: Clockwork, found_by: Any) -> None:
    values = {
        "announce": "vps.example:9",
        "relay.total_mbps": "8",
        "relay.pair_mbps": "2",
        "seed": "192.0.2.1:7",
    }
    attic = make("attic", **values)
    attic.invite()
    async with attic.run():
        await turns.until(lambda: found_by)
        core = attic.network.mesh.core
        assert core.candidates[:2] == ["vps.example:9", attic.address]
        assert core.settings.port == int(attic.address.split(":")[1])
        assert (core.book.settings.total_bps, core.book.settings.pair_bps) == (8_000_000, 2_000_000)
        assert attic.network.status().seeds == ["192.0.2.1:7"]
        [(own, interfaces)] = found_by
        assert own.node_id == attic.network.node_key.node_id
        assert (own.name, own.port) == ("attic", core.settings.port)
        assert interfaces == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("portmap", "host", "reason"),
    [
        ("true", "0.0.0.0", ""),
        ("true", "::", ""),
        ("true", "127.0.0.1", "the setting mesh names one address of this machine"),
        ("false", "0.0.0.0", "the setting nat.portmap is false"),
    ],
)
def test_the_router_is_asked_where_the_mesh_listens_everywhere(
    make: Any, portmap: str, host: str, reason: str
) -> None:
    attic = make("attic", **{"nat.portmap": portmap})
    attic.invite()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        membership = attic.network.membership
        with closing(Database(attic.folder)) as database:
            peering = Peering(attic.node, KeySharing(attic.node, database))
            parts = peering._parts(membership, Notices(membership), sock)
    assert parts.no_portmap == reason


async def test_the_mesh_is_in_the_metrics(make: Any, turns: Clockwork) -> None:
    attic, cellar = make("attic"), make("cellar")
    assert samples(attic)["fwnode_mesh_members"] == 0
    cellar.join(attic.invite())
    async with attic.run(), cellar.run():
        await turns.until(lambda: (view := attic.view("cellar")) and view.rtt_ms)
        await turns.until(lambda: attic.network.status().members == 2)
        found = samples(attic)
        assert found["fwnode_mesh_members"] == 2
        assert found["fwnode_mesh_links"] == 1
        assert found["fwnode_mesh_link_links_made_total"] >= 1
        assert found["fwnode_mesh_gossip_messages_in_total"] > 0
        assert found["fwnode_mesh_refused_total"] == 0
        assert 0 < found["fwnode_mesh_rtt_seconds"] < WAIT_S


def samples(home: Home) -> dict[str, float]:
    """Every sample of the page by name."""
    page = render(home.node, process_usage).decode()
    return {s.name: s.value for family in text_string_to_metric_families(page) for s in family.samples}


def test_a_taken_address_says_so() -> None:
    taken = bind_mesh("127.0.0.1:0")
    taken.listen()
    with taken, pytest.raises(OSError):
        bind_mesh(f"127.0.0.1:{taken.getsockname()[1]}")


def test_a_bound_socket_does_not_listen_yet() -> None:
    with bind_mesh("127.0.0.1:0") as sock, socket.socket() as other:
        assert other.connect_ex(sock.getsockname()) != 0


def test_every_address_is_bound_when_none_is_named() -> None:
    with bind_mesh(":0") as sock:
        assert sock.getsockname()[0] in ("0.0.0.0", "::")
