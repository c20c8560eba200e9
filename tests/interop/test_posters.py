"""Posters of a whole node: right size, right picture, and what a lost worker or a damaged keyframe costs."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from clips import FFMPEG_9, Clips, ffmpeg, need, publishing, run
from live_node import Answer, LiveNode, StartNode, until

pytestmark = pytest.mark.interop

FPS = 5
GROUP = ("-g", str(FPS))
LOOP = ("-stream_loop", "-1")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", *GROUP)
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", *GROUP)
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "pred-struct=1", *GROUP)
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", *GROUP)
LIKE_DB = 36.0  # peak signal to noise ratio; measured 42 to 45, two different test pictures have 10
GONE_S = 5.0
FLV_HEADER_BYTES, FLV_TAG_HEADER_BYTES, FLV_AVC = 13, 11, 7
WHOLE_BYTES = 64


@dataclass(frozen=True)
class Sort:
    """One kind of video: how it is encoded, and the size of its poster."""

    size: str
    codec: tuple[str, ...]
    poster: str
    filters: str = "format=yuv420p"


SORTS = {
    "h264": Sort("1280x720", (*H264, "-bf", "2"), "640x360"),
    "h264-wide": Sort("720x576", H264, "640x352", "format=yuv420p,setsar=16/11"),
    "h264-full": Sort(
        "640x360", (*H264, "-color_range", "pc"), "640x360", "scale=out_range=pc,format=yuv420p"
    ),
    "hevc-upright": Sort("1080x1920", HEVC, "640x1138"),
    "hevc-10": Sort("1280x720", HEVC, "640x360", "format=yuv420p10le"),
    "av1": Sort("1920x1080", AV1, "640x360"),
    "vp9-small": Sort("320x180", VP9, "320x180"),
}


def still(clips: Clips, name: str) -> Path:
    """Four seconds of one unmoving picture."""
    sort = SORTS[name]
    picture = (
        f"testsrc2=size={sort.size}:rate={FPS},trim=end_frame=1,loop=-1:1,setpts=N/{FPS}/TB,{sort.filters}"
    )
    return clips.path(f"still-{name}", "-f", "lavfi", "-i", picture, "-t", "4", *sort.codec)


@pytest.fixture(scope="module")
def node(start_for_module: StartNode, clips: Clips) -> Iterator[LiveNode]:
    paths = {name: still(clips, name) for name in SORTS}
    node = start_for_module(ingest__open=True)
    with ExitStack() as publishers:
        for name, path in paths.items():
            publishers.enter_context(publishing(node, path, name, *LOOP))
        yield node


def poster(node: LiveNode, stream: str, **headers: str) -> Answer:
    return node.fetch(f"/live/{stream}/poster.jpg", **headers)


def workers(node: LiveNode) -> list[int]:
    """Process numbers of the node's poster workers."""
    pid = node.process.pid
    children: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text().split()
    return [
        int(child) for child in children if b"poster.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def likeness_db(image: Path, video: Path, sort: Sort) -> float:
    """PSNR of an image and a video's first picture, both as JPEG has it: BT.601, full range."""
    width, height = sort.poster.split("x")
    matrix = "bt709" if int(sort.size.partition("x")[2]) >= 720 else "bt601"  # as players take it unnamed
    scale = f"scale={width}:{height}:flags=area:out_color_matrix=bt601:out_range=pc:in_color_matrix"
    graph = f"[0]{scale}=bt601,format=yuvj420p[a];[1]{scale}={matrix},format=yuvj420p[b];[a][b]psnr"
    inputs = ("-i", str(image), "-i", str(video))
    done = ffmpeg(FFMPEG_9, *inputs, "-filter_complex", graph, "-frames:v", "1", "-f", "null", "-")
    [found] = re.findall(r"PSNR .* average:(\S+)", done.stderr)
    return float(found)


@pytest.mark.parametrize("name", SORTS)
def test_a_poster_looks_like_its_stream(node: LiveNode, clips: Clips, tmp_path: Path, name: str) -> None:
    answer = poster(node, name)
    assert answer.status == 200, answer.text
    image = tmp_path / "poster.jpg"
    image.write_bytes(answer.body)
    fields = "stream=codec_name,width,height,color_range"
    probed = run(need("ffprobe"), "-v", "error", "-show_entries", fields, "-of", "json", str(image))
    assert not probed.stderr
    [stream] = json.loads(probed.stdout)["streams"]
    assert stream["codec_name"] == "mjpeg" and stream["color_range"] == "pc"
    assert f"{stream['width']}x{stream['height']}" == SORTS[name].poster
    assert likeness_db(image, still(clips, name), SORTS[name]) > LIKE_DB


def test_caches_are_told(node: LiveNode) -> None:
    answer = poster(node, "h264")
    assert answer.header("content-type") == "image/jpeg"
    assert answer.header("cache-control") == "public, max-age=10"
    assert answer.header("access-control-allow-origin") == "*"
    again = poster(node, "h264", if_none_match=answer.header("etag"))
    assert again.status in (200, 304)  # 200: it has been made anew since
    head = node.fetch("/live/h264/poster.jpg", method="HEAD")
    assert head.status == 200 and not head.body and int(head.header("content-length")) > 1000


def test_one_worker_at_low_priority_serves_all(node: LiveNode) -> None:
    assert [poster(node, name).status for name in SORTS] == [200] * len(SORTS)
    [worker] = workers(node)
    assert os.getpriority(os.PRIO_PROCESS, worker) >= 10
    assert len(list(Path(f"/proc/{worker}/task").iterdir())) == 1


def test_no_stream_and_no_picture_are_404(node: LiveNode, clips: Clips) -> None:
    assert poster(node, "nobody").status == 404
    assert node.fetch("/live/h264/poster.png").status == 404
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "4", "-c:a", "aac")
    with publishing(node, clips.path("tone", *tone), "radio", *LOOP):
        answer = poster(node, "radio")
        assert (answer.status, answer.text) == (404, "this stream has no picture\n")
        assert answer.header("content-type").startswith("text/plain")


