"""Many gossip cores on virtual time: a heap of events, a seeded network between them.

Everything random comes from one seed; two runs with the same seed make the same `Network.digest`.
A link is what the cores know of it; under it every message may be lost, late, doubled or cut off.
"""

import hashlib
import heapq
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mesh.directory.gossip import Changed, Gone, Gossip
from mesh.directory.record import Kind, Record, parse_record_untrusted
from mesh.errors import WireError
from mesh.membership.outbox import Connect, Release, Send
from mesh.model import SIGNATURE_BYTES, NodeId

FRAMING_BYTES = 20 + 32 + 22 + 2  # IPv4, TCP with timestamps, a TLS 1.3 record, the message's length
LAN_DELAY_S = (0.01, 0.06)  # as the memberlist model has them
WAN_DELAY_S = (0.01, 0.15)
REMEMBERED_RECORDS = 200_000
NETWORK_ID = b"n" * 32
WHO_PAYLOAD = b"w" * 40  # name, version, roles
LOAD_PAYLOAD = b"l" * 24  # seven numbers


class FakeSigner:
    """Signs with a counter and a checksum: unique ids, and forgery is found, for a microsecond."""

    def __init__(self, node_id: NodeId, life: int = 0) -> None:
        self.node_id = node_id
        self._tag = hashlib.blake2b(node_id + life.to_bytes(8, "big"), digest_size=8).digest()
        self._serial = 0

    def sign(self, message: bytes) -> bytes:
        self._serial += 1
        unique = hashlib.blake2b(self._tag + self._serial.to_bytes(8, "big"), digest_size=8).digest()
        return (unique + zlib.crc32(self.node_id + message).to_bytes(4, "big")).ljust(SIGNATURE_BYTES, b"\0")


def fake_verify(node_id: NodeId, message: bytes, signature: bytes) -> bool:
    return int.from_bytes(signature[8:12], "big") == zlib.crc32(node_id + message)


@dataclass(frozen=True)
class Loss:
    """Messages lost: independently at `rate`, or in bursts.

    With `burst_s`, each directed pair of nodes is bad for about that long, losing nine tenths, so often that
    `rate` is lost in all (Gilbert-Elliott with times instead of packets). `resent`: nothing is lost, but a
    lost packet comes a retransmission timeout later and holds up what follows, as TCP does it.
    """

    rate: float = 0.0
    burst_s: float = 0.0
    resent: bool = False


class SimNode:
    """A core and its surroundings: clock, slowness, links."""

    __slots__ = ("drift", "gossip", "index", "links", "offset", "sent_bytes", "slow_s", "up", "wake_at")

    def __init__(self, index: int) -> None:
        self.index = index
        self.up = False
        self.offset = 0.0
        self.drift = 1.0
        self.slow_s = 0.0
        self.sent_bytes = 0
        self.wake_at = float("inf")
        self.links: set[int] = set()
        self.gossip: Gossip


