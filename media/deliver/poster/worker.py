"""The poster worker: a child process that decodes a keyframe and encodes it as JPEG, one at a time.

Nothing of what it is given is trusted: it runs at low priority, in one thread, with bounded
memory, and a codec that hangs or crashes takes only this process with it. It ends when its
standard input does.
"""

import os
import resource
import signal
import sys
from fractions import Fraction
from typing import BinaryIO

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from media.deliver.poster.wire import (
    HEADER_BYTES,
    JOB_MAX_BYTES,
    JPEG_MAX_BYTES,
    REASON_MAX_LETTERS,
    Answer,
    Job,
    NoPicture,
    Picture,
    body_bytes_untrusted,
    decode_job_untrusted,
    encode,
)
from media.track.model import Codec

WIDTH_MAX = 640  # pixels of the poster; a card on the home page is half as wide
HEIGHT_MAX = 1280  # of an upright picture
PIXELS_MAX = 7680 * 4320  # of what is decoded
MEMORY_MAX_BYTES = 1 << 30  # of address space; measured: a quarter of it for 8K HEVC of 10 bits
NICENESS = 10
HANG_S = 10  # the agent kills it sooner; this is for one whose agent is gone
QUALITIES = (4, 10, 31)  # quantizers of mjpeg, finest first; the next when the JPEG is too large
HD_HEIGHT = 720  # pictures that do not name their colours are BT.709 from here on, as players take them

DECODERS = {Codec.H264: "h264", Codec.HEVC: "hevc", Codec.AV1: "libdav1d", Codec.VP9: "vp9"}
COLOURS = {  # H.273 matrix coefficients, as FFmpeg numbers them
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}


def make_poster(job: Job) -> Answer:
    """The poster of a keyframe, or why there is none."""
    try:
        frame, pixel_aspect = _decoded(job)
        width, height = poster_size(frame.width, frame.height, pixel_aspect)
        scaled = _scaled(frame, width, height)
        for quality in QUALITIES:
            jpeg = _jpeg(scaled, quality)
            if len(jpeg) <= JPEG_MAX_BYTES:
                return Picture(jpeg)
    except (av.FFmpegError, ValueError, MemoryError) as error:
        return NoPicture(f"{type(error).__name__}: {error}"[:REASON_MAX_LETTERS])
    return NoPicture(f"the JPEG is larger than {JPEG_MAX_BYTES} bytes")


def poster_size(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Even width and height of a poster: square pixels, within WIDTH_MAX and HEIGHT_MAX, never enlarged."""
    shown_width, shown_height = Fraction(width), Fraction(height)
    if pixel_aspect > 1:
        shown_height /= pixel_aspect
    else:
        shown_width *= pixel_aspect
    scale = min(Fraction(1), WIDTH_MAX / shown_width, HEIGHT_MAX / shown_height)
    return max(2, round(shown_width * scale / 2) * 2), max(2, round(shown_height * scale / 2) * 2)


def _decoded(job: Job) -> tuple[VideoFrame, Fraction]:
    """The first picture and its pixel aspect ratio. Raises ValueError, MemoryError and av.FFmpegError."""
    if job.codec not in DECODERS:
        raise ValueError(f"{job.codec} is no video codec")
    decoder = av.CodecContext.create(DECODERS[job.codec], "r")
    assert isinstance(decoder, VideoCodecContext)
    if job.config and job.codec is not Codec.VP9:  # a VP9 decoder has no use for it
        decoder.extradata = job.config
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(PIXELS_MAX)}
    frames = decoder.decode(av.Packet(job.data)) or decoder.decode(None)
    if not frames:
        raise ValueError("the decoder gave no picture")
    return frames[0], Fraction(decoder.sample_aspect_ratio or 1)


def _scaled(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    """The picture in JPEG's own colours: BT.601, full range (JFIF 1.02)."""
    unnamed = Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601
    return VideoReformatter().reformat(
        frame,
        width,
        height,
        "yuvj420p",
        src_colorspace=COLOURS.get(frame.colorspace, unnamed),
        dst_colorspace=Colorspace.ITU601,
        interpolation=Interpolation.AREA,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )


def _jpeg(frame: VideoFrame, quality: int) -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = frame.width, frame.height
    encoder.pix_fmt = "yuvj420p"
    encoder.color_range = ColorRange.JPEG
    encoder.time_base = Fraction(1, 1)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = quality
    frame.pts = 0
    frame.time_base = encoder.time_base
    packets = encoder.encode(frame) + encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Answer jobs until there are no more. Raises WireError and BrokenPipeError."""
    while header := jobs.read(HEADER_BYTES):
        job = decode_job_untrusted(jobs.read(body_bytes_untrusted(header, JOB_MAX_BYTES)))
        signal.alarm(HANG_S)  # its default action ends the process, also in the middle of a codec
        answers.write(encode(make_poster(job)))
        answers.flush()
        signal.alarm(0)


def main() -> int:
    """0 when the agent closed standard input or went away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the agent decides
    os.nice(NICENESS)  # viewers come first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)  # damaged keyframes are no news
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        # Python flushes stdout once more when it ends: give it somewhere harmless to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
