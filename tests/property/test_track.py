"""Whatever a publisher sends, readers get a stream that keeps its rules, within its bounds."""

import heapq
import itertools
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from media.bitstream.duration import frame_duration
from media.errors import Refused
from media.track.marker import MarkerSettings
from media.track.model import Codec, Frame, Kind, Packet, Track
from media.track.registry import RegistrySettings, Streams, Takeover
from media.track.ring import PACKET_OVERHEAD_BYTES, SEGMENTS_MIN, Cursor, Ring
from media.track.stream import Source, Stream, StreamSettings, StreamState, Writer

SECOND = 1_000_000
CATALOGUE = [
    Track(1, Codec.H264, 90_000, b"a", width=320, height=180),
    Track(1, Codec.H264, 90_000, b"b", width=640, height=360, declared_fps=25.0),
    Track(2, Codec.AAC, 44_100, b"\x12\x10", sample_rate=44_100),
    Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000),
    Track(3, Codec.HEVC, 90_000, b"c", width=320, height=180),
    Track(4, Codec.OPUS, 48_000, b"d", sample_rate=48_000),
]

times = st.one_of(
    st.integers(0, 60 * SECOND),
    st.integers(-(1 << 50), 1 << 50),
    st.sampled_from([0, -1, 4_294_967_295_000, 1 << 62]),
)
steps_us = st.one_of(
    st.sampled_from([33_000, 33_000, 33_000, 33_000, 23_000, 23_000, 0, 1]),
    st.integers(-5 * SECOND, 5 * SECOND),
    times,
)
frames = st.builds(
    Frame,
    st.sampled_from([1, 1, 2, 2, 3, 4]),
    steps_us,  # turned into a sum of steps for each track
    st.one_of(st.integers(-100_000, 200_000), times),
    st.booleans(),
    st.binary(max_size=20),
)
actions = st.lists(
    st.one_of(frames, frames, frames, st.sampled_from([*CATALOGUE, "again", "flush"])), max_size=200
)


def open_writer(stream: Stream) -> Writer:
    return Writer(
        stream,
        Source("test", "127.0.0.1:1"),
        0.0,
        0,
        on_stop=lambda reason: None,
        on_close=lambda writer, reason, now: None,
        measure=frame_duration,
        observer=None,
    )


def check_marks(packets: list[Packet], stream: Stream) -> None:
    newest: dict[int, tuple[int, int]] = {}
    before: Packet | None = None
    for packet in packets:
        assert packet.track in stream.sections[packet.discontinuity].tracks
        assert packet.duration > 0 and packet.cts >= 0 and packet.dts >= 0
        dts, timescale = newest.get(packet.track.id, (-1, 1))
        assert packet.dts * timescale > dts * packet.track.timescale
        newest[packet.track.id] = packet.dts, packet.track.timescale
        if before is not None:
            same_segment = packet.segment == before.segment
            assert packet.segment - before.segment in (0, 1)
            assert packet.part - before.part in (0, 1) if same_segment else packet.part == 0
            assert packet.discontinuity - before.discontinuity in ((0,) if same_segment else (0, 1))
            assert packet.group - before.group in (0, 1)
            if packet.discontinuity != before.discontinuity:
                assert packet.group != before.group
        if before is None or packet.group != before.group:
            assert packet.keyframe
        before = packet


