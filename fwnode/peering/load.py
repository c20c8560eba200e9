"""How busy this node is and what it carries, as it tells other nodes. Pure."""

from collections.abc import Callable, Iterable

import msgspec

from fwnode.node import Node
from fwnode.transcoding.model import Transcoding
from mesh.directory.facts import (
    ENGINES_MAX,
    PATTERNS_MAX,
    STREAMS_MAX,
    CarriedStream,
    CarriedStreams,
    Load,
    Transcode,
)
from mesh.directory.record import PAYLOAD_BYTES_MAX

MEAN_S = 5.0  # rates are means over this long; gossip tells load at most as often
BITS = 8
AROUND_BYTES = 4  # MessagePack's heads of the two arrays around the streams of a record


class LoadMeter:
    """Load of one node. `cpu_s` gives the CPU time used so far; `cores` is what there is of it."""

    def __init__(
        self, node: Node, cpu_s: Callable[[], float], cores: int, mesh_bytes_out: Callable[[], int]
    ) -> None:
        """`mesh_bytes_out`: what the mesh sent so far; the rest leaves through the node's reactor."""
        self._node = node
        self._cpu_s = cpu_s
        self._cores = cores
        self._mesh_bytes_out = mesh_bytes_out
        self._before = (node.reactor.now(), cpu_s() + node.crew.cpu_s, self._bytes_out())
        self._cpu = 0.0
        self._uplink_bps = 0

    def measure(self) -> Load:
        """Load now."""
        now, bytes_out = self._node.reactor.now(), self._bytes_out()
        cpu_s = self._cpu_s() + self._node.crew.cpu_s
        before_s, before_cpu_s, before_bytes = self._before
        took_s = now - before_s
        if took_s >= MEAN_S:
            self._cpu = min(1.0, max(0.0, (cpu_s - before_cpu_s) / took_s / self._cores))
            self._uplink_bps = round((bytes_out - before_bytes) * BITS / took_s)
            self._before = (now, cpu_s, bytes_out)
        return Load(
            uplink_bps=self._told_uplink_bps(),
            uplink_budget_bps=self._node.promise.budget_bps,
            cpu=round(self._cpu, 3),
            viewers=self._node.viewers,
            sessions=self._node.connections,
            reservations=self._node.choosing.reserved(self.measured_at, now),
            standing=self._node.standing,
            streams=list(self._node.promise.terms.streams[:PATTERNS_MAX]),
        )

    @property
    def measured_at(self) -> float:
        """The end of what the uplink is the mean of, on the reactor's clock."""
        return self._before[0]

    def _bytes_out(self) -> int:
        return self._node.bytes_out + self._mesh_bytes_out()

    def _told_uplink_bps(self) -> int:
        """With what was promised to viewers and edges and has not left yet: others ask what is free."""
        return max(self._uplink_bps, self._node.promise.taken_bps(self._node.reactor.now()))


def transcode(parts: Transcoding | None, now: float) -> Transcode | None:
    """What the node can make more; None when it makes no renditions, or does not know yet how many."""
    if parts is None or parts.broker is None or parts.broker.survey is None:
        return None
    return Transcode(parts.broker.engines()[:ENGINES_MAX], parts.broker.free(now))


def carried_streams(streams: Iterable[CarriedStream]) -> CarriedStreams:
    """All of them by name; of more than a record holds the last are not told."""
    return CarriedStreams(_fitting(sorted(streams, key=lambda stream: stream.name)[:STREAMS_MAX]))


def _fitting(streams: list[CarriedStream]) -> list[CarriedStream]:
    """The first of them, as many as one record's payload has room for."""
    left = PAYLOAD_BYTES_MAX - AROUND_BYTES
    found = []
    for stream in streams:
        left -= len(msgspec.msgpack.encode(stream))
        if left < 0:
            break
        found.append(stream)
    return found
