"""Where viewers and publishers reach this node, as it tells others; and what others tell. Pure.

Viewers are no members: nobody punches a way for them, so a door has to be open to anybody. What the setting
`public_url` says comes first. Without it a listener is told of at addresses that this host has itself, once
others have reached the mesh port there; the port of a router that leads to the mesh leads to nothing else.
https is only told where it is configured: a certificate is for a name, which no address shows.
"""

from collections.abc import Mapping, Sequence

from fwnode.address import Address, is_loopback, parse_address
from mesh.directory.facts import DOORS_MAX, Doors
from mesh.discovery.candidates import is_lan

DRAINING = "draining"
SCHEMES = ("http", "https", "rtmp", "rtmps")
SCHEME_OF_LISTENER = {"http": "http", "rtmp": "rtmp"}


def own_doors(
    configured: Sequence[str],
    bound: Mapping[str, str],
    hosts: Sequence[str],
    *,
    reachable: bool,
    closed: str = "",
) -> Doors:
    """The record of this node.

    `configured` are the URLs of `public_url`, `bound` the addresses of listeners by option, `hosts` this
    host's own numeric addresses. `reachable`: strangers have connected to one of them.
    """
    public = [url.rstrip("/").lower() for url in configured]
    said = {scheme_of(url) for url in public}
    lan = []
    for option, scheme in SCHEME_OF_LISTENER.items():
        if option not in bound or scheme in said or (scheme == "http" and "https" in said):
            continue
        address = parse_address(bound[option])
        for host in hosts if address.wildcard else [address.host]:
            if _is_of_use(host) and not (address.host == "0.0.0.0" and ":" in host):
                door = f"{scheme}://{Address(host, address.port)}"
                if is_lan(str(Address(host, address.port))):
                    lan.append(door)
                elif reachable:
                    public.append(door)
    return Doors(_first(public), _first(lan), closed)


def _is_of_use(host: str) -> bool:
    """Not loopback, nor an IPv6 address of one link, whose zone means nothing elsewhere."""
    return not is_loopback(host) and not host.lower().startswith("fe80:") and "%" not in host


def _first(doors: Sequence[str]) -> list[str]:
    """At most DOORS_MAX, of each scheme some."""
    found = dict.fromkeys(doors)
    by_scheme = {scheme: [door for door in found if scheme_of(door) == scheme] for scheme in SCHEMES}
    ranked = [(number, door) for each in by_scheme.values() for number, door in enumerate(each)]
    kept = {door for _, door in sorted(ranked, key=lambda pair: pair[0])[:DOORS_MAX]}
    return [door for door in found if door in kept]


def scheme_of(door: str) -> str:
    """`http` of a URL."""
    return door.partition(":")[0]


def base_of(doors: Sequence[str], *schemes: str) -> str:
    """The first door of the first scheme that has one, "" when none has."""
    return next((door for scheme in schemes for door in doors if scheme_of(door) == scheme), "")
