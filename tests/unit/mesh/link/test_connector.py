"""Links that are wanted come up, survive, and end, over a small virtual network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from mesh.errors import StateError, WireError
from mesh.identity.key import SecretKey
from mesh.identity.membership import found_network
from mesh.link.connector import GRACE_S, PEERS_MAX, Connector
from mesh.link.control import Hold, Ping, encode
from mesh.link.model import Peer
from mesh.link.pulse import DEAD_S
from mesh.link.steps import Close, Dial, DialRelay, Down, Frame, Output, Probe, Reached, Relay, Up
from mesh.model import NodeId, Role

DELAY_S = 0.01
OWNER = SecretKey(bytes([255]) * 32)
CHAIN = found_network(OWNER, SecretKey(bytes([254]) * 32).node_id, "any", 1_800_000_000)


@dataclass
class Wire:
    """One connection: which number it has at either end."""

    ends: dict[NodeId, int]
    via: NodeId | None
    alive: bool = True
    silent: bool = False


@dataclass
class Host:
    """One node: its connector, what it told, whom it can be dialled by."""

    node: NodeId
    connector: Connector
    address: str
    dialable: bool = True
    events: list[Output] = field(default_factory=list)
    wires: dict[int, Wire] = field(default_factory=dict)

    def said(self, kind: type[Output]) -> list[Output]:
        return [event for event in self.events if isinstance(event, kind)]

    def is_linked(self, other: "Host") -> bool:
        return other.node in self.connector.links


class Lab:
    """Hosts and time. Dials take two delays, frames one; a dial to who cannot be dialled takes a second."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.now = 0.0
        self.hosts: list[Host] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers = count(1)
        self._offers: dict[bytes, tuple[Host, DialRelay]] = {}
        self._tokens = count(1)
        for index in range(size):
            address = f"192.0.2.{index + 1}:7077"
            connector = Connector(
                bytes([index + 1]) * 32,
                Random(seed + index),
                Random(index).randbytes,
                partial(list, (address,)),
            )
            self.hosts.append(Host(bytes([index + 1]) * 32, connector, address))

    def at(self, delay_s: float, do: Callable[[], None]) -> None:
        heappush(self._events, (self.now + delay_s, next(self._order), do))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self._settle()
        while True:
            due = [at for host in self.hosts if (at := host.connector.deadline(self.now)) is not None]
            soonest = min([*due, self._events[0][0] if self._events else until, until])
            if soonest >= until:
                self.now = until
                return
            self.now = max(self.now, soonest)
            while self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()
            for host in self.hosts:
                host.connector.on_deadline(self.now)
            self._settle()

    def _settle(self) -> None:
        for host in self.hosts:
            for output in host.connector.outputs():
                self._do(host, output)

    def _do(self, host: Host, output: Output) -> None:
        match output:
            case Dial():
                self._dial(host, output)
            case DialRelay():
                self.at(2 * DELAY_S, lambda: self._meet(host, output))
            case Frame():
                wire = host.wires.get(output.connection)
                if wire is not None and wire.alive and not wire.silent:
                    self.at(DELAY_S, lambda: self._deliver(host, wire, output.data))
            case Close():
                self._close(host, output.connection)
            case Relay():
                host.events.append(output)
                number = next(self._tokens)
                host.connector.errands.granted(output, b"o%015d" % number, b"t%015d" % number, self.now)
            case _:
                host.events.append(output)

    def _dial(self, host: Host, dial: Dial) -> None:
        target = next((other for other in self.hosts if other.address == dial.address), None)
        if target is None or not target.dialable or (dial.expect and dial.expect != target.node):
            self.at(1.0, lambda: host.connector.dial_failed(dial.attempt, self.now))
            return

        def connect() -> None:
            host.connector.dialled(dial.attempt)
            self.connect(host, target)

        self.at(2 * DELAY_S, connect)

    def _meet(self, host: Host, dial: DialRelay) -> None:
        """Both halves of a relayed connection carry the same number in their tokens."""
        number = dial.token[1:]
        other = self._offers.pop(number, None)
        if other is None:
            self._offers[number] = (host, dial)
            return
        host.connector.dialled(dial.attempt)
        other[0].connector.dialled(other[1].attempt)
        dialler, target = (other[0], host) if dial.accept else (host, other[0])
        self.connect(dialler, target, via=dial.via)

    def connect(self, dialler: Host, target: Host, via: NodeId | None = None) -> None:
        wire = Wire({dialler.node: next(self._numbers), target.node: next(self._numbers)}, via)
        for host in (dialler, target):
            host.wires[wire.ends[host.node]] = wire
        for host, other in ((dialler, target), (target, dialler)):
            peer = self._peer(other, host, dialled=host is dialler, relayed=via is not None)
            if not host.connector.connected(wire.ends[host.node], peer, self.now, via=via):
                self._close(host, wire.ends[host.node])

    def _peer(self, other: Host, host: Host, *, dialled: bool, relayed: bool) -> Peer:
        remote = "" if relayed else other.address if dialled else f"{other.address.split(':')[0]}:50000"
        roles = frozenset({Role.RELAY})
        return Peer(other.node, "n", roles, CHAIN, "fwnode test", "", remote, "", dialled, 2 * DELAY_S)

    def _deliver(self, host: Host, wire: Wire, data: bytes) -> None:
        target = next(other for other in self.hosts if other.node in wire.ends and other is not host)
        if wire.alive and target.connector.heard(wire.ends[target.node], self.now) is not None:
            target.connector.receive(wire.ends[target.node], data, self.now)

    def _close(self, host: Host, connection: int) -> None:
        wire = host.wires.pop(connection, None)
        if wire is None or not wire.alive:
            return
        other = next(found for found in self.hosts if found.node in wire.ends and found is not host)

        def end() -> None:
            wire.alive = False
            other.connector.closed(wire.ends[other.node], "closed by the other side", self.now)

        self.at(2 * DELAY_S, end)

    def wires_between(self, one: Host, other: Host) -> list[Wire]:
        return [wire for wire in one.wires.values() if other.node in wire.ends and wire.alive]


