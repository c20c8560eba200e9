"""An edge makes the origin's stream again, whoever its parent is."""

import pytest

from media.container.feed import FORMATS, Feed, FeedSettings
from media.errors import WireError
from media.replicate.publication import Publication
from media.replicate.replica import Conflicted, Ended, Failed, Lost, Skipped
from media.replicate.signing import Fault
from media.replicate.wire import End, State, encode
from media.track.stream import Source, StreamState

SECOND = 1_000_000


def test_an_early_edge_serves_what_the_origin_serves(origin, edge, same, lists):
    edge.follow(origin)
    for _ in range(300):
        origin.send(1)
        assert edge.window.newest() == origin.window.newest()
    same(edge, origin, least=20)
    assert lists(edge.window) == lists(origin.window)
    assert edge.stream.state is StreamState.LIVE
    assert not edge.events


def test_every_packet_is_there_as_soon_as_at_the_origin(origin, edge):
    edge.follow(origin)
    for _ in range(90):
        origin.send(1)
        assert edge.stream.ring.next == origin.stream.ring.next


@pytest.mark.parametrize("frames", [10, 100, 299, 300, 301, 555])
def test_a_late_edge_has_the_same_bytes(origin, new_edge, same, lists, frames):
    early, late = new_edge(), new_edge()
    early.follow(origin)
    origin.send(frames)
    late.follow(origin)
    origin.send(260)
    same(late, origin, least=10)
    same(early, origin, least=10)
    assert lists(late.window) == lists(early.window) == lists(origin.window)


def test_history_is_there_at_once(origin, edge, same):
    origin.send(400)
    edge.follow(origin, history_us=6 * SECOND)
    assert len(edge.window.segments) >= 3
    same(edge, origin, least=10)


def test_a_stream_is_live_only_when_it_has_caught_up(origin, edge):
    origin.send(400)
    link = edge.follow(origin)
    assert edge.stream.state is StreamState.LIVE
    link.close()
    slow = edge.__class__(edge.clock)
    want = slow.replica.adopt([], 6 * SECOND)
    publication = Publication(origin.stream, origin.proofs, edge.replica.identity, want, lambda now: None)
    while buffers := publication.pull(2000):
        assert slow.stream.state is StreamState.STARTING or slow.stream.ring.next > 400
        slow.take(b"".join(buffers))
    assert slow.stream.state is StreamState.LIVE


def test_three_hops(origin, new_edge, same):
    first, second, third = new_edge(), new_edge(), new_edge()
    first.follow(origin)
    second.follow(first)
    origin.send(100)
    third.follow(second)
    for _ in range(200):
        origin.send(1)
        assert third.stream.ring.get(third.stream.ring.next - 1) == origin.stream.ring.get(
            origin.stream.ring.next - 1
        )
    for edge in (first, second, third):
        same(edge, origin, least=10)


@pytest.mark.parametrize("before", range(200, 232, 3))
def test_a_new_parent_continues_where_the_old_one_died(origin, new_edge, same, lists, before):
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    edge.follow(relay)
    origin.send(before)
    edge.link.close()
    held = edge.stream.ring.first
    origin.send(7)
    edge.follow(origin)
    origin.send(100)
    same(edge, origin, least=10)
    assert edge.stream.ring.first <= held + 100
    numbers = [segment.msn for segment in edge.window.segments]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    packets = edge.stream.ring.slice(0, edge.stream.ring.next)
    assert len({(p.track.id, p.dts) for p in packets}) == len(packets)
    assert not edge.events
    assert lists(edge.window) == lists(origin.window)


def test_a_new_parent_that_is_behind_is_waited_for(origin, new_edge, same):
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    edge.follow(origin)
    origin.send(200)
    relay.link.open = False
    origin.send(40)
    edge.follow(relay)
    relay.link.open = True
    relay.link.ready(0)
    same(edge, origin, least=10)
    origin.send(60)
    same(edge, origin, least=10)
    assert not edge.events


def flip_payload(link, text):
    """Alter the packet whose data holds `text`."""
    link.alter = lambda data: data.replace(text, text[:-1] + bytes([text[-1] ^ 0x80]))


