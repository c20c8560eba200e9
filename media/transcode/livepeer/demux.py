"""Pictures out of a rendition's transport stream. Pure.

ISO 13818-1 2.4.3. Only what a transcoder's muxer writes: one program, one picture for each PES,
tables before the pictures. Everything is bounded by the size of the input, which the caller bounds.
"""

from dataclasses import dataclass

from media.bitstream.access_unit import ParameterSets, access_unit_untrusted
from media.bitstream.annexb import split_annexb_untrusted
from media.container.mpegts import PACKET_BYTES
from media.errors import WireError
from media.track.model import Codec

PICTURES_MAX = 4_800  # twice what a segment has
STREAM_TYPES = {0x1B: Codec.H264, 0x24: Codec.HEVC}
_PAT_PID, _NULL_PID = 0, 0x1FFF
_SYNC = 0x47
_VIDEO_IDS = range(0xE0, 0xF0)
_TIME_MASK = (1 << 33) - 1


@dataclass(frozen=True, slots=True)
class CodedPicture:
    pts: int  # 33 bits, 90 kHz
    keyframe: bool
    idr: bool
    data: bytes  # as Packet.data


@dataclass(frozen=True, slots=True)
class CodedVideo:
    """A transport stream's pictures in decoding order. `config` as in Track."""

    codec: Codec
    config: bytes
    pictures: tuple[CodedPicture, ...]


def demux_video_untrusted(data: bytes) -> CodedVideo:
    """The first video stream of the first program. Raises WireError; also when it has no picture."""
    codec, units = _pes_untrusted(data)
    pictures = []
    sets = ParameterSets(codec)
    for unit in units:
        pts, payload = _timed_untrusted(unit)
        access = access_unit_untrusted(codec, split_annexb_untrusted(payload))
        if not access.sample:
            raise WireError("a PES of the rendition has no picture")
        if not sets.complete:
            sets = sets.updated(access.sets)
        elif _newer(access.sets, sets):
            raise WireError("the rendition changes its parameter sets in the middle")
        pictures.append(CodedPicture(pts, access.facts.keyframe, access.facts.idr, access.sample))
    if not pictures:
        raise WireError("the rendition has no picture")
    return CodedVideo(codec, sets.config_untrusted(), tuple(pictures))


def _newer(came: ParameterSets, held: ParameterSets) -> bool:
    """Did sets come that are not those that came first?"""
    pairs = ((came.vps, held.vps), (came.sps, held.sps), (came.pps, held.pps))
    return any([new and not set(new) <= set(old) for new, old in pairs])


def _pes_untrusted(data: bytes) -> tuple[Codec, list[bytes]]:
    """The codec, and the whole PES packets of the video stream."""
    if not data or len(data) % PACKET_BYTES:
        raise WireError("the rendition is not made of whole transport packets")
    if data[::PACKET_BYTES].count(_SYNC) != len(data) // PACKET_BYTES:
        raise WireError("a transport packet of the rendition lacks its sync byte")
    pmt_pid = video_pid = -1
    codec = Codec.H264
    units: list[list[bytes]] = []
    counter = -1
    for at in range(0, len(data), PACKET_BYTES):
        pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
        if pid == video_pid:
            piece = _payload(data, at)
            if piece is None:
                continue
            if counter >= 0 and data[at + 3] & 15 != counter + 1 & 15:
                raise WireError("transport packets of the rendition are missing")
            counter = data[at + 3] & 15
            if data[at + 1] & 0x40:
                if len(units) == PICTURES_MAX:
                    raise WireError(f"the rendition has more than {PICTURES_MAX} pictures")
                units.append([piece])
            elif units:
                units[-1].append(piece)
        elif pid == _PAT_PID and pmt_pid < 0:
            pmt_pid = _program_pid(_section(data, at, 0))
        elif pid == pmt_pid and video_pid < 0:
            video_pid, codec = _video_stream(_section(data, at, 2))
    if video_pid < 0:
        raise WireError("the rendition has no video stream")
    return codec, [b"".join(unit) for unit in units]


def _payload(data: bytes, at: int) -> bytes | None:
    """What a transport packet carries; None when it is an adaptation field only."""
    control = data[at + 3] & 0x30
    if data[at + 1] & 0x80 or data[at + 3] & 0xC0:
        raise WireError("a transport packet of the rendition is damaged or scrambled")
    if control == 0x10:
        return data[at + 4 : at + PACKET_BYTES]
    if control != 0x30:
        return None
    start = at + 5 + data[at + 4]
    if start > at + PACKET_BYTES:
        raise WireError("an adaptation field is longer than its packet")
    return data[start : at + PACKET_BYTES]


def _section(data: bytes, at: int, table_id: int) -> bytes:
    """A table's section without its header and CRC; it fits one packet."""
    payload = _payload(data, at) or b""
    if not data[at + 1] & 0x40 or not payload:
        raise WireError("a table of the rendition does not begin where it should")
    section = payload[1 + payload[0] :]
    if len(section) < 12 or section[0] != table_id:
        raise WireError("a table of the rendition is of another kind")
    end = 3 + ((section[1] & 0x0F) << 8 | section[2])
    if not 12 <= end <= len(section):
        raise WireError("a table of the rendition does not fit one packet")
    return section[8 : end - 4]


def _program_pid(section: bytes) -> int:
    for at in range(0, len(section) - 3, 4):
        if section[at] or section[at + 1]:  # program 0 is the network's
            return (section[at + 2] & 0x1F) << 8 | section[at + 3]
    raise WireError("the rendition has no program")


def _video_stream(section: bytes) -> tuple[int, Codec]:
    if len(section) < 4:
        raise WireError("the rendition's program is cut off")
    at = 4 + ((section[2] & 0x0F) << 8 | section[3])
    while at + 5 <= len(section):
        codec = STREAM_TYPES.get(section[at])
        if codec is not None:
            return (section[at + 1] & 0x1F) << 8 | section[at + 2], codec
        at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
    raise WireError("the rendition's program has no H.264 or H.265 in it")


def _timed_untrusted(unit: bytes) -> tuple[int, bytes]:
    """PTS and payload of a PES packet (2.4.3.6)."""
    if len(unit) < 14 or unit[:3] != b"\0\0\1" or unit[3] not in _VIDEO_IDS or unit[6] & 0xC0 != 0x80:
        raise WireError("a PES of the rendition does not begin as one")
    start, length = 9 + unit[8], int.from_bytes(unit[4:6], "big")
    if not unit[7] & 0x80 or unit[8] < 5 or start > len(unit):
        raise WireError("a PES of the rendition has no time")
    if length and length != len(unit) - 6:
        raise WireError("a PES of the rendition is cut off")
    field = int.from_bytes(unit[9:14], "big")
    pts = (field >> 33 & 7) << 30 | (field >> 17 & 0x7FFF) << 15 | field >> 1 & 0x7FFF
    return pts & _TIME_MASK, unit[start:]
