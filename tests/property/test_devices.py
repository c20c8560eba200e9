"""Capacity, the model of costs and what comes from trial workers, for any input."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.capacity import Capacity
from devices.cost import Rate, fit
from devices.errors import WireError
from devices.gpu import (
    merged,
    parse_drm_untrusted,
    parse_nvidia_information_untrusted,
    parse_nvidia_smi_untrusted,
    parse_nvidia_version_untrusted,
)
from devices.model import CPU, HEADROOM, Choice, CostVector, Device
from devices.survey import decode_survey_untrusted
from devices.trial.wire import (
    Answer,
    Counted,
    Measured,
    Point,
    Refused,
    Works,
    body_bytes_untrusted,
    decode_answer_untrusted,
    decode_job_untrusted,
    encode,
)

SLACK = 1e-9
part = st.floats(0.0, 2.0)
costs = st.builds(
    CostVector,
    decode=part,
    scale=part,
    encode=part,
    sessions=st.integers(0, 3),
    memory_bytes=st.floats(0, 4e9),
)
DEVICES = (Device(CPU, "cpu", cores=4.0, memory_bytes=8e9), Device("gpu", "gpu", sessions=5))
steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "measure", "release", "change"]),
        st.integers(0, 5).map(str),
        costs,
        st.sampled_from([CPU, "gpu"]),
        st.floats(0.0, 60.0),
    ),
    max_size=40,
)


@given(steps)
def test_nothing_is_let_in_above_the_limit_and_everything_is_given_back(
    steps: list[tuple[str, str, CostVector, str, float]],
) -> None:
    capacity, now = Capacity(DEVICES), 0.0
    for step, stream, cost, device, wait in steps:
        now += wait
        if step == "release":
            capacity.release(stream)
        elif step == "measure":
            capacity.measured(stream, {device: cost}, now)
        elif stream in capacity.streams:
            if step == "change":
                capacity.change(stream, {device: cost})
        elif step == "reserve":
            before = {one.id: capacity.taken(one.id, now) for one in DEVICES}
            refused = capacity.reserve(stream, {device: cost}, now)
            if refused is not None:
                assert {one.id: capacity.taken(one.id, now) for one in DEVICES} == before
            elif cost.busy > 0 and device == CPU:
                assert capacity.taken(CPU, now).busy <= HEADROOM * 4.0 + SLACK
        assert capacity.taken("gpu", now).encode >= 0
    for stream in capacity.streams:
        capacity.release(stream)
    assert all(capacity.taken(one.id, now) == CostVector() for one in DEVICES)


@given(costs, st.floats(0.0, 1e4))
def test_as_many_fit_as_it_says(cost: CostVector, now: float) -> None:
    capacity = Capacity(DEVICES)
    promised = min(capacity.times({CPU: cost}, now), 50)
    for number in range(promised):
        assert capacity.reserve(str(number), {CPU: cost}, now) is None or number == promised - 1  # rounding


rates = st.builds(Rate, st.floats(1e-4, 1e-2), st.floats(1e-10, 1e-7), st.floats(1e-9, 1e-6))
sizes = st.sampled_from([(1920, 1080), (1280, 720), (854, 480), (640, 360)])
rows = st.lists(st.tuples(sizes, st.floats(1e3, 1e6)), min_size=3, max_size=8)


@given(rates, rows)
def test_what_follows_the_model_is_predicted(
    rate: Rate, given_rows: list[tuple[tuple[int, int], float]]
) -> None:
    table = [(1.0, float(width * height), bits) for (width, height), bits in given_rows]
    found = fit(table, [rate.seconds(*row[1:]) for row in table])
    for row in table:
        assert abs(found.seconds(*row[1:]) / rate.seconds(*row[1:]) - 1) < 0.01


@given(st.lists(st.tuples(st.tuples(st.just(1.0), part, part), st.floats(0.0, 10.0)), max_size=6))
def test_fits_are_never_negative(data: list[tuple[tuple[float, float, float], float]]) -> None:
    found = fit([row for row, _ in data], [value for _, value in data])
    assert min(found.fixed_s, found.pixel_s, found.extra_s) >= 0


reasons = st.text(max_size=300)
answers: st.SearchStrategy[Answer] = st.one_of(
    st.builds(Works, st.floats(0, 200)),
    st.builds(Refused, reasons),
    st.builds(Counted, st.integers(0, 32), reasons),
    st.builds(
        Measured,
        st.lists(
            st.builds(
                Point,
                st.integers(1, 8192),
                st.integers(1, 8192),
                st.floats(0, 1e8),
                st.floats(0, 10),
                st.floats(0, 10),
            ),
            max_size=4,
        ).map(tuple),
    ),
)


@settings(max_examples=50)
@given(answers)
def test_answers_come_back(answer: Answer) -> None:
    data = encode(answer)
    assert body_bytes_untrusted(data[:4]) == len(data) - 4
    assert decode_answer_untrusted(data[4:]) == answer


@given(st.binary(max_size=300))
def test_garbage_from_a_worker_raises_only_wire_error(data: bytes) -> None:
    for parse in (
        decode_answer_untrusted,
        decode_job_untrusted,
        decode_survey_untrusted,
        body_bytes_untrusted,
    ):
        with contextlib.suppress(WireError):
            parse(data)


texts = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            [
                "PCI_ID=8086:9A49",
                "PCI_SLOT_NAME=0000:00:02.0",
                "PCI_ID=٣٣٣٣:1",
                "GPU UUID: GPU-12345678",
                "Model: x",
                "Bus Location: 0000:01:00.0",
                "GPU-12345678, 01:00.0, a, 1.2, ²",
                "NVRM version: 1.2",
                ",,,,",
                "=",
            ]
        )
    ).map("\n".join),
)


@given(texts)
def test_garbage_from_drivers_raises_only_wire_error(text: str) -> None:
    for parse in (
        parse_drm_untrusted,
        parse_nvidia_information_untrusted,
        parse_nvidia_version_untrusted,
        parse_nvidia_smi_untrusted,
    ):
        with contextlib.suppress(WireError):
            parse(text)


def test_merging_nothing() -> None:
    assert merged([]) == []
    assert Choice("a", "b", "c").is_capped
