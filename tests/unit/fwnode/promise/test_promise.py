"""Who is let in, by each thing that was promised; and that the uplink's promise is kept whoever comes."""

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwnode.promise.crowd import HLS_GONE_S, HLS_VIEWERS_MAX, MEAN_S
from fwnode.promise.holds import EVERYBODY, Holds, Role
from fwnode.promise.hours import Hours, WallTime
from fwnode.promise.model import RETRY_MAX_S, Refusal, Why
from fwnode.promise.promise import Kept, Promise
from fwnode.promise.terms import Terms

M = 1_000_000
NOON, NIGHT = 12 * 60, 60
QUIET = Hours(23 * 60, 7 * 60)


class Cam:
    """A stream."""

    def __init__(self, bps: int = M, name: str = "cam") -> None:
        self.name, self.viewer_bps = name, bps
        self.viewers: dict[str, int] = {}


class Desk:
    """A promise with clocks, and viewers by connection."""

    def __init__(self, *cams: Cam, kept: Kept | None = None, **terms: Any) -> None:
        self.cams = list(cams) or [Cam()]
        self.promise = Promise(Terms(**terms), self.cams, kept or Kept())
        self.now, self.sent, self.minute, self.month = 100.0, 0, NOON, "2026-11"
        self.look()

    def look(self, seconds: float = 0.0, sent: int = 0) -> None:
        self.now += seconds
        self.sent += sent
        self.promise.look(self.now, self.now, WallTime(self.month, self.minute), self.sent)

    def come(
        self, form: str = "mp4", *, past: int = 0, foreign: bool = False, session: str = ""
    ) -> Refusal | None:
        cam = self.cams[0]
        refusal = self.promise.admit(cam, session, past, self.now, foreign=foreign)
        if refusal is None and not session:
            cam.viewers[form] = cam.viewers.get(form, 0) + 1
        return refusal

    def why(self, **more: Any) -> str:
        refusal = self.come(**more)
        return refusal.why if refusal is not None else ""


def test_without_promises_all_may_come() -> None:
    desk = Desk()
    assert not any(desk.why(past=10**9) for _ in range(1000))
    assert desk.promise.standing == "" and desk.promise.taken_bps(desk.now) > 1000 * M


def test_the_budget_is_what_the_viewers_can_take() -> None:
    desk = Desk(Cam(900_000), budget_bps=2 * M)
    assert desk.why() == desk.why(form="rtmp") == ""
    refusal = desk.come()
    assert refusal is not None and refusal.why is Why.UPLINK
    assert "its owner gives 2 Mb/s, and one viewer more of cam takes 0.9" in refusal.text
    assert desk.promise.refused == {"uplink": 1}
    desk.cams[0].viewers["rtmp"] = 0
    assert desk.why() == ""


def test_a_viewer_by_hls_stays_in_and_goes_when_it_is_silent() -> None:
    desk = Desk(Cam(900_000), budget_bps=M)
    assert desk.why(session="a") == "" and desk.why(session="b") == "uplink"
    for _ in range(10):
        desk.look(5.0)
        assert desk.why(session="a") == ""
        assert desk.why(session="b") == "uplink"
    desk.look(HLS_GONE_S + 0.1)
    assert desk.why(session="b") == "" and desk.why(session="a") == "uplink"


def test_what_is_sent_of_the_past_counts_as_long_as_the_mean() -> None:
    desk = Desk(Cam(800_000), budget_bps=2 * M)
    assert desk.why(past=6 * M) == ""
    assert desk.why() == "uplink"
    desk.look(MEAN_S)
    assert desk.why() == ""
    assert desk.promise.is_tight(desk.cams[0], 0, desk.now)


def test_a_stream_that_rests_is_not_forgotten() -> None:
    desk = Desk(Cam(900_000), budget_bps=2 * M)
    desk.come()
    desk.come()
    for _ in range(60):
        desk.look(1.0)
    assert desk.why() == "uplink", "nothing was sent for a minute, and all of it comes again"


