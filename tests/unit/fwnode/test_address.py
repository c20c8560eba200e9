"""Addresses in settings."""

import pytest

from fwnode.address import Address, is_loopback, parse_address


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::1]:0", "localhost:7078", "[fe80::1]:65535"])
def test_addresses_come_back_as_written(text: str) -> None:
    assert str(parse_address(text)) == text


def test_no_host_is_every_interface() -> None:
    assert parse_address(":8080") == Address("0.0.0.0", 8080)
    assert parse_address(":8080").wildcard


@pytest.mark.parametrize(
    "text", ["", "80", "host", "host:", "host:x", "h:65536", "::1:80", "[x]:1", "a b:1", "u@h:1"]
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


def test_loopback() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", ""):
        assert not is_loopback(host), host
