"""Who gets renditions, and by which encoders: by number until the host was measured, then by cost. Pure.

Implements `media.transcode.capacity.Capacity` with `devices.admission`. A stream that has renditions
when the measurements come keeps them, whatever they say: it is only not counted where it does not fit.
"""

from collections.abc import Callable, Mapping

from devices.admission import Admission
from devices.model import (
    CPU,
    Choice,
    CostVector,
    DropRendition,
    MoveStream,
    Refusal,
    RestoreRendition,
    SendAway,
    Usage,
)
from devices.survey import Survey
from fwnode.transcoding.usage import rendition_name
from fwnode.transcoding.work import UNIT, encoders, engine_of, within_reach, work_of
from media.track.model import MICROSECONDS
from media.transcode.capacity import Cost, StreamsAtMost
from media.transcode.session import Session
from media.transcode.wire import X264, Engine

REPORT_S = 3.0  # admission wants to be told every few seconds
MOVE_KEPT_S = 120.0  # so long people are told that a stream should move; admission asks again then


class _Granted:
    """One stream with renditions: its plan, and sums of it that were reported last."""

    def __init__(
        self, cost: Cost, choices: Mapping[str, Choice] | None, demand: Mapping[str, CostVector]
    ) -> None:
        """`choices` None: it is not counted, and all is made by software."""
        self.cost = cost
        self.choices = choices
        self.demand = dict(demand)
        self.cpu_s = self.busy_s = 0.0
        self.media_us = 0
        self.move_until = float("-inf")


class Broker:
    """See `media.transcode.capacity.Capacity`. `now` is monotonic seconds."""

    def __init__(
        self, streams_max: int, now: Callable[[], float], *, preset: str = "", hardware: bool = False
    ) -> None:
        """`hardware`: encoders of cards, too, where they were seen to work."""
        self.wanted = False  # somebody asked for renditions
        self.survey: Survey | None = None
        self._counting = StreamsAtMost(streams_max)
        self._now, self._preset, self._hardware = now, preset, hardware
        self._admission: Admission | None = None
        self._granted: dict[str, _Granted] = {}
        self._reported_at = float("-inf")

    def adopt(self, survey: Survey) -> None:
        """The host was measured: from now on renditions are admitted by what they cost."""
        self.survey = survey
        self._admission = Admission(within_reach(survey, hardware=self._hardware))
        for owner, granted in self._granted.items():
            self._grant(owner, granted.cost, keep=granted)

    # --- what a session asks

    def reserve(self, owner: str, cost: Cost) -> str:
        """By what it costs, or by number as long as that is not known."""
        self.wanted = True
        if self._admission is None:
            refusal = self._counting.reserve(owner, cost)
            if not refusal:
                self._granted[owner] = _Granted(cost, None, {})
            return refusal
        known = self._granted.get(owner)
        if known is not None and known.cost == cost:
            return ""
        self._admission.ended(owner, self._now())
        return self._grant(owner, cost)

    def release(self, owner: str) -> None:
        """Give back what it had."""
        self._counting.release(owner)
        self._granted.pop(owner, None)
        if self._admission is not None:
            self._admission.ended(owner, self._now())

    def engine(self, owner: str, side: int) -> Engine | None:
        """Software where nothing was measured; nobody for what was given up."""
        granted = self._granted.get(owner)
        if granted is None or granted.choices is None:
            return X264
        choice = granted.choices.get(rendition_name(side))
        return engine_of(choice, self._preset) if choice is not None else None

    def reason(self, owner: str) -> str:
        """What was given up, and whether the stream should go elsewhere."""
        granted = self._granted.get(owner)
        if granted is None or granted.choices is None:
            return ""
        if self._now() < granted.move_until:
            return "this machine has more to do than it can, and another node would do better"
        names = [rendition_name(rung.side) for rung in granted.cost.rungs]
        missing = [name for name in names if name not in granted.choices]
        return f"no room on this machine for {', '.join(missing)}" if missing else ""

    def failed(self, owner: str, reason: str) -> None:
        """Cards of a stream whose worker failed are left alone for a while, others take it over."""
        granted, admission = self._granted.get(owner), self._admission
        if granted is None or granted.choices is None or admission is None:
            return
        cards = {choice.device for choice in granted.choices.values()} - {CPU}
        for device in cards:
            admission.failed(device, reason, self._now())
        if cards:
            admission.ended(owner, self._now())
            self._grant(owner, granted.cost, keep=granted)

    # --- what the node does with it

    def look(self, sessions: Mapping[str, Session], now: float) -> list[str]:
        """Tell admission what streams took and do what it decides; to be called every second.

        Returns what was done, for the log.
        """
        admission = self._admission
        if admission is None:
            return []
        if now - self._reported_at >= REPORT_S:
            self._reported_at = now
            for owner, granted in self._granted.items():
                session = sessions.get(owner)
                if session is not None:
                    self._measure(admission, owner, granted, session, now)
        said = []
        for action in admission.decide(now):
            match action:
                case DropRendition():
                    self._plan_again(admission, action.stream, now)
                    said.append(f"{action.stream}: {action.rendition} is given up, there is too much to do")
                case RestoreRendition():
                    self._plan_again(admission, action.stream, now)
                    said.append(f"{action.stream}: {action.rendition} is made again")
                case SendAway():
                    said.append(f"no renditions of further streams: {action.device}: {action.reason}")
                case MoveStream():
                    self._granted[action.stream].move_until = now + MOVE_KEPT_S
                    said.append(f"{action.stream} should have its renditions made elsewhere: {action.reason}")
                case _:
                    said.append("there is room for renditions of further streams")
        return said

    def engines(self) -> list[str]:
        """Encoders that were seen to work here; none before the host was measured."""
        return encoders(self.survey.findings) if self.survey is not None else []

    def free(self, now: float) -> int:
        """How many more renditions of 720p30 could be made; 0 before the host was measured."""
        return self._admission.free(UNIT, now) if self._admission is not None else 0

    def _grant(self, owner: str, cost: Cost, keep: _Granted | None = None) -> str:
        """Admit it by cost. With `keep` it has renditions, and keeps them at any price."""
        assert self._admission is not None
        plan = self._admission.admit(owner, work_of(cost), self._now())
        if isinstance(plan, Refusal):
            if keep is not None:
                keep.choices = None
                return ""
            self._granted.pop(owner, None)
            return plan.reason
        granted = self._granted.setdefault(owner, keep or _Granted(cost, None, {}))
        granted.cost, granted.choices, granted.demand = cost, plan.encoders, plan.demand
        return ""

    def _plan_again(self, admission: Admission, owner: str, now: float) -> None:
        granted = self._granted[owner]
        plan = admission.admit(owner, work_of(granted.cost), now)  # the one that it has
        if not isinstance(plan, Refusal):
            granted.choices, granted.demand = plan.encoders, plan.demand

    def _measure(
        self, admission: Admission, owner: str, granted: _Granted, session: Session, now: float
    ) -> None:
        toll = session.toll
        cpu_s, busy_s = toll.cpu_s - granted.cpu_s, toll.busy_s - granted.busy_s
        media_us = toll.media_us - granted.media_us
        granted.cpu_s, granted.busy_s, granted.media_us = toll.cpu_s, toll.busy_s, toll.media_us
        if media_us <= 0 or granted.choices is None:
            return
        media_s = media_us / MICROSECONDS
        # Cards tell nobody how busy they are with one stream: what was predicted counts for them.
        demand = {**granted.demand, CPU: CostVector(encode=cpu_s / media_s)}
        admission.measured(owner, Usage(demand, (busy_s / media_s,), (session.lag(now),)), now)
