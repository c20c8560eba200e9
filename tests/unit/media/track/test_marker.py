"""Where sections, segments, groups and parts begin."""

from collections.abc import Callable
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

import pytest

from media.track.marker import LEADER_LOST_US, LEADER_WAIT_US, RETURN_WAIT_US
from media.track.model import Codec, Kind, Packet, Track

SECOND = 1_000_000
NTSC = Fraction(30000, 1001)
VIDEO_2 = Track(2, Codec.H264, 90_000, b"2", width=160, height=90)
AUDIO_3 = Track(3, Codec.AAC, 44_100, b"\x12\x10", sample_rate=44_100, channels=2)


def starts(packets: list[Packet], *fields: str) -> list[Packet]:
    """The first packets of each run with the same marks."""
    return [next(run) for _, run in groupby(packets, lambda p: tuple(getattr(p, field) for field in fields))]


def segments(packets: list[Packet]) -> list[list[Packet]]:
    return [list(run) for _, run in groupby(packets, lambda packet: packet.segment)]


def lengths_s(firsts: list[Packet]) -> list[float]:
    return [(after.dts_us - before.dts_us) / SECOND for before, after in pairwise(firsts)]


def parts_s(packets: list[Packet]) -> list[list[float]]:
    """Lengths of the parts of each complete segment."""
    lengths = []
    for segment, following in pairwise(segments(packets)):
        firsts = [*starts(segment, "part"), following[0]]
        lengths.append(lengths_s(firsts))
    return lengths


def check_marks(packets: list[Packet]) -> None:
    """What every reader relies on."""
    first = packets[0]
    assert (first.part, first.discontinuity) == (0, 0)
    previous = first
    for packet in packets[1:]:
        if packet.segment == previous.segment:
            assert packet.part - previous.part in (0, 1)
            assert packet.discontinuity == previous.discontinuity
        else:
            assert (packet.segment, packet.part) == (previous.segment + 1, 0)
            assert packet.discontinuity - previous.discontinuity in (0, 1)
        assert packet.group - previous.group in (0, 1)
        if packet.discontinuity != previous.discontinuity:
            assert packet.group != previous.group
        previous = packet
    for packet in starts(packets, "group"):
        assert packet.keyframe


