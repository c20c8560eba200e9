"""Segments to push: small MPEG-TS files with what a test wants to see in them, made by PyAV."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

START_S = 10  # a timeline that starts near 0 is moved by the gateway's muxer
AUDIO_RATE = 48_000
AUDIO_FRAME = 1024
TICKS = Fraction(1, 90_000)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a segment is like. Times in seconds, sizes in pixels."""

    seconds: int = 1
    start_s: int = START_S
    width: int = 160
    height: int = 90
    fps: int = 25
    audio: bool = True
    video: bool = True
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    extension: str = ".ts"


@dataclass(frozen=True, slots=True)
class Media:
    """What a segment turned out to have. Times in 90 kHz, in the order of their display."""

    width: int
    height: int
    codec: str
    video_pts: tuple[int, ...]
    audio_pts: tuple[int, ...]
    first_is_key: bool
    kinds: tuple[str, ...]  # of its tracks, in order


def segment(shape: Shape = Shape()) -> bytes:
    """A segment of this shape; the same shape gives the same picture."""
    out = io.BytesIO()
    form = {".ts": "mpegts", ".mp4": "mp4"}[shape.extension]
    with av.open(out, "w", format=form) as sink:
        video = _video(sink, shape) if shape.video else None
        audio = sink.add_stream("aac", rate=AUDIO_RATE, layout="mono") if shape.audio else None
        if video is not None:
            for number in range(shape.seconds * shape.fps):
                sink.mux(video.encode(_picture(shape, number)))
            sink.mux(video.encode(None))
        if audio is not None:
            for number in range(shape.seconds * AUDIO_RATE // AUDIO_FRAME):
                sink.mux(audio.encode(_silence(shape, number)))
            sink.mux(audio.encode(None))
    return out.getvalue()


def _video(sink: Any, shape: Shape) -> Any:
    stream = sink.add_stream(shape.codec, rate=shape.fps)
    stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, shape.pixel_format
    stream.codec_context.gop_size = 1000
    stream.codec_context.max_b_frames = 0
    if shape.codec == "libx264":
        stream.codec_context.options = {"preset": "ultrafast", "threads": "1"}
    if shape.codec == "libx265":
        stream.codec_context.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    return stream


def _picture(shape: Shape, number: int) -> Any:
    frame = av.VideoFrame(shape.width, shape.height, "yuv420p")
    for plane_number, plane in enumerate(frame.planes):
        line = bytes((number * 3 + x * (plane_number + 1)) & 0xFF for x in range(plane.line_size))
        plane.update(line * plane.height)
    frame.pts = shape.start_s * shape.fps + number
    frame.time_base = Fraction(1, shape.fps)
    return frame.reformat(format=shape.pixel_format)


def _silence(shape: Shape, number: int) -> Any:
    frame = av.AudioFrame(format="fltp", layout="mono", samples=AUDIO_FRAME)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate = AUDIO_RATE
    frame.pts = shape.start_s * AUDIO_RATE + number * AUDIO_FRAME
    frame.time_base = Fraction(1, AUDIO_RATE)
    return frame


def media_of(data: bytes) -> Media:
    """What is in a segment. Raises av.error.FFmpegError for what is none."""
    container: Any = av.open(io.BytesIO(data))
    with container:
        times: dict[str, list[int]] = {"video": [], "audio": []}
        keys = []
        for packet in container.demux():
            if packet.pts is not None and packet.size:
                times[packet.stream.type].append(round(packet.pts * packet.time_base / TICKS))
                if packet.stream.type == "video":
                    keys.append(bool(packet.is_keyframe))
        video = container.streams.video[0].codec_context if container.streams.video else None
        return Media(
            video.width if video else 0,
            video.height if video else 0,
            video.name if video else "",
            tuple(sorted(times["video"])),
            tuple(sorted(times["audio"])),
            bool(keys and keys[0]),
            tuple(stream.type for stream in container.streams),
        )


def without_pictures(data: bytes) -> bytes:
    """An MPEG-TS whose picture track is declared and has nothing in it; the sound stays."""
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    return b"".join(packet for packet in packets if int.from_bytes(packet[1:3], "big") & 0x1FFF != 0x100)


def without_keyframes(data: bytes) -> bytes:
    """The segment without the packets that decoding could begin at."""
    out = io.BytesIO()
    source: Any = av.open(io.BytesIO(data), "r")
    with source, av.open(out, "w", format="mpegts") as sink:
        streams = {s.index: sink.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            is_sound = packet.stream.type == "audio"
            if packet.dts is not None and (is_sound or not packet.is_keyframe):
                packet.stream = streams[packet.stream.index]
                sink.mux(packet)
    return out.getvalue()
