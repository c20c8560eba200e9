"""One QUIC connection without I/O: aioquic's, with windows that follow the reader and a short way for bulk.

aioquic raises a stream's window by what has arrived, whoever reads it: a slow reader would fill the memory.
Here windows are raised by what was read. And packets that only carry a piece of a stream, or acknowledge
such, which is nearly all of them, are made and taken apart here with the keys and the books of aioquic, in a
fraction of the time; all others are left to it. That takes attributes and methods that aioquic does not
publish: its version is pinned, and the tests of this room fail when one of them changes.
"""

from typing import Any

from aioquic._crypto import CryptoError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicFrameType, decode_packet_number
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch, Group

from mesh.link.quic.inbox import Stream
from mesh.link.quic.recovery import BulkPacket, Recovery

STREAM_WINDOW_BYTES = 1 << 20  # of a stream that is read as fast as it comes: 80 Mb/s at 100 ms
FIRST_WINDOW_BYTES = 64 << 10  # of any stream, however slowly it is read
SHARED_WINDOW_BYTES = 8 << 20  # what all streams of a connection have beside their first windows
STREAMS_MAX = 64  # that each side may have open at a time
SEND_BUFFER_BYTES = 1 << 20  # of a stream, written and not yet acknowledged: its window's size, to fill that

SHORT_HEADER, FORM_MASK = 0x40, 0xC0  # RFC 9000 17.3.1
HEADER_BYTES = 11  # of what is made here: first byte, connection id, two bytes of packet number
ID_END = 9
SAMPLE_AT, SAMPLE_BYTES = ID_END + 4, 16  # RFC 9001 5.4.2
TAG_BYTES = 16
STREAM_WITH_OFFSET = 0x0C  # RFC 9000 19.8: to the end of the packet
FRAME_BYTES_MAX = 1 + 4 + 8  # type, stream, offset


