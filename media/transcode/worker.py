"""The transcoding worker: a child process that decodes one stream once and encodes all of its rungs.

The main thread reads orders, decodes and finds each picture's place; each rung scales and encodes in
a thread of its own, as codecs release the interpreter's lock. Queues between them are short: who is
slow holds up the reading of standard input, and the agent decides what to drop. Nothing of what it is
given is trusted: it runs at low priority with bounded memory. It ends when its standard input does.
"""

import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from fractions import Fraction
from typing import BinaryIO

import av
import msgspec
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange

from media.bitstream.annexb import annexb_to_sample_untrusted, split_annexb_untrusted
from media.bitstream.h264 import avcc_untrusted
from media.errors import WireError
from media.track.model import MICROSECONDS, Codec
from media.transcode.ladder import fitted, least_step, thinned
from media.transcode.places import Places
from media.transcode.wire import (
    HEADER_BYTES,
    REASON_MAX_LETTERS,
    Begin,
    Coded,
    Damaged,
    Encoded,
    Flush,
    Flushed,
    FromWorker,
    Impossible,
    Opened,
    OpenedRung,
    RungOrder,
    Spent,
    ToWorker,
    encode,
    parse_to_worker_untrusted,
    size_untrusted,
)

NICENESS = 5  # viewers come first; at 10 other programs would leave it too little to be in time
MEMORY_MAX_BYTES = 3 << 30  # of address space; measured: 0.8 GB for 2160p60 to three rungs
PIXELS_MAX = 7680 * 4320  # of what is decoded
QUEUE_PICTURES = 6  # between decoder and each encoder, who share them; a picture of 4K is 12 MB
DECODER_THREADS_MAX = 4  # by slices: threads by frames would each hold a picture back
LOOKAHEAD_PICTURES = 20  # with latency "quality"; half of what gives all of the gain
NO_GROUPS = "100000"  # pictures between keyframes that an encoder makes by itself: the source has them sooner
USUAL_FPS = 30.0  # of a source whose first pictures do not tell either
DAMAGED_MAX = 100  # in turn, and no picture: this decoder cannot do it
DAMAGED_EVERY_S = 1.0
SPENT_EVERY_S = 1.0
SOFTWARE = "libx264"
AVCC_VERSION = 1  # the first byte of an avcC (ISO/IEC 14496-15, 5.3.3.1.2); Annex B begins with 0
SPS, PPS = 7, 8  # H.264, 7.4.1
PRIMARIES_UNKNOWN = (0, 2)  # H.273: reserved, unspecified

DECODERS = {Codec.H264: "h264", Codec.HEVC: "hevc", Codec.AV1: "libdav1d", Codec.VP9: "vp9"}


class Mouth:
    """Standard output, shared by the threads."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._turn = threading.Lock()

    def say(self, message: FromWorker) -> None:
        data = encode(message)
        with self._turn:
            self._out.write(data)
            self._out.flush()


class Rung(threading.Thread):
    """One rendition: scales and encodes what is put into its queue until None comes."""

    def __init__(
        self,
        index: int,
        begin: Begin,
        first: VideoFrame,
        aspect: Fraction,
        threads: int,
        mouth: Mouth,
    ) -> None:
        """`aspect` is that of the source's pixels. Raises av.FFmpegError and ValueError."""
        order = begin.rungs[index]
        super().__init__(name=f"{order.side}p", daemon=True)
        self.pictures: queue.Queue[tuple[int, bool, VideoFrame] | None] = queue.Queue(QUEUE_PICTURES)
        self._index, self._mouth = index, mouth
        self._time_base = Fraction(1, begin.timescale)
        self._least_step = least_step(order.fps, begin.timescale)
        self._fps = thinned(begin.source_fps, order.fps)
        self._size = fitted(order.side, first.width, first.height, aspect)
        self._scaler: Scaler | None = None
        self._encoder = _open_encoder(self._size, self._fps, order, begin, first, threads)
        extradata = bytes(self._encoder.extradata or b"")
        self._annexb = extradata[:1] != bytes((AVCC_VERSION,))
        self._config = _avcc(extradata) if self._annexb else extradata
        self._pixel_format = order.engine.pixel_format
        self.busy_s = 0.0  # of the wall clock, waiting for pictures left out
        self._numbers: dict[int, int] = {}  # of pictures in the encoder, by pts
        self._last_pts: int | None = None
        self._skipped = -1  # the newest picture that was left out

    @property
    def opened(self) -> OpenedRung:
        width, height = self._size
        return OpenedRung(self._config, width, height, float(self._fps))

    def run(self) -> None:
        try:
            while (picture := self.pictures.get()) is not None:
                began = time.monotonic()
                self._picture(*picture)
                self.busy_s += time.monotonic() - began
            self._tell(self._encoder.encode(None))
        except BrokenPipeError:
            os._exit(0)  # the agent stopped reading
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # the agent starts another one

    def _picture(self, number: int, keyframe: bool, frame: VideoFrame) -> None:
        pts = frame.pts
        assert pts is not None
        last = self._last_pts
        if last is not None and not keyframe and pts - last < self._least_step:
            self._skipped = number
            self._tell([])
            return
        self._last_pts = pts
        if self._scaler is None or not self._scaler.takes(frame):
            self._scaler = Scaler(frame, self._size, self._time_base, self._pixel_format)
        scaled = self._scaler.scale(frame)
        scaled.pts, scaled.time_base = pts, self._time_base
        scaled.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._numbers[pts] = number
        self._tell(self._encoder.encode(scaled))

    def _tell(self, packets: "list[av.Packet[av.VideoStream]]") -> None:
        for packet in packets:
            number = self._numbers.pop(packet.pts or 0, None)
            if number is not None:
                pts = packet.pts or 0
                data = annexb_to_sample_untrusted(bytes(packet)) if self._annexb else bytes(packet)
                self._mouth.say(Encoded(self._index, number, pts, packet.is_keyframe, data))
        if self._skipped >= 0 and not self._numbers:
            self._mouth.say(Encoded(self._index, self._skipped, 0, False, b""))
            self._skipped = -1


