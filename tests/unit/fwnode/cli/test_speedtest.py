"""What `fwnode speedtest` takes and prints."""

import pytest

from fwnode.cli.speedtest import lines, parse_amount
from fwnode.errors import UsageError

FOUND = {
    "name": "attic",
    "bytes": 200_000_000,
    "complete": True,
    "seconds": 4.0,
    "bytes_per_s": 50_000_000.0,
    "first_object_s": 0.05,
    "longest_gap_s": 1.2,
    "objects": 763,
    "duplicates": 0,
    "paths": [{"path": "relayed via vps", "first": 0}, {"path": "punched", "first": 41}],
    "sha256": "ab" * 32,
    "intact": True,
    "trouble": "",
}


def test_amounts() -> None:
    assert [parse_amount(text) for text in ("1", "500k", "200M", "200MB", "1G")] == [
        1,
        500_000,
        200_000_000,
        200_000_000,
        1_000_000_000,
    ]


@pytest.mark.parametrize("text", ["", "0", "-1", "2G", "many", "1.5M", "9" * 13])
def test_amounts_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--bytes"):
        parse_amount(text)


def test_a_result() -> None:
    assert lines(FOUND) == [
        "200.0 MB from attic in 4.00 s: 50.0 MB/s (400 Mb/s)",
        "from object 0: relayed via vps",
        "from object 41: punched",
        "763 objects, first after 50 ms, longest wait 1200 ms",
        f"SHA-256 {'ab' * 32}: as sent",
    ]


def test_a_result_that_is_not_whole() -> None:
    found = FOUND | {"complete": False, "intact": False, "duplicates": 2, "trouble": "the time was up"}
    said = lines(found)
    assert said[-1] == "Not all came: the time was up."
    assert said[-2].endswith("NOT as sent")
    assert said[-3].endswith("2 came twice and were dropped")
