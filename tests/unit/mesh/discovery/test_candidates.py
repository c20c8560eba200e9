"""Which addresses are published and in which order they are dialled."""

import pytest

from mesh.directory.facts import CANDIDATES_MAX as RECORD_MAX
from mesh.discovery.candidates import (
    CANDIDATES_MAX,
    dial_order,
    is_lan,
    join_address,
    make_candidates,
    split_address_untrusted,
)
from mesh.errors import WireError


def test_a_record_holds_all_candidates() -> None:
    assert CANDIDATES_MAX == RECORD_MAX


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "node.example"])
def test_addresses_come_back(host: str) -> None:
    assert split_address_untrusted(join_address(host, 7000)) == (host, 7000)


@pytest.mark.parametrize(
    "text", ["", "host", "host:0", "host:70000", "::1:5", "[::1%eth0]:5", "a b:5", "1.2.3:5"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(WireError):
        split_address_untrusted(text)
    assert not is_lan(text)


@pytest.mark.parametrize(
    ("address", "lan"),
    [
        ("192.168.1.5:1", True),
        ("10.0.0.1:1", True),
        ("127.0.0.1:1", True),
        ("[fd00::5]:1", True),
        ("203.0.113.9:1", False),  # a laboratory's public address
        ("100.64.0.1:1", False),
        ("[2001:db8::1]:1", False),
        ("localhost:1", False),
    ],
)
def test_is_lan(address: str, lan: bool) -> None:
    assert is_lan(address) is lan


def test_configured_then_public_then_observed_then_lan() -> None:
    found = make_candidates(
        7000,
        ["192.168.1.5", "2001:db8::5", "fd00::5"],
        announced=["node.example:443", "198.51.100.7", "2001:db8::7"],
        observed=["203.0.113.9:50123", "[::ffff:203.0.113.9]:50124", "192.168.1.1:4", "nonsense"],
    )
    assert found == [
        "node.example:443",
        "198.51.100.7:7000",
        "[2001:db8::7]:7000",
        "[2001:db8::5]:7000",
        "203.0.113.9:7000",
        "192.168.1.5:7000",
        "[fd00::5]:7000",
    ]


def test_candidates_are_bounded_and_keep_each_sort() -> None:
    found = make_candidates(
        7000,
        [f"198.51.100.{i}" for i in range(1, 40)] + ["192.168.1.5"],
        announced=[f"n{i}.example:1" for i in range(40)],
        observed=[f"203.0.113.{i}:1" for i in range(1, 40)],
    )
    assert len(found) == CANDIDATES_MAX
    assert {"n0.example:1", "198.51.100.1:7000", "203.0.113.1:7000", "192.168.1.5:7000"} <= set(found)


def test_hosts_that_mean_nothing_elsewhere_are_not_published() -> None:
    assert make_candidates(7000, ["0.0.0.0", "fe80::1", "224.0.0.251", "255.255.255.255"]) == []


def test_the_same_lan_is_dialled_first_and_others_last() -> None:
    candidates = ["10.9.9.9:1", "203.0.113.9:1", "192.168.1.5:1", "node.example:1", "0.0.0.0:1", "junk"]
    assert dial_order(candidates, ["192.168.1.77"]) == [
        "192.168.1.5:1",
        "203.0.113.9:1",
        "node.example:1",
        "10.9.9.9:1",
    ]
