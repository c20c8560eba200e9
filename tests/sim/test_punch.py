"""Every kind of router against every other, thousands of sessions on virtual time.

A failure names the types and the seed: `scripts/sim --nat --pair TYPE TYPE --seed N` shows it packet by
packet.
"""

from math import inf
from random import Random

import pytest
from nat import (
    EXTRA,
    MESH_PORT,
    TYPES,
    UNREPLIED_S,
    Conditions,
    Filtering,
    Host,
    Mapping,
    Node,
    Pair,
    Ports,
    Router,
    RouterType,
    World,
    is_hopeless,
    text,
)
from nat_table import Cell, measure, quantile

from mesh.nat.facts import NatKind
from mesh.nat.punch import Puncher
from mesh.nat.punch_steps import Side
from mesh.nat.targets import PROBES_UNPROVEN_HOST_MAX, PROBES_UNPROVEN_MAX

SEEDS = 20
PAIRS = [(first, second) for first in TYPES.values() for second in TYPES.values()]
SEARCHED = [
    (first, second)
    for first, second in PAIRS
    if {first.kind, second.kind} == {NatKind.CONSISTENT, NatKind.IMPENETRABLE}
]
LAB = Conditions(0.0005, 0.0005, 0.0005, hops=1)  # namespaces: a TTL of 3 already reaches the other's router


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """All pairs of types on links as they come: 10 to 80 ms, up to 2 % loss, a stalled relay."""
    return [measure(types, SEEDS) for types in PAIRS]


def names(cell: Cell) -> str:
    return f"{cell.types[0].name} / {cell.types[1].name}, seeds {cell.failed}"


def test_all_but_the_hopeless_connect(cells: list[Cell]) -> None:
    assert [names(cell) for cell in cells if cell.failed and not is_hopeless(cell.kinds)] == []


def test_the_hopeless_are_told_why_soon(cells: list[Cell]) -> None:
    hopeless = [cell for cell in cells if is_hopeless(cell.kinds)]
    assert len(hopeless) == 19 + 3
    for cell in hopeless:
        assert len(cell.failed) == SEEDS
        assert all("router" in outcome.reason or "UDP" in outcome.reason for outcome in cell.outcomes)
        assert max(outcome.sent for outcome in cell.outcomes) < 40


def test_two_round_trips_and_100_ms_then_1_s(cells: list[Cell]) -> None:
    """But for the search, whose time is the drawing router's doing."""
    plain = [cell for cell in cells if cell.types not in SEARCHED]
    assert quantile([over for cell in plain for over in cell.over_s], 0.5) < 0.1
    assert quantile([took for cell in plain for took in cell.took_s], 0.99) < 1.0


def test_consistent_with_impenetrable_within_5_s() -> None:
    took_s = [outcome.took_s for types in SEARCHED for outcome in measure(types, 40).outcomes]
    assert sum(took <= 5.0 for took in took_s) >= 0.99 * len(took_s)
    assert quantile(took_s, 0.5) < 1.5


@pytest.mark.parametrize("conditions", [None, LAB], ids=["homes", "namespaces"])
def test_plain_masquerades_always_connect(conditions: Conditions | None) -> None:
    """Their routers spoil a port with every packet that comes too early."""
    masquerade = TYPES["masquerade"]
    cells = [measure((masquerade, masquerade), 300, conditions)]
    for other in TYPES.values():
        if other.kind in (NatKind.OPEN, NatKind.CONSISTENT, NatKind.PREDICTABLE):
            cells += [measure(types, 30, conditions) for types in ((masquerade, other), (other, masquerade))]
    assert [names(cell) for cell in cells if cell.failed] == []


