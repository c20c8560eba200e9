"""One stream's segments on their way through gateways and back, in order. Pure.

Each segment that is added leaves as exactly one Released or FellBack, in the order of adding, at
the latest at its deadline: what a gateway does in between only decides which. The rules for each
answer are in `_RULES`.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Literal

import msgspec

from media.errors import StateError
from media.transcode.livepeer.counts import Counts
from media.transcode.livepeer.gateways import Gateways
from media.transcode.livepeer.rendition import Rendition
from media.transcode.livepeer.segmenter import Segment

IN_FLIGHT = 2  # requests; a gateway gives a session's next segment to the same transcoder up to here
IN_FLIGHT_MAX = 4
WAITING_MAX = 4  # segments beside those in flight: more would be too late anyway
ATTEMPTS_MAX = 4  # for one segment
REJECTED_IN_A_ROW_MAX = 5  # segments that gateways find bad: the stream is
REJECTED_WAIT_S = 0.25
RETRY_WAIT_LEAST_S, RETRY_WAIT_MOST_S = 0.1, 0.8
AVOID_FIRST_S, AVOID_MAX_S = 5.0, 60.0  # a gateway that has no room for this stream now
FIRST_TRY_SHARE = 0.6  # of what is left until the deadline, when a second try would have a chance
TIMEOUT_SLACK_S = 2.0  # beside what a gateway allows its transcoders
GATEWAY_LEAST_S, GATEWAY_DURATIONS = 8.0, 4  # go-livepeer server/segment_rpc.go
TEXT_MAX_LETTERS = 200

OutcomeKind = Literal["answer", "unreachable", "broken", "timeout"]


class Outcome(msgspec.Struct, frozen=True):
    """How a request ended.

    unreachable: no connection. broken: it ended or said nonsense, or the body could not be sent in
    time. timeout: the whole body was sent and no whole answer came. An answer with status 200 has
    `renditions`, or `fault`, one word that says why they are none.
    """

    kind: OutcomeKind
    status: int = 0
    text: str = ""
    renditions: tuple[Rendition, ...] = ()
    fault: str = ""
    price: int = 0


class Attempt(msgspec.Struct, frozen=True):
    """A request to make now. It must end after `timeout_s`, one way or another."""

    number: int
    gateway: int
    segment: Segment
    timeout_s: float


class Released(msgspec.Struct, frozen=True):
    """A segment's renditions."""

    segment: Segment
    renditions: tuple[Rendition, ...]


class FellBack(msgspec.Struct, frozen=True):
    """No gateway makes renditions of this segment in time. `kind` is one word for counting."""

    segment: Segment
    kind: str
    reason: str


class _Job:
    """One segment until it is released."""

    __slots__ = (
        "attempt", "attempts", "avoid", "deadline", "not_before", "rejected", "result", "same", "segment",
    )  # fmt: skip

    def __init__(self, segment: Segment, deadline: float) -> None:
        self.segment, self.deadline = segment, deadline
        self.result: Released | FellBack | None = None
        self.attempt: int | None = None
        self.attempts = self.rejected = 0
        self.not_before = 0.0
        self.same: int | None = None  # the gateway that must be asked again
        self.avoid: set[int] = set()


