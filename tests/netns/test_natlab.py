"""The types of router of the lab do what their names say: seen by plain sockets on both sides."""

import itertools
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from lab import NAMESPACES, Host, LabError
from natlab import INTERNET_HOPS, Home, NatLab, why_no_nat
from natrules import SEQUENCE_FIRST, SEQUENCE_LENGTH, RouterKind

pytestmark = pytest.mark.netns

Address = tuple[str, int]

PORT = 7077
OTHER_PORT = 7078
ARRIVE_S = 2.0  # far more than a packet takes
QUIET_S = 0.05  # what has not come this long after a later packet came is lost
FORGOTTEN_S = 1.3  # a timeout of one second is over
SETUP_S = 1.0
DYING_TTL = 3  # past one's own routers, not through the internet
KEEP_PORT = [
    RouterKind.FULL_CONE,
    RouterKind.ADDRESS_RESTRICTED,
    RouterKind.PORT_RESTRICTED,
    RouterKind.PLAIN_MASQUERADE,
    RouterKind.CARRIER,
]
SYMMETRIC = [RouterKind.SYMMETRIC_RANDOM, RouterKind.SYMMETRIC_SEQUENTIAL]
WITH_UDP = [kind for kind in RouterKind if kind is not RouterKind.UDP_BLOCKED]
TRANSLATING = [kind for kind in WITH_UDP if kind.translates]
UNFILTERED = {RouterKind.PUBLIC, RouterKind.FULL_CONE}
LET_IN_BY_ADDRESS = UNFILTERED | {RouterKind.ADDRESS_RESTRICTED}


@pytest.fixture(scope="session")
def routers(namespaces: None) -> None:
    """Skips the test, with the reason, where there can be no routers."""
    if reason := why_no_nat():
        pytest.skip(reason)


@pytest.fixture
def lab(routers: None) -> Iterator[NatLab]:
    """Nobody yet."""
    with NatLab() as made:
        yield made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes the sockets."""
    with ExitStack() as made:
        yield made


class Socket:
    """UDP on a host of the lab."""

    def __init__(self, stack: ExitStack, host: Host, port: int = PORT, v6: str = "") -> None:
        """`v6`: its address, "" for IPv4."""
        family = socket.AF_INET6 if v6 else socket.AF_INET
        self._socket = stack.enter_context(host.socket(family, socket.SOCK_DGRAM))
        self._socket.bind((v6 or "0.0.0.0", port))
        self.address: Address = (v6 or host.address, port)

    def send(self, to: Address, text: str = "", ttl: int = 64) -> None:
        if self._socket.family == socket.AF_INET:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        self._socket.sendto(text.encode(), to)

    def receive(self, wait_s: float = ARRIVE_S) -> tuple[str, Address] | None:
        """The next packet's text and source, None when none comes."""
        self._socket.settimeout(wait_s)
        try:
            data, (host, port, *_) = self._socket.recvfrom(2048)
        except TimeoutError:
            return None
        return data.decode(), (host, port)

    def source(self) -> Address:
        """Where the next packet comes from."""
        received = self.receive()
        assert received, "nothing came"
        return received[1]

    def texts(self, until: str) -> set[str]:
        """All that comes until `until` came and a moment after."""
        found: set[str] = set()
        while received := self.receive(QUIET_S if until in found else ARRIVE_S):
            found.add(received[0])
        assert until in found
        return found


@dataclass
class World:
    """A home and what is outside: two hosts, two ports each."""

    home: Home
    inside: Socket
    here: Socket  # the one that the home's host talks to first
    here_too: Socket  # the same host's other port
    elsewhere: Socket
    elsewhere_too: Socket

    @property
    def outside(self) -> list[Socket]:
        return [self.here, self.here_too, self.elsewhere, self.elsewhere_too]

    def mapping(self, to: Socket, ttl: int = 64) -> Address:
        """The source as `to` sees it."""
        self.inside.send(to.address, ttl=ttl)
        return to.source()

    @property
    def unsurprising(self) -> Address:
        """The source that a router shows which keeps ports."""
        home = self.home
        return (home.wan_address if home.kind.translates else home.hosts[0].address, PORT)


