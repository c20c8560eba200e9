"""Timers in one heap with lazy deletion. Pure: the caller says what time it is."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

# Cancelled entries stay in the heap until they come up or outnumber the live ones; this many
# are always tolerated, so that a small heap is not rebuilt all the time.
SLACK = 64


class Timer:
    """One callback that is still to be called, once. Made by `Timers.call_at`."""

    __slots__ = ("_timers", "callback", "when")

    def __init__(self, when: float, callback: Callable[[float], None], timers: "Timers") -> None:
        self.when = when
        self.callback: Callable[[float], None] | None = callback
        self._timers = timers

    def cancel(self) -> None:
        """Forget the callback; does nothing when it was called or cancelled before."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled += 1


class Timers:
    """Callbacks by time. Takes at most twice the entries of live timers, plus SLACK."""

    __slots__ = ("_heap", "_sequence", "cancelled")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self.cancelled = 0

    def __len__(self) -> int:
        """Timers that are still to be called."""
        return len(self._heap) - self.cancelled

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Ask for `callback(now)` once `when` has come; equal times are called in the order asked."""
        timer = Timer(when, callback, self)
        self._sequence += 1
        heappush(self._heap, (when, self._sequence, timer))
        if self.cancelled > SLACK and self.cancelled * 2 > len(self._heap):
            self._sweep()
        return timer

    def next(self) -> float | None:
        """When the earliest timer is due; None when there is none."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heappop(heap)
            self.cancelled -= 1
        return heap[0][0] if heap else None

    def mark(self) -> int:
        """Tells timers that exist now from those that will be made later (see `pop_due`)."""
        return self._sequence

    def pop_due(self, now: float, mark: int | None = None) -> Callable[[float], None] | None:
        """Take the earliest callback whose time has come; None when there is none.

        With a mark, the earliest stays when it was asked for after that: a callback that asks for
        itself again cannot keep its caller here.
        """
        when = self.next()
        if when is None or when > now or (mark is not None and self._heap[0][1] > mark):
            return None
        timer = heappop(self._heap)[2]
        callback, timer.callback = timer.callback, None
        return callback

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapify(self._heap)
        self.cancelled = 0
