"""MP4 and TS that we make of real encoders' packets, read by FFmpeg 5, FFmpeg 9 and Shaka Packager."""

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
import imageio_ffmpeg
import msgspec
import pytest

from media.bitstream import ac3, flac, opus, vp9
from media.bitstream.describe import describe
from media.bitstream.duration import frame_duration
from media.bitstream.inspect import inspect_video
from media.container.fmp4 import fragment, init_segment
from media.container.mpegts import LEAD_TICKS, TIMESCALE, TsMuxer
from media.track.model import Codec, Kind, Packet, Track

pytestmark = pytest.mark.interop

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=2")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:duration=2:sample_rate=48000")
ENCODERS = {
    "h264": (*PICTURE, "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30"),
    "h264-open": (*PICTURE, "-c:v", "libx264", "-preset", "veryfast", "-x264-params", "open-gop=1:keyint=20"),
    "h264-baseline": (*PICTURE, "-c:v", "libx264", "-profile:v", "baseline", "-vf", "setsar=4/3", "-g", "30"),
    "hevc": (*PICTURE, "-c:v", "libx265", "-x265-params", "log-level=none", "-g", "30", "-tag:v", "hvc1"),
    "hevc10": (
        *PICTURE, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1", "-x265-params",
        "log-level=none:open-gop=0:keyint=30:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
    ),
    "av1": (*PICTURE, "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "30"),
    "vp9": (*PICTURE, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30"),
    "aac": (*SOUND, "-c:a", "aac", "-ac", "2"),
    "opus": (*SOUND, "-c:a", "libopus", "-b:a", "96k"),
    "flac": (*SOUND, "-c:a", "flac"),
    "ac3": (*SOUND, "-c:a", "ac3", "-ac", "6"),
    "eac3": (*SOUND, "-c:a", "eac3", "-ac", "2"),
}  # fmt: skip
PICTURES = [name for name, options in ENCODERS.items() if PICTURE[-1] in options]
SOUNDS = [name for name in ENCODERS if name not in PICTURES]
OPEN_GOP = ("h264-open", "hevc")  # x265 opens its groups unless told otherwise
MUXED = [("h264", "aac"), ("hevc", "eac3"), ("av1", "opus"), ("vp9", "flac"), ("hevc10", "ac3")]
IN_TS = [("h264", "aac"), ("hevc", "eac3"), ("h264-open", "opus"), ("hevc10", "ac3"), ("aac",), ("opus",)]


@dataclass(frozen=True)
class Clip:
    path: Path  # what the encoder's muxer wrote
    track: Track
    packets: list[Packet]


@dataclass(frozen=True)
class Read:
    """A packet as a foreign demuxer gives it, in its track's timescale."""

    stream: int
    pts: int
    dts: int
    size: int
    keyframe: bool


@dataclass(frozen=True)
class Stream:
    """What a foreign demuxer says of a stream."""

    tag: str
    colour: tuple[str, str]
    pixel_aspect: str
    language: str


ClipSource = Callable[[str], Clip]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    """Encodes a clip at its first use."""
    folder, made = tmp_path_factory.mktemp("clips"), dict[str, Clip]()

    def get(name: str) -> Clip:
        if name not in made:
            path = folder / f"{name}.mp4"
            run(FFMPEG, "-v", "error", *ENCODERS[name], path)
            made[name] = demux(path, codec_of(name))
        return made[name]

    return get


def codec_of(name: str) -> Codec:
    return Codec(name.partition("-")[0].replace("hevc10", "hevc"))


def run(*command: object) -> str:
    """A program's standard output; it must succeed and complain of nothing."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert not done.returncode and not done.stderr, done.stderr or done
    return done.stdout


def demux(path: Path, codec: Codec) -> Clip:
    with av.open(str(path)) as container:
        stream = container.streams[0]
        raw = [packet for packet in container.demux(stream) if packet.size]
        extradata = stream.codec_context.extradata or b""
        assert stream.time_base is not None
        timescale = stream.time_base.denominator
    datas = [bytes(packet) for packet in raw]
    config = configuration(codec, extradata, datas[0])
    described = describe(codec, config)
    width, height = described.width, described.height
    if codec is Codec.VP9:
        width, height = vp9.frame_size_untrusted(datas[0]) or (0, 0)
    track = Track(
        1, codec, timescale, config, width=width, height=height,
        sample_rate=described.sample_rate, channels=described.channels, language="eng",
    )  # fmt: skip
    origin = raw[0].dts or 0
    packets = []
    for packet, data in zip(raw, datas, strict=True):
        assert packet.pts is not None and packet.dts is not None
        times = (packet.dts - origin, packet.pts - packet.dts, packet.duration or 1)
        packets.append(Packet(track, *times, packet.is_keyframe, data, 0, 0, 0, 0))
    return Clip(path, track, packets)


def configuration(codec: Codec, extradata: bytes, first: bytes) -> bytes:
    """Track.config from what FFmpeg calls extradata."""
    if codec is Codec.VP9:
        return vp9.vpcc_from_keyframe_untrusted(first)
    if codec is Codec.OPUS:
        return opus.config_from_head_untrusted(extradata)
    if codec is Codec.FLAC:
        return flac.config_from_streaminfo_untrusted(extradata)
    if codec in (Codec.AC3, Codec.EAC3):
        return ac3.config_from_syncframe_untrusted(first)
    return extradata


def muxed(*clips: Clip) -> list[Clip]:
    """The clips with track ids 1, 2, ..."""
    numbered = []
    for number, clip in enumerate(clips, 1):
        track = msgspec.structs.replace(clip.track, id=number)
        packets = [msgspec.structs.replace(packet, track=track) for packet in clip.packets]
        numbered.append(replace(clip, track=track, packets=packets))
    return numbered


def interleaved(clips: Sequence[Clip]) -> list[Packet]:
    return sorted((packet for clip in clips for packet in clip.packets), key=lambda packet: packet.dts_us)


def mp4(clips: Sequence[Clip], packets_per_fragment: int) -> bytes:
    tracks, packets = [clip.track for clip in clips], interleaved(clips)
    pieces = [init_segment(tracks)]
    for sequence, at in enumerate(range(0, len(packets), packets_per_fragment), 1):
        pieces += fragment(tracks, packets[at : at + packets_per_fragment], sequence)
    return b"".join(pieces)


def ts(clips: Sequence[Clip]) -> bytes:
    muxer, leading = TsMuxer([clip.track for clip in clips]), clips[0].track
    pieces = []
    for packet in interleaved(clips):
        if packet.keyframe and packet.track == leading:
            pieces.append(muxer.tables())
        pieces.append(muxer.packet(packet))
    return b"".join(pieces)


def probe(path: Path) -> list[Read]:
    entries = "packet=stream_index,pts,dts,size,flags"
    printed = run("ffprobe", "-v", "error", "-show_entries", entries, "-of", "json", path)
    return [
        Read(one["stream_index"], one["pts"], one["dts"], int(one["size"]), "K" in one["flags"])
        for one in json.loads(printed)["packets"]
    ]


def hashes(path: Path, kind: Kind, *options: str) -> list[str]:
    """Checksums of the decoded frames of one kind."""
    stream = ("-map", f"0:{kind[0]}", "-fps_mode", "passthrough") if kind is Kind.VIDEO else ("-map", "0:a")
    printed = run(FFMPEG, "-v", "error", "-xerror", *options, "-i", path, *stream, "-f", "framemd5", "-")
    return [line.split()[-1] for line in printed.splitlines() if not line.startswith("#")]


def assert_same_packets(clips: Sequence[Clip], read: list[Read]) -> None:
    for index, clip in enumerate(clips):
        video = clip.track.kind is Kind.VIDEO
        expected = [
            Read(index, packet.pts, packet.dts, len(packet.data), packet.keyframe or not video)
            for packet in clip.packets
        ]
        assert [one for one in read if one.stream == index] == expected


@pytest.mark.parametrize("per_fragment", [1, 7, 1_000])
@pytest.mark.parametrize("name", ENCODERS)
def test_mp4_of_one_track(name: str, per_fragment: int, clip: ClipSource, tmp_path: Path) -> None:
    source, path = clip(name), tmp_path / "made.mp4"
    path.write_bytes(mp4([source], per_fragment))
    assert_same_packets([source], probe(path))


@pytest.mark.parametrize("name", ENCODERS)
def test_mp4_decodes_without_complaint(name: str, clip: ClipSource, tmp_path: Path) -> None:
    source, path = clip(name), tmp_path / "made.mp4"
    path.write_bytes(mp4([source], 15))
    kind = source.track.kind
    decoded = hashes(path, kind)
    assert len(decoded) == len(source.packets)
    if kind is Kind.VIDEO:
        assert decoded == hashes(source.path, kind, "-ignore_editlist", "1")


@pytest.mark.parametrize("per_fragment", [1, 38])
@pytest.mark.parametrize("names", MUXED, ids="+".join)
def test_mp4_of_picture_and_sound(
    names: tuple[str, str], per_fragment: int, clip: ClipSource, tmp_path: Path
) -> None:
    sources, path = muxed(*map(clip, names)), tmp_path / "made.mp4"
    path.write_bytes(mp4(sources, per_fragment))
    assert_same_packets(sources, probe(path))
    assert hashes(path, Kind.VIDEO) == hashes(sources[0].path, Kind.VIDEO, "-ignore_editlist", "1")


def test_mp4_says_what_the_tracks_say(clip: ClipSource, tmp_path: Path) -> None:
    path = tmp_path / "made.mp4"
    path.write_bytes(mp4([clip("hevc10")], 30))
    described = stream_of(path)
    assert (described.tag, described.colour) == ("hvc1", ("bt2020", "smpte2084"))
    path.write_bytes(mp4([clip("h264-baseline")], 30))
    described = stream_of(path)
    assert (described.pixel_aspect, described.language) == ("4:3", "eng")


def stream_of(path: Path) -> Stream:
    (stream,) = json.loads(run("ffprobe", "-v", "error", "-show_streams", "-of", "json", path))["streams"]
    colour = (stream.get("color_primaries", ""), stream.get("color_transfer", ""))
    aspect = stream.get("sample_aspect_ratio", "")
    return Stream(stream["codec_tag_string"], colour, aspect, stream["tags"]["language"])


@pytest.mark.parametrize("names", IN_TS, ids="+".join)
def test_ts(names: tuple[str, ...], clip: ClipSource, tmp_path: Path) -> None:
    sources, path = muxed(*map(clip, names)), tmp_path / "made.ts"
    path.write_bytes(ts(sources))
    read = probe(path)
    for index, source in enumerate(sources):
        to_90k = partial(rescale, source.track.timescale)
        expected = [(to_90k(packet.pts), to_90k(packet.dts)) for packet in source.packets]
        found = [one for one in read if one.stream == index]
        assert [(one.pts - LEAD_TICKS, one.dts - LEAD_TICKS) for one in found] == expected
        if source.track.kind is Kind.VIDEO:
            assert [one.keyframe for one in found] == [packet.keyframe for packet in source.packets]
            assert hashes(path, Kind.VIDEO) == hashes(source.path, Kind.VIDEO, "-ignore_editlist", "1")
        else:
            assert len(hashes(path, Kind.AUDIO)) == len(source.packets)


def rescale(timescale: int, ticks: int) -> int:
    return ticks * TIMESCALE // timescale


@pytest.mark.parametrize("name", SOUNDS)
def test_frame_duration_agrees_with_ffmpeg(name: str, clip: ClipSource) -> None:
    # The last frame's duration is cut to the file's length by FFmpeg.
    source = clip(name)
    for packet in source.packets[:-1]:
        assert frame_duration(source.track, packet.data) == packet.duration


@pytest.mark.parametrize("name", PICTURES)
def test_inspection_agrees_with_ffmpeg(name: str, clip: ClipSource) -> None:
    source = clip(name)
    facts = [inspect_video(source.track.codec, packet.data) for packet in source.packets]
    assert [fact.keyframe for fact in facts] == [packet.keyframe for packet in source.packets]
    reorders = any(packet.cts != source.packets[0].cts for packet in source.packets)
    assert any(fact.b_slices for fact in facts) == reorders
    assert describe(source.track.codec, source.track.config).may_reorder == reorders
    assert any(fact.open_gop for fact in facts) == (name in OPEN_GOP)


def shaka_packager() -> str:
    """Upstream's name on the path, else the binary inside the npm package."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "")
    packaged = Path(__file__).parent / "node/node_modules/shaka-packager/bin" / f"packager-linux-{machine}"
    found = shutil.which("packager") or (str(packaged) if packaged.exists() else None)
    if not found:
        pytest.skip("no shaka-packager: run `npm ci --prefix tests/interop/node`")
    return found


@pytest.mark.parametrize("name", ENCODERS)
def test_shaka_packager_reads_and_repackages(name: str, clip: ClipSource, tmp_path: Path) -> None:
    packager, source, path = shaka_packager(), clip(name), tmp_path / "made.mp4"
    path.write_bytes(mp4([source], 15))
    repackaged = tmp_path / "again.mp4"
    command = [packager, "--quiet", "--dump_stream_info"]
    stream = f"in={path},stream={source.track.kind},output={repackaged}"
    done = subprocess.run([*command, stream], capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    # It writes the long form for VP9 and lower case for FLAC.
    expected = describe(source.track.codec, source.track.config).codec_string
    assert f"codec_string: {expected}".lower() in done.stdout.lower()
    again = probe(repackaged)  # with an edit list that moves the first presentation to 0
    assert [(one.dts - again[0].dts, one.size) for one in again] == [
        (packet.dts, len(packet.data)) for packet in source.packets
    ]
