"""Transport packets, PES and tables."""

import pytest

from media.container.mpegts import LEAD_TICKS, MAX_TRACKS, PACKET_BYTES, TsMuxer
from media.errors import Refused, WireError
from media.track.model import Codec, Packet, Track

AVCC = bytes.fromhex("0142c00dffe100196742c00dd901419f9f0110000003001000000303c0f142a48001000568cb83cb20")
SPS, PPS = AVCC[8:33], AVCC[36:]
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=320, height=180)
SOUND = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2, language="deu")
OPUS = Track(3, Codec.OPUS, 48_000, bytes.fromhex("00020f000000bb80000000"), sample_rate=48_000, channels=2)
AC3 = Track(4, Codec.AC3, 48_000, bytes.fromhex("103de0"), sample_rate=48_000, channels=6)
AUD = b"\0\0\0\1\x09\xf0"


def packet(track: Track, data: bytes, *, dts: int = 0, cts: int = 0, key: bool = False) -> Packet:
    return Packet(track, dts, cts, 3_000, key, data, 0, 0, 0, 0)


def pes_of(stream: bytes) -> bytes:
    """The one PES in transport packets, adaptation fields taken off."""
    body = b""
    for at in range(0, len(stream), PACKET_BYTES):
        one = stream[at : at + PACKET_BYTES]
        assert one[0] == 0x47
        assert bool(one[1] & 0x40) is (at == 0)
        body += one[5 + one[4] :] if one[3] & 0x20 else one[4:]
    return body