CONDITIONS = {
    "namespaces": LAB,
    "two hops": Conditions(hops=2),
    "relay stalls": Conditions(stalls=0.3),
    "loss": Conditions(loss=0.1),
    "far": Conditions(one_way_s=0.15, relay_one_way_s=0.2, jitter=0.2),
    "forgetful": Conditions(lifetime_s=8.0),  # the mapping that the other end was told of is gone
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_on_bad_ways(name: str) -> None:
    failed, took_s = [], []
    for types in PAIRS:
        if is_hopeless((types[0].kind, types[1].kind)):
            continue
        for seed in range(3):
            outcome = Pair(types, seed, CONDITIONS[name]).punch()
            failed += [(types[0].name, types[1].name, seed)] if outcome.took_s == inf else []
            took_s += [outcome.took_s] if types not in SEARCHED else []
    assert failed == []
    assert quantile(took_s, 0.95) < 1.5


@pytest.mark.parametrize("other", ["firewalled", "masquerade", "port-restr."])
@pytest.mark.parametrize("extra", list(EXTRA))
def test_other_symmetric_routers(extra: str, other: str) -> None:
    for types in ((EXTRA[extra], TYPES[other]), (TYPES[other], EXTRA[extra])):
        cell = measure(types, 20)
        assert not cell.failed, names(cell)


def test_not_eager_does_not_search() -> None:
    cell = measure((TYPES["port-restr."], TYPES["sym. random"]), 10, eager=False)
    assert len(cell.failed) == 10
    assert all("wanted for long" in outcome.reason for outcome in cell.outcomes)
    assert max(outcome.sent for outcome in cell.outcomes) < 80


def test_unvouched_hosts_cost_no_connection_but_the_searched() -> None:
    for types in PAIRS:
        if types in SEARCHED or is_hopeless((types[0].kind, types[1].kind)):
            continue
        for seed in range(5):
            pair = Pair(types, seed, vouched=False)
            assert pair.punch().took_s < inf, pair.name


@pytest.mark.parametrize("name", ["port-restr.", "masquerade", "sym. random", "sym. counting", "carrier"])
def test_one_lan_is_not_left(name: str) -> None:
    for seed in range(10):
        pair = Pair((TYPES[name], TYPES[name]), seed, together=True)
        outcome = pair.punch()
        assert outcome.path == f"192.168.1.20:{MESH_PORT}", pair.name
        assert outcome.took_s < 2 * pair.world.conditions.relay_one_way_s * 1.2 + 0.7


def test_same_seed_same_session() -> None:
    for types in (PAIRS[33], SEARCHED[0]):
        assert Pair(types, 7).punch() == Pair(types, 7).punch()


# --- liars


@pytest.mark.parametrize("liar", ["firewalled", "sym. random"])
def test_victim_among_candidates(liar: str) -> None:
    """The liar's end does nothing; the honest one has to find out by itself."""
    victims = [f"203.0.113.{number}:53" for number in range(1, 16)]
    pair = Pair((TYPES["port-restr."], TYPES[liar]), 1)
    honest, other = pair.nodes
    honest.begin(puncher(pair, honest, [*victims, other.host.outside + ":7077"]), other)
    pair.world.run(pair.world.now + 20.0)
    assert len(pair.world.heard) == 15
    assert max(pair.world.heard.values()) <= PROBES_UNPROVEN_MAX


def test_victim_with_all_its_ports() -> None:
    victim = [f"203.0.113.66:{port}" for port in range(53, 69)]
    pair = Pair((TYPES["port-restr."], TYPES["sym. random"]), 1)
    honest, other = pair.nodes
    honest.begin(puncher(pair, honest, victim), other)
    for _ in range(5):
        honest.told(tuple(victim))
        pair.world.run(pair.world.now + 5.0)
    assert 0 < pair.world.heard["203.0.113.66"] <= PROBES_UNPROVEN_HOST_MAX


def puncher(pair: Pair, node: Node, candidates: list[str]) -> Puncher:
    return Puncher(
        bytes(16),
        initiator=True,
        own=node.side(),
        other=Side(tuple(candidates), pair.nodes[1].kind),
        round_trip_s=0.05,
        eager=True,
        random=Random(1),
        now=pair.world.now,
        vouched=[pair.nodes[1].host.outside],
    )


# --- the model


def router(kind: RouterType) -> Router:
    return Router(kind, "198.51.100.9", Random(1), lifetime_s=UNREPLIED_S)


HOME = ("192.168.1.10", MESH_PORT)
HERE, THERE = ("203.0.113.1", 1), ("203.0.113.1", 2)
ELSEWHERE = ("203.0.113.2", 1)


@pytest.mark.parametrize(
    ("name", "lets_in"),
    [
        ("full cone", [True, True, True]),
        ("address-restr.", [True, True, False]),
        ("port-restr.", [True, False, False]),
        ("masquerade", [True, False, False]),
        ("sym. random", [True, False, False]),
    ],
)
def test_filtering(name: str, lets_in: list[bool]) -> None:
    model = router(TYPES[name])
    outside = model.outbound(HOME, HERE, 0.0)
    assert outside is not None
    came = [model.inbound(source, outside, 1.0) == HOME for source in (HERE, THERE, ELSEWHERE)]
    assert came == lets_in


@pytest.mark.parametrize("name", ["port-restr.", "masquerade", "sym. random", "sym. counting"])
def test_mapping(name: str) -> None:
    model = router(TYPES[name])
    ports = [model.outbound(HOME, to, 0.0) for to in (HERE, THERE, ELSEWHERE)]
    assert (len(set(ports)) == 1) == (TYPES[name].kind is NatKind.CONSISTENT)
    if name == "sym. counting":
        assert [port[1] - ports[0][1] for port in ports if port and ports[0]] == [0, 1, 2]


def test_unsolicited_packet_spoils_the_port_of_a_plain_masquerade() -> None:
    model = router(TYPES["masquerade"])
    assert model.inbound(HERE, ("198.51.100.9", MESH_PORT), 0.0) is None
    spoiled, whole = model.outbound(HOME, HERE, 1.0), model.outbound(HOME, THERE, 1.0)
    assert spoiled is not None and spoiled[1] != MESH_PORT
    assert whole is not None and whole[1] == MESH_PORT
    later = router(TYPES["masquerade"])
    later.inbound(HERE, ("198.51.100.9", MESH_PORT), 0.0)
    assert later.outbound(HOME, HERE, UNREPLIED_S + 1) == ("198.51.100.9", MESH_PORT)


def test_mapping_is_forgotten() -> None:
    model = router(RouterType("any", NatKind.CONSISTENT, Mapping.INDEPENDENT, Filtering.NONE, Ports.RANDOM))
    first = model.outbound(HOME, HERE, 0.0)
    assert first is not None
    assert model.inbound(HERE, first, UNREPLIED_S - 1) == HOME
    assert model.inbound(HERE, first, 2 * UNREPLIED_S) is None
    assert model.outbound(HOME, HERE, 3 * UNREPLIED_S) != first


def test_small_ttl_maps_at_home_and_does_not_arrive() -> None:
    world = World(Random(1), Conditions(hops=1, jitter=0.0))
    routers = [router(TYPES["masquerade"])]
    host = Host(world, HOME[0], routers)
    other = Host(world, "203.0.113.1", ())
    came = []
    other.take = lambda port, source, data: came.append((port, text(source)))
    for ttl in (1, 2, 3):
        world.send(host, MESH_PORT, ("203.0.113.1", 10 + ttl), ttl, b"\x06")
    world.run(1.0)
    assert came == [(13, f"198.51.100.9:{MESH_PORT}")]
    mapped = [
        routers[0].inbound(("203.0.113.1", 10 + ttl), ("198.51.100.9", MESH_PORT), 1.0) for ttl in (1, 2)
    ]
    assert mapped == [None, HOME]
