"""An edge's stream goes on in another epoch: numbers, gaps, bytes, and what is let go of."""

import msgspec
import pytest

from media.container.feed import FORMATS, Feed, FeedSettings
from media.errors import WireError
from media.package.window import GAPS_MAX, LiveWindow
from media.replicate.publication import ANOTHER_EPOCH
from media.replicate.replica import AHEAD_SEGMENTS_MAX, Lost, Skipped
from media.track.continuation import furthest
from media.track.stream import StreamState


def numbers(window):
    return [segment.msn for segment in window.segments]


def gaps(window):
    return [segment.msn for segment in window.segments if segment.cut]


def contiguous(window):
    found = numbers(window)
    assert found == list(range(found[0], found[0] + len(found)))


def agree(one, other, made):
    theirs, ours = made(one.window), made(other.window)
    shared = theirs.keys() & ours.keys()
    assert len(shared) >= 8
    assert all(theirs[name] == ours[name] for name in shared if theirs[name] and ours[name])


@pytest.fixture
def moved(origin, edge, new_origin):
    """The publisher came back elsewhere when the edge had the first 3.6 s, of them 1.6 s in a segment."""
    edge.follow(origin)
    origin.send(109)
    return new_origin(edge.stream.continuation)


def test_a_segment_that_got_no_end_is_a_gap(origin, edge, moved, lists, made):
    cut = edge.window.newest_segment().msn
    edge.succeed(moved.identity)
    edge.follow(moved)
    moved.send(100)
    contiguous(edge.window)
    assert gaps(edge.window) == [cut]
    assert edge.window.segment_bytes("v1", cut) is None
    assert edge.window.part_bytes("v1", cut, 0) is not None, "its parts were served, and are"
    listed = lists(edge.window)[1].decode()
    assert listed.count("#EXT-X-GAP") == 1 and listed.count("#EXT-X-DISCONTINUITY\n") == 1
    assert "#EXT-X-ENDLIST" not in listed
    agree(moved, edge, made)
    agree(origin, edge, made)
    assert not edge.events


def test_a_viewer_who_comes_later_finds_the_same_gap(edge, moved, lists):
    edge.succeed(moved.identity)
    edge.follow(moved)
    moved.send(100)
    assert lists(LiveWindow(edge.stream)) == lists(edge.window)


@pytest.mark.parametrize("behind", [30, 75, 109])
def test_who_had_less_has_gaps_for_the_rest(origin, new_edge, new_origin, made, behind):
    """An edge whose line broke earlier has the same numbers as one that got all."""
    one, other = new_edge(), new_edge()
    one.follow(origin)
    other.follow(origin)
    origin.send(200 - behind)
    other.link.close()
    origin.send(behind)
    moved = new_origin(furthest(one.stream.continuation, other.stream.continuation))
    for edge in (one, other):
        edge.succeed(moved.identity)
        edge.follow(moved)
    moved.send(250)
    for edge in (one, other):
        contiguous(edge.window)
        assert numbers(edge.window) == numbers(one.window)
        agree(moved, edge, made)
        durations = [segment.duration_us for segment in edge.window.segments if segment.complete]
        assert all(0 < duration <= edge.stream.target_duration_us for duration in durations)
    agree(one, other, made)
    assert len(gaps(one.window)) == 1 <= len(gaps(other.window))
    assert not one.events and not other.events


def test_what_ended_well_leaves_no_gap(origin, edge, new_origin, clock, lists):
    edge.follow(origin)
    origin.send(100)
    origin.publisher.writer.close("bye", clock.now)
    moved = new_origin(origin.stream.continuation)
    edge.succeed(moved.identity)
    assert edge.stream.state is StreamState.LINGERING
    edge.follow(moved)
    moved.send(100)
    assert edge.stream.state is StreamState.LIVE
    assert gaps(edge.window) == [] and b"#EXT-X-GAP" not in lists(edge.window)[1]
    contiguous(edge.window)


