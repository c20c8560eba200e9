"""Windows over streams that another node marked: what was taken back, cut off, or not fetched."""

import msgspec
import pytest

from media.package.playlist import media_playlist, multivariant_playlist
from media.package.window import LiveWindow
from media.track.model import Hollow
from media.track.stream import StreamState


@pytest.fixture
def followed(open_studio, copy_of):
    """A copy with a part that is open, its window, and the origin's."""
    studio = open_studio()
    copy = copy_of(studio.stream)
    window = LiveWindow(copy.stream)
    studio.send(2.7)
    copy.follow()
    window.update()
    assert len(window.segments) == 2 and not window.segments[1].complete
    return studio, copy, window


def retract(copy, window, packets):
    copy.stream.ring.retract(copy.stream.ring.next - packets)
    copy._next -= packets
    window.update()


def same(window, studio):
    whole = studio.window()
    for segment in whole.segments:
        for part in segment.complete_parts():
            mine = window.find(segment.msn).part(part.index)
            assert mine.duration_us == part.duration_us
            assert window.part_bytes("v1", segment.msn, part.index) == whole.part_bytes(
                "v1", segment.msn, part.index
            )
        if segment.complete:
            assert window.segment_bytes("v1", segment.msn) == whole.segment_bytes("v1", segment.msn)
    assert window.newest() == whole.newest()


def open_packets(window):
    part = window.segments[-1].parts[-1]
    return part.stop - part.first


def test_an_open_part_that_is_taken_back_begins_again(followed):
    studio, copy, window = followed
    newest, hinted = window.newest(), window.upcoming()
    retract(copy, window, open_packets(window))
    assert (window.newest(), window.upcoming()) == (newest, hinted)
    copy.follow()
    window.update()
    studio.send(3)
    copy.follow()
    window.update()
    same(window, studio)


def test_so_does_a_segment_of_which_nothing_else_came(open_studio, copy_of):
    studio = open_studio()
    copy = copy_of(studio.stream)
    window = LiveWindow(copy.stream)
    studio.send(2.2)
    copy.follow()
    window.update()
    assert len(window.segments[-1].parts) == 1
    retract(copy, window, open_packets(window))
    studio.send(3)
    copy.follow()
    window.update()
    same(window, studio)


@pytest.mark.parametrize("state", [StreamState.ENDED, StreamState.LINGERING])
def test_a_stream_that_was_cut_off_completes_nothing(followed, state):
    _, copy, window = followed
    before = window.newest()
    copy.stream.cut_off = True
    copy.stream.state = state
    window.update()
    assert window.newest() == before
    assert not window.segments[-1].complete
    assert window.ended is (state is StreamState.ENDED)


def test_nothing_is_made_of_what_was_not_fetched(open_studio, tracks):
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(4.5)
    ring = studio.stream.ring
    for index, packet in enumerate(ring._packets):
        if packet.track.id == 2:
            fields = msgspec.structs.astuple(packet)[1:]
            ring._packets[index] = Hollow(packet.track, *fields[:4], b"", *fields[5:], bytes(32))
    window = studio.window()
    msn = window.segments[0].msn
    assert window.part_bytes("a2", msn, 0) is None and window.segment_bytes("a2", msn) is None
    assert window.part_bytes("v1", msn, 0) and window.segment_bytes("v1", msn)
    assert window.part_bytes("a3", msn, 0)
    for name, gaps in (("a2", True), ("v1", False), ("a3", False)):
        playlist = media_playlist(window, name, 60_000_000) or b""
        assert (b",GAP=YES" in playlist) is gaps and (b"#EXT-X-GAP" in playlist) is gaps


def test_what_is_not_fetched_any_more_keeps_its_bandwidth(open_studio, tracks):
    """Or players would take the largest picture for the cheapest."""
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(4.5)
    window = studio.window()
    before = multivariant_playlist(window)
    for segment in window.segments:
        for part in segment.parts:
            part.hollow = set(part.clean)
    assert multivariant_playlist(window) == before


def test_an_init_segment_is_there_with_the_first_part(open_studio):
    studio = open_studio()
    studio.send(0.3)
    window = studio.window()
    number = window.segments[0].renditions["v1"].init
    assert window.init_bytes("v1", number) is None
    studio.send(0.5)
    window.update()
    assert window.init_bytes("v1", number)
