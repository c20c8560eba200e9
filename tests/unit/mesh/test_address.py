"""Numeric addresses have one spelling; what is no host's address has none."""

import pytest

from mesh.address import numeric_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.5:7077", "203.0.113.5:7077"),
        ("[2001:DB8:0::5]:7077", "[2001:db8::5]:7077"),
        ("[::ffff:203.0.113.5]:7077", "203.0.113.5:7077"),
        ("[fe80::1%eth0]:7077", "[fe80::1]:7077"),
        ("127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_one_spelling(text: str, address: str) -> None:
    assert numeric_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "203.0.113.5",
        "203.0.113.5:0",
        "203.0.113.5:65536",
        "203.0.113.05:1",
        "relay.example.org:7077",
        "2001:db8::5:7077",
        "0.0.0.0:7077",
        "[::]:7077",
        "224.0.0.1:7077",
        "[ff02::1]:7077",
        "255.255.255.255:7077",
        "[::ffff:0.0.0.0]:7077",
    ],
)
def test_none(text: str) -> None:
    assert numeric_address(text) == ""
