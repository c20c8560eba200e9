"""What the commands about networks print, and what they read."""

from typing import Any

import pytest

from fwnode.cli.invite import parse_duration
from fwnode.cli.network import parse_roles
from fwnode.cli.peers import ALONE, notes, row
from fwnode.errors import UsageError
from mesh.model import Role

PEER: dict[str, Any] = {
    "name": "cellar",
    "node": "ab" * 32,
    "state": "connected",
    "path": "lan",
    "address": "10.0.0.2:7077",
    "rtt_ms": 0.42,
    "place": {"latitude": 52.52, "longitude": 13.4, "country": "DE", "source": "city", "doubt": ""},
    "nat": "open",
    "load": {
        "cpu": 0.253,
        "uplink_bps": 3_000_000,
        "uplink_budget_bps": 20_000_000,
        "viewers": 4,
        "sessions": 5,
    },
    "streams": ["cam", "stage"],
    "roles": ["edge"],
    "version": "fwnode 0.1.0",
    "since_unix_s": 1000,
    "clock": "",
    "loss": 0.0,
    "path_since_unix_s": 1060,
    "why_relayed": "",
}
NETWORK: dict[str, Any] = {"network": "cd" * 32, "refused": []}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86_400), (" 7 D ", 604_800), ("0m", 0)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "1h30m", "9999999999h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="like 30m, 24h or 7d"):
        parse_duration(text)


def test_roles() -> None:
    assert parse_roles(None) is None and parse_roles([]) is None
    assert parse_roles(["Relay", "edge", "edge"]) == [Role.EDGE, Role.RELAY]
    with pytest.raises(UsageError, match="origin, edge, relay, transcode, inviter"):
        parse_roles(["king"])


def test_a_node_in_the_table() -> None:
    load = "25% cpu, 3.0 Mb/s of 20.0 Mb/s, 4 viewers"
    assert row(PEER, 1090.0) == (
        *("cellar", "DE 52.5,13.4", "lan", "0.4 ms", "0%", "open", load, "cam, stage", "0.1.0", "30 s"),
    )
    assert row(PEER | {"loss": 0.167}, 1090.0)[4] == "17%"


def test_what_is_not_known_of_a_node() -> None:
    bare = PEER | {"path": "", "rtt_ms": None, "place": None, "nat": "", "load": None, "streams": []}
    bare |= {"version": "", "loss": None, "path_since_unix_s": None}
    assert row(bare, 1090.0) == ("cellar", "-", "no link", "-", "-", "-", "-", "-", "-", "1 min")


def test_notes_say_what_is_odd() -> None:
    assert notes(NETWORK, [PEER], 0.0) == []
    assert notes(NETWORK | {"network": ""}, [PEER], 0.0) == [ALONE]
    odd = PEER | {"clock": "its clock is 5 min behind", "place": PEER["place"] | {"doubt": "light is slower"}}
    refused = {
        "address": "10.0.0.3",
        "node": "ef" * 32,
        "reason": "expired\x1b[2J",
        "by_us": True,
        "count": 3,
        "last_unix_s": 940,
    }
    other = refused | {"node": "", "by_us": False, "count": 1, "reason": "another network"}
    assert notes(NETWORK | {"refused": [refused, other]}, [odd], 1000.0) == [
        "cellar: its clock is 5 min behind",
        "cellar: place in doubt: light is slower",
        "10.0.0.3 (efefefef) refused: expired?[2J (1 min ago, 3 times)",
        "10.0.0.3 refused us: another network (1 min ago)",
    ]
    assert notes(NETWORK | {"refused": [other] * 12}, [], 0.0)[-1] == "... and 2 more refusals, see --json"
