"""STREAMINFO and frame headers."""

from types import SimpleNamespace

import pytest

from media.bitstream import flac
from media.errors import WireError


def test_config(real: SimpleNamespace) -> None:
    config = flac.config_from_streaminfo_untrusted(real.streaminfo)
    assert config == b"\x80\0\0\x22" + real.streaminfo
    assert flac.parse_config_untrusted(config) == flac.StreamInfo(48_000, 1, 16)
    more = b"\0\0\0\x22" + real.streaminfo + b"\x84\0\0\0"
    assert flac.parse_config_untrusted(more).sample_rate == 48_000


@pytest.mark.parametrize(
    "config", [b"", b"\x81\0\0\x22" + bytes(34), b"\x80\0\0\x22" + bytes(34), b"\x80\0\0\x22ab"]
)
def test_broken_configs(config: bytes) -> None:
    with pytest.raises(WireError):
        flac.parse_config_untrusted(config)


@pytest.mark.parametrize(
    ("frame", "samples"),
    [
        ("fff8aa0800ed", 1_024),
        ("fff81a0800ed", 192),
        ("fff85a0800ed", 4_608),
        ("fff8fa0800ed", 32_768),
        ("fff86a08007f", 128),
        ("fff87a0800037f", 896),
        ("fff97a08c28003ff", 1_024),  # variable block size, number of two bytes
        ("fff87a08fe8080808080800fff", 4_096),  # of seven bytes
    ],
)
def test_block_size(frame: str, samples: int) -> None:
    assert flac.block_size_untrusted(bytes.fromhex(frame)) == samples


@pytest.mark.parametrize(
    "frame",
    ["", "fff8aa08", "fefaaa0800ed", "fff80a0800ed", "fff87a08ff0000", "fff87a088000", "fff87a080003"],
)
def test_broken_frames(frame: str) -> None:
    with pytest.raises(WireError):
        flac.block_size_untrusted(bytes.fromhex(frame))
