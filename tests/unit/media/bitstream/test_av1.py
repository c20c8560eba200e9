"""OBUs, sequence headers and av1C."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import av1
from media.bitstream.picture import Colour
from media.errors import WireError

Fields = Callable[[str], bytes]
DELIMITER = b"\x12\0"
FRAME = b"\x32\x03\x10ab"  # OBU_FRAME with its size


START = "u3=0 u1=0 u1=0 u1=0 u1=0 u5=0 u12=0 u5=8 u1=0"
TOOLS = "u3=0 u4=0 u1=1 u2=0 u1=1 u1=1 u3=6 u3=0"
COLOUR = "u1=0 u1=0 u1=0 u1=0 u2=0 u1=0"


def header(
    fields: Fields, *, start: str = START, frame_ids: str = "u1=0", tools: str = TOOLS, colour: str = COLOUR
) -> av1.SequenceHeader:
    size = "u4=10 u4=10 u11=1919 u11=1079"
    text = f"{start} {size} {frame_ids} {tools} {colour} u1=0"
    return av1.parse_sequence_header_untrusted(fields(text))


def test_sequence_header_of_libaom(real: SimpleNamespace) -> None:
    parsed = av1.parse_av1c_untrusted(real.av1c)
    assert parsed is not None
    assert (parsed.width, parsed.height, parsed.profile) == (320, 180, "Main 2.0")
    assert parsed.config.bit_depth == 8


def test_av1c_from_a_keyframe_is_what_the_encoder_wrote(real: SimpleNamespace) -> None:
    sequence_header = real.av1_keyframe[:13]
    assert av1.config_from_sample_untrusted(sequence_header) == real.av1c
    assert av1.config_from_sample_untrusted(FRAME) is None


def test_av1c_may_carry_no_header(real: SimpleNamespace) -> None:
    assert av1.parse_av1c_untrusted(real.av1c[:4]) is None


def test_plain_header(fields: Fields) -> None:
    parsed = header(fields)
    assert (parsed.width, parsed.height, parsed.level, parsed.tier) == (1920, 1080, "4.0", 0)
    assert parsed.config == av1.ColourConfig(8, False, 1, 1, 0, None)
    assert parsed.frame_rate is None


def test_timing_and_decoder_model(fields: Fields) -> None:
    timing = "u1=1 u32=1 u32=60 u1=1 ue=1"  # two ticks per picture
    model = "u1=1 u5=9 u32=1 u5=9 u5=9"
    point = "u12=0 u5=13 u1=1 u1=1 u10=1 u10=1 u1=0 u1=1 u4=3"
    parsed = header(fields, start=f"u3=0 u1=0 u1=0 {timing} {model} u1=1 u5=0 {point}")
    assert (parsed.frame_rate, parsed.level, parsed.tier) == (30.0, "5.1", 1)
    assert parsed.profile == "Main 5.1 high tier"


def test_hdr_colour(fields: Fields) -> None:
    parsed = header(fields, colour="u1=1 u1=0 u1=1 u8=9 u8=16 u8=9 u1=0 u2=2 u1=0")
    assert parsed.config == av1.ColourConfig(10, False, 1, 1, 2, Colour(9, 16, 9, False))


def test_monochrome_and_rgb(fields: Fields) -> None:
    assert header(fields, colour="u1=0 u1=1 u1=0 u1=1").config.monochrome
    start = "u3=1 u1=0 u1=0 u1=0 u1=0 u5=0 u12=0 u5=8 u1=0"
    rgb = header(fields, start=start, colour="u1=0 u1=1 u8=1 u8=13 u8=0 u1=0").config
    assert (rgb.subsampling_x, rgb.subsampling_y, rgb.colour) == (0, 0, Colour(1, 13, 0, True))


@pytest.mark.parametrize(
    ("colour", "expected"),
    [("u1=1 u1=0 u1=0 u1=0 u1=0 u1=0", (10, 1, 0)), ("u1=1 u1=1 u1=0 u1=0 u1=0 u1=1 u1=0 u1=0", (12, 1, 0))],
)
def test_professional_profile(colour: str, expected: tuple[int, int, int], fields: Fields) -> None:
    config = header(fields, start="u3=2 u1=0 u1=0 u1=0 u1=0 u5=0 u12=0 u5=8 u1=0", colour=colour).config
    assert (config.bit_depth, config.subsampling_x, config.subsampling_y) == expected


def test_frame_ids_and_screen_content_tools(fields: Fields) -> None:
    # screen content tools forced on, integer motion vectors forced, no order hint
    parsed = header(fields, frame_ids="u1=1 u4=2 u3=2", tools="u3=0 u4=0 u1=0 u1=0 u1=1 u1=0 u1=1 u3=0")
    assert parsed.config.bit_depth == 8
    parsed = header(fields, tools="u3=0 u4=0 u1=0 u1=0 u1=0 u3=0")
    assert parsed.config.bit_depth == 8


def test_reduced_still_picture_header(fields: Fields) -> None:
    payload = fields("u3=0 u1=1 u1=1 u5=4 u4=5 u4=5 u6=63 u6=31 u3=0 u3=0 u1=0 u1=0 u1=0 u1=0 u2=0 u1=0 u1=0")
    parsed = av1.parse_sequence_header_untrusted(payload)
    assert (parsed.width, parsed.height, parsed.level) == (64, 32, "3.0")


def test_reserved_profile_is_refused(fields: Fields) -> None:
    with pytest.raises(WireError, match="profile"):
        header(fields, start="u3=5 u1=0 u1=0 u1=0 u1=0 u5=0 u12=0 u5=8 u1=0")


def test_temporal_delimiters_are_dropped() -> None:
    assert av1.sample_untrusted(DELIMITER + FRAME) == FRAME
    assert av1.sample_untrusted(DELIMITER + FRAME + DELIMITER + FRAME) == FRAME + FRAME
    assert av1.sample_untrusted(FRAME) == FRAME


def test_sizes_are_added_and_useless_obus_dropped() -> None:
    unsized, extended, padding = b"\x30\x10ab", b"\x34\x08\x10ab", b"\x7a\x01\0"
    made = av1.with_sizes_untrusted([b"\x10", unsized, extended, padding, FRAME])
    assert made == FRAME + b"\x36\x08\x03\x10ab" + FRAME
    long = av1.with_sizes_untrusted([b"\x30" + bytes(300)])
    assert [obu.payload for obu in av1.obus_untrusted(long)] == [bytes(300)]


@pytest.mark.parametrize(
    "data",
    [b"\x92\0", b"\x32", b"\x32\x05ab", b"\x36", b"\x32" + b"\xff" * 9, DELIMITER * (av1.MAX_OBUS + 1)],
)
def test_broken_obus(data: bytes) -> None:
    with pytest.raises(WireError):
        list(av1.obus_untrusted(data))


def test_an_unknown_av1c_version_is_refused(real: SimpleNamespace) -> None:
    with pytest.raises(WireError):
        av1.parse_av1c_untrusted(b"\x82" + real.av1c[1:])
