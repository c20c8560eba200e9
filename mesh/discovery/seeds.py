"""Which seed address to try when. Pure: the caller dials, resolving names anew, and says how it went."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from mesh.identity.invite import is_address

SEEDS_MAX = 128  # the configured ones and the last known peers
BACKOFF_MIN_S = 1.0  # after the first failure
BACKOFF_MAX_S = 60.0
RESOLVE_EVERY_S = 60.0  # a name behind which another host appeared is found within this
TRY_S = 45.0  # a try of which nothing was heard counts as failed: longer than any dial takes
JITTER = 0.25  # of each wait: nodes that lost the same seed together do not come back together


@dataclass(slots=True)
class _Seed:
    at: float  # when to try next
    failures: int = 0
    trying: bool = False


class SeedList:
    """Seeds and when each is next due. Times are monotonic seconds."""

    def __init__(self, seeds: Iterable[str], random: Random, now: float) -> None:
        self._random = random
        self._seeds: dict[str, _Seed] = {}
        self.set(seeds, now)

    @property
    def addresses(self) -> list[str]:
        """All seeds, in the order given."""
        return list(self._seeds)

    def set(self, seeds: Iterable[str], now: float) -> None:
        """Have these seeds and no others; new ones are due at once, what is no address is left out."""
        wanted = [seed for seed in dict.fromkeys(seeds) if is_address(seed)][:SEEDS_MAX]
        self._seeds = {seed: self._seeds.get(seed) or _Seed(now) for seed in wanted}

    def deadline(self) -> float | None:
        """When `due` will next give something, or None without seeds."""
        return min((seed.at for seed in self._seeds.values()), default=None)

    def due(self, now: float) -> list[str]:
        """Seeds to try now. Answer each with `connected` or `failed`: until then it is not given again.

        A seed in use comes again after RESOLVE_EVERY_S: resolve it, and when all that it resolves to is
        linked already, say `connected` without dialling.
        """
        due = []
        for address, seed in self._seeds.items():
            if seed.at > now:
                continue
            if seed.trying:
                self.failed(address, now)
                continue
            seed.trying = True
            seed.at = now + TRY_S
            due.append(address)
        return due

    def failed(self, address: str, now: float) -> None:
        """The try failed: again after a wait that doubles, up to BACKOFF_MAX_S."""
        if seed := self._seeds.get(address):
            # The exponent is bounded: a float overflows after a thousand failures.
            wait_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(seed.failures, 16))
            seed.failures += 1
            self._wait(seed, wait_s, now)

    def connected(self, address: str, now: float) -> None:
        """A link to what the address resolves to is up."""
        if seed := self._seeds.get(address):
            seed.failures = 0
            self._wait(seed, RESOLVE_EVERY_S, now)

    def lost(self, address: str, now: float) -> None:
        """The link to it went down: try soon."""
        if (seed := self._seeds.get(address)) and not seed.trying:
            seed.failures = 0
            self._wait(seed, BACKOFF_MIN_S, now)

    def hurry(self, now: float) -> None:
        """The network under this host changed: try at once all that is not being tried."""
        for seed in self._seeds.values():
            if not seed.trying:
                seed.failures = 0
                seed.at = min(seed.at, now)

    def _wait(self, seed: _Seed, wait_s: float, now: float) -> None:
        seed.trying = False
        seed.at = now + wait_s * (1.0 - JITTER * self._random.random())
