import json
import math

import pytest
from fwbench.report import cell, markdown, table, verdict
from fwbench.summary import (
    Column,
    RowResult,
    Spread,
    Target,
    interleave,
    percentile,
    ratios,
    significant,
)


def row() -> RowResult:
    targets = (Target("ours", "us", 1.3, "µs ÷ peer", beside="peer"), Target("ours", "mb", 100, "MB"))
    result = RowResult("r", "a row", (Column("us", "µs"), Column("mb", "MB"), Column("none", "-")), targets)
    for ours, peer in ((12.0, 10.0), (30.0, 20.0), (11.0, 10.0)):
        result.add("peer", {"us": peer})
        result.add("ours", {"us": ours, "mb": 101.0})
    return result


def test_spread_is_median_and_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.012345, "0.0123"),
        (1.0, "1.00"),
        (15.66, "15.7"),
        (123456.7, "123457"),
        (math.inf, "inf"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_ratios_pair_the_rounds() -> None:
    assert ratios([{"a": 2.0}, {"a": 9.0}], [{"a": 1.0}, {"a": 3.0}, {"a": 5.0}], "a") == [2.0, 3.0]
    assert ratios([{"a": 2.0}, {}], [{"a": 0.0}, {"a": 1.0}], "a") == []


def test_checks_are_judged_on_the_median() -> None:
    ratio, memory = row().checks()
    assert (ratio.value, ratio.met) == (Spread(1.2, 1.1, 1.5), True)
    assert (memory.value.median, memory.met) == (101.0, False)
    assert verdict(memory) == "MISSED: MB 101, target ≤ 100"
    assert verdict(ratio) == "met: µs ÷ peer 1.20 (1.10–1.50), target ≤ 1.30"


def test_a_side_that_never_ran_has_no_check() -> None:
    result = row()
    result.sides.pop("ours")
    assert result.checks() == []


def test_table_leaves_out_columns_that_nobody_has() -> None:
    header, body = table(row())
    assert header == ["", "µs", "MB"]
    assert body == [["peer", "10.0 (10.0–20.0)", "-"], ["ours", "12.0 (11.0–30.0)", "101"]]
    assert cell(None) == "-"


def test_markdown_has_table_verdicts_and_reasons() -> None:
    skipped = RowResult("s", "another", (), (), skipped="not installed: wrk")
    text = markdown([row(), skipped], {"kernel": "Linux"})
    assert "- kernel: Linux\n\n### `r`: a row\n\n|  | µs | MB |\n|---|---:|---:|\n" in text
    assert "- MISSED: MB 101, target ≤ 100" in text
    assert "Not run: not installed: wrk" in text


def test_results_survive_being_stored() -> None:
    stored = json.loads(json.dumps(row().as_json()))
    assert markdown([RowResult.from_json(stored)], {}) == markdown([row()], {})


def test_rounds_turn_about() -> None:
    order: list[tuple[str, int]] = []
    interleave(("a", "b"), 3, lambda side, number: order.append((side, number)))
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
