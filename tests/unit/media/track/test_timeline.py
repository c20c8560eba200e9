"""Repair of publishers' timestamps, as readers see it in the packets."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from media.track.model import Codec, Frame, Packet, Track
from media.track.timeline import MEDIA_START_US, Timeline

SECOND = 1_000_000
DAYS_49 = 4_294_967_296_000


def steps(packets: list[Packet]) -> list[int]:
    return [after.dts - before.dts for before, after in pairwise(packets)]


def times(packets: list[Packet]) -> list[float]:
    """Media time in seconds from the stream's first."""
    return [(packet.dts_us - MEDIA_START_US) / SECOND for packet in packets]


def sync_error_us(packets: list[Packet], frames: list[Frame]) -> int:
    """How far sound moved against picture, at most, between what was published and what came out.

    `frames` and `packets` must correspond one to one.
    """
    assert len(packets) == len(frames)
    moves: dict[int, list[int]] = {1: [], 2: []}
    for packet, frame in zip(packets, frames, strict=True):
        moves[packet.track.id].append(packet.dts_us - frame.dts_us)
    return max(abs(a - v) for a in (min(moves[2]), max(moves[2])) for v in (min(moves[1]), max(moves[1])))


@pytest.mark.parametrize("rate", [44_100, 48_000, 22_050, 8_000])
def test_an_hour_of_rounded_sound_is_exactly_gapless(rate: int, made: Any) -> None:
    track = Track(2, Codec.AAC, rate, b"", sample_rate=rate, channels=2)
    timeline = Timeline()
    expected = None
    for frame in made.sounds(3600, rate):
        repaired = timeline.repair(track, frame, 1024)
        assert repaired is not None and not repaired.jumped
        assert expected is None or repaired.dts == expected
        expected = repaired.dts + 1024
    statistics = timeline.statistics
    assert (statistics.jumps, statistics.audio_gaps, statistics.backward, statistics.outliers) == (0, 0, 0, 0)


@pytest.mark.parametrize("ppm", [-300, -100, 100, 300])
def test_sound_follows_a_clock_that_runs_otherwise_without_a_click(ppm: int, made: Any) -> None:
    track, timeline = made.AUDIO, Timeline()
    last = None
    worst_us = 0
    for frame in made.sounds(1800):
        true_us = frame.dts_us * (1_000_000 + ppm) // 1_000_000
        repaired = timeline.repair(track, Frame(2, true_us, 0, True, b""), 1024)
        assert repaired is not None
        if last is not None:
            assert abs(repaired.dts - last - 1024) <= 1
        last = repaired.dts
        worst_us = max(worst_us, abs(repaired.dts_us - MEDIA_START_US - true_us))
    assert worst_us < 8_000
    assert timeline.statistics.audio_gaps == timeline.statistics.backward == 0


def test_a_lost_sound_frame_is_closed_up_and_made_good_unheard(made: Any) -> None:
    frames = made.sounds(60)
    del frames[100]
    timeline = Timeline()
    dts = [timeline.repair(made.AUDIO, frame, 1024).dts for frame in frames]  # type: ignore[union-attr]  # none is dropped
    assert {after - before for before, after in pairwise(dts)} <= {1024, 1025}
    assert dts[-1] - dts[0] > (len(frames) - 1) * 1024 + 700


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 60, 120, 5, 1])
def test_video_keeps_its_times(fps: Fraction | int, open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO)
    frames = made.pictures(20, fps, 2 * int(fps))
    packets = studio.publish(frames)
    assert [packet.dts_us - MEDIA_START_US for packet in packets] == pytest.approx(
        [frame.dts_us for frame in frames], abs=12
    )
    usual = SECOND / fps
    assert all(abs(p.duration * SECOND / 90_000 - usual) <= 1_000 for p in packets[2:])


