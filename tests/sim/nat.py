"""Routers, the Internet between them and nodes that punch through, on virtual time; from one seed.

A router is what it does with outgoing flows (`Mapping`, and how it picks a port), with incoming packets
(`Filtering`), and whether it takes unsolicited ones for its own (`naive`: plain Linux masquerade without an
input filter, where such a packet makes an entry that later keeps a flow from its port). Packets lose a hop at
each router, leave no trace where they die, are lost and late at random.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import lru_cache
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import TypeAlias

from mesh.nat.facts import NatKind
from mesh.nat.ping import PROBE_BYTE, ProbeKind
from mesh.nat.punch import Puncher
from mesh.nat.punch_steps import (
    CloseSockets,
    GaveUp,
    OpenSockets,
    Output,
    Punched,
    SendProbe,
    Side,
    TellOther,
)

Endpoint: TypeAlias = tuple[str, int]
MESH_PORT = 7077
UNREPLIED_S = 30.0  # Linux: nf_conntrack_udp_timeout
STUN_RESENDS_S = (0.0, 0.25, 0.75)  # what the shell does
STUN_GIVES_UP_S = 1.75
STUN_SERVERS: tuple[Endpoint, Endpoint] = (("192.0.2.1", 3478), ("192.0.2.2", 3478))
TTL = 64
STUN = b"\x00stun"


class Mapping(Enum):
    """Which flows share an outside port (RFC 4787 4.1)."""

    NONE = auto()  # nothing is translated
    INDEPENDENT = auto()
    ADDRESS = auto()
    DESTINATION = auto()


class Filtering(Enum):
    """Whose packets a mapping lets in (RFC 4787 5)."""

    NONE = auto()
    ADDRESS = auto()
    PORT = auto()


class Ports(Enum):
    """How a router picks outside ports."""

    KEPT = auto()  # the inside port where it is free
    RANDOM = auto()
    COUNTED = auto()


@dataclass(frozen=True)
class RouterType:
    """One kind of router, and what a node behind it finds out."""

    name: str
    kind: NatKind
    mapping: Mapping = Mapping.INDEPENDENT
    filtering: Filtering = Filtering.PORT
    ports: Ports = Ports.KEPT
    naive: bool = False
    blocks: bool = False
    carrier: bool = False  # another router of the port-restricted kind before it
    bare: bool = False  # no router at all


TYPES = {
    made.name: made
    for made in (
        RouterType("public", NatKind.OPEN, bare=True),
        RouterType("firewalled", NatKind.CONSISTENT, Mapping.NONE),
        RouterType("full cone", NatKind.OPEN, filtering=Filtering.NONE, ports=Ports.RANDOM),
        RouterType("address-restr.", NatKind.CONSISTENT, filtering=Filtering.ADDRESS, ports=Ports.RANDOM),
        RouterType("port-restr.", NatKind.CONSISTENT, ports=Ports.RANDOM),
        RouterType("masquerade", NatKind.CONSISTENT, Mapping.DESTINATION, naive=True),
        RouterType("carrier", NatKind.CONSISTENT, carrier=True),
        RouterType("sym. random", NatKind.IMPENETRABLE, Mapping.DESTINATION, ports=Ports.RANDOM),
        RouterType("sym. counting", NatKind.PREDICTABLE, Mapping.DESTINATION, ports=Ports.COUNTED),
        RouterType("blocked", NatKind.BLOCKED, blocks=True),
    )
}
EXTRA = {  # not in the matrix
    made.name: made
    for made in (
        RouterType("by address", NatKind.IMPENETRABLE, Mapping.ADDRESS, ports=Ports.RANDOM),
        RouterType("sym. naive", NatKind.IMPENETRABLE, Mapping.DESTINATION, ports=Ports.RANDOM, naive=True),
    )
}


@dataclass
class _Entry:
    """A mapping; `inside` None: a packet for the router itself."""

    inside: Endpoint | None
    port: int
    used_at: float
    sent_to: dict[Endpoint, float] = field(default_factory=dict)


class Router:
    """One translating router, or a firewall."""

    def __init__(
        self, kind: RouterType, wan: str, random: Random, *, others_per_s: float = 2.0, lifetime_s: float
    ) -> None:
        self.kind = kind
        self.wan = wan
        self.spoiled = 0  # flows that got another port because an unsolicited packet was first
        self._random = random
        self._lifetime_s = lifetime_s
        self._flows: dict[object, _Entry] = {}
        self._ports: dict[tuple[int, object], _Entry] = {}
        self._counter = random.randrange(20000, 50000)
        self._others_per_s = others_per_s  # new flows of other people in the house
        self._counted_at = 0.0

    def outbound(self, source: Endpoint, to: Endpoint, now: float) -> Endpoint | None:
        """The source that the world sees; None: dropped."""
        if self.kind.blocks:
            return None
        scope = self._scope(to)
        entry = self._flows.get((source, scope))
        if entry is None or now - entry.used_at > self._lifetime_s:
            entry = self._map(source, scope, now)
        entry.used_at = now
        entry.sent_to[to] = now
        return (source[0] if self.kind.mapping is Mapping.NONE else self.wan, entry.port)

    def inbound(self, source: Endpoint, to: Endpoint, now: float) -> Endpoint | None:
        """Where in the house a packet goes; None: dropped."""
        scope = to if self.kind.mapping is Mapping.NONE else self._scope(source)
        entry = self._ports.get((to[1], scope))
        if entry is None or now - entry.used_at > self._lifetime_s:
            if self.kind.naive:
                self._ports[to[1], scope] = _Entry(None, to[1], now)
            return None
        if entry.inside is None or not self._lets_in(entry, source, now):
            return None
        entry.used_at = now
        return entry.inside

    def _lets_in(self, entry: _Entry, source: Endpoint, now: float) -> bool:
        sent_to = entry.sent_to
        match self.kind.filtering:
            case Filtering.NONE:
                return True
            case Filtering.ADDRESS:
                return any(source[0] == host for host, _ in sent_to)
            case Filtering.PORT:
                return now - sent_to.get(source, -inf) <= self._lifetime_s

    def _scope(self, to: Endpoint) -> object:
        match self.kind.mapping:
            case Mapping.ADDRESS:
                return to[0]
            case Mapping.DESTINATION:
                return to
            case _:
                return None

    def _map(self, source: Endpoint, scope: object, now: float) -> _Entry:
        scope_in = source if self.kind.mapping is Mapping.NONE else scope
        port = source[1] if self.kind.mapping is Mapping.NONE else self._pick(source[1], scope_in, now)
        entry = _Entry(source, port, now)
        self._flows[source, scope] = self._ports[port, scope_in] = entry
        return entry

    def _pick(self, wanted: int, scope: object, now: float) -> int:
        if self.kind.ports is Ports.KEPT and self._free(wanted, scope, now):
            return wanted
        if self.kind.ports is Ports.COUNTED:
            self._count_others(now)
            while True:
                self._counter = self._counter + 1 if self._counter < 65535 else 1024
                if self._free(self._counter, scope, now):
                    return self._counter
        self.spoiled += self.kind.ports is Ports.KEPT
        while True:
            port = self._random.randrange(1024, 65536)
            if self._free(port, scope, now):
                return port

    def _count_others(self, now: float) -> None:
        mean = (now - self._counted_at) * self._others_per_s
        self._counted_at = now
        while mean > 0 and (mean := mean - self._random.expovariate(1.0)) > 0:
            self._counter += 1

    def _free(self, port: int, scope: object, now: float) -> bool:
        entry = self._ports.get((port, scope))
        return entry is None or now - entry.used_at > self._lifetime_s


@lru_cache(100_000)
def endpoint(address: str) -> Endpoint:
    host, _, port = address.rpartition(":")
    return host, int(port)


def shown(what: Output | bytes) -> str:
    """For a trace."""
    if isinstance(what, bytes):
        return f"{ProbeKind(what[2]).name} {what[11:15].hex()}" if what[0] == PROBE_BYTE else repr(what)
    if isinstance(what, SendProbe):
        ttl = f", TTL {what.ttl}" if what.ttl else ""
        return f"sent from {what.socket} to {what.address}{ttl}: {shown(what.data)}"
    return str(what)[:160]


def text(address: Endpoint) -> str:
    return f"{address[0]}:{address[1]}"


@dataclass
class Conditions:
    """What the network between the two is like."""

    one_way_s: float = 0.02  # between the homes
    relay_one_way_s: float = 0.03  # over the relay
    stun_one_way_s: float = 0.012
    loss: float = 0.0
    jitter: float = 0.1  # of a delay, uniform
    hops: int = 8  # between the outermost routers
    stalls: float = 0.0  # share of relayed messages that TCP has to send again
    lifetime_s: float = UNREPLIED_S


class World:
    """Virtual time, hosts, the way between them. `heard`: packets to hosts that are no node's, by host."""

    def __init__(self, random: Random, conditions: Conditions) -> None:
        self.now = 0.0
        self.random = random
        self.conditions = conditions
        self.hosts: dict[str, Host] = {}
        self.heard: dict[str, int] = {}
        self._owners: dict[str, Host] = {}  # outside address -> the host behind its router
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def add(self, host: "Host") -> None:
        self.hosts[host.address] = host
        self._owners[host.outside] = host

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._events, (when, self._order, do))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= until and not done():
            self.now, _, do = heappop(self._events)
            do()
        if not done():
            self.now = until

    def send(self, host: "Host", port: int, to: Endpoint, ttl: int, data: bytes) -> None:
        """One datagram: out through the host's routers now, in through the other's when it arrives."""
        near = self.hosts.get(to[0])
        if near is not None and near.routers and near.lan is host.lan:
            self._later(0.0005, lambda: near.take(to[1], (host.address, port), data))
            return
        source: Endpoint | None = (host.address, port)
        for router in host.routers:
            ttl -= 1
            source = router.outbound(source, to, self.now) if source and ttl > 0 else None
        if source is None or self.random.random() < self.conditions.loss:
            return
        if to in STUN_SERVERS:
            if data == STUN:
                self._later(
                    2 * self.conditions.stun_one_way_s, lambda: self._enter(host, to, source, TTL, data)
                )
            return
        there = self._owners.get(to[0])
        ttl -= self.conditions.hops
        if ttl <= 0 or to[0].startswith(("10.", "192.168.", "100.64.")):
            return
        if there is None:
            self.heard[to[0]] = self.heard.get(to[0], 0) + 1
        elif there is not host and (not host.routers or there.lan is not host.lan):  # no hairpin
            self._later(self.conditions.one_way_s, lambda: self._enter(there, source, to, ttl, data))

    def _later(self, delay_s: float, do: Callable[[], None]) -> None:
        self.at(self.now + delay_s * (1 + self.conditions.jitter * self.random.random()), do)

    def _enter(self, host: "Host", source: Endpoint, to: Endpoint, ttl: int, data: bytes) -> None:
        into: Endpoint | None = to
        for router in reversed(host.routers):
            into = router.inbound(source, into, self.now) if into and ttl > 0 else None
            ttl -= 1
        if into is not None and ttl > 0 and into[0] in self.hosts:
            self.hosts[into[0]].take(into[1], source, data if data != STUN else STUN + text(to).encode())


