"""RTMP against programs that we did not write, over real sockets and the real reactor."""

import itertools
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import imageio_ffmpeg
import pytest
import trio

from media.bitstream.duration import frame_duration
from media.container import flv
from media.container.feed import Feeds, FeedSettings
from media.errors import Refused
from media.ingest.gate import PlayRequest, PublishRequest
from media.ingest.rtmp.model import RtmpSettings, RtmpStatistics
from media.ingest.rtmp.publisher import RtmpPublisher
from media.ingest.rtmp.sessions import RtmpSessions
from media.net.reactor import Reactor
from media.net.transport import Transport
from media.track.model import Codec, Kind, Packet
from media.track.registry import RegistrySettings, Streams
from media.track.ring import Cursor
from media.track.stream import Source, Stream, StreamSettings, Writer

pytestmark = pytest.mark.interop

OLD = shutil.which("ffmpeg") or ""
NEW = imageio_ffmpeg.get_ffmpeg_exe()
SECONDS = 2
FPS = 30
PICTURE = ["-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={FPS}"]
TONE = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-g", "30"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12", "-g", "30"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv420p"]


class Node:
    """RTMP listener with an open gate; streams are kept for inspection after their publishers went."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.requests: list[PublishRequest] = []
        self.statistics: list[RtmpStatistics] = []
        self.refuse = ""
        self.reactor = Reactor(lambda kind, error, peer: self.faults.append(f"{kind}: {error!r}"))
        self.streams = Streams(
            RegistrySettings(stream=StreamSettings(window_us=60_000_000), linger_s=0.3),
            call_at=self.reactor.call_at,
            measure=frame_duration,
        )
        settings = RtmpSettings(wait_s=3.0)
        self.sessions = RtmpSessions(
            self, settings, Random(1), self.streams.wait_for, Feeds(FeedSettings(), self.reactor.call_at)
        )
        self.kept: dict[str, Stream] = {}
        self.port = ""
        self._started = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        assert self._started.wait(10)

    async def _main(self) -> None:
        self._stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.reactor.run(task_status=task_status))
            listener = self.reactor.listen("127.0.0.1:0", self.sessions, limit=50, name="rtmp")
            self.port = listener.address.rpartition(":")[2]
            self._token = trio.lowlevel.current_trio_token()
            self._started.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def call(self, function: Callable[[], object]) -> None:
        """Run on the reactor's thread, soon."""
        assert self._token is not None
        self._token.run_sync_soon(function)

    def close(self) -> None:
        self.call(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def url(self, name: str) -> str:
        return f"rtmp://127.0.0.1:{self.port}/live/{name}"

    # Gate

    def publish(self, request: PublishRequest, on_stop: Callable[[str], None], now: float) -> Writer:
        self.requests.append(request)
        if self.refuse:
            raise Refused(self.refuse)
        source = Source("rtmp", f"{request.peer_host}:{request.peer_port}", request.agent)
        writer = self.streams.open(request.stream, source, now, 1_700_000_000_000_000, on_stop)
        self.kept[request.stream] = writer.stream
        return writer

    def play(self, request: PlayRequest, now: float) -> Stream | None:
        return self.streams.get(request.stream)

    # For the tests

    def packets(self, name: str) -> list[Packet]:
        """All that a publisher has sent; waits until the node has taken its last byte."""
        deadline = time.monotonic() + 10
        while len(self.sessions):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ring = self.kept[name].ring
        return ring.slice(ring.first, ring.next)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()
    assert node.faults == []
    assert len(node.sessions) == 0


def need(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def ffmpeg(program: str, *arguments: str) -> str:
    if not program:
        pytest.skip("ffmpeg is not installed")
    done = run(program, "-hide_banner", "-nostdin", "-loglevel", "info", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def publish(program: str, node: Node, name: str, *codecs: str, inputs: list[str] | None = None) -> None:
    sources = PICTURE + TONE if inputs is None else inputs
    ffmpeg(program, *sources, "-t", str(SECONDS), *codecs, "-f", "flv", node.url(name))


def check(node: Node, name: str, expected: dict[Codec, int]) -> None:
    """The tracks are exactly these, each with about so many packets, and times make sense."""
    packets = node.packets(name)
    counts = Counter(packet.track.codec for packet in packets)
    assert set(counts) == set(expected)
    for codec, count in expected.items():
        assert abs(counts[codec] - count) <= max(3, count // 50), counts
    assert {packet.discontinuity for packet in packets} == {0}
    assert packets[0].keyframe
    for codec in expected:
        dts = [packet.dts_us for packet in packets if packet.track.codec is codec]
        assert dts == sorted(dts)
        assert abs(dts[-1] - dts[0] - SECONDS * 1_000_000) < 150_000
    for track in node.kept[name].tracks.values():
        if track.kind is Kind.VIDEO:
            assert (track.width, track.height) == (320, 180)
        else:
            assert track.sample_rate in (44_100, 48_000)


def video_frames() -> int:
    return SECONDS * FPS


def audio_frames(samples: int, rate: int = 48_000) -> int:
    return SECONDS * rate // samples


@pytest.mark.parametrize("program", [OLD, NEW], ids=["ffmpeg5", "ffmpeg9"])
def test_ffmpeg_publishes_h264_and_aac(node: Node, program: str) -> None:
    publish(program, node, "one", *H264, "-c:a", "aac")
    check(node, "one", {Codec.H264: video_frames(), Codec.AAC: audio_frames(1024)})
    assert node.requests[0].stream == "one"


def test_ffmpeg_publishes_with_a_key_in_the_query(node: Node) -> None:
    publish(NEW, node, "one?key=secret", *H264, "-an", inputs=PICTURE)
    assert (node.requests[0].stream, node.requests[0].key) == ("one", "secret")
    check(node, "one", {Codec.H264: video_frames()})


def test_ffmpeg_publishes_sound_only(node: Node) -> None:
    publish(NEW, node, "radio", "-vn", "-c:a", "aac", inputs=TONE)
    check(node, "radio", {Codec.AAC: audio_frames(1024)})


def test_ffmpeg_publishes_with_reordering(node: Node) -> None:
    publish(NEW, node, "one", *H264[:2], "-preset", "medium", "-bf", "2", "-g", "30", "-an", inputs=PICTURE)
    check(node, "one", {Codec.H264: video_frames()})
    pts = sorted(packet.pts for packet in node.packets("one"))
    gaps = {after - before for before, after in itertools.pairwise(pts)}
    assert gaps <= {2970, 3060, 2880, 3000}  # 33 or 34 ms at 90 kHz


@pytest.mark.parametrize(
    ("codecs", "expected"),
    [
        ([*HEVC, "-c:a", "aac"], {Codec.HEVC: 60, Codec.AAC: 94}),
        ([*AV1, "-c:a", "libopus"], {Codec.AV1: 60, Codec.OPUS: 100}),
        ([*VP9, "-c:a", "flac"], {Codec.VP9: 60, Codec.FLAC: 94}),
        ([*H264, "-c:a", "ac3"], {Codec.H264: 60, Codec.AC3: 63}),
        ([*H264, "-c:a", "eac3"], {Codec.H264: 60, Codec.EAC3: 63}),
    ],
    ids=["hevc-aac", "av1-opus", "vp9-flac", "h264-ac3", "h264-eac3"],
)
def test_ffmpeg_9_publishes_enhanced(node: Node, codecs: list[str], expected: dict[Codec, int]) -> None:
    publish(NEW, node, "one", *codecs, "-pix_fmt", "yuv420p")
    check(node, "one", expected)


def test_ffmpeg_9_publishes_two_pictures(node: Node) -> None:
    publish(NEW, node, "one", "-map", "0:v", "-map", "0:v", "-map", "1:a", *H264, "-c:a", "aac")
    counts = Counter(packet.track.id for packet in node.packets("one"))
    assert list(node.kept["one"].tracks) == [1, 3, 2]
    assert counts[1] == counts[3] == video_frames()


def test_ffmpeg_is_told_why_it_is_refused(node: Node) -> None:
    node.refuse = "this key is not known: make one with fwnode key new"
    for program in (OLD, NEW):
        done = run(program, "-nostdin", *PICTURE, "-t", "1", *H264, "-f", "flv", node.url("one"))
        assert done.returncode != 0
        assert node.refuse in done.stderr


def test_a_codec_that_is_not_carried_is_refused_with_the_fix(node: Node) -> None:
    mp3 = ["-c:a", "libmp3lame", "-ar", "44100"]
    done = run(NEW, "-nostdin", "-re", *PICTURE, *TONE, "-t", "5", *H264, *mp3, "-f", "flv", node.url("one"))
    assert done.returncode != 0
    assert "MP3 sound over RTMP is not carried here: set the encoder's audio codec to AAC" in done.stderr


@pytest.mark.parametrize("sink", ["rtmp2sink", "rtmpsink"])
def test_gstreamer_publishes(node: Node, sink: str) -> None:
    launch = need("gst-launch-1.0")
    if run("gst-inspect-1.0", sink).returncode or run("gst-inspect-1.0", "x264enc").returncode:
        pytest.skip(f"GStreamer has no {sink} or x264enc")
    pipeline = (
        f"flvmux name=mux streamable=true ! {sink} location={node.url('gst')} "
        f"videotestsrc num-buffers={SECONDS * FPS} ! video/x-raw,width=320,height=180,framerate={FPS}/1 "
        "! x264enc speed-preset=ultrafast tune=zerolatency key-int-max=30 ! h264parse ! mux. "
        f"audiotestsrc num-buffers={audio_frames(1024)} samplesperbuffer=1024 "
        "! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! mux."
    )
    done = run(launch, "-e", *pipeline.split())
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    check(node, "gst", {Codec.H264: video_frames(), Codec.AAC: audio_frames(1024)})


@pytest.mark.parametrize(
    ("codecs", "readers"),
    [
        ([*H264, "-c:a", "aac"], [OLD, NEW]),
        ([*HEVC, "-c:a", "libopus"], [NEW]),
        ([*VP9, "-c:a", "flac"], [NEW]),
    ],
    ids=["legacy", "hevc-opus", "vp9-flac"],
)
def test_flv_files_are_read(node: Node, tmp_path: Path, codecs: list[str], readers: list[str]) -> None:
    publish(NEW, node, "one", *codecs, "-pix_fmt", "yuv420p")
    packets = node.packets("one")
    file = tmp_path / "out.flv"
    tracks = list(node.kept["one"].tracks.values())
    file.write_bytes(flv.file_header(tracks) + b"".join(flv.file_tag(packet) for packet in packets))
    for reader in readers:
        log = ffmpeg(reader, "-xerror", "-err_detect", "explode", "-i", str(file), "-f", "null", "-")
        assert decoded_frames(log) == sum(packet.track.kind is Kind.VIDEO for packet in packets)


class Publishing:
    """A publisher in real time in the background; ends by itself."""

    def __init__(self, node: Node, name: str, *codecs: str, program: str = NEW) -> None:
        self._child = subprocess.Popen(
            [program, "-loglevel", "error", "-nostdin", "-re", *PICTURE, "-re", *TONE, "-t", str(SECONDS + 1),
             *codecs, "-f", "flv", node.url(name)],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while name not in node.kept or not node.kept[name].ring.next:
            assert time.monotonic() < deadline
            assert self._child.poll() is None
            time.sleep(0.02)

    def __enter__(self) -> "Publishing":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()


def decoded_frames(log: str) -> int:
    return int(re.findall(r"frame=\s*(\d+)", log)[-1])


@pytest.mark.parametrize("program", [OLD, NEW], ids=["ffmpeg5", "ffmpeg9"])
def test_ffmpeg_plays_h264_and_aac(node: Node, program: str) -> None:
    with Publishing(node, "one", *H264, "-c:a", "aac"):
        log = ffmpeg(program, "-i", node.url("one"), "-f", "null", "-")
    assert decoded_frames(log) > video_frames()
    assert "Audio: aac" in log
    assert not re.search("error|invalid|corrupt", log, re.IGNORECASE), log


@pytest.mark.parametrize(
    ("codecs", "names"),
    [
        ([*HEVC, "-c:a", "flac"], ["Video: hevc", "Audio: flac"]),
        ([*AV1, "-c:a", "libopus"], ["Video: av1", "Audio: opus"]),
        ([*VP9, "-c:a", "ac3"], ["Video: vp9", "Audio: ac3"]),
    ],
    ids=["hevc-flac", "av1-opus", "vp9-ac3"],
)
def test_ffmpeg_9_plays_enhanced(node: Node, codecs: list[str], names: list[str]) -> None:
    with Publishing(node, "one", *codecs, "-pix_fmt", "yuv420p"):
        log = ffmpeg(NEW, "-i", node.url("one"), "-t", "1", "-f", "null", "-")
    assert all(name in log for name in names), log
    assert decoded_frames(log) >= FPS // 2


def test_a_player_that_comes_first_waits_for_the_stream(node: Node) -> None:
    player = subprocess.Popen(
        [NEW, "-nostdin", "-i", node.url("one"), "-t", "1", "-f", "null", "-"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any(session.role == "wait" for session in node.sessions):
        time.sleep(0.02)
    with Publishing(node, "one", *H264, "-c:a", "aac"):
        _, log = player.communicate(timeout=30)
    assert player.returncode == 0, log
    assert decoded_frames(log) >= FPS - 1


def test_a_player_is_told_that_there_is_no_stream(node: Node) -> None:
    done = run(NEW, "-nostdin", "-i", node.url("nothing"), "-f", "null", "-")
    assert done.returncode != 0
    assert "there is no stream 'nothing' here" in done.stderr


def test_rtmpdump_plays(node: Node, tmp_path: Path) -> None:
    rtmpdump = need("rtmpdump")
    file = tmp_path / "out.flv"
    with Publishing(node, "one", *H264, "-c:a", "aac"):
        done = run(rtmpdump, "--live", "-r", node.url("one"), "-o", str(file), "--stop", "1")
    assert done.returncode in (0, 2), done.stderr[-2000:]
    log = ffmpeg(NEW, "-i", str(file), "-f", "null", "-")
    assert decoded_frames(log) >= FPS - 2


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
load_module {module};
events {{}}
rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; wait_key on; }} }} }}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """nginx with its RTMP module on a port of loopback."""
    program, module = need("nginx"), Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
    if not module.exists():
        pytest.skip("nginx has no RTMP module")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, module=module, port=port))
    child = subprocess.Popen([program, "-c", str(config), "-e", str(tmp_path / "error.log")])
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    yield port
    child.terminate()
    child.wait(10)


