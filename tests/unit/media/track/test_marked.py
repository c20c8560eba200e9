"""Streams that another node marked: what is written, taken back, and who may write."""

import msgspec
import pytest

from media.errors import Refused
from media.track.model import Codec, Packet, Track
from media.track.registry import RegistrySettings, Streams, Takeover
from media.track.ring import Cursor, Ring
from media.track.stream import Section, Source, StreamState

VIDEO = Track(1, Codec.H264, 90_000, b"\x01\x42\xc0\x0d", 7_000, width=320, height=180)
SECTION = Section(2, (VIDEO,), 0, 1_800_000_000_000_000)
SOURCE = Source("mesh", "parent")


def packet(number: int) -> Packet:
    """Thirty a second, ten a part, thirty a group and segment."""
    keyframe = number % 30 == 0
    return Packet(
        VIDEO, number * 3000, 0, 3000, keyframe, bytes(50), number // 30, 500 + number // 30,
        number % 30 // 10, 2,
    )  # fmt: skip


class Timer:
    def cancel(self):
        pass


@pytest.fixture
def streams():
    return Streams(RegistrySettings(), call_at=lambda when, callback: Timer(), measure=lambda track, data: 1)


@pytest.fixture
def copy(streams):
    writer = streams.open_copy("live", SOURCE, 1.0, 0, lambda reason: None)
    writer.begin_section(SECTION, 1.0)
    return writer


@pytest.fixture
def ring():
    held = Ring(1 << 60)
    for number in range(95):
        held.append(packet(number))
    return held


def test_what_is_taken_back_is_as_if_it_never_came(ring):
    other = Ring(1 << 60)
    for number in range(61):
        other.append(packet(number))
    ring.retract(61)
    assert ring.next == 61
    assert ring.segment_starts() == other.segment_starts()
    assert ring.newest_group() == other.newest_group() == 60
    assert ring.statistics.held_bytes == other.statistics.held_bytes
    for number in range(61, 95):
        ring.append(packet(number))
        other.append(packet(number))
    assert ring.segment_starts() == other.segment_starts()
    assert ring.slice(0, 95) == other.slice(0, 95)


def test_a_group_that_is_taken_back_whole_begins_again(ring):
    ring.retract(60)
    assert ring.newest_group() == 30
    ring.append(packet(60))
    assert ring.newest_group() == 60 and ring.segment_starts()[-1] == 60


def test_all_can_be_taken_back(ring):
    ring.retract(0)
    assert ring.first == ring.next == 0 and ring.statistics.held_bytes == 0
    assert ring.newest_group() == 0
    ring.append(packet(90))
    assert ring.segment_starts() == [0]


def test_nothing_before_the_oldest_is_taken_back(ring):
    ring.clear()
    ring.retract(3)
    assert ring.first == ring.next == 95