class Host:
    """A node: sockets by port, its routers from the inside out."""

    def __init__(self, world: World, address: str, routers: Sequence[Router]) -> None:
        self.world = world
        self.address = address
        self.routers = tuple(routers)
        self.lan = routers[0] if routers else self  # who shares it is in one LAN
        translated = routers and routers[-1].kind.mapping is not Mapping.NONE
        self.outside = routers[-1].wan if translated else address  # the host that the world sees
        self.take: Callable[[int, Endpoint, bytes], None] = lambda port, source, data: None
        world.add(self)


class Node:
    """The shell of a `Puncher` in this world."""

    def __init__(self, host: Host, kind: NatKind) -> None:
        self.host = host
        self.kind = kind
        self.puncher: Puncher | None = None
        self.other: Node | None = None
        self.finished_at = inf
        self.sent = 0
        self.closed: set[int] = set()
        self.came: list[tuple[int, Endpoint, bytes]] = []  # what is no probe
        self.mapped: list[str] = []
        self._ports: dict[int, int] = {0: MESH_PORT}
        self._sockets: dict[int, int] = {MESH_PORT: 0}
        self._asking: dict[tuple[int, Endpoint], Callable[[str], None]] = {}
        self.said_until = 0.0  # when all that was told over the relay has arrived
        self._wake_at = inf
        self.trace: Callable[[str], None] | None = None
        host.take = self.take

    @property
    def world(self) -> World:
        return self.host.world

    def survey(self) -> None:
        """Ask two STUN servers from the mesh port: what the node knows of itself."""
        for server in STUN_SERVERS:
            self._stun(0, server, self.mapped.append)

    def side(self) -> Side:
        own = text((self.host.address, MESH_PORT))
        return Side((own, *dict.fromkeys(self.mapped)), self.kind, 1 if self.kind == "predictable" else None)

    def begin(self, puncher: Puncher, other: "Node") -> None:
        self.puncher, self.other = puncher, other
        self.pump()

    def take(self, port: int, source: Endpoint, data: bytes) -> None:
        socket = self._sockets.get(port)
        if socket is None or socket in self.closed:
            return
        if self.trace is not None:
            self.trace(f"heard on {socket} from {text(source)}: {shown(data)}")
        if data.startswith(STUN):
            if (answer := self._asking.pop((socket, source), None)) is not None:
                answer(data[len(STUN) :].decode())
        elif data[0] == PROBE_BYTE:
            if self.puncher is not None:
                self.puncher.receive(socket, data, text(source), self.world.now)
                self.pump()
        else:
            self.came.append((socket, source, data))

    def send(self, socket: int, address: str, data: bytes, ttl: int | None = None) -> None:
        self.sent += 1
        self.world.send(self.host, self._ports[socket], endpoint(address), ttl or TTL, data)

    def pump(self) -> None:
        assert self.puncher is not None
        for output in self.puncher.outputs():
            self._do(output)
        due = self.puncher.deadline()
        if due is not None and due != self._wake_at:
            self._wake_at = due
            self.world.at(due, lambda: self._wake(due))

    def _wake(self, due: float) -> None:
        if due == self._wake_at and self.puncher is not None:
            self._wake_at = inf
            self.puncher.on_deadline(self.world.now)
            self.pump()

    def _do(self, output: Output) -> None:
        if self.trace is not None:
            self.trace(shown(output))
        match output:
            case SendProbe(socket, address, data, ttl):
                self.send(socket, address, data, ttl)
            case OpenSockets(count, stun):
                self._open(count, stun)
            case CloseSockets(ids):
                self.closed.update(ids)
            case TellOther(candidates):
                self._tell(candidates)
            case Punched() | GaveUp():
                self.finished_at = self.world.now

    def _open(self, count: int, stun: bool) -> None:
        ids = []
        for _ in range(count):
            port = self.world.random.randrange(32768, 60999)
            if port not in self._sockets:
                number = len(self._ports)
                self._ports[number], self._sockets[port] = port, number
                ids.append(number)
        assert self.puncher is not None
        self.puncher.opened(ids, self.world.now)
        if stun:
            self._stun(ids[0], STUN_SERVERS[0], lambda address: self._mapped(ids[0], address))
            self.world.at(self.world.now + STUN_GIVES_UP_S, lambda: self._mapped(ids[0], None))

    def _mapped(self, socket: int, address: str | None) -> None:
        assert self.puncher is not None
        self._asking.pop((socket, STUN_SERVERS[0]), None)
        self.puncher.mapped(socket, address, self.world.now)
        self.pump()

    def _stun(self, socket: int, server: Endpoint, answer: Callable[[str], None]) -> None:
        self._asking[socket, server] = answer
        for delay_s in STUN_RESENDS_S:
            self.world.at(self.world.now + delay_s, lambda: self._ask(socket, server, answer))

    def _ask(self, socket: int, server: Endpoint, answer: Callable[[str], None]) -> None:
        if self._asking.get((socket, server)) is answer:
            self.send(socket, text(server), STUN)

    def _tell(self, candidates: tuple[str, ...]) -> None:
        """In order, over TCP."""
        conditions, random = self.world.conditions, self.world.random
        delay_s = conditions.relay_one_way_s * (1 + conditions.jitter * random.random())
        if random.random() < conditions.stalls:
            delay_s += random.uniform(0.2, 0.4)
        self.said_until = max(self.said_until + 1e-6, self.world.now + delay_s)
        other = self.other
        assert other is not None
        self.world.at(self.said_until, lambda: other.told(candidates))

    def told(self, candidates: tuple[str, ...]) -> None:
        if self.puncher is not None:
            self.puncher.told(candidates, self.world.now)
            self.pump()


