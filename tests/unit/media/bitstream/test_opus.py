"""OpusHead, dOps and TOC bytes."""

from types import SimpleNamespace

import pytest

from media.bitstream import opus
from media.errors import WireError


def test_config_from_head(real: SimpleNamespace) -> None:
    config = opus.config_from_head_untrusted(real.opus_head)
    assert config.hex() == "000101380000bb80000000"
    assert opus.parse_config_untrusted(config) == opus.OpusConfig(1, 312, 48_000, 0)


def test_surround_keeps_its_mapping() -> None:
    head = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\x05\0\x01\x04\x02\0\x04\x01\x02\x03\x05"
    config = opus.config_from_head_untrusted(head)
    assert config[8:10] == b"\0\x05"
    assert config[10:] == b"\x01\x04\x02\0\x04\x01\x02\x03\x05"
    assert opus.parse_config_untrusted(config).channels == 6


def test_default_config_parses() -> None:
    assert opus.parse_config_untrusted(opus.default_config(2)) == opus.OpusConfig(2, 3_840, 48_000, 0)


@pytest.mark.parametrize(
    "head",
    [b"", b"OpusHead", b"OpusHeat" + bytes(11), b"OpusHead\x11\x01" + bytes(9), b"OpusHead\x01\0" + bytes(9)],
)
def test_broken_heads(head: bytes) -> None:
    with pytest.raises(WireError):
        opus.config_from_head_untrusted(head)


@pytest.mark.parametrize("config", [b"\0\x03" + bytes(9), b"\1\x01" + bytes(9), b"\0\x06" + bytes(8) + b"\1"])
def test_broken_configs(config: bytes) -> None:
    with pytest.raises(WireError):
        opus.parse_config_untrusted(config)


@pytest.mark.parametrize(
    ("packet", "ticks"),
    [
        ("f8", 960),  # CELT, 20 ms
        ("f9", 1_920),  # two frames
        ("fa", 1_920),
        ("fb03", 2_880),  # three by count
        ("80", 120),
        ("18", 2_880),  # SILK, 60 ms
        ("1b02", 5_760),
        ("60", 480),  # hybrid, 10 ms
        ("48", 960),
    ],
)
def test_packet_length(packet: str, ticks: int) -> None:
    assert opus.packet_ticks_untrusted(bytes.fromhex(packet)) == ticks


@pytest.mark.parametrize("packet", ["", "fb", "fb00", "fb07", "1b03"])
def test_impossible_packets(packet: str) -> None:
    with pytest.raises(WireError):
        opus.packet_ticks_untrusted(bytes.fromhex(packet))
