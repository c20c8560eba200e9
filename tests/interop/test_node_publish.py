"""Real encoders publish to a whole node with its key; what it packages is read by programs of others."""

import json
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import m3u8
import pytest
from clips import AAC, FFMPEG_5, FFMPEG_9, FPS, GROUP, H264, PICTURE, TONE, decoded_frames, ffmpeg, need, run
from live_node import LiveNode, StartNode

pytestmark = pytest.mark.interop

SECONDS = 4
FRAMES = SECONDS * FPS
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:open-gop=0", *GROUP)
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "pred-struct=1", *GROUP)
OPUS = ("-c:a", "libopus")


@dataclass(frozen=True)
class Encoder:
    program: str
    codecs: tuple[str, ...]  # empty for GStreamer
    picture: str  # RFC 6381, as it begins
    sound: str


ENCODERS = {
    "ffmpeg5-h264-aac": Encoder(FFMPEG_5, (*H264, *GROUP, *AAC), "avc1.42c0", "mp4a.40.2"),
    "ffmpeg9-h264-aac": Encoder(FFMPEG_9, (*H264, *GROUP, *AAC), "avc1.42c0", "mp4a.40.2"),
    "ffmpeg9-hevc-aac": Encoder(FFMPEG_9, (*HEVC, *AAC), "hvc1.1.6.", "mp4a.40.2"),
    "ffmpeg9-av1-opus": Encoder(FFMPEG_9, (*AV1, *OPUS), "av01.0.", "opus"),
    "gstreamer-h264-aac": Encoder("gst-launch-1.0", (), "avc1.42c0", "mp4a.40.2"),
}


@pytest.fixture(scope="module")
def node(start_for_module: StartNode) -> LiveNode:
    """Streams end with their publisher, so that a player of HLS comes to an end, too."""
    return start_for_module(hls__segment_s=1, ingest__linger_s=0)


@pytest.fixture(scope="module")
def key(node: LiveNode) -> str:
    return node.new_key()


@dataclass(frozen=True)
class Published:
    """A stream that has ended: its media playlist and every object that this names."""

    encoder: Encoder
    stream: str
    playlist: m3u8.M3U8
    folder: str
    init: bytes
    segments: list[bytes]


@pytest.fixture(scope="module", params=ENCODERS)
def published(node: LiveNode, key: str, request: pytest.FixtureRequest) -> Published:
    """Published by one encoder with a key, then fetched; all tests on it must come within 20 s."""
    encoder, stream = ENCODERS[request.param], request.param
    url = node.rtmp_url(f"{stream}?key={key}")
    if encoder.codecs:
        sent = ffmpeg(encoder.program, *PICTURE, *TONE, "-t", str(SECONDS), *encoder.codecs, "-f", "flv", url)
    else:
        sent = run(need(encoder.program), "-e", *gstreamer(url))
    assert sent.returncode == 0, sent.stderr[-2000:]
    assert not node.await_stream(stream, "ended")["findings"], "a stream that has ended is not stalled"
    folder = f"/live/{stream}/v1/"
    playlist = m3u8.loads(node.fetch(folder + "index.m3u8").text)
    init = node.fetch(folder + playlist.segment_map[0].uri)
    segments = [node.fetch(folder + segment.uri) for segment in playlist.segments]
    assert {answer.status for answer in [init, *segments]} == {200}
    return Published(encoder, stream, playlist, folder, init.body, [segment.body for segment in segments])


def gstreamer(url: str) -> list[str]:
    """The pipeline that publishes as the ffmpeg commands do."""
    if run("gst-inspect-1.0", "rtmp2sink").returncode or run("gst-inspect-1.0", "x264enc").returncode:
        pytest.skip("GStreamer has no rtmp2sink or x264enc")
    return (
        f"flvmux name=mux streamable=true ! rtmp2sink sync=false location={url} "
        f"videotestsrc num-buffers={FRAMES} ! video/x-raw,width=160,height=90,framerate={FPS}/1,format=I420 "
        f"! x264enc speed-preset=ultrafast tune=zerolatency key-int-max={FPS} ! h264parse ! mux. "
        f"audiotestsrc num-buffers={SECONDS * 48_000 // 1024 + 1} samplesperbuffer=1024 "
        "! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! mux."
    ).split()


def test_the_playlists_tell_what_was_sent(node: LiveNode, published: Published) -> None:
    variants = m3u8.loads(node.fetch(f"/live/{published.stream}/index.m3u8").text)
    [variant] = variants.playlists
    codecs = variant.stream_info.codecs.split(",")
    assert codecs[0].startswith(published.encoder.picture) and codecs[1:] == [published.encoder.sound]
    assert variant.stream_info.resolution == (160, 90)
    total_s = sum(segment.duration for segment in published.playlist.segments)
    assert abs(total_s - SECONDS) < 0.1
    assert published.playlist.is_endlist


