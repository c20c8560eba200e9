"""A feed: everybody gets the same bytes, a slow viewer hurts nobody."""

import itertools
import struct

import msgspec
import pytest

from media.container.feed import FORMATS, QUEUE_MAX_BYTES, Feeds, FeedSettings
from media.errors import Refused


class Viewer:
    """Takes what it is sent, or nothing while `stuck`."""

    def __init__(self, *, follows_changes: bool = True) -> None:
        self.headers: list[bytes] = []
        self.chunks: list[bytes] = []
        self.ended = ""
        self.stuck = False
        self.queued_bytes = 0
        self.follows_changes = follows_changes

    def begin(self, section, header):
        self.headers.append(header)
        return self.follows_changes or len(self.headers) == 1

    def send(self, *chunks):
        self.chunks += [bytes(chunk) for chunk in chunks]
        if self.stuck:
            self.queued_bytes += sum(map(len, chunks))

    def end(self, reason):
        self.ended = reason

    def unstick(self) -> None:
        self.stuck = False
        self.queued_bytes = 0


def numbers(viewer: Viewer) -> list[int]:
    """The numbers of the video frames that a viewer got, as Publisher wrote them."""
    pieces = b"".join(viewer.chunks).split(b"NUMBER")[1:]
    return [struct.unpack(">I", piece[:4])[0] for piece in pieces]


@pytest.fixture
def feeds(clock):
    return Feeds(FeedSettings(flush_s=0.0), clock.call_at)


@pytest.mark.parametrize("form", ["mp4", "flv"])
def test_a_viewer_gets_the_group_so_far_and_then_everything(feeds, publisher, clock, form):
    publisher.send(40)
    viewer = Viewer()
    feeds.of(publisher.stream, form, FORMATS[form]).join(viewer)
    assert len(viewer.headers) == 1
    assert numbers(viewer) == list(range(30, 40))
    publisher.send(25)
    assert numbers(viewer) == list(range(30, 65))


def test_everybody_gets_the_very_same_bytes(feeds, publisher, clock):
    publisher.send(40)
    feed = feeds.of(publisher.stream, "mp4", FORMATS["mp4"])
    early, late = Viewer(), Viewer()
    feed.join(early)
    publisher.send(12)
    feed.join(late)
    publisher.send(20)
    assert b"".join(early.chunks) == b"".join(late.chunks)


def test_a_viewer_that_comes_before_the_first_keyframe_waits_for_it(feeds, publisher, clock):
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    assert not viewer.chunks
    publisher.send(5)
    assert numbers(viewer) == list(range(5))


def test_a_viewer_that_takes_nothing_is_skipped_to_the_newest_group(feeds, publisher, clock):
    publisher.send(40)
    feed = feeds.of(publisher.stream, "mp4", FORMATS["mp4"])
    slow, quick = Viewer(), Viewer()
    feed.join(slow)
    feed.join(quick)
    slow.stuck = True
    size = QUEUE_MAX_BYTES // 10
    publisher.send(50, size=size)
    assert slow.queued_bytes < QUEUE_MAX_BYTES + 2 * size
    slow.unstick()
    before = len(slow.chunks)
    publisher.send(40)
    assert publisher.stream.statistics(clock.now).reader_skips == 1
    missed = numbers(slow)
    assert missed[-1] == publisher.frames - 1
    assert len(slow.headers) == 1, "the same section needs no second header"
    resumed = slow.chunks[before]
    assert b"moof" in resumed[:8]
    assert numbers(quick)[-1] == publisher.frames - 1


