"""Which doors a node tells of."""

import pytest

from fwnode.setting import is_base_url
from fwnode.steering.doors import own_doors
from mesh.directory.facts import Doors, parse_fact_untrusted, payload
from mesh.errors import WireError

WILDCARD = {"http": "0.0.0.0:8080", "https": "0.0.0.0:8443", "rtmp": "0.0.0.0:1935"}


def test_a_loopback_listener_is_no_door_unless_configured() -> None:
    bound = {"http": "127.0.0.1:8080", "rtmp": "[::1]:1935"}
    assert own_doors([], bound, ["198.51.100.7"], reachable=True) == Doors([])
    assert own_doors(["http://127.0.0.1:8080/"], bound, [], reachable=False).public == [
        "http://127.0.0.1:8080"
    ]


def test_own_addresses_once_strangers_have_come() -> None:
    hosts = ["198.51.100.7", "192.168.1.4", "2001:db8::7", "fe80::1"]
    found = own_doors([], WILDCARD, hosts, reachable=True)
    assert found.public == ["http://198.51.100.7:8080", "rtmp://198.51.100.7:1935"]  # IPv4 is bound only
    assert found.lan == ["http://192.168.1.4:8080", "rtmp://192.168.1.4:1935"]
    both = own_doors([], {"http": "[::]:8080"}, hosts, reachable=True)
    assert both.public == ["http://198.51.100.7:8080", "http://[2001:db8::7]:8080"]


def test_behind_a_router_there_is_no_public_door() -> None:
    found = own_doors([], WILDCARD, ["192.168.1.4", "2001:db8::7"], reachable=False, closed="draining")
    assert found.public == [] and found.closed == "draining"
    assert found.lan == ["http://192.168.1.4:8080", "rtmp://192.168.1.4:1935"]


def test_what_is_configured_comes_in_place_of_what_is_found() -> None:
    found = own_doors(["https://Live.Example"], WILDCARD, ["198.51.100.7"], reachable=True)
    assert found.public == ["https://live.example", "rtmp://198.51.100.7:1935"]


def test_as_many_as_a_record_holds_and_some_of_each_scheme() -> None:
    hosts = [f"198.51.100.{number}" for number in range(1, 30)]
    found = own_doors([], WILDCARD, hosts, reachable=True)
    assert len(found.public) == 8 and sum(door.startswith("rtmp") for door in found.public) == 4
    assert parse_fact_untrusted(Doors, payload(found)) == found


@pytest.mark.parametrize(
    "door",
    [
        "javascript:alert(1)",
        "http://a/path",
        "http://a\r\nX: y",
        "http://a b",
        "http://user@a",
        "http://a:123456",
        "ftp://a",
        "http://" + "a" * 200,
        "http://a\n",
    ],
)
def test_no_other_door_is_taken_from_a_record(door: str) -> None:
    with pytest.raises(WireError):
        parse_fact_untrusted(Doors, payload(Doors([door])))
    assert not is_base_url(door)


@pytest.mark.parametrize("door", ["http://a", "https://live.example:8443", "rtmp://[2001:db8::1]:1935"])
def test_doors_that_settings_and_records_take(door: str) -> None:
    assert parse_fact_untrusted(Doors, payload(Doors([door]))) == Doors([door])
    assert is_base_url(door)
