"""By which router this host reaches the Internet."""

import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import WireError

ROUTES = Path("/proc/net/route")
ROUTES_BYTES_MAX = 1 << 20  # 8000 routes: a host that has more is a router itself
_UP_AND_GATEWAY = 0x1 | 0x2  # linux/route.h: RTF_UP, RTF_GATEWAY
_FIELDS = 8  # interface, destination, gateway, flags, references, use, metric, mask


@dataclass(frozen=True, slots=True)
class Route:
    """Numeric IPv4 addresses: of the router, and of this host as the router sees it."""

    gateway: str
    own: str


def default_route() -> Route | None:
    """The IPv4 default route with the lowest metric; None without one, or where /proc does not tell."""
    try:
        with ROUTES.open() as file:
            gateway = best_gateway_untrusted(file.read(ROUTES_BYTES_MAX))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((gateway, 9))  # sends nothing
            return Route(gateway, str(sock.getsockname()[0]))
    except (OSError, WireError):
        return None


def best_gateway_untrusted(text: str) -> str:
    """The gateway in Linux's table of routes; raises WireError when there is none."""
    best: tuple[int, str] | None = None
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < _FIELDS or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        try:
            packed = int(fields[2], 16).to_bytes(4, sys.byteorder)
            flags, metric = int(fields[3], 16), int(fields[6])
        except (ValueError, OverflowError):
            continue
        if flags & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
            found = (metric, socket.inet_ntoa(packed))
            best = found if best is None else min(best, found)
    if best is None:
        raise WireError("no default route")
    return best[1]
