"""The ring's bounds and its readers' cursors."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from media.track.model import Codec, Packet, Track
from media.track.ring import PACKET_OVERHEAD_BYTES, SEGMENTS_MIN, Cursor, Ring

SECOND = 1_000_000
TRACK = Track(1, Codec.H264, 90_000, b"")


def packet(at_s: float, segment: int, group: int, size: int = 100) -> Packet:
    return Packet(TRACK, round(at_s * 90_000), 0, 9_000, True, bytes(size), group, segment, 0, 0)


def fill(ring: Ring, seconds: Iterable[int], size: int = 100) -> None:
    """Ten packets a second, segments of two seconds, groups of one."""
    for second in seconds:
        for tenth in range(10):
            ring.append(packet(second + tenth / 10, second // 2, second, size))


def test_whole_segments_go_when_the_window_is_over() -> None:
    ring = Ring(16 * SECOND)
    fill(ring, range(17))
    assert ring.first == 0
    fill(ring, range(17, 101))
    assert (ring.first, ring.next) == (840, 1010)
    assert ring.segment_starts() == list(range(840, 1010, 20))
    assert ring.get(840).segment == 42
    assert ring.newest_group() == 1000
    statistics = ring.statistics
    assert (statistics.packets, statistics.held_packets, statistics.held_bytes) == (1010, 170, 17_000)
    with pytest.raises(IndexError):
        ring.get(839)
    with pytest.raises(IndexError):
        ring.get(1010)


def test_long_segments_are_kept_while_a_playlist_needs_them() -> None:
    ring = Ring(16 * SECOND)
    for second in range(200):
        ring.append(packet(second, second // 20, second // 20))
    assert len(ring.segment_starts()) == SEGMENTS_MIN


def test_the_oldest_segments_go_when_the_ring_is_too_large() -> None:
    limit = 20 * (1000 + PACKET_OVERHEAD_BYTES) * 3
    ring = Ring(3600 * SECOND, limit)
    fill(ring, range(20), 1000)
    assert ring.statistics.held_packets <= 60
    assert ring.first == 140
    assert ring.segment_starts() == [140, 160, 180]
    assert ring.statistics.evicted_by_size > 0


def test_a_segment_too_large_for_the_ring_loses_its_beginning() -> None:
    ring = Ring(3600 * SECOND, 50 * (1000 + PACKET_OVERHEAD_BYTES))
    for index in range(1000):
        ring.append(packet(index / 10, 7, 7, 1000))
        assert ring.statistics.held_packets <= 50
    assert ring.segment_starts() == []
    assert ring.newest_group() == ring.next
    ring.append(packet(100, 8, 8, 1000))
    assert ring.segment_starts() == [1000]
    assert ring.newest_group() == 1000


def test_many_empty_packets_are_bounded_too() -> None:
    ring = Ring(3600 * SECOND, 100_000)
    for index in range(10_000):
        ring.append(packet(1 + index / 90_000, 1, 1, 0))
    assert ring.statistics.held_packets <= 100_000 / PACKET_OVERHEAD_BYTES


def test_the_newest_packet_stays_however_large() -> None:
    ring = Ring(SECOND, 1000)
    ring.append(packet(1, 1, 1, 5000))
    ring.append(packet(2, 2, 2, 5000))
    assert [p.segment for p in ring.slice(0, ring.next)] == [2]


def test_groups_are_found_by_index() -> None:
    ring = Ring(16 * SECOND)
    fill(ring, range(100))
    first = ring.first
    assert ring.group_at_or_before(995) == 990
    assert ring.group_at_or_before(990) == 990
    assert ring.group_at_or_before(3) == first
    assert ring.group_at_or_after(981) == 990
    assert ring.group_at_or_after(991) == ring.next
    assert ring.group_at_or_after(0) == first


def test_slices_give_what_is_held() -> None:
    ring = Ring(16 * SECOND)
    fill(ring, range(100))
    assert ring.slice(0, 10) == []
    assert len(ring.slice(ring.first - 5, ring.first + 5)) == 5
    assert len(ring.slice(995, 2000)) == 5
    assert ring.slice(1000, 2000) == []


def test_a_cursor_starts_at_the_newest_group_and_reads_on() -> None:
    ring = Ring(16 * SECOND)
    fill(ring, range(5))
    cursor = Cursor(ring)
    assert [p.group for p in cursor.read(4)] == [4] * 4
    assert len(cursor.read(100)) == 6
    assert cursor.read(100) == []
    fill(ring, range(5, 6))
    assert len(cursor.read(100)) == 10
    assert (cursor.skips, cursor.skipped_packets) == (0, 0)


def test_a_cursor_at_the_beginning_reads_everything() -> None:
    ring = Ring(16 * SECOND)
    cursor = Cursor(ring, 0)
    fill(ring, range(3))
    assert len(cursor.read(1000)) == 30


def test_an_overrun_cursor_skips_to_the_newest_group() -> None:
    ring = Ring(16 * SECOND)
    cursor = Cursor(ring)
    fill(ring, range(100))
    packets = cursor.read(5)
    assert packets[0].group == 99
    assert (cursor.skips, cursor.skipped_packets) == (1, 990)


def test_a_late_cursor_skips_when_it_can_begin_anew() -> None:
    ring = Ring(60 * SECOND)
    fill(ring, range(1))
    cursor = Cursor(ring, late_us=3 * SECOND)
    cursor.read(1)
    fill(ring, range(1, 3))
    assert cursor.read(1)[0].group == 0
    fill(ring, range(3, 9))
    assert cursor.read(1)[0].group == 8
    assert cursor.skips == 1


def test_a_late_cursor_reads_on_when_there_is_no_newer_group() -> None:
    ring = Ring(60 * SECOND)
    cursor = Cursor(ring, late_us=SECOND)
    for index in range(100):
        ring.append(packet(index / 10, 1, 1))
    assert len(cursor.read(1000)) == 100
    assert cursor.skips == 0


def test_a_cursor_without_a_group_to_begin_with_waits_for_one() -> None:
    ring = Ring(3600 * SECOND, 50 * (1000 + PACKET_OVERHEAD_BYTES))
    for index in range(200):
        ring.append(packet(index / 10, 7, 7, 1000))
    cursor = Cursor(ring)
    assert cursor.read(100) == []
    ring.append(packet(20, 7, 7, 1000))
    assert cursor.read(100) == []
    ring.append(packet(20.1, 8, 8, 1000))
    ring.append(packet(20.2, 8, 8, 1000))
    assert [p.group for p in cursor.read(100)] == [8, 8]
    assert cursor.skipped_packets == 1


def test_an_unwatched_stream_holds_its_window_and_little_more(
    open_studio: Callable[..., Any], made: Any
) -> None:
    """3 Mb/s in segments of two seconds; the last segment is being made while the first is kept."""
    studio = open_studio(window_us=16 * SECOND)
    picture_bytes = 3_000_000 // 8 // 30
    frames = made.merged(made.pictures(120), made.sounds(120))
    for frame in frames:
        size = picture_bytes if frame.track_id == 1 else 200
        studio.writer.write(type(frame)(frame.track_id, frame.dts_us, 0, frame.keyframe, bytes(size)), 0.0)
    held = studio.stream.ring.statistics
    assert held.held_bytes < 18.1 * (3_000_000 / 8 + 200 * 44)
    assert held.held_packets * PACKET_OVERHEAD_BYTES < 0.06 * held.held_bytes
