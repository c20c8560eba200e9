"""Who is let in, on what, and what gives way."""

import pytest

from devices.admission import RESTORE_S, SETTLE_S, SUSTAINED_S, Admission
from devices.cost import CodecCost, Rate
from devices.model import (
    CPU,
    Choice,
    CostVector,
    DropRendition,
    Kind,
    MoveStream,
    Plan,
    Refusal,
    Rendition,
    RestoreRendition,
    SendAway,
    Source,
    Usage,
    Welcome,
    Work,
)
from devices.survey import Finding, Host, Survey, ladder

SOURCE = Source("h264", 1000, 1000, 30.0, 0)
PIXEL_S = 1 / (30 * 1_000_000)  # of the engines here: one core for a stream of 1000x1000


def finding(
    name: str, kind: Kind, device: str, share: float, cpu: float, sessions: int | None = None
) -> Finding:
    cost = CodecCost(Rate(0.0, share * PIXEL_S, 0.0), Rate(0.0, cpu * PIXEL_S, 0.0))
    return Finding(name, kind, "h264", Choice(name, device, "nv12"), True, cost=cost, sessions=sessions)


SOFT = finding("soft", Kind.ENCODER, CPU, 1.0, 1.0)
CARD = finding("card", Kind.ENCODER, "gpu", 0.2, 0.0, sessions=3)
DECODER = finding("decoder", Kind.DECODER, CPU, 0.0, 0.0)
BROKEN = Finding("broken", Kind.ENCODER, "h264", Choice("broken", "gpu2", "nv12"), False, "no driver")


def host(*findings: Finding, cores: float = 4.0) -> Admission:
    return Admission(Survey(Host("cpu", cores, 0, (), "", ""), (DECODER, *findings), Rate()))


def work(*sizes: float, optional: int = 0) -> Work:
    """Renditions of so many cores each, the last ones optional."""
    return Work(
        SOURCE,
        tuple(
            Rendition(
                f"r{number}", "h264", round(1000 * size), 1000, 30.0, 0, number >= len(sizes) - optional
            )
            for number, size in enumerate(sizes)
        ),
    )


def used(cores: float, *factors: float) -> Usage:
    return Usage({CPU: CostVector(encode=cores)}, factors)


def admitted(admission: Admission, stream: str, wanted: Work, now: float = 0.0) -> Plan:
    plan = admission.admit(stream, wanted, now)
    assert isinstance(plan, Plan), plan
    return plan


def test_a_plan_names_engines_as_they_were_tried() -> None:
    plan = admitted(host(SOFT), "s", work(1.0, 0.5))
    assert plan.decoder == DECODER.choice
    assert plan.encoders == {"r0": SOFT.choice, "r1": SOFT.choice}
    assert plan.demand[CPU].encode == pytest.approx(1.5)


def test_hardware_comes_first_and_software_when_its_sessions_are_gone() -> None:
    plan = admitted(host(CARD, SOFT), "s", work(0.5, 0.5, 0.5, 0.5))
    assert [choice.engine for choice in plan.encoders.values()] == ["card", "card", "card", "soft"]


def test_what_did_not_work_is_never_used() -> None:
    refusal = host(BROKEN).admit("s", work(0.1), 0.0)
    assert refusal == Refusal("no encoder for h264 works here")


def test_a_stream_that_was_let_in_is_never_refused() -> None:
    admission = host(SOFT)
    plan = admitted(admission, "s", work(2.0))
    admission.measured("s", used(4.0, *[3.0] * 20), 20.0)
    assert admission.admit("s", work(2.0), 21.0) == plan
    assert isinstance(admission.admit("t", work(0.1), 21.0), Refusal)


def test_optional_renditions_without_room_are_left_out_and_come_later() -> None:
    admission = host(SOFT)
    admitted(admission, "first", work(2.0))
    plan = admitted(admission, "s", work(0.5, 1.0, optional=1))
    assert list(plan.encoders) == ["r0"]
    admission.ended("first", 1.0)
    assert admission.decide(1.0) == []
    assert admission.decide(1.0 + RESTORE_S) == [RestoreRendition("s", "r1")]
    assert list(admitted(admission, "s", work()).encoders) == ["r0", "r1"]


