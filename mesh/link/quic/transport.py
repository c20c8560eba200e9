"""One QUIC connection without I/O: aioquic's, with windows that follow the reader and a short way for bulk.

aioquic raises a stream's window by what has arrived, whoever reads it: a slow reader would fill the memory.
Here windows are raised by what was read. And packets that only carry a piece of a stream, or acknowledge
such, which is nearly all of them, are made and taken apart here with the keys and the books of aioquic, in a
fraction of the time; all others are left to it. That takes attributes and methods that aioquic does not
publish: its version is pinned, and the tests of this room fail when one of them changes.
"""

from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicFrameType, QuicPacketType, push_ack_frame
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch, Group

from mesh.link.quic.inbox import Stream
from mesh.link.quic.mtu import BASE_BYTES, SILENT_TIMEOUTS, PathMtu
from mesh.link.quic.packet import (
    CONNECTION_ID_BYTES,
    FORM_MASK,
    ID_END,
    OVERHEAD_BYTES,
    SAMPLE_AT,
    SAMPLE_BYTES,
    SHORT_HEADER,
    CryptoError,
    as_variable,
    seal,
    unseal_untrusted,
    variable_untrusted,
)
from mesh.link.quic.recovery import BulkPacket, Recovery

STREAM_WINDOW_BYTES = 1 << 20  # of a stream that is read as fast as it comes: 80 Mb/s at 100 ms
FIRST_WINDOW_BYTES = 64 << 10  # of any stream, however slowly it is read
SHARED_WINDOW_BYTES = 8 << 20  # what all streams of a connection have beside their first windows
STREAMS_MAX = 64  # that each side may have open at a time
SEND_BUFFER_BYTES = 1 << 20  # of a stream, written and not yet acknowledged: its window's size, to fill that

