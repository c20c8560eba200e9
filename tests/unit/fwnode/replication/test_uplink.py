"""The uplink's budget: who is let in, what they count for, and who is let go."""

from types import SimpleNamespace
from typing import Any

from fwnode.replication.giving.uplink import KEPT_S, LET_GO_MAX, OVER_S, SETTLED_S, Fed, Uplink
from mesh.routing.costs import ASSUMED_BITRATE_BPS

M = 1_000_000


class Line:
    """An uplink, a clock, and what leaves."""

    def __init__(self, budget_bps: int) -> None:
        self.now = 100.0
        self.bytes = 0.0
        self.viewers_bps = 0
        self.uplink = Uplink(budget_bps, lambda: round(self.bytes))
        self.uplink.look(self.now)

    def edge(self, number: int, bitrate_bps: int = 2 * M, *, last_resort: bool = False) -> Fed:
        stream: Any = SimpleNamespace(name=f"s{number}", bitrate_bps=bitrate_bps)
        fed = Fed(bytes([number]), stream, self.now, last_resort)
        self.uplink.add(fed, self.now)
        return fed

    def run(self, seconds: int) -> None:
        """Every edge is sent its stream, and viewers theirs."""
        for _ in range(seconds):
            self.now += 1
            self.bytes += self.viewers_bps / 8
            for fed in self.uplink.fed():
                count = fed.stream.bitrate_bps // 8
                self.uplink.count(fed, count)
                self.bytes += count
            self.uplink.look(self.now)


def test_without_a_budget_there_is_always_room() -> None:
    line = Line(0)
    for number in range(100):
        assert line.uplink.has_room(50 * M, line.now)
        line.edge(number)
    line.run(60)
    assert line.uplink.take_excess(line.now) == []
    assert line.uplink.history_us(12 * M, 5 * M, line.now) == 12 * M


def test_an_edge_counts_before_anything_was_sent_to_it() -> None:
    line = Line(3 * M)
    assert line.uplink.has_room(2 * M, line.now)
    line.edge(1)
    assert not line.uplink.has_room(2 * M, line.now)
    assert line.uplink.has_room(M, line.now)


def test_a_reservation_gives_way_to_what_is_measured() -> None:
    line = Line(3 * M)
    fed = line.edge(1)
    fed.stream = SimpleNamespace(name="s1", bitrate_bps=2 * M)  # type: ignore[assignment]  # as much as is asked
    for _ in range(int(SETTLED_S) + 6):
        line.now += 1
        line.uplink.count(fed, M // 8)  # it takes half of the tracks
        line.bytes += M / 8
        line.uplink.look(line.now)
    assert line.uplink.promised_bps(line.now) == M
    assert line.uplink.has_room(2 * M, line.now)


def test_a_stream_whose_bitrate_is_not_known_counts_as_a_usual_one() -> None:
    line = Line(ASSUMED_BITRATE_BPS)
    line.edge(1, 0)
    assert line.uplink.promised_bps(line.now) == ASSUMED_BITRATE_BPS
    assert not line.uplink.has_room(0, line.now)


def test_viewers_come_first() -> None:
    line = Line(10 * M)
    edges = [line.edge(number) for number in range(4)]
    line.run(20)
    assert line.uplink.take_excess(line.now) == []
    line.viewers_bps = 5 * M
    line.run(6)
    assert not line.uplink.has_room(M, line.now)
    assert line.uplink.take_excess(line.now) == []  # not over for long enough
    line.run(round(OVER_S))
    gone = line.uplink.take_excess(line.now)
    assert len(gone) == 2 and set(gone) <= set(edges)
    for fed in gone:
        line.uplink.remove(fed)
    line.run(30)
    assert line.uplink.take_excess(line.now) == []


def test_the_newest_go() -> None:
    line = Line(5 * M)
    line.edge(1)
    line.run(3)
    line.edge(2)
    line.run(3)
    newest = line.edge(3, last_resort=True)
    line.run(round(OVER_S) + 1)
    assert line.uplink.take_excess(line.now) == [newest]
    assert line.uplink.take_excess(line.now) == []  # told once


def test_who_comes_back_with_nobody_else_is_kept_for_a_while() -> None:
    line = Line(M)
    first = line.edge(1, last_resort=True)
    line.run(round(OVER_S) + 1)
    assert line.uplink.take_excess(line.now) == [first]
    line.uplink.remove(first)
    again = line.edge(1, last_resort=True)
    line.run(2 * round(OVER_S))
    assert line.uplink.take_excess(line.now) == []
    line.run(round(KEPT_S))
    assert line.uplink.take_excess(line.now) == [again]


def test_what_is_remembered_of_those_let_go_is_bounded() -> None:
    line = Line(1)
    for number in range(2 * LET_GO_MAX):
        stream: Any = SimpleNamespace(name=f"s{number}", bitrate_bps=M)
        line.uplink.add(Fed(b"x", stream, line.now), line.now)
    line.run(round(OVER_S) + 1)
    assert len(line.uplink.take_excess(line.now)) == 2 * LET_GO_MAX
    assert len(line.uplink._let_go) == LET_GO_MAX


def test_the_past_is_sent_as_far_as_the_uplink_is_free() -> None:
    line = Line(4 * M)
    assert line.uplink.history_us(12 * M, 2 * M, line.now) == 10 * M
    line.edge(1, 3 * M)
    assert line.uplink.history_us(12 * M, 2 * M, line.now) == 2_500_000
    line.edge(2, 3 * M, last_resort=True)
    assert line.uplink.history_us(12 * M, 2 * M, line.now) == 0


def test_viewers_who_were_promised_a_place_come_before_edges() -> None:
    reserved = 1_500_000
    uplink = Uplink(3 * M, lambda: 0, lambda now: reserved)
    assert uplink.has_room(M, 0.0) and not uplink.has_room(2 * M, 0.0)
    assert uplink.promised_bps(0.0) == reserved and uplink.fed_bps(0.0) == 0
