"""The vocabulary that every ingest writes and every delivery reads."""

import enum

import msgspec

MICROSECONDS = 1_000_000
VIDEO_TIMESCALE = 90_000


class Kind(enum.StrEnum):
    VIDEO = "video"
    AUDIO = "audio"


class Codec(enum.StrEnum):
    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"
    VP9 = "vp9"
    AAC = "aac"
    OPUS = "opus"
    FLAC = "flac"
    AC3 = "ac3"
    EAC3 = "eac3"

    @property
    def kind(self) -> Kind:
        return Kind.VIDEO if self in _VIDEO else Kind.AUDIO


_VIDEO = frozenset((Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9))


class Track(msgspec.Struct, frozen=True):
    """One elementary stream's description; a change of any field makes a new Track with `init` one higher.

    `config` is the body of the codec's ISO BMFF configuration box, without the box header:
    avcC (ISO 14496-15 5.3.3), hvcC (8.3.3), av1C (AV1-ISOBMFF 2.3), vpcC with its FullBox
    version and flags (VP9-ISOBMFF), the AudioSpecificConfig for AAC (ISO 14496-3 1.6.2),
    dOps (Opus-ISOBMFF 4.3.2), dfLa's metadata blocks from STREAMINFO on (FLAC-ISOBMFF 3.3.2),
    dac3, dec3 (ETSI TS 102 366 annex F).
    """

    id: int  # 1-based, unique in its stream, kept over changes of init
    codec: Codec
    timescale: int  # ticks per second of every time on this track
    config: bytes
    init: int = 0
    width: int = 0  # pixels; 0 for audio
    height: int = 0
    sample_rate: int = 0  # Hz; 0 for video
    channels: int = 0
    language: str = "und"  # ISO 639-2
    title: str = ""
    declared_bps: int = 0  # what the publisher said in its metadata; 0 when it said nothing
    declared_fps: float = 0.0

    @property
    def kind(self) -> Kind:
        return self.codec.kind

    @property
    def name(self) -> str:
        """The track's name in URLs: v1, a2, ..."""
        return f"{'v' if self.kind is Kind.VIDEO else 'a'}{self.id}"

    def describes_same(self, other: "Track") -> bool:
        """Equal in everything but `init`."""
        return self == msgspec.structs.replace(other, init=self.init)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One coded frame as an ingest protocol gave it; times are the publisher's, not yet trusted."""

    track_id: int
    dts_us: int  # microseconds on the publisher's clock, any origin
    cts_us: int  # presentation minus decoding time
    keyframe: bool  # always True for audio
    data: bytes  # see Packet.data


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One coded frame with repaired times and the origin's marks. Immutable and shared by all readers.

    `data` is in ISO BMFF sample form: 4-byte length-prefixed NAL units for H.264 and HEVC
    (parameter sets in the config), a temporal unit of OBUs without temporal delimiter for
    AV1, a frame or superframe for VP9, one raw access unit without ADTS for AAC, one
    packet, frame or syncframe for Opus, FLAC and AC-3. Empty: a gap, see `is_gap`.

    Boundaries are the origin's decision: packets that share (segment, part) form a part,
    packets that share segment form a segment; both only grow along a stream.
    """

    track: Track
    dts: int  # ticks of track.timescale from the stream's first packet; grows strictly within a track
    cts: int  # presentation minus decoding time, ticks, at least 0
    duration: int  # ticks; for video the distance to the packet before, as the next is not known yet
    keyframe: bool
    data: bytes
    group: int  # counts keyframes of the leading track; a decoder can start at a group's first packet
    segment: int  # media sequence number
    part: int  # index within the segment, from 0
    discontinuity: int  # discontinuity sequence number

    @property
    def pts(self) -> int:
        return self.dts + self.cts

    @property
    def dts_us(self) -> int:
        return self.dts * MICROSECONDS // self.track.timescale


class Hollow(Packet, frozen=True, gc=False):
    """A packet of a track that this node did not fetch: its marks without its data, which is empty.

    It keeps numbers and durations the same on every node; nothing may be packaged of it.
    """

    payload_hash: bytes  # of the data as the origin has it


def is_gap(packet: Packet) -> bool:
    """Does it say that packets of its track are missing in its part, which cannot be had then?"""
    return not packet.data and type(packet) is not Hollow
