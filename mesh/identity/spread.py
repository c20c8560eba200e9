"""Spreads revocations, uses of invites and notices among a node's neighbours. Sans-IO.

    spread = Spread(membership, renewer, random, now, notices)
    spread.link_up(peer, chain, now); spread.receive(peer, data, now, unix_s); spread.link_down(peer, now)
    spread.announce(now)
    spread.deadline(); spread.on_deadline(now, unix_s); spread.outputs()

What is new here goes to all neighbours at once, so a revocation or a notice crosses a network in as many
one-way trips as it has hops. When a link comes up, and every REPAIR_S with one neighbour, the two compare
what they know: a fingerprint of all, of 256 ranges where that differs, ids where those differ, then the facts
themselves.

It also carries renewals, see `renewal`.

`now` is monotonic seconds; `unix_s` is the wall clock, which claims are dated by.
"""

from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import TypeAlias

from mesh.errors import Refused, Unavailable, WireError
from mesh.identity.catalogue import Catalogue
from mesh.identity.claim import Chain, parse_chain_untrusted
from mesh.identity.membership import Membership
from mesh.identity.notice import parse_notice_untrusted
from mesh.identity.notices import Notices
from mesh.identity.renewal import Renewer
from mesh.identity.revocation import Revocation, parse_revocation_untrusted
from mesh.identity.spread_message import (
    BATCH_BYTES,
    FACTS_MAX,
    IDS_MAX,
    Batch,
    Buckets,
    Digest,
    Fact,
    Ids,
    Message,
    Need,
    NoticeBatch,
    Renew,
    Renewal,
    RevocationBatch,
    Show,
    UseBatch,
    encode_message,
    parse_message_untrusted,
    split_ids,
)
from mesh.identity.uses import seats_of
from mesh.identity.wire import digest
from mesh.model import NodeId, Signer

REPAIR_S = 30.0  # what flooding missed (a queue that overflowed, a full table) is found then
AGAIN_S = 1.0  # after a link came up: where two nodes dialled each other, what went over the loser is lost
WHOLE_IDS = 512  # a table with no more is listed at once: 8 KiB against another round trip
SEND_BYTES_PER_S = 250_000  # a table of 1000 seats in 3 s on a home uplink
SEND_BURST_BYTES = 512 * 1024
WAITING_MAX = 20_000  # facts for one peer: every seat and every revocation that there can be
SEND_ORDER: dict[Fact, type[Batch]] = {  # what is taken back first, and that fast even on a new link
    Fact.REVOCATION: RevocationBatch,
    Fact.NOTICE: NoticeBatch,
    Fact.USE: UseBatch,
}
RECEIVE_BYTES_PER_S = 2 * SEND_BYTES_PER_S  # an honest peer's facts, and as much again for the rest
RECEIVE_BURST_BYTES = 4 * SEND_BURST_BYTES
MESSAGE_COST_BYTES = 256  # what handling a message costs beyond its bytes: an empty one is not free
FLOOD_MESSAGES = 1000  # over the allowance before the peer is let go
FORGED_MAX = 3  # an honest peer checks before it passes on; a newer version may differ on a rare statement


@dataclass(frozen=True, slots=True)
class Tell:
    """One whole message for a peer with a live link."""

    peer: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class Revoked:
    """A key was revoked: check the chains of all links, and of all records, again. Save the membership."""

    key: bytes
    revocation: Revocation


@dataclass(frozen=True, slots=True)
class Displaced:
    """A use of an invite lost to another: somebody who was a member may be none. Check as for `Revoked`."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """This node's own claim was renewed and adopted: keep it, and publish it in the node's records."""

    chain: Chain


@dataclass(frozen=True, slots=True)
class Shown:
    """A neighbour's claim was renewed: the chain, checked, that its link is to be judged by from now on."""

    peer: NodeId
    chain: Chain


@dataclass(frozen=True, slots=True)
class Noticed:
    """The notices changed: keep them, and look what they say now."""


Output: TypeAlias = Tell | Revoked | Displaced | Renewed | Shown | Noticed


