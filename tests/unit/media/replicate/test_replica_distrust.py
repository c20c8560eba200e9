"""A parent that breaks the protocol is named by a WireError, and costs what is proven nothing."""

import msgspec
import pytest

from media.errors import WireError
from media.replicate import replica as replica_module
from media.replicate.wire import (
    Describe,
    FrameReader,
    Marked,
    PartSigned,
    Retract,
    Skip,
    State,
    describe_section,
    encode,
    encode_packet,
    parse_to_edge_untrusted,
)
from media.track.stream import Section


@pytest.fixture
def followed(origin, edge):
    """An edge that has followed for a while, its parent now silent."""
    link = edge.follow(origin)
    origin.send(100)
    link.close()
    return edge


def newest(origin):
    return origin.stream.ring.get(origin.stream.ring.next - 1)


def change(packet, **fields):
    return b"".join(encode_packet(msgspec.structs.replace(packet, **fields)))


BAD_PACKETS = {
    "another part": lambda p: {"part": p.part + 1},
    "another segment": lambda p: {"segment": p.segment + 1, "part": 0},
    "a segment before": lambda p: {"segment": p.segment - 1},
    "group back": lambda p: {"dts": p.dts + 5000, "group": p.group - 1},
    "group ahead": lambda p: {"dts": p.dts + 5000, "group": p.group + 2},
    "time back": lambda p: {"dts": p.dts - 1},
    "time again": lambda p: {},
    "time far ahead": lambda p: {"dts": p.dts + 2**32},
    "no such track": lambda p: {"dts": p.dts + 5000, "track": msgspec.structs.replace(p.track, id=9)},
    "another section": lambda p: {"dts": p.dts + 5000, "discontinuity": 7},
}


@pytest.mark.parametrize("fields", BAD_PACKETS.values(), ids=BAD_PACKETS.keys())
def test_packets_that_follow_on_nothing(origin, followed, same, fields):
    packet = newest(origin)
    with pytest.raises(WireError):
        followed.take(change(packet, **fields(packet)))
    assert not followed.replica.listening
    followed.take(b"more")
    followed.follow(origin)
    origin.send(60)
    same(followed, origin, least=4)


def signed(origin, **fields):
    part = next(reversed(origin.proofs._parts.values()))
    return encode(msgspec.structs.replace(part, **fields))


def test_a_signature_for_a_part_that_was_not_sent(origin, followed):
    with pytest.raises(WireError, match="was not sent"):
        followed.take(signed(origin))


def test_a_part_without_end(origin, followed, monkeypatch):
    monkeypatch.setattr(replica_module, "PART_PACKETS_MAX", 50)
    packet = newest(origin)
    with pytest.raises(WireError, match="no end"):
        for number in range(60):
            followed.take(change(packet, dts=packet.dts + 1 + number))


def test_a_part_of_too_many_bytes(origin, followed, monkeypatch):
    monkeypatch.setattr(replica_module, "PART_BYTES_MAX", 50_000)
    packet = newest(origin)
    with pytest.raises(WireError, match="no end"):
        for number in range(60):
            followed.take(change(packet, dts=packet.dts + 1 + number, data=bytes(10_000)))


def section(origin, **fields):
    present = origin.stream.section_of(newest(origin))
    return msgspec.structs.replace(present, **fields)


def test_another_epoch_is_another_stream(origin, followed):
    with pytest.raises(WireError, match="epoch"):
        followed.take(encode(describe_section(section(origin), 17)))


def test_a_section_that_is_proven_does_not_change(origin, followed):
    with pytest.raises(WireError, match="otherwise"):
        followed.take(encode(describe_section(section(origin, unix_us=5), followed.replica.identity.epoch)))


def test_a_section_does_not_begin_within_a_part(origin, followed):
    with pytest.raises(WireError, match="within a part"):
        followed.take(
            encode(describe_section(section(origin, discontinuity=1), followed.replica.identity.epoch))
        )


def test_a_configuration_that_does_not_parse(origin, edge):
    edge.replica.adopt()
    origin.send(10)
    wrong = section(origin)
    wrong = Section(0, (msgspec.structs.replace(wrong.tracks[0], config=b""),), 0, 0)
    with pytest.raises(WireError):
        edge.take(encode(describe_section(wrong, edge.replica.identity.epoch)))


def test_sections_without_packets_do_not_pile_up(origin, edge):
    edge.replica.adopt()
    origin.send(10)
    for number in range(50):
        told = section(origin, discontinuity=number)
        edge.take(encode(describe_section(told, edge.replica.identity.epoch)))
    assert len(edge.stream.sections) == 1


def test_no_skip_back(origin, followed):
    with pytest.raises(WireError, match="skip back"):
        followed.take(encode(Skip(newest(origin).segment - 1)))


def test_only_what_was_sent_is_taken_back(origin, followed):
    with pytest.raises(WireError, match="taken back"):
        followed.take(encode(Retract(newest(origin).segment, 99)))


def test_a_proven_part_stays_when_the_open_one_is_taken_back(origin, followed):
    before = followed.window.newest()
    packet = newest(origin)
    followed.take(encode(Retract(packet.segment, packet.part)))
    assert followed.window.newest() == before
    last = followed.stream.ring.get(followed.stream.ring.next - 1)
    assert (last.segment, last.part) == before


def test_a_relay_is_sent_what_a_parser_reads(origin, edge):
    """Every message that a publication makes passes the bounds of the wire."""
    seen = []
    link = edge.follow(origin)
    reader = FrameReader(parse_to_edge_untrusted)
    link.alter = lambda data: (seen.extend(reader.feed(data)), data)[1]
    origin.send(100)
    assert {type(message) for message in seen} == {Describe, Marked, PartSigned, State}
