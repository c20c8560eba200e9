"""Codec headers to test with: bit fields written one by one, and what real encoders wrote."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

Fields = Callable[[str], bytes]
# Configurations and first bytes of frames by x264, x265, libaom, libvpx and FFmpeg's audio encoders.
REAL = {
    "avcc_high": (
        "0164000dffe1001a6764000dacd941419f9f0110000003001000000303c0f142996001000468ef8fcbfdf8f800"
    ),
    "avcc_baseline": ("0142c00dffe100196742c00dd901419f9f0110000003001000000303c0f142a48001000568cb83cb20"),
    # 1080 lines interlaced, pixels 3:4, NAL HRD, colour
    "avcc_interlaced": (
        "01640028ffe1002d67640028acd94078044fdffe00060008d408080500000300010000030032626000f424001e84e4c3"
        "00f8b16cb001000568fbacb22cfdf8f800"
    ),
    "avcc_444": (
        "01f40028ffe1001c67f4002890d9b280f0044fc4e022000003000200000300641e30632c01000668ebe3c44844fffafa00"
    ),
    # Main 10, BT.2020 PQ
    "hvcc": (
        "0102200000009000000000003cf000fcfdfafa00000f03a00001001840010c01ffff0220000003009000000300000300"
        "3c959809a10001002d42010102200000030090000003000003003ca00a080b9f6d96566924caf016a122012080000003"
        "008000000f04a2000100074401c172b46240"
    ),
    "av1c": "81000c000a0b000000043cfeccdaf90040",
    "av1_keyframe": "0a0b000000043cfeccdaf9004032962a1000840002082088",
    "vp9_keyframe": "824983420013f00b360638241c184a000b4050661fdfdff8",
    "aac": "119056e500",
    "opus_head": "4f707573486561640101380180bb0000000000",
    "streaminfo": "0400040000040700018b0bb800f0000177006fa85e77f531259b20ed675c2dd92098",
    "flac_frame": "fff8aa0800ed4c000000eb01d602c003a7048a056be62656",
    "ac3_frame": "0b77b50b1e40ebf8403eff99ff0841fc3f87f0dd5c3e86fb",
    "eac3_frame": "0b77017f3487c0002084210838008c06060601818187bd77",
}


def _golomb(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _field(text: str) -> str:
    name, _, value = text.partition("=")
    if name == "ue":
        return _golomb(int(value))
    if name == "se":
        number = int(value)
        return _golomb(2 * number - 1 if number > 0 else -2 * number)
    return f"{int(value, 0):0{int(name[1:])}b}"


@pytest.fixture(scope="session")
def fields() -> Fields:
    """Bytes of `u8=100 ue=0 se=-1 ...`, then a stop bit and padding (rbsp_trailing_bits)."""

    def encode(text: str) -> bytes:
        bits = "".join(map(_field, text.split())) + "1"
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    return encode


@pytest.fixture(scope="session")
def real() -> SimpleNamespace:
    """REAL as attributes."""
    return SimpleNamespace(**{name: bytes.fromhex(text) for name, text in REAL.items()})