def test_what_is_measured_adds_to_it() -> None:
    desk = Desk(Cam(100_000), budget_bps=2 * M)
    for _ in range(10):
        desk.look(1.0, 250_000)
    assert desk.promise.crowd.sent_bps() == 2 * M == desk.promise.observed_bps
    assert desk.why() == "uplink"


def test_a_stream_of_unknown_bitrate_counts_as_a_usual_one() -> None:
    assert Desk(Cam(0), budget_bps=5 * M).why() == "uplink"
    assert Desk(Cam(0), budget_bps=6 * M).why() == ""


def test_edges_count() -> None:
    desk = Desk(Cam(900_000), budget_bps=4 * M)
    desk.promise.edges_bps = lambda: 2_500_000
    assert desk.why() == "" and desk.why() == "uplink"


def test_quiet_hours_let_nobody_new_in_and_have_a_budget_of_their_own() -> None:
    desk = Desk(quiet=QUIET, quiet_budget_bps=M, budget_bps=3 * M)
    assert desk.why(session="a") == "" and desk.promise.budget_bps == 3 * M
    desk.minute = NIGHT
    desk.look(1.0)
    assert desk.why(session="a") == "", "who is in stays"
    refusal = desk.come()
    assert refusal is not None and refusal.why is Why.QUIET and "23:00-07:00" in refusal.text
    assert refusal.retry_s == RETRY_MAX_S and desk.promise.budget_bps == M
    assert desk.promise.refuse_edge("cam", foreign=False)
    desk.minute = 7 * 60 - 1
    desk.look(1.0)
    again = desk.come()
    assert again is not None and again.retry_s == 60


def test_quiet_hours_make_no_budget_larger() -> None:
    desk = Desk(quiet=QUIET, quiet_budget_bps=9 * M, budget_bps=3 * M)
    desk.minute = NIGHT
    desk.look()
    assert desk.promise.budget_bps == 3 * M
    desk.promise.terms = Terms(quiet=QUIET, quiet_budget_bps=9 * M)
    assert desk.promise.budget_bps == 9 * M


def test_a_month_is_spent_and_the_next_one_begins() -> None:
    desk = Desk(month_bytes=5000, kept=Kept(months={"2026-11": 4000}))
    assert desk.why() == ""
    desk.look(1.0, 1000)
    assert desk.why() == "volume" and desk.promise.standing == "volume"
    again = Desk(month_bytes=5000, kept=desk.promise.kept)
    assert again.why() == "volume"
    again.month = "2026-12"
    again.look(1.0, 10)
    assert again.why() == "" and again.promise.volume.used_bytes == 10


def test_only_streams_that_the_owner_serves_are_served_for_others() -> None:
    desk = Desk(streams=("news*", "sport"))
    assert desk.why() == "" and desk.why(foreign=True) == "stream"
    assert desk.promise.refuse_edge("cam", foreign=False) == ""
    assert "does not serve" in desk.promise.refuse_edge("cam", foreign=True)
    assert desk.promise.refuse_edge("news-2", foreign=True) == ""


def test_a_pause_and_a_drain() -> None:
    desk = Desk()
    assert desk.why(session="a") == ""
    desk.promise.hold(Holds().paused(desk.now + 30))
    refusal = desk.come()
    assert refusal is not None and (refusal.why, refusal.retry_s) == (Why.PAUSED, 30)
    assert desk.why(session="a") == "" and desk.promise.closed(Role.PUBLISHERS) is None
    desk.promise.hold(desk.promise.holds.drained(EVERYBODY))
    assert desk.why() == "draining" and desk.promise.draining_viewers
    assert desk.promise.refuse_edge("cam", foreign=True)
    assert desk.promise.closed(Role.PUBLISHERS) is not None
    desk.look(31.0)
    assert desk.promise.holds == Holds().drained(EVERYBODY)
    desk.promise.hold(Holds())
    assert desk.why() == "" and desk.promise.standing == ""


