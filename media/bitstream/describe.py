"""What a codec configuration says about its track, for playlists, players and people. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from media.bitstream import aac, ac3, av1, flac, h264, hevc, opus, vp9
from media.bitstream.picture import SQUARE, UNSPECIFIED, Colour
from media.errors import WireError
from media.track.model import Codec

# 64 parameter sets of the largest size that their parsers take do not come from an encoder.
MAX_CONFIG_BYTES = 65_536
# Playlists ask for the same few descriptions over and over; the largest configurations make 16 MB of it.
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Description:
    """0, None and "" stand for what the configuration does not say.

    AV1 without a sequence header in its av1C, and VP9 always, leave width and height at 0.
    """

    codec_string: str  # RFC 6381: avc1.64001f
    profile: str  # for people: High 3.1
    bit_depth: int = 0  # of luma; for audio that of lossless codecs
    width: int = 0  # pixels
    height: int = 0
    pixel_aspect: tuple[int, int] = SQUARE
    colour: Colour | None = None
    frame_rate: float | None = None
    may_reorder: bool = False  # H.264 and HEVC: presentation may leave coding order (B-frames)
    sample_rate: int = 0  # Hz, as decoded
    channels: int = 0


def describe(codec: Codec, config: bytes) -> Description:
    """Describe a Track's `config` (its form: see Track). Raises WireError when it does not parse."""
    if len(config) > MAX_CONFIG_BYTES:
        raise WireError(f"a codec configuration is longer than {MAX_CONFIG_BYTES} bytes")
    return _described(codec, config)


@lru_cache(_REMEMBERED)
def _described(codec: Codec, config: bytes) -> Description:
    return _DESCRIBE[codec](config)


def _h264(config: bytes) -> Description:
    sps = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(config).sps[0])
    return Description(
        f"avc1.{config[1:4].hex()}", sps.profile, sps.bit_depth, sps.width, sps.height,
        sps.pixel_aspect, sps.colour, sps.frame_rate, sps.may_reorder,
    )  # fmt: skip


def _hevc(config: bytes) -> Description:
    hvcc = hevc.parse_hvcc_untrusted(config)
    sps = hevc.parse_sps_untrusted(hvcc.sps[0])
    return Description(
        f"hvc1.{hvcc.ptl.codec_suffix}", hvcc.ptl.profile, sps.bit_depth, sps.width, sps.height,
        sps.pixel_aspect, sps.colour, sps.frame_rate, sps.may_reorder,
    )  # fmt: skip


def _av1(config: bytes) -> Description:
    header = av1.parse_av1c_untrusted(config)
    if header is None:
        return _av1_without_header(config)
    colour = header.config
    text = _av1_string(header.profile_idc, header.level_idx, header.tier, colour.bit_depth)
    points = colour.colour
    if points or colour.monochrome or (colour.subsampling_x, colour.subsampling_y) != (1, 1):
        points = points or Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, False)
        text += f".{colour.monochrome:d}.{colour.subsampling_x}{colour.subsampling_y}{colour.sample_position}"
        text += _colour_suffix(points) + f".{points.full_range:d}"
    return Description(
        text, header.profile, colour.bit_depth, header.width, header.height,
        colour=colour.colour, frame_rate=header.frame_rate,
    )  # fmt: skip


def _av1_without_header(config: bytes) -> Description:
    profile_idc, level_idx, flags = config[1] >> 5, config[1] & 0x1F, config[2]
    depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    return Description(_av1_string(profile_idc, level_idx, flags >> 7, depth), "", depth)


def _av1_string(profile_idc: int, level_idx: int, tier: int, depth: int) -> str:
    return f"av01.{profile_idc}.{level_idx:02d}{'H' if tier else 'M'}.{depth:02d}"


def _colour_suffix(colour: Colour) -> str:
    return f".{colour.primaries:02d}.{colour.transfer:02d}.{colour.matrix:02d}"


def _vp9(config: bytes) -> Description:
    vpcc = vp9.parse_vpcc_untrusted(config)
    colour = vpcc.colour
    text = f"vp09.{vpcc.profile_idc:02d}.{vpcc.level:02d}.{vpcc.bit_depth:02d}"
    unspecified = {colour.primaries, colour.transfer, colour.matrix} <= {1, UNSPECIFIED}
    if vpcc.chroma > 1 or not unspecified or colour.full_range:
        text += f".{vpcc.chroma:02d}{_colour_suffix(colour)}.{colour.full_range:02d}"
    known = None if unspecified and colour.matrix == UNSPECIFIED and not colour.full_range else colour
    return Description(text, vpcc.profile, vpcc.bit_depth, colour=known)


def _aac(config: bytes) -> Description:
    parsed = aac.parse_config_untrusted(config)
    return Description(
        parsed.codec_string, parsed.profile, sample_rate=parsed.sample_rate, channels=parsed.channels
    )


def _opus(config: bytes) -> Description:
    parsed = opus.parse_config_untrusted(config)
    return Description("opus", "", sample_rate=opus.RATE, channels=parsed.channels)


def _flac(config: bytes) -> Description:
    info = flac.parse_config_untrusted(config)
    return Description(
        "fLaC", f"{info.bit_depth} bit", info.bit_depth, sample_rate=info.sample_rate, channels=info.channels
    )


def _ac3(config: bytes) -> Description:
    return _surround("ac-3", ac3.parse_dac3_untrusted(config))


def _eac3(config: bytes) -> Description:
    return _surround("ec-3", ac3.parse_dec3_untrusted(config))


def _surround(codec_string: str, parsed: ac3.SurroundConfig) -> Description:
    return Description(codec_string, parsed.profile, sample_rate=parsed.sample_rate, channels=parsed.channels)


_DESCRIBE: dict[Codec, Callable[[bytes], Description]] = {
    Codec.H264: _h264,
    Codec.HEVC: _hevc,
    Codec.AV1: _av1,
    Codec.VP9: _vp9,
    Codec.AAC: _aac,
    Codec.OPUS: _opus,
    Codec.FLAC: _flac,
    Codec.AC3: _ac3,
    Codec.EAC3: _eac3,
}
