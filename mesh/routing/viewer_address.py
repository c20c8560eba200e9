"""What a viewer's address tells without a database: its block, and whether it is on this network. Pure."""

import ipaddress

import msgspec

TEXT_CHARACTERS_MAX = 64  # the longest textual IPv6 address with a zone has 45 and the zone's name
IPV4_PREFIX = 24  # the smallest block that is announced by itself (RFC 7454 6.1.3)
IPV6_PREFIX = 48  # likewise; a home has a part of one


class SeenAs(msgspec.Struct, frozen=True):
    """`prefix`: the block of a public address, "" for others. `local`: of a network that this node is on."""

    prefix: str = ""
    local: bool = False


def seen_as(address: str) -> SeenAs:
    """What an address as a socket or a proxy gives it says; nothing for text that is none."""
    if len(address) > TEXT_CHARACTERS_MAX:
        return SeenAs()
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return SeenAs()
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # what a socket of both families shows of an IPv4 peer
    if parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved:
        return SeenAs()
    if parsed.is_global:
        length = IPV4_PREFIX if parsed.version == 4 else IPV6_PREFIX
        return SeenAs(str(ipaddress.ip_network((parsed, length), strict=False)))
    return SeenAs(local=parsed.is_loopback or parsed.is_link_local or parsed.is_private)
