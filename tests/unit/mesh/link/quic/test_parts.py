"""Small parts: what was not read, a stream's header, variable integers, what is relied on of aioquic."""

import inspect
from random import Random

import pytest
from aioquic.quic import connection, recovery, stream
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair

from mesh.errors import WireError
from mesh.identity.key import SecretKey
from mesh.link.hello import ARGUMENT_BYTES_MAX, LENGTH_BYTES, TEXT_LENGTH_MAX
from mesh.link.quic.header import HEADER_BYTES_MAX, StreamHeader, pack_header, parse_header_untrusted
from mesh.link.quic.inbox import JOINED_BYTES_MAX, SMALL_CHUNK_BYTES, Stream
from mesh.link.quic.machine import Configuration, Machine
from mesh.link.quic.opening import (
    FIRST_BYTES_MIN,
    Budget,
    Seen,
    _crypto_of,
    destination_of,
    look_untrusted,
    server_name_untrusted,
)
from mesh.link.quic.packet import as_variable, variable_untrusted
from mesh.link.quic.transport import Transport


@pytest.mark.parametrize("size", [1, SMALL_CHUNK_BYTES - 1, SMALL_CHUNK_BYTES, 1400])
@pytest.mark.parametrize("read", [1, 7, 1399, 1 << 20])
def test_what_was_put_is_taken(size: int, read: int) -> None:
    inbox = Stream(0, opened_by_peer=True)
    whole = bytes(range(256)) * 20
    for at in range(0, len(whole), size):
        inbox.put(whole[at : at + size])
        inbox.put(b"")
    assert inbox.size == len(whole)
    got = bytearray()
    buffer = bytearray(read)
    while inbox.size:
        if len(got) % 2:
            got += inbox.take(read)
        else:
            got += buffer[: inbox.take_into(memoryview(buffer))]
    assert got == whole
    assert inbox.take(5) == b"" and not inbox.chunks


def test_small_pieces_are_joined() -> None:
    inbox = Stream(0, opened_by_peer=True)
    for _ in range(JOINED_BYTES_MAX):
        inbox.put(b"x")
    assert len(inbox.chunks) <= 2


@pytest.mark.parametrize(
    ("purpose", "argument"),
    [("x", b""), ("feed", b"\0\1"), ("\U0001f600" * TEXT_LENGTH_MAX, bytes(ARGUMENT_BYTES_MAX))],
)
def test_a_header_comes_back(purpose: str, argument: bytes) -> None:
    data = pack_header(purpose, argument)
    assert len(data) <= LENGTH_BYTES + HEADER_BYTES_MAX
    assert parse_header_untrusted(data[LENGTH_BYTES:]) == StreamHeader(purpose, argument)


