"""AudioSpecificConfig and ADTS."""

from collections.abc import Callable

import pytest

from media.bitstream import aac
from media.errors import Refused, WireError

Fields = Callable[[str], bytes]


@pytest.mark.parametrize(
    ("config", "text", "profile", "rate", "channels", "length"),
    [
        ("1190", "mp4a.40.2", "LC", 48_000, 2, 1024),
        ("119056e500", "mp4a.40.2", "LC", 48_000, 2, 1024),  # says that there is no SBR
        ("1194", "mp4a.40.2", "LC", 48_000, 2, 960),
        ("2b920800", "mp4a.40.5", "HE", 44_100, 2, 1024),  # SBR, hierarchical
        ("139056e5a0", "mp4a.40.5", "HE", 44_100, 2, 1024),  # SBR, backward compatible
        ("138856e5a54880", "mp4a.40.29", "HE v2", 44_100, 2, 1024),  # with PS
        ("eb8a0800", "mp4a.40.29", "HE v2", 44_100, 2, 1024),
        ("1188", "mp4a.40.2", "LC", 48_000, 1, 1024),
        ("11b0", "mp4a.40.2", "LC", 48_000, 6, 1024),
        ("0990", "mp4a.40.1", "Main", 48_000, 2, 1024),
        ("b98c", "mp4a.40.23", "LD", 48_000, 1, 480),
    ],
)
def test_config(config: str, text: str, profile: str, rate: int, channels: int, length: int) -> None:
    parsed = aac.parse_config_untrusted(bytes.fromhex(config))
    assert (parsed.codec_string, parsed.profile) == (text, profile)
    assert (parsed.sample_rate, parsed.channels, parsed.frame_length) == (rate, channels, length)


def test_explicit_rate(fields: Fields) -> None:
    parsed = aac.parse_config_untrusted(fields("u5=2 u4=15 u24=50000 u4=2 u3=0"))
    assert (parsed.core_rate, parsed.channels) == (50_000, 2)


def test_eld(fields: Fields) -> None:
    parsed = aac.parse_config_untrusted(fields("u5=31 u6=7 u4=3 u4=2 u1=0 u8=0"))
    assert (parsed.codec_string, parsed.profile, parsed.frame_length) == ("mp4a.40.39", "ELD", 512)


def test_program_config_element(fields: Fields) -> None:
    # 1 front pair, 1 side single, 1 back pair, 1 LFE, then a comment, then SBR
    element = "u4=0 u2=1 u4=3 u4=1 u4=1 u4=1 u2=1 u3=1 u4=1 u1=1 u4=0 u1=0 u1=1 u3=0"
    lists = "u1=1 u4=0 u1=0 u4=1 u1=1 u4=2 u4=0 u4=0 u5=0"
    # 16 bits before the element and 69 in it: three to the next byte
    text = f"u5=2 u4=7 u4=0 u3=0 {element} {lists} u3=0 u8=2 u16=0 u11=0x2b7 u5=5 u1=1 u4=4"
    parsed = aac.parse_config_untrusted(fields(text))
    assert (parsed.channels, parsed.sample_rate) == (6, 44_100)


@pytest.mark.parametrize(
    "text",
    [
        "u5=0 u11=0",
        "u5=2 u4=13 u7=0",
        "u5=2 u4=15 u24=0 u7=16",
        "u5=2 u4=3 u4=8 u3=0",
        "u5=31 u6=10 u4=3 u9=0",
        "u5=2",
    ],
    ids=["no object type", "reserved rate", "rate 0", "reserved channels", "USAC", "cut off"],
)
def test_broken_or_unsupported_configs(text: str, fields: Fields) -> None:
    with pytest.raises(WireError):
        aac.parse_config_untrusted(fields(text))


@pytest.mark.parametrize("config", ["1190", "1388", "0990", "1588"])
def test_adts_says_what_the_config_says(config: str) -> None:
    raw = bytes.fromhex(config)
    header = aac.adts_header(aac.adts_base(aac.parse_config_untrusted(raw)), 300)
    assert aac.parse_adts_untrusted(b"x" + header, 1) == aac.AdtsHeader(7, 307, raw)


def test_adts_of_he_aac_is_of_its_core() -> None:
    base = aac.adts_base(aac.parse_config_untrusted(bytes.fromhex("2b920800")))
    assert aac.parse_adts_untrusted(aac.adts_header(base, 1)).config.hex() == "1390"


@pytest.mark.parametrize("config", ["1194", "b98c", "f8e85000", "1798000000"])
def test_adts_refuses_what_it_cannot_say(config: str) -> None:
    with pytest.raises((Refused, WireError)):
        aac.adts_base(aac.parse_config_untrusted(bytes.fromhex(config)))


def test_adts_refuses_long_frames() -> None:
    with pytest.raises(Refused, match="too long"):
        aac.adts_header(aac.adts_base(aac.parse_config_untrusted(b"\x11\x90")), 8_185)


def test_adts_with_checksum() -> None:
    assert aac.parse_adts_untrusted(bytes.fromhex("fff04c80265ffc")).header_bytes == 9


@pytest.mark.parametrize(
    "header",
    [
        "fff14c80265f", "fef14c80265ffc", "fff74c80265ffc", "fff14c80001ffc", "fff17c80265ffc",
        "fff14c80265ffd", "fff14c00265ffc",
    ],
    ids=["short", "sync", "layer", "length", "rate", "several", "channels"],
)  # fmt: skip
def test_broken_adts(header: str) -> None:
    with pytest.raises(WireError):
        aac.parse_adts_untrusted(bytes.fromhex(header))