def restream(node: Node, name: str, port: int) -> list[str]:
    """Publish a stream of the node to another server; the list is filled with why that ended."""
    ended: list[str] = []

    def start(transport: Transport, now: float) -> RtmpPublisher:
        stream = node.kept[name]
        cursor = Cursor(stream.ring)

        def news(now: float) -> None:
            if publisher.ready:
                publisher.write(cursor.read(1000))

        def ready(now: float) -> None:
            publisher.describe(list(stream.tracks.values()))
            news(now)

        stream.subscribe(news)
        publisher = RtmpPublisher(
            transport, now, tc_url=f"rtmp://127.0.0.1:{port}/live", app="live", stream="again",
            random=Random(2), on_ready=ready, on_ended=ended.append,
        )  # fmt: skip
        return publisher

    node.call(lambda: node.reactor.adopt(socket.create_connection(("127.0.0.1", port)), start))
    return ended


def test_a_stream_is_published_to_nginx(node: Node, nginx: int) -> None:
    with Publishing(node, "one", *H264, "-c:a", "aac"):
        ended = restream(node, "one", nginx)
        log = ffmpeg(NEW, "-i", f"rtmp://127.0.0.1:{nginx}/live/again", "-t", "1", "-f", "null", "-")
    assert decoded_frames(log) >= FPS // 2  # a second that begins with sound
    assert "Audio: aac" in log
    assert ended == []
