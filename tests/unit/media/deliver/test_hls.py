"""HLS of one stream: what is answered at once, what is held, and with what."""

import re

import pytest

from media.deliver.hls import Directives, HlsStream, parse_directives
from media.deliver.http.response import Response
from media.net.transport import FileSlice

WINDOW_US = 12_000_000


def whole(response: Response) -> bytes:
    return b"".join(response.body) if isinstance(response.body, tuple) else response.body


def no_file(parts: object) -> None:
    """Memory files cannot be had."""


class Inbox(list[Response]):
    """Collects answers."""

    @property
    def only(self) -> Response:
        assert len(self) == 1
        return self[0]

    @property
    def text(self) -> str:
        return whole(self.only).decode()


@pytest.fixture
def hls(publisher, clock):
    publisher.send(80)
    return HlsStream(publisher.stream, WINDOW_US, no_file, clock.call_at, clock.now)


def ask(hls, clock, directives=None):
    inbox = Inbox()
    wait = hls.playlist("v1", directives or Directives(), inbox.append, clock.now)
    return inbox, wait


def newest(hls):
    return hls.window.newest()


def test_playlist_without_directives_is_answered_at_once(hls, clock):
    inbox, wait = ask(hls, clock)
    assert wait is None
    assert inbox.only.status == 200
    assert inbox.text.startswith("#EXTM3U\n")
    assert b"Cache-Control: no-cache" in inbox.only.fields


def test_everybody_gets_the_same_answer_object(hls, clock):
    first, _ = ask(hls, clock)
    second, _ = ask(hls, clock)
    assert first.only is second.only


def test_blocking_reload_is_answered_when_the_part_completes(hls, publisher, clock):
    msn, part = newest(hls)
    inbox, wait = ask(hls, clock, Directives(msn, part + 1))
    assert wait is not None and not inbox
    publisher.send(16)
    assert inbox.only.status == 200
    assert f'URI="{msn}.{part + 1}.m4s"' in inbox.text


def test_blocking_reload_for_a_whole_segment_waits_for_its_end(hls, publisher, clock):
    msn, _ = newest(hls)
    inbox, _ = ask(hls, clock, Directives(msn))
    publisher.send(30)
    assert not inbox
    publisher.send(31)
    assert f"\n{msn}.m4s\n" in inbox.text


def test_a_part_beyond_the_last_of_a_segment_means_the_next_segments_first(hls, publisher, clock):
    msn, _ = newest(hls)
    inbox, _ = ask(hls, clock, Directives(msn, 40))
    while not inbox:
        publisher.send(1)
        assert publisher.frames < 300
    assert newest(hls) == (msn + 1, 0)


def test_stale_number_gets_the_present_playlist(hls, clock):
    inbox, wait = ask(hls, clock, Directives(17, 0))
    assert wait is None and inbox.only.status == 200


@pytest.mark.parametrize("ahead, status", [(3, 400), (1000, 400)])
def test_too_far_ahead_is_a_bad_request(hls, clock, ahead, status):
    inbox, _ = ask(hls, clock, Directives(newest(hls)[0] + ahead))
    assert inbox.only.status == status


def test_two_segments_ahead_is_held(hls, clock):
    inbox, wait = ask(hls, clock, Directives(newest(hls)[0] + 2))
    assert wait is not None and not inbox


def test_nothing_new_in_three_target_durations_is_503(hls, clock):
    msn, part = newest(hls)
    inbox, _ = ask(hls, clock, Directives(msn, part + 1))
    clock.advance(5.9)
    assert not inbox
    clock.advance(0.2)
    assert inbox.only.status == 503
    assert hls.waiting == 0


def test_a_viewer_that_left_is_not_answered(hls, publisher, clock):
    msn, part = newest(hls)
    inbox, wait = ask(hls, clock, Directives(msn, part + 1))
    wait.cancel()
    publisher.send(20)
    assert not inbox and hls.waiting == 0


