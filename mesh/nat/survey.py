"""Learns what the routers before this node do, by asking public nodes of its own network. Pure.

A survey takes one to some ten seconds and is repeated every SURVEY_S, and at once when an interface changes.
What it finds is told as soon as it is found. IPv4 and IPv6 are surveyed by themselves; the kind is that of
IPv4 where IPv4 works at all.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import TypeAlias

from mesh.address import host_of, numeric_address
from mesh.model import NodeId
from mesh.nat.asking import Asking, Trial
from mesh.nat.asking import Output as Asked
from mesh.nat.facts import Filtering, Mapping, NatFacts, NatKind, kind_of
from mesh.nat.trials import (
    Mapped,
    Server,
    filtering_trial,
    hairpin_trial,
    lifetime_trial,
    mapping_trial,
    steps_trial,
)

SERVERS_MAX = 8  # asked when the first two disagree
SURVEY_S = 300.0
SURVEY_JITTER = 0.1  # so that a network that started together does not ask together
RETRY_S = 5.0  # after a survey that nobody answered; doubled each time up to SURVEY_S
FAILURES = 2  # surveys without any answer, with servers there, until UDP is said to be blocked
SPACING_S = 2.0  # between two surveys, however often interfaces or servers change
LIFETIME_EVERY_S = 3600.0  # it takes a minute and is a property of the router
ASKED_S = 240.0  # a router may still let in whom the mesh port sent to so long ago
HOSTS_MAX = 64  # addresses of this host


@dataclass(frozen=True, slots=True)
class FactsChanged:
    """Something new is known."""

    facts: NatFacts


Output: TypeAlias = Asked | FactsChanged


@dataclass(slots=True)
class _Found:
    """What is known of one family."""

    mapping: Mapping = Mapping.UNKNOWN
    filtering: Filtering = Filtering.UNKNOWN
    mapped: str = ""
    port_delta: int | None = None
    hairpin: bool | None = None
    failures: int = 0  # surveys in a row that nobody answered


@dataclass(slots=True)
class SurveyCounters:
    """How often what happened."""

    surveys: int = 0
    unanswered: int = 0
    lifetimes: int = 0


class NatSurvey:
    """One node's survey. `now` is monotonic seconds; `entropy(n)` gives n bytes that nobody can foresee.

    Outputs, which the shell carries out: Send, OpenSockets (then `opened`), CloseSockets, AskProbe (then
    `probe_refused` if the peer says no), FactsChanged. Datagrams whose first byte is 0 to 3 go to `receive`
    first; those that it does not take go to the StunAnswerer.
    """

    def __init__(self, random: Random, entropy: Callable[[int], bytes], now: float) -> None:
        self.facts = NatFacts()
        self.counters = SurveyCounters()
        self._random = random
        self._asking = Asking(entropy)
        self._surveying = 0  # families
        self._servers: list[Server] = []
        self._hosts: frozenset[str] = frozenset()
        self._found = {4: _Found(), 6: _Found()}
        self._asked: dict[str, float] = {}  # host of a server -> when the mesh port sent to it
        self._lifetime_s: float | None = None
        self._portmap = ""
        self._next_at = now
        self._last_at = -inf
        self._lifetime_at: float | None = None  # None: after the next survey, inf: under way
        self._known: set[str] = set()  # hosts of servers that the last survey had
        self._told = self.facts

    @property
    def spoofed(self) -> int:
        """Datagrams that named a question of this survey and did not come from who was asked."""
        return self._asking.spoofed

    # --- what is known from elsewhere

    def set_servers(self, servers: Sequence[tuple[str, NodeId | None]], now: float) -> None:
        """Public nodes, numeric "host:port" of the mesh port, and the peer where there is a link to it.

        The first SERVERS_MAX of different hosts are used, in a stable order if possible: the last linked one
        is kept for knocking. What an earlier survey could not find for want of them is tried at once.
        """
        found: dict[str, Server] = {}
        for text, peer in servers:
            address = numeric_address(text)
            host = host_of(address)
            if address and host not in self._hosts and host not in found and len(found) < SERVERS_MAX:
                found[host] = Server(address, peer)
        self._servers = list(found.values())
        if found.keys() - self._known and not self._complete():
            self._soon(now)

    def set_hosts(self, hosts: Sequence[str], now: float) -> None:
        """This host's own numeric addresses. A change is a change of interfaces."""
        before, self._hosts = self._hosts, frozenset(hosts[:HOSTS_MAX])
        self._servers = [server for server in self._servers if server.host not in self._hosts]
        if before != self._hosts:
            self.interface_changed(now)

    def set_portmap(self, protocol: str) -> None:
        """The router opened the mesh port by this protocol, or "" no longer."""
        self._portmap = protocol
        self._tell()

    def interface_changed(self, now: float) -> None:
        """Measure everything again, at once."""
        self._asking.abort()
        self._surveying = 0
        self._lifetime_at = None
        self._asked.clear()
        self._soon(now)

    # --- what happened

    def receive(self, socket: int, data: bytes | memoryview, source: str, now: float) -> bool:
        """A datagram; False when it is not for the survey."""
        return self._asking.receive(socket, data, numeric_address(source), now)

    def opened(self, ticket: int, sockets: Sequence[int], now: float) -> None:
        """The sockets of OpenSockets, fewer or none when the system has no more."""
        self._asking.opened(ticket, sockets, now)

    def probe_refused(self, transaction: bytes, now: float) -> None:
        """The peer of an AskProbe says that it does not send one."""
        self._asking.probe_refused(transaction, now)

    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called; None with nobody to ask."""
        due = [self._asking.deadline()]
        if self._servers:
            due += [self._lifetime_at, None if self._surveying else self._next_at]
        return min((at for at in due if at is not None and at < inf), default=None)

    def on_deadline(self, now: float) -> None:
        """Go on with what is due."""
        self._asking.on_deadline(now)
        if self._servers and not self._surveying and now >= self._next_at:
            self._begin(now)
        if self._servers and self._lifetime_at is not None and now >= self._lifetime_at:
            self._lifetime_at = inf
            self._asking.start(self._measure_lifetime(), now)

    def outputs(self) -> list[Output]:
        """What to do now; each is given once. Changed facts come last."""
        found: list[Output] = [*self._asking.outputs]
        self._asking.outputs.clear()
        if self._told != self.facts:
            self._told = self.facts
            found.append(FactsChanged(self.facts))
        return found

    # --- a survey

    def _soon(self, now: float) -> None:
        self._next_at = min(self._next_at, max(now, self._last_at + SPACING_S))

    def _complete(self) -> bool:
        """Whether nothing is missing that more servers could tell."""
        kind, mapping = self.facts.kind, self.facts.mapping
        told = mapping is Mapping.DEPENDENT or self.facts.filtering is not Filtering.UNKNOWN
        return told and kind not in (NatKind.UNKNOWN, NatKind.BLOCKED)

    def _begin(self, now: float) -> None:
        self.counters.surveys += 1
        jitter = 1 + SURVEY_JITTER * self._random.uniform(-1, 1)
        self._last_at, self._next_at = now, now + SURVEY_S * jitter
        self._known = {server.host for server in self._servers}
        self._asked = {host: at for host, at in self._asked.items() if now < at + ASKED_S}
        families = {server.family for server in self._servers}
        self._surveying = len(families)
        for family in sorted(families):
            servers = [server for server in self._servers if server.family == family]
            self._asking.start(self._survey(self._found[family], servers), now)

    def _survey(self, found: _Found, servers: list[Server]) -> Trial[None]:
        """All of one family. `found` is filled in as it goes, and keeps what is not measured anew."""
        asked = _to_ask(servers, self._asked)
        self._asked |= {server.host: self._asking.now for server in asked}
        result = yield from mapping_trial(asked, self._hosts)
        if result.answered:
            yield from self._look_closer(found, result, servers)
        else:
            found.failures += 1
            self.counters.unanswered += 1
            retry_at = self._asking.now + min(SURVEY_S, RETRY_S * 2.0 ** (found.failures - 1))
            self._next_at = min(self._next_at, retry_at)
        self._surveying -= 1
        self._tell()

    def _look_closer(self, found: _Found, result: Mapped, servers: list[Server]) -> Trial[None]:
        """The mapping is known: what else there is to know about it."""
        found.failures, found.mapped = 0, result.address
        mapping, delta = result.mapping, None
        if mapping is Mapping.DEPENDENT:
            first, second = result.answered[:2]
            stepped, delta = yield from steps_trial(self._asking, first, second)
            mapping = stepped if stepped is not Mapping.UNKNOWN else mapping
        if mapping is not found.mapping:
            found.filtering, found.hairpin = Filtering.UNKNOWN, None
        found.mapping, found.port_delta = mapping, delta
        self._tell()
        if mapping is not Mapping.DEPENDENT:
            found.filtering = yield from filtering_trial(
                self._asking, servers, self._asked.keys(), found.mapped, mapping
            )
            self._tell()
        if mapping is Mapping.INDEPENDENT:
            found.hairpin = yield from hairpin_trial(found.mapped)
        self._plan_lifetime(found)

    # --- the lifetime of mappings

    def _plan_lifetime(self, found: _Found) -> None:
        """Once for a network, then now and then; not where nothing is ever forgotten."""
        forgets = found.mapping is not Mapping.NONE or found.filtering is Filtering.DEPENDENT
        if self._lifetime_at is None and forgets:
            self._lifetime_at = self._asking.now

    def _measure_lifetime(self) -> Trial[None]:
        self.counters.lifetimes += 1
        server = next((server for server in self._servers if server.peer), None)
        lifetime_s = (yield from lifetime_trial(self._asking, server)) if server else None
        again_s = SURVEY_S
        if lifetime_s is not None:
            self._lifetime_s = lifetime_s
            again_s = LIFETIME_EVERY_S
            self._tell()
        self._lifetime_at = self._asking.now + again_s

    # --- what it adds up to

    def _tell(self) -> None:
        """Bring `facts` up to date."""
        working = [found for found in self._found.values() if found.mapped and found.failures < FAILURES]
        if working:
            main = working[0]
            self.facts = NatFacts(
                kind_of(main.mapping, main.filtering, main.port_delta),
                main.mapping,
                main.filtering,
                tuple(found.mapped for found in working),
                main.port_delta,
                self._lifetime_s,
                main.hairpin,
                self._portmap,
            )
        else:
            blocked = any(found.failures >= FAILURES for found in self._found.values())
            self.facts = NatFacts(NatKind.BLOCKED if blocked else NatKind.UNKNOWN, portmap=self._portmap)


def _to_ask(servers: Sequence[Server], asked: Container[str]) -> list[Server]:
    """Those that the mesh port may ask: of three or more, one stays a stranger to it, to knock later."""
    linked = [server for server in servers if server.peer is not None]
    if len(servers) < 3 or not linked:
        return list(servers)
    third = next((server for server in reversed(linked) if server.host not in asked), linked[-1])
    return [server for server in servers if server is not third]
