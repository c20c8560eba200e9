"""hvcC and sequence parameter sets."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import hevc
from media.bitstream.annexb import escape
from media.bitstream.picture import Colour
from media.errors import WireError

Fields = Callable[[str], bytes]
# Main profile, level 4.0
PTL = "u8=0x01 u32=0x60000000 u32=0x90000000 u16=0 u8=120"
TOOLS = "ue=0 ue=3 ue=0 ue=3 ue=0 ue=0"
NO_LISTS = "u1=0 u2=0 u1=0"


def sps(
    fields: Fields, *, layers: str = "u4=0 u3=0 u1=1", ptl: str = PTL,
    order: str = "u1=1 ue=4 ue=0 ue=0", lists: str = NO_LISTS, sets: str = "ue=0", vui: str = "u1=0",
) -> hevc.Sps:  # fmt: skip
    size = "ue=0 ue=1 ue=1920 ue=1088 u1=1 ue=0 ue=0 ue=0 ue=4 ue=0 ue=0 ue=4"
    text = f"{layers} {ptl} {size} {order} {TOOLS} {lists} {sets} u1=0 u2=0 {vui} u1=0"
    return hevc.parse_sps_untrusted(b"\x42\x01" + escape(fields(text)))


VUI = "u1=1 u1=1 u8=14 u1=0 u1=1 u3=5 u1=1 u1=1 u8=9 u8=18 u8=9 u1=0 u3=0 u1=0 u1=1 u32=1 u32=50 u1=0 u1=0"


def test_sps_of_x265(real: SimpleNamespace) -> None:
    parsed = hevc.parse_sps_untrusted(hevc.parse_hvcc_untrusted(real.hvcc).sps[0])
    assert (parsed.width, parsed.height, parsed.frame_rate, parsed.bit_depth) == (320, 180, 30.0, 10)
    assert parsed.colour == Colour(9, 16, 9, False)
    assert parsed.may_reorder
    assert (parsed.ptl.codec_suffix, parsed.ptl.profile) == ("2.4.L60.90", "Main 10 2.0")


def test_hvcc_is_rebuilt_with_the_same_meaning(real: SimpleNamespace) -> None:
    parsed = hevc.parse_hvcc_untrusted(real.hvcc)
    built = hevc.hvcc_untrusted(parsed.vps, parsed.sps, parsed.pps)
    assert hevc.parse_hvcc_untrusted(built) == parsed
    assert built[:21] == real.hvcc[:21]
    assert built[21] == real.hvcc[21]


def test_conformance_window(fields: Fields) -> None:
    parsed = sps(fields)
    assert (parsed.width, parsed.height, parsed.may_reorder) == (1920, 1080, False)
    assert (parsed.ptl.codec_suffix, parsed.ptl.profile) == ("1.6.L120.90", "Main 4.0")


def test_temporal_layers_and_their_levels(fields: Fields) -> None:
    # Two layers below the highest: one with a profile and a level, one with a level only.
    sub = "u2=3 u2=1 u12=0 u32=1 u32=0 u24=0 u8=90 u8=93"
    parsed = sps(
        fields, layers="u4=0 u3=2 u1=0", ptl=f"{PTL} {sub}",
        order="u1=1 ue=1 ue=0 ue=0 ue=2 ue=1 ue=0 ue=4 ue=2 ue=0",
    )  # fmt: skip
    assert (parsed.width, parsed.temporal_layers, parsed.temporal_nesting) == (1920, 3, False)
    assert parsed.may_reorder


def test_vui_behind_every_coding_tool(fields: Fields) -> None:
    lists = "u1=1 u1=1 " + "u1=0 ue=0 " * 19 + "u1=1 se=1 " + "se=0 " * 64
    # pcm, one explicit set of two pictures, one predicted from it that keeps two of three
    sets = "ue=2 ue=1 ue=1 ue=0 u1=1 ue=0 u1=1 u1=1 u1=0 ue=0 u1=1 u1=0 u1=0 u1=0 u1=1"
    parsed = sps(fields, lists=f"{lists} u2=3 u1=1 u4=7 u4=7 ue=0 ue=2 u1=0", sets=sets, vui=VUI)
    assert parsed.colour == Colour(9, 18, 9, True)
    assert parsed.pixel_aspect == (4, 3)
    assert parsed.frame_rate == 50.0


def test_damaged_vui_counts_as_absent(fields: Fields) -> None:
    parsed = sps(fields, vui="u1=1 u1=1 u8=255 u16=1")
    assert (parsed.width, parsed.colour, parsed.frame_rate) == (1920, None, None)


def test_high_tier_in_codec_string() -> None:
    ptl = hevc.ProfileTierLevel(bytes.fromhex("22 20000000 b00000000000 99"))
    assert ptl.codec_suffix == "2.4.H153.B0"
    assert ptl.profile == "Main 10 5.1 high tier"
    assert hevc.ProfileTierLevel(bytes.fromhex("41 60000000 000000000000 5d")).codec_suffix == "A1.6.L93"


def test_shorter_lengths_are_normalised(real: SimpleNamespace) -> None:
    short = real.hvcc[:21] + bytes((real.hvcc[21] & 0xFC | 1,)) + real.hvcc[22:]
    assert hevc.parse_hvcc_untrusted(short).length_bytes == 2
    assert hevc.with_four_byte_lengths_untrusted(short) == real.hvcc


@pytest.mark.parametrize("cut", range(0, 110, 9))
def test_truncated_hvcc(cut: int, real: SimpleNamespace) -> None:
    with pytest.raises(WireError):
        hevc.parse_hvcc_untrusted(real.hvcc[:cut])


def test_hvcc_needs_all_kinds_of_sets(real: SimpleNamespace) -> None:
    parsed = hevc.parse_hvcc_untrusted(real.hvcc)
    for sets in (
        ((), parsed.sps, parsed.pps),
        (parsed.vps, (), parsed.pps),
        (parsed.vps, parsed.pps, parsed.pps),
    ):
        with pytest.raises(WireError):
            hevc.hvcc_untrusted(*sets)
