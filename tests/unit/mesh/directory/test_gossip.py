"""One gossip core, message by message; networks of them are in tests/sim."""

import hashlib
from random import Random

import pytest

from mesh.directory.gossip import LOAD_EVERY_S, REFRESH_S, Changed, Gone, Gossip
from mesh.directory.record import Kind, Record, parse_record_untrusted, sign_record
from mesh.errors import StateError, WireError
from mesh.membership.message import (
    Adopt,
    Adopted,
    Beat,
    Compare,
    Have,
    Message,
    Part,
    Prune,
    Push,
    Vouched,
    Want,
    encode,
    parse_message_untrusted,
)
from mesh.membership.outbox import Connect, Release, Send
from mesh.membership.suspicion import parse_vouch_untrusted, sign_accusation, sign_vouch

NETWORK = b"n" * 32


class Signer:
    def __init__(self, number: int) -> None:
        self.node_id = bytes([number]) * 32

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(self.node_id + message).digest()


def verify(node_id: bytes, message: bytes, signature: bytes) -> bool:
    return hashlib.blake2b(node_id + message).digest() == signature


def node(number: int) -> bytes:
    return Signer(number).node_id


def record(owner: int, version: int = 1, kind: Kind = Kind.WHO, generation: int = 1) -> Record:
    return sign_record(Signer(owner), NETWORK, generation, kind, version, b"x")


class Core:
    """Node 9 with neighbours 1 and up."""

    def __init__(self, neighbours: int = 2) -> None:
        self.gossip = Gossip(Signer(9), NETWORK, verify, Random(1), 100, 0.0)
        self.gossip.publish(Kind.WHO, b"me", 0.0)
        for number in range(1, neighbours + 1):
            self.gossip.link_up(node(number), 0.0)
            self.hear(number, Adopt(True), 0.0)
            self.hear(number, Push([record(number).blob], [], True), 0.0)
        self.run(1.0)
        self.gossip.outputs()

    def hear(self, peer: int, message: Message, now: float) -> None:
        self.gossip.receive(node(peer), encode(message), now)

    def run(self, now: float) -> None:
        while self.gossip.deadline() <= now:
            self.gossip.on_deadline(self.gossip.deadline())

    def said(self, kind: type[Message] | None = None) -> list[tuple[int, Message]]:
        found = [
            (item.peer[0], parse_message_untrusted(item.data))
            for item in self.gossip.outputs()
            if isinstance(item, Send)
        ]
        return [(peer, message) for peer, message in found if kind is None or isinstance(message, kind)]


def test_published_record_goes_to_every_tree_neighbour() -> None:
    core = Core()
    core.gossip.publish(Kind.STREAMS, b"live", 2.0)
    pushed = core.said(Push)
    assert [peer for peer, _ in pushed] == [1, 2]
    (blob,) = pushed[0][1].records
    assert parse_record_untrusted(blob).payload == b"live"


def test_new_record_is_reported_and_passed_on() -> None:
    core = Core()
    core.hear(1, Push([record(5).blob]), 2.0)
    outputs = core.gossip.outputs()
    assert [item.record for item in outputs if isinstance(item, Changed)] == [record(5)]
    assert [item.peer[0] for item in outputs if isinstance(item, Send)] == [2]


def test_duplicate_prunes_the_link_until_grafted() -> None:
    core = Core()
    core.hear(1, Push([record(5).blob]), 2.0)
    core.hear(2, Push([record(5).blob]), 2.0)
    assert core.said(Prune) == [(2, Prune())]
    core.hear(1, Push([record(5, 2, Kind.LOAD).blob]), 2.1)
    assert core.said(Push) == []
    core.run(2.6)
    assert core.said(Have) == [(2, Have([record(5, 2, Kind.LOAD).id]))]
    core.hear(2, Want([record(5, 2, Kind.LOAD).id], True), 2.7)
    assert core.said(Push) == [(2, Push([record(5, 2, Kind.LOAD).blob], [], True))]
    core.hear(1, Push([record(5, 3, Kind.LOAD).blob]), 3.0)
    core.run(3.0)
    assert [peer for peer, _ in core.said(Push)] == [2]


