"""When an edge whose parent does its work may leave it for a better one. Pure.

What the choice is made from wavers: round trips, load, the processor. `mesh.routing` holds on to the present
parent by a margin and for some seconds; here the same other one must be the best several times in a row,
and each change makes the next one rarer, so that parents that take turns at being the best cost nothing.
"""

from mesh.model import NodeId
from mesh.routing.parents import Choice

LOOK_S = 5.0  # between looks; load is told about as often
ROUNDS = 3  # looks in a row at which the same one is the best
CALM_S = 30.0  # without a change after one; doubled by each
CALM_MAX_S = 900.0
DOUBLINGS_MAX = 16  # beyond CALM_MAX_S; keeps the number small


class Change:
    """One stream's changes of parent. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._best: NodeId | None = None
        self._rounds = 0
        self._changes = 0
        self._calm_until = 0.0

    def look(self, choice: Choice, present: NodeId | None, now: float) -> NodeId | None:
        """Whom to change to now; call every LOOK_S."""
        best = None if choice.last_resort else choice.parent
        if best is None or best == present:
            self._best, self._rounds = None, 0
            return None
        if best != self._best:
            self._best, self._rounds = best, 0
        self._rounds += 1
        if self._rounds < ROUNDS or now < self._calm_until:
            return None
        return best

    def began(self, now: float) -> None:
        """A change is tried, whatever becomes of it."""
        self._best, self._rounds = None, 0
        self._calm_until = now + min(CALM_MAX_S, CALM_S * 2**self._changes)
        self._changes = min(self._changes + 1, DOUBLINGS_MAX)
