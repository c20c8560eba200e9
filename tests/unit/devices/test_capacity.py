"""Reserved, measured, aged, given back."""

import pytest

from devices.capacity import FRESH_S, HALF_LIFE_S, MEASURED_AFTER_S, Capacity
from devices.errors import StateError
from devices.model import CPU, CostVector, Device, Refusal

HOST = Device(CPU, "processor", cores=4.0, memory_bytes=8e9, egress_bps=100e6)
GPU = Device("gpu", "card", sessions=3)
ONE = {CPU: CostVector(decode=0.2, scale=0.1, encode=0.7)}


def test_three_quarters_may_be_reserved_and_no_more() -> None:
    capacity = Capacity([HOST])
    for number in range(3):
        assert capacity.reserve(f"s{number}", ONE, 0.0) is None
    refusal = capacity.reserve("s3", ONE, 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == ("CPU of processor: 75% is taken, this stream needs 25%, and 75% is the limit")
    capacity.release("s1")
    assert capacity.reserve("s3", ONE, 0.0) is None
    assert capacity.streams == ["s0", "s2", "s3"]


@pytest.mark.parametrize(
    ("cost", "what"),
    [
        (CostVector(memory_bytes=7e9), "memory"),
        (CostVector(egress_bps=80e6), "uplink"),
        (CostVector(decode=3.5), "CPU"),
    ],
)
def test_every_kind_of_cost_has_its_limit(cost: CostVector, what: str) -> None:
    refusal = Capacity([HOST]).reserve("s", {CPU: cost}, 0.0)
    assert refusal is not None and refusal.reason.startswith(what)


def test_all_sessions_of_a_driver_can_be_had() -> None:
    capacity = Capacity([GPU])
    for number in range(3):
        assert capacity.reserve(f"s{number}", {"gpu": CostVector(encode=0.1, sessions=1)}, 0.0) is None
    refusal = capacity.reserve("s3", {"gpu": CostVector(encode=0.1, sessions=1)}, 0.0)
    assert refusal is not None and refusal.reason.startswith("encoder sessions of card")


def test_units_of_a_card_are_counted_apart() -> None:
    capacity = Capacity([GPU])
    assert capacity.reserve("s", {"gpu": CostVector(decode=0.7, encode=0.7)}, 0.0) is None
    assert capacity.load("gpu", 0.0) == pytest.approx(0.7)
    assert capacity.reserve("t", {"gpu": CostVector(encode=0.1)}, 0.0) is not None


def test_unknown_devices_and_double_reservations() -> None:
    capacity = Capacity([HOST])
    assert capacity.reserve("s", {"gone": CostVector(encode=0.1)}, 0.0) == Refusal(
        "there is no device gone", "gone"
    )
    capacity.reserve("s", ONE, 0.0)
    with pytest.raises(StateError):
        capacity.reserve("s", ONE, 0.0)
    capacity.release("never seen")
    capacity.measured("never seen", ONE, 0.0)


def test_a_measurement_replaces_the_reservation_after_ten_seconds() -> None:
    capacity = Capacity([HOST])
    capacity.reserve("s", ONE, 100.0)
    small = {CPU: CostVector(encode=0.4)}
    capacity.measured("s", small, 102.0)
    assert capacity.taken(CPU, 102.0).busy == pytest.approx(1.0)  # it may be a start without keyframes
    assert capacity.taken(CPU, 100.0 + MEASURED_AFTER_S).busy == pytest.approx(0.4)


def test_more_than_was_reserved_counts_at_once() -> None:
    capacity = Capacity([HOST])
    capacity.reserve("s", ONE, 0.0)
    capacity.measured("s", {CPU: CostVector(encode=2.5)}, 1.0)
    assert capacity.taken(CPU, 1.0).encode == pytest.approx(2.5)


def test_a_measurement_that_nothing_confirms_fades() -> None:
    capacity = Capacity([HOST])
    capacity.reserve("s", ONE, 0.0)
    capacity.measured("s", {CPU: CostVector(encode=3.0)}, 20.0)
    quiet = 20.0 + FRESH_S
    assert capacity.taken(CPU, quiet).busy == pytest.approx(3.0)
    assert capacity.taken(CPU, quiet + HALF_LIFE_S).busy == pytest.approx(2.0)
    assert capacity.taken(CPU, quiet + 20 * HALF_LIFE_S).busy == pytest.approx(1.0, abs=0.01)


def test_fewer_renditions_make_the_measurement_less_too() -> None:
    capacity = Capacity([HOST])
    capacity.reserve("s", {CPU: CostVector(decode=0.2, encode=0.8)}, 0.0)
    capacity.measured("s", {CPU: CostVector(decode=0.2, encode=1.6)}, 20.0)
    capacity.change("s", {CPU: CostVector(decode=0.2, encode=0.4)})
    assert capacity.taken(CPU, 20.0).busy == pytest.approx(0.2 + 0.8)


def test_how_many_more() -> None:
    capacity = Capacity([HOST])
    assert capacity.times(ONE, 0.0) == 3
    capacity.reserve("s", ONE, 0.0)
    assert capacity.times(ONE, 0.0) == 2
    assert capacity.times({"gone": CostVector(encode=1.0)}, 0.0) == 0
