"""What kind of frame this is, read from the first bytes of its NAL units or OBUs. Pure.

For diagnosis and for marking keyframes; the cost does not grow with the frame's size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from media.bitstream import av1, h264, hevc, vp9
from media.bitstream.annexb import heads_untrusted, unescape
from media.bitstream.bits import BitReader
from media.errors import WireError
from media.track.model import Codec

# The picture's first slices come after a handful of other units; more than this tells nothing new.
MAX_INSPECTED_UNITS = 64
# A slice header's first fields take 6 bytes; a recovery point comes early in its SEI unit.
HEAD_BYTES = 96
_MAX_SEI_MESSAGES = 8
_SEI_RECOVERY_POINT = 6
_H264_SLICES = frozenset((h264.NAL_SLICE, 2, h264.NAL_IDR))  # 2: data partition A
_HEVC_LEADING = range(6, 10)  # RADL and RASL pictures
_AV1_FRAMES = (av1.OBU_FRAME, av1.OBU_FRAME_HEADER)


@dataclass(frozen=True, slots=True)
class FrameFacts:
    keyframe: bool  # a decoder can start here
    idr: bool  # H.264, HEVC: an IDR picture; AV1, VP9: a keyframe that is shown at once
    open_gop: bool  # keyframe after which frames may come that need earlier ones
    b_slices: bool  # bi-predicted slices; HEVC encoders also use them without reordering


def inspect_video(codec: Codec, data: bytes) -> FrameFacts:
    """Facts of a video packet's `data` (its form: see Packet). Raises WireError when it does not parse.

    HEVC slice types are read as if the picture parameter set added no slice header bits, which
    is so for all common encoders.
    """
    if codec is Codec.AV1:
        return _av1(data)
    if codec is Codec.VP9:
        header = vp9.parse_frame_header_untrusted(data)
        return FrameFacts(header.keyframe, header.keyframe and header.shown, False, False)
    return inspect_units_untrusted(codec, heads_untrusted(data, HEAD_BYTES, MAX_INSPECTED_UNITS))


def inspect_units_untrusted(codec: Codec, units: Iterable[bytes]) -> FrameFacts:
    """The same for H.264 or HEVC NAL units (or their first HEAD_BYTES), none of them empty."""
    return _hevc(units) if codec is Codec.HEVC else _h264(units)


def _h264(units: Iterable[bytes]) -> FrameFacts:
    idr = recovery = b_slices = False
    for unit in units:
        kind = unit[0] & 0x1F
        if kind in _H264_SLICES:
            idr = idr or kind == h264.NAL_IDR
            bits = BitReader(unescape(unit[1:13]))
            bits.ue()  # first_mb_in_slice
            b_slices = b_slices or bits.ue() % 5 == 1
        elif kind == h264.NAL_SEI:
            recovery = recovery or _has_recovery_point(unescape(unit[1:]))
    return FrameFacts(idr or recovery, idr, recovery and not idr, b_slices)


def _has_recovery_point(payload: bytes) -> bool:
    """Whether one of the first messages is a recovery point (D.1.8); a cut off message ends the search."""
    at = 0
    for _ in range(_MAX_SEI_MESSAGES):
        kind, at = _sei_number(payload, at)
        size, at = _sei_number(payload, at)
        if at >= len(payload):
            return False
        if kind == _SEI_RECOVERY_POINT:
            return True
        at += size
    return False


def _sei_number(payload: bytes, at: int) -> tuple[int, int]:
    """A payload type or size in its ff..ff xx form (7.3.2.3.1)."""
    value = 0
    while payload[at : at + 1] == b"\xff":
        value += 255
        at += 1
    return value + int.from_bytes(payload[at : at + 1], "big"), at + 1


def _hevc(units: Iterable[bytes]) -> FrameFacts:
    first_kind, b_slices = -1, False
    for unit in units:
        kind = hevc.nal_type(unit)
        if kind >= hevc.NAL_VPS:
            continue
        if len(unit) < 3:
            raise WireError("an HEVC slice is too short")
        first_kind = kind if first_kind < 0 else first_kind
        b_slices = b_slices or kind in _HEVC_LEADING or _is_b_slice(unit, kind)
    idr = hevc.NAL_IDR_FIRST <= first_kind <= hevc.NAL_IDR_LAST
    keyframe = hevc.NAL_BLA_FIRST <= first_kind <= hevc.NAL_IRAP_LAST
    return FrameFacts(keyframe, idr, keyframe and not idr, b_slices)


def _is_b_slice(unit: bytes, kind: int) -> bool:
    bits = BitReader(unescape(unit[2:14]))
    if not bits.flag():  # later slice segments of the picture need the SPS to be read
        return False
    if hevc.NAL_BLA_FIRST <= kind <= hevc.NAL_IRAP_LAST:
        bits.skip(1)  # no_output_of_prior_pics_flag
    bits.ue()  # slice_pic_parameter_set_id
    return bits.ue() == 0


def _av1(data: bytes) -> FrameFacts:
    for count, (kind, _, payload_at, end) in enumerate(av1.obu_spans_untrusted(data)):
        if kind in _AV1_FRAMES:
            if payload_at == end:
                raise WireError("an AV1 frame header is empty")
            # show_existing_frame, frame_type (0: key), show_frame (5.9.2)
            first = data[payload_at]
            keyframe, shown = first & 0xE0 == 0, bool(first & 0x10)
            return FrameFacts(keyframe, keyframe and shown, keyframe and not shown, False)
        if count == MAX_INSPECTED_UNITS:
            break
    return FrameFacts(False, False, False, False)
