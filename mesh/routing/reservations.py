"""Viewers who were sent to a member and whom its load does not show yet. Pure.

Every choice makes a reservation. It is gone when the member tells a load that was measured after the viewer
came, and after RESERVED_S at the latest. A node also keeps one for every viewer whom it takes itself, and
tells how many of those its measured uplink does not show yet as `Load.reservations`.
"""

from mesh.model import NodeId

RESERVED_S = 30.0  # by then a viewer has come and load was told several times, or it has gone elsewhere
ARRIVAL_S = 1.0  # from being sent to being counted there: a redirect, a connection, a playlist; guess
STEP_S = 1.0  # what is reserved within this is kept as one
FETCH_S = 10.0  # by then an edge that was sent a viewer has the stream and has told so, or has failed
STREAMS_MAX = 1024  # with fetches that are expected, at a time; those that are oldest go first
MEMBERS_MAX = 4096  # with reservations at a time; those that are oldest go first

_Steps = list[tuple[float, int, int]]  # begin, bits per second, how many; oldest first, RESERVED_S of them


class Reservations:
    """What one node promised. Times are monotonic seconds that never go back."""

    def __init__(self) -> None:
        self._made: dict[NodeId, _Steps] = {}
        self._fetches: dict[str, dict[NodeId, float]] = {}

    def make(self, node: NodeId, bitrate_bps: int, now: float) -> None:
        """A viewer was sent to `node`, or taken here."""
        steps = self._made.pop(node, [])  # put back as the newest
        while steps and steps[0][0] <= now - RESERVED_S:
            del steps[0]
        if steps and now - steps[-1][0] < STEP_S:
            begin, bps, count = steps[-1]
            steps[-1] = (begin, bps + bitrate_bps, count + 1)
        else:
            steps.append((now, bitrate_bps, 1))
        self._made[node] = steps
        self._forget(now)

    def bps(self, node: NodeId, measured_at: float, now: float) -> int:
        """Bits per second promised that a load measured at `measured_at` does not show."""
        steps = self._made.get(node)
        if not steps:
            return 0
        after = max(now - RESERVED_S, measured_at - ARRIVAL_S)
        return sum(bps for begin, bps, _ in steps if begin > after)

    def count(self, node: NodeId, measured_at: float, now: float) -> int:
        """How many viewers that are; of this node itself it is what `Load.reservations` tells."""
        after = max(now - RESERVED_S, measured_at - ARRIVAL_S)
        return sum(count for begin, _, count in self._made.get(node, ()) if begin > after)

    def expect(self, stream: str, node: NodeId, now: float) -> None:
        """A member will fetch a stream, as it was sent a viewer for it; feeding it was promised once."""
        fetches = self._fetches.pop(stream, {})  # put back as the newest
        recent = {other: when for other, when in fetches.items() if when > now - FETCH_S}
        self._fetches[stream] = {node: now, **recent}
        if len(self._fetches) > STREAMS_MAX:
            del self._fetches[next(iter(self._fetches))]

    def expected(self, stream: str, now: float) -> list[NodeId]:
        """Members that will have the stream soon."""
        fetches = self._fetches.get(stream)
        return [node for node, when in fetches.items() if when > now - FETCH_S] if fetches else []

    def members(self) -> int:
        """How many members have any."""
        return len(self._made)

    def _forget(self, now: float) -> None:
        """Those whom nobody was sent to for long, and the oldest of too many: they come first."""
        while True:
            oldest = next(iter(self._made))
            if self._made[oldest][-1][0] > now - RESERVED_S and len(self._made) <= MEMBERS_MAX:
                return
            del self._made[oldest]
