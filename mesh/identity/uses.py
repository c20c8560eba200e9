"""How many nodes an invite and an inviter have brought, counted alike everywhere without asking anybody.

Every claim that was not signed by the owner takes a **seat**. A seat counts against each limit above it: its
own node (1 for each grant), the grant's `uses`, the inviter's `invites`. Which claims have a seat depends
only on the set of claims that were ever seen, not on their order:

- Claims are ordered by when they begin, then by the digest of their chain.
- Taken in that order, a claim has a seat when each limit above it still has room.
- A claim through an inviter needs that the very claim of the inviter that it names has its seat.

Limits are nested (node in grant in inviter), so seats are a basis of a laminar matroid, as edges are of a
spanning forest: the best seats of a union are the best of the best of its parts. That makes merging
commutative, associative and idempotent although losers are forgotten, and bounds the table by what the
owner has signed. A newcomer takes its seat, or the worst seat under the innermost full limit, or none.

An honest claim begins when it is made, so the first to join wins. Who has an invite's secret can date a claim
back to the invite's beginning and take the seat of an earlier one; it cannot get more seats than the limit.
Settling an invite (`Membership.settle`) closes that.
"""

from bisect import insort
from dataclasses import dataclass
from typing import TypeVar

from mesh.errors import Unavailable
from mesh.identity.claim import Chain, Claim, Grant
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.wire import digest

# Ten times the largest network that the tests run; 2 kB each, *measured*. Only an owner who signs for more
# reaches it, and only then does it matter who came first: the rest of the table does not depend on it.
SEATS_MAX = 10_000
FULL_RETRY_S = 3600.0
COUNT_BYTES = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limit:
    """How many seats there are under one grant, inviter or node."""

    key: bytes
    seats: int


@dataclass(frozen=True, slots=True)
class Seat:
    """One claim that counts."""

    key: bytes  # of the innermost limit: this node under this grant or inviter
    order: tuple[int, bytes]  # the lower wins
    limits: tuple[Limit, ...]  # outermost first
    under: tuple[bytes, tuple[int, bytes]] | None  # key and order of the inviter's seat that must hold
    chain: Chain


def seats_of(chain: Chain) -> tuple[Seat, ...]:
    """The seats that a chain needs, the inviter's first; none when the owner signed the only claim."""
    found: list[Seat] = []
    path = b""
    limits: tuple[Limit, ...] = ()
    for at, link in enumerate(chain.links):
        statement = link.statement
        if isinstance(statement, Grant):
            path = digest(path, link.body)
            limits += (Limit(path, statement.uses),)
            continue
        path = digest(path, statement.holder)
        if at:
            part = chain.before(at + 1)
            order = (statement.not_before, part.digest())
            under = (found[-1].key, found[-1].order) if found else None
            found.append(Seat(path, order, (*limits, Limit(path, 1)), under, part))
        if at + 1 < len(chain.links):
            path = _inviter_key(path, statement)
            limits = (Limit(path, statement.invites),)
    return tuple(found)


def has_ended(chain: Chain, now_unix_s: float) -> bool:
    """Whether all that the owner allowed here is over, so that nothing beside or below it counts any more."""
    first = chain.links[0].statement
    ends_unix_s = first.members_until if isinstance(first, Grant) else first.not_after
    return now_unix_s > ends_unix_s + CLOCK_TOLERANCE_S


def limit_of(chain: Chain) -> bytes:
    """The key of the limit that the last statement sets: a grant's uses, or a claim's invites."""
    path = b""
    for link in chain.links:
        statement = link.statement
        if isinstance(statement, Grant):
            path = digest(path, link.body)
        else:
            path = _inviter_key(digest(path, statement.holder), statement)
    return path


def _inviter_key(path: bytes, claim: Claim) -> bytes:
    """The limit of all that an inviter admits. A claim with another number of invites is another limit."""
    return digest(path, claim.invites.to_bytes(COUNT_BYTES, "big"))


