"""From whom a request comes behind proxies (RFC 7239)."""

import pytest

from fwnode.steering.forwarded import Proxies, Seen, parse_networks
from media.deliver.http.request import FieldSet, Head, Request

TRUSTED = Proxies(parse_networks("10.0.0.0/8, 2001:db8:1::/48, ::ffff:192.0.2.0/120"))


def request(peer: str, **fields: str) -> Request:
    given = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in fields.items()}
    head = Head("GET", b"/", "1.0", FieldSet(given), keep_alive=True)
    return Request(head, b"", 0.0, peer, 9, secure=False)


def test_nobody_is_believed_who_is_not_named() -> None:
    asked = request("198.51.100.9", x_forwarded_for="203.0.113.5", forwarded="for=203.0.113.5")
    assert TRUSTED.viewer_of(asked) == Seen("198.51.100.9", secure=False)
    assert Proxies().viewer_of(request("10.0.0.1", x_forwarded_for="203.0.113.5")).host == "10.0.0.1"


@pytest.mark.parametrize(
    ("value", "viewer"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("1.2.3.4, 203.0.113.5, 10.9.9.9", "203.0.113.5"),  # the first was written by the viewer
        ("203.0.113.5:4711", "203.0.113.5"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("unknown", ""),
        ("203.0.113.5, junk", ""),
        ("10.1.1.1, 10.2.2.2", ""),
        ("", ""),
        ("203.0.113.5," * 2000 + "203.0.113.6", "203.0.113.6"),
    ],
)
def test_x_forwarded_for(value: str, viewer: str) -> None:
    assert TRUSTED.viewer_of(request("::ffff:10.0.0.1", x_forwarded_for=value)).host == viewer


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("for=203.0.113.5;proto=https;by=10.0.0.1", Seen("203.0.113.5", secure=True)),
        ('For="[2001:db8::7]:4711"', Seen("2001:db8::7", secure=False)),
        ('for=1.2.3.4, for="203.0.113.5:99";proto=http', Seen("203.0.113.5", secure=False)),
        ("for=203.0.113.5, for=10.0.0.7;proto=https", Seen("203.0.113.5", secure=True)),
        ('for="_hidden"', Seen("", secure=False)),
        ('for="a\\"b,c"', Seen("", secure=False)),
        ("for=203.0.113.5 nonsense", Seen("", secure=False)),
        (";;,,=", Seen("", secure=False)),
    ],
)
def test_forwarded(value: str, seen: Seen) -> None:
    asked = request("192.0.2.77", forwarded=value, x_forwarded_for="198.18.0.1")
    assert TRUSTED.viewer_of(asked) == seen


def test_tls_before_the_proxy() -> None:
    asked = request("2001:db8:1::5", x_forwarded_for="203.0.113.5", x_forwarded_proto="http, https")
    assert TRUSTED.viewer_of(asked) == Seen("203.0.113.5", secure=True)


def test_networks_of_settings() -> None:
    assert parse_networks("") == ()
    with pytest.raises(ValueError, match="does not appear"):
        parse_networks("proxy.example")
