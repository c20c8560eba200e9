"""Nodes of one network with real keys and claims: their cores on virtual time, or whole on loopback."""

import hashlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from mesh.directory.facts import Where
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.errors import RemoteError
from mesh.identity.invite import Terms, enrol, make_invite
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.link.model import Peer
from mesh.link.refusals import Refusals
from mesh.link.steps import Close, Dial, Probe
from mesh.model import NodeId, Role
from mesh.node.core import MeshCore
from mesh.node.service import MeshNode, MeshParts
from mesh.node.steps import Keep, MeshSettings, Note, Output, Transmit

NOW = 1_800_000_000
DELAY_S = 0.01
UNREACHED_S = 1.0  # a dial to who cannot be dialled
PROGRAM = "fwnode test"
TURNS_MAX = 20_000  # of one `run`: more is a machine that is due for ever
WAIT_S = 10.0  # real seconds, for what takes milliseconds on an idle machine


def host_of(address: str) -> str:
    return address.rpartition(":")[0]


def key(name: str) -> SecretKey:
    return SecretKey(hashlib.sha256(name.encode()).digest())


class Community:
    """One network. `membership("first")` is of its owner's node, every other name's came by an invite."""

    def __init__(self, owner: str = "owner", now: int = NOW) -> None:
        self.owner = key(owner)
        self.now = now
        self._everything = frozenset({Role.ORIGIN, Role.EDGE, Role.RELAY})

    def membership(self, name: str, roles: frozenset[Role] | None = None) -> Membership:
        node = key(name).node_id
        if name == "first":
            return Membership(found_network(self.owner, node, name, self.now))
        invite = make_invite(
            self.owner,
            self.owner.node_id,
            Terms(roles=roles or self._everything),
            enrolment_seed=key(f"{name}'s invite").seed,
            seeds=(),
            now_unix_s=self.now,
        )
        return Membership(enrol(invite, node, name, self.now).chain)


class Host:
    """One core, what it wanted done, and its ends of connections."""

    def __init__(self, lab: "Lab", name: str, membership: Membership, address: str, generation: int) -> None:
        self.name = name
        self.address = address
        self.dialable = True
        self.alive = True
        self.notes: list[Note] = []
        self.probes: list[Probe] = []
        self.kept = 0
        self.refusals = Refusals()
        self.wires: dict[int, Wire] = {}
        self.errors: list[str] = []  # why connections were closed for a peer's fault
        self.core = MeshCore(
            key(name),
            membership,
            lab.community.owner if name == "first" else None,
            MeshSettings(name, PROGRAM, int(address.rpartition(":")[2])),
            random=Random(name),
            entropy=Random(f"{name}'s entropy").randbytes,
            generation=generation,
            now=lab.now,
            unix_s=lab.unix_s,
        )

    @property
    def node(self) -> NodeId:
        return self.core.node

    def is_linked(self, other: "Host") -> bool:
        return other.node in self.core.connector.links

    def noted(self, event: str) -> list[Mapping[str, str]]:
        return [note.facts for note in self.notes if note.event == event]


class Wire:
    """One connection and its number at either end."""

    def __init__(self, dialler: Host, target: Host, numbers: tuple[int, int]) -> None:
        self.ends = {dialler.node: (dialler, numbers[0]), target.node: (target, numbers[1])}
        self.dialler = dialler
        self.alive = True

    def number(self, host: Host) -> int:
        return self.ends[host.node][1]

    def other(self, host: Host) -> Host:
        return next(end for node, (end, _) in self.ends.items() if node != host.node)


