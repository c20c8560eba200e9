"""The tree of a stream, as people see it."""

from typing import Any

from fwnode.cli.streams import seen, tree_lines


def node(name: str, depth: int, parent: str = "", **more: Any) -> dict[str, Any]:
    said = {"bitrate_bps": 0, "uplink_bps": None, "uplink_budget_bps": None, "tracks": []}
    return {"node": name, "name": name, "depth": depth, "parent": parent} | said | more


def lines(*nodes: dict[str, Any], current: bool = True) -> list[str]:
    return tree_lines({"stream": "cam", "origin_name": "a", "nodes": list(nodes), "current": current})


def test_children_stand_below_their_parents() -> None:
    assert lines(
        node("a", 0, bitrate_bps=3_000_000, uplink_bps=6_000_000, uplink_budget_bps=9_000_000),
        node("b", 1, "a"),
        node("c", 1, "a"),
        node("d", 2, "b"),
        node("e", 3, "d"),
    ) == [
        "cam: published on a, 5 nodes",
        "a  origin  3.0 Mb/s  sends 6.0 Mb/s of 9.0 Mb/s",
        "├─ b  1 hop",
        "│  └─ d  2 hops",
        "│     └─ e  3 hops",
        "└─ c  1 hop",
    ]


def test_a_parent_that_does_not_say_so_and_an_old_publication() -> None:
    assert lines(node("b", 1, "ab" * 32), current=False) == [
        "cam: published on a, 1 node, replaced by a newer publication",
        "b  1 hop  from abababab, which does not say so",
    ]


def test_whoever_claims_a_circle_is_shown_once() -> None:
    shown = lines(node("a", 0), node("b", 1, "c"), node("c", 1, "b"), node("d", 2, "d"))
    assert shown[1:] == ["a  origin", "? b  1 hop", "  └─ c  1 hop", "? d  2 hops"]


def test_what_viewers_see_on_one_line() -> None:
    nothing: dict[str, Any] = {"latency_ms": None, "stall_ratio": None, "startup_ms": None, "cmcd": None}
    quality = nothing | {"latency_ms": {"p50": 912}, "stall_ratio": 0.0012}
    assert seen(None) == seen(nothing) == "-"
    assert seen(quality) == "latency 0.9 s, stalls 0.1 %"
    assert seen(quality | {"startup_ms": {"p50": 430}}).endswith(", start 0.4 s")
    assert seen(nothing | {"cmcd": {"starved": 2}}) == "2 buffers ran dry"