@settings(max_examples=150, deadline=None)
@given(actions, st.integers(100_000, 2_000_000), st.integers(200_000, 6_000_000))
def test_any_publisher_makes_a_stream_that_keeps_the_rules(
    script: list[Frame | Track | str], part_us: int, segment_us: int
) -> None:
    stream = Stream("any", StreamSettings(MarkerSettings(segment_us, part_us), 1 << 62), 0.0, 0)
    writer = open_writer(stream)
    described = {1, 2}
    for track in (CATALOGUE[0], CATALOGUE[2]):
        writer.describe(track, 0.0)
    clocks = {1: 0, 2: 0, 3: 0, 4: 0}
    for now, action in enumerate(script):
        if isinstance(action, Track):
            writer.describe(action, now * 10.0)
            described.add(action.id)
        elif action == "again":
            writer.stop("replaced")
            writer = open_writer(stream)
            described.clear()
        elif action == "flush":
            writer.flush(float(now))
        elif isinstance(action, Frame) and action.track_id in described:
            number = action.track_id
            clocks[number] += action.dts_us
            keyframe = action.keyframe or number in (2, 4)
            writer.write(Frame(number, clocks[number], action.cts_us, keyframe, action.data), float(now))
    writer.close("done", float(len(script)))
    packets = stream.ring.slice(0, stream.ring.next)
    check_marks(packets, stream)
    statistics = stream.statistics(float(len(script)))
    assert statistics.held_packets == len(packets)
    inits: dict[tuple[int, int], Track] = {}
    for packet in packets:
        assert inits.setdefault((packet.track.id, packet.track.init), packet.track) is packet.track


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 2), st.booleans(), st.integers(0, 5_000_000)),
        max_size=300,
    ),
    st.integers(1_000, 200_000),
    st.integers(100_000, 20_000_000),
)
def test_a_ring_keeps_its_bounds_and_the_newest(
    script: list[tuple[int, int, bool, int]], max_bytes: int, window_us: int
) -> None:
    track = Track(1, Codec.H264, 1_000_000, b"")
    ring = Ring(window_us, max_bytes)
    model: list[Packet] = []
    cursor = Cursor(ring)
    read: list[Packet] = []
    dts = group = segment = 0
    for size, turn, reads, step in script:
        dts += step
        group += turn > 0
        segment += turn > 1
        packet = Packet(track, dts, 0, 1, True, bytes(size), group, segment, 0, 0)
        ring.append(packet)
        model.append(packet)
        if reads:
            read += cursor.read(7)
        held = ring.slice(ring.first, ring.next)
        assert held == model[ring.first :] and ring.next == len(model)
        assert [ring.get(index) for index in (ring.first, ring.next - 1)] == [held[0], held[-1]]
        cost = sum(len(p.data) + PACKET_OVERHEAD_BYTES for p in held)
        assert cost <= max_bytes or len(held) == 1
        assert (ring.statistics.held_packets, ring.statistics.held_bytes) == (
            len(held),
            sum(len(p.data) for p in held),
        )
        starts = ring.segment_starts()
        assert starts == [
            index
            for index in range(ring.first, ring.next)
            if index == 0 or model[index].segment != model[index - 1].segment
        ]
        # Over its window it keeps no more whole segments than playlists need.
        if len(starts) > SEGMENTS_MIN:
            assert model[starts[-1]].dts_us - model[starts[1]].dts_us < window_us
        newest = ring.newest_group()
        assert newest == ring.next or newest == 0 or model[newest].group != model[newest - 1].group
    read += cursor.read(len(script))
    places = {id(packet): index for index, packet in enumerate(model)}
    positions = [places[id(packet)] for packet in read]
    assert positions == sorted(set(positions))
    for before, after in itertools.pairwise(positions):
        assert after == before + 1 or model[after].group != model[after - 1].group
    if script:
        assert len(read) + cursor.skipped_packets == len(model)


class Alarm:
    def __init__(self, callback: Callable[[float], None]) -> None:
        self.callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "write", "close", "stop", "advance", "wait"]),
            st.sampled_from(["x", "y", "z"]),
            st.floats(0, 15),
        ),
        max_size=80,
    ),
    st.sampled_from(Takeover),
    st.sampled_from([0.0, 5.0]),
)
def test_a_registry_keeps_track_and_forgets(
    script: list[tuple[str, str, float]], takeover: Takeover, linger_s: float
) -> None:
    now = 0.0
    order = itertools.count()
    alarms: list[tuple[float, int, Alarm]] = []

    def call_at(when: float, callback: Callable[[float], None], /) -> Alarm:
        alarm = Alarm(callback)
        heapq.heappush(alarms, (when, next(order), alarm))
        return alarm

    def advance(seconds: float) -> float:
        while alarms and alarms[0][0] <= now + seconds:
            when, _, alarm = heapq.heappop(alarms)
            if alarm.callback is not None:
                alarm.callback(when)
        return now + seconds

    streams = Streams(
        RegistrySettings(takeover=takeover, linger_s=linger_s), call_at=call_at, measure=frame_duration
    )
    writers: dict[str, Writer] = {}  # that nobody has told to stop
    for action, name, amount in script:
        if action == "open":
            try:
                writer = streams.open(
                    name, Source("test", "p"), now, 0, lambda reason, name=name: writers.pop(name)
                )
            except Refused:
                assert takeover is Takeover.REFUSE and name in writers
            else:
                writer.describe(CATALOGUE[0], now)
                writers[name] = writer
        elif action == "write" and name in writers:
            writers[name].write(Frame(1, round(now * SECOND), 0, True, b""), now)
            writers[name].flush(now)
            assert writers[name].stream.state is StreamState.LIVE
        elif action == "close" and name in writers:
            writers.pop(name).close("bye", now)
        elif action == "stop":
            published = name in writers
            assert streams.stop(name, "enough", now) == published
        elif action == "wait":
            cancel = streams.wait_for(name, lambda now: None)
            if amount > 7:
                cancel()
        elif action == "advance":
            now = advance(amount)
        for known, writer in writers.items():
            assert streams.get(known) is writer.stream
            assert writer.stream.state in (StreamState.STARTING, StreamState.LIVE)
    for writer in list(writers.values()):
        writer.close("bye", now)
    now = advance(1000)
    assert len(streams) == 0 and not streams._writers
    assert not [alarm for _, _, alarm in alarms if alarm.callback is not None]
    assert streams._waiters == sum(len(waiting) for waiting in streams._waiting.values())


def test_the_catalogue_has_both_kinds() -> None:
    assert {track.kind for track in CATALOGUE} == set(Kind)