def acquainted(size: int, seed: int = 1) -> Lab:
    lab = Lab(size, seed)
    for host in lab.hosts:
        for other in lab.hosts:
            if other is not host:
                host.connector.learn(other.node, [other.address], [])
    return lab


def linked(lab: Lab, one: Host, other: Host) -> None:
    one.connector.want(other.node, lab.now)
    lab.run(0.5)
    assert one.is_linked(other)
    assert other.is_linked(one)


def test_wanted_link_comes_up_and_is_measured() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    assert [type(event) for event in one.events] == [Up]
    assert one.connector.links[other.node].pulse.rtt_s == pytest.approx(2 * DELAY_S)


@pytest.mark.parametrize("seed", range(5))
def test_both_dial_at_once_and_one_connection_stays(seed: int) -> None:
    lab = acquainted(2, seed)
    one, other = lab.hosts
    one.connector.want(other.node, lab.now)
    other.connector.want(one.node, lab.now)
    lab.run(3.0)
    assert len(lab.wires_between(one, other)) == 1
    assert one.is_linked(other)
    assert other.is_linked(one)
    assert not one.said(Down)
    assert not other.said(Down)


def test_broken_connection_is_made_anew_without_a_word() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    (wire,) = lab.wires_between(one, other)
    wire.alive = False
    for host in (one, other):
        host.connector.closed(wire.ends[host.node], "reset", lab.now)
    lab.run(1.0)
    assert one.is_linked(other)
    assert not one.said(Down)
    assert not other.said(Down)


def test_link_moves_to_a_new_path_within_two_seconds_of_traffic() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    lab.run(5.0)
    (wire,) = lab.wires_between(one, other)
    wire.silent = True  # one has moved: nothing passes any more on the old connection
    other.connector.sent(one.node, lab.now)
    began = lab.now
    while other.connector.links[one.node].connection == wire.ends[other.node]:
        lab.run(0.05)
        assert lab.now - began < 2.0
    assert not other.said(Down)


def test_own_address_change_makes_every_link_prove_itself() -> None:
    lab = acquainted(3)
    one, other, third = lab.hosts
    linked(lab, one, other)
    linked(lab, one, third)
    (dead,) = lab.wires_between(one, other)
    dead.silent = True
    one.connector.address_changed(lab.now)
    lab.run(1.0)
    assert one.connector.links[other.node].connection != dead.ends[one.node]
    assert one.is_linked(third)
    assert not one.said(Down)


def test_dead_peer_is_told_after_the_grace() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    (wire,) = lab.wires_between(one, other)
    other.dialable, wire.alive = False, False
    one.connector.closed(wire.ends[one.node], "reset", lab.now)
    lab.run(GRACE_S - 0.2)
    assert not one.said(Down)
    lab.run(0.4)
    assert one.said(Down) == [Down(other.node, "reset")]


