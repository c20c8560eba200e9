"""Media messages to tracks and frames."""

from typing import Any

import pytest

from media.bitstream import h264
from media.container import amf
from media.errors import StateError, WireError
from media.ingest.rtmp.publication import HOLD_FRAMES, Publication, TimestampUnwrapper
from media.track.model import Codec, Frame, Track

AUDIO, VIDEO = 8, 9
AVCC = h264.avcc_untrusted(
    [bytes.fromhex("67640028acd940780227e5c044000003000400000300c83c60c658")], [bytes.fromhex("68ebecb22c")]
)
ASC = bytes.fromhex("1190")
NAL = b"\0\0\0\x02\x65\x01"
# One AC-3 syncframe's beginning: 48 kHz, 192 kb/s, stereo.
AC3 = bytes.fromhex("0b77") + b"\0\0" + bytes((0x14, 0x40, 0x43)) + bytes(768 - 7)


class Writer:
    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self.described: list[Track] = []
        self.frames: list[Frame] = []
        self.came_at: list[float] = []
        self.flushes = 0

    def describe(self, track: Track, now: float) -> None:
        self.tracks[track.id] = track
        self.described.append(track)

    def write(self, frame: Frame, now: float) -> None:
        if frame.track_id not in self.tracks:
            raise StateError("not described")
        self.frames.append(frame)
        self.came_at.append(now)

    def flush(self, now: float) -> None:
        self.flushes += 1


class Feeder:
    def __init__(self) -> None:
        self.writer = Writer()
        self.publication = Publication(self.writer)

    def video(self, body: bytes, time_ms: int = 0) -> None:
        self.publication.on_media(VIDEO, time_ms, body, 0.0)

    def audio(self, body: bytes, time_ms: int = 0) -> None:
        self.publication.on_media(AUDIO, time_ms, body, 0.0)

    def metadata(self, **values: amf.Value) -> None:
        self.publication.on_data(amf.encode("@setDataFrame", "onMetaData", amf.EcmaArray(values)))

    def start(self, config: bytes = AVCC) -> None:
        self.metadata(videocodecid=7.0)
        self.video(b"\x17\0\0\0\0" + config)


@pytest.fixture
def feeder() -> Feeder:
    return Feeder()


def test_tracks_and_frames(feeder: Feeder) -> None:
    feeder.metadata(
        videocodecid=7.0, audiocodecid=10.0, videodatarate=2500.0, audiodatarate=160.0, framerate=25.0
    )
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    feeder.audio(b"\xaf\0" + ASC)
    feeder.video(b"\x17\x01\0\0\x50" + NAL, 40)
    feeder.audio(b"\xaf\x01sound", 45)
    video, audio = feeder.writer.described
    assert (video.id, video.codec, video.timescale, video.width, video.height) == (
        1,
        Codec.H264,
        90_000,
        1920,
        1080,
    )
    assert (video.declared_bps, video.declared_fps) == (2_500_000, 25.0)
    assert (audio.id, audio.codec, audio.timescale, audio.channels) == (2, Codec.AAC, 48_000, 2)
    assert audio.declared_bps == 160_000
    assert feeder.writer.frames == [Frame(1, 40_000, 80_000, True, NAL), Frame(2, 45_000, 0, True, b"sound")]


def test_frames_wait_for_the_tracks_that_metadata_announces(feeder: Feeder) -> None:
    feeder.metadata(videocodecid=7.0, audiocodecid=10.0)
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    feeder.video(b"\x17\x01\0\0\0" + NAL, 0)
    assert feeder.writer.described == []
    feeder.publication.flush(0.0)
    assert feeder.writer.flushes == 0
    feeder.audio(b"\xaf\0" + ASC, 20)
    feeder.audio(b"\xaf\x01x", 20)
    assert [track.id for track in feeder.writer.described] == [1, 2]
    assert [frame.dts_us for frame in feeder.writer.frames] == [0, 20_000]


def test_frames_that_waited_are_written_with_the_time_they_came(feeder: Feeder) -> None:
    media = feeder.publication.on_media
    feeder.metadata(videocodecid=7.0, audiocodecid=10.0)
    media(VIDEO, 0, b"\x17\0\0\0\0" + AVCC, 1.0)
    media(VIDEO, 0, b"\x17\x01\0\0\0" + NAL, 1.1)
    media(VIDEO, 40, b"\x27\x01\0\0\0" + NAL, 1.2)
    media(AUDIO, 0, b"\xaf\0" + ASC, 1.5)
    media(AUDIO, 10, b"\xaf\x01sound", 1.6)
    assert feeder.writer.came_at == [1.1, 1.2, 1.6]


def test_without_metadata_both_kinds_are_waited_for_a_second(feeder: Feeder) -> None:
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    for number in range(25):
        feeder.video(b"\x17\x01\0\0\0" + NAL, number * 40)
    assert feeder.writer.frames == []
    feeder.video(b"\x27\x01\0\0\0" + NAL, 1000)
    assert len(feeder.writer.frames) == 26


def test_the_wait_is_bounded_in_frames_too(feeder: Feeder) -> None:
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    for _ in range(HOLD_FRAMES):
        feeder.video(b"\x27\x01\0\0\0" + NAL, 0)
    assert len(feeder.writer.frames) == HOLD_FRAMES


