"""The survey behind simulated routers: what it finds, what it believes, what it leaves behind."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from mesh.address import host_of, split_address
from mesh.nat.answerer import StunAnswerer
from mesh.nat.asking import ASK_WAITS_S, MESH_SOCKET, AskProbe, CloseSockets, OpenSockets, Send
from mesh.nat.facts import FACTS_CHARS_MAX, Filtering, Mapping, NatFacts, NatKind, encode_facts
from mesh.nat.stun import (
    encode_binding_indication,
    encode_binding_request,
    encode_binding_success,
    parse_stun_untrusted,
)
from mesh.nat.survey import (
    ASKED_S,
    SERVERS_MAX,
    SPACING_S,
    SURVEY_S,
    FactsChanged,
    NatSurvey,
)

INSIDE = "192.168.1.2"
OUTSIDE = "203.0.113.7"
MESH_PORT = 7077
DELAY_S = 0.02  # one way
SERVERS = [(f"198.51.100.{number}:7077", bytes([number]) * 32) for number in range(1, 5)]


@dataclass
class Router:
    """One home router, a firewall (`translates` False), or nothing at all (`filtering` "")."""

    translates: bool = True
    per_destination: Callable[[], int] | None = (
        None  # the next outside port; None: one for all, the inside one
    )
    filtering: str = "port"  # "", "address", "port"
    lifetime_s: float = 60.0
    hairpin: bool = False
    forwarded: bool = False  # the mesh port
    blocked: bool = False
    ports: dict[tuple[int, str], int] = field(default_factory=dict)
    sent: dict[tuple[int, str], float] = field(default_factory=dict)  # (outside port, destination) -> when

    @property
    def host(self) -> str:
        return OUTSIDE if self.translates else INSIDE

    def out(self, port: int, to: str, now: float) -> str:
        outside = port
        if self.per_destination is not None:
            outside = self.ports.setdefault((port, to), 0) or self.per_destination()
            self.ports[port, to] = outside
        self.sent[outside, to] = now
        return f"{self.host}:{outside}"

    def lets_in(self, port: int, source: str, now: float) -> bool:
        if not self.filtering or (self.forwarded and port == MESH_PORT):
            return True
        return any(
            to_port == port
            and now <= at + self.lifetime_s
            and (to == source if self.filtering == "port" else host_of(to) == host_of(source))
            for (to_port, to), at in self.sent.items()
        )

    def inside(self, port: int) -> int:
        return next((local for (local, _), outside in self.ports.items() if outside == port), port)


class World:
    """A node behind a router, and public nodes, with a delay between them."""

    def __init__(self, router: Router, servers: Sequence[str] = ()) -> None:
        self.now = 100.0
        self.router = router
        self.answerers = {address: StunAnswerer(self.now) for address in servers}
        self.silent: set[str] = set()
        self.probing = True
        self.loss = Random(5)
        self.loss_rate = 0.0
        self.sockets = {MESH_SOCKET: MESH_PORT}
        self.log: list[tuple[float, object]] = []
        self.facts: list[tuple[float, NatFacts]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._fresh = itertools.count(1)
        entropy = Random(3)
        self.survey = NatSurvey(Random(1), entropy.randbytes, self.now)
        self.survey.set_hosts([INSIDE], self.now)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), what))

    def run(self, seconds: float) -> NatFacts:
        until = self.now + seconds
        while True:
            self._carry_out()
            due = self.survey.deadline()
            event = self._events[0][0] if self._events else None
            times = [at for at in (due, event) if at is not None and at <= until]
            if not times:
                self.now = until
                return self.survey.facts
            self.now = max(self.now, min(times))
            if event == min(times):
                heapq.heappop(self._events)[2]()
            else:
                self.survey.on_deadline(self.now)

    def _carry_out(self) -> None:
        for output in self.survey.outputs():
            self.log.append((self.now, output))
            match output:
                case Send():
                    self._send(output)
                case OpenSockets():
                    opened = [next(self._fresh) for _ in range(output.count)]
                    self.sockets |= {socket: 40000 + socket for socket in opened}
                    self.survey.opened(output.ticket, opened, self.now)
                    self._carry_out()
                case CloseSockets():
                    for socket in output.sockets:
                        del self.sockets[socket]
                case AskProbe():
                    self._probe(output)
                case FactsChanged():
                    self.facts.append((self.now, output.facts))

    def _send(self, send: Send) -> None:
        if self.router.blocked or self.loss.random() < self.loss_rate:
            return
        source = self.router.out(self.sockets[send.socket], send.address, self.now)
        if host_of(send.address) == self.router.host:
            if self.router.hairpin:
                self.later(DELAY_S, lambda: self.arrive(send.address, source, send.data))
            return
        answerer = self.answerers.get(send.address)
        if answerer is None or send.address in self.silent:
            return
        answer = answerer.answer(send.data, source, self.now)
        if answer is not None:
            self.later(2 * DELAY_S, lambda: self.arrive(source, send.address, answer))

    def _probe(self, ask: AskProbe) -> None:
        address = next((address for address, peer in SERVERS if peer == ask.peer), "")
        if not self.probing or not address:
            return
        source = f"{host_of(address)}:55555" if ask.fresh else address
        data = encode_binding_indication(ask.transaction)
        self.later(3 * DELAY_S, lambda: self.arrive(ask.address, source, data))

    def arrive(self, to: str, source: str, data: bytes) -> None:
        """A packet from outside at an outside address of the router."""
        host, port = split_address(to)
        if host != self.router.host or not self.router.lets_in(port, source, self.now):
            return
        if self.loss.random() < self.loss_rate:
            return
        local = self.router.inside(port)
        for socket, bound in self.sockets.items():
            if bound == local:
                self.survey.receive(socket, data, source, self.now)
                return


def surveyed(router: Router, count: int = 3, seconds: float = 20.0) -> World:
    servers = SERVERS[:count]
    world = World(router, [address for address, _ in servers])
    world.survey.set_servers(servers, world.now)
    world.run(seconds)
    return world


def counter(step: int) -> Callable[[], int]:
    ports = itertools.count(50000, step)
    return lambda: next(ports)


def drawn() -> Callable[[], int]:
    random = Random(9)
    return lambda: random.randrange(1024, 65536)


# --- what it finds


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    ("router", "kind", "mapping", "filtering"),
    [
        (Router(translates=False, filtering=""), NatKind.OPEN, Mapping.NONE, Filtering.INDEPENDENT),
        (Router(translates=False), NatKind.CONSISTENT, Mapping.NONE, Filtering.DEPENDENT),
        (Router(filtering=""), NatKind.OPEN, Mapping.INDEPENDENT, Filtering.INDEPENDENT),
        (Router(filtering="address"), NatKind.CONSISTENT, Mapping.INDEPENDENT, Filtering.DEPENDENT),
        (Router(), NatKind.CONSISTENT, Mapping.INDEPENDENT, Filtering.DEPENDENT),
        (Router(forwarded=True), NatKind.OPEN, Mapping.INDEPENDENT, Filtering.INDEPENDENT),
        (Router(per_destination=counter(1)), NatKind.PREDICTABLE, Mapping.DEPENDENT, Filtering.UNKNOWN),
        (Router(per_destination=drawn()), NatKind.IMPENETRABLE, Mapping.DEPENDENT, Filtering.UNKNOWN),
    ],
    ids=["public", "firewalled", "full", "address", "port", "forwarded", "steps", "drawn"],
)
def test_kinds(router: Router, kind: NatKind, mapping: Mapping, filtering: Filtering, count: int) -> None:
    router.sent.clear()
    router.ports.clear()
    world = surveyed(router, count)
    facts = world.survey.facts
    assert (facts.kind, facts.mapping, facts.filtering) == (kind, mapping, filtering)
    assert facts.port_delta == (1 if kind is NatKind.PREDICTABLE else None)
    assert host_of(facts.mapped[0]) == router.host
    assert len(encode_facts(facts)) <= FACTS_CHARS_MAX
    told = [facts for _, facts in world.facts]
    assert told[-1] == facts
    assert len(told) == len(set(told))  # no going back and forth
    assert world.facts[0][0] - 100.0 < 0.5  # the mapping is known at once
    assert world.survey.spoofed == 0


def test_minus_steps() -> None:
    assert surveyed(Router(per_destination=counter(-2))).survey.facts.port_delta == -2


@pytest.mark.parametrize(
    ("router", "kind", "filtering"),
    [
        (Router(translates=False, filtering=""), NatKind.OPEN, Filtering.INDEPENDENT),
        (Router(translates=False), NatKind.CONSISTENT, Filtering.DEPENDENT),
        (Router(forwarded=True), NatKind.OPEN, Filtering.INDEPENDENT),
        (Router(filtering=""), NatKind.UNKNOWN, Filtering.UNKNOWN),  # or by address: one node cannot tell
        (Router(), NatKind.UNKNOWN, Filtering.DEPENDENT),
        (Router(per_destination=drawn()), NatKind.UNKNOWN, Filtering.DEPENDENT),
    ],
)
def test_one_server_tells_what_one_can(router: Router, kind: NatKind, filtering: Filtering) -> None:
    facts = surveyed(router, 1).survey.facts
    assert (facts.kind, facts.filtering) == (kind, filtering)
    assert facts.mapped


def test_more_servers_complete_it() -> None:
    world = surveyed(Router(), 1)
    world.answerers |= {address: StunAnswerer(world.now) for address, _ in SERVERS}
    world.survey.set_servers(SERVERS, world.now)
    assert world.run(10.0).kind is NatKind.CONSISTENT
    assert world.survey.counters.surveys == 2
    world.survey.set_servers(SERVERS[:3], world.now)
    world.survey.set_servers(SERVERS, world.now)  # nothing is missing: no hurry
    world.run(10.0)
    assert world.survey.counters.surveys == 2


def test_hairpin() -> None:
    assert surveyed(Router(hairpin=True)).survey.facts.hairpin is True
    assert surveyed(Router()).survey.facts.hairpin is False
    assert surveyed(Router(translates=False)).survey.facts.hairpin is None


@pytest.mark.parametrize(
    ("lifetime_s", "found", "keepalive_s"),
    [(60.0, 28.0, 25.0), (20.0, 18.0, 15.0), (14.0, 13.0, 10.0), (5.0, 0.0, 10.0)],
)
def test_lifetime(lifetime_s: float, found: float, keepalive_s: float) -> None:
    world = surveyed(Router(lifetime_s=lifetime_s), seconds=100.0)
    assert world.survey.facts.lifetime_s == found
    assert world.survey.facts.keepalive_s == keepalive_s
    assert world.sockets == {MESH_SOCKET: MESH_PORT}


def test_lifetime_is_not_guessed_when_peers_send_no_probes() -> None:
    world = World(Router(), [address for address, _ in SERVERS])
    world.probing = False
    world.survey.set_servers(SERVERS, world.now)
    facts = world.run(200.0)
    assert (facts.lifetime_s, facts.filtering, facts.kind) == (None, Filtering.UNKNOWN, NatKind.CONSISTENT)
    assert facts.keepalive_s == 15.0


def test_refused_probes() -> None:
    world = World(Router(), [address for address, _ in SERVERS])
    world.probing = False
    world.survey.set_servers(SERVERS, world.now)
    while not any(isinstance(output, AskProbe) for _, output in world.log):
        world.run(0.1)
    asked = [output for _, output in world.log if isinstance(output, AskProbe)]
    began = world.now
    world.survey.probe_refused(asked[0].transaction, world.now)
    world.run(0.2)
    again = [at for at, output in world.log if isinstance(output, AskProbe)]
    assert len(again) == 2
    assert again[1] < began + 0.2  # the next step, without waiting


def test_unlinked_servers_tell_the_mapping() -> None:
    world = World(Router(), [address for address, _ in SERVERS])
    world.survey.set_servers([(address, None) for address, _ in SERVERS], world.now)
    facts = world.run(60.0)
    assert (facts.kind, facts.mapping) == (NatKind.CONSISTENT, Mapping.INDEPENDENT)
    assert (facts.filtering, facts.lifetime_s) == (Filtering.UNKNOWN, None)


def test_ipv6_beside_ipv4() -> None:
    world = World(Router(), [address for address, _ in SERVERS])
    world.survey.set_servers([*SERVERS[:3], ("[2001:db8::9]:7077", b"9" * 32)], world.now)
    world.run(0.01)
    [request] = [o for _, o in world.log if isinstance(o, Send) and o.address.startswith("[")]
    answer = encode_binding_success(parse_stun_untrusted(request.data), "[2001:db8::77]:7077")
    assert answer is not None
    assert world.survey.receive(0, answer, "[2001:DB8:0::9]:7077", world.now)
    facts = world.run(10.0)
    assert facts.mapped == ("203.0.113.7:7077", "[2001:db8::77]:7077")
    assert facts.kind is NatKind.CONSISTENT


def test_only_ipv6_works() -> None:
    world = World(Router(blocked=True))
    world.survey.set_servers([*SERVERS[:2], ("[2001:db8::9]:7077", None)], world.now)
    world.run(0.01)
    [request] = [o for _, o in world.log if isinstance(o, Send) and o.address.startswith("[")]
    world.survey.set_hosts([INSIDE], world.now)  # nothing new
    answer = encode_binding_success(parse_stun_untrusted(request.data), f"[{'2001:db8::77'}]:7077")
    assert answer is not None
    world.survey.receive(0, answer, "[2001:db8::9]:7077", world.now)
    assert world.run(4.0).mapped == ("[2001:db8::77]:7077",)


# --- when it asks


def test_blocked_is_said_after_a_second_look() -> None:
    world = surveyed(Router(blocked=True), seconds=3.0)
    assert world.survey.facts == NatFacts()
    assert world.run(10.0).kind is NatKind.BLOCKED
    assert world.survey.counters.surveys == 2
    world.run(3600.0)
    assert world.survey.counters.surveys < 25  # less and less often
    world.router.blocked = False
    assert world.run(SURVEY_S * 1.2).kind is NatKind.CONSISTENT


def test_one_lost_survey_changes_nothing() -> None:
    world = surveyed(Router())
    before = world.survey.facts
    world.silent = set(world.answerers)
    world.run(SURVEY_S * 0.9 - 30)
    while world.survey.counters.unanswered == 0:
        world.run(1.0)
    assert world.survey.facts.kind is before.kind
    world.silent.clear()
    assert world.run(20.0).kind is before.kind
    assert NatKind.BLOCKED not in {facts.kind for _, facts in world.facts}


def test_sent_again_until_answered() -> None:
    world = surveyed(Router(blocked=True), 1, seconds=2.0)
    sent = [at for at, output in world.log if isinstance(output, Send)]
    assert [round(at - 100.0, 3) for at in sent] == [0.0, 0.25, 0.75]
    assert len({output.data for _, output in world.log if isinstance(output, Send)}) == 1
    assert sum(ASK_WAITS_S) == 1.75


@pytest.mark.parametrize("seed", range(10))
def test_loss(seed: int) -> None:
    """One in ten packets lost, either way: the kind is right."""
    world = World(Router(), [address for address, _ in SERVERS])
    world.loss, world.loss_rate = Random(seed), 0.1
    world.survey.set_servers(SERVERS, world.now)
    facts = world.run(30.0)
    assert (facts.kind, facts.mapping) == (NatKind.CONSISTENT, Mapping.INDEPENDENT)


def test_every_five_minutes() -> None:
    world = surveyed(Router(), seconds=3000.0)
    assert 9 <= world.survey.counters.surveys <= 12
    assert world.survey.counters.lifetimes == 1
    assert len(world.facts) <= 4  # no news is no message


def test_interface_changed() -> None:
    world = surveyed(Router(), seconds=30.0)
    world.router = Router(per_destination=drawn())
    world.survey.interface_changed(world.now)
    assert world.run(1.0).kind is NatKind.IMPENETRABLE
    assert len(world.sockets) == 2  # the other one waits to see how long a mapping lives
    for _ in range(20):
        world.survey.interface_changed(world.now)
        world.run(0.1)
    assert world.survey.counters.surveys <= 2 + 2 / SPACING_S + 1


def test_interface_changed_in_the_middle_leaves_no_socket_open() -> None:
    for steps in range(40):
        world = surveyed(Router(per_destination=counter(1)), seconds=steps * 0.02)
        world.survey.interface_changed(world.now)
        world.router.blocked = True
        world.run(0.0)
        assert world.sockets == {MESH_SOCKET: MESH_PORT}


def test_sockets_that_come_too_late_are_closed() -> None:
    world = World(Router())
    world.survey.opened(99, [7, 8], world.now)
    assert world.survey.outputs() == [CloseSockets((7, 8))]


def test_no_sockets_to_be_had() -> None:
    world = World(Router(per_destination=drawn()), [address for address, _ in SERVERS])
    world.survey.set_servers(SERVERS, world.now)
    for _ in range(400):
        world.survey.on_deadline(world.now)
        for output in world.survey.outputs():
            if isinstance(output, OpenSockets):
                world.survey.opened(output.ticket, [], world.now)
            elif isinstance(output, Send):
                world._send(output)
        world.run(0.0)
        world.now += 0.05
    assert world.survey.facts.kind is NatKind.IMPENETRABLE


def test_a_change_of_own_addresses_is_a_change_of_interfaces() -> None:
    world = surveyed(Router(), seconds=30.0)
    world.survey.set_hosts([INSIDE], world.now)
    world.run(1.0)
    assert world.survey.counters.surveys == 1
    world.survey.set_hosts([INSIDE, "10.0.0.9"], world.now)
    world.run(1.0)
    assert world.survey.counters.surveys == 2


def test_nobody_to_ask() -> None:
    world = World(Router())
    assert world.survey.deadline() is None
    world.survey.set_servers([("relay.example.org:7077", None), (f"{INSIDE}:7077", None)], world.now)
    assert world.survey.deadline() is None
    assert world.run(1000.0) == NatFacts()


def test_servers_are_bounded_and_of_different_hosts() -> None:
    world = World(Router(blocked=True))
    many = [(f"198.51.100.{number}:{port}", None) for number in range(1, 60) for port in (1, 2)]
    world.survey.set_servers(many, world.now)
    world.run(3.5)
    asked = {output.address for _, output in world.log if isinstance(output, Send)}
    assert len(asked) == len({host_of(address) for address in asked}) == SERVERS_MAX


def test_portmap_is_told() -> None:
    world = surveyed(Router())
    world.survey.set_portmap("pcp")
    assert world.survey.outputs() == [FactsChanged(world.survey.facts)]
    assert world.survey.facts.portmap == "pcp"
    assert world.survey.facts.kind is NatKind.CONSISTENT


def test_knocks_come_from_a_stranger_to_the_mesh_port() -> None:
    """Of three or more, one is never asked from the mesh port; and it is that one that knocks."""
    world = surveyed(Router(), seconds=2000.0)
    asked = {o.address for _, o in world.log if isinstance(o, Send) and o.socket == MESH_SOCKET}
    knocked = [o for _, o in world.log if isinstance(o, AskProbe) and o.address == "203.0.113.7:7077"]
    assert SERVERS[2][0] not in asked
    assert {ask.peer for ask in knocked} == {SERVERS[2][1]}
    assert all(ask.fresh for ask in knocked)
    assert ASKED_S < SURVEY_S * 0.9


# --- whom it believes


def first_request(world: World) -> Send:
    world.survey.set_servers(SERVERS[:2], world.now)
    world.run(0.0)
    world.survey.on_deadline(world.now)
    return next(output for _, output in world.log if isinstance(output, Send))


def test_spoofed_answers_are_not_believed() -> None:
    world = World(Router(blocked=True))
    request = first_request(world)
    survey = world.survey
    lie = encode_binding_success(parse_stun_untrusted(request.data), "6.6.6.6:6666")
    assert lie is not None
    assert survey.receive(0, lie, "6.6.6.6:7077", world.now)  # not who was asked
    assert survey.receive(0, lie, request.address.replace("7077", "7078"), world.now)  # another port
    assert survey.receive(5, lie, request.address, world.now)  # another socket
    assert survey.spoofed == 3
    guessed = encode_binding_success(parse_stun_untrusted(encode_binding_request(bytes(12))), "6.6.6.6:1")
    assert guessed is not None
    assert not survey.receive(0, guessed, request.address, world.now)  # another transaction
    assert not survey.receive(0, b"\0\1garbage", request.address, world.now)
    assert survey.facts == NatFacts()
    assert survey.receive(0, lie, request.address, world.now)
    assert not survey.receive(0, lie, request.address, world.now)  # a second time it is nobody's


def test_a_request_of_a_stranger_is_for_the_answerer() -> None:
    world = surveyed(Router())
    assert not world.survey.receive(0, encode_binding_request(b"x" * 12), "6.6.6.6:1", world.now)


def test_a_spoofed_knock_is_not_believed() -> None:
    world = World(Router(), [address for address, _ in SERVERS])
    world.probing = False
    world.survey.set_servers(SERVERS[:3], world.now)
    world.run(0.5)
    ask = next(output for _, output in world.log if isinstance(output, AskProbe))
    knock = encode_binding_indication(ask.transaction)
    assert world.survey.receive(0, knock, "6.6.6.6:7077", world.now)
    assert world.survey.spoofed == 1
    assert world.run(0.1).filtering is Filtering.UNKNOWN
    world.survey.receive(0, knock, "198.51.100.3:1234", world.now)
    assert world.run(0.1).filtering is Filtering.INDEPENDENT


def test_one_liar_is_outvoted() -> None:
    world = World(Router(), [address for address, _ in SERVERS[1:]])
    world.survey.set_servers(SERVERS, world.now)
    world.run(0.0)
    request = next(o for _, o in world.log if isinstance(o, Send) and o.address == SERVERS[0][0])
    lie = encode_binding_success(parse_stun_untrusted(request.data), "203.0.113.7:666")
    assert lie is not None
    world.survey.receive(0, lie, request.address, world.now)
    facts = world.run(5.0)
    assert (facts.kind, facts.mapped) == (NatKind.CONSISTENT, ("203.0.113.7:7077",))


def test_a_taken_port_on_the_mesh_socket_is_seen_through() -> None:
    """Somebody's packet took the mesh port's outside port towards one server: the router is consistent."""

    class Unlucky(Router):
        def out(self, port: int, to: str, now: float) -> str:
            if port == MESH_PORT and to == SERVERS[0][0]:
                self.ports[port, to] = 61000
                self.sent[61000, to] = now
                return f"{self.host}:61000"
            return super().out(port, to, now)

    facts = surveyed(Unlucky(), 2).survey.facts
    assert (facts.kind, facts.mapping) == (NatKind.CONSISTENT, Mapping.INDEPENDENT)


def test_the_same_history_for_a_seed() -> None:
    def history() -> list[tuple[float, object]]:
        return surveyed(Router(per_destination=counter(1)), seconds=900.0).log

    assert history() == history()
