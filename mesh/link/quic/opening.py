"""The first datagram of a connection that a stranger opens: looked at before anything is kept of it. Pure.

A client of this network says so in its first datagram (the knock, as over TCP): one decryption tells it from
all others, who get a short answer or none. When many come, a client has to show first that it is where it
says it is (Retry, RFC 9000 8.1.2).
"""

from dataclasses import dataclass
from enum import Enum, auto

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_ack_frame,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from mesh.address import split_address
from mesh.errors import Refused, WireError
from mesh.link.quic.packet import CONNECTION_ID_BYTES

FIRST_BYTES_MIN = 1200  # RFC 9000 14.1
FRAMES_MAX = 64  # of a first packet: aioquic sends two, other clients some ten
LOOKS_PER_S, LOOKS_BURST = 400.0, 200.0  # first datagrams opened; at 0.1 ms each 4 % of a core
ANSWERS_PER_S, ANSWERS_BURST = 1000.0, 200.0  # short answers to strangers; at 30 us each 3 % of a core
BUSY_HANDSHAKES = 32  # under way: from there on a client shows its address first
LONG_HEADER, FIXED_BIT = 0x80, 0x40  # RFC 9000 17.2


class Seen(Enum):
    """What a datagram that belongs to no connection is."""

    NOTHING = auto()  # to be dropped
    OTHER_VERSION = auto()  # of QUIC
    FIRST = auto()  # of a client


@dataclass(frozen=True, slots=True)
class First:
    """A client's first datagram, its header only."""

    version: int
    destination: bytes
    source: bytes
    token: bytes
    size: int  # of the first packet in it
    encrypted_at: int


def destination_of(data: bytes) -> bytes:
    """The connection id that a datagram is for, b"" when it has none."""
    if data[0] & LONG_HEADER:
        return data[6 : 6 + data[5]] if len(data) > 6 else b""
    return data[1 : 1 + CONNECTION_ID_BYTES]


def look_untrusted(data: bytes) -> tuple[Seen, First | None]:
    """What a datagram is that is for no known connection. Raises nothing."""
    if len(data) < FIRST_BYTES_MIN or data[0] & (LONG_HEADER | FIXED_BIT) != LONG_HEADER | FIXED_BIT:
        return Seen.NOTHING, None
    buffer = Buffer(data=data)
    try:
        header = pull_quic_header(buffer)
    except ValueError:
        return Seen.NOTHING, None
    first = First(
        header.version or 0,
        header.destination_cid,
        header.source_cid,
        header.token,
        header.packet_length,
        buffer.tell(),
    )
    if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
        return Seen.NOTHING, None
    if header.version != QuicProtocolVersion.VERSION_1:
        return Seen.OTHER_VERSION, first
    if header.packet_type is not QuicPacketType.INITIAL or len(first.destination) < CONNECTION_ID_BYTES:
        return Seen.NOTHING, None  # RFC 9000 7.2: a client's first choice has eight bytes at least
    return Seen.FIRST, first


def server_name_untrusted(data: bytes, first: First) -> str | None:
    """The server name in a client's first packet. Raises WireError when there is none to be found."""
    pair = CryptoPair()
    pair.setup_initial(cid=first.destination, is_client=False, version=first.version)
    try:
        _header, plain, _number = pair.decrypt_packet(data[: first.size], first.encrypted_at, 0)
        hello = tls.pull_client_hello(Buffer(data=_crypto_of(plain)))
    except CryptoError:
        raise WireError("it is not QUIC") from None
    except (ValueError, AssertionError, tls.Alert):
        raise WireError("it did not knock: not a node of fwnode") from None
    return hello.server_name


def _crypto_of(plain: bytes) -> bytes:
    """The TLS message in a first packet, which must be in it as a whole. Raises ValueError."""
    buffer, parts = Buffer(data=plain), dict[int, bytes]()
    for _ in range(FRAMES_MAX):
        while not buffer.eof() and plain[buffer.tell()] == QuicFrameType.PADDING:
            end = len(plain) - len(plain[buffer.tell() :].lstrip(b"\0"))
            buffer.seek(end)
        if buffer.eof():
            break
        kind = buffer.pull_uint_var()
        if kind == QuicFrameType.CRYPTO:
            at = buffer.pull_uint_var()
            parts[at] = buffer.pull_bytes(buffer.pull_uint_var())
        elif kind == QuicFrameType.ACK:
            pull_ack_frame(buffer)
        elif kind != QuicFrameType.PING:
            raise ValueError("no such frame in a first packet")
    whole = b""
    for at in sorted(parts):
        if at != len(whole):
            raise ValueError("the message is not whole")
        whole += parts[at]
    return whole


class Answers:
    """Short answers to strangers, each smaller than what it answers."""

    def __init__(self) -> None:
        self._tokens = QuicRetryTokenHandler()

    def version_negotiation(self, first: First) -> bytes:
        """RFC 9000 6.1."""
        return encode_quic_version_negotiation(
            first.destination, first.source, [QuicProtocolVersion.VERSION_1]
        )

    def refusal(self, first: First, code: int, reason: str) -> bytes:
        """Close a connection before it begins, with the keys of its first packet (RFC 9000 10.2.3)."""
        pair = CryptoPair()
        pair.setup_initial(cid=first.destination, is_client=False, version=first.version)
        builder = QuicPacketBuilder(
            host_cid=first.destination,
            is_client=False,
            max_datagram_size=FIRST_BYTES_MIN,
            peer_cid=first.source,
            version=first.version,
        )
        builder.start_packet(QuicPacketType.INITIAL, pair)
        text = reason.encode()
        buffer = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=32 + len(text))
        buffer.push_uint_var(code)
        buffer.push_uint_var(QuicFrameType.CRYPTO)
        buffer.push_uint_var(len(text))
        buffer.push_bytes(text)
        datagrams, _packets = builder.flush()
        return datagrams[0]

    def retry(self, first: First, source: str, fresh_id: bytes, now: float) -> bytes:
        """Ask for proof of the address; `fresh_id` is CONNECTION_ID_BYTES random bytes."""
        token = self._tokens.create_token(
            address=split_address(source),
            original_destination_connection_id=first.destination,
            retry_source_connection_id=fresh_id,
            now=now,
        )
        return encode_quic_retry(
            version=first.version,
            source_cid=fresh_id,
            destination_cid=first.source,
            original_destination_cid=first.destination,
            retry_token=token,
        )

    def proven_untrusted(self, first: First, source: str, now: float) -> bytes | None:
        """The connection id that the client chose before the Retry; None when it shows no good token."""
        if not first.token:
            return None
        try:
            found: bytes = self._tokens.validate_token(
                address=split_address(source), destination_cid=first.destination, token=first.token, now=now
            )
        except (ValueError, Refused):
            return None
        return found


class Budget:
    """A token bucket for work that anybody on the way can cause."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, 0.0

    def take(self, now: float) -> bool:
        """Whether one more may be done now."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
