"""The notices that a node knows: the newest of each author and slot. Pure.

Merging keeps the higher version, so any order, loss and repetition of `learn` ends in the same table.
"""

from collections.abc import Iterable, Sequence

from mesh.errors import Refused, StateError, Unavailable, WireError
from mesh.identity.claim import Chain
from mesh.identity.key import verify as verify_ed25519
from mesh.identity.membership import Membership
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.notice import (
    MS,
    REPEAT_S,
    SLOTS,
    Notice,
    Rank,
    check_notice,
    make_notice,
    parse_notice_untrusted,
)
from mesh.model import NodeId, Role, Signer, Verify

NOTICES_MAX = 4096  # one for each origin of a network four times the largest that the tests run
NOTICES_BYTES_MAX = 4 * 1024 * 1024  # those of 30 members who say as much as they can
PACE_S = 0.5  # an author's notices come at two a second in the long run: each goes over every link
PACE_BURST_S = 2 * SLOTS * PACE_S  # all of them at once, twice
PACES_MAX = 2 * NOTICES_MAX  # authors that are timed


class Notices:
    """What all members of one network say. Bounded; of more, those of the lowest rank are kept."""

    def __init__(self, membership: Membership, verify: Verify = verify_ed25519) -> None:
        self.membership = membership
        self.version = 0  # goes up with every change
        self.paced = 0  # notices that came faster than their author may speak
        self._verify = verify
        self._by_rank: dict[Rank, Notice] = {}
        self._bytes = 0
        self._paces: dict[NodeId, float] = {}  # -> when its allowance is whole again (GCRA)

    def __len__(self) -> int:
        return len(self._by_rank)

    def all(self) -> list[Notice]:
        """Every notice, by rank."""
        return [self._by_rank[rank] for rank in sorted(self._by_rank)]

    def in_force(self, unix_s: float) -> list[Notice]:
        """Those that say something, now, by a member that may. By rank."""
        accepted: dict[bytes, bool] = {}
        found = []
        for notice in self.all():
            chain = notice.chain
            if not notice.payload or notice.has_ended(unix_s) or notice.is_early(unix_s):
                continue
            if chain.data not in accepted:
                accepted[chain.data] = self._accepts(chain, unix_s)
            if accepted[chain.data]:
                found.append(notice)
        return found

    def learn(self, notice: Notice, now: float, unix_s: float) -> bool:
        """Take in what another member passed on. True when that changed anything.

        What is old, early, of no member any more, or too much is left alone: neighbours may know less, and
        another time it may be taken. `now` is monotonic seconds. Raises Refused when it is foreign or forged.
        """
        held = self._by_rank.get(notice.rank)
        if held is not None and held.version >= notice.version and not held.is_early(unix_s):
            return False
        if notice.has_ended(unix_s) or notice.is_early(unix_s):
            return False
        pace = max(self._paces.get(notice.author, now), now)
        if pace - now > PACE_BURST_S:
            self.paced += 1
            return False
        try:
            self.membership.learn_use(notice.chain, unix_s)  # raises Refused for a forged chain
        except Unavailable:
            return False
        check_notice(notice, self._verify)
        if self._is_over(notice.chain, unix_s) or not self._has_room(notice):
            return False
        self._set_pace(notice.author, pace + PACE_S, now)
        self._put(notice)
        return True

    def say(self, author: Signer, payloads: Sequence[bytes], unix_s: float) -> bool:
        """Have this node's notices say `payloads`, one in each slot, and nothing else. True when any is new.

        Call it now and then with the same: what grew old is repeated, with the claim that the node has now.
        Raises StateError without the role for it, for another's key, or for more payloads than slots.
        """
        own = self.membership.own
        if author.node_id != own.node_id or len(payloads) > SLOTS:
            raise StateError("a node says as much as it has slots for, in its own name")
        if any(payloads) and Role.ORIGIN not in self.membership.own_roles:
            raise StateError("a node without the role origin says nothing")
        before = self.version
        for slot in range(SLOTS):
            payload = payloads[slot] if slot < len(payloads) else b""
            held = self._by_rank.get((slot, own.node_id))
            if not (payload if held is None else self._is_due(held, payload, unix_s)):
                continue
            at = int(unix_s * MS)
            if held is not None and not held.is_early(unix_s):
                at = max(at, held.at_unix_ms + 1)
            self._put(make_notice(author, own, slot, at, payload))
        return self.version != before

    def forget_ended(self, unix_s: float) -> None:
        """Drop what can never count again. Call it now and then, and when somebody lost its membership."""
        over: dict[bytes, bool] = {}
        for notice in self.all():
            data = notice.chain.data
            if data not in over:
                over[data] = self._is_over(notice.chain, unix_s)
            if over[data] or notice.has_ended(unix_s):
                self._drop(notice)

    def restore(self, kept: Iterable[bytes]) -> int:
        """Take in what this node once checked and kept; not verified again. Returns how many were damaged."""
        damaged = 0
        for data in kept:
            try:
                notice = parse_notice_untrusted(data)
            except WireError:
                damaged += 1
                continue
            if notice.chain.network == self.membership.network and self._has_room(notice):
                self._put(notice)
        return damaged

    def _is_due(self, held: Notice, payload: bytes, unix_s: float) -> bool:
        """Whether what this node says in a slot has to be said again."""
        if held.payload != payload or held.is_early(unix_s):
            return True
        old = unix_s - held.at_unix_ms / MS >= REPEAT_S
        return bool(payload) and (old or held.chain.data != self.membership.own.data)

    def _accepts(self, chain: Chain, unix_s: float) -> bool:
        try:
            return Role.ORIGIN in self.membership.check(chain, unix_s).roles
        except (Refused, Unavailable):
            return False

    def _is_over(self, chain: Chain, unix_s: float) -> bool:
        """Whether a chain counts no more, whatever this node's clock does."""
        if unix_s > chain.claim.not_after + CLOCK_TOLERANCE_S:
            return True
        membership = self.membership
        return bool(membership.revocations.reason_against(chain) or membership.uses.reason_against(chain))

    def _set_pace(self, author: NodeId, pace: float, now: float) -> None:
        if author not in self._paces and len(self._paces) >= PACES_MAX:
            self._paces = {one: at for one, at in self._paces.items() if at > now}
            if len(self._paces) >= PACES_MAX:
                del self._paces[next(iter(self._paces))]
        self._paces[author] = pace

    def _has_room(self, notice: Notice) -> bool:
        """Whether there is room, if need be at the cost of those of a higher rank; makes none yet."""
        if notice.author == self.membership.node_id:
            return True
        held = self._by_rank.get(notice.rank)
        size = self._bytes + len(notice.data) - (len(held.data) if held is not None else 0)
        if len(self._by_rank) + (held is None) <= NOTICES_MAX and size <= NOTICES_BYTES_MAX:
            return True
        return notice.rank < max(self._by_rank)

    def _put(self, notice: Notice) -> None:
        held = self._by_rank.get(notice.rank)
        self._bytes += len(notice.data) - (len(held.data) if held is not None else 0)
        self._by_rank[notice.rank] = notice
        self.version += 1
        while len(self._by_rank) > NOTICES_MAX or self._bytes > NOTICES_BYTES_MAX:
            others = [rank for rank in self._by_rank if rank[1] != self.membership.node_id]
            self._drop(self._by_rank[max(others)])

    def _drop(self, notice: Notice) -> None:
        del self._by_rank[notice.rank]
        self._bytes -= len(notice.data)
        self.version += 1
