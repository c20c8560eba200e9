"""`fwnode drain`, `pause` and `resume`: times and roles as they are typed, and the promise in words."""

from typing import Any

import pytest

from fwnode.cli.drain import wanted_roles
from fwnode.cli.promise import lines, parse_span
from fwnode.errors import UsageError

OPEN: dict[str, Any] = {
    "state": "open",
    "reason": "",
    "drain": {},
    "paused_until_unix_s": None,
    "budget_bps": 0,
    "sent_bps": 1_200_000,
    "taken_bps": 1_500_000,
    "month": "2026-11",
    "month_bytes": 3_000_000,
    "month_limit_bytes": 0,
    "quiet": "",
    "streams": [],
    "refused": {},
}


@pytest.mark.parametrize(("text", "span"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d12h", 129_600)])
def test_times(text: str, span: int) -> None:
    assert parse_span(text) == span and parse_span(None) is None


@pytest.mark.parametrize("text", ["", "soon", "2", "0s", "1h 30m", "-1h", "400d", "1m1h", "99999999999s"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match="give a time such as"):
        parse_span(text)


def test_roles() -> None:
    assert wanted_roles(["edges", "viewers", "edges"]) == ["viewers", "edges"]
    assert wanted_roles(["edges", "all"]) == ["viewers", "publishers", "edges"]
    with pytest.raises(UsageError, match="viewers, publishers, edges or all"):
        wanted_roles(["relays"])


def test_an_open_node_says_what_it_sends() -> None:
    assert lines(OPEN) == [
        ("uplink", "1.2 Mb/s sent, 1.5 Mb/s taken of no limit"),
        ("month", "3.0 MB sent in 2026-11"),
    ]


def test_all_that_is_promised_and_held() -> None:
    more = {
        "state": "draining",
        "reason": "so it is",
        "drain": {"viewers": 0.0, "edges": 1.8e9},
        "paused_until_unix_s": 0.0,
        "budget_bps": 2_000_000,
        "month_limit_bytes": 5_000_000_000,
        "quiet": "23:00-07:00",
        "streams": ["news*"],
        "refused": {"uplink": 3, "draining": 1},
    }
    found = dict(lines(OPEN | more))
    assert found["uplink"].endswith("of 2.0 Mb/s") and found["month"] == "3.0 MB sent of 5.0 GB in 2026-11"
    assert found["closed"] == "draining: so it is" and found["paused"] == "until `fwnode resume`"
    assert found["drain"] == "viewers, until `fwnode resume`" and found["serves"] == "news* of other nodes"
    assert found["quiet"] == "23:00-07:00" and found["turned away"] == "1 by draining, 3 by uplink"
