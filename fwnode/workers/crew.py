"""The workers as those who show or count them see them. Pure."""

import enum
from collections import Counter
from collections.abc import Iterable

import msgspec

from fwnode.workers.wire import Counts, RouteCounts


class WorkerState(enum.StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    WAITING = "waiting"  # it ended, and is started again soon


class Worker:
    """One place among the workers, and the process that fills it now."""

    def __init__(self, number: int) -> None:
        self.number = number  # from 1
        self.state = WorkerState.WAITING
        self.pid = 0  # 0: there is no process
        self.starts = 0
        self.counts = Counts()  # of this process


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker at one moment; counters are of its present process."""

    number: int
    state: WorkerState
    pid: int
    restarts: int
    connections: int
    connections_accepted: int
    bytes_out: int
    memory_bytes: int
    cpu_s: float


class Crew:
    """Every worker of the node, and what those did that are gone."""

    def __init__(self, count: int = 0) -> None:
        """So many workers, none of which runs yet."""
        self.workers = [Worker(number) for number in range(1, count + 1)]
        self._retired = Counts()

    def retire(self, worker: Worker) -> None:
        """The process of that worker is gone: what it did stays counted."""
        done = msgspec.structs.replace(worker.counts, connections={}, memory_bytes=0)
        self._retired = add((self._retired, done))
        worker.counts = Counts()
        worker.pid = 0

    def counts(self) -> Counts:
        """Of all workers since the node's start."""
        return add((self._retired, *(worker.counts for worker in self.workers)))

    def connections(self, listener: str) -> int:
        """Open connections of viewers on that listener, in all workers."""
        return sum(worker.counts.connections.get(listener, 0) for worker in self.workers)

    @property
    def bytes_out(self) -> int:
        """Sent to viewers since the node's start."""
        return self._retired.bytes_out + sum(worker.counts.bytes_out for worker in self.workers)

    @property
    def cpu_s(self) -> float:
        """CPU time of all workers since the node's start."""
        return self._retired.cpu_s + sum(worker.counts.cpu_s for worker in self.workers)

    def status(self) -> list[WorkerStatus]:
        return [
            WorkerStatus(
                number=worker.number,
                state=worker.state,
                pid=worker.pid,
                restarts=max(0, worker.starts - 1),
                connections=sum(worker.counts.connections.values()),
                connections_accepted=worker.counts.accepted,
                bytes_out=worker.counts.bytes_out,
                memory_bytes=worker.counts.memory_bytes,
                cpu_s=worker.counts.cpu_s,
            )
            for worker in self.workers
        ]


def add(several: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    every = list(several)
    connections, faults = Counter[str](), Counter[str]()
    refused = Counter[int]()
    for counts in every:
        connections.update(counts.connections)
        faults.update(counts.faults)
        refused.update(counts.requests_refused)
    return Counts(
        connections=dict(connections),
        accepted=sum(counts.accepted for counts in every),
        refused=sum(counts.refused for counts in every),
        bytes_in=sum(counts.bytes_in for counts in every),
        bytes_out=sum(counts.bytes_out for counts in every),
        faults=dict(faults),
        requests_refused=dict(refused),
        routes=add_routes(route for counts in every for route in counts.routes),
        cpu_s=sum(counts.cpu_s for counts in every),
        memory_bytes=sum(counts.memory_bytes for counts in every),
    )


def add_routes(routes: Iterable[RouteCounts]) -> list[RouteCounts]:
    """One row for each name, in the order in which they came."""
    found: dict[str, RouteCounts] = {}
    for route in routes:
        before = found.get(route.name)
        found[route.name] = route if before is None else _added(before, route)
    return list(found.values())


def _added(one: RouteCounts, other: RouteCounts) -> RouteCounts:
    longest = max(len(one.answers), len(other.answers))
    sides = zip(_padded(one.answers, longest), _padded(other.answers, longest), strict=True)
    answers = [mine + more for mine, more in sides]
    return RouteCounts(one.name, one.requests + other.requests, answers, one.bytes_out + other.bytes_out)


def _padded(numbers: list[int], length: int) -> list[int]:
    return numbers + [0] * (length - len(numbers))
