"""The gossip core of one node: overlay, broadcast, directory, failure detection as one sans-IO machine.

    gossip = Gossip(signer, network, verify, random, generation, now)
    gossip.link_up(peer, now); gossip.receive(peer, data, now); gossip.link_down(peer, now)
    gossip.publish(kind, payload, now)
    gossip.deadline(); gossip.on_deadline(now); gossip.outputs()

`now` is monotonic seconds of this node alone: no message carries a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import msgspec

from mesh.directory import reconcile
from mesh.directory.lives import Lives
from mesh.directory.record import (
    PAYLOAD_BYTES_MAX,
    Kind,
    Record,
    is_signed,
    parse_record_untrusted,
    sign_record,
)
from mesh.directory.table import Directory, Grave, Offered
from mesh.errors import StateError, WireError
from mesh.membership.broadcast import Broadcast
from mesh.membership.message import (
    Adopt,
    Adopted,
    Beat,
    Compare,
    Content,
    ForwardJoin,
    Have,
    Join,
    Part,
    Prune,
    Push,
    Shuffle,
    Shuffled,
    Vouched,
    Want,
    encode,
    parse_message_untrusted,
    pushes,
)
from mesh.membership.neighbour import FLOOD_MESSAGES, MESSAGE_COST_BYTES, Neighbour
from mesh.membership.outbox import Connect, Outbox, Release, Send
from mesh.membership.overlay import ACTIVE_MAX, Overlay
from mesh.membership.suspicion import Accusation, accusation_id
from mesh.model import NetworkId, NodeId, Signer, Verify

RECONCILE_S = 5.0  # between comparisons with a neighbour
REFRESH_S = 3600.0  # a node repeats one record: who has not heard of it for three of these forgets it
COLLECT_S = 60.0  # between garbage collections
LOAD_EVERY_S = 5.0  # load is published at most this often; the newest waits
TICK_MIN_S = 0.1  # between two turns of everything that is not urgent
REWIRE_S = 120.0  # between links to somebody anywhere: a partition may have ended, or views be lopsided
REWIRE_DEAD = 0.75  # how often that is somebody declared dead, if there is one
PRUNE_AGAIN_S = 0.5  # a prune may be lost; pushes already under way must not each cause one
OBITUARY_MAX = 32  # dead nodes in one such answer
FETCHED_MAX = 1024  # ids remembered as fetched, so that a push overtaken by the fetch prunes nobody


class Changed(msgspec.Struct, frozen=True, gc=False):
    """A record is new or newer. An empty payload: the owner took it back."""

    record: Record


class Gone(msgspec.Struct, frozen=True, gc=False):
    """A node is no longer a member: "dead", "left", "forgotten" (nothing heard of it) or "forbidden"."""

    node: NodeId
    reason: str


class Appeal(msgspec.Struct, frozen=True, gc=False):
    """A forbidden node says who it is, signed; `directory.allow` takes it in again."""

    record: Record


Output: TypeAlias = Send | Connect | Release | Changed | Gone | Appeal


@dataclass(slots=True)
class GossipCounters:
    """What happened since the start. Messages out are counted by the outbox."""

    messages_in: int = 0
    bytes_in: int = 0
    duplicates: int = 0
    fetched: int = 0
    flooded: int = 0  # messages over a link's allowance, dropped
    owner_flooded: int = 0  # records over their owner's allowance, dropped
    refutations: int = 0
    deaths: int = 0


class Gossip:
    """One node's membership of a network.

    `generation` must be higher than in the node's former life (the time of the start will do); `parse` may be
    replaced by one that remembers, where many nodes share a process.
    """

    def __init__(
        self,
        signer: Signer,
        network: NetworkId,
        verify: Verify,
        random: Random,
        generation: int,
        now: float,
        parse: Callable[[bytes], Record] = parse_record_untrusted,
    ) -> None:
        self.node = signer.node_id
        self.generation = generation
        self.counters = GossipCounters()
        self.directory = Directory(lambda record: is_signed(record, network, verify))
        self.outbox = Outbox()
        self.overlay = Overlay(self.node, random, self.outbox, self._usable, now)
        self._signer = signer
        self._network = network
        self._verify = verify
        self._random = random
        self._parse = parse
        self._broadcast = Broadcast(self.node)
        self._lives = Lives(
            signer,
            network,
            verify,
            self.directory,
            self.overlay,
            self.outbox,
            random,
            refute=self._refute,
            gone=self._on_dead,
        )
        self._lives.rise(generation)
        self._fetched: dict[int, None] = {}
        self._events: list[Output] = []
        self._own: dict[int, Record] = {}
        self._load_at = float("-inf")
        self._load_waiting: bytes | None = None
        self._left = False
        self._reconcile_at = now + random.random() * RECONCILE_S
        self._refresh_at = now + random.random() * REFRESH_S
        self._collect_at = now + random.random() * COLLECT_S
        self._rewire_at = now + (0.5 + random.random()) * REWIRE_S
        self._tick_at = now
        self._handlers = self._handlers_by_kind()

    def _handlers_by_kind(self) -> dict[type, Callable[[Neighbour, Any, float], None]]:
        return {
            Push: self._on_push,
            Have: self._on_have,
            Want: self._on_want,
            Prune: self._on_prune,
            Beat: self._on_beat,
            Join: self._on_join,
            ForwardJoin: self.overlay.on_forward_join,
            Adopt: self._on_adopt,
            Adopted: self._on_adopted,
            Part: self._on_part,
            Shuffle: self.overlay.on_shuffle,
            Shuffled: lambda neighbour, message, now: self.overlay.on_shuffled(message, now),
            Compare: self._on_compare,
            Content: self._on_content,
            Vouched: self._lives.on_vouched,
        }

    # --- from the shell

    def link_up(self, peer: NodeId, now: float) -> None:
        """There is an authenticated link to a member of the network."""
        if peer == self.node:
            raise StateError("a link to the node itself")
        if self.directory.is_forbidden(peer):
            self.outbox.release(peer, "forbidden")
            return
        self._lives.link_up(self.overlay.link_up(peer, peer in self.directory, now), now)
        self._soon(now)

    def link_down(self, peer: NodeId, now: float) -> None:
        """The link broke. A neighbour is dialled again and, if it stays away, accused."""
        neighbour = self.overlay.link_down(peer)
        if neighbour is not None:
            self._lives.link_down(neighbour, now)
        self._soon(now)

    def receive(self, peer: NodeId, data: bytes, now: float) -> None:
        """One whole message from a link that is up.

        Raises WireError after letting the peer go for a minute (`Release` is among the outputs).
        """
        neighbour = self.overlay.links.get(peer)
        if neighbour is None:
            return  # released a moment ago: what was on its way is void
        counters = self.counters
        counters.messages_in += 1
        counters.bytes_in += len(data)
        if not neighbour.admit(len(data), now):
            counters.flooded += 1
            if neighbour.dropped >= FLOOD_MESSAGES:
                self.overlay.shun(peer, "flood", now)
            return
        neighbour.heard = now
        neighbour.probes = neighbour.accused = 0
        try:
            message = parse_message_untrusted(data)
            self._handlers[type(message)](neighbour, message, now)
        except WireError as error:
            self.overlay.shun(peer, str(error), now)
            raise

    def publish(self, kind: Kind, payload: bytes, now: float) -> None:
        """Say something of this node; an empty payload takes it back. Load waits its turn, newest only."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise StateError(f"a record of {len(payload)} bytes; at most {PAYLOAD_BYTES_MAX} are allowed")
        if self._left or kind == Kind.GOODBYE:
            raise StateError("the node has left the network, or should say so with `leave`")
        if kind == Kind.LOAD:
            if now < self._load_at + LOAD_EVERY_S:
                self._load_waiting = payload
                self._tick_at = min(self._tick_at, self._load_at + LOAD_EVERY_S)
                return
            self._load_at, self._load_waiting = now, None
        old = self._own.get(kind)
        self._publish(kind, old.version + 1 if old is not None else 1, payload, now)

    def leave(self, now: float) -> None:
        """Say goodbye to everybody: others know at once. Nothing can be published afterwards."""
        if self._left:
            return
        for neighbour in self.overlay.active.values():
            neighbour.eager = True  # there is no time for announcements
        self._publish(Kind.GOODBYE, 1, b"", now)
        for neighbour in list(self.overlay.active.values()):
            self.overlay.part(neighbour, now)
        self._left = True

    def forbid(self, node: NodeId, now: float) -> None:
        """The node is no member: cut it off, forget it, and take nothing of it until `directory.allow`."""
        known = node in self.directory
        self.directory.forbid(node)
        self.overlay.drop(node, "forbidden")
        self._lives.closed(node)
        if known:
            self._events.append(Gone(node, "forbidden"))

    def deadline(self) -> float | None:
        """When `on_deadline` is next due; nothing once the node has left."""
        if self._left:
            return None
        due = self._broadcast.due
        return due if due < self._tick_at else self._tick_at

    def on_deadline(self, now: float) -> None:
        """Do what is due. Harmless when early."""
        if now >= self._broadcast.due:
            self._tell(now)
        if now >= self._tick_at and not self._left:
            self._tick(now)

    def outputs(self) -> list[Output]:
        """What to do now, in order; empties the list."""
        events, items = self._events, self.outbox.items
        if not events and not items:
            return []
        self._events, self.outbox.items = [], []
        return [*items, *events]

    @property
    def is_alone(self) -> bool:
        """Whether there is no neighbour: the shell should try its seeds."""
        return not self.overlay.active

    # --- the tree

    def _on_push(self, neighbour: Neighbour, message: Push, now: float) -> None:
        fresh: list[Record] = []
        buried: dict[NodeId, Grave] = {}
        duplicates = 0
        for blob in message.records:
            record = self._parse(blob)
            self._broadcast.arrived(record.id)
            if record.owner == self.node:
                self._on_own_record(record, now)
                continue
            held = self.directory.has(record.id)
            offered = Offered.OLD if held else self.directory.offer(record, now)
            if offered is Offered.NEW or offered is Offered.FIRST:
                fresh.append(record)
                self._taken(record, offered is Offered.FIRST)
            elif held:
                self._broadcast.has(neighbour, record.id)
                duplicates += record.id not in self._fetched
            else:
                self._refused(record, offered, buried)
        accusations = self._take_accusations(neighbour, message.accusations, now)
        if message.aside:
            self._note_fetched(fresh)
        elif duplicates > len(fresh) and not accusations:
            self._prune(neighbour, now)
        if fresh or accusations:
            self._spread(fresh, accusations, neighbour, now, message.aside)
        if buried:
            self._lives.send_obituaries(neighbour, list(buried.values()), now)
        self.counters.duplicates += duplicates

    def _taken(self, record: Record, first: bool) -> None:
        """A record went into the directory."""
        self._events.append(Changed(record))
        if record.kind == Kind.GOODBYE:
            self._lives.closed(record.owner)
            self.overlay.drop(record.owner, "left")
            self._events.append(Gone(record.owner, "left"))
        elif first:
            self._lives.suspicions.clear(record.owner)
            self.overlay.population = self.directory.population
            self.overlay.learn(record.owner)

    def _refused(self, record: Record, offered: Offered, buried: dict[NodeId, Grave]) -> None:
        if offered is Offered.FORGED:
            raise WireError("a record with a wrong signature")
        if offered is Offered.FLOOD:
            self.counters.owner_flooded += 1
        elif offered is Offered.FORBIDDEN and record.kind == Kind.WHO:
            self._events.append(Appeal(record))
        elif offered is Offered.BURIED and len(buried) < OBITUARY_MAX:
            grave = self.directory.grave(record.owner)
            if grave is not None:
                buried[record.owner] = grave

    def _spread(
        self,
        records: list[Record],
        accusations: list[Accusation],
        source: Neighbour | None,
        now: float,
        late: bool = False,
    ) -> None:
        """Push to tree neighbours, announce to the others.

        What was fetched is `late`: the neighbour that should have pushed it has it, and must not take our
        push for a reason to prune.
        """
        identities = [record.id for record in records]
        identities += [accusation.id for accusation in accusations]
        patient = not accusations and all(record.kind == Kind.LOAD for record in records)
        urgent = not patient and self._broadcast.may_be_urgent(len(identities), now)
        batches: list[bytes] = []
        for neighbour in self.overlay.active.values():
            neighbour.busy_at = now
            if neighbour.misses:
                neighbour.misses -= 1
            if neighbour is source:
                continue
            if neighbour.eager and patient:
                self._broadcast.share(neighbour, identities, late, now)
            elif neighbour.eager:
                if not batches:
                    batches = pushes([r.blob for r in records], [a.blob for a in accusations], aside=late)
                for data in batches:
                    self.outbox.send_bytes(neighbour, data, now)
            else:
                self._broadcast.announce(neighbour, identities, urgent, now)

    def _prune(self, neighbour: Neighbour, now: float) -> None:
        """What came was known: that peer need not push."""
        if neighbour.active and now - neighbour.pruned_at >= PRUNE_AGAIN_S:
            neighbour.pruned_at = now
            neighbour.eager = False
            self.outbox.send(neighbour, Prune(), now)

    def _note_fetched(self, records: list[Record]) -> None:
        self.counters.fetched += len(records)
        for record in records:
            if len(self._fetched) >= FETCHED_MAX:
                del self._fetched[next(iter(self._fetched))]
            self._fetched[record.id] = None

    def _on_have(self, neighbour: Neighbour, message: Have, now: float) -> None:
        self._broadcast.announced(neighbour, message.ids, message.old, self._knows, now)

    def _knows(self, identity: int) -> bool:
        return self.directory.has(identity) or self._lives.suspicions.holds(identity) is not None

    def _on_want(self, neighbour: Neighbour, message: Want, now: float) -> None:
        if message.graft and neighbour.active:
            neighbour.eager = True
        sent = self.outbox.bytes_out
        if neighbour.allowance > 0:
            self._send_items(neighbour, message.ids, now)
        neighbour.allowance -= self.outbox.bytes_out - sent

    def _send_items(
        self, neighbour: Neighbour, identities: list[int], now: float, *, aside: bool = True
    ) -> None:
        """Push what we have of these."""
        records: list[bytes] = []
        accusations: list[bytes] = []
        for identity in identities:
            record = self.directory.by_id(identity)
            if record is not None:
                records.append(record.blob)
                continue
            accusation = self._lives.suspicions.holds(identity)
            if accusation is not None:
                accusations.append(accusation.blob)
        if records or accusations:
            for data in pushes(records, accusations, aside=aside):
                self.outbox.send_bytes(neighbour, data, now)

    def _on_prune(self, neighbour: Neighbour, message: Prune, now: float) -> None:
        neighbour.eager = False

    def _tell(self, now: float) -> None:
        """Push, announce and fetch what is due."""
        for neighbour, identities, late in self._broadcast.shared_pushes(now):
            if neighbour.active:
                self._send_items(neighbour, identities, now, aside=late)
        for neighbour, identities in self._broadcast.second_pushes(now):
            if neighbour.active:
                self._send_items(neighbour, identities, now)
        for neighbour, identities in self._broadcast.announcements(now):
            if neighbour.active:
                self.outbox.send(neighbour, Have(identities), now)
        for neighbour, identities, graft in self._broadcast.fetches(self.overlay.links, now):
            self.outbox.send(neighbour, Want(identities, graft), now)
        self._broadcast.settle()

    # --- comparing

    def _compare_with(self, neighbour: Neighbour, now: float) -> None:
        self.outbox.send(neighbour, reconcile.opening(self.directory), now)

    def _on_compare(self, neighbour: Neighbour, message: Compare, now: float) -> None:
        for answer in reconcile.on_compare(self.directory, message):
            self._answer(neighbour, encode(answer), now)

    def _on_content(self, neighbour: Neighbour, message: Content, now: float) -> None:
        for answer in reconcile.on_content(self.directory, message):
            self._answer(neighbour, encode(answer), now)
        self._broadcast.announced(neighbour, message.ids, True, self._knows, now)

    def _answer(self, neighbour: Neighbour, data: bytes, now: float) -> None:
        """What a small question may cost us counts against who asks."""
        if neighbour.allowance > 0:
            neighbour.allowance -= len(data) + MESSAGE_COST_BYTES
            self.outbox.send_bytes(neighbour, data, now)

    # --- neighbours

    def _on_beat(self, neighbour: Neighbour, message: Beat, now: float) -> None:
        if not neighbour.active:
            self.overlay.on_stranger(neighbour, now)
            return
        self._lives.on_beat(neighbour, message, now)

    def _on_join(self, neighbour: Neighbour, message: Join, now: float) -> None:
        both_asked = self.overlay.is_pending(neighbour.id) and not neighbour.active
        self.overlay.on_join(neighbour, now)
        if both_asked:  # then neither takes the other's answer for news, and compares
            self._compare_with(neighbour, now)
        self._soon(now)

    def _on_adopt(self, neighbour: Neighbour, message: Adopt, now: float) -> None:
        self.overlay.on_adopt(neighbour, message, now)
        self._soon(now)

    def _on_adopted(self, neighbour: Neighbour, message: Adopted, now: float) -> None:
        was_active = neighbour.active
        self.overlay.on_adopted(neighbour, message, now)
        if neighbour.active and not was_active:
            self._compare_with(neighbour, now)
        self._soon(now)

    def _on_part(self, neighbour: Neighbour, message: Part, now: float) -> None:
        self.overlay.on_part(neighbour, now)
        self._soon(now)

    def _soon(self, now: float) -> None:
        self._tick_at = min(self._tick_at, now + TICK_MIN_S)

    def _usable(self, node: NodeId) -> bool:
        return not self.directory.is_forbidden(node) and self.directory.grave(node) is None

    # --- life and death

    def _take_accusations(self, neighbour: Neighbour, blobs: list[bytes], now: float) -> list[Accusation]:
        for blob in blobs:
            identity = accusation_id(blob)
            self._broadcast.arrived(identity)
            self._broadcast.has(neighbour, identity)
        fresh = self._lives.take_untrusted(neighbour, blobs, now) if blobs else []
        if fresh:
            self._soon(now)
        return fresh

    def _refute(self, generation: int, now: float) -> None:
        """Somebody says that this node is dead: it lives on at a higher generation."""
        if not self._left:
            self.counters.refutations += 1
            self._rise(generation, now)

    def _on_dead(self, node: NodeId, now: float) -> None:
        """A node was declared dead."""
        self.counters.deaths += 1
        self.overlay.population = self.directory.population
        self._events.append(Gone(node, "dead"))

    def _rise(self, generation: int, now: float) -> None:
        """Begin a new generation: every record is signed again, every vouch of before is void."""
        self.generation = generation
        self._lives.rise(generation)
        records = [
            sign_record(self._signer, self._network, generation, old.kind, old.version, old.payload)
            for old in self._own.values()
        ]
        for record in records:
            self._own[record.kind] = record
            self.directory.put_own(record, now)
        self._spread(records, [], None, now)
        self._soon(now)

    def _on_own_record(self, record: Record, now: float) -> None:
        """Our own record comes back; a newer one than ours is from a former life that outlived us."""
        own = self._own.get(record.kind)
        newest = (self.generation, own.version if own is not None else 0)
        if (record.generation, record.version) <= newest or self._left:
            return
        if not is_signed(record, self._network, self._verify):
            raise WireError("a record with a wrong signature")
        self._rise(record.generation + 1, now)

    # --- time

    def _tick(self, now: float) -> None:
        """Everything that is due but not urgent."""
        accusations = self._lives.look(now)
        if accusations:
            self._spread([], accusations, None, now)
        self.overlay.on_deadline(now)
        if self._load_waiting is not None and now >= self._load_at + LOAD_EVERY_S:
            self.publish(Kind.LOAD, self._load_waiting, now)
        if now >= self._reconcile_at:
            self._reconcile_at = now + RECONCILE_S
            if self.overlay.active:
                self._compare_with(self._random.choice(list(self.overlay.active.values())), now)
        self._lives.vouch(now)
        if now >= min(self._refresh_at, self._collect_at, self._rewire_at):
            self._rare(now)
        if self.overlay.wants_candidates and self.directory.population > 1:
            members = self.directory.members()
            self.overlay.learn(self._random.choice(members))
        self._tick_at = max(self._next_tick(), now + TICK_MIN_S)

    def _rare(self, now: float) -> None:
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S * (0.9 + 0.2 * self._random.random())
            if self._own:
                oldest = self._own[min(self._own)]
                self._publish(oldest.kind, oldest.version + 1, oldest.payload, now)
        if now >= self._collect_at:
            self._collect_at = now + COLLECT_S
            self._events += [Gone(node, "forgotten") for node in self.directory.collect(now)]
            self.overlay.population = self.directory.population
        if now >= self._rewire_at:
            self._rewire_at = now + (0.5 + self._random.random()) * REWIRE_S
            dead = self.directory.dead()
            if dead and self._random.random() < REWIRE_DEAD:
                self.overlay.want(self._random.choice(dead), now, urgent=True)
            elif self.directory.population > ACTIVE_MAX + 1:
                self.overlay.want(self._random.choice(self.directory.members()), now, urgent=True)

    def _next_tick(self) -> float:
        times = [self.overlay.deadline(), self._reconcile_at, self._refresh_at, self._collect_at]
        times += self._lives.times()
        if self._load_waiting is not None:
            times.append(self._load_at + LOAD_EVERY_S)
        times.append(self._rewire_at)
        return min(times)

    def _publish(self, kind: int, version: int, payload: bytes, now: float) -> None:
        record = sign_record(self._signer, self._network, self.generation, kind, version, payload)
        self._own[kind] = record
        self.directory.put_own(record, now)
        self.overlay.population = self.directory.population
        self._events.append(Changed(record))
        self._spread([record], [], None, now)
