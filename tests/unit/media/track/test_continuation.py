"""Where a stream goes on, and publishers who go on with it."""

import msgspec
import pytest

from media.errors import Refused, StateError
from media.track.continuation import Continuation, furthest
from media.track.model import Frame
from media.track.registry import RegistrySettings, Streams
from media.track.stream import DELAYED_BYTES_MAX, TRACKS_MAX, Source, StreamState
from media.track.timeline import MEDIA_START_US

WHERE = Continuation(1_800_000_400, 3, 90, 1_800_000_002, 77_000_000, 1_900_000_000_000_000, 4_000_000)
SOURCE = Source("test", "me")


class Timer:
    def __init__(self, when, callback):
        self.when, self.callback = when, callback

    def cancel(self):
        self.callback = None


@pytest.fixture
def timers():
    return []


@pytest.fixture
def streams(timers):
    def call_at(when, callback):
        timers.append(Timer(when, callback))
        return timers[-1]

    return Streams(RegistrySettings(linger_s=1.0), call_at=call_at, measure=lambda track, data: 1024)


def open_stream(streams, stopped=None):
    stop = stopped.append if stopped is not None else lambda reason: None
    return streams.open("live", SOURCE, 1.0, 1_800_000_000_000_000, stop)


def publish(writer, made, seconds, *, start_us=0):
    for track in (made.VIDEO, made.AUDIO):
        writer.describe(track, 1.0)
    for frame in made.merged(
        made.pictures(seconds, start_us=start_us), made.sounds(seconds, start_us=start_us)
    ):
        writer.write(frame, 1.0)
    writer.flush(1.0)
    ring = writer.stream.ring
    return ring.slice(0, ring.next)


def test_the_furthest_of_each():
    lower = msgspec.structs.replace(WHERE, segment=5, media_us=99_000_000)
    assert furthest(lower, None, WHERE) == msgspec.structs.replace(WHERE, media_us=99_000_000)
    assert furthest(WHERE) == WHERE


def test_a_stream_goes_on_behind_all_that_it_has(streams, made):
    writer = open_stream(streams)
    stream = writer.stream
    assert stream.continuation == Continuation(1_800_000_000, 0, 0, 1_800_000_000, 0, 0, 2_000_000)
    last = publish(writer, made, 5)[-1]
    where = stream.continuation
    assert (where.segment, where.discontinuity, where.group) == (
        last.segment + 1,
        last.discontinuity + 1,
        last.group + 1,
    )
    assert where.init == 1_800_000_001
    assert where.media_us == stream.newest_us
    assert where.unix_us == stream.section_of(last).unix_us_at(stream.newest_us)
    assert stream.next_segment == max(where.segment, where.init)


def test_what_was_let_go_of_counts(streams, made):
    writer = open_stream(streams)
    publish(writer, made, 5)
    where = writer.stream.continuation
    writer.delay(2.0)
    writer.stream.ring.clear()
    assert writer.stream.continuation.segment == where.segment


def test_a_publisher_goes_on_where_it_is_told(streams, made):
    writer = open_stream(streams)
    writer.delay(1.0)
    assert publish(writer, made, 2) == []
    writer.begin(WHERE, 2.0)
    packets = writer.stream.ring.slice(0, writer.stream.ring.next)
    first = packets[0]
    assert len(packets) > 100
    assert (first.segment, first.discontinuity, first.group) == (1_800_000_400, 3, 90)
    assert {packet.track.init for packet in packets} == {1_800_000_002}
    assert first.dts_us == 77_000_000
    assert writer.stream.sections[3].unix_us >= WHERE.unix_us
    assert writer.stream.target_duration_us == 4_000_000
    assert writer.stream.state is StreamState.LIVE
    assert writer.stream.continuation.init == 1_800_000_003


def test_nobody_knows_of_an_earlier_one(streams, made):
    writer = open_stream(streams)
    writer.delay(1.0)
    publish(writer, made, 1)
    writer.begin(None, 2.0)
    first = writer.stream.ring.get(0)
    assert (first.segment, first.discontinuity, first.dts_us) == (1_800_000_000, 0, MEDIA_START_US)


