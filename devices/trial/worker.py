"""The trial worker: a child process that does one job with one engine and says how it went.

Whatever happens in here stays in here: it has limits of its own and ends by itself when its parent
does not end it. What drivers print goes to standard error.
"""

import itertools
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO, Literal, TypeAlias

import av
import av.filter
import av.logging
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet as AnyPacket
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from devices.engines import UNCAPPED
from devices.model import CPU, Choice, Kind
from devices.trial.wire import (
    HEADER_BYTES,
    REASON_MAX_LETTERS,
    Answer,
    Counted,
    CountSessions,
    Host,
    Job,
    Library,
    LookAround,
    Measured,
    MeasureHost,
    Point,
    Refused,
    ScalePoint,
    Took,
    Transcode,
    Try,
    Works,
    body_bytes_untrusted,
    decode_job_untrusted,
    encode,
)

FPS = 30
GOP = 2 * FPS  # pictures between keyframes, as a live ladder has it
TRIAL_SIZE, TRIAL_BPS, TRIAL_PICTURES = (640, 360), 1_500_000, 8  # 360: no multiple of 16, must be cropped
PSNR_MIN_DB = 25.0  # measured: 33 to 38 for the engines that work; noise against the picture gives 10
PSNR_ROWS = 4  # every so many rows are compared: Python is slow
# Sizes and bit rates that a model with a term for pixels and one for bits can be fitted to.
POINTS = ((1920, 1080, 5_000_000), (1920, 1080, 2_000_000), (640, 360, 800_000))
SCALINGS = (((1920, 1080), (1280, 720)), ((1920, 1080), (640, 360)), ((1280, 720), (854, 480)))
MEASURED_PICTURES = 60
MEASURED_PICTURES_MIN = 12  # however slow the engine is
MEASURE_S = 4.0  # for one point
HARDWARE_STREAMS = 2  # a device with a pipeline is not busy with one
LOOP_PICTURES = 24  # of the test picture, played to and fro: 75 MB at 1080p
SCALED_PICTURES = 20
CONTENTION_SIZE, CONTENTION_PICTURES, CONTENTION_THREADS_MAX = (960, 540), 60, 64
MEMORY_MAX_BYTES = 4 << 30  # of address space, for software; measured: 1.3 GB for 1080p AV1
Packet: TypeAlias = "AnyPacket[VideoStream]"
LINES_MAX = 3  # of a driver's words: the first ones name the cause
NICENESS = 10  # viewers of a node that runs beside this come first
LIFE_S = 120  # of the process, and as many seconds of CPU; the parent ends it sooner
# A picture that moves, with noise as cameras have it. As hard as the middle of the pictures that the
# model was compared with (see docs/transcoding.md).
PICTURE = "testsrc2=size={width}x{height}:rate=30,noise=alls=6:allf=t"
REFERENCE_DECODERS = {"h264": ("h264",), "hevc": ("hevc",), "av1": ("libdav1d", "av1"), "vp9": ("vp9",)}
REFERENCE_ENCODERS = {  # make what decoders are tried with: fast, and found in most builds
    "h264": ("libx264", {"preset": "superfast"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error"}),
    "av1": ("libsvtav1", {"preset": "10", "svtav1-params": "lp=2:pred-struct=1:rc=2"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}


class NotRight(Exception):
    """An engine did something, and it was wrong."""


def pictures(width: int, height: int, count: int, source: str = PICTURE) -> list[VideoFrame]:
    """The test picture in yuv420p. Raises av.FFmpegError and ValueError where FFmpeg lacks the filters."""
    graph = av.filter.Graph()
    chain = [
        graph.add(*_name_and_options(part))
        for part in f"{source.format(width=width, height=height)},format=yuv420p,buffersink".split(",")
    ]
    for before, after in itertools.pairwise(chain):
        before.link_to(after)
    graph.configure()
    frames = []
    for _ in range(count):
        frame = graph.pull()
        assert isinstance(frame, VideoFrame)
        frames.append(frame)
    return frames


def _name_and_options(part: str) -> tuple[str, str]:
    name, _, options = part.partition("=")
    return name, options


def open_encoder(
    choice: Choice, width: int, height: int, bps: int, fps: float = FPS, threads: int = 1
) -> VideoCodecContext:
    """An encoder as live ladders open it. Raises av.FFmpegError, ValueError, OSError."""
    hwaccel = HWAccel(choice.hwaccel, choice.device_name or None) if choice.hwaccel else None
    codec = av.CodecContext.create(choice.engine, "w", hwaccel)
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, choice.pixel_format
    codec.framerate = Fraction(fps).limit_denominator(1001)
    codec.time_base = 1 / codec.framerate
    codec.bit_rate = bps
    codec.gop_size = round(2 * fps)
    codec.max_b_frames = 0
    codec.thread_count = threads
    cap = {"maxrate": str(bps), "bufsize": str(bps)} if choice.is_capped else {}
    codec.options = {**cap, **choice.options}
    _check_hwaccel(codec, choice)
    codec.open()
    return codec


def open_decoder(choice: Choice, threads: int = 1) -> VideoCodecContext:
    """A decoder; a device that cannot is not silently replaced by software. Raises as `open_encoder`."""
    hwaccel = (
        HWAccel(choice.hwaccel, choice.device_name or None, allow_software_fallback=False)
        if choice.hwaccel
        else None
    )
    codec = av.CodecContext.create(choice.engine, "r", hwaccel)
    assert isinstance(codec, VideoCodecContext)
    codec.thread_count = threads
    _check_hwaccel(codec, choice)
    return codec


def _check_hwaccel(codec: VideoCodecContext, choice: Choice) -> None:
    """PyAV leaves out in silence what its FFmpeg was built without."""
    if choice.hwaccel and not codec.is_hwaccel:
        raise NotRight(f"this FFmpeg was built without {choice.hwaccel} for {choice.engine}")


def try_encoder(codec: str, choice: Choice) -> Works:
    """Encode some pictures, and decode them by other means. Raises NotRight, av.FFmpegError, ValueError."""
    width, height = TRIAL_SIZE
    given = pictures(width, height, TRIAL_PICTURES)
    encoder = open_encoder(choice, width, height, TRIAL_BPS)
    coded = _encoded(encoder, _converted(given, choice.pixel_format))
    if not coded:
        raise NotRight("it gave no data")
    for name in REFERENCE_DECODERS[codec]:
        if name in av.codecs_available:
            return Works(_compared(given, _decoded(open_decoder(Choice(name, "", "")), coded)))
    raise NotRight(f"no software decoder for {codec} here to check it with")


def try_decoder(codec: str, choice: Choice) -> Works:
    """Decode some pictures. Raises as `try_encoder`."""
    width, height = TRIAL_SIZE
    given = pictures(width, height, TRIAL_PICTURES)
    decoder = open_decoder(choice)
    return Works(_compared(given, _decoded(decoder, _coded(codec, given, TRIAL_BPS))))


def _coded(codec: str, frames: Sequence[VideoFrame], bps: int) -> list[Packet]:
    name, options = REFERENCE_ENCODERS[codec]
    if name not in av.codecs_available:
        raise NotRight(f"no {name} here to make a stream to try it with")
    choice = Choice(name, "", "yuv420p", options, is_capped=name not in UNCAPPED)
    return _encoded(open_encoder(choice, frames[0].width, frames[0].height, bps), frames)


def _encoded(encoder: VideoCodecContext, frames: Iterable[VideoFrame]) -> list[Packet]:
    packets = []
    for number, frame in enumerate(frames):
        packets += encoder.encode(_numbered(frame, number))
    return packets + list(encoder.encode(None))


def _decoded(decoder: VideoCodecContext, packets: Iterable[Packet]) -> list[VideoFrame]:
    frames = []
    for packet in packets:
        frames += decoder.decode(packet)
    return frames + list(decoder.decode(None))


def _numbered(frame: VideoFrame, number: int) -> VideoFrame:
    frame.pts = number
    frame.time_base = Fraction(1, FPS)
    frame.pict_type = PictureType.NONE
    return frame


def _converted(frames: Sequence[VideoFrame], pixel_format: str) -> list[VideoFrame]:
    if pixel_format == "yuv420p":
        return list(frames)
    reformatter = VideoReformatter()
    return [reformatter.reformat(frame, format=pixel_format) for frame in frames]


def _compared(given: Sequence[VideoFrame], back: Sequence[VideoFrame]) -> float:
    if len(back) != len(given):
        raise NotRight(f"{len(given)} pictures went in and {len(back)} came out")
    worst = 200.0
    for before, after in zip(given, back, strict=True):
        if (after.width, after.height) != (before.width, before.height):
            raise NotRight(
                f"{before.width}x{before.height} went in and {after.width}x{after.height} came out"
            )
        worst = min(worst, psnr_db(before, after))
    if worst < PSNR_MIN_DB:
        raise NotRight(f"the picture came out damaged (PSNR {worst:.1f} dB)")
    return worst


def psnr_db(first: VideoFrame, second: VideoFrame) -> float:
    """PSNR of the luma of every PSNR_ROWS-th row, 200 at most."""
    second = VideoReformatter().reformat(second, format="yuv420p")
    one, other = first.planes[0], second.planes[0]
    a, b = memoryview(one), memoryview(other)
    total = 0
    for row in range(0, first.height, PSNR_ROWS):
        left = a[row * one.line_size : row * one.line_size + first.width]
        right = b[row * other.line_size : row * other.line_size + first.width]
        total += sum((x - y) * (x - y) for x, y in zip(left, right, strict=True))
    if total == 0:
        return 200.0
    count = len(range(0, first.height, PSNR_ROWS)) * first.width
    return max(0.0, 10 * math.log10(255 * 255 * count / total))


def to_and_fro(frames: Sequence[VideoFrame]) -> Iterator[VideoFrame]:
    """The pictures for ever, without a jump."""
    while True:
        yield from frames
        yield from reversed(frames[1:-1])


def measure_encoder(choice: Choice, hardware: bool) -> tuple[Point, ...]:
    """What a picture takes at each of POINTS. Raises av.FFmpegError, ValueError."""
    streams = HARDWARE_STREAMS if hardware else 1
    points = []
    frames: list[VideoFrame] = []
    for width, height, bps in POINTS:
        if not frames or frames[0].width != width:
            frames = _converted(pictures(width, height, LOOP_PICTURES), choice.pixel_format)
        before = _resident_bytes()
        encoders = [open_encoder(choice, width, height, bps) for _ in range(streams)]
        watch = _Watch()
        packets = size = number = 0
        for number, frame in enumerate(to_and_fro(frames), 1):
            for encoder in encoders:
                for packet in encoder.encode(_numbered(frame, number)):
                    packets, size = packets + 1, size + packet.size
            if watch.is_enough(number):
                break
        memory = max(0, _resident_bytes() - before) // streams
        for encoder in encoders:
            for packet in encoder.encode(None):
                packets, size = packets + 1, size + packet.size
        points.append(watch.point(width, height, size * 8, packets, hardware, memory))
    return tuple(points)


def measure_decoder(codec: str, choice: Choice, hardware: bool) -> tuple[Point, ...]:
    """As `measure_encoder`."""
    streams = HARDWARE_STREAMS if hardware else 1
    points = []
    for width, height, bps in POINTS:
        packets = _coded(codec, pictures(width, height, LOOP_PICTURES), bps)
        before = _resident_bytes()
        decoders = [open_decoder(choice) for _ in range(streams)]
        watch = _Watch()
        frames = size = number = 0
        while not watch.is_enough(number):
            for packet in packets:
                number, size = number + 1, size + packet.size * streams
                frames += sum(len(decoder.decode(packet)) for decoder in decoders)
        memory = max(0, _resident_bytes() - before) // streams
        frames += sum(len(decoder.decode(None)) for decoder in decoders)
        points.append(watch.point(width, height, size * 8, frames, hardware, memory))
    return tuple(points)


class _Watch:
    """Both clocks from now on: a machine shared with others has no use for a wall clock alone."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def is_enough(self, pictures: int) -> bool:
        if pictures >= MEASURED_PICTURES:
            return True
        return pictures >= MEASURED_PICTURES_MIN and time.monotonic() - self._wall > MEASURE_S

    def point(self, width: int, height: int, bits: int, pictures: int, hardware: bool, memory: int) -> Point:
        if not pictures:
            raise NotRight("it gave nothing")
        cpu = (time.process_time() - self._cpu) / pictures
        device = (time.monotonic() - self._wall) / pictures if hardware else cpu
        return Point(width, height, bits / pictures, device, cpu, memory)


def _resident_bytes() -> int:
    """Memory in use now; 0 where the system has another way of saying it."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - one read of a virtual file
            return int(file.read(100).split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def count_sessions(job: CountSessions) -> Counted:
    """Open encoders until refused."""
    width, height = TRIAL_SIZE
    frame = _converted(pictures(width, height, 1), job.choice.pixel_format)[0]
    opened = []
    with av.logging.Capture(local=False) as said:
        try:
            for _ in range(job.limit):
                encoder = open_encoder(job.choice, width, height, TRIAL_BPS)
                encoder.encode(_numbered(frame, 0))
                opened.append(encoder)
        except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
            return Counted(len(opened), reason_of(error, said))
    return Counted(len(opened), "")


def measure_host(cores: int) -> Host:
    """Scaling by swscale, and contention between cores. Raises av.FFmpegError, ValueError."""
    points = []
    for from_size, to_size in SCALINGS:
        frame = pictures(*from_size, 1)[0]
        reformatter = VideoReformatter()
        reformatter.reformat(frame, *to_size, interpolation=Interpolation.BILINEAR, threads=1)
        start = time.process_time()
        for _ in range(SCALED_PICTURES):
            reformatter.reformat(frame, *to_size, interpolation=Interpolation.BILINEAR, threads=1)
        points.append(ScalePoint(*from_size, *to_size, (time.process_time() - start) / SCALED_PICTURES))
    return Host(tuple(points), _contention(cores))


def _contention(cores: int) -> float:
    """CPU seconds of the same work on all cores at once over those on one: 1 where they share nothing."""
    if cores < 2:
        return 1.0
    alone = _encode_on(1)
    together = _encode_on(min(cores, CONTENTION_THREADS_MAX))
    return max(1.0, together / alone) if alone > 0 else 1.0


def _encode_on(count: int) -> float:
    """CPU seconds for each of so many threads that encode the same."""
    width, height = CONTENTION_SIZE
    choice = Choice(*_any_encoder())
    sets = [pictures(width, height, 4) for _ in range(count)]
    encoders = [open_encoder(choice, width, height, 2_000_000) for _ in range(count)]

    def work(encoder: VideoCodecContext, frames: list[VideoFrame]) -> None:
        for number, frame in enumerate(to_and_fro(frames)):
            encoder.encode(_numbered(frame, number))
            if number >= CONTENTION_PICTURES:
                return

    threads = [threading.Thread(target=work, args=pair) for pair in zip(encoders, sets, strict=True)]
    start = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.process_time() - start) / count


def _any_encoder() -> tuple[str, str, str, dict[str, str]]:
    for name, options in REFERENCE_ENCODERS.values():
        if name in av.codecs_available:
            return name, "", "yuv420p", options
    return "mpeg4", "", "yuv420p", {}


def transcode(job: Transcode) -> Took:
    """Decode, scale and encode some seconds of media, each step timed by itself. Raises as `try_encoder`."""
    source = job.work.source
    frames = pictures(source.width, source.height, LOOP_PICTURES, job.picture)
    packets = _coded(source.codec, frames, source.bitrate_bps)
    decoder = open_decoder(job.plan.decoder)
    ladder = [
        (one, VideoReformatter(), job.plan.encoders[one.name], _ladder_encoder(job, one.name))
        for one in job.work.renditions
    ]
    decode_s = scale_s = encode_s = 0.0
    made = 0
    early_s = -1.0
    while made < job.media_s * source.fps:
        if early_s < 0 and made >= job.media_s * source.fps / 2:
            early_s = (decode_s + scale_s + encode_s) / (made / source.fps)
        for packet in packets:
            start = time.process_time()
            decoded = decoder.decode(packet)
            decode_s += time.process_time() - start
            for frame in decoded:
                made += 1
                for rendition, reformatter, choice, encoder in ladder:
                    start = time.process_time()
                    scaled = reformatter.reformat(
                        frame,
                        rendition.width,
                        rendition.height,
                        choice.pixel_format,
                        interpolation=Interpolation.BILINEAR,
                        threads=1,
                    )
                    middle = time.process_time()
                    encoder.encode(_numbered(scaled, made))
                    scale_s, encode_s = scale_s + middle - start, encode_s + time.process_time() - middle
    media_s = made / source.fps
    return Took(media_s, decode_s, scale_s, encode_s, max(early_s, 0.0))


def _ladder_encoder(job: Transcode, name: str) -> VideoCodecContext:
    one = next(rendition for rendition in job.work.renditions if rendition.name == name)
    return open_encoder(job.plan.encoders[name], one.width, one.height, one.bitrate_bps, one.fps)


def look_around() -> Library:
    """What this FFmpeg has."""
    names = sorted(av.codecs_available)
    return Library(
        av.__version__,
        str(av.ffmpeg_version_info),
        [name for name in names if _is_video(name, "w")],
        [name for name in names if _is_video(name, "r")],
        hwdevices_available(),
    )


def _is_video(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        return av.Codec(name, mode).type == "video"
    except ValueError:  # av.codec.codec.UnknownCodecError: it goes the other way only
        return False


def answers(job: Job) -> Iterator[Answer]:
    """What is to be said to a job, in order."""
    with av.logging.Capture(local=False) as said:
        try:
            match job:
                case LookAround():
                    yield look_around()
                case Try():
                    yield from _try_answers(job)
                case CountSessions():
                    yield count_sessions(job)
                case MeasureHost():
                    yield measure_host(job.cores)
                case Transcode():
                    yield transcode(job)
        except (av.FFmpegError, NotRight, ValueError, OSError, MemoryError, RuntimeError) as error:
            yield Refused(reason_of(error, said))


def _try_answers(job: Try) -> Iterator[Answer]:
    hardware = job.choice.device != CPU
    if job.kind is Kind.ENCODER:
        yield try_encoder(job.codec, job.choice)
    else:
        yield try_decoder(job.codec, job.choice)
    if job.measure and job.kind is Kind.ENCODER:
        yield Measured(measure_encoder(job.choice, hardware))
    elif job.measure:
        yield Measured(measure_decoder(job.codec, job.choice, hardware))


def reason_of(error: Exception, said: Sequence[tuple[int, str, str]]) -> str:
    """What FFmpeg said on the way, and its error in words."""
    lines = dict.fromkeys(
        " ".join(text.split()).rstrip(".") for level, _, text in said if level <= av.logging.ERROR
    )
    words = str(getattr(error, "strerror", None) or error or type(error).__name__)
    if lines and not words.startswith("Unknown error"):  # which says nothing beside those
        reason = f"{': '.join([*lines][:LINES_MAX])} ({words})"
    else:
        reason = ": ".join([*lines][:LINES_MAX]) or words
    return "".join(c if c.isprintable() else "?" for c in reason)[:REASON_MAX_LETTERS]


def limit(job: Job) -> None:
    """Bound what this process may take. CUDA maps far more addresses than memory: not those of hardware."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    os.nice(NICENESS)
    signal.alarm(LIFE_S)  # its default action ends the process, also in the middle of a codec
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (LIFE_S, LIFE_S))
    if not isinstance(job, Try | CountSessions) or job.choice.device == CPU:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))


def main() -> int:
    """0 when everything was said, or nobody listens any more."""
    # Some drivers print to standard output: the answers get a descriptor that they do not know.
    out: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = decode_job_untrusted(
        sys.stdin.buffer.read(body_bytes_untrusted(sys.stdin.buffer.read(HEADER_BYTES)))
    )
    limit(job)
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        for answer in answers(job):
            out.write(encode(answer))
            out.flush()
    except BrokenPipeError:
        pass
    os._exit(0)  # a driver that hangs or crashes when it is unloaded has nothing more to say


if __name__ == "__main__":
    sys.exit(main())
