"""Where probes may go, in which order, and how many. Pure.

A peer says where it is, and may say anything. So nothing is resolved, addresses that can be no node's are
left out, and an address gets PROBES_UNPROVEN_MAX packets until it answered with the nonce that went there.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable
from enum import IntEnum

from mesh.address import host_of, numeric_address

CANDIDATES_MAX = 16  # of one side at a time
PROBES_UNPROVEN_MAX = 8  # to one address that has not answered, openers apart: a volley of 4 pings, and
ANSWERS_KEPT = 3  # of them are kept for answers to pings that come from there
PROBES_UNPROVEN_HOST_MAX = 32  # to all ports of one host: three volleys to different ports, and pongs
VOUCHED_ADDRESS_MAX = 64  # to one address of a host that a third node saw the peer at
VOUCHED_HOST_MAX = 2560  # a search through 2048 ports, and the volleys beside it
OPENERS_HOST_MAX = 1152  # packets that die on the way: 256 sockets four times, and the volleys'
ADDRESSES_MAX = 256  # counted; 16 candidates of four rounds, and as many again that were heard
TOTAL_MAX = 6000  # of everything: no session ends up here, whatever the other side does

_CARRIER = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598: behind a carrier's router


class Reach(IntEnum):
    """What kind of address it is, in the order of trying."""

    LAN = 0  # private: either near or nobody's
    V6 = 1
    V4 = 2


def reach_of(address: str) -> Reach | None:
    """None: not an address to send to, as it can be only in this machine or on an unnamed interface."""
    ip = ipaddress.ip_address(host_of(address).partition("%")[0])
    if ip.is_link_local and ip.version == 6:
        return None
    if ip.is_loopback or ip.is_link_local or (ip.is_private and not _is_documentation(ip)):
        return Reach.LAN
    if ip.version == 4 and ip in _CARRIER:
        return Reach.LAN
    return Reach.V6 if ip.version == 6 else Reach.V4


def _is_documentation(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Laboratories use these as public addresses (RFC 5737, RFC 3849, RFC 2544); nobody else uses them."""
    return any(ip.version == net.version and ip in net for net in _DOCUMENTATION)


_DOCUMENTATION = tuple(
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32")
)


def usable_targets(candidates: Iterable[str], own: Collection[str]) -> list[str]:
    """At most CANDIDATES_MAX numeric addresses out of what a peer says, nearest first.

    Loopback is for nodes of one machine: only when `own` has such an address, too.
    """
    at_home = any(_is_loopback(numeric_address(address)) for address in own)
    found: dict[str, Reach] = {}
    for candidate in list(candidates)[: 4 * CANDIDATES_MAX]:
        address = numeric_address(candidate)
        reach = reach_of(address) if address else None
        if reach is not None and (at_home or not _is_loopback(address)) and address not in own:
            found.setdefault(address, reach)
    return sorted(found, key=lambda address: found[address])[:CANDIDATES_MAX]


def _is_loopback(address: str) -> bool:
    return bool(address) and ipaddress.ip_address(host_of(address)).is_loopback


class Budget:
    """How many packets still may go where. `vouched`: hosts that a third node saw the peer at."""

    def __init__(self, vouched: Collection[str]) -> None:
        self.vouched = frozenset(vouched)
        self.spent = 0
        self._addresses: dict[str, int] = {}
        self._hosts: Counter[str] = Counter()
        self._openers: Counter[str] = Counter()
        self._proven: set[str] = set()

    def prove(self, address: str) -> None:
        """An address answered: what it gets is what it asks for."""
        if len(self._proven) < ADDRESSES_MAX:
            self._proven.add(address)

    def take(self, address: str, *, answer: bool = False) -> bool:
        """Whether another packet may go to an address; counts it. `answer`: a ping came from there."""
        if address in self._proven:
            return self._take_any()
        host = host_of(address)
        kept = 0 if answer else ANSWERS_KEPT
        spent = self._addresses.get(address, 0)
        if spent >= (VOUCHED_ADDRESS_MAX if host in self.vouched else PROBES_UNPROVEN_MAX) - kept:
            return False
        if spent == 0 and len(self._addresses) >= ADDRESSES_MAX:
            return False
        if not self._take_host(host, 2 * kept):
            return False
        self._addresses[address] = spent + 1
        return True

    def take_search(self, host: str) -> bool:
        """Whether one of a vouched host's many ports may be tried; ports are not remembered."""
        return host in self.vouched and self._take_host(host)

    def take_opener(self, address: str) -> bool:
        """Whether a packet that dies on its way may be sent."""
        host = host_of(address)
        if self._openers[host] >= OPENERS_HOST_MAX or len(self._openers) > ADDRESSES_MAX:
            return False
        self._openers[host] += 1
        return self._take_any()

    def _take_host(self, host: str, kept: int = 0) -> bool:
        limit = VOUCHED_HOST_MAX if host in self.vouched else PROBES_UNPROVEN_HOST_MAX
        if self._hosts[host] >= limit - kept or not self._take_any():
            return False
        self._hosts[host] += 1
        return True

    def _take_any(self) -> bool:
        self.spent += 1
        return self.spent <= TOTAL_MAX
