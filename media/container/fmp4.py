"""Fragmented MP4: an init segment from tracks, fragments from packets. Pure: same input, same bytes.

ISO 14496-12 8.8 (fragments), 12.1 and 12.2 (sample entries), 14496-14 6.7 (esds), 23000-19 (CMAF), and
the bindings that Track.config names.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from operator import sub

from media.bitstream.describe import Description, describe
from media.bitstream.picture import SQUARE
from media.track.model import Codec, Kind, Packet, Track

# sample_depends_on and sample_is_non_sync_sample (8.8.3.1)
_SYNC = 0x0200_0000
_NON_SYNC = 0x0101_0000

_MOVIE_TIMESCALE = 1_000  # of durations that a live movie does not have
_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)
_NO_SAMPLES = b"".join(  # stts, stsc, stsz, stco: all samples are in fragments
    (
        b"\0\0\0\x10stts" + bytes(8),
        b"\0\0\0\x10stsc" + bytes(8),
        b"\0\0\0\x14stsz" + bytes(12),
        b"\0\0\0\x10stco" + bytes(8),
    )
)
_SELF_CONTAINED = b"\0\0\0\x24dinf\0\0\0\x1cdref" + struct.pack(">II", 0, 1) + b"\0\0\0\x0curl \0\0\0\x01"

# Sample entry and configuration box, with what goes before Track.config in it.
_ENTRIES = {
    Codec.H264: (b"avc1", b"avcC", b""),
    Codec.HEVC: (b"hvc1", b"hvcC", b""),
    Codec.AV1: (b"av01", b"av1C", b""),
    Codec.VP9: (b"vp09", b"vpcC", b""),
    Codec.AAC: (b"mp4a", b"esds", bytes(4)),
    Codec.OPUS: (b"Opus", b"dOps", b""),
    Codec.FLAC: (b"fLaC", b"dfLa", bytes(4)),
    Codec.AC3: (b"ac-3", b"dac3", b""),
    Codec.EAC3: (b"ec-3", b"dec3", b""),
}

# moof and mfhd; then for each track traf, tfhd (default duration and flags), tfdt and trun (data offset).
_MOOF = struct.Struct(">I4sI4sII")
_TRAF = struct.Struct(">I4sI4sIIIII4sIQI4sIIi")
_MDAT = struct.Struct(">I4s")
_SINGLE = struct.Struct(">I4sI4sII" "I4sI4sIIIII4sIQI4sIIiIi" "I4s")  # fmt: skip
_TFHD_BYTES, _TFDT_BYTES, _TRUN_BYTES = 24, 20, 20
_TFHD_FLAGS = 0x02_0028  # default-base-is-moof, default duration, default flags
_TFDT_VERSION = 0x0100_0000
_TRUN_BASE = 0x0201  # data offset, sizes
_TRUN_FIRST_FLAGS, _TRUN_DURATIONS, _TRUN_FLAGS = 0x04, 0x0100, 0x0400
_TRUN_CTS = 0x0100_0800  # signed, as in version 1
_MDAT_HEADER = 8
# Sample counts of tables in use; parts and segments of a few streams have some dozens of lengths.
_TABLE_FORMATS = 1_024


def init_segment(tracks: Sequence[Track]) -> bytes:
    """ftyp and moov for fragments of these tracks, in this order.

    Raises WireError when a configuration does not parse.
    """
    brands = [b"iso6", b"mp41"]
    if len(tracks) == 1:
        brands.append(b"cmfc")  # a CMAF header describes one track (23000-19 7.3.1)
    if any(track.codec is Codec.AV1 for track in tracks):
        brands.append(b"av01")
    ftyp = _box(b"ftyp", b"iso6", bytes(4), *brands)
    mvhd = _full_box(
        b"mvhd", 0, struct.pack(">4IIH10x", 0, 0, _MOVIE_TIMESCALE, 0, 0x10000, 0x0100), _MATRIX, bytes(24),
        struct.pack(">I", max((track.id for track in tracks), default=0) + 1),
    )  # fmt: skip
    mvex = _box(b"mvex", *(_trex(track) for track in tracks))
    return ftyp + _box(b"moov", mvhd, *(_trak(track) for track in tracks), mvex)


def fragment(tracks: Sequence[Track], packets: Sequence[Packet], sequence: int) -> list[bytes]:
    """One fragment as a list to be joined: moof with mdat's header, then each packet's data as it is.

    `packets`, at least one, are in decoding order within each track and belong to `tracks`; each track's
    samples lie together in mdat, in the order of `tracks`. A sample lasts until the track's next in
    the fragment, the last one for its packet's duration. `sequence` goes into mfhd.
    """
    if len(packets) == 1:
        return _single(packets[0], sequence)
    runs: list[tuple[Track, Sequence[Packet]]] = []
    if len(tracks) == 1:
        runs.append((tracks[0], packets))
    else:
        for track in tracks:
            track_id = track.id
            selected = [packet for packet in packets if packet.track.id == track_id]
            if selected:
                runs.append((track, selected))
    tables = [_table(track, own) for track, own in runs]
    moof_bytes = _MOOF.size + sum([_TRAF.size + len(table) for _, _, _, table, _ in tables])
    offset = moof_bytes + _MDAT_HEADER
    pieces = [_MOOF.pack(moof_bytes, b"moof", 16, b"mfhd", 0, sequence)]
    payload: list[bytes] = []
    for (track, own), (duration, flags, trun_flags, table, datas) in zip(runs, tables, strict=True):
        extra = len(table)
        pieces.append(
            _TRAF.pack(
                _TRAF.size + extra, b"traf",
                _TFHD_BYTES, b"tfhd", _TFHD_FLAGS, track.id, duration, flags,
                _TFDT_BYTES, b"tfdt", _TFDT_VERSION, own[0].dts,
                _TRUN_BYTES + extra, b"trun", trun_flags, len(own), offset,
            )
        )  # fmt: skip
        pieces.append(table)
        payload += datas
        offset += sum(map(len, datas))
    pieces.append(_MDAT.pack(offset - moof_bytes, b"mdat"))
    return [b"".join(pieces), *payload]


def _single(packet: Packet, sequence: int) -> list[bytes]:
    """A fragment of one packet in one fixed layout: the path of fMP4 over WebSocket, once per frame."""
    data = packet.data
    size = len(data)
    flags = _SYNC if packet.keyframe else _NON_SYNC
    head = _SINGLE.pack(
        _SINGLE.size - 8, b"moof", 16, b"mfhd", 0, sequence,
        _TRAF.size + 8, b"traf",
        _TFHD_BYTES, b"tfhd", _TFHD_FLAGS, packet.track.id, packet.duration, flags,
        _TFDT_BYTES, b"tfdt", _TFDT_VERSION, packet.dts,
        _TRUN_BYTES + 8, b"trun", _TRUN_BASE | _TRUN_CTS, 1, _SINGLE.size, size, packet.cts,
        size + _MDAT_HEADER, b"mdat",
    )  # fmt: skip
    return [head, data]


def _table(track: Track, packets: Sequence[Packet]) -> tuple[int, int, int, bytes, list[bytes]]:
    """Default duration, default flags, trun's flags, trun's table, the samples.

    Columns in which all samples agree are left to the defaults.
    """
    times = [packet.dts for packet in packets]
    durations = [*map(sub, times[1:], times), packets[-1].duration]
    datas = [packet.data for packet in packets]
    sizes = [*map(len, datas)]
    count = len(packets)
    columns = [sizes]
    trun_flags, default_flags, first = _TRUN_BASE, _SYNC, []
    if durations.count(durations[0]) != count:
        columns.insert(0, durations)
        trun_flags |= _TRUN_DURATIONS
    if track.kind is Kind.VIDEO:
        keyframes = [packet.keyframe for packet in packets]
        syncs = keyframes.count(True)
        if syncs == 0:
            default_flags = _NON_SYNC
        elif syncs == 1 and keyframes[0]:
            default_flags, first = _NON_SYNC, [_SYNC]
            trun_flags |= _TRUN_FIRST_FLAGS
        elif syncs != count:
            columns.append([_SYNC if keyframe else _NON_SYNC for keyframe in keyframes])
            trun_flags |= _TRUN_FLAGS
        offsets = [packet.cts for packet in packets]
        if any(offsets):
            columns.append(offsets)
            trun_flags |= _TRUN_CTS
    width = len(columns)
    cells = sizes
    if width > 1:
        cells = [0] * (count * width)
        for index, column in enumerate(columns):
            cells[index::width] = column
    table = _table_format(len(cells) + len(first)).pack(*first, *cells)
    return durations[0], default_flags, trun_flags, table, datas


@lru_cache(_TABLE_FORMATS)
def _table_format(words: int) -> struct.Struct:
    # Signed for the sake of composition time offsets: sizes, durations and flags stay below 2^31.
    return struct.Struct(f">{words}i")


def _box(kind: bytes, *payload: bytes) -> bytes:
    body = b"".join(payload)
    return struct.pack(">I", len(body) + 8) + kind + body


def _full_box(kind: bytes, flags: int, *payload: bytes) -> bytes:
    return _box(kind, struct.pack(">I", flags), *payload)


def _trex(track: Track) -> bytes:
    flags = _NON_SYNC if track.kind is Kind.VIDEO else _SYNC
    return _full_box(b"trex", 0, struct.pack(">5I", track.id, 1, 0, 0, flags))


def _trak(track: Track) -> bytes:
    video = track.kind is Kind.VIDEO
    description = describe(track.codec, track.config)
    across, down = description.pixel_aspect
    tkhd = _full_box(
        b"tkhd", 3, struct.pack(">5I8x2hH2x", 0, 0, track.id, 0, 0, 0, 0, 0 if video else 0x0100), _MATRIX,
        struct.pack(">II", (track.width * across // down) << 16 & 0xFFFF_FFFF, track.height << 16),
    )  # fmt: skip
    mdhd = _full_box(b"mdhd", 0, struct.pack(">4IHH", 0, 0, track.timescale, 0, _language(track.language), 0))
    hdlr = _full_box(
        b"hdlr", 0, bytes(4), b"vide" if video else b"soun", bytes(12), b"video\0" if video else b"audio\0"
    )
    header = _full_box(b"vmhd", 1, bytes(8)) if video else _full_box(b"smhd", 0, bytes(4))
    entry = _visual_entry(track, description) if video else _audio_entry(track, description)
    stbl = _box(b"stbl", _full_box(b"stsd", 0, struct.pack(">I", 1), entry), _NO_SAMPLES)
    minf = _box(b"minf", header, _SELF_CONTAINED, stbl)
    return _box(b"trak", tkhd, _box(b"mdia", mdhd, hdlr, minf))


def _visual_entry(track: Track, description: Description) -> bytes:
    kind, config_kind, before = _ENTRIES[track.codec]
    extensions = [_box(config_kind, before, track.config)]
    colour = description.colour
    if colour:
        points = struct.pack(">3HB", colour.primaries, colour.transfer, colour.matrix, colour.full_range << 7)
        extensions.append(_box(b"colr", b"nclx", points))
    if description.pixel_aspect != SQUARE:
        extensions.append(_box(b"pasp", struct.pack(">II", *description.pixel_aspect)))
    # data reference 1, size, 72 dpi, one frame per sample, no compressor name, depth 24
    fields = struct.pack(">6xH16xHHII4xH32xHh", 1, track.width, track.height, 0x48_0000, 0x48_0000, 1, 24, -1)
    return _box(kind, fields, *extensions)


def _audio_entry(track: Track, description: Description) -> bytes:
    kind, config_kind, before = _ENTRIES[track.codec]
    config = _es_descriptor(track) if track.codec is Codec.AAC else track.config
    rate = track.sample_rate
    while rate > 0xFFFF:  # the greatest division that fits 16 bits (FLAC-ISOBMFF 3.3.1)
        rate //= 2
    fields = struct.pack(">6xH8xHH4xI", 1, track.channels, description.bit_depth or 16, rate << 16)
    return _box(kind, fields, _box(config_kind, before, config))


def _es_descriptor(track: Track) -> bytes:
    """ES_Descriptor of an AAC track: object type 0x40, audio stream (14496-1 7.2.6)."""
    rates = struct.pack(">II", track.declared_bps, track.declared_bps)
    decoder = b"\x40\x15" + bytes(3) + rates + _descriptor(5, track.config)
    return _descriptor(3, bytes(3) + _descriptor(4, decoder) + _descriptor(6, b"\x02"))


def _descriptor(tag: int, payload: bytes) -> bytes:
    size = len(payload)
    return (
        bytes((tag, size >> 21 | 0x80, size >> 14 & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size & 0x7F))
        + payload
    )


def _language(code: str) -> int:
    """Three letters of five bits each (8.4.2.3); anything else is undetermined."""
    if len(code) != 3 or not all("a" <= letter <= "z" for letter in code):
        code = "und"
    first, second, third = (ord(letter) - 0x60 for letter in code)
    return first << 10 | second << 5 | third
