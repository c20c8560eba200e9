"""From the NAL units of a picture, as TS and RTP carry them, to a sample and a configuration. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from media.bitstream import h264, hevc
from media.bitstream.annexb import join_sample
from media.bitstream.inspect import HEAD_BYTES, MAX_INSPECTED_UNITS, FrameFacts, inspect_units_untrusted
from media.errors import WireError
from media.track.model import Codec

# More than an encoder repeats before one picture.
MAX_SETS_OF_A_KIND = 64

# Units that carry nothing that a sample needs: its boundaries are known (ISO 14496-15 5.3.2, 8.3.2).
_H264_DROPPED = frozenset((h264.NAL_AUD, h264.NAL_END_OF_SEQUENCE, h264.NAL_END_OF_STREAM, h264.NAL_FILLER))
_HEVC_DROPPED = frozenset((hevc.NAL_AUD, hevc.NAL_END_OF_SEQUENCE, hevc.NAL_END_OF_STREAM, hevc.NAL_FILLER))


@dataclass(frozen=True, slots=True)
class ParameterSets:
    """Parameter sets as NAL units, in the order of their coming, without repetitions."""

    codec: Codec
    vps: tuple[bytes, ...] = ()  # HEVC only
    sps: tuple[bytes, ...] = ()
    pps: tuple[bytes, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a decoder could start with them."""
        return bool(self.sps and self.pps and (self.vps or self.codec is Codec.H264))

    def updated(self, newer: "ParameterSets") -> "ParameterSets":
        """These, with each kind that `newer` has taken from there."""
        return ParameterSets(self.codec, newer.vps or self.vps, newer.sps or self.sps, newer.pps or self.pps)

    def config_untrusted(self) -> bytes:
        """The avcC or hvcC body. Raises WireError when sets are missing or do not parse."""
        if self.codec is Codec.H264:
            return h264.avcc_untrusted(self.sps, self.pps)
        return hevc.hvcc_untrusted(self.vps, self.sps, self.pps)


@dataclass(frozen=True, slots=True)
class AccessUnit:
    sample: bytes  # Packet.data; empty when there were parameter sets only
    sets: ParameterSets  # those that came in band
    facts: FrameFacts


def access_unit_untrusted(codec: Codec, units: Iterable[bytes]) -> AccessUnit:
    """Sort the NAL units (H.264 or HEVC, without start codes, none empty) of one picture.

    Parameter sets go to `sets`; delimiters and filler are dropped; the rest is the sample.
    """
    is_h264 = codec is Codec.H264
    dropped = _H264_DROPPED if is_h264 else _HEVC_DROPPED
    kinds = (-1, h264.NAL_SPS, h264.NAL_PPS) if is_h264 else (hevc.NAL_VPS, hevc.NAL_SPS, hevc.NAL_PPS)
    # dicts keep order and drop repetitions
    sets: dict[int, dict[bytes, None]] = {kind: {} for kind in kinds}
    kept = []
    for unit in units:
        kind = unit[0] & 0x1F if is_h264 else hevc.nal_type(unit)
        if kind in sets:
            sets[kind][unit] = None
        elif kind not in dropped:
            kept.append(unit)
    if any(len(found) > MAX_SETS_OF_A_KIND for found in sets.values()):
        raise WireError(f"a picture comes with more than {MAX_SETS_OF_A_KIND} parameter sets of a kind")
    facts = inspect_units_untrusted(codec, (unit[:HEAD_BYTES] for unit in kept[:MAX_INSPECTED_UNITS]))
    return AccessUnit(join_sample(kept), ParameterSets(codec, *(tuple(sets[kind]) for kind in kinds)), facts)
