"""What is expected of each pair of routers, and the figures of its rounds."""

import pytest
from fwbench.network.nat_figures import KINDS, PAIRS, TARGETS, Pair, Round, Way, chosen, figures, groups


def one(pair: Pair, **seen: float) -> Round:
    known = {name: seen.get(name) for name in ("linked_s", "stream_s", "relayed_s", "direct_s")}
    return Round(pair.name, 0, **known, paths=("", ""), kinds=("", ""), notes=([], []), took_s=1.0)


def test_each_kind_meets_each_other_and_itself() -> None:
    assert len(PAIRS) == len({frozenset((pair.one, pair.other)) for pair in PAIRS}) == 55


@pytest.mark.parametrize(
    ("one", "other", "way"),
    [
        ("public", "UDP blocked", Way.PATH),
        ("firewalled public", "UDP blocked", Way.RELAY),
        ("symmetric random", "public", Way.PATH),
        ("symmetric random", "port-restricted", Way.SEARCH),
        ("symmetric random", "symmetric random", Way.RELAY),
        ("symmetric sequential", "symmetric random", Way.RELAY),
        ("symmetric sequential", "symmetric sequential", Way.PATH),
        ("plain masquerade", "carrier over cone", Way.PATH),
    ],
)
def test_what_is_the_best_to_have(one: str, other: str, way: Way) -> None:
    assert Pair(one, other).way is way


def test_pairs_are_chosen_by_both_kinds_or_one() -> None:
    assert chosen([]) == PAIRS
    assert chosen(["full cone, public"]) == (Pair("public", "full cone"),)
    assert len(chosen(["full cone"])) == len(KINDS)
    assert chosen(["public,public", "public,public"]) == (Pair("public", "public"),)
    with pytest.raises(ValueError, match="not one or two of"):
        chosen(["no such router"])


def test_times_are_of_the_rounds_that_have_them() -> None:
    pair = Pair("port-restricted", "port-restricted")
    rounds = [
        one(pair, linked_s=0.2, stream_s=0.25, relayed_s=0.2, direct_s=0.3),
        one(pair, linked_s=0.2, stream_s=0.25, relayed_s=0.2, direct_s=6.0),
        one(pair, linked_s=0.0, stream_s=0.05, direct_s=0.0),
        one(pair),
    ]
    found = figures(rounds)
    assert found["rounds"] == 4
    assert (found["direct_percent"], found["failed_percent"], found["late_percent"]) == (75, 25, 50)
    assert found["upgrade_ms"] == pytest.approx(2950)
    assert found["upgrade_p99_ms"] == pytest.approx(5800)
    assert found["stream_ms"] == pytest.approx(250)
    assert [r.is_fault for r in rounds] == [False, True, False, True]


def test_every_target_is_of_a_group() -> None:
    rounds = [one(pair, linked_s=0.1, stream_s=0.1, relayed_s=0.1, direct_s=0.2) for pair in PAIRS]
    found = groups(rounds)
    assert {target.side for target in TARGETS} == set(found)
    assert all(target.key in found[target.side] for target in TARGETS)
    assert sum(found[name]["rounds"] for name in found) == 55 + 8  # plain masquerade's are counted twice
