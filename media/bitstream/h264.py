"""H.264: the avcC configuration and the sequence parameter set. Pure.

ITU-T H.264 7.3.2.1 and annex E, ISO 14496-15 5.3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from media.bitstream.annexb import unescape
from media.bitstream.bits import BitReader
from media.bitstream.picture import SQUARE, Colour, check_size, frame_rate, read_aspect, read_signal
from media.errors import WireError

NAL_SLICE = 1
NAL_IDR = 5
NAL_SEI = 6
NAL_SPS = 7
NAL_PPS = 8
NAL_AUD = 9
NAL_END_OF_SEQUENCE = 10
NAL_END_OF_STREAM = 11
NAL_FILLER = 12

# Scaling lists and two HRDs of 32 entries stay below it.
MAX_PARAMETER_SET_BYTES = 4_096
MAX_CPB_COUNT = 32  # E.2.2
MAX_POC_CYCLE = 255  # 7.4.2.1.1

# Profiles whose SPS has chroma_format_idc and what follows it (7.3.2.1.1).
_CHROMA_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_NO_AVCC_CHROMA = frozenset((66, 77, 88))
_PROFILE_NAMES = {
    44: "CAVLC 4:4:4 Intra",
    66: "Baseline",
    77: "Main",
    88: "Extended",
    100: "High",
    110: "High 10",
    122: "High 4:2:2",
    244: "High 4:4:4 Predictive",
}
_SET3_MEANS_INTRA = frozenset((44, 100, 110, 122, 244))


@dataclass(frozen=True, slots=True)
class Avcc:
    """AVCDecoderConfigurationRecord."""

    length_bytes: int  # of each NAL's length in the samples: 1, 2 or 4
    sps: tuple[bytes, ...]  # NAL units with header, escaped
    pps: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Sps:
    profile_idc: int
    constraints: int  # constraint_set0_flag in the highest bit
    level_idc: int
    chroma_format_idc: int
    bit_depth: int
    bit_depth_chroma: int
    width: int  # after cropping
    height: int
    pixel_aspect: tuple[int, int]
    colour: Colour | None
    frame_rate: float | None
    may_reorder: bool  # pictures may be shown in another order than they are coded

    @property
    def profile(self) -> str:
        """For people: `High 3.1`."""
        name = _PROFILE_NAMES.get(self.profile_idc, f"profile {self.profile_idc}")
        if self.profile_idc == 66 and self.constraints & 0x40:
            name = "Constrained Baseline"
        level = self.level_idc
        if level == 11 and self.constraints & 0x10 and self.profile_idc in (66, 77, 88):
            return f"{name} 1b"
        return f"{name} {level // 10}.{level % 10}"


def parse_avcc_untrusted(config: bytes) -> Avcc:
    """Parse an avcC body, which must hold at least one SPS and one PPS; they are not looked into."""
    if len(config) < 7 or config[0] != 1:
        raise WireError("an avcC configuration is too short or has an unknown version")
    length_bytes = (config[4] & 3) + 1
    if length_bytes == 3:
        raise WireError("an avcC configuration asks for 3-byte NAL lengths")
    sps, at = _sets(config, 6, config[5] & 0x1F)
    if at >= len(config):
        raise WireError("an avcC configuration ends early")
    pps, _ = _sets(config, at + 1, config[at])
    if not sps or not pps:
        raise WireError("an avcC configuration lacks parameter sets")
    return Avcc(length_bytes, sps, pps)


def with_four_byte_lengths_untrusted(config: bytes) -> bytes:
    """The same avcC, saying that samples have 4-byte NAL lengths."""
    parse_avcc_untrusted(config)
    return config[:4] + bytes((config[4] | 3,)) + config[5:]


def avcc_untrusted(sps: Sequence[bytes], pps: Sequence[bytes]) -> bytes:
    """An avcC body for 4-byte lengths from NAL units. Raises WireError for sets that do not parse."""
    if not (0 < len(sps) < 32 and 0 < len(pps) < 256):
        raise WireError("H.264 needs 1 to 31 sequence and 1 to 255 picture parameter sets")
    first = parse_sps_untrusted(sps[0])
    head = bytes((1, first.profile_idc, first.constraints, first.level_idc, 0xFF, 0xE0 | len(sps)))
    body = head + _prefixed(sps) + bytes((len(pps),)) + _prefixed(pps)
    if first.profile_idc in _NO_AVCC_CHROMA:
        return body
    depths = (0xF8 | (first.bit_depth - 8), 0xF8 | (first.bit_depth_chroma - 8))
    return body + bytes((0xFC | first.chroma_format_idc, *depths, 0))


def parse_sps_untrusted(unit: bytes) -> Sps:
    """Parse a sequence parameter set NAL unit, header byte included."""
    if not 4 < len(unit) <= MAX_PARAMETER_SET_BYTES or unit[0] & 0x1F != NAL_SPS:
        raise WireError("not an H.264 sequence parameter set")
    bits = BitReader(unescape(unit[1:]))
    profile_idc, constraints, level_idc = bits.u(8), bits.u(8), bits.u(8)
    bits.ue()  # seq_parameter_set_id
    chroma, depth, depth_chroma = _chroma(bits) if profile_idc in _CHROMA_PROFILES else (1, 8, 8)
    bits.ue()  # log2_max_frame_num_minus4
    poc_type = _picture_order(bits)
    bits.ue()  # max_num_ref_frames
    bits.skip(1)  # gaps_in_frame_num_value_allowed_flag
    width, height = _size(bits, chroma)
    aspect, colour, rate, reorder_frames = _usability(bits)
    intra_only = bool(constraints & 0x10) and profile_idc in _SET3_MEANS_INTRA
    may_reorder = profile_idc != 66 and poc_type != 2 and not intra_only and reorder_frames != 0
    return Sps(
        profile_idc, constraints, level_idc, chroma, depth, depth_chroma,
        width, height, aspect, colour, rate, may_reorder,
    )  # fmt: skip


def _sets(config: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    found = []
    for _ in range(count):
        start = at + 2
        at = start + int.from_bytes(config[at:start], "big")
        if at > len(config) or start > len(config):
            raise WireError("an avcC configuration ends early")
        found.append(config[start:at])
    return tuple(found), at


def _prefixed(units: Sequence[bytes]) -> bytes:
    if any(len(unit) > MAX_PARAMETER_SET_BYTES for unit in units):
        raise WireError(f"a parameter set is longer than {MAX_PARAMETER_SET_BYTES} bytes")
    return b"".join([len(unit).to_bytes(2, "big") + unit for unit in units])


def _chroma(bits: BitReader) -> tuple[int, int, int]:
    chroma = bits.ue()
    if chroma > 3:
        raise WireError(f"chroma_format_idc {chroma} does not exist")
    if chroma == 3:
        bits.skip(1)  # separate_colour_plane_flag
    depth, depth_chroma = 8 + bits.ue(), 8 + bits.ue()
    if depth > 14 or depth_chroma > 14:
        raise WireError(f"H.264 has no bit depth of {max(depth, depth_chroma)}")
    bits.skip(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():  # seq_scaling_matrix_present_flag
        for index in range(12 if chroma == 3 else 8):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma, depth, depth_chroma


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) & 0xFF
        last = following or last


def _picture_order(bits: BitReader) -> int:
    poc_type = bits.ue()
    if poc_type == 0:
        bits.ue()
    elif poc_type == 1:
        bits.skip(1)
        bits.se()
        bits.se()
        cycle = bits.ue()
        if cycle > MAX_POC_CYCLE:
            raise WireError("num_ref_frames_in_pic_order_cnt_cycle is above 255")
        for _ in range(cycle):
            bits.se()
    elif poc_type > 2:
        raise WireError(f"pic_order_cnt_type {poc_type} does not exist")
    return poc_type


def _size(bits: BitReader, chroma: int) -> tuple[int, int]:
    width = (bits.ue() + 1) * 16
    map_units = bits.ue() + 1
    frames_only = bits.flag()
    height = map_units * 16 * (1 if frames_only else 2)
    if not frames_only:
        bits.skip(1)  # mb_adaptive_frame_field_flag
    bits.skip(1)  # direct_8x8_inference_flag
    if bits.flag():  # frame_cropping_flag: left, right, top, bottom in crop units (7-19 to 7-22)
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (1 if frames_only else 2)
        width -= unit_x * (bits.ue() + bits.ue())
        height -= unit_y * (bits.ue() + bits.ue())
    check_size(width, height)
    return width, height


_Usability = tuple[tuple[int, int], Colour | None, float | None, int | None]


def _usability(bits: BitReader) -> _Usability:
    """Aspect, colour, frame rate, max_num_reorder_frames of a VUI (E.1.1).

    Decoders show pictures in spite of a damaged VUI, and cameras exist that send one: it counts as absent.
    """
    try:
        if bits.flag():
            return _read_usability(bits)
    except WireError:
        pass
    return SQUARE, None, None, None


def _read_usability(bits: BitReader) -> _Usability:
    aspect, colour = read_aspect(bits), read_signal(bits)
    rate = None
    if bits.flag():  # timing_info_present_flag: ticks are fields
        ticks_per_field, ticks_per_second = bits.u(32), bits.u(32)
        rate = frame_rate(ticks_per_second, 2 * ticks_per_field)
        bits.skip(1)
    nal_hrd = bits.flag()
    if nal_hrd:
        _skip_hrd(bits)
    vcl_hrd = bits.flag()
    if vcl_hrd:
        _skip_hrd(bits)
    if nal_hrd or vcl_hrd:
        bits.skip(1)  # low_delay_hrd_flag
    bits.skip(1)  # pic_struct_present_flag
    reorder_frames = None
    if bits.flag():  # bitstream_restriction_flag
        bits.skip(1)
        for _ in range(4):
            bits.ue()
        reorder_frames = bits.ue()
    return aspect, colour, rate, reorder_frames


def _skip_hrd(bits: BitReader) -> None:
    count = bits.ue() + 1
    if count > MAX_CPB_COUNT:
        raise WireError("cpb_cnt_minus1 is above 31")
    bits.skip(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.skip(1)
    bits.skip(20)
