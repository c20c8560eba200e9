"""Init segments and fragments, box by box."""

import struct

import pytest

from media.container.fmp4 import fragment, init_segment
from media.errors import WireError
from media.track.model import Codec, Packet, Track

AVCC = bytes.fromhex("0142c00dffe100196742c00dd901419f9f0110000003001000000303c0f142a48001000568cb83cb20")
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=320, height=180)
SOUND = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2, language="deu")
CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf", b"dinf"}


def packet(dts: int, size: int, *, track: Track = VIDEO, cts: int = 0, key: bool = False) -> Packet:
    duration = 3_000 if track is VIDEO else 1_024
    return Packet(track, dts, cts, duration, key or track is SOUND, bytes(size), 0, 0, 0, 0)


def boxes(data: bytes, path: str = "") -> dict[str, bytes]:
    """Body of each box by its path; of several with one path the last."""
    found, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at
        name, body = f"{path}/{kind.decode()}", data[at + 8 : at + size]
        found[name] = body
        if kind in CONTAINERS:
            found |= boxes(body, name)
        at += size
    return found


def words(body: bytes) -> list[int]:
    return list(struct.unpack(f">{len(body) // 4}I", body))


def test_init_segment_of_one_track_is_a_cmaf_header() -> None:
    found = boxes(init_segment([VIDEO]))
    assert found["/ftyp"] == b"iso6\0\0\0\0iso6mp41cmfc"
    assert words(found["/moov/mvex/trex"])[1:] == [1, 1, 0, 0, 0x0101_0000]
    assert words(found["/moov/trak/mdia/mdhd"])[3] == 90_000
    entry = found["/moov/trak/mdia/minf/stbl/stsd"][8:]
    assert entry[4:8] == b"avc1"
    assert struct.unpack_from(">HH", entry, 32) == (320, 180)
    assert entry.endswith(b"avcC" + AVCC)


def test_init_segment_of_two_tracks() -> None:
    found = boxes(init_segment([VIDEO, SOUND]))
    assert b"cmfc" not in found["/ftyp"]
    assert words(found["/moov/mvhd"])[-1] == 3  # next_track_ID
    assert words(found["/moov/mvex/trex"])[1:] == [2, 1, 0, 0, 0x0200_0000]
    assert struct.unpack_from(">H", found["/moov/trak/mdia/mdhd"], 20)[0] == 0x10B5  # deu
    assert found["/moov/trak/tkhd"][36:38] == b"\x01\0"  # full volume


def test_init_segment_is_a_function_of_its_tracks() -> None:
    assert init_segment([VIDEO, SOUND]) == init_segment([VIDEO, SOUND])


def test_language_that_is_none() -> None:
    track = Track(1, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2, language="x-ü")
    assert struct.unpack_from(">H", boxes(init_segment([track]))["/moov/trak/mdia/mdhd"], 20)[0] == 0x55C4


@pytest.mark.parametrize(("rate", "written"), [(44_100, 44_100), (96_000, 48_000), (192_000, 48_000)])
def test_high_sample_rates_are_divided(rate: int, written: int) -> None:
    info = bytes(10) + (rate << 12 | 1 << 9 | 23 << 4).to_bytes(4, "big") + bytes(20)
    track = Track(1, Codec.FLAC, rate, b"\x80\0\0\x22" + info, sample_rate=rate, channels=2)
    entry = boxes(init_segment([track]))["/moov/trak/mdia/minf/stbl/stsd"][8:]
    assert struct.unpack_from(">HH4xI", entry, 24) == (2, 24, written << 16)
    assert entry[40:] == b"dfLa" + bytes(4) + b"\x80\0\0\x22" + info


def test_damaged_configuration_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        init_segment([Track(1, Codec.H264, 90_000, b"\1")])


def test_one_packet_is_one_sample() -> None:
    made = fragment([VIDEO], [packet(1 << 33, 5, cts=6_000, key=True)], 7)
    assert made[1] == bytes(5)
    found = boxes(b"".join(made))
    assert words(found["/moof/mfhd"]) == [0, 7]
    assert words(found["/moof/traf/tfhd"]) == [0x02_0028, 1, 3_000, 0x0200_0000]
    assert words(found["/moof/traf/tfdt"]) == [0x0100_0000, 2, 0]
    assert words(found["/moof/traf/trun"]) == [0x0100_0A01, 1, len(made[0]), 5, 6_000]
    assert found["/mdat"] == bytes(5)


def test_equal_columns_are_left_to_defaults() -> None:
    made = fragment([SOUND], [packet(1_024 * n, 10 + n, track=SOUND) for n in range(3)], 1)
    found = boxes(b"".join(made))
    assert words(found["/moof/traf/tfhd"]) == [0x02_0028, 2, 1_024, 0x0200_0000]
    assert words(found["/moof/traf/trun"]) == [0x0201, 3, len(made[0]), 10, 11, 12]


def test_first_sample_is_the_keyframe() -> None:
    made = fragment([VIDEO], [packet(3_000 * n, 9, key=n == 0) for n in range(3)], 1)
    found = boxes(b"".join(made))
    assert words(found["/moof/traf/tfhd"])[3] == 0x0101_0000
    assert words(found["/moof/traf/trun"]) == [0x0205, 3, len(made[0]), 0x0200_0000, 9, 9, 9]


def test_keyframe_in_the_middle_takes_a_column() -> None:
    made = fragment([VIDEO], [packet(3_000 * n, 9, key=n == 1) for n in range(2)], 1)
    found = boxes(b"".join(made))
    assert words(found["/moof/traf/trun"]) == [0x0601, 2, len(made[0]), 9, 0x0101_0000, 9, 0x0200_0000]


@pytest.mark.parametrize(("key", "flags"), [(True, 0x0200_0000), (False, 0x0101_0000)])
def test_all_alike(key: bool, flags: int) -> None:
    made = fragment([VIDEO], [packet(3_000 * n, 9, key=key) for n in range(2)], 1)
    assert words(boxes(b"".join(made))["/moof/traf/tfhd"])[3] == flags


def test_durations_reach_to_the_next_sample() -> None:
    made = fragment([VIDEO], [packet(0, 1), packet(2_970, 2), packet(6_030, 3)], 1)
    table = words(boxes(b"".join(made))["/moof/traf/trun"])
    assert table == [0x0301, 3, len(made[0]), 2_970, 1, 3_060, 2, 3_000, 3]


def test_signed_composition_offsets() -> None:
    made = fragment([VIDEO], [packet(0, 1, cts=-3_000), packet(3_000, 1, cts=3_000)], 1)
    table = words(boxes(b"".join(made))["/moof/traf/trun"])
    assert table == [0x0100_0A01, 2, len(made[0]), 1, 0xFFFF_F448, 1, 3_000]


def test_tracks_lie_one_after_the_other() -> None:
    packets = [
        packet(0, 4, key=True), packet(0, 2, track=SOUND), packet(1_024, 3, track=SOUND), packet(3_000, 5),
    ]  # fmt: skip
    made = fragment([VIDEO, SOUND], packets, 1)
    assert [len(piece) for piece in made[1:]] == [4, 5, 2, 3]
    found = boxes(b"".join(made))
    assert words(found["/moof/traf/trun"])[2] == len(made[0]) + 9
    assert len(found["/mdat"]) == 14


def test_a_track_without_packets_is_left_out() -> None:
    made = fragment([VIDEO, SOUND], [packet(0, 2, track=SOUND), packet(1_024, 3, track=SOUND)], 1)
    assert made[0].count(b"traf") == 1
