"""How much of what a member says of itself is believed."""

from mesh.directory.facts import Load
from mesh.geo.model import CITY, Located
from mesh.routing.claims import UNPROVEN_BPS, Measured, believed_budget_bps, believed_place
from mesh.routing.costs import ASSUMED_UPLINK_BPS

M = 1_000_000
UTRECHT, TOKYO = Located(52.1, 5.1, source=CITY), Located(35.7, 139.7, source=CITY)
A, B = bytes([1]) * 32, bytes([2]) * 32


def test_light_refutes_a_place() -> None:
    place, why = believed_place(TOKYO, UTRECHT, 0.010)
    assert place is None
    assert "light" in why
    assert believed_place(TOKYO, UTRECHT, 0.200) == (TOKYO, "")
    assert believed_place(TOKYO, None, 0.010) == (TOKYO, "")
    assert believed_place(None, UTRECHT, 0.010) == (None, "")


def test_one_other_member_cannot_slander() -> None:
    seen = [Measured(A, UTRECHT, 0.010), Measured(A, UTRECHT, 0.011)]
    assert believed_place(TOKYO, None, None, seen)[0] == TOKYO
    assert believed_place(TOKYO, None, None, [*seen, Measured(B, UTRECHT, 0.010)])[0] is None


def test_an_uplink_is_believed_as_far_as_it_was_seen() -> None:
    def load(budget_bps: int) -> Load:
        return Load(0, budget_bps, 0.0, 0, 0, 0)

    assert believed_budget_bps(load(50 * M), 0) == 50 * M
    assert believed_budget_bps(load(10**15), 0) == UNPROVEN_BPS
    assert believed_budget_bps(load(10**15), 400 * M) == 800 * M
    assert believed_budget_bps(load(50 * M), 400 * M) == 50 * M, "never more than the owner allows"
    assert believed_budget_bps(load(0), 0) == ASSUMED_UPLINK_BPS
    assert believed_budget_bps(None, 30 * M) == 60 * M
