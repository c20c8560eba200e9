"""Fragments, read back by a box reader that knows only ISO 14496-12."""

import struct
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from media.container.fmp4 import fragment
from media.track.model import Codec, Packet, Track

VIDEO = Track(1, Codec.H264, 90_000, b"")
SOUND = Track(2, Codec.AAC, 48_000, b"")
MORE = Track(3, Codec.OPUS, 48_000, b"")


@dataclass(frozen=True)
class Sample:
    track_id: int
    dts: int
    cts: int
    duration: int
    sync: bool
    data: bytes


def children(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """Kind, body's start and end of each box; they must fill the space."""
    found = []
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        found.append((kind, start + 8, start + size))
        start += size
    assert start == end
    return found


def only(boxes: list[tuple[bytes, int, int]], kind: bytes) -> tuple[int, int]:
    ((_, start, end),) = [box for box in boxes if box[0] == kind]
    return start, end


def read_fragment(data: bytes) -> tuple[int, list[Sample]]:
    """mfhd's sequence number and the samples in the order of the boxes."""
    top = children(data, 0, len(data))
    assert [kind for kind, _, _ in top] == [b"moof", b"mdat"]
    moof = children(data, *top[0][1:])
    (sequence,) = struct.unpack_from(">I", data, only(moof, b"mfhd")[0] + 4)
    samples, used = [], 0
    for kind, start, end in moof:
        if kind == b"traf":
            run = read_track(data, children(data, start, end), top[1][1:])
            samples += run
            used += sum(len(sample.data) for sample in run)
    assert used == top[1][2] - top[1][1]
    return sequence, samples


def read_track(data: bytes, traf: list[tuple[bytes, int, int]], mdat: tuple[int, int]) -> list[Sample]:
    flags, track_id, duration, sample_flags = struct.unpack_from(">4I", data, only(traf, b"tfhd")[0])
    assert flags == 0x02_0028
    version, dts = struct.unpack_from(">IQ", data, only(traf, b"tfdt")[0])
    assert version == 1 << 24
    at, end = only(traf, b"trun")
    flags, count, offset = struct.unpack_from(">IIi", data, at)
    at += 12
    first_flags = None
    if flags & 4:
        (first_flags,) = struct.unpack_from(">I", data, at)
        at += 4
    samples = []
    for index in range(count):
        values = {0x100: duration, 0x200: 0, 0x400: sample_flags, 0x800: 0}
        if index == 0 and first_flags is not None:
            values[0x400] = first_flags
        for bit in values:
            if flags & bit:
                (values[bit],) = struct.unpack_from(">i" if bit == 0x800 else ">I", data, at)
                at += 4
        assert mdat[0] <= offset and offset + values[0x200] <= mdat[1]
        body = data[offset : offset + values[0x200]]
        sync = not values[0x400] & 0x1_0000
        samples.append(Sample(track_id, dts, values[0x800], values[0x100], sync, body))
        offset += values[0x200]
        dts += values[0x100]
    assert at == end
    return samples


@st.composite
def packets_of(draw: st.DrawFn, track: Track) -> list[Packet]:
    steps = draw(st.lists(st.integers(1, 90_000), max_size=12) | st.lists(st.just(3_000), max_size=12))
    dts = draw(st.integers(0, (1 << 40)))
    packets = []
    for step in steps:
        cts = draw(st.integers(-9_000, 9_000)) if track is VIDEO else 0
        key = track is not VIDEO or draw(st.booleans())
        data = draw(st.binary(max_size=20))
        packets.append(Packet(track, dts, cts, draw(st.just(step) | st.just(7)), key, data, 0, 0, 0, 0))
        dts += step
    return packets


def expected(packets: list[Packet]) -> list[Sample]:
    durations = [after.dts - before.dts for before, after in pairwise(packets)]
    durations += [packet.duration for packet in packets[-1:]]
    return [
        Sample(packet.track.id, packet.dts, packet.cts, duration, packet.keyframe, packet.data)
        for packet, duration in zip(packets, durations, strict=True)
    ]


@given(st.data(), st.integers(0, 0xFFFF_FFFF))
def test_fragment_reads_back(data: st.DataObject, sequence: int) -> None:
    tracks = data.draw(
        st.lists(st.sampled_from([VIDEO, SOUND, MORE]), min_size=1, unique_by=lambda track: track.id)
    )
    runs = [data.draw(packets_of(track)) for track in tracks]
    packets = sorted((packet for run in runs for packet in run), key=lambda packet: packet.dts)
    if not packets:
        return
    made = fragment(tracks, packets, sequence)
    in_order = [packet.data for run in runs for packet in run]
    assert all(piece is data for piece, data in zip(made[1:], in_order, strict=True))
    assert read_fragment(b"".join(made)) == (sequence, [sample for run in runs for sample in expected(run)])


@given(packets_of(VIDEO))
def test_one_packet_at_a_time(packets: list[Packet]) -> None:
    for sequence, packet in enumerate(packets):
        made = b"".join(fragment([VIDEO, SOUND], [packet], sequence))
        assert read_fragment(made) == (sequence, expected([packet]))
