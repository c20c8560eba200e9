"""TLS on a TCP path that both ends opened through their routers, and on one that was dialled, in one lab."""

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).resolve().parents[3] / "netns"))  # the laboratory of routers, no package

from natlab import NatLab, RouterKind
from stream_lab import linked

_TCP = "SecureConnection"


@dataclass(frozen=True, slots=True)
class PunchedTcp:
    """What came of it; medians of the rounds."""

    punched_mbytes_s: float
    dialled_mbytes_s: float
    open_s: float  # from wanting the stream to having it
    rounds: int

    @property
    def share(self) -> float:
        """Of the dialled path's rate."""
        return self.punched_mbytes_s / self.dialled_mbytes_s


def measure_punched_tcp(rounds: int = 5, seconds: float = 2.0) -> PunchedTcp:
    """Streams of two pairs of nodes in turn: behind port-restricted routers, and behind ones that only route.

    Needs root, namespaces and nft. Raises RuntimeError when a stream did not go over TCP.
    """
    punched: list[float] = []
    dialled: list[float] = []
    opened: list[float] = []
    with NatLab() as lab:
        hidden = linked(lab, RouterKind.PORT_RESTRICTED, RouterKind.PORT_RESTRICTED)
        public = linked(lab, RouterKind.PUBLIC, RouterKind.PUBLIC)
        with hidden as (one, other), public as (first, second):
            for _ in range(rounds):
                for node, peer, rates in ((one, other, punched), (first, second, dialled)):
                    event = node.stream(peer, seconds)
                    if event.get("way") != _TCP or not event["remote"]:
                        raise RuntimeError(f"no TCP path: {event}")
                    rates.append(event["megabytes_s"])
                    if rates is punched:
                        opened.append(event["open_s"])
    return PunchedTcp(median(punched), median(dialled), median(opened), rounds)
