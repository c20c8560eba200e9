"""Homes behind routers of every type, and public hosts, on an internet of namespaces. Needs root and nft.

    a home's hosts -- switch -- router -- [its carrier's router] --+-- core --+-- public hosts
                                                                   |          +-- other homes

The types are made with Linux's own translation, and have what is particular to it: a port is kept where it is
free, and a second host that uses the same one towards the same address gets another.
"""

import contextlib
import itertools
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator

from lab import (
    CABLE,
    COMMAND_S,
    GATEWAY,
    MULTICAST,
    NAMESPACES,
    OWN_NAMESPACE,
    PUBLIC,
    Host,
    Lab,
    LabError,
    _enter,
    _path,
    _run,
)
from natrules import RouterKind, core_rules, forget_tables, remember_chain, router_rules, v6_rules

WAN, LAN = "wan", "lan"
INTERNET_HOPS = 6  # a packet that enters the core with fewer left dies there; real paths have 8 to 15
UNANSWERED_S = 30  # the kernel's nf_conntrack_udp_timeout
STREAM_S = 120  # the kernel's nf_conntrack_udp_timeout_stream
WAN_ADDRESSES = range(10, 128)  # of each network; the upper half is for homes with public addresses
LEASE_BITS, LEASES = 28, 8  # so many of so many addresses
CARRIER_NETWORK = "100.64"  # RFC 6598
V6_PREFIX = "2001:db8"  # RFC 3849
# With br_netfilter a bridge shows nft what is not routed yet, and a packet to a neighbour cannot turn back.
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.bridge.bridge-nf-call-iptables=0",
    "net.bridge.bridge-nf-call-ip6tables=0",
)
NETLINK_NETFILTER = 12  # linux/netlink.h
NLM_F_REQUEST_ACK = 5
NLMSG_ERROR = 2
DELETE_FLOWS = (1 << 8) | 2  # linux/netfilter/nfnetlink.h: NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE


def why_no_nat() -> str:
    """Why there can be no NatLab here although there can be a Lab, "" when there can."""
    if not shutil.which("nft", path=_path()):
        return "the program nft is missing: Debian's package nftables has it"
    try:
        with NatLab() as lab:
            lab.home(RouterKind.ADDRESS_RESTRICTED).forget()
            return ""
    except LabError as error:
        return f"no translation in namespaces here: {error}"


class Router(Host):
    """The namespace of a router. `address` is the one that it has on its side towards the internet."""

    def load(self, rules: str) -> None:
        """Give nft these to do."""
        _feed(rules, *self.prefix, "nft", "-f", "-")

    def flush_conntrack(self) -> None:
        """Forget every flow, as a router does that was switched off and on."""
        with _inside(self.namespace):
            asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        with asking:
            asking.settimeout(COMMAND_S)
            # nlmsghdr and nfgenmsg; no tuple: all of them
            asking.sendto(
                struct.pack("=IHHIIBBH", 20, DELETE_FLOWS, NLM_F_REQUEST_ACK, 1, 0, 0, 0, 0), (0, 0)
            )
            _, kind, _, _, _, code = struct.unpack_from("=IHHIIi", asking.recv(4096))
        if kind != NLMSG_ERROR or code:
            raise LabError(f"forgetting the flows of {self.namespace}: {os.strerror(-code)}")

    def flows(self, protocol: str = "udp") -> list[str]:
        """The kernel's list of them, a line each."""
        lines = self.run("cat", "/proc/net/nf_conntrack").splitlines()
        return [line for line in lines if f" {protocol} " in line]

    def set_udp_timeouts(self, unanswered_s: int, stream_s: int) -> None:
        """How long conntrack keeps a silent flow."""
        names = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
        values = zip(names, (unanswered_s, stream_s), strict=True)
        self.run("sysctl", "-qw", *(f"net.netfilter.{name}={seconds}" for name, seconds in values))


