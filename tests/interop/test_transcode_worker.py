"""The transcoding worker on what encoders really send, and what it sends back to a decoder."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import FFMPEG_9, ffmpeg

from media.bitstream.describe import describe
from media.track.model import Codec
from media.transcode.ladder import Policy, Rung, SourceVideo, plan
from media.transcode.wire import (
    Begin,
    Coded,
    Encoded,
    Engine,
    Flush,
    Flushed,
    FromWorkerReader,
    Impossible,
    Opened,
    RungOrder,
    encode,
)

TIMESCALE = 90_000
X264_ENGINE = Engine()
RUN_S = 60.0
CODECS = {"h264": Codec.H264, "hevc": Codec.HEVC, "av1": Codec.AV1, "vp9": Codec.VP9}
X264 = ("-c:v", "libx264", "-preset", "ultrafast")
GROUP = ("-g", "25", "-sc_threshold", "0")


@dataclass
class Made:
    """What a worker was given and gave."""

    given: list[Coded]
    opened: Opened | None = None
    rungs: list[list[Encoded]] = field(default_factory=list)
    impossible: str = ""
    flushed: bool = False
    status: int = 0

    def keyframes(self, rung: int) -> list[int]:
        return [picture.number for picture in self.rungs[rung] if picture.keyframe]


def clip(folder: Path, *options: str, size: str = "320x180", rate: str = "25", seconds: float = 3) -> Path:
    """A film in MP4, which keeps what FLV cannot."""
    target = folder / "clip.mp4"
    picture = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")
    done = ffmpeg(FFMPEG_9, *picture, *options, "-an", "-movflags", "+faststart", str(target))
    if done.returncode:
        pytest.skip(f"ffmpeg cannot make it: {done.stderr[-200:]}")
    return target


def demuxed(path: Path) -> tuple[Codec, bytes, list[Coded], tuple[int, int, float]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        scale = stream.time_base * TIMESCALE
        packets = [packet for packet in container.demux(stream) if packet.size]
        begin = min(packet.dts for packet in packets)
        coded = [
            Coded(
                number, round((packet.dts - begin) * scale), round((packet.pts - begin) * scale),
                packet.is_keyframe, bytes(packet),
            )
            for number, packet in enumerate(packets)
        ]  # fmt: skip
        context = stream.codec_context
        facts = (context.width, context.height, float(stream.average_rate or 0))
        return (
            CODECS[context.name.replace("lib", "").replace("dav1d", "av1")],
            bytes(context.extradata or b""),
            coded,
            facts,
        )


def transcode(
    path: Path, *rungs: Rung, fps: float | None = None, latency: str = "low", engine: Engine = X264_ENGINE
) -> Made:
    """All of a film through a worker of its own."""
    codec, config, coded, (width, height, rate) = demuxed(path)
    return worked(codec, config, coded, (width, height, rate if fps is None else fps), rungs, latency, engine)


def worked(
    codec: Codec,
    config: bytes,
    coded: list[Coded],
    facts: tuple[int, int, float],
    rungs: tuple[Rung, ...],
    latency: str = "low",
    engine: Engine = X264_ENGINE,
) -> Made:
    width, height, fps = facts
    planned = plan(Policy("list", rungs), SourceVideo(codec, width, height, fps)).rungs
    orders = [RungOrder(rung.side, rung.bps, rung.fps, engine) for rung in planned]
    begin = Begin(0, codec, config, TIMESCALE, fps, orders, 1, "ultrafast", latency)  # type: ignore[arg-type]  # a test's word
    data = b"".join(map(encode, [begin, *coded, Flush()]))
    command = [sys.executable, "-m", "media.transcode.worker"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=RUN_S, check=False)
    made = Made(coded, rungs=[[] for _ in orders], status=done.returncode)
    for message in FromWorkerReader().receive(done.stdout):
        match message:
            case Opened():
                made.opened = message
            case Encoded() if message.data:
                made.rungs[message.rung].append(message)
            case Impossible():
                made.impossible = message.reason
            case Flushed():
                made.flushed = True
    return made


def shown(made: Made, rung: int = 0) -> Iterator[av.VideoFrame]:
    """A decoder's pictures of a rendition. Raises av.FFmpegError at anything that is wrong."""
    assert made.opened is not None
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = made.opened.rungs[rung].config
    decoder.options = {"err_detect": "explode"}
    for picture in made.rungs[rung]:
        packet = av.Packet(picture.data)
        packet.pts, packet.time_base = picture.pts, Fraction(1, TIMESCALE)
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def check(made: Made, rung: int = 0) -> None:
    """Every picture has its source's time and place, and decodes; groups begin where the source's do."""
    assert made.flushed
    assert made.status == 0
    pictures = made.rungs[rung]
    times = sorted(coded.pts for coded in made.given)
    numbers = [picture.number for picture in pictures]
    assert [times[number] for number in numbers] == [picture.pts for picture in pictures]
    assert all(made.given[picture.number].dts <= picture.pts for picture in pictures)
    assert made.keyframes(rung) == [coded.number for coded in made.given if coded.keyframe]
    assert [frame.pts for frame in shown(made, rung)] == [picture.pts for picture in pictures]


