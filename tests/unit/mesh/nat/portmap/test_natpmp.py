import pytest

from mesh.errors import WireError
from mesh.nat.portmap.model import Alive, Answer, ExternalHost, Mapped, Refusal, Removed, Transport
from mesh.nat.portmap.natpmp import NatPmp, encode_address_request, encode_map

NAT_PMP = NatPmp(7077)


def response(opcode: int, result: int = 0, *fields: tuple[int, int]) -> bytes:
    """Fields after the header: value and size."""
    head = bytes([0, 0x80 | opcode]) + result.to_bytes(2) + (99).to_bytes(4)
    return head + b"".join(value.to_bytes(size) for value, size in fields)


def mapping(opcode: int = 2, internal: int = 7077, external: int = 40000, lease_s: int = 7200) -> bytes:
    return response(opcode, 0, (internal, 2), (external, 2), (lease_s, 4))


def test_requests_byte_by_byte() -> None:
    """RFC 6886 3.2, 3.3 and 3.4."""
    assert encode_address_request() == b"\0\0"
    assert encode_map(Transport.UDP, 7077, 7200, 7078) == (
        b"\0\1\0\0" + (7077).to_bytes(2) + (7078).to_bytes(2) + (7200).to_bytes(4)
    )
    assert encode_map(Transport.TCP, 7077, 7200)[1] == 2
    assert NAT_PMP.remove(Transport.TCP) == b"\0\2\0\0" + (7077).to_bytes(2) + bytes(6)


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (mapping(), Mapped(Transport.TCP, 7077, 40000, "", 7200.0)),
        (mapping(opcode=1), Mapped(Transport.UDP, 7077, 40000, "", 7200.0)),
        (mapping(external=0, lease_s=0), Removed(Transport.TCP, 7077)),
        (response(0, 0, (0xCB007107, 4)), ExternalHost("203.0.113.7")),
        (response(0, 3), Refusal(None, "its own network is down", look=True)),
        (response(1, 2), Refusal(Transport.UDP, "it does not allow it")),
        (response(2, 4, (7077, 2), (0, 2), (0, 4)), Refusal(Transport.TCP, "it has no resources left")),
        (response(2, 77), Refusal(Transport.TCP, "error 77")),
        (response(2, 1), Refusal(Transport.TCP, "it does not speak this version", version=True)),
        (response(5), Alive()),
    ],
)
def test_answers(data: bytes, content: object) -> None:
    assert NAT_PMP.parse_untrusted(data) == Answer(content, 99)  # type: ignore[arg-type]  # one of them


@pytest.mark.parametrize(
    "data",
    [
        b"",
        mapping()[:7],
        mapping()[:15],
        response(0, 0, (0, 2)),
        b"\2" + mapping()[1:],
        b"\0\2" + mapping()[2:],  # a request
        mapping(internal=7078),
        mapping(external=0),
        mapping() + bytes(64),
    ],
)
def test_what_is_no_answer_to_us(data: bytes) -> None:
    with pytest.raises(WireError):
        NAT_PMP.parse_untrusted(data)
