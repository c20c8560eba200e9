"""Real renditions of one segment by PyAV, after LPMS: its errors, its timestamps, its sizes."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.video.frame import PictureType

from livepeer_gateway.geometry import rendition_size
from livepeer_gateway.profiles import OUTPUTS_MAX, Profile, gop_seconds

INPUT_CODECS = ("h264", "hevc", "vp8", "vp9")
CODECS = {"H.264": "libx264", "HEVC": "libx265", "VP8": "libvpx", "VP9": "libvpx-vp9"}
H264_PROFILES = {
    "h264baseline": "baseline",
    "h264main": "main",
    "h264high": "high",
    "h264constrainedhigh": "high",
}
WITHOUT_B_FRAMES = ("h264baseline", "h264constrainedhigh")
B_FRAMES = 3  # of the other profiles, in software
RUNAWAY_FACTOR = 25  # LPMS: so many times more frames out than in is a fault
OUTPUT_BYTES_MIN = 25  # LPMS: less is no segment
DURATION_S_MAX = 300
TICKS = Fraction(1, 90_000)
FORMATS = {".ts": "mpegts", ".mp4": "mp4"}


class TranscodeError(Exception):
    """What an orchestrator answers when it cannot do it; the text is LPMS's."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a segment holds. Codec and size are empty for bytes that nothing was found in."""

    codec: str = ""
    audio: str = ""
    width: int = 0
    height: int = 0
    pixel_format: str = ""
    fps: float = 0.0
    frames: int = 0  # 0 or 1: whether one could be decoded
    audio_packets: int = 0

    @property
    def needs_bypass(self) -> bool:
        """A picture track without a picture beside sound: the source is given back unchanged."""
        return bool(self.codec) and self.frames == 0 and self.audio_packets > 0

    @property
    def shape(self) -> tuple[object, ...]:
        """What must stay the same for a transcoder to go on."""
        return self.audio, self.codec, self.pixel_format, self.width, self.height


@dataclass(frozen=True, slots=True)
class Settings:
    """How the double departs from LPMS: a quicker preset, or a fault's falsehoods."""

    preset: str = "medium"
    version: str = "0.9.1"
    shift_ticks: int = 0  # added to every timestamp of the renditions, in 90 kHz
    scale: Fraction = Fraction(1)  # of the size that a rendition ought to have
    clip_ms: tuple[int, int] | None = None


def inspect(data: bytes) -> Source:
    """What is in a segment; of garbage, a Source with nothing in it."""
    try:
        with av.open(io.BytesIO(data)) as container:
            return _inspect(container)
    except (av.error.FFmpegError, ValueError, EOFError):
        return Source()


def _inspect(container: Any) -> Source:
    video = container.streams.video[0] if container.streams.video else None
    audio = container.streams.audio[0] if container.streams.audio else None
    frame, sounds = None, 0
    for packet in container.demux():
        if packet.stream is audio and packet.size:
            sounds += 1
        if packet.stream is video and frame is None:
            frame = next(iter(_decode(packet)), None)
        if frame and (sounds or audio is None):
            break
    return Source(
        codec=video.codec_context.name if video else "",
        audio=audio.codec_context.name if audio else "",
        width=frame.width if frame else 0,
        height=frame.height if frame else 0,
        pixel_format=frame.format.name if frame else "",
        fps=float(video.average_rate or 0) if video else 0.0,
        frames=1 if frame else 0,
        audio_packets=sounds,
    )


def _decode(packet: Any) -> list[Any]:
    try:
        return list(packet.decode())
    except av.error.FFmpegError:
        return []


def transcode(data: bytes, extension: str, profiles: tuple[Profile, ...], settings: Settings) -> list[bytes]:
    """One rendition for each profile, in their order. Raises TranscodeError."""
    if len(profiles) > OUTPUTS_MAX:
        raise TranscodeError("Too many outputs")
    packets = _Packets(data, settings.clip_ms)
    results = []
    for profile in profiles:
        try:
            with tempfile.TemporaryDirectory() as folder:
                sink = _Sink(Path(folder), extension, settings)
                results.append(_Output(packets, profile, sink, settings).run())
        except av.error.FFmpegError as error:
            raise TranscodeError(f"Invalid argument: {error}") from error
    for result in results:
        if len(result) < OUTPUT_BYTES_MIN:
            raise TranscodeError("ZeroSegments")
    return results


