"""The baseline: a model of memberlist (SWIM with Lifeguard) over UDP, its LAN and WAN defaults.

Source: hashicorp/memberlist config.go, state.go, suspicion.go, awareness.go; the TCP fallback of probes and
push/pull are left out. It counts what membership alone costs; there is no directory in it.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

ALIVE, SUSPECT, DEAD = range(3)
INDIRECT_PROBES = 3
RETRANSMIT = 4
SUSPICION_MAX = 6
AWARENESS_MAX = 8
MESSAGE_BYTES = 48
HEADER_BYTES = 28 + 29 + 2  # IPv4 and UDP, encryption, compound header
PING_BYTES = 60
PACKET_BYTES = 1400 - 31


@dataclass(frozen=True)
class Profile:
    """memberlist's defaults, and the network they are for."""

    probe_s: float
    timeout_s: float
    suspicion: int
    gossip_s: float
    gossip_nodes: int
    delay_s: tuple[float, float]


LAN = Profile(1.0, 0.5, 4, 0.2, 3, (0.01, 0.06))
WAN = Profile(5.0, 3.0, 6, 0.5, 4, (0.01, 0.15))

Rumour = tuple[int, int, int, int]  # what, about whom, incarnation, from whom


class _Node:
    def __init__(self, index: int, size: int, random: Random) -> None:
        self.index = index
        self.up = True
        self.incarnation = 0
        self.states: dict[int, tuple[int, int]] = {}
        self.order = [other for other in range(size) if other != index]
        random.shuffle(self.order)
        self.next = 0
        self.awareness = 0
        self.queue: dict[int, tuple[int, Rumour]] = {}
        self.suspicions: dict[int, tuple[float, set[int], int]] = {}


