"""Rows about files and playlists over HTTP, beside nginx serving the same bytes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fwbench import playlist
from fwbench.bench import Bench, Measure
from fwbench.live import STREAM, Playlist, media_playlists, published
from fwbench.load.fetch import FetchSpec
from fwbench.load.llhls import LlhlsSpec
from fwbench.loads import measure, wrk
from fwbench.servers import Nginx, Node, Server, missing
from fwbench.summary import Column, Sample, Target

PEER, OURS = "nginx", "fwnode"
_COLUMNS_LOAD = (
    Column("server_core_percent", "server, % of a core"),
    Column("load_core_percent", "load, % of a core"),
)


@contextmanager
def _both(bench: Bench) -> Iterator[tuple[Node, Nginx]]:
    """A node with one live stream and an nginx, side by side; only one of them is under load at a time."""
    with bench.node() as node, bench.nginx() as nginx, published(bench, node, [STREAM]):
        yield node, nginx


class PlaylistRow:
    name = "playlist"
    title = "media playlist, 64 keep-alive connections"
    sides = (PEER, OURS)
    columns = (
        Column("cpu_us", "CPU µs/request"),
        Column("rate", "requests/s"),
        Column("answer_bytes", "bytes/answer"),
        *_COLUMNS_LOAD,
    )
    targets = (Target(OURS, "cpu_us", 1.3, "CPU/request ÷ nginx", beside=PEER),)

    def missing(self) -> str:
        return missing("nginx", "wrk", "taskset", "ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        with _both(bench) as (node, nginx):
            media_playlists(node, segments=3)

            def one(side: str) -> Sample:
                now = media_playlists(node)[0]
                nginx.publish("playlist.m3u8", now.body)
                path, server = ("/playlist.m3u8", nginx) if side == PEER else (now.path, node)
                return self._sample(bench, server, path)

            yield one

    def _sample(self, bench: Bench, server: Server, path: str) -> Sample:
        sample = wrk(server, path, 64, bench.seconds, bench.load_core)
        sample["cpu_us"] = 1e6 * sample["cpu_s"] / sample["requests"]
        sample["rate"] = 1e6 * sample["requests"] / sample["us"]
        sample["answer_bytes"] = sample["bytes"] / sample["requests"]
        return sample


class SegmentRow:
    name = "segment"
    title = "media segments of 2 s (about 0.8 MB), 16 keep-alive connections"
    sides = (PEER, OURS)
    columns = (
        Column("cpu_per_gb", "CPU s/GB"),
        Column("gbps", "Gb/s"),
        Column("answer_bytes", "bytes/answer"),
        *_COLUMNS_LOAD,
    )
    targets = (Target(OURS, "cpu_per_gb", 1.2, "CPU/GB ÷ nginx with sendfile", beside=PEER),)

    def missing(self) -> str:
        return missing("nginx", "ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        with _both(bench) as (node, nginx):
            media_playlists(node, segments=3)

            def one(side: str) -> Sample:
                now = media_playlists(node)[0]
                path = now.resolve(playlist.segments(now.body)[-1])  # the newest: it stays longest
                nginx.publish("segment.m4s", node.get(path))
                target, server = ("/segment.m4s", nginx) if side == PEER else (path, node)
                return self._sample(bench, server, target)

            yield one

    def _sample(self, bench: Bench, server: Server, path: str) -> Sample:
        with bench.load(FetchSpec(server.host, server.http_port, path, 16), server.folder) as load:
            sample = measure(server, load, min(bench.seconds, 10.0))
        sample["cpu_per_gb"] = 1e9 * sample["cpu_s"] / sample["bytes"]
        sample["gbps"] = 8e-9 * sample["bytes"] / sample["seconds"]
        sample["answer_bytes"] = sample["bytes"] / sample["answers"]
        return sample


class LlhlsRow:
    """The peer is not an LL-HLS server: it is the floor of this machine and of the load generator.

    At each tick all viewers ask it at once for the same playlist and the same part, as files.
    """

    name = "llhls"
    title = "1000 LL-HLS viewers of 3 Mb/s, blocking reload"
    viewers = 1000
    floor = "nginx, files at a tick"
    sides = (floor, OURS)
    columns = (
        Column("wall_p50_ms", "part, median ms"),
        Column("wall_p99_ms", "99 % ms"),
        Column("wall_max_ms", "longest ms"),
        Column("served_p99_ms", "99 % less own queue, ms"),
        Column("origin_p50_ms", "listed after media's end, ms"),
        Column("stalled", "stalled"),
        Column("skipped", "parts lost"),
        Column("early", "idle reloads"),
        Column("growth_mb", "memory growth, MB"),
        Column("cpu_per_gb", "CPU s/GB"),
        Column("mbps", "Mb/s per viewer"),
        *_COLUMNS_LOAD,
    )
    targets = (
        Target(OURS, "wall_p99_ms", 100, "99 % of parts complete, ms after existing"),
        Target(OURS, "stalled", 0, "viewers stalled"),
        Target(OURS, "skipped", 0, "parts never got"),
        Target(OURS, "growth_mb", 100, "memory growth, MB"),
    )
    _pace_s = 0.5

    def missing(self) -> str:
        return missing("nginx", "ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        with bench.node() as node, published(bench, node, [STREAM]):
            captured = [_Captured(node, media) for media in media_playlists(node, segments=3)]
        yield lambda side: self._live(bench) if side == OURS else self._paced(bench, captured)

    def _live(self, bench: Bench) -> Sample:
        with bench.node() as node, published(bench, node, [STREAM]) as source:
            paths = [media.path for media in media_playlists(node, segments=3)]
            spec = LlhlsSpec(node.host, node.http_port, paths, self.viewers, [], 0.0)
            source.begin()
            sample = self._sample(bench, node, spec)
            sample["publisher_late_ms"] = source.end()["late_ms"]
            return sample

    def _paced(self, bench: Bench, captured: "list[_Captured]") -> Sample:
        with bench.nginx() as nginx:
            for number, one in enumerate(captured):
                nginx.publish(f"{number}.m3u8", one.playlist)
                nginx.publish(f"{number}.m4s", one.part)
            names = range(len(captured))
            playlists, parts = [f"/{n}.m3u8" for n in names], [f"/{n}.m4s" for n in names]
            spec = LlhlsSpec(nginx.host, nginx.http_port, playlists, self.viewers, parts, self._pace_s)
            return self._sample(bench, nginx, spec)

    def _sample(self, bench: Bench, server: Server, spec: LlhlsSpec) -> Sample:
        before_mb = server.program.memory_mb()
        with bench.load(spec, server.folder) as load:
            time.sleep(bench.warm_s)
            sample = measure(server, load, bench.seconds)
            sample["growth_mb"] = server.program.memory_mb() - before_mb
        sample["cpu_per_gb"] = 1e9 * sample["cpu_s"] / sample["bytes"]
        sample["mbps"] = 8e-6 * sample["bytes"] / sample["seconds"] / self.viewers
        return sample


class _Captured:
    """A playlist and a part of about average size, as bytes for the file server."""

    def __init__(self, node: Node, media: Playlist) -> None:
        listed = [node.get(media.resolve(uri)) for uri in playlist.parts(media.body)[-4:]]
        self.playlist = media.body
        self.part = sorted(listed, key=len)[len(listed) // 2]


ROWS = (PlaylistRow(), SegmentRow(), LlhlsRow())
