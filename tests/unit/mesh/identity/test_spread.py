"""Every node of a network counts alike and hears of revocations, in any order of messages."""

import heapq
from random import Random
from typing import Any

import pytest

from mesh.errors import Refused, StateError, WireError
from mesh.identity import spread as spread_module
from mesh.identity.catalogue import Catalogue
from mesh.identity.claim import Chain, Link, make_chain
from mesh.identity.invite import Terms
from mesh.identity.membership import Membership
from mesh.identity.notice import make_notice
from mesh.identity.renewal import ANSWER_S, RENEW_AGAIN_S
from mesh.identity.revocation import Revoked as Said
from mesh.identity.revocation import make_revocation
from mesh.identity.spread import (
    FLOOD_MESSAGES,
    FORGED_MAX,
    MESSAGE_COST_BYTES,
    RECEIVE_BURST_BYTES,
    REPAIR_S,
    SEND_BURST_BYTES,
    SEND_BYTES_PER_S,
    WHOLE_IDS,
    Displaced,
    Noticed,
    Output,
    Renewed,
    Revoked,
    Shown,
    Spread,
    Tell,
)
from mesh.identity.spread_message import (
    MESSAGE_BYTES_MAX,
    Buckets,
    Digest,
    Fact,
    Ids,
    Need,
    NoticeBatch,
    Renew,
    Renewal,
    RevocationBatch,
    Show,
    UseBatch,
    encode_message,
    parse_message_untrusted,
)
from mesh.identity.wire import digest
from mesh.model import NodeId, Role, Signer

YEAR = 366 * 86_400
LATENCY_S = (0.01, 0.2)


class Simulation:
    """Nodes, links with latency that keeps no order, and lost messages where asked."""

    def __init__(self, network: Any, seed: int = 1) -> None:
        self.network = network
        self.random = Random(seed)
        self.now = 0.0
        self.unix_at_start = float(network.now + 100)
        self.loss = 0.0
        self.spreads: dict[NodeId, Spread] = {}
        self.memberships: dict[NodeId, Membership] = {}
        self.events: dict[NodeId, list[Output]] = {}
        self.links: set[tuple[NodeId, NodeId]] = set()
        self.sent: list[tuple[NodeId, Tell]] = []
        self._queue: list[tuple[float, int, NodeId, NodeId, bytes]] = []
        self._count = 0

    @property
    def unix_s(self) -> float:
        return self.unix_at_start + self.now

    def add(self, chain: Chain, renewer: Signer | None = None) -> NodeId:
        membership = Membership(chain)
        node = chain.node_id
        self.memberships[node] = membership
        self.spreads[node] = Spread(membership, renewer, Random(self.random.random()), self.now)
        self.events[node] = []
        return node

    def link(self, a: NodeId, b: NodeId) -> None:
        if a == b or (a, b) in self.links:
            return
        self.links |= {(a, b), (b, a)}
        for one, other in ((a, b), (b, a)):
            chain = self.memberships[other].own
            self.memberships[one].learn_use(chain, self.unix_s)
            self.spreads[one].link_up(other, chain, self.now)
            self.drain(one)

    def unlink(self, a: NodeId, b: NodeId) -> None:
        self.links -= {(a, b), (b, a)}
        self.spreads[a].link_down(b, self.now)
        self.spreads[b].link_down(a, self.now)

    def drain(self, node: NodeId) -> None:
        for output in self.spreads[node].outputs():
            if not isinstance(output, Tell):
                self.events[node].append(output)
                continue
            self.sent.append((node, output))
            assert len(output.data) <= MESSAGE_BYTES_MAX
            if self.random.random() >= self.loss:
                at = self.now + self.random.uniform(*LATENCY_S)
                self._count += 1
                heapq.heappush(self._queue, (at, self._count, node, output.peer, output.data))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            times = {node: spread.deadline() for node, spread in self.spreads.items()}
            node = min(times, key=lambda one: times[one])
            message_at = self._queue[0][0] if self._queue else end + 1
            if min(times[node], message_at) > end:
                self.now = end
                return
            if message_at <= times[node]:
                self.now, _, source, node, data = heapq.heappop(self._queue)
                if (source, node) in self.links:
                    self.spreads[node].receive(source, data, self.now, self.unix_s)
            else:
                assert times[node] >= self.now - 1e-6
                self.now = max(self.now, times[node])
                self.spreads[node].on_deadline(self.now, self.unix_s)
            self.drain(node)

    def random_graph(self, nodes: list[NodeId], extra: int) -> None:
        """Connected, with `extra` links beyond a tree."""
        for at in range(1, len(nodes)):
            self.link(nodes[at], nodes[self.random.randrange(at)])
        for _ in range(extra):
            self.link(*self.random.sample(nodes, 2))


