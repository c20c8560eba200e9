"""This host's addresses, and word of their changes."""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import ifaddr
import trio

from mesh.discovery.candidates import is_usable

ADDRESSES_MAX = 64  # a host of many containers has a bridge for each of its networks
DEBOUNCE_S = 0.05  # an interface that comes up sends a burst: link, addresses, routes
POLL_S = 2.0  # where the system has no netlink
NETLINK_READ_BYTES = 64 * 1024  # more than the kernel puts into one message

# linux/rtnetlink.h
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
_ELSEWHERE = (  # documentation addresses: the route to them is the default route
    (socket.AF_INET, "192.0.2.1"),  # RFC 5737
    (socket.AF_INET6, "2001:db8::1"),  # RFC 3849
)
_DISCARD_PORT = 9

Snapshot: TypeAlias = frozenset[tuple[str, str]]


def own_addresses() -> list[str]:
    """Numeric IPv4 and IPv6 addresses of this host that others may reach, that of the default route first.

    Without loopback, link-local and multicast ones; at most ADDRESSES_MAX.
    """
    found = {ip: None for name, ip in sorted(_interface_addresses()) if _is_shared(ip)}
    first = {ip: None for ip in _default_sources() if ip in found}
    return list(first | found)[:ADDRESSES_MAX]


async def watch_addresses(on_change: Callable[[], None]) -> None:
    """Call after each change of addresses, default routes or carrier, until cancelled.

    A burst of changes is one call. A refreshed lifetime (each IPv6 router advertisement) is not a change.
    """
    sock = _netlink()
    before = snapshot()
    with sock or contextlib.nullcontext():
        while True:
            await _stirred(sock)
            now = snapshot()
            if now != before:
                before = now
                on_change()


def snapshot() -> Snapshot:
    """What `watch_addresses` compares: addresses of interfaces, their carrier, the default routes."""
    interfaces = _interface_addresses()
    states = {(name, _carrier(name)) for name, _ in interfaces}
    return frozenset(interfaces | states | _default_routes())


def _interface_addresses() -> set[tuple[str, str]]:
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:  # getifaddrs may be forbidden in a sandbox
        return set()
    return {
        (adapter.name, ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in adapters
        for ip in adapter.ips
    }


def _is_shared(text: str) -> bool:
    ip = ipaddress.ip_address(text)
    return is_usable(ip) and not ip.is_loopback


def _default_sources() -> list[str]:
    """The addresses from which this host speaks to the rest of the world. Sends nothing."""
    sources = []
    for family, host in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((host, _DISCARD_PORT))
                sources.append(str(sock.getsockname()[0]))
        except OSError:
            continue
    return sources


def _carrier(name: str) -> str:
    try:
        return Path("/sys/class/net", name, "operstate").read_text().strip()
    except (OSError, ValueError):
        return ""


def _default_routes() -> set[tuple[str, str]]:
    """Interface and gateway of each default route; empty where /proc does not tell."""
    routes = set()
    for line in _lines("/proc/net/route"):
        fields = line.split()  # interface, destination, gateway, ..., mask is the 8th
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            routes.add((fields[0], f"gateway {fields[2]}"))
    for line in _lines("/proc/net/ipv6_route"):
        fields = line.split()  # destination, its length, source, its length, gateway, ..., interface
        if len(fields) == 10 and fields[1] == "00" and fields[9] != "lo":
            routes.add((fields[9], f"gateway {fields[4]}"))
    return routes


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _netlink() -> trio.socket.SocketType | None:
    """A socket that hears of changes, or None where there is no such thing or it is not allowed."""
    if sys.platform != "linux":
        return None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        sock.bind((0, _GROUPS))
    except OSError:
        sock.close()
        return None
    return trio.socket.from_stdlib_socket(sock)


async def _stirred(sock: trio.socket.SocketType | None) -> None:
    """Return when something may have changed and the burst of messages is over."""
    if sock is None:
        await trio.sleep(POLL_S)
        return
    await _heard(sock)
    with trio.move_on_after(DEBOUNCE_S):
        while True:
            await _heard(sock)


async def _heard(sock: trio.socket.SocketType) -> None:
    try:
        await sock.recv(NETLINK_READ_BYTES)
    except OSError:  # ENOBUFS: the kernel dropped messages, so something did change
        await trio.sleep(DEBOUNCE_S)
