"""Both ends of a simultaneous open, against a model of two routers; and what is connected to at all."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model import NodeId
from mesh.nat.simultaneous import (
    CALLS_MAX,
    FAILED_S,
    HOLD_TTL,
    HOLDS_MAX,
    PEERS_MAX,
    TARGETS_MAX,
    TURN_S,
    TURNS,
    Abandon,
    Connect,
    Experience,
    TcpPuncher,
    agreed,
    moment,
    targets,
)

OUTSIDE = ("198.51.100.1:1111", "203.0.113.2:2222")
PEER = NodeId(bytes(32))
DIED_S = 0.004  # until a router on the way says that a packet died
DAY_S = 86_400.0


@dataclass
class End:
    """One end, its router and its clock."""

    puncher: TcpPuncher
    offset_s: float
    resets: bool  # the router answers what it does not expect
    opened: bool = False  # the router expects the other end
    waiting: int = 0  # the attempt whose socket waits
    connected: bool = False
    steps: list[Connect] = field(default_factory=list)


class Road:
    """Two ends, and what is on its way between them. Times are seconds of nobody's clock."""

    def __init__(
        self, delay_s: float, resets: tuple[bool, bool], offsets_s: tuple[float, float], seed: int
    ) -> None:
        self.delay_s = delay_s
        self.ends = [
            End(TcpPuncher(delay_s, Random(seed + n), initiator=n == 0), offsets_s[n], resets[n])
            for n in (0, 1)
        ]
        self._events: list[tuple[float, int, int, str, int]] = []
        self._order = count()

    def begin(self, said_s: tuple[float, float]) -> None:
        """Each end learns its outside address at that time, and tells the other."""
        for number, at in enumerate(said_s):
            self._at(at, number, "said")
            self._at(at + self.delay_s, 1 - number, "told")

    def run(self, until_s: float = 10.0) -> float:
        """When both are connected; inf if never."""
        while self._events:
            now, _, number, what, attempt = heappop(self._events)
            if now > until_s:
                break
            self._do(now, number, what, attempt)
            self._drain(now)
            if all(end.connected for end in self.ends):
                return now
        return inf

    def _do(self, now: float, number: int, what: str, attempt: int) -> None:
        end, own = self.ends[number], now + self.ends[number].offset_s
        match what:
            case "said":
                end.puncher.said(own)
            case "told":
                end.puncher.told([OUTSIDE[1 - number]], own)
            case "wake":
                end.puncher.on_deadline(own)
            case "died" | "reset":
                end.opened = end.opened and what == "died"
                if end.waiting == attempt:
                    end.waiting = 0
                    end.puncher.ended(attempt, own)
            case "syn":
                self._on_syn(now, number, attempt)
            case "connected":
                end.connected = True

    def _on_syn(self, now: float, number: int, attempt: int) -> None:
        end = self.ends[number]
        if end.waiting and end.opened:
            end.connected = True
            end.puncher.connected(end.waiting)
            self._at(now + self.delay_s, 1 - number, "connected")
        elif end.opened or end.resets:
            end.opened = False  # a host's reset ends the flow on its way out, too
            self._at(now + self.delay_s, 1 - number, "reset", attempt)

    def _drain(self, now: float) -> None:
        for number, end in enumerate(self.ends):
            for step in end.puncher.outputs():
                if isinstance(step, Abandon):
                    end.waiting = 0
                    continue
                end.steps.append(step)
                end.waiting, end.opened = step.number, True
                if step.ttl is None:
                    self._at(now + self.delay_s, 1 - number, "syn", step.number)
                else:
                    self._at(now + DIED_S, number, "died", step.number)
            due = end.puncher.deadline()
            if due < inf:
                self._at(max(now, due - end.offset_s), number, "wake")

    def _at(self, when: float, number: int, what: str, attempt: int = 0) -> None:
        heappush(self._events, (when, next(self._order), number, what, attempt))