@dataclass(slots=True)
class Counters:
    """Since the start."""

    learned_revocations: int = 0
    learned_uses: int = 0
    learned_notices: int = 0
    refused: int = 0  # facts from peers that were forged or foreign
    dropped: int = 0  # messages over a peer's allowance
    overflowed: int = 0  # facts that were not kept waiting for a peer
    full: int = 0  # uses that found no room here
    bytes_out: int = 0


class _Peer:
    """One live link."""

    __slots__ = (
        "allowance",
        "allowance_at",
        "budget",
        "budget_at",
        "chain",
        "compare_at",
        "dropped",
        "forged",
        "id",
        "waiting",
    )

    def __init__(self, peer: NodeId, chain: Chain, now: float) -> None:
        self.id = peer
        self.chain = chain
        self.compare_at: float | None = None  # when to compare again, after the link came up
        self.waiting: dict[Fact, dict[bytes, bytes]] = {fact: {} for fact in Fact}
        self.budget = float(SEND_BURST_BYTES)  # facts that we may send
        self.budget_at = now
        self.allowance = float(RECEIVE_BURST_BYTES)  # what the peer may cost us
        self.allowance_at = now
        self.dropped = 0
        self.forged = 0

    def admit(self, size: int, now: float) -> bool:
        """Whether the peer's allowance covers a message of `size` bytes; spends it."""
        earned = (now - self.allowance_at) * RECEIVE_BYTES_PER_S
        self.allowance = min(self.allowance + earned, RECEIVE_BURST_BYTES)
        self.allowance_at = now
        if self.allowance < size + MESSAGE_COST_BYTES:
            self.dropped += 1
            return False
        self.allowance -= size + MESSAGE_COST_BYTES
        return True

    def refill(self, now: float) -> None:
        """Earn leave to send facts."""
        self.budget = min(self.budget + (now - self.budget_at) * SEND_BYTES_PER_S, SEND_BURST_BYTES)
        self.budget_at = now

    def next_send(self) -> float | None:
        """When the next waiting fact may go."""
        if not any(self.waiting.values()):
            return None
        return self.budget_at + max(0.0, BATCH_BYTES - self.budget) / SEND_BYTES_PER_S


