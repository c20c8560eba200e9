"""MPEG transport stream from packets, one PES for each. Pure.

ISO 13818-1 2.4.3 (packets, PES, PCR), 2.4.4 (PAT, PMT), 2.14 (H.264), 2.17 (HEVC); ATSC A/52 annex A
(AC-3); ETSI TS Opus 0.1.3 (Opus), as FFmpeg writes and reads it.
"""

import struct
from collections.abc import Callable, Sequence

from media.bitstream import aac, h264, hevc, opus
from media.bitstream.annexb import join_annexb, split_sample_untrusted
from media.errors import Refused
from media.track.model import VIDEO_TIMESCALE, Codec, Kind, Packet, Track

PACKET_BYTES = 188
TIMESCALE = VIDEO_TIMESCALE  # of PTS, DTS and the PCR's base
# How far times run ahead of the clock: sound and picture of one instant arrive within it (guess).
LEAD_TICKS = TIMESCALE // 4
MAX_TRACKS = 7  # a PMT in one packet has room for that many with all their descriptors

_PAYLOAD_BYTES = PACKET_BYTES - 4
_PAT_PID, _PMT_PID, _FIRST_PID = 0x0000, 0x1000, 0x0100
_PROGRAM = 1
_UNIT_START = 0x4000
_PAYLOAD_ONLY, _WITH_ADAPTATION = 0x10, 0x30
_TIME_MASK = (1 << 33) - 1
_MAX_PES_LENGTH = 0xFFFF
_CRC_POLYNOMIAL = 0x04C1_1DB7

_STREAM_TYPES = {
    Codec.H264: 0x1B,
    Codec.HEVC: 0x24,
    Codec.AAC: 0x0F,
    Codec.OPUS: 0x06,
    Codec.AC3: 0x81,
    Codec.EAC3: 0x87,
}
_VIDEO_ID, _AAC_ID, _PRIVATE_STREAM_1 = 0xE0, 0xC0, 0xBD
_STREAM_IDS = {Codec.H264: _VIDEO_ID, Codec.HEVC: _VIDEO_ID, Codec.AAC: _AAC_ID}
_REGISTRATIONS = {Codec.HEVC: b"HEVC", Codec.OPUS: b"Opus", Codec.AC3: b"AC-3", Codec.EAC3: b"EAC3"}
_H264_AUD, _HEVC_AUD = b"\x09\xf0", b"\x46\x01\x50"  # any kind of slice may follow

_Payload = Callable[[Packet], bytes]


