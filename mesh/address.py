"""Addresses as text: "host:port", "[v6]:port". Pure."""

import ipaddress
from typing import Any

from mesh.errors import Refused

PORT_MAX = 65535
HOST_LENGTH_MAX = 253  # RFC 1035 2.3.4, without the dots at the ends
V6_GROUP_BITS = 64  # what one customer is given at least (RFC 6177): counted as one address

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def show_address(address: Any) -> str:
    """A socket address as people write it, a v4-mapped one as v4; "" for other families."""
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host = show_host(address)
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def show_host(address: Any) -> str:
    """The host of a socket address, without brackets."""
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    return host.removeprefix("::ffff:") if "." in host else host


def numeric_address(address: str) -> str:
    """The one spelling of a numeric "host:port", a v4-mapped one as v4, without an IPv6 zone; else "".

    "" also for what can never be one host's address: unspecified, multicast, broadcast, port 0.
    """
    try:
        host, port = split_address(address)
        ip = ipaddress.ip_address(host.partition("%")[0])
    except (Refused, ValueError):
        return ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified or ip.is_multicast or ip == _BROADCAST:
        return ""
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises Refused that says what is wrong with it."""
    host, colon, port = address.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Refused(f"{address!a} is not an address: write [host]:port around a host with colons")
    if not colon or not host or len(host) > HOST_LENGTH_MAX:
        raise Refused(f"{address!a} is not an address: it must be host:port")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= PORT_MAX):
        raise Refused(f"{address!a} is not an address: the port is a number from 1 to {PORT_MAX}")
    return host, int(port)


def group_of(host: str) -> str:
    """What counts as one stranger: a v4 address, a v6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), V6_GROUP_BITS), strict=False))


def host_of(address: str) -> str:
    """The host of "host:port", without an IPv6 address's brackets."""
    return address.rpartition(":")[0].strip("[]")
