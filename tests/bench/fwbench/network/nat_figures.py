"""Pairs of routers, what is to be expected of each, and figures of their rounds. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum, auto
from itertools import combinations_with_replacement
from statistics import median

from fwbench.summary import Sample, Target, percentile

KINDS = (
    "public",
    "firewalled public",
    "full cone",
    "address-restricted",
    "port-restricted",
    "plain masquerade",
    "carrier over cone",
    "symmetric sequential",
    "symmetric random",
    "UDP blocked",
)
_RANDOM, _SEQUENTIAL, _BLOCKED = "symmetric random", "symmetric sequential", "UDP blocked"
_OPEN, _MASQUERADE = "public", "plain masquerade"
SEARCH_S = 5.0


class Way(StrEnum):
    """How two nodes are linked in the end."""

    PATH = auto()  # directly
    SEARCH = auto()  # directly, after one has searched the other's ports
    RELAY = auto()  # over a third


@dataclass(frozen=True, slots=True)
class Pair:
    """Two kinds of routers."""

    one: str
    other: str

    @property
    def name(self) -> str:
        return f"{self.one} – {self.other}"

    @property
    def way(self) -> Way:
        """The best that there is to have."""
        ends = {self.one, self.other}
        if _BLOCKED in ends:
            return Way.PATH if _OPEN in ends else Way.RELAY  # over TCP
        if _RANDOM not in ends or _OPEN in ends:
            return Way.PATH
        return Way.RELAY if ends <= {_RANDOM, _SEQUENTIAL} else Way.SEARCH


PAIRS = tuple(Pair(one, other) for one, other in combinations_with_replacement(KINDS, 2))


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of a pair showed.

    Times are seconds since one node wanted a stream of the other; None: it did not happen.
    """

    pair: str
    number: int
    linked_s: float | None  # both have a link of any kind
    stream_s: float | None  # a byte went there and back on a stream over whatever there was
    relayed_s: float | None
    direct_s: float | None
    paths: tuple[str, str]
    kinds: tuple[str, str]
    notes: tuple[list[str], list[str]]
    took_s: float

    @property
    def upgrade_s(self) -> float | None:
        """From the relayed link to the direct one, where there was a relayed one."""
        if self.direct_s is None or self.relayed_s is None:
            return None
        return self.direct_s - self.relayed_s

    @property
    def is_fault(self) -> bool:
        """Whether it did not show what was to be expected."""
        way = next(pair.way for pair in PAIRS if pair.name == self.pair)
        if way is Way.RELAY:
            return self.stream_s is None or self.stream_s > 1.0
        limit_s = SEARCH_S if way is Way.SEARCH else 1.0
        return self.direct_s is None or self.direct_s > limit_s

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def chosen(words: Sequence[str]) -> tuple[Pair, ...]:
    """Pairs of "KIND,KIND", all of a kind for one "KIND", all for none. Raises ValueError."""
    if not words:
        return PAIRS
    found: dict[Pair, None] = {}
    for word in words:
        wanted = [kind.strip() for kind in word.split(",")]
        if len(wanted) > 2 or not set(wanted) <= set(KINDS):
            raise ValueError(f"not one or two of {', '.join(KINDS)}: {word}")
        for pair in PAIRS:
            ends = [pair.one, pair.other]
            if sorted(ends) == sorted(wanted) or (len(wanted) == 1 and wanted[0] in ends):
                found[pair] = None
    return tuple(found)


def figures(rounds: Sequence[Round]) -> Sample:
    """Of all rounds of a pair, or of several."""
    sample: Sample = {"rounds": float(len(rounds))}
    sample["direct_percent"] = _percent(r.direct_s is not None for r in rounds)
    sample["late_percent"] = _percent(r.direct_s is None or r.direct_s > SEARCH_S for r in rounds)
    sample["failed_percent"] = 100.0 - sample["direct_percent"]
    times = {
        "linked": [r.linked_s for r in rounds],
        "stream": [r.stream_s for r in rounds],
        "direct": [r.direct_s for r in rounds],
        "upgrade": [r.upgrade_s for r in rounds],
    }
    for name, values in times.items():
        known = [1000 * value for value in values if value is not None]
        if known:
            sample[f"{name}_ms"] = median(known)
            sample[f"{name}_p99_ms"] = percentile(known, 0.99)
    return sample


def _percent(values: Iterable[bool]) -> float:
    known = list(values)
    return 100.0 * sum(known) / len(known)


_DIRECT = "all: direct"
_PLAIN = "all: direct, plain masquerade"
_SEARCHED = "all: direct by search"
_RELAYED = "all: relay only"

TARGETS = (
    Target(_DIRECT, "failed_percent", 0.0, "pairs with a direct way: rounds without, %"),
    Target(_PLAIN, "failed_percent", 0.0, "of them with plain masquerade: rounds without, %"),
    Target(_SEARCHED, "late_percent", 1.0, "consistent with impenetrable: rounds not direct within 5 s, %"),
    Target(_DIRECT, "upgrade_ms", 100.0, "relay to direct, median ms"),
    Target(_DIRECT, "upgrade_p99_ms", 1000.0, "relay to direct, p99 ms"),
    Target(_RELAYED, "stream_p99_ms", 1000.0, "no direct way: byte there and back over the relay, p99 ms"),
)


def groups(rounds: Sequence[Round]) -> dict[str, Sample]:
    """Figures of all pairs of which the same is expected."""
    ways = {pair.name: pair for pair in PAIRS}
    parts = {
        _DIRECT: [r for r in rounds if ways[r.pair].way is Way.PATH],
        _PLAIN: [
            r
            for r in rounds
            if ways[r.pair].way is Way.PATH and _MASQUERADE in (ways[r.pair].one, ways[r.pair].other)
        ],
        _SEARCHED: [r for r in rounds if ways[r.pair].way is Way.SEARCH],
        _RELAYED: [r for r in rounds if ways[r.pair].way is Way.RELAY],
    }
    return {name: figures(part) for name, part in parts.items() if part}