ACK_PACKETS = 10  # that are acknowledged together; the first window's
ACK_DELAY_S = 0.005  # of fewer; below the 25 ms that every peer allows for (RFC 9000 18.2)
KEY_PACKETS = 1 << 22  # sealed with one key: half of what AES-GCM is good for (RFC 9001 6.6)
STREAM_WITH_OFFSET = 0x0C  # RFC 9000 19.8: to the end of the packet


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
        self._ack_delay = ACK_DELAY_S
        self._owed = 0  # packets to be acknowledged
        self._sealed = 0  # packets since the keys changed
        self._heard_at = 0.0
        self._mtu = PathMtu()
        self._sized: Any = None  # the path whose size that is

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
            not self._is_plain()
            or data[0] & FORM_MASK != SHORT_HEADER
            or len(data) < SAMPLE_AT + SAMPLE_BYTES
            or data[1:ID_END] != self.host_cid
            or addr != self._network_paths[0].addr
            or not self._receive_short(data, now)
        ):
            super().receive_datagram(data, addr, now)

    def _is_plain(self) -> bool:
        """Whether the connection is past its handshake, on a path that was validated, and not ending."""
        return (
            self._handshake_confirmed
            and self._state is QuicConnectionState.CONNECTED
            and not self._close_pending
            and self._network_paths[0].is_validated
        )

    def _receive_short(self, data: bytes, now: float) -> bool:
        """A packet on the path that is used. False: it is for aioquic, nothing was done."""
        space = self._spaces[Epoch.ONE_RTT]
        try:
            found = unseal_untrusted(self._cryptos[Epoch.ONE_RTT].recv, data, space.expected_packet_number)
        except CryptoError:
            return True  # forged or damaged: dropped
        if found is None:
            return False
        number, plain = found
        if number in space.received_packets:
            return True
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        eliciting = self._take_frames(plain, now)
        if eliciting is None:
            return True
        if now != self._heard_at:
            self._heard_at, self._close_at = now, now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if eliciting:
            self._owe_acknowledgement(number != space.largest_received_packet + 1, space, now)
        if number > space.largest_received_packet:
            space.largest_received_packet, space.largest_received_time = number, now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        return True

    def _owe_acknowledgement(self, gap: bool, space: QuicPacketSpace, now: float) -> None:
        """Soon, or now: after a gap (RFC 9000 13.2.1), or when many are owed."""
        self._owed += 1
        if gap or self._owed >= ACK_PACKETS:
            space.ack_at = 0.0
        elif space.ack_at is None:
            space.ack_at = now + ACK_DELAY_S

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
        number, at = variable_untrusted(plain, at, size)
        offset, at = variable_untrusted(plain, at, size) if kind & 4 else (0, at)
        length, at = variable_untrusted(plain, at, size) if kind & 2 else (size - at, at)
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
        """As aioquic's: first what is only pieces of streams or acknowledgements, then all else."""
        if not self._network_paths:
            return []  # a server that has heard nothing
        sent: list[bytes] = []
        if self._is_plain() and not self._probe_pending:
            keys = self._cryptos[Epoch.ONE_RTT]
            if not keys._update_key_requested and len(self._peer_cid.cid) == CONNECTION_ID_BYTES:
                sent = self._send_short(keys, now)
                if not self._has_more(now):
                    return self._addressed(sent)
        for space in self._spaces.values():
            if space.ack_at == now:
                space.ack_at = (
                    0.0  # aioquic takes it for due only after that moment, and would wake until then
                )
        return self._addressed(sent) + super().datagrams_to_send(now)

    def _addressed(self, datagrams: list[bytes]) -> list[tuple[bytes, Any]]:
        addr = self._network_paths[0].addr
        return [(data, addr) for data in datagrams]

    def _send_short(self, keys: CryptoPair, now: float) -> list[bytes]:
        """Pieces of streams, as many as the window and the pacer let go, and an acknowledgement."""
        self._watch_size(now)
        sent = self._send_probe_of_size(keys, now)
        window, pacer = self._recovery.window, self._recovery.pacer
        left = (window.congestion_window - window.bytes_in_flight) // self._max_datagram_size
        waiting = [stream for stream in self._streams_queue if _may_send(stream)] if left > 0 else []
        if waiting:
            left = min(left, pacer.packets(now))
        for stream in waiting:
            if left <= 0:
                break
            pieces = self._send_pieces(stream, keys, left, now)
            if pieces:
                sent += pieces
                left -= len(pieces)
                self._streams_queue.remove(stream)  # others first, the next time
                self._streams_queue.append(stream)
        space = self._spaces[Epoch.ONE_RTT]
        if space.ack_at is not None and space.ack_at <= now:
            sent += self._send_acknowledgement(keys, space, now)
        return sent

    def _send_pieces(self, stream: QuicStream, keys: CryptoPair, most: int, now: float) -> list[bytes]:
        """Up to `most` packets of a stream's first range that waits to be sent."""
        sender = stream.sender
        begin, end = sender._pending[0].start, sender._pending[0].stop
        until = min(
            end,
            stream.max_stream_data_remote,
            sender.highest_offset + self._remote_max_data - self._remote_max_data_used,
        )
        frame = bytes((STREAM_WITH_OFFSET,)) + as_variable(stream.stream_id or 0)
        room = self._max_datagram_size - OVERHEAD_BYTES - len(frame)
        plains: list[bytes] = []
        packets: list[BulkPacket] = []
        at, number, base = begin, self._packet_number, sender._buffer_start
        with memoryview(sender._buffer) as view:
            while len(plains) < most and at < until:
                offset = as_variable(at)
                stop = min(at + room - len(offset), until)
                if stop == sender._buffer_fin:
                    break  # the end has to be said with it
                plain = b"".join((frame, offset, view[at - base : stop - base]))
                packets.append(BulkPacket(number, len(plain) + OVERHEAD_BYTES, now, sender, at, stop))
                plains.append(plain)
                number += 1
                at = stop
        if not plains:
            return []
        datagrams = seal(keys, self._peer_cid.cid, self._packet_number, plains)
        self._packet_number = number
        sender._pending.subtract(begin, at)
        if at > sender.highest_offset:
            self._remote_max_data_used += at - sender.highest_offset
            sender.highest_offset = at
        if not len(sender._pending) and not sender._pending_eof:
            sender.buffer_is_empty = True
        self._book(packets, sum(map(len, datagrams)), now)
        return datagrams

    def _book(self, packets: list[BulkPacket], count: int, now: float) -> None:
        """Write down what was sent, as aioquic would have."""
        self._recovery.sent(packets, count, now, self._spaces[Epoch.ONE_RTT])
        self._network_paths[0].bytes_sent += count
        if not self._ack_eliciting_sent_since_receipt:
            self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = True
        self._sealed += len(packets)
        if self._sealed >= KEY_PACKETS:
            self._sealed = 0
            self.request_key_update()

    def _send_acknowledgement(self, keys: CryptoPair, space: QuicPacketSpace, now: float) -> list[bytes]:
        """One packet with nothing else in it."""
        self._owed = 0
        space.ack_at = None
        if not len(space.ack_queue):
            return []
        delay = int((now - (space.largest_received_time or now)) * 1e6) >> self._local_ack_delay_exponent
        room = self._max_datagram_size - OVERHEAD_BYTES
        buffer = Buffer(capacity=room)
        buffer.push_uint_var(QuicFrameType.ACK)
        push_ack_frame(buffer, space.ack_queue, max(0, delay), room - 1)
        datagrams = seal(keys, self._peer_cid.cid, self._packet_number, [buffer.data])
        handler = (self._on_ack_delivery, (space, space.largest_received_packet))
        self._book_other(handler, len(datagrams[0]), now, eliciting=False)
        return datagrams

    def _send_probe_of_size(self, keys: CryptoPair, now: float) -> list[bytes]:
        """A datagram that finds out whether the path carries its size."""
        size = self._mtu.due(now)
        if not size:
            return []
        plain = bytes((QuicFrameType.PING,)).ljust(size - OVERHEAD_BYTES, bytes((QuicFrameType.PADDING,)))
        datagrams = seal(keys, self._peer_cid.cid, self._packet_number, [plain])
        self._book_other((self._on_probe_of_size, (size,)), size, now, eliciting=True)
        return datagrams

    def _on_probe_of_size(self, delivery: QuicDeliveryState, size: int) -> None:
        if delivery is QuicDeliveryState.ACKED:
            self._mtu.arrived(size, self._heard_at)
        else:
            self._mtu.lost(self._heard_at)

    def _watch_size(self, now: float) -> None:
        """Keep to the size that the path carries."""
        addr = self._network_paths[0].addr
        if addr != self._sized:
            self._sized, self._mtu = addr, PathMtu()
        elif self._mtu.size > BASE_BYTES and self._recovery.timeouts >= SILENT_TIMEOUTS:
            self._mtu.suspect(now)
        if self._mtu.size != self._max_datagram_size:
            self._max_datagram_size = self._mtu.size
            self._recovery.resize(self._mtu.size)

    def _book_other(self, handler: tuple[Any, Any], size: int, now: float, *, eliciting: bool) -> None:
        """Write down a packet that the window does not count."""
        space = self._spaces[Epoch.ONE_RTT]
        space.sent_packets[self._packet_number] = QuicSentPacket(
            epoch=Epoch.ONE_RTT,
            in_flight=False,
            is_ack_eliciting=eliciting,
            is_crypto_packet=False,
            packet_number=self._packet_number,
            packet_type=QuicPacketType.ONE_RTT,
            sent_time=now,
            sent_bytes=size,
            delivery_handlers=[handler],
        )
        space.ack_eliciting_in_flight += eliciting
        self._packet_number += 1
        self._network_paths[0].bytes_sent += size

    def _has_more(self, now: float) -> bool:
        """Whether aioquic has anything to send. What only waits for the pacer is waited for here."""
        self._pacing_at = None
        streams = self._streams_queue
        if any(map(_is_waiting, streams)):
            window = self._recovery.window
            if window.congestion_window - window.bytes_in_flight >= self._max_datagram_size:
                self._pacing_at = self._recovery.pacer.next_send_time(now)
                if self._pacing_at is None:
                    return True
        return (
            self._handshake_done_pending
            or self._streams_blocked_pending
            or bool(self._ping_pending or self._retire_connection_ids or self._datagrams_pending)
            or any(map(_wants_more, streams))
            or any(path.remote_challenges or _is_new(path) for path in self._network_paths)
            or not all(own.was_sent for own in self._host_cids)
            or any(
                limit.value != limit.sent for limit in (self._local_max_data, self._local_max_streams_bidi)
            )
            or not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
        )

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


def _is_waiting(stream: QuicStream) -> bool:
    """Whether a stream has something to send, or to send again."""
    return not stream.sender.buffer_is_empty and not stream.is_blocked


def _may_send(stream: QuicStream) -> bool:
    """Whether pieces of a stream may be sent, as far as itself is concerned."""
    sender = stream.sender
    return (
        not sender.buffer_is_empty
        and not stream.is_blocked
        and sender._reset_error_code is None
        and len(sender._pending) > 0
    )


def _wants_more(stream: QuicStream) -> bool:
    """Whether there is something to say of a stream that is no piece of it."""
    return (
        stream.max_stream_data_local != stream.max_stream_data_local_sent
        or stream.receiver.stop_pending
        or stream.sender.reset_pending
        or stream.is_finished
    )


def _is_new(path: QuicNetworkPath) -> bool:
    """Whether a path has to be asked whether it works."""
    return not (path.is_validated or path.local_challenge_sent)