def test_a_viewer_that_was_late_within_a_group_misses_nothing(feeds, publisher, clock):
    publisher.send(40)
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    viewer.stuck = True
    publisher.send(6, size=QUEUE_MAX_BYTES // 3)
    assert numbers(viewer)[-1] < 45, "the last ones were not sent"
    viewer.unstick()
    publisher.send(20)
    assert numbers(viewer) == list(range(30, 66))
    assert publisher.stream.statistics(clock.now).reader_skips == 0


def test_a_late_viewer_goes_on_while_the_publisher_pauses(feeds, publisher, clock):
    publisher.send(40)
    viewer = Viewer()
    feed = feeds.of(publisher.stream, "mp4", FORMATS["mp4"])
    feed.join(viewer)
    viewer.stuck = True
    publisher.send(6, size=QUEUE_MAX_BYTES // 3)
    assert numbers(viewer)[-1] < 45
    viewer.unstick()
    clock.advance(0.1)
    assert numbers(viewer) == list(range(30, 46))
    feed.leave(viewer)
    assert clock.pending == 0


def test_chunks_are_cut_by_time_when_that_is_set(publisher, clock):
    feeds = Feeds(FeedSettings(flush_s=0.1), clock.call_at)
    publisher.send(31)
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    before = len(viewer.chunks)
    publisher.send(29)
    assert 8 <= len(viewer.chunks) - before <= 11
    clock.advance(0.2)
    assert numbers(viewer) == list(range(30, 60))


def test_many_viewers_get_larger_chunks(publisher, clock):
    feeds = Feeds(FeedSettings(), clock.call_at)
    publisher.send(31)
    feed = feeds.of(publisher.stream, "mp4", FORMATS["mp4"])
    viewers = [Viewer() for _ in range(200)]
    for viewer in viewers:
        feed.join(viewer)
    before = len(viewers[0].chunks)
    publisher.send(29)
    assert 8 <= len(viewers[0].chunks) - before <= 14


def test_the_last_viewer_out_ends_the_feed(feeds, publisher, clock):
    publisher.send(40)
    feed = feeds.of(publisher.stream, "mp4", FORMATS["mp4"])
    viewers = [Viewer(), Viewer()]
    for viewer in viewers:
        feed.join(viewer)
    for viewer in viewers:
        feed.leave(viewer)
    assert feeds.of(publisher.stream, "mp4", FORMATS["mp4"]) is not feed
    publisher.send(2)
    assert numbers(viewers[0])[-1] == 39


def test_a_publisher_that_comes_back_with_the_same_tracks_is_followed(feeds, publisher, streams, clock):
    publisher.send(40)
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    publisher.writer.close("network", clock.now)
    clock.advance(2.0)
    type(publisher)(streams, clock).send(10)
    assert numbers(viewer) == [*range(30, 40), *range(10)]
    assert len(set(viewer.headers)) == 1


def test_changed_tracks_end_who_cannot_follow(feeds, publisher, clock):
    publisher.send(40)
    follower, stubborn = Viewer(), Viewer(follows_changes=False)
    feed = feeds.of(publisher.stream, "mp4", FORMATS["mp4"])
    for viewer in (follower, stubborn):
        feed.join(viewer)
    track = publisher.stream.tracks[1]
    publisher.describe(video=msgspec.structs.replace(track, width=640, height=360), audio=None)
    publisher.send(30)
    assert len(set(follower.headers)) == 2 and not follower.ended
    assert "changed" in stubborn.ended


def test_the_end_of_the_stream_ends_viewers(feeds, publisher, clock):
    publisher.send(40)
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    publisher.writer.close("gone", clock.now)
    clock.advance(11.0)
    assert "ended" in viewer.ended


def test_a_format_that_cannot_carry_the_stream_is_refused_and_leaves_nothing(feeds, publisher):
    def refuse(tracks, section):
        raise Refused("not in this format")

    publisher.send(40)
    listeners = len(publisher.stream._listeners)
    with pytest.raises(Refused):
        feeds.of(publisher.stream, "x", refuse)
    assert len(feeds) == 0 and len(publisher.stream._listeners) == listeners


def test_a_group_too_large_to_keep_makes_viewers_wait_for_the_next(feeds, publisher, clock, monkeypatch):
    monkeypatch.setattr("media.container.feed.CATCH_UP_MAX_BYTES", 3000)
    publisher.send(40)
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    assert not viewer.chunks
    publisher.send(21)
    assert numbers(viewer)[0] == 60


def test_fragments_count_up(feeds, publisher, clock):
    publisher.send(40)
    viewer = Viewer()
    feeds.of(publisher.stream, "mp4", FORMATS["mp4"]).join(viewer)
    publisher.send(30)
    sequences = [struct.unpack(">I", chunk[20:24])[0] for chunk in viewer.chunks]
    assert all(before < after for before, after in itertools.pairwise(sequences))