def test_two_rungs_of_a_film_with_b_frames(tmp_path: Path) -> None:
    path = clip(tmp_path, *X264, "-bf", "3", "-pix_fmt", "yuv420p", *GROUP, rate="30000/1001")
    made = transcode(path, Rung(160, 200_000), Rung(144, 150_000))
    for rung in (0, 1):
        check(made, rung)
        assert len(made.rungs[rung]) == len(made.given)
    assert made.opened is not None
    assert [(rung.width, rung.height) for rung in made.opened.rungs] == [(284, 160), (256, 144)]
    assert describe(Codec.H264, made.opened.rungs[0].config).height == 160


def test_looking_ahead_changes_nothing_but_the_delay(tmp_path: Path) -> None:
    path = clip(tmp_path, *X264, "-pix_fmt", "yuv420p", *GROUP)
    made = transcode(path, Rung(144), latency="quality")
    check(made)
    assert len(made.rungs[0]) == 75


@pytest.mark.parametrize(("rate", "left"), [("60", 30), ("120", 30), ("15", 15), ("50", 25)])
def test_pictures_a_second_of_low_rungs(tmp_path: Path, rate: str, left: int) -> None:
    path = clip(
        tmp_path, *X264, "-pix_fmt", "yuv420p", "-g", rate, "-sc_threshold", "0", rate=rate, seconds=2
    )
    made = transcode(path, Rung(144), fps=None if rate != "15" else 0.0)
    check(made)
    assert len(made.rungs[0]) == pytest.approx(2 * left, abs=2)
    assert made.opened is not None
    assert made.opened.rungs[0].fps == pytest.approx(left, rel=0.02)


def test_upright(tmp_path: Path) -> None:
    made = transcode(clip(tmp_path, *X264, "-pix_fmt", "yuv420p", *GROUP, size="180x320"), Rung(144))
    check(made)
    assert made.opened is not None
    assert (made.opened.rungs[0].width, made.opened.rungs[0].height) == (144, 256)


def test_hevc_of_ten_bits_and_422_with_open_groups(tmp_path: Path) -> None:
    hevc = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv422p10le", "-tag:v", "hvc1")
    path = clip(tmp_path, *hevc, "-x265-params", "keyint=25:open-gop=1:log-level=none", seconds=2)
    made = transcode(path, Rung(180), Rung(144))
    assert made.opened is not None
    assert "yuv422p10le" in made.opened.source
    assert [rung.height for rung in made.opened.rungs] == [180, 144]
    check(made)