def test_a_stream_of_this_node_goes_on_above_its_own_numbers(streams, made):
    """What is told may be old."""
    writer = open_stream(streams)
    last = publish(writer, made, 5)[-1]
    writer.close("bye", 2.0)
    writer = open_stream(streams)
    writer.delay(2.0)
    stream = writer.stream
    assert stream.continues and stream.epoch_begin == stream.ring.next
    writer.begin(Continuation(7, 0, 1, 7, 0, 0, 1), 3.0)
    publish(writer, made, 1, start_us=500_000_000)
    first = stream.ring.get(stream.epoch_begin)
    assert first.segment == last.segment + 1 and first.group == last.group + 1
    assert first.dts_us >= last.dts_us and first.track.init > last.track.init
    assert not stream.continues


def test_times_of_all_tracks_go_on_together(streams, made):
    """Clocks of before are forgotten: the publisher's is another."""
    writer = open_stream(streams)
    publish(writer, made, 5)
    writer.close("bye", 2.0)
    writer = open_stream(streams)
    writer.delay(2.0)
    where = msgspec.structs.replace(writer.stream.continuation, media_us=500_000_000)
    writer.begin(where, 3.0)
    publish(writer, made, 3, start_us=9_000_000_000)
    packets = writer.stream.ring.slice(writer.stream.epoch_begin, writer.stream.ring.next)
    for track in (1, 2):
        times = [packet.dts_us for packet in packets if packet.track.id == track]
        assert 500_000_000 <= times[0] < 500_100_000 and 502_900_000 < times[-1] < 503_000_000
    assert writer.stream.statistics(3.0).timestamp_jumps == 0


def test_so_much_is_kept_back(streams, made):
    """Then it begins with what this node knows itself."""
    writer = open_stream(streams)
    writer.delay(1.0)
    writer.describe(made.VIDEO, 1.0)
    size = DELAYED_BYTES_MAX // 8
    for number in range(7):
        writer.write(Frame(1, number * 40_000, 0, number == 0, bytes(size)), 1.0)
    assert writer.stream.ring.next == 0
    writer.write(Frame(1, 280_000, 0, False, bytes(size)), 1.0)
    assert writer.stream.ring.next == 8
    writer.begin(WHERE, 2.0)
    assert writer.stream.ring.get(0).segment == 1_800_000_000, "that came too late"


def test_a_publisher_who_goes_meanwhile_leaves_nothing(streams, made):
    writer = open_stream(streams)
    writer.delay(1.0)
    publish(writer, made, 1)
    writer.close("bye", 2.0)
    assert streams.get("live") is None
    writer.begin(WHERE, 3.0)
    assert writer.stream.ring.next == 0


def test_one_who_breaks_a_rule_meanwhile_is_stopped(streams, made):
    stopped = []
    writer = open_stream(streams, stopped)
    writer.delay(1.0)
    for number in range(1, TRACKS_MAX + 2):
        writer.describe(msgspec.structs.replace(made.AUDIO, id=number), 1.0)
    writer.begin(WHERE, 2.0)
    [reason] = stopped
    assert "tracks" in reason and streams.get("live") is None
    with pytest.raises(Refused):
        streams.open("", SOURCE, 1.0, 0, lambda reason: None)


def test_a_frame_without_its_track_is_a_mistake_later(streams):
    writer = open_stream(streams)
    writer.delay(1.0)
    writer.write(Frame(9, 0, 0, True, b"x"), 1.0)
    with pytest.raises(StateError):
        writer.begin(None, 2.0)


def test_one_who_gives_way_leaves_a_stream_that_lingers(streams, made, timers):
    """Longer than it would, if that is too short for the other one to be heard of."""
    stopped, gone = [], []
    streams.subscribe_departures(lambda name, source, reason: gone.append(reason))
    writer = open_stream(streams, stopped)
    publish(writer, made, 1)
    streams.yield_to("live", "n1 has it", 10.0)
    assert stopped == gone == ["n1 has it"]
    assert writer.stream.state is StreamState.LINGERING
    assert timers[-1].when == 15.0
    streams.yield_to("live", "again", 10.0)
    streams.yield_to("nobody", "again", 10.0)
    assert stopped == ["n1 has it"]
    copy = streams.open_copy("live", Source("mesh", "n1"), 11.0, 0, lambda reason: None)
    assert copy.stream is writer.stream and timers[-1].callback is None
    streams.yield_to("live", "again", 12.0)
    assert copy.stream.state is StreamState.LINGERING