def test_a_headers_purpose_is_fit_to_show() -> None:
    assert parse_header_untrusted(pack_header("a\nb", b"")[LENGTH_BYTES:]).purpose == "a?b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        bytes(HEADER_BYTES_MAX + 1),
        b"\x92\xa1\xff\xc4\0",
        b"\x92\x01\x02",
        pack_header("x", bytes(ARGUMENT_BYTES_MAX))[LENGTH_BYTES:].replace(b"\xc5\x04\0", b"\xc5\x04\1")
        + b"\0",
        b"\x91" * 500,
    ],
)
def test_bad_headers(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_header_untrusted(data)


@pytest.mark.parametrize("value", [0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1])
def test_variable_integers(value: int) -> None:
    data = as_variable(value)
    assert variable_untrusted(b"xx" + data + b"yy", 2, 4 + len(data)) == (value, 2 + len(data))
    assert variable_untrusted(data[:-1], 0, len(data) - 1)[1] > len(data) - 1


def test_a_short_variable_integer() -> None:
    assert variable_untrusted(b"\x7b\xbd", 0, 2) == (15293, 2)  # RFC 9000 A.1


def test_a_budget() -> None:
    budget = Budget(10.0, 5.0)
    assert [budget.take(1.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.take(1.1) and not budget.take(1.1)
    assert [budget.take(100.0) for _ in range(6)] == [True] * 5 + [False]


def test_aioquic_still_has_what_is_put_in_its_place_or_used() -> None:
    """Not published: a new version of aioquic is only taken when this and the tests beside it pass."""
    for name in ("_initialize", "_write_stream_limits", "receive_datagram", "datagrams_to_send"):
        ours = inspect.signature(getattr(Transport, name))
        theirs = inspect.signature(getattr(QuicConnection, name))
        assert list(ours.parameters) == list(theirs.parameters), name
    source = inspect.getsource(connection)
    for called in ("self._write_stream_limits(", "self._loss._pacer.", "self._loss.on_ack_received("):
        assert called in source, called
    wanted = {
        recovery: ("_cc", "_pacer", "_time_of_last_sent_ack_eliciting_packet", "ack_eliciting_in_flight"),
        stream: (
            "_buffer_start",
            "_buffer_stop",
            "_buffer_fin",
            "_pending",
            "_final_size",
            "_reset_error_code",
        ),
        connection: ("_streams_queue", "_handshake_confirmed", "_ack_eliciting_sent_since_receipt"),
    }
    for module, names in wanted.items():
        assert all(f"self.{name}" in inspect.getsource(module) for name in names)


def first_packet(plain: bytes, destination: bytes = b"12345678") -> bytes:
    """What a client sends first, with these frames in it."""
    pair = CryptoPair()
    pair.setup_initial(cid=destination, is_client=True, version=1)
    length = len(plain) + 2 + 16
    header = b"\xc1\0\0\0\1\x08" + destination + b"\0\0" + (length | 0x4000).to_bytes(2, "big") + b"\0\0"
    return pair.encrypt_packet(header, plain, 0).ljust(FIRST_BYTES_MIN, b"\0")


def test_a_name_is_found_in_a_first_packet_that_comes_in_pieces() -> None:
    """Other clients than aioquic cut the message up and mix its pieces."""
    machine = Machine(
        Transport(Configuration(SecretKey(bytes(32))).client("v1-name.fwnode")), dialled=True, now=1.0
    )
    machine.connect(("10.0.0.1:1", 0), 1.0)
    ((data, _path),) = machine.outputs(1.0)
    seen, first = look_untrusted(data)
    assert seen is Seen.FIRST and first is not None
    assert server_name_untrusted(data, first) == "v1-name.fwnode"
    pair = CryptoPair()
    pair.setup_initial(cid=first.destination, is_client=False, version=1)
    _header, plain, _number = pair.decrypt_packet(data[: first.size], first.encrypted_at, 0)
    message = _crypto_of(plain)
    cut = len(message) // 2
    pieces = [
        b"\x06" + as_variable(at) + as_variable(len(piece)) + piece
        for at, piece in ((cut, message[cut:]), (0, message[:cut]))
    ]
    mixed = first_packet(b"\x01\0\0" + pieces[0] + b"\0\x02\0\0\0\0" + pieces[1])
    seen, first = look_untrusted(mixed)
    assert first is not None
    assert server_name_untrusted(mixed, first) == "v1-name.fwnode"
    for wrong in (pieces[0], pieces[1], b"\x08\0", b"\x06\0", b"\x01" * 100, message):
        bad = first_packet(wrong + bytes(20))
        _seen, first = look_untrusted(bad)
        assert first is not None
        with pytest.raises(WireError):
            server_name_untrusted(bad, first)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_in_a_first_packet(seed: int) -> None:
    random = Random(seed)
    machine = Machine(
        Transport(Configuration(SecretKey(bytes(32))).client("x.fwnode")), dialled=True, now=1.0
    )
    machine.connect(("10.0.0.1:1", 0), 1.0)
    ((data, _path),) = machine.outputs(1.0)
    _seen, first = look_untrusted(data)
    assert first is not None
    pair = CryptoPair()
    pair.setup_initial(cid=first.destination, is_client=False, version=1)
    _header, plain, _number = pair.decrypt_packet(data[: first.size], first.encrypted_at, 0)
    for _ in range(150):
        changed = bytearray(plain)
        for _ in range(random.randrange(1, 4)):
            changed[random.randrange(min(len(changed), 400))] = random.randrange(256)
        damaged = first_packet(bytes(changed[: random.randrange(20, 1100)]))
        _seen, found = look_untrusted(damaged)
        assert found is not None
        try:
            server_name_untrusted(damaged, found)
        except WireError:
            pass
        at = random.randrange(60)
        look_untrusted(data[:at] + bytes([random.randrange(256)]) + data[at + 1 :])
        look_untrusted(data[: random.randrange(1, 1200)])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_in_a_variable_integer_or_a_datagram(seed: int) -> None:
    random = Random(seed)
    for _ in range(500):
        data = random.randbytes(random.randrange(1, 60))
        destination_of(data)
        assert len(destination_of(data)) <= 255
        value, end = variable_untrusted(data, 0, len(data))
        assert end > len(data) or value < 1 << 62