def make_world(lab: NatLab, stack: ExitStack, kind: RouterKind, hosts: int = 1) -> World:
    home = lab.home(kind, hosts)
    outside = [Socket(stack, host, port) for host in lab.public(2) for port in (PORT, OTHER_PORT)]
    return World(home, Socket(stack, home.hosts[0]), *outside)


def listener(stack: ExitStack, host: Host, port: int = PORT) -> socket.socket:
    made = stack.enter_context(host.socket())
    made.bind(("0.0.0.0", port))
    made.listen()
    made.settimeout(ARRIVE_S)
    return made


def tcp_source(stack: ExitStack, host: Host, server: socket.socket, to: Host) -> Address:
    """Connect, say something each way, and where the server saw it come from."""
    client = stack.enter_context(host.socket())
    client.settimeout(ARRIVE_S)
    client.connect((to.address, server.getsockname()[1]))
    served, source = server.accept()
    stack.enter_context(served)
    served.settimeout(ARRIVE_S)
    client.sendall(b"there")
    assert served.recv(100) == b"there"
    served.sendall(b"back")
    assert client.recv(100) == b"back"
    address, port = source
    return address, port


@pytest.mark.parametrize("kind", [RouterKind.PUBLIC, RouterKind.FIREWALLED, *KEEP_PORT])
def test_one_mapping_towards_everybody_that_keeps_the_port(
    lab: NatLab, stack: ExitStack, kind: RouterKind
) -> None:
    world = make_world(lab, stack, kind)
    for _ in range(2):
        assert {world.mapping(to) for to in world.outside} == {world.unsurprising}


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_a_mapping_for_each_destination_that_lasts(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    """The two ports of one host are two destinations."""
    world = make_world(lab, stack, kind)
    first, again = ([world.mapping(to) for to in world.outside] for _ in range(2))
    assert first == again
    assert {address for address, _ in first} == {world.home.wan_address}
    ports = [port for _, port in first]
    assert PORT not in ports and len(set(ports)) > 2  # two random ones can be the same
    if kind is RouterKind.SYMMETRIC_SEQUENTIAL:
        assert ports == [SEQUENCE_FIRST + number for number in range(len(ports))]
    else:
        assert {after - before for before, after in itertools.pairwise(ports)} != {1}


def test_a_sequential_router_begins_again_after_its_last_port(lab: NatLab, stack: ExitStack) -> None:
    world = make_world(lab, stack, RouterKind.SYMMETRIC_SEQUENTIAL)
    for number in range(SEQUENCE_LENGTH):
        world.inside.send((world.here.address[0], 10000 + number))
    world.home.forget()
    assert world.mapping(world.here) == (world.home.wan_address, SEQUENCE_FIRST)


@pytest.mark.parametrize("kind", WITH_UDP)
def test_who_is_let_in_after_a_packet_went_out(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    world = make_world(lab, stack, kind)
    mapped = world.mapping(world.here)
    world.here_too.send(mapped, "other port")
    world.elsewhere.send(mapped, "other address")
    if kind in UNFILTERED:
        assert world.inside.receive() and world.inside.receive()
    elif kind in LET_IN_BY_ADDRESS:
        assert world.inside.receive() == ("other port", world.here_too.address)
    world.here.send(mapped, "answer")
    assert world.inside.texts("answer") == {"answer"}


@pytest.mark.parametrize("kind", WITH_UDP)
def test_who_is_let_in_unasked(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    world = make_world(lab, stack, kind)
    world.elsewhere.send(world.unsurprising, "unasked")
    mapped = world.mapping(world.here)
    world.here.send(mapped, "answer")
    assert world.inside.texts("answer") == {"answer"} | ({"unasked"} if kind is RouterKind.PUBLIC else set())


@pytest.mark.parametrize("kind", [RouterKind.FULL_CONE, RouterKind.ADDRESS_RESTRICTED])
def test_an_answer_to_who_came_in_has_the_mapping_as_source(
    lab: NatLab, stack: ExitStack, kind: RouterKind
) -> None:
    world = make_world(lab, stack, kind)
    mapped = world.mapping(world.here)
    world.here_too.send(mapped, "other port")
    assert world.inside.receive() == ("other port", world.here_too.address)
    assert world.mapping(world.here_too) == mapped


@pytest.mark.parametrize("kind", KEEP_PORT)
def test_only_plain_masquerade_is_poisoned_by_an_unasked_packet(
    lab: NatLab, stack: ExitStack, kind: RouterKind
) -> None:
    """Towards who sent it the port cannot be kept any more, although it is towards others."""
    world = make_world(lab, stack, kind)
    assert world.mapping(world.elsewhere) == world.unsurprising
    world.here.send(world.unsurprising, "unasked")
    poisoned = kind is RouterKind.PLAIN_MASQUERADE
    if kind is RouterKind.FULL_CONE:
        assert world.inside.receive() == ("unasked", world.here.address)
    assert (world.mapping(world.here) != world.unsurprising) is poisoned
    assert world.mapping(world.elsewhere) == world.unsurprising
    assert world.inside.receive(QUIET_S) is None


@pytest.mark.parametrize("kind", KEEP_PORT)
def test_a_packet_that_dies_on_the_way_opens_the_mapping(
    lab: NatLab, stack: ExitStack, kind: RouterKind
) -> None:
    world = make_world(lab, stack, kind)
    world.inside.send(world.here.address, "opener", ttl=DYING_TTL)
    world.here.send(world.unsurprising, "volley")
    assert world.inside.receive() == ("volley", world.here.address)
    assert world.mapping(world.here) == world.unsurprising
    assert world.here.receive(QUIET_S) is None, "the opener arrived"


def test_the_internet_has_as_many_hops_as_it_says(lab: NatLab, stack: ExitStack) -> None:
    one, other = (Socket(stack, host) for host in lab.public(2))
    one.send(other.address, "too few", ttl=INTERNET_HOPS - 1)
    one.send(other.address, "enough", ttl=INTERNET_HOPS)
    assert other.texts("enough") == {"enough"}


@pytest.mark.parametrize("kind", [RouterKind.PORT_RESTRICTED, RouterKind.PLAIN_MASQUERADE])
def test_openers_make_a_pair_of_plain_masquerades_like_others(
    lab: NatLab, stack: ExitStack, kind: RouterKind
) -> None:
    """Without them the packet of who is first poisons the other's router: hole punching as measured."""
    homes = [lab.home(kind) for _ in range(2)]
    for openers, port in ((False, PORT), (True, OTHER_PORT)):
        one, other = (Socket(stack, home.hosts[0], port) for home in homes)
        to_one, to_other = ((home.wan_address, port) for home in homes)
        if openers:
            one.send(to_other, "opener", ttl=DYING_TTL)
            other.send(to_one, "opener", ttl=DYING_TTL)
        one.send(to_other, "first")
        other.send(to_one, "second")
        works = openers or kind is not RouterKind.PLAIN_MASQUERADE
        wait_s = ARRIVE_S if works else QUIET_S
        assert (one.receive(wait_s) is not None) is works
        one.send(to_other, "third")
        assert (other.receive(wait_s) is not None) is works


@pytest.mark.parametrize("kind", TRANSLATING)
def test_no_way_round_through_the_address_outside(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    """Hosts of one home reach each other on their LAN only."""
    world = make_world(lab, stack, kind, hosts=2)
    neighbour = Socket(stack, world.home.hosts[1])
    mapped = world.mapping(world.here)
    neighbour.send(mapped, "hairpin")
    neighbour.send(world.inside.address, "LAN")
    assert world.inside.texts("LAN") == {"LAN"}


@pytest.mark.parametrize("kind", [RouterKind.FULL_CONE, RouterKind.ADDRESS_RESTRICTED])
def test_a_router_with_hairpin(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    """Its hosts see each other, and a host itself, with the addresses outside."""
    home = lab.home(kind, 2, hairpin=True)
    (public,) = lab.public()
    far = Socket(stack, public)
    one, other = (
        Socket(stack, host, port) for host, port in zip(home.hosts, (PORT, OTHER_PORT), strict=True)
    )
    mapped = []
    for side in (one, other):
        side.send(far.address)
        mapped.append(far.source())
    one.send(mapped[1], "hairpin")
    assert other.receive() == ("hairpin", mapped[0])
    other.send(mapped[0], "back")
    assert one.receive() == ("back", mapped[1])
    one.send(mapped[0], "self")
    assert one.receive() == ("self", mapped[0])


@pytest.mark.parametrize("kind", TRANSLATING)
def test_two_hosts_with_the_same_port(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    world = make_world(lab, stack, kind, hosts=2)
    neighbour = Socket(stack, world.home.hosts[1])
    first = world.mapping(world.here)
    neighbour.send(world.here.address)
    second = world.here.source()
    assert second[0] == first[0] and second != first
    if kind.keeps_tables:
        neighbour.send(world.elsewhere.address)
        assert world.elsewhere.source() == second
    for mapped, who in ((first, world.inside), (second, neighbour)):
        world.here.send(mapped, "answer")
        assert who.receive() == ("answer", world.here.address)


@pytest.mark.parametrize("kind", list(RouterKind))
def test_tcp_goes_out_and_comes_in_only_to_public_hosts(
    lab: NatLab, stack: ExitStack, kind: RouterKind
) -> None:
    home = lab.home(kind)
    (public,) = lab.public()
    (host,) = home.hosts
    shown = home.wan_address if kind.translates else host.address
    assert tcp_source(stack, host, listener(stack, public), public)[0] == shown
    server = listener(stack, host)
    if kind is RouterKind.PUBLIC:
        assert tcp_source(stack, public, server, host)[0] == public.address
        return
    stranger = stack.enter_context(public.socket())
    stranger.settimeout(QUIET_S)
    with pytest.raises(OSError, match=r"refused|timed out"):
        stranger.connect((shown, PORT))


def test_no_udp_at_all_while_tcp_works(lab: NatLab, stack: ExitStack) -> None:
    world = make_world(lab, stack, RouterKind.UDP_BLOCKED)
    for to in world.outside:
        world.inside.send(to.address)
        to.send(world.unsurprising)
    host = lab.hosts[1]
    assert tcp_source(stack, world.home.hosts[0], listener(stack, host), host)[0] == world.home.wan_address
    assert [side.receive(QUIET_S) for side in (*world.outside, world.inside)] == [None] * 5


def test_a_cut_path_is_no_other_path(lab: NatLab, stack: ExitStack) -> None:
    homes = [lab.home(RouterKind.PORT_RESTRICTED), lab.home(RouterKind.FIREWALLED)]
    (public,) = lab.public()
    one, other, third = (Socket(stack, host) for host in lab.hosts)
    to_one, to_other = (homes[0].wan_address, PORT), other.address

    def both_ways() -> bool:
        for _ in range(2):  # the first of the two is not asked for
            one.send(to_other, "there")
            other.send(to_one, "back")
        return all(side.receive(QUIET_S) for side in (one, other))

    def with_third() -> bool:
        for side in (one, other):
            side.send(third.address)
            third.send(third.source(), "answer")
        return all(side.texts("answer") for side in (one, other))

    assert both_ways() and with_third()
    lab.cut(homes[0], homes[1])
    assert with_third()
    assert not both_ways() and with_third()
    lab.restore_path(homes[1], homes[0])
    assert both_ways()
    lab.cut(public, homes[0])
    one.send(third.address)
    assert third.receive(QUIET_S) is None
    assert both_ways()


@pytest.mark.parametrize("kind", TRANSLATING)
def test_a_router_that_forgets_lets_nobody_in(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    world = make_world(lab, stack, kind)
    mapped = world.mapping(world.here)
    assert all(router.flows() for router in world.home.routers)
    world.home.forget()
    assert not any(router.flows() for router in world.home.routers)
    world.here.send(mapped, "too late")
    assert world.inside.receive(QUIET_S) is None
    if kind is not RouterKind.PLAIN_MASQUERADE:
        assert (world.mapping(world.here) == mapped) is (kind in KEEP_PORT)


def test_silent_mappings_end_with_their_timeout(lab: NatLab, stack: ExitStack) -> None:
    kinds = (
        RouterKind.FULL_CONE,
        RouterKind.PORT_RESTRICTED,
        RouterKind.CARRIER,
        RouterKind.SYMMETRIC_RANDOM,
    )
    worlds = [make_world(lab, stack, kind) for kind in kinds]
    for seconds in (1, 20):
        for world in worlds:
            world.home.set_udp_timeouts(seconds, seconds)
        mapped = [world.mapping(world.here) for world in worlds]
        time.sleep(FORGOTTEN_S)  # the kernel's clock
        for world, to in zip(worlds, mapped, strict=True):
            world.here.send(to, "answer")
            assert (world.inside.receive(QUIET_S) is not None) is (seconds > FORGOTTEN_S)


@pytest.mark.parametrize("kind", TRANSLATING)
def test_another_address_outside(lab: NatLab, stack: ExitStack, kind: RouterKind) -> None:
    world = make_world(lab, stack, kind)
    before = world.mapping(world.here)
    after = world.home.move()
    assert after == world.home.wan_address != before[0]
    world.here.send(before, "too late")
    mapped = world.mapping(world.here)
    assert mapped[0] == after
    world.here.send(mapped, "answer")
    assert world.inside.texts("answer") == {"answer"}


def test_hosts_that_are_not_translated_keep_their_address(lab: NatLab) -> None:
    with pytest.raises(LabError, match="firewalled public"):
        lab.home(RouterKind.FIREWALLED).move()


def test_a_line_with_a_rate(lab: NatLab, stack: ExitStack) -> None:
    home = lab.home(RouterKind.PORT_RESTRICTED)
    (public,) = lab.public()
    home.rate(20)
    server = listener(stack, public)
    client = stack.enter_context(home.hosts[0].socket())
    client.connect((public.address, PORT))
    served, _ = server.accept()
    stack.enter_context(served)
    for source, target in ((client, served), (served, client)):
        began = time.monotonic()
        source.sendall(bytes(500_000))  # fits in the buffers; 0.2 s at 20 Mb/s
        received = 0
        while received < 500_000:
            received += len(target.recv(65536))
        assert 0.1 < time.monotonic() - began < ARRIVE_S


def test_ipv6_is_not_translated_but_filtered(lab: NatLab, stack: ExitStack) -> None:
    homes = [lab.home(RouterKind.SYMMETRIC_RANDOM, 2), lab.home(RouterKind.PUBLIC)]
    (public,) = lab.public()
    ends: list[Home | Host] = [*homes, public]
    v6 = [address for end in ends for address in lab.add_ipv6(end)]
    filtered, neighbour, open_, far = (
        Socket(stack, host, v6=address) for host, address in zip(lab.hosts, v6, strict=True)
    )
    neighbour.send(filtered.address, "LAN")
    far.send(open_.address, "unasked")
    for side in (filtered, open_):
        first = ("LAN", neighbour.address) if side is filtered else ("unasked", far.address)
        assert side.receive() == first
        far.send(side.address, "first")
        side.send(far.address)
        assert far.source() == side.address
        far.send(side.address, "answer")
    assert filtered.texts("answer") == {"answer"}
    assert open_.texts("answer") == {"first", "answer"}


def test_two_homes_with_the_same_network_inside(lab: NatLab, stack: ExitStack) -> None:
    homes = [lab.home(RouterKind.FULL_CONE, network="192.168.1") for _ in range(2)]
    assert homes[0].hosts[0].address == homes[1].hosts[0].address
    (public,) = lab.public()
    far = Socket(stack, public)
    for home in homes:
        Socket(stack, home.hosts[0]).send(far.address)
        assert far.source() == (home.wan_address, PORT)


def test_it_is_made_at_once_and_all_of_it_goes(routers: None) -> None:
    took = []
    for _ in range(3):
        began = time.monotonic()
        with NatLab() as lab:
            for kind in (RouterKind.CARRIER, RouterKind.ADDRESS_RESTRICTED):
                lab.home(kind)
            lab.public()
            took.append(time.monotonic() - began)
            names = {host.namespace for host in lab.hosts}
        assert not names & {path.name for path in NAMESPACES.iterdir()}
        assert not [path for path in NAMESPACES.iterdir() if path.name.startswith(f"fwlab{os.getpid()}-")]
    print(f"two homes and a public host in {min(took):.2f} s")
    assert min(took) < SETUP_S
