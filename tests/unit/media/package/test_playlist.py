"""Playlists against RFC 8216bis."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from media.package.playlist import media_playlist, mime_type, multivariant_playlist
from media.package.window import LiveWindow
from media.track.model import Codec, Frame, Track
from media.track.stream import StreamState

SECOND = 1_000_000
WINDOW_US = 16 * SECOND
FIRST = 1_700_000_000

GOLDEN = """\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3.00600,CAN-SKIP-UNTIL=12.0
#EXT-X-PART-INF:PART-TARGET=1.00200
#EXT-X-MEDIA-SEQUENCE:1700000000
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init-1700000000.mp4"
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z
#EXT-X-PART:DURATION=1.00000,URI="1700000000.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI="1700000000.1.m4s"
#EXTINF:2.00000,
1700000000.m4s
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:22.000Z
#EXT-X-PART:DURATION=1.00000,URI="1700000001.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.20100,URI="1700000001.1.m4s"
#EXTINF:1.20100,
1700000001.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init-1700000001.mp4"
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:23.201Z
#EXT-X-PART:DURATION=1.00000,URI="1700000002.0.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="1700000002.1.m4s"
"""
GOLDEN_MASTER = """\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="a2",LANGUAGE="und",DEFAULT=YES,AUTOSELECT=YES,\
CHANNELS="2",URI="a2/index.m3u8?token=t"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Français",LANGUAGE="fra",DEFAULT=NO,AUTOSELECT=YES,\
CHANNELS="2",URI="a3/index.m3u8?token=t"
#EXT-X-STREAM-INF:BANDWIDTH=50000,AVERAGE-BANDWIDTH=50000,CODECS="avc1.42c00d,mp4a.40.2",\
RESOLUTION=320x180,FRAME-RATE=30.000,CLOSED-CAPTIONS=NONE,AUDIO="audio"
v1/index.m3u8?token=t
"""


def playlist(window: LiveWindow, name: str = "v1", window_us: int = WINDOW_US, *, skip: bool = False) -> str:
    made = media_playlist(window, name, window_us, skip=skip)
    assert made is not None
    return made.decode()


def value(text: str, tag: str) -> str:
    found = re.search(rf"^#EXT-X-{tag}:(.*)$", text, re.MULTILINE)
    assert found is not None, tag
    return found[1]


def number(text: str, tag: str, attribute: str = "") -> float:
    field = value(text, tag)
    if attribute:
        found = re.search(rf"(?:^|,){attribute}=([\d.]+)", field)
        assert found is not None
        field = found[1]
    return float(field)


def announced(text: str) -> set[tuple[int, int]]:
    """(msn, part) of every part, and (msn, -1) of every whole segment, that the playlist lists."""
    parts = {(int(a), int(b)) for a, b in re.findall(r'^#EXT-X-PART:.*URI="(\d+)\.(\d+)\.m4s"', text, re.M)}
    return parts | {(int(msn), -1) for msn in re.findall(r"^(\d+)\.m4s$", text, re.M)}


def blocks(text: str) -> tuple[list[str], list[list[str]]]:
    """Lines before the first segment, and the lines of each segment; what follows is the last block."""
    head: list[str] = []
    bodies: list[list[str]] = [[]]
    for line in text.splitlines():
        if not any(bodies) and re.match(
            r"#EXTM3U|#EXT-X-(VERSION|TARGET|SERVER|PART-INF|MEDIA-S|DISCONTINUITY-S|INDEP|SKIP)", line
        ):
            head.append(line)
            continue
        bodies[-1].append(line)
        if not line.startswith("#"):
            bodies.append([])
    return head, bodies


def merge(before: str, delta: str) -> str:
    """A client's view after a delta update, as RFC 8216bis 6.3.7 has clients do it."""
    head, bodies = blocks(delta)
    skips = [line for line in head if line.startswith("#EXT-X-SKIP:")]
    if not skips:
        return delta
    count = int(skips[0].partition("SKIPPED-SEGMENTS=")[2])
    first = int(number(delta, "MEDIA-SEQUENCE"))
    _, held = blocks(before)
    by_number: dict[int, list[str]] = {}
    maps: dict[int, str] = {}
    present = ""
    for body in held:
        if body and not body[-1].startswith("#"):
            msn = int(body[-1].split(".")[0])
            present = next((line for line in body if line.startswith("#EXT-X-MAP")), present)
            by_number[msn], maps[msn] = body, present
    merged = [line for line in head if line not in skips]
    for msn in range(first, first + count):
        body = [line for line in by_number[msn] if not line.startswith("#EXT-X-PART:")]
        if msn == first:  # what was before it is gone
            body = [line for line in body if line not in (maps[msn], "#EXT-X-DISCONTINUITY")]
            body.insert(0, maps[msn])
        merged += body
    return "\n".join(merged + [line for body in bodies for line in body]) + "\n"


