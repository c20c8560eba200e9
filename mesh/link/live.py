"""One live link. Pure."""

from dataclasses import dataclass, field
from math import inf

from mesh.link.model import TCP, Peer
from mesh.link.pulse import Pulse
from mesh.model import NodeId

RELAYED, PUNCHED, BEST = 0, 1, 2  # ranks of paths
CALLS_PER_MINUTE = 30  # requests to dial that are followed for one peer


@dataclass(slots=True)
class Allowance:
    """So many requests of one peer in a minute."""

    used: int = 0
    since: float = -inf

    def take(self, now: float) -> bool:
        """Count one; False when it is one too many."""
        if now >= self.since + 60.0:
            self.used, self.since = 0, now
        self.used += 1
        return self.used <= CALLS_PER_MINUTE


@dataclass(slots=True)
class Link:
    """One live connection that carries frames."""

    connection: int
    peer: Peer
    via: NodeId | None  # the relay
    up_at: float  # this connection
    pulse: Pulse
    doubted: bool = False
    probed_at: float = -inf
    held: bool = False  # the peer is reached by others through this link
    calls: Allowance = field(default_factory=Allowance)  # for streams
    knocks: Allowance = field(default_factory=Allowance)
    carrier: str = TCP
    linked_at: float = -inf  # the first of the connections that followed each other without a gap

    def __post_init__(self) -> None:
        if self.linked_at == -inf:
            self.linked_at = self.up_at

    @property
    def rank(self) -> int:
        """The better path has the higher: QUIC costs ten times as much CPU as TCP, a relay others' uplink."""
        return RELAYED if self.via is not None else BEST if self.carrier == TCP else PUNCHED
