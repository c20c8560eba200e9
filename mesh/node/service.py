"""Runs one node of a network on trio: sockets, dials, discovery and time around `MeshCore`."""

import importlib
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import trio

from mesh.address import host_of, show_address
from mesh.directory.facts import (
    CarriedStreams,
    Doors,
    Load,
    Place,
    Reports,
    Transcode,
    is_other_transcode,
)
from mesh.discovery.candidates import listening
from mesh.discovery.mdns.names import MdnsOwn
from mesh.discovery.mdns.service import serve_mdns
from mesh.discovery.probe import own_addresses, watch_addresses
from mesh.discovery.seeds import SeedList
from mesh.discovery.store import PeersFile
from mesh.errors import MeshError, RemoteError, Unavailable
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership
from mesh.identity.notices import Notices
from mesh.link.channel.service import Channel
from mesh.link.client import dial
from mesh.link.connection.service import Credentials, LinkRefused, SecureConnection, secure
from mesh.link.connector import REPLACED
from mesh.link.control import OpenTcp, TcpSide
from mesh.link.model import AGAIN, CONTROL, QUIC, TCP, Connection
from mesh.link.refusals import Refusals
from mesh.link.relay.client import dial_relay
from mesh.link.relay.service import Splicer
from mesh.link.server import serve_links
from mesh.link.steps import Called, Close, Dial, DialRelay, Heard, NotOpened, Probe, Relayed, Spliced
from mesh.model import NodeId, short
from mesh.node.core import MeshCore
from mesh.node.lastknown.service import LastKnown
from mesh.node.mapping.service import RouterMapping
from mesh.node.model import MeshStatus, NatStatus, PeerView, SecondOpinion
from mesh.node.nat import Portmap, nat_status
from mesh.node.servers import opinion_servers
from mesh.node.speed.model import SPEED, SpeedResult
from mesh.node.steps import Keep, MeshSettings, News, Note, Output, Transmit
from mesh.node.streams.service import PROBE, BulkStreams, Multiplexed, Service
from mesh.node.traversal.service import TraversalShell
from mesh.node.views import mesh_counters, mesh_status, peer_views

if TYPE_CHECKING:
    from mesh.node.objects.service import Objects
    from mesh.node.speed.service import SpeedTests

GOODBYE_S = 0.3  # for the goodbye to leave the machine
DIALS_MAX = 64  # at a time; the rest wait
SEEDS_FROM_FILE = 16  # last known addresses that are tried beside the configured seeds
RETRY_S = 10.0  # links that come up bring members to ask
OPINION_MODULE = "mesh.nat.classic.service"

OnNote: TypeAlias = Callable[[str, Mapping[str, str]], None]


@dataclass(frozen=True, slots=True)
class MeshParts:
    """What the node is given: everything that is not the mesh's own."""

    keep: Callable[[bytes], None]  # writes a membership's state; blocks
    note: OnNote  # tells the operator
    peers_file: PeersFile
    seeds: tuple[str, ...] = ()
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] | None = None
    no_portmap: str = "the program that runs this node does not want it"  # "": have the router open the port
    notices: Notices | None = None  # those that this node kept; of the same membership
    on_news: Callable[[], None] = lambda: None  # the notices changed, or whose are in force


