"""FLV tag bodies, which are RTMP's media messages, as publishers send them: legacy and Enhanced RTMP v1, v2.

Sources: Video File Format Specification 10.1 annex E; Enhanced RTMP v2 (Veovera, 2024),
"Enhanced Audio", "Enhanced Video", "Enhancing onMetaData".
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from media.bitstream import av1, flac, opus
from media.container import amf
from media.container.flv import FOURCC, TAG_HEADER_BYTES, PacketType, track_id
from media.errors import Refused, WireError
from media.track.model import Codec, Kind

MAX_TRACK_INDEX = 31  # of multitrack; Enhanced RTMP allows 255, encoders send up to about 8
MAX_DECLARED_BPS = 10**10  # what a publisher may claim; beyond it is noise
MAX_DECLARED_FPS = 1000.0

_LEGACY_HEVC = 12  # not in any specification, yet sent by many hardware encoders in H.264's form
_COMMAND_FRAME = 5
_MAX_NANOSECONDS = 999_999  # a millisecond is the timestamp's own unit
_VIDEO = {FOURCC[codec]: codec for codec in Codec if codec.kind is Kind.VIDEO}
_AUDIO = {FOURCC[codec]: codec for codec in Codec if codec.kind is Kind.AUDIO}
_LEGACY_VIDEO_NAMES = {
    2: "Sorenson H.263", 3: "Screen video", 4: "VP6", 5: "VP6 with alpha", 6: "Screen video 2", 8: "VP8",
    9: "MPEG-4", 13: "AV1 without Enhanced RTMP",
}  # fmt: skip
_LEGACY_AUDIO_NAMES = {
    0: "PCM", 1: "ADPCM", 2: "MP3", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser",
    7: "G.711 A-law", 8: "G.711 mu-law", 11: "Speex", 13: "Opus without Enhanced RTMP", 14: "MP3",
}  # fmt: skip


class SequenceHeader(msgspec.Struct, frozen=True, gc=False):
    """How to decode what follows on a track. `config` has the form of Track.config.

    It is empty for AC-3 and E-AC-3, whose frames tell themselves (bitstream room).
    """

    track_id: int
    codec: Codec
    config: bytes


class CodedFrame(msgspec.Struct, frozen=True, gc=False):
    """One frame; `data` has the form of Packet.data, but for NAL lengths, which follow the config."""

    track_id: int
    codec: Codec
    keyframe: bool
    cts_ms: int  # composition time, may be negative
    offset_ns: int  # to be added to the message's timestamp, 0 to 999 999
    data: bytes


class SequenceEnd(msgspec.Struct, frozen=True, gc=False):
    track_id: int


Event = SequenceHeader | CodedFrame | SequenceEnd


class Declared(msgspec.Struct, frozen=True):
    """What metadata says about one track; 0 for what it does not say."""

    bps: int = 0
    fps: float = 0.0


class Metadata(msgspec.Struct, frozen=True):
    """onMetaData, as far as it is used."""

    kinds: frozenset[Kind]  # announced by videocodecid and audiocodecid
    tracks: dict[int, Declared]  # by track id
    encoder: str


def parse_video_untrusted(body: bytes) -> Sequence[Event]:
    """A video tag body. Raises WireError, and Refused for a codec that fwnode does not carry."""
    if not body:
        return ()
    first = body[0]
    if first & 0x80:
        return _parse_enhanced(body, Kind.VIDEO)
    if first >> 4 == _COMMAND_FRAME:
        return ()
    codec_id = first & 0x0F
    if codec_id == 7:
        codec = Codec.H264
    elif codec_id == _LEGACY_HEVC:
        codec = Codec.HEVC
    else:
        name = _LEGACY_VIDEO_NAMES.get(codec_id, f"Video codec {codec_id}")
        raise Refused(f"{name} over RTMP is not carried here: set the encoder's video codec to H.264")
    if len(body) < 2 or (len(body) < 5 and body[1] != 2):
        raise WireError("video message is cut off")
    data = body[5:]
    if body[1] == 1:
        cts_ms = (int.from_bytes(body[2:5]) ^ 0x800000) - 0x800000
        return (CodedFrame(1, codec, first >> 4 in (1, 4), cts_ms, 0, data),) if data else ()
    if body[1] == 0:
        return (SequenceHeader(1, codec, data),) if data else ()
    return (SequenceEnd(1),) if body[1] == 2 else ()


def parse_audio_untrusted(body: bytes) -> Sequence[Event]:
    """An audio tag body; an empty one is RTMP's silence. Raises WireError and Refused as for video."""
    if not body:
        return ()
    sound_format = body[0] >> 4
    if sound_format == 9:
        return _parse_enhanced(body, Kind.AUDIO)
    if sound_format != 10:
        name = _LEGACY_AUDIO_NAMES.get(sound_format, f"Audio codec {sound_format}")
        raise Refused(f"{name} sound over RTMP is not carried here: set the encoder's audio codec to AAC")
    if len(body) < 2:
        raise WireError("audio message is cut off")
    data = body[2:]
    if not data or body[1] > 1:
        return ()
    if body[1] == 1:
        return (CodedFrame(2, Codec.AAC, True, 0, 0, data),)
    return (SequenceHeader(2, Codec.AAC, data),)