def test_both_tracks_start_over_and_stay_in_sync(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    before = made.merged(made.pictures(20), made.sounds(20))
    after = made.merged(made.pictures(20), made.sounds(20))
    frames = made.shifted(before, DAYS_49 - 20 * SECOND) + after
    packets = studio.publish(frames)
    assert studio.stream.statistics(studio.now).timestamp_jumps == 2
    assert max(steps(studio.packets(1))) < 90_000 / 30 + 200
    assert set(steps(studio.packets(2))) <= {1023, 1024, 1025}
    assert sync_error_us(packets[-1000:], frames[-1000:]) < 30_000
    assert times(packets)[-1] == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("jump_us", [-DAYS_49 // 2, -5 * SECOND, -2 * SECOND, 5 * SECOND, 3600 * SECOND])
@pytest.mark.parametrize("apart_s", [0.2, 2.0, 4.0])
def test_tracks_that_jump_one_after_the_other_stay_in_sync(
    first: int, jump_us: int, apart_s: float, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    original = made.shifted(made.merged(made.pictures(30), made.sounds(30)), DAYS_49)
    base = original[0].dts_us
    frames = []
    for frame in original:
        jumps_at = 10.0 if frame.track_id == first else 10.0 + apart_s
        moved = frame.dts_us - base >= jumps_at * SECOND
        frames.append(made.shifted([frame], jump_us if moved else 0)[0])
    packets = []
    kept = []
    for frame in frames:
        new = studio.publish([frame])
        packets += new
        kept += [frame] * len(new)
    assert sync_error_us(packets[-800:], kept[-800:]) < 30_000
    video = studio.packets(1)
    assert max(steps(video)) < 90_000 * 0.1
    assert len(kept) > len(frames) - 8


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("error_us", [-3600 * SECOND, -4 * SECOND, 2 * SECOND, 60 * SECOND, 10**15])
def test_one_wrong_timestamp_changes_nothing_but_its_own(
    kind: int, error_us: int, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    frames = made.merged(made.pictures(20, gop=0), made.sounds(20))
    wrong = next(i for i, f in enumerate(frames) if f.track_id == kind and f.dts_us >= 10 * SECOND)
    frames[wrong] = made.shifted([frames[wrong]], error_us)[0]
    packets = studio.publish(frames)
    assert len(packets) == len(frames)
    for index, (packet, frame) in enumerate(zip(packets, frames, strict=True)):
        if index != wrong:
            assert packet.dts_us - MEDIA_START_US == pytest.approx(frame.dts_us, abs=2_000)
    assert packets[wrong].dts_us - MEDIA_START_US == pytest.approx(10 * SECOND, abs=60_000)
    assert {packet.discontinuity for packet in packets} == {0}
    assert studio.stream.statistics(studio.now).timestamp_outliers == 1


def test_a_wrong_keyframe_time_is_mended_by_the_other_track(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    frames = made.merged(made.pictures(20, gop=30), made.sounds(20))
    wrong = next(
        i for i, f in enumerate(frames) if f.track_id == 1 and f.dts_us >= 10 * SECOND and f.keyframe
    )
    frames[wrong] = made.shifted([frames[wrong]], 3600 * SECOND)[0]
    packets = studio.publish(frames)
    assert sync_error_us(packets[-400:], frames[-400:]) < 2_000


def test_a_small_step_too_far_is_waited_out(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    frames = made.merged(made.pictures(20, gop=0), made.sounds(20))
    wrong = next(i for i, f in enumerate(frames) if f.track_id == 1 and f.dts_us >= 10 * SECOND)
    frames[wrong] = made.shifted([frames[wrong]], SECOND)[0]
    packets = studio.publish(frames)
    assert sync_error_us(packets[-400:], frames[-400:]) < 2_000


@pytest.mark.parametrize("error_us", [300_000, SECOND, 1_400_000])
def test_a_small_step_too_far_while_the_other_track_is_silent(
    error_us: int, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    sounds = [f for f in made.sounds(20) if not 9 * SECOND <= f.dts_us < 13 * SECOND]
    frames = made.merged(made.pictures(20, gop=0), sounds)
    wrong = next(i for i, f in enumerate(frames) if f.track_id == 1 and f.dts_us >= 10 * SECOND)
    frames[wrong] = made.shifted([frames[wrong]], error_us)[0]
    packets = studio.publish(frames)
    assert sync_error_us(packets[-400:], frames[-400:]) < 2_000


@pytest.mark.parametrize("jump_us", [-1_500_000, 2 * SECOND, 3600 * SECOND])
@pytest.mark.parametrize("silent", [1, 2])
def test_a_jump_while_a_track_is_silent(
    silent: int, jump_us: int, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    content = made.shifted(made.merged(made.pictures(30), made.sounds(30)), 10 * SECOND)
    frames = [
        made.shifted([f], jump_us if f.dts_us >= 22 * SECOND else 0)[0]
        for f in content
        if not (f.track_id == silent and 20 * SECOND <= f.dts_us < 24 * SECOND)
    ]
    packets = studio.publish(frames)
    assert sync_error_us(packets[-400:], frames[-400:]) < 30_000


def test_a_long_stall_is_closed(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    content = made.merged(made.pictures(20), made.sounds(20))
    frames = [f for f in content if f.dts_us < 4 * SECOND] + [f for f in content if f.dts_us >= 10 * SECOND]
    packets = studio.publish(frames)
    assert times(packets)[-1] == pytest.approx(14, abs=0.1)
    sections = studio.stream.sections
    assert len(sections) == 2
    # Wall clock is right again with the first keyframe after the stall.
    wall_us = sections[1].unix_us - sections[0].unix_us
    assert wall_us == pytest.approx(10 * SECOND, abs=50_000)


def test_a_short_stall_stays_a_hole(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    content = made.merged(made.pictures(20), made.sounds(20))
    frames = [f for f in content if f.dts_us < 4 * SECOND] + [f for f in content if f.dts_us >= 6 * SECOND]
    packets = studio.publish(frames)
    assert times(packets)[-1] == pytest.approx(20, abs=0.1)
    assert {packet.discontinuity for packet in packets} == {0}


@pytest.mark.parametrize("gap_s", [0.5, 2, 5, 20])
@pytest.mark.parametrize("silent", [1, 2])
def test_one_track_may_be_silent_while_the_other_goes_on(
    silent: int, gap_s: float, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    content = made.merged(made.pictures(40, gop=30), made.sounds(40))
    frames = [
        f for f in content if f.track_id != silent or not 10 * SECOND <= f.dts_us < (10 + gap_s) * SECOND
    ]
    packets = studio.publish(frames)
    assert len(packets) == len(frames)
    assert sync_error_us(packets, frames) < 30_000
    statistics = studio.stream.statistics(studio.now)
    assert (statistics.timestamp_jumps, statistics.timestamp_outliers) == (0, 0)
    assert max(packet.duration / packet.track.timescale for packet in packets) <= 1.0


def test_a_paused_clock_is_brought_back_in_line(open_studio: Callable[..., Any], made: Any) -> None:
    """An encoder that stopped counting while its camera was off."""
    studio = open_studio()
    frames = made.merged(made.pictures(10), made.shifted(made.pictures(10), 20 * SECOND), made.sounds(30))
    raw = [
        made.shifted([f], -10 * SECOND)[0] if f.track_id == 1 and f.dts_us >= 20 * SECOND else f
        for f in frames
    ]
    packets = studio.publish(raw)
    assert packets[-1].dts_us - [p for p in packets if p.track.id == 1][-1].dts_us == pytest.approx(
        0, abs=100_000
    )


def test_duplicates_move_half_a_frame_and_the_next_is_in_place(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio(made.VIDEO)
    frames = made.pictures(4)
    frames[31:31] = [Frame(1, frames[30].dts_us, 0, False, b"D")]
    packets = studio.publish(frames)
    assert len(packets) == len(frames)
    assert packets[31].dts - packets[30].dts == pytest.approx(1_500, abs=50)
    assert packets[32].dts - packets[30].dts == pytest.approx(3_000, abs=100)
    assert studio.stream.statistics(studio.now).timestamps_duplicate == 1


def test_paired_timestamps_spread(open_studio: Callable[..., Any], made: Any) -> None:
    """60 frames a second on a clock of 30 Hz."""
    studio = open_studio(made.VIDEO)
    frames = [f for single in made.pictures(6) for f in (single, Frame(1, single.dts_us, 0, False, b"D"))]
    packets = studio.publish(frames)
    assert len(packets) == len(frames)
    assert min(steps(packets)[8:]) >= 900
    assert times(packets)[-1] == pytest.approx(6, abs=0.1)


def test_a_clock_that_stands_still_still_makes_time(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO)
    packets = studio.publish([Frame(1, 0, 0, index % 30 == 0, b"") for index in range(300)])
    assert len(packets) == 300
    assert min(steps(packets)) > 0
    assert 3 < times(packets)[-1] < 12


def test_disorder_of_some_frames_is_put_in_order(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO)
    frames = made.pictures(4, gop=0)
    frames[40], frames[41] = frames[41], frames[40]
    packets = studio.publish(frames)
    assert len(packets) == len(frames)
    assert min(steps(packets)) > 0
    statistics = studio.stream.statistics(studio.now)
    assert (statistics.timestamps_backward, statistics.timestamp_jumps) == (1, 0)
    assert [p.dts_us - MEDIA_START_US for p in packets[42:]] == pytest.approx(
        [f.dts_us for f in frames[42:]], abs=12
    )


@pytest.mark.parametrize("skew_us", [-700_000, -60_000, 60_000, 700_000])
def test_a_publisher_that_comes_back_continues(
    skew_us: int, open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    studio.publish(made.merged(made.pictures(6), made.sounds(6)))
    end_us = studio.stream.newest_us
    studio.again()
    studio.now += 3
    content = made.merged(made.pictures(6), made.shifted(made.sounds(6), skew_us))
    raw = made.shifted(content, DAYS_49 // 3)
    packets = studio.publish(raw)
    assert packets[0].keyframe and packets[0].discontinuity == 1
    assert packets[0].dts_us - end_us == pytest.approx(max(0, -skew_us), abs=10)
    for track in (1, 2):
        assert min(steps(studio.packets(track))) > 0
    last_sound = [p for p in packets if p.track.id == 2][-1]
    last_picture = [p for p in packets if p.track.id == 1][-1]
    out_us = last_sound.dts_us - last_picture.dts_us
    assert out_us == pytest.approx(skew_us, abs=60_000)


def test_a_publisher_that_comes_back_with_another_sample_rate(
    open_studio: Callable[..., Any], made: Any
) -> None:
    studio = open_studio()
    studio.publish(made.merged(made.pictures(4), made.sounds(4)))
    faster = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
    studio.again(made.VIDEO, faster)
    packets = studio.publish(made.merged(made.pictures(4), made.sounds(4, 48_000)))
    sound = [p for p in packets if p.track.id == 2]
    assert set(steps(sound)) <= {1024, 1025}
    assert times(sound)[0] == pytest.approx(4, abs=0.1)


def test_tracks_on_clocks_of_their_own(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    video = [(f.dts_us, made.shifted([f], DAYS_49)[0]) for f in made.pictures(10)]
    audio = [(f.dts_us, f) for f in made.sounds(10)]
    packets = studio.publish([frame for _, frame in sorted(video + audio, key=lambda pair: pair[0])])
    sound, picture = studio.packets(2), studio.packets(1)
    assert sound[-1].dts_us - picture[-1].dts_us == pytest.approx(0, abs=50_000)
    assert {p.discontinuity for p in packets} == {0}


def test_composition_offsets(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO)
    offsets = [0, 66_000, 33_000, -33_000, 0, 66_000, 10**12, -(10**12)]
    frames = [Frame(1, i * 33_000, offset, i == 0, b"") for i, offset in enumerate(offsets)]
    packets = studio.publish(frames)
    milliseconds = [packet.cts // 90 for packet in packets]
    assert milliseconds == [0, 66, 33, 0, 33, 99, 33, 33]
    assert studio.stream.statistics(studio.now).bad_composition_offsets == 3
