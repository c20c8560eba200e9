"""HyParView: a small active view of live links, a larger passive view to replace them from.

Source: Leitao, Pereira, Rodrigues, "HyParView: a membership protocol for reliable gossip-based broadcast",
2007. Differences: neighbourhood needs a link that the shell makes (`Connect`), messages may be lost, so every
request is repeated until answered or given up; a network of at most ACTIVE_MAX + 1 nodes is fully meshed.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from mesh.membership.message import (
    PATH_MAX,
    Adopt,
    Adopted,
    ForwardJoin,
    Join,
    Part,
    Shuffle,
    Shuffled,
)
from mesh.membership.neighbour import Neighbour
from mesh.membership.outbox import Outbox
from mesh.model import NodeId

ACTIVE_MAX = 7  # with itself eight: up to here everybody knows everybody
ACTIVE_LARGE = 6  # most in a larger network: every link costs heartbeats and a copy of what is urgent
ACTIVE_FILL = 5  # what a larger network is repaired to: ln(1000) / ln(4); the paper's own figure at 10,000
PASSIVE_MAX = 30  # the paper's figure: six times the active view
PASSIVE_LOW = 3  # below it `wants_candidates` asks for more
PENDING_MAX = 4  # links being made at a time
LINKS_MAX = 256  # links held, neighbours or not; others are released at once
WALK_TTL = 6  # the paper's active random walk length
WALK_PASSIVE_TTL = 3  # the paper's passive random walk length
SHUFFLE_TTL = 4  # far enough to leave the neighbourhood of a node with five neighbours
SHUFFLE_S = 60.0  # a view of 30 is renewed in four minutes, for ten messages of 400 bytes
SAMPLE = 8  # nodes in an exchange
CONNECT_S = 10.0  # a link through a relay is made in less; then the candidate is given up
REPAIR_S = 1.0  # between attempts to fill the view, and between repeats of a request
REFUSED_S = 10.0  # a peer that parted is not asked again before
FORWARD_S = 30.0  # a peer's joins are passed on at most this often: each costs forty messages
SHUN_S = 60.0  # a peer that flooded us or broke the protocol stays away as long
SHUNNED_MAX = 256  # as many as there can be links
IDLE_LINK_S = 30.0  # a link that is nobody's neighbour is given back


class _Request(NamedTuple):
    """A neighbourhood asked for: when to give up, and whether to take no refusal."""

    until: float
    urgent: bool


class Overlay:
    """Views of one node. `usable` says whether a node may be linked to (not gone, not forbidden)."""

    def __init__(
        self, node: NodeId, random: Random, outbox: Outbox, usable: Callable[[NodeId], bool], now: float
    ) -> None:
        self._node = node
        self._random = random
        self._outbox = outbox
        self._usable = usable
        self._repair_at = now
        self._shuffle_at = now + random.random() * SHUFFLE_S
        self._pending: dict[NodeId, _Request] = {}  # asked to be a neighbour
        self._shunned: dict[NodeId, float] = {}  # -> until when
        self.links: dict[NodeId, Neighbour] = {}
        self.active: dict[NodeId, Neighbour] = {}
        self.passive: dict[NodeId, None] = {}
        self.population = 1  # nodes known to live, this one with them; set by the owner of the directory
        self.view_version = 0  # rises with each change of the active view

    # --- links, told by the shell

    def link_up(self, peer: NodeId, known: bool, now: float) -> Neighbour:
        """There is a link to `peer`; a second one replaces the first and changes nothing else.

        `known`: the directory has the peer. A stranger may be all that joins two halves of a network.
        """
        found = self.links.get(peer)
        if found is not None:
            found.heard = now
            return found
        neighbour = Neighbour(peer, now)
        refusal = "too many links" if len(self.links) >= LINKS_MAX else ""
        if self._shunned.get(peer, now) > now:
            refusal = "misbehaved a moment ago"
        if refusal:
            self._outbox.release(peer, refusal)
            return neighbour
        self.links[peer] = neighbour
        if not self.active:
            self._pending[peer] = _Request(now + CONNECT_S, True)
            self._outbox.send(neighbour, Join(), now)
        elif peer in self._pending:
            self._ask(neighbour, now)
        elif not known:
            self.want(peer, now, urgent=True)
        return neighbour

    def is_pending(self, peer: NodeId) -> bool:
        """Whether the peer was asked to be a neighbour and has not answered."""
        return peer in self._pending

    def link_down(self, peer: NodeId) -> Neighbour | None:
        """The link is gone; returns what it was, if it was a neighbour's."""
        neighbour = self.links.pop(peer, None)
        if neighbour is None or not neighbour.active:
            return None
        self._deactivate(neighbour)
        return neighbour

    # --- messages

    def on_join(self, neighbour: Neighbour, now: float) -> None:
        """A node that knows nobody: take it whatever it costs, and let walks find it more neighbours."""
        if not neighbour.active:
            self._make_room(now)
            self.activate(neighbour, now)
        self._outbox.send(neighbour, Adopted(self._sample(neighbour.id)), now)
        if now - neighbour.forwarded_at >= FORWARD_S:
            neighbour.forwarded_at = now
            for other in self.active.values():
                if other is not neighbour:
                    self._outbox.send(other, ForwardJoin(neighbour.id, WALK_TTL), now)

    def on_forward_join(self, neighbour: Neighbour, message: ForwardJoin, now: float) -> None:
        """A step of a joining node's walk."""
        node = message.node
        if node == self._node or node in self.active:
            return
        others = [other for other in self.active.values() if other is not neighbour and other.id != node]
        if message.ttl == 0 or not others:
            if len(self.active) < self._limit():
                self.want(node, now)
            else:
                self.learn(node)
            return
        if message.ttl == WALK_PASSIVE_TTL:
            self.learn(node)
        self._outbox.send(self._random.choice(others), ForwardJoin(node, message.ttl - 1), now)

    def on_adopt(self, neighbour: Neighbour, message: Adopt, now: float) -> None:
        """Asked to be a neighbour: yes if there is room, or if the peer has nobody."""
        if not neighbour.active:
            if len(self.active) >= self._limit() and not message.urgent:
                self._outbox.send(neighbour, Part(), now)
                return
            self._make_room(now)
            self.activate(neighbour, now)
        self._outbox.send(neighbour, Adopted(self._sample(neighbour.id)), now)

    def on_adopted(self, neighbour: Neighbour, message: Adopted, now: float) -> None:
        """The peer took us as a neighbour."""
        for node in message.sample:
            self.learn(node)
        if neighbour.active:
            return
        request = self._pending.get(neighbour.id)
        if len(self.active) < self._limit() or (request is not None and request.urgent):
            self._make_room(now)
            self.activate(neighbour, now)
        else:
            self._outbox.send(neighbour, Part(), now)

    def on_part(self, neighbour: Neighbour, now: float) -> None:
        """The peer is no neighbour (any more) but lives."""
        neighbour.parted_at = now
        self._pending.pop(neighbour.id, None)
        if neighbour.active:
            self._deactivate(neighbour)
        self.learn(neighbour.id)

    def on_stranger(self, neighbour: Neighbour, now: float) -> None:
        """A heartbeat from a peer that thinks it is a neighbour: our word to it was lost. Say it again."""
        if neighbour.id not in self._pending and now - neighbour.parted_at >= REPAIR_S:
            neighbour.parted_at = now
            self._outbox.send(neighbour, Part(), now)

    def on_shuffle(self, neighbour: Neighbour, message: Shuffle, now: float) -> None:
        """A step of an exchange, or its end."""
        others = [n for n in self.active.values() if n is not neighbour and n.id not in message.path]
        if message.ttl > 0 and others and len(message.path) < PATH_MAX:
            step = Shuffle(message.ttl - 1, [*message.path, self._node], message.sample)
            self._outbox.send(self._random.choice(others), step, now)
            return
        self._outbox.send(neighbour, Shuffled(message.path[:-1], self._sample(neighbour.id)), now)
        for node in message.sample:
            self.learn(node)

    def on_shuffled(self, message: Shuffled, now: float) -> None:
        """The answer on its way back; ours if the path is used up."""
        if message.path:
            back = self.links.get(message.path[-1])
            if back is not None:
                self._outbox.send(back, Shuffled(message.path[:-1], message.sample), now)
            return
        for node in message.sample:
            self.learn(node)

    # --- views

    def learn(self, node: NodeId) -> None:
        """Somebody to link to later."""
        if node == self._node or node in self.active or node in self.passive or not self._usable(node):
            return
        if len(self.passive) >= PASSIVE_MAX:
            del self.passive[self._random.choice(list(self.passive))]
        self.passive[node] = None

    def want(self, node: NodeId, now: float, *, urgent: bool = False) -> None:
        """Become neighbours: over the link there is, or one to be made. `urgent`: others make room."""
        if node == self._node or node in self.active:
            return
        self._pending[node] = _Request(now + CONNECT_S, urgent)
        neighbour = self.links.get(node)
        if neighbour is None:
            self._outbox.connect(node)
        else:
            self._ask(neighbour, now)

    def activate(self, neighbour: Neighbour, now: float) -> None:
        """Take a peer into the active view."""
        self._pending.pop(neighbour.id, None)
        self.passive.pop(neighbour.id, None)
        neighbour.active = neighbour.eager = True
        neighbour.heard = neighbour.due = now
        neighbour.probes = neighbour.misses = neighbour.accused = 0
        self.active[neighbour.id] = neighbour
        self.view_version += 1

    def drop(self, node: NodeId, reason: str) -> None:
        """Gone, dead or forbidden: out of every view."""
        self._pending.pop(node, None)
        self.passive.pop(node, None)
        neighbour = self.links.pop(node, None)
        if neighbour is not None:
            self._outbox.release(node, reason, fault=True)
            if neighbour.active:
                self._deactivate(neighbour)

    def shun(self, node: NodeId, reason: str, now: float) -> None:
        """Let go a peer that misbehaved, and take no link to it for a while."""
        if len(self._shunned) >= SHUNNED_MAX:
            del self._shunned[next(iter(self._shunned))]
        self._shunned[node] = now + SHUN_S
        self.drop(node, reason)

    def part(self, neighbour: Neighbour, now: float) -> None:
        """Stop being neighbours with a live peer."""
        self._outbox.send(neighbour, Part(), now)
        neighbour.parted_at = now
        if neighbour.active:
            self._deactivate(neighbour)

    @property
    def wants_candidates(self) -> bool:
        """Whether the view is not full and the passive view has little to fill it from."""
        return len(self.passive) < PASSIVE_LOW and len(self.active) < self._target()

    def on_deadline(self, now: float) -> None:
        """Repeat requests, fill the view, exchange, give idle links back."""
        if now >= self._repair_at:
            self._repair_at = now + REPAIR_S
            self._repair(now)
            self._release_idle(now)
        if now >= self._shuffle_at:
            self._shuffle_at = now + SHUFFLE_S
            if self.active and self.population > ACTIVE_MAX + 1:
                chosen = self._random.choice(list(self.active.values()))
                shuffle = Shuffle(SHUFFLE_TTL, [self._node], self._sample(chosen.id))
                self._outbox.send(chosen, shuffle, now)

    def deadline(self) -> float:
        """When `on_deadline` is next due."""
        if self._pending:
            return min(self._repair_at, self._shuffle_at)
        if len(self.active) < self._target() and (self.passive or not self.active):
            return min(self._repair_at, self._shuffle_at)
        if len(self.links) > len(self.active):
            return min(self._repair_at + IDLE_LINK_S, self._shuffle_at)
        return self._shuffle_at

    def _limit(self) -> int:
        return ACTIVE_MAX if self.population <= ACTIVE_MAX + 1 else ACTIVE_LARGE

    def _target(self) -> int:
        return ACTIVE_MAX if self.population <= ACTIVE_MAX + 1 else ACTIVE_FILL

    def _repair(self, now: float) -> None:
        for node, request in list(self._pending.items()):
            if now >= request.until:
                del self._pending[node]
                self.passive.pop(node, None)
            elif node in self.links:
                self._ask(self.links[node], now)
        if not self.active and self.links and not self._pending:
            self._outbox.send(self._random.choice(list(self.links.values())), Join(), now)
        missing = min(self._target() - len(self.active), PENDING_MAX) - len(self._pending)
        if missing > 0:
            candidates = [node for node in self.passive if self._may_ask(node, now)]
            for node in self._random.sample(candidates, min(missing, len(candidates))):
                self.want(node, now)

    def _ask(self, neighbour: Neighbour, now: float) -> None:
        self._outbox.send(neighbour, Adopt(self._pending[neighbour.id].urgent or not self.active), now)

    def _may_ask(self, node: NodeId, now: float) -> bool:
        if node in self._pending or not self._usable(node):
            return False
        link = self.links.get(node)
        return link is None or now - link.parted_at >= REFUSED_S

    def _release_idle(self, now: float) -> None:
        if len(self.links) == len(self.active):
            return
        for link in list(self.links.values()):
            quiet = now - max(link.since, link.heard)
            if not link.active and link.id not in self._pending and quiet >= IDLE_LINK_S:
                del self.links[link.id]
                self._outbox.release(link.id, "idle")

    def _make_room(self, now: float) -> None:
        while len(self.active) >= self._limit():
            evicted = self._random.choice(list(self.active.values()))
            self.part(evicted, now)
            self.learn(evicted.id)

    def _deactivate(self, neighbour: Neighbour) -> None:
        neighbour.active = False
        self.active.pop(neighbour.id, None)
        self.view_version += 1

    def _sample(self, without: NodeId) -> list[NodeId]:
        known = [node for node in (*self.active, *self.passive) if node != without]
        return self._random.sample(known, min(SAMPLE, len(known)))
