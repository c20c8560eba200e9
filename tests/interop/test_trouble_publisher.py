"""Publishers that keep to RTMP and to nothing else: viewers get all that can be shown, on one clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m3u8
import pytest
from clips import AAC, FPS, GROUP, H264, PICTURE, TONE, Clips, decoded_frames, publishing
from fwbench import flv
from live_node import LiveNode, StartNode, until
from rtmp_client import RtmpClient, headers_of
from witness import FlvViewer, Witness, steps

pytestmark = pytest.mark.interop

STEADY = "steady"
SECONDS = 2
FRAMES = SECONDS * FPS
SMALL = ("-f", "lavfi", "-i", f"testsrc2=size=128x72:rate={FPS}")
FAST = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=120")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:open-gop=0", *GROUP)
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def node(start_for_module: StartNode, clips: Clips) -> Iterator[LiveNode]:
    """Serves a stream to a witness all the while; the others end with their publisher."""
    node = start_for_module(ingest__open=True, ingest__linger_s=0, hls__segment_s=1)
    with publishing(node, clips.long, STEADY):
        yield node


@pytest.fixture(autouse=True)
def witness(node: LiveNode) -> Iterator[None]:
    with Witness(node, STEADY):
        yield


def publish(node: LiveNode, name: str, tags: Sequence[flv.Tag], *more: Sequence[flv.Tag]) -> dict[str, Any]:
    """Publish all of it and go; what the node then says of the stream."""
    with RtmpClient(node.address("rtmp")) as client:
        assert client.publish(name) == "NetStream.Publish.Start"
        for some in (tags, *more):
            client.send_tags(some)
        client.settle()
    return node.await_stream(name, "ended")


def shifted(tags: Sequence[flv.Tag], shift_ms: int) -> list[flv.Tag]:
    return [flv.Tag(tag.kind, tag.time_ms + shift_ms, tag.body) for tag in tags]


def without(tags: Sequence[flv.Tag], kind: int) -> list[flv.Tag]:
    return [tag for tag in tags if tag.kind != kind]


def is_keyframe(tag: flv.Tag) -> bool:
    return tag.kind == flv.VIDEO and not tag.is_config and tag.body[0] >> 4 & 7 == 1


@dataclass(frozen=True)
class Hls:
    playlist: m3u8.M3U8
    frames: int
    duration_s: float


def watch_hls(node: LiveNode, name: str, track: str = "v1") -> Hls:
    """Decode an ended stream strictly; every segment's length is what the playlist may say."""
    playlist = m3u8.loads(node.fetch(f"/live/{name}/{track}/index.m3u8").text)
    durations = [segment.duration for segment in playlist.segments]
    assert all(duration > 0 and round(duration) <= playlist.target_duration for duration in durations)
    return Hls(playlist, decoded_frames(node.url(f"/live/{name}/index.m3u8")), sum(durations))


# Times.


@pytest.mark.parametrize(
    "begin_ms",
    [0xFFFFFF - 1000, 2**31 - 1000, 2**32 - 1000, 3_000_000_000],
    ids=["24-bit", "sign", "wrap-of-49-days", "far"],
)
def test_a_clock_may_begin_anywhere_and_wrap(node: LiveNode, clips: Clips, begin_ms: int) -> None:
    stream = publish(node, f"from{begin_ms}", shifted(clips.usual(SECONDS), begin_ms))
    assert (stream["sections"], stream["timestamp_jumps"], stream["timestamp_outliers"]) == (1, 0, 0)
    shown = watch_hls(node, f"from{begin_ms}")
    assert shown.frames == FRAMES and abs(shown.duration_s - SECONDS) < 0.05


@pytest.mark.parametrize(
    "jump_ms", [DAY_MS, -SECONDS * 1000, 2**31 + 5], ids=["tomorrow", "restart", "half-wrap"]
)
def test_a_clock_that_jumps_is_continued(node: LiveNode, clips: Clips, jump_ms: int) -> None:
    """The encoder goes on without a new connection; a viewer sees neither a hole nor the past."""
    name = f"jump{abs(jump_ms)}"
    tags = clips.usual(SECONDS)
    media = [tag for tag in tags if tag not in headers_of(tags)]
    stream = publish(node, name, shifted(tags, 10_000), shifted(media, 10_000 + SECONDS * 1000 + jump_ms))
    assert stream["timestamp_jumps"] >= 1 and stream["sections"] <= 2
    shown = watch_hls(node, name)
    assert 2 * FRAMES - 2 <= shown.frames <= 2 * FRAMES
    assert abs(shown.duration_s - 2 * SECONDS) < 0.15


