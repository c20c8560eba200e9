"""RTMP players: waiting, joining, falling behind, codecs, ends."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from media.container import amf
from media.container.feed import QUEUE_MAX_BYTES
from media.ingest.rtmp.chunk import MessageType
from media.ingest.rtmp.model import Role
from media.track.model import Codec, Frame, Track

Make = Callable[[], Any]


@pytest.fixture
def publisher(client: Make) -> Any:
    """Has sent two and a half groups of ten frames, video and sound."""
    one = client()
    one.publish("show")
    one.headers()
    one.frames(0, 25)
    return one


def video_numbers(player: Any) -> list[int]:
    """The frame numbers that a publisher's `frames` wrote into its video."""
    return [int.from_bytes(body[10:14]) for kind, _, _, body in player.media() if kind == 9 and body[1] == 1]


def test_a_player_begins_with_the_newest_group(client: Make, publisher: Any) -> None:
    player = client()
    player.play("show")
    codes = [code for _, code, _ in player.statuses()]
    assert codes == ["NetStream.Play.Reset", "NetStream.Play.Start"]
    media = player.media()
    assert [body[:2] for _, _, _, body in media[:4]] == [b"\x17\0", b"\xaf\0", b"\x17\x01", b"\xaf\x01"]
    assert video_numbers(player) == [20, 21, 22, 23, 24]
    assert {stream_id for _, stream_id, _, _ in media} == {1}
    assert player.session.role is Role.PLAY


def test_a_player_gets_metadata_first(client: Make, publisher: Any) -> None:
    player = client()
    player.play("show")
    data = [amf.decode_untrusted(body) for kind, _, _, body in player.messages if kind == MessageType.DATA]
    assert data[0][0] == "|RtmpSampleAccess"
    assert data[1][0] == "onMetaData"
    assert (data[1][1]["videocodecid"], data[1][1]["audiocodecid"]) == (7.0, 10.0)


def test_a_player_follows_with_times_that_grow(client: Make, publisher: Any) -> None:
    player = client()
    player.play("show")
    publisher.frames(25, 10)
    player.read()
    assert video_numbers(player) == list(range(20, 35))
    times = [time_ms for kind, _, time_ms, _ in player.media() if kind == 9][1:]
    assert [after - before for before, after in itertools.pairwise(times)] == [40] * 14


def test_players_share_bytes(client: Make, publisher: Any) -> None:
    one, two = client(), client()
    one.play("show")
    two.play("show")
    publisher.frames(25, 1)
    assert one.transport.buffers[-1] is two.transport.buffers[-1]


def test_a_player_on_another_message_stream(client: Make, publisher: Any) -> None:
    player = client()
    player.connect()
    for _ in range(3):
        player.command("createStream", 2.0, None)
    player.command("play", 3.0, None, "show", stream_id=3)
    assert {stream_id for _, stream_id, _, _ in player.media()} == {3}
    assert video_numbers(player) == [20, 21, 22, 23, 24]


def test_a_player_waits_for_a_stream_and_starts_with_it(client: Make) -> None:
    player = client()
    player.play("show")
    assert player.session.role is Role.WAIT
    assert player.statuses() == []
    publisher = client()
    publisher.publish("show")
    publisher.headers()
    publisher.frames(0, 3)
    player.read()
    assert player.session.role is Role.PLAY
    assert video_numbers(player) == [0, 1, 2]


def test_a_player_does_not_wait_for_ever(client: Make) -> None:
    player = client()
    player.play("show")
    assert player.transport.deadline == 10.0
    player.session.on_deadline(10.0)
    player.read()
    assert player.statuses() == [("error", "NetStream.Play.StreamNotFound", "there is no stream 'show' here")]
    assert player.transport.closed


def test_a_refused_player_reads_why(client: Make, node: Any) -> None:
    node.gate.refuse = "a token is needed"
    player = client()
    player.play("show?token=T")
    assert player.statuses() == [("error", "NetStream.Play.Failed", "a token is needed")]
    assert (node.gate.played[0].stream, node.gate.played[0].token) == ("show", "T")


def test_a_player_is_counted_while_it_is_there(client: Make, node: Any, publisher: Any) -> None:
    player = client()
    player.play("show")
    stream = node.streams.get("show")
    assert stream.viewers == {"rtmp": 1}
    player.session.closed(1.0)
    assert stream.viewers == {"rtmp": 0}
    publisher.frames(25, 1)


def test_a_slow_player_goes_on_where_it_was_within_a_group(client: Make, node: Any, publisher: Any) -> None:
    player = client()
    player.play("show")
    player.transport.queued_bytes = QUEUE_MAX_BYTES + 1
    publisher.frames(25, 3)
    player.read()
    assert video_numbers(player)[-1] == 24
    player.transport.queued_bytes = 0
    publisher.frames(28, 1)
    player.read()
    assert video_numbers(player) == list(range(20, 29))
    assert node.streams.get("show").reader_skips == 0


def test_a_slow_player_skips_to_the_newest_group(client: Make, node: Any, publisher: Any) -> None:
    player = client()
    player.play("show")
    player.transport.queued_bytes = QUEUE_MAX_BYTES + 1
    publisher.frames(25, 18)
    player.transport.queued_bytes = 0
    publisher.frames(43, 1)
    player.read()
    assert video_numbers(player) == [20, 21, 22, 23, 24, 40, 41, 42, 43]
    assert node.streams.get("show").reader_skips == 1


def test_the_end_of_the_stream_is_told(client: Make, publisher: Any) -> None:
    player = client()
    player.play("show")
    publisher.command("deleteStream", 9.0, None, 1.0)
    player.read()
    assert [code for _, code, _ in player.statuses()[-2:]] == [
        "NetStream.Play.UnpublishNotify",
        "NetStream.Play.Stop",
    ]
    assert player.transport.closed


def hevc_stream(node: Any) -> None:
    writer = node.gate.publish(
        type("Request", (), {"stream": "show", "peer_host": "", "agent": ""})(), lambda reason: None, 0.0
    )
    writer.describe(Track(1, Codec.HEVC, 90_000, b"hvcC"), 0.0)
    writer.write(Frame(1, 0, 0, True, b"\0\0\0\x02\x26\x01"), 0.0)
    writer.flush(0.0)


def test_a_player_that_lists_its_codecs_is_told_what_it_lacks(client: Make, node: Any) -> None:
    hevc_stream(node)
    player = client()
    player.play("show", fourCcList=["av01", "vp09"])
    assert player.statuses()[-1] == (
        "error",
        "NetStream.Play.Failed",
        "this stream's video is hevc, which your player does not take",
    )
    assert player.transport.closed


@pytest.mark.parametrize("more", [{}, {"fourCcList": ["*"]}, {"videoFourCcInfoMap": {"hvc1": 1.0}}])
def test_others_get_enhanced_messages(client: Make, node: Any, more: dict[str, Any]) -> None:
    hevc_stream(node)
    player = client()
    player.play("show", **more)
    assert [body[:5] for _, _, _, body in player.media()] == [b"\x90hvc1", b"\x93hvc1"]
