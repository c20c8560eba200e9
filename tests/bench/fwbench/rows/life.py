"""Rows about time: starting, stopping, and how soon a publisher can be watched."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager

import av

from fwbench import playlist
from fwbench.bench import Bench, Measure
from fwbench.clip import LENGTH_MS
from fwbench.live import STREAM, media_playlists, poll, published
from fwbench.load.publish import PublishSpec
from fwbench.servers import Nginx, Node, Server, ServerError, missing
from fwbench.summary import Column, Sample, Target

_PATIENCE_S = 20.0
_POLL_S = 0.01


class FirstPartRow:
    name = "first-part"
    title = "publisher's first byte to the first playable part, keyframe each second"
    peer, ours = "nginx-rtmp, HLS of 1 s", "fwnode, LL-HLS"
    sides = (peer, ours)
    columns = (Column("first_s", "s"), Column("part_kb", "part, kB"))
    targets = (Target(ours, "first_s", 1.0, "s"),)

    def missing(self) -> str:
        return missing("nginx", "nginx-rtmp", "ffmpeg")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        bench.clip(1)  # not while the clock runs
        yield lambda side: self._peer(bench) if side == self.peer else self._ours(bench)

    def _ours(self, bench: Bench) -> Sample:
        with bench.node() as node, published(bench, node, [STREAM], group_s=1) as source:
            source.begin()
            media = media_playlists(node, segments=0)[0]
            start, part = playlist.init(media.body), playlist.first_independent(media.body)
            assert start is not None and part is not None
            data = node.get(media.resolve(start)) + node.get(media.resolve(part))
            return _first(data, time.monotonic() - source.end()["first_byte_s"])

    def _peer(self, bench: Bench) -> Sample:
        with bench.nginx() as nginx:
            spec = PublishSpec(nginx.host, nginx.rtmp_port, [STREAM], bench.clip(1), LENGTH_MS, "hls")
            with bench.load(spec, nginx.folder) as source:
                source.begin()
                data = nginx.get(f"/hls/{_first_listed(nginx)}")
                return _first(data, time.monotonic() - source.end()["first_byte_s"])


def _first_listed(nginx: Nginx) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        listed = playlist.segments(poll(nginx, f"/hls/{STREAM}.m3u8") or b"")
        if listed:
            return listed[0].decode()
        time.sleep(_POLL_S)
    raise ServerError("nginx-rtmp made no HLS segment")


def _first(data: bytes, seconds: float) -> Sample:
    """The sample, once a picture was really decoded from the bytes."""
    with av.open(io.BytesIO(data), "r") as container:
        if next(container.decode(video=0), None) is None:
            raise ServerError("the first part has no picture")
    return {"first_s": seconds, "part_kb": len(data) / 1000}


class StartRow:
    name = "start"
    title = "start to listening; SIGTERM to gone, nobody watching"
    peer, ours = "nginx", "fwnode"
    sides = (peer, ours)
    columns = (
        Column("start_s", "start, s"),
        Column("again_s", "second start, s"),
        Column("stop_s", "stop, s"),
        Column("cpu_s", "CPU to listening, s"),
    )
    targets = (
        Target(ours, "start_s", 1.0, "start, s"),
        Target(ours, "stop_s", 1.0, "stop, s"),
    )

    def missing(self) -> str:
        return missing("nginx")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        yield lambda side: self._one(bench, Node if side == self.ours else Nginx)

    def _one(self, bench: Bench, make: type[Node] | type[Nginx]) -> Sample:
        with bench.folder() as folder:
            first = make(folder, bench.server_core)
            cpu_s = first.program.cpu_s()
            stop_s = _stop(bench, first)
            second = make(folder, bench.server_core)
            again_s = second.start_s
            second.program.stop()
        return {"start_s": first.start_s, "again_s": again_s, "stop_s": stop_s, "cpu_s": cpu_s}


def _stop(bench: Bench, server: Server) -> float:
    time.sleep(min(1.0, bench.warm_s))  # a program that has only just started may stop in another way
    return server.program.stop()


ROWS = (FirstPartRow(), StartRow())