def test_golden(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    studio = open_studio(part_us=1_000_000)
    studio.send(3.2)
    studio.again(tracks["video"])
    studio.send(1.5)
    assert playlist(studio.window()) == GOLDEN


def test_golden_multivariant(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    window = studio.window()
    assert multivariant_playlist(window) is None
    studio.send(4.2)
    window.update()
    text = multivariant_playlist(window, "?token=t")
    assert text is not None and text.decode() == GOLDEN_MASTER


def test_before_the_first_part_there_is_no_playlist(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    window = studio.window()
    assert media_playlist(window, "v1", WINDOW_US) is None
    studio.send(0.4)
    window.update()
    assert media_playlist(window, "v1", WINDOW_US) is None
    assert multivariant_playlist(window) is None
    studio.send(0.2)
    window.update()
    assert "#EXT-X-PART:" in playlist(window)
    assert media_playlist(window, "a3", WINDOW_US) is None


def test_what_players_are_told_at_every_step(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    """Blocking reload, hints, numbers and delta updates through all that can happen to a stream."""
    studio = open_studio(window_us=20 * SECOND)
    window = studio.window()
    whole = ""
    hinted: set[tuple[int, int]] = set()
    sections: set[int] = set()

    def check() -> None:
        nonlocal whole
        if not window.update() or window.newest() is None:
            return
        before, whole = whole, playlist(window)
        now = announced(whole)
        # What was promised is there, in this very playlist and on request.
        assert window.newest() in now
        for msn, part in now:
            wanted = window.segment_bytes("v1", msn) if part < 0 else window.part_bytes("v1", msn, part)
            assert wanted is not None
        if before:
            assert number(whole, "MEDIA-SEQUENCE") >= number(before, "MEDIA-SEQUENCE")
            assert number(whole, "DISCONTINUITY-SEQUENCE") >= number(before, "DISCONTINUITY-SEQUENCE")
            assert number(whole, "TARGETDURATION") >= number(before, "TARGETDURATION")
            new = {(msn, part) for msn, part in now - announced(before) if part >= 0}
            sections.add(window.segments[-1].section.discontinuity)
            # A part that appears was hinted at before it did, also over turns of segments and sections.
            assert not new or min(new) in hinted
            delta = playlist(window, skip=True)
            merged = merge(before, delta)
            assert merged == whole
        hint = re.search(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', whole)
        if hint is not None:
            hinted.add((int(hint[1]), int(hint[2])))
        lengths = [float(length) for length in re.findall(r"^#EXTINF:([\d.]+)", whole, re.M)]
        target = number(whole, "TARGETDURATION")
        assert all(int(length + 0.5) <= target for length in lengths)
        parts = [float(length) for length in re.findall(r"^#EXT-X-PART:DURATION=([\d.]+)", whole, re.M)]
        assert max(parts) <= number(whole, "PART-INF", "PART-TARGET")
        assert (
            number(whole, "SERVER-CONTROL", "PART-HOLD-BACK")
            >= 3 * number(whole, "PART-INF", "PART-TARGET") - 1e-6
        )
        assert number(whole, "SERVER-CONTROL", "CAN-SKIP-UNTIL") >= 6 * target

    studio.send(37, on_flush=check)
    studio.send(5, silent=[1], on_flush=check)
    studio.send(7, gop=150, on_flush=check)
    studio.again(tracks["video"], tracks["audio"])
    studio.send(12.4, gop=30, on_flush=check)
    studio.end(StreamState.LINGERING)
    check()
    studio.again(tracks["video"])
    studio.send(15.7, on_flush=check)
    assert sections == {0, 1, 2}
    assert "#EXT-X-DISCONTINUITY\n" in whole


@pytest.mark.parametrize(
    ("seconds", "numbers"), [(30.2, {13, 14}), (30.7, {13, 14, 15}), (31.99, {13, 14, 15}), (32.2, {14, 15})]
)
def test_parts_are_listed_for_three_target_durations(
    seconds: float, numbers: set[int], open_studio: Callable[..., Any]
) -> None:
    studio = open_studio()
    studio.send(seconds)
    text = playlist(studio.window())
    assert {msn - FIRST for msn, part in announced(text) if part >= 0} == numbers
    whole = {msn - FIRST for msn, part in announced(text) if part < 0}
    assert min(whole) == max(numbers) - 8 and len(whole) >= 8


def test_a_live_playlist_is_never_too_short(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(62, gop=300)
    text = playlist(studio.window(), window_us=12 * SECOND)
    assert number(text, "TARGETDURATION") == 10
    assert len(re.findall("^#EXTINF", text, re.M)) >= 3


def test_delta_updates_skip_what_is_older_than_six_targets(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(40.7)
    window = studio.window()
    assert "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n" in playlist(window, skip=True)
    assert "#EXT-X-SKIP" not in playlist(window, window_us=12 * SECOND, skip=True)


def test_a_delta_update_repeats_a_map_that_is_not_that_of_what_it_skips(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    studio = open_studio()
    studio.send(20)
    studio.again(tracks["video"])
    for _ in range(16):
        studio.send(1)
        window = studio.window()
        delta = playlist(window, skip=True)
        whole = playlist(window)
        assert merge(whole, delta) == whole


def test_the_end(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(5.2)
    studio.end()
    text = playlist(studio.window())
    assert text.endswith(f"\n{FIRST + 2}.m4s\n#EXT-X-ENDLIST\n")
    assert "PRELOAD-HINT" not in text


def test_while_a_publisher_is_away_the_playlist_stays_live(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(5.2)
    studio.end(StreamState.LINGERING)
    text = playlist(studio.window())
    assert text.endswith(f'\n{FIRST + 2}.m4s\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{FIRST + 3}.0.m4s"\n')


def test_sound_alone(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    studio = open_studio(tracks["audio"])
    studio.send(9.3)
    window = studio.window()
    text = playlist(window, "a2")
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in text
    assert text.count("INDEPENDENT=YES") == text.count("#EXT-X-PART:")
    master = multivariant_playlist(window)
    assert master is not None
    assert b'CODECS="mp4a.40.2"\na2/index.m3u8\n' in master
    assert b"RESOLUTION" not in master


def test_several_sounds(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(5.2)
    window = studio.window()
    texts = {name: playlist(window, name) for name in ("v1", "a2", "a3")}
    assert announced(texts["v1"]) == announced(texts["a2"]) == announced(texts["a3"])
    for name, text in texts.items():
        reports = re.findall(
            r'#EXT-X-RENDITION-REPORT:URI="\.\./(\w+)/index.m3u8",LAST-MSN=(\d+),LAST-PART=(\d+)', text
        )
        assert reports == [(other, str(FIRST + 2), "1") for other in texts if other != name]
    assert len({re.sub("init-.*|.*REPORT.*|,INDEPENDENT=YES", "", text) for text in texts.values()}) == 1


def test_equal_titles_are_told_apart(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    def titled(number: int, title: str, language: str = "und") -> Track:
        return Track(
            number, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, title=title, language=language
        )

    studio = open_studio(
        tracks["video"], titled(2, 'The "best"\n'), titled(3, "The best"), titled(4, "x" * 500, 'e"n')
    )
    studio.send(4.2)
    text = multivariant_playlist(studio.window())
    assert text is not None
    assert re.findall('NAME="([^"]*)"', text.decode()) == ["The best", "The best (a3)", "x" * 64]
    assert re.findall('LANGUAGE="([^"]*)"', text.decode()) == ["und"] * 3
    assert b"CHANNELS" not in text


def test_a_rendition_that_is_gone_has_ended(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    window = studio.window()
    studio.send(5.2, on_flush=window.update)
    studio.again(tracks["video"], tracks["audio"])
    studio.send(0.4, on_flush=window.update)
    assert "PRELOAD-HINT" not in playlist(window, "a3") and "ENDLIST" not in playlist(window, "a3")
    studio.send(1, on_flush=window.update)
    text = playlist(window, "a3")
    assert text.endswith(f"\n{FIRST + 2}.m4s\n#EXT-X-ENDLIST\n")
    assert "ENDLIST" not in playlist(window, "v1")
    assert window.rendition("a3") is None


def test_a_rendition_that_appears_begins_with_its_section(
    open_studio: Callable[..., Any], tracks: dict[str, Track]
) -> None:
    studio = open_studio()
    studio.send(5.2)
    studio.again(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(2.7)
    text = playlist(studio.window(), "a3")
    assert number(text, "MEDIA-SEQUENCE") == FIRST + 3
    assert number(text, "DISCONTINUITY-SEQUENCE") == 1
    assert "#EXT-X-DISCONTINUITY\n" not in text


def test_discontinuity_sequence_counts_what_was_removed(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    for _ in range(4):
        studio.send(9.7)
        studio.again(*studio.tracks)
    studio.send(5.2)
    text = playlist(studio.window())
    # Segments of sections 2 (the end of it), 3 and 4 are within the window.
    listed = number(text, "DISCONTINUITY-SEQUENCE") + text.count("#EXT-X-DISCONTINUITY\n")
    assert listed == 4
    assert text.count("#EXT-X-MAP") == 1  # nothing about the tracks changed


def test_silence_of_one_sound_is_a_gap(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    studio = open_studio(tracks["video"], tracks["audio"], tracks["french"])
    studio.send(4.2, silent=[3])
    text = playlist(studio.window(), "a3")
    assert text.count("GAP=YES") == text.count("#EXT-X-PART:")
    assert f"#EXT-X-GAP\n#EXTINF:2.00000,\n{FIRST}.m4s\n" in text


def test_segments_without_keyframe_are_not_called_independent(open_studio: Callable[..., Any]) -> None:
    studio = open_studio()
    studio.send(45, gop=100_000)
    window = studio.window()
    text = playlist(window)
    assert "#EXT-X-INDEPENDENT-SEGMENTS" not in text
    assert "INDEPENDENT=YES" not in text.rpartition(f"{FIRST}.m4s")[2]
    master = multivariant_playlist(window)
    assert master is not None and b"INDEPENDENT" not in master


def test_bandwidth_is_measured(open_studio: Callable[..., Any], tracks: dict[str, Track]) -> None:
    studio = open_studio(tracks["video"])
    for index in range(300):
        size = 20_000 if index < 60 else 10_000
        studio.writer.write(Frame(1, index * 33_333, 0, index % 60 == 0, bytes(size)), 100.0)
    text = multivariant_playlist(studio.window())
    assert text is not None
    peak, mean = (
        number(text.decode(), "STREAM-INF", "BANDWIDTH"),
        number(text.decode(), "STREAM-INF", "AVERAGE-BANDWIDTH"),
    )
    assert peak == pytest.approx(4_800_000, rel=0.03)
    assert mean == pytest.approx(3_000_000, rel=0.03)


def test_mime_type(tracks: dict[str, Track]) -> None:
    assert mime_type((tracks["video"], tracks["audio"])) == 'video/mp4; codecs="avc1.42c00d,mp4a.40.2"'
    assert mime_type((tracks["audio"],)) == 'audio/mp4; codecs="mp4a.40.2"'
