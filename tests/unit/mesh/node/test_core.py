"""One node's machines together: joining, telling, ending, and what a peer may not do. On virtual time."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from mesh.directory.facts import (
    CarriedStream,
    CarriedStreams,
    Load,
    Place,
    Where,
    Who,
    payload,
)
from mesh.directory.gossip import LOAD_EVERY_S
from mesh.directory.record import Kind
from mesh.errors import RemoteError, StateError, WireError
from mesh.identity.spread import FLOOD_MESSAGES as SPREAD_FLOOD_MESSAGES
from mesh.link.connector import CONTROL_FRAME, PEERS_MAX
from mesh.link.control import (
    Bye,
    CallMe,
    Forwarded,
    Ping,
    Pong,
    RelayAsk,
    RelayDeny,
    RelayGrant,
    encode,
    parse_control_untrusted,
)
from mesh.link.live import CALLS_PER_MINUTE
from mesh.link.model import TOKEN_BYTES
from mesh.link.relay.book import TOKEN_S
from mesh.link.steps import Close, Dial
from mesh.membership.message import Prune
from mesh.membership.message import encode as encode_gossip
from mesh.membership.neighbour import FLOOD_MESSAGES, LINK_BURST_BYTES, MESSAGE_COST_BYTES
from mesh.model import Role
from mesh.node.core import FOUND_MAX, FOUND_S, GOSSIP_FRAME, MAPPED_ASKS, SPREAD_FRAME
from mesh.node.presence import OBSERVED_MAX, REACHABLE, UNREACHABLE
from mesh.node.roll import SEEN_MAX
from mesh.node.standby import STANDBY
from mesh.node.steps import Keep, Transmit
from mesh.node.views import peer_views

UNKNOWN_FRAME = 9
CRASH_KNOWN_S = 40.0  # two nodes alone have no third to agree with


def load(viewers: int = 0, cpu: float = 0.1) -> Load:
    return Load(1_000_000, 0, cpu, viewers, viewers, 0)


def streams(*names: str) -> CarriedStreams:
    return CarriedStreams([CarriedStream(name, 1, 0, ["v1"]) for name in names])


def revoke(lab: Any, host: Any) -> None:
    first = lab.hosts["first"]
    first.core.membership.revoke(lab.community.owner, host.node, int(lab.unix_s))
    first.core.membership_changed(lab.now, lab.unix_s)


def carried(host: Any, of: Any) -> list[str]:
    said = host.core.fact(of.node, CarriedStreams)
    return [stream.name for stream in said.streams] if said else []


# --- joining


def test_a_node_that_dials_a_seed_is_linked_and_both_say_so(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    lab.join(second, first)
    assert first.noted("peer linked") == [{"node": "second", "address": "192.0.2.2:50000"}]
    assert second.noted("peer linked") == [{"node": "first", "address": first.address}]


def test_joining_one_node_leads_to_all_of_them(lab: Any) -> None:
    hosts = [lab.add(name) for name in ("first", "a", "b", "c", "d")]
    for host in hosts[1:]:
        host.core.try_address(hosts[0].address, lab.now)
    lab.run(10.0)
    for host in hosts:
        assert {other.name for other in hosts if host.is_linked(other)} == {
            other.name for other in hosts if other is not host
        }


def test_records_reach_who_has_no_link_to_their_owner(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    for host in (first, second, third):
        host.core.set_load(load(viewers=7), lab.now)
        host.core.set_streams(streams(f"{host.name}-cam"), lab.now)
        host.core.set_place(Place(1.0, 2.0, "configured", "DE"), lab.now)
    lab.run(LOAD_EVERY_S + 1)
    for host in (first, second, third):
        for other in (first, second, third):
            assert carried(host, other) == [f"{other.name}-cam"]
            assert host.core.fact(other.node, Load).viewers == 7
            assert host.core.fact(other.node, Place).country == "DE"
            assert host.core.fact(other.node, Where).candidates == [other.address]
            assert host.core.name_of(other.node) == other.name
            assert Role.RELAY in host.core.fact(other.node, Who).roles


def test_what_was_said_before_joining_is_learned_by_joining(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    first.core.set_streams(streams("early"), lab.now)
    lab.join(second, first)
    lab.run(6.0)
    assert carried(second, first) == ["early"]


def test_a_node_in_another_network_is_not_linked(lab: Any, strangers: Any) -> None:
    first = lab.add("first")
    stranger = lab.add("stranger", membership=strangers.membership("stranger"))
    stranger.core.try_address(first.address, lab.now)
    lab.run(2.0)
    assert not first.is_linked(stranger)
    assert stranger.refusals.total + first.refusals.total == 1


# --- what is told, and when


def test_load_that_hardly_changed_is_not_told(lab: Any) -> None:
    first, second = lab.small("first", "second")
    first.core.set_load(load(viewers=100), lab.now)
    lab.run(LOAD_EVERY_S + 1)
    told = second.core.gossip.directory.record(first.node, Kind.LOAD)
    first.core.set_load(load(viewers=105), lab.now)
    lab.run(LOAD_EVERY_S + 1)
    assert second.core.gossip.directory.record(first.node, Kind.LOAD) == told
    first.core.set_load(load(viewers=120), lab.now)
    lab.run(LOAD_EVERY_S + 1)
    assert second.core.fact(first.node, Load).viewers == 120


def test_load_is_told_at_most_every_few_seconds_and_then_the_newest(lab: Any) -> None:
    first, second = lab.small("first", "second")
    first.core.set_load(load(viewers=10), lab.now)
    lab.run(1.0)
    for viewers in (100, 200, 400):
        first.core.set_load(load(viewers), lab.now)
    lab.run(1.0)
    assert second.core.fact(first.node, Load).viewers == 10
    lab.run(LOAD_EVERY_S)
    assert second.core.fact(first.node, Load).viewers == 400


def test_streams_said_again_are_not_sent_again(lab: Any) -> None:
    first, second = lab.small("first", "second")
    first.core.set_streams(streams("cam"), lab.now)
    lab.run(1.0)
    before = second.core.gossip.directory.record(first.node, Kind.STREAMS)
    first.core.set_streams(streams("cam"), lab.now)
    lab.run(1.0)
    assert second.core.gossip.directory.record(first.node, Kind.STREAMS) == before
    first.core.set_streams(streams(), lab.now)
    lab.run(1.0)
    assert carried(second, first) == []


# --- ending


def test_a_goodbye_is_known_at_once_and_nothing_is_said_after_it(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    third.core.leave(lab.now)
    third.core.set_streams(streams("ghost"), lab.now)
    third.core.set_load(load(), lab.now)
    third.core.set_place(Place(1.0, 2.0, "configured"), lab.now)
    lab.run(0.3)
    for host in (first, second):
        assert [said["reason"] for said in host.noted("peer gone")] == ["left"]
        assert third.node not in host.core.gossip.directory.members()
        assert not host.is_linked(third)
    lab.crash(third)
    lab.run(30.0)
    assert not first.is_linked(third)
    assert len(first.noted("peer gone")) == 1


def test_who_left_comes_back_in_another_life(lab: Any) -> None:
    first, second = lab.small("first", "second")
    second.core.leave(lab.now)
    lab.run(0.5)
    lab.crash(second)
    again = lab.add("second", membership=second.core.membership, generation=2)
    again.core.set_streams(streams("anew"), lab.now)
    lab.join(again, first)
    lab.run(6.0)
    assert carried(first, again) == ["anew"]
    assert first.core.roll.first_seen[again.node] > lab.community.now + 100


def test_a_crash_is_noticed_and_the_rest_go_on(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    lab.crash(third)
    lab.run(CRASH_KNOWN_S)
    for host in (first, second):
        assert not host.is_linked(third)
        assert [said["reason"] for said in host.noted("peer gone")] == ["dead"]
    assert first.is_linked(second)


def test_a_crashed_node_that_starts_again_is_taken_in_again(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    lab.crash(third)
    lab.run(CRASH_KNOWN_S)
    again = lab.add("third", membership=third.core.membership, generation=2)
    lab.join(again, first)
    lab.run(10.0)
    assert second.is_linked(again)
    assert again.node in first.core.gossip.directory.members()


def test_a_lost_connection_is_made_again_without_a_word(lab: Any) -> None:
    first, second = lab.small("first", "second")
    wire = lab.wire(first, second)
    wire.alive = False
    for host in (first, second):
        host.core.closed(wire.number(host), "reset", lab.now)
    lab.run(2.0)
    assert first.is_linked(second)
    assert lab.wire(first, second) is not wire
    assert not first.noted("peer unlinked")
    first.core.set_streams(streams("still"), lab.now)
    lab.run(1.0)
    assert carried(second, first) == ["still"]


# --- revocation


def test_a_revocation_cuts_every_link_and_forgets_the_node(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    third.core.set_streams(streams("pirate"), lab.now)
    lab.run(1.0)
    assert carried(second, third) == ["pirate"]
    kept = first.kept, second.kept
    revoke(lab, third)
    lab.run(0.2)
    for host in (first, second):
        assert not host.is_linked(third)
        assert third.node not in host.core.gossip.directory.members()
        assert carried(host, third) == []
        [said] = host.noted("not a member")
        assert said["node"] == "third"
        assert "revoked" in said["reason"]
    assert (first.kept, second.kept) > kept
    assert first.is_linked(second)


def test_a_revoked_node_does_not_come_back(lab: Any) -> None:
    _, second, third = lab.small("first", "second", "third")
    revoke(lab, third)
    lab.run(1.0)
    third.core.try_address(second.address, lab.now)
    second.core.found(third.node, third.address, lab.now)
    lab.run(30.0)
    assert not second.is_linked(third)
    assert third.node not in second.core.gossip.directory.members()
    assert second.refusals.total > 0


def test_a_revocation_made_while_a_node_was_away_reaches_it(lab: Any) -> None:
    first, third = lab.small("first", "third")
    second = lab.add("second")
    revoke(lab, third)
    lab.run(1.0)
    lab.join(second, first)
    lab.run(2.0)
    third.core.try_address(second.address, lab.now)
    lab.run(5.0)
    assert not second.is_linked(third)


def test_a_revocation_closes_what_the_relay_had_granted(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    book = first.core.book
    book.expire(lab.now + TOKEN_S)
    book.ask(third.node, second.node, lab.now)
    assert len(book) == 1
    revoke(lab, third)
    assert len(book) == 0


# --- peers that break the protocol


@pytest.mark.parametrize("kind", [CONTROL_FRAME, GOSSIP_FRAME, SPREAD_FRAME, UNKNOWN_FRAME])
@pytest.mark.parametrize("data", [b"", b"\xff", b"\x92\x01", b"\xc1" * 64, bytes(9000)])
def test_garbage_is_refused_and_hurts_nobody_else(lab: Any, kind: int, data: bytes) -> None:
    first, second, third = lab.small("first", "second", "third")
    wire = lab.wire(first, second)
    lab.deliver(wire, first, kind, data)
    lab.run(0.1)
    assert len(first.errors) == 1
    assert not wire.alive
    first.core.set_streams(streams("on"), lab.now)
    lab.run(2.0)
    assert first.is_linked(third)
    assert carried(third, first) == ["on"]


def test_random_frames_raise_nothing_but_remote_errors(lab: Any) -> None:
    first, second = lab.small("first", "second")
    random = Random(1)
    good = [b"\x93\x01\x02", encode(Ping(1)), encode_gossip(Prune()), encode(Bye("x"))]
    for number in range(150):
        data = bytearray(random.choice(good) + random.randbytes(random.randrange(40)))
        data[random.randrange(len(data))] = random.randrange(256)
        if not first.is_linked(second):
            lab.run(65.0)  # as long as who broke the protocol is shunned
            lab.connect(second, first)
        connection = first.core.connector.links[second.node].connection
        try:
            first.core.receive(connection, number % 4, bytes(data), lab.now, lab.unix_s)
        except RemoteError as error:
            assert str(error)
            lab.close(first, connection)
            first.core.closed(connection, str(error), lab.now)
            lab.run(0.1)


def test_a_frame_on_a_connection_that_was_given_up_is_void(lab: Any) -> None:
    first, _ = lab.small("first", "second")
    first.core.outputs()
    first.core.receive(99, UNKNOWN_FRAME, b"\xff", lab.now, lab.unix_s)
    assert first.core.outputs() == []


def test_who_shows_the_claim_of_another_is_expelled(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    stolen = second.core.membership.own.data
    lie = payload(Who("second", "fwnode test", [Role.EDGE], stolen))
    third.core.gossip.publish(Kind.WHO, lie, lab.now)
    third.core.set_streams(streams(), lab.now)
    lab.run(1.0)
    for host in (first, second):
        assert host.noted("not a member") == [
            {"node": "third", "reason": "it shows the claim of another node"}
        ]
        assert not host.is_linked(third)
    assert first.is_linked(second)


@pytest.mark.parametrize("claim", [b"", b"\xc1", bytes(4000)])
def test_who_shows_no_claim_is_expelled(lab: Any, claim: bytes) -> None:
    first, second = lab.small("first", "second")
    second.core.gossip.publish(Kind.WHO, payload(Who("second", "", [], claim)), lab.now)
    second.core.set_streams(streams(), lab.now)
    lab.run(1.0)
    assert [said["node"] for said in first.noted("not a member")] == ["second"]
    assert not first.is_linked(second)


@pytest.mark.parametrize("kind", [Kind.WHERE, Kind.WHO])
def test_a_record_that_is_not_understood_is_said_and_left_alone(lab: Any, kind: Kind) -> None:
    first, second = lab.small("first", "second")
    second.core.gossip.publish(kind, b"\xc1garbage", lab.now)
    second.core.set_streams(streams("cam"), lab.now)
    lab.run(1.0)
    assert [said["node"] for said in first.noted("record not understood")] == [second.node[:4].hex()]
    assert first.core.fact(second.node, Where if kind is Kind.WHERE else Who) is None
    assert first.is_linked(second)
    assert carried(first, second) == ["cam"]


def test_a_record_whose_owner_took_it_back_is_no_fact(lab: Any) -> None:
    first, second = lab.small("first", "second")
    second.core.set_streams(streams("cam"), lab.now)
    lab.run(1.0)
    second.core.gossip.publish(Kind.STREAMS, b"", lab.now)
    lab.run(1.0)
    assert first.core.fact(second.node, CarriedStreams) is None
    assert not first.noted("record not understood")


# --- floods and bounds


def test_a_flood_of_gossip_is_first_dropped_and_then_ends_the_link(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    wire, data = lab.wire(first, second), encode_gossip(Prune())
    counters = first.core.gossip.counters
    allowed = LINK_BURST_BYTES // (len(data) + MESSAGE_COST_BYTES)
    for _ in range(allowed):
        lab.deliver(wire, first, GOSSIP_FRAME, data)
    before = counters.flooded
    for _ in range(FLOOD_MESSAGES // 2):
        lab.deliver(wire, first, GOSSIP_FRAME, data)
    assert 0 < counters.flooded - before <= FLOOD_MESSAGES // 2
    assert first.is_linked(second)
    for _ in range(FLOOD_MESSAGES):
        lab.deliver(wire, first, GOSSIP_FRAME, data)
    assert counters.flooded == FLOOD_MESSAGES
    assert not first.is_linked(second)
    lab.run(1.0)
    assert first.is_linked(third)
    assert not wire.alive
    assert {"node": "first", "reason": "flood"} in second.noted("peer unlinked")


def test_a_flood_about_membership_ends_the_link(lab: Any) -> None:
    first, second = lab.small("first", "second")
    wire, data = lab.wire(first, second), bytes([0x91, 7])  # Renew
    dropped = 0
    while not first.errors:
        lab.deliver(wire, first, SPREAD_FRAME, data)
        dropped += 1
        assert dropped < 20_000
    assert first.core.spread.counters.dropped == SPREAD_FLOOD_MESSAGES + 1
    assert "more messages" in first.errors[0]


def test_every_ping_is_answered_once(lab: Any) -> None:
    first, second = lab.small("first", "second")
    first.core.outputs()
    connection = lab.wire(first, second).number(first)
    first.core.receive(connection, CONTROL_FRAME, encode(Ping(77)), lab.now, lab.unix_s)
    assert first.core.outputs() == [Transmit(connection, CONTROL_FRAME, encode(Pong(77)))]


def test_addresses_that_peers_saw_are_the_newest_few(lab: Any) -> None:
    first, second = lab.small("first", "second")
    second.core.gossip.outputs()
    for number in range(OBSERVED_MAX + 5):
        lab.connect(second, first, observed=f"198.51.100.{number + 1}:9")
    assert len(second.core.presence.observed) == OBSERVED_MAX
    assert next(reversed(second.core.presence.observed)) == f"198.51.100.{OBSERVED_MAX + 5}:7077"
    own, *seen = second.core.candidates
    assert own == second.address
    assert seen[0] == f"198.51.100.{OBSERVED_MAX + 5}:7077"
    assert f"198.51.100.{1}:7077" not in seen


def test_first_sights_are_bounded(lab: Any) -> None:
    first, second, third = (lab.add(name) for name in ("first", "second", "third"))
    lab.join(second, first)
    first.dialable = third.dialable = False  # so that one only hears of the other
    for number in range(SEEN_MAX - 2):
        first.core.roll.first_seen[number.to_bytes(32, "big")] = 1.0
    lab.join(third, second)
    assert third.node in first.core.gossip.directory.members()
    assert len(first.core.roll.first_seen) == SEEN_MAX


# --- being found and being reached


def test_discovery_leads_to_a_link(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    first.core.found(second.node, second.address, lab.now)
    lab.run(1.0)
    assert first.is_linked(second)


def test_discovery_of_oneself_or_of_whom_one_knows_does_nothing(lab: Any) -> None:
    first, second = lab.small("first", "second")
    first.core.outputs()
    first.core.found(first.node, first.address, lab.now)
    first.core.found(second.node, "192.0.2.250:1", lab.now)
    assert not [output for output in first.core.outputs() if isinstance(output, Dial)]


def test_a_link_to_oneself_is_not_needed(lab: Any) -> None:
    first = lab.add("first")
    peer = lab.peer(first, first, dialled=True)
    assert not first.core.connected(1, peer, lab.now, lab.unix_s)
    assert not first.is_linked(first)


def test_a_node_that_is_dialled_from_outside_says_that_it_is_open(lab: Any) -> None:
    first, second = lab.small("first", "second")
    assert first.core.nat == REACHABLE
    assert second.core.fact(first.node, Where).nat == REACHABLE


def test_a_node_that_cannot_be_dialled_finds_out_and_has_others_stand_by(lab: Any) -> None:
    first, second, third = (lab.add(name) for name in ("first", "second", "third"))
    hidden = lab.add("hidden")
    hidden.dialable = False
    for host in (second, third, hidden):
        lab.join(host, first)
    lab.run(30.0)
    assert hidden.core.nat == UNREACHABLE
    where = first.core.fact(hidden.node, Where)
    assert where.nat == UNREACHABLE
    assert 0 < len(where.relays) <= STANDBY
    for relay in where.relays:
        [host] = [host for host in (first, second, third) if host.node == relay]
        assert host.core.connector.links[hidden.node].held


def test_an_address_that_a_router_opened_is_told_and_tried(lab: Any) -> None:
    """Who was asked to try the port itself a moment ago refuses to try again so soon."""
    first, second = lab.add("first"), lab.add("second")
    second.dialable = False
    lab.join(second, first)
    lab.run(0.5)
    assert second.core.nat == UNREACHABLE
    opened = "192.0.2.2:41000"
    second.address, second.dialable = opened, True
    second.core.set_mapped(opened, lab.now)
    assert opened in second.core.candidates
    lab.run(8.0)
    assert second.core.nat == REACHABLE
    where = first.core.fact(second.node, Where)
    assert where and (where.mapped, where.nat) == (opened, REACHABLE)
    assert {probe.address for probe in first.probes} == {"192.0.2.2:7077", opened}
    tries = len(first.probes)
    lab.run(30.0)
    assert len(first.probes) == tries  # it is known


def test_an_opened_port_that_leads_nowhere_is_not_tried_for_ever(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    second.dialable = False
    lab.join(second, first)
    second.core.set_mapped("192.0.2.2:41000", lab.now)
    lab.run(60.0)
    assert second.core.nat == UNREACHABLE
    assert 1 <= len(first.probes) <= 1 + MAPPED_ASKS


def test_a_port_that_the_router_closed_again_makes_a_node_unreachable(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    second.address = opened = "192.0.2.2:41000"
    second.dialable = False
    lab.join(second, first)
    second.dialable = True
    second.core.set_mapped(opened, lab.now)
    lab.run(8.0)
    assert second.core.nat == REACHABLE
    second.dialable = False
    second.core.set_mapped("", lab.now)
    assert opened not in second.core.candidates
    lab.run(1.0)
    assert second.core.nat == UNREACHABLE


def test_a_changed_address_is_told_and_what_peers_saw_of_the_old_is_forgotten(lab: Any) -> None:
    first, second = lab.small("first", "second")
    assert second.core.presence.observed
    second.address = "192.0.2.200:7077"
    second.core.set_addresses(["192.0.2.200"], lab.now)
    assert not second.core.presence.observed
    lab.run(1.0)
    assert first.core.fact(second.node, Where).candidates == ["192.0.2.200:7077"]


# --- for others


def asked_to_relay(lab: Any, relay: Any, origin: Any, target: bytes) -> list[object]:
    """What the relay answers its asker at once."""
    relay.core.outputs()
    connection = lab.wire(relay, origin).number(relay)
    ask = encode(RelayAsk(target, bytes(TOKEN_BYTES)))
    relay.core.receive(connection, CONTROL_FRAME, ask, lab.now, lab.unix_s)
    return [
        parse_control_untrusted(output.data)
        for output in relay.core.outputs()
        if isinstance(output, Transmit) and output.connection == connection and output.kind == CONTROL_FRAME
    ]


def test_a_node_without_the_role_relays_nothing(lab: Any) -> None:
    first = lab.add("first")
    edge = lab.add("edge", frozenset({Role.EDGE}))
    lab.join(edge, first)
    [answer] = asked_to_relay(lab, edge, first, bytes(32))
    assert isinstance(answer, RelayDeny)
    assert "does not relay" in answer.reason
    assert len(edge.core.book) == 0


def test_a_relay_splices_only_to_whom_it_is_linked(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    [answer] = asked_to_relay(lab, first, second, bytes(32))
    assert isinstance(answer, RelayDeny)
    granted = first.core.book.counters.granted
    [answer] = asked_to_relay(lab, first, second, third.node)
    assert isinstance(answer, RelayGrant)
    assert first.core.book.counters.granted == granted + 1


def test_a_clock_that_is_off_is_said(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    peer = replace(lab.peer(first, second, dialled=True), clock="its clock is 3 minutes behind")
    assert first.core.connected(1, peer, lab.now, lab.unix_s)
    lab.run(0.0)
    assert first.noted("clock") == [{"node": "second", "what": "its clock is 3 minutes behind"}]


def test_a_change_of_the_membership_is_kept_once(lab: Any) -> None:
    first, _ = lab.small("first", "second")
    first.core.outputs()
    first.core.membership_changed(lab.now, lab.unix_s)
    assert Keep() not in first.core.outputs()
    first.core.membership.revoke(lab.community.owner, bytes(range(32)), int(lab.unix_s))
    first.core.membership_changed(lab.now, lab.unix_s)
    assert first.core.outputs().count(Keep()) == 1


def test_a_replaced_connection_is_closed(lab: Any) -> None:
    first, second = lab.small("first", "second")
    lab.run(10.0)
    old = lab.wire(first, second)
    lab.connect(second, first)
    assert Close(old.number(first), "replaced by a newer connection") in first.core.outputs()
    assert first.is_linked(second)
    with pytest.raises(WireError):
        first.core.receive(
            first.core.connector.links[second.node].connection, UNKNOWN_FRAME, b"", lab.now, lab.unix_s
        )


def test_saying_something_that_is_too_large_is_our_own_fault(lab: Any) -> None:
    first = lab.add("first")
    with pytest.raises(StateError):
        first.core.gossip.publish(Kind.STREAMS, bytes(8000), lab.now)


# --- what must not end a node


def test_discovery_of_nodes_that_do_not_exist_is_bounded(lab: Any) -> None:
    first, _ = lab.small("first", "second")
    for number in range(PEERS_MAX + 10):
        first.core.found(number.to_bytes(32, "big"), "192.0.2.200:1", lab.now)
    assert len(first.core.connector._known) <= FOUND_MAX + 2
    lab.run(FOUND_S + 6.0)
    late = lab.add("late")
    first.core.found(late.node, late.address, lab.now)
    lab.run(2.0)
    assert first.is_linked(late)


def test_calls_from_nodes_that_do_not_exist_are_bounded(lab: Any) -> None:
    first, second = lab.small("first", "second")
    wire = lab.wire(first, second)
    dials = first.core.connector.counters["dials"]
    body = encode(CallMe(bytes(16), ["192.0.2.200:1"]))
    for number in range(PEERS_MAX + 10):
        said = encode(Forwarded(number.to_bytes(32, "big"), body))
        first.core.receive(wire.number(first), CONTROL_FRAME, said, lab.now, lab.unix_s)
    lab.run(5.0)
    assert first.core.connector.counters["dials"] == dials + CALLS_PER_MINUTE
    assert len(first.core.connector._known) == 1 + CALLS_PER_MINUTE


@pytest.mark.parametrize("how", ["goodbye", "revoked"])
def test_of_who_is_gone_nothing_is_left(lab: Any, how: str) -> None:
    first, _, third = lab.small("first", "second", "third")
    if how == "goodbye":
        third.core.leave(lab.now)
    else:
        first.core.membership.revoke(lab.community.owner, third.node, int(lab.unix_s))
        first.core.membership_changed(lab.now, lab.unix_s)
    lab.run(0.5)
    assert third.node not in first.core.spread._peers
    assert [note["node"] for note in first.noted("peer unlinked")] == ["third"]
    assert [note["node"] for note in first.noted("peer gone")] == ["third"]


@pytest.mark.parametrize(
    ("name", "roles"), [("second", [Role.EDGE]), ("far", [Role.EDGE, Role.RELAY])], ids=["name", "roles"]
)
def test_who_says_more_than_its_claim_is_expelled(lab: Any, name: str, roles: list[Role]) -> None:
    """By those who know it by gossip only, too; and it stays so although its claim is in order."""
    first, second = lab.small("first", "second")
    far = lab.add("far", frozenset({Role.EDGE}))
    far.dialable = first.dialable = False
    lab.join(far, second)
    far.core.gossip.publish(Kind.WHO, payload(Who(name, "x", roles, far.core.membership.own.data)), lab.now)
    lab.run(5.0)
    assert not second.is_linked(far)
    assert [view.name for view in peer_views(first.core, lab.now, lab.unix_s)] == ["first", "second"]


def test_an_expelled_node_with_a_new_claim_is_taken_in_again(lab: Any) -> None:
    """By the one that it links to and by those who hear of it: nobody has to start again."""
    first, second, third = lab.small("first", "second", "third")
    for host in (first, second):
        host.core._expel(third.node, "expired", lab.now)
    assert third.node not in first.core.gossip.directory
    lab.run(10.0)
    assert third.node in first.core.gossip.directory
    assert third.node in second.core.gossip.directory