class Transport(QuicConnection):
    """A connection whose peer may send only what `consumed` makes room for.

    Held at most, not read yet: 2 * STREAMS_MAX * FIRST_WINDOW_BYTES + SHARED_WINDOW_BYTES.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        first_destination: bytes | None = None,
        retried_from: bytes | None = None,
    ) -> None:
        """For a server `first_destination` is the connection id that the client's first packet was for,
        `retried_from` the one that a Retry gave it."""
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=first_destination,
            retry_source_connection_id=retried_from,
        )
        self._local_max_streams_bidi = Limit(QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", STREAMS_MAX)
        self._local_max_streams_uni = Limit(QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", 0)
        self._loss = self._recovery = Recovery(
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=self._max_datagram_size,
            is_client=self._is_client,
            send_probe=self._send_probe,
            logger=self._logger,
        )
        self.inboxes: dict[int, Stream] = {}
        self._touched: list[Stream] = []
        self._consumed: dict[int, int] = {}
        self._extra: dict[int, int] = {}  # of each stream's window, beyond the first
        self._shared_bytes = 0

    # --- what is read and written

    @property
    def has_events(self) -> bool:
        """Whether `next_event` has something: to be taken before the next datagram is received."""
        return bool(self._events)

    def touch(self, inbox: Stream) -> None:
        """Something arrived for a stream."""
        if not inbox.touched:
            inbox.touched = True
            self._touched.append(inbox)

    def take_touched(self) -> list[Stream]:
        """Streams for which something arrived."""
        touched, self._touched = self._touched, []
        return touched

    def consumed(self, stream_id: int, count: int) -> bool:
        """The reader took bytes of a stream. True when the peer should hear of the room soon.

        Each time that half a window was read it doubles, as far as there is a share for it.
        """
        taken = self._consumed[stream_id] = self._consumed.get(stream_id, 0) + count
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return False
        window = FIRST_WINDOW_BYTES + self._extra.get(stream_id, 0)
        if (stream.max_stream_data_local - taken) * 2 > window:
            return False
        self._shared_bytes -= window - FIRST_WINDOW_BYTES
        left = min(STREAM_WINDOW_BYTES - FIRST_WINDOW_BYTES, SHARED_WINDOW_BYTES - self._shared_bytes)
        extra = self._extra[stream_id] = min(2 * window - FIRST_WINDOW_BYTES, left)
        self._shared_bytes += extra
        stream.max_stream_data_local = taken + FIRST_WINDOW_BYTES + extra
        return True

    def forget(self, stream_id: int) -> None:
        """Nothing of a stream will be read any more."""
        self._consumed.pop(stream_id, None)
        self._shared_bytes -= self._extra.pop(stream_id, 0)

    def room(self, stream_id: int) -> int:
        """How many bytes may be written to a stream now."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return SEND_BUFFER_BYTES
        return SEND_BUFFER_BYTES - (stream.sender._buffer_stop - stream.sender._buffer_start)

    def knows(self, stream_id: int) -> bool:
        """Whether something may still happen to a stream that was open."""
        return stream_id in self._streams

    @property
    def close_event(self) -> ConnectionTerminated | None:
        """Why the connection is over, told at once: aioquic's own event waits until it has drained."""
        return self._close_event

    def is_acknowledged(self) -> bool:
        """Whether the peer has all that was written and not taken back."""
        return all(
            stream.sender.is_finished
            or (stream.sender._reset_error_code is None and stream.sender._buffer_fin is None)
            for stream in self._streams.values()
        )

    # --- the short way in

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """As aioquic's. Raises nothing that a peer can cause."""
        if (
            not self._handshake_confirmed
            or data[0] & FORM_MASK != SHORT_HEADER
            or self._state is not QuicConnectionState.CONNECTED
            or self._close_pending
            or len(data) < SAMPLE_AT + SAMPLE_BYTES
            or data[1:ID_END] != self.host_cid
        ):
            super().receive_datagram(data, addr, now)
            return
        path = self._network_paths[0]
        if addr != path.addr or not path.is_validated or not self._receive_short(data, now):
            super().receive_datagram(data, addr, now)

    def _receive_short(self, data: bytes, now: float) -> bool:
        """A packet on the path that is used. False: it is for aioquic, nothing was done."""
        keys, space = self._cryptos[Epoch.ONE_RTT].recv, self._spaces[Epoch.ONE_RTT]
        if keys.hp is None or keys.aead is None:
            return False
        mask = keys.hp._mask(data[SAMPLE_AT : SAMPLE_AT + SAMPLE_BYTES])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0x18 or (first >> 2) & 1 != keys.key_phase:
            return False  # reserved bits, a key update
        length = (first & 3) + 1
        end = ID_END + length
        hidden = int.from_bytes(data[ID_END:end], "big") ^ int.from_bytes(mask[1 : 1 + length], "big")
        number = decode_packet_number(hidden, length * 8, space.expected_packet_number)
        header = b"%c%b%b" % (first, data[1:ID_END], hidden.to_bytes(length, "big"))
        try:
            plain = keys.aead.decrypt(data[end:], header, number)
        except CryptoError:
            return True  # forged or damaged: dropped
        if number in space.received_packets:
            return True
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        eliciting = self._take_frames(plain, now)
        if eliciting is None:
            return True
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay
        return True

    def _take_frames(self, plain: bytes, now: float) -> bool | None:
        """Whether the packet wants an acknowledgement; None when it ended the connection."""
        at, size, eliciting = 0, len(plain), False
        while at < size:
            after = self._take_stream_frame(plain, at, size) if 0x08 <= plain[at] <= 0x0F else 0
            if not after:
                rest = self._take_rest(plain[at:], now)
                return None if rest is None else (rest or eliciting)
            at, eliciting = after, True
        return eliciting

    def _take_rest(self, plain: bytes, now: float) -> bool | None:
        """Frames by aioquic."""
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=self.host_cid,
            network_path=self._network_paths[0],
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        try:
            eliciting, _probing = self._payload_received(context, plain)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        if self._state is not QuicConnectionState.CONNECTED or self._close_pending:
            return None
        return eliciting

    def _take_stream_frame(self, plain: bytes, at: int, size: int) -> int:
        """A piece of a stream that comes in order and within its window: where the next frame begins.

        0: anything else, nothing was done.
        """
        kind, at = plain[at], at + 1
        if kind & 1:
            return 0  # the last piece
        number, at = _variable(plain, at, size)
        offset, at = _variable(plain, at, size) if kind & 4 else (0, at)
        length, at = _variable(plain, at, size) if kind & 2 else (size - at, at)
        end = at + length
        stream, inbox = self._streams.get(number), self.inboxes.get(number)
        if end > size or length <= 0 or stream is None or inbox is None:
            return 0
        receiver = stream.receiver
        if (
            receiver._buffer_start != offset
            or receiver._buffer
            or receiver.is_finished
            or receiver._final_size is not None
            or offset + length > stream.max_stream_data_local
        ):
            return 0
        receiver._buffer_start = receiver.highest_offset = offset + length
        self._local_max_data.used += length
        inbox.put(plain[at:end])
        self.touch(inbox)
        return end

    # --- the short way out

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """As aioquic's: first what is only pieces of streams, then all else."""
        bulk: list[tuple[bytes, Any]] = []
        if not self._network_paths:
            return bulk  # a server that has heard nothing
        for space in self._spaces.values():
            if space.ack_at == now:
                space.ack_at = (
                    0.0  # aioquic takes it for due only later, and asks to be woken at once until then
                )
        if (
            self._handshake_confirmed
            and self._state is QuicConnectionState.CONNECTED
            and not self._close_pending
            and not self._probe_pending
            and self._network_paths[0].is_validated
        ):
            bulk = self._send_bulk(now)
        return bulk + super().datagrams_to_send(now)

    def _send_bulk(self, now: float) -> list[tuple[bytes, Any]]:
        """Full packets, as many as the window and the pacer let go."""
        size = self._max_datagram_size
        left = (self._recovery.window.congestion_window - self._recovery.window.bytes_in_flight) // size
        left = min(left, self._recovery.pacer.packets(now))
        keys = self._cryptos[Epoch.ONE_RTT]
        if left <= 0 or keys._update_key_requested:
            return []
        datagrams: list[tuple[bytes, Any]] = []
        for stream in list(self._streams_queue):
            sender = stream.sender
            if sender.buffer_is_empty or stream.is_blocked or sender._reset_error_code is not None:
                continue
            sent = self._send_pieces(stream, keys, left, now)
            if sent:
                datagrams += sent
                left -= len(sent)
                self._streams_queue.remove(stream)  # others first, the next time
                self._streams_queue.append(stream)
                if not left:
                    break
        return datagrams

    def _send_pieces(
        self, stream: QuicStream, keys: CryptoPair, most: int, now: float
    ) -> list[tuple[bytes, Any]]:
        """Up to `most` full packets of a stream's first range that waits to be sent."""
        sender, number = stream.sender, stream.stream_id or 0
        if not len(sender._pending):
            return []
        at, until = sender._pending[0].start, sender._pending[0].stop
        until = min(until, stream.max_stream_data_remote)
        until = min(until, sender.highest_offset + self._remote_max_data - self._remote_max_data_used)
        begin, space = at, self._spaces[Epoch.ONE_RTT]
        frame = bytes((STREAM_WITH_OFFSET,)) + _as_variable(number)
        room = self._max_datagram_size - HEADER_BYTES - TAG_BYTES - len(frame)
        first = SHORT_HEADER | keys.key_phase << 2 | 1
        headers: list[bytes] = []
        sealed: list[bytes] = []
        packets: list[BulkPacket] = []
        start = bytes((first,)) + self._peer_cid.cid
        assert keys.send.aead is not None
        encrypt, packet_number = keys.send.aead.encrypt, self._packet_number
        with memoryview(sender._buffer) as view:
            while len(sealed) < most:
                offset = _as_variable(at)
                stop = at + room - len(offset)
                if stop > until or stop == sender._buffer_fin:
                    break
                begins = at - sender._buffer_start
                header = start + (packet_number & 0xFFFF).to_bytes(2, "big")
                plain = b"".join((frame, offset, view[begins : begins + stop - at]))
                sealed.append(encrypt(plain, header, packet_number))
                headers.append(header)
                packets.append(BulkPacket(packet_number, self._max_datagram_size, now, sender, at, stop))
                packet_number += 1
                at = stop
        if not sealed:
            return []
        self._packet_number = packet_number
        self._book(stream, packets, begin, at, now, space)
        addr = self._network_paths[0].addr
        return [(datagram, addr) for datagram in _protect(keys, headers, sealed)]

    def _book(
        self,
        stream: QuicStream,
        packets: list[BulkPacket],
        start: int,
        stop: int,
        now: float,
        space: QuicPacketSpace,
    ) -> None:
        """Write down what was sent, as aioquic would have."""
        sender = stream.sender
        sender._pending.subtract(start, stop)
        if stop > sender.highest_offset:
            self._remote_max_data_used += stop - sender.highest_offset
            sender.highest_offset = stop
        count = len(packets) * self._max_datagram_size
        self._recovery.sent(packets, count, now, space)
        self._network_paths[0].bytes_sent += count
        if not self._ack_eliciting_sent_since_receipt:
            self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = True

    # --- in aioquic's place

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._supported_groups = [Group.X25519]  # a client makes a key for each: one will do

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buffer = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buffer.push_uint_var(stream.stream_id or 0)
        buffer.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local