def test_segments_are_their_parts(node: LiveNode, published: Published) -> None:
    parts = 0
    for segment, whole in zip(published.playlist.segments, published.segments, strict=True):
        pieces = [node.fetch(published.folder + part.uri).body for part in segment.parts]
        assert not pieces or b"".join(pieces) == whole
        parts += len(pieces)
    assert parts


def test_ffmpeg_decodes_all_of_the_hls(node: LiveNode, published: Published) -> None:
    assert decoded_frames(node.url(f"/live/{published.stream}/index.m3u8")) == FRAMES


def test_ffmpeg_5_counts_frames_in_the_segments(published: Published, tmp_path: Path) -> None:
    file = whole_file(published, tmp_path)
    shown = (
        "-v",
        "error",
        "-count_frames",
        "-show_entries",
        "stream=codec_type,nb_read_frames",
        "-of",
        "json",
    )
    probed = run(need("ffprobe"), *shown, str(file))
    assert not probed.stderr, probed.stderr
    streams = json.loads(probed.stdout)["streams"]
    counts = {stream["codec_type"]: int(stream["nb_read_frames"]) for stream in streams}
    assert counts["video"] == FRAMES
    per_second = 50 if published.encoder.sound == "opus" else 48_000 / 1024
    assert abs(counts["audio"] - SECONDS * per_second) <= 4


def test_shaka_packager_takes_the_segments(published: Published, tmp_path: Path) -> None:
    packager, file = shaka_packager(), whole_file(published, tmp_path)
    out = {kind: tmp_path / f"{kind}.mp4" for kind in ("video", "audio")}
    streams = [f"in={file},stream={kind},output={path}" for kind, path in out.items()]
    packed = run(packager, "--quiet", *streams)
    assert packed.returncode == 0, packed.stderr[-2000:]
    assert decoded_frames(str(out["video"])) == FRAMES
    decoded_frames(str(out["audio"]))


def whole_file(published: Published, folder: Path) -> Path:
    """Init and segments as one file."""
    file = folder / "whole.mp4"
    file.write_bytes(b"".join([published.init, *published.segments]))
    return file


def shaka_packager() -> str:
    """Upstream's name on the path, else the binary inside the npm package."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "")
    packaged = Path(__file__).parent / "node/node_modules/shaka-packager/bin" / f"packager-linux-{machine}"
    found = shutil.which("packager") or (str(packaged) if packaged.exists() else "")
    if not found:
        pytest.skip("no shaka-packager: run `npm ci --prefix tests/interop/node`")
    return found


def test_the_key_of_the_first_start_publishes_as_obs_gives_it(node: LiveNode) -> None:
    found = re.search(r"Stream Key +(sk_\w+)", node.stdout)
    assert found is not None
    sent = ffmpeg(
        FFMPEG_5, *PICTURE, *TONE, "-t", "2", *H264, *GROUP, *AAC, "-f", "flv", node.rtmp_url(found[1])
    )
    assert sent.returncode == 0, sent.stderr[-2000:]
    assert node.await_stream("live", "ended")["packets"] > 2 * FPS


@pytest.mark.parametrize(
    ("program", "name", "says"),
    [
        (FFMPEG_5, "anything", "publishing needs a stream key"),
        (FFMPEG_9, "anything?key=sk_wrong", "this stream key is not valid here, or was revoked"),
    ],
    ids=["ffmpeg5-none", "ffmpeg9-wrong"],
)
def test_publishing_without_a_valid_key_is_refused_in_words(
    node: LiveNode, program: str, name: str, says: str
) -> None:
    before = node.status()["publishers_refused"]
    sent = ffmpeg(program, *PICTURE, "-t", "1", *H264, "-f", "flv", node.rtmp_url(name))
    assert sent.returncode != 0
    assert says in sent.stderr, sent.stderr[-2000:]
    assert node.status()["publishers_refused"] == before + 1
    assert node.stream("anything") is None
    node.await_log("publisher refused", reason=says, peer="127.0.0.1:")


def test_a_key_for_one_stream_publishes_no_other(node: LiveNode) -> None:
    name = f"other?key={node.new_key('mine')}"
    sent = ffmpeg(FFMPEG_9, *PICTURE, "-t", "1", *H264, "-f", "flv", node.rtmp_url(name))
    assert sent.returncode != 0
    assert "this stream key is for mine, not for other" in sent.stderr, sent.stderr[-2000:]
