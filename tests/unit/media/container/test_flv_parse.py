"""FLV tag bodies as publishers send them."""

import pytest

from media.container import amf
from media.container.flv_parse import (
    CodedFrame,
    Declared,
    SequenceEnd,
    SequenceHeader,
    parse_audio_untrusted,
    parse_metadata_untrusted,
    parse_video_untrusted,
)
from media.errors import Refused, WireError
from media.track.model import Codec, Kind

OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"
DOPS = bytes.fromhex("000201380000bb80000000")
STREAMINFO = bytes.fromhex("10001000000000000000" + "0bb802f0" + "00000000") + bytes(16)


def test_legacy_video() -> None:
    assert parse_video_untrusted(b"\x17\0\0\0\0avcC") == (SequenceHeader(1, Codec.H264, b"avcC"),)
    assert parse_video_untrusted(b"\x17\x01\0\0\x50nal") == (CodedFrame(1, Codec.H264, True, 80, 0, b"nal"),)
    assert parse_video_untrusted(b"\x27\x01\xff\xff\xff.") == (CodedFrame(1, Codec.H264, False, -1, 0, b"."),)
    assert parse_video_untrusted(b"\x17\x02\0\0\0") == (SequenceEnd(1),)
    assert parse_video_untrusted(b"\x17\x02") == (SequenceEnd(1),)


def test_hevc_under_the_number_that_hardware_encoders_use() -> None:
    assert parse_video_untrusted(b"\x1c\0\0\0\0hvcC") == (SequenceHeader(1, Codec.HEVC, b"hvcC"),)
    assert parse_video_untrusted(b"\x2c\x01\0\0\0n") == (CodedFrame(1, Codec.HEVC, False, 0, 0, b"n"),)


def test_legacy_audio() -> None:
    assert parse_audio_untrusted(b"\xaf\0\x11\x90") == (SequenceHeader(2, Codec.AAC, b"\x11\x90"),)
    assert parse_audio_untrusted(b"\xaf\x01raw") == (CodedFrame(2, Codec.AAC, True, 0, 0, b"raw"),)


@pytest.mark.parametrize("body", [b"", b"\x57\0", b"\x17\x01\0\0\0", b"\x17\0\0\0\0", b"\x17\x07\0\0\0x"])
def test_video_that_says_nothing(body: bytes) -> None:
    assert parse_video_untrusted(body) == ()


