"""Transport streams, read back by a demuxer that knows only ISO 13818-1."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from media.container.mpegts import LEAD_TICKS, PACKET_BYTES, TIMESCALE, TsMuxer
from media.track.model import Codec, Packet, Track

MASK = (1 << 33) - 1
LEADING = Track(1, Codec.AC3, 44_100, b"")
OTHER = Track(2, Codec.EAC3, 48_000, b"")

Pes = tuple[int, int, int, bytes]  # PID, PTS, DTS, payload


def read(stream: bytes) -> Iterator[Pes]:
    """PES packets of all PIDs but the tables'; continuity counters must be right."""
    counters: dict[int, int] = {}
    open_units: dict[int, bytes] = {}
    for at in range(0, len(stream), PACKET_BYTES):
        one = stream[at : at + PACKET_BYTES]
        assert len(one) == PACKET_BYTES and one[0] == 0x47
        pid = int.from_bytes(one[1:3], "big") & 0x1FFF
        assert counters.get(pid, one[3] - 1) & 15 == one[3] - 1 & 15
        counters[pid] = one[3]
        payload = one[5 + one[4] :] if one[3] & 0x20 else one[4:]
        if pid in (0, 0x1000):
            continue
        if one[1] & 0x40 and pid in open_units:
            yield parse_pes(pid, open_units[pid])
            open_units[pid] = b""
        open_units[pid] = open_units.get(pid, b"") + payload
    for pid, unit in sorted(open_units.items()):
        yield parse_pes(pid, unit)


def parse_pes(pid: int, unit: bytes) -> Pes:
    assert unit[:3] == b"\0\0\1"
    assert int.from_bytes(unit[4:6], "big") == len(unit) - 6
    times = [ticks(unit[at : at + 5]) for at in range(9, 9 + unit[8], 5)]
    return pid, times[0], times[-1], unit[9 + unit[8] :]


def ticks(field: bytes) -> int:
    value = int.from_bytes(field, "big")
    return (value >> 33 & 7) << 30 | (value >> 17 & 0x7FFF) << 15 | value >> 1 & 0x7FFF


PACKETS = st.lists(
    st.builds(
        lambda track, dts, cts, data: Packet(track, dts, cts, 1, True, data, 0, 0, 0, 0),
        st.sampled_from([LEADING, OTHER]),
        st.integers(0, 1 << 40),
        st.integers(0, 1 << 20),
        st.integers(0, 3_000).map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256)),
    ),
    max_size=20,
)


@given(PACKETS)
def test_stream_reads_back(packets: list[Packet]) -> None:
    muxer = TsMuxer([LEADING, OTHER])
    stream = b"".join([muxer.tables() + muxer.packet(packet) for packet in packets])

    def times(packet: Packet) -> tuple[int, int]:
        rate = packet.track.timescale
        pts, dts = (one * TIMESCALE // rate + LEAD_TICKS & MASK for one in (packet.pts, packet.dts))
        return pts, dts

    expected = [(0xFF + packet.track.id, *times(packet), packet.data) for packet in packets]
    for pid in (0x100, 0x101):
        assert [one for one in read(stream) if one[0] == pid] == [one for one in expected if one[0] == pid]
