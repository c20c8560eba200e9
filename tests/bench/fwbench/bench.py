"""What a row is, what it is given, and how its rounds are run."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from fwbench import clip, machine, profile
from fwbench.loads import Load, LoadError, Spec
from fwbench.servers import Nginx, Node, ServerError
from fwbench.summary import Column, RowResult, Sample, Target, interleave

Measure = Callable[[str], Sample]  # one round of one side


@dataclass(frozen=True, slots=True)
class Bench:
    """The machine's cores, how long to measure, where to put things."""

    cache: Path
    server_core: int
    load_core: int
    rounds: int
    seconds: float
    warm_s: float  # between the last connection and the first figure
    say: Callable[[str], None]
    profile: bool = False  # sample the node's stacks as well: then its figures are not to be used
    rounds_asked: int | None = None  # None: the row knows how many it needs
    pairs: tuple[str, ...] = ()  # of routers, "KIND,KIND" or "KIND"; none: all

    @contextmanager
    def both_cores(self) -> Iterator[None]:
        """What is started meanwhile may use the load's and the server's core."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.server_core, self.load_core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder of one's own that a worker running as another user may read, gone afterwards."""
        path = Path(tempfile.mkdtemp(prefix="fwbench-"))
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def node(self, *options: str) -> Iterator[Node]:
        with self.folder() as path, Node(path, self.server_core, *options) as node:
            node.profile = self.samples if self.profile else None
            yield node

    @contextmanager
    def nginx(self) -> Iterator[Nginx]:
        with self.folder() as path, Nginx(path, self.server_core) as nginx:
            yield nginx

    @property
    def samples(self) -> Path:
        """Where py-spy writes during one measurement."""
        return self.cache / "samples.raw"

    def load(self, spec: Spec, folder: Path) -> Load:
        return Load(spec, self.load_core, folder)

    def clip(self, group_s: int) -> str:
        return str(clip.make(self.cache, group_s))


class Row(Protocol):
    """One line of the benchmark: a load, the programs it is put on, what they may cost at most."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def sides(self) -> Sequence[str]: ...

    @property
    def columns(self) -> Sequence[Column]: ...

    @property
    def targets(self) -> Sequence[Target]: ...

    def missing(self) -> str:
        """Why it cannot run here; empty when it can."""

    def open(self, bench: Bench) -> AbstractContextManager[Measure]:
        """Set up what all rounds share; the value measures one round of one side."""


@runtime_checkable
class OwnRow(Protocol):
    """A row whose rounds are not alike for all sides, and which fills its result by itself."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def columns(self) -> Sequence[Column]: ...

    @property
    def targets(self) -> Sequence[Target]: ...

    def missing(self) -> str:
        """Why it cannot run here; empty when it can."""

    def fill(self, bench: Bench, result: RowResult) -> None:
        """Measure everything."""


_QUIET_PERCENT = 10.0  # of one core
_SATURATED_PERCENT = 90.0
_FAULTS = (LoadError, ServerError, clip.ClipError, OSError, ValueError, KeyError)


def run(row: Row | OwnRow, bench: Bench) -> RowResult:
    """All rounds of a row. What fails is a note in the result and does not run again."""
    result = RowResult(row.name, row.title, row.columns, row.targets)
    result.skipped = row.missing()
    if result.skipped:
        return result
    bystanders = machine.Bystanders()
    try:
        if isinstance(row, OwnRow):
            row.fill(bench, result)
        else:
            with row.open(bench) as measure:
                _rounds(row, bench, measure, result)
    except _FAULTS as error:
        result.skipped = f"{type(error).__name__}: {error}"
    _doubt(bench, result, bystanders.core_percent())
    return result


def _doubt(bench: Bench, result: RowResult, others_percent: float) -> None:
    """Note what makes the figures worth less."""
    if others_percent > _QUIET_PERCENT:
        result.note(
            f"other programs used {others_percent:.0f} % of a core meanwhile: latencies are partly theirs"
        )
    if bench.server_core == bench.load_core:
        result.note("the load shared the server's only core: latencies are partly the load's")
    for side in result.sides:
        load = result.spread(side, "load_core_percent")
        if load is not None and load.median > _SATURATED_PERCENT:
            result.note(f"{side}: the load used up its core, so latencies and rates are the load's")


def _rounds(row: Row, bench: Bench, measure: Measure, result: RowResult) -> None:
    failed: set[str] = set()

    def one(side: str, number: int) -> None:
        if side in failed:
            return
        bench.samples.unlink(missing_ok=True)  # of a run that was broken off
        bench.say(f"{row.name}: round {number + 1} of {bench.rounds}, {side}")
        try:
            result.add(side, measure(side))
            _keep_profile(bench, result, side)
        except _FAULTS as error:
            failed.add(side)
            result.note(f"{side}: failed in round {number + 1}: {type(error).__name__}: {error}")

    interleave(row.sides, bench.rounds, one)


def _keep_profile(bench: Bench, result: RowResult, side: str) -> None:
    if not bench.samples.exists():
        return
    name = "-".join("".join(c if c.isalnum() else " " for c in f"{result.name} {side}").lower().split())
    target = bench.cache / f"profile-{name}.txt"
    target.write_text(profile.as_text(profile.hottest(bench.samples.read_text())))
    bench.samples.unlink()
    result.note(f"{side}: sampled by py-spy, so its figures are not to be used; see {target}")
