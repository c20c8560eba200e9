"""Rows about the mesh: bulk streams, the relay, strangers at the door, an idle node among many."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from fwbench.bench import Bench, Measure
from fwbench.loads import Load
from fwbench.machine import Program
from fwbench.network import members
from fwbench.network.specs import (
    STRANGERS,
    DoorSpec,
    ReceiverSpec,
    RelaySpec,
    SenderSpec,
    SplicedSpec,
    StrangerSpec,
)
from fwbench.others import Others, peers, rss_mb
from fwbench.profile import recorded
from fwbench.servers import ServerError
from fwbench.sides import Side
from fwbench.summary import Column, Sample, Target

OURS = "fwnode"


def _measure(
    bench: Bench, served: Load, load: Load, programs: Sequence[Program]
) -> tuple[Sample, list[float]]:
    """What `served` and `load` counted, and the CPU seconds of each program meanwhile."""
    before = [program.cpu_s() for program in programs]
    served.begin()
    load.begin()
    with recorded(programs[0].pid, bench.seconds, bench.samples if bench.profile else None):
        time.sleep(bench.seconds)
    sample = {**load.end(), **served.end()}
    return sample, [program.cpu_s() - start for program, start in zip(programs, before, strict=True)]


class LinkRow:
    name = "link"
    title = "bulk stream node to node over loopback, one process each side"
    peer = "trio.SSLStream"
    sides = (peer, OURS)
    columns = (
        Column("mb_per_s", "MB/s"),
        Column("receive_cpu_per_gb", "receiver, CPU s/GB"),
        Column("send_cpu_per_gb", "sender, CPU s/GB"),
        Column("receive_core_percent", "receiver, % of a core"),
        Column("send_core_percent", "sender, % of a core"),
    )
    targets = (Target(OURS, "s_per_gb", 1.25, "time/GB ÷ trio.SSLStream", beside=peer),)

    def missing(self) -> str:
        return ""

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        invite = members.new_invite()
        yield lambda side: self._one(bench, invite, plain=side == self.peer)

    def _one(self, bench: Bench, invite: str, *, plain: bool) -> Sample:
        with ExitStack() as stack:
            folder = stack.enter_context(bench.folder())
            receiver = stack.enter_context(Side(ReceiverSpec(invite, plain), bench.server_core, folder))
            spec = SenderSpec(invite, plain, receiver.port)
            sender = stack.enter_context(Side(spec, bench.load_core, folder))
            time.sleep(bench.warm_s)
            programs = [receiver.program, sender.program]
            sample, (receive_s, send_s) = _measure(bench, receiver, sender, programs)
        gb, took_s = sample["bytes"] / 1e9, sample["seconds"]
        return {
            "s_per_gb": took_s / gb,
            "mb_per_s": 1000 * gb / took_s,
            "receive_cpu_per_gb": receive_s / gb,
            "send_cpu_per_gb": send_s / gb,
            "receive_core_percent": 100 * receive_s / took_s,
            "send_core_percent": 100 * send_s / took_s,
        }


class RelayRow:
    name = "relay"
    title = "a relay between two connections, one sending as fast as it can"
    peer = "trio, byte copy"
    sides = (peer, OURS)
    columns = (
        Column("cpu_per_gb", "CPU s/GB"),
        Column("mb_per_s", "MB/s"),
        Column("server_core_percent", "relay, % of a core"),
        Column("load_core_percent", "both ends, % of a core"),
    )
    targets = (Target(OURS, "cpu_per_gb", 1.0, "CPU s/GB in the relay"),)

    def missing(self) -> str:
        return ""

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        invite = members.new_invite()
        yield lambda side: self._one(bench, RelaySpec(invite, side == self.peer))

    def _one(self, bench: Bench, spec: RelaySpec) -> Sample:
        with ExitStack() as stack:
            folder = stack.enter_context(bench.folder())
            relay = stack.enter_context(Side(spec, bench.server_core, folder))
            ends = SplicedSpec(relay.port, str(relay.ready["tokens"]).split())
            load = stack.enter_context(Side(ends, bench.load_core, folder))
            time.sleep(bench.warm_s)
            sample, (cpu_s,) = _measure(bench, relay, load, [relay.program])
        sample["cpu_per_gb"] = 1e9 * cpu_s / sample["bytes"]
        sample["mb_per_s"] = 1e-6 * sample["bytes"] / sample["seconds"]
        sample["server_core_percent"] = 100 * cpu_s / sample["seconds"]
        return sample


class StrangersRow:
    name = "strangers"
    title = "connections of strangers, one after the other, each until it is refused"
    sides = STRANGERS
    columns = (
        Column("cpu_ms", "CPU ms each"),
        Column("rate", "refused/s"),
        Column("server_core_percent", "node, % of a core"),
        Column("stranger_core_percent", "strangers, % of a core"),
    )
    targets = tuple(Target(side, "cpu_ms", 1.0, f"{side}: CPU ms each") for side in STRANGERS)

    def missing(self) -> str:
        return ""

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        invite = members.new_invite()
        yield lambda side: self._one(bench, invite, side)

    def _one(self, bench: Bench, invite: str, kind: str) -> Sample:
        with ExitStack() as stack:
            folder = stack.enter_context(bench.folder())
            door = stack.enter_context(Side(DoorSpec(invite, kind == "too fast"), bench.server_core, folder))
            spec = StrangerSpec(invite, kind, door.port)
            load = stack.enter_context(Side(spec, bench.load_core, folder))
            sample, (cpu_s,) = _measure(bench, door, load, [door.program])
        if abs(sample["refused"] - sample["came"]) > 1 + 0.01 * sample["came"]:
            raise ServerError(f"{kind}: {sample['came']:.0f} came, {sample['refused']:.0f} were refused")
        sample["cpu_ms"] = 1000 * cpu_s / sample["came"]
        sample["rate"] = sample["came"] / sample["seconds"]
        sample["server_core_percent"] = 100 * cpu_s / sample["seconds"]
        # Client and node take turns, so a full core of the client's says nothing against the figure.
        sample["stranger_core_percent"] = sample.pop("load_core_percent")
        return sample


_NODES = 100
_PROCESSES = 3  # of the others
_SETTLE_S = 10.0  # two rounds of comparing directories: what starting cost is over


class IdleRow:
    """`fwnode run` in a network beside one in none, both measured over the same seconds.

    The others run on the load's core: many nodes in a process, with keys, claims, sockets and links of
    their own. RSS counts shared pages in full, so what they share with the one measured cannot flatter it.
    """

    name = "idle"
    title = f"one `fwnode run` in a network, beside one in none; the others in {_PROCESSES} processes"
    _of_two, _of_many = "one of 2", f"one of {_NODES}"
    sides = (_of_two, _of_many)
    columns = (
        Column("alone_percent", "alone, % of a core"),
        Column("percent", "% of a core"),
        Column("more_percent", "more, % of a core"),
        Column("alone_mb", "alone, MB (PSS)"),
        Column("mb", "MB (PSS)"),
        Column("more_mb", "more, MB (PSS)"),
        Column("more_rss_mb", "more, MB (RSS)"),
        Column("links", "links of each"),
        Column("others_percent", "each of the others, % of a core"),
    )
    targets = (
        Target(_of_many, "more_percent", 1.0, f"one of {_NODES}: % of a core more than alone"),
        Target(_of_many, "more_mb", 10.0, f"one of {_NODES}: MB (PSS) more than alone"),
    )

    def missing(self) -> str:
        return ""

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        with ExitStack() as stack:
            few, many = (
                stack.enter_context(Others(bench, stack.enter_context(bench.folder()), count, processes))
                for count, processes in ((1, 1), (_NODES - 1, _PROCESSES))
            )
            yield lambda side: self._one(bench, many if side == self._of_many else few)

    def _one(self, bench: Bench, others: Others) -> Sample:
        with bench.node() as alone, others.node() as node:
            peers(alone)  # the same question to both
            others.wait_steady(node)
            time.sleep(_SETTLE_S)
            programs = (alone.program, node.program, *others.programs)
            before = [program.cpu_s() for program in programs]
            with recorded(node.program.pid, bench.seconds, node.profile):
                time.sleep(bench.seconds)
            used = [program.cpu_s() - start for program, start in zip(programs, before, strict=True)]
            percents = [100 * cpu_s / bench.seconds for cpu_s in used]
            mbs = [alone.program.memory_mb(), node.program.memory_mb()]
            rss = [rss_mb(alone.program.pid), rss_mb(node.program.pid)]
            links = others.links()
        return {
            "alone_percent": percents[0],
            "percent": percents[1],
            "more_percent": percents[1] - percents[0],
            "alone_mb": mbs[0],
            "mb": mbs[1],
            "more_mb": mbs[1] - mbs[0],
            "more_rss_mb": rss[1] - rss[0],
            "links": links,
            "others_percent": sum(percents[2:]) / others.count,
        }


ROWS = (LinkRow(), RelayRow(), StrangersRow(), IdleRow())