def remux(data: bytes, extension: str) -> bytes:
    """The same packets in a new container: a rendition at no cost, of the source's size."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _remuxed(data, _Sink(Path(folder), extension, Settings()))
        except (av.error.FFmpegError, ValueError) as error:
            raise TranscodeError(f"TranscoderInvalidVideo: {error}") from error


def _remuxed(data: bytes, sink: "_Sink") -> bytes:
    source: Any = av.open(io.BytesIO(data))
    with source:
        streams = {s.index: sink.muxer.add_stream_from_template(s) for s in _kept(source)}
        for packet in source.demux(*_kept(source)):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                sink.muxer.mux(packet)
        return sink.finished()


def _kept(container: Any) -> list[Any]:
    return [*container.streams.video[:1], *container.streams.audio]


class _Sink:
    """A muxer into a file: MP4 with its index in front can be written no other way."""

    def __init__(self, folder: Path, extension: str, settings: Settings) -> None:
        self._path = folder / f"rendition{extension}"
        options = {"movflags": "faststart"} if extension == ".mp4" else {}
        self.muxer: Any = av.open(str(self._path), "w", format=FORMATS[extension], options=options)
        self.muxer.metadata["service_provider"] = f"Livepeer Transcoder {settings.version} (offchain)"

    def finished(self) -> bytes:
        self.muxer.close()
        return self._path.read_bytes()


class _Packets:
    """A segment demuxed and decoded once for all of its renditions. Raises TranscodeError."""

    def __init__(self, data: bytes, clip_ms: tuple[int, int] | None) -> None:
        try:
            self.container: Any = av.open(io.BytesIO(data), "r")
        except (av.error.FFmpegError, ValueError) as error:
            raise TranscodeError("TranscoderInvalidVideo") from error
        if not self.container.streams.video:
            raise TranscodeError("TranscoderInvalidVideo")
        self.video = self.container.streams.video[0]
        self.audio = list(self.container.streams.audio)
        self.sounds: list[Any] = []
        self.frames: list[Any] = []
        keyframes = 0
        for packet in self.container.demux(*_kept(self.container)):
            if packet.stream is self.video:
                keyframes += bool(packet.is_keyframe and packet.size)
                self.frames += _decode(packet)
            elif packet.dts is not None:
                self.sounds.append(packet)
        self._check(keyframes)
        if clip_ms:
            self._clip(*clip_ms)

    def _check(self, keyframes: int) -> None:
        if self.video.codec_context.name not in INPUT_CODECS:
            raise TranscodeError("Unsupported input codec")
        if not keyframes:
            raise TranscodeError("No keyframes in input")
        if not self.frames:
            raise TranscodeError("TranscoderInvalidVideo")
        times = [frame.pts * frame.time_base for frame in self.frames if frame.pts is not None]
        if times and max(times) - min(times) > DURATION_S_MAX:
            raise TranscodeError("TranscoderInvalidDuration")

    def _clip(self, begin_ms: int, end_ms: int) -> None:
        first = self.frames[0].pts * self.frames[0].time_base

        def inside(thing: Any) -> bool:
            return bool(begin_ms <= (thing.pts * thing.time_base - first) * 1000 < end_ms)

        self.frames = [frame for frame in self.frames if inside(frame)]
        self.sounds = [packet for packet in self.sounds if inside(packet)]
        if not self.frames:
            raise TranscodeError("ZeroSegments")


class _Output:
    """One rendition being made."""

    def __init__(self, packets: _Packets, profile: Profile, sink: _Sink, settings: Settings) -> None:
        self._packets, self._profile, self._settings = packets, profile, settings
        first = packets.frames[0]
        scale = settings.scale
        asked = (int(profile.width * scale), int(profile.height * scale))
        self._size = rendition_size((first.width, first.height), asked)
        self._file, self._sink = sink, sink.muxer
        self._stream = self._add_video()
        self._sounds = {s.index: self._sink.add_stream_from_template(s) for s in packets.audio}

    @property
    def _fps(self) -> Fraction | None:
        asked = self._profile.fps
        return Fraction(asked, self._profile.fps_den or 1) if asked else None

    def _add_video(self) -> Any:
        rate = self._fps or self._packets.video.average_rate or Fraction(30)
        stream = self._sink.add_stream(CODECS[self._profile.encoder], rate=rate)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p" if self._profile.encoder != "H.264" else self._pixel_format()
        stream.time_base = TICKS
        context = stream.codec_context
        context.time_base = 1 / self._fps if self._fps else TICKS
        context.max_b_frames = 0 if self._profile.profile.lower() in WITHOUT_B_FRAMES else B_FRAMES
        seconds = gop_seconds(self._profile.gop)
        if seconds < 0:
            context.gop_size = 0
        elif seconds and self._fps:
            context.gop_size = max(1, int(seconds * self._fps))
        context.options = self._options()
        if not self._profile.quality:
            context.bit_rate = self._profile.bitrate
        return stream

    def _pixel_format(self) -> str:
        name = str(self._packets.frames[0].format.name)
        return name if name in ("yuv420p", "yuv422p", "yuv444p") else "yuv420p"

    def _options(self) -> dict[str, str]:
        options = {"threads": "1"}
        if self._profile.encoder == "H.264":
            options |= {"preset": self._settings.preset, "forced-idr": "1"}
            if self._profile.profile.lower() in H264_PROFILES:
                options["profile"] = H264_PROFILES[self._profile.profile.lower()]
        elif self._profile.encoder == "HEVC":
            options |= {"preset": self._settings.preset, "forced-idr": "1", "x265-params": "log-level=none"}
        else:
            options |= {"deadline": "realtime", "cpu-used": "8"}
        if self._profile.quality:
            return options | {"crf": str(self._profile.quality)}
        bitrate = str(self._profile.bitrate)
        return options | {"minrate": bitrate, "maxrate": bitrate, "bufsize": bitrate}

    def run(self) -> bytes:
        """The rendition's bytes."""
        waiting = list(self._packets.sounds)
        for made, packet in enumerate(self._encoded(), 1):
            if made > RUNAWAY_FACTOR * len(self._packets.frames):
                raise TranscodeError("Encoded frames runaway")
            while waiting and waiting[0].dts * waiting[0].time_base <= packet.dts * packet.time_base:
                self._mux_sound(waiting.pop(0))
            self._shift(packet)
            self._sink.mux(packet)
        for sound in waiting:
            self._mux_sound(sound)
        return self._file.finished()

    def _mux_sound(self, sound: Any) -> None:
        copy = av.Packet(bytes(sound))
        copy.pts, copy.dts, copy.time_base = sound.pts, sound.dts, sound.time_base
        copy.duration = sound.duration
        copy.is_keyframe = True
        copy.stream = self._sounds[sound.stream.index]
        self._shift(copy)
        self._sink.mux(copy)

    def _shift(self, packet: Any) -> None:
        ticks = round(self._settings.shift_ticks * TICKS / packet.time_base)
        packet.pts += ticks
        packet.dts += ticks

    def _encoded(self) -> Iterator[Any]:
        graph = self._graph()
        forced = -1.0
        seconds = gop_seconds(self._profile.gop)
        for frame in self._scaled(graph):
            now = float(frame.pts * frame.time_base)
            due = forced < 0 or (seconds > 0 and not self._fps and now >= forced + seconds)
            frame.pict_type = PictureType.I if due else PictureType.NONE
            forced = now if due else forced
            yield from self._stream.encode(frame)
        yield from self._stream.encode(None)

    def _scaled(self, graph: Any) -> Iterator[Any]:
        for frame in [*self._packets.frames, None]:
            graph.push(frame)
            while True:
                try:
                    yield graph.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    break

    def _graph(self) -> Any:
        graph = av.filter.Graph()
        first = self._packets.frames[0]
        width, height = self._size
        chain = [
            graph.add_buffer(
                width=first.width, height=first.height, format=first.format.name, time_base=first.time_base
            ),
            graph.add("scale", f"{width}:{height}"),
            graph.add("format", self._stream.pix_fmt),
        ]
        if self._fps:
            chain.append(graph.add("fps", str(self._fps)))
        chain.append(graph.add("buffersink"))
        graph.link_nodes(*chain).configure()
        return graph
