"""The demo's child process: what it encodes decodes to what it drew."""

import io
import itertools
import time

import av
import pytest

from fwnode.demo.clockstrip import read_strip
from fwnode.demo.wire import DemoSettings, Frames, Message, MessageReader, Tracks
from fwnode.demo.worker import publish
from media.track.model import Codec, Frame, Kind, Track

SMALL = DemoSettings(width=640, height=360, fps=25, video_bps=600_000)
MESSAGES = 12


class Pipe(io.BytesIO):
    """A pipe whose reader goes after a number of messages."""

    def __init__(self) -> None:
        super().__init__()
        self.left = MESSAGES

    def flush(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise BrokenPipeError


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    pipe = Pipe()
    with pytest.raises(BrokenPipeError):
        publish(SMALL, pipe)
    return MessageReader().receive(pipe.getvalue())


def tracks(messages: list[Message]) -> list[Track]:
    first = messages[0]
    assert isinstance(first, Tracks)
    return first.tracks


def frames(messages: list[Message], track_id: int) -> list[Frame]:
    every = [frame for message in messages if isinstance(message, Frames) for frame in message.frames]
    return [frame for frame in every if frame.track_id == track_id]


def test_tracks_come_first(messages: list[Message]) -> None:
    video, audio = tracks(messages)
    assert (video.kind, video.codec, video.width, video.height) == (Kind.VIDEO, Codec.H264, 640, 360)
    assert video.config[0] == 1, "avcC version"
    assert (audio.codec, audio.sample_rate, audio.channels) == (Codec.AAC, 48_000, 2)
    assert audio.config[:2] == b"\x11\x90", "AudioSpecificConfig of AAC-LC, 48 kHz, stereo"


def test_the_decoded_picture_tells_when_it_was_drawn(messages: list[Message]) -> None:
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = tracks(messages)[0].config
    read = []
    coded = [av.Packet(frame.data) for frame in frames(messages, 1)]
    for packet in [*coded, None]:
        for picture in decoder.decode(packet):
            luma = picture.planes[0]
            read.append(read_strip(bytes(luma), luma.line_size, picture.width, picture.height))
    assert len(read) == MESSAGES - 1
    assert all(unix_ms is not None and abs(unix_ms - time.time() * 1000) < 60_000 for unix_ms in read)
    assert read == sorted(read)  # type: ignore[type-var]  # no None, see above


def test_video_is_constant_rate_without_reordering(messages: list[Message]) -> None:
    video = frames(messages, 1)
    assert video[0].keyframe
    assert [frame.cts_us for frame in video] == [0] * len(video)
    assert {after.dts_us - before.dts_us for before, after in itertools.pairwise(video)} == {40_000}


def test_sound_keeps_up_with_the_picture(messages: list[Message]) -> None:
    video, audio = frames(messages, 1), frames(messages, 2)
    assert abs(audio[-1].dts_us - video[-1].dts_us) < 60_000
    assert audio[0].dts_us < video[0].dts_us, "the encoder's delay is told, not hidden"
