"""Codec strings and what else configurations say."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import ac3, flac, opus, vp9
from media.bitstream.describe import MAX_CONFIG_BYTES, Description, describe
from media.bitstream.picture import Colour
from media.errors import WireError
from media.track.model import Codec


def test_h264(real: SimpleNamespace) -> None:
    assert describe(Codec.H264, real.avcc_high) == Description(
        "avc1.64000d", "High 1.3", 8, 320, 180, frame_rate=30.0, may_reorder=True
    )


def test_hevc(real: SimpleNamespace) -> None:
    found = describe(Codec.HEVC, real.hvcc)
    assert (found.codec_string, found.profile) == ("hvc1.2.4.L60.90", "Main 10 2.0")
    assert (found.width, found.height, found.bit_depth) == (320, 180, 10)
    assert found.colour == Colour(9, 16, 9, False)


def test_av1(real: SimpleNamespace) -> None:
    assert describe(Codec.AV1, real.av1c) == Description("av01.0.00M.08", "Main 2.0", 8, 320, 180)


@pytest.mark.parametrize(
    ("head", "text"),
    [("81084c00", "av01.0.08M.10"), ("812de800", "av01.1.13H.12"), ("81080c00", "av01.0.08M.08")],
)
def test_av1_without_sequence_header(head: str, text: str) -> None:
    found = describe(Codec.AV1, bytes.fromhex(head))
    assert (found.codec_string, found.width, found.height) == (text, 0, 0)


def test_av1_names_its_colours(fields: Callable[[str], bytes]) -> None:
    start = "u3=0 u1=0 u1=0 u1=0 u1=0 u5=0 u12=0 u5=8 u1=0 u4=10 u4=10 u11=1919 u11=1079 u1=0"
    payload = fields(
        f"{start} u3=0 u4=0 u1=0 u1=1 u1=1 u3=0 u1=1 u1=0 u1=1 u8=9 u8=16 u8=9 u1=0 u2=2 u1=0 u1=0"
    )
    config = b"\x81\x08\x4e\0\x0a" + bytes((len(payload),)) + payload
    found = describe(Codec.AV1, config)
    assert found.codec_string == "av01.0.08M.10.0.112.09.16.09.0"
    assert (found.width, found.height, found.colour) == (1920, 1080, Colour(9, 16, 9, False))


def test_vp9(real: SimpleNamespace) -> None:
    config = vp9.vpcc_from_keyframe_untrusted(real.vp9_keyframe)
    assert describe(Codec.VP9, config) == Description("vp09.00.11.08", "Profile 0 1.1", 8)
    hdr = describe(Codec.VP9, bytes.fromhex("010000000233a20910090000"))
    assert (hdr.codec_string, hdr.colour) == ("vp09.02.51.10.01.09.16.09.00", Colour(9, 16, 9, False))


def test_sound(real: SimpleNamespace) -> None:
    assert describe(Codec.AAC, real.aac) == Description("mp4a.40.2", "LC", sample_rate=48_000, channels=2)
    head = opus.config_from_head_untrusted(real.opus_head)
    assert describe(Codec.OPUS, head) == Description("opus", "", sample_rate=48_000, channels=1)
    info = flac.config_from_streaminfo_untrusted(real.streaminfo)
    assert describe(Codec.FLAC, info) == Description("fLaC", "16 bit", 16, sample_rate=48_000, channels=1)
    config = ac3.config_from_syncframe_untrusted(real.ac3_frame)
    assert describe(Codec.AC3, config) == Description("ac-3", "5.1", sample_rate=48_000, channels=6)
    config = ac3.config_from_syncframe_untrusted(real.eac3_frame)
    assert describe(Codec.EAC3, config) == Description("ec-3", "2.0", sample_rate=48_000, channels=2)


@pytest.mark.parametrize("codec", Codec)
def test_every_codec_refuses_nothing_and_too_much(codec: Codec) -> None:
    for config in (b"", bytes(MAX_CONFIG_BYTES + 1)):
        with pytest.raises(WireError):
            describe(codec, config)
