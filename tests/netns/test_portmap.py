"""Port mappings from a real router, miniupnpd: reached from outside, renewed, mapped again, removed."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from lab import Host
from portmap_router import (
    CHAIN,
    NO_PCP,
    OUTSIDE_ADDRESS,
    RULES,
    SILENT,
    UPNP_ONLY,
    WAN,
    WAN_ADDRESS,
    HomeRouter,
    wait_until,
    why_no_router,
)

pytestmark = pytest.mark.netns

PORT = 7077
PROTOCOLS = ("pcp", "nat-pmp", "upnp")  # what the router speaks with each of the home's hosts
MAPPED_S = 5.0  # a silent router is given up after 1.75 s, then found by UPnP
EXIT_S = 2.0  # the removal takes 0.5 s at most; the rest is Python's
ARRIVE_S = 2.0
REFUSED_S = 8.0
SHORT_LEASE_S = 8
RESTARTED_S = 8.0  # not before 5 s after it was last asked; then within a second
ROUTE_S = 5.0  # looked for every 2 s
CLOCK_S = 4.0  # a router that ran for less cannot be seen to have been restarted: RFC 6887 8.5


@pytest.fixture(scope="module")
def lab(namespaces: None) -> Iterator[HomeRouter]:
    """One lab for all tests: each begins with a router just switched on."""
    if reason := why_no_router():
        pytest.skip(reason)
    with HomeRouter() as made:
        yield made


@pytest.fixture
def router(lab: HomeRouter) -> Iterator[HomeRouter]:
    """It speaks PCP with the first of the home's hosts, NAT-PMP with the second, UPnP with the third."""
    _, second, third = lab.homes
    lab.rules(f"flush ruleset\n{RULES}{NO_PCP.format(second.address)}{UPNP_ONLY.format(third.address)}")
    try:
        yield lab
    finally:
        lab.end_nodes()
        lab.stop()


def host_for(router: HomeRouter, protocol: str) -> Host:
    return router.homes[PROTOCOLS.index(protocol)]


def both(host: Host, port: int = PORT) -> set[tuple[str, int, str]]:
    return {(transport, port, host.address) for transport in ("tcp", "udp")}


