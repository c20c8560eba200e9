"""TLS on a TCP path that both ends opened through their routers, and on one that was dialled, in one lab."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3] / "netns"))  # the laboratory of routers, no package

from natlab import NatLab, RouterKind
from stream_lab import linked

from fwbench.servers import ServerError

_TCP = "SecureConnection"


@contextmanager
def tcp_paths() -> Iterator[Callable[[bool, float], dict[str, Any]]]:
    """Call it with whether the path is to be punched, and seconds, for what a stream on it gave.

    Two pairs of nodes: both behind port-restricted routers, and one behind such a router with one behind a
    router that only routes, where it dials. Needs root, namespaces and nft. Raises ServerError when a stream
    did not go over TCP.
    """
    with NatLab() as lab:
        hidden = linked(lab, RouterKind.PORT_RESTRICTED, RouterKind.PORT_RESTRICTED)
        public = linked(lab, RouterKind.PORT_RESTRICTED, RouterKind.PUBLIC)
        with hidden as (one, other), public as (first, second):

            def stream(punched: bool, seconds: float) -> dict[str, Any]:
                node, peer = (one, other) if punched else (first, second)
                event = node.stream(peer, seconds)
                if event.get("way") != _TCP or not event["remote"]:
                    raise ServerError(f"no TCP path: {event}")
                return event

            yield stream
