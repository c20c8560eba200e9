"""Routing: every term counts one way, no loops however old what edges know is, one owner for every name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.directory.facts import KINDS, CarriedStream, CarriedStreams, Load, parse_fact_untrusted, payload
from mesh.directory.record import Kind, sign_record
from mesh.directory.table import Directory
from mesh.model import NodeId
from mesh.routing.costs import Reach, has_room
from mesh.routing.owners import (
    EPOCH_US_MAX,
    Publication,
    current_publication,
    has_lost,
    next_epoch,
    precedence,
)
from mesh.routing.parents import (
    DEPTH_MAX,
    Choice,
    Edge,
    Member,
    Rung,
    choose_parent,
    lower,
    objection,
    rung,
)

unhurried = settings(deadline=None)  # the machine is shared
NAME = "garden"
ME = b"\xff" * 32
ORIGIN = bytes(32)
LIVE = Publication(1_700_000_000_000_000, ORIGIN)
BITRATE_BPS = 3_000_000


def key(number: int) -> NodeId:
    return bytes([number]) * 32


def entry(node: NodeId, depth: int, parent: NodeId = b"", publication: Publication = LIVE) -> CarriedStream:
    """What `node` says of the stream."""
    origin = b"" if depth == 0 else publication.origin
    return CarriedStream(NAME, publication.epoch_unix_us, depth, ["v1"], origin, parent, BITRATE_BPS)


# --- terms

LOADS = st.none() | st.builds(
    Load,
    uplink_bps=st.integers(0, 60_000_000),
    uplink_budget_bps=st.sampled_from([0, 10_000_000, 50_000_000]),
    cpu=st.floats(0, 1),
    viewers=st.just(0),
    sessions=st.just(0),
    reservations=st.integers(0, 5),
)


@st.composite
def member_lists(draw: st.DrawFn) -> list[Member]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        depth = 0 if number == 0 else draw(st.integers(1, DEPTH_MAX))
        found.append(
            Member(
                key(number),
                entry(key(number), depth, key(draw(st.integers(0, 6))) if depth else b""),
                load=draw(LOADS),
                reach=draw(st.sampled_from(Reach)),
                rtt_s=draw(st.none() | st.floats(0, 1)),
                loss=draw(st.floats(0, 1)),
                distance_km=draw(st.none() | st.floats(0, 20_000)),
                excluded=draw(st.sampled_from(["", "", "", "it altered media"])),
                weak=draw(st.sampled_from(["", "", "slow"])),
            )
        )
    return found


EDGES = st.builds(
    Edge,
    node=st.just(ME),
    stream=st.just(NAME),
    publication=st.just(LIVE),
    parent=st.none() | st.integers(0, 6).map(key),
    parent_since=st.floats(0, 100),
    floor=st.none() | st.integers(1, DEPTH_MAX).map(lambda depth: rung(ME, NAME, depth)),
    bitrate_bps=st.sampled_from([0, 1_000_000, 8_000_000]),
)


def worse_rtt(member: Member, by: float) -> Member:
    if member.rtt_s is None:
        far = None if member.distance_km is None else member.distance_km + by * 1000
        return msgspec.structs.replace(member, distance_km=far)
    return msgspec.structs.replace(member, rtt_s=member.rtt_s + by)


def worse_loss(member: Member, by: float) -> Member:
    return msgspec.structs.replace(member, loss=min(1.0, member.loss + by))


def worse_uplink(member: Member, by: float) -> Member:
    load = member.load or Load(0, 0, 0.5, 0, 0, 0)
    used = load.uplink_bps + int(by * 10_000_000)
    return msgspec.structs.replace(member, load=msgspec.structs.replace(load, uplink_bps=used))


def worse_reservations(member: Member, by: float) -> Member:
    load = member.load or Load(0, 0, 0.5, 0, 0, 0)
    more = load.reservations + int(by)
    return msgspec.structs.replace(member, load=msgspec.structs.replace(load, reservations=more))


def worse_cpu(member: Member, by: float) -> Member:
    load = member.load or Load(0, 0, 0.5, 0, 0, 0)
    return msgspec.structs.replace(member, load=msgspec.structs.replace(load, cpu=min(1.0, load.cpu + by)))


def worse_depth(member: Member, by: float) -> Member:
    carried = member.carried
    if carried.depth:
        carried = msgspec.structs.replace(carried, depth=carried.depth + int(by))
    return msgspec.structs.replace(member, carried=carried)


def worse_word(member: Member, _: float) -> Member:
    return msgspec.structs.replace(member, weak="slow")


WORSE = [worse_rtt, worse_loss, worse_uplink, worse_reservations, worse_cpu, worse_depth, worse_word]


def place(choice: Choice, node: NodeId) -> int:
    return [candidate.node for candidate in choice.candidates].index(node)


@pytest.mark.parametrize("worse", WORSE, ids=lambda worse: worse.__name__)
@unhurried
@given(edge=EDGES, members=member_lists(), at=st.integers(0, 5), by=st.floats(0, 3))
def test_what_gets_worse_never_rises(
    worse: Callable[[Member, float], Member], edge: Edge, members: list[Member], at: int, by: float
) -> None:
    at %= len(members)
    if worse in (worse_uplink, worse_reservations, worse_cpu) and members[at].load is None:
        members[at] = msgspec.structs.replace(members[at], load=Load(0, 0, 0.5, 0, 0, 0))
    before = choose_parent(edge, members, 100.0)
    changed = worse(members[at], by)
    after = choose_parent(edge, [*members[:at], changed, *members[at + 1 :]], 100.0)
    node = changed.node
    assert place(after, node) >= place(before, node)
    old, new = before.candidates[place(before, node)].terms, after.candidates[place(after, node)].terms
    assert all(now >= then for then, now in zip(terms_of(old), terms_of(new), strict=True))
    if after.parent == node and not after.last_resort:
        assert before.parent == node


def terms_of(terms: Any) -> list[float]:
    """All terms and the sum, save the advantage of the present parent, which shrinks no faster."""
    found = {name: getattr(terms, name) for name in terms.__struct_fields__ if name != "stay_ms"}
    return [*found.values(), round(terms.total_ms, 6)]


@unhurried
@given(edge=EDGES, members=member_lists(), seed=st.integers())
def test_the_order_of_members_does_not_matter(edge: Edge, members: list[Member], seed: int) -> None:
    shuffled = Random(seed).sample(members, len(members))
    assert choose_parent(edge, members, 100.0) == choose_parent(edge, shuffled, 100.0)


@unhurried
@given(edge=EDGES, members=member_lists())
def test_a_parent_is_allowed_to_be_one(edge: Edge, members: list[Member]) -> None:
    choice = choose_parent(edge, members, 100.0)
    assert len(choice.candidates) == len(members)
    by_node = {member.node: member for member in members}
    if choice.parent is None:
        return
    assert not choice.starved
    chosen = by_node[choice.parent]
    assert not chosen.excluded
    assert chosen.reach is not Reach.NONE
    assert chosen.carried.depth < DEPTH_MAX
    assert not objection(edge, chosen.node, LIVE, chosen.carried.depth)
    fits = (
        chosen.node == edge.parent
        or chosen.load is None
        or has_room(chosen.load, edge.bitrate_bps or BITRATE_BPS)
    )
    assert choice.last_resort == (bool(chosen.weak) or not fits)
    if choice.last_resort:
        rest = [candidate for candidate in choice.candidates if not candidate.excluded]
        assert all(candidate.weak for candidate in rest)
        takeable = {candidate.node for candidate in rest if not candidate.above}
        assert choice.parent == ORIGIN or ORIGIN not in takeable
    again = msgspec.structs.replace(edge, parent=choice.parent, parent_since=100.0)
    assert choose_parent(again, members, 100.0).parent == choice.parent, "it stays with what it chose"


# --- trees


@dataclass
class Peer:
    """One node of a simulated network, as it truly is."""

    node: NodeId
    budget_bps: int
    alive: bool = True
    depth: int | None = None  # None: it has nothing
    parent: NodeId | None = None
    parent_since: float = 0.0
    floor: Rung | None = None
    alone_since: int | None = None
    last_resort: bool = False
    records: list[tuple[int, CarriedStream | None]] = field(default_factory=list)


@dataclass
class Network:
    """Nodes that each choose by what they knew up to `delay` rounds ago. `asked`: parents are asked first."""

    random: Random
    size: int
    delay: int
    budget: int  # children of a node; 0: no limit
    links: float  # share of pairs that reach each other
    asked: bool = True
    round: int = 0

    def __post_init__(self) -> None:
        self.peers = {key(n): Peer(key(n), self.budget * BITRATE_BPS) for n in range(self.size)}
        self.rtt = {
            frozenset((a, b)): self.random.uniform(0.001, 0.2)
            for a in self.peers
            for b in self.peers
            if a < b and self.random.random() < self.links
        }
        self.seen: dict[tuple[NodeId, NodeId], int] = {}
        self.peers[ORIGIN].depth = 0
        self.say(self.peers[ORIGIN])

    def turn(self) -> None:
        """One round: every node but the origin chooses once, in a random order."""
        self.round += 1
        nodes = [node for node in self.peers if node != ORIGIN]
        for node in self.random.sample(nodes, len(nodes)):
            if self.peers[node].alive:
                self.choose(self.peers[node])
                if self.asked:
                    assert not self.loops(), "a loop"

    def fault(self) -> None:
        """Something breaks or heals."""
        node = self.peers[key(self.random.randrange(1, self.size))]
        pair = frozenset(self.random.sample(list(self.peers), 2))
        match self.random.randrange(4):
            case 0:
                node.alive = not node.alive
                node.depth = node.parent = node.floor = node.alone_since = None
                self.say(node)
            case 1:
                self.rtt.pop(pair, None)
            case _:
                self.rtt[pair] = self.random.uniform(0.001, 0.2)
        self.break_feeds()

    def break_feeds(self) -> None:
        """A feed over a path that is gone, or from a node that died, is noticed by its child."""
        for peer in self.peers.values():
            if peer.parent and not self.reaches(peer.node, peer.parent):
                peer.parent = None

    def reaches(self, a: NodeId, b: NodeId) -> bool:
        return self.peers[a].alive and self.peers[b].alive and frozenset((a, b)) in self.rtt

    def say(self, peer: Peer) -> None:
        carried = None if peer.depth is None else entry(peer.node, peer.depth, peer.parent or b"")
        if not peer.records or peer.records[-1][1] != carried:
            peer.records.append((self.round, carried))

    def known(self, to: NodeId, of: Peer) -> CarriedStream | None:
        """What `to` holds of a node's records: up to `delay` rounds old, never older than before."""
        until = self.round - self.random.randint(0, self.delay)
        newest = max((at for at, (when, _) in enumerate(of.records) if when <= until), default=-1)
        at = self.seen[to, of.node] = max(newest, self.seen.get((to, of.node), -1))
        return of.records[at][1] if at >= 0 else None

    def children(self, node: NodeId) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.parent == node]

    def load(self, peer: Peer) -> Load:
        return Load(len(self.children(peer.node)) * BITRATE_BPS, peer.budget_bps, 0.1, 0, 0, 0)

    def members(self, peer: Peer, refused: set[NodeId]) -> list[Member]:
        found = []
        for other in self.peers.values():
            carried = self.known(peer.node, other)
            if other.node == peer.parent and self.asked and other.depth is not None:
                carried = entry(other.node, other.depth, other.parent or b"")  # its feed says so
            if carried is not None and other is not peer:
                reach = Reach.DIRECT if self.reaches(peer.node, other.node) else Reach.NONE
                found.append(
                    Member(
                        other.node,
                        carried,
                        self.load(other),
                        reach,
                        self.rtt.get(frozenset((peer.node, other.node))),
                        excluded="refused" if other.node in refused else "",
                    )
                )
        return found

    def choose(self, peer: Peer) -> None:
        """What a node's shell does with the function."""
        refused: set[NodeId] = set()
        for _ in range(2 * self.size):
            edge = Edge(peer.node, NAME, LIVE, peer.parent, peer.parent_since, peer.floor)
            choice = choose_parent(edge, self.members(peer, refused), self.round)
            if choice.starved:
                self.begin_anew(peer)
            elif choice.parent is None:
                self.alone(peer)
                return
            elif choice.parent == peer.parent or self.ask(edge, choice):
                if choice.parent != peer.parent:
                    peer.last_resort = choice.last_resort
                self.attach(peer, choice.parent)
                return
            else:
                refused.add(choice.parent)
        raise AssertionError("it never comes to an end")

    def ask(self, edge: Edge, choice: Choice) -> bool:
        """What the chosen one answers, and what the edge makes of it."""
        assert choice.parent is not None
        other = self.peers[choice.parent]
        if other.depth is None or not (choice.last_resort or has_room(self.load(other), BITRATE_BPS)):
            return False
        if not self.asked:
            return True
        if other.parent is None and other.node != ORIGIN:
            return False
        return not objection(edge, other.node, LIVE, other.depth)

    def attach(self, peer: Peer, parent: NodeId) -> None:
        if parent != peer.parent:
            peer.parent, peer.parent_since = parent, self.round
        said = self.known(peer.node, self.peers[parent])
        depth = self.peers[parent].depth if self.asked or said is None else said.depth
        assert depth is not None
        peer.depth, peer.alone_since = depth + 1, None
        peer.floor = lower(peer.floor, rung(peer.node, NAME, peer.depth))
        self.say(peer)

    def alone(self, peer: Peer) -> None:
        peer.parent = None
        peer.alone_since = self.round if peer.alone_since is None else peer.alone_since
        if self.round - peer.alone_since >= 2:
            self.begin_anew(peer)

    def begin_anew(self, peer: Peer) -> None:
        for child in self.children(peer.node):
            child.parent = None
        peer.parent = peer.depth = peer.floor = None
        self.say(peer)

    def loops(self) -> list[NodeId]:
        """Nodes whose parents lead back to them."""
        return [node for node in self.peers if node in self.above(node)]

    def above(self, node: NodeId) -> list[NodeId]:
        found: list[NodeId] = []
        at = self.peers[node].parent
        while at is not None and at not in found:
            found.append(at)
            at = self.peers[at].parent
        return found

    def fed(self) -> set[NodeId]:
        return {node for node in self.peers if node == ORIGIN or ORIGIN in self.above(node)}

    def could_be_fed(self) -> set[NodeId]:
        """Nodes that have a path to the origin over any others."""
        found, new = {ORIGIN}, [ORIGIN]
        while new:
            at = new.pop()
            more = {node for node in self.peers if self.reaches(at, node)} - found
            found |= more
            new += more
        return found