@contextlib.contextmanager
def listening(host: Host, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Sockets for TCP and UDP on that port."""
    with host.socket() as tcp, host.socket(kind=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (tcp, udp):
            sock.settimeout(ARRIVE_S)
            sock.bind(("0.0.0.0", port))
        tcp.listen()
        yield tcp, udp


def reached_from_outside(router: HomeRouter, host: Host, external: str, port: int = PORT) -> None:
    """A connection and a datagram from outside arrive, and the answers come back."""
    name, _, outer = external.rpartition(":")
    with listening(host, port) as (tcp, udp), router.outside.socket() as client:
        client.settimeout(ARRIVE_S)
        client.connect((name, int(outer)))
        taken, source = tcp.accept()
        with taken:
            assert source[0] == OUTSIDE_ADDRESS
            taken.sendall(b"tcp")
            assert client.recv(10) == b"tcp"
        with router.outside.socket(kind=socket.SOCK_DGRAM) as sender:
            sender.settimeout(ARRIVE_S)
            sender.sendto(b"udp", (name, int(outer)))
            data, source = udp.recvfrom(10)
            assert (data, source[0]) == (b"udp", OUTSIDE_ADDRESS)
            udp.sendto(b"back", source)
            assert sender.recvfrom(10) == (b"back", (name, int(outer)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_reached_from_outside_and_removed_at_the_end(router: HomeRouter, protocol: str) -> None:
    router.start()
    host = host_for(router, protocol)
    node = router.node(host, PORT)
    mapping = node.said("mapping", patience_s=MAPPED_S)
    assert mapping["protocol"] == protocol
    assert mapping["external"] == f"{WAN_ADDRESS}:{PORT}"
    assert mapping["tcp"] and mapping["udp"] and mapping["usable"]
    assert mapping["gateway"] == router.router.address
    assert mapping["lease_s"] == 7200
    assert router.mapped() == both(host)
    reached_from_outside(router, host, mapping["external"])
    took_s = node.stop()
    print(f"{took_s:7.3f} s to end")
    assert took_s < EXIT_S
    assert router.mapped() == set()
    assert len(node.events()) == 1


def test_renewed_until_killed(router: HomeRouter) -> None:
    """Leases of a few seconds, all three protocols at once. Then they end by themselves."""
    router.start(f"max_lifetime={SHORT_LEASE_S}")
    nodes = [router.node(host, PORT + host.number, lease_s=SHORT_LEASE_S) for host in router.homes]
    for node, protocol in zip(nodes, PROTOCOLS, strict=True):
        assert node.said("mapping")["protocol"] == protocol
    expected = set().union(*(both(host, PORT + host.number) for host in router.homes))
    until = time.monotonic() + SHORT_LEASE_S * 1.75
    while time.monotonic() < until:
        assert router.mapped() == expected
        time.sleep(0.2)
    assert [len(node.events()) for node in nodes] == [1, 1, 1]
    router.end_nodes()
    wait_until(lambda: not router.mapped(), "the leases end", router.mapped, SHORT_LEASE_S * 2)


def test_mapped_again_after_the_router_was_restarted(router: HomeRouter) -> None:
    """PCP and NAT-PMP hear it from the router itself, long before they look; UPnP looks."""
    router.start()
    nodes = [
        router.node(host, PORT + host.number, watch_s=3.0 if protocol == "upnp" else 600.0)
        for host, protocol in zip(router.homes, PROTOCOLS, strict=True)
    ]
    for node in nodes:
        node.said("mapping")
    expected = router.mapped()
    time.sleep(CLOCK_S)
    router.stop()
    router.start()
    assert not router.mapped()
    began = time.monotonic()
    wait_until(lambda: router.mapped() == expected, "mapped again", router.mapped, RESTARTED_S)
    print(f"{time.monotonic() - began:7.3f} s until all three are mapped again")
    assert [len(node.events()) for node in nodes] == [1, 1, 1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_nodes_with_the_same_port_in_one_home(router: HomeRouter, protocol: str) -> None:
    """Both are reached, each on a port of its own, the same for TCP and UDP."""
    router.start()
    host, other = host_for(router, protocol), router.homes[PROTOCOLS.index(protocol) - 1]
    router.node(other, PORT).said("mapping", patience_s=MAPPED_S)
    mapping = router.node(host, PORT).said("mapping", patience_s=MAPPED_S)
    assert mapping["protocol"] == protocol
    external = int(mapping["external"].rpartition(":")[2])
    assert external != PORT
    assert mapping["tcp"] and mapping["udp"]
    assert router.mapped() == both(other) | both(host, external)
    reached_from_outside(router, other, f"{WAN_ADDRESS}:{PORT}")
    reached_from_outside(router, host, mapping["external"])


def test_only_one_transport_is_taken(router: HomeRouter) -> None:
    """Then both go where both are free."""
    router.start()
    router.node(router.homes[1], PORT).said("mapping")
    listing = router.router.run("nft", "-a", "list", "chain", *CHAIN)
    udp = next(line for line in listing.splitlines() if "0x11" in line)
    router.router.run("nft", "delete", "rule", *CHAIN, "handle", udp.rpartition(" ")[2])
    host = router.homes[0]
    mapping = router.node(host, PORT).said("mapping")
    external = int(mapping["external"].rpartition(":")[2])
    assert mapping["tcp"] and mapping["udp"]
    assert external != PORT
    assert router.mapped() == {("tcp", PORT, router.homes[1].address)} | both(host, external)
    reached_from_outside(router, host, mapping["external"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_killed_node_gets_its_mapping_again(router: HomeRouter, protocol: str) -> None:
    router.start()
    host = host_for(router, protocol)
    node = router.node(host, PORT, secret="this node's")
    before = node.said("mapping", patience_s=MAPPED_S)
    node.kill()
    assert router.mapped() == both(host)
    assert router.node(host, PORT, secret="this node's").said("mapping", patience_s=MAPPED_S) == before
    assert router.mapped() == both(host)


def test_a_router_that_refuses(router: HomeRouter) -> None:
    """In words, once. (Asked by PCP, this miniupnpd tries all of its ports and answers nobody meanwhile.)"""
    router.start("deny 0-65535 0.0.0.0/0 0-65535")
    host = host_for(router, "upnp")
    node = router.node(host, PORT)
    trouble = node.said("trouble", patience_s=REFUSED_S)
    off = "it has that switched off"
    assert f"(PCP: {off}, NAT-PMP: {off}, UPnP: it does not allow it)" in trouble
    assert f"forward TCP and UDP port {PORT} to {host.address}" in trouble
    assert node.stop() < EXIT_S
    assert len(node.events()) == 1
    assert router.mapped() == set()


def test_a_silent_router(router: HomeRouter) -> None:
    router.rules(SILENT.format(router.homes[0].address))
    router.start()
    node = router.node(router.homes[0], PORT)
    trouble = node.said("trouble", patience_s=REFUSED_S)
    assert "PCP: no answer, NAT-PMP: no answer, UPnP: no answer" in trouble
    assert node.stop() < EXIT_S


def test_a_router_behind_another(router: HomeRouter) -> None:
    """miniupnpd itself refuses to map then."""
    router.router.run("ip", "address", "flush", "dev", WAN)
    router.router.run("ip", "address", "add", "192.168.5.2/24", "dev", WAN)
    try:
        router.start()
        trouble = router.node(router.homes[0], PORT).said("trouble", patience_s=REFUSED_S)
        assert "its own network is down" in trouble
    finally:
        router.router.run("ip", "address", "flush", "dev", WAN)
        router.router.run("ip", "address", "add", f"{WAN_ADDRESS}/24", "dev", WAN)


class LyingRouter(threading.Thread):
    """Speaks NAT-PMP and grants everything, on an address that leads nowhere."""

    def __init__(self, router: Host, external_host: str) -> None:
        super().__init__(daemon=True)
        self._external_host = external_host
        self._socket = router.socket(kind=socket.SOCK_DGRAM)
        self._socket.bind((router.address, 5351))
        self._socket.settimeout(0.05)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                data, source = self._socket.recvfrom(100)
                self._socket.sendto(self._answer(data), source)

    def _answer(self, data: bytes) -> bytes:
        version, opcode = data[:2]
        if version:
            return bytes([0, 0x80 | opcode, 0, 1]) + bytes(4)  # unsupported version
        head = bytes([0, 0x80 | opcode, 0, 0]) + bytes(4)
        return head + (data[4:12] if opcode else socket.inet_aton(self._external_host))

    def close(self) -> None:
        self._over.set()
        self.join(ARRIVE_S)
        self._socket.close()


@pytest.mark.parametrize("host", ["192.168.5.5", "100.64.1.1", "127.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_a_router_that_lies(router: HomeRouter, host: str) -> None:
    """The mapping is reported, and that others must not be told of it."""
    liar = LyingRouter(router.router, host)
    liar.start()
    try:
        node = router.node(router.homes[0], PORT)
        mapping = node.said("mapping")
        assert mapping["external"] == f"{host}:{PORT}"
        assert not mapping["usable"]
        assert "an address that the Internet does not reach" in mapping["said"]
        node.stop()
    finally:
        liar.close()


def test_the_host_changes_networks(router: HomeRouter) -> None:
    router.start()
    host = router.homes[0]
    node = router.node(host, PORT)
    node.said("mapping")
    host.run("ip", "route", "delete", "default")
    try:
        assert node.said("mapping", 2, ROUTE_S) is None
        # The router is still on its cable: it is told.
        wait_until(lambda: not router.mapped(), "removed", router.mapped, ARRIVE_S)
    finally:
        host.run("ip", "route", "add", "default", "via", router.router.address)
    assert node.said("mapping", 3, ROUTE_S)["external"] == f"{WAN_ADDRESS}:{PORT}"