class Memberlist:
    """`size` nodes that know each other. `run` lets simulated seconds pass."""

    def __init__(self, size: int, loss: float, profile: Profile, seed: int) -> None:
        self.size, self.loss, self.profile = size, loss, profile
        self.random = Random(seed)
        self.now = 0.0
        self.bytes = 0
        self.false_deaths: set[tuple[int, int]] = set()
        self.on_update: Callable[[int, int, int], None] | None = None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._serial = 0
        self._limit = RETRANSMIT * math.ceil(math.log10(size + 1))
        self._suspicion_s = profile.suspicion * max(1, math.log10(size)) * profile.probe_s
        self._confirmations = max(0, profile.suspicion - 2)
        self.nodes = [_Node(index, size, self.random) for index in range(size)]
        for node in self.nodes:
            self._at(self.random.random() * profile.probe_s, self._probe, node)
            self._at(self.random.random() * profile.gossip_s, self._gossip, node)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, what, arguments = heapq.heappop(self._heap)
            what(*arguments)
        self.now = until

    def update(self, index: int) -> int:
        """A node says something new of itself; returns its incarnation."""
        node = self.nodes[index]
        node.incarnation += 1
        self._broadcast(node, (ALIVE, index, node.incarnation, index))
        return node.incarnation

    def known_dead(self, index: int) -> int:
        return sum(node.up and self._state(node, index)[0] == DEAD for node in self.nodes)

    def _at(self, when: float, what: Callable[..., None], *arguments: object) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, what, arguments))

    def _state(self, node: _Node, other: int) -> tuple[int, int]:
        return node.states.get(other, (ALIVE, 0))

    def _broadcast(self, node: _Node, rumour: Rumour) -> None:
        node.queue[rumour[1]] = (0, rumour)

    def _take(self, node: _Node, room: int) -> list[Rumour]:
        taken = []
        for subject, (sent, rumour) in sorted(node.queue.items(), key=lambda item: item[1][0]):
            if room < MESSAGE_BYTES + 2:
                break
            taken.append(rumour)
            room -= MESSAGE_BYTES + 2
            if sent + 1 >= self._limit:
                del node.queue[subject]
            else:
                node.queue[subject] = (sent + 1, rumour)
        return taken

    def _send(self, source: int, target: int, base: int) -> bool:
        rumours = self._take(self.nodes[source], PACKET_BYTES - base)
        self.bytes += HEADER_BYTES + base + len(rumours) * (MESSAGE_BYTES + 2)
        if not self.nodes[target].up or self.random.random() < self.loss:
            return False
        if rumours:
            self._at(self.now + self._delay(), self._deliver, self.nodes[target], rumours)
        return True

    def _delay(self) -> float:
        low, high = self.profile.delay_s
        return low + (high - low) * self.random.random()

    def _deliver(self, node: _Node, rumours: list[Rumour]) -> None:
        if node.up:
            for rumour in rumours:
                self._hear(node, rumour)

    def _hear(self, node: _Node, rumour: Rumour) -> None:
        what, subject, incarnation, _ = rumour
        state, known = self._state(node, subject)
        if subject == node.index:
            if what != ALIVE and incarnation >= node.incarnation:
                node.incarnation = incarnation + 1
                node.awareness = min(AWARENESS_MAX - 1, node.awareness + 1)
                self._broadcast(node, (ALIVE, subject, node.incarnation, subject))
        elif what == ALIVE:
            if incarnation > known:
                node.states[subject] = (ALIVE, incarnation)
                node.suspicions.pop(subject, None)
                self._broadcast(node, rumour)
                if self.on_update is not None:
                    self.on_update(node.index, subject, incarnation)
        elif incarnation >= known and state != DEAD:
            if what == SUSPECT:
                self._hear_suspicion(node, rumour, state)
            else:
                node.states[subject] = (DEAD, incarnation)
                node.suspicions.pop(subject, None)
                self._broadcast(node, rumour)

    def _hear_suspicion(self, node: _Node, rumour: Rumour, state: int) -> None:
        _, subject, incarnation, source = rumour
        longest = SUSPICION_MAX * self._suspicion_s if self._confirmations else self._suspicion_s
        if state != SUSPECT:
            node.states[subject] = (SUSPECT, incarnation)
            self._broadcast(node, rumour)
            node.suspicions[subject] = (self.now, {source}, 0)
            self._at(self.now + longest, self._expire, node, subject, 0)
            return
        began, sources, version = node.suspicions.get(subject, (0.0, set(), -1))
        if version < 0 or source in sources or len(sources) - 1 >= self._confirmations:
            return
        sources.add(source)
        share = math.log(len(sources)) / math.log(self._confirmations + 1)
        timeout = max(self._suspicion_s, longest - share * (longest - self._suspicion_s))
        node.suspicions[subject] = (began, sources, version + 1)
        self._at(max(self.now, began + timeout), self._expire, node, subject, version + 1)
        self._broadcast(node, rumour)

    def _expire(self, node: _Node, subject: int, version: int) -> None:
        suspicion = node.suspicions.get(subject)
        if not node.up or suspicion is None or suspicion[2] != version:
            return
        incarnation = self._state(node, subject)[1]
        if self.nodes[subject].up:
            self.false_deaths.add((subject, incarnation))
        self._hear(node, (DEAD, subject, incarnation, node.index))

    def _probe(self, node: _Node) -> None:
        if not node.up:
            return
        interval = self.profile.probe_s * (node.awareness + 1)
        self._at(self.now + interval, self._probe, node)
        target = self._next_target(node)
        if target is None:
            return
        state, incarnation = self._state(node, target)
        reached = self._send(node.index, target, PING_BYTES)
        if state == SUSPECT and reached:
            rumour = (SUSPECT, target, incarnation, node.index)
            self._at(self.now + self._delay(), self._deliver, self.nodes[target], [rumour])
        if reached and self._send(target, node.index, PING_BYTES):
            node.awareness = max(0, node.awareness - 1)
        else:
            self._at(self.now + self.profile.timeout_s, self._probe_indirectly, node, target, interval)

    def _next_target(self, node: _Node) -> int | None:
        for _ in range(self.size):
            if node.next >= len(node.order):
                node.next = 0
                self.random.shuffle(node.order)
            target = node.order[node.next]
            node.next += 1
            if self._state(node, target)[0] != DEAD:
                return target
        return None

    def _probe_indirectly(self, node: _Node, target: int, interval: float) -> None:
        if not node.up:
            return
        reached, missing = False, 0
        for other in self.random.sample(node.order, min(INDIRECT_PROBES, self.size - 1)):
            if other == target:
                continue
            missing += 1
            if self._send(node.index, other, PING_BYTES + 10):
                heard = self._send(other, target, PING_BYTES) and self._send(target, other, PING_BYTES)
                if self._send(other, node.index, PING_BYTES):
                    missing -= 1
                    reached = reached or heard
        if reached:
            node.awareness = max(0, node.awareness - 1)
        else:
            self._at(self.now + interval - self.profile.timeout_s, self._suspect, node, target, missing)

    def _suspect(self, node: _Node, target: int, missing: int) -> None:
        node.awareness = min(AWARENESS_MAX - 1, node.awareness + max(0, missing))
        state, incarnation = self._state(node, target)
        if state != DEAD:
            self._hear(node, (SUSPECT, target, incarnation, node.index))

    def _gossip(self, node: _Node) -> None:
        if not node.up:
            return
        self._at(self.now + self.profile.gossip_s, self._gossip, node)
        for other in self.random.sample(node.order, min(self.profile.gossip_nodes, self.size - 1)):
            if not node.queue:
                return
            if self._state(node, other)[0] != DEAD:
                self._send(node.index, other, 0)
