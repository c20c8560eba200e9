"""What ffmpeg publishes by key, seen in Chromium: each codec plays, or is named as one that cannot."""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import imageio_ffmpeg
import pytest

OpenPage = Callable[..., Any]
SOURCE = (
    *("-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"),
    *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
HEVC_QUIET = ("-x265-params", "log-level=none:keyint=25:min-keyint=25")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p", "-svtav1-params", "lp=1")
AAC, OPUS = ("-c:a", "aac"), ("-c:a", "libopus")


@pytest.fixture
def publish(demo: Any) -> Iterator[Callable[..., None]]:
    """`publish("name", *ffmpeg's codec options)` until the test ends."""
    running: list[subprocess.Popen[bytes]] = []

    def publish_(name: str, *codecs: str) -> None:
        target = demo.rtmp_url(f"{name}?key={demo.new_key(name)}")
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *SOURCE, *codecs]
        running.append(subprocess.Popen([*command, "-g", "25", "-t", "60", "-f", "flv", target]))

    yield publish_
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "name, codecs",
    [("h264-aac", (*H264, *AAC)), ("av1-opus", (*AV1, *OPUS))],
    ids=["H.264 and AAC", "AV1 and Opus"],
)
@pytest.mark.parametrize("transport", ["websocket", "hls"])
def test_what_is_published_is_seen(
    publish: Callable[..., None],
    open_page: OpenPage,
    need_hls: None,
    name: str,
    codecs: tuple[str, ...],
    transport: str,
) -> None:
    publish(name, *codecs)
    watcher = open_page(f"/watch/{name}?transport={transport}")
    watcher.until_playing(transport)
    assert watcher.page.evaluate("() => document.querySelector('video').videoWidth") == 320


def test_hevc_is_named_as_what_this_browser_cannot_play(
    publish: Callable[..., None], open_page: OpenPage
) -> None:
    publish("hevc-aac", *HEVC, *HEVC_QUIET, *AAC)
    watcher = open_page("/watch/hevc-aac")
    watcher.until("() => window.fwplayer?.state", "unsupported")
    assert "cannot play HEVC" in watcher.page.inner_text("body")