class MeshNode:
    """One node of one network, from `run` until it is cancelled. Every method is for the trio thread."""

    def __init__(
        self,
        key: SecretKey,
        membership: Membership,
        owner: SecretKey | None,
        settings: MeshSettings,
        parts: MeshParts,
    ) -> None:
        now = trio.current_time()
        self.core = MeshCore(
            key,
            membership,
            owner,
            settings,
            random=Random(secrets.randbits(64)),  # noqa: S311 - spreads load and backoff, guards nothing
            entropy=secrets.token_bytes,
            generation=time.time_ns() // 1_000_000,
            now=now,
            unix_s=time.time(),
            notices=parts.notices,
        )
        self.refusals = Refusals()
        self._owner = owner is not None
        self._parts = parts
        self._transcode: Transcode | None = None  # as it was told last
        self._credentials = Credentials(key, membership, settings.program, time.time)
        self._seeds = SeedList(parts.seeds, Random(secrets.randbits(64)), now)  # noqa: S311 - as above
        self._splicer = Splicer(self.core.book)
        self._streams = BulkStreams(self.core, self._credentials, self._advance, self._inside)
        self._streams.serve(SPEED, self._first_speed_test)
        self._channels: dict[int, Channel] = {}
        self._connections = 0
        self._jobs: list[Output] = []
        self._seed_attempts: dict[int, str] = {}
        self._last_known = LastKnown(parts.peers_file, self._member_addresses, parts.note)
        self._listens_at: list[str] = []
        self._own_seeds: set[str] = set()  # seeds that lead to this node itself
        self._traversal: TraversalShell | None = None
        self._mapping: RouterMapping | None = None
        self._wake = trio.Event()
        self._keep_wanted = trio.Event()
        self._stopping = trio.Event()
        self._dials = trio.CapacityLimiter(DIALS_MAX)

    # --- for the rest of the program

    @property
    def bytes_out(self) -> int:
        """All that left since the start: links, streams, what is relayed for others, UDP with its headers."""
        udp = self._traversal.port.counters.bytes_out if self._traversal is not None else 0
        return self._credentials.traffic.bytes_out + self.core.book.counters.bytes + udp

    def peers(self) -> list[PeerView]:
        """Every known node of the network, this one first."""
        reasons = self._traversal.reasons if self._traversal is not None else {}
        return peer_views(self.core, trio.current_time(), time.time(), reasons)

    def status(self) -> MeshStatus:
        """The network as this node sees it."""
        counters = mesh_counters(self.core, self.refusals) | self._streams.simultaneous.counters
        return mesh_status(
            self.core,
            self.refusals,
            self._seeds.addresses,
            owner=self._owner,
            counters=counters,
            nat=self._nat_status(),
        )

    def _nat_status(self) -> NatStatus:
        traversal, mapping = self._traversal, self._mapping
        return nat_status(
            self.core,
            mapping.said if mapping is not None else Portmap(),
            traversal.counts() if traversal is not None else {},
            udp=traversal is not None,
            says=self._parts.no_portmap,
        )

    async def second_opinion(self) -> SecondOpinion:
        """What pystun3 makes of the router, in up to five seconds. Raises Unavailable."""
        servers = opinion_servers(self.core)
        if not servers:
            raise Unavailable("no member with a public IPv4 address is there to be asked", RETRY_S)
        module = await trio.to_thread.run_sync(importlib.import_module, OPINION_MODULE)
        found = await module.classify(*servers)
        return SecondOpinion(found.said, found.mapped, servers, found.sent)

    @cached_property
    def objects(self) -> "Objects":
        """Sequences of objects; loaded by the first who has any."""
        random = Random(secrets.randbits(64))  # noqa: S311 - as above
        service = importlib.import_module("mesh.node.objects.service")
        objects: Objects = service.Objects(self._streams, self.core, random)
        return objects

    @cached_property
    def _speed(self) -> "SpeedTests":
        service = importlib.import_module("mesh.node.speed.service")
        tests: SpeedTests = service.SpeedTests(self.objects, self.core.name_of)
        return tests

    async def _first_speed_test(self, connection: Connection) -> None:
        """A member asks for one: what answers it takes this one's place."""
        assert self._speed
        await self._streams.on_connection(connection)

    async def speed_test(self, peer: NodeId, total: int) -> SpeedResult:
        """Have bytes sent by a member, for a minute at most. Raises Unavailable, Refused."""
        return await self._speed.run(peer, total)

    def addresses(self) -> list[str]:
        """Where others may reach this node, the best first."""
        return list(self.core.candidates)

    def set_load(self, load: Load) -> None:
        """How busy the node is."""
        self.core.set_load(load, trio.current_time())
        self._advance()

    def set_streams(self, streams: CarriedStreams) -> None:
        """What the node carries."""
        self.core.set_streams(streams, trio.current_time())
        self._advance()

    def tell_all(self, fact: Reports | Doors) -> None:
        """Nodes that altered media, or where viewers reach this one; call it when that changed."""
        self.core.tell_all(fact, trio.current_time())
        self._advance()

    def set_place(self, place: Place | None) -> None:
        """Where the node is."""
        self.core.set_place(place, trio.current_time())
        self._advance()

    def set_transcode(self, transcode: Transcode | None) -> None:
        """What the node can transcode, told when that changed enough; None: nothing, or it is not known."""
        if transcode is not None and is_other_transcode(self._transcode, transcode):
            self._transcode = transcode
            self.core.tell_all(transcode, trio.current_time())
            self._advance()

    def say(self, payloads: Sequence[bytes]) -> None:
        """What this node's notices say from now on; all members keep them. Raises StateError."""
        if self.core.notices.say(self._credentials.key, payloads, time.time()):
            self.membership_changed()

    def membership_changed(self) -> None:
        """Somebody was revoked here, or this node renewed or said something: spread it."""
        self.core.membership_changed(trio.current_time(), time.time())
        self._advance()

    def serve(self, name: str, service: Service) -> None:
        """Answer bulk streams that members open by this name."""
        self._streams.serve(name, service)

    async def open_stream(self, peer: NodeId, name: str, argument: bytes = b"") -> Connection:
        """A connection of its own to a member's service; see `BulkStreams.open`."""
        return await self._streams.open(peer, name, argument)

    def _inside(self, peer: NodeId) -> Multiplexed | None:
        """A peer's QUIC link."""
        link = self.core.connector.links.get(peer)
        channel = self._channels.get(link.connection) if link is not None else None
        return getattr(channel.connection, "carrier", None) if channel is not None else None

    # --- running

    async def run(
        self,
        sockets: Sequence[socket.socket],
        datagrams: Sequence[socket.socket] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Be a member until cancelled; `sockets` are bound TCP sockets, `datagrams` UDP ones of that port.

        All are closed in the end. Without `datagrams` no path through NAT is looked for.
        Cancelled, it says goodbye to its neighbours within GOODBYE_S.
        """
        known = await trio.to_thread.run_sync(self._parts.peers_file.load)
        self._last_known.say_trouble()
        now = trio.current_time()
        self._seeds.set((*self._parts.seeds, *known[:SEEDS_FROM_FILE]), now)
        self._listens_at = [host_of(show_address(sock.getsockname())) for sock in sockets]
        self.core.set_addresses(await trio.to_thread.run_sync(self._own_addresses), now)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._work, sockets, datagrams)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._stopping.set()

    async def _work(
        self,
        sockets: Sequence[socket.socket],
        datagrams: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Everything that runs, until `_stopping`: its links must outlive a cancellation by one goodbye."""
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    serve = partial(serve_links, on_fault=self._on_fault)
                    await nursery.start(
                        serve,
                        sockets,
                        self._credentials,
                        self._on_connection,
                        self._splicer.join,
                        self.refusals,
                    )
                    if datagrams:
                        self._traversal = self._make_traversal(datagrams)
                        await nursery.start(self._traversal.run)
                    if not self._parts.no_portmap:
                        self._mapping = self._make_mapping()
                        nursery.start_soon(self._mapping.run)
                    nursery.start_soon(self._turn, nursery)
                    nursery.start_soon(self._watch_addresses)
                    nursery.start_soon(self._keep_membership)
                    nursery.start_soon(self._last_known.run)
                    if self._parts.mdns:
                        nursery.start_soon(self._discover)
                    task_status.started()
                    await self._stopping.wait()
                    await self._last_known.keep()
                    with trio.move_on_after(GOODBYE_S):
                        await self._say_goodbye()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._keep()

    def _make_traversal(self, datagrams: Sequence[socket.socket]) -> TraversalShell:
        return TraversalShell(
            self.core,
            self._credentials,
            self.refusals,
            datagrams,
            self._on_connection,
            self._advance,
            self._parts.note,
            self._on_fault,
        )

    def _make_mapping(self) -> RouterMapping:
        key = self._credentials.key
        return RouterMapping(self.core.settings.port, key, self._on_mapped, self._parts.note)

    def _on_mapped(self, address: str, protocol: str) -> None:
        self.core.set_mapped(address, trio.current_time())
        if self._traversal is not None:
            self._traversal.set_portmap(protocol)
        self._advance()

    async def _turn(self, nursery: trio.Nursery) -> None:
        """Time and outputs: everything that the core wants done."""
        while True:
            now = trio.current_time()
            self.core.on_deadline(now, time.time())
            self._try_seeds(now)
            self._drain()
            for job in self._take_jobs():
                nursery.start_soon(self._do, job)
            self._wake = trio.Event()
            due = min(self.core.deadline(now), self._seeds.deadline() or inf)
            with trio.move_on_after(max(0.0, due - trio.current_time())):
                await self._wake.wait()

    def _advance(self) -> None:
        """The core was told something: send what it says now, the rest in the next turn."""
        self._drain()
        self._wake.set()

    def _drain(self) -> None:
        for output in self.core.outputs():
            match output:
                case Transmit():
                    if (channel := self._channels.get(output.connection)) is not None:
                        channel.send(output.kind, output.data)
                case Keep():
                    self._keep_wanted.set()
                case News():
                    self._parts.on_news()
                case Heard() | Relayed():
                    self._on_path(output)
                case Spliced() | NotOpened():
                    self._streams.answered(output)
                case Note():
                    self._parts.note(output.event, output.facts)
                case _:
                    self._jobs.append(output)

    def _on_path(self, output: Heard | Relayed) -> None:
        if isinstance(output, Heard) and isinstance(output.message, OpenTcp):
            if self._streams.simultaneous.asked(output):
                self._jobs.append(output)
        elif isinstance(output, Heard) and isinstance(output.message, TcpSide):
            self._streams.simultaneous.told(output)
        elif self._traversal is None:
            return
        elif isinstance(output, Heard):
            self._traversal.heard(output)
        else:
            self._traversal.seek(output.peer)

    def _take_jobs(self) -> list[Output]:
        jobs, self._jobs = self._jobs, []
        return jobs

    async def _do(self, job: Output) -> None:
        if isinstance(job, Close):
            await self._close(job)
            return
        if isinstance(job, Called):
            await self._guard(self._streams.call(job))
            return
        if isinstance(job, Heard):
            await self._guard(self._streams.answer(job))
            return
        async with self._dials:
            if isinstance(job, Probe):
                await self._probe(job)
                return
            assert isinstance(job, Dial | DialRelay)
            connection = await self._dial(job)
        if connection is not None:
            via = job.via if isinstance(job, DialRelay) else None
            try:
                await self._guard(self._on_connection(connection, via))
            finally:
                connection.close()

    async def _guard(self, work: Awaitable[None]) -> None:
        """What goes wrong with one connection that this node made ends that one only."""
        try:
            await work
        except* (trio.BrokenResourceError, trio.ClosedResourceError, RemoteError):
            pass
        except* Exception as group:
            self._on_fault(group)

    async def _dial(self, job: Dial | DialRelay) -> SecureConnection | None:
        """A control connection, or None: the core was told why not."""
        seed = self._seed_attempts.pop(job.attempt, None)
        try:
            connection = await self._dialled(job)
        except LinkRefused as refused:
            self._on_refused(job, seed, refused)
        except (MeshError, OSError) as error:
            if seed is not None:
                self._parts.note("seed not reached", {"address": seed, "reason": str(error)})
        else:
            if seed is not None:
                self._seeds.connected(seed, trio.current_time())
            self.core.dialled(job.attempt)
            return connection
        if seed is not None:
            self._seeds.failed(seed, trio.current_time())
        self.core.dial_failed(job.attempt, trio.current_time())
        self._advance()
        return None

    async def _dialled(self, job: Dial | DialRelay) -> SecureConnection:
        again = AGAIN if job.again else b""
        if isinstance(job, Dial):
            return await dial(job.address, self._credentials, expect=job.expect, argument=again)
        sock = await dial_relay(job.address, job.token)
        return await secure(
            sock, self._credentials, dialler=not job.accept, expect=job.expect, argument=again, relayed=True
        )

    def _on_refused(self, job: Dial | DialRelay, seed: str | None, refused: LinkRefused) -> None:
        if refused.node_id == self.core.node:
            if seed is not None:
                self._own_seeds.add(seed)
            return
        self.refusals.note(job.address, refused.node_id, refused.reason, refused.by_us, time.time())
        facts = {"address": job.address, "reason": refused.reason, "by": "us" if refused.by_us else "them"}
        if refused.node_id:
            facts["node"] = short(refused.node_id)
        self._parts.note("peer refused", facts)

    async def _on_connection(self, connection: Connection, via: NodeId | None = None) -> None:
        if connection.purpose == CONTROL:
            await self._serve_link(connection, via)
        elif connection.purpose != PROBE:
            await self._streams.on_connection(connection)

    async def _serve_link(self, connection: Connection, via: NodeId | None) -> None:
        """Frames of one control connection until it ends."""
        self._connections += 1
        number = self._connections
        channel = Channel(connection)
        self._channels[number] = channel
        try:
            now = trio.current_time()
            carrier = TCP if isinstance(connection, SecureConnection) else QUIC
            again = connection.argument == AGAIN
            if self.core.connected(
                number, connection.peer, now, time.time(), via=via, carrier=carrier, again=again
            ):
                self._advance()
                self._streams.link_made(connection.peer.node_id)

                def on_frame(kind: int, data: bytes) -> None:
                    try:
                        self.core.receive(number, kind, data, trio.current_time(), time.time())
                    finally:
                        self._advance()

                await channel.run(on_frame)
        finally:
            del self._channels[number]
            self.core.closed(number, channel.reason or "not needed", trio.current_time())
            self._advance()

    async def _close(self, job: Close) -> None:
        """Close a connection when what was said last is on its way."""
        channel = self._channels.get(job.connection)
        if channel is not None:
            with trio.move_on_after(GOODBYE_S):
                await channel.flush()
                if job.reason == REPLACED:
                    await trio.sleep_forever()  # the peer's last frames are still under way
                await channel.connection.aclose()
            channel.close(job.reason)

    async def _probe(self, job: Probe) -> None:
        reason = ""
        try:
            connection = await dial(job.address, self._credentials, expect=job.peer, purpose=PROBE)
        except (RemoteError, MeshError, OSError) as error:
            reason = str(error) or type(error).__name__
        else:
            await connection.aclose()
        self.core.tried(job, not reason, reason, trio.current_time())
        self._advance()

    # --- finding others

    def _try_seeds(self, now: float) -> None:
        """Seeds are for a node that has nobody, and now and then for one whose network was cut in two."""
        linked = {link.peer.remote for link in self.core.connector.links.values()}
        for address in self._seeds.due(now):
            if address in linked or address in self._own_seeds:
                self._seeds.connected(address, now)
            else:
                self._seed_attempts[self.core.try_address(address, now)] = address

    async def _discover(self) -> None:
        settings, membership = self.core.settings, self.core.membership
        own = MdnsOwn(membership.network, self.core.node, settings.port, settings.name)
        await serve_mdns(
            own,
            self._on_found,
            on_trouble=lambda trouble: self._parts.note("mdns", {"trouble": trouble}),
            interfaces=self._parts.mdns_interfaces,
        )

    def _on_found(self, address: str, node: NodeId) -> None:
        self.core.found(node, address, trio.current_time())
        self._advance()

    async def _watch_addresses(self) -> None:
        def changed() -> None:
            now = trio.current_time()
            self._seeds.hurry(now)
            self.core.set_addresses(self._own_addresses(), now)
            if self._traversal is not None:
                self._traversal.interface_changed()
            self._advance()

        await watch_addresses(changed)

    def _own_addresses(self) -> list[str]:
        return listening(own_addresses(), self._listens_at)

    # --- keeping

    async def _keep_membership(self) -> None:
        while True:
            await self._keep_wanted.wait()
            self._keep_wanted = trio.Event()
            await self._keep()

    async def _keep(self) -> None:
        try:
            await trio.to_thread.run_sync(self._parts.keep, self.core.membership.state())
        except MeshError as error:
            self._parts.note("membership not kept", {"reason": str(error)})

    def _member_addresses(self) -> list[str]:
        return [view.address for view in self.peers()[1:]]

    async def _say_goodbye(self) -> None:
        self.core.leave(trio.current_time())
        self._drain()
        for channel in list(self._channels.values()):
            await channel.flush()
            await channel.connection.aclose()

    def _on_fault(self, error: Exception) -> None:
        """A fault of ours in one connection ends that one only."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        self._parts.note("fault", {"reason": f"{type(error).__name__}: {error}"})
