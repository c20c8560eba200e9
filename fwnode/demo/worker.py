"""The demo's child process: draws, encodes and paces; ends when its parent stops reading."""

import os
import signal
import sys
import time
from fractions import Fraction
from typing import BinaryIO

import av
import msgspec
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from fwnode.demo.picture import Picture
from fwnode.demo.sound import FRAME_SAMPLES, SAMPLE_RATE, Sound
from fwnode.demo.wire import DemoSettings, Frames, Impossible, Message, Tracks, encode
from media.track.model import MICROSECONDS, VIDEO_TIMESCALE, Codec, Frame, Track

VIDEO_ID, AUDIO_ID = 1, 2
LATE_S = 0.25  # behind by more: skip pictures instead of running after the clock
LOST_S = 2.0  # behind by more (a suspended host): sound is skipped too
SOUND_SLACK = SAMPLE_RATE // 100  # 10 ms between beep and wall clock are not heard


class VideoEncoder:
    """H.264 without delay: each picture given comes out at once, in ISO BMFF sample form."""

    def __init__(self, settings: DemoSettings) -> None:
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height = settings.width, settings.height
        codec.pix_fmt = "yuv420p"
        codec.framerate = Fraction(settings.fps)
        codec.time_base = Fraction(1, settings.fps)
        codec.bit_rate = settings.video_bps
        codec.gop_size = settings.fps
        codec.max_b_frames = 0
        codec.thread_count = 1
        codec.color_range, codec.colorspace = ColorRange.MPEG, Colorspace.ITU709
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        codec.flags |= Flags.global_header
        codec.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "high",
            "maxrate": str(settings.video_bps),
            "bufsize": str(settings.video_bps // 2),
            "forced-idr": "1",
            # annexb=0: length-prefixed NAL units, and the avcC as extradata. weightp and subme save a
            # quarter of the time (measured), which cannot be seen on a drawn picture.
            "x264-params": f"annexb=0:scenecut=0:keyint={settings.fps}:min-keyint={settings.fps}"
            ":weightp=0:subme=0",
        }
        codec.open()
        self._codec = codec
        self._fps = settings.fps
        self._frame = av.VideoFrame(settings.width, settings.height, "yuv420p")
        self._frame.time_base = codec.time_base
        self.track = Track(
            id=VIDEO_ID,
            codec=Codec.H264,
            timescale=VIDEO_TIMESCALE,
            config=bytes(codec.extradata or b""),
            width=settings.width,
            height=settings.height,
            declared_bps=settings.video_bps,
            declared_fps=float(settings.fps),
        )

    def encode(self, picture: Picture, number: int, dts_us: int) -> list[Frame]:
        """The coded frame of a picture; `number` is its place on the frame rate's grid."""
        for plane, samples in zip(
            self._frame.planes, (picture.canvas.y, picture.canvas.u, picture.canvas.v), strict=True
        ):
            plane.update(bytes(samples))
        self._frame.pts = number
        self._frame.pict_type = PictureType.I if number == 0 else PictureType.NONE
        return [
            Frame(VIDEO_ID, dts_us, 0, packet.is_keyframe, bytes(packet))
            for packet in self._codec.encode(self._frame)
        ]


class AudioEncoder:
    """AAC-LC, 48 kHz, stereo."""

    def __init__(self, settings: DemoSettings) -> None:
        codec = av.CodecContext.create("aac", "w")
        codec.sample_rate = SAMPLE_RATE
        codec.format = "fltp"
        codec.layout = "stereo"
        codec.time_base = Fraction(1, SAMPLE_RATE)
        codec.bit_rate = settings.audio_bps
        codec.flags |= Flags.global_header
        codec.options = {"aac_coder": "fast"}
        codec.open()
        self._codec = codec
        self._frame = av.AudioFrame("fltp", "stereo", FRAME_SAMPLES)
        self._frame.sample_rate = SAMPLE_RATE
        self._frame.time_base = codec.time_base
        self.track = Track(
            id=AUDIO_ID,
            codec=Codec.AAC,
            timescale=SAMPLE_RATE,
            config=bytes(codec.extradata or b""),
            sample_rate=SAMPLE_RATE,
            channels=2,
            declared_bps=settings.audio_bps,
        )

    def encode(self, samples: bytes, position: int, start_us: int) -> list[Frame]:
        """Coded frames after FRAME_SAMPLES more samples, the first of them at `position`.

        The encoder's own delay shows as a first frame before `start_us`.
        """
        for plane in self._frame.planes:
            plane.update(samples)
        self._frame.pts = position
        return [
            Frame(
                AUDIO_ID, start_us + (packet.pts or 0) * MICROSECONDS // SAMPLE_RATE, 0, True, bytes(packet)
            )
            for packet in self._codec.encode(self._frame)
        ]