def test_a_flipped_byte_is_found_within_its_part(origin, new_edge, same, made):
    edge = new_edge()
    link = edge.follow(origin)
    origin.send(100)
    flip_payload(link, b"NUMBER" + (110).to_bytes(4, "big"))
    origin.send(10)
    assert not edge.events
    origin.send(16)
    [event] = edge.events
    assert isinstance(event, Failed) and event.failure.fault is Fault.PACKETS
    assert event.failure.signed in event.failure.message
    assert event.failure.found != event.failure.signed
    assert not edge.replica.listening
    theirs = made(origin.window)
    assert all(theirs[path] == data for path, data in made(edge.window).items())
    edge.follow(origin)
    origin.send(50)
    same(edge, origin, least=10)


def test_who_reads_packets_is_stopped_when_they_were_altered(origin, edge, clock):
    class Viewer:
        queued_bytes = 0

        def __init__(self):
            self.chunks, self.ended = [], ""

        def begin(self, section, header):
            return True

        def send(self, *chunks):
            self.chunks += chunks

        def end(self, reason):
            self.ended = reason

    link = edge.follow(origin)
    origin.send(100)
    viewer = Viewer()
    feed = Feed(edge.stream, FORMATS["mp4"], FeedSettings(0.0), call_at=clock.call_at, on_empty=lambda: None)
    feed.join(viewer)
    flip_payload(link, b"NUMBER" + (100).to_bytes(4, "big"))
    origin.send(30)
    assert "altered" in viewer.ended
    feed.leave(viewer)
    edge.follow(origin)
    again = Viewer()
    feed = Feed(edge.stream, FORMATS["mp4"], FeedSettings(0.0), call_at=clock.call_at, on_empty=lambda: None)
    feed.join(again)
    origin.send(10)
    assert again.chunks and not again.ended


def test_a_relay_that_was_lied_to_blames_itself_on_nobody(origin, new_edge, same):
    relay, edge = new_edge(), new_edge()
    link = relay.follow(origin)
    edge.follow(relay)
    origin.send(100)
    flip_payload(link, b"NUMBER" + (105).to_bytes(4, "big"))
    origin.send(25)
    assert isinstance(relay.events[0], Failed)
    assert not edge.events and edge.replica.listening
    relay.follow(origin)
    origin.send(60)
    same(relay, origin, least=10)
    same(edge, origin, least=10)
    assert not edge.events


def test_two_parents_differ_about_the_open_part(origin, new_edge, same):
    edge = new_edge()
    link = edge.follow(origin)
    origin.send(107)
    flip_payload(link, b"NUMBER" + (108).to_bytes(4, "big"))
    origin.send(3)
    edge.follow(origin)
    assert [type(event) for event in edge.events] == [Conflicted]
    origin.send(60)
    same(edge, origin, least=10)


def test_the_publisher_goes_and_comes_back(origin, edge, same, lists, publish, clock):
    edge.follow(origin)
    origin.send(100)
    origin.publisher.writer.close("bye", clock.now)
    assert edge.stream.state is StreamState.LINGERING
    same(edge, origin, least=4)
    assert lists(edge.window) == lists(origin.window)
    origin.publisher = publish()
    assert origin.publisher.stream is origin.stream
    origin.send(100)
    assert edge.stream.state is StreamState.LIVE
    same(edge, origin, least=8)
    assert len(edge.stream.sections) == 2
    assert lists(edge.window) == lists(origin.window)


def test_the_end_is_the_end_everywhere(origin, new_edge, same, lists, clock):
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    edge.follow(relay)
    origin.send(100)
    origin.publisher.writer.close("bye", clock.now)
    clock.advance(11)
    for node in (relay, edge):
        assert node.stream.state is StreamState.ENDED
        assert [type(event) for event in node.events] == [Ended]
        same(node, origin, least=4)
        assert lists(node.window) == lists(origin.window)
        assert b"#EXT-X-ENDLIST" in lists(node.window)[1]


