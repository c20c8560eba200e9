import pytest

from mesh.errors import WireError
from mesh.nat.portmap.ssdp import TARGETS, encode_search, parse_answer_untrusted

GATEWAY = "192.168.1.1"
URL = "http://192.168.1.1:5000/rootDesc.xml"


def answer(*headers: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join((status, *headers, "", "")).encode("latin-1")


def test_a_search_is_a_request_without_a_body() -> None:
    text = encode_search(TARGETS[0]).decode()
    assert text.startswith("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n")
    assert text.endswith("ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n")
    assert "HOST: 192.168.1.1:1900\r\n" in encode_search(TARGETS[1], GATEWAY).decode()


@pytest.mark.parametrize(
    "data",
    [
        answer("ST: x", f"LOCATION: {URL}"),
        answer(f"location:{URL}"),
        answer(f"Location:   {URL}   ", status="HTTP/1.0 200"),
        answer("SERVER: gr\xfcn", f"LOCATION: {URL}"),
    ],
)
def test_the_location_on_the_gateway(data: bytes) -> None:
    assert parse_answer_untrusted(data, GATEWAY) == URL


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 100,
        answer(),
        answer(f"LOCATION: {URL}", status="NOTIFY * HTTP/1.1"),
        answer(f"LOCATION: {URL}", status="HTTP/1.1 2000 OK"),
        answer("LOCATION: http://192.168.1.99:5000/rootDesc.xml"),  # another host of the LAN
        answer("LOCATION: http://192.168.1.1@192.168.1.99/"),
        answer("LOCATION: http://192.168.1.1.example/"),
        answer("LOCATION: https://192.168.1.1/"),
        answer("LOCATION: file:///etc/passwd"),
        answer("LOCATION: http://router/"),
        answer("LOCATION: http://192.168.1.1/a b"),
        answer(f"LOCATION: {URL}{'x' * 300}"),
        answer(*["X: y"] * 100, f"LOCATION: {URL}"),
        answer(f"LOCATION: {URL}", "X: " + "y" * 5000),
    ],
)
def test_what_is_not_asked(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_answer_untrusted(data, GATEWAY)