class Lab:
    """Hosts of one network and time. Everything takes DELAY_S; what does not end shows as TURNS_MAX."""

    def __init__(self, community: Community | None = None) -> None:
        self.community = community or Community()
        self.now = 100.0
        self.hosts: dict[str, Host] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers = count(1)

    @property
    def unix_s(self) -> float:
        return self.community.now + self.now

    def add(
        self,
        name: str,
        roles: frozenset[Role] | None = None,
        membership: Membership | None = None,
        generation: int = 1,
    ) -> Host:
        """Start a node; one that was there under this name is replaced."""
        number = len(self.hosts) + 1
        address = self.hosts[name].address if name in self.hosts else f"192.0.2.{number}:7077"
        host = Host(self, name, membership or self.community.membership(name, roles), address, generation)
        host.core.set_addresses([host_of(address)], self.now)
        self.hosts[name] = host
        return host

    def join(self, one: Host, other: Host) -> None:
        """Dial as a seed is dialled, and wait until gossip flows."""
        one.core.try_address(other.address, self.now)
        self.run(1.0)
        assert one.is_linked(other)
        assert other.is_linked(one)

    def small(self, *names: str) -> list[Host]:
        """Nodes that know and are linked to each other."""
        first, *others = [self.add(name) for name in names]
        for other in others:
            self.join(other, first)
        self.run(3.0)
        return [first, *others]

    def at(self, delay_s: float, do: Callable[[], None]) -> None:
        heappush(self._events, (self.now + delay_s, next(self._order), do))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self._settle()
        for _ in range(TURNS_MAX):
            soonest = min(
                [
                    until,
                    *(at for at, _, _ in self._events[:1]),
                    *(host.core.deadline(self.now) for host in self.hosts.values() if host.alive),
                ]
            )
            if soonest >= until:
                self.now = until
                return
            self.now = max(self.now, soonest)
            while self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()
            for host in self.hosts.values():
                if host.alive:
                    host.core.on_deadline(self.now, self.unix_s)
            self._settle()
        raise AssertionError(f"something is due for ever at {self.now}")

    def _settle(self) -> None:
        for host in list(self.hosts.values()):
            for output in host.core.outputs():
                if host.alive:
                    self._do(host, output)

    def _do(self, host: Host, output: Output) -> None:
        match output:
            case Dial():
                self._dial(host, output)
            case Transmit():
                wire = host.wires.get(output.connection)
                if wire is not None and wire.alive:
                    self.at(DELAY_S, lambda: self.deliver(wire, wire.other(host), output.kind, output.data))
            case Close():
                self.close(host, output.connection)
            case Probe():
                host.probes.append(output)
                asker = next(other for other in self.hosts.values() if other.node == output.peer)
                ok = asker.dialable and asker.address == output.address
                self.at(DELAY_S, lambda: host.core.tried(output, ok, "" if ok else "no answer", self.now))
            case Keep():
                host.kept += 1
            case Note():
                host.notes.append(output)
            case _:
                pass  # relays are not played here

    def _dial(self, host: Host, dial: Dial) -> None:
        target = next((other for other in self.hosts.values() if other.address == dial.address), None)
        if target is None or not (target.alive and target.dialable) or dial.expect not in (None, target.node):
            self.at(UNREACHED_S, lambda: host.core.dial_failed(dial.attempt, self.now))
            return
        self.at(2 * DELAY_S, lambda: self._greet(host, target, dial.attempt))

    def _greet(self, host: Host, target: Host, attempt: int) -> None:
        """What the handshake does: each side checks the other's chain."""
        for one, other in ((host, target), (target, host)):
            try:
                one.core.membership.check(other.core.membership.own, self.unix_s)
            except RemoteError as error:
                one.refusals.note(other.address, other.node, str(error), True, self.unix_s)
                host.core.dial_failed(attempt, self.now)
                return
        host.core.dialled(attempt)
        self.connect(host, target)

    def peer(self, host: Host, other: Host, *, dialled: bool, observed: str = "") -> Peer:
        """What `host` knows of the other end of a connection."""
        remote = other.address if dialled else f"{host_of(other.address)}:50000"
        seen = (observed or f"{host_of(host.address)}:50000") if dialled else host.address
        chain, roles = other.core.membership.own, other.core.membership.own_roles
        return Peer(other.node, other.name, roles, chain, PROGRAM, "", remote, seen, dialled, 2 * DELAY_S)

    def connect(self, dialler: Host, target: Host, observed: str = "") -> Wire:
        """A connection between two; `observed`: what the dialler is told that it comes from."""
        wire = Wire(dialler, target, (next(self._numbers), next(self._numbers)))
        for host in (dialler, target):
            host.wires[wire.number(host)] = wire
            peer = self.peer(host, wire.other(host), dialled=host is dialler, observed=observed)
            if not host.core.connected(wire.number(host), peer, self.now, self.unix_s):
                self.close(host, wire.number(host))
        return wire

    def deliver(self, wire: Wire, target: Host, kind: int, data: bytes) -> None:
        """A frame arrives; a peer's fault closes the connection, as the channel does."""
        if not wire.alive or not target.alive:
            return
        try:
            target.core.receive(wire.number(target), kind, data, self.now, self.unix_s)
        except RemoteError as error:
            target.errors.append(str(error))
            self.close(target, wire.number(target))
            target.core.closed(wire.number(target), str(error), self.now)

    def close(self, host: Host, connection: int) -> None:
        """One end closes; the other notices when what was sent before has come."""
        wire = host.wires.pop(connection, None)
        if wire is None:
            return
        other = wire.other(host)

        def end() -> None:
            wire.alive = False
            if other.wires.pop(wire.number(other), None) is not None and other.alive:
                other.core.closed(wire.number(other), "closed by the other side", self.now)

        self.at(2 * DELAY_S, end)

    def crash(self, host: Host) -> None:
        """The machine stops without a word, and nothing says so to its peers."""
        host.alive = False
        for wire in host.wires.values():
            wire.alive = False

    def wire(self, one: Host, other: Host) -> Wire:
        """The connection that their link is on."""
        return one.wires[one.core.connector.links[other.node].connection]


