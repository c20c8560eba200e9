"""Every node makes the same objects and playlists of the same packets, whenever it begins to look."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from media.bitstream.duration import frame_duration
from media.package.playlist import media_playlist, multivariant_playlist
from media.package.window import LiveWindow
from media.track.marker import MarkerSettings
from media.track.model import Codec, Frame, Track
from media.track.stream import Source, Stream, StreamSettings, StreamState, Writer

SECOND = 1_000_000
UNIX_US = 1_700_000_000 * SECOND
AVCC = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=320, height=180)
SMALL = Track(2, Codec.H264, 90_000, AVCC, width=320, height=180)
SOUND = Track(3, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
OTHER = Track(4, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=1)
SETS = [(VIDEO,), (VIDEO, SOUND), (SOUND,), (VIDEO, SMALL, SOUND), (VIDEO, SOUND, OTHER)]

# One publisher: tracks, frames a second, frames a group, tenths of seconds of content, who is silent when.
publishers = st.tuples(
    st.sampled_from(SETS),
    st.sampled_from([5, 10, 24, 30]),
    st.integers(1, 90),
    st.integers(1, 90),
    st.tuples(st.integers(1, 4), st.integers(0, 90), st.integers(0, 60)),
)


def publish(
    stream: Stream, publisher: tuple[tuple[Track, ...], int, int, int, tuple[int, int, int]]
) -> Writer:
    tracks, fps, gop, tenths, (silent, since, length) = publisher
    writer = Writer(
        stream, Source("test", "[::1]:1"), 0.0, UNIX_US, on_stop=lambda reason: None,
        on_close=lambda writer, reason, now: None, measure=frame_duration, observer=None,
    )  # fmt: skip
    frames = []
    for track in tracks:
        writer.describe(track, 0.0)
        video = track.codec is Codec.H264
        for index in range(tenths * (fps if video else 47) // 10):
            at_us = index * 1000 // fps * 1000 if video else index * 1024 // 48 * 1000
            if track.id == silent and since <= at_us // 100_000 < since + length:
                continue
            frames.append(Frame(track.id, at_us, 0, not video or index % gop == 0, index.to_bytes(4)))
    for frame in sorted(frames, key=lambda frame: (frame.dts_us, -frame.track_id)):
        writer.write(frame, frame.dts_us / SECOND)
    writer.stop("replaced")
    return writer


def objects(window: LiveWindow) -> dict[tuple[str, int, int], object]:
    """Every object and every number that a playlist tells, by rendition, segment and part."""
    made: dict[tuple[str, int, int], object] = {}
    for segment in window.segments:
        for name, rendition in segment.renditions.items():
            made[name, segment.msn, -1] = (
                segment.start_us,
                segment.unix_us,
                rendition.init,
                window.segment_bytes(name, segment.msn),
                window.init_bytes(name, rendition.init),
            )
            for part in segment.complete_parts():
                made[name, segment.msn, part.index] = (
                    part.duration_us,
                    part.starts_clean(rendition),
                    window.part_bytes(name, segment.msn, part.index),
                )
    return made


@settings(max_examples=50, deadline=None)
@given(
    st.lists(publishers, min_size=1, max_size=4),
    st.integers(200_000, 1_000_000),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
    st.integers(0, 100),
)
def test_who_joins_later_or_reads_otherwise_makes_the_same(
    script: list[tuple[tuple[Track, ...], int, int, int, tuple[int, int, int]]],
    part_us: int,
    batches: list[int],
    percent: int,
) -> None:
    origin = Stream("any", StreamSettings(MarkerSettings(2_000_000, part_us), 1 << 60), 0.0, UNIX_US)
    for publisher in script:
        publish(origin, publisher)
    origin.state = StreamState.ENDED
    whole = LiveWindow(origin)
    ring = origin.ring
    starts = ring.segment_starts()
    if not starts:
        assert whole.segments == [] and media_playlist(whole, "v1", SECOND) is None
        return
    # Another node, from some segment on, that gets packets in batches.
    position = starts[len(starts) * percent // 101]
    copy = Stream("any", StreamSettings(window_us=1 << 60), 0.0, 0)
    edge = LiveWindow(copy)
    turn = 0
    while position < ring.next:
        for packet in ring.slice(position, position + batches[turn % len(batches)]):
            copy.sections.setdefault(packet.discontinuity, origin.section_of(packet))
            copy.ring.append(packet)
            copy.state = StreamState.LIVE
            position += 1
        edge.update()
        turn += 1
    copy.state = StreamState.ENDED
    edge.update()
    here = {key: value for key, value in objects(whole).items() if key[1] >= edge.segments[0].msn}
    assert here == objects(edge)
    assert edge.newest() == whole.newest() and edge.ended and whole.ended


@settings(max_examples=40, deadline=None)
@given(st.lists(publishers, min_size=1, max_size=4), st.integers(200_000, 1_000_000), st.integers(4, 40))
def test_playlists_keep_to_the_draft(
    script: list[tuple[tuple[Track, ...], int, int, int, tuple[int, int, int]]], part_us: int, window_s: int
) -> None:
    stream = Stream("any", StreamSettings(MarkerSettings(2_000_000, part_us)), 0.0, UNIX_US)
    window = LiveWindow(stream)
    newest_msn = 0
    for publisher in script:
        publish(stream, publisher)
        window.update()
        master = multivariant_playlist(window)
        assert (master is None) == (window.newest() is None)
        for name in {name for segment in window.segments for name in segment.renditions}:
            made = media_playlist(window, name, window_s * SECOND)
            if made is None:
                assert not any(
                    name in segment.renditions and segment.complete_parts() for segment in window.segments
                )
                continue
            check(made.decode(), window, name)
        newest = window.newest()
        if newest is not None:
            assert newest[0] >= newest_msn
            newest_msn = newest[0]


def check(text: str, window: LiveWindow, name: str) -> None:
    target = float(re.findall(r"^#EXT-X-TARGETDURATION:(\d+)$", text, re.M)[0])
    part_target = float(re.findall(r"PART-TARGET=([\d.]+)", text)[0])
    lengths = [float(length) for length in re.findall(r"^#EXTINF:([\d.]+),$", text, re.M)]
    assert all(int(length + 0.5) <= target for length in lengths)
    parts = re.findall(r'^#EXT-X-PART:DURATION=([\d.]+),URI="(\d+)\.(\d+)\.m4s"(.*)$', text, re.M)
    assert all(float(length) <= part_target for length, _, _, _ in parts)
    for _, msn, index, attributes in parts:
        data = window.part_bytes(name, int(msn), int(index))
        assert (data is None) == ("GAP=YES" in attributes)
    numbers = [int(msn) for msn in re.findall(r"^(\d+)\.m4s$", text, re.M)]
    first = int(re.findall(r"^#EXT-X-MEDIA-SEQUENCE:(\d+)$", text, re.M)[0])
    assert numbers == list(range(first, first + len(numbers)))
    assert text.count("#EXT-X-PROGRAM-DATE-TIME:") in (len(numbers), len(numbers) + 1)
    inits = re.findall(r'^#EXT-X-MAP:URI="init-(\d+)\.mp4"$', text, re.M)
    assert inits and all(window.init_bytes(name, int(number)) for number in inits)
    newest = window.newest_segment()
    gone = newest is None or name not in newest.renditions
    assert ("#EXT-X-ENDLIST" in text) == gone
    assert ("#EXT-X-PRELOAD-HINT" in text) == (not gone and name in window.segments[-1].renditions)
