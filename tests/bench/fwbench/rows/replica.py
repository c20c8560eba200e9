"""Streams of one node that another one takes: what each of the two pays, and how much later packets come."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fwbench.bench import Bench, Measure
from fwbench.live import poll, published
from fwbench.load.hop import HopSpec
from fwbench.network import members
from fwbench.others import peers
from fwbench.servers import Node, ServerError, missing
from fwbench.summary import Column, Sample, Target

_NAME = "bench"
_APPEAR_S = 30.0
_ASK_S = 5.0  # a node lets go of what nobody asked for in half a minute
_POLL_S = 0.1
_SIDES = {"1 stream": 1, "50 streams": 50}


class ReplicaRow:
    name = "replica"
    title = "3 Mb/s streams from one node to another, nobody watching, signatures included"
    sides = tuple(_SIDES)
    one, fifty = sides
    columns = (
        Column("origin_percent", "origin, % of a core a stream more than without the edge"),
        Column("edge_percent", "edge, % of a core a stream more than idle"),
        Column("hop_p50_ms", "packet later at the edge, median ms"),
        Column("hop_p99_ms", "99 % ms"),
        Column("hop_max_ms", "most ms"),
        Column("origin_mb", "origin, MB (PSS)"),
        Column("edge_mb", "edge, MB (PSS)"),
    )
    targets = (
        Target(one, "origin_percent", 1.5, "1 stream: origin, % of a core"),
        Target(one, "edge_percent", 1.5, "1 stream: edge, % of a core"),
        Target(one, "hop_p99_ms", 5.0, "1 stream: 99 % of packets later by, ms"),
        Target(fifty, "origin_percent", 1.2, "50 streams: origin, each to one alone", one),
        Target(fifty, "edge_percent", 1.2, "50 streams: edge, each to one alone", one),
    )

    def missing(self) -> str:
        return missing("ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        yield lambda side: self._one(bench, _SIDES[side])

    def _one(self, bench: Bench, count: int) -> Sample:
        names = [f"{_NAME}{number}" for number in range(count)]
        with ExitStack() as stack:
            origin, edge = stack.enter_context(_pair(bench))
            stack.enter_context(published(bench, origin, names))
            time.sleep(bench.warm_s)
            without = _percent((origin, edge), bench.seconds, [])
            _await(edge, names)
            time.sleep(bench.warm_s)
            fed = _percent((origin, edge), bench.seconds, names)
            sample = {
                "origin_percent": (fed[0] - without[0]) / count,
                "edge_percent": (fed[1] - without[1]) / count,
                "origin_mb": origin.program.memory_mb(),
                "edge_mb": edge.program.memory_mb(),
            }
            if count == 1:
                spec = HopSpec(origin.host, origin.rtmp_port, edge.rtmp_port, names[0])
                load = stack.enter_context(bench.load(spec, origin.folder))
                time.sleep(bench.warm_s)
                load.begin()
                time.sleep(bench.seconds)
                sample |= load.end()
        return sample


@contextmanager
def _pair(bench: Bench) -> Iterator[tuple[Node, Node]]:
    """Two members of one network, each on a core of its own."""
    invite = members.new_invite()
    with bench.folder() as one, bench.folder() as two:
        for folder, name in ((one, "origin"), (two, "edge")):
            members.settle(folder, invite, name)
        with ExitStack() as stack:
            origin = stack.enter_context(Node(one, bench.server_core))
            edge = stack.enter_context(Node(two, bench.load_core, f"--seed={origin.mesh_address}"))
            _await_linked(edge)
            yield origin, edge


def _await_linked(edge: Node) -> None:
    deadline = time.monotonic() + _APPEAR_S
    while peers(edge) < len(("origin", "edge")):
        if time.monotonic() > deadline:
            raise ServerError("the two nodes did not find each other")


def _await(edge: Node, names: list[str]) -> None:
    """Until the edge has these streams. Raises ServerError."""
    deadline = time.monotonic() + _APPEAR_S
    for name in names:
        while poll(edge, f"/live/{name}/index.m3u8") is None:
            if time.monotonic() > deadline:
                raise ServerError(f"no {name} on the edge: {edge.program.log_tail()[-400:]}")
            time.sleep(_POLL_S)


def _percent(nodes: tuple[Node, Node], seconds: float, asked: list[str]) -> tuple[float, float]:
    """Each node's CPU meanwhile, in percent of a core; the second is asked for streams now and then."""
    before = [node.program.cpu_s() for node in nodes]
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        for name in asked:
            poll(nodes[1], f"/live/{name}/index.m3u8")
        time.sleep(min(left, _ASK_S))
    took = time.monotonic() - began
    origin, edge = (
        100 * (node.program.cpu_s() - cpu) / took for node, cpu in zip(nodes, before, strict=True)
    )
    return origin, edge


ROWS = (ReplicaRow(),)
