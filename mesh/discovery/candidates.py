"""Addresses at which others may reach this node, and in which order to try those of others. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TypeAlias

from mesh.errors import WireError
from mesh.identity.invite import is_address

CANDIDATES_MAX = 16  # of one node: what its Where record holds
ANNOUNCED_MAX = 8  # configured ones; the rest of the record is for what was found
OBSERVED_MAX = 4  # a peer's claim each: liars must not push the others out
LAN_PREFIX_V4 = 24  # of a home's LAN; the real one is not in an address, and this only sorts
LAN_PREFIX_V6 = 64  # RFC 4291 2.5.4

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Not `is_private`: that holds for documentation addresses too, which laboratories use as public ones.
_LAN = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",  # RFC 3927
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",  # RFC 4193
        "fe80::/10",
    )
)


def join_address(host: str, port: int) -> str:
    """ "host:port", with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address_untrusted(address: str) -> tuple[str, int]:
    """Host without brackets and port of "host:port"; raises WireError."""
    if not is_address(address):
        raise WireError("not an address")
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def numeric_untrusted(address: str) -> Ip | None:
    """The IP address in "host:port", or None when the host is a name or nothing that can be dialled."""
    try:
        return ipaddress.ip_address(split_address_untrusted(address)[0])
    except (WireError, ValueError):
        return None


def is_usable(ip: Ip) -> bool:
    """Whether a connection to it can mean one host, the same for all who can reach it."""
    return not (ip.is_unspecified or ip.is_multicast or ip.is_link_local or _is_broadcast(ip))


def listening(hosts: Iterable[str], bound: Iterable[str]) -> list[str]:
    """Those of this host's addresses at which its sockets, bound to `bound`, are reached."""
    listeners = set(bound)
    any_v4 = bool(listeners & {"0.0.0.0", "::"})
    any_v6 = "::" in listeners
    return [host for host in hosts if host in listeners or (any_v6 if ":" in host else any_v4)]


def is_lan(address: str) -> bool:
    """Whether "host:port" is numeric and of a private, unique local, link-local or loopback network."""
    ip = numeric_untrusted(address)
    return ip is not None and any(ip in network for network in _LAN)


def make_candidates(
    port: int, own: Sequence[str], announced: Sequence[str] = (), observed: Sequence[str] = ()
) -> list[str]:
    """What to publish in the Where record, best first, at most CANDIDATES_MAX.

    `own`: numeric addresses of this host. `announced`: configured, "host" or "host:port". `observed`:
    "host:port" of this node's ends of connections as peers saw them, most trusted first. Only their host is
    used: the port was that of one outgoing connection.
    """
    named = [address for address in (_with_port(text, port) for text in announced) if is_address(address)]
    mine = [join_address(host, port) for host in own]
    mine = [address for address in mine if _is_usable_address(address)]
    public = [address for address in mine if not is_lan(address)]
    local = [address for address in mine if is_lan(address)]
    seen = _from_observed(port, observed)
    first = _distinct(chain(named[:ANNOUNCED_MAX], public[:1], seen[:OBSERVED_MAX], local))
    return list(islice(_distinct(chain(first, public)), CANDIDATES_MAX))


def dial_order(candidates: Sequence[str], own: Sequence[str]) -> list[str]:
    """A peer's candidates as this host should try them: its own LAN first, other people's LANs last.

    `own`: numeric addresses of this host. What is no address is left out.
    """
    near = {network for host in own if (network := _network(ipaddress.ip_address(host)))}

    def distance(address: str) -> int:
        ip = numeric_untrusted(address)
        if ip is not None and _network(ip) in near:
            return 0
        return 2 if is_lan(address) else 1

    dialled = [address for address in candidates if is_address(address) and _is_dialled(address)]
    return sorted(_distinct(dialled), key=distance)[:CANDIDATES_MAX]


def _is_dialled(address: str) -> bool:
    ip = numeric_untrusted(address)
    return ip is None or is_usable(ip)


def _is_usable_address(address: str) -> bool:
    ip = numeric_untrusted(address)
    return ip is not None and is_usable(ip)


def _from_observed(port: int, observed: Sequence[str]) -> list[str]:
    hosts = (numeric_untrusted(address) for address in observed)
    found = (join_address(str(_plain(ip)), port) for ip in hosts if ip is not None)
    return [address for address in _distinct(found) if _is_usable_address(address) and not is_lan(address)]


def _with_port(text: str, port: int) -> str:
    if is_address(text):
        return text
    return join_address(text.strip("[]"), port)


def _plain(ip: Ip) -> Ip:
    """The IPv4 address in an IPv4-mapped one: what a dual-stack listener sees."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _is_broadcast(ip: Ip) -> bool:
    return ip.version == 4 and int(ip) == 0xFFFFFFFF


def _network(ip: Ip) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(ip, ipaddress.IPv4Address):
        return ipaddress.IPv4Network((ip, LAN_PREFIX_V4), strict=False)
    return ipaddress.IPv6Network((ip, LAN_PREFIX_V6), strict=False)


def _distinct(addresses: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(addresses))
