"""FLV tags and tag bodies as we write them."""

import pytest

from media.container import amf, flv
from media.track.model import Codec, Kind, Packet, Track

VIDEO = Track(
    1, Codec.H264, 90_000, b"avcC", width=1920, height=1080, declared_bps=3_000_000, declared_fps=30.0
)
AUDIO = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
DOPS = bytes.fromhex("0002013800 00bb80 0000 00".replace(" ", ""))


def track(codec: Codec, config: bytes = b"config", number: int = 0) -> Track:
    kind = codec.kind
    return Track(number or (1 if kind is Kind.VIDEO else 2), codec, 90_000, config)


def packet(of: Track, *, dts: int = 0, cts: int = 0, keyframe: bool = True, data: bytes = b"data") -> Packet:
    return Packet(of, dts, cts, 0, keyframe, data, 1, 1, 0, 0)


def test_track_ids() -> None:
    assert [flv.track_id(Kind.VIDEO, index) for index in range(3)] == [1, 3, 5]
    assert [flv.track_id(Kind.AUDIO, index) for index in range(3)] == [2, 4, 6]
    assert [flv.track_index(number) for number in range(1, 7)] == [0, 0, 1, 1, 2, 2]


def test_legacy_heads() -> None:
    assert flv.frame_head(packet(VIDEO, cts=7200), 0) == b"\x17\x01\0\0\x50"
    assert flv.frame_head(packet(VIDEO, keyframe=False), 0) == b"\x27\x01\0\0\0"
    assert flv.frame_head(packet(AUDIO), 0) == b"\xaf\x01"
    assert flv.sequence_header(VIDEO, 0) == b"\x17\0\0\0\0avcC"
    assert flv.sequence_header(AUDIO, 0) == b"\xaf\0\x11\x90"


@pytest.mark.parametrize(
    ("of", "index", "keyframe", "cts", "expected"),
    [
        (track(Codec.HEVC), 0, True, 0, b"\x93hvc1"),
        (track(Codec.HEVC), 0, False, 3600, b"\xa1hvc1\0\0\x28"),
        (track(Codec.AV1), 0, False, 0, b"\xa1av01"),
        (track(Codec.VP9), 0, True, 0, b"\x91vp09"),
        (track(Codec.OPUS), 0, True, 0, b"\x91Opus"),
        (track(Codec.EAC3), 0, True, 0, b"\x91ec-3"),
        (VIDEO, 2, True, 0, b"\x96\x03avc1\x02"),
        (VIDEO, 2, True, 3600, b"\x96\x01avc1\x02\0\0\x28"),
        (AUDIO, 1, True, 0, b"\x95\x01mp4a\x01"),
    ],
)
def test_enhanced_heads(of: Track, index: int, keyframe: bool, cts: int, expected: bytes) -> None:
    assert flv.frame_head(packet(of, cts=cts, keyframe=keyframe), index) == expected


@pytest.mark.parametrize(
    ("of", "index", "expected"),
    [
        (track(Codec.HEVC), 0, b"\x90hvc1config"),
        (track(Codec.AV1), 0, b"\x90av01config"),
        (track(Codec.VP9, b"\1\0\0\0record.."), 0, b"\x90vp09record.."),
        (track(Codec.OPUS, DOPS), 0, b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"),
        (track(Codec.FLAC, b"\x80\0\0\x22..."), 0, b"\x90fLaCfLaC\x80\0\0\x22..."),
        (track(Codec.AC3), 0, b"\x90ac-3"),
        (VIDEO, 1, b"\x96\x00avc1\x01avcC"),
        (AUDIO, 1, b"\x95\x00mp4a\x01\x11\x90"),
    ],
)
def test_sequence_headers(of: Track, index: int, expected: bytes) -> None:
    assert flv.sequence_header(of, index) == expected


def test_times_are_rounded_without_drift() -> None:
    packets = [packet(VIDEO, dts=3003 * number, cts=3003) for number in range(100)]
    for one in packets:
        assert abs(flv.timestamp_ms(one) - one.dts / 90) <= 0.5
        cts_ms = int.from_bytes(flv.frame_head(one, 0)[2:])
        assert abs(flv.timestamp_ms(one) + cts_ms - one.pts / 90) <= 0.5


def test_file_tags() -> None:
    tag = flv.file_tag(packet(AUDIO, dts=48_000 * 20_000, data=b"xyz"))
    time_ms = 20_000_000
    assert tag == (
        b"\x08\0\0\x05" + (time_ms & 0xFFFFFF).to_bytes(3) + bytes((time_ms >> 24,)) + b"\0\0\0"
        b"\xaf\x01xyz" + (16).to_bytes(4)
    )  # fmt: skip


def test_file_tags_wrap_at_32_bits() -> None:
    tag = flv.file_tag(packet(AUDIO, dts=48 * ((1 << 32) + 5)))
    assert tag[4:8] == b"\0\0\x05\0"


def test_the_file_header_holds_metadata_and_sequence_headers() -> None:
    data = flv.file_header((VIDEO, AUDIO))
    assert data[:13] == b"FLV\x01\x05\0\0\0\x09\0\0\0\0"
    assert flv.file_header((AUDIO,))[4] == 4
    assert flv.file_header((VIDEO,))[4] == 1
    position, kinds = 13, []
    while position < len(data):
        size = int.from_bytes(data[position + 1 : position + 4])
        kinds.append(data[position])
        assert int.from_bytes(data[position + 11 + size : position + 15 + size]) == size + 11
        position += size + 15
    assert kinds == [18, 9, 8]


def test_metadata() -> None:
    name, info = amf.decode_untrusted(flv.metadata((VIDEO, AUDIO)))
    assert name == "onMetaData"
    assert info == {
        "duration": 0.0, "videocodecid": 7.0, "width": 1920.0, "height": 1080.0, "framerate": 30.0,
        "videodatarate": 3000.0, "audiocodecid": 10.0, "audiosamplerate": 48_000.0, "audiosamplesize": 16.0,
        "audiochannels": 2.0, "stereo": True,
    }  # fmt: skip


def test_metadata_of_more_tracks_and_codecs() -> None:
    other = Track(3, Codec.HEVC, 90_000, b"", width=640, height=360)
    info = amf.decode_untrusted(flv.metadata((VIDEO, other, track(Codec.OPUS, DOPS))))[1]
    assert isinstance(info, dict)
    assert info["audiocodecid"] == 1332770163.0
    assert info["videoTrackIdInfoMap"] == {
        "1": {"videocodecid": 1752589105.0, "width": 640.0, "height": 360.0}
    }


def test_lead_tracks() -> None:
    second = Track(3, Codec.HEVC, 90_000, b"")
    assert flv.lead_tracks((AUDIO, second, VIDEO)) == (VIDEO, AUDIO)
    assert flv.lead_tracks((AUDIO,)) == (AUDIO,)