def test_the_copy_itself_becomes_the_origin(origin, edge, new_origin, new_edge, made):
    """Its publisher goes on in the same stream; an edge of before follows."""
    other = new_edge()
    edge.follow(origin)
    other.follow(origin)
    origin.send(109)
    stream = edge.stream
    moved = new_origin(None, edge.streams)
    assert moved.stream is stream and not stream.replicated
    other.succeed(moved.identity)
    other.follow(moved)
    moved.send(200)
    assert moved.signer.proofs.get(stream.ring.get(0).segment, 0) is None
    for window in (moved.window, other.window):
        contiguous(window)
        assert len(gaps(window)) == 1
    agree(moved, other, made)
    agree(origin, other, made)
    assert not other.events


def test_an_origin_becomes_an_edge(origin, new_origin, streams, clock, take_over, made):
    origin.send(109)
    streams.yield_to("live", "another node has it", clock.now)
    assert origin.publisher.stopped == ["another node has it"]
    moved = new_origin(origin.stream.continuation)
    edge = take_over(streams, moved)
    assert edge.stream is origin.stream and edge.stream.replicated
    edge.follow(moved)
    moved.send(150)
    contiguous(edge.window)
    assert gaps(edge.window) == [] and not edge.events
    agree(moved, edge, made)


def test_edges_below_are_sent_away_with_the_rest(origin, new_edge, new_origin):
    """What a relay has of the old epoch goes out; then those below are to ask for the new one."""
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    edge.follow(relay)
    origin.send(109)
    moved = new_origin(relay.stream.continuation)
    relay.succeed(moved.identity)
    assert edge.events == [Lost(ANOTHER_EPOCH)]
    assert edge.stream.continuation == relay.stream.continuation
    relay.follow(moved)
    moved.send(10)
    edge.succeed(moved.identity)
    edge.follow(relay)
    moved.send(100)
    contiguous(edge.window)
    assert edge.window.newest() == moved.window.newest()
    assert edge.events == [Lost(ANOTHER_EPOCH)]


def test_a_new_edge_is_given_the_new_epoch_only(edge, moved, new_edge, same):
    """It could not check what another origin signed."""
    edge.succeed(moved.identity)
    edge.follow(moved)
    moved.send(100)
    late = new_edge()
    late.succeed(moved.identity)
    late.follow(edge)
    moved.send(100)
    assert numbers(late.window)[0] == moved.stream.ring.get(0).segment
    same(late, moved, least=10)
    assert not late.events


def test_another_parent_in_the_new_epoch(edge, moved, new_edge):
    edge.succeed(moved.identity)
    edge.follow(moved)
    moved.send(20)
    edge.link.close()
    moved.send(50)
    edge.follow(moved)
    moved.send(50)
    contiguous(edge.window)
    assert edge.window.newest() == moved.window.newest() and not edge.events


def test_and_again_another_epoch_before_anything_came(origin, edge, new_origin):
    edge.follow(origin)
    origin.send(109)
    cut = edge.window.newest_segment().msn
    for _ in range(3):
        moved = new_origin(edge.stream.continuation)
        edge.succeed(moved.identity)
        edge.follow(moved)
    moved.send(4)
    third = new_origin(edge.stream.continuation)
    edge.succeed(third.identity)
    edge.follow(third)
    third.send(100)
    contiguous(edge.window)
    assert gaps(edge.window) == [cut]


@pytest.mark.parametrize("missing", [1, GAPS_MAX, GAPS_MAX + 1, 1000])
def test_a_jump_forward(origin, edge, new_origin, lists, missing):
    """A few numbers are gaps; beyond, what is held is let go of, and numbers only grow."""
    edge.follow(origin)
    origin.send(109)
    where = edge.stream.continuation
    before = lists(edge.window)[1].decode()
    moved = new_origin(msgspec.structs.replace(where, segment=where.segment + missing))
    edge.succeed(moved.identity)
    edge.follow(moved)
    moved.send(100)
    contiguous(edge.window)
    forgets = missing > GAPS_MAX
    assert [type(event) for event in edge.events] == [Skipped] * forgets
    assert (numbers(edge.window)[0] >= where.segment) is forgets
    after = lists(edge.window)[1].decode()
    assert counted(after) >= counted(before)


def counted(playlist):
    lines = dict(line.split(":", 1) for line in playlist.splitlines() if ":" in line)
    return int(lines["#EXT-X-MEDIA-SEQUENCE"]), int(lines["#EXT-X-DISCONTINUITY-SEQUENCE"])


