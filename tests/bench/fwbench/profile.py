"""Where the node's time goes while a row is measured: py-spy's samples, summed by function."""

import collections
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RATE_HZ = 250
_SHOWN = 30
_PATIENCE_S = 20.0
_WAIT = "get_events"  # of trio's epoll: py-spy takes some of the waiting in it for work


@dataclass(frozen=True, slots=True)
class Hot:
    """One function: its share of all samples, alone and with what it calls."""

    function: str
    self_percent: float
    total_percent: float


def hottest(raw: str, shown: int = _SHOWN) -> list[Hot]:
    """Functions by their own time, from collapsed stacks (`outer;inner count` on each line)."""
    own: collections.Counter[str] = collections.Counter()
    total: collections.Counter[str] = collections.Counter()
    samples = 0
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        if not stack or not number.isdigit() or _WAIT in stack.rpartition(";")[2]:
            continue
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        samples += int(number)
        own[frames[-1]] += int(number)
        for frame in set(frames):
            total[frame] += int(number)
    scale = 100 / max(samples, 1)
    return [Hot(name, scale * count, scale * total[name]) for name, count in own.most_common(shown)]


def as_text(found: list[Hot]) -> str:
    lines = [f"{hot.self_percent:6.1f} {hot.total_percent:6.1f}  {hot.function}" for hot in found]
    return "\n".join(["self %  all %  function (of the time not idle)", *lines]) + "\n"


@contextmanager
def recorded(pid: int, seconds: float, target: Path | None) -> Iterator[None]:
    """Let py-spy sample `pid` meanwhile into `target`; nothing without a target."""
    if target is None:
        yield
        return
    program = str(Path(sys.executable).parent / "py-spy")
    command = [program, "record", "--pid", str(pid), "--format", "raw", "--output", str(target)]
    timing = ["--duration", str(max(1, round(seconds))), "--rate", str(RATE_HZ), "--nonblocking"]
    with subprocess.Popen([*command, *timing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as spy:
        yield
        try:
            spy.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            spy.kill()
