"""The load generators as the rows use them: start one, begin and end a measurement, stop."""

import json
import re
import select
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from fwbench import machine
from fwbench.load.fetch import FetchSpec
from fwbench.load.hop import HopSpec
from fwbench.load.llhls import LlhlsSpec
from fwbench.load.publish import PublishSpec
from fwbench.load.watch import WatchSpec
from fwbench.machine import Program
from fwbench.profile import recorded
from fwbench.servers import Server
from fwbench.summary import Sample

_ENTRY = Path(__file__).resolve().parents[1] / "load.py"
_KINDS = {PublishSpec: "publish", WatchSpec: "watch", LlhlsSpec: "llhls", FetchSpec: "fetch", HopSpec: "hop"}
READY_S = 60.0
ANSWER_S = 30.0
Spec = PublishSpec | WatchSpec | LlhlsSpec | FetchSpec | HopSpec


class LoadError(Exception):
    """A load generator failed; the text has the end of its log, or what its server answered."""


class Load:
    """One load generator's process, ready when the constructor returns."""

    def __init__(self, spec: Spec, core: int, folder: Path) -> None:
        kind = _KINDS[type(spec)]
        command = [sys.executable, str(_ENTRY), kind, json.dumps(asdict(spec))]
        self._kind = kind
        self.program = Program(command, core, log=folder / f"load-{kind}.log", pipes=True)
        try:
            self._answer(READY_S)
        except LoadError:
            self.program.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()

    def begin(self) -> None:
        self._say("begin")

    def end(self) -> Sample:
        """Figures since `begin`. Raises LoadError when the server misbehaved towards it."""
        self._say("end")
        answer = self._answer(ANSWER_S)
        fault = answer.pop("fault", "")
        if fault:
            raise LoadError(f"{self._kind}: {answer.get('closed', '')} connections failed: {fault}")
        return {key: float(value) for key, value in answer.items()}

    def _say(self, word: str) -> None:
        try:
            self.program.stdin.write(word.encode() + b"\n")
            self.program.stdin.flush()
        except BrokenPipeError:
            raise LoadError(f"{self._kind}: {self.program.log_tail()}") from None

    def _answer(self, patience_s: float) -> dict[str, float | str]:
        ready, _, _ = select.select([self.program.stdout], [], [], patience_s)
        line = self.program.stdout.readline() if ready else b""
        if not line:
            raise LoadError(f"{self._kind}: {self.program.log_tail() or 'no answer'}")
        answer: dict[str, float | str] = json.loads(line)
        return answer


def measure(server: Server, load: Load, seconds: float) -> Sample:
    """Run a load for a while: its figures and the server's CPU seconds meanwhile (`cpu_s`)."""
    before = server.program.cpu_s()
    load.begin()
    with recorded(server.program.pid, seconds, server.profile):
        time.sleep(seconds)
    sample = load.end()
    sample["cpu_s"] = server.program.cpu_s() - before
    sample["server_core_percent"] = 100 * sample["cpu_s"] / sample["seconds"]
    return sample


_WRK_SCRIPT = """done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("fwbench requests=%d bytes=%d us=%d failed=%d p99_us=%d\\n", summary.requests,
    summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(99)))
end
"""
_WRK_LINE = re.compile(r"^fwbench (.*)$", re.MULTILINE)


def parse_wrk(output: str) -> Sample:
    """The line that our script makes wrk print. Raises LoadError when it is not there."""
    line = _WRK_LINE.search(output)
    if line is None:
        raise LoadError(f"wrk: {output[-500:]}")
    return {key: float(value) for key, _, value in (word.partition("=") for word in line[1].split())}


def wrk(server: Server, path: str, connections: int, seconds: float, core: int) -> Sample:
    """wrk with one thread on the load's core: its figures and the server's CPU seconds meanwhile."""
    script = server.folder / "done.lua"
    script.write_text(_WRK_SCRIPT)
    url = f"http://{server.host}:{server.http_port}{path}"
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s"]
    before, started, children = server.program.cpu_s(), time.monotonic(), machine.children_cpu_s()
    with recorded(server.program.pid, seconds, server.profile):
        done = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=False)
    took = time.monotonic() - started
    sample = parse_wrk(done.stdout + done.stderr)
    if sample["failed"]:
        raise LoadError(f"wrk: {sample['failed']:.0f} of {sample['requests']:.0f} requests failed")
    sample["cpu_s"] = server.program.cpu_s() - before
    sample["server_core_percent"] = 100 * sample["cpu_s"] / took
    sample["load_core_percent"] = 100 * (machine.children_cpu_s() - children) / took
    return sample
