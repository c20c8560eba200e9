"""The census of a network, what is promised, and how a choice is explained."""

import json

import msgspec
import pytest
from steering_world import BITRATE_BPS, IDLE, PARIS, STREAM, TOKYO, World, key

from fwnode.steering.census import Near, is_compatible
from fwnode.steering.choosing import Came
from fwnode.steering.explaining import explain, steering_view
from mesh.directory.facts import CarriedStreams, Doors, Load, Who
from mesh.model import Role

IN_PARIS, IN_TOKYO = "89.160.20.1", "216.160.83.1"


def names(world: World, viewer: str = IN_PARIS, **came: object) -> list[str]:
    found = world.choosing.choose(Came(viewer, **{"secure": False} | came), STREAM, world.now, fallbacks=2)  # type: ignore[arg-type]  # by name
    assert found is not None
    return [each.name for each in found]


def test_members_come_change_and_go(world: World) -> None:
    assert names(world) == ["paris", "own", "tokyo"]
    world.say("paris", Doors(["http://paris.example:8080"], closed="draining"))
    world.look()
    assert names(world) == ["own", "tokyo"]
    world.say("paris", Doors(["http://paris.example:8080"], closed="a word of later versions"))
    world.look()
    assert names(world) == ["own", "tokyo"]
    world.join("paris", PARIS)
    world.look()
    assert names(world, session="other")[0] == "paris"
    world.go("paris")
    world.look()
    assert names(world) == ["own", "tokyo"] and len(world.census.candidates) == 2


@pytest.mark.parametrize(
    ("version", "role", "fault", "why"),
    [
        ("fwnode 0.2.0", True, "", "its version differs"),
        ("fwnode 0.1.9", False, "", "it has not the role to serve viewers"),
        ("fwnode 0.1.9", True, "it altered media", "it altered media"),
    ],
)
def test_who_is_left_out_and_why(world: World, version: str, role: bool, fault: str, why: str) -> None:
    world.say("paris", Who("paris", version, [Role.EDGE]))
    world.faults[key("paris")] = fault
    if not role:
        world.no_edges.add(key("paris"))
    world.look()
    assert names(world) == ["own", "tokyo"]
    found = explain(world.choosing, STREAM, IN_PARIS, "http", world.now)
    assert found is not None
    assert next(each.why for each in found.candidates if each.name == "paris") == why


def test_a_place_that_light_refutes_does_not_count(world: World) -> None:
    world.links[key("tokyo")] = Near(0.001, 0.001)
    world.look()
    assert world.census.candidates[key("tokyo")].place is None
    world.links[key("tokyo")] = Near(0.0010001, 0.001)
    before = world.census.candidates[key("tokyo")]
    world.look()
    assert world.census.candidates[key("tokyo")] is before  # too little changed


def test_a_stream_goes_with_who_has_it(world: World) -> None:
    world.carry("paris", "own", depth=1)
    world.look()
    wanted = world.census.field.wanted(STREAM)
    assert wanted is not None and wanted.bitrate_bps == BITRATE_BPS
    world.say("own", CarriedStreams([]))
    world.look()
    assert names(world)[0] == "paris"  # an edge has the rest of it
    world.go("paris")
    world.look()
    assert world.census.field.wanted(STREAM) is None


def test_a_crowd_is_spread_before_its_load_is_seen(world: World) -> None:
    world.join("paris", PARIS, load=Load(0, 10 * BITRATE_BPS, 0.1, 0, 0, 0))
    world.look()
    landed = [names(world, session=str(number))[0] for number in range(20)]
    assert 5 <= landed.count("paris") <= 10 and landed[0] == "paris" and landed[-1] == "own"
    world.now += 31.0
    assert names(world, session="later")[0] == "paris"


def test_one_viewer_who_asks_again_is_promised_once(world: World) -> None:
    for _ in range(10):
        assert world.choosing.elsewhere(Came(IN_PARIS, False), STREAM, world.now) is None
    assert world.choosing.reserved(world.now, world.now) == 1
    assert steering_view(world.choosing, world.now).reserved == 1


def test_every_term_is_told(world: World) -> None:
    world.join("tokyo", TOKYO, load=Load(50_000_000, 50_000_000, 0.1, 0, 0, 0))
    world.look()
    before = world.choosing.reservations.members()
    found = explain(world.choosing, STREAM, IN_PARIS, "http", world.now)
    assert found is not None and found.chosen_name == "paris" and found.place is not None
    assert [(each.name, each.standing) for each in found.candidates] == [
        ("paris", "room"),
        ("own", "room"),
        ("tokyo", "full"),
    ]
    first, own, _ = found.candidates
    assert first.source_name == "own" and first.terms.source > 0 and not first.has_stream and own.has_stream
    assert "behind paris, most of it by path" in own.why
    terms = first.terms
    total = sum(getattr(terms, name) for name in terms.__struct_fields__)
    assert first.total_ms == pytest.approx(total, abs=0.01)
    assert world.choosing.reservations.members() == before
    assert json.loads(msgspec.json.encode(found))["candidates"][2]["why"] == "its uplink is full"


def test_what_cannot_be_explained(world: World) -> None:
    assert explain(world.choosing, "none", IN_PARIS, "http", world.now) is None
    with pytest.raises(ValueError, match="give one of http"):
        explain(world.choosing, STREAM, IN_PARIS, "gopher", world.now)
    alone = explain(World().choosing, STREAM, IN_PARIS, "http", 0.0)
    assert alone is not None and alone.candidates == [] and "no network" in alone.reason


def test_distances_are_counted(world: World) -> None:
    names(world, IN_TOKYO)
    names(world, "192.0.2.1")
    counters = world.choosing.counters
    assert counters.placed == 1 and counters.distances()["50"] == 1
    assert counters.decisions == 2


def test_a_budget_is_its_owner_s(world: World) -> None:
    world.choosing.measured(IDLE, world.now)
    world.look()
    assert world.census.candidates[key("own")].proven_bps == IDLE.uplink_budget_bps


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        ("fwnode 0.1.0", "fwnode 0.1.7", True),
        ("fwnode 0.2.0", "fwnode 0.1.0", False),
        ("x", "fwnode 1.0", False),
    ],
)
def test_versions(theirs: str, ours: str, same: bool) -> None:
    assert is_compatible(theirs, ours) is same
