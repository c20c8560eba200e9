"""The allowance of a link."""

from mesh.membership.neighbour import (
    LINK_BURST_BYTES,
    LINK_BYTES_PER_S,
    MESSAGE_COST_BYTES,
    Neighbour,
)


def test_burst_then_rate() -> None:
    neighbour = Neighbour(b"p" * 32, 0.0)
    size = 10_000
    taken = sum(neighbour.admit(size, 0.0) for _ in range(1000))
    assert taken == LINK_BURST_BYTES // (size + MESSAGE_COST_BYTES)
    assert neighbour.dropped == 1000 - taken
    taken = sum(neighbour.admit(size, 10.0) for _ in range(1000))
    assert abs(taken - 10 * LINK_BYTES_PER_S / (size + MESSAGE_COST_BYTES)) <= 1


def test_empty_messages_cost_too() -> None:
    neighbour = Neighbour(b"p" * 32, 0.0)
    assert sum(neighbour.admit(0, 0.0) for _ in range(10_000)) == LINK_BURST_BYTES // MESSAGE_COST_BYTES


def test_allowance_does_not_pile_up() -> None:
    neighbour = Neighbour(b"p" * 32, 0.0)
    assert neighbour.admit(0, 1000.0)
    assert neighbour.allowance == LINK_BURST_BYTES - MESSAGE_COST_BYTES
