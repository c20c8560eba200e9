"""Syncframes, dac3 and dec3."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import ac3
from media.errors import WireError

Fields = Callable[[str], bytes]


def enhanced(
    fields: Fields, *, kind: int = 0, substream: int = 0, blocks: int = 3, rate: str = "u2=0",
    acmod: int = 7, chanmap: str = "",
) -> bytes:  # fmt: skip
    """An E-AC-3 syncframe of 32 bytes."""
    text = f"u16=0x0b77 u2={kind} u3={substream} u11=15 {rate} u2={blocks} u3={acmod} u1=1 u5=16 u5=27 u1=0"
    if acmod == 0:
        text += " u5=27 u1=1 u8=0"
    return fields(f"{text} {chanmap}").ljust(32, b"\0")


def test_ac3_frame_of_ffmpeg(real: SimpleNamespace) -> None:
    frame = ac3.parse_syncframe_untrusted(real.ac3_frame)
    assert (frame.frame_bytes, frame.sample_rate, frame.samples) == (1_792, 48_000, 1_536)
    config = ac3.config_from_syncframe_untrusted(real.ac3_frame)
    assert config.hex() == "103de0"
    parsed = ac3.parse_dac3_untrusted(config)
    assert (parsed.sample_rate, parsed.channels, parsed.profile) == (48_000, 6, "5.1")


def test_eac3_frame_of_ffmpeg(real: SimpleNamespace) -> None:
    frame = ac3.parse_syncframe_untrusted(real.eac3_frame)
    assert (frame.frame_bytes, frame.sample_rate, frame.samples) == (768, 48_000, 1_536)
    config = ac3.config_from_syncframe_untrusted(real.eac3_frame)
    assert config.hex() == "0600200400"
    parsed = ac3.parse_dec3_untrusted(config)
    assert (parsed.sample_rate, parsed.channels, parsed.profile) == (48_000, 2, "2.0")


@pytest.mark.parametrize(
    ("rate", "size_code", "frame_bytes"), [(0, 28, 1_536), (1, 28, 1_670), (1, 29, 1_672), (2, 28, 2_304)]
)
def test_ac3_frame_sizes_of_the_standards_table(
    rate: int, size_code: int, frame_bytes: int, fields: Fields
) -> None:
    head = f"u16=0x0b77 u16=0 u2={rate} u6={size_code} u5=8 u3=0 u3=2 u2=0 u1=0"
    assert ac3.parse_syncframe_untrusted(fields(head)).frame_bytes == frame_bytes


def test_dependent_substream_adds_channels(fields: Fields) -> None:
    # 5.1 and a dependent substream with Lrs/Rrs: 7.1
    unit = enhanced(fields) + enhanced(fields, kind=1, acmod=2, chanmap="u1=1 u16=0x0200")
    config = ac3.config_from_syncframe_untrusted(unit)
    assert len(config) == 6
    assert config[-2:] == b"\x02\x02"  # one dependent substream, chan_loc bit 1
    parsed = ac3.parse_dec3_untrusted(config)
    assert (parsed.channels, parsed.profile) == (8, "7.1")
    assert ac3.access_unit_samples_untrusted(unit) == 1_536


def test_short_frames_add_up(fields: Fields) -> None:
    unit = enhanced(fields, blocks=0) * 6
    assert ac3.access_unit_samples_untrusted(unit) == 1_536
    assert len(ac3.config_from_syncframe_untrusted(unit)) == 5


def test_two_programs(fields: Fields) -> None:
    unit = enhanced(fields) + enhanced(fields, substream=1, acmod=0)
    config = ac3.config_from_syncframe_untrusted(unit)
    assert (len(config), config[1] & 7) == (8, 1)
    assert ac3.access_unit_samples_untrusted(unit) == 1_536


def test_half_rates(fields: Fields) -> None:
    frame = ac3.parse_syncframe_untrusted(enhanced(fields, rate="u2=3", blocks=0))
    assert (frame.sample_rate, frame.samples) == (24_000, 1_536)


@pytest.mark.parametrize(
    "head",
    [
        "u16=0x0b78 u32=0 u32=0",
        "u16=0x0b77 u16=0 u2=3 u6=0 u5=8 u32=0",
        "u16=0x0b77 u16=0 u2=0 u6=38 u5=8 u32=0",
        "u16=0x0b77 u16=0 u2=0 u6=0 u5=31 u32=0",
        "u16=0x0b77 u2=1 u3=0 u11=15 u2=0 u2=3 u3=7 u1=1 u5=16 u5=27 u1=0 u1=0 u32=0",
        "u16=0x0b77",
    ],
    ids=["sync", "rate", "size", "bsid", "dependent first", "cut off"],
)
def test_broken_frames(head: str, fields: Fields) -> None:
    with pytest.raises(WireError):
        ac3.config_from_syncframe_untrusted(fields(head))


@pytest.mark.parametrize("parse", [ac3.parse_dac3_untrusted, ac3.parse_dec3_untrusted])
def test_broken_configs(parse: Callable[[bytes], object]) -> None:
    for config in (b"", b"\xff" * 9):
        with pytest.raises(WireError):
            parse(config)
