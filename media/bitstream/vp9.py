"""VP9: the uncompressed header and the vpcC configuration. Pure.

VP9 Bitstream & Decoding Process 6.2; VP Codec ISO Media File Format Binding.
"""

from dataclasses import dataclass

from media.bitstream.bits import BitReader
from media.bitstream.picture import UNSPECIFIED, Colour
from media.errors import WireError

VPCC_BYTES = 12  # version and flags, then the record without initialization data
_HEADER_BYTES = 20  # a keyframe's fields up to its size take at most 13
_SYNC_CODE = 0x498342
_CS_RGB = 7
_CHROMA_420, _CHROMA_422, _CHROMA_444 = 1, 2, 3

# color_space (7.2.2) as H.273 code points; a reserved one counts as unknown.
_COLOUR_SPACES = {1: (6, 6, 6), 2: (1, 1, 1), 3: (6, 6, 6), 4: (7, 7, 7), 5: (9, 14, 9), _CS_RGB: (1, 13, 0)}

# Level times ten, largest picture in luma samples, luma samples per second (annex A).
_LEVELS = (
    (10, 36_864, 829_440), (11, 73_728, 2_764_800), (20, 122_880, 4_608_000), (21, 245_760, 9_216_000),
    (30, 552_960, 20_736_000), (31, 983_040, 36_864_000), (40, 2_228_224, 83_558_400),
    (41, 2_228_224, 160_432_128), (50, 8_912_896, 311_951_360), (51, 8_912_896, 588_251_136),
    (52, 8_912_896, 1_176_502_272), (60, 35_651_584, 1_176_502_272), (61, 35_651_584, 2_353_004_544),
    (62, 35_651_584, 4_706_009_088),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vpcc:
    """VPCodecConfigurationRecord."""

    profile_idc: int
    level: int  # times ten
    bit_depth: int
    chroma: int  # chromaSubsampling: 0 and 1 are 4:2:0, 2 4:2:2, 3 4:4:4
    colour: Colour

    @property
    def profile(self) -> str:
        """For people: `Profile 0 3.1`."""
        return f"Profile {self.profile_idc} {self.level // 10}.{self.level % 10}"


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The first fields of uncompressed_header(); those after `shown` only of keyframes."""

    keyframe: bool
    shown: bool
    profile_idc: int
    bit_depth: int = 8
    chroma: int = _CHROMA_420
    colour: Colour | None = None
    width: int = 0
    height: int = 0


def parse_vpcc_untrusted(config: bytes) -> Vpcc:
    """Parse a vpcC body, version and flags included."""
    if len(config) < VPCC_BYTES or config[0] != 1:
        raise WireError("a vpcC configuration is too short or has an unknown version")
    profile_idc, level, packed, primaries, transfer, matrix = config[4:10]
    if profile_idc > 3 or packed >> 4 not in (8, 10, 12):
        raise WireError("a vpcC configuration has an unknown profile or bit depth")
    colour = Colour(primaries, transfer, matrix, bool(packed & 1))
    return Vpcc(profile_idc, level, packed >> 4, (packed >> 1) & 7, colour)


def vpcc_from_keyframe_untrusted(data: bytes, frames_per_s: float = 30.0) -> bytes:
    """A vpcC body from a keyframe. The header names no level: it follows from size and frame rate."""
    header = parse_frame_header_untrusted(data)
    if not header.keyframe:
        raise WireError("a VP9 configuration needs a keyframe")
    colour = header.colour or Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, False)
    packed = header.bit_depth << 4 | header.chroma << 1 | colour.full_range
    level = _level(header.width * header.height, frames_per_s)
    record = bytes((header.profile_idc, level, packed, colour.primaries, colour.transfer, colour.matrix))
    return b"\1\0\0\0" + record + b"\0\0"


def frame_size_untrusted(data: bytes) -> tuple[int, int] | None:
    """Width and height of a keyframe; None for other frames, which do not name them."""
    header = parse_frame_header_untrusted(data)
    return (header.width, header.height) if header.keyframe else None


def parse_frame_header_untrusted(data: bytes) -> FrameHeader:
    """Parse the beginning of a frame, or of the first frame of a superframe."""
    bits = BitReader(data[:_HEADER_BYTES])
    if bits.u(2) != 2:
        raise WireError("not a VP9 frame")
    low, high = bits.u(1), bits.u(1)
    profile_idc = high << 1 | low
    if profile_idc == 3:
        bits.skip(1)
    if bits.flag():  # show_existing_frame
        return FrameHeader(False, True, profile_idc)
    keyframe, shown = not bits.flag(), bits.flag()
    bits.skip(1)  # error_resilient_mode
    if not keyframe:
        return FrameHeader(False, shown, profile_idc)
    if bits.u(24) != _SYNC_CODE:
        raise WireError("a VP9 keyframe lacks its sync code")
    depth, chroma, colour = _colour_config(bits, profile_idc)
    return FrameHeader(True, shown, profile_idc, depth, chroma, colour, bits.u(16) + 1, bits.u(16) + 1)


def _colour_config(bits: BitReader, profile_idc: int) -> tuple[int, int, Colour | None]:
    depth = 8
    if profile_idc >= 2:
        depth = 12 if bits.flag() else 10
    space = bits.u(3)
    points = _COLOUR_SPACES.get(space, (UNSPECIFIED,) * 3)
    subsampled = bool(profile_idc & 1)  # profiles 1 and 3 name their subsampling
    if space == _CS_RGB:
        if not subsampled:
            raise WireError("VP9 codes RGB in profiles 1 and 3 only")
        bits.skip(1)
        return depth, _CHROMA_444, Colour(*points, True)
    full_range = bits.flag()
    chroma = _CHROMA_420
    if subsampled:
        across, down = bits.u(1), bits.u(1)
        bits.skip(1)
        # 4:4:0 has no code in vpcC; 4:4:4 is the nearest that describes the samples in full.
        chroma = _CHROMA_422 if across and not down else _CHROMA_444
    return depth, chroma, Colour(*points, full_range) if space or full_range else None


def _level(picture: int, frames_per_s: float) -> int:
    for level, largest, per_second in _LEVELS:
        if picture <= largest and picture * frames_per_s <= per_second:
            return level
    return _LEVELS[-1][0]
