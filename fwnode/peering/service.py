"""Runs the mesh while this node is in a network, and begins again when it joins another."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
import trio

from fwnode import __version__
from fwnode.address import Address, parse_address
from fwnode.config import Config
from fwnode.node import Node
from fwnode.observe.probe import process_usage
from fwnode.peering.load import LoadMeter, carried_streams, transcode
from fwnode.peering.server import bind_datagrams, bind_mesh
from fwnode.replication.service import Replication
from fwnode.setting import parse_place, split_addresses
from fwnode.sharing.service import KeySharing
from fwnode.steering.service import steer
from mesh.directory.facts import Place
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.geo.model import Located
from mesh.geo.store import GEOIP_FOLDER, GeoDatabase
from mesh.identity.membership import Membership
from mesh.identity.notices import Notices
from mesh.link.relay.book import PAIRS_MAX, RelaySettings
from mesh.node.service import MeshNode, MeshParts
from mesh.node.steps import MeshSettings

LOAD_S = 1.0  # between looks at load and streams; what is told of it, gossip paces
PLACE_S = 60.0  # between looks whether a database of places was renewed
PLACE_UNKNOWN_S = 5.0  # while no address of this node is known to be anywhere
SETTLE_S = 0.1  # after a change of a stream, for those that come with it: one record tells all
BITS_PER_MBIT = 1_000_000
NOTES_S = 10.0
NOTES_MAX = 50  # of one event in that time: a network of that many nodes that starts at once is all told
SEED_AWAY, LINKED = "seed not reached", "peer linked"  # events of the mesh


class Peering:
    """What ties a node to its network."""

    def __init__(self, node: Node, sharing: KeySharing) -> None:
        config = node.config
        self._node = node
        self._sharing = sharing
        self._network = node.network
        self._places = GeoDatabase(
            Path(config.data_dir, GEOIP_FOLDER), config.geoip.database, parse_place(config.geoip.place)
        )
        self._mesh: MeshNode | None = None
        self._changed = trio.Event()

    async def run(self, bound: socket.socket) -> None:
        """Be a member of whatever network the node is in, until cancelled. Takes the bound socket."""
        sock: socket.socket | None = bound
        address = Address(*bound.getsockname()[:2])
        self._network.subscribe(self._on_change)
        try:
            while True:
                self._changed = trio.Event()
                membership = self._network.membership
                if membership is None:
                    await self._changed.wait()
                    continue
                await self._take_part(membership, sock or bind_mesh(str(address)))
                sock = None
        finally:
            if sock is not None:
                sock.close()

    def _on_change(self) -> None:
        """Listener of the network: a membership was replaced, or somebody revoked."""
        if self._mesh is not None and self._mesh.core.membership is self._network.membership:
            self._mesh.membership_changed()
        else:
            self._changed.set()

    async def _take_part(self, membership: Membership, sock: socket.socket) -> None:
        network, sharing = self._network, self._sharing
        notices = sharing.begin(membership, await trio.to_thread.run_sync(sharing.load, membership))
        mesh = MeshNode(
            network.node_key,
            membership,
            network.owner_key,
            self._settings(sock),
            self._parts(membership, notices, sock),
        )
        network.mesh = self._mesh = mesh
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(mesh.run, [sock], _datagrams(sock))
                replication = Replication(self._node, mesh)
                nursery.start_soon(replication.run)
                nursery.start_soon(self._tell, mesh, replication)
                nursery.start_soon(steer, self._node, mesh, self._places.lookup)
                nursery.start_soon(sharing.run, mesh)
                await self._changed.wait()
                if network.membership is None:
                    sharing.leave(mesh)
                nursery.cancel_scope.cancel()
            sharing.end()
        finally:
            network.mesh = self._mesh = None

    def _settings(self, sock: socket.socket) -> MeshSettings:
        config = self._node.config
        relay = RelaySettings(
            total_bps=round(config.relay.total_mbps * BITS_PER_MBIT),
            pair_bps=round(config.relay.pair_mbps * BITS_PER_MBIT),
            pairs_max=PAIRS_MAX if config.relay.total_mbps else 0,
        )
        return MeshSettings(
            name=config.name,
            program=f"fwnode {__version__}",
            port=sock.getsockname()[1],
            announce=_announced(config, sock),
            relay=relay,
        )

    def _parts(self, membership: Membership, notices: Notices, sock: socket.socket) -> MeshParts:
        config = self._node.config
        host = str(sock.getsockname()[0])
        bound_to_one = not Address(host, 0).wildcard
        return MeshParts(
            keep=self._network.keeper(membership),
            note=Notes(),
            peers_file=PeersFile(Path(config.data_dir) / FILE_NAME),
            seeds=split_addresses(config.seed),
            mdns_interfaces=(host,) if bound_to_one else None,
            no_portmap=_no_portmap(config, bound_to_one=bound_to_one),
            notices=notices,
            on_news=self._sharing.wake,
        )

    async def _tell(self, mesh: MeshNode, replication: Replication) -> None:
        """Keep the mesh informed about this node."""
        meter = LoadMeter(
            self._node, lambda: process_usage().cpu_s, os.cpu_count() or 1, lambda: mesh.bytes_out
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_place, mesh)
            while True:
                load = meter.measure()
                self._node.choosing.measured(load, meter.measured_at)
                mesh.set_load(load)
                mesh.set_streams(carried_streams(replication.carried()))
                mesh.set_transcode(transcode(self._node.transcoding, self._node.reactor.now()))
                with trio.move_on_after(LOAD_S):
                    await replication.changed()
                    await trio.sleep(SETTLE_S)

    async def _tell_place(self, mesh: MeshNode) -> None:
        """Where the settings say that the node is, or else where one of its addresses is."""
        log = structlog.get_logger()
        while True:
            for said in await trio.to_thread.run_sync(self._places.refresh):
                log.warning("places", reason=said)
            hosts = [parse_address(address).host for address in mesh.addresses()]
            found = self._places.own_place(hosts)
            mesh.set_place(_place(found) if found else None)
            await trio.sleep(PLACE_S if found else PLACE_UNKNOWN_S)


def _no_portmap(config: Config, *, bound_to_one: bool) -> str:
    """Why the router is not asked to open the mesh port, "" when it is."""
    if not config.nat.portmap:
        return "the setting nat.portmap is false"
    return "the setting mesh names one address of this machine" if bound_to_one else ""


def _datagrams(sock: socket.socket) -> list[socket.socket]:
    """UDP sockets of the port that links come to; none when another program has it."""
    try:
        return bind_datagrams(str(Address(*sock.getsockname()[:2])))
    except OSError as error:
        structlog.get_logger().warning("no paths through NAT", reason=error.strerror)
        return []


class Notes:
    """Logs what happens in the mesh: that a seed is away once, and of no event so many that a member
    could fill the disk. The rest is for level debug.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._away: set[str] = set()  # at most the seeds and the last known peers
        self._counts: dict[str, tuple[float, int]] = {}  # event -> start of its period, times since

    def __call__(self, event: str, facts: Mapping[str, str]) -> None:
        """One event of `MeshParts.note`."""
        log = structlog.get_logger()
        (log.debug if self._is_repeated(event, facts) else log.info)(event, **facts)

    def _is_repeated(self, event: str, facts: Mapping[str, str]) -> bool:
        address, now = facts.get("address", ""), self._clock()
        if event == LINKED:
            self._away.discard(address)
        if event == SEED_AWAY:
            if address in self._away:
                return True
            self._away.add(address)
        since, times = self._counts.get(event, (now, 0))
        if now - since >= NOTES_S:
            since, times = now, 0
        self._counts[event] = since, times + 1
        return times >= NOTES_MAX


def _announced(config: Config, sock: socket.socket) -> tuple[str, ...]:
    """Configured addresses, and a bound one that is not all of them."""
    host, port = sock.getsockname()[:2]
    bound = Address(host, port)
    return split_addresses(config.announce) + (() if bound.wildcard else (str(bound),))


def _place(found: Located) -> Place:
    return Place(found.latitude, found.longitude, found.source, found.country)