def test_a_refusal_says_what_there_is_too_little_of() -> None:
    refusal = host(SOFT).admit("s", work(3.5), 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "CPU of cpu: 0% is taken, this stream needs 88%, and 75% is the limit"


def test_slow_devices_take_nothing_new() -> None:
    admission = host(SOFT)
    admitted(admission, "s", work(0.5))
    admission.measured("s", used(0.5, *[0.9] * 20), 15.0)
    refusal = admission.admit("t", work(0.1), 15.0)
    assert refusal == Refusal("cpu: transcoding takes 90% of real time (p95)", CPU)
    assert isinstance(admission.admit("t", work(0.1), 60.0), Plan)  # that was long ago


def test_broken_devices_are_left_out() -> None:
    admission = host(CARD, SOFT)
    admission.failed("gpu", "no memory", 0.0)
    admission.failed("unheard of", "", 0.0)
    assert admitted(admission, "s", work(0.5)).encoders["r0"].engine == "soft"
    assert admitted(admission, "t", work(0.5), 1000.0).encoders["r0"].engine == "card"


def test_overload_takes_optional_renditions_then_new_streams_then_whole_ones() -> None:
    admission = host(SOFT)
    admitted(admission, "big", work(1.5, 0.3, optional=1))
    admitted(admission, "small", work(0.5, 0.1, optional=1))
    now, said = 20.0, []
    for _ in range(40):
        for stream, cores in (("big", 4.0), ("small", 1.5)):
            admission.measured(stream, used(cores), now)
        said += admission.decide(now)
        now += 1.0
    assert said == [
        DropRendition("big", "r1"),
        DropRendition("small", "r1"),
        SendAway(CPU, "it has more to do than it can"),
        MoveStream("big", "cpu has more to do than it can"),
    ]
    admission.ended("big", now)
    said = []
    for _ in range(120):
        admission.measured("small", used(0.4), now)
        said += admission.decide(now)
        now += 1.0
    assert said == [Welcome(CPU), RestoreRendition("small", "r1")]


def test_a_moment_of_overload_is_none() -> None:
    admission = host(SOFT)
    admitted(admission, "s", work(1.0, 1.0, optional=1))
    admission.measured("s", used(4.0), 20.0)
    assert admission.decide(20.0) == []
    admission.measured("s", used(1.0), 20.0 + SUSTAINED_S)
    assert admission.decide(25.0) == []


def test_one_step_at_a_time() -> None:
    admission = host(SOFT)
    admitted(admission, "s", work(0.5, 0.5, 0.5, optional=2))
    admission.measured("s", used(4.5), 20.0)
    admission.decide(20.0)
    assert len(admission.decide(24.0)) == 1
    admission.measured("s", used(4.5), 25.0)
    assert admission.decide(24.0 + SETTLE_S - 1) == []
    assert len(admission.decide(24.0 + SETTLE_S)) == 1


def test_a_stream_that_cannot_be_moved_does_not_stop_the_others() -> None:
    admission = host(SOFT)
    asked = []
    for stream in ("a", "b"):
        admitted(admission, stream, work(1.0))
    for now in range(20, 80):
        for stream in ("a", "b"):
            admission.measured(stream, used(2.5), float(now))
        asked += [action.stream for action in admission.decide(float(now)) if isinstance(action, MoveStream)]
    assert asked == ["a", "b"]


def test_how_much_is_free() -> None:
    soft_ladder = host(SOFT, cores=16.0)
    free = soft_ladder.free(ladder(), 0.0)
    assert free == 3  # 3.65 cores each, of 12
    admitted(soft_ladder, "s", work(4.0))
    assert soft_ladder.free(ladder(), 0.0) == free - 1
    soft_ladder.failed(CPU, "hot", 0.0)
    assert soft_ladder.free(ladder(), 0.0) == 0
    assert host(BROKEN).free(ladder(), 0.0) == 0