@pytest.mark.parametrize("body", [b"", b"\xaf\x01", b"\xaf\0", b"\xaf\x02x"])
def test_audio_that_says_nothing(body: bytes) -> None:
    assert parse_audio_untrusted(body) == ()


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b"\x90hvc1hvcC", SequenceHeader(1, Codec.HEVC, b"hvcC")),
        (b"\x90avc1avcC", SequenceHeader(1, Codec.H264, b"avcC")),
        (b"\x90av01av1C", SequenceHeader(1, Codec.AV1, b"av1C")),
        (b"\x90vp09record..", SequenceHeader(1, Codec.VP9, b"\1\0\0\0record..")),
        (b"\x90vp09\1\0\0\0record..", SequenceHeader(1, Codec.VP9, b"\1\0\0\0record..")),
        (b"\x91hvc1\0\0\x28nal", CodedFrame(1, Codec.HEVC, True, 40, 0, b"nal")),
        (b"\xa1hvc1\xff\xff\xd8nal", CodedFrame(1, Codec.HEVC, False, -40, 0, b"nal")),
        (b"\xa3hvc1nal", CodedFrame(1, Codec.HEVC, False, 0, 0, b"nal")),
        (b"\xa1av01\x12\0\x32\x01x", CodedFrame(1, Codec.AV1, False, 0, 0, b"\x32\x01x")),
        (b"\xa1av01\x32\x01x", CodedFrame(1, Codec.AV1, False, 0, 0, b"\x32\x01x")),
        (b"\x91vp09frame", CodedFrame(1, Codec.VP9, True, 0, 0, b"frame")),
        (b"\x92hvc1", SequenceEnd(1)),
        (b"\x95av01\x80\x04\x81\x05\x0c\xe7", SequenceHeader(1, Codec.AV1, b"\x81\x05\x0c\x07")),
        (b"\x96\x01hvc1\x02\0\0\x28nal", CodedFrame(5, Codec.HEVC, True, 40, 0, b"nal")),
        (b"\x96\x00avc1\x01avcC", SequenceHeader(3, Codec.H264, b"avcC")),
        (b"\x97\x02\x01\x02\x03\x03avc1nal", CodedFrame(1, Codec.H264, True, 0, 0x010203, b"nal")),
        (b"\x97\x02\xff\xff\xff\x03avc1nal", CodedFrame(1, Codec.H264, True, 0, 999_999, b"nal")),
        (b"\x97\0\xaa\x73avc1nal", CodedFrame(1, Codec.H264, True, 0, 0, b"nal")),
        (b"\x97\0\x00\x17\x02\0\0\x07\x03avc1nal", CodedFrame(1, Codec.H264, True, 0, 7, b"nal")),
        (b"\x97\xff\x01\x00" + bytes(257) + b"\x13avc1nal", CodedFrame(1, Codec.H264, True, 0, 0, b"nal")),
    ],
)
def test_enhanced_video(body: bytes, event: object) -> None:
    assert list(parse_video_untrusted(body)) == [event]


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b"\x90Opus" + OPUS_HEAD, SequenceHeader(2, Codec.OPUS, DOPS)),
        (b"\x90mp4a\x11\x90", SequenceHeader(2, Codec.AAC, b"\x11\x90")),
        (b"\x90fLaC" + STREAMINFO, SequenceHeader(2, Codec.FLAC, b"\x80\0\0\x22" + STREAMINFO)),
        (b"\x90fLaC\0\0\0\x22" + STREAMINFO, SequenceHeader(2, Codec.FLAC, b"\x80\0\0\x22" + STREAMINFO)),
        (
            b"\x90fLaCfLaC\0\0\0\x22" + STREAMINFO + b"\x84more",
            SequenceHeader(2, Codec.FLAC, b"\x80\0\0\x22" + STREAMINFO),
        ),
        (b"\x90ac-3", SequenceHeader(2, Codec.AC3, b"")),
        (b"\x91ec-3sync", CodedFrame(2, Codec.EAC3, True, 0, 0, b"sync")),
        (b"\x91Opusp", CodedFrame(2, Codec.OPUS, True, 0, 0, b"p")),
        (b"\x92Opus", SequenceEnd(2)),
        (b"\x95\x01mp4a\x03raw", CodedFrame(8, Codec.AAC, True, 0, 0, b"raw")),
        (b"\x97\x02\0\0\x09\x05\x01mp4a\x03raw", CodedFrame(8, Codec.AAC, True, 0, 9, b"raw")),
    ],
)
def test_enhanced_audio(body: bytes, event: object) -> None:
    assert list(parse_audio_untrusted(body)) == [event]


def test_an_empty_opus_header_means_stereo() -> None:
    header = parse_audio_untrusted(b"\x90Opus")[0]
    assert isinstance(header, SequenceHeader)
    assert header.config[:2] == b"\0\x02"


def test_many_tracks_in_one_message() -> None:
    body = b"\x96\x11avc1" + b"\x00\0\0\x06\0\0\x28one" + b"\x01\0\0\x06\0\0\0two"
    assert parse_video_untrusted(body) == [
        CodedFrame(1, Codec.H264, True, 40, 0, b"one"),
        CodedFrame(3, Codec.H264, True, 0, 0, b"two"),
    ]


def test_many_tracks_with_many_codecs() -> None:
    body = b"\x95\x21" + b"Opus\0\0\0\x01p" + b"mp4a\x01\0\0\x03raw"
    assert parse_audio_untrusted(body) == [
        CodedFrame(2, Codec.OPUS, True, 0, 0, b"p"),
        CodedFrame(4, Codec.AAC, True, 0, 0, b"raw"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"\x94hvc1" + amf.encode("colorInfo", {}),  # metadata frame
        b"\xd4hvc1" + amf.encode("colorInfo", {}),
        b"\xd0\x00",  # command frame
        b"\x98hvc1x", b"\x9fhvc1x",  # packet types to come
        b"\x96\x31avc1\x01x",  # multitrack layout to come
        b"\x96\x06avc1\x01x", b"\x96\x07avc1\x01x",  # multitrack inside multitrack
        b"\x91hvc1\0\0\0", b"\x93hvc1", b"\x91av01", b"\x95hvc1x",
    ],
)  # fmt: skip
def test_what_is_politely_ignored(body: bytes) -> None:
    assert list(parse_video_untrusted(body)) == []


