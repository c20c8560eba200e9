"""How large a connection's datagrams may be: found out by sending large ones (RFC 8899, DPLPMTUD). Pure."""

BASE_BYTES = 1200  # RFC 9000 14: every path carries it
SIZES = (1452, 1372)  # of a 1500 byte link with IPv6, with PPPoE or a tunnel of 1420 beside it
TRIES = 2  # of each size: one loss may have other reasons
AGAIN_S = 600.0  # RFC 8899 5.1.1, PMTU_RAISE_TIMER
SILENT_TIMEOUTS = 2  # probe timeouts in a row after which large datagrams are suspected


class PathMtu:
    """The size for one path. A probe at a time."""

    def __init__(self) -> None:
        self.size = BASE_BYTES
        self._next = 0  # in SIZES
        self._tries = 0
        self._waiting = False
        self._again_at = 0.0

    def due(self, now: float) -> int:
        """The size to try now, 0 when there is nothing to try; it is taken as sent."""
        if self._waiting:
            return 0
        if self._next >= len(SIZES):
            if now < self._again_at or self.size == SIZES[0]:
                return 0
            self._next = self._tries = 0
        if SIZES[self._next] <= self.size:
            self._finish(now)
            return 0
        self._waiting = True
        self._tries += 1
        return SIZES[self._next]

    def arrived(self, size: int, now: float) -> None:
        """A datagram of that size did."""
        self._waiting = False
        if size > self.size:
            self.size = size
        self._finish(now)

    def lost(self, now: float) -> None:
        """The probe was."""
        self._waiting = False
        if self._tries >= TRIES:
            self._next, self._tries = self._next + 1, 0
            self._again_at = now + AGAIN_S

    def suspect(self, now: float) -> None:
        """Large datagrams do not arrive any more: back to the base, and try again much later."""
        self.size = BASE_BYTES
        self._finish(now)

    def _finish(self, now: float) -> None:
        self._next, self._again_at = len(SIZES), now + AGAIN_S