class Home:
    """Hosts on one LAN behind one router, or behind two in a row."""

    def __init__(
        self, lab: "NatLab", kind: RouterKind, number: int, hosts: list[Host], routers: list[Router]
    ) -> None:
        self.kind = kind
        self.hosts = hosts
        self.routers = routers  # from the hosts outwards
        self.cable = _cable(number)  # on the core's side
        self._lab = lab

    @property
    def router(self) -> Router:
        """The one that the hosts know."""
        return self.routers[0]

    @property
    def wan_address(self) -> str:
        """What others see as the hosts' address; the outermost router's own where nothing is translated."""
        return self.routers[-1].address

    def forget(self) -> None:
        """Every mapping and every flow is gone on all its routers."""
        if self.kind.keeps_tables:
            self.router.load(forget_tables())
        for router in self.routers:
            router.flush_conntrack()

    def set_udp_timeouts(self, unanswered_s: int, stream_s: int) -> None:
        """How long a silent flow is kept that only one side has sent on, and one that both have.

        A mapping that is kept in tables has `stream_s`. What is there keeps its time until its next packet.
        """
        for router in self.routers:
            router.set_udp_timeouts(unanswered_s, stream_s)
        if self.kind.keeps_tables:
            chain = remember_chain(stream_s)
            self.router.load(f"flush chain ip nat remember\ntable ip nat {{\n{chain}\n}}")

    def rate(self, megabits: float) -> None:
        """So many Mb/s each way through its line."""
        for namespace, device in ((self.routers[-1].namespace, WAN), (self._lab.core.namespace, self.cable)):
            shape = ("tbf", "rate", f"{megabits:g}mbit", "burst", "32k", "latency", "50ms")
            _run("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *shape)

    def move(self) -> str:
        """Another address on the internet, as a provider gives it by night; every flow breaks.

        Returns the new one. Raises LabError for kinds that do not translate.
        """
        if not self.kind.translates:
            raise LabError(f"{self.kind}: its hosts' addresses are their own")
        outermost = self.routers[-1]
        _batch(outermost.namespace, f"address delete {outermost.address}/32 dev {WAN}")
        _batch(self._lab.core.namespace, f"route delete {outermost.address}")
        self._lab.connect(outermost, WAN, self.cable)
        self.forget()
        return self.wan_address


class NatLab(Lab):
    """An internet without anybody yet. A context manager: at its end all is gone.

    `hosts` has all of the homes' and the public ones in the order in which they were made. What Lab does to
    the ports of its switch is not for here. `networks`: two /24 without the last number, for the addresses
    that look public; for programs that want true ones it can be such, since nothing leaves the lab.
    """

    def __init__(self, networks: tuple[str, str] = PUBLIC, hops: int = INTERNET_HOPS) -> None:
        super().__init__(0)
        self._name = self._bridge.rpartition("-")[0]
        self._networks = networks
        self._hops = hops
        self._routers: list[Router] = []
        self._leases = 0
        self._v6_networks = itertools.count(1)
        self._addresses = (
            f"{networks[n % 2]}.{n // 2}" for n in range(2 * WAN_ADDRESSES[0], 2 * WAN_ADDRESSES[-1])
        )
        self.core = Router(0, self._bridge)

    def public(self, count: int = 1) -> list[Host]:
        """So many hosts with public addresses and nothing in front of them."""
        hosts = [self._host() for _ in range(count)]
        core = self.core.namespace
        made = [f"netns add {host.namespace}" for host in hosts]
        made += [_veth(CABLE, host.namespace, _port(host), core) for host in hosts]
        _batch("", *made)
        for host in hosts:
            self.connect(host, CABLE, _port(host))
        return hosts

    def home(self, kind: RouterKind, hosts: int = 1, *, network: str = "", hairpin: bool = False) -> Home:
        """A new home.

        `network`: the /24 of its LAN without the last number; else one that no other home has. `hairpin`: its
        hosts reach each other by their addresses outside; only for kinds that keep tables.
        """
        number = len(self._routers)
        routers = [self._router() for _ in range(2 if kind is RouterKind.CARRIER else 1)]
        home = Home(self, kind, number, [self._host() for _ in range(hosts)], routers)
        self._wire(home)
        self.connect(routers[-1], WAN, home.cable)
        if kind is RouterKind.CARRIER:
            self._carry(home, number)
        if kind.translates:
            self._populate(home, network or f"192.168.{number + 1}", 1, 24)
        else:
            self._lease(home)
        for router in routers:
            router.run("sysctl", "-e", "-qw", *SETTINGS)
            router.load(router_rules(kind, STREAM_S, hairpin))
        return home

    def cut(self, one: Home | Host, other: Home | Host) -> None:
        """Nothing gets from one to the other on the direct way; all else goes on. Nobody is told."""
        self._cut("add", one, other)

    def restore_path(self, one: Home | Host, other: Home | Host) -> None:
        """End `cut`."""
        self._cut("delete", one, other)

    def add_ipv6(self, end: Home | Host) -> list[str]:
        """IPv6 beside IPv4 for a home, or for one of the public hosts. Returns the hosts' addresses.

        Nothing is translated; a home's router lets in only what was asked for, if it filters at all.
        """
        network = f"{V6_PREFIX}:{next(self._v6_networks):x}"
        if isinstance(end, Host):
            self._connect_v6(end, CABLE, _port(end), network)
            return [f"{network}:1::2"]
        if len(end.routers) > 1:
            raise LabError(f"{end.kind}: IPv6 is not made here")
        self._connect_v6(end.router, WAN, end.cable, network)
        _batch(self.core.namespace, f"route add {network}::/64 via {network}:1::2")
        _batch(end.router.namespace, *_v6(LAN, f"{network}::1"))
        end.router.load(v6_rules(end.kind))
        addresses = [f"{network}::{place}" for place, _ in enumerate(end.hosts, 2)]
        for host, address in zip(end.hosts, addresses, strict=True):
            _batch(host.namespace, *_v6(CABLE, address), f"route add default via {network}::1 dev {CABLE}")
        return addresses

    def connect(self, host: Host, device: str, cable: str) -> None:
        """The next public address for a host, which is at the other end of one of the core's cables."""
        host.address = next(self._addresses)
        _batch(
            self.core.namespace,
            f"address replace {GATEWAY}/32 dev {cable}",
            f"link set {cable} up",
            f"route replace {host.address} dev {cable}",
        )
        _batch(
            host.namespace,
            "link set lo up",
            f"address add {host.address}/32 dev {device}",
            f"link set {device} up",
            f"route replace {GATEWAY} dev {device}",
            f"route replace default via {GATEWAY} dev {device}",
        )

    def _connect_v6(self, host: Host, device: str, cable: str, network: str) -> None:
        _batch(self.core.namespace, *_v6(cable, f"{network}:1::1"))
        default = f"route add default via {network}:1::1 dev {device}"
        _batch(host.namespace, *_v6(device, f"{network}:1::2"), default)

    def _make(self) -> None:
        _batch("", f"netns add {self.core.namespace}")
        self.core.run("sysctl", "-e", "-qw", *SETTINGS)
        self.core.load(core_rules(self._hops))

    def _remove(self) -> None:
        for host in (*self.hosts, *self._routers, self.core):
            with contextlib.suppress(LabError):  # it was not made
                _batch("", f"netns delete {host.namespace}")

    def _host(self) -> Host:
        host = Host(len(self.hosts), f"{self._name}-h{len(self.hosts)}")
        self.hosts.append(host)
        return host

    def _router(self) -> Router:
        router = Router(len(self._routers), f"{self._name}-r{len(self._routers)}")
        self._routers.append(router)
        return router

    def _wire(self, home: Home) -> None:
        """All namespaces of a home and the cables between them."""
        made = [f"netns add {part.namespace}" for part in (*home.routers, *home.hosts)]
        inner = home.router.namespace
        made += [_veth(CABLE, host.namespace, _port(host), inner) for host in home.hosts]
        made += [
            _veth(WAN, router.namespace, LAN, further.namespace)
            for router, further in zip(home.routers, home.routers[1:], strict=False)
        ]
        made.append(_veth(WAN, home.routers[-1].namespace, home.cable, self.core.namespace))
        _batch("", *made)

    def _carry(self, home: Home, number: int) -> None:
        """The home's router has an address from its carrier that is of no use outside."""
        home_router, carrier = home.routers
        network = f"{CARRIER_NETWORK}.{number}"
        home_router.address = f"{network}.2"
        _batch(carrier.namespace, f"address add {network}.1/24 dev {LAN}", f"link set {LAN} up")
        _batch(
            home_router.namespace,
            "link set lo up",
            f"address add {network}.2/24 dev {WAN}",
            f"link set {WAN} up",
            f"route add default via {network}.1",
        )

    def _lease(self, home: Home) -> None:
        """Public addresses for the hosts of a home that does not translate."""
        if self._leases == LEASES:
            raise LabError(f"at most {LEASES} homes with public addresses")
        network, first = self._networks[1], 128 + self._leases * 2 ** (32 - LEASE_BITS)
        self._leases += 1
        via = f"via {home.wan_address} dev {home.cable}"
        _batch(self.core.namespace, f"route add {network}.{first}/{LEASE_BITS} {via}")
        self._populate(home, network, first + 1, LEASE_BITS)

    def _populate(self, home: Home, network: str, first: int, bits: int) -> None:
        """The LAN: the router has the first address, each host one of the next."""
        ports = [f"link set {_port(host)} master {LAN} up" for host in home.hosts]
        _batch(
            home.router.namespace,
            f"link add {LAN} type bridge forward_delay 0 mcast_snooping 0",
            f"link set {LAN} up",
            f"address add {network}.{first}/{bits} dev {LAN}",
            *ports,
        )
        for place, host in enumerate(home.hosts, first + 1):
            host.address = f"{network}.{place}"
            _batch(
                host.namespace,
                "link set lo up",
                f"link set {CABLE} up",
                f"address add {host.address}/{bits} dev {CABLE}",
                f"route add default via {network}.{first}",
                f"route add {MULTICAST} dev {CABLE}",
            )

    def _cut(self, what: str, one: Home | Host, other: Home | Host) -> None:
        ends = [end.cable if isinstance(end, Home) else _port(end) for end in (one, other)]
        pairs = " , ".join(f'"{a}" . "{b}"' for a, b in (ends, ends[::-1]))
        self.core.load(f"{what} element inet core cut {{ {pairs} }}")


def _cable(number: int) -> str:
    return f"r{number}"


def _port(host: Host) -> str:
    return f"h{host.number}"


def _veth(end: str, namespace: str, other_end: str, other: str) -> str:
    return f"link add {end} netns {namespace} type veth peer name {other_end} netns {other}"


def _v6(device: str, address: str) -> tuple[str, str]:
    """An address and one for the link: the kernel's own may be used only after it was tested for a second."""
    link = f"fe80::1:{address.rpartition(':')[2]}"
    return (f"address add {address}/64 dev {device} nodad", f"address add {link}/64 dev {device} nodad")


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """This thread is in another network: sockets that are made now stay there."""
    with OWN_NAMESPACE.open() as own, (NAMESPACES / namespace).open() as other:
        _enter(other.fileno())
        try:
            yield
        finally:
            _enter(own.fileno())


def _batch(namespace: str, *lines: str) -> None:
    """Commands of `ip` in one process, in a namespace or ("") outside of all."""
    where = ("-n", namespace) if namespace else ()
    _feed("\n".join(lines) + "\n", "ip", *where, "-batch", "-")


def _feed(text: str, *command: str) -> None:
    """Run a command that reads what to do. Raises LabError when it fails."""
    try:
        ran = subprocess.run(
            command,
            env=os.environ | {"PATH": _path()},
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(command)}: {error}") from None
    if ran.returncode:
        raise LabError(f"{' '.join(command)}: {(ran.stderr or ran.stdout).strip()}\n{text[:2000]}")