class Telling(Network):
    """Children hear late where their parent moved; a candidate answers now and becomes the parent later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.heard: dict[NodeId, int] = {}  # by child: the depth that its parent told it last
        self.answered: dict[NodeId, tuple[NodeId, int]] = {}  # by edge: a candidate and what it said

    def choose(self, peer: Peer) -> None:
        self.hear(peer)
        if peer.node in self.answered and self.random.random() < 0.5:
            self.promote(peer, *self.answered.pop(peer.node))
        before = peer.parent
        if before is None or peer.node not in self.heard:
            self.heard.pop(peer.node, None)
            super().choose(peer)
            return
        edge = Edge(peer.node, NAME, LIVE, peer.parent, peer.parent_since, peer.floor)
        choice = choose_parent(edge, self.members(peer, set()), self.round)
        if choice.parent not in (None, before) and self.ask(edge, choice):
            depth = self.peers[choice.parent].depth
            assert depth is not None
            self.answered[peer.node] = choice.parent, depth

    def hear(self, peer: Peer) -> None:
        """What the parent said of itself some time ago, and what follows from it."""
        parent = self.peers[peer.parent] if peer.parent is not None else None
        if parent is None or parent.depth is None or peer.node not in self.heard:
            return
        if self.random.random() < 0.5:
            self.heard[peer.node] = parent.depth
        if self.heard[peer.node] >= DEPTH_MAX:
            peer.parent = None
            return
        self.stand(peer, self.heard[peer.node] + 1)

    def promote(self, peer: Peer, parent: NodeId, depth: int) -> None:
        other = self.peers[parent]
        edge = Edge(peer.node, NAME, LIVE, peer.parent, peer.parent_since, peer.floor)
        fed = other.parent is not None or parent == ORIGIN
        if self.reaches(peer.node, parent) and fed and not objection(edge, parent, LIVE, depth):
            peer.parent, peer.parent_since = parent, self.round
            self.heard[peer.node] = depth
            self.stand(peer, depth + 1)

    def attach(self, peer: Peer, parent: NodeId) -> None:
        depth = self.peers[parent].depth
        assert depth is not None
        if parent != peer.parent:
            peer.parent, peer.parent_since = parent, self.round
        self.heard[peer.node] = depth
        self.stand(peer, depth + 1)

    def stand(self, peer: Peer, depth: int) -> None:
        peer.depth, peer.alone_since = depth, None
        peer.floor = lower(peer.floor, rung(peer.node, NAME, depth))
        self.say(peer)

    def begin_anew(self, peer: Peer) -> None:
        """Whoever it has answered is hung up on, as its children are."""
        super().begin_anew(peer)
        self.answered = {edge: row for edge, row in self.answered.items() if row[0] != peer.node}

    def fault(self) -> None:
        super().fault()
        self.answered = {
            edge: (parent, depth)
            for edge, (parent, depth) in self.answered.items()
            if self.peers[edge].alive and self.reaches(edge, parent) and self.peers[parent].depth is not None
        }


NETWORKS = {
    "seed": st.integers(0, 2**32),
    "size": st.integers(2, DEPTH_MAX + 1),  # so that a chain of all of them is within bounds
    "delay": st.integers(0, 4),
    "links": st.sampled_from([0.3, 0.6, 1.0]),
    "faults": st.integers(0, 15),
}
CALM_ROUNDS = 30  # after the last fault; records are up to four rounds old


@unhurried
@given(**NETWORKS)
def test_no_loop_ever_and_everybody_is_fed_in_the_end(
    seed: int, size: int, delay: int, links: float, faults: int
) -> None:
    network = Network(Random(seed), size, delay, 0, links)
    for _ in range(faults):
        network.turn()
        network.fault()
    for _ in range(CALM_ROUNDS):
        network.turn()
    assert network.fed() == network.could_be_fed()
    assert all((peer.depth or 0) <= DEPTH_MAX for peer in network.peers.values())


@unhurried
@given(**NETWORKS)
def test_no_loop_ever_where_moves_are_told_late_and_parents_changed_later(
    seed: int, size: int, delay: int, links: float, faults: int
) -> None:
    network = Telling(Random(seed), size, delay, 0, links)
    for _ in range(faults):
        network.turn()  # looks for loops after each choice
        network.fault()
    for _ in range(2 * CALM_ROUNDS):
        network.turn()
    assert network.fed() == network.could_be_fed()
    for peer in network.peers.values():
        assert (peer.depth or 0) <= DEPTH_MAX
        if peer.parent is not None:
            parent = network.peers[peer.parent]
            assert parent.depth is not None and peer.depth == parent.depth + 1, "told in the end"


@unhurried
@given(**NETWORKS)
def test_loops_dissolve_where_nobody_is_asked(
    seed: int, size: int, delay: int, links: float, faults: int
) -> None:
    network = Network(Random(seed), size, delay, 0, links, asked=False)
    for _ in range(faults):
        network.turn()
        network.fault()
    for _ in range(CALM_ROUNDS):
        network.turn()
    assert not network.loops()
    assert network.fed() == network.could_be_fed()


@unhurried
@given(**NETWORKS, budget=st.integers(1, 3))
def test_budgets_bound_children(
    seed: int, size: int, delay: int, links: float, faults: int, budget: int
) -> None:
    network = Network(Random(seed), size, delay, budget, links)
    for _ in range(faults + CALM_ROUNDS):
        network.turn()
        assert all(
            sum(not child.last_resort for child in network.children(node)) <= budget for node in network.peers
        )
        if network.round <= faults:
            network.fault()
    for node in network.peers:
        if node != ORIGIN and network.reaches(ORIGIN, node):
            assert node in network.fed(), "the origin rather than nobody"


@unhurried
@given(seed=st.integers(0, 2**32), size=st.integers(2, 9), delay=st.integers(0, 4))
def test_a_calm_network_stops_moving(seed: int, size: int, delay: int) -> None:
    network = Network(Random(seed), size, delay, 2, 1.0)
    for _ in range(CALM_ROUNDS * 2):
        network.turn()
    parents = {node: peer.parent for node, peer in network.peers.items()}
    for _ in range(CALM_ROUNDS):
        network.turn()
    assert parents == {node: peer.parent for node, peer in network.peers.items()}


# --- owners


class Scribe:
    """A signer whose signatures nobody checks here; they differ, as record ids are made of them."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id

    def sign(self, message: bytes) -> bytes:
        return Random(message).randbytes(64)


