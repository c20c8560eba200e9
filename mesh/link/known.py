"""What a connector remembers of a peer. Pure."""

from dataclasses import dataclass, field
from math import inf

from mesh.link.live import Allowance, Link
from mesh.model import NodeId


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a peer is said to be."""

    addresses: tuple[str, ...] = ()
    relays: tuple[NodeId, ...] = ()


NOWHERE = Whereabouts()


@dataclass(slots=True)
class Known:
    """A peer that is linked, wanted or dialled."""

    wanted: bool = False
    link: Link | None = None
    lost_at: float = inf  # the link broke; users are told GRACE_S later
    lost_because: str = ""
    trying_until: float = -inf
    queue: list[str] = field(default_factory=list)  # addresses still to be dialled in this round
    next_dial_at: float = inf
    relay_at: float = inf
    retry_at: float = inf
    failures: int = 0
    upgrades: int = 0  # tries to replace a relayed path since there was another
    running: set[int] = field(default_factory=set)
    calls: Allowance = field(default_factory=Allowance)
    seen_at: str = ""  # a host, says the relay
    asked: set[NodeId] = field(default_factory=set)  # relays, in this round

    @property
    def idle(self) -> bool:
        """Whether there is nothing to remember."""
        return not (self.wanted or self.link or self.running or self.queue or self.lost_at != inf)
