"""The figures of the design's table, measured on simulated networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from simulator import LOAD_PAYLOAD, Network, node_id

from mesh.directory.record import Kind, Record
from mesh.model import NodeId

BUSY_SHARE = 10  # every tenth node serves viewers, its load changing by a tenth
BUSY_LOAD_S = 10.0  # about this often
QUIET_LOAD_S = 120.0  # the others


@dataclass
class Spread:
    """Seconds until a share of the nodes had each update, sorted."""

    share: float
    times_s: list[float]

    def quantile(self, quantile: float) -> float:
        return self.times_s[min(len(self.times_s) - 1, math.ceil(quantile * len(self.times_s)) - 1)]


def begin_load(network: Network) -> float:
    """Let every node publish its load now and then; returns publications a second in the network."""

    def publish_every(index: int, mean_s: float) -> Callable[[], None]:
        def publish() -> None:
            if network.nodes[index].up:
                network.publish(index, Kind.LOAD, LOAD_PAYLOAD)
            network.call_at(network.now + mean_s * (0.5 + network.random.random()), publish)

        return publish

    rate = 0.0
    for node in network.nodes:
        mean_s = BUSY_LOAD_S if node.index % BUSY_SHARE == 0 else QUIET_LOAD_S
        rate += 1 / mean_s
        when = network.now + mean_s * network.random.random()
        network.call_at(when, publish_every(node.index, mean_s))
    return rate


def measure_updates(network: Network, updates: int, every_s: float, share: float = 0.999) -> Spread:
    """Publish at random nodes and time when `share` of all others have each."""
    began: dict[int, float] = {}
    left: dict[int, int] = {}
    times = []
    needed = math.ceil((len(network.alive()) - 1) * share)

    def changed(index: int, record: Record) -> None:
        if record.id in left and record.owner != node_id(index):
            left[record.id] -= 1
            if left[record.id] == 0:
                times.append(network.now - began[record.id])

    network.on_changed = changed
    for serial in range(updates):
        publisher = network.random.choice(network.alive()).index
        record = network.publish(publisher, Kind.STREAMS, b"s" * 60 + serial.to_bytes(4, "big"))
        assert record is not None
        began[record.id], left[record.id] = network.now, needed
        network.run(every_s)
    network.run(10.0)
    network.on_changed = None
    times += [math.inf] * (updates - len(times))
    return Spread(share, sorted(times))


def measure_crash(network: Network, index: int, share: float = 0.99, within_s: float = 30.0) -> float:
    """Seconds until `share` of the others know that a node crashed; infinite if they do not in time."""
    network.crash(index)
    began = network.now
    while network.known_dead(index) < share * len(network.alive()):
        if network.now - began > within_s:
            return math.inf
        network.run(0.05)
    return network.now - began


def rate_below(events: int, exposure: float, confidence: float = 0.95) -> float:
    """The rate that so many events in so much exposure exclude: the exact one-sided Poisson bound.

    Without an event it is 3.0 / exposure.
    """
    low, high = 0.0, 10.0 + 5.0 * events
    for _ in range(60):
        mean = (low + high) / 2
        chance = sum(math.exp(-mean) * mean**count / math.factorial(count) for count in range(events + 1))
        low, high = (mean, high) if chance > 1 - confidence else (low, mean)
    return high / exposure


class FalseDeaths:
    """Counts nodes wrongly taken for dead: per victim and generation, by how many others."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.victims: set[tuple[NodeId, int]] = set()
        self.believed = 0
        network.on_gone = self._gone

    def _gone(self, index: int, node: NodeId, reason: str) -> None:
        victim = self._network.nodes[self._network.index[node]]
        if reason == "dead" and victim.up:
            self.victims.add((node, victim.gossip.generation))
            self.believed += 1