class Uses:
    """The seats that are taken. Bounded, merges by any order of `take`."""

    def __init__(self) -> None:
        self.version = 0  # goes up with every change
        self._seats: dict[bytes, Seat] = {}
        self._under: dict[bytes, list[tuple[tuple[int, bytes], bytes]]] = {}  # limit: (order, seat), sorted
        self._admitted: dict[bytes, list[bytes]] = {}  # an inviter's seat: seats that need it

    def __len__(self) -> int:
        return len(self._seats)

    def take(self, chain: Chain) -> None:
        """Count a chain whose signatures and shape are checked, where it deserves seats.

        Raises Unavailable when the table is full. Whether it has its seats afterwards: `reason_against`.
        """
        for seat in seats_of(chain):
            if not self._sound(seat) or not self._take(seat):
                return

    def reason_against(self, chain: Chain) -> str:
        """Why a chain does not count, "" when it does."""
        for seat in seats_of(chain):
            name = seat.chain.claim.name
            if not self._sound(seat):
                return f"{name!a} was admitted with a claim of its inviter that an earlier one replaced"
            held = self._seats.get(seat.key)
            if held is None:
                return self._explain(seat)
        return ""

    def taken(self, limit: bytes) -> int:
        """Seats taken under a limit's key."""
        return len(self._under.get(limit, ()))

    def chains(self) -> list[Chain]:
        """The chains behind all seats, inviters before those that they admitted."""
        return [seat.chain for seat in sorted(self._seats.values(), key=_by_depth)]

    def nodes_under(self, limit: bytes) -> list[bytes]:
        """The nodes that have seats under a limit's key, first come first."""
        return [self._seats[key].chain.node_id for _, key in self._under.get(limit, ())]

    def forget_ended(self, now_unix_s: float) -> None:
        """Free the seats of grants and inviters that ended: no claim under them can be in force."""
        ended = [seat for seat in self._seats.values() if has_ended(seat.chain, now_unix_s)]
        for seat in ended:
            self._free(seat)

    def _sound(self, seat: Seat) -> bool:
        """Whether the inviter's claim that it was admitted by has its seat."""
        if seat.under is None:
            return True
        key, order = seat.under
        held = self._seats.get(key)
        return held is not None and held.order == order

    def _take(self, seat: Seat) -> bool:
        """Give it a seat, freeing a worse one where a limit is full. False when it is the worst itself."""
        held = self._seats.get(seat.key)
        if held is not None and held.order == seat.order:
            return True
        full = next((limit for limit in reversed(seat.limits) if self.taken(limit.key) >= limit.seats), None)
        if full is not None:
            if not full.seats:
                return False
            worst_order, worst_key = self._under[full.key][-1]
            if worst_order <= seat.order:
                return False
            self._free(self._seats[worst_key])
        elif len(self._seats) >= SEATS_MAX:
            raise Unavailable(f"this network has {SEATS_MAX} members by invites already", FULL_RETRY_S)
        self._seats[seat.key] = seat
        for limit in seat.limits:
            insort(self._under.setdefault(limit.key, []), (seat.order, seat.key))
        if seat.under is not None:
            insort(self._admitted.setdefault(seat.under[0], []), seat.key)
        self.version += 1
        return True

    def _free(self, seat: Seat) -> None:
        """Take a seat back, and those of all that were admitted through it."""
        if self._seats.pop(seat.key, None) is None:
            return  # it went with its inviter
        self.version += 1
        for limit in seat.limits:
            _remove(self._under, limit.key, (seat.order, seat.key))
        if seat.under is not None:
            _remove(self._admitted, seat.under[0], seat.key)
        for key in tuple(self._admitted.get(seat.key, ())):
            self._free(self._seats[key])

    def _explain(self, seat: Seat) -> str:
        for limit in reversed(seat.limits[:-1]):
            if self.taken(limit.key) >= limit.seats:
                nodes = f"{limit.seats} node{'' if limit.seats == 1 else 's'}"
                return f"its invite is used up: it was for {nodes}, and that many joined with it before"
        return "its invite was never counted here"


def _remove(table: dict[bytes, list[T]], key: bytes, value: T) -> None:
    values = table[key]
    values.remove(value)
    if not values:
        del table[key]


def _by_depth(seat: Seat) -> tuple[bool, tuple[int, bytes]]:
    return seat.under is not None, seat.order
