"""How a parent's line runs, from when its bytes come: is it silent, is it slower than the stream? Pure.

A parent says `Alive` every ALIVE_S, also when its origin sends nothing: silence is the line's or the
parent's, never the stream's. Times are monotonic seconds.
"""

from collections import deque

from fwnode.replication.copy import ALIVE_S
from media.replicate.wire import Alive
from media.track.model import MICROSECONDS

PATIENCE_GAPS = 3.0  # of the longest pauses of late: then another parent is asked beside this one
PATIENCE_MIN_S = 0.35  # an LL-HLS viewer has about a second; asking another one takes a round trip or two
PATIENCE_MAX_S = 1.0  # on lines that pause often; asking costs a connection, not a change
RHYTHM_S = 5.0  # the longest pause is remembered for one to two of these

SLOW_S = 0.5  # later than at its best: an LL-HLS viewer holds three parts, about a second
SLOW_WINDOW_S = 1.5  # all that was heard for so long must be late: a large keyframe passes in less
SLOW_SAMPLES_MIN = 2
BEST_S = 120.0  # the best is that of one to two of these: clocks drift apart, 100 ppm are 24 ms then
SAMPLES_MAX = 64  # of Alive, three seconds have fifteen

FIRST_S = 0.3  # so much of the past as comes within this is worth waiting for before what is new
LAN_RTT_S = 0.005
LAN_BPS = 200_000_000  # guess: Wi-Fi in the same room
LINE_BPS = 25_000_000  # guess: what a home line sends
BITRATE_BPS = 5_000_000  # of a stream whose bitrate nobody says; 1080p as encoders suggest it


def first_history_us(bitrate_bps: int, rtt_s: float | None, window_us: int) -> int:
    """How much of a stream's past to ask for, so that the first picture does not wait for it."""
    line_bps = LAN_BPS if rtt_s is not None and rtt_s < LAN_RTT_S else LINE_BPS
    return min(window_us, round(FIRST_S * MICROSECONDS * line_bps / (bitrate_bps or BITRATE_BPS)))


class Rhythm:
    """The pauses of a line."""

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self._turned_at = now
        self._longest = self._longest_before = ALIVE_S

    @property
    def patience_s(self) -> float:
        """A longer pause is not usual on this line."""
        longest = max(self._longest, self._longest_before)
        return min(max(PATIENCE_GAPS * longest, PATIENCE_MIN_S), PATIENCE_MAX_S)

    def heard(self, now: float) -> None:
        """Something came."""
        gap, self.heard_at = now - self.heard_at, now
        if now - self._turned_at >= RHYTHM_S:
            self._turned_at, self._longest_before, self._longest = now, self._longest, 0.0
        self._longest = max(self._longest, gap)

    def is_silent(self, now: float) -> bool:
        """Whether nothing came for longer than is usual here."""
        return now - self.heard_at > self.patience_s


class Delay:
    """How much later than at its best a line brings what its parent has."""

    def __init__(self, now: float) -> None:
        self._turned_at = now
        self._best: float | None = None
        self._best_before: float | None = None
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._heard_at = now

    def heard(self, alive: Alive, ours_us: int, now: float) -> None:
        """The parent said so; `ours_us` is the end of the newest packet that has come from it."""
        self._heard_at = now
        transit_s = now - alive.sent_ms / 1000
        if now - self._turned_at >= BEST_S:
            self._turned_at, self._best_before, self._best = now, self._best, None
        self._best = transit_s if self._best is None else min(self._best, transit_s)
        best = self._best if self._best_before is None else min(self._best, self._best_before)
        behind_s = max(0, alive.newest_us - ours_us) / MICROSECONDS
        self._samples.append((now, transit_s - best + behind_s))

    def forgive(self, now: float) -> None:
        """Judge by what comes from now on."""
        self._samples.clear()
        self._heard_at = now

    @property
    def late_s(self) -> float:
        """As it was heard last."""
        return self._samples[-1][1] if self._samples else 0.0

    def is_slow(self, now: float) -> bool:
        """Late for some time, and not on the way to be so no more: as while what is new catches up.

        Of a line on which bytes come: then a parent's word that does not come is under way.
        """
        if now - self._heard_at > SLOW_S + SLOW_WINDOW_S:
            return True
        recent = [late_s for at, late_s in self._samples if now - at <= SLOW_WINDOW_S]
        earlier = [late_s for at, late_s in self._samples if SLOW_WINDOW_S < now - at <= 2 * SLOW_WINDOW_S]
        if len(recent) < SLOW_SAMPLES_MIN or not earlier:
            return False
        return min(recent) > SLOW_S and min(recent) >= min(earlier)
