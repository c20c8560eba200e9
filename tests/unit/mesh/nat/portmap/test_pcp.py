import pytest

from mesh.errors import WireError
from mesh.nat.portmap.model import Alive, Answer, Mapped, Refusal, Removed, Transport
from mesh.nat.portmap.pcp import (
    MESSAGE_BYTES_MAX,
    Pcp,
    encode_announce,
    encode_map,
    parse_response_untrusted,
)

CLIENT = "192.168.1.2"
NONCE = b"0123456789ab"
HOST = bytes(10) + b"\xff\xff" + bytes([203, 0, 113, 7])
PCP = Pcp(CLIENT, 7077, NONCE)


def response(
    *,
    opcode: int = 1,
    result: int = 0,
    lease_s: int = 7200,
    epoch_s: int = 99,
    nonce: bytes = NONCE,
    protocol: int = 6,
    internal: int = 7077,
    external: int = 40000,
    host: bytes = HOST,
) -> bytes:
    head = bytes([2, 0x80 | opcode, 0, result]) + lease_s.to_bytes(4) + epoch_s.to_bytes(4) + bytes(12)
    if opcode != 1:
        return head
    return head + nonce + bytes([protocol, 0, 0, 0]) + internal.to_bytes(2) + external.to_bytes(2) + host


def test_a_map_request_byte_by_byte() -> None:
    """RFC 6887 7.1 and 11.1."""
    assert encode_map(CLIENT, NONCE, Transport.UDP, 7077, 7200, 7078, "203.0.113.7") == (
        bytes([2, 1, 0, 0])
        + (7200).to_bytes(4)
        + bytes(10) + b"\xff\xff" + bytes([192, 168, 1, 2])
        + NONCE
        + bytes([17, 0, 0, 0])
        + (7077).to_bytes(2)
        + (7078).to_bytes(2)
        + HOST
    )  # fmt: skip


def test_a_removal_suggests_nothing() -> None:
    """RFC 6887 15: a lifetime of zero, and the suggestions are zero too."""
    data = PCP.remove(Transport.TCP)
    assert len(data) == 60
    assert data[4:8] == bytes(4)
    assert data[42:44] == bytes(2)
    assert data[44:] == bytes(10) + b"\xff\xff" + bytes(4)


def test_an_announce_request() -> None:
    assert PCP.look() == encode_announce(CLIENT)
    assert len(PCP.look()) == 24
    assert PCP.look()[:2] == b"\x02\x00"


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (response(), Mapped(Transport.TCP, 7077, 40000, "203.0.113.7", 7200.0)),
        (response(protocol=17, lease_s=1), Mapped(Transport.UDP, 7077, 40000, "203.0.113.7", 1.0)),
        (response(host=bytes(15) + b"\1"), Mapped(Transport.TCP, 7077, 40000, "", 7200.0)),
        (response(lease_s=0), Removed(Transport.TCP, 7077)),
        (response(opcode=0, lease_s=0), Alive()),
        (response(opcode=2), Alive()),
        (
            response(result=2, lease_s=30),
            Refusal(Transport.TCP, "it does not allow it", retry_after_s=30.0),
        ),
        (response(result=200, lease_s=0), Refusal(Transport.TCP, "error 200")),
        (response(opcode=0, result=4, lease_s=0), Refusal(None, "it does not know the operation", look=True)),
        (response(result=3, lease_s=0)[:24], Refusal(None, "it calls the request malformed")),
        (
            response(result=1, lease_s=0),
            Refusal(Transport.TCP, "it does not speak this version", version=True),
        ),
        (response() + b"\2\0\0\1\7\0\0\0", Mapped(Transport.TCP, 7077, 40000, "203.0.113.7", 7200.0)),
    ],
)
def test_answers(data: bytes, content: object) -> None:
    assert PCP.parse_untrusted(data) == Answer(content, 99)  # type: ignore[arg-type]  # one of them


def test_a_router_that_speaks_only_nat_pmp() -> None:
    """RFC 6886 3.5: version 0, result 1; eight bytes."""
    answer = PCP.parse_untrusted(bytes([0, 0x81, 0, 1, 0, 0, 0, 9]))
    assert isinstance(answer.content, Refusal)
    assert answer.content.version
    assert answer.epoch_s is None  # of another protocol's clock


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(24),
        response()[:23],
        response()[:56],
        response()[:59],
        response()[:24],  # success without its mapping
        b"\3" + response()[1:],
        b"\2\1" + response()[2:],  # a request
        response(nonce=b"x" * 12),
        response(internal=7078),
        response(protocol=132),
        response(external=0),
        response() + b"\2\0\0\5\0\0\0\0",  # an option that ends after the message
        response() + b"\0\0\0\0" * 17,
        response() + bytes(MESSAGE_BYTES_MAX),
    ],
)
def test_what_is_no_answer_to_us(data: bytes) -> None:
    with pytest.raises(WireError):
        PCP.parse_untrusted(data)


def test_the_fields_of_a_response() -> None:
    parsed = parse_response_untrusted(response(result=8, epoch_s=2**32 - 1))
    assert (parsed.opcode, parsed.result, parsed.lifetime_s, parsed.epoch_s) == (1, 8, 7200, 2**32 - 1)
    assert parsed.map is not None
    assert (parsed.map.protocol, parsed.map.internal_port, parsed.map.external_port) == (6, 7077, 40000)
