"""Delivery by several processes: what a second one adds, each process having the same part of a core."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fwbench import machine, playlist, share
from fwbench.bench import Bench, Measure
from fwbench.live import STREAM, media_playlists, published
from fwbench.loads import wrk
from fwbench.servers import Node, missing
from fwbench.summary import Column, Sample, Target

_CONNECTIONS = 64
_SHARE = 0.2  # of a core for each process: two of them leave a core and more to the load
_SIDES = {"--workers 0": 0, "--workers 1": 1, "--workers 2": 2}
_NONE, _ONE, _TWO = _SIDES


class WorkersRow:
    """With whole cores, a load that keeps two of them busy needs as much again."""

    name = "workers"
    title = f"HTTP by several processes, each with {_SHARE:.0%} of a core, {_CONNECTIONS} connections"
    sides = tuple(_SIDES)
    columns = (
        Column("rate", "playlists/s"),
        Column("wall_us", "µs/playlist"),
        Column("cpu_us", "CPU µs/playlist"),
        Column("gbps", "segments, Gb/s"),
        Column("wall_s_per_gb", "segments, s/GB"),
        Column("cpu_s_per_gb", "segments, CPU s/GB"),
        Column("memory_mb", "memory, MB (PSS)"),
        Column("load_core_percent", "load, % of a core"),
    )
    targets = (
        Target(_TWO, "wall_us", 1 / 1.7, "playlists: time ÷ one worker", beside=_ONE),
        Target(_TWO, "wall_s_per_gb", 1 / 1.7, "segments: time ÷ one worker", beside=_ONE),
        Target(_ONE, "wall_us", 1.2, "playlists: time of one worker ÷ none", beside=_NONE),
    )

    def missing(self) -> str:
        return missing("wrk", "taskset", "ffmpeg") or share.missing()

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        yield lambda side: self._one(bench, _SIDES[side])

    def _one(self, bench: Bench, workers: int) -> Sample:
        with ExitStack() as stack:
            shares = [share.Share(_SHARE) for _ in range(workers + 1)]
            for held in shares:
                stack.callback(held.remove)
            node = stack.enter_context(bench.node("--workers", str(workers)))
            stack.enter_context(published(bench, node, [STREAM]))
            media_playlists(node, segments=3)
            processes = [node.program.pid, *_workers(node)]
            for held, pid in zip(shares, processes, strict=True):
                held.take(pid)
                os.sched_setaffinity(pid, {bench.server_core, bench.load_core})
            time.sleep(bench.warm_s)
            return self._sample(bench, node)

    def _sample(self, bench: Bench, node: Node) -> Sample:
        now = media_playlists(node)[0]
        sample = wrk(node, now.path, _CONNECTIONS, bench.seconds, bench.load_core)
        sample["rate"] = 1e6 * sample["requests"] / sample["us"]
        sample["wall_us"] = 1e6 / sample["rate"]
        sample["cpu_us"] = 1e6 * sample["cpu_s"] / sample["requests"]
        now = media_playlists(node)[0]
        path = now.resolve(playlist.segments(now.body)[-1])  # the newest: it stays longest
        whole = wrk(node, path, _CONNECTIONS, min(bench.seconds, 8.0), bench.load_core)
        sample["gbps"] = 8e-3 * whole["bytes"] / whole["us"]
        sample["wall_s_per_gb"] = 8 / sample["gbps"]
        sample["cpu_s_per_gb"] = 1e9 * whole["cpu_s"] / whole["bytes"]
        sample["memory_mb"] = node.program.memory_mb()
        return sample


def _workers(node: Node) -> list[int]:
    """Process numbers of the node's workers."""
    return [
        pid
        for pid in machine.tree(node.program.pid)
        if b"fwnode.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


ROWS = (WorkersRow(),)