def parse_metadata_untrusted(body: bytes) -> Metadata | None:
    """A script tag body or RTMP data message; None when it is not onMetaData. Raises WireError."""
    # Others (captions, cue points, private data) are not even read.
    if b"onMetaData" not in body[:64]:
        return None
    values = amf.decode_untrusted(body)
    info = next((value for value in values if isinstance(value, dict)), {})
    kinds = frozenset(kind for kind in Kind if info.get(f"{kind}codecid"))
    tracks = {track_id(kind, 0): _declared(info, kind) for kind in Kind}
    for kind in Kind:
        others = info.get(f"{kind}TrackIdInfoMap")
        for key, one in others.items() if isinstance(others, dict) else ():
            if isinstance(one, dict) and key.isdecimal() and len(key) < 3 and int(key) <= MAX_TRACK_INDEX:
                tracks[track_id(kind, int(key))] = _declared(one, kind)
    encoder = info.get("encoder")
    return Metadata(kinds, tracks, encoder[:128] if isinstance(encoder, str) else "")


def split_tags_untrusted(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, milliseconds and body of each FLV tag in `data`; each is followed by its size (E.3).

    A last size that is missing is forgiven. Raises WireError for a tag that is cut off.
    """
    position = 0
    while position < len(data):
        head = data[position : position + TAG_HEADER_BYTES]
        body_at = position + TAG_HEADER_BYTES
        end = body_at + int.from_bytes(head[1:4])
        if len(head) < TAG_HEADER_BYTES or end > len(data):
            raise WireError("FLV tag is cut off")
        yield head[0] & 0x1F, int.from_bytes(head[4:7]) | head[7] << 24, data[body_at:end]
        position = end + 4


def _declared(info: dict[str, amf.Value], kind: Kind) -> Declared:
    bps = _number(info.get(f"{kind}datarate"), MAX_DECLARED_BPS / 1000) * 1000
    fps = _number(info.get("framerate"), MAX_DECLARED_FPS) if kind is Kind.VIDEO else 0.0
    return Declared(round(bps), fps)


def _number(value: amf.Value, most: float) -> float:
    if isinstance(value, float) and math.isfinite(value) and 0 < value <= most:
        return value
    return 0.0


def _parse_enhanced(body: bytes, kind: Kind) -> Sequence[Event]:
    """ExVideoTagHeader or ExAudioTagHeader and what follows it."""
    packet_type = body[0] & 0x0F
    keyframe = kind is Kind.AUDIO or body[0] >> 4 & 7 in (1, 4)
    position, offset_ns = 1, 0
    if packet_type == PacketType.MOD_EX:
        packet_type, position, offset_ns = _skip_mod_ex(body)
    if kind is Kind.VIDEO and body[0] >> 4 & 7 == _COMMAND_FRAME:
        return ()
    multitrack = PacketType.VIDEO_MULTITRACK if kind is Kind.VIDEO else PacketType.AUDIO_MULTITRACK
    events: list[Event] = []
    event: Event | None
    if packet_type != multitrack:
        found = [(_codec(body, position, kind), 0, body[position + 4 :])]
    else:
        packet_type = _u8(body, position) & 0x0F
        found = _split_tracks(body, position, kind)
    for codec, index, payload in found:
        if packet_type == PacketType.SEQUENCE_START:
            event = _sequence_header(codec, track_id(kind, index), payload)
        else:
            event = _other(packet_type, codec, track_id(kind, index), keyframe, offset_ns, payload)
        if event is not None:
            events.append(event)
    return events


def _skip_mod_ex(body: bytes) -> tuple[int, int, int]:
    """Packet type, position after the modifiers, nanosecond offset."""
    packet_type, position, offset_ns = int(PacketType.MOD_EX), 1, 0
    while packet_type == PacketType.MOD_EX:
        size = _u8(body, position) + 1
        position += 1
        if size == 256:
            size = (_u8(body, position) << 8 | _u8(body, position + 1)) + 1
            position += 2
        types = _u8(body, position + size)
        if types >> 4 == 0 and size >= 3:
            offset_ns = min(int.from_bytes(body[position : position + 3]), _MAX_NANOSECONDS)
        packet_type = types & 0x0F
        position += size + 1
    return packet_type, position, offset_ns


def _split_tracks(body: bytes, position: int, kind: Kind) -> list[tuple[Codec, int, bytes]]:
    """Codec, index and payload of each track in a multitrack body; `position` is that of its type."""
    layout = _u8(body, position) >> 4  # AvMultitrackType
    position += 1
    if layout > 2:
        return []  # reserved for a later version
    tracks: list[tuple[Codec, int, bytes]] = []
    codec = None
    if layout != 2:
        codec = _codec(body, position, kind)
        position += 4
    while position < len(body):
        if layout == 2:
            codec = _codec(body, position, kind)
            position += 4
        assert codec is not None
        index = _u8(body, position)
        if index > MAX_TRACK_INDEX:
            raise WireError(f"multitrack index {index}, more than {MAX_TRACK_INDEX}")
        position += 1
        size = len(body) - position
        if layout:
            size = int.from_bytes(body[position : position + 3])
            position += 3
        if position + size > len(body):
            raise WireError("multitrack message is cut off")
        tracks.append((codec, index, body[position : position + size]))
        position += size
        if len(tracks) > MAX_TRACK_INDEX + 1:
            raise WireError("more tracks in one message than there can be")
    return tracks


def _codec(body: bytes, position: int, kind: Kind) -> Codec:
    fourcc = body[position : position + 4]
    if len(fourcc) < 4:
        raise WireError(f"{kind} message is cut off")
    codec = (_VIDEO if kind is Kind.VIDEO else _AUDIO).get(fourcc)
    if codec is None:
        carried = "H.264, HEVC, AV1 or VP9" if kind is Kind.VIDEO else "AAC, Opus, FLAC, AC-3 or E-AC-3"
        name = ascii(fourcc.decode("latin-1"))
        raise Refused(f"{name} {kind} is not carried here: set the encoder's {kind} codec to {carried}")
    return codec


def _sequence_header(codec: Codec, number: int, payload: bytes) -> SequenceHeader | None:
    config = payload
    match codec:
        case Codec.AC3 | Codec.EAC3:
            config = b""
        case Codec.OPUS:
            # Enhanced RTMP lets the ID header be empty, meaning mono or stereo.
            config = opus.config_from_head_untrusted(payload) if payload else opus.default_config(2)
        case Codec.FLAC:
            config = flac.config_from_streaminfo_untrusted(_streaminfo(payload))
        case Codec.VP9 if len(payload) == 8:
            config = b"\x01\0\0\0" + payload  # without FullBox version and flags, as the standard says
        case _ if not payload:
            return None
    return SequenceHeader(number, codec, config)


def _streaminfo(payload: bytes) -> bytes:
    """STREAMINFO's 34 bytes: FFmpeg sends them bare, the standard wants a signature and a block header."""
    if len(payload) == flac.STREAMINFO_BYTES:
        return payload
    return payload[8:] if payload.startswith(b"fLaC") else payload[4:]


def _other(
    packet_type: int, codec: Codec, number: int, keyframe: bool, offset_ns: int, payload: bytes
) -> Event | None:
    """Every packet type but SequenceStart; None for those that say nothing to us."""
    match packet_type:
        case PacketType.CODED_FRAMES if codec in (Codec.H264, Codec.HEVC):
            if len(payload) < 3:
                raise WireError("video message is cut off")
            cts_ms = (int.from_bytes(payload[:3]) ^ 0x800000) - 0x800000
            data = payload[3:]
        case PacketType.CODED_FRAMES_X if codec.kind is Kind.AUDIO:
            return None  # reserved
        case PacketType.CODED_FRAMES | PacketType.CODED_FRAMES_X:
            cts_ms = 0
            data = av1.sample_untrusted(payload) if codec is Codec.AV1 else payload
        case PacketType.SEQUENCE_END:
            return SequenceEnd(number)
        case PacketType.MPEG2TS_SEQUENCE_START if codec is Codec.AV1:
            return _av1_descriptor(number, payload)
        case _:
            return None
    return CodedFrame(number, codec, keyframe, cts_ms, offset_ns, data) if data else None


def _av1_descriptor(number: int, payload: bytes) -> SequenceHeader:
    """An av1C body from the AV1 video descriptor (AV1 in MPEG-2 TS 2.1); the two share their fields."""
    if len(payload) < 6 or payload[:2] != b"\x80\x04":
        raise WireError("not an AV1 video descriptor")
    return SequenceHeader(number, Codec.AV1, payload[2:5] + bytes((payload[5] & 0x1F,)))


def _u8(body: bytes, position: int) -> int:
    if position >= len(body):
        raise WireError("media message is cut off")
    return body[position]
