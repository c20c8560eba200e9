"""TCP through two routers: each end connects before the other's SYN comes (RFC 9293 3.5, figure 7). Pure.

Each end learns by STUN over TCP what its router makes of a fresh port and tells the other. Then they take
turns, from a moment that both compute from when they told and were told:

- One holds: its SYN has a TTL too small to arrive. Its router expects the other end now (RFC 5382 REQ-2),
  and its socket waits for it. When a router on the way says that the packet died, which ends the attempt, it
  is made again.
- The other calls: its SYN arrives, and meets both. It must not come too early: a router that was not yet
  opened may answer with a reset, and the one before the caller forgets all at that.

A socket that listens on the port would be of no use: its answer has another sequence number than the SYN
that opened the router, and Linux's drop it for that. On a LAN, where nothing is in between, one listens on
another port.

What a peer says of where it is counts only for hosts at which somebody else saw it, or of this end's LAN.
"""

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import TypeAlias

from mesh.address import host_of
from mesh.model import NodeId
from mesh.nat.targets import Reach, reach_of, usable_targets

TARGETS_MAX = 4  # addresses of the other end that are connected to: its mapping, and a LAN or two
CALLS_MAX = 8  # SYNs that may arrive at one of them: a stranger's door gets no more knocks than that
HOLDS_MAX = 256  # that die on the way, where a router 2 ms away says so each time
HOLD_TTL = 4  # through a home's router and a carrier's; few paths between two homes are that short
LATE_S = 0.03  # from the beginning of a turn until the call: the ends do not know the moment any better
TURN_S = 0.2  # and two round trips, so that no turn ends in the middle of a handshake
TURNS = 4  # with 50 ms to the other end and back, 1.2 s
HOLD_AGAIN_S = 0.001  # after word that the held SYN died
CALL_AGAIN_S = 0.02  # after a reset, and up to twice as much again by chance
FAILED_S = 60.0  # not tried again with a peer
PEERS_MAX = 1024  # remembered
NEAR_V4, NEAR_V6 = 24, 64  # bits of a LAN's prefix; a home has these, and others lose little


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to an address, from the fresh port unless it is near; `ttl` None: the usual one.

    `connected` or `ended` tells how it went.
    """

    number: int
    address: str
    ttl: int | None


@dataclass(frozen=True, slots=True)
class Abandon:
    """Close an attempt that is under way."""

    number: int


Step: TypeAlias = Connect | Abandon


@dataclass(slots=True)
class _Target:
    address: str
    near: bool
    due: float = inf
    running: int = 0  # the attempt's number, 0 for none
    calls: int = 0
    holds: int = 0
    done: bool = False


class TcpPuncher:
    """One end of one simultaneous open. `now` is monotonic seconds.

    It may come to more than one connection: only a handshake shows whose each is. `over`: to no more.
    """

    def __init__(self, half_trip_s: float, random: Random, *, initiator: bool) -> None:
        """`half_trip_s`: how long a word takes to the other end. The initiator calls first."""
        self.over = False
        self._half_trip_s = half_trip_s
        self._turn_s = TURN_S + 4 * half_trip_s
        self._random = random
        self._initiator = initiator
        self._targets: list[_Target] = []
        self._said_at = self._told_at = inf
        self._turn = -1
        self._turn_due = inf
        self._numbers = 0
        self._steps: list[Step] = []

    def said(self, now: float) -> None:
        """The other end was told this one's candidates."""
        self._said_at = now
        self._begin()

    def told(self, targets: Sequence[str], now: float) -> None:
        """The other end's candidates came; `targets` are those that may be connected to."""
        self._targets = [_Target(address, is_near(address)) for address in targets[:TARGETS_MAX]]
        self._told_at = now
        self.over = not self._targets
        self._begin()

    def ended(self, number: int, now: float) -> None:
        """An attempt was reset, or died on its way."""
        target = self._running(number)
        if target is not None:
            target.running = 0
            if self._calls(target):
                target.due = now + CALL_AGAIN_S * (1 + 2 * self._random.random())
            else:
                target.due = now + HOLD_AGAIN_S

    def connected(self, number: int) -> None:
        """An attempt has become a connection: its target needs no other."""
        target = self._running(number)
        if target is not None:
            target.running, target.due, target.done = 0, inf, True

    def deadline(self) -> float:
        """When `on_deadline` is next due."""
        if self.over:
            return inf
        return min(self._turn_due, *(target.due for target in self._targets)) if self._targets else inf

    def on_deadline(self, now: float) -> None:
        """Do what is due. Harmless when early."""
        if self.over:
            return
        if now >= self._turn_due:
            self._next_turn(now)
        for target in self._targets:
            if now >= target.due:
                target.due = inf
                self._connect(target)

    def outputs(self) -> list[Step]:
        """What to do now, in order; empties the list."""
        steps, self._steps = self._steps, []
        return steps

    def _begin(self) -> None:
        if not self.over and self._said_at != inf and self._told_at != inf:
            self._turn_due = moment(self._said_at, self._told_at, self._half_trip_s)

    def _next_turn(self, now: float) -> None:
        self._turn += 1
        self._turn_due += self._turn_s
        self.over = self._turn >= TURNS
        for target in self._targets:
            if target.done or (target.near and self._turn and not self.over):
                continue
            if target.running:
                self._steps.append(Abandon(target.running))
                target.running = 0
            target.due = inf if self.over else now + (LATE_S if self._calls(target) else 0.0)

    def _calls(self, target: _Target) -> bool:
        """Whether this end's SYNs to a target arrive in this turn."""
        return target.near or (self._turn % 2 == 0) == self._initiator

    def _connect(self, target: _Target) -> None:
        calls = self._calls(target)
        if (target.calls if calls else target.holds) >= (CALLS_MAX if calls else HOLDS_MAX):
            return
        target.calls += calls
        target.holds += not calls
        self._numbers += 1
        target.running = self._numbers
        self._steps.append(Connect(target.running, target.address, None if calls else HOLD_TTL))

    def _running(self, number: int) -> _Target | None:
        return next((target for target in self._targets if target.running == number), None)


