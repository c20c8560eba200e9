"""Real nodes behind real routers: who reaches whom by which path, and what happens when paths come and go."""

import time
from collections.abc import Iterator

import pytest
from machine import Machine, MakeMachines, until, who_sees_whom
from natlab import NatLab, RouterKind, why_no_nat

pytestmark = pytest.mark.netns

PUNCHED_S = 5.0  # joined -> a direct path through both routers
SEARCHED_S = 25.0  # the same with a search through ports, which a busy machine may have to repeat
RELAYED_S = 6.0  # a direct path is cut -> the relay carries the link: one heartbeat timeout
RETURN_S = 90.0  # the direct path is there again -> it is used
KNOWN_S = 20.0  # what the routers do
QUIET_S = 3.0

PLAIN, HARD = RouterKind.PORT_RESTRICTED, RouterKind.SYMMETRIC_RANDOM


@pytest.fixture
def lab(namespaces: None) -> Iterator[NatLab]:
    """An Internet without homes as yet."""
    if reason := why_no_nat():
        pytest.skip(reason)
    with NatLab() as made:
        yield made


def joined(machines: list[Machine]) -> list[Machine]:
    """Start them all; the first invites, the others join with nothing but the line."""
    for machine in machines:
        machine.start()
    first, *others = machines
    line = first.invite("--uses", str(len(others)))
    for machine in others:
        machine.cli("join", line)
    return machines


def path(machine: Machine, other: Machine) -> str:
    return str(machine.peers().get(other.name, {}).get("path", ""))


def await_path(
    one: Machine, other: Machine, wanted: str, patience_s: float, began: float | None = None
) -> float:
    """Until both ends say that the path between them begins with `wanted`."""

    def there() -> bool:
        return path(one, other).startswith(wanted) and path(other, one).startswith(wanted)

    return until(
        there,
        f"{wanted} between {one.name} and {other.name}",
        patience_s,
        began,
        lambda: who_sees_whom(one, other),
    )


def test_two_homes_and_a_public_node(lab: NatLab, machines: MakeMachines) -> None:
    """Nothing but the invite; then the path is cut, comes back, and the router forgets all it knew."""
    lab.public(1)
    one_home, other_home = lab.home(PLAIN), lab.home(PLAIN)
    public, one, other = joined(machines(3))
    await_path(one, other, "punched", PUNCHED_S)
    time.sleep(QUIET_S)  # the link is idle
    began = time.monotonic()
    lab.cut(one_home, other_home)
    await_path(one, other, "relayed via n0", RELAYED_S, began)
    lab.restore_path(one_home, other_home)
    await_path(one, other, "punched", RETURN_S)
    one_home.forget()
    until(
        lambda: path(one, other) == path(other, one) == "punched",
        "the same path after the router forgot",
        QUIET_S,
    )
    for machine in (one, other):
        assert path(machine, public) == "direct"
        assert len(machine.peers()) == 3, "neither was ever gone"
        assert "peer gone" not in machine.log()


def test_routers_that_soon_forget(lab: NatLab, machines: MakeMachines) -> None:
    """Their conntrack holds a flow for eight seconds: an idle path between them lasts all the same."""
    lab.public(1)
    for home in (lab.home(PLAIN), lab.home(PLAIN)):
        home.set_udp_timeouts(8, 8)
    _, one, other = joined(machines(3))
    await_path(one, other, "punched", PUNCHED_S)
    since = one.peers()["n2"]["path_since_unix_s"]
    time.sleep(20.0)
    assert path(one, other) == path(other, one) == "punched"
    assert one.peers()["n2"]["path_since_unix_s"] == since


