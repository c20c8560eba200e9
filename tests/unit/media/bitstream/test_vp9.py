"""Uncompressed headers and vpcC."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import vp9
from media.bitstream.picture import Colour
from media.errors import WireError

Fields = Callable[[str], bytes]
SIZE = "u16=1919 u16=1079 u1=0"


def test_keyframe_of_libvpx(real: SimpleNamespace) -> None:
    assert vp9.frame_size_untrusted(real.vp9_keyframe) == (320, 180)
    config = vp9.vpcc_from_keyframe_untrusted(real.vp9_keyframe, 30.0)
    assert config.hex() == "01000000000b820202020000"
    parsed = vp9.parse_vpcc_untrusted(config)
    assert (parsed.profile, parsed.bit_depth, parsed.chroma) == ("Profile 0 1.1", 8, 1)


def test_other_frames_name_no_size(fields: Fields) -> None:
    inter = fields("u2=2 u1=0 u1=0 u1=0 u1=1 u1=1 u1=0")
    assert vp9.frame_size_untrusted(inter) is None
    assert vp9.parse_frame_header_untrusted(inter) == vp9.FrameHeader(False, True, 0)
    with pytest.raises(WireError, match="keyframe"):
        vp9.vpcc_from_keyframe_untrusted(inter)


def test_a_shown_again_frame_is_no_keyframe(fields: Fields) -> None:
    assert not vp9.parse_frame_header_untrusted(fields("u2=2 u1=0 u1=0 u1=1 u3=2")).keyframe


def test_profile_2_bt2020(fields: Fields) -> None:
    key = fields(f"u2=2 u1=0 u1=1 u1=0 u1=0 u1=1 u1=0 u24=0x498342 u1=0 u3=5 u1=0 {SIZE}")
    parsed = vp9.parse_vpcc_untrusted(vp9.vpcc_from_keyframe_untrusted(key, 60.0))
    assert (parsed.profile_idc, parsed.bit_depth, parsed.level) == (2, 10, 41)
    assert parsed.colour == Colour(9, 14, 9, False)


@pytest.mark.parametrize(
    ("colour", "chroma"), [("u3=2 u1=0 u1=1 u1=0 u1=0", 2), ("u3=2 u1=0 u1=0 u1=0 u1=0", 3), ("u3=7 u1=0", 3)]
)
def test_profile_1_subsampling(colour: str, chroma: int, fields: Fields) -> None:
    key = fields(f"u2=2 u1=1 u1=0 u1=0 u1=0 u1=1 u1=0 u24=0x498342 {colour} {SIZE}")
    header = vp9.parse_frame_header_untrusted(key)
    assert (header.chroma, header.width, header.height) == (chroma, 1920, 1080)


@pytest.mark.parametrize(
    "text",
    [
        "u2=1 u30=0",
        "u2=2 u1=0 u1=0 u1=0 u1=0 u1=1 u1=0 u24=0x498343 u32=0",
        "u2=2 u1=0 u1=0 u1=0 u1=0 u1=1 u1=0 u24=0x498342 u3=7 u32=0",
        "u2=2 u1=0 u1=0 u1=0 u1=0 u1=1 u1=0 u24=0x498342 u3=2",
    ],
    ids=["marker", "sync code", "RGB in profile 0", "cut off"],
)
def test_broken_headers(text: str, fields: Fields) -> None:
    with pytest.raises(WireError):
        vp9.parse_frame_header_untrusted(fields(text))


@pytest.mark.parametrize("config", [b"", bytes(12), b"\1" + bytes(11), b"\1\0\0\0\7\x0a\x80" + bytes(5)])
def test_broken_vpcc(config: bytes) -> None:
    with pytest.raises(WireError):
        vp9.parse_vpcc_untrusted(config)


def test_pictures_beyond_all_levels_get_the_last(fields: Fields) -> None:
    key = fields("u2=2 u1=0 u1=0 u1=0 u1=0 u1=1 u1=0 u24=0x498342 u3=2 u1=0 u16=65535 u16=65535 u1=0")
    assert vp9.parse_vpcc_untrusted(vp9.vpcc_from_keyframe_untrusted(key)).level == 62
