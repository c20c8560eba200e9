from mesh.nat.portmap.exchange import SENDS, Exchange, RouterClock
from mesh.nat.portmap.model import Transport

TCP, UDP = ("map", Transport.TCP), ("map", Transport.UDP)


def test_sent_three_times_then_given_up() -> None:
    exchange = Exchange()
    assert exchange.begin({TCP: b"t", UDP: b"u"}, 0.0, beside=[b"beside"]) == [b"t", b"u"]
    assert exchange.deadline() == 0.25
    assert exchange.on_deadline(0.25) == [b"t", b"u", b"beside"]
    assert exchange.deadline() == 0.75
    assert exchange.answered(TCP)
    assert exchange.on_deadline(0.75) == [b"u", b"beside"]
    assert exchange.deadline() == 1.75
    assert exchange.on_deadline(1.75) is None
    assert exchange.pending == ()
    assert exchange.deadline() is None
    assert SENDS == 3


def test_an_answer_counts_once() -> None:
    exchange = Exchange()
    exchange.begin({TCP: b"t"}, 0.0)
    assert not exchange.answered(UDP)
    assert exchange.answered(TCP)
    assert not exchange.answered(TCP)
    assert exchange.deadline() is None


def clock(*said: tuple[int, float]) -> list[bool]:
    router = RouterClock()
    return [router.restarted(epoch_s, now) for epoch_s, now in said]


def test_a_clock_that_goes_on() -> None:
    """RFC 6887 8.5: a second backwards is jitter, and a sixteenth too fast or too slow is a cheap clock."""
    assert clock((100, 0.0), (99, 0.1), (160, 60.0), (4000, 3900.0), (7500, 7300.0)) == [False] * 5


def test_a_clock_that_begins_anew() -> None:
    assert clock((100, 0.0), (98, 1.0)) == [False, True]
    assert clock((100, 0.0), (0, 60.0), (60, 120.0)) == [False, True, False]


def test_a_restart_that_is_seen_only_by_the_pace() -> None:
    """The router was up for 100 s, was restarted, and has been up for 200 s again when it is next asked."""
    assert clock((100, 0.0), (200, 400.0)) == [False, True]
    assert clock((100, 0.0), (500, 10.0)) == [False, True]