def test_one_wild_timestamp_is_taken_for_what_it_is(node: LiveNode, clips: Clips) -> None:
    tags = clips.usual(SECONDS)
    wild = next(i for i, tag in enumerate(tags) if tag.kind == flv.VIDEO and tag.time_ms > 1200)
    tags[wild] = flv.Tag(flv.VIDEO, tags[wild].time_ms + DAY_MS, tags[wild].body)
    stream = publish(node, "wild", tags)
    assert (stream["timestamp_outliers"], stream["timestamp_jumps"], stream["sections"]) == (1, 0, 1)
    shown = watch_hls(node, "wild")
    assert shown.frames == FRAMES and abs(shown.duration_s - SECONDS) < 0.05


def test_a_hundred_and_twenty_frames_a_second(node: LiveNode, clips: Clips) -> None:
    tags = clips.tags("fast", *FAST, *TONE, "-t", str(SECONDS), *H264, "-g", "120", *AAC)
    publish(node, "fast", tags)
    shown = watch_hls(node, "fast")
    assert shown.frames == SECONDS * 120 and abs(shown.duration_s - SECONDS) < 0.1


# Tracks.


def test_another_resolution_in_the_middle(node: LiveNode, clips: Clips, tmp_path: Path) -> None:
    small = clips.tags("small", *SMALL, *TONE, "-t", str(SECONDS), *H264, *GROUP, *AAC)
    stream = publish(node, "resized", clips.usual(SECONDS), shifted(small, SECONDS * 1000))
    check_change(node, "resized", stream, tmp_path)
    assert (stream["tracks"][0]["width"], stream["tracks"][0]["height"]) == (128, 72)
    variants = m3u8.loads(node.fetch("/live/resized/index.m3u8").text)
    assert variants.playlists[0].stream_info.resolution == (128, 72)


def test_another_codec_in_the_middle(node: LiveNode, clips: Clips, tmp_path: Path) -> None:
    hevc = clips.tags("hevc", *PICTURE, *TONE, "-t", str(SECONDS), *HEVC, *AAC)
    stream = publish(node, "recoded", clips.usual(SECONDS), shifted(hevc, SECONDS * 1000))
    check_change(node, "recoded", stream, tmp_path)
    assert stream["tracks"][0]["codec"] == "hevc"


def check_change(node: LiveNode, name: str, stream: dict[str, Any], tmp_path: Path) -> None:
    """Two sections with an init segment each, and not a frame lost.

    Each is decoded by itself: ffmpeg's HLS passes over a second init segment.
    """
    assert stream["sections"] == 2
    folder = f"/live/{name}/v1/"
    text = node.fetch(folder + "index.m3u8").text
    assert text.count("#EXT-X-DISCONTINUITY\n") == 1 and text.count("#EXT-X-MAP:") == 2
    sections: dict[str, list[str]] = {}
    for segment in m3u8.loads(text).segments:
        sections.setdefault(segment.init_section.uri, []).append(segment.uri)
    for number, (init, segments) in enumerate(sections.items()):
        file = tmp_path / f"{number}.mp4"
        file.write_bytes(b"".join([node.fetch(folder + uri).body for uri in (init, *segments)]))
        assert decoded_frames(str(file)) == FRAMES


def test_a_change_ends_a_file_and_not_a_socket(node: LiveNode, clips: Clips) -> None:
    """One FLV file cannot begin anew: its viewer is let go, not sent what it cannot decode."""
    small = clips.tags("small", *SMALL, *TONE, "-t", str(SECONDS), *H264, *GROUP, *AAC)
    with RtmpClient(node.address("rtmp")) as client:
        client.publish("switched")
        client.send_tags(clips.usual(SECONDS))
        client.settle()
        with FlvViewer(node, "switched") as viewer:
            client.send_tags(shifted(small, SECONDS * 1000))
            until(lambda: viewer.ended, "the viewer's end")
            assert len(viewer.times("video")) == FPS
        client.settle()
        with FlvViewer(node, "switched") as viewer:
            until(lambda: len(viewer.times("video")) == FPS, "the new picture")


