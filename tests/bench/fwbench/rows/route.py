"""One decision which of a thousand nodes a viewer is sent to, on one core."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from fwbench.bench import Bench, Measure
from fwbench.summary import Column, Sample, Target, percentile
from mesh.directory.facts import CarriedStream, Load
from mesh.geo.model import Located
from mesh.routing.field import Field
from mesh.routing.owners import Publication
from mesh.routing.reservations import Reservations
from mesh.routing.viewers import Candidate, Viewer, Wanted, rank, reserve

_NODES, _SOURCES, _DECISIONS, _RANKINGS = 1000, 100, 5000, 20
_FIELD, _RANK = "field", "rank, all judged"
_TOWNS = 60


class RouteRow:
    """Nodes and viewers around the same towns; a tenth of the nodes has the stream."""

    name = "route"
    title = f"which of {_NODES} nodes for a viewer; {_SOURCES} have the stream, half of all uplinks is used"
    sides = (_FIELD, _RANK)
    columns = (Column("p50_us", "p50, µs"), Column("p99_us", "p99, µs"), Column("mean_us", "mean, µs"))
    targets = (Target(_FIELD, "p99_us", 1000.0, "field: p99 of a decision, µs"),)

    def missing(self) -> str:
        return ""

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        field, towns = _field()
        rounds = iter(range(1_000_000))

        def one(side: str) -> Sample:
            random, promises, now = Random(next(rounds)), Reservations(), 100.0
            took = []
            for _ in range(_DECISIONS if side == _FIELD else _RANKINGS):
                viewer = Viewer(random.randbytes(4), _around(random, towns), tls=True, asked=_key(1))
                began = time.perf_counter()
                if side == _FIELD:
                    best = field.choose(viewer, "garden", promises, now)
                    if best is not None:
                        reserve(best, _WANTED, promises, now)
                else:
                    rank(viewer, _WANTED, field.candidates("garden"), promises, now)
                took.append((time.perf_counter() - began) * 1e6)
                now += 0.1
            return {
                "p50_us": percentile(took, 0.5),
                "p99_us": percentile(took, 0.99),
                "mean_us": sum(took) / len(took),
            }

        yield one


def _key(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


_WANTED = Wanted("garden", Publication(1, _key(0)), 4_000_000)


def _field() -> tuple[Field, list[tuple[float, float]]]:
    random = Random(1)
    towns = [(random.uniform(36, 60), random.uniform(-10, 30)) for _ in range(_TOWNS)]
    doors = frozenset({"http", "https"})
    field = Field()
    field.want(_WANTED)
    for number in range(_NODES):
        budget = round(10 ** random.uniform(6.7, 9))
        load = Load(round(budget * random.random()), budget, random.random(), 0, 0, 0)
        place = _around(random, towns)
        field.put(Candidate(_key(number), place, load, 100.0, proven_bps=budget, doors=doors))
    for number in range(_SOURCES):
        depth = min(number, 1)
        carried = CarriedStream("garden", 1, depth, [], b"" if depth == 0 else _key(0))
        field.carry("garden", _key(number), carried)
    return field, towns


def _around(random: Random, towns: list[tuple[float, float]]) -> Located:
    latitude, longitude = random.choice(towns)
    return Located(random.gauss(latitude, 0.5), random.gauss(longitude, 0.7))


ROWS = (RouteRow(),)