def test_mostly_duplicates_prune_too() -> None:
    core = Core()
    core.hear(1, Push([record(5).blob, record(6).blob]), 2.0)
    core.hear(2, Push([record(5).blob, record(7).blob]), 2.0)
    assert core.said(Prune) == []
    core.hear(2, Push([record(5).blob, record(6).blob, record(8).blob]), 2.1)
    assert core.said(Prune) == [(2, Prune())]


def test_passed_on_loads_share_a_push() -> None:
    core = Core()
    for owner in range(3, 7):
        core.hear(1, Push([record(owner).blob]), 2.0)
    core.said()
    for owner in range(3, 7):
        now = 2.0 + owner / 100
        core.hear(1, Push([record(owner, 2, Kind.LOAD).blob]), now)
        core.run(now)
    core.run(2.2)
    assert [(peer, len(message.records)) for peer, message in core.said(Push)] == [(2, 1), (2, 3)]


def test_announced_record_is_fetched() -> None:
    core = Core()
    core.hear(1, Have([record(5).id, record(1).id]), 2.0)
    core.run(2.3)
    assert core.said(Want) == [(1, Want([record(5).id]))]


def test_load_waits_its_turn() -> None:
    core = Core()
    for number in range(3):
        core.gossip.publish(Kind.LOAD, bytes([number]), 2.0 + number)
    core.run(4.0)
    assert len(core.said(Push)) == 2
    core.run(2.0 + LOAD_EVERY_S)
    held = core.gossip.directory.record(node(9), Kind.LOAD)
    assert held is not None and (held.version, held.payload) == (2, b"\x02")


def test_accusation_is_answered_with_a_higher_generation() -> None:
    core = Core()
    core.gossip.publish(Kind.STREAMS, b"live", 1.0)
    core.gossip.overlay.population = 100
    core.said()
    vouch = sign_vouch(Signer(9), NETWORK, 100, 1, [node(1)])
    core.hear(2, Push([], [sign_accusation(Signer(1), NETWORK, vouch, True).blob]), 2.0)
    said = core.said()
    assert (1, Part()) in said
    pushed = [message for _, message in said if isinstance(message, Push)]
    records = [parse_record_untrusted(blob) for blob in pushed[0].records]
    assert {(r.kind, r.generation) for r in records} == {(Kind.WHO, 101), (Kind.STREAMS, 101)}
    core.hear(2, Push([], [sign_accusation(Signer(1), NETWORK, vouch, False).blob]), 3.0)
    assert core.gossip.generation == 101 and core.gossip.counters.refutations == 1


def test_quorum_buries_and_a_higher_generation_digs_up() -> None:
    core = Core(neighbours=3)
    vouch = sign_vouch(Signer(5), NETWORK, 1, 1, [node(1), node(2), node(3)])
    core.hear(1, Push([record(5).blob]), 2.0)
    for number in (1, 2):
        core.hear(number, Push([], [sign_accusation(Signer(number), NETWORK, vouch, False).blob]), 2.0)
    core.gossip.outputs()
    core.run(3.0)
    assert Gone(node(5), "dead") in core.gossip.outputs()
    core.hear(1, Push([record(5, version=2).blob]), 3.5)
    assert [len(message.accusations) for _, message in core.said(Push)] == [2]
    core.hear(1, Push([record(5, generation=2).blob]), 4.0)
    assert node(5) in core.gossip.directory