class Scaler:
    """ffmpeg's own `scale`, which keeps chroma where it belongs, for pictures of one shape."""

    def __init__(
        self, frame: VideoFrame, size: tuple[int, int], time_base: Fraction, pixel_format: str
    ) -> None:
        self._shape = (frame.width, frame.height, frame.format.name)
        graph = self._graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base
        )
        scale = graph.add("scale", f"{size[0]}:{size[1]}:flags=bicubic:out_range=tv")
        shape = graph.add("format", pixel_format)
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(shape)
        shape.link_to(sink)
        graph.configure()

    def takes(self, frame: VideoFrame) -> bool:
        return self._shape == (frame.width, frame.height, frame.format.name)

    def scale(self, frame: VideoFrame) -> VideoFrame:
        self._graph.push(frame)
        scaled = self._graph.pull()
        assert isinstance(scaled, VideoFrame)
        return scaled


def _open_encoder(
    size: tuple[int, int], fps: Fraction, order: RungOrder, begin: Begin, first: VideoFrame, threads: int
) -> VideoCodecContext:
    """One that begins groups where it is told to, and nowhere else. Raises av.FFmpegError, ValueError."""
    engine = order.engine
    os.environ.update(engine.environment)  # drivers read it when they are asked for a device first
    codec = av.CodecContext.create(engine.name, "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height = size
    codec.pix_fmt = engine.pixel_format
    codec.framerate, codec.time_base = fps, Fraction(1, begin.timescale)
    codec.bit_rate = order.bps
    codec.max_b_frames = 0  # decoding times are the source's, which may leave no room for reordering
    codec.thread_count = threads
    codec.flags |= Flags.global_header
    codec.color_range = ColorRange.MPEG
    for name in ("color_primaries", "color_trc", "colorspace"):
        value = int(getattr(first, name))
        if value not in PRIMARIES_UNKNOWN:
            setattr(codec, name, value)
    cap = {"maxrate": str(order.bps), "bufsize": str(order.bps)} if engine.is_capped else {}
    own = _x264_options(begin, threads) if engine.name == SOFTWARE else {"g": NO_GROUPS}
    codec.options = {**own, **engine.options, **cap, "forced-idr": "1"}
    codec.open()
    return codec


def _x264_options(begin: Begin, threads: int) -> dict[str, str]:
    low = begin.latency == "low"
    return {
        "preset": begin.preset,
        **({"tune": "zerolatency"} if low else {"rc-lookahead": str(LOOKAHEAD_PICTURES)}),
        "profile": "high",
        # annexb=0: length-prefixed NAL units, and the avcC as extradata.
        "x264-params": "annexb=0:scenecut=0:keyint=infinite:sync-lookahead=0"
        + (":sliced-threads=0" if low and threads == 1 else ""),
    }


def _avcc(extradata: bytes) -> bytes:
    """The avcC of an encoder that writes Annex B. Raises ValueError when it says nothing of its pictures."""
    try:
        units = split_annexb_untrusted(extradata)
        kinds = {kind: [unit for unit in units if unit and unit[0] & 31 == kind] for kind in (SPS, PPS)}
        return avcc_untrusted(kinds[SPS], kinds[PPS])
    except WireError as error:
        raise ValueError(
            f"the encoder describes its pictures so that nobody understands it: {error}"
        ) from None


class Section:
    """What a Begin told of, from its first picture to the next Begin or Flush."""

    def __init__(self, begin: Begin, mouth: Mouth) -> None:
        """Raises av.FFmpegError and ValueError."""
        if begin.codec not in DECODERS:
            raise ValueError(f"{begin.codec} cannot be decoded here")
        decoder = av.CodecContext.create(DECODERS[begin.codec], "r")
        assert isinstance(decoder, VideoCodecContext)
        if begin.config and begin.codec is not Codec.VP9:  # a VP9 decoder has no use for it
            decoder.extradata = begin.config
        cores = begin.threads or len(os.sched_getaffinity(0))
        decoder.thread_count = min(cores, DECODER_THREADS_MAX)
        decoder.thread_type = "SLICE"
        decoder.options = {"max_pixels": str(PIXELS_MAX)}
        if begin.codec is Codec.AV1:
            decoder.options = {**decoder.options, "max_frame_delay": "1"}
        self.damaged = 0
        self.reason = ""
        self._waited_s = 0.0  # for rungs that were busy with the pictures before
        self._busy_s = 0.0  # with decoding, what it waited left out
        self._dts: int | None = None
        self.media_us = 0
        self._begin, self._mouth, self._cores = begin, mouth, cores
        self._decoder = decoder
        self._time_base = Fraction(1, begin.timescale)
        self._places = Places()
        self._rungs: list[Rung] = []
        self._graph: av.filter.Graph | None = None  # deinterlaces, from the first interlaced picture on
        self._first: Coded | None = None  # of a source that does not say its rate
        self._shown = -1
        self._in_turn = 0

    @property
    def busy_s(self) -> float:
        """Of its busiest thread."""
        return max([self._busy_s, *(rung.busy_s for rung in self._rungs)])

    def work(self, coded: Coded) -> None:
        """One picture. Raises ValueError when this will never be anything."""
        began, waited_s = time.monotonic(), self._waited_s
        ticks = coded.dts - self._dts if self._dts is not None else 0
        self._dts = coded.dts
        self.media_us += max(0, ticks) * MICROSECONDS // self._begin.timescale
        try:
            self._decode(coded)
        finally:
            self._busy_s += time.monotonic() - began - (self._waited_s - waited_s)

    def _decode(self, coded: Coded) -> None:
        self._places.add(coded.number, coded.pts, keyframe=coded.keyframe)
        if self._begin.source_fps <= 0 and not self._learn_rate(coded):
            return
        packet = av.Packet(coded.data)
        packet.pts, packet.dts, packet.time_base = coded.pts, coded.dts, self._time_base
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError as error:
            self.damaged += 1
            self._in_turn += 1
            self.reason = f"{type(error).__name__}: {error}"[:REASON_MAX_LETTERS]
            if self._in_turn > DAMAGED_MAX:
                raise ValueError(self.reason) from None
            return
        for frame in frames:
            self._in_turn = 0
            self._show(frame)

    def finish(self) -> None:
        """All that is still in decoder, filter and encoders."""
        try:
            for frame in self._decoder.decode(None):
                self._show(frame)
            if self._graph is not None:
                self._graph.push(None)
                self._pull()
        except (av.FFmpegError, ValueError):
            self.damaged += 1
        for rung in self._rungs:
            rung.pictures.put(None)
        for rung in self._rungs:
            rung.join()

    def _learn_rate(self, coded: Coded) -> bool:
        """From the distance of the first two pictures; False: this one is the first."""
        first, self._first = self._first, None
        if first is None:
            self._first = coded
            return False
        step = (coded.dts - first.dts) / self._begin.timescale
        fps = min(240.0, max(1.0, 1 / step)) if step > 0 else USUAL_FPS
        self._begin = msgspec.structs.replace(self._begin, source_fps=round(fps, 2))
        packet = av.Packet(first.data)
        packet.pts, packet.dts, packet.time_base = first.pts, first.dts, self._time_base
        for frame in self._decoder.decode(packet):
            self._show(frame)
        return True

    def _show(self, frame: VideoFrame) -> None:
        """A decoded picture, in presentation order."""
        frame.time_base = self._time_base
        if self._graph is None and frame.interlaced_frame:
            self._graph = self._deinterlacer(frame)
        if self._graph is None:
            self._place(frame)
            return
        self._graph.push(frame)
        self._pull()

    def _deinterlacer(self, frame: VideoFrame) -> av.filter.Graph:
        """One picture out for each in; those that are not interlaced pass as they are."""
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base
        )
        filtering = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = graph.add("buffersink")
        source.link_to(filtering)
        filtering.link_to(sink)
        graph.configure()
        return graph

    def _pull(self) -> None:
        graph = self._graph
        assert graph is not None
        while True:
            try:
                frame = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(frame, VideoFrame)
            if frame.pts is not None and frame.time_base:
                frame.pts = round(frame.pts * frame.time_base / self._time_base)
                frame.time_base = self._time_base
            self._place(frame)

    def _place(self, frame: VideoFrame) -> None:
        pts = frame.pts
        if pts is None or pts <= self._shown:
            return
        place = self._places.take(pts)
        if place is None:
            return
        self._shown = pts
        if not self._rungs:
            self._open(frame)
        number, keyframe = place
        began = time.monotonic()
        for rung in self._rungs:
            rung.pictures.put((number, keyframe, frame))
        self._waited_s += time.monotonic() - began

    def _open(self, frame: VideoFrame) -> None:
        begin = self._begin
        aspect = Fraction(self._decoder.sample_aspect_ratio or 1)
        pixels = [order.side**2 for order in begin.rungs]
        for index in range(len(begin.rungs)):
            threads = max(1, round(self._cores * pixels[index] / sum(pixels)))
            self._rungs.append(Rung(index, begin, frame, aspect, threads, self._mouth))
        depth = frame.format.name
        words = f"{frame.width}x{frame.height} {depth}{' interlaced' if self._graph is not None else ''}"
        self._mouth.say(Opened(begin.number, [rung.opened for rung in self._rungs], words))
        for rung in self._rungs:
            rung.start()


