"""Pairs of nodes behind routers in namespaces, beside two public nodes, and what each round showed."""

import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fwbench.network import members
from fwbench.network.nat_figures import Pair, Round, Way
from fwbench.network.nat_node import PORT
from fwbench.network.specs import NatFlow, NatStart

ROOT = Path(__file__).resolve().parents[4]
sys.path.append(str(ROOT / "tests" / "netns"))  # the laboratory is of the tests there

from lab import Host, why_not  # noqa: E402 - found by the line above
from natlab import Home, NatLab, RouterKind, why_no_nat  # noqa: E402 - found by the line above

_ENTRY = ROOT / "tests" / "bench" / "side.py"
_READY_S = 30.0
_SEARCHED_S = 12.0  # from the start of a round; a search takes 5 s
_RELAYED_S = 1.0  # of a relayed link where nothing better is to come
_ENDED_S = 10.0
_DIRECT = ("direct", "punched")
_PUBLIC = 2  # so that a router can be seen to draw another port for each


class NatLabError(Exception):
    """A node of the laboratory failed; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a node's process; `what` has all of it."""

    place: int  # of the node in its pair
    event: str
    at: float
    what: dict[str, Any]


class _Process:
    """A host's process, ready when the constructor returns."""

    def __init__(self, host: Host, folder: Path, prefix: Sequence[str]) -> None:
        self._log = folder / f"{host.namespace}.log"
        command = [*host.prefix, *prefix, sys.executable, str(_ENTRY), "nat", "{}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._place = 0
        self._to: queue.Queue[Said] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, start: NatStart, place: int, to: "queue.Queue[Said]") -> None:
        self._place, self._to = place, to
        self._write(asdict(start))

    def send(self, flow: NatFlow) -> None:
        self._write(asdict(flow))

    def end(self) -> None:
        self._write(None)

    def wait_ready(self) -> None:
        self.expect(self._to, "ready", _READY_S)

    def expect(self, said: "queue.Queue[Said]", event: str | tuple[str, ...], patience_s: float) -> Said:
        """The next line with this event, or one of these. Raises NatLabError."""
        events = (event,) if isinstance(event, str) else event
        until = time.monotonic() + patience_s
        while True:
            try:
                line = said.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise NatLabError(f"no {' or '.join(events)}: {self._log.read_text()[-1500:]}") from None
            if line.event in events:
                return line

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _write(self, command: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise NatLabError(self._log.read_text()[-1500:]) from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what = json.loads(line)
            self._to.put(Said(self._place, what.pop("event"), what.pop("at"), what))


@dataclass(slots=True)
class _Seen:
    """What one node said in a round."""

    started: float = 0.0
    wanted: float | None = None
    paths: list[tuple[float, str]] = field(default_factory=list)  # when, and which from then on
    stream: float | None = None
    kind: str = ""
    notes: list[str] = field(default_factory=list)

    def take(self, line: Said) -> None:
        match line.event:
            case "start":
                self.started = line.at
            case "wanted":
                self.wanted = line.at
            case "path":
                self.kind = line.what["kind"]
                if line.what["path"] != self.path:
                    self.paths.append((line.at, line.what["path"]))
            case "stream":
                self.stream = line.at
            case "note":
                facts = " ".join(f"{key}={value}" for key, value in line.what["facts"].items())
                self.notes.append(f"{line.at - self.started:.3f} {line.what['what']}: {facts}")

    @property
    def path(self) -> str:
        return self.paths[-1][1] if self.paths else ""

    @property
    def linked(self) -> float | None:
        """When there was a link of any kind."""
        return self.paths[0][0] if self.paths else None

    def since(self, *paths: str) -> float | None:
        """When it first had one of these paths."""
        return next((at for at, path in self.paths if path in paths), None)


def missing() -> str:
    """Why there can be no such laboratory here, "" when there can."""
    return why_not() or why_no_nat()


class NatField:
    """A laboratory, its homes, and a process on each of their hosts. A context manager."""

    def __init__(self, cores: Sequence[int | None] = (None, None)) -> None:
        """`cores`: on which the two ends of a pair of one kind run."""
        self._cores = cores
        self._stack = ExitStack()
        self._homes: dict[tuple[RouterKind, int], tuple[Home, _Process]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(tempfile.mkdtemp(prefix="fwbench-nat-"))
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._lab = stack.enter_context(NatLab())
            self._public = [(host, self._process(host, stack)) for host in self._lab.public(_PUBLIC)]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def rounds(self, pair: Pair, count: int) -> Iterator[Round]:
        """So many rounds of a pair, with public nodes of its own. Raises NatLabError."""
        kinds = (RouterKind(pair.one), RouterKind(pair.other))
        ends = [self._home(kind, place if pair.one == pair.other else 0) for place, kind in enumerate(kinds)]
        invite = members.new_invite()
        with self._public_nodes(invite) as seeds:
            for number in range(count):
                yield self._round(pair, number, ends, invite, seeds)
                for home, _ in ends:
                    home.forget()

    def flows(self, kind: str, flows: Sequence[NatFlow]) -> list[tuple[dict[str, float], dict[str, float]]]:
        """Streams between two homes of a kind, one after the other, over the direct path between them.

        What each end says of each: bytes, seconds, cpu_s; the sender's first. Raises NatLabError.
        """
        ends = [self._home(RouterKind(kind), place) for place in (0, 1)]
        processes = [process for _, process in ends]
        invite = members.new_invite()
        said: queue.Queue[Said] = queue.Queue()
        with self._public_nodes(invite) as seeds:
            for place, process in enumerate(processes):
                process.begin(NatStart(invite, "ab"[place], "ba"[place], seeds, place == 0), place, said)
            try:
                _wait_direct(processes[0], said)
                processes[1].send(NatFlow(0.0, 0.0))
                return [self._flow(processes[0], flow, said) for flow in flows]
            finally:
                _end(processes, said)

    def _flow(
        self, sender: _Process, flow: NatFlow, said: "queue.Queue[Said]"
    ) -> tuple[dict[str, float], dict[str, float]]:
        sender.send(flow)
        found: dict[str, dict[str, float]] = {}
        while len(found) < 2:  # each process has a thread that reads: the last word may come first
            line = sender.expect(said, ("sent", "took"), flow.seconds + _ENDED_S)
            found[line.event] = line.what
        return found["sent"], found["took"]

    def _process(self, host: Host, stack: ExitStack, core: int | None = None) -> _Process:
        prefix = () if core is None else ("taskset", "-c", str(core))
        process = _Process(host, self._folder, prefix)
        stack.callback(process.close)
        process.wait_ready()
        return process

    def _home(self, kind: RouterKind, number: int) -> tuple[Home, _Process]:
        if (kind, number) not in self._homes:
            home = self._lab.home(kind)
            self._homes[kind, number] = (
                home,
                self._process(home.hosts[0], self._stack, self._cores[number]),
            )
        return self._homes[kind, number]

    @contextmanager
    def _public_nodes(self, invite: str) -> Iterator[list[str]]:
        said: queue.Queue[Said] = queue.Queue()
        seeds = [f"{host.address}:{PORT}" for host, _ in self._public]
        for place, (_, process) in enumerate(self._public):
            process.begin(NatStart(invite, f"public{place}", "", seeds[:place], False), place, said)
            process.expect(said, "path" if place else "start", _READY_S)
        try:
            yield seeds
        finally:
            _end([process for _, process in self._public], said)

    def _round(
        self, pair: Pair, number: int, ends: list[tuple[Home, _Process]], invite: str, seeds: list[str]
    ) -> Round:
        said: queue.Queue[Said] = queue.Queue()
        processes = [process for _, process in ends]
        names = [f"{place}-{number}" for place in "ab"]
        began = time.monotonic()
        for place, process in enumerate(processes):
            start = NatStart(invite, names[place], names[1 - place], seeds, place == 0)
            process.begin(start, place, said)
        seen = (_Seen(), _Seen())
        try:
            while not _over(pair, seen, time.monotonic() - began):
                try:
                    line = said.get(timeout=0.05)
                except queue.Empty:
                    continue
                seen[line.place].take(line)
        finally:
            _end(processes, said)
        return _figures(pair, number, seen, time.monotonic() - began)


def _wait_direct(process: _Process, said: "queue.Queue[Said]") -> None:
    paths = ["", ""]
    while not all(path in _DIRECT for path in paths):
        line = process.expect(said, "path", _SEARCHED_S)
        paths[line.place] = line.what["path"]


def _over(pair: Pair, seen: tuple[_Seen, _Seen], elapsed_s: float) -> bool:
    if elapsed_s > _SEARCHED_S:
        return True
    one, other = seen
    if one.stream is None:
        return False
    if all(end.path in _DIRECT for end in seen):
        return True
    if pair.way is not Way.RELAY or one.linked is None or other.linked is None:
        return False
    return time.monotonic() > max(one.linked, other.linked) + _RELAYED_S


def _end(processes: list[_Process], said: "queue.Queue[Said]") -> None:
    for process in processes:
        process.end()
    for process in processes:
        process.expect(said, "ended", _ENDED_S)


def _figures(pair: Pair, number: int, seen: tuple[_Seen, _Seen], took_s: float) -> Round:
    one, other = seen
    began = one.wanted or max(one.started, other.started)

    def both(*times: float | None) -> float | None:
        known = [at for at in times if at is not None]
        return max(0.0, max(known) - began) if len(known) == len(times) else None

    return Round(
        pair=pair.name,
        number=number,
        linked_s=both(one.linked, other.linked),
        stream_s=both(one.stream),
        relayed_s=both(one.since("relayed"), other.since("relayed")),
        direct_s=both(one.since(*_DIRECT), other.since(*_DIRECT)),
        paths=(one.path, other.path),
        kinds=(one.kind, other.kind),
        notes=(one.notes, other.notes),
        took_s=took_s,
    )