class Spread:
    """One node's part in it. Save `membership.state()` whenever `membership.version` changed."""

    def __init__(
        self,
        membership: Membership,
        renewer: Signer | None,
        random: Random,
        now: float = 0.0,
        notices: Notices | None = None,
    ) -> None:
        """`renewer` is the network key on the owner's node, an inviter's own key on its node, else None.

        Raises StateError for another's key.
        """
        self.notices = Notices(membership) if notices is None else notices
        self.counters = Counters()
        self._membership = membership
        self._renewals = Renewer(membership, renewer, now)
        self._random = random
        self._peers: dict[NodeId, _Peer] = {}
        self._outputs: list[Output] = []
        self._known_version = (-1, -1)  # of the membership, of the notices
        self._known: dict[Fact, Catalogue] = {}
        self._told = {fact: set(known.facts) for fact, known in self._catalogues().items()}
        self._told_version = self._known_version
        self._shown = membership.own
        self._repair_at = now + random.random() * REPAIR_S

    @property
    def refusal(self) -> str:
        """Why this node's claim, though it is due, was not renewed; "" when nobody refused."""
        return self._renewals.refusal

    def link_up(self, peer: NodeId, chain: Chain, now: float) -> None:
        """A link came up with a peer whose chain was checked, and so counted, before."""
        self._peers.pop(peer, None)
        self._tell_news(now)
        self._peers[peer] = _Peer(peer, chain, now)
        # One of the two is enough: each side's answer also tells what the other lacks.
        if self._membership.node_id < peer:
            self._compare_with(self._peers[peer])
            self._peers[peer].compare_at = now + AGAIN_S
        self._renewals.link_up(chain, now)

    def link_down(self, peer: NodeId, now: float) -> None:
        """The link went."""
        self._peers.pop(peer, None)
        self._renewals.link_down(peer, now)

    def receive(self, peer: NodeId, data: bytes, now: float, unix_s: float) -> None:
        """One message of a peer. Raises WireError: close the link.

        That is for what does not parse, for facts that are forged again and again, and for a flood.
        """
        found = self._peers.get(peer)
        if found is None:
            return
        try:
            self._receive(found, data, now, unix_s)
        except WireError:
            self.link_down(peer, now)
            raise

    def announce(self, now: float) -> None:
        """This node itself changed what it knows: it revoked, settled, counted, said something or renewed."""
        self._tell_news(now)

    def deadline(self) -> float:
        """When to call `on_deadline`."""
        peers = self._peers.values()
        times = [at for peer in peers for at in (peer.next_send(), peer.compare_at) if at is not None]
        return min(self._repair_at, self._renewals.at, *times)

    def on_deadline(self, now: float, unix_s: float) -> None:
        """Do what is due."""
        for peer in self._peers.values():
            self._send_waiting(peer, now)
            if peer.compare_at is not None and now >= peer.compare_at:
                peer.compare_at = None
                self._compare_with(peer)
        if now >= self._renewals.at:
            self._seek_renewal(now, unix_s)
        if now >= self._repair_at:
            self._repair_at = now + (0.5 + self._random.random()) * REPAIR_S
            self._membership.forget_ended(unix_s)
            self.notices.forget_ended(unix_s)
            self._tell_news(now)
            if self._peers:
                self._compare_with(self._random.choice(list(self._peers.values())))

    def outputs(self) -> list[Output]:
        """What happened and what to send since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- receiving

    def _receive(self, peer: _Peer, data: bytes, now: float, unix_s: float) -> None:
        if not peer.admit(len(data), now):
            self.counters.dropped += 1
            if peer.dropped > FLOOD_MESSAGES:
                raise WireError("more messages about membership than a member can have")
            return
        message = parse_message_untrusted(data)
        try:
            self._handle(peer, message, now, unix_s)
        except Refused as error:
            self.counters.refused += 1
            peer.forged += 1
            if peer.forged > FORGED_MAX:
                raise WireError(f"it passes on what is not true: {error}") from None

    def _handle(self, peer: _Peer, message: Message, now: float, unix_s: float) -> None:
        match message:
            case Digest():
                self._on_digest(peer, message, now)
            case Buckets():
                self._on_buckets(peer, message)
            case Ids():
                self._on_ids(peer, message, now)
            case Need():
                known = self._catalogues()[message.fact].facts
                wanted = {one: known[one] for one in split_ids(message.ids) if one in known}
                self._offer(peer, message.fact, wanted, now)
            case RevocationBatch():
                self._on_revocations(peer, message, now)
            case UseBatch():
                self._on_uses(peer, message, now, unix_s)
            case NoticeBatch():
                self._on_notices(peer, message, now, unix_s)
            case Renew():
                self._answer(peer, self._renewals.answer(peer, unix_s))
                self._tell_news(now)  # an inviter's renewal takes a seat
            case Renewal():
                self._on_renewal(peer, message, now, unix_s)
            case Show():
                self._on_show(peer, message, now, unix_s)

    def _on_revocations(self, peer: _Peer, message: RevocationBatch, now: float) -> None:
        fresh: dict[bytes, bytes] = {}
        try:
            for data in message.facts:
                identity = digest(data)
                if identity in self._told[Fact.REVOCATION]:
                    continue
                revocation = parse_revocation_untrusted(data)
                if self._membership.learn_revocation(revocation):
                    fresh[identity] = data
                    self._told[Fact.REVOCATION].add(identity)
                    self.counters.learned_revocations += 1
                    self._outputs.append(Revoked(revocation.said.key, revocation))
        finally:
            self._flood(Fact.REVOCATION, fresh, peer, now)

    def _on_uses(self, peer: _Peer, message: UseBatch, now: float, unix_s: float) -> None:
        uses = self._membership.uses
        version, seats = uses.version, len(uses)
        fresh: dict[bytes, bytes] = {}
        try:
            for data in message.facts:
                identity = digest(data)
                if identity in self._told[Fact.USE]:
                    continue
                chain = _use_untrusted(data)
                if self._membership.learn_use(chain, unix_s):
                    fresh[identity] = data
                    self._told[Fact.USE].update(seat.chain.digest() for seat in seats_of(chain))
                    self.counters.learned_uses += 1
        except Unavailable:
            self.counters.full += 1
        finally:
            if uses.version - version > len(uses) - seats:
                self._outputs.append(Displaced())
            self._flood(Fact.USE, fresh, peer, now)

    def _on_notices(self, peer: _Peer, message: NoticeBatch, now: float, unix_s: float) -> None:
        fresh: dict[bytes, bytes] = {}
        try:
            for data in message.facts:
                identity = digest(data)
                if identity in self._told[Fact.NOTICE]:
                    continue
                if self.notices.learn(parse_notice_untrusted(data), now, unix_s):
                    fresh[identity] = data
                    self._told[Fact.NOTICE].add(identity)
                    self.counters.learned_notices += 1
        finally:
            if fresh:
                self._outputs.append(Noticed())
            self._flood(Fact.NOTICE, fresh, peer, now)
            self._tell_news(now)  # its author may have taken a seat

    # --- comparing

    def _catalogues(self) -> dict[Fact, Catalogue]:
        """What this node knows now."""
        membership, version = self._membership, (self._membership.version, self.notices.version)
        known, self._known_version = self._known_version, version
        if version[0] != known[0]:
            revocations = membership.revocations.all()
            self._known[Fact.REVOCATION] = Catalogue(revocation.data for revocation in revocations)
            self._known[Fact.USE] = Catalogue(chain.data for chain in membership.uses.chains())
        if version[1] != known[1]:
            self._known[Fact.NOTICE] = Catalogue(notice.data for notice in self.notices.all())
        return self._known

    def _compare_with(self, peer: _Peer) -> None:
        known = self._catalogues()
        revocations, uses, notices = known[Fact.REVOCATION], known[Fact.USE], known[Fact.NOTICE]
        digests = revocations.fingerprint, len(revocations), uses.fingerprint, len(uses)
        self._send(peer, Digest(*digests, notices.fingerprint, len(notices)))

    def _on_digest(self, peer: _Peer, message: Digest, now: float) -> None:
        known = self._catalogues()
        for fact, fingerprint, count in (
            (Fact.REVOCATION, message.revocations, message.revocation_count),
            (Fact.USE, message.uses, message.use_count),
            (Fact.NOTICE, message.notices, message.notice_count),
        ):
            ours = known[fact]
            if fingerprint == ours.fingerprint:
                continue
            if not count:
                self._offer(peer, fact, ours.facts, now)
            elif len(ours) <= WHOLE_IDS:
                self._answer(peer, Ids(fact, b"", b"".join(ours.with_prefix(b""))))
            else:
                self._answer(peer, Buckets(fact, ours.bucket_fingerprints()))

    def _on_buckets(self, peer: _Peer, message: Buckets) -> None:
        ours = self._catalogues()[message.fact]
        for prefix in ours.differing(message.fingerprints):
            # Cut only where ids were searched for that begin alike: some facts then go twice.
            self._answer(peer, Ids(message.fact, prefix, b"".join(ours.with_prefix(prefix)[:IDS_MAX])))

    def _on_ids(self, peer: _Peer, message: Ids, now: float) -> None:
        known = self._catalogues()[message.fact]
        theirs = dict.fromkeys(split_ids(message.ids))
        wanted = [one for one in theirs if one not in known.facts]
        if wanted:
            self._answer(peer, Need(message.fact, b"".join(wanted)))
        lacking = {one: known.facts[one] for one in known.with_prefix(message.prefix) if one not in theirs}
        self._offer(peer, message.fact, lacking, now)

    # --- sending

    def _tell_news(self, now: float) -> None:
        """Flood what came in otherwise than from a neighbour here: own acts, chains of links and records."""
        if (self._membership.version, self.notices.version) != self._told_version:
            known = self._catalogues()
            for revocation in self._membership.revocations.all():
                if digest(revocation.data) not in self._told[Fact.REVOCATION]:
                    self._outputs.append(Revoked(revocation.said.key, revocation))
            for fact, catalogue in known.items():
                told = self._told[fact]
                if fact is Fact.USE and any(one not in catalogue.facts for one in told):
                    self._outputs.append(Displaced())
                fresh = {one: data for one, data in catalogue.facts.items() if one not in told}
                if fact is Fact.NOTICE and (fresh or len(told) > len(catalogue)):
                    self._outputs.append(Noticed())
                self._told[fact] = set(catalogue.facts)
                self._flood(fact, fresh, None, now)
            self._told_version = self._known_version
        if self._shown is not self._membership.own:
            self._shown = self._membership.own
            for peer in self._peers.values():
                self._send(peer, Show(self._shown.data))

    def _flood(self, fact: Fact, fresh: dict[bytes, bytes], source: _Peer | None, now: float) -> None:
        if fresh:
            for peer in self._peers.values():
                if peer is not source:
                    self._offer(peer, fact, fresh, now)

    def _offer(self, peer: _Peer, fact: Fact, facts: dict[bytes, bytes], now: float) -> None:
        """Send facts as soon as the peer's budget allows."""
        waiting = peer.waiting[fact]
        for identity, data in facts.items():
            if len(waiting) >= WAITING_MAX:
                self.counters.overflowed += 1
                continue
            waiting[identity] = data
        self._send_waiting(peer, now)

    def _send_waiting(self, peer: _Peer, now: float) -> None:
        peer.refill(now)
        for fact, batch in SEND_ORDER.items():
            waiting = peer.waiting[fact]
            while waiting and peer.budget > BATCH_BYTES - 1:  # a fraction of a byte is lost in sums of times
                peer.budget -= self._send(peer, batch(_take_batch(waiting)))

    def _answer(self, peer: _Peer, message: Message) -> None:
        """Send what a small question asked for: that counts against who asked."""
        if peer.allowance > 0:
            peer.allowance -= self._send(peer, message) + MESSAGE_COST_BYTES

    def _send(self, peer: _Peer, message: Message) -> int:
        data = encode_message(message)
        self.counters.bytes_out += len(data)
        self._outputs.append(Tell(peer.id, data))
        return len(data)

    # --- claims

    def _seek_renewal(self, now: float, unix_s: float) -> None:
        own = self._membership.own
        asked = self._renewals.seek(self._peers.values(), now, unix_s)
        if asked is not None:
            self._send(self._peers[asked], Renew())
        self._tell_renewed(own, now)

    def _on_renewal(self, peer: _Peer, message: Renewal, now: float, unix_s: float) -> None:
        own = self._membership.own
        self._renewals.take(peer.id, message, now, unix_s)
        self._tell_renewed(own, now)

    def _tell_renewed(self, old: Chain, now: float) -> None:
        if self._membership.own is not old:
            self._outputs.append(Renewed(self._membership.own))
            self._tell_news(now)

    def _on_show(self, peer: _Peer, message: Show, now: float, unix_s: float) -> None:
        chain = parse_chain_untrusted(message.chain)
        if chain.node_id != peer.id or chain.claim.serial <= peer.chain.claim.serial:
            return  # an older one that crossed with a new link
        try:
            self._membership.check(chain, unix_s)
        except Unavailable:
            self.counters.full += 1
            return
        peer.chain = chain
        self._outputs.append(Shown(peer.id, chain))
        self._tell_news(now)


def _use_untrusted(data: bytes) -> Chain:
    """A chain that uses an invite. Raises WireError, for one that ends in a grant too."""
    chain = parse_chain_untrusted(data)
    _ = chain.claim
    return chain


def _take_batch(waiting: dict[bytes, bytes]) -> list[bytes]:
    """Take the first facts, as many as go into one message; at least one."""
    batch: list[bytes] = []
    size = 0
    taken: list[bytes] = []
    for identity, data in islice(waiting.items(), FACTS_MAX):
        if batch and size + len(data) > BATCH_BYTES:
            break
        size += len(data)
        batch.append(data)
        taken.append(identity)
    for identity in taken:
        del waiting[identity]
    return batch
