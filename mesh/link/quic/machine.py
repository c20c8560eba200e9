"""One QUIC connection to a node, sans I/O: datagrams in and out, streams of bytes, why it ended. Pure.

Nothing of aioquic is seen beyond this room. aioquic draws its keys and connection ids itself.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion
from aioquic.tls import CipherSuite, load_pem_private_key, load_pem_x509_certificates
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.errors import StateError
from mesh.identity.key import SecretKey
from mesh.link.certificate import make_certificate
from mesh.link.quic.congestion import NAME as CONGESTION
from mesh.link.quic.inbox import Stream
from mesh.link.quic.transport import FIRST_WINDOW_BYTES, SEND_BUFFER_BYTES, STREAMS_MAX, Transport
from mesh.link.text import one_line

ALPN = "fwnode/1"
IDLE_S = 12.0  # as a link's: dead after this silence
KEEPALIVE_S = 5.0  # of silence on a connection whose only streams are bulk: then it pings
INITIAL_RTT_S = 0.1  # first retransmission after twice that (RFC 9002 6.2.2): most homes are nearer
CONNECTION_BYTES_MAX = 1 << 60  # no bound: the windows of its streams are
TICK_S = 1e-6  # what sums of times may be off by: a deadline is over when it is met
REASON_BYTES_MAX = 200  # of the words that close a connection

ACCESS_DENIED = QuicErrorCode.CRYPTO_ERROR + 49  # RFC 8446 6, RFC 9001 4.8: the knock was for another network
PROTOCOL_VERSION_ALERT = QuicErrorCode.CRYPTO_ERROR + 70
CONNECTION_REFUSED = int(QuicErrorCode.CONNECTION_REFUSED)
CLOSED, FAULT = 0, 1  # application error codes: nothing left to say; the peer broke the protocol

Path: TypeAlias = tuple[str, int]
"""A peer's "host:port" and the number of the socket that leads to it."""

# aioquic writes what strangers do wrong as warnings; those are told apart and counted here.
logging.getLogger("quic").setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class Ended:
    """Why a connection is over."""

    reason: str
    code: int
    by_peer: bool
    silent: bool = False


class Configuration:
    """What every connection of one node has in common."""

    def __init__(self, key: SecretKey) -> None:
        pem = make_certificate(key)
        boundary = pem.index(b"-----BEGIN PRIVATE KEY-----")
        self._certificate = load_pem_x509_certificates(pem[:boundary])[0]
        self._private_key = load_pem_private_key(pem[boundary:])
        self._server = self._make(is_client=False)

    def client(self, server_name: str) -> QuicConfiguration:
        """For one connection: the server name is the knock."""
        return self._make(is_client=True, server_name=server_name)

    def server(self) -> QuicConfiguration:
        """For all."""
        return self._server

    def _make(self, *, is_client: bool, server_name: str | None = None) -> QuicConfiguration:
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            certificate=None if is_client else self._certificate,
            private_key=None if is_client else self._private_key,
            congestion_control_algorithm=CONGESTION,
            cipher_suites=[CipherSuite.AES_128_GCM_SHA256, CipherSuite.CHACHA20_POLY1305_SHA256],
            idle_timeout=IDLE_S,
            initial_rtt=INITIAL_RTT_S,
            is_client=is_client,
            max_data=CONNECTION_BYTES_MAX,
            max_stream_data=FIRST_WINDOW_BYTES,
            server_name=server_name,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            verify_mode=0,  # ssl.CERT_NONE: the key in the certificate is compared instead
        )


