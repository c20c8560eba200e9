"""Renditions: how fast, good and late the worker's are beside ffmpeg's, and what they cost the agent."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import imageio_ffmpeg

from fwbench.bench import Bench, Measure
from fwbench.live import STREAM, media_playlists, published
from fwbench.servers import ServerError
from fwbench.summary import Column, Sample, Target, percentile
from media.container import fmp4
from media.track.model import Codec, Packet, Track
from media.transcode.wire import (
    Begin,
    Coded,
    Encoded,
    Flush,
    Flushed,
    FromWorker,
    FromWorkerReader,
    Opened,
    RungOrder,
    encode,
)

_RUNGS = (
    (480, 854, 1_200_000),
    (360, 640, 700_000),
    (240, 426, 400_000),
)
_LADDER = ", ".join(f"{side}p@{bps // 1000}k" for side, _, bps in _RUNGS)
_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
_TIMESCALE = 90_000
_NICENESS = 5  # the worker's own; the peer gets no more of a busy machine
_GROUP_S = 2
_PATIENCE_S = 120.0
_READ_BYTES = 1 << 18
_SSIM = re.compile(r"All:([0-9.]+)")


class TranscodeRow:
    name = "transcode"
    title = "720p30 to 480p, 360p and 240p, x264 veryfast zerolatency, one thread each"
    peer, ours = "ffmpeg 9, command line", "fwnode"
    sides = (peer, ours)
    columns = (
        Column("fps", "pictures/s"),
        Column("picture_s", "s per picture"),
        Column("cpu_ms", "CPU per picture, ms"),
        *(Column(f"ssim_{side}", f"SSIM {side}p") for side, _, _ in _RUNGS),
        Column("late_p50_ms", "in to out, median ms"),
        Column("late_p95_ms", "95 %"),
        Column("agent_percent", "agent, % of a core more"),
    )
    targets = (
        Target(ours, "picture_s", 1 / 0.95, "time per picture ÷ ffmpeg's", peer),
        Target(ours, "late_p50_ms", 150, "picture in to all renditions out, median ms"),
        Target(ours, "agent_percent", 3, "the agent's own CPU for one ladder, % of a core"),
    )

    def missing(self) -> str:
        return ""

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        path = Path(bench.clip(_GROUP_S))
        film = _film(path)

        def measure(side: str) -> Sample:
            with bench.folder() as folder, bench.both_cores():
                if side == self.peer:
                    return _by_ffmpeg(path, folder, len(film[1]))
                sample = _by_worker(film, folder)
                sample |= {
                    f"ssim_{rung}": _ssim(folder / f"{rung}.mp4", path, width, rung)
                    for rung, width, _ in _RUNGS
                }
                sample |= _lateness(film, bench.seconds)
            return sample | {"agent_percent": _agent_percent(bench)}

        yield measure


def _film(path: Path) -> tuple[bytes, list[Coded]]:
    """The decoder's configuration and the pictures of a clip."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        scale = (stream.time_base or Fraction(1, 1000)) * _TIMESCALE
        packets = [packet for packet in container.demux(stream) if packet.size]
        config = bytes(stream.codec_context.extradata or b"")
    coded = [
        Coded(
            number, round((packet.dts or 0) * scale), round((packet.pts or 0) * scale),
            packet.is_keyframe, bytes(packet),
        )
        for number, packet in enumerate(packets)
    ]  # fmt: skip
    return config, coded


def _begin(config: bytes) -> bytes:
    orders = [RungOrder(side, bps, 60) for side, _, bps in _RUNGS]
    return encode(Begin(0, Codec.H264, config, _TIMESCALE, 30.0, orders, 1, "veryfast", "low"))


def _by_ffmpeg(path: Path, folder: Path, pictures: int) -> Sample:
    splits = "".join(f"[s{index}]" for index in range(len(_RUNGS)))
    scales = ";".join(
        f"[s{index}]scale={width}:{side}[o{index}]" for index, (side, width, _) in enumerate(_RUNGS)
    )
    outputs: list[str] = []
    for index, (side, _, bps) in enumerate(_RUNGS):
        outputs += ["-map", f"[o{index}]", "-threads", "1", "-c:v", "libx264", "-preset", "veryfast"]
        outputs += ["-tune", "zerolatency", "-profile:v", "high", "-b:v", str(bps), "-maxrate", str(bps)]
        outputs += ["-bufsize", str(bps), "-g", "60", "-sc_threshold", "0", str(folder / f"{side}.mp4")]
    graph = f"[0:v]split={len(_RUNGS)}{splits};{scales}"
    command = ["nice", "-n", str(_NICENESS), _FFMPEG]
    command += ["-v", "error", "-y", "-threads", "1", "-i", str(path), "-filter_complex", graph]
    began = time.monotonic()
    child = subprocess.Popen([*command, *outputs])
    usage = _usage(child)
    seconds = time.monotonic() - began
    sample = {"fps": pictures / seconds, "picture_s": seconds / pictures, "cpu_ms": usage * 1000 / pictures}
    return sample | {
        f"ssim_{side}": _ssim(folder / f"{side}.mp4", path, width, side) for side, width, _ in _RUNGS
    }


