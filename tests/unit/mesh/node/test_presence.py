"""What a node says of where it is, and whom it asks what its router does."""

from dataclasses import replace
from typing import Any

import pytest

from mesh.directory.facts import Where
from mesh.link.control import ADDRESSES_MAX
from mesh.nat.facts import Mapping, NatFacts, NatKind, encode_facts
from mesh.node.presence import OBSERVED_MAX, REACHABLE, Presence, answers_strangers
from mesh.node.servers import stun_servers

MAPPED = "203.0.113.9:40000"


@pytest.fixture
def presence() -> Presence:
    made = Presence(7077, ("vps.example:9",))
    made.move(["192.168.1.2", "2001:db8::2"])
    return made


@pytest.fixture
def peer(lab: Any) -> Any:
    """What a node knows of another one that it dialled far away."""
    first, second = lab.small("first", "second")
    return replace(
        first.core.connector.links[second.node].peer,
        dialled=True,
        remote="198.51.100.1:7077",
        observed="203.0.113.9:51000",
    )


def test_candidates_are_configured_mapped_seen_and_own(presence: Presence, peer: Any) -> None:
    presence.mapped = MAPPED
    presence.observe(peer)
    assert presence.candidates[:2] == ["vps.example:9", MAPPED]
    assert set(presence.candidates[2:]) >= {"192.168.1.2:7077", "[2001:db8::2]:7077"}
    record = presence.where([])
    assert (record.candidates, record.mapped) == (presence.candidates, MAPPED)


def test_who_was_dialled_is_asked_to_try_where_it_saw_us(presence: Presence, peer: Any) -> None:
    assert presence.observe(peer) == "203.0.113.9:7077"
    presence.mapped = MAPPED
    assert presence.observe(peer) == MAPPED, "the port that the router opened, on the same host"
    assert presence.nat == ""
    assert presence.observe(replace(peer, dialled=False, observed="203.0.113.9:7077")) == ""
    assert presence.nat == REACHABLE
    assert presence.observe(peer) == "", "known by now"


def test_a_peer_on_the_lan_proves_nothing(presence: Presence, peer: Any) -> None:
    near = replace(peer, remote="192.168.1.3:7077", observed="192.168.1.2:7077")
    assert presence.observe(near) == ""
    assert presence.observe(replace(near, dialled=False)) == ""
    assert presence.nat == ""


def test_what_was_seen_is_bounded_and_forgotten_with_the_addresses(presence: Presence, peer: Any) -> None:
    for number in range(3 * OBSERVED_MAX):
        presence.observe(replace(peer, observed=f"203.0.113.{number}:1"))
    assert len(presence.observed) == OBSERVED_MAX
    assert not presence.move(["2001:db8::2", "192.168.1.2"]), "the same ones"
    assert presence.observed
    assert presence.move(["192.168.1.3"])
    assert not presence.observed


def test_the_udp_side_lists_the_lan_first(presence: Presence) -> None:
    presence.udp = NatFacts(NatKind.PREDICTABLE, Mapping.DEPENDENT, mapped=(MAPPED,), port_delta=2)
    side = presence.side()
    assert side.candidates == ("192.168.1.2:7077", "[2001:db8::2]:7077", MAPPED)
    assert (side.kind, side.port_delta) == (NatKind.PREDICTABLE, 2)
    presence.move([f"10.0.0.{number}" for number in range(40)])
    assert len(presence.side().candidates) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("udp", "answers"),
    [
        ("", True),
        (encode_facts(NatFacts(NatKind.OPEN)), True),
        (encode_facts(NatFacts(NatKind.BLOCKED)), False),
        (encode_facts(NatFacts(NatKind.CONSISTENT)), False),
        ("nonsense", False),
    ],
)
def test_who_can_be_asked(udp: str, answers: bool) -> None:
    assert answers_strangers(Where(["192.0.2.1:1"], REACHABLE, [], udp)) is answers


def test_servers_are_public_members_the_linked_first(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    assert set(stun_servers(first.core)) == {(second.address, second.node), (third.address, third.node)}
    second.core.set_udp(NatFacts(NatKind.BLOCKED), lab.now)
    lab.run(1.0)
    assert {node for _, node in stun_servers(first.core)} == {third.node}
    second.core.set_udp(NatFacts(NatKind.OPEN), lab.now)
    lab.crash(third)
    lab.run(30.0)
    assert {node for _, node in stun_servers(first.core)} == {second.node}