class TsMuxer:
    """Continuity counters and headers of one transport stream, which all its viewers share.

    Call `tables` before each keyframe of the leading track, or every half second without video,
    and give every output in order to all viewers; a viewer begins with the output of `tables`.
    Times are media time plus LEAD_TICKS; the PCR is the media time of the leading track (the
    first video track, else the first).
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        """Raises Refused for tracks that a transport stream cannot carry, WireError for a bad config."""
        if not 0 < len(tracks) <= MAX_TRACKS:
            raise Refused(f"a transport stream carries 1 to {MAX_TRACKS} tracks here, not {len(tracks)}")
        leading = next((track for track in tracks if track.kind is Kind.VIDEO), tracks[0])
        self._streams = {
            track.id: _ElementaryStream(track, _FIRST_PID + index, track is leading)
            for index, track in enumerate(tracks)
        }
        pcr_pid = _FIRST_PID + tracks.index(leading)
        self._pat = _table(_PAT_PID, 0, struct.pack(">HH", _PROGRAM, 0xE000 | _PMT_PID))
        self._pmt = _table(_PMT_PID, 2, _program(tracks, pcr_pid))
        self._tables = 0

    def tables(self) -> bytes:
        """PAT and PMT, one packet each."""
        counter = self._tables
        self._tables = counter + 1 & 15
        return b"".join(
            [
                _header(_UNIT_START | pid, _PAYLOAD_ONLY | counter) + body
                for pid, body in (self._pat, self._pmt)
            ]
        )

    def packet(self, packet: Packet) -> bytes:
        """A packet of one of the tracks as one PES in transport packets.

        Raises WireError when NAL lengths do not add up, Refused for an AAC frame above 8 kB.
        """
        return self._streams[packet.track.id].packetise(packet)


class _ElementaryStream:
    """One track's PES and transport packets."""

    __slots__ = (
        "_continuity",
        "_first",
        "_headers",
        "_last",
        "_leading",
        "_payload",
        "_stream_id",
        "_timescale",
    )

    def __init__(self, track: Track, pid: int, leading: bool) -> None:
        self._payload = _payload_of(track)
        self._stream_id = _STREAM_IDS.get(track.codec, _PRIVATE_STREAM_1)
        self._timescale = track.timescale
        self._leading = leading
        self._continuity = 0
        # By continuity counter: a PES's first packet, those in its middle, one with stuffing.
        self._first = [_header(_UNIT_START | pid, _WITH_ADAPTATION | counter) for counter in range(16)]
        self._headers = [_header(pid, _PAYLOAD_ONLY | counter) for counter in range(16)]
        self._last = [_header(pid, _WITH_ADAPTATION | counter) for counter in range(16)]

    def packetise(self, packet: Packet) -> bytes:
        clock = packet.dts * TIMESCALE // self._timescale
        pts = (packet.dts + packet.cts) * TIMESCALE // self._timescale
        body = _pes(self._stream_id, pts + LEAD_TICKS, clock + LEAD_TICKS, self._payload(packet))
        adaptation = _clock_reference(clock, packet.keyframe) if self._leading else b""
        room = _PAYLOAD_BYTES - 1 - len(adaptation)
        start = self._continuity
        first = self._first[start]
        if len(body) <= room:
            self._continuity = start + 1 & 15
            return first + _adaptation_field(adaptation, room - len(body)) + body
        whole, rest = divmod(len(body) - room, _PAYLOAD_BYTES)
        end = len(body) - rest
        pieces = [b""] * (2 * whole)
        pieces[0::2] = (self._headers * (whole // 16 + 2))[start + 1 : start + 1 + whole]
        pieces[1::2] = [body[at : at + _PAYLOAD_BYTES] for at in range(room, end, _PAYLOAD_BYTES)]
        lead = first + _adaptation_field(adaptation, 0) + body[:room]
        self._continuity = start + 1 + whole + (rest > 0) & 15
        if not rest:
            return lead + b"".join(pieces)
        stuffing = _adaptation_field(b"", _PAYLOAD_BYTES - 1 - rest)
        return b"".join([lead, *pieces, self._last[start + 1 + whole & 15], stuffing, body[end:]])


def _header(flags_and_pid: int, flags_and_counter: int) -> bytes:
    return struct.pack(">BHB", 0x47, flags_and_pid, flags_and_counter)


def _adaptation_field(fields: bytes, stuffing: int) -> bytes:
    """The field with its length byte, `stuffing` bytes longer than `fields` needs (2.4.3.4)."""
    if stuffing and not fields:
        fields, stuffing = b"\0", stuffing - 1
    return bytes((len(fields) + stuffing,)) + fields + b"\xff" * stuffing


def _clock_reference(clock: int, keyframe: bool) -> bytes:
    """Flags and PCR of an adaptation field; a keyframe is a random access point."""
    return bytes((0x50 if keyframe else 0x10,)) + ((clock & _TIME_MASK) << 15 | 0x7E00).to_bytes(6, "big")


def _pes(stream_id: int, pts: int, dts: int, payload: bytes) -> bytes:
    """A PES packet (2.4.3.6); its length stays open where that is allowed or it has no room for it."""
    if pts == dts:
        flags, times = 0x80, _timestamp(0x2, pts)
    else:
        flags, times = 0xC0, _timestamp(0x3, pts) + _timestamp(0x1, dts)
    length = 3 + len(times) + len(payload)
    if stream_id == _VIDEO_ID or length > _MAX_PES_LENGTH:
        length = 0
    return struct.pack(">IHBBB", 0x100 | stream_id, length, 0x84, flags, len(times)) + times + payload


def _timestamp(prefix: int, ticks: int) -> bytes:
    return (
        prefix << 36
        | (ticks >> 30 & 7) << 33
        | (ticks >> 15 & 0x7FFF) << 17
        | (ticks & 0x7FFF) << 1
        | 0x1_0001_0001
    ).to_bytes(5, "big")


def _payload_of(track: Track) -> _Payload:
    """How a track's samples become PES payloads. Raises Refused for codecs without a mapping."""
    codec, config = track.codec, track.config
    if codec is Codec.H264:
        avcc = h264.parse_avcc_untrusted(config)
        return _nal_payload(_H264_AUD, (*avcc.sps, *avcc.pps))
    if codec is Codec.HEVC:
        hvcc = hevc.parse_hvcc_untrusted(config)
        return _nal_payload(_HEVC_AUD, (*hvcc.vps, *hvcc.sps, *hvcc.pps))
    if codec is Codec.AAC:
        return _adts_payload(aac.parse_config_untrusted(config))
    if codec is Codec.OPUS:
        return _opus_payload
    if codec in _STREAM_TYPES:
        return _plain_payload
    raise Refused(f"a transport stream cannot carry {codec.upper()}; use MP4 or HLS")


def _nal_payload(delimiter: bytes, sets: tuple[bytes, ...]) -> _Payload:
    """Access unit delimiter before every picture, parameter sets before keyframes."""

    def payload(packet: Packet) -> bytes:
        units = split_sample_untrusted(packet.data)
        if units and units[0][0] == delimiter[0] and len(units[0]) <= len(delimiter) + 1:
            del units[0]
        if not packet.keyframe:
            return join_annexb([delimiter, *units])
        return join_annexb([delimiter, *sets, *[unit for unit in units if unit not in sets]])

    return payload


def _adts_payload(config: aac.AudioConfig) -> _Payload:
    base = aac.adts_base(config)

    def payload(packet: Packet) -> bytes:
        return aac.adts_header(base, len(packet.data)) + packet.data

    return payload


def _opus_payload(packet: Packet) -> bytes:
    """The control header without trims, then the packet's size in its ff..ff xx form."""
    size = len(packet.data)
    return b"\x7f\xe0" + b"\xff" * (size // 255) + bytes((size % 255,)) + packet.data


def _plain_payload(packet: Packet) -> bytes:
    return packet.data


def _program(tracks: Sequence[Track], pcr_pid: int) -> bytes:
    """The PMT's body after last_section_number."""
    body = struct.pack(">HH", 0xE000 | pcr_pid, 0xF000)
    for index, track in enumerate(tracks):
        descriptors = _descriptors(track)
        pid = 0xE000 | _FIRST_PID + index
        body += struct.pack(">BHH", _STREAM_TYPES[track.codec], pid, 0xF000 | len(descriptors)) + descriptors
    return body


def _descriptors(track: Track) -> bytes:
    descriptors = b""
    if track.codec in _REGISTRATIONS:
        descriptors += b"\x05\x04" + _REGISTRATIONS[track.codec]
    if track.codec is Codec.OPUS:
        parsed = opus.parse_config_untrusted(track.config)
        if parsed.mapping_family > 1 or parsed.channels > 8:
            raise Refused("a transport stream cannot carry Opus with this channel mapping")
        descriptors += bytes((0x7F, 2, 0x80, parsed.channels))
    language = track.language
    if track.kind is Kind.AUDIO and language != "und" and len(language) == 3 and language.isascii():
        descriptors += b"\x0a\x04" + language.encode() + b"\0"
    return descriptors


def _table(pid: int, table_id: int, body: bytes) -> tuple[int, bytes]:
    """A PID and the payload of its packet: one section of program 1, version 0 (2.4.4.3, 2.4.4.8)."""
    length = 5 + len(body) + 4
    section = struct.pack(">BHHBBB", table_id, 0xB000 | length, _PROGRAM, 0xC1, 0, 0) + body
    section += _crc32(section).to_bytes(4, "big")
    return pid, (b"\0" + section).ljust(_PAYLOAD_BYTES, b"\xff")


def _crc32(data: bytes) -> int:
    """CRC_32 of annex A: not reflected, all ones before, as it comes after."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (_CRC_POLYNOMIAL if crc >> 31 else 0)) & 0xFFFF_FFFF
    return crc
