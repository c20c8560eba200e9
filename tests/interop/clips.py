"""Small streams, encoded once by ffmpeg, and the commands that publish and decode."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import pytest
from fwbench import flv
from live_node import LiveNode

FFMPEG_5 = shutil.which("ffmpeg") or ""
FFMPEG_9 = imageio_ffmpeg.get_ffmpeg_exe()
FPS = 25
PICTURE = ("-f", "lavfi", "-i", f"testsrc2=size=160x90:rate={FPS}")
TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
H264 = (
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-pix_fmt",
    "yuv420p",
    "-b:v",
    "100k",
)
GROUP = ("-g", str(FPS))
AAC = ("-c:a", "aac", "-b:a", "48k")
LONG_S = 150  # what is published in real time; a module's tests must not take longer
RUN_S = 60.0


def need(program: str) -> str:
    """A program's path; the test is skipped without it."""
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str, timeout_s: float = RUN_S) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def ffmpeg(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    if not program:
        pytest.skip("ffmpeg is not installed")
    return run(program, "-hide_banner", "-nostdin", "-y", *arguments)


def decoded_frames(
    source: str, *options: str, program: str = FFMPEG_9, seconds: float = 0, end_is_cut: bool = False
) -> int:
    """Decode everything, or so many seconds, with -xerror; frames of the picture. Fails at any complaint.

    `end_is_cut`: a file that ends in the middle of a frame, of which ffmpeg may complain.
    """
    limit = ("-t", str(seconds)) if seconds else ()
    told = ("-loglevel", "level+warning", "-stats", "-progress", "pipe:1")
    strict = () if end_is_cut else ("-xerror",)
    done = ffmpeg(program, *told, *strict, *options, "-i", source, *limit, "-f", "null", "-")
    assert done.returncode == 0, done.stderr[-3000:]
    assert end_is_cut or not re.search(r"\[(error|fatal)\]", done.stderr), done.stderr[-3000:]
    found = re.findall(r"^frame=\s*(\d+)", done.stdout, re.MULTILINE)
    return int(found[-1]) if found else 0


class Clips:
    """FLV files by what is in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str, *arguments: str) -> Path:
        """An FLV file made by ffmpeg 9 with these arguments, unless it was made before."""
        path = self._folder / f"{name}.flv"
        if not path.exists():
            done = ffmpeg(FFMPEG_9, "-loglevel", "error", *arguments, "-f", "flv", str(path))
            assert done.returncode == 0, done.stderr
        return path

    def tags(self, name: str, *arguments: str) -> list[flv.Tag]:
        return list(flv.tags(self.path(name, *arguments).read_bytes()))

    @property
    def long(self) -> Path:
        """H.264 and AAC, a keyframe a second, LONG_S seconds."""
        return self.path("long", *PICTURE, *TONE, "-t", str(LONG_S), *H264, *GROUP, *AAC)

    def usual(self, seconds: int = 6) -> list[flv.Tag]:
        """The first seconds of it as FLV tags."""
        last_ms = seconds * 1000
        return [tag for tag in flv.tags(self.long.read_bytes()) if tag.time_ms < last_ms]


@contextmanager
def publishing(
    node: LiveNode, path: Path, name: str, *options: str, stream: str = "", to_the_end: bool = True
) -> Iterator[None]:
    """Publish a file in real time by ffmpeg while the block runs, from when it is live.

    `options` go before the input; `stream` is the stream's name where `name` has a key in it.
    Fails when ffmpeg does not go on `to_the_end` of the block.
    """
    command = [FFMPEG_9, "-nostdin", "-loglevel", "error", "-re", *options, "-i", str(path), "-c", "copy"]
    child = subprocess.Popen([*command, "-f", "flv", node.rtmp_url(name)], stderr=subprocess.PIPE)
    try:
        node.await_stream(stream or name)
        yield
        if to_the_end and child.poll() is not None and child.stderr is not None:
            raise AssertionError(f"the publisher went: {child.stderr.read().decode()}")
    finally:
        child.kill()
        child.communicate()


def seconds_since(then: float) -> float:
    return time.monotonic() - then