SAYINGS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2), st.integers(0, 4)), max_size=12
)


@unhurried
@given(SAYINGS, st.lists(st.integers(), min_size=2, max_size=4))
def test_nodes_agree_on_the_owner_whatever_the_order_of_records(
    sayings: list[tuple[int, int, int, int]], seeds: list[int]
) -> None:
    records = []
    for version, (owner, epoch, depth, origin) in enumerate(sayings):
        carried = entry(key(owner), depth, publication=Publication(epoch, key(origin)))
        said = payload(CarriedStreams([carried]))
        records.append(sign_record(Scribe(key(owner)), bytes(32), 1, Kind.STREAMS, version, said))
    owners = set()
    for seed in seeds:
        random = Random(seed)
        directory = Directory(lambda record: True)
        for record in random.sample(records * 2, len(records) * 2):  # twice: gossip repeats itself
            directory.offer(record, 0.0)
        owners.add(current_publication(said_by(directory), lambda node: True))
    assert len(owners) == 1


def said_by(directory: Directory) -> list[tuple[NodeId, CarriedStream]]:
    found = []
    for node in directory.members():
        record = directory.record(node, KINDS[CarriedStreams])
        if record is not None:
            streams = parse_fact_untrusted(CarriedStreams, record.payload).streams
            found += [(node, stream) for stream in streams if stream.name == NAME]
    return found


PUBLICATIONS = st.builds(Publication, st.integers(0, 2**53), st.integers(0, 5).map(key))


@given(st.lists(PUBLICATIONS, min_size=1, unique_by=lambda publication: publication.origin))
def test_exactly_one_publisher_keeps_a_name(published: list[Publication]) -> None:
    said = [(own.origin, entry(own.origin, 0, publication=own)) for own in published]
    current = current_publication(said, lambda node: True)
    assert [own for own in published if not has_lost(own, current)] == [current]


@given(
    st.lists(PUBLICATIONS, unique_by=lambda publication: publication.origin),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
)
def test_who_begins_to_publish_wins_over_all_that_it_knows(
    published: list[Publication], unix_us: int, before: int
) -> None:
    said = [(own.origin, entry(own.origin, 0, publication=own)) for own in published]
    begun = Publication(next_epoch(said, unix_us, before), ME)
    assert begun.epoch_unix_us > before
    assert begun.epoch_unix_us >= unix_us
    for own in published:
        assert precedence(begun) < precedence(own) or own.epoch_unix_us == EPOCH_US_MAX