def timestamp(field: bytes) -> int:
    assert field[0] & field[2] & field[4] & 1
    return (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1


def payload_of(pes: bytes) -> bytes:
    return pes[9 + pes[8] :]


def test_tables_have_right_checksums_and_name_the_tracks() -> None:
    tables = TsMuxer([VIDEO, SOUND, OPUS, AC3]).tables()
    assert len(tables) == 2 * PACKET_BYTES
    pat, pmt = tables[:PACKET_BYTES], tables[PACKET_BYTES:]
    assert pat[:5].hex() == "4740001000"
    # A well known section: one program, number 1, PMT on PID 0x1000
    assert pat[5:21].hex() == "00b00d0001c100000001f0002ab104b2"
    assert pmt[:6].hex() == "475000100002"
    assert pmt[13:15].hex() == "e100"  # PCR is on the video
    assert pmt[17:22].hex() == "1be100f000"
    assert pmt[22:33].hex() == "0fe101f0060a0464657500"
    assert b"\x06\xe1\x02\xf0\x0a\x05\x04Opus\x7f\x02\x80\x02" in pmt
    assert b"\x81\xe1\x03\xf0\x06\x05\x04AC-3" in pmt


def test_tables_count_their_own_packets() -> None:
    muxer = TsMuxer([VIDEO])
    counters = [muxer.tables()[3] & 15 for _ in range(18)]
    assert counters == [*range(16), 0, 1]


def test_keyframe_carries_delimiter_and_parameter_sets() -> None:
    made = TsMuxer([VIDEO]).packet(packet(VIDEO, b"\0\0\0\3\x65ab", dts=9_000, cts=6_000, key=True))
    assert len(made) == PACKET_BYTES
    assert made[1:4].hex() == "410030"
    assert made[5] == 0x50  # random access, PCR
    assert int.from_bytes(made[6:12], "big") == 9_000 << 15 | 0x7E00
    pes = pes_of(made)
    assert pes[:9].hex() == "000001e0000084c00a"  # length open, PTS and DTS
    assert timestamp(pes[9:14]) == 15_000 + LEAD_TICKS
    assert timestamp(pes[14:19]) == 9_000 + LEAD_TICKS
    sets = b"\0\0\0\1" + SPS + b"\0\0\0\1" + PPS
    assert payload_of(pes) == AUD + sets + b"\0\0\0\1\x65ab"


def test_other_frames_carry_the_delimiter_only() -> None:
    muxer = TsMuxer([VIDEO])
    made = muxer.packet(packet(VIDEO, b"\0\0\0\3\x41ab"))
    assert made[5] == 0x10
    assert payload_of(pes_of(made)) == AUD + b"\0\0\0\1\x41ab"


def test_nothing_is_said_twice() -> None:
    units = [b"\x09\xf0", SPS, PPS, b"\x65ab"]
    data = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    made = TsMuxer([VIDEO]).packet(packet(VIDEO, data, key=True))
    assert payload_of(pes_of(made)) == AUD + b"".join(b"\0\0\0\1" + unit for unit in units[1:])


def test_sound_has_adts_and_a_length() -> None:
    made = TsMuxer([VIDEO, SOUND]).packet(packet(SOUND, b"x" * 300, dts=48_000, key=True))
    assert len(made) == 2 * PACKET_BYTES
    pes = pes_of(made)
    assert pes[3:9].hex() == "c0013b848005"
    assert timestamp(pes[9:14]) == 90_000 + LEAD_TICKS
    assert payload_of(pes) == bytes.fromhex("fff14c80267ffc") + b"x" * 300


@pytest.mark.parametrize(("size", "header"), [(3, "7fe003"), (255, "7fe0ff00"), (700, "7fe0ffffbe")])
def test_opus_has_its_control_header(size: int, header: str) -> None:
    pes = pes_of(TsMuxer([OPUS]).packet(packet(OPUS, b"o" * size, key=True)))
    assert pes[3] == 0xBD
    assert payload_of(pes) == bytes.fromhex(header) + b"o" * size


def test_times_wrap_at_33_bits() -> None:
    dts = (1 << 33) - 1
    made = TsMuxer([VIDEO]).packet(packet(VIDEO, b"\0\0\0\1\x41", dts=dts + 2))
    assert int.from_bytes(made[6:12], "big") == 1 << 15 | 0x7E00
    pes = pes_of(TsMuxer([VIDEO]).packet(packet(VIDEO, b"\0\0\0\1\x41", dts=dts)))
    assert timestamp(pes[9:14]) == LEAD_TICKS - 1


def test_pes_too_long_for_its_length_leaves_it_open() -> None:
    pes = pes_of(TsMuxer([AC3]).packet(packet(AC3, bytes(70_000))))
    assert pes[4:6] == b"\0\0"


@pytest.mark.parametrize("size", [*range(1, 400), 12_000])
def test_every_length_fills_whole_packets(size: int) -> None:
    muxer = TsMuxer([VIDEO, AC3])
    data, counters = bytes(range(256)) * 47, []
    for _ in range(3):
        made = muxer.packet(packet(AC3, data[:size]))
        assert len(made) % PACKET_BYTES == 0
        assert payload_of(pes_of(made)) == data[:size]
        counters += [made[at] & 15 for at in range(3, len(made), PACKET_BYTES)]
    assert counters == [number & 15 for number in range(len(counters))]


@pytest.mark.parametrize("codec", [Codec.AV1, Codec.VP9, Codec.FLAC])
def test_codecs_without_mapping_are_refused_by_name(codec: Codec) -> None:
    with pytest.raises(Refused, match=codec.upper()):
        TsMuxer([Track(1, codec, 90_000, b"")])


def test_refuses_what_does_not_fit() -> None:
    tracks = [Track(number, Codec.AC3, 48_000, b"", language="eng") for number in range(1, MAX_TRACKS + 2)]
    assert len(TsMuxer(tracks[:-1]).tables()) == 2 * PACKET_BYTES
    for refused in ([], tracks):
        with pytest.raises(Refused, match="1 to"):
            TsMuxer(refused)
    ambisonic = bytes.fromhex("00040f000000bb80000003") + bytes(6)
    with pytest.raises(Refused, match="mapping"):
        TsMuxer([Track(1, Codec.OPUS, 48_000, ambisonic)])


def test_a_table_of_most_tracks_fits_one_packet() -> None:
    config = bytes.fromhex("00020f000000bb80000000")
    tracks = [Track(number, Codec.OPUS, 48_000, config, language="eng") for number in range(MAX_TRACKS)]
    assert len(TsMuxer(tracks).tables()) == 2 * PACKET_BYTES


def test_damaged_sample_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        TsMuxer([VIDEO]).packet(packet(VIDEO, b"\0\0\0\x09\x41"))
