"""Segments and parts from marked packets: the same ones everywhere."""

import struct
from collections.abc import Callable
from typing import Any

import pytest

from media.package.window import LiveWindow
from media.track.model import Track
from media.track.stream import StreamState

SECOND = 1_000_000


def objects(window: LiveWindow, name: str) -> dict[str, bytes]:
    """Every object of one rendition that can be had, by its name."""
    made = {}
    for segment in window.segments:
        whole = window.segment_bytes(name, segment.msn)
        if whole is not None:
            made[f"{segment.msn}.m4s"] = b"".join(whole)
        for part in segment.complete_parts():
            data = window.part_bytes(name, segment.msn, part.index)
            if data is not None:
                made[f"{segment.msn}.{part.index}.m4s"] = data
    return made


def durations(window: LiveWindow) -> dict[tuple[int, int], int]:
    return {
        (segment.msn, part.index): part.duration_us
        for segment in window.segments
        for part in segment.complete_parts()
    }


def top_boxes(data: bytes) -> list[tuple[str, int]]:
    boxes = []
    position = 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        boxes.append((kind.decode(), position))
        position += size
    return boxes


def base_times(data: bytes) -> dict[int, int]:
    """Track id to base media decode time of one fragment."""
    times = {}
    position = data.find(b"tfhd")
    while position >= 0:
        track_id = int.from_bytes(data[position + 8 : position + 12])
        tfdt = data.find(b"tfdt", position)
        times[track_id] = int.from_bytes(data[tfdt + 8 : tfdt + 16])
        position = data.find(b"tfhd", tfdt)
    return times


