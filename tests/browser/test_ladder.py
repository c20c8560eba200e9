"""Renditions made on the node, in Chromium: hls.js goes down and up, and past a worker that was killed."""

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]
PATIENCE_S, POLL_S, TRIES = 24.0, 0.1, 3
PARTS_HELD_BACK = 4
SOURCE, HIGHER, LOWER = 288, 240, 144  # small: two busy cores make, encode and show all of it


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, running_node: Any, hls_script: bool) -> Iterator[Any]:
    """A node that makes two renditions of a stream that ffmpeg publishes."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    environment = {
        "FWNODE_TRANSCODE_LADDER": f"{HIGHER}p@200k, {LOWER}p@100k",
        "FWNODE_TRANSCODE_PRESET": "ultrafast",
    }
    node = running_node(tmp_path_factory.mktemp("ladder") / "data", environment=environment)
    url = node.rtmp_url("film") + f"?key={node.new_key()}"
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=512x{SOURCE}:rate=15")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
    video = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-b:v", "500k")
    sender = subprocess.Popen(
        [program, "-v", "error", "-nostdin", "-re", *picture, *tone, *video, "-pix_fmt", "yuv420p",
         "-c:a", "aac", "-f", "flv", url]
    )  # fmt: skip
    yield node
    sender.kill()
    sender.wait()
    node.close()


def shows(viewer: Any, height: int) -> None:
    """Choose a rendition, wait until its pictures are shown, and go on.

    hls.js forgets the choice when it meets a gap, which a busy machine makes: then choose again.
    """
    for tries in range(TRIES, 0, -1):
        viewer.part("quality").select_option(label=f"{height}p")
        try:
            viewer.until(
                "() => document.querySelector('video').videoHeight", height, patience_s=PATIENCE_S / TRIES
            )
            break
        except AssertionError:
            if tries == 1:
                raise
    shown = viewer.stats()["frames"]
    viewer.until(f"() => fwplayer.stats().frames > {shown + 10}")


def worker_of(node: Any) -> int | None:
    """The transcoding worker among the node's children; None while there is none."""
    found = subprocess.run(
        ["pgrep", "-P", str(node.process.pid), "-f", "media.transcode.worker"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(found.stdout.split()[0]) if found.stdout else None


def until_made(node: Any, height: int) -> None:
    """Wait until the newest parts of a rendition, where a player begins, are no gaps."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with urllib.request.urlopen(node.url(f"/live/film/v{height}/index.m3u8")) as answer:
            parts = [line for line in answer.read().splitlines() if line.startswith(b"#EXT-X-PART:")]
        if b"GAP=YES" not in b"".join(parts[-PARTS_HELD_BACK:]):
            return
        assert time.monotonic() < deadline, parts
        time.sleep(POLL_S)


def test_the_viewer_goes_down_and_up_and_past_a_lost_worker(
    open_page: OpenPage, demo: Any, need_hls: None
) -> None:
    viewer = open_page("/watch/film?transport=hls")
    viewer.until_playing("hls")
    viewer.part("quality").locator("option", has_text=f"{LOWER}p").wait_for(state="attached")
    labels = viewer.part("quality").locator("option").all_inner_texts()
    assert [label for label in labels if label.endswith("p")] == [f"{SOURCE}p", f"{HIGHER}p", f"{LOWER}p"]
    for height in (LOWER, SOURCE, HIGHER):
        shows(viewer, height)
    lost = worker_of(demo)
    assert lost is not None
    os.kill(lost, signal.SIGKILL)
    shows(viewer, SOURCE)
    while worker_of(demo) in (lost, None):
        viewer.page.wait_for_timeout(POLL_S * 1000)
    until_made(demo, LOWER)
    shows(viewer, LOWER)
    assert viewer.stats()["failures"] == 0
