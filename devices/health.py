"""Whether a device keeps up, from what its streams report. Pure."""

from collections import deque

VETO_FACTOR = 0.8  # p95 of real-time factors: the advice of livepeer_bench, where 1 is falling behind
CLEAR_FACTOR = 0.7  # below it the veto ends
VETO_WAIT = 0.5  # of a segment's duration, waited in the queue ...
VETO_WAITS = 3  # ... for so many segments one after another
WINDOW_S = 30.0  # what is older says nothing about now
SAMPLES_MIN = 5  # a p95 of fewer is the largest
SAMPLES_MAX = 512  # thirty seconds of as many streams as one host makes
BREAK_S = 30.0  # a device that failed is left alone; twice as long after each further failure
BREAK_MAX_S = 600.0
FORGIVEN_S = 1800.0  # without a failure: the next one counts as the first


class Health:
    """Of one device."""

    def __init__(self) -> None:
        self._factors: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._waits: deque[tuple[float, float]] = deque(maxlen=VETO_WAITS)
        self._vetoed = False
        self._failures = 0
        self._failed_at = 0.0
        self._broken_until = float("-inf")
        self._reason = ""

    def factor(self, value: float, now: float) -> None:
        """Time to transcode a segment over its duration, waits for input left out."""
        self._factors.append((now, value))

    def wait(self, value: float, now: float) -> None:
        """Time that a segment waited to be begun, over its duration."""
        self._waits.append((now, value))

    def failed(self, reason: str, now: float) -> None:
        """It gave errors: on probation after a while."""
        if now - self._failed_at > FORGIVEN_S:
            self._failures = 0
        self._broken_until = now + min(BREAK_S * 2**self._failures, BREAK_MAX_S)
        self._failures = min(self._failures + 1, 16)
        self._failed_at, self._reason = now, reason

    def p95(self, now: float) -> float | None:
        """Of the real-time factors of the last WINDOW_S; None when there are too few."""
        while self._factors and now - self._factors[0][0] > WINDOW_S:
            self._factors.popleft()
        if len(self._factors) < SAMPLES_MIN:
            return None
        ordered = sorted(value for _, value in self._factors)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]

    def is_behind(self, now: float) -> bool:
        """Whether what it has is too much for it already."""
        p95 = self.p95(now)
        limit = CLEAR_FACTOR if self._vetoed else VETO_FACTOR
        self._vetoed = p95 is not None and p95 > limit
        return self._vetoed or self._queues(now)

    def trouble(self, now: float) -> str:
        """Why nothing new may be put on it; "" when it may."""
        if now < self._broken_until:
            return f"failed: {self._reason}"
        if self._queues(now):
            return f"segments wait for more than {VETO_WAIT:g} of their duration"
        if self.is_behind(now):
            return f"transcoding takes {self.p95(now) or 0:.0%} of real time (p95)"
        return ""

    def _queues(self, now: float) -> bool:
        fresh = [value for when, value in self._waits if now - when <= WINDOW_S]
        return len(fresh) == VETO_WAITS and min(fresh) > VETO_WAIT
