"""Which request a fault strikes, and what answers come to."""

from random import Random

import pytest
from livepeer_gateway.damage import damaged
from livepeer_gateway.faults import FaultError, FaultPlan, fault_of, parse
from livepeer_gateway.framing import Part

PARTS = [Part("a", 1, ".ts", b"A"), Part("b", 1, ".ts", b"B")]


@pytest.mark.livepeer("11.3")
def test_who_is_struck() -> None:
    plan = FaultPlan()
    plan.replace(
        [
            {"fault": "drop", "manifest": "m", "skip": 1, "times": 2},
            {"fault": "cut", "sequence": 5},
            {"fault": "full", "first": True},
        ]
    )
    chosen = [plan.choose("movie", n, False) for n in (0, 1, 2, 3)]
    assert [fault and fault.fault for fault in chosen] == [None, "drop", "drop", None]
    found = [plan.choose(*asked) for asked in (("x", 5, False), ("x", 1, True), ("x", 1, False))]
    assert [fault and fault.fault for fault in found] == ["cut", "full", None]


def test_command_line() -> None:
    fault = parse("slow,delay_s=0.5,first=true,sequence=3,manifest=m-")
    assert (fault.delay_s, fault.first, fault.sequence, fault.manifest) == (0.5, True, 3, "m-")
    for bad in ("explode", "slow,when=1"):
        with pytest.raises(FaultError):
            parse(bad)
    for given in ([], {"fault": "slow", "x": 1}, None):
        with pytest.raises(FaultError):
            fault_of(given)
    with pytest.raises(FaultError):
        FaultPlan().replace({})


@pytest.mark.livepeer("11.2")
def test_damage() -> None:
    def names(kind: str) -> list[str]:
        return [part.name for part in damaged(kind, PARTS, b"S", Random(1))]

    assert names("missing") == ["a"]
    assert names("doubled") == ["a", "b", "b"]
    assert names("renamed") == ["a", "b-other"]
    assert [part.data for part in damaged("source", PARTS, b"S", Random(1))] == [b"S", b"S"]
    assert damaged("wrong-length", PARTS, b"S", Random(1))[1].length == 1001
    assert len(damaged("oversized", PARTS, b"S", Random(1))[0].data) > 20_000_000
    assert damaged("garbage", PARTS, b"S", Random(1))[0].data != b"A"
    assert damaged("cut", PARTS, b"S", Random(1)) == PARTS