@pytest.mark.parametrize("body", [b"\x94mp4a\x01\x02\0\0\0\x03", b"\x93mp4ax", b"\x96mp4ax", b"\x91mp4a"])
def test_audio_that_is_politely_ignored(body: bytes) -> None:
    assert list(parse_audio_untrusted(body)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"\x17", b"\x17\x01", b"\x17\0\0\0", b"\x90", b"\x90hvc", b"\x91hvc1\0\0", b"\x97", b"\x97\x02\0\0",
        b"\x97\x02\0\0\0", b"\x97\xff\xff\xff", b"\x96", b"\x96\x01", b"\x96\x01avc", b"\x96\x11avc1\0\0\0",
        b"\x96\x11avc1\0\0\0\x09x", b"\x96\x01avc1\xffx", b"\x95av01\x80\x04", b"\x96\x21avc1",
    ],
)  # fmt: skip
def test_damaged_video_is_an_error(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_video_untrusted(body)


@pytest.mark.parametrize(
    "body",
    [
        b"\xaf",
        b"\x90",
        b"\x90OpusOpusHead",
        b"\x90fLaCshort",
        b"\x95\x01mp4",
        b"\x90OpusOpusHead\x01\0" + bytes(9),
    ],
)
def test_damaged_audio_is_an_error(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_audio_untrusted(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x12x", "Sorenson H.263 over RTMP is not carried here: set the encoder's video codec to H.264"),
        (b"\x1fx", "Video codec 15 over RTMP"),
        (
            b"\x91vp08x",
            "'vp08' video is not carried here: set the encoder's video codec to H.264, HEVC, AV1 or VP9",
        ),
        (b"\x91\xff\0\n\x1bx", "'\\\\xff\\\\x00\\\\n\\\\x1b' video"),
    ],
)
def test_video_that_is_refused_names_the_fix(body: bytes, text: str) -> None:
    with pytest.raises(Refused, match=text):
        parse_video_untrusted(body)


@pytest.mark.parametrize(
    ("body", "text"), [(b"\x2fx", "MP3 sound"), (b"\xb2x", "Speex sound"), (b"\x91.mp3x", "AAC")]
)
def test_audio_that_is_refused_names_the_fix(body: bytes, text: str) -> None:
    with pytest.raises(Refused, match=text):
        parse_audio_untrusted(body)


def script(*values: amf.Value) -> bytes:
    return amf.encode(*values)


def test_metadata() -> None:
    info = {
        "videocodecid": 7.0, "audiocodecid": "mp4a", "videodatarate": 2500.5, "framerate": 29.97,
        "audiodatarate": 160.0, "encoder": "obs-output module",
        "videoTrackIdInfoMap": {
            "1": {"videodatarate": 900.0, "framerate": 15.0}, "x": 1.0, "99": {}, "2": 5.0,
        },
    }  # fmt: skip
    for leading in ([], ["@setDataFrame"]):
        found = parse_metadata_untrusted(script(*leading, "onMetaData", amf.EcmaArray(info)))
        assert found is not None
        assert found.kinds == set(Kind)
        assert found.encoder == "obs-output module"
        assert found.tracks == {
            1: Declared(2_500_500, 29.97),
            2: Declared(160_000),
            3: Declared(900_000, 15.0),
        }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e30, "30", None, True])
def test_nonsense_in_metadata_reads_as_nothing(value: amf.Value) -> None:
    found = parse_metadata_untrusted(script("onMetaData", {"framerate": value, "videodatarate": value}))
    assert found is not None
    assert found.tracks[1] == Declared(0, 0.0)


def test_other_scripts_are_not_read() -> None:
    assert parse_metadata_untrusted(script("onCuePoint", {})) is None
    assert parse_metadata_untrusted(b"\xff\xff") is None
    found = parse_metadata_untrusted(script("onMetaData"))
    assert found is not None and found.kinds == frozenset()