def test_a_worker_that_is_killed_costs_one_request(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True)
    with ExitStack() as publishers:
        for name in ("one", "two", "three"):
            publishers.enter_context(publishing(node, still(clips, "h264"), name, *LOOP))
        assert poster(node, "one").status == 200
        [worker] = workers(node)
        os.kill(worker, signal.SIGSTOP)  # so that it is in the middle of its work when it is killed
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(poster(node, "two")))
        asking.start()
        until(lambda: "fwnode_poster_requests 1.0" in metrics(node), "a request that waits")
        os.kill(worker, signal.SIGKILL)
        asking.join()
        assert answers[0].status == 503 and answers[0].header("retry-after") == "10"
        assert poster(node, "one").status == 200, "it is kept"
        assert poster(node, "three").status == 200, "another worker makes it"
        assert "fwnode_poster_workers_lost_total 1.0" in metrics(node)
        [another] = workers(node)
        assert another != worker
        os.kill(another, signal.SIGKILL)  # idle: nobody notices


def metrics(node: LiveNode) -> str:
    return node.fetch("/metrics", listener="admin").text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_worker_ends_with_the_node(start: StartNode, clips: Clips, number: int) -> None:
    node = start(ingest__open=True)
    with publishing(node, still(clips, "h264"), "cam", *LOOP, to_the_end=False):
        assert poster(node, "cam").status == 200
        [worker] = workers(node)
        node.stop(number)
        until(lambda: not is_running(worker), "the end of the worker", GONE_S)


def is_running(pid: int) -> bool:
    """A process that ended and was not asked for its exit code is not running."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return not re.search(r"^State:\s+[ZX]", status, re.MULTILINE)


@pytest.mark.parametrize("name", ["h264", "hevc-10", "vp9-small"])
def test_a_damaged_keyframe_harms_nobody(node: LiveNode, clips: Clips, tmp_path: Path, name: str) -> None:
    """A picture with holes, as a player shows it, or none; other streams have theirs."""
    assert poster(node, "av1").status == 200
    [worker] = workers(node)
    torn = tmp_path / "torn.flv"
    torn.write_bytes(damaged(still(clips, name).read_bytes()))
    stream = f"torn-{name}"
    with publishing(node, torn, stream, *LOOP):
        answer = poster(node, stream)
        assert answer.status in (200, 503), answer.text
        assert poster(node, "h264-wide").status == 200
    assert workers(node) == [worker], "it went on"


def damaged(data: bytes) -> bytes:
    """An FLV file with every frame damaged behind its first bytes, which have the heads of its units."""
    torn = bytearray(data)
    at = FLV_HEADER_BYTES
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        body = at + FLV_TAG_HEADER_BYTES
        if size > WHOLE_BYTES and not is_config(data[body], data[body + 1]):
            torn[body + WHOLE_BYTES : body + size : 7] = b"\x55" * len(range(WHOLE_BYTES, size, 7))
        at = body + size + 4
    assert torn != data
    return bytes(torn)


def is_config(first: int, second: int) -> bool:
    """A sequence header, or not video data at all (FLV E.4.3; Enhanced RTMP: packet type 0)."""
    if first & 0x80:
        return first & 0x0F in (0, 4)  # 4: metadata
    return first & 0x0F != FLV_AVC or second == 0
