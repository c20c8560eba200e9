"""How fast a connection sends: CUBIC (RFC 9438) by acknowledged bytes, and a pacer. Pure.

aioquic's own count packet by packet, grow a window that nobody fills, and pace by single packets: too much
work, and bursts after a pause that a home's uplink cannot take.
"""

from collections.abc import Iterable
from math import inf

from aioquic.quic.congestion.base import (
    QuicCongestionControl,
    QuicRttMonitor,
    register_congestion_control,
)
from aioquic.quic.packet_builder import QuicSentPacket

NAME = "fwnode-cubic"
CUBIC_C = 0.4  # RFC 9438 5.1
BETA = 0.7  # RFC 9438 4.6
ALPHA = 3 * (1 - BETA) / (1 + BETA)  # RFC 9438 4.3
WINDOW_PACKETS_MIN = 2  # RFC 9002 7.2
WINDOW_BYTES_MAX = 8 << 20  # more than any stream's window is never in flight
PACING_GAIN = 1.25  # RFC 9002 7.7
BURST_PACKETS = 10  # RFC 9002 7.7: the initial window
BURST_S = 0.004  # a timer of the loop is late by one or two milliseconds


class Cubic(QuicCongestionControl):
    """The window of one connection, in bytes."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.datagram_bytes = max_datagram_size
        self._recovery_at = self._full_at = -inf
        self._monitor = QuicRttMonitor()
        self._round_trip_s = 0.1
        self._epoch_at: float | None = None
        self._max = 0.0  # the window before it was last cut
        self._origin = 0.0
        self._k_s = 0.0
        self._estimate = 0.0  # what Reno's would be

    def acknowledged(self, count: int, sent_at: float, now: float) -> None:
        """Bytes in flight arrived, the last of them sent at `sent_at`."""
        used, window = self.bytes_in_flight, self.congestion_window
        self.bytes_in_flight -= count
        if sent_at <= self._recovery_at or window >= WINDOW_BYTES_MAX:
            return
        if self.ssthresh is None or window < self.ssthresh:
            if used * 2 >= window:  # otherwise it is not the window that holds us back (RFC 9002 7.8)
                self.congestion_window += count
            return
        if used * 4 >= window * 3:
            self._full_at = now
        if now - self._full_at <= 2 * self._round_trip_s:
            self._avoid(count, now)
        else:
            self._epoch_at = None  # RFC 9438 5.8

    def _avoid(self, count: int, now: float) -> None:
        """Congestion avoidance, RFC 9438 4.2 to 4.5."""
        window, size = float(self.congestion_window), self.datagram_bytes
        if self._epoch_at is None:
            self._epoch_at, self._estimate = now, window
            self._origin = max(self._max, window)
            self._k_s = ((self._origin - window) / size / CUBIC_C) ** (1 / 3)
        since = now - self._epoch_at + self._round_trip_s - self._k_s
        target = min(max(self._origin + CUBIC_C * since**3 * size, window), 1.5 * window)
        alpha = ALPHA if self._estimate < self._max else 1.0
        self._estimate += alpha * size * count / window
        grown = window + (target - window) * count / window
        self.congestion_window = int(max(grown, self._estimate))

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """One packet arrived."""
        self.acknowledged(packet.sent_bytes, packet.sent_time or 0.0, now)

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        """One packet left."""
        self.bytes_in_flight += packet.sent_bytes

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        """Packets that do not count any more, arrived or not."""
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        """Packets were lost: once a round trip the window is cut (RFC 9438 4.6, 4.7)."""
        last = -inf
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            last = packet.sent_time or 0.0
        if last <= self._recovery_at:
            return
        window = self.congestion_window
        self._recovery_at, self._epoch_at = now, None
        self._max = window * (1 + BETA) / 2 if window < self._max else float(window)
        self.congestion_window = max(int(window * BETA), WINDOW_PACKETS_MIN * self.datagram_bytes)
        self.ssthresh = self.congestion_window

    def on_persistent_congestion(self) -> None:
        """Nothing arrived for long (RFC 9002 7.6)."""
        self.congestion_window = WINDOW_PACKETS_MIN * self.datagram_bytes
        self._recovery_at, self._epoch_at = -inf, None

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """A round trip: slow start ends when they begin to grow."""
        self._round_trip_s = rtt
        if self.ssthresh is None and self._monitor.is_rtt_increasing(now=now, rtt=rtt):
            self.ssthresh = self.congestion_window


register_congestion_control(NAME, Cubic)


class Pacer:
    """A token bucket in bytes, with aioquic's names."""

    def __init__(self, *, max_datagram_size: int) -> None:
        self.datagram_bytes = max_datagram_size
        self._rate: float | None = None  # bytes per second; no limit before the first round trip
        self._tokens = self._burst = float(BURST_PACKETS * max_datagram_size)
        self._at = 0.0

    def next_send_time(self, now: float) -> float | None:
        """None: a packet may leave now; otherwise when half a burst may."""
        if self._rate is None or self._fill(now) >= self.datagram_bytes:
            return None
        return now + (self._burst / 2 - self._tokens) / self._rate

    def packets(self, now: float) -> int:
        """How many may leave now."""
        return BURST_PACKETS if self._rate is None else max(0, int(self._fill(now) // self.datagram_bytes))

    def sent(self, count: int) -> None:
        """Bytes left."""
        self._tokens -= count

    def update_after_send(self, now: float) -> None:
        """One packet left."""
        self._tokens -= self.datagram_bytes

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """The window or the round trip changed."""
        self._rate = PACING_GAIN * congestion_window / max(smoothed_rtt, 1e-4)
        self._burst = max(BURST_PACKETS * self.datagram_bytes, self._rate * BURST_S)

    def _fill(self, now: float) -> float:
        if now > self._at:
            if self._rate is not None:
                self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        return self._tokens
