"""Which gateway next: circuit breakers and how long each takes, shared by all streams of a node. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from media.transcode.livepeer.order import GATEWAYS_MAX, Gateway, checked

BREAK_AFTER = 2  # failures in a row: one may be a connection that the gateway had closed
OPEN_FIRST_S = 5.0
OPEN_MAX_S = 60.0
SHARE_NEW = 0.3  # of the newest answer in the mean; as the transcoders' own load measure
UNKNOWN_RATIO = 0.5  # of a gateway that was not asked yet: good enough to try, not better than a good one
SLOW_RATIO = 1.0  # answers take as long as the media lasts: look for another
MUCH_BETTER = 0.5  # a move costs the new gateway a session's start
LOAD_WEIGHT = 0.1  # of each request in flight


@dataclass(slots=True)
class _Standing:
    gateway: Gateway
    failures: int = 0  # in a row
    failed_at: float = 0.0
    open_until: float = 0.0
    open_s: float = OPEN_FIRST_S
    is_open: bool = False
    probing: int = 0  # attempts that find out whether it is back
    in_flight: int = 0
    ratio: float | None = None  # seconds an answer takes for each second of media

    def usable(self, now: float) -> bool:
        return not self.is_open or (now >= self.open_until and not self.probing)

    @property
    def score(self) -> float:
        ratio = UNKNOWN_RATIO if self.ratio is None else self.ratio
        return ratio * (1 + LOAD_WEIGHT * self.in_flight)


@dataclass(frozen=True, slots=True)
class GatewayState:
    """For status pages."""

    url: str
    usable: bool
    failures: int
    in_flight: int
    ratio: float | None


class Gateways:
    """All gateways of a node. A gateway is named by its index."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        """Raises ValueError for addresses that are none, and for more than GATEWAYS_MAX."""
        if len(gateways) > GATEWAYS_MAX:
            raise ValueError(f"{len(gateways)} gateways: at most {GATEWAYS_MAX}")
        self._all = [_Standing(checked(gateway)) for gateway in gateways]

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Gateway:
        return self._all[index].gateway

    def choose(self, now: float, *, current: int | None, avoid: Collection[int] = ()) -> int | None:
        """The best that may be asked now, `current` as long as it is not much worse; None: there is none."""
        usable = [
            index for index, standing in enumerate(self._all) if index not in avoid and standing.usable(now)
        ]
        if not usable:
            return None
        best = min(usable, key=lambda index: self._all[index].score)
        if current in usable and current is not None:
            own = self._all[current].score
            if own <= SLOW_RATIO or self._all[best].score > own * MUCH_BETTER:
                return current
        return best

    def usable_beside(self, index: int, now: float, avoid: Collection[int] = ()) -> bool:
        """Is there another that may be asked?"""
        return any(
            [
                standing.usable(now)
                for other, standing in enumerate(self._all)
                if other != index and other not in avoid
            ]
        )

    def began(self, index: int) -> None:
        """A request begins; `ended` follows in any case, after `succeeded` or `failed`."""
        standing = self._all[index]
        standing.in_flight += 1
        standing.probing += standing.is_open

    def ended(self, index: int) -> None:
        standing = self._all[index]
        standing.in_flight -= 1
        standing.probing = max(0, standing.probing - 1)

    def succeeded(self, index: int, ratio: float) -> None:
        """Renditions came, after `ratio` times the segment's duration."""
        standing = self._all[index]
        standing.failures, standing.is_open, standing.open_s = 0, False, OPEN_FIRST_S
        before = ratio if standing.ratio is None else standing.ratio
        standing.ratio = before + SHARE_NEW * (ratio - before)

    def failed(self, index: int, now: float, *, began: float | None = None) -> None:
        """It could not be reached, or its answer is its fault.

        `began`: of a request that ended early. Those that were under way at the last failure ended for
        the same reason, as when a gateway restarts, and do not count again.
        """
        standing = self._all[index]
        same = began is not None and standing.failures > 0 and began < standing.failed_at
        if standing.is_open:
            if now >= standing.open_until:
                standing.open_s = min(OPEN_MAX_S, standing.open_s * 2)
                standing.open_until = now + standing.open_s
        elif not same:
            standing.failures += 1
            standing.failed_at = now
            if standing.failures >= BREAK_AFTER:
                standing.is_open = True
                standing.open_until = now + standing.open_s

    def states(self, now: float) -> list[GatewayState]:
        return [
            GatewayState(each.gateway.url, each.usable(now), each.failures, each.in_flight, each.ratio)
            for each in self._all
        ]