def test_a_router_that_gives_another_port_in_the_middle(lab: NatLab, machines: MakeMachines) -> None:
    """All its flows are new ones: the link goes on, if need be over the relay for a while."""
    lab.public(2)
    hard_home = lab.home(HARD)
    lab.home(PLAIN)
    _, _, one, other = joined(machines(4))
    await_path(one, other, "punched", SEARCHED_S)
    hard_home.forget()
    await_path(one, other, "punched", RETURN_S)
    time.sleep(QUIET_S)
    await_path(one, other, "punched", RETURN_S)
    for machine in (one, other):
        assert "peer gone" not in machine.log()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (RouterKind.PLAIN_MASQUERADE, "consistent"),
        (RouterKind.CARRIER, "consistent"),
        (RouterKind.SYMMETRIC_SEQUENTIAL, "predictable"),
        (HARD, "impenetrable"),
    ],
)
def test_a_plain_home_and_another_router(
    lab: NatLab, machines: MakeMachines, kind: RouterKind, word: str
) -> None:
    """Two public nodes tell what the router does; the path goes through it."""
    lab.public(2)
    lab.home(kind)
    lab.home(PLAIN)
    public, _, one, other = joined(machines(4))
    await_path(one, other, "punched", SEARCHED_S)

    def told() -> bool:
        peers = public.peers()
        return peers["n2"]["nat"] == word and peers["n3"]["nat"] == "consistent"

    until(told, f"everybody knows that it is {word}", KNOWN_S, seen=lambda: public.peers())


def test_where_nothing_gets_through_the_relay_stays_and_why_is_said(
    lab: NatLab, machines: MakeMachines
) -> None:
    lab.public(2)
    lab.home(HARD)
    lab.home(HARD)
    _, _, one, other = joined(machines(4))
    await_path(one, other, "relayed via", PUNCHED_S)
    until(lambda: "no direct path" in one.log() or "no direct path" in other.log(), "why is said", KNOWN_S)
    assert path(one, other).startswith("relayed via")


def test_udp_is_blocked(lab: NatLab, machines: MakeMachines) -> None:
    lab.public(1)
    lab.home(RouterKind.UDP_BLOCKED)
    lab.home(PLAIN)
    public, one, other = joined(machines(3))
    await_path(one, other, "relayed via n0", PUNCHED_S)
    until(lambda: public.peers()["n1"]["nat"] == "blocked", "it is known", 2 * KNOWN_S)
    assert path(one, public) == "direct"


def test_two_nodes_in_one_home_never_leave_it(lab: NatLab, machines: MakeMachines) -> None:
    lab.public(1)
    home = lab.home(PLAIN, hosts=2)
    public, one, other = joined(machines(3))
    await_path(one, other, "lan", PUNCHED_S)
    time.sleep(QUIET_S)
    assert path(one, other) == path(other, one) == "lan"
    assert {path(public, one), path(public, other)} == {"direct"}
    addresses = {one.peers()["n2"]["address"], other.peers()["n1"]["address"]}
    assert all(address.startswith(home.hosts[0].address.rpartition(".")[0]) for address in addresses)


def test_two_nodes_in_each_of_two_homes(lab: NatLab, machines: MakeMachines) -> None:
    """Every pair is connected directly, in the home by its LAN."""
    lab.public(1)
    lab.home(PLAIN, hosts=2)
    lab.home(PLAIN, hosts=2)
    _, *nodes = joined(machines(5))
    for at, one in enumerate(nodes):
        for other in nodes[at + 1 :]:
            same = (at < 2) == (nodes.index(other) < 2)
            await_path(one, other, "lan" if same else "punched", 4 * PUNCHED_S)


def test_ipv6_where_both_have_it(lab: NatLab, machines: MakeMachines) -> None:
    """A home's IPv6 is not translated but filtered: a public node is dialled by it, homes are punched."""
    lab.public(1)
    one_home, other_home = lab.home(HARD), lab.home(HARD)
    for place in (lab.hosts[0], one_home, other_home):
        lab.add_ipv6(place)
    _, one, other = joined(machines(3))
    await_path(one, other, "punched", 4 * PUNCHED_S)
    assert "[" in one.peers()["n2"]["address"] or ":" in one.peers()["n2"]["address"]
