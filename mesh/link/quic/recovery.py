"""Packets that carry nothing but a piece of one stream: remembered and acknowledged in runs. Pure.

aioquic keeps an object with a list of callbacks for each packet and calls them one by one.
"""

from bisect import bisect_left
from collections.abc import Callable
from logging import LoggerAdapter
from typing import Any

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStreamSender
from aioquic.tls import Epoch

from mesh.link.quic.congestion import NAME, Cubic, Pacer


class BulkPacket:
    """A sent packet, as aioquic's QuicSentPacket."""

    __slots__ = ("packet_number", "sender", "sent_bytes", "sent_time", "start", "stop")

    epoch = Epoch.ONE_RTT
    packet_type = QuicPacketType.ONE_RTT
    in_flight = True
    is_ack_eliciting = True
    is_crypto_packet = False

    def __init__(
        self,
        packet_number: int,
        sent_bytes: int,
        sent_time: float,
        sender: QuicStreamSender,
        start: int,
        stop: int,
    ) -> None:
        self.packet_number = packet_number
        self.sent_bytes = sent_bytes
        self.sent_time = sent_time
        self.sender = sender
        self.start = start  # of the stream, in bytes
        self.stop = stop

    @property
    def delivery_handlers(self) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
        """Whom aioquic tells of an arrival or a loss."""
        return [(self.sender.on_data_delivery, (self.start, self.stop, False))]


class Recovery(QuicPacketRecovery):
    """Loss recovery (RFC 9002) that takes runs of BulkPackets at once."""

    def __init__(
        self,
        *,
        initial_rtt: float,
        max_datagram_size: int,
        is_client: bool,
        send_probe: Callable[[], None],
        logger: "LoggerAdapter[Any]",
    ) -> None:
        super().__init__(
            congestion_control_algorithm=NAME,
            initial_rtt=initial_rtt,
            max_datagram_size=max_datagram_size,
            peer_completed_address_validation=not is_client,
            send_probe=send_probe,
            logger=logger,
        )
        assert isinstance(self._cc, Cubic)
        self.window: Cubic = self._cc
        self.pacer = Pacer(max_datagram_size=max_datagram_size)
        self._pacer = self.pacer  # type: ignore[assignment]  # it has the methods that are called

    @property
    def round_trip_s(self) -> float:
        """Smoothed, 0 before it was measured."""
        return self._rtt_smoothed

    @property
    def timeouts(self) -> int:
        """Probe timeouts since anything was acknowledged."""
        return self._pto_count

    def resize(self, size: int) -> None:
        """Datagrams have another size now."""
        self.window.datagram_bytes = self.pacer.datagram_bytes = size

    def sent(self, packets: list[BulkPacket], count: int, now: float, space: QuicPacketSpace) -> None:
        """Packets left, `count` bytes in all."""
        sent: dict[int, Any] = space.sent_packets
        for packet in packets:
            sent[packet.packet_number] = packet
        space.ack_eliciting_in_flight += len(packets)
        self._time_of_last_sent_ack_eliciting_packet = now
        self.window.bytes_in_flight += count
        self.pacer.sent(count)

    def on_ack_received(
        self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        """Runs first; the newest packet, from which the round trip is measured, and all others by aioquic."""
        if space.is_application_data and space.ack_eliciting_in_flight > 1:
            self._take_runs(ack_rangeset, now, space)
        super().on_ack_received(ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space)

    def _take_runs(self, ranges: RangeSet, now: float, space: QuicPacketSpace) -> None:
        sent: dict[int, Any] = space.sent_packets
        numbers = list(sent)
        arrived: list[int] = []
        for each in ranges:
            arrived += numbers[bisect_left(numbers, each.start) : bisect_left(numbers, each.stop)]
        count = taken = start = stop = 0
        sender: QuicStreamSender | None = None
        sent_at = 0.0
        for number in arrived[:-1]:  # the newest is left: the round trip is measured with it
            packet = sent[number]
            if type(packet) is not BulkPacket:
                continue
            del sent[number]
            taken += 1
            count += packet.sent_bytes
            sent_at = packet.sent_time
            if packet.sender is not sender or packet.start != stop:
                if sender is not None:
                    sender.on_data_delivery(QuicDeliveryState.ACKED, start, stop, False)
                sender, start = packet.sender, packet.start
            stop = packet.stop
        if sender is not None:
            sender.on_data_delivery(QuicDeliveryState.ACKED, start, stop, False)
            space.ack_eliciting_in_flight -= taken
            self.window.acknowledged(count, sent_at, now)
