"""HEVC: the hvcC configuration and the sequence parameter set. Pure.

ITU-T H.265 7.3.2.2, 7.3.3, 7.3.7 and annex E, ISO 14496-15 8.3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from media.bitstream.annexb import unescape
from media.bitstream.bits import BitReader
from media.bitstream.picture import SQUARE, Colour, check_size, frame_rate, read_aspect, read_signal
from media.errors import WireError

NAL_BLA_FIRST = 16
NAL_IDR_FIRST = 19  # IDR_W_RADL, then IDR_N_LP
NAL_IDR_LAST = 20
NAL_CRA = 21
NAL_IRAP_LAST = 23
NAL_VPS = 32
NAL_SPS = 33
NAL_PPS = 34
NAL_AUD = 35
NAL_END_OF_SEQUENCE = 36
NAL_END_OF_STREAM = 37
NAL_FILLER = 38

MAX_PARAMETER_SET_BYTES = 8_192  # full scaling lists, 64 reference picture sets and an HRD stay below it
MAX_ARRAYS = 16  # VPS, SPS, PPS, two kinds of SEI, and room
MAX_SETS = 64  # 16 SPS and 64 PPS ids exist
MAX_SHORT_TERM_SETS = 64  # 7.4.3.2.1
MAX_LONG_TERM_PICTURES = 32
MAX_REFERENCES = 16

_PROFILE_NAMES = {
    1: "Main",
    2: "Main 10",
    3: "Main Still Picture",
    4: "Range Extensions",
    9: "Screen Content",
}
_HEAD_BYTES = 23  # of hvcC before its arrays


def nal_type(unit: bytes) -> int:
    return (unit[0] >> 1) & 0x3F


@dataclass(frozen=True, slots=True)
class ProfileTierLevel:
    """The general part of profile_tier_level() (7.3.3): 12 bytes, the same in SPS and hvcC."""

    body: bytes

    @property
    def codec_suffix(self) -> str:
        """`1.6.L93.B0`: what follows `hvc1.` in a codec string (ISO 14496-15 annex E)."""
        space = ("", "A", "B", "C")[self.body[0] >> 6]
        compatibility = int(f"{int.from_bytes(self.body[1:5], 'big'):032b}"[::-1], 2)
        tier = "H" if self.body[0] & 0x20 else "L"
        parts = [f"{space}{self.body[0] & 0x1F}", f"{compatibility:X}", f"{tier}{self.body[11]}"]
        return ".".join(parts + [f"{byte:X}" for byte in self.body[5:11].rstrip(b"\0")])

    @property
    def profile(self) -> str:
        """For people: `Main 10 5.1 high tier`."""
        profile_idc, level = self.body[0] & 0x1F, self.body[11]
        name = _PROFILE_NAMES.get(profile_idc, f"profile {profile_idc}")
        tier = " high tier" if self.body[0] & 0x20 else ""
        return f"{name} {level // 30}.{level % 30 // 3}{tier}"


@dataclass(frozen=True, slots=True)
class Hvcc:
    """HEVCDecoderConfigurationRecord."""

    ptl: ProfileTierLevel
    length_bytes: int  # of each NAL's length in the samples: 1, 2 or 4
    vps: tuple[bytes, ...]  # NAL units with header, escaped
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Sps:
    ptl: ProfileTierLevel
    temporal_layers: int
    temporal_nesting: bool
    chroma_format_idc: int
    bit_depth: int
    bit_depth_chroma: int
    width: int  # after the conformance window
    height: int
    pixel_aspect: tuple[int, int]
    colour: Colour | None
    frame_rate: float | None
    may_reorder: bool


def parse_hvcc_untrusted(config: bytes) -> Hvcc:
    """Parse an hvcC body, which must hold at least one SPS and one PPS; they are not looked into."""
    if len(config) < _HEAD_BYTES or config[0] != 1:
        raise WireError("an hvcC configuration is too short or has an unknown version")
    length_bytes = (config[21] & 3) + 1
    if length_bytes == 3 or config[22] > MAX_ARRAYS:
        raise WireError("an hvcC configuration has an impossible length size or too many arrays")
    sets: dict[int, tuple[bytes, ...]] = {}
    at = _HEAD_BYTES
    for _ in range(config[22]):
        if at + 3 > len(config):
            raise WireError("an hvcC configuration ends early")
        kind = config[at] & 0x3F
        units, at = _array(config, at + 3, int.from_bytes(config[at + 1 : at + 3], "big"))
        sets[kind] = sets.get(kind, ()) + units
    vps, sps, pps = (sets.get(kind, ()) for kind in (NAL_VPS, NAL_SPS, NAL_PPS))
    if not sps or not pps:
        raise WireError("an hvcC configuration lacks parameter sets")
    return Hvcc(ProfileTierLevel(config[1:13]), length_bytes, vps, sps, pps)


def with_four_byte_lengths_untrusted(config: bytes) -> bytes:
    """The same hvcC, saying that samples have 4-byte NAL lengths."""
    parse_hvcc_untrusted(config)
    return config[:21] + bytes((config[21] | 3,)) + config[22:]


def hvcc_untrusted(vps: Sequence[bytes], sps: Sequence[bytes], pps: Sequence[bytes]) -> bytes:
    """An hvcC body for 4-byte lengths from NAL units. Raises WireError for sets that do not parse."""
    kinds = ((NAL_VPS, vps), (NAL_SPS, sps), (NAL_PPS, pps))
    if not all(0 < len(units) <= MAX_SETS for _, units in kinds):
        raise WireError(f"HEVC needs 1 to {MAX_SETS} each of VPS, SPS and PPS")
    first = parse_sps_untrusted(sps[0])
    body = bytearray(b"\x01" + first.ptl.body)
    body += b"\xf0\x00\xfc"  # min_spatial_segmentation_idc 0, parallelismType unknown
    body += bytes((0xFC | first.chroma_format_idc, 0xF8 | (first.bit_depth - 8)))
    body += bytes((0xF8 | (first.bit_depth_chroma - 8), 0, 0))  # avgFrameRate unspecified
    body += bytes((first.temporal_layers << 3 | first.temporal_nesting << 2 | 3, len(kinds)))
    for kind, units in kinds:
        body += bytes((0x80 | kind,)) + len(units).to_bytes(2, "big")  # array_completeness
        for unit in units:
            if not 2 < len(unit) <= MAX_PARAMETER_SET_BYTES:
                raise WireError("an HEVC parameter set is too short or too long")
            body += len(unit).to_bytes(2, "big") + unit
    return bytes(body)


def parse_sps_untrusted(unit: bytes) -> Sps:
    """Parse a sequence parameter set NAL unit, both header bytes included."""
    if not 15 < len(unit) <= MAX_PARAMETER_SET_BYTES or nal_type(unit) != NAL_SPS:
        raise WireError("not an HEVC sequence parameter set")
    payload = unescape(unit[2:])
    bits = BitReader(payload)
    bits.skip(4)  # sps_video_parameter_set_id
    sub_layers = bits.u(3)
    nesting = bits.flag()
    if sub_layers > 6:
        raise WireError("sps_max_sub_layers_minus1 is above 6")
    _skip_profile_tier_level(bits, sub_layers)
    bits.ue()  # sps_seq_parameter_set_id
    chroma, width, height = _size(bits)
    depth, depth_chroma = 8 + bits.ue(), 8 + bits.ue()
    if depth > 16 or depth_chroma > 16:
        raise WireError(f"HEVC has no bit depth of {max(depth, depth_chroma)}")
    poc_bits = 4 + bits.ue()
    reorder = _max_reorder(bits, sub_layers)
    aspect, colour, rate = _usability(bits, poc_bits)
    return Sps(
        ProfileTierLevel(payload[1:13]), sub_layers + 1, nesting, chroma, depth, depth_chroma,
        width, height, aspect, colour, rate, reorder > 0,
    )  # fmt: skip


def _array(config: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    if count > MAX_SETS:
        raise WireError(f"an hvcC array has more than {MAX_SETS} NAL units")
    units = []
    for _ in range(count):
        start = at + 2
        at = start + int.from_bytes(config[at:start], "big")
        if at > len(config) or start > len(config):
            raise WireError("an hvcC configuration ends early")
        units.append(config[start:at])
    return tuple(units), at


def _skip_profile_tier_level(bits: BitReader, sub_layers: int) -> None:
    bits.skip(96)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    if sub_layers:
        bits.skip(2 * (8 - sub_layers))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


def _size(bits: BitReader) -> tuple[int, int, int]:
    chroma = bits.ue()
    if chroma > 3:
        raise WireError(f"chroma_format_idc {chroma} does not exist")
    if chroma == 3:
        bits.skip(1)  # separate_colour_plane_flag
    width, height = bits.ue(), bits.ue()
    if bits.flag():  # conformance_window_flag: left, right, top, bottom
        width -= (2 if chroma in (1, 2) else 1) * (bits.ue() + bits.ue())
        height -= (2 if chroma == 1 else 1) * (bits.ue() + bits.ue())
    check_size(width, height)
    return chroma, width, height


def _max_reorder(bits: BitReader, sub_layers: int) -> int:
    """sps_max_num_reorder_pics of the highest temporal layer."""
    reorder = 0
    for _ in range(sub_layers + 1 if bits.flag() else 1):
        bits.ue()
        reorder = bits.ue()
        bits.ue()
    return reorder


_Usability = tuple[tuple[int, int], Colour | None, float | None]


def _usability(bits: BitReader, poc_bits: int) -> _Usability:
    """Aspect, colour and frame rate; a damaged VUI counts as absent, as it does for decoders."""
    try:
        _skip_coding_tools(bits, poc_bits)
        if bits.flag():  # vui_parameters_present_flag
            return _read_usability(bits)
    except WireError:
        pass
    return SQUARE, None, None


def _read_usability(bits: BitReader) -> _Usability:
    aspect, colour = read_aspect(bits), read_signal(bits)
    bits.skip(3)  # neutral_chroma_indication, field_seq, frame_field_info_present
    if bits.flag():  # default_display_window_flag
        for _ in range(4):
            bits.ue()
    if not bits.flag():  # vui_timing_info_present_flag
        return aspect, colour, None
    ticks_per_frame, ticks_per_second = bits.u(32), bits.u(32)
    return aspect, colour, frame_rate(ticks_per_second, ticks_per_frame)


def _skip_coding_tools(bits: BitReader, poc_bits: int) -> None:
    """Everything between the reordering bounds and the VUI."""
    for _ in range(6):  # block sizes and transform depths
        bits.ue()
    if bits.flag() and bits.flag():  # scaling lists are on and written out
        _skip_scaling_lists(bits)
    bits.skip(2)  # amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.flag():  # pcm_enabled_flag
        bits.skip(8)
        bits.ue()
        bits.ue()
        bits.skip(1)
    _skip_short_term_sets(bits)
    if bits.flag():  # long_term_ref_pics_present_flag
        count = bits.ue()
        if count > MAX_LONG_TERM_PICTURES or poc_bits > 16:
            raise WireError("too many long-term reference pictures")
        bits.skip(count * (poc_bits + 1))
    bits.skip(2)  # sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag


def _skip_scaling_lists(bits: BitReader) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.flag():  # scaling_list_pred_mode_flag
                bits.ue()
                continue
            if size > 1:
                bits.se()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.se()


def _skip_short_term_sets(bits: BitReader) -> None:
    count = bits.ue()
    if count > MAX_SHORT_TERM_SETS:
        raise WireError("too many short-term reference picture sets")
    pictures = 0  # NumDeltaPocs of the set before
    for index in range(count):
        if index and bits.flag():  # inter_ref_pic_set_prediction_flag
            bits.skip(1)
            bits.ue()
            # A picture stays when used_by_curr_pic_flag or else use_delta_flag says so (7.3.7).
            pictures = sum(1 for _ in range(pictures + 1) if bits.flag() or bits.flag())
        else:
            pictures = bits.ue() + bits.ue()
            if pictures > MAX_REFERENCES:
                raise WireError("a reference picture set has more than 16 pictures")
            for _ in range(pictures):
                bits.ue()
                bits.skip(1)
