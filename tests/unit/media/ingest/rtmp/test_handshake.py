"""The simple and the digest handshake, from both ends."""

import hmac
from random import Random

import pytest

from media.errors import WireError
from media.ingest.rtmp import handshake
from media.ingest.rtmp.handshake import PART_BYTES, ClientHandshake, ServerHandshake, find_digest, with_digest

PLAYER_KEY, SERVER_KEY = handshake._PLAYER_KEY, handshake._SERVER_KEY


@pytest.mark.parametrize("step", [1, 7, 1000, 1536, 4000])
def test_simple_handshake_in_pieces(step: int) -> None:
    server, client = ServerHandshake(Random(1)), ClientHandshake(Random(2))
    replies = b"".join(
        server.receive(client.hello[at : at + step]) for at in range(0, len(client.hello), step)
    )
    assert replies[0] == 3
    assert replies[1 + PART_BYTES :] == client.hello[1:]  # S2 echoes C1
    c2 = b"".join(client.receive(replies[at : at + step]) for at in range(0, len(replies), step))
    assert client.done
    assert c2 == replies[1 : 1 + PART_BYTES]
    tail = c2 + b"first chunk"
    for at in range(0, len(tail), step):
        if not server.done:
            assert server.receive(tail[at : at + step]) == b""
    assert server.done
    assert b"first chunk".startswith(server.rest)
    assert not server.digest


@pytest.mark.parametrize("scheme", [0, 1])
def test_digest_handshake(scheme: int) -> None:
    c1 = with_digest(b"\0\0\0\0\x80\0\x07\x02" + Random(5).randbytes(PART_BYTES - 8), scheme, PLAYER_KEY[:30])
    server = ServerHandshake(Random(1))
    reply = server.receive(b"\x03" + c1)
    assert server.digest
    s1, s2 = reply[1 : 1 + PART_BYTES], reply[1 + PART_BYTES :]
    assert s1[4:8] != bytes(4)
    assert find_digest(s1, scheme, SERVER_KEY) is not None
    client_digest = find_digest(c1, scheme, PLAYER_KEY)
    assert client_digest is not None
    key = hmac.digest(SERVER_KEY + handshake._COMMON, client_digest, "sha256")
    assert s2[-32:] == hmac.digest(key, s2[:-32], "sha256")


def test_a_version_without_a_digest_falls_back_to_the_simple_form() -> None:
    c1 = b"\0\0\0\0\x0a\0\0\0" + Random(5).randbytes(PART_BYTES - 8)
    server = ServerHandshake(Random(1))
    assert server.receive(b"\x03" + c1)[1 + PART_BYTES :] == c1
    assert not server.digest


def test_scheme_offsets_stay_inside_the_part() -> None:
    for scheme in (0, 1):
        part = b"\xff" * PART_BYTES
        assert len(with_digest(part, scheme, PLAYER_KEY)) == PART_BYTES


@pytest.mark.parametrize(
    ("first", "text"),
    [(b"\x06", "RTMPE"), (b"\x16\x03\x01", "TLS"), (b"GET / HTTP/1.1", "HTTP"), (b"\x00", "version 0")],
)
def test_what_is_not_rtmp_is_named(first: bytes, text: str) -> None:
    with pytest.raises(WireError, match=text):
        ServerHandshake(Random(1)).receive(first)
