"""Nodes behind every type of router with every other: whether a direct path is found, and how soon."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fwbench.bench import Bench
from fwbench.network.nat_figures import TARGETS, Pair, Round, chosen, figures, groups
from fwbench.network.nat_lab import NatField, NatLabError, missing
from fwbench.summary import Column, RowResult

_ROUNDS = 10
_ROUNDS_FILE = "nat-rounds.jsonl"  # what each round showed, with what the nodes noted


class NatRow:
    """Every pair by itself, round by round. What there is when it is broken off is kept."""

    name = "nat"
    title = "two nodes of one network behind routers, with two public nodes; one wants a stream of the other"
    columns = (
        Column("rounds", "rounds"),
        Column("direct_percent", "direct, %"),
        Column("linked_ms", "wanted → linked somehow, median ms"),
        Column("linked_p99_ms", "p99"),
        Column("stream_ms", "wanted → stream works, median ms"),
        Column("stream_p99_ms", "p99"),
        Column("upgrade_ms", "relay → direct, median ms"),
        Column("upgrade_p99_ms", "p99"),
    )
    targets = TARGETS

    def missing(self) -> str:
        return missing()

    def fill(self, bench: Bench, result: RowResult) -> None:
        """Run all rounds. Raises LabError."""
        pairs = chosen(bench.pairs)
        rounds: list[Round] = []
        path = bench.cache / _ROUNDS_FILE
        with path.open("w") as file, bench.both_cores():
            try:
                self._pairs(bench, pairs, result, rounds, file)
            except KeyboardInterrupt:
                result.note(f"broken off after {len(rounds)} of {len(pairs) * _count(bench)} rounds")
        for name, sample in groups(rounds).items():
            result.add(name, sample)
        result.note(_faults(rounds, path))

    def _pairs(
        self, bench: Bench, pairs: tuple[Pair, ...], result: RowResult, rounds: list[Round], file: TextIO
    ) -> None:
        with NatField() as field:
            for number, pair in enumerate(pairs, 1):
                own: list[Round] = []
                bench.say(f"{self.name}: pair {number} of {len(pairs)}, {pair.name}")
                try:
                    for done in self._rounds(field, pair, _count(bench), file):
                        own.append(done)
                        rounds.append(done)
                except NatLabError as error:
                    result.note(f"{pair.name}: failed after {len(own)} rounds: {error}")
                finally:
                    if own:
                        result.add(pair.name, figures(own))

    def _rounds(self, field: NatField, pair: Pair, count: int, file: TextIO) -> Iterator[Round]:
        for done in field.rounds(pair, count):
            file.write(json.dumps(done.as_json()) + "\n")
            file.flush()
            yield done


def _count(bench: Bench) -> int:
    return bench.rounds_asked or _ROUNDS


def _faults(rounds: list[Round], path: Path) -> str:
    """Which rounds were not as expected, and where to read of them."""
    said = ", ".join(f"{r.pair} ({r.number})" for r in rounds if r.is_fault) or "none"
    return f"rounds that were not as expected, or took longer: {said}; all are in {path.name}"


ROWS = (NatRow(),)