class Schedule:
    """Give it segments and outcomes; make the requests of `attempts`; take `outputs`."""

    def __init__(
        self, gateways: Gateways, counts: Counts, random: Random, *, in_flight: int = IN_FLIGHT
    ) -> None:
        self.stopped = ""  # why nothing is sent any more; for people
        self._gateways, self._counts, self._random = gateways, counts, random
        self._all = frozenset(range(len(gateways)))
        self._in_flight_max = min(max(1, in_flight), IN_FLIGHT_MAX)
        self._jobs: deque[_Job] = deque()
        self._running: dict[int, tuple[_Job, int, float]] = {}  # job, gateway, when it began
        self._next = 0
        self._current: int | None = None  # the gateway that has this stream's session
        self._served: set[int] = set()  # gateways that made renditions of this stream
        self._barred: set[int] = set()  # gateways that will not
        self._avoid_until: dict[int, tuple[float, float]] = {}  # time, and how long it was
        self._rejected_in_a_row = 0
        self._failed_began: float | None = (
            None  # of the request that just failed, unless it took all its time
        )

    def add(self, segment: Segment, now: float) -> None:
        """The next segment. Its deadline counts from here."""
        job = _Job(segment, now + segment.order.budget_s)
        self._jobs.append(job)
        if segment.unfit:
            self._give_up(job, "unfit", segment.unfit)
        elif self.stopped:
            self._give_up(job, "stopped", self.stopped)
        elif sum([job.result is None for job in self._jobs]) > self._in_flight_max + WAITING_MAX:
            oldest = next(job for job in self._jobs if job.result is None and job.attempt is None)
            self._give_up(oldest, "behind", "gateways are slower than the stream")

    def attempts(self, now: float) -> list[Attempt]:
        """Requests to begin now."""
        begun = []
        for job in self._jobs:
            busy = len(self._running)
            if job.result is not None or job.attempt is not None:
                continue
            if busy >= self._in_flight_max:
                break
            if now >= job.not_before and (attempt := self._begin(job, now)) is not None:
                begun.append(attempt)
        return begun

    def ended(self, number: int, outcome: Outcome, now: float) -> None:
        """The request ended so. Raises StateError for one that does not run."""
        if number not in self._running:
            raise StateError(f"no request {number} runs")
        job, gateway, began = self._running.pop(number)
        fine = outcome.kind == "answer" and outcome.status == 200 and not outcome.fault
        if fine and not outcome.renditions:
            fine, outcome = False, msgspec.structs.replace(outcome, fault="empty")
        if fine:
            self._gateways.succeeded(gateway, (now - began) / max(job.segment.duration_s, 1.0))
            self._counts.price += outcome.price
            self._served.add(gateway)
            self._avoid_until.pop(gateway, None)
            self._current = gateway
        else:
            self._counts.failed(_kind(outcome))
        if job.attempt == number:
            job.attempt = None
        if fine and job.result is None:
            self._rejected_in_a_row = 0
            job.result = Released(job.segment, outcome.renditions)
        elif not fine:
            self._failed_began = None if outcome.kind == "timeout" else began
            _RULES.get(_rule(outcome), Schedule._transient)(self, job, gateway, outcome, now)
        self._gateways.ended(gateway)

    def deadline(self) -> float | None:
        """When something must be looked at again."""
        waiting = [job for job in self._jobs if job.result is None]
        times = [job.deadline for job in waiting]
        if len(self._running) < self._in_flight_max:
            times += [job.not_before for job in waiting if job.attempt is None]
        return min(times, default=None)

    def on_deadline(self, now: float) -> None:
        for job in self._jobs:
            if job.result is None and now >= job.deadline:
                self._give_up(job, "late", "no gateway made it in time")

    def outputs(self) -> list[Released | FellBack]:
        """What can leave, in order."""
        done: list[Released | FellBack] = []
        while self._jobs and (result := self._jobs[0].result) is not None:
            self._jobs.popleft()
            if isinstance(result, Released):
                self._counts.released(result.segment.duration_s, result.renditions)
            else:
                self._counts.fell_back(result.kind)
            done.append(result)
        return done

    def stop(self, reason: str) -> None:
        """Send nothing any more; what waits falls back."""
        self.stopped = self.stopped or reason
        for job in self._jobs:
            if job.result is None:
                self._give_up(job, "stopped", reason)

    def abandon(self, number: int) -> None:
        """The request was cancelled by this side: nobody's fault."""
        if number in self._running:
            job, gateway, _ = self._running.pop(number)
            job.attempt = None
            self._gateways.ended(gateway)

    def new_run(self) -> None:
        """Segments of another order follow, whose sessions gateways do not have yet."""
        self._served.clear()
        self._avoid_until.clear()

    # --- one segment

    def _begin(self, job: _Job, now: float) -> Attempt | None:
        gateway = self._chosen(job, now)
        if gateway is None:
            self._give_up(job, "none", "no gateway is available")
            return None
        number, self._next = self._next, self._next + 1
        job.attempt, job.attempts = number, job.attempts + 1
        self._running[number] = (job, gateway, now)
        self._gateways.began(gateway)
        self._counts.segments_sent += 1
        self._counts.bytes_sent += len(job.segment.body)
        return Attempt(number, gateway, job.segment, self._timeout_s(job, gateway, now))

    def _chosen(self, job: _Job, now: float) -> int | None:
        choose, current = self._gateways.choose, self._current
        same, job.same = job.same, None
        if same is not None and choose(now, current=None, avoid=self._all - {same}) is not None:
            return same
        gateway = choose(now, current=current, avoid=self._avoided(job, now))
        if gateway is None and not job.rejected:
            # With one gateway, another try there is better than none.
            gateway = choose(now, current=current, avoid=self._closed(now))
        return gateway

    def _timeout_s(self, job: _Job, gateway: int, now: float) -> float:
        left = job.deadline - now
        duration = job.segment.duration_s
        own = max(GATEWAY_LEAST_S, GATEWAY_DURATIONS * duration) + TIMEOUT_SLACK_S
        again = self._gateways[gateway].dialect == "frameworks" or self._gateways.usable_beside(
            gateway, now, self._avoided(job, now)
        )
        share = FIRST_TRY_SHARE if again and job.attempts < ATTEMPTS_MAX else 1.0
        return max(0.0, min(own, left * share))

    def _avoided(self, job: _Job, now: float) -> set[int]:
        return self._closed(now) | job.avoid

    def _closed(self, now: float) -> set[int]:
        """Gateways that do not take this stream now."""
        return self._barred | {gateway for gateway, (until, _) in self._avoid_until.items() if now < until}

    def _give_up(self, job: _Job, kind: str, reason: str) -> None:
        job.result = FellBack(job.segment, kind, reason[:TEXT_MAX_LETTERS])

    def _again(self, job: _Job, wait_s: float, outcome: Outcome, now: float) -> None:
        """Another try, if there is time for one."""
        if job.result is not None:
            return
        if job.attempts >= ATTEMPTS_MAX or now + wait_s >= job.deadline:
            self._give_up(job, _kind(outcome), _reason(outcome))
        else:
            job.not_before = now + wait_s

    # --- the rules

    def _configuration(self, job: _Job, gateway: int, outcome: Outcome, now: float) -> None:
        """Every segment would be answered so."""
        self.stop(f"{self._gateways[gateway].url}: {_reason(outcome)}")

    def _bar(self, job: _Job, gateway: int, outcome: Outcome, now: float) -> None:
        """This gateway takes no segment of this stream; when none is left, offloading ends."""
        self._barred.add(gateway)
        if len(self._barred) == len(self._gateways):
            self.stop(f"{self._gateways[gateway].url}: {_reason(outcome)}")
        self._again(job, 0.0, outcome, now)

    def _rejected(self, job: _Job, gateway: int, outcome: Outcome, now: float) -> None:
        """The segment is bad, or transcoders failed: the same gateway once more, then another, once."""
        job.rejected += 1
        if job.rejected == 1:
            job.same = gateway
            self._again(job, REJECTED_WAIT_S, outcome, now)
            return
        job.avoid.add(gateway)
        if job.rejected == 2 and self._gateways.usable_beside(gateway, now, self._avoided(job, now)):
            self._again(job, 0.0, outcome, now)
            return
        if job.result is None:
            self._give_up(job, "422", _reason(outcome))
            self._rejected_in_a_row += 1
            if self._rejected_in_a_row >= REJECTED_IN_A_ROW_MAX:
                self.stop(f"gateways find {REJECTED_IN_A_ROW_MAX} segments in a row bad: {_reason(outcome)}")

    def _server_error(self, job: _Job, gateway: int, outcome: Outcome, now: float) -> None:
        """At a stream's first segment: no room for another session. Later: as any failure."""
        if gateway in self._served:
            self._transient(job, gateway, outcome, now)
            return
        _, before_s = self._avoid_until.get(gateway, (0.0, 0.0))
        avoid_s = min(AVOID_MAX_S, before_s * 2) or AVOID_FIRST_S
        self._avoid_until[gateway] = (now + avoid_s, avoid_s)
        job.avoid.add(gateway)
        if self._gateways.usable_beside(gateway, now, self._avoided(job, now)):
            self._again(job, 0.0, outcome, now)
        elif job.result is None:
            self._give_up(job, "500", _reason(outcome))

    def _timed_out(self, job: _Job, gateway: int, outcome: Outcome, now: float) -> None:
        """FrameWorks goes on with what it has and answers the same bytes again; upstream does not."""
        if self._gateways[gateway].dialect == "frameworks" and job.attempts < 2:
            job.same = gateway
            self._again(job, 0.0, outcome, now)
        else:
            self._transient(job, gateway, outcome, now)

    def _transient(self, job: _Job, gateway: int, outcome: Outcome, now: float) -> None:
        """The gateway's trouble of this moment: another one, after a moment."""
        self._gateways.failed(gateway, now, began=self._failed_began)
        if self._current == gateway:
            self._current = None
        job.avoid.add(gateway)
        wait_s = self._random.uniform(RETRY_WAIT_LEAST_S, RETRY_WAIT_MOST_S)
        self._again(job, wait_s, outcome, now)


_Rule = Callable[[Schedule, _Job, int, Outcome, float], None]
_RULES: dict[int | str, _Rule] = {
    400: Schedule._configuration,
    405: Schedule._configuration,
    401: Schedule._bar,
    403: Schedule._bar,
    404: Schedule._bar,
    422: Schedule._rejected,
    500: Schedule._server_error,
    "timeout": Schedule._timed_out,
}


def _rule(outcome: Outcome) -> int | str:
    return outcome.status if outcome.kind == "answer" else outcome.kind


def _kind(outcome: Outcome) -> str:
    if outcome.kind != "answer":
        return outcome.kind
    return f"bad_{outcome.fault}" if outcome.status == 200 else str(outcome.status)


def _reason(outcome: Outcome) -> str:
    text = outcome.text.strip()[:TEXT_MAX_LETTERS]
    if outcome.kind != "answer":
        return text or outcome.kind
    if outcome.status == 404:
        return "404: no HTTP ingest there; a gateway needs -httpIngest=true, or -authWebhookUrl"
    return f"{outcome.status}: {text}" if text else str(outcome.status)
