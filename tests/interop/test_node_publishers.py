"""Publishers come back, take over, are refused and are sent away; viewers see as little of it as can be."""

import subprocess
from contextlib import ExitStack

import m3u8
import pytest
from clips import FFMPEG_9, FPS, H264, PICTURE, Clips, decoded_frames, ffmpeg
from live_node import LiveNode, StartNode, until
from rtmp_client import Gone, RtmpClient
from witness import FlvViewer, steps

pytestmark = pytest.mark.interop

SECONDS = 3
FRAMES = SECONDS * FPS


@pytest.fixture(scope="module")
def node(start_for_module: StartNode) -> LiveNode:
    return start_for_module(ingest__open=True, ingest__linger_s=2, hls__segment_s=1)


def publish(node: LiveNode, name: str, clips: Clips, shift_ms: int = 0) -> RtmpClient:
    """A client that has published SECONDS of media as `name`, and stays."""
    client = RtmpClient(node.address("rtmp"))
    assert client.publish(name) == "NetStream.Publish.Start"
    client.send_tags(clips.usual(SECONDS), shift_ms)
    client.settle()
    return client


def test_a_publisher_that_comes_back_continues_its_stream(node: LiveNode, clips: Clips) -> None:
    first = publish(node, "back", clips)
    with FlvViewer(node, "back") as viewer:
        before = m3u8.loads(node.fetch("/live/back/v1/index.m3u8").text)
        peer = first.address
        first.reset()
        node.await_stream("back", "lingering")
        node.await_log("publisher left", stream="back", peer=peer, reason="the connection was lost")
        # Its clock began elsewhere.
        with publish(node, "back", clips, shift_ms=3_600_000):
            stream = node.await_stream("back")
            assert (stream["sections"], stream["publishers"], stream["timestamp_jumps"]) == (2, 2, 0)
            after = m3u8.loads(node.fetch("/live/back/v1/index.m3u8").text)
            assert [segment.discontinuity for segment in after.segments].count(True) == 1
            assert len(after.segment_map) == 1, "the same settings need no other init segment"
            old = [segment.uri for segment in before.segments if segment.uri]
            assert [segment.uri for segment in after.segments[: len(old)]] == old
            until(lambda: len(viewer.times("video")) == FPS + FRAMES, "the viewer's frames of both")
    check_seam(viewer)
    from_start = ("-live_start_index", "0")
    assert decoded_frames(node.url("/live/back/index.m3u8"), *from_start) == 2 * FRAMES


def check_seam(viewer: FlvViewer) -> None:
    """The viewer had the last group of the first publisher, then all of the second, on one clock."""
    between = steps(viewer.times("video"))
    seam = between.pop(FPS - 1)
    assert set(between) == {1000 // FPS}
    assert 1000 // FPS <= seam <= 1000 // FPS + 22, "it goes on where the longer of sound and picture ended"


def test_who_comes_back_too_late_begins_anew(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True, ingest__linger_s=0, hls__segment_s=1)
    publish(node, "late", clips).close()
    first = node.await_stream("late", "ended")
    text = node.fetch("/live/late/v1/index.m3u8").text
    assert text.endswith("#EXT-X-ENDLIST\n")
    old = [segment.uri for segment in m3u8.loads(text).segments]
    with publish(node, "late", clips):
        second = node.await_stream("late")
        assert (second["publishers"], second["sections"]) == (1, 1) and second["age_s"] < first["age_s"] + 20
        new = [segment.uri for segment in m3u8.loads(node.fetch("/live/late/v1/index.m3u8").text).segments]
        assert not set(old) & set(new), "names of objects came back for other bytes"


def test_a_second_publisher_takes_over(node: LiveNode, clips: Clips) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(publish(node, "two", clips))
        viewer = stack.enter_context(FlvViewer(node, "two"))
        second = stack.enter_context(publish(node, "two", clips))
        assert first.await_status() == "NetStream.Publish.Denied"
        assert first.description == "another publisher took this stream over"
        with pytest.raises(Gone):
            first.await_status()
        stream = node.await_stream("two")
        assert stream["source"]["peer"] == second.address
        assert (stream["publishers"], stream["sections"]) == (2, 2)
        node.await_log("publisher left", stream="two", peer=first.address, reason="took this stream over")
        until(lambda: len(viewer.times("video")) == FPS + FRAMES, "the viewer's frames of both")
    check_seam(viewer)


def test_a_second_publisher_is_refused_where_the_settings_say_so(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True, ingest__takeover="refuse", ingest__linger_s=0)
    with publish(node, "mine", clips) as first:
        sent = ffmpeg(FFMPEG_9, *PICTURE, "-t", "1", *H264, "-f", "flv", node.rtmp_url("mine"))
        assert sent.returncode != 0
        assert f"'mine' is being published from {first.address} already" in sent.stderr, sent.stderr[-2000:]
        first.send_tags(clips.usual(SECONDS), SECONDS * 1000)
        first.settle()
        stream = node.await_stream("mine")
        assert (stream["publishers"], stream["sections"]) == (1, 1)
        assert stream["tracks"][0]["packets"] == 2 * FRAMES


def test_the_operator_sends_a_publisher_away(node: LiveNode, clips: Clips) -> None:
    with publish(node, "kicked", clips) as client:
        assert node.fetch("/api/v1/streams/kicked", "DELETE", "admin").status == 204
        assert client.await_status() == "NetStream.Publish.Denied"
        assert client.description == "the node's operator stopped this stream"
        assert node.await_stream("kicked", "ended")["source"] is None


def test_a_revoked_key_ends_what_it_publishes(start: StartNode, clips: Clips) -> None:
    node = start()
    key = node.cli_json("key", "new", "--stream", "cam")
    with publish(node, key["key"], clips) as client:
        assert node.await_stream("cam")["source"]["key_id"] == key["id"]
        node.cli("key", "revoke", key["id"])
        assert client.await_status() == "NetStream.Publish.Denied"
        assert client.description == "the stream key was revoked"
    with RtmpClient(node.address("rtmp")) as again:
        assert again.publish(key["key"]) == "NetStream.Publish.BadName"
        assert "was revoked" in again.description
    assert key["key"] not in str(node.log())


def test_a_keyframe_interval_that_is_too_long_is_found(node: LiveNode) -> None:
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x36:rate=60")
    pace = ("-readrate", "1", "-readrate_initial_burst", "25")
    command = [FFMPEG_9, "-nostdin", "-loglevel", "error", *pace, *source, *H264[:6], "-g", "300"]
    child = subprocess.Popen([*command, "-f", "flv", node.rtmp_url("sparse")], stderr=subprocess.DEVNULL)
    try:
        node.await_stream("sparse")
        finding = node.await_finding("sparse", "keyframe-interval")
        assert finding["severity"] == "warning" and "Keyframe every 5" in finding["message"]
        assert "Keyframe Interval 2 s" in finding["fix"] and "-g 120" in finding["fix"]
        assert "Keyframe every 5" in node.cli("streams").stdout
        metrics = node.fetch("/metrics", listener="admin").text
        assert (
            'fwnode_stream_finding{code="keyframe-interval",severity="warning",stream="sparse"} 1.0'
            in metrics
        )
        node.await_log("finding", stream="sparse", code="keyframe-interval")
    finally:
        child.kill()
        child.wait()
