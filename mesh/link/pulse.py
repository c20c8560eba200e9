"""Whether one connection still carries: round trip, silence, when to ask. Pure.

Traffic that nobody answers is suspicious after two round trips, at least ASK_S: then a ping asks. Without an
answer in the same time again the path is doubted, so that another can be tried while this one stays; after
DEAD_S of silence it is given up. A link whose end changed its address is made anew within two seconds of
traffic that way.
"""

from collections import deque
from math import inf

ASK_S = 0.4  # unanswered traffic before a ping; TCP repeats a lost packet after 0.2 s
ASK_AGAIN_S = 1.0  # between pings of a doubted connection
DEAD_S = 6.0  # silence after unanswered traffic: what the design calls silent
MEASURE_S = 10.0  # between pings that only measure
KEEP = 0.75  # share of the old round trip in the new
LOSS_S = 60.0  # pings of so long ago are counted for the loss
PINGS_MAX = 128  # remembered: two a second for LOSS_S are more than are ever sent by ASK_AGAIN_S


class Pulse:
    """Times of one connection, monotonic seconds."""

    __slots__ = (
        "_asked_at",
        "_asked_first_at",
        "_measure_at",
        "_nonce",
        "_pings",
        "_waiting_since",
        "fastest_s",
        "heard_at",
        "rtt_s",
    )

    def __init__(self, rtt_s: float | None, now: float) -> None:
        self.rtt_s = rtt_s
        self.fastest_s = rtt_s  # the least ever: what tells how far away the peer can be
        self.heard_at = now
        self._waiting_since = inf  # the oldest traffic that nothing followed
        self._asked_at = inf
        self._asked_first_at = inf  # in this silence
        self._measure_at = now
        self._nonce = 0
        # Of each ping: its nonce, when it was sent, by when an answer was due, whether there was one.
        self._pings: deque[tuple[int, float, float, bool]] = deque(maxlen=PINGS_MAX)

    @property
    def patience_s(self) -> float:
        """How long an answer may take before somebody asks."""
        return max(ASK_S, 2 * (self.rtt_s or 0.0))

    def sent(self, now: float) -> None:
        """Something was sent that the other side will answer sooner or later."""
        if self._waiting_since == inf:
            self._waiting_since = now

    def heard(self, now: float) -> None:
        """Anything came."""
        self.heard_at = now
        self._waiting_since = self._asked_first_at = inf

    def pong(self, nonce: int, now: float) -> None:
        """The answer to a ping. That of an older one than the last is an answer, but measures nothing."""
        for place, (asked, at, due, _) in enumerate(self._pings):
            if asked == nonce:
                self._pings[place] = (asked, at, due, True)
        if nonce == self._nonce and self._asked_at != inf:
            took = now - self._asked_at
            self.rtt_s = took if self.rtt_s is None else KEEP * self.rtt_s + (1 - KEEP) * took
            self.fastest_s = took if self.fastest_s is None else min(self.fastest_s, took)
            self._asked_at = inf

    def loss(self, now: float) -> float | None:
        """Share of the pings of the last LOSS_S without an answer, 0 to 1; None when none was due.

        One that is not answered yet counts when `patience_s` of the time it was sent is over.
        """
        counted = [
            answered
            for _, at, due, answered in self._pings
            if now - LOSS_S <= at and (answered or now >= due)
        ]
        return counted.count(False) / len(counted) if counted else None

    def doubted(self, now: float) -> bool:
        """Whether another path should be tried beside this one."""
        return now >= self._asked_first_at + self.patience_s

    def dead(self, now: float) -> bool:
        """Whether it is to be given up."""
        return now >= self._waiting_since + DEAD_S

    def ping_due(self, now: float) -> int | None:
        """The nonce of a ping to be sent now, or None."""
        return None if now < self._next_ping() else self.ping_now(now)

    def ping_now(self, now: float) -> int:
        """The nonce of a ping, due or not."""
        if self._waiting_since < now and self._asked_first_at == inf:
            self._asked_first_at = now
        self._nonce += 1
        self._asked_at = now
        self._pings.append((self._nonce, now, now + self.patience_s, False))
        self._measure_at = now + MEASURE_S
        self.sent(now)
        return self._nonce

    def deadline(self, now: float) -> float:
        """When to look again."""
        soonest = min(self._next_ping(), self._waiting_since + DEAD_S)
        doubt = self._asked_first_at + self.patience_s
        return min(soonest, doubt) if doubt > now else soonest

    def _next_ping(self) -> float:
        if self._asked_first_at != inf:
            return self._asked_at + ASK_AGAIN_S if self._asked_at != inf else inf
        return min(self._measure_at, self._waiting_since + self.patience_s)
