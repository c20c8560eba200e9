"""Which posters are made, kept, shared and refused."""

import gc
from typing import Any

import pytest

from media.deliver.poster import posters as model
from media.deliver.poster.posters import Posters, newest_keyframe
from media.deliver.poster.wire import Job
from media.track.model import Frame


class Asked:
    """A reply that keeps its answer."""

    def __init__(self) -> None:
        self.response: Any = None
        self.on_close: Any = None

    def send(self, response: Any) -> None:
        assert self.response is None, "answered twice"
        self.response = response

    @property
    def status(self) -> int | None:
        return None if self.response is None else self.response.status


class Desk:
    """Posters with a worker that a test plays."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.posters = Posters()
        self.rung = 0
        self.posters.on_work = self._ring

    def _ring(self) -> None:
        self.rung += 1

    def ask(self, stream: Any) -> Asked:
        asked = Asked()
        self.posters.answer(stream, asked, self.clock.now)
        return asked

    def begin(self) -> Job:
        job = self.posters.begin()
        assert job is not None
        return job

    def make(self, stream: Any, jpeg: bytes = b"jpeg") -> Asked:
        asked = self.ask(stream)
        self.begin()
        self.posters.finished(jpeg, self.clock.now)
        return asked


@pytest.fixture
def desk(clock):
    return Desk(clock)


@pytest.fixture
def stream(publisher):
    publisher.send(40)
    return publisher.stream


def test_a_poster_is_made_of_the_newest_keyframe(desk, stream):
    asked = desk.ask(stream)
    assert asked.status is None and desk.rung == 1 and desk.posters.waiting == 1
    job = desk.begin()
    assert job.data == stream.ring.get(stream.ring.newest_group()).data
    assert b"NUMBER" + (30).to_bytes(4, "big") in job.data
    assert job.config == stream.tracks[1].config
    desk.posters.finished(b"jpeg", desk.clock.now)
    assert asked.status == 200 and asked.response.body == b"jpeg"
    assert b"Cache-Control: public, max-age=10\r\n" in asked.response.fields
    assert b"Content-Type: image/jpeg\r\n" in asked.response.fields
    assert desk.posters.waiting == 0 and desk.posters.begin() is None


def test_the_etag_names_the_bytes(desk, stream, publisher):
    first = desk.make(stream, b"one").response
    publisher.send(330)
    second = desk.make(stream, b"two").response
    publisher.send(330)
    third = desk.make(stream, b"one").response
    assert first.etag == third.etag != second.etag


def test_a_kept_poster_is_given_at_once(desk, stream, publisher):
    made = desk.make(stream)
    publisher.send(30 * 9)
    assert desk.ask(stream).response is made.response
    assert desk.rung == 1


def test_an_old_poster_of_a_live_stream_is_made_anew(desk, stream, publisher):
    made = desk.make(stream)
    publisher.send(30 * 11)
    again = desk.ask(stream)
    assert again.status is None
    desk.begin()
    desk.posters.finished(b"newer", desk.clock.now)
    assert again.response is not made.response and again.response.body == b"newer"


def test_a_poster_stays_while_its_keyframe_is_the_newest(desk, stream, publisher):
    made = desk.make(stream)
    publisher.writer.close("gone", desk.clock.now)
    desk.clock.advance(9)
    assert desk.ask(stream).response is made.response
    desk.clock.advance(600)
    assert desk.ask(stream).response is made.response


def test_requests_for_one_stream_share_the_work(desk, stream):
    before = [desk.ask(stream) for _ in range(3)]
    desk.begin()
    during = desk.ask(stream)
    assert desk.posters.waiting == 4 and desk.posters.queued == 0
    desk.posters.finished(b"jpeg", desk.clock.now)
    assert {id(asked.response) for asked in (*before, during)} == {id(during.response)}
    assert desk.rung == 1


def test_a_viewer_that_leaves_is_not_answered(desk, stream):
    stays, leaves = desk.ask(stream), desk.ask(stream)
    leaves.on_close(desk.clock.now)
    desk.begin()
    desk.posters.finished(b"jpeg", desk.clock.now)
    assert stays.status == 200 and leaves.status is None
    assert desk.posters.waiting == 0


def test_work_that_nobody_waits_for_is_not_begun(desk, stream):
    leaves = desk.ask(stream)
    leaves.on_close(desk.clock.now)
    assert desk.posters.queued == 0 and desk.posters.begin() is None


def test_begun_work_is_kept_though_its_viewer_left(desk, stream):
    leaves = desk.ask(stream)
    desk.begin()
    leaves.on_close(desk.clock.now)
    desk.posters.finished(b"jpeg", desk.clock.now)
    assert desk.ask(stream).status == 200


def test_a_failure_is_not_tried_again_at_once(desk, stream, publisher):
    asked = desk.ask(stream)
    desk.begin()
    desk.posters.failed(desk.clock.now)
    assert asked.status == 503 and b"Retry-After: 10\r\n" in asked.response.fields
    publisher.send(30 * 9)
    assert desk.ask(stream).status == 503 and desk.posters.queued == 0
    publisher.send(30 * 2)
    assert desk.ask(stream).status is None
    assert desk.posters.statistics.failed == 1


def test_a_failure_of_the_same_keyframe_is_tried_again_later(desk, stream):
    desk.ask(stream)
    desk.begin()
    desk.posters.failed(desk.clock.now)
    desk.clock.advance(11)
    assert desk.ask(stream).status is None


def test_not_yet_live_is_404(desk, publisher):
    asked = desk.ask(publisher.stream)
    assert asked.status == 404 and asked.response.body == b"this stream has no picture\n"


def test_sound_alone_is_404(desk, streams, publisher):
    publisher.describe()
    other = streams.open("radio", publisher.writer.source, desk.clock.now, 10**15, lambda reason: None)
    other.describe(publisher.stream.tracks[2], desk.clock.now)
    for number in range(300):
        other.write(Frame(2, number * 21_333, 0, True, b"\x21" * 50), desk.clock.now)
    assert other.stream.ring.next > 0
    assert desk.ask(other.stream).status == 404


def test_picture_that_fell_silent_is_still_found(desk, stream, publisher):
    keyframe = newest_keyframe(stream)
    writer = publisher.writer
    for number in range(400):  # eight seconds of sound alone
        writer.write(Frame(2, 1_400_000 + number * 21_333, 0, True, b"\x21" * 50), desk.clock.now)
    assert stream.ring.get(stream.ring.newest_group()).track.codec == "aac"
    assert newest_keyframe(stream) is keyframe


def test_a_huge_keyframe_is_refused(desk, publisher, monkeypatch):
    monkeypatch.setattr(model, "KEYFRAME_MAX_BYTES", 500)
    publisher.send(1)
    assert desk.ask(publisher.stream).status == 404


def test_a_keyframe_that_is_huge_when_its_turn_comes_is_refused(desk, stream, monkeypatch):
    asked = desk.ask(stream)
    monkeypatch.setattr(model, "KEYFRAME_MAX_BYTES", 500)
    assert desk.posters.begin() is None
    assert asked.status == 404 and desk.posters.waiting == 0


def test_the_queue_is_bounded(desk, streams, stream, publisher, monkeypatch):
    monkeypatch.setattr(model, "QUEUE_MAX", 1)
    desk.ask(stream)
    other = type(publisher)(streams, desk.clock, "other")
    other.send(1)
    refused = desk.ask(other.stream)
    assert refused.status == 503 and b"Retry-After: 2\r\n" in refused.response.fields
    assert desk.ask(stream).status is None, "who shares work takes no room"
    assert desk.posters.statistics.refused == 1


def test_those_who_wait_are_bounded(desk, stream, monkeypatch):
    monkeypatch.setattr(model, "WAITERS_MAX", 2)
    first = desk.ask(stream)
    desk.ask(stream)
    assert desk.ask(stream).status == 503
    first.on_close(desk.clock.now)
    assert desk.ask(stream).status is None


def test_kept_posters_are_bounded(desk, streams, stream, publisher, monkeypatch):
    monkeypatch.setattr(model, "POSTERS_MAX", 1)
    desk.make(stream)
    other = type(publisher)(streams, desk.clock, "other")
    other.send(1)
    desk.make(other.stream)
    assert desk.ask(other.stream).status == 200
    assert desk.ask(stream).status is None


def test_a_poster_goes_with_its_stream(desk, streams, publisher, clock):
    publisher.send(1)
    desk.make(publisher.stream)
    kept = desk.posters._kept
    assert len(kept) == 1
    publisher.writer.close("gone", clock.now)
    clock.advance(3600)
    assert streams.get("live") is None
    publisher.writer = None
    gc.collect()
    assert len(kept) == 0


def test_another_stream_of_the_name_has_another_poster(desk, streams, publisher, clock):
    publisher.send(1)
    desk.make(publisher.stream)
    streams.stop("live", "operator", clock.now)
    again = type(publisher)(streams, clock)
    again.send(1)
    assert again.stream is not publisher.stream
    assert desk.ask(again.stream).status is None


def test_without_a_worker_nobody_waits(stream, clock):
    asked = Asked()
    Posters().answer(stream, asked, clock.now)
    assert asked.status == 503


def test_when_the_worker_stops_all_are_answered(desk, streams, stream, publisher):
    begun = desk.ask(stream)
    desk.begin()
    other = type(publisher)(streams, desk.clock, "other")
    other.send(1)
    queued = desk.ask(other.stream)
    desk.posters.stop()
    assert (begun.status, queued.status, desk.ask(stream).status) == (503, 503, 503)
    assert desk.posters.waiting == desk.posters.queued == 0
