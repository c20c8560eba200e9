"""How often and how fast each pair of routers is punched through, as a table."""

from dataclasses import dataclass
from math import inf

from nat import TYPES, Conditions, Outcome, Pair, RouterType, is_hopeless

from mesh.nat.facts import NatKind


@dataclass(frozen=True)
class Cell:
    """Sessions of one pair of types, one for each seed from 0."""

    types: tuple[RouterType, RouterType]
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[int]:
        """Seeds to replay."""
        return [seed for seed, outcome in enumerate(self.outcomes) if outcome.took_s == inf]

    @property
    def kinds(self) -> tuple[NatKind, NatKind]:
        return self.types[0].kind, self.types[1].kind

    @property
    def took_s(self) -> list[float]:
        """Of those that were connected."""
        return sorted(outcome.took_s for outcome in self.outcomes if outcome.took_s < inf)

    @property
    def over_s(self) -> list[float]:
        """Beyond two round trips."""
        return sorted(outcome.took_s - outcome.ideal_s for outcome in self.outcomes if outcome.took_s < inf)

    def __str__(self) -> str:
        rate = 1 - len(self.failed) / len(self.outcomes)
        if not self.took_s:
            return "relay" if is_hopeless(self.kinds) else "0 %"
        return f"{rate:.0%} {quantile(self.took_s, 0.5):.2f} {quantile(self.took_s, 0.99):.2f}"


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(
    types: tuple[RouterType, RouterType],
    seeds: int,
    conditions: Conditions | None = None,
    *,
    eager: bool = True,
) -> Cell:
    return Cell(types, tuple(Pair(types, seed, conditions, eager=eager).punch() for seed in range(seeds)))


def print_table(seeds: int) -> None:
    """Initiators down, responders across: connected, median and 99th percentile of seconds."""
    print(f"{seeds} sessions a pair: connected directly, seconds until then (median, p99)")
    print("| initiator \\ responder | " + " | ".join(TYPES) + " |")
    print("|---" * (len(TYPES) + 1) + "|")
    cells = []
    for first in TYPES.values():
        row = [measure((first, second), seeds) for second in TYPES.values()]
        print(f"| {first.name} | " + " | ".join(map(str, row)) + " |", flush=True)
        cells += row
    plain = [cell for cell in cells if NatKind.IMPENETRABLE not in cell.kinds]
    took_s = [took for cell in plain for took in cell.took_s]
    over_s = [over for cell in plain for over in cell.over_s]
    print("without impenetrable ones: two round trips and ", end="")
    print(f"{quantile(over_s, 0.5) * 1000:.0f} ms median; {quantile(took_s, 0.99):.2f} s at p99")


def print_session(first: str, second: str, seed: int) -> None:
    """One session, packet by packet."""
    pair = Pair((TYPES[first], TYPES[second]), seed)
    began = pair.world.now
    for node, name in zip(pair.nodes, ("initiator", "responder"), strict=True):
        print(name, node.side())
        node.trace = lambda said, name=name: print(f"{pair.world.now - began:.4f} {name} {said}")
    print(pair.punch())
