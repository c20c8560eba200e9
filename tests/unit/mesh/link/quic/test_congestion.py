"""The window and the pacer."""

import pytest

from mesh.link.quic.congestion import (
    BETA,
    BURST_PACKETS,
    WINDOW_BYTES_MAX,
    WINDOW_PACKETS_MIN,
    Cubic,
    Pacer,
)
from mesh.link.quic.recovery import BulkPacket

SIZE = 1200


def packet(sent_at: float, size: int = SIZE) -> BulkPacket:
    return BulkPacket(0, size, sent_at, None, 0, 0)  # type: ignore[arg-type]  # no stream is looked at


def lose(window: Cubic, sent_at: float, now: float) -> None:
    window.bytes_in_flight += SIZE
    window.on_packets_lost(now=now, packets=[packet(sent_at)])  # type: ignore[list-item]  # has its fields


def full_round(window: Cubic, now: float, round_trip_s: float = 0.1) -> None:
    """All that the window lets go leaves, and arrives in four pieces."""
    window.bytes_in_flight = window.congestion_window
    pieces = 4
    for piece in range(pieces):
        window.acknowledged(window.bytes_in_flight // (pieces - piece), now, now + round_trip_s)
    window.bytes_in_flight = 0


def test_slow_start_doubles() -> None:
    window = Cubic(max_datagram_size=SIZE)
    before = window.congestion_window
    full_round(window, 1.0)
    assert window.congestion_window >= before * 1.5


def test_nobody_fills_it_it_does_not_grow() -> None:
    window = Cubic(max_datagram_size=SIZE)
    before = window.congestion_window
    for turn in range(50):
        window.bytes_in_flight = SIZE
        window.acknowledged(SIZE, turn, turn + 0.1)
    assert window.congestion_window == before


def test_a_loss_cuts_once_a_round_trip() -> None:
    window = Cubic(max_datagram_size=SIZE)
    window.congestion_window = 100 * SIZE
    lose(window, sent_at=1.0, now=1.1)
    assert window.congestion_window == int(100 * SIZE * BETA)
    lose(window, sent_at=1.05, now=1.12)
    assert window.congestion_window == int(100 * SIZE * BETA)
    lose(window, sent_at=1.2, now=1.3)
    assert window.congestion_window == int(int(100 * SIZE * BETA) * BETA)


def test_after_a_loss_it_comes_back_and_goes_beyond() -> None:
    window = Cubic(max_datagram_size=SIZE)
    window.congestion_window = 100 * SIZE
    window.on_rtt_measurement(now=0.0, rtt=0.1)
    lose(window, sent_at=1.0, now=1.1)
    sizes = []
    for turn in range(120):
        full_round(window, 2.0 + turn * 0.1)
        sizes.append(window.congestion_window)
    assert sizes == sorted(sizes)
    back_after_s = next(turn for turn, size in enumerate(sizes) if size >= 99 * SIZE) * 0.1
    assert 1.0 <= back_after_s <= 6.0  # RFC 9438 4.2: K is the cube root of 30 packets / 0.4, 4.2 s
    assert sizes[-1] > 110 * SIZE


def test_bounds() -> None:
    window = Cubic(max_datagram_size=SIZE)
    for turn in range(40):
        lose(window, sent_at=turn + 0.5, now=turn + 1.0)
    assert window.congestion_window == WINDOW_PACKETS_MIN * SIZE
    window.on_persistent_congestion()
    assert window.congestion_window == WINDOW_PACKETS_MIN * SIZE
    window = Cubic(max_datagram_size=SIZE)
    for turn in range(200):
        full_round(window, float(turn))
    assert window.congestion_window <= 2 * WINDOW_BYTES_MAX


def test_round_trips_that_grow_end_slow_start() -> None:
    window = Cubic(max_datagram_size=SIZE)
    for turn in range(200):
        window.on_rtt_measurement(now=turn * 0.01, rtt=0.02 + turn * 0.001)
    assert window.ssthresh == window.congestion_window


def test_before_the_first_round_trip_a_burst_may_leave() -> None:
    pacer = Pacer(max_datagram_size=SIZE)
    assert pacer.packets(0.0) == BURST_PACKETS
    assert pacer.next_send_time(0.0) is None


@pytest.mark.parametrize("round_trip_s", [0.001, 0.02, 0.2])
def test_the_rate_is_that_of_the_window(round_trip_s: float) -> None:
    pacer = Pacer(max_datagram_size=SIZE)
    window = 100 * SIZE
    pacer.update_rate(congestion_window=window, smoothed_rtt=round_trip_s)
    now, sent, wakes = 10.0, 0, 0
    while now < 11.0:
        if count := pacer.packets(now):
            pacer.sent(count * SIZE)
            sent += count * SIZE
        at = pacer.next_send_time(now)
        assert at is not None and at > now
        now = at
        wakes += 1
    assert sent == pytest.approx(1.25 * window / round_trip_s, rel=0.1)
    assert wakes <= max(1.0 / 0.0019, sent / (BURST_PACKETS / 2 - 1) / SIZE)


def test_a_pause_makes_no_larger_burst() -> None:
    pacer = Pacer(max_datagram_size=SIZE)
    pacer.update_rate(congestion_window=20 * SIZE, smoothed_rtt=0.1)
    assert pacer.packets(100.0) == BURST_PACKETS
    pacer.update_after_send(100.0)
    assert pacer.packets(100.0) == BURST_PACKETS - 1
