"""A thousand edges whose measurements waver: none of them runs from one parent to the other and back."""

from random import Random

import pytest

from fwnode.replication.fetching.change import CALM_S, LOOK_S, ROUNDS, Change
from mesh.directory.facts import CarriedStream, Load
from mesh.model import NodeId
from mesh.routing.costs import SETTLE_S, Reach
from mesh.routing.owners import Publication
from mesh.routing.parents import Edge, Member, choose_parent

ORIGIN = bytes(32)
LIVE = Publication(1_700_000_000_000_000, ORIGIN)
NODES = [bytes([number]) * 32 for number in (1, 2, 3)]
SEEDS = 1000
LOOKS = 60  # five minutes
CHANGES_MAX = 3  # as many as fit into five minutes when each doubles the time to the next


def member(node: NodeId, rtt_s: float, cpu: float) -> Member:
    carried = CarriedStream("cam", LIVE.epoch_unix_us, 1, ["v1"], ORIGIN, ORIGIN, 3_000_000)
    return Member(node, carried, Load(0, 0, cpu, 0, 0, 0), Reach.DIRECT, rtt_s)


class Simulated:
    """An edge that looks every LOOK_S at members whose round trips and load waver."""

    def __init__(self, random: Random, waver: float) -> None:
        self.random = random
        self.waver = waver
        self.rtts_s = {node: random.uniform(0.02, 0.06) for node in NODES}
        self.change = Change()
        self.parent = random.choice(NODES)
        self.since = self.now = 0.0
        self.changes = 0

    def look(self) -> None:
        self.now += LOOK_S
        edge = Edge(bytes([9]) * 32, "cam", LIVE, self.parent, self.since)
        spread = self.random.uniform
        members = [
            member(node, rtt_s * (1 + spread(-self.waver, self.waver)), spread(0, min(1.0, self.waver)))
            for node, rtt_s in self.rtts_s.items()
        ]
        best = self.change.look(choose_parent(edge, members, self.now), self.parent, self.now)
        if best is not None:
            self.change.began(self.now)
            self.parent, self.since = best, self.now
            self.changes += 1


@pytest.mark.parametrize("waver", [0.2, 0.9])
def test_wavering_measurements_change_little(waver: float) -> None:
    for seed in range(SEEDS // 2):
        edge = Simulated(Random(seed), waver)
        for _ in range(LOOKS):
            edge.look()
        assert edge.changes <= CHANGES_MAX, f"seed {seed}: {edge.changes} changes"


def test_small_wavering_ends_at_one_parent() -> None:
    for seed in range(100):
        edge = Simulated(Random(seed), 0.1)
        for _ in range(LOOKS // 2):
            edge.look()
        changes = edge.changes
        for _ in range(LOOKS // 2):
            edge.look()
        assert edge.changes == changes, f"seed {seed}"


def test_one_that_is_better_for_good_is_taken_soon() -> None:
    for seed in range(100):
        edge = Simulated(Random(seed), 0.3)
        better = next(node for node in NODES if node != edge.parent)
        edge.rtts_s = {node: 0.02 if node == better else 0.4 for node in NODES}
        while edge.parent != better:
            edge.look()
            assert edge.now <= SETTLE_S + (ROUNDS + 1) * LOOK_S + CALM_S, f"seed {seed}"
