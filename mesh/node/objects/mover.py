"""Which stream a sequence of objects is read from, and when another is opened. Pure.

One stream is current. When the peer's link moves to another path, or the current stream breaks or stalls, a
second one is opened; it begins after the object in progress, or with that when it may never be whole. The
change is made between two objects, and by number, so none is lost and none comes twice. The owner does what
`steps` says, tells how it went, reads frames of the current stream, and takes `results`.

A half-received object is asked for again: a stream that was to begin after it is then given up for another.
"""

from dataclasses import dataclass
from math import inf
from random import Random
from typing import TypeAlias

from mesh.errors import WireError
from mesh.node.objects.frame import Frame, Kind, refusal_of

STALL_S = 1.3  # without a byte, on a path in doubt: a beat of an idle sequence, and a packet sent again
SILENT_S = 8.0  # without a byte, whatever is said of the path: one that is dead is known in 6 s
LOOK_S = 0.2  # between looks whether the path of a silent stream is in doubt
RETRY_S = 0.25  # after a stream that failed; doubled each time
RETRY_MAX_S = 5.0
UPGRADE_S = 60.0  # between tries for the best way while another is used
GIVE_UP_S = 60.0  # without a stream
SETTLED_S = 5.0  # of bytes make a stream one that works, and so does a whole frame
UNSERVED_MAX = 3  # streams in a row that the peer ended without a word: it does not serve this


@dataclass(frozen=True, slots=True)
class Open:
    """Open a stream, then call `opened` and say START with what it gives, then `ready` or `lost`.

    `avoid` is a stream whose connection seems dead. `upgrade`: all is well, so only the best way is wanted.
    """

    stream: int
    avoid: int | None
    upgrade: bool


@dataclass(frozen=True, slots=True)
class Close:
    """A stream is of no use any more, or not to be opened any more."""

    stream: int


@dataclass(frozen=True, slots=True)
class Switched:
    """This stream is read from now on; what was there before of `number` is forgotten."""

    stream: int
    number: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """The current stream is silent: have the peer's link show whether its path lives."""


@dataclass(frozen=True, slots=True)
class Object:
    """The next object."""

    number: int
    data: bytearray


@dataclass(frozen=True, slots=True)
class Missed:
    """The peer has no more the objects from `first` to before `next`."""

    first: int
    next: int


@dataclass(frozen=True, slots=True)
class Ended:
    """There is nothing more; `reason` is "" at the sequence's own end."""

    reason: str
    refused: bool = False


Step: TypeAlias = Open | Close | Switched | Suspect
Result: TypeAlias = Object | Missed | Ended


@dataclass(slots=True)
class _Stream:
    moves: int  # of the link when it was opened
    upgrade: bool = False
    best: bool = True  # opened by the way that is tried first
    next: int | None = None  # number of the next object on it; None until START was said
    in_progress: int | None = None
    is_ready: bool = False


