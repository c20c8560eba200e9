"""Whether one more may be let in, by all that the owner promised. Pure: clocks are given.

Who is in stays. Only who is new is asked about: viewers by Door's question before anything is sent to them,
edges when they want a stream.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from fwnode.promise.crowd import HLS_BEHIND_TARGETS, Crowd, Watched
from fwnode.promise.holds import FOREVER, Holds, Role
from fwnode.promise.hours import WallTime
from fwnode.promise.model import RETRY_MAX_S, RETRY_S, MonthView, Refusal, Why
from fwnode.promise.terms import BITS_PER_MBIT, Terms
from fwnode.promise.volume import Volume

QUIET_MIN_S = 60
DRAINS = "this node is about to stop serving"


class Kept(msgspec.Struct, frozen=True):
    """What is on disk between two runs."""

    holds: Holds = Holds()
    months: dict[str, int] = {}
    observed_bps: int = 0


class Promise:
    """What one node gives, and what of it is taken. Times are monotonic seconds but for those called unix."""

    def __init__(self, terms: Terms, streams: Iterable[Watched], kept: Kept) -> None:
        self.terms = terms
        self.holds = kept.holds
        self.crowd = Crowd(streams)
        self.volume = Volume(kept.months)
        self.observed_bps = kept.observed_bps
        self.refused: Counter[str] = Counter()
        self.edges_bps: Callable[[], int] = lambda: 0  # what edges take or were promised
        self.told: Refusal | None = None  # by the agent, in a worker: why nobody new may come
        self._wall = WallTime("", -1)
        self._unix_s = 0.0

    # --- what is so now

    def look(self, now: float, unix_s: float, wall: WallTime, sent_bytes: int) -> bool:
        """To be called every second or so; True when a hold ended by itself."""
        self._wall, self._unix_s = wall, unix_s
        self.volume.count(wall.month, sent_bytes)
        self.crowd.look(now, sent_bytes)
        self.observed_bps = max(self.observed_bps, self.crowd.sent_bps())
        before, self.holds = self.holds, self.holds.at(unix_s)
        return before is not self.holds

    def hold(self, holds: Holds) -> None:
        """Hold this, and no more."""
        self.holds = holds

    @property
    def kept(self) -> Kept:
        """To be on disk."""
        return Kept(self.holds, self.volume.months, self.observed_bps)

    @property
    def quiet(self) -> bool:
        """Whether quiet hours are now."""
        hours = self.terms.quiet
        return hours is not None and self._wall.minute >= 0 and hours.hold(self._wall.minute)

    @property
    def budget_bps(self) -> int:
        """Of the uplink, now; 0: no limit."""
        if self.quiet and self.terms.quiet_budget_bps:
            return min(self.terms.quiet_budget_bps, self.terms.budget_bps or self.terms.quiet_budget_bps)
        return self.terms.budget_bps

    def taken_bps(self, now: float) -> int:
        """What is sent, or was promised to those who are in."""
        return max(self.crowd.sent_bps(), self.crowd.reserved_bps(now) + self.edges_bps())

    # --- who may come

    def closed(self, role: Role = Role.VIEWERS) -> Refusal | None:
        """Why nobody new is let in, whatever they want; None: it depends."""
        if self.told is not None:
            return self.told
        if role in self.holds.drain:
            return Refusal(Why.DRAINING, DRAINS, self._retry_s(self.holds.drain[role]))
        if role is Role.PUBLISHERS:
            return None
        if self.holds.pause is not None:
            text = "this node's owner lets nobody new in for now"
            return Refusal(Why.PAUSED, text, self._retry_s(self.holds.pause))
        if self.quiet:
            assert self.terms.quiet is not None
            left_s = self.terms.quiet.left_min(self._wall.minute) * 60
            text = f"this node lets nobody new in during its quiet hours, {self.terms.quiet}"
            return Refusal(Why.QUIET, text, min(max(left_s, QUIET_MIN_S), RETRY_MAX_S))
        if self.terms.month_bytes and self.volume.used_bytes >= self.terms.month_bytes:
            text = "this node has sent all that its owner gives in a month"
            return Refusal(Why.VOLUME, text, RETRY_MAX_S)
        return None

    def why_not(self, stream: str, bps: int, past_bits: int, now: float, *, foreign: bool) -> Refusal | None:
        """Why a viewer of such a stream is not let in; `foreign`: other nodes publish it."""
        closed = self.closed()
        if closed is not None:
            return closed
        if foreign and not self.terms.allows(stream):
            return Refusal(Why.STREAM, f"this node's owner does not serve {stream} for others", RETRY_MAX_S)
        budget_bps = self.budget_bps
        if budget_bps and not self._has_room(bps, past_bits, now):
            text = (
                f"this node's uplink is full: its owner gives {budget_bps / BITS_PER_MBIT:g} Mb/s, and one "
                f"viewer more of {stream} takes {bps / BITS_PER_MBIT:.1f}"
            )
            return Refusal(Why.UPLINK, text, RETRY_S)
        return None

    def is_tight(self, stream: Watched, past_bits: int, now: float) -> bool:
        """Whether what a viewer would be sent of the past would take the place of the next one."""
        two_bps = 2 * self.crowd.viewer_bps(stream)
        return bool(self.budget_bps) and not self._has_room(two_bps, past_bits, now)

    def _has_room(self, bps: int, past_bits: int, now: float) -> bool:
        return self.taken_bps(now) + self.crowd.need_bps(bps, past_bits) <= self.budget_bps

    def admit(
        self, stream: Watched, session: str, behind_bits: int, now: float, *, foreign: bool
    ) -> Refusal | None:
        """Let a viewer in, or say why not. `session` is of HLS: who is in stays in."""
        if session and self.crowd.has(stream.name, session, now):
            return None
        bps = self.crowd.viewer_bps(stream)
        refusal = self.why_not(stream.name, bps, behind_bits, now, foreign=foreign)
        if refusal is None and session and self.crowd.full:
            refusal = Refusal(Why.UPLINK, "too many viewers watch here already")
        if refusal is None:
            self.crowd.come(stream.name, session, behind_bits, now)
        else:
            self.refused[refusal.why] += 1
        return refusal

    def refuse_edge(self, stream: str, *, foreign: bool) -> str:
        """Why a node that wants a stream does not get it, whatever room there is; "" when it may.

        What is published here is nowhere else, so a drain does not keep it back.
        """
        closed = self.closed(Role.EDGES)
        if closed is not None and closed.why is Why.DRAINING and not foreign:
            closed = None
        if closed is None and foreign and not self.terms.allows(stream):
            closed = Refusal(Why.STREAM, "this node's owner does not serve that stream for others")
        if closed is not None:
            self.refused[closed.why] += 1
        return closed.text if closed is not None else ""

    # --- for people and other nodes

    @property
    def draining_viewers(self) -> bool:
        """Whether viewers are to go elsewhere."""
        return Role.VIEWERS in self.holds.drain

    @property
    def standing(self) -> str:
        """Why no viewers are to be sent here, by `Why`; "" when they may come."""
        closed = self.closed()
        return closed.why.value if closed is not None else ""

    def months(self) -> list[MonthView]:
        """The latest first."""
        return [MonthView(month, count) for month, count in sorted(self.volume.months.items(), reverse=True)]

    def _retry_s(self, until_unix_s: float) -> int:
        if until_unix_s == FOREVER:
            return RETRY_MAX_S
        return int(min(max(until_unix_s - self._unix_s, RETRY_S), RETRY_MAX_S))


def behind_bits(bps: int, target_duration_us: int) -> int:
    """What a player by HLS fetches of the past."""
    return bps * HLS_BEHIND_TARGETS * target_duration_us // 1_000_000
