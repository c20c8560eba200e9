"""How a publisher's packets arrive: stalls, jitter, faster or slower than real time, tracks apart. Pure.

Lateness is arrival time minus timestamp. Its absolute value means nothing; the least of a
second grows when the publisher falls behind, and shrinks when it runs ahead.
"""

from collections import deque

from media.ingest.diagnosis.meter import SHORT_WINDOW, WINDOW, Meter
from media.track.model import MICROSECONDS

WARM_UP_S = 8.0  # a publisher may begin with a burst: the newest group of a relay, a full send buffer
STALL_S = 3.0  # players at a second or two of latency have run dry
STALLS_KEPT = 16
MINUTES_KEPT = 11  # ten minutes between the oldest and the newest
DRIFT_MINUTES = 5  # shorter, and a slowly filling queue looks like a slow clock
SPEED_SECONDS = 16  # five for each end, and something between
RUSH_SECONDS, RUSH = 5, 1.5  # a file sent without a brake shows sooner
BURSTS = 3  # late seconds of ten that make a habit of it
FALLEN_SILENT_S = 4.0  # a track that said nothing for so long is not compared with the others


class Arrival:
    """What the tracks of one publisher have in common. Fed once a second."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.newest: float | None = None  # when the newest packet came, as of the last `tick`
        self.stalls: deque[tuple[float, float]] = deque(maxlen=STALLS_KEPT)  # last packet before, seconds
        self.apart_us: deque[float] = deque(maxlen=SHORT_WINDOW)  # sound's clock minus picture's
        self._leader: Meter | None = None
        self._spreads_us: deque[float] = deque(maxlen=SHORT_WINDOW)
        self._points: deque[tuple[float, float]] = deque(maxlen=WINDOW)  # when, least lateness
        self._least_us = float("inf")  # lateness before the points
        self._minutes: deque[tuple[float, float]] = deque(maxlen=MINUTES_KEPT)
        self._minute: tuple[float, float] | None = None

    def tick(self, video: list[Meter], audio: list[Meter], now: float) -> None:
        """About a second has passed; the meters' seconds are closed."""
        if self.began is None:
            self.began = now
        meters = [*video, *audio]
        arrived = [meter.arrived for meter in meters if meter.arrived is not None]
        self.newest = max(arrived, default=None)
        self._watch_stall(now)
        if now - self.began < WARM_UP_S:
            return
        self._follow(next((meter for meter in meters if self._goes_on(meter)), None))
        self._compare(next(iter(video), None), next(iter(audio), None))

    def silence(self, now: float) -> float:
        """Seconds since anything came."""
        since = self.began if self.newest is None else self.newest
        return 0.0 if since is None else now - since

    @property
    def jitter_us(self) -> float:
        """Spread of lateness within a second that BURSTS of the newest SHORT_WINDOW seconds reach."""
        spreads = sorted(self._spreads_us, reverse=True)
        return spreads[BURSTS - 1] if len(spreads) > RUSH_SECONDS else 0.0

    def speed(self) -> float | None:
        """Media seconds per second of arrival; None when it is not known, or is only a backlog."""
        points = list(self._points)
        if len(points) < RUSH_SECONDS:
            return None
        speed = self._slope(points)
        return speed if len(points) >= SPEED_SECONDS or speed >= RUSH else None

    def _slope(self, points: list[tuple[float, float]]) -> float:
        third = len(points) // 3
        first_at, first_us = min(points[:third], key=_lateness)
        last_at, last_us = min(points[-third:], key=_lateness)
        before_us = min(self._least_us, *(late_us for _, late_us in points[:-third]))
        fell_behind_us = last_us - first_us
        if fell_behind_us < 0 and last_us > before_us - MICROSECONDS // 2:
            return 1.0  # it was as early before: it catches up after a bad network
        return 1.0 - fell_behind_us / ((last_at - first_at) * MICROSECONDS)

    def drift_ppm(self) -> float | None:
        """How much the publisher's clock is slow against ours, over minutes; None when not known."""
        if len(self._minutes) <= DRIFT_MINUTES:
            return None
        (first_at, first_us), (last_at, last_us) = self._minutes[0], self._minutes[-1]
        return (last_us - first_us) / (last_at - first_at)

    def _watch_stall(self, now: float) -> None:
        silence = self.silence(now)
        if self.newest is None or silence < STALL_S:
            return
        if self.stalls and self.stalls[-1][0] == self.newest:
            self.stalls.pop()
        self.stalls.append((self.newest, silence))

    def _follow(self, leader: Meter | None) -> None:
        """Take the newest second of the first track that lives."""
        if leader is None or not leader.seconds:
            return
        if leader is not self._leader or leader.shifted:
            self._leader = leader
            leader.shifted = False
            self._forget()
            return
        second, at = leader.seconds[-1], leader.arrived or 0.0
        if self._points and self._points[-1][0] == at:
            return
        self._spreads_us.append(second.spread_us)
        if len(self._points) == WINDOW:
            self._least_us = min(self._least_us, self._points[0][1])
        self._points.append((at, second.early_us))
        self._count_minute(at, second.early_us)

    def _count_minute(self, at: float, early_us: float) -> None:
        if self._minute is None:
            self._minute = (at, early_us)
        elif at - self._minute[0] < 60:
            self._minute = (self._minute[0], min(self._minute[1], early_us))
        else:
            self._minutes.append(self._minute)
            self._minute = (at, early_us)

    def _compare(self, video: Meter | None, audio: Meter | None) -> None:
        if video is None or audio is None or not (self._goes_on(video) and self._goes_on(audio)):
            self.apart_us.clear()
        elif video.step_us:
            # A picture lasts until the next one comes: sound may be ahead of its start by so much.
            ahead_us = audio.dts_us - video.dts_us
            self.apart_us.append(ahead_us if ahead_us < 0 else max(0.0, ahead_us - video.step_us))

    def _goes_on(self, meter: Meter) -> bool:
        """Does it come while others come? In a stall, no track is worse than the others."""
        if meter.arrived is None or self.newest is None or not meter.seconds:
            return False
        return self.newest - meter.arrived < FALLEN_SILENT_S

    def _forget(self) -> None:
        self._spreads_us.clear()
        self._points.clear()
        self._minutes.clear()
        self._least_us, self._minute = float("inf"), None


def _lateness(point: tuple[float, float]) -> float:
    return point[1]