def test_h264_of_ten_bits_and_422(tmp_path: Path) -> None:
    made = transcode(clip(tmp_path, *X264, "-pix_fmt", "yuv422p10le", *GROUP), Rung(144))
    check(made)
    assert {frame.format.name for frame in shown(made)} == {"yuv420p"}


def test_av1(tmp_path: Path) -> None:
    made = transcode(
        clip(tmp_path, "-c:v", "libsvtav1", "-preset", "12", "-g", "25", seconds=2), Rung(180), Rung(144)
    )
    check(made)


def test_interlaced_comes_out_whole(tmp_path: Path) -> None:
    interlaced = (
        "-vf",
        "tinterlace=interleave_top,setfield=tff",
        "-flags",
        "+ildct+ilme",
        "-x264opts",
        "tff=1",
    )
    path = clip(tmp_path, *X264[:2], *interlaced, "-pix_fmt", "yuv420p", *GROUP, rate="50")
    made = transcode(path, Rung(144))
    assert made.opened is not None
    assert "interlaced" in made.opened.source
    check(made)
    assert len(made.rungs[0]) == len(made.given)
    assert not any(frame.interlaced_frame for frame in shown(made))


def test_no_keyframe_for_twenty_seconds(tmp_path: Path) -> None:
    path = clip(tmp_path, *X264, "-pix_fmt", "yuv420p", "-g", "9999", size="192x160", rate="10", seconds=22)
    made = transcode(path, Rung(144))
    check(made)
    assert made.keyframes(0) == [0]


def test_damage_costs_pictures_and_nothing_else(tmp_path: Path) -> None:
    path = clip(tmp_path, *X264, "-pix_fmt", "yuv420p", *GROUP)
    codec, config, coded, facts = demuxed(path)
    broken = [
        Coded(each.number, each.dts, each.pts, each.keyframe, each.data[:4] + bytes(len(each.data) - 4))
        if each.number % 10 == 7
        else each
        for each in coded
    ]
    made = worked(codec, config, broken, facts, (Rung(144),))
    assert made.status == 0
    assert made.keyframes(0) == [0, 25, 50]
    assert len(made.rungs[0]) > 60
    assert len(list(shown(made))) == len(made.rungs[0])


def test_what_is_no_picture_is_given_up_in_words(tmp_path: Path) -> None:
    path = clip(tmp_path, *X264, "-pix_fmt", "yuv420p", *GROUP, seconds=1)
    codec, config, _, facts = demuxed(path)
    noise = [
        Coded(number, number * 3000, number * 3000, True, b"\0\0\0\x10" + bytes(range(16)))
        for number in range(200)
    ]
    made = worked(codec, config, noise, facts, (Rung(144),))
    assert made.status == 0
    assert made.impossible


def test_nonsense_on_its_standard_input_ends_it() -> None:
    command = [sys.executable, "-m", "media.transcode.worker"]
    for data in (b"\xff" * 64, encode(Flush())[:-1], b""):
        done = subprocess.run(command, input=data, capture_output=True, timeout=RUN_S, check=False)
        assert done.returncode == 0


def test_an_encoder_that_writes_annex_b_gives_what_x264_gives(tmp_path: Path) -> None:
    engine = Engine(options={"x264-params": "annexb=1:scenecut=0:keyint=infinite"}, is_capped=False)
    made = transcode(clip(tmp_path, *X264, *GROUP), Rung(144, 100_000), engine=engine)
    check(made)
    assert made.opened is not None
    assert describe(Codec.H264, made.opened.rungs[0].config).width == 256
    assert len(made.rungs[0]) == 75


def test_an_encoder_that_this_ffmpeg_has_not_is_said(tmp_path: Path) -> None:
    made = transcode(
        clip(tmp_path, *X264, *GROUP, seconds=1), Rung(144, 100_000), engine=Engine("h264_of_nobody")
    )
    assert "h264_of_nobody" in made.impossible
    assert made.flushed
