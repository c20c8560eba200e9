"""How much of this node's uplink is taken, and whether it has room for one edge more. Pure.

The budget is the owner's promise for all that leaves. What edges take is known, so the rest of what leaves is
mostly viewers: it is only measured, never refused here, and so comes first. An edge counts at its stream's
bitrate until it has been measured for SETTLED_S; that is its reservation.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from media.track.stream import Stream
from mesh.directory.facts import Load
from mesh.model import NodeId
from mesh.routing.costs import ASSUMED_BITRATE_BPS, has_room

BITS = 8
MEAN_S = 5.0  # rates are means over so long: half of the time over which the budget is promised
SETTLED_S = 10.0  # what an edge is sent of the past has left by then, and MEAN_S more
OVER_S = 10.0  # over budget for so long, edges are let go; the promise is a mean over as much
BURST_S = 5.0  # of the uplink's free share may be filled with what an edge is sent of the past
KEPT_S = 60.0  # an edge that was let go and came back with nobody else is not let go again so soon
LET_GO_MAX = 256  # remembered, the latest


@dataclass(slots=True, eq=False)
class Fed:
    """One edge that is fed one stream. Times are monotonic seconds."""

    peer: NodeId
    stream: Stream
    began_at: float
    last_resort: bool = False
    kept_until: float = 0.0
    bytes_out: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def sample(self, now: float) -> None:
        """Remember what was sent until now."""
        _keep(self._samples, now, self.bytes_out)

    def bps(self, now: float) -> int:
        """What it takes: as measured, before that as its stream is."""
        if now - self.began_at >= SETTLED_S and len(self._samples) > 1:
            return _rate(self._samples)
        return self.stream.bitrate_bps or ASSUMED_BITRATE_BPS


class Uplink:
    """All that leaves this node, and those that are fed."""

    def __init__(
        self, budget_bps: int, sent: Callable[[], int], reserved: Callable[[float], int] = lambda now: 0
    ) -> None:
        """`budget_bps` 0: no limit. `sent` gives the bytes that left since some time.

        `reserved` is what was promised to viewers, in bit/s.
        """
        self._reserved = reserved
        self.budget_bps = budget_bps
        self._sent = sent
        self._fed: dict[Fed, None] = {}
        self._fed_bytes = 0  # of all, also those that are gone
        self._samples: deque[tuple[float, int]] = deque()
        self._fed_samples: deque[tuple[float, int]] = deque()
        self._over_since: float | None = None
        self._let_go: dict[tuple[NodeId, str], float] = {}  # until when they would be kept

    def __len__(self) -> int:
        return len(self._fed)

    def fed(self) -> list[Fed]:
        """All of them, in the order in which they came."""
        return list(self._fed)

    # --- what leaves

    def look(self, now: float) -> None:
        """To be called every second or so."""
        _keep(self._samples, now, self._sent())
        _keep(self._fed_samples, now, self._fed_bytes)
        for fed in self._fed:
            fed.sample(now)
        if not self.budget_bps or self.promised_bps(now) <= self.budget_bps:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now

    def sent_bps(self) -> int:
        """All that leaves."""
        return _rate(self._samples)

    def promised_bps(self, now: float) -> int:
        """What leaves or will: the edges, and all else as measured."""
        others_bps = max(0, _rate(self._samples) - _rate(self._fed_samples))
        return max(others_bps, self._reserved(now)) + self.fed_bps(now)

    def fed_bps(self, now: float) -> int:
        """What the edges take."""
        return sum(fed.bps(now) for fed in self._fed)

    # --- who may come

    def has_room(self, bitrate_bps: int, now: float) -> bool:
        """Whether one more edge fits. The same question as edges ask when they choose."""
        return has_room(Load(self.promised_bps(now), self.budget_bps, 0.0, 0, 0, 0), bitrate_bps)

    def history_us(self, wanted_us: int, bitrate_bps: int, now: float) -> int:
        """How much of the past an edge may be sent at once: what is free pays for it."""
        if not self.budget_bps:
            return wanted_us
        bitrate_bps = bitrate_bps or ASSUMED_BITRATE_BPS
        free_bps = max(0, self.budget_bps - self.promised_bps(now))
        return min(wanted_us, round(free_bps * BURST_S / bitrate_bps * 1_000_000))

    def add(self, fed: Fed, now: float) -> None:
        """An edge was let in."""
        until = self._let_go.pop((fed.peer, fed.stream.name), 0.0)
        if fed.last_resort:
            fed.kept_until = until
        self._fed[fed] = None

    def remove(self, fed: Fed) -> None:
        """It went."""
        del self._fed[fed]

    def count(self, fed: Fed, count: int) -> None:
        """Bytes were sent to it."""
        fed.bytes_out += count
        self._fed_bytes += count

    # --- who must go

    def take_excess(self, now: float) -> list[Fed]:
        """The newest edges, as many as bring the uplink under its budget, once it was over for OVER_S.

        Each is told once: the next ones after OVER_S more.
        """
        if self._over_since is None or now - self._over_since < OVER_S:
            return []
        self._over_since = now
        excess_bps = self.promised_bps(now) - self.budget_bps
        found: list[Fed] = []
        for fed in sorted(self._fed, key=lambda fed: -fed.began_at):
            if excess_bps <= 0:
                break
            if fed.kept_until <= now:
                found.append(fed)
                excess_bps -= fed.bps(now)
        for fed in found:
            self._remember(fed, now)
        return found

    def _remember(self, fed: Fed, now: float) -> None:
        self._let_go = {key: until for key, until in self._let_go.items() if until > now}
        self._let_go[fed.peer, fed.stream.name] = now + KEPT_S
        if len(self._let_go) > LET_GO_MAX:
            del self._let_go[next(iter(self._let_go))]


def _keep(samples: deque[tuple[float, int]], now: float, count: int) -> None:
    """One more; the oldest is at most a little older than MEAN_S."""
    samples.append((now, count))
    while len(samples) > 2 and samples[1][0] <= now - MEAN_S:
        samples.popleft()


def _rate(samples: deque[tuple[float, int]]) -> int:
    if len(samples) < 2 or samples[-1][0] <= samples[0][0]:
        return 0
    (began, before), (ended, after) = samples[0], samples[-1]
    return round((after - before) * BITS / (ended - began))
