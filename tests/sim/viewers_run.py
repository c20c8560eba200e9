"""Arrivals of a scenario put to a policy, and what came of it."""

import time
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from viewers_policies import Policy
from viewers_world import DEATH_S, REASK_S, Flash, SimViewer, World, arrivals

from mesh.routing.viewer_costs import apart_km
from mesh.routing.viewers import TRIED_MAX

SAMPLE_S = 5.0  # between looks at how full nodes are
BACK_S = 2.0  # a viewer whose node died asks again within
AGAIN_S = 10.0  # who was refused tries again after
MOVE_S = 30.0  # a draining node's viewers are moved within
STOP_S = 60.0  # after it began to drain, a node stops
AWAY_S = 120.0  # and comes back
DRAINS = 0.5  # of all nodes, one after the other


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rate`: viewers a second; `dark`: a region whose nodes all die, and when; `drain_from`: or 0."""

    name: str
    count: int
    rate: float
    flash: Flash | None = None
    dark: tuple[str, float] | None = None
    drain_from: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What happened, with one entry for each viewer, sample of a node, or moment."""

    policy: str
    scenario: str
    km: "array[float]" = field(default_factory=lambda: array("f"))
    when: "array[float]" = field(default_factory=lambda: array("f"))
    redirects: list[int] = field(default_factory=lambda: [0] * 8)
    refused: int = 0  # attempts
    over: "array[float]" = field(default_factory=lambda: array("f"))  # the share beyond the promise
    moments: list[tuple[float, float, float]] = field(default_factory=list)  # time, p99 of fullness, spread
    lost: int = 0  # sent to a node that was dead
    cut: int = 0  # watched a node that stopped
    asked_again: int = 0
    moved: int = 0
    returned: int = 0  # moved back to where they had moved from
    decisions: "array[float]" = field(default_factory=lambda: array("f"))  # microseconds
    digest: int = 0
    took_s: float = 0.0  # of the processor

    def quantile(self, values: Sequence[float], share: float) -> float:
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Run:
    """One policy in one world."""

    def __init__(self, world: World, policy: Policy, scenario: Scenario, *, timed: bool = False) -> None:
        self.world, self.policy, self.scenario = world, policy, scenario
        self.outcome = Outcome(policy.name, scenario.name)
        self._watching: list[dict[int, SimViewer]] = [{} for _ in world.nodes]
        self._timed = timed
        self._measured_from = 0.0
        world.on_load, world.on_carry, world.on_node = policy.told_load, policy.told_carry, policy.told_node

    def run(self) -> Outcome:
        began = time.process_time()
        world, scenario = self.world, self.scenario
        world.begin()
        world.at(SAMPLE_S, self._sample)
        if scenario.dark:
            world.at(scenario.dark[1], self._darken, scenario.dark[0])
        if scenario.drain_from:
            self._plan_drains(scenario.drain_from)
        for arrival in arrivals(world, scenario.count, scenario.rate, scenario.flash):
            world.pass_until(arrival.at)
            self._come(arrival.viewer, arrival.entry)
        self.outcome.took_s = time.process_time() - began
        return self.outcome

    def _come(self, viewer: SimViewer, entry: int) -> None:
        nodes = self.world.nodes
        if not nodes[entry].up:
            entry = viewer.stream.origin  # the link was of a node that is dead: the streamer's is the other
        self._place(viewer, entry)

    def _place(self, viewer: SimViewer, decider: int) -> None:
        """From the node that is asked to the one that serves, over at most TRIED_MAX others."""
        world, outcome = self.world, self.outcome
        tried: frozenset[int] = frozenset()
        redirects = 0
        while True:
            choice = self._choose(decider, viewer, tried)
            if choice is None:
                if tried and world.nodes[decider].up and redirects:
                    chosen = decider  # rather than nobody, the viewer is here
                else:
                    self._refuse(viewer)
                    return
            else:
                chosen, last_resort = choice
                node = world.nodes[chosen]
                if chosen != decider:
                    redirects += 1
                if not node.up:
                    outcome.lost += 1
                    tried |= {chosen}
                    if redirects >= 2 * TRIED_MAX:
                        self._refuse(viewer)
                        return
                    continue
                full = not (
                    world.has_room(node, viewer.stream.bitrate_bps) and world.can_have(viewer.stream, chosen)
                )
                if full and self.policy.sends_on and not last_resort and redirects < TRIED_MAX:
                    tried |= {chosen}
                    decider = chosen
                    continue
            self._serve(viewer, chosen)
            outcome.redirects[min(redirects, 7)] += 1
            return

    def _refuse(self, viewer: SimViewer) -> None:
        self.outcome.refused += 1
        self.world.at(self.world.now + AGAIN_S, self._back, viewer)

    def _choose(self, decider: int, viewer: SimViewer, tried: frozenset[int]) -> tuple[int, bool] | None:
        if not self._timed:
            return self.policy.choose(decider, viewer, tried, self.world.now)
        began = time.process_time()
        choice = self.policy.choose(decider, viewer, tried, self.world.now)
        self.outcome.decisions.append((time.process_time() - began) * 1e6)
        return choice

    def _serve(self, viewer: SimViewer, index: int) -> None:
        world, outcome = self.world, self.outcome
        world.take(viewer, index)
        self._watching[index][viewer.number] = viewer
        outcome.km.append(apart_km(viewer.spot.at, world.nodes[index].spot.at))
        outcome.when.append(world.now)
        outcome.digest = zlib.crc32(f"{viewer.number} {index}".encode(), outcome.digest)
        if not viewer.leaves:
            viewer.leaves = True
            world.at(viewer.leaves_at, self._leave, viewer)
        self._ask_again_later(viewer)

    def _ask_again_later(self, viewer: SimViewer) -> None:
        if self.policy.reasks and self.world.now + REASK_S < viewer.leaves_at:
            self.world.at(self.world.now + REASK_S, self._ask_again, viewer, viewer.since)

    def _leave(self, viewer: SimViewer) -> None:
        if self._watching[viewer.node].pop(viewer.number, None) is not None:
            self.world.let_go(viewer)

    def _ask_again(self, viewer: SimViewer, since: float) -> None:
        """A player asks the node that it watches whether there is a better one."""
        index = viewer.node
        if since != viewer.since or viewer.number not in self._watching[index]:
            return
        self.outcome.asked_again += 1
        choice = self._choose(index, viewer, frozenset())
        if choice is None or choice[0] == index or not self._fits(viewer, choice[0]):
            self._ask_again_later(viewer)
            return
        before = viewer.left
        del self._watching[index][viewer.number]
        self.world.let_go(viewer)
        self._serve(viewer, choice[0])
        self.outcome.moved += 1
        self.outcome.returned += choice[0] == before

    def _fits(self, viewer: SimViewer, index: int) -> bool:
        """A player moves only when the other node answers and takes it."""
        node = self.world.nodes[index]
        return node.up and self.world.has_room(node, viewer.stream.bitrate_bps)

    # --- what happens to nodes

    def _darken(self, region: str) -> None:
        origins = {stream.origin for stream in self.world.streams}
        for node in self.world.nodes:
            if node.spot.region == region and node.index not in origins:
                self._stop(node.index, DEATH_S)

    def _stop(self, index: int, known_after_s: float) -> None:
        viewers = list(self._watching[index].values())
        self.outcome.cut += len(viewers)
        self._watching[index].clear()
        self.world.stop(index, known_after_s)
        for number, viewer in enumerate(viewers):
            later = self.world.now + BACK_S * (number + 1) / (len(viewers) + 1)
            self.world.at(later, self._back, viewer)

    def _back(self, viewer: SimViewer) -> None:
        """A viewer whose node is gone opens the link again."""
        if viewer.leaves_at > self.world.now:
            self._place(viewer, viewer.stream.origin)

    def _plan_drains(self, begin: float) -> None:
        origins = {stream.origin for stream in self.world.streams}
        some = [node.index for node in self.world.nodes if node.index not in origins and node.reachable]
        some = some[: round(len(some) * DRAINS)]
        end = self.scenario.count / self.scenario.rate
        for number, index in enumerate(some):
            self.world.at(begin + (end - begin) * 0.8 * number / len(some), self._drain, index)

    def _drain(self, index: int) -> None:
        world = self.world
        world.drain(index)
        if self.policy.reasks:
            viewers = list(self._watching[index].values())
            for number, viewer in enumerate(viewers):
                later = world.now + 1.0 + MOVE_S * (number + 1) / (len(viewers) + 1)
                world.at(later, self._ask_again, viewer, viewer.since)
        world.at(world.now + STOP_S, self._stop, index, world.delay_s())
        world.at(world.now + AWAY_S, world.start, index)

    def _sample(self) -> None:
        world, outcome = self.world, self.outcome
        world.at(world.now + SAMPLE_S, self._sample)
        shares = [node.used_bps / node.budget_bps for node in world.nodes if node.up and node.reachable]
        over = [max(0.0, share - 1.0) for share in shares]
        outcome.over.extend(over)
        mean = sum(shares) / len(shares)
        spread = (sum((share - mean) ** 2 for share in shares) / len(shares)) ** 0.5
        outcome.moments.append((world.now, outcome.quantile(shares, 0.99), spread))


def run(
    make: Callable[[World], Policy], scenario: Scenario, size: int, seed: int, *, timed: bool = False
) -> Outcome:
    """A fresh world, one policy, one scenario."""
    world = World(size, seed)
    return Run(world, make(world), scenario, timed=timed).run()
