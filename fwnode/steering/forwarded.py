"""From whom a request comes when proxies stand before the node. Pure.

`Forwarded` (RFC 7239) and `X-Forwarded-For` are believed only of peers that the setting `trusted_proxies`
names, and of them only what the last proxy outside that list was: whoever is first in the list may have
written it itself. Where both are there, `Forwarded` counts.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from media.deliver.http.request import Request

FIELD_CHARACTERS_MAX = 1024  # the newest sixteen hops have half of it
HOPS_MAX = 16  # proxies in a row; nobody has so many
IPV4_IN_IPV6_BITS = 96

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_ELEMENT = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^";,\s]*)\s*(;|$)')
_SEPARATOR = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


class Seen(NamedTuple):
    """`host` "" when a trusted proxy does not tell it."""

    host: str
    secure: bool


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks of a setting, separated by commas. Raises ValueError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(_plain_network(ipaddress.ip_network(part, strict=False)) for part in parts)


class Proxies:
    """The proxies that are believed."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def viewer_of(self, request: Request) -> Seen:
        """Who asks, and whether it came to the first trusted proxy, or here, over TLS."""
        if not self._networks or not self._trusts(request.peer_host):
            return Seen(request.peer_host, request.secure)
        fields = request.head.fields
        if b"forwarded" in fields:
            return self._forwarded(_newest(fields[b"forwarded"]), request)
        if b"x-forwarded-for" in fields:
            hops = _newest(fields[b"x-forwarded-for"]).split(",")
            protocols = _newest(fields.get(b"x-forwarded-proto", b"")).split(",")
            protocol = protocols[-1].strip().lower()
            return Seen(self._outermost(hops), protocol == "https" if protocol else request.secure)
        return Seen(request.peer_host, request.secure)

    def _forwarded(self, text: str, request: Request) -> Seen:
        elements = [_pairs(element) for element in _SEPARATOR.split(text)[-HOPS_MAX:]]
        host = self._outermost([pairs.get("for", "") for pairs in elements])
        protocol = elements[-1].get("proto", "").lower()
        return Seen(host, protocol == "https" if protocol else request.secure)

    def _outermost(self, hops: Sequence[str]) -> str:
        """The newest hop that is not a trusted proxy; "" when that one hides, or all are trusted."""
        for hop in reversed(hops[-HOPS_MAX:]):
            host = _host_of(hop)
            if not host:
                return ""
            if not self._trusts(host):
                return host
        return ""

    def _trusts(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)


def _newest(value: bytes) -> str:
    return value[-FIELD_CHARACTERS_MAX:].decode("latin-1")


def _pairs(element: str) -> dict[str, str]:
    """Parameters of one forwarded-element (RFC 7239 4); of one that is malformed, none."""
    found, at = {}, 0
    while at < len(element):
        match = _ELEMENT.match(element, at)
        if match is None:
            return {}
        value = match[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        found[match[1].lower()] = value
        at = match.end()
    return found


def _host_of(hop: str) -> str:
    """The address of one hop, with or without port and brackets; "" for names and hidden ones."""
    text = hop.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = _address(text)
    return "" if address is None else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # what a socket of both families shows of an IPv4 peer
    return address


def _plain_network(network: Network) -> Network:
    mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped
    if mapped and network.prefixlen >= IPV4_IN_IPV6_BITS:
        return ipaddress.ip_network((mapped, network.prefixlen - IPV4_IN_IPV6_BITS))
    return network
