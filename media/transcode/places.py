"""Which picture shown takes the place of which picture decoded. Pure.

A decoder gives pictures in presentation order. The n-th of them takes the n-th place: its decoding
time is never after its presentation then, and where no picture is reordered nothing changes.
"""

from bisect import bisect_left, insort
from collections import deque

PLACES_MAX = 512  # no decoder holds so many back; those that never came are forgotten


class Places:
    """Places of the pictures that a decoder was given and did not give yet."""

    def __init__(self) -> None:
        self._places: deque[tuple[int, bool]] = deque()  # number and keyframe, in decoding order
        self._times: list[int] = []  # presentation times, in order

    def add(self, number: int, pts: int, *, keyframe: bool) -> None:
        """The decoder is given a picture."""
        self._places.append((number, keyframe))
        insort(self._times, pts)
        if len(self._places) > PLACES_MAX:
            self._drop(1)

    def take(self, pts: int) -> tuple[int, bool] | None:
        """The place for the picture shown at `pts`, and whether it must be a keyframe; None when unknown.

        Places before it stay empty: their pictures did not come. Their keyframe is this one then.
        """
        times = self._times
        before = bisect_left(times, pts)
        if before == len(times) or times[before] != pts:
            return None
        keyframe = self._drop(before)
        number, own = self._places.popleft()
        del times[0]
        return number, own or keyframe

    def _drop(self, count: int) -> bool:
        """Forget the first places; was one a keyframe's?"""
        dropped = [self._places.popleft() for _ in range(count)]
        del self._times[:count]
        return any([keyframe for _, keyframe in dropped])
