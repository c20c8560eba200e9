"""Which pairs of members this node splices, with what tokens and how fast. Pure.

The relay grants a pair to a member that asked over its link, and gives each side a token of its own over that
side's link. Each side connects and shows its token once; when both have, their connections are spliced. All
times are seconds of one monotonic clock, the one that the splicer uses.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias

from mesh.link.model import TOKEN_BYTES
from mesh.model import NodeId

PREAMBLE = b"FWR1"  # what a connection to a relay begins with, then the token; TLS begins with 0x16
TOKEN_S = 10.0  # to use a token, and again for the other half: a dial across the world takes below 1 s
TOTAL_BPS = 100_000_000  # guess: half of what a small VPS gives away
PAIR_BPS = 40_000_000  # guess: five renditions of one stream
PAIRS_MAX = 64  # each takes six descriptors; a common limit of a process is 1024
PAIR_PER_NODE_MAX = 16  # a link and bulk streams beside it, to a few nodes
BURST_S = 0.25  # of the rate may pass at once, so that a pause is made up for
BURST_BYTES_MIN = 16 * 1024  # of slow rates: a TLS record passes whole
PASS_BYTES_MAX = 1024 * 1024  # at once; more than a pipe holds by default limits of Linux

Pair: TypeAlias = int
"""One granted pair; never used again for another."""


class Denial(StrEnum):
    """Why a pair is not granted, for people and as the name of a counter."""

    OFF = "this node does not relay"
    SELF = "a node needs no relay to itself"
    FULL = "this relay has as many pairs as it may"
    NODE_FULL = "one of the two nodes has as many relayed connections here as it may"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What the owner gives away. Rates count each byte once; 0 is no limit."""

    total_bps: int = TOTAL_BPS
    pair_bps: int = PAIR_BPS  # both directions together
    pairs_max: int = PAIRS_MAX  # 0: none, this node does not relay
    pair_per_node_max: int = PAIR_PER_NODE_MAX


@dataclass(frozen=True, slots=True)
class Granted:
    """Give each side its token."""

    pair: Pair
    origin_token: bytes
    target_token: bytes


@dataclass(frozen=True, slots=True)
class Denied:
    """Not by this relay, or not now."""

    reason: Denial


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first half came."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class Paired:
    """Both halves came: splice."""

    pair: Pair
    other: NodeId  # whose half came first


@dataclass(slots=True)
class RelayCounters:
    """Since the start."""

    granted: int = 0
    denied: Counter[Denial] = field(default_factory=Counter)
    unknown: int = 0  # tokens: used before, too late, or guessed
    expired: int = 0  # pairs whose halves did not both come
    spliced: int = 0
    bytes: int = 0


class Bucket:
    """A token bucket in bytes. Pure arithmetic of whoever takes no more than there was room for."""

    __slots__ = ("_at", "_burst", "_level", "_quantum", "_rate")

    def __init__(self, bps: int, now: float) -> None:
        self._rate = bps / 8
        self._burst = max(self._rate * BURST_S, BURST_BYTES_MIN)
        self._quantum = self._burst / 4  # below it nothing passes, so that it does not pass by single bytes
        self._level = self._burst
        self._at = now

    def room(self, now: float) -> int:
        """Bytes that may pass now."""
        if not self._rate:
            return PASS_BYTES_MAX
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return int(self._level) if self._level >= self._quantum else 0

    def wait_s(self) -> float:
        """Seconds from the last `room` until there is some."""
        return max(0.0, self._quantum + 1 - self._level) / self._rate if self._rate else 0.0

    def take(self, count: int) -> None:
        self._level -= count


@dataclass(slots=True)
class _Entry:
    sides: tuple[NodeId, NodeId]
    digests: tuple[bytes, bytes]
    expires_at: float
    bucket: Bucket
    came: NodeId | None = None
    spliced: bool = False