@pytest.mark.parametrize("gop_s", [1, 2])
@pytest.mark.parametrize("fps", [30, NTSC, 25, 24, Fraction(24000, 1001), 50, 60, 120, 48, 15, 12, 10, 5])
@pytest.mark.parametrize("part_us", [200_000, 333_000, 500_000, 1_000_000])
def test_parts_keep_to_the_rules_of_low_latency(
    fps: Fraction | int, gop_s: int, part_us: int, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio(part_us=part_us)
    packets = studio.publish(made.merged(made.pictures(21, fps, round(fps * gop_s)), made.sounds(21)))
    check_marks(packets)
    target_s = studio.stream.part_target_us / SECOND
    assert target_s <= max(part_us / SECOND, float(1 / fps)) * 1.1
    for lengths in parts_s(packets):
        assert all(0.85 * target_s <= length for length in lengths[:-1]), lengths
        assert all(length <= target_s for length in lengths), lengths
    longs = lengths_s(starts(packets, "segment"))
    assert longs == pytest.approx([2.0] * len(longs), abs=0.2)


def test_one_frame_a_second(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    packets = studio.publish(made.merged(made.pictures(30, 1, 2), made.sounds(30)))
    check_marks(packets)
    assert studio.stream.part_target_us == pytest.approx(SECOND, abs=3_000)
    assert {round(length, 1) for lengths in parts_s(packets)[1:] for length in lengths} == {1.0}


def test_a_slide_every_five_seconds(open_studio: Callable[..., Any], made: Any) -> None:
    """Sound carries the parts between the pictures; once the pace is known, no picture is dropped."""
    studio = open_studio()
    packets = studio.publish(made.merged(made.pictures(60, 0.2, 3), made.sounds(60)))
    check_marks(packets)
    assert sum(packet.track.kind is Kind.VIDEO for packet in packets) == 11
    assert max(length for lengths in parts_s(packets)[1:] for length in lengths) < 1.6
    assert {packet.discontinuity for packet in packets} == {0}


@pytest.mark.parametrize(
    ("gop_s", "expected_s"), [(0.5, 2.0), (1, 2.0), (1.5, 1.5), (2, 2.0), (3, 3.0), (10, 10.0), (0, 20.0)]
)
def test_segments_end_at_keyframes(
    gop_s: float, expected_s: float, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    packets = studio.publish(made.merged(made.pictures(62, 30, round(gop_s * 30)), made.sounds(62)))
    check_marks(packets)
    measured = lengths_s(starts(packets, "segment"))
    if gop_s == 1.5:
        assert set(measured) == {3.0}
    else:
        assert measured == pytest.approx([expected_s] * len(measured), abs=0.05)
    longest_us = studio.stream.target_duration_us
    assert longest_us == pytest.approx(max(measured) * SECOND, abs=50_000)
    groups = starts([p for p in packets if p.track.id == 1], "group")
    assert len(groups) == (1 if gop_s == 0 else -(-62 // gop_s))


def test_a_keyframe_within_a_segment_begins_a_part(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    packets = studio.publish(made.merged(made.pictures(20, 30, 15), made.sounds(20)))
    assert [p.track.id == 1 and p.keyframe for p in starts(packets, "segment", "part")] == [True] * 40


def test_sound_alone(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.AUDIO)
    packets = studio.publish(made.sounds(21))
    check_marks(packets)
    assert lengths_s(starts(packets, "segment")) == pytest.approx([2.0] * 10, abs=0.03)
    target_s = studio.stream.part_target_us / SECOND
    for lengths in parts_s(packets):
        assert all(0.85 * target_s <= length <= target_s for length in lengths[:-1])
        assert lengths[-1] <= target_s
    assert len(starts(packets, "group")) == len(starts(packets, "segment", "part"))


def test_picture_alone(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO)
    packets = studio.publish(made.pictures(20))
    check_marks(packets)
    assert lengths_s(starts(packets, "segment")) == pytest.approx([2.0] * 9)


def test_sound_that_comes_late_joins_where_it_is(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    packets = studio.publish(
        made.merged(made.pictures(20), [f for f in made.sounds(20) if f.dts_us > 7 * SECOND])
    )
    check_marks(packets)
    assert {packet.discontinuity for packet in packets} == {0}
    assert len(packets) == 600 + len([f for f in made.sounds(20) if f.dts_us > 7 * SECOND])


def test_nothing_passes_before_the_first_keyframe(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    content = made.merged(made.pictures(10), made.sounds(10))
    packets = studio.publish([f for f in content if f.dts_us > 500_000])
    check_marks(packets)
    assert packets[0].keyframe and packets[0].track.id == 1
    assert studio.stream.statistics(studio.now).dropped_before_start > 40


def test_video_that_is_described_and_never_comes(open_studio: Callable[..., Any], made: Any) -> None:
    """Sound begins alone: players would wait for a picture that was promised."""
    studio = open_studio()
    packets = studio.publish(made.sounds(20))
    check_marks(packets)
    assert packets[0].dts_us - 4 * SECOND == pytest.approx(LEADER_WAIT_US, abs=50_000)
    assert [track.id for track in studio.stream.sections[0].tracks] == [2]
    assert lengths_s(starts(packets, "segment")) == pytest.approx([2.0] * 8, abs=0.03)


def test_video_that_comes_very_late_begins_a_section(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    pictures = [f for f in made.pictures(30) if f.dts_us >= 11.5 * SECOND]
    packets = studio.publish(made.merged(pictures, made.sounds(30)))
    check_marks(packets)
    sections = studio.stream.sections
    assert [[track.id for track in section.tracks] for section in sections.values()] == [[2], [1, 2]]
    first_picture = next(packet for packet in packets if packet.track.id == 1)
    assert first_picture.discontinuity == 1 and first_picture.part == 0
    # Sound goes on while the picture's first keyframe is waited for.
    sounds = [packet for packet in packets if packet.track.id == 2]
    assert max(after.dts - before.dts for before, after in pairwise(sounds)) == 1024


def test_video_without_keyframes_holds_sound_back_for_longer(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    pictures = [f for f in made.pictures(30, gop=240) if f.dts_us > 0]
    packets = studio.publish(made.merged(pictures, made.sounds(30)))
    check_marks(packets)
    assert packets[0].track.id == 1 and packets[0].keyframe
    assert len(studio.stream.sections) == 1


@pytest.mark.parametrize("gap_s", [0.7, 1.5, 2.9])
def test_a_hiccup_of_video_lets_sound_begin_parts(
    gap_s: float, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    pictures = [f for f in made.pictures(20, gop=300) if not 5 * SECOND <= f.dts_us < (5 + gap_s) * SECOND]
    packets = studio.publish(made.merged(pictures, made.sounds(20)))
    check_marks(packets)
    # No frame is lost, nobody sees a discontinuity, and parts keep coming.
    assert sum(packet.track.id == 1 for packet in packets) == len(pictures)
    assert {packet.discontinuity for packet in packets} == {0}
    assert max(length for lengths in parts_s(packets) for length in lengths) < 1.1


@pytest.mark.parametrize("gap_s", [4.0, 10.0])
def test_sound_leads_while_video_is_lost(gap_s: float, open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    end = 5 + gap_s + 0.3
    pictures = [f for f in made.pictures(30, gop=60) if not 5 * SECOND <= f.dts_us < end * SECOND]
    packets = studio.publish(made.merged(pictures, made.sounds(30)))
    check_marks(packets)
    assert {packet.discontinuity for packet in packets} == {0}
    gone = [p for p in packets if 4 + 5 + LEADER_LOST_US / SECOND < p.dts_us / SECOND < 4 + end]
    assert {p.track.id for p in gone} == {2}
    assert max(lengths_s(starts(packets, "segment"))) < 4.1
    back = next(p for p in packets if p.track.id == 1 and p.dts_us > (4 + end) * SECOND)
    assert back.keyframe and back.part == 0
    sounds = [packet for packet in packets if packet.track.id == 2]
    assert max(after.dts - before.dts for before, after in pairwise(sounds)) <= 1025


@pytest.mark.parametrize("gap_s", [0.7, 1.5, 2.5, 4.0, 10.0])
@pytest.mark.parametrize("at_s", [4.3, 5.0, 5.9])
def test_silent_video_makes_no_segment_longer(
    at_s: float, gap_s: float, open_studio: Callable[..., Any], made: Any
) -> None:
    """The target duration of a playlist must not change (RFC 8216bis 4.4.3.1)."""
    studio = open_studio()
    pictures = [f for f in made.pictures(30) if not at_s * SECOND <= f.dts_us < (at_s + gap_s) * SECOND]
    packets = studio.publish(made.merged(pictures, made.sounds(30)))
    check_marks(packets)
    assert studio.stream.target_duration_us < 2_500_000
    # When it is back, segments begin with its keyframes again.
    assert all(p.track.id == 1 for p in starts(packets, "segment")[-4:])
    assert lengths_s(starts(packets, "segment"))[-4:] == pytest.approx([2.0] * 4)


def test_lost_video_that_has_no_keyframes_comes_back_all_the_same(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    pictures = [f for f in made.pictures(30, gop=0) if not 5 * SECOND <= f.dts_us < 10 * SECOND]
    packets = studio.publish(made.merged(pictures, made.sounds(30)))
    check_marks(packets)
    back = next(p for p in packets if p.track.id == 1 and p.dts_us > 4 * SECOND + 8 * SECOND)
    assert back.dts_us - 14 * SECOND == pytest.approx(RETURN_WAIT_US, abs=50_000)
    assert sum(p.track.id == 1 for p in packets) == pytest.approx(150 + 600 - 60, abs=2)


def test_a_hole_in_the_sound_is_not_taken_for_lost_video(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    sounds = [f for f in made.sounds(30) if not 5 * SECOND <= f.dts_us < 12 * SECOND]
    packets = studio.publish(made.merged(made.pictures(30), sounds))
    check_marks(packets)
    assert all(p.track.id == 1 for p in starts(packets, "segment", "part"))
    assert sum(p.track.id == 1 for p in packets) == 900


@pytest.mark.parametrize("ahead_us", [-900_000, -300_000, 300_000, 900_000])
def test_sound_interleaved_early_or_late_does_not_lead(
    ahead_us: int, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    order = sorted(
        [(f.dts_us, f) for f in made.pictures(30)] + [(f.dts_us - ahead_us, f) for f in made.sounds(30)],
        key=lambda pair: pair[0],
    )
    packets = studio.publish([frame for _, frame in order])
    check_marks(packets)
    assert all(p.track.id == 1 for p in starts(packets, "segment", "part"))


def test_sound_and_picture_in_turns_of_a_second(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    pictures, sounds = made.pictures(20), made.sounds(20)
    frames = [
        frame
        for second in range(20)
        for source in (sounds, pictures)
        for frame in source
        if second * SECOND <= frame.dts_us < (second + 1) * SECOND
    ]
    packets = studio.publish(frames)
    check_marks(packets)
    assert sum(p.track.id == 1 for p in packets) == 600
    assert {p.discontinuity for p in packets} == {0}
    assert max(length for lengths in parts_s(packets)[2:] for length in lengths) < 0.51


def test_a_stall_at_the_start_does_not_make_long_parts(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    content = made.merged(made.pictures(20), made.sounds(20))
    packets = studio.publish([f for f in content if not 60_000 < f.dts_us < 1_500_000])
    check_marks(packets)
    assert studio.stream.part_target_us == pytest.approx(502_000, abs=1_000)
    assert max(length for lengths in parts_s(packets)[1:] for length in lengths) < 0.503


def test_further_tracks_do_not_decide(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO, VIDEO_2, AUDIO_3)
    other = made.pictures(20, 15, 30, track=2)
    # The muxer puts the second rendition first, which has its keyframes at the same times.
    packets = studio.publish(made.merged(other, made.pictures(20), made.sounds(20, track=3)))
    check_marks(packets)
    for segment in segments(packets):
        assert segment[0].track.id == 1
        assert next(p for p in segment if p.track.id == 2).keyframe
    assert sum(p.track.id == 2 for p in packets) == 300
    for track in (1, 2, 3):
        dts = [p.dts for p in packets if p.track.id == track]
        assert dts == sorted(set(dts))


def test_a_further_rendition_goes_on_when_the_leader_stops(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio(made.VIDEO, VIDEO_2, AUDIO_3)
    leader = [f for f in made.pictures(20) if f.dts_us < 6 * SECOND]
    other = made.pictures(20, track=2)
    packets = studio.publish(made.merged(other, leader, made.sounds(20, track=3)))
    check_marks(packets)
    last_s = max(p.dts_us for p in packets if p.track.id == 2) / SECOND
    assert last_s > 4 + 20 - 1.2
    studio.writer.close("done", studio.now)
    assert len([p for p in studio.packets() if p.track.id == 2]) == 600


def test_a_track_that_is_added_waits_for_the_next_keyframe(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio(made.VIDEO)
    content = made.merged(made.pictures(12), made.sounds(12))
    studio.publish([f for f in content if f.dts_us < 3 * SECOND and f.track_id == 1])
    studio.describe(made.AUDIO)
    studio.publish([f for f in content if f.dts_us >= 3 * SECOND])
    packets = studio.packets()
    check_marks(packets)
    # The picture goes on without a break.
    assert sum(p.track.id == 1 for p in packets) == 360
    assert next(p for p in packets if p.track.id == 2).dts_us >= 8 * SECOND
    old, new = studio.stream.sections[0], studio.stream.sections[1]
    assert [track.id for track in old.tracks] == [1]
    assert [track.id for track in new.tracks] == [1, 2]
    assert new.tracks[0].init > old.tracks[0].init
    for packet in packets:
        assert packet.track in studio.stream.sections[packet.discontinuity].tracks


def test_a_changed_picture_begins_a_section_at_its_keyframe(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    studio.publish(made.merged(made.pictures(3), made.sounds(3)))
    studio.describe(Track(1, Codec.H264, 90_000, b"other", width=640, height=360))
    later = made.shifted(made.merged(made.pictures(3), made.sounds(3)), 3 * SECOND)
    packets = studio.publish(later)
    check_marks(studio.packets())
    assert packets[0].discontinuity == 1 and packets[0].keyframe
    assert packets[0].track.width == 640
    assert len(packets) == len(later)


def test_changed_sound_does_not_stop_the_picture(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    content = made.merged(made.pictures(9, gop=90), made.sounds(9))
    studio.publish([f for f in content if f.dts_us < 4 * SECOND])
    studio.describe(Track(2, Codec.AAC, 44_100, b"\x12\x08", sample_rate=44_100, channels=1))
    studio.publish([f for f in content if f.dts_us >= 4 * SECOND])
    packets = studio.packets()
    check_marks(packets)
    assert sum(p.track.id == 1 for p in packets) == 270
    for packet in packets:
        assert packet.track in studio.stream.sections[packet.discontinuity].tracks


def test_a_broken_clock_does_not_make_sections_without_end(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio(made.VIDEO)
    frames = [made.shifted([f], i * 3600 * SECOND)[0] for i, f in enumerate(made.pictures(20, 30, 1))]
    packets = studio.publish(frames)
    check_marks(packets)
    assert len(packets) == 600
    assert packets[-1].discontinuity <= 20
    assert packets[-1].segment - packets[0].segment <= 20
