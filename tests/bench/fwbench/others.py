"""The nodes beside the one measured, and what that one knows of them."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from fwbench.bench import Bench
from fwbench.machine import Program
from fwbench.network import members
from fwbench.network.specs import SwarmSpec
from fwbench.servers import Node, ServerError
from fwbench.sides import Side

_STEADY_S = 90.0  # a second or two; a hundred start on one core
_POLL_S = 0.5


class Others:
    """`count` nodes of a new network in some processes on the load's core, until the end of its `with`."""

    def __init__(self, bench: Bench, folder: Path, count: int, processes: int) -> None:
        self.count = count
        self._bench = bench
        self._folder = folder
        self._home = folder / "home"
        self._invite = members.new_invite()
        self._shares = [(count + number) // processes for number in range(processes)]
        self._swarms: list[Side] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            seeds: list[str] = []
            for number, nodes in enumerate(self._shares):
                spec = SwarmSpec(self._invite, nodes, f"other-{number}", seeds)
                self._swarms.append(stack.enter_context(Side(spec, self._bench.load_core, self._folder)))
                seeds = [str(self._swarms[0].ready["address"])]
            members.settle(self._home, self._invite, "measured")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def programs(self) -> list[Program]:
        return [swarm.program for swarm in self._swarms]

    def node(self) -> Node:
        """The one measured: a member like the others, the same one each time."""
        node = Node(self._home, self._bench.server_core, f"--seed={self._swarms[0].ready['address']}")
        node.profile = self._bench.samples if self._bench.profile else None
        return node

    def links(self) -> float:
        """Mean of the others' links."""
        return sum(float(swarm.end()["links"]) * share for swarm, share in self._swarmed()) / self.count

    def wait_steady(self, node: Node) -> None:
        """Until every node knows every other. Raises ServerError when that takes too long."""
        deadline = time.monotonic() + _STEADY_S
        while (least := self._known_by(node)) <= self.count:
            if time.monotonic() > deadline:
                raise ServerError(f"a node knows {least:.0f} of {self.count + 1} after {_STEADY_S:.0f} s")
            time.sleep(_POLL_S)

    def _known_by(self, node: Node) -> float:
        return min(peers(node), *(swarm.end()["known_min"] for swarm in self._swarms))

    def _swarmed(self) -> list[tuple[Side, int]]:
        return list(zip(self._swarms, self._shares, strict=True))


def peers(node: Node) -> int:
    """How many nodes a node knows, itself included, as the command `peers` shows them."""
    command = [sys.executable, "-m", "fwnode", "peers", "--json", "--data-dir", str(node.folder)]
    environment = {**os.environ, "FWNODE_DATA_DIR": str(node.folder)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise ServerError(f"fwnode peers: {shown.stderr[-400:]}")
    return len(json.loads(shown.stdout)["peers"])


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB: shared pages in full."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ServerError(f"process {pid} has ended")