def test_silent_peer_is_given_up() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    (wire,) = lab.wires_between(one, other)
    one.dialable, other.dialable, wire.silent = False, False, True
    one.connector.sent(other.node, lab.now)
    lab.run(DEAD_S + GRACE_S + 0.5)
    assert one.said(Down) == [Down(other.node, "silent")]


def test_unwanted_link_is_closed_and_not_dialled_again() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    one.connector.unwant(other.node, "enough neighbours", lab.now)
    lab.run(5.0)
    assert not one.is_linked(other)
    assert not other.is_linked(one)
    assert other.said(Down) == [Down(one.node, "enough neighbours")]


def test_peer_that_cannot_be_dialled_dials_back() -> None:
    lab = acquainted(3)
    one, hidden, relay = lab.hosts
    hidden.dialable = False
    linked(lab, one, relay)
    linked(lab, hidden, relay)
    one.connector.learn(hidden.node, [hidden.address], [relay.node])
    one.connector.want(hidden.node, lab.now)
    lab.run(3.0)
    link = one.connector.links[hidden.node]
    assert link.via is None
    assert not link.peer.dialled
    assert len(lab.wires_between(one, hidden)) == 1


def test_two_that_cannot_be_dialled_meet_at_the_relay_and_go_direct_later() -> None:
    lab = acquainted(3)
    one, other, relay = lab.hosts
    one.dialable = other.dialable = False
    linked(lab, one, relay)
    linked(lab, other, relay)
    one.connector.want(other.node, lab.now)
    lab.run(3.0)
    assert one.connector.links[other.node].via == relay.node
    assert other.connector.links[one.node].via == relay.node
    other.dialable = True
    lab.run(90.0)
    assert one.connector.links[other.node].via is None
    assert len(lab.wires_between(one, other)) == 1
    assert not one.said(Down)


def test_unreachable_peer_is_tried_less_and_less_then_forgotten() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    other.dialable = False
    one.connector.want(other.node, lab.now)
    lab.run(600.0)
    assert 3 <= one.connector.counters["dials"] <= 8
    assert not one.said(Up)


def test_only_the_address_that_the_link_comes_from_is_tried() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    one.connector.errands.ask_reachable(other.node, "192.0.2.99:22", lab.now)
    lab.run(0.2)
    assert not other.said(Probe)
    (refused,) = one.said(Reached)
    assert isinstance(refused, Reached)
    assert not refused.ok
    one.connector.errands.ask_reachable(other.node, one.address, lab.now)
    lab.run(0.2)
    (probe,) = other.said(Probe)
    assert isinstance(probe, Probe)
    other.connector.errands.tried(probe, True, "", lab.now)
    lab.run(0.2)
    assert one.said(Reached)[-1] == Reached(other.node, one.address, True, "")


def test_held_link_is_marked() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    one.connector.hold(other.node, True, lab.now)
    lab.run(0.2)
    assert other.connector.links[one.node].held


def test_garbage_and_misplaced_messages_are_the_peers_fault() -> None:
    lab = acquainted(2)
    one, other = lab.hosts
    linked(lab, one, other)
    connection = one.connector.links[other.node].connection
    with pytest.raises(WireError):
        one.connector.receive(connection, b"\xff", lab.now)
    one.connector.receive(99, encode(Ping(1)), lab.now)  # a connection that was given up
    one.connector.receive(connection, encode(Hold(True)), lab.now)


def test_what_is_remembered_is_bounded() -> None:
    connector = Connector(bytes(32), Random(1), Random(1).randbytes, list)
    for number in range(PEERS_MAX + 10):
        connector.learn(number.to_bytes(4, "big") * 8 + b"", ["192.0.2.1:1"], [])
    assert len(connector._heard) == PEERS_MAX
    assert not connector._known


def test_who_is_wanted_is_bounded() -> None:
    connector = Connector(bytes(32), Random(1), Random(1).randbytes, list)
    for number in range(1, PEERS_MAX + 1):
        connector.want(number.to_bytes(4, "big") * 8, 0.0)
    with pytest.raises(StateError):
        connector.want(bytes(31) + b"x", 0.0)
    connector.unwant((1).to_bytes(4, "big") * 8, "not needed", 0.0)
    connector.want(bytes(31) + b"x", 0.0)
