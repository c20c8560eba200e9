"""FLV tags and tag bodies as we write them; an RTMP media message is a tag body.

H.264 and AAC as the only video and audio track are written the legacy way, which every player
reads; everything else as Enhanced RTMP v2 (Veovera, 2024) says. Sources: Video File Format
Specification 10.1 annex E; Enhanced RTMP v2, "Enhanced Audio", "Enhanced Video".
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum

from media.container import amf
from media.track.model import Codec, Kind, Packet, Track

AUDIO_TAG, VIDEO_TAG, SCRIPT_TAG = 8, 9, 18
TAG_HEADER_BYTES = 11

FOURCC = {
    Codec.H264: b"avc1",
    Codec.HEVC: b"hvc1",
    Codec.AV1: b"av01",
    Codec.VP9: b"vp09",
    Codec.AAC: b"mp4a",
    Codec.OPUS: b"Opus",
    Codec.FLAC: b"fLaC",
    Codec.AC3: b"ac-3",
    Codec.EAC3: b"ec-3",
}
LEGACY_ID = {Codec.H264: 7, Codec.AAC: 10}  # CodecID, SoundFormat
OPUS_HEAD = b"OpusHead"

_EX_VIDEO, _EX_AUDIO = 0x80, 0x90  # high bit of VideoTagHeader; SoundFormat 9
_KEY, _INTER = 0x10, 0x20
_AAC = b"\xaf"  # AAC is always marked 44 kHz, 16 bit, stereo (E.4.2.1): the config tells the truth
_REORDERED = (Codec.H264, Codec.HEVC)  # carry a composition time
_FLV_HEADER_BYTES = 9
_MAX_CTS_MS = 0x7FFFFF  # SI24


class PacketType(IntEnum):
    """VideoPacketType, and AudioPacketType where the two agree."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    CODED_FRAMES_X = 3  # video only: composition time 0
    METADATA = 4  # video; MultichannelConfig for audio
    AUDIO_MULTITRACK = 5
    MPEG2TS_SEQUENCE_START = 5  # video
    VIDEO_MULTITRACK = 6
    MOD_EX = 7


def track_id(kind: Kind, index: int) -> int:
    """Our track id for a multitrack index, stable over the life of a stream: 1, 3, ... and 2, 4, ..."""
    return 2 * index + (1 if kind is Kind.VIDEO else 2)


def track_index(number: int) -> int:
    """The multitrack index of a track id; the inverse of `track_id`."""
    return (number - 1) // 2


def lead_tracks(tracks: Iterable[Track]) -> tuple[Track, ...]:
    """The first video and the first audio track: all that a player without multitrack can take."""
    leads: dict[Kind, Track] = {}
    for track in sorted(tracks, key=lambda track: (track.kind is not Kind.VIDEO, track.id)):
        leads.setdefault(track.kind, track)
    return tuple(leads.values())