@pytest.mark.parametrize(
    "query",
    [(None, "1", None), ("x", None, None), ("-1", None, None), ("1", "", None), ("9" * 16, None, None)],
)
def test_wrong_directives_are_a_bad_request(query):
    answer = parse_directives(*query)
    assert isinstance(answer, Response) and answer.status == 400


def test_directives_parse():
    assert parse_directives("12", "3", "YES") == Directives(12, 3, skip=True)
    assert parse_directives(None, None, None) == Directives()


def fetch(hls, clock, file):
    inbox = Inbox()
    hls.object("v1", file, inbox.append, clock.now)
    return inbox


def test_every_object_that_the_playlist_names_can_be_had(hls, clock):
    text = ask(hls, clock)[0].text
    files = re.findall(r'^(?!#)(\S+)$|URI="(\d+\.\d+\.m4s|init-\d+\.mp4)"', text, re.M)
    hinted = re.search(r'PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', text)[1]
    assert len(files) > 4
    for file in {a or b for a, b in files} - {hinted}:
        answer = fetch(hls, clock, file).only
        assert answer.status == 200 and b"immutable" in answer.fields and answer.body


def test_a_segment_is_its_parts(hls, clock):
    segment = next(segment for segment in hls.window.segments if segment.complete)
    parts = [whole(fetch(hls, clock, f"{segment.msn}.{part.index}.m4s").only) for part in segment.parts]
    assert b"".join(parts) == whole(fetch(hls, clock, f"{segment.msn}.m4s").only)


def test_the_hinted_part_is_waited_for(hls, publisher, clock):
    msn, part = hls.window.upcoming()
    inbox = fetch(hls, clock, f"{msn}.{part}.m4s")
    assert not inbox
    publisher.send(16)
    assert inbox.only.status == 200


@pytest.mark.parametrize(
    "file", ["99.m4s", "99.1.m4s", "init-3.mp4", "x.m4s", "", "../../etc/passwd", "1.2.3.m4s"]
)
def test_unknown_objects_are_404_and_not_remembered(hls, clock, file):
    before = len(hls._objects)
    assert fetch(hls, clock, file).only.status == 404
    assert len(hls._objects) == before


def test_old_objects_are_forgotten(hls, publisher, clock):
    first = hls.window.segments[0].msn
    fetch(hls, clock, f"{first}.m4s")
    publisher.send(30 * 25)
    assert fetch(hls, clock, f"{first}.m4s").only.status == 404


def test_a_playlist_asked_before_the_first_part_is_held(publisher, clock):
    hls = HlsStream(publisher.stream, WINDOW_US, no_file, clock.call_at, clock.now)
    inbox = Inbox()
    hls.multivariant("", inbox.append, clock.now)
    assert not inbox
    publisher.send(20)
    assert "v1/index.m3u8" in inbox.text
    assert 'CODECS="avc1.' in inbox.text and "mp4a.40.2" in inbox.text
    assert "RESOLUTION=320x180" in inbox.text


def test_the_end_answers_everyone_and_ends_the_playlist(hls, publisher, streams, clock):
    inbox, _ = ask(hls, clock, Directives(newest(hls)[0] + 1, 0))
    publisher.writer.close("gone", clock.now)
    clock.advance(10.1)
    assert inbox.only.status == 503
    inbox, _ = ask(hls, clock)
    assert inbox.text.endswith("#EXT-X-ENDLIST\n")
    assert "PRELOAD-HINT" not in inbox.text
    clock.advance(60.0)
    assert streams.get("live") is None and clock.pending == 0


def test_a_publisher_that_comes_back_continues_with_a_discontinuity(hls, publisher, streams, clock):
    from_before = ask(hls, clock)[0].text
    publisher.writer.close("network", clock.now)
    clock.advance(3.0)
    again = type(publisher)(streams, clock)
    assert again.stream is publisher.stream
    again.send(40)
    text = ask(hls, clock)[0].text
    assert "#EXT-X-DISCONTINUITY\n" in text
    assert re.search(r"MEDIA-SEQUENCE:(\d+)", text)[1] == re.search(r"MEDIA-SEQUENCE:(\d+)", from_before)[1]
    assert text.count("#EXT-X-MAP") == 1