class RelayBook:
    """The pairs of one relay. `entropy(n)` gives n bytes that nobody can guess."""

    def __init__(self, settings: RelaySettings, entropy: Callable[[int], bytes], now: float) -> None:
        self.settings = settings
        self.counters = RelayCounters()
        self._entropy = entropy
        self._total = Bucket(settings.total_bps, now)
        self._pairs: dict[Pair, _Entry] = {}  # in order of granting
        self._tokens: dict[bytes, tuple[Pair, NodeId]] = {}  # by digest, those not shown yet
        self._next: Pair = 1
        self._on_closed: list[Callable[[Pair], None]] = []

    def __len__(self) -> int:
        """Pairs granted and not closed."""
        return len(self._pairs)

    def subscribe(self, on_closed: Callable[[Pair], None]) -> None:
        """Have this called, synchronously, with every pair that closes for any reason."""
        self._on_closed.append(on_closed)

    def spliced(self) -> list[tuple[NodeId, NodeId]]:
        """Who is connected through here now: origin and target of each pair."""
        return [entry.sides for entry in self._pairs.values() if entry.spliced]

    def ask(self, origin: NodeId, target: NodeId, now: float) -> Granted | Denied:
        """May `origin` be spliced with `target`? The caller knows that both are members with a link."""
        self.expire(now)
        denial = self._denial(origin, target)
        if denial is not None:
            self.counters.denied[denial] += 1
            return Denied(denial)
        pair, self._next = self._next, self._next + 1
        tokens = self._entropy(TOKEN_BYTES), self._entropy(TOKEN_BYTES)
        digests = _digest(tokens[0]), _digest(tokens[1])
        bucket = Bucket(self.settings.pair_bps, now)
        self._pairs[pair] = _Entry((origin, target), digests, now + TOKEN_S, bucket)
        self._tokens[digests[0]] = (pair, origin)
        self._tokens[digests[1]] = (pair, target)
        self.counters.granted += 1
        return Granted(pair, *tokens)

    def arrived(self, token: bytes, now: float) -> Waiting | Paired | None:
        """A connection showed `token`. None: close it, the token is unknown, used or expired."""
        self.expire(now)
        pair, node = self._tokens.pop(_digest(token), (0, b""))
        entry = self._pairs.get(pair)
        if entry is None:
            self.counters.unknown += 1
            return None
        if entry.came is None:
            entry.came = node
            entry.expires_at = now + TOKEN_S
            return Waiting(pair)
        entry.spliced = True
        self.counters.spliced += 1
        return Paired(pair, entry.came)

    def expire(self, now: float) -> None:
        """Close pairs whose halves did not come in time. `ask` and `arrived` do it first of all."""
        late = [pair for pair, entry in self._pairs.items() if not entry.spliced and entry.expires_at <= now]
        for pair in late:
            self.counters.expired += 1
            self.close(pair)

    def close(self, pair: Pair) -> None:
        """The pair ends now; one that ended before is left alone."""
        entry = self._pairs.pop(pair, None)
        if entry is None:
            return
        for digest in entry.digests:
            self._tokens.pop(digest, None)
        for on_closed in self._on_closed:
            on_closed(pair)

    def forget(self, node: NodeId) -> None:
        """Close every pair of a node that is no member any more."""
        for pair in [pair for pair, entry in self._pairs.items() if node in entry.sides]:
            self.close(pair)

    def room(self, pair: Pair, now: float) -> int:
        """Bytes that this pair may pass now, at most PASS_BYTES_MAX; 0: none for `wait_s`, or closed."""
        entry = self._pairs.get(pair)
        if entry is None:
            return 0
        return min(PASS_BYTES_MAX, entry.bucket.room(now), self._total.room(now))

    def wait_s(self, pair: Pair) -> float:
        """Seconds from the last `room`, which was 0, until it may be worth asking again."""
        entry = self._pairs.get(pair)
        return max(entry.bucket.wait_s() if entry is not None else 0.0, self._total.wait_s())

    def passed(self, pair: Pair, count: int) -> None:
        """Charge bytes that passed in either direction."""
        self.counters.bytes += count
        self._total.take(count)
        entry = self._pairs.get(pair)
        if entry is not None:
            entry.bucket.take(count)

    def _denial(self, origin: NodeId, target: NodeId) -> Denial | None:
        if not self.settings.pairs_max:
            return Denial.OFF
        if origin == target:
            return Denial.SELF
        if len(self._pairs) >= self.settings.pairs_max:
            return Denial.FULL
        taken = Counter(node for entry in self._pairs.values() for node in entry.sides)
        if max(taken[origin], taken[target]) >= self.settings.pair_per_node_max:
            return Denial.NODE_FULL
        return None


def _digest(token: bytes) -> bytes:
    """What tokens are looked up by: how long a look-up takes then tells nothing of the token."""
    return blake2b(token, digest_size=16).digest()