def timestamp_ms(packet: Packet) -> int:
    """The packet's decoding time in milliseconds, to nearest; not yet reduced to 32 bits."""
    scale = packet.track.timescale
    return (packet.dts * 1000 + scale // 2) // scale


def frame_head(packet: Packet, index: int) -> bytes:
    """What precedes `packet.data` in its tag body; `index` is the multitrack index, 0 for the only one."""
    track = packet.track
    codec = track.codec
    if not index:
        if codec is Codec.AAC:
            return b"\xaf\x01"
        if codec is Codec.H264:
            return (b"\x17\x01" if packet.keyframe else b"\x27\x01") + _cts_ms(packet).to_bytes(3)
    if codec not in _REORDERED:
        return _ex_head(track, index, PacketType.CODED_FRAMES, packet.keyframe)
    cts_ms = _cts_ms(packet)
    if not cts_ms:
        return _ex_head(track, index, PacketType.CODED_FRAMES_X, packet.keyframe)
    return _ex_head(track, index, PacketType.CODED_FRAMES, packet.keyframe) + cts_ms.to_bytes(3)


def sequence_header(track: Track, index: int) -> bytes:
    """The tag body that must come before the track's first frame. Empty payload for AC-3 and E-AC-3."""
    if not index:
        if track.codec is Codec.AAC:
            return _AAC + b"\0" + track.config
        if track.codec is Codec.H264:
            return b"\x17\0\0\0\0" + track.config
    return _ex_head(track, index, PacketType.SEQUENCE_START, True) + _wire_config(track)


def metadata(tracks: Sequence[Track]) -> bytes:
    """The onMetaData script body: what the first tracks are, and the others by their index."""
    info = amf.EcmaArray({"duration": 0.0})
    others: dict[Kind, dict[str, amf.Value]] = {Kind.VIDEO: {}, Kind.AUDIO: {}}
    leads = lead_tracks(tracks)
    for track in tracks:
        if track in leads:
            info.update(_described(track))
        else:
            others[track.kind][str(track_index(track.id))] = _described(track)
    for kind, maps in others.items():
        if maps:
            info[f"{kind}TrackIdInfoMap"] = maps
    return amf.encode("onMetaData", info)


def file_header(tracks: Sequence[Track]) -> bytes:
    """The beginning of an FLV file: header, onMetaData, sequence headers."""
    kinds = {track.kind for track in tracks}
    flags = (4 if Kind.AUDIO in kinds else 0) | (1 if Kind.VIDEO in kinds else 0)
    parts = [b"FLV\x01", bytes((flags,)), _FLV_HEADER_BYTES.to_bytes(4), b"\0\0\0\0"]
    parts.append(_tag(SCRIPT_TAG, 0, metadata(tracks)))
    for track in tracks:
        parts.append(_tag(tag_type(track), 0, sequence_header(track, track_index(track.id))))
    return b"".join(parts)


def file_tag(packet: Packet) -> bytes:
    """One frame as a tag with its size behind it; joined once, to be shared by all viewers."""
    track = packet.track
    head = frame_head(packet, track_index(track.id))
    return _tag(tag_type(track), timestamp_ms(packet), head, packet.data)


def tag_type(track: Track) -> int:
    return VIDEO_TAG if track.kind is Kind.VIDEO else AUDIO_TAG


def _tag(kind: int, time_ms: int, *body: bytes) -> bytes:
    size = sum(map(len, body))
    time_ms &= 0xFFFFFFFF
    fixed = kind << 56 | size << 32 | (time_ms & 0xFFFFFF) << 8 | time_ms >> 24
    return b"".join((fixed.to_bytes(8), b"\0\0\0", *body, (size + TAG_HEADER_BYTES).to_bytes(4)))


def _cts_ms(packet: Packet) -> int:
    """Difference of the rounded times, so that presentation times do not drift by rounding twice."""
    scale = packet.track.timescale
    pts_ms = (packet.pts * 1000 + scale // 2) // scale
    return min(max(pts_ms - timestamp_ms(packet), 0), _MAX_CTS_MS)


def _ex_head(track: Track, index: int, packet_type: PacketType, keyframe: bool) -> bytes:
    """ExVideoTagHeader or ExAudioTagHeader; a OneTrack multitrack header when `index` is not 0."""
    if track.kind is Kind.VIDEO:
        first, multitrack = _EX_VIDEO | (_KEY if keyframe else _INTER), PacketType.VIDEO_MULTITRACK
    else:
        first, multitrack = _EX_AUDIO, PacketType.AUDIO_MULTITRACK
    fourcc = FOURCC[track.codec]
    if not index:
        return bytes((first | packet_type,)) + fourcc
    return bytes((first | multitrack, packet_type)) + fourcc + bytes((index,))


def _wire_config(track: Track) -> bytes:
    """The sequence header's payload: `Track.config`, or the older form that FLV prescribes instead."""
    config = track.config
    match track.codec:
        case Codec.OPUS:  # ID header (RFC 7845 5.1): dOps with other byte order
            fields = config[1:2] + config[3:1:-1] + config[7:3:-1] + config[9:7:-1] + config[10:]
            return OPUS_HEAD + b"\x01" + fields
        case Codec.FLAC:
            return b"fLaC" + config
        case Codec.VP9:
            return config[4:]  # the record without FullBox version and flags
        case Codec.AC3 | Codec.EAC3:
            return b""
        case _:
            return config


def _described(track: Track) -> dict[str, amf.Value]:
    """onMetaData's properties of one track (E.5; Enhanced RTMP v2, "Enhancing onMetaData")."""
    legacy = LEGACY_ID.get(track.codec)
    codec_id = legacy if legacy is not None else int.from_bytes(FOURCC[track.codec])
    if track.kind is Kind.AUDIO:
        sound: dict[str, amf.Value] = {
            "audiocodecid": codec_id,
            "audiosamplerate": track.sample_rate,
            "audiosamplesize": 16,
            "audiochannels": track.channels,
            "stereo": track.channels >= 2,
        }
        return sound | ({"audiodatarate": track.declared_bps / 1000} if track.declared_bps else {})
    picture: dict[str, amf.Value] = {"videocodecid": codec_id, "width": track.width, "height": track.height}
    if track.declared_fps:
        picture["framerate"] = track.declared_fps
    return picture | ({"videodatarate": track.declared_bps / 1000} if track.declared_bps else {})
