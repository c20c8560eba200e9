"""One link to a peer as the gossip core sees it: times, rate allowance, place in the broadcast tree."""

from mesh.membership.suspicion import Vouch
from mesh.model import NodeId

LINK_BYTES_PER_S = 100_000  # fourteen times the whole control traffic of a node in a network of 1000
LINK_BURST_BYTES = 2_000_000  # a whole directory of 10,000 records, once
MESSAGE_COST_BYTES = 256  # what handling a message costs beyond its bytes: an empty one is not free
FLOOD_MESSAGES = 1_000  # messages over the allowance before the peer is let go


class Neighbour:
    """State of one live link. `active`: in the overlay's active view, so gossip flows on it."""

    __slots__ = (
        "accused",
        "active",
        "allowance",
        "allowance_at",
        "busy_at",
        "dropped",
        "due",
        "eager",
        "forwarded_at",
        "heard",
        "id",
        "misses",
        "obituary_at",
        "parted_at",
        "probes",
        "pruned_at",
        "sent",
        "since",
        "told",
        "vouch",
    )

    def __init__(self, peer: NodeId, now: float) -> None:
        self.id = peer
        self.since = now
        self.active = False
        self.heard = now  # when anything last arrived
        self.sent = now  # when anything last left
        self.busy_at = float("-inf")  # when a record last passed, either way
        self.due = now  # when the detector next looks
        self.probes = 0  # unanswered since `heard`
        self.eager = True  # records are pushed here; otherwise announced
        self.told: set[int] = set()  # ids that the peer announced and we lacked
        self.misses = 0  # evidence that the peer should push to us, see broadcast
        self.pruned_at = float("-inf")
        self.parted_at = float("-inf")
        self.obituary_at = float("-inf")
        self.vouch: Vouch | None = None  # the peer's own signed list of neighbours
        self.allowance = float(LINK_BURST_BYTES)
        self.allowance_at = now
        self.dropped = 0
        self.accused = 0  # 1: said to be silent, 2: given up
        self.forwarded_at = float("-inf")  # when its join was last passed on

    def admit(self, size: int, now: float) -> bool:
        """Whether the peer's allowance covers a message of `size` bytes; spends it."""
        left = self.allowance + (now - self.allowance_at) * LINK_BYTES_PER_S
        if left > LINK_BURST_BYTES:
            left = LINK_BURST_BYTES
        self.allowance_at = now
        left -= size + MESSAGE_COST_BYTES
        if left < 0:
            self.allowance = left + size + MESSAGE_COST_BYTES  # nothing was done for it
            self.dropped += 1
            return False
        self.allowance = left
        return True