class Running(MeshNode):
    """A whole node that can be waited for."""

    def __init__(self, name: str, membership: Membership, owner: SecretKey | None, parts: "Parts") -> None:
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.parts = parts
        self._moved = trio.Event()
        settings = MeshSettings(name, PROGRAM, self.sock.getsockname()[1], announce=(self.address,))
        super().__init__(key(name), membership, owner, settings, parts.of(self))

    @property
    def node(self) -> NodeId:
        return self.core.node

    def stir(self) -> None:
        """Let `until` look again."""
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _advance(self) -> None:
        super()._advance()
        self.stir()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds; it is looked at whenever the node was told anything."""
        with trio.fail_after(WAIT_S):
            while not condition():
                await self._moved.wait()

    def noted(self, event: str) -> list[Mapping[str, str]]:
        return [facts for name, facts in self.parts.notes if name == event]

    def is_linked(self, other: "Running") -> bool:
        return other.node in self.core.connector.links

    def knows(self, other: "Running") -> bool:
        """Whether it can dial the other."""
        return self.is_linked(other) and self.core.fact(other.node, Where) is not None


class Parts:
    """What one node is given, and what it said."""

    def __init__(self, folder: Path, seeds: tuple[str, ...]) -> None:
        folder.mkdir(exist_ok=True)
        self.notes: list[tuple[str, Mapping[str, str]]] = []
        self.states: list[bytes] = []
        self.seeds = seeds
        self.peers_file = PeersFile(folder / FILE_NAME)

    def of(self, node: Running) -> MeshParts:
        def note(event: str, facts: Mapping[str, str]) -> None:
            self.notes.append((event, facts))
            node.stir()

        return MeshParts(self.states.append, note, self.peers_file, self.seeds, mdns=False)


class Loopback:
    """Makes and runs whole nodes of one network."""

    def __init__(self, folder: Path, community: Community) -> None:
        self._folder = folder
        self._made: list[Running] = []
        self.community = community

    def make(self, name: str, *seeds: str, community: Community | None = None) -> Running:
        """A node that does not run yet; every call gives a new life of it."""
        home = community or self.community
        owner = home.owner if name == "first" else None
        self._made.append(Running(name, home.membership(name), owner, Parts(self._folder / name, seeds)))
        return self._made[-1]

    def close(self) -> None:
        """Give back the addresses of nodes that never ran."""
        for node in self._made:
            node.sock.close()

    @asynccontextmanager
    async def run(self, *nodes: Running) -> AsyncIterator[None]:
        """Run nodes; in the end all of them stop."""
        async with trio.open_nursery() as nursery:
            for node in nodes:
                await nursery.start(node.run, [node.sock])
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def linked(self, *names: str) -> AsyncIterator[list[Running]]:
        """Running nodes, each linked to each."""
        first = self.make(names[0])
        nodes = [first, *(self.make(name, first.address) for name in names[1:])]
        async with self.run(*nodes):
            for node in nodes:
                others = [other for other in nodes if other is not node]
                await node.until(partial(_all, node.is_linked, others))
            yield nodes


def _all(check: Callable[[Running], bool], nodes: list[Running]) -> bool:
    return all(map(check, nodes))


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    # They listen on loopback alone, so that is all they may say, whatever this machine has.
    monkeypatch.setattr("mesh.node.service.own_addresses", lambda: ["127.0.0.1"])
    # Whole nodes go by the real clock, by which their claims must be valid.
    made = Loopback(tmp_path, Community(now=int(time.time()) - 60))
    yield made
    made.close()


@pytest.fixture
def strangers() -> Community:
    """Another network."""
    return Community("another owner", now=int(time.time()) - 60)