def _variable(data: bytes, at: int, size: int) -> tuple[int, int]:
    """An integer of RFC 9000 16 and where it ends; beyond `size` when it does not fit."""
    if at >= size:
        return 0, size + 1
    first = data[at]
    if first < 0x40:
        return first, at + 1
    end = at + (1 << (first >> 6))
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end


def _as_variable(value: int) -> bytes:
    """An integer as RFC 9000 16 has it, in four or eight bytes when it is large."""
    if value < 0x40:
        return bytes((value,))
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")


def _protect(keys: CryptoPair, headers: list[bytes], sealed: list[bytes]) -> list[bytes]:
    """Header protection (RFC 9001 5.4): with AES one call for all."""
    hide = keys.send.hp
    assert hide is not None
    samples = [body[2 : 2 + SAMPLE_BYTES] for body in sealed]  # two bytes of packet number come before
    if hide._is_chacha20:
        masks = [hide._mask(sample) for sample in samples]
    else:
        whole = hide._encryptor.update(b"".join(samples))
        masks = [whole[at : at + 5] for at in range(0, len(whole), SAMPLE_BYTES)]
    return [
        b"%c%b%c%c%b"
        % (header[0] ^ (mask[0] & 0x1F), header[1:ID_END], header[9] ^ mask[1], header[10] ^ mask[2], body)
        for header, mask, body in zip(headers, masks, sealed, strict=True)
    ]