def test_every_pair_of_routers_is_passed_and_soon() -> None:
    random = Random(7)
    turns = []
    for seed in range(400):
        delay_s = random.choice((0.0002, 0.005, 0.02, 0.1, 0.2)) * random.uniform(0.8, 1.2)
        resets = (random.random() < 0.5, random.random() < 0.5)
        road = Road(delay_s, resets, (random.uniform(0, DAY_S), random.uniform(0, DAY_S)), seed)
        said_s = (random.uniform(0, 0.5), random.uniform(0, 0.5))
        road.begin(said_s)
        took_s = road.run() - max(said_s) - delay_s
        assert took_s < inf, (seed, delay_s, resets, said_s)
        turns.append(took_s / (TURN_S + 4 * delay_s))
        assert all(sum(step.ttl is None for step in end.steps) <= CALLS_MAX for end in road.ends)
    turns.sort()
    assert turns[len(turns) * 9 // 10] < 1.0, turns[-40:]


@pytest.mark.parametrize("error_s", [-0.02, 0.02])
def test_the_ends_may_be_wrong_about_the_delay(error_s: float) -> None:
    road = Road(0.05, (True, True), (0.0, 0.0), 1)
    road.ends[0].puncher = TcpPuncher(0.05 + error_s, Random(1), initiator=True)
    road.begin((0.0, 0.01))
    assert road.run() < 1.0


def test_nobody_is_called_more_often_than_allowed() -> None:
    """The other end never answers."""
    puncher = TcpPuncher(0.0, Random(1), initiator=True)
    puncher.said(0.0)
    puncher.told([f"198.51.100.1:{port}" for port in range(1, 99)], 0.0)
    now, called, held = 0.0, 0, 0
    while (due := puncher.deadline()) < inf:
        now = max(now, due)
        puncher.on_deadline(now)
        for step in puncher.outputs():
            if isinstance(step, Connect):
                called += step.ttl is None
                held += step.ttl == HOLD_TTL
                puncher.ended(step.number, now)
    assert puncher.over
    assert now <= TURNS * TURN_S + 0.001
    assert 0 < called <= TARGETS_MAX * CALLS_MAX
    assert 0 < held <= TARGETS_MAX * HOLDS_MAX


def test_ends_take_turns_and_a_lan_is_called_by_both() -> None:
    calls: dict[bool, list[set[str]]] = {}
    for initiator in (True, False):
        puncher = TcpPuncher(0.0, Random(1), initiator=initiator)
        puncher.said(5.0)
        puncher.told(["192.168.1.5:1", OUTSIDE[0]], 5.0)
        turns = calls[initiator] = [set() for _ in range(TURNS)]
        while (due := puncher.deadline()) < inf:
            puncher.on_deadline(due)
            for step in puncher.outputs():
                if isinstance(step, Connect) and step.ttl is None:
                    turns[int((due - 5.0) / TURN_S)].add(step.address)
    far = [[OUTSIDE[0] in turn for turn in calls[initiator]] for initiator in (True, False)]
    assert far == [[True, False] * (TURNS // 2), [False, True] * (TURNS // 2)]
    assert all("192.168.1.5:1" in calls[initiator][0] for initiator in (True, False))


def test_nothing_to_connect_to() -> None:
    puncher = TcpPuncher(0.1, Random(1), initiator=True)
    puncher.said(0.0)
    puncher.told([], 0.1)
    assert puncher.over and puncher.deadline() == inf and not puncher.outputs()


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 1))
def test_both_ends_know_one_moment(one_s: float, other_s: float, delay_s: float) -> None:
    assert moment(one_s, other_s + delay_s, delay_s) == pytest.approx(
        moment(other_s, one_s + delay_s, delay_s)
    )


def test_only_where_the_peer_is_seen_and_the_own_lan() -> None:
    candidates = [
        "198.51.100.1:4000",
        "198.51.100.1:4001",
        "203.0.113.9:80",
        "192.168.1.20:4000",
        "192.168.2.20:4000",
        "example.org:80",
        "127.0.0.1:22",
        "nonsense",
        "",
    ]
    found = targets(candidates, ["198.51.100.1"], ["192.168.1.7"])
    assert found == ["192.168.1.20:4000", "198.51.100.1:4000", "198.51.100.1:4001"]
    assert targets(candidates, [], ["10.0.0.1"]) == []
    assert len(targets([f"198.51.100.1:{n}" for n in range(1, 50)], ["198.51.100.1"], [])) == TARGETS_MAX


def test_of_servers_that_disagree_none_is_believed() -> None:
    assert agreed([]) == ""
    assert agreed(["a:1"]) == "a:1"
    assert agreed(["a:1", "a:1"]) == "a:1"
    assert agreed(["a:1", "a:2"]) == ""


def test_a_failure_is_remembered_for_a_minute_and_between_the_same_hosts() -> None:
    experience, hosts = Experience(), ("198.51.100.1",)
    assert experience.may_try(PEER, hosts, 0.0) and not experience.worked(PEER, hosts)
    experience.note(PEER, hosts, False, 10.0)
    assert not experience.may_try(PEER, hosts, 10.0 + FAILED_S - 0.1)
    assert experience.may_try(PEER, ("203.0.113.1",), 11.0)
    assert experience.may_try(PEER, hosts, 10.0 + FAILED_S)
    experience.note(PEER, hosts, True, 80.0)
    assert experience.may_try(PEER, hosts, 80.0) and experience.worked(PEER, hosts)


def test_what_is_remembered_is_bounded() -> None:
    experience = Experience()
    for number in range(PEERS_MAX + 1):
        experience.note(PEER, (str(number),), False, 0.0)
    assert experience.may_try(PEER, ("0",), 0.0)
    assert not experience.may_try(PEER, ("1",), 0.0)
