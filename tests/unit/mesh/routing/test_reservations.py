"""Viewers promised and not seen yet."""

from mesh.routing.reservations import (
    ARRIVAL_S,
    FETCH_S,
    MEMBERS_MAX,
    RESERVED_S,
    STREAMS_MAX,
    Reservations,
)

A, B = bytes([1]) * 32, bytes([2]) * 32


def test_they_add_up_and_age_out() -> None:
    reservations = Reservations()
    for now in (0.0, 0.5, 10.0):
        reservations.make(A, 3, now)
    assert reservations.bps(A, -99.0, 10.0) == 9
    assert reservations.count(A, -99.0, 10.0) == 3
    assert reservations.bps(B, -99.0, 10.0) == 0
    assert reservations.bps(A, -99.0, RESERVED_S) == 3
    assert reservations.bps(A, -99.0, 10.0 + RESERVED_S) == 0


def test_what_is_measured_replaces_those_who_had_time_to_come() -> None:
    reservations = Reservations()
    reservations.make(A, 3, 10.0)
    assert reservations.bps(A, 10.0 + ARRIVAL_S / 2, 12.0) == 3
    assert reservations.bps(A, 10.0 + ARRIVAL_S, 12.0) == 0


def test_members_and_steps_are_bounded() -> None:
    reservations = Reservations()
    for number in range(MEMBERS_MAX + 10):
        reservations.make(number.to_bytes(4, "big"), 1, 0.0)
    assert reservations.members() == MEMBERS_MAX
    assert reservations.count((0).to_bytes(4, "big"), -99.0, 0.0) == 0
    reservations.make(A, 1, RESERVED_S + 1)
    assert reservations.members() == 1
    for tick in range(10_000):
        reservations.make(A, 1, RESERVED_S + tick / 10)
    assert reservations.count(A, 0.0, RESERVED_S + 999.9) <= 300


def test_fetches_are_expected_for_a_while() -> None:
    reservations = Reservations()
    reservations.expect("garden", A, 0.0)
    reservations.expect("garden", B, 5.0)
    assert set(reservations.expected("garden", 5.0)) == {A, B}
    assert reservations.expected("garden", FETCH_S) == [B]
    assert reservations.expected("other", 0.0) == []
    for number in range(STREAMS_MAX):
        reservations.expect(f"stream-{number}", A, 5.0)
    assert reservations.expected("garden", 5.0) == []
