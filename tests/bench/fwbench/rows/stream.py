"""Rows about many publishers and many viewers of continuous streams, beside nginx's RTMP module."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from fwbench.bench import Bench, Measure
from fwbench.live import STREAM, media_playlists, published
from fwbench.load.watch import WatchSpec
from fwbench.loads import measure
from fwbench.servers import Server, missing
from fwbench.summary import Column, Sample, Target

PEER_RTMP = "nginx-rtmp, RTMP"
_FANOUT = {
    PEER_RTMP: ("rtmp", STREAM),
    "fwnode, RTMP": ("rtmp", STREAM),
    "fwnode, FLV": ("http", f"/live/{STREAM}.flv"),
    "fwnode, MP4": ("http", f"/live/{STREAM}.mp4"),
    "fwnode, WebSocket": ("ws", f"/live/{STREAM}/ws"),
}
_OURS = tuple(side for side in _FANOUT if side != PEER_RTMP)


def _server(bench: Bench, peer: bool) -> AbstractContextManager[Server]:
    return bench.nginx() if peer else bench.node()


class FanoutRow:
    name = "fanout"
    title = "200 viewers of one 3 Mb/s stream"
    viewers = 200
    sides = tuple(_FANOUT)
    columns = (
        Column("cpu_per_gb", "CPU s/GB"),
        Column("gap_p50_ms", "gap between writes, median ms"),
        Column("gap_p99_ms", "99 % ms"),
        Column("gap_max_ms", "longest ms"),
        Column("mbps", "Mb/s per viewer"),
        Column("memory_mb", "memory, MB (PSS)"),
        Column("server_core_percent", "server, % of a core"),
        Column("load_core_percent", "load, % of a core"),
    )
    targets = (
        *(Target(side, "cpu_per_gb", 1.0, f"{side}: CPU s/GB") for side in _OURS),
        *(Target(side, "gap_p99_ms", 120, f"{side}: 99 % gap, ms") for side in _OURS),
        *(Target(side, "gap_max_ms", 120, f"{side}: longest gap, ms") for side in _OURS),
    )

    def missing(self) -> str:
        return missing("nginx", "nginx-rtmp", "ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        yield lambda side: self._one(bench, side)

    def _one(self, bench: Bench, side: str) -> Sample:
        protocol, path = _FANOUT[side]
        with _server(bench, side == PEER_RTMP) as server, published(bench, server, [STREAM]):
            if side != PEER_RTMP:
                media_playlists(server)
            port = server.rtmp_port if protocol == "rtmp" else server.http_port
            spec = WatchSpec(protocol, server.host, port, path, self.viewers)
            with bench.load(spec, server.folder) as load:
                time.sleep(bench.warm_s)
                sample = measure(server, load, bench.seconds)
                sample["memory_mb"] = server.program.memory_mb()
        sample["cpu_per_gb"] = 1e9 * sample["cpu_s"] / sample["bytes"]
        sample["mbps"] = 8e-6 * sample["bytes"] / sample["seconds"] / self.viewers
        return sample


class PublishersRow:
    name = "publishers"
    title = "20 RTMP publishers of 3 Mb/s, no viewers"
    publishers = 20
    peer, ours = "nginx-rtmp", "fwnode"
    sides = (peer, ours)
    columns = (
        Column("server_core_percent", "% of a core"),
        Column("memory_mb", "memory, MB (PSS)"),
        Column("mbps", "Mb/s per publisher"),
        Column("late_ms", "publisher held up, longest ms"),
        Column("load_core_percent", "load, % of a core"),
    )
    targets = (
        Target(ours, "server_core_percent", 20, "% of a core"),
        Target(ours, "memory_mb", 250, "memory, MB (PSS)"),
    )

    def missing(self) -> str:
        return missing("nginx", "nginx-rtmp", "ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        yield lambda side: self._one(bench, side)

    def _one(self, bench: Bench, side: str) -> Sample:
        names = [f"{STREAM}{number}" for number in range(self.publishers)]
        with _server(bench, side == self.peer) as server, published(bench, server, names) as load:
            time.sleep(bench.warm_s)
            sample = measure(server, load, bench.seconds)
            sample["memory_mb"] = server.program.memory_mb()
        sample["mbps"] = 8e-6 * sample["bytes"] / sample["seconds"] / self.publishers
        return sample


ROWS = (FanoutRow(), PublishersRow())