class Worker:
    """Does one order after the other."""

    def __init__(self, out: BinaryIO) -> None:
        self._mouth = Mouth(out)
        self._section: Section | None = None
        self._number = 0
        self._damaged = self._told = 0
        self._told_at = 0.0
        self._spent_at, self._cpu_s, self._busy_s, self._media_us = time.monotonic(), 0.0, 0.0, 0

    def do(self, order: ToWorker) -> None:
        match order:
            case Begin():
                self._finish()
                self._number = order.number
                try:
                    self._section = Section(order, self._mouth)
                except (av.FFmpegError, ValueError) as error:
                    self._give_up(error)
            case Coded() if self._section is not None:
                try:
                    self._section.work(order)
                except (av.FFmpegError, ValueError, MemoryError) as error:
                    self._give_up(error)
                self._tell_damage()
                self._tell_spent()
            case Flush():
                self._finish()
                self._mouth.say(Flushed())

    def _finish(self) -> None:
        section, self._section = self._section, None
        if section is not None:
            section.finish()
            self._damaged += section.damaged
            self._busy_s, self._media_us = 0.0, 0

    def _give_up(self, error: Exception) -> None:
        self._finish()
        reason = f"{type(error).__name__}: {error}"[:REASON_MAX_LETTERS]
        self._mouth.say(Impossible(self._number, reason))

    def _tell_damage(self) -> None:
        section = self._section
        if section is None or self._damaged + section.damaged == self._told:
            return
        now = time.monotonic()
        if now - self._told_at >= DAMAGED_EVERY_S:
            self._told, self._told_at = self._damaged + section.damaged, now
            self._mouth.say(Damaged(self._told, section.reason))

    def _tell_spent(self) -> None:
        now, section = time.monotonic(), self._section
        if now - self._spent_at >= SPENT_EVERY_S and section is not None:
            cpu_s, busy_s, media_us = time.process_time(), section.busy_s, section.media_us
            spent = Spent(cpu_s - self._cpu_s, max(0.0, busy_s - self._busy_s), media_us - self._media_us)
            self._mouth.say(spent)
            self._spent_at, self._cpu_s, self._busy_s, self._media_us = now, cpu_s, busy_s, media_us


def serve(orders: BinaryIO, out: BinaryIO) -> None:
    """Do orders until there are no more. Raises WireError and BrokenPipeError."""
    worker = Worker(out)
    while header := orders.read(HEADER_BYTES):
        body = orders.read(size := size_untrusted(header))
        if len(body) < size:
            raise WireError("the last order is cut off")
        worker.do(parse_to_worker_untrusted(body))


def main() -> int:
    """0 when the agent closed standard input or went away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the agent decides
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)  # damaged pictures are no news
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, WireError):
        # Python flushes stdout once more when it ends: give it somewhere harmless to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