def test_what_is_published_here_is_given_to_edges_while_they_are_drained() -> None:
    desk = Desk()
    desk.promise.hold(Holds().drained([Role.EDGES]))
    assert desk.promise.refuse_edge("cam", foreign=False) == ""
    assert desk.promise.refuse_edge("cam", foreign=True)
    assert desk.why() == "", "viewers are not drained"


def test_a_drain_ends_once() -> None:
    desk = Desk()
    desk.promise.hold(Holds().drained(EVERYBODY, desk.now + 5))
    wall = WallTime("2026-11", NOON)
    assert not desk.promise.look(desk.now + 4, desk.now + 4, wall, 0)
    assert desk.promise.look(desk.now + 5, desk.now + 5, wall, 0)
    assert not desk.promise.look(desk.now + 6, desk.now + 6, wall, 0)


def test_the_crowd_is_bounded() -> None:
    desk = Desk(Cam(1))
    for number in range(HLS_VIEWERS_MAX):
        desk.promise.crowd.come("cam", str(number), 0, desk.now)
    assert desk.why(session="one more") == "uplink" and desk.why(session="0") == ""
    desk.look(HLS_GONE_S + 1)
    assert desk.why(session="one more") == ""


@given(
    budget=st.integers(1, 40),
    bps=st.integers(100_000, 8 * M),
    more=st.tuples(st.integers(0, 8 * M), st.integers(0, 8 * M), st.integers(0, 9)),
)
def test_more_of_anything_lets_nobody_in_who_was_refused(
    budget: int, bps: int, more: tuple[int, int, int]
) -> None:
    def refused(bps: int, past: int, viewers: int) -> bool:
        desk = Desk(Cam(bps), budget_bps=budget * M)
        desk.cams[0].viewers["mp4"] = viewers
        return desk.come(past=past) is not None

    bps_more, past_more, viewers_more = more
    if refused(bps, M, 1):
        assert refused(bps + bps_more, M + past_more, 1 + viewers_more)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    budget=st.integers(1, 30).map(lambda tenths: tenths * M),
    bitrates=st.lists(st.integers(200_000, 6 * M), min_size=1, max_size=3),
)
def test_the_mean_of_ten_seconds_is_never_over_the_budget(
    seed: int, budget: int, bitrates: list[int]
) -> None:
    """A crowd that comes and goes as it likes; streams whose bitrate moves within the margin, and rest."""
    dice, step_s, group_s = random.Random(seed), 0.25, 2
    cams = [Cam(bps, f"cam{number}") for number, bps in enumerate(bitrates)]
    desk = Desk(*cams, budget_bps=budget)
    sent, here, resting = 0.0, [0] * len(cams), [False] * len(cams)
    window: deque[float] = deque(maxlen=round(MEAN_S / step_s))
    for step in range(480):
        desk.now += step_s
        for number, cam in enumerate(cams):
            if dice.random() < 0.005:
                resting[number] = not resting[number]
            for _ in range(dice.choice((0, 0, 0, 1, 5))):
                past = round(cam.viewer_bps * dice.uniform(0, group_s))
                if desk.promise.admit(cam, "", past, desk.now, foreign=False) is None:
                    here[number] += 1
                    cam.viewers = {"mp4": here[number]}
                    sent += past / 8
            here[number] -= sum(dice.random() < 0.02 for _ in range(here[number]))
            cam.viewers = {"mp4": here[number]}
            moves = 0 if resting[number] else dice.uniform(0.9, 1.05)
            sent += here[number] * cam.viewer_bps * moves * step_s / 8
        if step % 4 == 0:
            desk.promise.look(desk.now, desk.now, WallTime("2026-11", NOON), round(sent))
        window.append(sent)
        if len(window) == window.maxlen:
            assert (window[-1] - window[0]) * 8 / MEAN_S <= budget * 1.000001


@pytest.mark.parametrize("why", list(Why))
def test_every_reason_can_be_said(why: Why) -> None:
    assert why.value.isalpha() and why.value.islower()
