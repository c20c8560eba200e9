"""Segments through gateways: what each answer leads to, on a clock that the test turns."""

from dataclasses import dataclass, field
from random import Random

import pytest
from livepeer_sources import PROFILE, SOURCE, cut, order, source

from media.errors import StateError
from media.transcode.livepeer.counts import Counts
from media.transcode.livepeer.gateways import OPEN_FIRST_S, Gateways
from media.transcode.livepeer.order import Dialect, Gateway
from media.transcode.livepeer.rendition import Picture, Rendition
from media.transcode.livepeer.schedule import Attempt, FellBack, Outcome, Schedule
from media.transcode.livepeer.segmenter import Segment

RENDITION = Rendition(PROFILE, SOURCE.config, 320, 180, (Picture(0, 0, True, b"x"),))
GOOD = Outcome("answer", 200, renditions=(RENDITION,))
EMPTY = Outcome("answer", 200, fault="empty")
REFUSED = Outcome("unreachable")
BROKEN = Outcome("broken")
TIMEOUT = Outcome("timeout")


def status(code: int) -> Outcome:
    return Outcome("answer", code, "why\n")


SEGMENTS = cut(source(30 * 30), 1.0)


@dataclass
class Bench:
    """A schedule, its gateways and the requests that run."""

    count: int = 1
    dialect: Dialect = "upstream"
    now: float = 1000.0
    running: dict[int, Attempt] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)  # segment and gateway of each request
    out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gateways = Gateways([Gateway(f"http://g{n}:8935", self.dialect) for n in range(self.count)])
        self.counts = Counts()
        self.schedule = Schedule(self.gateways, self.counts, Random(1))
        self.added = 0

    def add(self, segment: Segment | None = None) -> None:
        self.schedule.add(segment or SEGMENTS[self.added], self.now)
        self.added += 1
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, stopping wherever the schedule wants to be woken."""
        end = self.now + seconds
        while True:
            self.schedule.on_deadline(self.now)
            for attempt in self.schedule.attempts(self.now):
                self.running[attempt.number] = attempt
                self.asked.append((attempt.segment.number, attempt.gateway))
            for out in self.schedule.outputs():
                self.out.append(f"{out.segment.number} {out.kind if isinstance(out, FellBack) else 'made'}")
            deadline = self.schedule.deadline()
            if deadline is None or deadline > end:
                break
            assert deadline > self.now, "it wants to be woken without a reason"
            self.now = deadline
        self.now = end

    def end(self, outcome: Outcome, segment: int | None = None) -> None:
        """The oldest request ends so, or that of this segment."""
        number = next(n for n, each in self.running.items() if segment in (None, each.segment.number))
        del self.running[number]
        self.schedule.ended(number, outcome, self.now)
        self.turn()


def test_two_in_flight_and_released_in_order() -> None:
    bench = Bench()
    for _ in range(4):
        bench.add()
    assert bench.asked == [(0, 0), (1, 0)]
    bench.end(GOOD, 1)
    assert not bench.out
    assert bench.asked[-1] == (2, 0)
    bench.end(GOOD, 0)
    assert bench.out == ["0 made", "1 made"]
    assert bench.counts.segments_released == 2 and bench.counts.rendition_ms == 2000


@pytest.mark.parametrize("outcome", [status(503), REFUSED, BROKEN, EMPTY, TIMEOUT, status(502), status(302)])
def test_a_gateways_trouble_goes_to_another_after_a_moment(outcome: Outcome) -> None:
    bench = Bench(2)
    bench.add()
    bench.end(outcome)
    assert bench.asked == [(0, 0)]
    bench.turn(0.9)
    assert bench.asked == [(0, 0), (0, 1)]
    bench.end(GOOD)
    assert bench.out == ["0 made"]
    assert sum(bench.counts.failures.values()) == 1


def test_a_single_gateway_is_tried_again_and_then_left_alone() -> None:
    bench = Bench(1)
    bench.add()
    bench.end(REFUSED)
    bench.turn(0.9)
    bench.end(REFUSED)
    bench.turn(0.9)
    assert bench.out == ["0 none"]
    bench.add()
    assert bench.out == ["0 none", "1 none"]  # at once: the circuit is open
    bench.turn(OPEN_FIRST_S)
    bench.add()
    bench.add()
    assert bench.asked[2:] == [(2, 0)]  # one finds out whether it is back
    assert bench.out[2:] == []
    bench.end(GOOD)
    assert bench.out[2:] == ["2 made", "3 none"]
    bench.add()
    assert bench.asked[3:] == [(4, 0)]


def test_an_open_circuit_stays_open_longer_each_time() -> None:
    bench = Bench(1)
    waits = []
    for _ in range(2):
        bench.gateways.failed(0, bench.now)
    for _ in range(6):
        began = bench.now
        while bench.gateways.choose(bench.now, current=None) is None:
            bench.now += 1.0
        waits.append(bench.now - began)
        bench.gateways.began(0)
        assert bench.gateways.choose(bench.now, current=0) is None
        bench.gateways.failed(0, bench.now)
        bench.gateways.ended(0)
    assert waits == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize("code", [400, 405])
def test_a_bad_request_stops_all(code: int) -> None:
    bench = Bench(2)
    bench.add()
    bench.add()
    bench.end(status(code))
    assert bench.out == ["0 stopped", "1 stopped"]
    assert bench.schedule.stopped == f"http://g0:8935: {code}: why"
    bench.add()
    assert bench.out[2:] == ["2 stopped"]
    bench.end(GOOD)  # of the request that was under way: too late
    assert len(bench.out) == 3


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_gateway_that_will_not_is_asked_no_more(code: int) -> None:
    bench = Bench(2)
    bench.add()
    bench.end(status(code))
    bench.turn(0.0)
    assert bench.asked == [(0, 0), (0, 1)]
    bench.end(GOOD)
    bench.add()
    assert bench.asked[-1] == (1, 1)
    bench.end(status(code))
    assert bench.out == ["0 made", "1 stopped"]
    assert ("httpIngest" in bench.schedule.stopped) == (code == 404)


def test_a_rejected_segment_gets_the_same_then_another_then_none() -> None:
    bench = Bench(3)
    bench.add()
    bench.end(status(422))
    bench.turn(0.2)
    assert bench.asked == [(0, 0)]
    bench.turn(0.1)
    bench.end(status(422))
    bench.turn(0.1)
    assert bench.asked == [(0, 0), (0, 0), (0, 1)]
    bench.end(status(422))
    assert bench.out == ["0 422"]
    assert all(state.failures == 0 for state in bench.gateways.states(bench.now))


def test_five_rejected_segments_in_a_row_end_it() -> None:
    bench = Bench(1)
    for _ in range(5):
        bench.add()
        for _ in range(2):
            bench.turn(0.3)
            bench.end(status(422))
    assert bench.out == [f"{number} 422" for number in range(5)]
    assert "5 segments in a row" in bench.schedule.stopped


def test_no_room_at_the_first_segment_is_not_held_against_the_gateway() -> None:
    bench = Bench(2)
    bench.add()
    bench.end(status(500))
    assert bench.asked == [(0, 0), (0, 1)]
    bench.end(status(500))
    assert bench.out == ["0 500"]
    assert all(state.usable for state in bench.gateways.states(bench.now))
    bench.add()
    assert bench.out[1:] == ["1 none"]
    bench.turn(5.0)
    bench.add()
    assert bench.asked[2:] == [(2, 0)]
    bench.end(GOOD)
    bench.add()
    bench.end(status(500))  # now as any failure
    bench.turn(0.9)
    assert bench.asked[-1] == (3, 1)


def test_frameworks_gets_the_same_again_after_a_timeout() -> None:
    bench = Bench(2, "frameworks")
    bench.add()
    bench.end(TIMEOUT)
    assert bench.asked == [(0, 0), (0, 0)]
    bench.end(TIMEOUT)
    bench.turn(0.9)
    assert bench.asked[-1] == (0, 1)


def test_a_deadline_is_kept_whatever_runs() -> None:
    bench = Bench(1)
    bench.add()
    bench.turn(1.0)
    bench.add()
    bench.end(GOOD, 1)
    bench.turn(4.9)
    assert not bench.out
    bench.turn(0.2)
    assert bench.out == ["0 late", "1 made"]
    bench.end(TIMEOUT)
    bench.turn(10.0)
    assert len(bench.out) == 2


def test_timeouts_leave_time_for_a_second_try() -> None:
    alone, pair = Bench(1), Bench(2)
    alone.add()
    pair.add()
    assert next(iter(alone.running.values())).timeout_s == pytest.approx(6.0)
    assert next(iter(pair.running.values())).timeout_s == pytest.approx(3.6)


def test_more_than_can_wait_is_given_up() -> None:
    bench = Bench(1)
    for _ in range(8):
        bench.add()
    bench.end(GOOD)
    bench.end(GOOD)
    assert bench.out == ["0 made", "1 made", "2 behind", "3 behind"]


def test_unfit_segments_keep_their_turn() -> None:
    bench = Bench(1)
    bench.add()
    unfit = cut(source(420, gop=400))[0]
    bench.add(unfit)
    assert not bench.out
    bench.end(GOOD)
    assert bench.out == ["0 made", "0 unfit"]


def test_the_quicker_gateway_is_found_and_kept() -> None:
    gateways = Gateways([Gateway("http://a"), Gateway("http://b/")])
    gateways.succeeded(0, 2.0)
    gateways.succeeded(1, 0.3)
    assert gateways.choose(0.0, current=None) == 1
    assert gateways.choose(0.0, current=0) == 1  # slower than real time, and the other is much better
    gateways.succeeded(1, 2.5)
    assert gateways.choose(0.0, current=1) == 1
    assert gateways.choose(0.0, current=1, avoid={1}) == 0
    assert gateways[1].url == "http://b"


def test_cancelled_requests_are_nobodys_fault() -> None:
    bench = Bench(1)
    bench.add()
    number = next(iter(bench.running))
    bench.schedule.abandon(number)
    assert bench.gateways.states(bench.now)[0].in_flight == 0
    with pytest.raises(StateError):
        bench.schedule.ended(number, GOOD, bench.now)


OUTCOMES = [GOOD, GOOD, EMPTY, REFUSED, BROKEN, TIMEOUT] + [status(code) for code in (422, 500, 503)]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_each_segment_leaves_once_in_order_and_in_time(seed: int) -> None:
    random = Random(seed)
    bench = Bench(random.randint(1, 3), random.choice(("upstream", "frameworks")))
    added: list[float] = []
    left: list[float] = []
    ends: dict[int, float] = {}
    while len(left) < len(SEGMENTS):
        if len(added) < len(SEGMENTS) and random.random() < 0.1:
            added.append(bench.now)
            bench.add()
        for number, attempt in list(bench.running.items()):
            ends.setdefault(number, bench.now + random.uniform(0, attempt.timeout_s * 1.5))
            outcome = TIMEOUT if bench.now >= added[attempt.segment.number] + 6 else random.choice(OUTCOMES)
            if bench.now >= ends[number]:
                del bench.running[number]
                bench.schedule.ended(number, outcome, bench.now)
        bench.turn(0.1)
        left += [bench.now] * (len(bench.out) - len(left))
    assert [int(out.split()[0]) for out in bench.out] == list(range(len(SEGMENTS)))
    assert all(end - begin <= order().budget_s + 0.21 for begin, end in zip(added, left, strict=True))


def test_what_one_restart_breaks_counts_once() -> None:
    bench = Bench(1)
    bench.add()
    bench.add()
    bench.turn(0.5)
    bench.end(BROKEN)
    bench.turn(0.01)
    bench.end(BROKEN)
    bench.turn(1.0)
    bench.end(GOOD)
    bench.end(GOOD)
    assert bench.out == ["0 made", "1 made"]


def test_time_outs_count_each() -> None:
    bench = Bench(1)
    bench.add()
    bench.add()
    bench.turn(5.0)
    bench.end(TIMEOUT)
    bench.end(TIMEOUT)
    assert not bench.gateways.states(bench.now)[0].usable
