"""avcC and sequence parameter sets."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import h264
from media.bitstream.annexb import escape
from media.bitstream.picture import Colour
from media.errors import WireError

Fields = Callable[[str], bytes]
SIZE = "ue=119 ue=67 u1=1 u1=1 u1=1 ue=0 ue=0 ue=0 ue=4"  # 1920x1088, 8 lines cropped


def sps(
    fields: Fields, *, head: str = "u8=77 u8=0 u8=40 ue=0", chroma: str = "", poc: str = "ue=0 ue=0",
    size: str = SIZE, vui: str = "u1=0",
) -> h264.Sps:  # fmt: skip
    text = f"{head} {chroma} ue=0 {poc} ue=4 u1=0 {size} {vui}"
    return h264.parse_sps_untrusted(b"\x67" + escape(fields(text)))


def test_sps_of_x264(real: SimpleNamespace) -> None:
    parsed = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(real.avcc_high).sps[0])
    assert (parsed.width, parsed.height, parsed.frame_rate) == (320, 180, 30.0)
    assert (parsed.profile, parsed.bit_depth, parsed.may_reorder) == ("High 1.3", 8, True)


def test_baseline_does_not_reorder(real: SimpleNamespace) -> None:
    parsed = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(real.avcc_baseline).sps[0])
    assert (parsed.profile, parsed.may_reorder) == ("Constrained Baseline 1.3", False)


def test_interlaced_with_hrd_and_colour(real: SimpleNamespace) -> None:
    parsed = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(real.avcc_interlaced).sps[0])
    assert (parsed.width, parsed.height, parsed.frame_rate) == (1920, 1080, 25.0)
    assert parsed.pixel_aspect == (3, 4)
    assert parsed.colour == Colour(2, 2, 1, False)


def test_high_444_with_ten_bits(real: SimpleNamespace) -> None:
    parsed = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(real.avcc_444).sps[0])
    assert (parsed.width, parsed.height, parsed.bit_depth, parsed.chroma_format_idc) == (1920, 1080, 10, 3)
    assert parsed.profile == "High 4:4:4 Predictive 4.0"


@pytest.mark.parametrize("name", ["avcc_high", "avcc_baseline", "avcc_interlaced", "avcc_444"])
def test_avcc_is_rebuilt_as_ffmpeg_wrote_it(name: str, real: SimpleNamespace) -> None:
    config = getattr(real, name)
    parsed = h264.parse_avcc_untrusted(config)
    assert parsed.length_bytes == 4
    assert h264.avcc_untrusted(parsed.sps, parsed.pps) == config


def test_cropping_and_poc_type_1(fields: Fields) -> None:
    parsed = sps(fields, poc="ue=1 u1=0 se=-1 se=3 ue=2 se=1 se=-2")
    assert (parsed.width, parsed.height) == (1920, 1080)
    assert parsed.may_reorder


def test_poc_type_2_is_output_order(fields: Fields) -> None:
    assert not sps(fields, poc="ue=2").may_reorder


def test_field_coding_doubles_the_height(fields: Fields) -> None:
    parsed = sps(fields, size="ue=44 ue=17 u1=0 u1=0 u1=1 u1=0")
    assert (parsed.width, parsed.height) == (720, 576)


def test_scaling_lists_are_passed_over(fields: Fields) -> None:
    lists = "u1=1 u1=1 se=-8 " + "u1=0 " * 5 + "u1=1 " + "se=1 " * 64 + "u1=0"
    parsed = sps(fields, head="u8=100 u8=0 u8=40 ue=0", chroma=f"ue=1 ue=0 ue=0 u1=0 {lists}")
    assert (parsed.width, parsed.height) == (1920, 1080)


@pytest.mark.parametrize(("frames", "may_reorder"), [(0, False), (2, True)])
def test_reordering_as_restricted(frames: int, may_reorder: bool, fields: Fields) -> None:
    restriction = f"u1=1 u1=1 ue=0 ue=0 ue=9 ue=9 ue={frames} ue=4"
    timing = "u1=1 u32=1001 u32=60000 u1=1"
    parsed = sps(
        fields, vui=f"u1=1 u1=1 u8=255 u16=16 u16=11 u1=0 u1=0 u1=0 {timing} u1=0 u1=0 u1=0 {restriction}"
    )
    assert parsed.may_reorder is may_reorder
    assert parsed.frame_rate == pytest.approx(29.97, abs=0.001)
    assert parsed.pixel_aspect == (16, 11)


def test_damaged_vui_counts_as_absent(fields: Fields) -> None:
    parsed = sps(fields, vui="u1=1 u1=1 u8=255 u16=16")
    assert (parsed.width, parsed.pixel_aspect, parsed.frame_rate) == (1920, (1, 1), None)


@pytest.mark.parametrize(("units", "scale"), [(0, 50), (1, 0), (1, 0xFFFF_FFFF)])
def test_impossible_frame_rates_are_unknown(units: int, scale: int, fields: Fields) -> None:
    vui = f"u1=1 u1=0 u1=0 u1=0 u1=0 u1=1 u32={units} u32={scale} u1=1 u1=0 u1=0 u1=0 u1=0"
    assert sps(fields, vui=vui).frame_rate is None


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ("u8=77 u8=0 u8=40 ue=0", "ue=119 ue=67 u1=1 u1=1 u1=1 ue=9999 ue=0 ue=0 ue=0"),
        ("u8=77 u8=0 u8=40 ue=0", "ue=99999 ue=67 u1=1 u1=1 u1=0"),
    ],
)
def test_impossible_sizes_are_refused(head: str, size: str, fields: Fields) -> None:
    with pytest.raises(WireError, match="picture size"):
        sps(fields, head=head, size=size)


def test_level_1b(fields: Fields) -> None:
    assert sps(fields, head="u8=77 u8=16 u8=11 ue=0").profile == "Main 1b"


def test_intra_profiles_do_not_reorder(fields: Fields) -> None:
    parsed = sps(fields, head="u8=110 u8=16 u8=40 ue=0", chroma="ue=1 ue=2 ue=2 u1=0 u1=0")
    assert (parsed.bit_depth, parsed.may_reorder) == (10, False)


def test_shorter_lengths_are_normalised(real: SimpleNamespace) -> None:
    short = real.avcc_high[:4] + b"\xfd" + real.avcc_high[5:]
    assert h264.parse_avcc_untrusted(short).length_bytes == 2
    assert h264.with_four_byte_lengths_untrusted(short) == real.avcc_high


@pytest.mark.parametrize("cut", range(0, 36, 5))
def test_truncated_avcc(cut: int, real: SimpleNamespace) -> None:
    with pytest.raises(WireError):
        h264.parse_avcc_untrusted(real.avcc_high[:cut])


def test_avcc_needs_both_kinds_of_sets(real: SimpleNamespace) -> None:
    parsed = h264.parse_avcc_untrusted(real.avcc_high)
    for sets in ((parsed.sps, ()), ((), parsed.pps), (parsed.pps, parsed.pps), (parsed.sps * 32, parsed.pps)):
        with pytest.raises(WireError):
            h264.avcc_untrusted(*sets)
    with pytest.raises(WireError, match="longer"):
        h264.avcc_untrusted(parsed.sps, [b"\x68" * 5_000])
