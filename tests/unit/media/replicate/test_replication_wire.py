"""Frames and messages of a replication stream."""

import msgspec
import pytest

from media.errors import WireError
from media.replicate import wire
from media.replicate.wire import (
    Describe,
    Drop,
    End,
    FrameReader,
    Gone,
    Marked,
    PartSigned,
    Retract,
    Skip,
    State,
    Want,
    describe_section,
    encode,
    encode_hollow,
    encode_packet,
    marks_of,
    parse_to_edge_untrusted,
    parse_to_parent_untrusted,
    section_of,
)
from media.track.model import Codec, Hollow, Packet, Track
from media.track.stream import Section, StreamState

VIDEO = Track(1, Codec.H264, 90_000, b"\x01\x42\xc0\x0d", 1_800_000_000, width=1920, height=1080, title="Ä")
AUDIO = Track(2, Codec.AAC, 48_000, b"\x11\x90", 1_800_000_000, sample_rate=48_000, channels=2)
SECTION = Section(3, (VIDEO, AUDIO), 10_000_000, 1_800_000_000_123_456)
PACKET = Packet(VIDEO, 900_000, 3000, 1500, True, b"\0\0\0\2\x65\x01", 7, 1_800_000_001, 2, 3)
SIGNED = PartSigned(3, 1_800_000_001, 2, 502_000, 2_000_000, False, b"d" * 32, bytes(32), b"s" * 64)
TO_EDGE = [
    describe_section(SECTION, 5),
    SIGNED,
    State(StreamState.LIVE),
    Skip(9),
    Retract(9, 1),
    End("bye"),
    Gone("try another"),
]
TO_PARENT = [Want([1, 2], 6_000_000, 5, (9, 1)), Want(), Drop("enough")]


def read(data, parse=parse_to_edge_untrusted):
    return list(FrameReader(parse).feed(data))


@pytest.mark.parametrize("message", TO_EDGE, ids=lambda message: type(message).__name__)
def test_what_a_parent_says_comes_back(message):
    assert read(encode(message)) == [message]


@pytest.mark.parametrize("message", TO_PARENT, ids=lambda message: type(message).__name__)
def test_what_an_edge_says_comes_back(message):
    assert read(encode(message), parse_to_parent_untrusted) == [message]


def test_a_section_comes_back():
    assert section_of(describe_section(SECTION, 5)) == SECTION


def test_a_packet_comes_back_with_its_marks():
    head, data = encode_packet(PACKET)
    assert data is PACKET.data
    [marked] = read(head + data)
    assert isinstance(marked, Marked)
    assert marked.marks == marks_of(PACKET)
    assert (marked.segment, marked.part, marked.discontinuity, marked.group) == (1_800_000_001, 2, 3, 7)
    assert (marked.track, marked.dts, marked.cts, marked.duration) == (1, 900_000, 3000, 1500)
    assert marked.keyframe and marked.data == PACKET.data


def test_a_hollow_packet_has_the_same_leaf_over_any_number_of_hops():
    [full] = read(b"".join(encode_packet(PACKET)))
    [hollow] = read(encode_hollow(PACKET))
    assert hollow.data is None
    assert (hollow.marks, hollow.payload_hash) == (full.marks, full.payload_hash)
    relayed = Hollow(*msgspec.structs.astuple(PACKET)[:5], b"", 7, 1_800_000_001, 2, 3, hollow.payload_hash)
    assert read(b"".join(encode_packet(relayed))) == [hollow]


def test_frames_come_whatever_the_chunks():
    data = b"".join([encode(TO_EDGE[0]), *encode_packet(PACKET), encode(SIGNED)])
    whole = read(data)
    reader = FrameReader(parse_to_edge_untrusted)
    assert [message for byte in data for message in reader.feed(bytes([byte]))] == whole


def frame(kind, body):
    return (len(body) + 1).to_bytes(4, "big") + bytes([kind]) + body


def packed(*fields):
    return frame(wire.CONTROL, msgspec.msgpack.encode(fields))


ENTRY = list(msgspec.structs.astuple(describe_section(SECTION, 5).tracks[0]))
SOUND = list(msgspec.structs.astuple(describe_section(SECTION, 5).tracks[1]))
BAD = {
    "no such kind": frame(3, b""),
    "empty frame": b"\0\0\0\0\0",
    "huge packet": b"\xff\xff\xff\xff\x01",
    "huge control": (wire.CONTROL_BYTES_MAX + 2).to_bytes(4, "big") + b"\0",
    "cut packet": frame(wire.PACKET, bytes(wire.MARKS.size - 1)),
    "hollow without hash": frame(wire.HOLLOW, bytes(wire.MARKS.size + 31)),
    "unknown flags": frame(wire.PACKET, b"\x02" + bytes(wire.MARKS.size - 1)),
    "segment too large": frame(wire.PACKET, wire.MARKS.pack(0, 1, 2**60, 0, 0, 0, 0, 0, 0)),
    "duration too large": frame(wire.PACKET, wire.MARKS.pack(0, 1, 0, 0, 0, 0, 0, 0, 2**31)),
    "dts too large": frame(wire.PACKET, wire.MARKS.pack(0, 1, 0, 0, 0, 0, 2**63, 0, 0)),
    "not msgpack": frame(0, b"\xc1"),
    "no such message": packed(99, 1),
    "text where a number is": packed(4, "x"),
    "negative": packed(4, -1),
    "short digest": packed(2, 3, 4, 5, 6, 7, False, b"", bytes(32), bytes(64)),
    "ended as a state": packed(3, "ended"),
    "no tracks": packed(1, 0, 0, 0, 0, []),
    "too many tracks": packed(1, 0, 0, 0, 0, [[n, *ENTRY[1:]] for n in range(17)]),
    "one id twice": packed(1, 0, 0, 0, 0, [ENTRY, [1, *SOUND[1:]]]),
    "sound before picture": packed(1, 0, 0, 0, 0, [SOUND, ENTRY]),
    "sound without a rate": packed(1, 0, 0, 0, 0, [[*SOUND[:7], 0, *SOUND[8:]]]),
    "no timescale": packed(1, 0, 0, 0, 0, [[*ENTRY[:2], 0, *ENTRY[3:]]]),
    "not a number of frames": packed(1, 0, 0, 0, 0, [[*ENTRY[:12], float("nan")]]),
    "nested": frame(0, b"\x91" * 100_000),
    "text not UTF-8": frame(0, b"\x92\x06\xa1\xff"),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_refused(data):
    with pytest.raises(WireError):
        read(data)


def test_an_edge_sends_no_packets():
    with pytest.raises(WireError, match="an edge sends a packet"):
        read(b"".join(encode_packet(PACKET)), parse_to_parent_untrusted)


@pytest.mark.parametrize("tracks", [[-1], [70000], list(range(17)), "x"])
def test_wants_are_bounded(tracks):
    with pytest.raises(WireError):
        read(packed(8, tracks, 0, 0, None), parse_to_parent_untrusted)


def test_a_reader_holds_one_frame_at_most():
    reader = FrameReader(parse_to_edge_untrusted)
    data = b"".join(encode_packet(PACKET)) * 100
    assert len(list(reader.feed(data[:-1]))) == 99
    assert len(reader._held) < len(data) / 100


def test_describe_is_the_same_bytes_after_a_hop():
    message = describe_section(SECTION, 5)
    assert isinstance(message, Describe)
    assert encode(describe_section(section_of(message), 5)) == encode(message)
