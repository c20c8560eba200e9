"""Six nodes, each behind a line of its own, with a publisher, a crowd of viewers and a browser outside."""

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import imageio_ffmpeg
from lab import Host
from machine import Machine, MakeMachines, until, who_sees_whom
from natlab import Home, NatLab, RouterKind
from playwright.sync_api import Browser, sync_playwright

STREAM = "cam"
HTTP_PORT, RTMP_PORT = 8080, 1935
LINE_MBPS = 20.0
OPTIONS = (
    f"--http 0.0.0.0:{HTTP_PORT} --rtmp 0.0.0.0:{RTMP_PORT} --set ingest.open=true --set hls.segment_s=1 "
    "--set drain_s=0"
).split()
DEMO = ("--demo", "--set", "ingest.open=false")
ROOT = Path(__file__).resolve().parents[2]
VIEWERS = Path(__file__).with_name("viewers.py")
CLIP_S = 150
AT_ONCE = 3  # programs that start at once, on two cores
ARRIVE_S = 1.0  # all viewers of a crowd come within this
FPS = 25
BITRATE = "250k"

Report: TypeAlias = dict[str, Any]


class Swarm:
    """The nodes n0 to n5 in one network, and the host that everybody else is on."""

    def __init__(self, lab: NatLab, machines: list[Machine], homes: list[Home], outside: Host) -> None:
        self.lab = lab
        self.machines = machines
        self.homes = homes
        self.outside = outside

    def home(self, machine: Machine) -> Home:
        """The line and the router that a node is behind."""
        return self.homes[self.machines.index(machine)]

    @contextlib.contextmanager
    def published(
        self, node: Machine, clip: Path, stream: str = STREAM
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """ffmpeg sends the clip to a node in real time while the block runs."""
        target = f"rtmp://{node.host.address}:{RTMP_PORT}/live/{stream}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-re"]
        with subprocess.Popen(
            [*self.outside.prefix, *command, "-i", str(clip), "-c", "copy", "-f", "flv", target]
        ) as child:
            try:
                yield child
            finally:
                child.kill()

    def await_carried(self, *by: Machine, stream: str = STREAM) -> None:
        """Each of them knows from the directory that somebody has the stream."""

        def told() -> bool:
            return all(any(stream in peer["streams"] for peer in machine.peers().values()) for machine in by)

        until(
            told,
            "all know of the stream",
            seen=lambda: [
                (m.name, {n: (p["streams"], p["state"], p["path"]) for n, p in m.peers().items()}) for m in by
            ],
        )

    @contextlib.contextmanager
    def watched(self, counts: dict[Machine, int], stream: str = STREAM) -> Iterator["Audience"]:
        """So many viewers at each of these nodes while the block runs."""
        audience = Audience(self.outside, counts, stream)
        try:
            yield audience
        finally:
            audience.close()

    def parent(self, machine: Machine, stream: str = STREAM) -> str:
        """The name of the node that it takes the stream from now, by its log; "" before it took any."""
        taken = [line for line in machine.events("stream fetched") if line["stream"] == stream]
        return str(taken[-1]["peer"]) if taken else ""


class Audience:
    """A running `viewers.py`."""

    def __init__(self, host: Host, counts: dict[Machine, int], stream: str) -> None:
        nodes = {
            machine.name: (f"{machine.host.address}:{HTTP_PORT}", count) for machine, count in counts.items()
        }
        what = json.dumps({"stream": stream, "nodes": nodes, "over_s": ARRIVE_S})
        self._child = subprocess.Popen(
            [*host.prefix, sys.executable, str(VIEWERS), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def report(self) -> Report:
        """What they have met with until now."""
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        found: Report = json.loads(self._child.stdout.readline())
        return found

    def end(self) -> Report:
        """Stop watching."""
        said, _ = self._child.communicate(timeout=20)
        found: Report = json.loads(said.splitlines()[-1])
        return found

    def close(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()


def make_swarm(lab: NatLab, machines: MakeMachines, count: int = 6, *, demo: bool = False) -> Swarm:
    """Start them all, the first with --demo or not; it invites, the others join; all are linked."""
    homes = [lab.home(RouterKind.PUBLIC) for _ in range(count)]
    for home in homes:
        home.rate(LINE_MBPS)
    made = machines(count)
    (outside,) = lab.public(1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        first, *others = made
        list(pool.map(lambda machine: machine.start(*OPTIONS, *DEMO * (demo and machine is first)), made))
        line = first.invite("--uses", str(count))
        list(pool.map(lambda machine: machine.cli("join", line), others))
    names = {machine.name for machine in made}
    until(
        lambda: all(machine.linked() == names for machine in made),
        "all are linked",
        seen=lambda: who_sees_whom(*made),
    )
    return Swarm(lab, made, homes, outside)


def make_clip(folder: Path) -> Path:
    """H.264 and AAC, a keyframe a second."""
    target = folder / "clip.flv"
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={FPS}")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
    video = (
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        str(FPS),
        "-b:v",
        BITRATE,
    )
    rate = ("-maxrate", BITRATE, "-bufsize", BITRATE, "-pix_fmt", "yuv420p")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *picture, *tone]
    subprocess.run(
        [*command, "-t", str(CLIP_S), *video, *rate, "-c:a", "aac", "-b:a", "48k", str(target)], check=True
    )
    return target


@contextlib.contextmanager
def browser(host: Host, folder: Path) -> Iterator[Browser]:
    """Chromium on that host, while the block runs."""
    glass = glass_meter()
    script = folder / "chromium-there"
    script.write_text(f'#!/bin/sh\nexec {" ".join(host.prefix)} {glass.CHROMIUM} "$@"\n')
    script.chmod(0o755)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=script, args=list(glass.CHROMIUM_ARGUMENTS))
        try:
            yield running
        finally:
            running.close()


def glass_meter() -> Any:
    """The module tests/browser/glass.py."""
    spec = importlib.util.spec_from_file_location("glass", ROOT / "tests" / "browser" / "glass.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