def test_the_end_lets_go_of_what_is_held(feeder: Feeder) -> None:
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    feeder.video(b"\x17\x01\0\0\0" + NAL, 0)
    feeder.publication.finish(0.0)
    assert len(feeder.writer.frames) == 1


def test_the_same_sequence_header_again_changes_nothing(feeder: Feeder) -> None:
    feeder.start()
    feeder.video(b"\x17\x01\0\0\0" + NAL)
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    assert len(feeder.writer.described) == 1


def test_a_changed_sequence_header_describes_anew(feeder: Feeder) -> None:
    feeder.start()
    feeder.video(b"\x17\x01\0\0\0" + NAL)
    other = AVCC.replace(b"\x68\xeb\xec\xb2\x2c", b"\x68\xeb\xec\xb2\x2d")
    feeder.video(b"\x17\0\0\0\0" + other)
    feeder.video(b"\x17\x01\0\0\0" + NAL, 40)
    assert [track.config for track in feeder.writer.described] == [AVCC, other]


def test_frames_without_a_sequence_header_are_counted_and_dropped(feeder: Feeder) -> None:
    feeder.start()
    feeder.audio(b"\xaf\x01x")
    assert feeder.publication.statistics.undescribed == 1
    assert feeder.writer.frames == []


@pytest.mark.parametrize("length", [1, 2])
def test_short_nal_lengths_become_four_bytes(feeder: Feeder, length: int) -> None:
    config = bytearray(AVCC)
    config[4] = 0xFC | length - 1
    feeder.start(bytes(config))
    feeder.video(b"\x17\x01\0\0\0" + (2).to_bytes(length) + b"\x65\x01" + (1).to_bytes(length) + b"\x06")
    assert feeder.writer.described[0].config == AVCC
    assert feeder.writer.frames[0].data == NAL + b"\0\0\0\x01\x06"


def test_annex_b_is_put_right(feeder: Feeder) -> None:
    feeder.start()
    feeder.video(b"\x17\x01\0\0\0" + b"\0\0\0\1\x65\x01" + b"\0\0\1\x06\x05")
    assert feeder.writer.frames[0].data == NAL + b"\0\0\0\x02\x06\x05"


@pytest.mark.parametrize("data", [b"\0\0\0\x09\x65", b"\0\0", b"\xff\xff\xff\xff\x65", NAL + b"\0"])
def test_frames_whose_lengths_do_not_fit_are_counted_and_dropped(feeder: Feeder, data: bytes) -> None:
    feeder.start()
    feeder.video(b"\x17\x01\0\0\0" + data)
    assert feeder.publication.statistics.malformed == 1
    assert feeder.writer.frames == []


def test_ac3_is_described_by_its_first_frame(feeder: Feeder) -> None:
    feeder.metadata(audiocodecid=1633889587.0)
    feeder.audio(b"\x90ac-3")  # SequenceStart without payload, as FFmpeg sends it
    feeder.audio(b"\x91ac-3" + AC3, 10)
    track = feeder.writer.described[0]
    assert (track.id, track.codec, track.sample_rate, track.channels) == (2, Codec.AC3, 48_000, 2)
    assert feeder.writer.frames[0].data == AC3


def test_ac3_needs_no_sequence_start(feeder: Feeder) -> None:
    feeder.metadata(audiocodecid=1633889587.0)
    feeder.audio(b"\x91ac-3" + AC3, 10)
    assert len(feeder.writer.frames) == 1


def test_a_configuration_that_does_not_parse_is_an_error(feeder: Feeder) -> None:
    with pytest.raises(WireError):
        feeder.start(AVCC[:8])


def test_nanoseconds_are_added(feeder: Feeder) -> None:
    feeder.metadata(audiocodecid=1332770163.0)
    feeder.audio(b"\x90Opus" + b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0")
    feeder.audio(b"\x97\x02" + (333_333).to_bytes(3) + b"\x01Opus" + b"\xfcx", 20)
    assert feeder.writer.frames[0].dts_us == 20_333


def test_tracks_of_a_multitrack_stream_have_their_declared_rates(feeder: Feeder) -> None:
    feeder.metadata(
        videocodecid=7.0,
        videodatarate=3000.0,
        videoTrackIdInfoMap={"1": {"videodatarate": 800.0, "framerate": 15.0}},
    )
    feeder.video(b"\x17\0\0\0\0" + AVCC)
    feeder.video(b"\x96\x00avc1\x01" + AVCC)
    feeder.video(b"\x17\x01\0\0\0" + NAL)
    tracks: Any = feeder.writer.tracks
    assert (tracks[1].declared_bps, tracks[3].declared_bps) == (3_000_000, 800_000)
    assert tracks[3].declared_fps == 15.0


def test_timestamps_are_unwrapped() -> None:
    times = TimestampUnwrapper()
    stamps = [0xFFFFFFD0, 0xFFFFFFF8, 0x20, 0x10, 0x48, 0x7FFFFFFF, 0xFFFFFFFE, 5]
    assert [times.unwrap(stamp) for stamp in stamps] == [
        0xFFFFFFD0, 0xFFFFFFF8, 0x100000020, 0x100000010, 0x100000048, 0x17FFFFFFF, 0x1FFFFFFFE, 0x200000005,
    ]  # fmt: skip
