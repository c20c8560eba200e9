"""Listening addresses as settings hold them: host:port, [v6]:port. Pure."""

import ipaddress

import msgspec

from media.net import address as wire


class Address(msgspec.Struct, frozen=True):
    """Where to listen, or where something listens."""

    host: str  # a numeric address without brackets, or a name
    port: int  # 0: any free port

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def wildcard(self) -> bool:
        """Every address of this machine."""
        return self.host in ("0.0.0.0", "::")

    def __str__(self) -> str:
        return wire.format_address(self.host, self.port)


def parse_address(text: str) -> Address:
    """Address from "host:port", "[v6]:port" or ":port". Raises ValueError with what is wrong."""
    host, port = wire.parse_address(text)
    if ":" in host or text.startswith("["):
        ipaddress.IPv6Address(host)
    elif not host.isprintable() or any(c in host for c in " /@"):
        raise ValueError(f"{text!r} does not begin with a host")
    return Address(host, port)


def is_loopback(host: str) -> bool:
    """Whether a host, numeric or name, is this machine's loopback and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(wire.plain_host(host)).is_loopback
    except ValueError:
        return False