def test_segments_and_parts_follow_the_marks(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(7)
    window = studio.window()
    assert [segment.msn - 1_700_000_000 for segment in window.segments] == [0, 1, 2, 3]
    assert [len(segment.parts) for segment in window.segments] == [4, 4, 4, 2]
    assert [segment.complete for segment in window.segments] == [True, True, True, False]
    assert window.newest() == (1_700_000_003, 0)
    assert window.upcoming() == (1_700_000_003, 1)
    ring = studio.stream.ring
    indices = [index for s in window.segments for p in s.parts for index in range(p.first, p.stop)]
    assert indices == list(range(ring.next))


def test_durations_add_up_to_media_time_exactly(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(41)
    window = studio.window()
    for before, after in zip(window.segments, window.segments[1:], strict=False):
        assert before.duration_us == after.start_us - before.start_us
        assert before.section.unix_us_at(before.start_us) == before.unix_us


@pytest.mark.parametrize("first_s", [0, 2, 5, 6, 13.3])
def test_a_node_that_joins_later_makes_the_same(
    first_s: float, open_studio: Callable[..., Any], copy_of: Any, tracks: dict[str, Track]
) -> None:
    """Over a publisher that comes back, a picture that is lost, changed tracks, and the end."""
    studio = open_studio()
    origin = studio.window()
    studio.send(6.3, on_flush=origin.update)
    studio.send(4, silent=[1])
    origin.update()
    studio.send(4.1, on_flush=origin.update)
    studio.again(tracks["video"])
    studio.send(5, on_flush=origin.update)
    studio.again(tracks["video"], tracks["audio"], tracks["french"])
    first = next(
        i
        for i in range(studio.stream.ring.next)
        if studio.stream.ring.get(i).dts_us >= (4 + first_s) * SECOND
    )
    copy = copy_of(studio.stream, first)
    copy.follow()
    edge = LiveWindow(copy.stream)

    def follow() -> None:
        origin.update()
        copy.follow()
        edge.update()

    studio.send(5.4, on_flush=follow)
    studio.end()
    follow()
    assert edge.segments[0].msn == copy.stream.ring.get(copy.stream.ring.segment_starts()[0]).segment
    for name in ("v1", "a2", "a3"):
        here, there = objects(origin, name), objects(edge, name)
        held = {segment.msn for segment in edge.segments[1:]}
        assert {k: v for k, v in here.items() if int(k.partition(".")[0]) in held} == {
            k: v for k, v in there.items() if int(k.partition(".")[0]) in held
        }
    lengths = durations(origin)
    assert all(lengths[key] == length for key, length in durations(edge).items() if key[0] in held)
    for segment in edge.segments[1:]:
        twin = origin.find(segment.msn)
        assert twin is not None
        assert (twin.start_us, twin.unix_us) == (segment.start_us, segment.unix_us)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_how_packets_arrive_makes_no_difference(
    batch: int, open_studio: Callable[..., Any], copy_of: Any
) -> None:
    studio = open_studio()
    studio.send(9)
    whole = studio.window()
    copy = copy_of(studio.stream)
    edge = LiveWindow(copy.stream)
    while copy.stream.ring.next < studio.stream.ring.next:
        copy.follow(batch)
        edge.update()
    assert objects(edge, "v1") == objects(whole, "v1")
    assert durations(edge) == durations(whole)
    assert edge.newest() == whole.newest() and edge.upcoming() == whole.upcoming()


def test_a_segment_is_its_parts(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(4.2)
    window = studio.window()
    segment = window.segments[0]
    parts = [window.part_bytes("v1", segment.msn, index) for index in range(4)]
    assert window.segment_bytes("v1", segment.msn) == tuple(parts)
    for part in parts:
        assert part is not None
        assert [kind for kind, _ in top_boxes(part)] == ["moof", "mdat"]
    times = [base_times(part or b"") for part in parts]
    assert [time[1] for time in times] == [360_000, 405_000, 450_000, 495_000]


def test_what_does_not_exist_is_none(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    window = studio.window()
    assert window.newest() is None and window.rendition("v1") is None
    assert window.find(0) is None and window.init_bytes("v1", 0) is None
    studio.send(4.6)
    window.update()
    msn = window.segments[-1].msn
    assert window.segment_bytes("v1", msn) is None
    assert window.part_bytes("v1", msn, 0) is not None
    assert window.part_bytes("v1", msn, 1) is None
    assert window.part_bytes("v1", msn, 4) is None
    assert window.part_bytes("v1", msn, -1) is None
    assert window.part_bytes("v9", msn, 0) is None
    assert window.segment_bytes("v1", msn + 1) is None
    assert window.segment_bytes("v1", msn - 100) is None
    rendition = window.rendition("v1")
    assert rendition is not None
    assert window.init_bytes("v1", rendition.init) is not None
    assert window.init_bytes("v1", rendition.init + 1) is None


def test_objects_go_with_the_ring(open_studio: Callable[..., Any]) -> None:
    studio = open_studio(window_us=8 * SECOND)
    window = studio.window()
    studio.send(60, on_flush=window.update)
    assert 4 <= len(window.segments) <= 6
    assert window.find(1_700_000_010) is None
    oldest = window.segments[0]
    assert window.segment_bytes("v1", oldest.msn) is not None
    assert oldest.parts[0].first >= studio.stream.ring.first


def test_a_window_that_was_overrun_begins_anew(open_studio: Callable[..., Any]) -> None:
    studio = open_studio(window_us=8 * SECOND)
    window = studio.window()
    studio.send(4.2)
    window.update()
    version = window.version
    studio.send(60)
    assert window.update() and window.version > version
    fresh = studio.window()
    assert [s.msn for s in window.segments] == [s.msn for s in fresh.segments]
    assert objects(window, "v1") == objects(fresh, "v1")


def test_a_segment_too_large_for_the_ring_is_not_offered(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.stream.ring._max_bytes = 100_000
    window = studio.window()
    studio.send(19, gop=10_000, on_flush=window.update)
    assert studio.stream.ring.segment_starts() == []
    assert window.segments == [] and studio.window().segments == []
    assert window.newest() is None
    studio.again(*studio.tracks)
    studio.send(3.2, on_flush=window.update)
    assert [segment.msn for segment in window.segments] == [1_700_000_001, 1_700_000_002]
    assert objects(window, "v1") == objects(studio.window(), "v1")


def test_version_grows_exactly_when_playlists_change(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    window = studio.window()
    changes: list[bool] = []

    def on_flush() -> None:
        before = (window.newest(), window.version)
        changed = window.update()
        assert changed == (window.version != before[1]) == (window.newest() != before[0])
        changes.append(changed)

    studio.send(10.1, on_flush=on_flush)
    assert sum(changes) == 20
    assert not window.update()


def test_a_publisher_that_goes_completes_what_it_began(open_studio: Callable[..., Any], copy_of: Any) -> None:
    studio = open_studio()
    window = studio.window()
    studio.send(3.2)
    window.update()
    studio.end(StreamState.LINGERING)
    assert window.update()
    assert window.segments[-1].complete
    assert window.upcoming() == (1_700_000_002, 0)
    assert window.segments[-1].parts[-1].duration_us == pytest.approx(200_000, abs=1_500)
    made = objects(window, "v1")
    assert not window.update()
    studio.stream.state = StreamState.ENDED
    assert window.update() and window.ended
    assert not window.update()
    assert objects(window, "v1") == made


def test_frames_that_were_lost_do_not_make_a_part_longer(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(4.3)
    studio.published_us += 1_400_000
    studio.send(3)
    window = studio.window()
    assert max(durations(window).values()) < 502_000
    assert {packet.discontinuity for packet in studio.stream.ring.slice(0, 10_000)} == {0}


def test_sound_that_leads_while_the_picture_is_silent(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    window = studio.window()
    studio.send(4.3)
    studio.send(2.2, silent=[1])
    window.update()
    assert window.newest() is not None and window.newest() >= (1_700_000_002, 2)
    studio.send(4)
    window.update()
    for before, after in zip(window.segments, window.segments[1:], strict=False):
        assert before.duration_us == pytest.approx(after.start_us - before.start_us, abs=1_000)
    silent = window.segments[2].parts[2]
    rendition = window.rendition("v1")
    assert rendition is not None
    assert silent.holds(rendition) and not silent.starts_clean(rendition)
    data = window.part_bytes("v1", 1_700_000_002, 2)
    assert data is not None and base_times(data).keys() == {2}


def test_renditions_of_several_sounds_have_only_theirs(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(4.2)
    window = studio.window()
    for number, name in enumerate(("v1", "a2", "a3"), 1):
        data = window.part_bytes(name, 1_700_000_000, 1)
        assert data is not None and base_times(data).keys() == {number}


def test_a_sound_that_is_silent_has_no_objects(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(4.2, silent=[3])
    window = studio.window()
    assert window.part_bytes("a3", 1_700_000_000, 0) is None
    assert window.segment_bytes("a3", 1_700_000_000) is None
    assert window.segment_bytes("a2", 1_700_000_000) is not None


def test_inits_are_had_while_a_segment_needs_them(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    studio = open_studio(window_us=8 * SECOND)
    window = studio.window()
    studio.send(6, on_flush=window.update)
    first = window.rendition("v1")
    studio.again(tracks["video"])
    studio.send(6, on_flush=window.update)
    second = window.rendition("v1")
    assert first is not None and second is not None and first.init != second.init
    with_sound, without = window.init_bytes("v1", first.init), window.init_bytes("v1", second.init)
    assert with_sound is not None and without is not None
    assert b"mp4a" in with_sound and b"mp4a" not in without
    studio.send(30, on_flush=window.update)
    assert window.init_bytes("v1", first.init) is None
    assert window.init_bytes("v1", second.init) == without
