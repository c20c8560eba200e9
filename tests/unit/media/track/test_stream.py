"""What a writer does to its stream."""

from collections.abc import Callable
from typing import Any

import pytest

from media.errors import Refused, StateError, WireError
from media.track.model import Codec, Frame, Kind, Track
from media.track.stream import CHANGES_MAX, TRACKS_MAX, StreamState

SECOND = 1_000_000
WALL_US = 1_800_000_100 * SECOND  # of monotonic second 100


def content(made: Any, seconds: float = 4) -> list[Frame]:
    frames: list[Frame] = made.merged(made.pictures(seconds), made.sounds(seconds))
    return frames


def test_a_stream_goes_live_with_its_first_keyframe(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    assert studio.stream.state is StreamState.STARTING
    studio.publish([Frame(2, 0, 0, True, b"a"), Frame(1, 0, 0, False, b"p")])
    assert studio.stream.state is StreamState.STARTING
    studio.publish([Frame(1, 33_000, 0, True, b"k")])
    assert studio.stream.state is StreamState.LIVE


def test_a_frame_of_an_unknown_track_is_our_fault(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    with pytest.raises(StateError, match="track 9"):
        studio.writer.write(Frame(9, 0, 0, True, b""), 100.0)


def test_the_number_of_tracks_is_bounded(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    for number in range(3, TRACKS_MAX + 1):
        studio.describe(Track(number, Codec.OPUS, 48_000, b""))
    with pytest.raises(Refused):
        studio.describe(Track(TRACKS_MAX + 1, Codec.OPUS, 48_000, b""))


def test_a_publisher_that_changes_its_mind_all_the_time_is_refused(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    with pytest.raises(Refused, match="times in a minute"):
        for number in range(CHANGES_MAX):
            studio.describe(Track(1, Codec.H264, 90_000, bytes([number])))


def test_a_publisher_that_changes_sometimes_is_not(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    for number in range(200):
        studio.describe(Track(1, Codec.H264, 90_000, bytes([number])))
        studio.now += 2


def test_tracks_are_shown_as_described_video_first(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(Track(1, Codec.OPUS, 48_000, b""), Track(2, Codec.H264, 90_000, b"c"))
    assert [track.kind for track in studio.stream.tracks.values()] == [Kind.VIDEO, Kind.AUDIO]


def test_inits_stay_while_nothing_changes(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    studio.publish(content(made))
    before = studio.stream.sections[0].tracks
    studio.describe(made.VIDEO)
    studio.publish(made.shifted(content(made), 4 * SECOND))
    assert studio.stream.sections.keys() == {0}
    studio.again(made.VIDEO, made.AUDIO)
    studio.publish(content(made))
    assert studio.stream.sections[1].tracks == before


def test_what_changes_gets_a_new_init(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    studio.publish(content(made))
    video, audio = studio.stream.sections[0].tracks
    studio.again(Track(1, Codec.H264, 90_000, b"other", width=640, height=360), made.AUDIO)
    studio.publish(content(made))
    new_video, new_audio = studio.stream.sections[1].tracks
    assert new_video.init > max(video.init, audio.init)
    assert new_audio == audio


def test_in_another_set_of_tracks_every_init_is_new(open_studio: Callable[..., Any], made: Any) -> None:
    """One number must not name an init segment with sound here and one without it there."""
    studio = open_studio()
    studio.publish(content(made))
    video, audio = studio.stream.sections[0].tracks
    studio.again(made.VIDEO)
    studio.publish(made.pictures(4))
    (alone,) = studio.stream.sections[1].tracks
    assert alone.init > max(video.init, audio.init)
    studio.again(made.VIDEO, made.AUDIO)
    studio.publish(content(made))
    assert min(track.init for track in studio.stream.sections[2].tracks) > alone.init


def test_describing_uses_up_one_number_at_most(open_studio: Callable[..., Any], made: Any) -> None:
    """Numbers come from the clock, so that they do not come back after a restart."""
    studio = open_studio()
    for _ in range(20):
        studio.publish(content(made, 1))
        studio.again(made.VIDEO, made.AUDIO)
    first = studio.stream.sections[0].tracks[0].init
    studio.describe(Track(2, Codec.AAC, 44_100, b"other", sample_rate=44_100))
    studio.publish(content(made, 1))
    assert studio.stream.tracks[2].init == first + 1
    assert studio.stream.next_segment >= first + 2


def test_the_first_numbers_come_from_the_clock(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    packets = studio.publish(content(made))
    assert packets[0].segment == 1_800_000_000
    assert packets[0].track.init == 1_800_000_000


def test_wall_clock_of_sections(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    studio.publish(content(made))
    first = studio.stream.sections[0]
    assert first.unix_us == WALL_US
    assert first.unix_us_at(first.media_us + 5) == WALL_US + 5
    studio.now += 7
    studio.again()
    studio.publish(content(made))
    assert studio.stream.sections[1].unix_us == pytest.approx(WALL_US + 11 * SECOND, abs=100_000)


def test_wall_clock_never_goes_back(open_studio: Callable[..., Any], made: Any) -> None:
    """A publisher that sent what it had saved up was ahead of the clock."""
    studio = open_studio()
    for frame in content(made):
        studio.writer.write(frame, 100.0)
    studio.again()
    studio.publish(content(made))
    before, after = studio.stream.sections[0], studio.stream.sections[1]
    assert after.unix_us == before.unix_us_at(after.media_us) > WALL_US + 3 * SECOND


def test_sections_that_nobody_can_ask_for_are_forgotten(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(window_us=10 * SECOND)
    for _ in range(60):
        studio.publish(content(made, 2))
        studio.again()
    assert len(studio.stream.sections) < 10
    for packet in studio.packets():
        assert packet.discontinuity in studio.stream.sections


def test_after_the_end_nothing_is_written(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    studio.publish(content(made))
    held = studio.stream.ring.next
    studio.writer.stop("enough")
    studio.writer.stop("enough")
    studio.writer.write(Frame(1, 5 * SECOND, 0, True, b"k"), 105.0)
    studio.writer.describe(Track(3, Codec.H264, 90_000, b""), 105.0)
    studio.writer.flush(105.0)
    studio.writer.close("gone", 105.0)
    assert (studio.stopped, studio.closed) == (["enough"], [])
    assert studio.stream.ring.next == held


def test_close_is_told_once(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.writer.close("gone", 101.0)
    studio.writer.close("gone", 102.0)
    studio.writer.stop("late")
    assert (studio.closed, studio.stopped) == (["gone"], [])


def test_listeners_hear_each_flush_until_they_leave(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    heard: list[str] = []

    def first(now: float) -> None:
        heard.append("first")
        studio.stream.unsubscribe(second)

    def second(now: float) -> None:
        heard.append("second")

    studio.stream.subscribe(first)
    studio.stream.subscribe(second)
    studio.writer.flush(100.0)
    studio.writer.flush(100.0)
    assert heard == ["first", "first"]


def test_sound_that_does_not_tell_its_length(open_studio: Callable[..., Any]) -> None:
    def broken(track: Track, data: bytes) -> int | None:
        raise WireError("not an Opus packet")

    studio = open_studio(Track(1, Codec.OPUS, 48_000, b"", sample_rate=48_000))
    studio.writer._measure = broken
    packets = studio.publish([Frame(1, i * 20_000, 0, True, b"") for i in range(50)])
    assert {packet.duration for packet in packets} == {960}


def test_statistics(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio()
    frames = content(made, 10)
    for frame in frames:
        studio.publish([frame])
    studio.stream.viewer_came("hls")
    studio.stream.viewer_came("hls")
    studio.stream.viewer_left("hls")
    studio.stream.viewer_came("rtmp")
    studio.stream.viewer_left("rtmp")
    statistics = studio.stream.statistics(studio.now)
    assert statistics.packets == len(frames)
    assert statistics.viewers == {"hls": 1}
    assert (statistics.sections, statistics.publishers) == (1, 1)
    video, audio = statistics.tracks
    assert (video.name, audio.name) == ("v1", "a2")
    # Each frame came by itself in this test, at the pace of its time.
    assert video.packets == 300 and audio.packets == len(frames) - 300
    assert statistics.bytes == sum(len(frame.data) for frame in frames)


def test_bitrates_follow_the_publisher(open_studio: Callable[..., Any], made: Any) -> None:
    studio = open_studio(made.VIDEO)
    for number in range(300):
        now = 100 + number / 30
        studio.writer.write(Frame(1, number * 33_333, 0, number % 60 == 0, bytes(1000)), now)
        studio.writer.flush(now)
    (video,) = studio.stream.statistics(110.0).tracks
    assert video.bitrate_bps == pytest.approx(240_000, rel=0.02)
    assert video.frame_rate == pytest.approx(30, rel=0.02)
    (video,) = studio.stream.statistics(130.0).tracks
    assert video.bitrate_bps < 5_000
    (video,) = studio.stream.statistics(140.0).tracks
    assert video.bitrate_bps == 0