@dataclass(frozen=True)
class Outcome:
    """One pair's session. `took_s`: from the initiator's word to its path, inf without one."""

    took_s: float
    ideal_s: float  # two round trips
    path: str
    reason: str
    sent: int
    spoiled: int


class Pair:
    """Two nodes behind routers of their own, or behind one, and what happens when one calls the other.

    `vouched`: the relay says from which hosts it hears the two. `idle_s`: since they asked a STUN server.
    """

    def __init__(
        self,
        types: tuple[RouterType, RouterType],
        seed: int,
        conditions: Conditions | None = None,
        *,
        eager: bool = True,
        vouched: bool = True,
        together: bool = False,
        idle_s: float = 10.0,
    ) -> None:
        self.name = f"{types[0].name}/{types[1].name} seed {seed}"
        self.random = Random(self.name)
        self.world = World(self.random, replace(conditions) if conditions else drawn(self.random))
        self.eager = eager
        self.vouched = vouched
        first = self._node(types[0], 1)
        self.nodes = (first, self._node(types[1], 2, first.host.routers if together else None))
        for node in self.nodes:
            node.survey()
        self.world.run(3.0 + idle_s)

    def punch(self) -> Outcome:
        """Call, answer, punch; the path that was found is used both ways before it counts."""
        initiator, responder = self.nodes
        began, secret = self.world.now, self.random.randbytes(16)
        called_at = began + self._relayed_s()
        answered_at = called_at + self._relayed_s()
        responder.said_until = answered_at  # what the responder tells next does not overtake its answer
        own, other = initiator.side(), responder.side()
        self.world.at(called_at, lambda: self._begin(responder, initiator, other, own, secret))
        self.world.at(answered_at, lambda: self._begin(initiator, responder, own, other, secret))
        self.world.run(began + 12.0, lambda: initiator.finished_at < inf and responder.finished_at < inf)
        return self._outcome(began)

    def _begin(self, node: Node, peer: Node, own: Side, other: Side, secret: bytes) -> None:
        node.begin(
            Puncher(
                secret,
                initiator=node is self.nodes[0],
                own=own,
                other=other,
                round_trip_s=2 * self.world.conditions.relay_one_way_s,
                eager=self.eager,
                random=Random(self.random.random()),
                now=self.world.now,
                vouched=[peer.host.outside] if self.vouched else (),
            ),
            peer,
        )

    def _outcome(self, began: float) -> Outcome:
        initiator, responder = self.nodes
        assert initiator.puncher is not None and responder.puncher is not None
        found, theirs = initiator.puncher.result, responder.puncher.result
        spoiled = sum(router.spoiled for node in self.nodes for router in node.host.routers)
        ideal_s = 2 * (self.world.conditions.one_way_s + self.world.conditions.relay_one_way_s)
        sent = initiator.sent + responder.sent
        assert found is not None and theirs is not None, f"{self.name}: no end"
        if isinstance(found, GaveUp):
            return Outcome(inf, ideal_s, "", found.reason, sent, spoiled)
        took_s = initiator.finished_at - began
        assert isinstance(theirs, Punched), f"{self.name}: only one end knows of the path"
        self._carry(initiator, found, responder, theirs)
        return Outcome(took_s, ideal_s, found.address, "", sent, spoiled)

    def _carry(self, initiator: Node, found: Punched, responder: Node, theirs: Punched) -> None:
        """As QUIC would: from the socket, to the address, both ways."""
        self.world.conditions.loss = 0.0
        initiator.send(found.socket, found.address, b"\xc0 there")
        self.world.run(self.world.now + 1.0)
        came = [(theirs.socket, endpoint(theirs.address), b"\xc0 there")]
        assert responder.came == came, f"{self.name}: the path carries nothing"
        responder.send(theirs.socket, theirs.address, b"\xc0 back")
        self.world.run(self.world.now + 1.0)
        came = [(found.socket, endpoint(found.address), b"\xc0 back")]
        assert initiator.came == came, f"{self.name}: the path carries nothing back"

    def _relayed_s(self) -> float:
        conditions = self.world.conditions
        delay_s = conditions.relay_one_way_s * (1 + conditions.jitter * self.random.random())
        return delay_s + (self.random.uniform(0.2, 0.4) if self.random.random() < conditions.stalls else 0.0)

    def _node(self, kind: RouterType, number: int, routers: Sequence[Router] | None = None) -> Node:
        wan, lan = f"198.51.100.{number}", f"192.168.{1 if routers else number}.{10 * number}"
        if kind.bare:
            return Node(Host(self.world, wan, ()), kind.kind)
        if routers is None:
            routers = self._routers(kind, number, wan)
        return Node(Host(self.world, wan if kind.mapping is Mapping.NONE else lan, routers), kind.kind)

    def _routers(self, kind: RouterType, number: int, wan: str) -> list[Router]:
        lifetime_s = self.world.conditions.lifetime_s
        routers = [Router(kind, wan, self.random, lifetime_s=lifetime_s)]
        if kind.carrier:
            home = RouterType("home", NatKind.CONSISTENT)
            routers.insert(0, Router(home, f"100.64.{number}.2", self.random, lifetime_s=lifetime_s))
        return routers


def drawn(random: Random) -> Conditions:
    """Two homes of one continent: 10 to 80 ms apart, the relay not quite on the way."""
    one_way_s = random.uniform(0.005, 0.04)
    return Conditions(
        one_way_s=one_way_s,
        relay_one_way_s=one_way_s * random.uniform(1.0, 1.5) + 0.002,
        stun_one_way_s=random.uniform(0.005, 0.02),
        loss=random.choice((0.0, 0.0, 0.005, 0.02)),
        stalls=random.choice((0.0, 0.01)),
        hops=random.randint(3, 12),
    )


def is_hopeless(kinds: Sequence[NatKind]) -> bool:
    """Whether only a relay connects two: both ports depend on the destination, and one cannot be foretold.

    Nothing that one end sends is then met with more than 1 in 64512, whatever the other counts.
    """
    if NatKind.BLOCKED in kinds:
        return True
    hard = {NatKind.IMPENETRABLE, NatKind.PREDICTABLE}
    return NatKind.IMPENETRABLE in kinds and hard.issuperset(kinds)