class Machine:
    """One connection. `outputs` after every call; `streams` are those that anybody may still use."""

    def __init__(self, transport: Transport, *, dialled: bool, now: float) -> None:
        """`dialled` by us."""
        self.dialled = dialled
        self.ready = False  # the handshake is complete
        self.ended: Ended | None = None
        self.streams = transport.inboxes
        self.heard_at = now
        self.on_change: Callable[[], None] = lambda: None
        self._transport = transport
        self._opened: list[Stream] = []
        self._ids: list[tuple[bytes, bool]] = [(transport.host_cid, True)]
        self._writers: set[int] = set()
        self._let_go_of: set[int] = set()  # closed here, not yet forgotten by the transport
        self._closing = False

    @property
    def path(self) -> Path:
        """Where the peer is now."""
        path: Path = self._transport.get_peer_address() or ("", 0)
        return path

    @property
    def certificate(self) -> bytes | None:
        """The server's, in DER, which has proven that it has the key."""
        found = self._transport.tls._peer_certificate
        return None if found is None else found.public_bytes(Encoding.DER)

    @property
    def round_trip_s(self) -> float:
        """Smoothed, 0 before it was measured."""
        return self._transport._loss._rtt_smoothed

    # --- from outside

    def connect(self, path: Path, now: float) -> None:
        """A client begins."""
        self._transport.connect(path, now)

    def receive(self, data: bytes, path: Path, now: float) -> None:
        """A datagram that was for one of this connection's ids. Raises nothing: what is wrong ends it."""
        self.heard_at = now
        self._transport.receive_datagram(data, path, now)
        if self._transport.has_events:
            self._take_events()

    def outputs(self, now: float) -> list[tuple[bytes, Path]]:
        """Datagrams to send now."""
        sent: list[tuple[bytes, Path]] = self._transport.datagrams_to_send(now)
        self._settle()
        return sent

    def deadline(self) -> float | None:
        """When `on_deadline` is due; after `outputs` only."""
        return self._transport.get_timer()

    def on_deadline(self, now: float) -> None:
        """Time passed."""
        self._transport.handle_timer(now + TICK_S)
        self._settle()

    def take_ids(self) -> list[tuple[bytes, bool]]:
        """Connection ids that are new (True) or retired (False) since this was last asked."""
        ids, self._ids = self._ids, []
        return ids

    def take_opened(self) -> list[Stream]:
        """Streams that the peer opened since this was last asked."""
        opened, self._opened = self._opened, []
        return opened

    # --- from inside

    def open(self) -> Stream:
        """A new stream to the peer. Raises StateError when there are too many."""
        own = sum(not stream.opened_by_peer for stream in self.streams.values())
        if own >= STREAMS_MAX:
            raise StateError(f"{STREAMS_MAX} streams of this connection are open already")
        number = self._transport.get_next_available_stream_id()
        self._transport.send_stream_data(number, b"")
        stream = self.streams[number] = Stream(number, opened_by_peer=False)
        return stream

    def room(self, stream: Stream) -> int:
        """How many bytes may be written now; when there is none, `wake` tells of it."""
        room = self._transport.room(stream.number)
        if room <= 0:
            self._writers.add(stream.number)
        return room

    def write(self, stream: Stream, data: bytes | memoryview) -> None:
        """Bytes for the peer, within `room`."""
        self._transport.send_stream_data(stream.number, data)  # type: ignore[arg-type]  # it only appends them

    def consumed(self, stream: Stream, count: int) -> bool:
        """Bytes were read. True when the peer should hear of it soon."""
        return self.ended is None and self._transport.consumed(stream.number, count)

    def finish(self, stream: Stream) -> None:
        """No more will be written; what was written still goes out. No more is read."""
        if self._let_go(stream):
            if not stream.stopped:
                self._transport.send_stream_data(stream.number, b"", end_stream=True)
            self._stop(stream)

    def abandon(self, stream: Stream) -> None:
        """Cut a stream: the peer finds it broken."""
        if self._let_go(stream):
            self._transport.reset_stream(stream.number, CLOSED)
            self._stop(stream)

    def ping(self) -> None:
        """Say something, so that the peer answers."""
        self._transport.send_ping(0)

    def is_acknowledged(self) -> bool:
        """Whether all that streams were finished with has arrived."""
        return self._transport.is_acknowledged()

    def close(self, reason: str, code: int = CLOSED) -> None:
        """End the connection with a word."""
        if self.ended is None and not self._closing:
            self._closing = True
            reason = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
            self._transport.close(error_code=code, reason_phrase=reason)
            self._settle()

    def fail(self, reason: str, *, silent: bool = False) -> None:
        """It is over, without a word to the peer."""
        if self.ended is None:
            self._end(Ended(reason, CLOSED, by_peer=False, silent=silent))

    # --- parts

    def _let_go(self, stream: Stream) -> bool:
        """Nobody here uses a stream any more. True when the peer can be told."""
        if stream.closed:
            return False
        stream.closed = True
        stream.chunks.clear()
        stream.size = 0
        self.streams.pop(stream.number, None)
        self._writers.discard(stream.number)
        self._transport.forget(stream.number)
        self._let_go_of = {number for number in self._let_go_of if self._transport.knows(number)}
        self._let_go_of.add(stream.number)
        return self.ended is None and not self._closing

    def _stop(self, stream: Stream) -> None:
        if not stream.ended and not stream.broken:
            self._transport.stop_stream(stream.number, CLOSED)

    def _settle(self) -> None:
        """Take what the transport has to tell, and wake those who wait for it."""
        transport = self._transport
        self._take_events()
        if self.ended is None and (close := transport.close_event) is not None:
            self._on_end(close)
        for stream in transport.take_touched():
            stream.touched = False
            stream.wake()
        for number in list(self._writers):
            if transport.room(number) * 2 >= SEND_BUFFER_BYTES:
                self._writers.discard(number)
                self.streams[number].wake()

    def _take_events(self) -> None:
        while (event := self._transport.next_event()) is not None:
            self._on_event(event)

    def _on_event(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived():
                stream = self._about(event.stream_id)
                if stream is not None:
                    stream.put(event.data)
                    stream.ended = stream.ended or event.end_stream
                    self._transport.touch(stream)
            case events.StreamReset():
                self._break(self._about(event.stream_id), "cut by the other side")
            case events.StopSendingReceived():
                stream = self._about(event.stream_id)
                if stream is not None:
                    stream.stopped = True
                    stream.wake()
            case events.HandshakeCompleted():
                self.ready = True
                self.on_change()
            case events.ConnectionIdIssued():
                self._ids.append((event.connection_id, True))
            case events.ConnectionIdRetired():
                self._ids.append((event.connection_id, False))

    def _about(self, number: int) -> Stream | None:
        """The stream an event is about; one that the peer opened just now is new. None: closed here."""
        stream = self.streams.get(number)
        if stream is not None or number in self._let_go_of:
            return stream
        stream = self.streams[number] = Stream(number, opened_by_peer=True)
        self._opened.append(stream)
        return stream

    def _break(self, stream: Stream | None, reason: str) -> None:
        if stream is not None and not stream.broken:
            stream.broken = reason
            stream.wake()

    def _on_end(self, event: events.ConnectionTerminated) -> None:
        silent = event.reason_phrase == "Idle timeout" and event.error_code == QuicErrorCode.INTERNAL_ERROR
        reason = one_line(event.reason_phrase, REASON_BYTES_MAX)
        self._end(Ended(reason, int(event.error_code), by_peer=not (self._closing or silent), silent=silent))

    def _end(self, ended: Ended) -> None:
        self.ended = ended
        for stream in list(self.streams.values()):
            if stream.ended:
                stream.wake()
            else:
                self._break(stream, ended.reason or "the connection was closed")
        self.on_change()
