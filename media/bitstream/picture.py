"""What H.264, HEVC, AV1 and VP9 headers share: picture size, shape of pixels, colour, frame rate. Pure."""

from dataclasses import dataclass

from media.bitstream.bits import BitReader
from media.errors import WireError

# Twice 8K; H.264's level 6.2 and HEVC's and AV1's 6.x end at or below it.
MAX_DIMENSION = 16_384
# Cameras that shoot faster do not stream; above it the field holds nonsense.
MAX_FRAME_RATE = 1_000.0

SQUARE = (1, 1)

# Sample aspect ratios by aspect_ratio_idc (ITU-T H.264 table E-1, H.265 table E.1).
_ASPECTS = (
    SQUARE, SQUARE, (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11),
    (80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip
_EXTENDED_SAR = 255


@dataclass(frozen=True, slots=True)
class Colour:
    """Code points of ITU-T H.273; 2 means unspecified."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


UNSPECIFIED = 2


def check_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_DIMENSION and 0 < height <= MAX_DIMENSION):
        raise WireError(f"picture size {width}x{height} is not between 1 and {MAX_DIMENSION}")


def frame_rate(ticks_per_second: int, ticks_per_frame: int) -> float | None:
    """Frames per second, None when the fields hold no usable rate."""
    if not ticks_per_second or not ticks_per_frame:
        return None
    rate = ticks_per_second / ticks_per_frame
    return rate if rate <= MAX_FRAME_RATE else None


def read_aspect(bits: BitReader) -> tuple[int, int]:
    """The aspect ratio fields that begin a VUI; (1, 1) when absent or unusable."""
    if not bits.flag():
        return SQUARE
    idc = bits.u(8)
    if idc == _EXTENDED_SAR:
        aspect = (bits.u(16), bits.u(16))
        return aspect if all(aspect) else SQUARE
    return _ASPECTS[idc] if idc < len(_ASPECTS) else SQUARE


def read_signal(bits: BitReader) -> Colour | None:
    """Overscan, video signal type and chroma location: the VUI's fields after the aspect ratio."""
    if bits.flag():  # overscan_info_present_flag
        bits.skip(1)
    colour = None
    if bits.flag():  # video_signal_type_present_flag
        bits.skip(3)
        full_range = bits.flag()
        if bits.flag():  # colour_description_present_flag
            colour = Colour(bits.u(8), bits.u(8), bits.u(8), full_range)
        elif full_range:
            colour = Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, full_range)
    if bits.flag():  # chroma_loc_info_present_flag
        bits.ue()
        bits.ue()
    return colour