def _usage(child: "subprocess.Popen[bytes]") -> float:
    """Wait for it; CPU seconds that it used."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ServerError(f"it ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime


class _Worker:
    """A worker's process, ready for orders."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "media.transcode.worker"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdin is not None and self.child.stdout is not None
        self._in: IO[bytes] = self.child.stdin
        self._out: IO[bytes] = self.child.stdout
        self._reader = FromWorkerReader()
        self.send(encode(Flush()))
        for _ in self.until_flushed():
            pass

    def send(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def until_flushed(self) -> Iterator[tuple[float, FromWorker]]:
        """What it says, and when."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            data = self._out.read1(_READ_BYTES)  # type: ignore[attr-defined]  # a buffered pipe
            now = time.monotonic()
            for message in self._reader.receive(data):
                if isinstance(message, Flushed):
                    return
                yield now, message
            if not data:
                raise ServerError("the worker ended")
        raise ServerError("the worker does not answer")

    def end(self) -> float:
        """CPU seconds that it used."""
        self._in.close()
        return _usage(self.child)


def _by_worker(film: tuple[bytes, list[Coded]], folder: Path) -> Sample:
    config, coded = film
    worker = _Worker()
    began = time.monotonic()
    data = _begin(config) + b"".join(map(encode, coded)) + encode(Flush())
    sender = threading.Thread(target=worker.send, args=(data,))
    sender.start()
    said = [message for _, message in worker.until_flushed()]
    seconds = time.monotonic() - began
    sender.join()
    cpu_s = worker.end()
    _write(said, coded, folder)
    count = len(coded)
    return {"fps": count / seconds, "picture_s": seconds / count, "cpu_ms": cpu_s * 1000 / count}


def _write(said: list[FromWorker], coded: list[Coded], folder: Path) -> None:
    """Each rendition as a file."""
    opened = next(message for message in said if isinstance(message, Opened))
    for index, (side, _, _) in enumerate(_RUNGS):
        made = opened.rungs[index]
        track = Track(1, Codec.H264, _TIMESCALE, made.config, width=made.width, height=made.height)
        pictures = [message for message in said if isinstance(message, Encoded) and message.rung == index]
        packets = [
            Packet(track, each.pts, 0, 3000, each.keyframe, each.data, 0, 0, 0, 0) for each in pictures
        ]
        film = fmp4.init_segment((track,)) + b"".join(fmp4.fragment((track,), packets, 1))
        (folder / f"{side}.mp4").write_bytes(film)


def _ssim(made: Path, source: Path, width: int, height: int) -> float:
    """Structural similarity of all pictures to the source's, scaled the same."""
    graph = f"[1:v]scale={width}:{height},settb=AVTB,setpts=N[r];[0:v]settb=AVTB,setpts=N[m];[m][r]ssim"
    command = [
        _FFMPEG,
        "-hide_banner",
        "-i",
        str(made),
        "-i",
        str(source),
        "-lavfi",
        graph,
        "-f",
        "null",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _SSIM.search(done.stderr)
    if found is None:
        raise ServerError(done.stderr[-300:])
    return float(found[1])


def _lateness(film: tuple[bytes, list[Coded]], seconds: float) -> Sample:
    """Pictures given in real time: from each one's last byte in to its last rendition out."""
    config, coded = film
    worker = _Worker()
    count = min(len(coded), round(seconds * 30))
    given: dict[int, float] = {}

    def give() -> None:
        began = time.monotonic()
        worker.send(_begin(config))
        for picture in coded[:count]:
            time.sleep(max(0.0, began + picture.dts / _TIMESCALE - time.monotonic()))
            worker.send(encode(picture))
            given[picture.number] = time.monotonic()
        worker.send(encode(Flush()))

    sender = threading.Thread(target=give)
    sender.start()
    out: dict[int, float] = {}
    for when, message in worker.until_flushed():
        if isinstance(message, Encoded):
            out[message.number] = max(when, out.get(message.number, 0.0))
    sender.join()
    worker.end()
    # A decoder gives B-frames' neighbours later than they came: that is the source's own delay.
    late = [1000 * (when - given[number]) for number, when in out.items() if number in given]
    return {"late_p50_ms": percentile(late, 0.5), "late_p95_ms": percentile(late, 0.95)}


def _agent_percent(bench: Bench) -> float:
    """A core's share that the agent uses more with a ladder than without."""
    with_ladder, without = (_cpu_share(bench, ladder) for ladder in (_LADDER, "off"))
    return 100 * (with_ladder - without)


def _cpu_share(bench: Bench, ladder: str) -> float:
    with bench.node("--set", f"transcode.ladder={ladder}") as node, published(bench, node, [STREAM]):
        media_playlists(node)
        time.sleep(bench.warm_s)
        before, began = node.program.own_cpu_s(), time.monotonic()
        time.sleep(bench.seconds)
        return (node.program.own_cpu_s() - before) / (time.monotonic() - began)


ROWS = (TranscodeRow(),)