def test_silent_neighbour_is_accused_with_its_own_vouch() -> None:
    core = Core()
    vouch = sign_vouch(Signer(1), NETWORK, 1, 1, [node(9), node(2)])
    core.hear(1, Vouched(vouch.blob), 1.0)
    for now in range(2, 9):
        core.hear(2, Beat(), float(now))
        core.run(float(now))
    accusations = [message.accusations for peer, message in core.said(Push) if peer == 2]
    assert any(accusations)
    for now in range(9, 19):
        core.hear(2, Beat(), float(now))
        core.run(float(now))
    assert node(1) not in core.gossip.directory and core.gossip.counters.deaths == 1


def test_vouch_names_the_neighbours_and_is_repeated_when_lost() -> None:
    core = Core()
    core.hear(1, Beat(False, 0), 2.0)
    ((peer, vouched),) = core.said(Vouched)
    vouch = parse_vouch_untrusted(vouched.vouch, NETWORK, verify)
    assert peer == 1 and vouch.neighbours == (node(1), node(2)) and vouch.generation == 100
    core.hear(1, Beat(False, vouch.sequence), 2.0)
    assert core.said(Vouched) == []


def test_broken_link_is_wanted_back() -> None:
    core = Core()
    core.gossip.link_down(node(1), 2.0)
    assert Connect(node(1)) in core.gossip.outputs()
    core.gossip.link_up(node(1), 3.0)
    assert core.said(Adopt) == [(1, Adopt(False))]
    core.hear(1, Adopted([]), 3.1)
    assert core.said(Compare)


def test_goodbye_of_others_and_of_oneself() -> None:
    core = Core()
    core.hear(1, Push([record(1, 1, Kind.GOODBYE).blob]), 2.0)
    outputs = core.gossip.outputs()
    assert Gone(node(1), "left") in outputs and Release(node(1), "left", fault=True) in outputs
    core.gossip.leave(3.0)
    core.gossip.leave(3.0)
    said = core.said()
    assert parse_record_untrusted(said[0][1].records[0]).kind == Kind.GOODBYE
    assert said[1:] == [(2, Part())]
    assert core.gossip.is_alone
    with pytest.raises(StateError):
        core.gossip.publish(Kind.WHO, b"", 4.0)


def test_wrong_bytes_cost_the_link() -> None:
    core = Core()
    now = 2.0
    for bad in (b"\xc1", encode(Push([record(5).blob[:-1] + b"?"])), encode(Vouched(b"x" * 80))):
        with pytest.raises(WireError):
            core.gossip.receive(node(1), bad, now)
        assert any(isinstance(item, Release) for item in core.gossip.outputs())
        core.gossip.link_up(node(1), now)
        assert [type(item) for item in core.gossip.outputs()] == [Release]
        now += 100.0
        core.gossip.link_up(node(1), now)
    core.gossip.receive(node(77), b"from a link that was released", now)


def test_former_life_is_outdone_and_a_clone_forged() -> None:
    core = Core()
    core.hear(1, Push([record(9, 5, Kind.WHO, 500).blob]), 2.0)
    assert core.gossip.generation == 501
    forged = record(9, 5, Kind.WHO, 900).blob
    with pytest.raises(WireError):
        core.gossip.receive(node(1), encode(Push([forged[:-1] + b"?"])), 2.0)


def test_forbidden_node_is_cut_off() -> None:
    core = Core()
    core.gossip.forbid(node(1), 2.0)
    assert {type(item) for item in core.gossip.outputs()} == {Release, Gone}
    core.gossip.link_up(node(1), 3.0)
    assert core.gossip.outputs() == [Release(node(1), "forbidden")]


def test_record_is_refreshed() -> None:
    core = Core(neighbours=0)
    core.run(1.2 * REFRESH_S)
    held = core.gossip.directory.record(node(9), Kind.WHO)
    assert held is not None and held.version >= 2


def test_misuse() -> None:
    core = Core()
    with pytest.raises(StateError):
        core.gossip.link_up(node(9), 1.0)
    with pytest.raises(StateError):
        core.gossip.publish(Kind.WHO, b"x" * 8000, 1.0)