class Mover:
    """The state of one reader. `now` is monotonic seconds."""

    def __init__(self, first: int, random: Random, now: float) -> None:
        self.needed = first  # the object that is given next
        self.current: int | None = None
        self.duplicates = 0
        self._random = random
        self._streams: dict[int, _Stream] = {}  # at most the current and one more
        self._other: int | None = None  # being opened, or ready to take over
        self._number = 0
        self._moves = 0
        self._switched_at = now
        self._heard_at = now
        self._paused_at: float | None = None
        self._stalled = False
        self._suspected = False  # in this silence
        self._look_at = inf
        self._open_at = now
        self._upgrade_at = inf
        self._lost_at = now
        self._trouble = "no stream was opened"
        self._failures = 0
        self._unserved = 0
        self._ended: Ended | None = None
        self._steps: list[Step] = []
        self._results: list[Result] = []

    # --- what comes of it

    def steps(self) -> list[Step]:
        """What to do now, in order; empties the list."""
        steps, self._steps = self._steps, []
        return steps

    def result(self) -> Result | None:
        """What the reader gets next; the end is given again and again."""
        return self._results.pop(0) if self._results else self._ended

    # --- streams

    def opened(self, stream: int, *, best: bool = True) -> int | None:
        """A stream is there: the number to begin with, or None when it is not wanted.

        `best`: by the way that is tried first.
        """
        state = self._streams.get(stream)
        if state is None:
            return None
        state.best = best
        current = self._streams.get(self.current) if self.current is not None else None
        whole = current is not None and current.in_progress == self.needed and not self._stalled
        state.next = self.needed + whole
        return state.next

    def ready(self, stream: int, now: float) -> bool:
        """The peer confirmed the number. False: the stream is not wanted any more."""
        state = self._streams.get(stream)
        if state is None:
            return False
        state.is_ready = True
        self._unserved = 0
        self._settle(now)
        return True

    def lost(self, stream: int, reason: str, now: float, *, unserved: bool = False) -> None:
        """A stream was not opened, or broke. `unserved`: it ended before it was confirmed."""
        state = self._streams.pop(stream, None)
        if state is None:
            return
        self._trouble = reason
        if stream == self.current:
            self.current, self._stalled, self._look_at = None, False, inf
            self._lost_at = min(self._lost_at, now)
            self._hurry()
        else:
            self._other = None
        if state.upgrade:
            self._upgrade_at = now + UPGRADE_S
        else:
            self._unserved += unserved
            self._open_at = min(self._open_at, now + self._wait())
        if self._unserved >= UNSERVED_MAX:
            self._end(Ended("the peer does not serve it"))
        self._settle(now)

    def _wait(self) -> float:
        """Seconds until another stream is tried; none after one that brought something."""
        self._failures += 1
        if self._failures == 1:
            return 0.0
        wait_s = min(RETRY_S * 2.0 ** min(self._failures - 2, 8), RETRY_MAX_S)
        return wait_s * (0.75 + 0.5 * self._random.random())

    def link_changed(self, now: float) -> None:
        """The peer's link has another connection: what was opened before may lead a worse way."""
        if self._ended is not None:
            return
        self._moves += 1
        self._drop_other()
        self._open_at, self._failures = now, 0
        self._look_at = min(self._look_at, now)
        self._settle(now)

    # --- reading

    def pause(self, now: float) -> None:
        """The owner does not read now: silence says nothing."""
        self._paused_at = now

    def resume(self, now: float) -> None:
        """It reads again."""
        if self._paused_at is not None:
            self._heard_at += now - self._paused_at
            self._lost_at += now - self._paused_at
            self._paused_at = None
        self._look_at = self._heard_at + STALL_S if self.current is not None else inf
        self._settle(now)

    def heard(self, in_progress: int | None, now: float) -> None:
        """Bytes came on the current stream; of which object that is not whole yet."""
        assert self.current is not None
        self._streams[self.current].in_progress = in_progress
        self._heard_at, self._look_at = now, now + STALL_S
        self._stalled = self._suspected = False
        if now >= self._switched_at + SETTLED_S:
            self._works()

    def receive(self, frame: Frame, now: float) -> None:
        """A frame of the current stream. Raises WireError: call `lost`."""
        assert self.current is not None
        state = self._streams[self.current]
        assert state.next is not None
        state.in_progress = None
        if frame.kind not in (Kind.REFUSED, Kind.GONE) and frame.number != state.next:
            raise WireError(f"the peer says {frame.kind.name} {frame.number} where {state.next} is next")
        match frame.kind:
            case Kind.OBJECT:
                state.next += 1
                self._take(frame)
            case Kind.GONE:
                if frame.number <= state.next:
                    raise WireError(f"the peer says that what it has not sent yet ends at {frame.number}")
                state.next = frame.number
                if frame.number > self.needed:
                    self._results.append(Missed(self.needed, frame.number))
                    self.needed = frame.number
            case Kind.END:
                self._end(Ended(""))
            case Kind.REFUSED:
                self._end(Ended(refusal_of(frame), refused=True))
            case Kind.IDLE:
                pass
            case _:
                raise WireError(f"the peer says {frame.kind.name} in the middle of a stream")
        self._works()
        self._settle(now)

    def _works(self) -> None:
        self._lost_at, self._failures = inf, 0

    def _take(self, frame: Frame) -> None:
        if frame.number == self.needed:
            self._results.append(Object(frame.number, frame.data))
            self.needed += 1
        else:
            self.duplicates += 1

    # --- time

    def deadline(self) -> float:
        """When `on_deadline` is next due."""
        if self._ended is not None:
            return inf
        due = self._look_at
        if self._is_without:
            due = min(due, self._lost_at + GIVE_UP_S)
        if self._other is None:
            due = min(due, self._open_at, self._upgrade_at)
        return due

    def on_deadline(self, now: float, *, doubted: bool) -> None:
        """Do what is due. Harmless when early. `doubted`: the peer's link is, or there is none."""
        if self._ended is not None:
            return
        if now >= self._look_at and self.current is not None:
            self._look(self._streams[self.current], now, doubted)
        if self._is_without and now >= self._lost_at + GIVE_UP_S:
            self._end(Ended(self._trouble))
        self._settle(now)

    def _look(self, state: _Stream, now: float, doubted: bool) -> None:
        silent_s = now - self._heard_at
        moved = state.moves != self._moves
        if silent_s >= SILENT_S or (silent_s >= STALL_S and (doubted or moved)):
            self._look_at = inf
            self._stalled = True
            self._lost_at = min(self._lost_at, now)
            self._hurry()
            self._open_at = min(self._open_at, now)
            return
        self._look_at = max(self._heard_at + STALL_S, now + LOOK_S)
        if silent_s >= STALL_S and not self._suspected:
            self._suspected = True
            self._steps.append(Suspect())

    # --- between streams

    @property
    def _is_without(self) -> bool:
        return self.current is None or self._stalled

    def _settle(self, now: float) -> None:
        """Change over when that can be done now; open a stream when one is due."""
        if self._ended is not None:
            return
        self._switch(now)
        if self._other is None and now >= min(self._open_at, self._upgrade_at):
            upgrade = now < self._open_at
            self._open_at = self._upgrade_at = inf
            self._number += 1
            self._other = self._number
            self._streams[self._other] = _Stream(self._moves, upgrade)
            self._steps.append(Open(self._other, self.current if self._stalled else None, upgrade))

    def _switch(self, now: float) -> None:
        other = self._streams.get(self._other) if self._other is not None else None
        if other is None or other.next is None or not other.is_ready or other.next > self.needed:
            return
        if self.current is not None:
            current = self._streams[self.current]
            if current.in_progress == self.needed and not self._stalled:
                return
            del self._streams[self.current]
            self._steps.append(Close(self.current))
        self.current, self._other = self._other, None
        assert self.current is not None
        self._stalled = self._suspected = False
        self._open_at = inf
        self._switched_at, self._heard_at, self._look_at = now, now, now + STALL_S
        self._upgrade_at = inf if other.best else now + UPGRADE_S
        self._steps.append(Switched(self.current, self.needed))

    def _hurry(self) -> None:
        """The object in progress may never be whole: a stream that begins after it is of no use."""
        state = self._streams.get(self._other) if self._other is not None else None
        if state is None:
            return
        state.upgrade = False
        if state.next is not None and state.next > self.needed:
            self._drop_other()
            self._open_at = -inf

    def _drop_other(self) -> None:
        if self._other is not None:
            del self._streams[self._other]
            self._steps.append(Close(self._other))
            self._other = None

    def _end(self, ended: Ended) -> None:
        self._ended = ended
        self._steps.extend(Close(stream) for stream in self._streams)
        self._streams.clear()
        self.current = self._other = None
