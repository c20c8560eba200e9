"""A whole node makes renditions: in step with the source, decoded by ffmpeg, back after a crash."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import m3u8
import pytest
from clips import AAC, TONE, Clips, decoded_frames, publishing
from live_node import LiveNode, StartNode, until

pytestmark = pytest.mark.interop

FPS = 20
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-pix_fmt", "yuv420p", "-b:v", "200k")
LADDER = "160p@200k, 144p@100k"
SETTINGS: dict[str, Any] = {"ingest__open": True, "ingest__linger_s": 1, "transcode__preset": "ultrafast"}


@pytest.fixture
def film(clips: Clips) -> Path:
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={FPS}")
    return clips.path("ladder", *picture, *TONE, "-t", "40", *X264, "-g", str(FPS), *AAC)


@contextmanager
def live(start: StartNode, film: Path, **settings: Any) -> Iterator[LiveNode]:
    node = start(transcode__ladder=LADDER, **(SETTINGS | settings))
    with publishing(node, film, "film"):
        yield node


def playlist(node: LiveNode, track: str) -> m3u8.M3U8:
    answer = node.fetch(f"/live/film/{track}/index.m3u8")
    assert answer.status == 200, answer.text
    return m3u8.loads(answer.text)


def segments(node: LiveNode, track: str) -> dict[str, tuple[float, bool]]:
    """Duration, and whether it is a gap, of each segment by its URI."""
    return {
        segment.uri: (segment.duration, bool(segment.gap_tag))
        for segment in playlist(node, track).segments
        if segment.uri is not None and segment.duration
    }


def worker_of(node: LiveNode) -> int | None:
    command = ["pgrep", "-P", str(node.process.pid), "-f", "media.transcode.worker"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return int(found[0]) if found else None


def test_every_rendition_has_the_same_segments_and_decodes(start: StartNode, film: Path) -> None:
    with live(start, film) as node:
        until(lambda: len(segments(node, "v160")) >= 2 or None, "two segments of a rendition")
        source, first, second = (segments(node, track) for track in ("v1", "v160", "v144"))
        assert list(first.items())[:2] == list(second.items())[:2] == list(source.items())[:2]
        variants = m3u8.loads(node.fetch("/live/film/index.m3u8").text).playlists
        assert [variant.uri.partition("/")[0] for variant in variants] == ["v1", "v160", "v144", "a2"]
        assert [variant.stream_info.resolution for variant in variants[:3]] == [
            (320, 180),
            (284, 160),
            (256, 144),
        ]
        assert decoded_frames(node.url("/live/film/v144/index.m3u8"), seconds=3) >= 2.5 * FPS
        newest = f"/live/film/v160/{list(first)[-1]}"
        assert node.fetch(newest).header("cache-control").endswith("immutable")


def test_a_killed_worker_costs_the_renditions_a_gap(start: StartNode, film: Path) -> None:
    with live(start, film) as node:
        until(lambda: segments(node, "v160") or None, "a segment of a rendition")
        lost = worker_of(node)
        assert lost is not None
        os.kill(lost, signal.SIGKILL)

        def gap_is_over() -> dict[str, tuple[float, bool]] | None:
            found = segments(node, "v160")
            gaps = [gap for _, gap in found.values()]
            return found if any(gaps) and not gaps[-1] else None

        made = until(gap_is_over, "a gap, and an end of it")
        source = segments(node, "v1")
        assert not any(gap for _, gap in source.values())
        assert not any(segment.discontinuity for segment in playlist(node, "v1").segments)
        both = made.keys() & source.keys()
        assert len(both) >= 2
        assert {uri: made[uri][0] for uri in both} == {uri: source[uri][0] for uri in both}
        assert worker_of(node) not in (lost, None)
        until(lambda: "renditions_trouble" not in str(node.stream("film")) or None, "no trouble any more")


def test_on_demand_begins_with_the_first_who_asks_for_a_rendition(start: StartNode, film: Path) -> None:
    with live(start, film, transcode__on_demand=True) as node:
        until(
            lambda: "v144" in node.fetch("/live/film/index.m3u8").text or None, "the ladder in the playlist"
        )
        until(lambda: worker_of(node) is None or None, "no worker while nobody watches")
        assert playlist(node, "v144").media_sequence is not None
        assert worker_of(node) is not None


def test_the_ladder_ends_with_its_source(start: StartNode, film: Path) -> None:
    with live(start, film) as node:
        until(lambda: segments(node, "v160") or None, "a segment of a rendition")
    until(lambda: playlist(node, "v160").is_endlist or None, "the end of the rendition's playlist")
    assert playlist(node, "v1").is_endlist
    assert list(segments(node, "v160").items())[-1] == list(segments(node, "v1").items())[-1]
    until(lambda: worker_of(node) is None or None, "no worker left")