def test_a_cursor_beyond_what_was_taken_back_waits_for_a_group(ring):
    cursor = Cursor(ring, 0)
    assert len(cursor.read(200)) == 95
    ring.retract(91)
    assert cursor.read(10) == []
    for number in range(91, 122):
        ring.append(packet(number))
    assert [each.dts // 3000 for each in cursor.read(10)] == [120, 121]


def test_a_copy_keeps_the_origins_marks_and_targets(streams, copy):
    stream = copy.stream
    assert stream.state is StreamState.STARTING and stream.replicated
    for number in range(40):
        copy.write(packet(number))
    copy.prove(333_000, 2_500_000, whole=False)
    copy.set_state(StreamState.LIVE, 2.0)
    copy.flush(2.0)
    assert stream.ring.slice(0, 40) == [packet(number) for number in range(40)]
    assert (stream.part_target_us, stream.target_duration_us) == (333_000, 2_500_000)
    assert stream.tracks == {1: VIDEO}
    assert stream.newest_us == 40_000_000 // 30
    assert stream.next_segment == 7_001
    statistics = stream.statistics(3.0)
    assert statistics.source == SOURCE and statistics.tracks[0].packets == 40


def test_only_what_is_not_proven_is_taken_back(copy):
    for number in range(10):
        copy.write(packet(number))
    copy.prove(500_000, 2_000_000, whole=False)
    later = msgspec.structs.replace(SECTION, discontinuity=3)
    copy.begin_section(later, 1.0)
    copy.write(msgspec.structs.replace(packet(30), discontinuity=3))
    told = []
    copy.stream.subscribe(told.append)
    copy.retract(5.0)
    assert told == [5.0]
    assert copy.stream.ring.next == 10
    assert copy.stream.sections == {2: SECTION}


def test_who_waits_is_told_when_a_copy_is_live(streams, copy):
    told = []
    streams.wait_for("live", told.append)
    copy.write(packet(0))
    copy.flush(1.0)
    assert not told
    copy.set_state(StreamState.LIVE, 2.0)
    assert told == [2.0]


def test_what_begins_while_a_stream_lingers_is_not_at_rest(streams, copy):
    copy.write(packet(0))
    copy.prove(500_000, 2_000_000, whole=True)
    states = []
    streams.subscribe(lambda name, now: states.append(streams.get(name).state))
    copy.set_state(StreamState.LINGERING, 2.0)
    copy.set_state(StreamState.LINGERING, 2.0)
    assert states == [StreamState.LINGERING]
    copy.write(packet(30))
    assert copy.stream.state is StreamState.STARTING


@pytest.mark.parametrize("whole", [True, False])
def test_an_end_in_the_middle_of_a_segment_is_said(streams, copy, whole):
    gone = []
    streams.subscribe_departures(lambda name, source, reason: gone.append((name, source, reason)))
    copy.write(packet(0))
    copy.prove(500_000, 2_000_000, whole=whole)
    copy.close("no parent", 3.0)
    copy.close("again", 3.0)
    assert copy.stream.state is StreamState.ENDED
    assert copy.stream.cut_off is not whole
    assert gone == [("live", SOURCE, "no parent")]
    copy.write(packet(1))
    assert copy.stream.ring.next == 1


def test_one_writes_a_name(streams, copy):
    with pytest.raises(Refused, match="already"):
        streams.open_copy("live", SOURCE, 1.0, 0, lambda reason: None)
    with pytest.raises(Refused, match="not a stream name"):
        streams.open_copy("No Name", SOURCE, 1.0, 0, lambda reason: None)


def test_a_publisher_comes_before_a_copy_whatever_the_rule():
    settings = RegistrySettings(takeover=Takeover.REFUSE)
    streams = Streams(settings, call_at=lambda when, callback: Timer(), measure=lambda track, data: 1)
    stopped = []
    copy = streams.open_copy("live", SOURCE, 1.0, 0, stopped.append)
    copy.begin_section(SECTION, 1.0)
    copy.write(packet(0))
    writer = streams.open("live", Source("test", "me"), 2.0, 0, lambda reason: None)
    assert stopped == ["it is published on this node now"]
    assert writer.stream is copy.stream and not copy.stream.replicated
    assert copy.stream.ring.next == 0, "what was not proven is taken back"
    assert writer.stream.next_segment == 7_001
    assert streams.get("live") is writer.stream
    copy.close("late", 3.0)
    assert streams.get("live") is writer.stream
    with pytest.raises(Refused, match="already"):
        streams.open_copy("live", SOURCE, 3.0, 0, lambda reason: None)


def test_a_copy_follows_a_stream_that_lingers_here(streams):
    writer = streams.open("live", Source("test", "me"), 1.0, 0, lambda reason: None)
    writer.stream.ring.append(packet(0))
    writer.close("bye", 2.0)
    assert writer.stream.state is StreamState.LINGERING
    copy = streams.open_copy("live", SOURCE, 3.0, 0, lambda reason: None)
    assert streams.get("live") is copy.stream is writer.stream
    assert copy.stream.replicated and copy.stream.epoch_begin == 1


def test_a_copy_that_ended_can_be_had_again(streams, copy):
    copy.write(packet(0))
    copy.close("nobody watches", 2.0)
    again = streams.open_copy("live", SOURCE, 3.0, 0, lambda reason: None)
    assert streams.get("live") is again.stream is not copy.stream
    assert streams.stop("live", "operator", 4.0)
    assert again.stream.state is StreamState.ENDED


def test_a_ladder_is_made_here_or_copied_and_never_published(streams):
    made = streams.open_derived("live+ladder", SOURCE, 1.0, 0, lambda reason: None)
    assert made.stream.replicated is False
    made.close("done", 2.0)
    copied = streams.open_copy("live+ladder", SOURCE, 3.0, 0, lambda reason: None)
    assert copied.stream.replicated is True
    for name in ("live+ladder", "live+other", "live+ladder+ladder"):
        with pytest.raises(Refused):
            streams.open(name, SOURCE, 4.0, 0, lambda reason: None)
    with pytest.raises(Refused):
        streams.open_copy("live+other", SOURCE, 4.0, 0, lambda reason: None)