def test_an_encoder_whose_tracks_change_all_the_time_is_sent_away(node: LiveNode, clips: Clips) -> None:
    small = clips.tags("small", *SMALL, *TONE, "-t", str(SECONDS), *H264, *GROUP, *AAC)
    usual = clips.usual(SECONDS)
    both = [
        [tag for tag in tags if tag.is_config and tag.kind == flv.VIDEO]
        + [tag for tag in tags if is_keyframe(tag)][:1]
        for tags in (usual, small)
    ]
    with RtmpClient(node.address("rtmp")) as client:
        client.publish("restless")
        peer = client.address
        for number in range(200):
            try:
                client.send_tags(shifted(both[number % 2], number * 40))
            except ConnectionError:
                break
        assert b"times in a minute: the encoder is broken" in client.drain_until_closed()
    node.await_log("publisher left", stream="restless", peer=peer, reason="the encoder is broken")


# What is missing.


def test_no_sound_though_it_was_announced(node: LiveNode, clips: Clips) -> None:
    publish(node, "mute", without(clips.usual(SECONDS), flv.AUDIO))
    assert watch_hls(node, "mute").frames == FRAMES


def test_no_picture_though_it_was_announced(node: LiveNode, clips: Clips) -> None:
    stream = publish(node, "radio", without(clips.usual(SECONDS), flv.VIDEO))
    assert [track["name"] for track in stream["tracks"]] == ["a2"]
    shown = watch_hls(node, "radio", "a2")
    assert shown.frames == 0 and abs(shown.duration_s - SECONDS) < 0.1


def test_no_keyframe_for_long_then_one(node: LiveNode, clips: Clips) -> None:
    """Sound alone after ten seconds; with the first keyframe the picture."""
    tags = clips.usual(14)
    late = [tag for tag in tags if not is_keyframe(tag) or tag.time_ms > 12_500]
    before = [tag for tag in late if tag.time_ms < 12_500]
    with RtmpClient(node.address("rtmp")) as client:
        client.publish("keyless")
        client.send_tags(before)
        client.settle()
        stream = node.await_stream("keyless")
        assert stream["dropped_before_start"] > 12 * FPS
        variants = m3u8.loads(node.fetch("/live/keyless/index.m3u8").text)
        assert [variant.stream_info.codecs for variant in variants.playlists] == ["mp4a.40.2"]
        finding = node.await_finding("keyless", "no-keyframe")
        assert "nobody can see the picture" in finding["message"]
        client.send_tags(late[len(before) :])
        client.settle()
    assert node.await_stream("keyless", "ended")["sections"] == 2
    assert decoded_frames(node.url("/live/keyless/v1/index.m3u8")) == FPS


def test_no_keyframe_at_all_and_no_sound(node: LiveNode, clips: Clips) -> None:
    """There is nothing to show: a viewer is told so in time, and the publisher may go on."""
    tags = [tag for tag in without(clips.usual(4), flv.AUDIO) if not is_keyframe(tag)]
    with RtmpClient(node.address("rtmp")) as client:
        client.publish("nothing")
        client.send_tags(tags)
        client.settle()
        assert (node.stream("nothing") or {})["state"] == "starting"
        answer = node.fetch("/live/nothing/index.m3u8")
        assert answer.status == 503 and "try again" in answer.text
    until(lambda: node.stream("nothing") is None, "the stream gone")


# Silence.


def test_a_publisher_that_stalls_is_let_go(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True, ingest__idle_s=1, ingest__linger_s=0, hls__segment_s=1)
    with publishing(node, clips.long, STEADY), Witness(node, STEADY):
        with RtmpClient(node.address("rtmp")) as client:
            client.publish("stalled")
            client.send_tags(clips.usual(SECONDS))
            client.settle()
            with FlvViewer(node, "stalled") as viewer:
                assert b"no data for 1 s" in client.drain_until_closed()
                until(lambda: viewer.ended, "the viewer's end")
        node.await_log("publisher left", stream="stalled", peer="127.0.0.1:", reason="no data for 1 s")
        assert set(steps(viewer.times("video"))) == {1000 // FPS}
        assert watch_hls(node, "stalled").frames == FRAMES