def test_an_epoch_that_never_met_ours(origin, edge, new_origin, lists):
    """Its sections and times begin anew: viewers here are told of a break all the same."""
    edge.follow(origin)
    origin.send(109)
    before = lists(edge.window)[1].decode()
    moved = new_origin(None)
    moved.stream._marker.go_on(edge.stream.continuation.segment + 2, 0, 1, 0)
    edge.succeed(moved.identity)
    edge.follow(moved)
    moved.send(150)
    assert [type(event) for event in edge.events] == [Skipped]
    after = lists(edge.window)[1].decode()
    assert counted(after)[0] > counted(before)[0] and counted(after)[1] > counted(before)[1]
    assert edge.stream.breaks_before == 1
    assert edge.stream.ring.statistics.held_packets == moved.stream.ring.statistics.held_packets
    assert edge.stream.newest_us == moved.stream.newest_us


def test_numbers_that_viewers_had_are_waited_for(origin, edge, new_origin, new_edge):
    """An epoch that is a little behind is taken from where it is ahead."""
    edge.follow(origin)
    origin.send(200)
    newest = edge.window.newest_segment().msn
    moved = new_origin(None)
    moved.stream._marker.go_on(newest - 2, 5, 1, 0)
    moved.send(10)
    assert not edge.replica.is_ahead(newest - AHEAD_SEGMENTS_MAX)
    edge.succeed(moved.identity)
    assert not edge.replica.is_ahead(newest - AHEAD_SEGMENTS_MAX)
    assert edge.replica.is_ahead(newest - AHEAD_SEGMENTS_MAX - 1)
    edge.follow(moved)
    moved.send(300)
    assert min(packet.segment for packet in edge.stream.ring.slice(0, edge.stream.ring.next)) > newest
    assert edge.window.newest() == moved.window.newest()


def test_a_parent_cannot_go_back(origin, edge, moved):
    edge.succeed(moved.identity)
    link = edge.follow(moved)
    link.close()
    moved.stream._marker.go_on(edge.stream.continuation.segment - 1, 7, 9, 0)
    edge.replica._before = None
    want = edge.replica.adopt()
    assert want.beyond is None
    edge.succeed(moved.identity)
    assert edge.replica.want().beyond == edge.stream.continuation.segment - 1
    edge.replica.adopt()
    edge.follow(moved)
    edge.link.publication._beyond = None
    edge.link.publication._index = None
    with pytest.raises(WireError, match="does not follow"):
        moved.send(40)


def test_who_reads_packets_goes_on(origin, edge, moved, clock):
    """What of the old epoch nobody signed any more was no lie."""

    class Viewer:
        queued_bytes = 0
        ended = ""

        def __init__(self):
            self.headers = 0
            self.chunks = []

        def begin(self, section, header):
            self.headers += 1
            return True

        def send(self, *chunks):
            self.chunks += chunks

        def end(self, reason):
            self.ended = reason

    viewer = Viewer()
    feed = Feed(edge.stream, FORMATS["mp4"], FeedSettings(0.0), call_at=clock.call_at, on_empty=lambda: None)
    feed.join(viewer)
    edge.succeed(moved.identity)
    edge.follow(moved)
    before = len(viewer.chunks)
    moved.send(60)
    assert viewer.ended == "" and viewer.headers == 2 and len(viewer.chunks) >= before + 59


def test_a_stream_that_nobody_gives_lingers_and_completes_nothing(origin, edge, lists, made):
    edge.follow(origin)
    origin.send(109)
    edge.link.close()
    edge.replica.writer.rest(1.0)
    assert edge.stream.state is StreamState.LINGERING and edge.stream.cut_off
    newest = edge.window.newest_segment()
    assert not newest.complete and b"#EXT-X-ENDLIST" not in lists(edge.window)[1]
    origin.send(20)
    edge.follow(origin)
    assert edge.stream.state is StreamState.LIVE and not edge.stream.cut_off
    origin.send(60)
    assert gaps(edge.window) == []
    agree(origin, edge, made)


def test_a_relay_that_has_nobody_says_so_at_once(origin, new_edge):
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    edge.follow(relay)
    origin.send(109)
    relay.link.close()
    relay.replica.writer.rest(1.0)
    assert [type(event) for event in edge.events] == [Lost]
