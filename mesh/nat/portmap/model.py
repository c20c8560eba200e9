"""What a router was asked for and gave. Pure."""

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from mesh.address import host_of

LEASE_S = 7200  # RFC 6886 3.3 recommends two hours
LEASE_MIN_S = 8.0  # RFC 6887 11.2.1: renewed at half, but not more often than each 4 s
LEASE_MAX_S = 86400.0  # RFC 6887 15: what servers should give at most; believed no longer

# Not `is_global`: it is false for documentation addresses, which laboratories use as public ones.
_BEHIND_ANOTHER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # RFC 791
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # RFC 6598: a carrier's NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # RFC 3927
        "172.16.0.0/12",
        "192.0.0.0/24",  # RFC 7335: DS-Lite
        "192.168.0.0/16",
        "224.0.0.0/3",  # RFC 1112 and the broadcast address
    )
)


class Transport(IntEnum):
    """The protocols that are mapped, by their numbers in IP (RFC 6887 11.1)."""

    TCP = 6
    UDP = 17


TRANSPORTS = (Transport.TCP, Transport.UDP)


@dataclass(frozen=True, slots=True)
class PortMapping:
    """The router sends what comes to `external` on to this node's mesh port."""

    protocol: str  # "pcp", "nat-pmp" or "upnp"
    external: str  # "host:port"
    tcp: bool
    udp: bool
    lease_s: float  # from the last answer; 0 when it does not end
    gateway: str
    said: str  # one sentence for people: what the router answered

    @property
    def usable(self) -> bool:
        """Whether others may be told of it. Behind a second NAT it leads nowhere."""
        return is_public(host_of(self.external))


@dataclass(frozen=True, slots=True)
class Mapped:
    """One port of the router is ours. Sent again as an answer to the same request."""

    transport: Transport
    internal_port: int
    external_port: int
    external_host: str  # "" where the protocol tells it in another message
    lease_s: float


@dataclass(frozen=True, slots=True)
class Removed:
    """The mapping of one transport is gone."""

    transport: Transport
    internal_port: int


@dataclass(frozen=True, slots=True)
class ExternalHost:
    """The router's address on its other side."""

    host: str


@dataclass(frozen=True, slots=True)
class Alive:
    """The router is there: all that is of interest is its epoch."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The router said no. `transport`: to which request, None for any of them or a look."""

    transport: Transport | None
    reason: str
    look: bool = False  # to the question that changes nothing
    version: bool = False  # it does not speak this protocol at all
    retry_after_s: float = 0.0


Content: TypeAlias = Mapped | Removed | ExternalHost | Alive | Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """One datagram of a router, whichever protocol it was in."""

    content: Content
    epoch_s: int | None  # seconds since it forgot all mappings; None where an error carries none


@dataclass(frozen=True, slots=True)
class UpnpGrant:
    """What a UPnP gateway gave."""

    external_host: str
    external_port: int
    tcp: bool
    udp: bool
    lease_s: float  # 0: it never ends
    said: str


def is_public(host: str) -> bool:
    """Whether a numeric IPv4 address can mean one host to the whole Internet."""
    try:
        ip = ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return not any(ip in network for network in _BEHIND_ANOTHER)


def bounded_lease(lease_s: float) -> float:
    """The time for which a router's word on a lease is taken, in seconds."""
    return min(max(lease_s, LEASE_MIN_S), LEASE_MAX_S)
