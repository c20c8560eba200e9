"""Admission: whatever comes and goes, what was let in without need fits the budget; and it is monotone."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fwnode.replication.giving.uplink import Fed, Uplink
from mesh.routing.costs import ASSUMED_BITRATE_BPS

unhurried = settings(deadline=None)  # the machine is shared
BITRATES = st.integers(0, 20_000_000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("edge"), BITRATES),
        st.tuples(st.just("leaves"), st.integers(0, 63)),
        st.tuples(st.just("passes"), st.integers(1, 20)),
    ),
    max_size=60,
)


def fed(bitrate_bps: int, now: float) -> Fed:
    stream: Any = SimpleNamespace(name="s", bitrate_bps=bitrate_bps)
    return Fed(b"e", stream, now)


@given(st.integers(1, 50_000_000), STEPS)
@unhurried
def test_never_over_budget(budget_bps: int, steps: list[tuple[str, int]]) -> None:
    """Edges that take what their streams have: at no moment more is promised or sent than the budget."""
    now, sent = 0.0, 0
    uplink = Uplink(budget_bps, lambda: sent)
    for what, value in steps:
        edges = uplink.fed()
        if what == "edge" and uplink.has_room(value, now):
            uplink.add(fed(value, now), now)
        elif what == "leaves" and edges:
            uplink.remove(edges[value % len(edges)])
        elif what == "passes":
            for _ in range(value):
                now += 1
                for edge in edges:
                    count = (edge.stream.bitrate_bps or ASSUMED_BITRATE_BPS) // 8
                    uplink.count(edge, count)
                    sent += count
                uplink.look(now)
        demand = sum(edge.stream.bitrate_bps or ASSUMED_BITRATE_BPS for edge in uplink.fed())
        assert demand <= budget_bps + 16 * len(uplink)  # bytes were rounded down, 8 bits of each edge
        assert not uplink.take_excess(now) or uplink.promised_bps(now) > budget_bps


@given(st.integers(0, 50_000_000), st.lists(BITRATES, max_size=10), BITRATES, BITRATES)
@unhurried
def test_room_is_monotone(budget_bps: int, present: list[int], one: int, other: int) -> None:
    """Who has room for a stream has it for a smaller one, and with fewer edges, and with more budget."""
    small, large = sorted(value or ASSUMED_BITRATE_BPS for value in (one, other))

    def room(budget: int, edges: list[int], bitrate_bps: int) -> bool:
        uplink = Uplink(budget, lambda: 0)
        for value in edges:
            uplink.add(fed(value, 0.0), 0.0)
        return uplink.has_room(bitrate_bps, 0.0)

    if room(budget_bps, present, large):
        assert room(budget_bps, present, small)
        assert room(budget_bps, present[:-1], large)
        assert not budget_bps or room(budget_bps + 1, present, large)


@given(st.integers(1, 50_000_000), st.lists(BITRATES, max_size=10), st.integers(0, 60_000_000), BITRATES)
@unhurried
def test_the_past_never_exceeds_what_was_asked_for(
    budget_bps: int, present: list[int], wanted_us: int, bitrate_bps: int
) -> None:
    uplink = Uplink(budget_bps, lambda: 0)
    for value in present:
        uplink.add(fed(value, 0.0), 0.0)
    assert 0 <= uplink.history_us(wanted_us, bitrate_bps, 0.0) <= wanted_us
