"""How many connections strangers may open, and how many frames a member may send. Pure: `now` is monotonic
seconds.

Connections are counted before any work. What a member opens is given back, so only those who fail are slowed
down. Frames are counted whatever is in them: what is read of a member that sends too many is read slowly, and
one that goes on is let go.
"""

from collections import Counter

from mesh.errors import WireError

BURST = 64  # connections from one address at once: a household, a test of many nodes on one machine
PER_S = 20.0  # after that; at under 1 ms each, one address takes at most 2 % of a core
PENDING_MAX = 256  # handshakes in progress, some 50 kB each
PENDING_PER_ADDRESS_MAX = 64
ADDRESSES_MAX = 4096  # remembered; a few hundred bytes each


class ConnectionLimits:
    """A token bucket for each address, and a count of handshakes in progress."""

    def __init__(self) -> None:
        self.pending = 0
        self._pending: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, float]] = {}  # address: connections not yet forgiven, and when

    def admit(self, address: str, now: float) -> str:
        """Why not, "" when the connection may go on: then call `done` once."""
        if self.pending >= PENDING_MAX:
            return "too many connections are being opened"
        if self._pending[address] >= PENDING_PER_ADDRESS_MAX:
            return "too many connections are being opened from this address"
        spent = self._spent_by(address, now)
        if spent + 1 > BURST:
            return "connections from this address come too fast"
        self._remember(address, spent + 1, now)
        self.pending += 1
        self._pending[address] += 1
        return ""

    def done(self, address: str, now: float, *, member: bool) -> None:
        """A handshake ended; `member` says that it was good, and costs nothing."""
        self.pending -= 1
        self._pending[address] -= 1
        if not self._pending[address]:
            del self._pending[address]
        if member:
            self._remember(address, max(0.0, self._spent_by(address, now) - 1), now)

    def _spent_by(self, address: str, now: float) -> float:
        spent, at = self._spent.get(address, (0.0, now))
        return max(0.0, spent - (now - at) * PER_S)

    def _remember(self, address: str, spent: float, now: float) -> None:
        self._spent.pop(address, None)
        if spent <= 0:
            return
        if len(self._spent) >= ADDRESSES_MAX:
            del self._spent[next(iter(self._spent))]  # the one heard longest ago owes least
        self._spent[address] = (spent, now)


FRAMES_BURST = 2000  # at once: a directory of 10,000 records comes in a few hundred
FRAMES_PER_S = 500.0  # after that; at 25 us each, one member takes about 1 % of a core
FLOOD_S = 5.0  # of more than that without a pause: no burst of a member in good order


class FrameLimits:
    """A token bucket for the frames of one link."""

    def __init__(self, now: float) -> None:
        self._left = float(FRAMES_BURST)
        self._at = now
        self._short_at: float | None = None  # since when more came than may

    def take(self, count: int, now: float) -> float:
        """Count frames that came: seconds to wait before more are handled. Raises WireError for a flood."""
        self._left = min(FRAMES_BURST, self._left + (now - self._at) * FRAMES_PER_S) - count
        self._at = now
        if self._left >= 0:
            self._short_at = None
            return 0.0
        self._short_at = now if self._short_at is None else self._short_at
        if now - self._short_at >= FLOOD_S:
            raise WireError(f"a flood: more than {FRAMES_PER_S:g} frames a second for {FLOOD_S:g} s")
        return -self._left / FRAMES_PER_S