def test_closing_answers_held_requests(hls, clock):
    msn, part = newest(hls)
    inbox, _ = ask(hls, clock, Directives(msn, part + 1))
    hls.close()
    assert inbox.only.status == 404
    assert clock.pending == 0


def test_a_thousand_held_requests_are_answered_in_one_pass(hls, publisher, clock):
    msn, part = newest(hls)
    inboxes = [ask(hls, clock, Directives(msn, part + 1))[0] for _ in range(1000)]
    publisher.send(16)
    assert len({id(inbox.only) for inbox in inboxes}) == 1


def test_large_objects_go_to_a_file_and_small_ones_do_not(publisher, clock):
    files = []

    def put(parts):
        files.append(b"".join(parts))
        return FileSlice(0, 0, len(files[-1]), None)

    publisher.send(70, size=5000)
    hls = HlsStream(publisher.stream, WINDOW_US, put, clock.call_at, clock.now)
    segment = hls.window.segments[0]
    for _ in range(2):
        answer = fetch(hls, clock, f"{segment.msn}.m4s").only
        assert isinstance(answer.body, FileSlice) and answer.length == len(files[0]) > 65536
    assert isinstance(fetch(hls, clock, f"init-{segment.renditions['v1'].init}.mp4").only.body, bytes)
    assert len(files) == 1, "kept for whoever asks next"


def objects_asked(hls, clock, *files):
    """An inbox for each file that is asked for."""
    inboxes = [Inbox() for _ in files]
    for file, inbox in zip(files, inboxes, strict=True):
        hls.object("v1", file, inbox.append, clock.now)
    return inboxes


def test_objects_of_a_copy_that_has_nothing_yet_are_held(publisher, clock):
    """A viewer who comes from another node asks for the next part before any playlist."""
    publisher.stream.replicated = True
    hls = HlsStream(publisher.stream, WINDOW_US, no_file, clock.call_at, clock.now)
    publisher.send(1)
    msn = publisher.stream.ring.get(0).segment
    init = publisher.stream.tracks[1].init
    asked = objects_asked(hls, clock, f"init-{init}.mp4", f"{msn}.0.m4s", f"{msn}.m4s", f"{msn - 1}.m4s")
    assert asked == [[], [], [], []]
    publisher.send(120)
    assert [inbox.only.status for inbox in asked] == [200, 200, 200, 404]


def test_objects_of_a_copy_that_are_on_their_way_are_held(hls, publisher, clock):
    """Also when another node was further: a segment or two."""
    publisher.stream.replicated = True
    msn, part = hls.window.upcoming()
    files = [f"{msn}.m4s", f"{msn + 1}.0.m4s", f"{msn}.{part + 1}.m4s"]
    near = objects_asked(hls, clock, *files)
    far = objects_asked(hls, clock, f"{msn + 3}.m4s", f"{msn}.99.m4s", f"{msn - 90}.m4s", "init-1.mp4")
    assert [inbox.only.status for inbox in far] == [404] * 4
    assert near == [[], [], []]
    publisher.send(200)
    assert [inbox.only.status for inbox in near] == [200] * 3


def test_what_does_not_come_to_a_copy_in_time_is_503(hls, publisher, clock):
    publisher.stream.replicated = True
    msn, _ = hls.window.upcoming()
    [inbox] = objects_asked(hls, clock, f"{msn + 1}.m4s")
    clock.advance(60)
    assert inbox.only.status == 503


def test_a_copy_knows_which_tracks_are_asked_for(hls, publisher, clock):
    stream = publisher.stream
    ask(hls, clock)
    assert stream.track_asked_at == {}
    stream.replicated = True
    ask(hls, clock)
    hls.playlist("v9", Directives(), Inbox().append, clock.now)
    assert stream.track_asked_at == dict.fromkeys(stream.tracks, clock.now)