class Network:
    """`size` nodes, none started. Times are simulated seconds since the beginning."""

    def __init__(
        self,
        size: int,
        seed: int,
        loss: Loss = Loss(),
        delay_s: tuple[float, float] = LAN_DELAY_S,
        duplicates: float = 0.0,
    ) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.now = 0.0
        self.loss = loss
        self.delay_s = delay_s
        self.duplicates = duplicates
        self.nodes = [SimNode(index) for index in range(size)]
        self.index = {node_id(index): index for index in range(size)}
        self.messages = 0
        self.bytes = 0
        self.wire_errors = 0
        self.generation = 1
        self.on_changed: Callable[[int, Record], None] | None = None
        self.on_gone: Callable[[int, NodeId, str], None] | None = None
        self.filter: Callable[[int, int, bytes], bytes | None] | None = None
        self._heap: list[tuple[float, int, int, int, object]] = []
        self._serial = 0
        self._groups: list[int] | None = None
        self._bursts: dict[tuple[int, int], tuple[bool, float]] = {}
        self._arrivals: dict[tuple[int, int], float] = {}
        self._parsed: dict[bytes, Record] = {}
        self._digest = 0

    # --- what happens to nodes

    def start(self, index: int, *, drift: float = 1.0, offset: float = 0.0) -> Gossip:
        """A node begins a life; it knows nobody."""
        node = self.nodes[index]
        node.up = True
        node.wake_at = float("inf")
        node.drift, node.offset = drift, offset
        self.generation += 1
        node.gossip = Gossip(
            FakeSigner(node_id(index), self.generation),
            NETWORK_ID,
            fake_verify,
            Random(self.random.getrandbits(64)),
            self.generation,
            self.clock(node),
            self._parse,
        )
        node.gossip.publish(Kind.WHO, WHO_PAYLOAD, self.clock(node))
        self._after(node)
        return node.gossip

    def join(self, index: int, seed: int) -> None:
        """A node that was started dials a seed."""
        self._dial(index, seed)

    def start_all(self, every_s: float = 0.01) -> None:
        """Start every node, one after another; each dials a random one that was there before."""
        for index in range(len(self.nodes)):
            self.start(index)
            if index:
                self.join(index, self.random.randrange(index))
            self.run(every_s)

    def start_settled(self, degree: int = 6) -> None:
        """Start every node as if long together: a random overlay, everybody's first record everywhere."""
        size = len(self.nodes)
        for index in range(size):
            self.start(index)
            self.nodes[index].gossip.outputs()
        records = [node.gossip.directory.record(node_id(node.index), Kind.WHO) for node in self.nodes]
        everything = self.nodes[0].gossip.directory
        for record in records[1:]:
            assert record is not None
            everything.offer(record, self.clock(self.nodes[0]))
        for node in self.nodes:
            node.gossip.directory.hold_as(everything)
            node.gossip.overlay.population = size
        for left, right in self._random_graph(degree):
            self._link(left, right)
            for one, other in ((left, right), (right, left)):
                gossip = self.nodes[one].gossip
                gossip.overlay.activate(gossip.overlay.links[node_id(other)], self.clock(self.nodes[one]))
        for node in self.nodes:
            for other in self.random.sample(range(size), min(20, size)):
                node.gossip.overlay.learn(node_id(other))
            self._after(node)

    def crash(self, index: int) -> None:
        """Silent from now on; nobody is told, links included."""
        node = self.nodes[index]
        node.up = False
        for other in node.links:
            self.nodes[other].links.discard(index)
        node.links.clear()

    def break_link(self, left: int, right: int) -> None:
        """A connection breaks and both sides see it."""
        for one, other in ((left, right), (right, left)):
            node = self.nodes[one]
            node.links.discard(other)
            if node.up:
                node.gossip.link_down(node_id(other), self.clock(node))
                self._after(node)

    def leave(self, index: int) -> None:
        """A node says goodbye; its last messages still go out."""
        node = self.nodes[index]
        node.gossip.leave(self.clock(node))
        self._after(node)
        self.call_at(self.now + self.delay_s[1], lambda: self.crash(index))

    def publish(self, index: int, kind: Kind, payload: bytes) -> Record | None:
        """A node says something; returns the newest record of the kind."""
        node = self.nodes[index]
        node.gossip.publish(kind, payload, self.clock(node))
        self._after(node)
        return node.gossip.directory.record(node.gossip.node, kind)

    def partition(self, groups: list[int] | None) -> None:
        """Only nodes of the same group hear each other; nothing: everybody does."""
        self._groups = groups

    def forbid(self, index: int, revoked: int) -> None:
        """A node learns of a revocation."""
        node = self.nodes[index]
        node.gossip.forbid(node_id(revoked), self.clock(node))
        self._after(node)

    def inject(self, source: int, target: int, data: bytes) -> None:
        """A node that does not follow the protocol sends something over its link."""
        self._send(source, target, data)

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Something to happen at a time."""
        self._push(when, _CALL, 0, callback)

    # --- time

    def clock(self, node: SimNode) -> float:
        """What the node's own clock says now."""
        return self.now * node.drift + node.offset

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        heap, nodes = self._heap, self.nodes
        while heap and heap[0][0] <= until:
            self.now, _, what, index, argument = heapq.heappop(heap)
            if what == _CALL:
                assert callable(argument)
                argument()
                continue
            node = nodes[index]
            if not node.up:
                continue
            if what == _WAKE:
                if node.wake_at == self.now:  # otherwise it was set to ring earlier since
                    self._wake(node)
            elif what == _DELIVER:
                self._deliver(node, argument)
            else:
                self._connected(node, argument)
        self.now = until

    @property
    def digest(self) -> int:
        """A checksum of every delivery so far, its time included."""
        return self._digest

    def alive(self) -> list[SimNode]:
        """Nodes that run."""
        return [node for node in self.nodes if node.up]

    def is_consistent(self) -> bool:
        """Whether every running node holds the same records, of all running nodes."""
        running = self.alive()
        views = {tuple(sorted(record.id for record in node.gossip.directory)) for node in running}
        everybody = {node.gossip.node for node in running}
        return len(views) == 1 and set(running[0].gossip.directory.members()) == everybody

    def known_dead(self, index: int) -> int:
        """How many running nodes do not count a node as a member."""
        return sum(node_id(index) not in node.gossip.directory for node in self.alive())

    # --- inside

    def _wake(self, node: SimNode) -> None:
        node.wake_at = float("inf")
        # A clock that drifts may show its own alarm time a little early.
        node.gossip.on_deadline(self.now * node.drift + node.offset + _ROUNDING_S)
        self._after(node)

    def _deliver(self, node: SimNode, argument: object) -> None:
        source, data = argument  # type: ignore[misc]  # as `_send` made it
        if source not in node.links:
            return
        self._digest = zlib.crc32(data, self._digest ^ int(self.now * 1e6) & 0xFFFFFFFF)
        try:
            node.gossip.receive(_NODE_IDS[source], data, self.now * node.drift + node.offset)
        except WireError:
            self.wire_errors += 1
        self._after(node)

    def _after(self, node: SimNode) -> None:
        """Carry out what a core wants and set its alarm."""
        gossip = node.gossip
        for output in gossip.outputs():
            kind = type(output)
            if kind is Send:
                self._send(node.index, self.index[output.peer], output.data)
            elif kind is Changed:
                if self.on_changed is not None:
                    self.on_changed(node.index, output.record)
            elif kind is Connect:
                self._dial(node.index, self.index[output.peer])
            elif kind is Release:
                self._release(node.index, self.index[output.peer])
            elif kind is Gone and self.on_gone is not None:
                self.on_gone(node.index, output.node, output.reason)
        deadline = gossip.deadline()
        if deadline is not None:
            when = max((deadline - node.offset) / node.drift, self.now)
            if when < node.wake_at:
                node.wake_at = when
                self._push(when, _WAKE, node.index, None)

    def _send(self, source: int, target: int, data: bytes) -> None:
        node = self.nodes[source]
        self.messages += 1
        size = len(data) + FRAMING_BYTES
        self.bytes += size
        node.sent_bytes += size
        if target not in node.links or (self._groups is not None and not self._reachable(source, target)):
            return
        if self.filter is not None:
            filtered = self.filter(source, target, data)
            if filtered is None:
                return
            data = filtered
        low, high = self.delay_s
        random = self.random.random
        delay = low + (high - low) * random() + node.slow_s + self.nodes[target].slow_s
        loss = self.loss
        if loss.rate:
            if loss.resent:
                delay = self._resent(source, target, delay)
            elif self._is_lost(source, target) if loss.burst_s else random() < loss.rate:
                return
        self._serial += 1
        heapq.heappush(self._heap, (self.now + delay, self._serial, _DELIVER, target, (source, data)))
        if self.duplicates and random() < self.duplicates:
            again = low + (high - low) * random()
            self._push(self.now + delay + again, _DELIVER, target, (source, data))

    def _is_lost(self, source: int, target: int) -> bool:
        loss = self.loss
        bad, until = self._bursts.get((source, target), (False, 0.0))
        if until <= self.now:
            share = loss.rate / _BURST_LOSS
            bad = self.random.random() < share if until == 0.0 or until < self.now - 60 else not bad
            mean = loss.burst_s if bad else loss.burst_s * (1 - share) / share
            self._bursts[source, target] = (bad, self.now + self.random.expovariate(1 / mean))
        return bad and self.random.random() < _BURST_LOSS

    def _resent(self, source: int, target: int, delay: float) -> float:
        """Delay of a packet that TCP repeats until it arrives, in order."""
        timeout = _RTO_MIN_S + sum(self.delay_s)
        while self.random.random() < self.loss.rate:
            delay += timeout
            timeout *= 2
        arrival = max(self.now + delay, self._arrivals.get((source, target), 0.0))
        self._arrivals[source, target] = arrival
        return arrival - self.now

    def _reachable(self, source: int, target: int) -> bool:
        groups = self._groups
        return self.nodes[target].up and (groups is None or groups[source] == groups[target])

    def _dial(self, source: int, target: int) -> None:
        """A connection takes two round trips; it is made if both ends are there then."""
        if target != source:
            took = 4 * self.delay_s[0] + (self.delay_s[1] - self.delay_s[0]) * 4 * self.random.random()
            self._push(self.now + took, _CONNECTED, source, target)

    def _connected(self, node: SimNode, argument: object) -> None:
        assert isinstance(argument, int)
        if not self._reachable(node.index, argument):
            return
        other = self.nodes[argument]
        if other.gossip.directory.is_forbidden(node.gossip.node):
            return
        self._link(node.index, argument)
        self._after(node)
        self._after(other)

    def _link(self, left: int, right: int) -> None:
        for one, other in ((left, right), (right, left)):
            node = self.nodes[one]
            node.links.add(other)
        for one, other in ((left, right), (right, left)):
            node = self.nodes[one]
            node.gossip.link_up(node_id(other), self.clock(node))

    def _release(self, source: int, target: int) -> None:
        """One side closes; the other is told if it can be reached."""
        self.nodes[source].links.discard(target)
        if self._reachable(source, target) and source in self.nodes[target].links:
            other = self.nodes[target]
            other.links.discard(source)
            other.gossip.link_down(node_id(source), self.clock(other))
            self._after(other)

    def _random_graph(self, degree: int) -> list[tuple[int, int]]:
        """Edges of a connected graph: a ring through all nodes in random order, and random chords."""
        size = len(self.nodes)
        order = list(range(size))
        self.random.shuffle(order)
        edges = {_edge(order[at], order[(at + 1) % size]) for at in range(size)}
        degrees = [2] * size
        while True:
            free = [index for index in range(size) if degrees[index] < min(degree, size - 1)]
            if len(free) < 2:
                return sorted(edges)
            self.random.shuffle(free)
            added = 0
            for left, right in zip(free[::2], free[1::2], strict=False):
                if _edge(left, right) not in edges:
                    edges.add(_edge(left, right))
                    degrees[left] += 1
                    degrees[right] += 1
                    added += 1
            if not added:
                return sorted(edges)

    def _parse(self, blob: bytes) -> Record:
        found = self._parsed.get(blob)
        if found is None:
            if len(self._parsed) >= REMEMBERED_RECORDS:
                self._parsed.clear()
            found = self._parsed[blob] = parse_record_untrusted(blob)
        return found

    def _push(self, when: float, what: int, index: int, argument: object) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, what, index, argument))


_WAKE, _DELIVER, _CONNECTED, _CALL = range(4)
_BURST_LOSS = 0.9
_ROUNDING_S = 1e-6
_RTO_MIN_S = 0.2  # Linux
_NODE_IDS: list[NodeId] = []


def node_id(index: int) -> NodeId:
    """The key of the node with this number."""
    while len(_NODE_IDS) <= index:
        _NODE_IDS.append(hashlib.blake2b(len(_NODE_IDS).to_bytes(8, "big"), digest_size=32).digest())
    return _NODE_IDS[index]


def _edge(left: int, right: int) -> tuple[int, int]:
    return (left, right) if left < right else (right, left)