def moment(said_at: float, told_at: float, half_trip_s: float) -> float:
    """When both ends were told, on this end's clock: the same for the other, with its own times."""
    return max(told_at, said_at + half_trip_s)


def targets(candidates: Sequence[str], seen: Collection[str], own: Collection[str]) -> list[str]:
    """Which of a peer's candidates may be connected to, nearest first, at most TARGETS_MAX.

    `seen`: hosts at which somebody sees the peer. `own`: this host's numeric addresses.
    """
    near = {network for host in own if (network := _network(host)) is not None}
    found = [
        address
        for address in usable_targets(
            candidates, [f"[{host}]:1" if ":" in host else f"{host}:1" for host in own]
        )
        if host_of(address) in seen or (is_near(address) and _network(host_of(address)) in near)
    ]
    return found[:TARGETS_MAX]


def agreed(mapped: Sequence[str]) -> str:
    """The outside address of a port by what servers said, "" when each sees another: it is of no use then."""
    return mapped[0] if mapped and len(set(mapped)) == 1 else ""


class Experience:
    """With which peers simultaneous opens work, between which hosts. Bounded; the oldest is forgotten."""

    def __init__(self) -> None:
        self._known: dict[tuple[NodeId, Collection[str]], float] = {}  # -inf: it worked; else when it failed

    def note(self, peer: NodeId, hosts: tuple[str, ...], worked: bool, now: float) -> None:
        """How an attempt went."""
        key = (peer, hosts)
        self._known.pop(key, None)
        self._known[key] = -inf if worked else now
        while len(self._known) > PEERS_MAX:
            del self._known[next(iter(self._known))]

    def worked(self, peer: NodeId, hosts: tuple[str, ...]) -> bool:
        """Whether the last attempt did."""
        return self._known.get((peer, hosts)) == -inf

    def may_try(self, peer: NodeId, hosts: tuple[str, ...], now: float) -> bool:
        """Whether it did not fail a moment ago."""
        failed_at = self._known.get((peer, hosts), -inf)
        return now >= failed_at + FAILED_S


def is_near(address: str) -> bool:
    """Whether it is of a LAN."""
    return reach_of(address) is Reach.LAN


def _network(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return ipaddress.IPv4Network((ip, NEAR_V4), strict=False)
    return ipaddress.IPv6Network((ip, NEAR_V6), strict=False)
