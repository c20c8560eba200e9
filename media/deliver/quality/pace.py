"""How often somebody may do something. Pure."""


class Pace:
    """A token bucket for each key. A table that is full forgets the key that was let in longest ago."""

    def __init__(self, per_s: float, burst: int, keys_max: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._keys_max = keys_max
        self._buckets: dict[int, tuple[float, float]] = {}  # tokens left, and when

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, key: int, now: float) -> bool:
        """Whether `key` may do it now; that it did is remembered."""
        tokens, then = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._per_s)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - allowed, now)
        if len(self._buckets) > self._keys_max:
            del self._buckets[next(iter(self._buckets))]
        return allowed