def test_a_dead_origin_leaves_no_segment_that_others_may_have_longer(origin, new_edge, made, lists):
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    edge.follow(relay)
    origin.send(110)
    relay.link.close()
    relay.replica.abandon("nobody has it", 0.0)
    assert [type(event) for event in edge.events] == [Lost]
    edge.replica.abandon("nobody has it", 0.0)
    origin.send(200)
    theirs = made(origin.window)
    for node in (relay, edge):
        assert node.stream.state is StreamState.ENDED and node.stream.cut_off
        assert not node.window.segments[-1].complete
        assert all(theirs[path] == data for path, data in made(node.window).items())
        assert b"#EXT-X-ENDLIST" in lists(node.window)[1]


def test_a_publisher_here_takes_the_copy_over(origin, edge, clock):
    edge.follow(origin)
    origin.send(100)
    newest = edge.window.newest_segment().msn
    writer = edge.streams.open("live", Source("test", "me"), clock.now, 0, lambda reason: None)
    assert edge.stopped == ["it is published on this node now"]
    assert writer.stream is edge.stream and not edge.stream.replicated
    assert edge.stream.state is StreamState.STARTING and not edge.stream.cut_off
    assert writer.stream.next_segment > newest
    origin.send(20)
    assert edge.streams.get("live") is writer.stream


def test_tracks_that_are_not_wanted_cost_their_marks_only(origin, edge, lists, made):
    edge.follow(origin, tracks=[2])
    origin.send(300)
    _, sound, picture = lists(edge.window)
    marks = picture.replace(b"#EXT-X-GAP\n", b"").replace(b",GAP=YES", b"")
    assert marks == lists(origin.window)[2].replace(b",INDEPENDENT=YES", b"")
    assert sound == lists(origin.window)[1]
    held = edge.stream.ring.statistics
    assert held.bytes == sum(
        len(packet.data)
        for packet in origin.stream.ring.slice(0, origin.stream.ring.next)
        if packet.track.id == 2
    )
    assert edge.replica.verified > 10
    assert all(
        (data is None) == ("v1" in str(path))
        for path, data in made(edge.window).items()
        if "init" not in path
    )


def test_tracks_can_be_asked_for_later(origin, edge, made):
    link = edge.follow(origin, tracks=[2])
    origin.send(100)
    link.publication.want(edge.replica.want())
    origin.send(260)
    theirs, ours = made(origin.window), made(edge.window)
    had = {path for path, data in ours.items() if data is not None}
    newest = edge.window.newest_segment().msn
    assert f"v1/{newest - 1}.m4s" in had
    assert all(theirs[path] == ours[path] for path in had)


def test_a_slow_edge_is_skipped_and_says_so(origin, edge, same):
    link = edge.follow(origin, late_us=3 * SECOND)
    origin.send(100)
    link.open = False
    origin.send(300)
    link.open = True
    link.ready(0)
    assert [type(event) for event in edge.events] == [Skipped]
    assert link.publication.skips == 1 and origin.stream.reader_skips == 1
    origin.send(100)
    same(edge, origin, least=4)


def test_history_that_is_gone_is_a_skip(origin, new_edge, same):
    edge = new_edge()
    edge.follow(origin)
    origin.send(100)
    edge.link.close()
    origin.send(900)
    edge.follow(origin)
    origin.send(100)
    assert [type(event) for event in edge.events] == [Skipped]
    same(edge, origin, least=4)


def test_a_relay_with_a_hole_tells_those_below(origin, new_edge, same):
    relay, edge = new_edge(), new_edge()
    link = relay.follow(origin, late_us=3 * SECOND)
    edge.follow(relay)
    origin.send(100)
    link.open = False
    origin.send(300)
    link.open = True
    link.ready(0)
    origin.send(100)
    assert [type(event) for event in edge.events] == [Skipped]
    same(edge, origin, least=4)


def test_a_parent_may_not_end_a_stream_in_the_middle(origin, edge):
    edge.follow(origin)
    origin.send(100)
    for message in (End("bye"), State(StreamState.LINGERING)):
        edge.replica.listening = True
        with pytest.raises(WireError, match="middle of a segment"):
            edge.take(encode(message))
    assert edge.stream.state is StreamState.LIVE