def known(membership: Membership) -> tuple[list[bytes], list[bytes]]:
    return (
        [revocation.data for revocation in membership.revocations.all()],
        sorted(chain.data for chain in membership.uses.chains()),
    )


def kinds(simulation: Simulation) -> list[type]:
    return [type(parse_message_untrusted(tell.data)) for _, tell in simulation.sent]


def members(simulation: Simulation, count: int, uses: int | None = None) -> list[NodeId]:
    """The owner's node and `count` members by one invite, which may be for fewer."""
    network = simulation.network
    invite = network.invite(Terms(uses=uses or count))
    nodes = [simulation.add(network.own, network.owner)]
    return nodes + [simulation.add(network.join(invite, f"n{at}", network.now + at)) for at in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_a_revocation_reaches_all_at_once(network: Any, seed: int) -> None:
    simulation = Simulation(network, seed)
    nodes = members(simulation, 24)
    simulation.random_graph(nodes, 20)
    simulation.run(5)
    assert len({str(known(one)) for one in simulation.memberships.values()}) == 1
    bad = nodes[5]
    owner = simulation.memberships[nodes[0]]
    owner.revoke(network.owner, bad, int(simulation.unix_s))
    simulation.spreads[nodes[0]].announce(simulation.now)
    simulation.drain(nodes[0])
    simulation.run(3)
    for node in nodes:
        assert [event.key for event in simulation.events[node] if isinstance(event, Revoked)] == [bad]
        with pytest.raises(Refused, match="revoked"):
            simulation.memberships[node].check(simulation.memberships[bad].own, simulation.unix_s)


@pytest.mark.parametrize("seed", range(5))
def test_colliding_uses_end_the_same_everywhere(network: Any, seed: int) -> None:
    simulation = Simulation(network, seed)
    nodes = members(simulation, 16, uses=6)
    halves = nodes[::2], nodes[1::2]
    for half in halves:
        simulation.random_graph(half, 5)
    simulation.run(5)
    first = [sorted(str(known(simulation.memberships[node])) for node in half) for half in halves]
    assert first[0] != first[1]
    simulation.link(halves[0][3], halves[1][2])
    simulation.run(5)
    assert len({str(known(one)) for one in simulation.memberships.values()}) == 1
    some = simulation.memberships[nodes[0]]
    assert [chain.claim.name for chain in some.uses.chains()] == [f"n{at}" for at in range(6)]
    assert any(isinstance(event, Displaced) for event in simulation.events[nodes[0]])


def test_lost_messages_are_repaired(network: Any) -> None:
    simulation = Simulation(network, 3)
    nodes = members(simulation, 12)
    simulation.random_graph(nodes, 8)
    simulation.run(5)
    simulation.loss = 1.0
    simulation.memberships[nodes[0]].revoke(network.owner, nodes[4], int(simulation.unix_s))
    simulation.spreads[nodes[0]].announce(simulation.now)
    simulation.drain(nodes[0])
    simulation.run(1)
    assert sum(len(one.revocations) for one in simulation.memberships.values()) == 1
    simulation.loss = 0.3
    simulation.run(10 * REPAIR_S)
    assert all(len(one.revocations) == 1 for one in simulation.memberships.values())


def test_nothing_is_sent_where_nothing_differs(network: Any) -> None:
    simulation = Simulation(network)
    a, b = members(simulation, 1)
    simulation.link(a, b)
    simulation.run(10)
    simulation.sent.clear()
    simulation.run(10 * REPAIR_S)
    assert set(kinds(simulation)) == {Digest}
    assert 10 <= len(simulation.sent) <= 40


def test_what_checks_counted_is_passed_on(network: Any) -> None:
    simulation = Simulation(network)
    a, b = members(simulation, 1)
    simulation.link(a, b)
    simulation.run(1)
    chain = network.join(network.invite(name="another"), "new")
    simulation.memberships[a].check(chain, simulation.unix_s)
    simulation.run(REPAIR_S * 1.5)
    assert chain.data in known(simulation.memberships[b])[1]


def test_ended_seats_are_forgotten_and_stay_so(network: Any) -> None:
    simulation = Simulation(network)
    nodes = members(simulation, 2)
    simulation.random_graph(nodes, 0)
    simulation.run(1)
    assert len(simulation.memberships[nodes[0]].uses) == 2
    simulation.unix_at_start += 2 * YEAR
    simulation.run(4 * REPAIR_S)
    assert [len(simulation.memberships[node].uses) for node in nodes] == [0, 0, 0]


def pair(network: Any) -> tuple[Simulation, NodeId, NodeId]:
    simulation = Simulation(network)
    owner, member = members(simulation, 1)
    simulation.link(owner, member)
    simulation.run(1)
    return simulation, owner, member


def test_large_tables_are_compared_by_ranges(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_module, "WHOLE_IDS", 4)
    simulation = Simulation(network)
    nodes = members(simulation, 20)
    a, b = nodes[:2]
    for at, node in enumerate(nodes[2:]):
        for one in (a, b)[at < 2 : 1 + (at < 19)]:
            simulation.memberships[one].learn_use(simulation.memberships[node].own, simulation.unix_s)
        simulation.spreads[a].announce(0.0)
        simulation.spreads[b].announce(0.0)
    simulation.link(a, b)
    simulation.run(1)
    assert known(simulation.memberships[a]) == known(simulation.memberships[b])
    assert len(simulation.memberships[a].uses) == 20
    sent = kinds(simulation)
    assert sent.count(Buckets) == 1
    assert sent.count(Ids) >= 1
    facts = [parse_message_untrusted(tell.data) for _, tell in simulation.sent]
    assert sum(len(message.facts) for message in facts if isinstance(message, UseBatch)) < 10


def test_facts_go_as_fast_as_the_budget_allows(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, owner, member = pair(network)
    spread = simulation.spreads[owner]
    count = SEND_BURST_BYTES // 30_000 + 20
    keep = frozenset(bytes([at // 256, at % 256]) * 16 for at in range(900))
    for at in range(count):
        said = Said(bytes([at]) * 32, network.now, at + 1, tuple(sorted(keep)))
        simulation.memberships[owner].learn_revocation(make_revocation(network.owner, said))
    spread.announce(simulation.now)
    tells = [output for output in spread.outputs() if isinstance(output, Tell)]
    assert SEND_BURST_BYTES - 40_000 < sum(len(tell.data) for tell in tells) < SEND_BURST_BYTES + 40_000
    assert simulation.now < spread.deadline() < simulation.now + 1
    size = 0
    began = now = simulation.now
    while any(spread._peers[member].waiting.values()):
        now = max(now, spread.deadline())
        spread.on_deadline(now, simulation.unix_s)
        size += sum(len(output.data) for output in spread.outputs() if isinstance(output, Tell))
    assert size / (now - began) == pytest.approx(SEND_BYTES_PER_S, rel=0.1)
    assert count == len(simulation.memberships[owner].revocations)


def test_revocations_go_before_uses(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, owner, member = pair(network)
    spread = simulation.spreads[owner]
    spread._peers[member].budget = -1000.0
    spread._peers[member].budget_at = simulation.now
    membership = simulation.memberships[owner]
    membership.check(network.join(network.invite(name="x invite"), "x"), simulation.unix_s)
    spread.announce(simulation.now)
    membership.revoke(network.owner, bytes(32), int(simulation.unix_s))
    spread.announce(simulation.now)
    assert not [output for output in spread.outputs() if isinstance(output, Tell)]
    spread.on_deadline(spread.deadline(), simulation.unix_s)
    spread.on_deadline(spread.deadline(), simulation.unix_s)
    tells = [output for output in spread.outputs() if isinstance(output, Tell)]
    found = [type(parse_message_untrusted(tell.data)) for tell in tells]
    assert found == [RevocationBatch, UseBatch]


def test_forged_facts_are_refused_and_then_end_the_link(network: Any) -> None:
    simulation, owner, member = pair(network)
    spread = simulation.spreads[owner]
    chain = network.join(network.invite(name="x invite"), "x")
    link = Link(chain.last, chain.links[-1].body, bytes(64))
    forged = encode_message(UseBatch([make_chain(chain.network, (*chain.links[:-1], link)).data]))
    before = simulation.memberships[owner].version
    for _ in range(FORGED_MAX):
        spread.receive(member, forged, simulation.now, simulation.unix_s)
    with pytest.raises(WireError, match="not true"):
        spread.receive(member, forged, simulation.now, simulation.unix_s)
    assert spread.counters.refused == FORGED_MAX + 1
    assert simulation.memberships[owner].version == before
    spread.receive(member, forged, simulation.now, simulation.unix_s)  # it is no neighbour any more


def test_good_facts_before_a_forged_one_are_passed_on(network: Any) -> None:
    simulation = Simulation(network)
    a, b, c = members(simulation, 2)
    simulation.link(a, b)
    simulation.link(a, c)
    simulation.run(1)
    good = make_revocation(network.owner, Said(bytes(32), network.now, 1))
    forged = make_revocation(network.key("stranger"), Said(bytes(32), network.now, 2))
    data = encode_message(RevocationBatch([good.data, forged.data]))
    simulation.spreads[a].receive(b, data, simulation.now, simulation.unix_s)
    simulation.drain(a)
    simulation.run(1)
    assert len(simulation.memberships[c].revocations) == 1
    assert len(simulation.memberships[b].revocations) == 0  # it is not told its own


def test_a_flood_is_dropped_and_then_ends_the_link(network: Any) -> None:
    simulation, owner, member = pair(network)
    spread = simulation.spreads[owner]
    data = encode_message(Ids(Fact.USE, b"", bytes(32 * 1024)))
    with pytest.raises(WireError, match="more messages"):
        for _ in range(FLOOD_MESSAGES + 1000):
            spread.receive(member, data, simulation.now, simulation.unix_s)
    assert spread.counters.dropped > FLOOD_MESSAGES


def test_small_questions_do_not_cost_large_answers_for_ever(network: Any) -> None:
    simulation, owner, member = pair(network)
    spread = simulation.spreads[owner]
    spread.outputs()
    data = encode_message(Buckets(Fact.USE, bytes(4096)))
    for _ in range(300):
        spread.receive(member, data, simulation.now, simulation.unix_s)
    answers = [output for output in spread.outputs() if isinstance(output, Tell)]
    cost = sum(len(tell.data) + MESSAGE_COST_BYTES for tell in answers)
    assert 100_000 < cost <= RECEIVE_BURST_BYTES + 2 * MESSAGE_COST_BYTES


@pytest.mark.parametrize(
    "message",
    [
        Ids(Fact.USE, b"", b"123"),
        Need(Fact.USE, b"123"),
        UseBatch([b"junk"]),
        RevocationBatch([b"junk"]),
    ],
)
def test_broken_messages_end_the_link(network: Any, message: Any) -> None:
    simulation, owner, member = pair(network)
    with pytest.raises(WireError):
        simulation.spreads[owner].receive(member, encode_message(message), simulation.now, simulation.unix_s)


def test_a_chain_to_a_grant_is_no_use(network: Any) -> None:
    simulation, owner, member = pair(network)
    data = encode_message(UseBatch([network.invite().chain.data]))
    with pytest.raises(WireError, match="no node"):
        simulation.spreads[owner].receive(member, data, simulation.now, simulation.unix_s)


def test_strangers_are_ignored(network: Any) -> None:
    simulation, owner, member = pair(network)
    simulation.unlink(owner, member)
    simulation.spreads[owner].receive(member, b"junk", simulation.now, simulation.unix_s)
    simulation.spreads[owner].outputs()


def test_need_gives_what_is_there(network: Any) -> None:
    simulation, owner, member = pair(network)
    chain = simulation.memberships[member].own
    data = encode_message(Need(Fact.USE, digest(chain.data) + bytes(16)))
    simulation.spreads[owner].receive(member, data, simulation.now, simulation.unix_s)
    (tell,) = simulation.spreads[owner].outputs()
    assert isinstance(tell, Tell)
    assert parse_message_untrusted(tell.data) == UseBatch([chain.data])


def test_a_full_table_is_counted(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.identity.uses.SEATS_MAX", 1)
    simulation, owner, member = pair(network)
    data = encode_message(UseBatch([network.join(network.invite(name="x invite"), "x").data]))
    simulation.spreads[owner].receive(member, data, simulation.now, simulation.unix_s)
    assert simulation.spreads[owner].counters.full == 1


def test_another_key_cannot_renew(network: Any) -> None:
    with pytest.raises(StateError):
        Spread(network.membership(), network.key("other"), Random(1))


# --- renewing


def renewed(simulation: Simulation, node: NodeId) -> list[Chain]:
    return [event.chain for event in simulation.events[node] if isinstance(event, Renewed)]


def test_the_owners_node_renews_itself_and_members(network: Any) -> None:
    simulation, owner, member = pair(network)
    old = simulation.memberships[member].own
    simulation.unix_at_start += YEAR * 0.7
    simulation.run(RENEW_AGAIN_S + 60)
    (chain,) = renewed(simulation, member)
    assert simulation.memberships[member].own is chain
    assert chain.claim.not_after > old.claim.not_after
    assert (chain.claim.name, chain.claim.roles) == (old.claim.name, old.claim.roles)
    assert len(renewed(simulation, owner)) == 1
    shown = [event for event in simulation.events[member] if isinstance(event, Shown)]
    assert shown == [Shown(owner, simulation.memberships[owner].own)]
    simulation.run(5 * RENEW_AGAIN_S)
    assert len(renewed(simulation, member)) == 1


def test_the_next_is_asked_when_one_refuses(network: Any) -> None:
    """A deaf inviter, one without the key, and at last the owner's node."""
    simulation = Simulation(network)
    inviters = network.invite(Terms(roles=frozenset({Role.EDGE, Role.INVITER}), uses=2, invites=2))
    member = simulation.add(network.join(network.invite(), "member"))
    deaf, keyless = (simulation.add(network.join(inviters, name)) for name in ("deaf", "keyless"))
    simulation.unix_at_start += YEAR * 0.7
    simulation.link(member, deaf)
    simulation.link(member, keyless)
    simulation.links.discard((member, deaf))
    simulation.run(2 * ANSWER_S + 1)
    assert "no key" in simulation.spreads[member].refusal
    assert kinds(simulation).count(Renew) == 2
    owner = simulation.add(network.own, network.owner)
    simulation.link(member, owner)
    simulation.run(1)
    assert len(renewed(simulation, member)) == 1
    assert simulation.spreads[member].refusal == ""
    assert any(isinstance(event, Shown) for event in simulation.events[keyless])


def test_an_inviter_renews_within_its_own_claim(network: Any) -> None:
    simulation = Simulation(network)
    own = network.join(network.invite(network.inviter_terms), "inviter")
    inviter = simulation.add(own, network.key("inviter"))
    short = network.invite(Terms(roles=frozenset({Role.EDGE}), membership_s=30 * 86_400), name="short")
    member = simulation.add(network.join(short, "member"))
    simulation.unix_at_start += 25 * 86_400
    simulation.link(inviter, member)
    simulation.run(1)
    (chain,) = renewed(simulation, member)
    assert chain.claim.not_after == own.claim.not_after
    assert chain.data in known(simulation.memberships[inviter])[1]


def test_nobody_renews_early_or_for_the_revoked(network: Any) -> None:
    simulation, owner, member = pair(network)
    spread, message = simulation.spreads[owner], encode_message(Renew())

    def ask() -> str:
        spread.outputs()
        spread.receive(member, message, simulation.now, simulation.unix_s)
        tells = [output for output in spread.outputs() if isinstance(output, Tell)]
        messages = [parse_message_untrusted(tell.data) for tell in tells]
        (answer,) = [message for message in messages if isinstance(message, Renewal)]
        return answer.reason or "renewed"

    assert "not to be renewed before" in ask()
    simulation.unix_at_start += YEAR * 0.7
    assert ask() == "renewed"
    assert "not to be renewed before" in ask()
    simulation.unix_at_start += YEAR * 0.7
    simulation.memberships[owner].revoke(network.owner, member, int(simulation.unix_s))
    assert "revoked" in ask()


def test_a_renewal_that_nobody_asked_for_or_says_less_is_not_adopted(network: Any) -> None:
    simulation, owner, member = pair(network)
    simulation.unix_at_start += YEAR * 0.7
    membership, spread = simulation.memberships[member], simulation.spreads[member]
    own = membership.own
    giver = simulation.memberships[owner]
    good = giver.renew(network.owner, own, int(simulation.unix_s))
    spread.receive(owner, encode_message(Renewal(good.data)), simulation.now, simulation.unix_s)
    assert membership.own is own
    spread.link_up(owner, network.own, simulation.now)
    spread.on_deadline(simulation.now, simulation.unix_s)
    shorter = giver.renew(network.owner, own, int(simulation.unix_s), YEAR // 2)
    assert shorter.claim.not_after > own.claim.not_after
    less = Membership(network.own)
    cut = less.renew(network.owner, own, int(simulation.unix_s), int(YEAR * 0.3) + 10)
    spread.receive(owner, encode_message(Renewal(own.data)), simulation.now, simulation.unix_s)
    assert membership.own is own
    assert spread.counters.refused == 1
    spread.receive(owner, encode_message(Renewal(cut.data)), simulation.now, simulation.unix_s)
    assert membership.own.data == cut.data


def test_an_older_claim_that_crossed_is_not_shown(network: Any) -> None:
    simulation, owner, member = pair(network)
    for chain in (simulation.memberships[member].own, network.own):
        data = encode_message(Show(chain.data))
        simulation.spreads[owner].receive(member, data, simulation.now, simulation.unix_s)
    assert not simulation.spreads[owner].outputs()


# --- catalogues


def say(simulation: Simulation, name: str, *payloads: bytes) -> None:
    """A node, by the name of its key, says this and nothing else."""
    key = simulation.network.key(name)
    spread = simulation.spreads[key.node_id]
    spread.notices.say(key, payloads, simulation.unix_s)
    spread.announce(simulation.now)
    simulation.drain(key.node_id)


def heard(simulation: Simulation) -> set[tuple[bytes, ...]]:
    """What all nodes know that is said: one element when all know the same."""
    tables = [spread.notices.in_force(simulation.unix_s) for spread in simulation.spreads.values()]
    return {tuple(notice.payload for notice in table) for table in tables}


@pytest.mark.parametrize("seed", range(5))
def test_a_notice_reaches_all_at_once_and_is_taken_back_at_once(network: Any, seed: int) -> None:
    simulation = Simulation(network, seed)
    simulation.random_graph(members(simulation, 39), 40)
    simulation.run(5)
    for payload in (b"a key", b""):
        say(simulation, "n5", payload)
        began = simulation.now
        while len(heard(simulation)) > 1:
            simulation.run(0.05)
        assert heard(simulation) == {(payload,) if payload else ()}
        print(f"known by 40 nodes after {simulation.now - began:.2f} s at 10 to 200 ms a hop")
        assert simulation.now - began < 2.0
    assert all(any(isinstance(event, Noticed) for event in events) for events in simulation.events.values())


@pytest.mark.parametrize("seed", range(3))
def test_what_is_taken_back_stays_so_after_a_partition(network: Any, seed: int) -> None:
    """Who was cut off, or learned the old from one who was, is told; nothing old comes back."""
    simulation = Simulation(network, seed)
    nodes = members(simulation, 12)
    halves = nodes[:6], nodes[6:]
    for half in halves:
        simulation.random_graph(half, 4)
    simulation.link(nodes[1], nodes[7])
    say(simulation, "n0", b"one", b"two")
    simulation.run(3)
    assert heard(simulation) == {(b"one", b"two")}
    simulation.unlink(nodes[1], nodes[7])
    say(simulation, "n0", b"", b"two", b"three")
    simulation.run(3)
    assert heard(simulation) == {(b"one", b"two"), (b"two", b"three")}
    simulation.link(nodes[2], nodes[9])
    simulation.run(3)
    assert heard(simulation) == {(b"two", b"three")}


def test_lost_notices_are_repaired(network: Any) -> None:
    simulation = Simulation(network, 3)
    simulation.random_graph(members(simulation, 12), 8)
    simulation.run(5)
    simulation.loss = 1.0
    say(simulation, "n3", b"one")
    simulation.run(1)
    simulation.loss = 0.3
    say(simulation, "n7", b"two")
    simulation.run(10 * REPAIR_S)
    assert [set(payloads) for payloads in heard(simulation)] == [{b"one", b"two"}]


def test_a_first_comparison_that_was_lost_is_made_again_soon(network: Any) -> None:
    simulation = Simulation(network)
    a, b = members(simulation, 1)
    say(simulation, "n0", b"one")
    simulation.loss = 1.0
    simulation.link(a, b)
    simulation.loss = 0.0
    simulation.run(2)
    assert heard(simulation) == {(b"one",)}


def test_a_revoked_author_is_heard_nowhere(network: Any) -> None:
    simulation = Simulation(network)
    nodes = members(simulation, 6)
    simulation.random_graph(nodes, 3)
    say(simulation, "n2", b"one")
    simulation.run(3)
    simulation.memberships[nodes[0]].revoke(network.owner, nodes[3], int(simulation.unix_s))
    simulation.spreads[nodes[0]].announce(simulation.now)
    simulation.drain(nodes[0])
    simulation.run(3)
    assert heard(simulation) == {()}
    simulation.run(4 * REPAIR_S)
    assert {len(spread.notices) for spread in simulation.spreads.values()} == {0}


def test_a_forged_notice_costs_the_link_in_the_end(network: Any) -> None:
    simulation, owner, member = pair(network)
    chain = simulation.memberships[owner].own
    spread = simulation.spreads[owner]
    for at in range(FORGED_MAX + 1):
        forged = make_notice(network.key("n0"), chain, 0, int(simulation.unix_s * 1000) + at, b"forged")
        message = encode_message(NoticeBatch([forged.data]))
        if at < FORGED_MAX:
            spread.receive(member, message, simulation.now, simulation.unix_s)
    with pytest.raises(WireError, match="not true"):
        spread.receive(member, message, simulation.now, simulation.unix_s)
    assert spread.counters.refused == FORGED_MAX + 1 and not len(spread.notices)


def test_what_a_hundred_keys_cost_when_nothing_happens(network: Any) -> None:
    """Two pages of keys, ten neighbours: what is sent in an hour."""
    simulation = Simulation(network)
    nodes = members(simulation, 10)
    for node in nodes[1:]:
        simulation.link(nodes[0], node)
    say(simulation, "n0", bytes(4000), bytes(1500))
    simulation.run(10)
    simulation.sent.clear()
    simulation.run(3600)
    idle = sum(len(tell.data) for source, tell in simulation.sent if source == nodes[1]) / 3600
    print(f"{idle:.2f} bytes/s from a node that has nothing to say")
    assert idle < 5


def test_catalogue() -> None:
    facts = [bytes([at % 256, at // 256]) for at in range(WHOLE_IDS * 2)]
    one, other = Catalogue(facts), Catalogue(reversed(facts[:-1]))
    assert one.fingerprint != other.fingerprint
    assert Catalogue(reversed(facts)).fingerprint == one.fingerprint
    (prefix,) = one.differing(other.bucket_fingerprints())
    (extra,) = set(one.with_prefix(prefix)) - set(other.with_prefix(prefix))
    assert one.facts[extra] == facts[-1]
    assert len(one.with_prefix(b"")) == len(one) == WHOLE_IDS * 2