class Source:
    """Pictures and sound paced by the clocks of this host."""

    def __init__(self, settings: DemoSettings) -> None:
        self._fps = settings.fps
        self._picture = Picture(settings.width, settings.height, settings.title)
        self._sound = Sound()
        self._video, self._audio = VideoEncoder(settings), AudioEncoder(settings)
        # The first picture takes an encoder several times as long as others: let that be one before
        # the first, so that the first comes in time and says what time it is on the stream's clock.
        self._video.encode(self._picture, -1, 0)
        self._number = 0
        self._samples = 0
        self._sound_phase = 0
        self._started = time.monotonic()
        self._start_us = time.time_ns() // 1000

    @property
    def tracks(self) -> list[Track]:
        return [self._video.track, self._audio.track]

    def next_frames(self) -> list[Frame]:
        """Wait until the next picture is due; its coded frame and the sound up to it."""
        due = self._started + self._number / self._fps
        late = time.monotonic() - due
        if late > LATE_S:
            self._catch_up(late)
        elif late < 0:
            time.sleep(-late)
        frames = self._sound_until(self._number / self._fps)
        self._picture.draw(time.time_ns() // MICROSECONDS)
        dts_us = self._start_us + self._number * MICROSECONDS // self._fps
        frames += self._video.encode(self._picture, self._number, dts_us)
        self._number += 1
        return frames

    def _catch_up(self, late: float) -> None:
        self._number += int(late * self._fps)
        if late > LOST_S:
            self._samples += int(late * SAMPLE_RATE / FRAME_SAMPLES) * FRAME_SAMPLES

    def _sound_until(self, elapsed: float) -> list[Frame]:
        frames: list[Frame] = []
        while self._samples < elapsed * SAMPLE_RATE:
            self._align_sound()
            samples = self._sound.frame(self._samples + self._sound_phase)
            frames += self._audio.encode(samples, self._samples, self._start_us)
            self._samples += FRAME_SAMPLES
        return frames

    def _align_sound(self) -> None:
        """Keep the beep at the wall clock's full seconds, also when that clock is set."""
        wall_at_start = time.time() - (time.monotonic() - self._started)
        phase = round(wall_at_start % 10 * SAMPLE_RATE)
        period = 10 * SAMPLE_RATE
        off = (phase - self._sound_phase + period // 2) % period - period // 2
        if abs(off) > SOUND_SLACK:
            self._sound_phase = phase


def publish(settings: DemoSettings, out: BinaryIO) -> None:
    """Write messages until `out` is closed at its other end (BrokenPipeError)."""
    try:
        source = Source(settings)
    except (av.FFmpegError, ValueError) as error:
        _send(out, Impossible(f"cannot encode H.264 and AAC here: {error}"))
        return
    _send(out, Tracks(source.tracks))
    while True:
        _send(out, Frames(source.next_frames()))


def _send(out: BinaryIO, message: Message) -> None:
    out.write(encode(message))
    out.flush()


def main(arguments: list[str]) -> int:
    """`worker [settings as JSON]`: 0 when the parent stopped reading."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    settings = msgspec.json.decode(arguments[0] if arguments else "{}", type=DemoSettings)
    try:
        publish(settings, sys.stdout.buffer)
    except BrokenPipeError:
        # Python flushes stdout once more when it ends: give it somewhere harmless to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
