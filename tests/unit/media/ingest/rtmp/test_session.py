"""Commands, answers, deadlines and ends of RTMP sessions."""

from collections.abc import Callable
from typing import Any

import pytest

from media.bitstream import h264
from media.container import amf
from media.errors import WireError
from media.ingest.rtmp.chunk import MAX_COMMAND_BYTES, MessageType, to_chunks
from media.ingest.rtmp.model import Role
from media.ingest.rtmp.session import CHECK_S, IDLE_MESSAGES

Make = Callable[[], Any]
AVCC = h264.avcc_untrusted(
    [bytes.fromhex("67640028acd940780227e5c044000003000400000300c83c60c658")], [bytes.fromhex("68ebecb22c")]
)


def test_connect_is_answered_with_windows_chunk_size_and_success(client: Make) -> None:
    one = client()
    one.connect()
    kinds = [message[0] for message in one.messages]
    assert kinds == [
        MessageType.WINDOW_ACK_SIZE,
        MessageType.SET_PEER_BANDWIDTH,
        MessageType.COMMAND,
    ]  # the reader takes Set Chunk Size itself
    name, transaction, properties, info = one.commands()[0]
    assert (name, transaction) == ("_result", 1.0)
    assert isinstance(properties, dict) and isinstance(info, dict)
    assert info["code"] == "NetConnection.Connect.Success"
    assert "capsEx" not in info


def test_enhanced_fields_are_answered(client: Make) -> None:
    one = client()
    one.connect(videoFourCcInfoMap={"hvc1": 1.0}, capsEx=3.0)
    info = one.commands()[0][3]
    assert info["capsEx"] == 15.0
    assert info["videoFourCcInfoMap"]["hvc1"] == 4.0
    assert info["audioFourCcInfoMap"]["Opus"] == 4.0
    assert one.session.statistics(1.0).enhanced


def test_publishing_as_obs_does(client: Make, node: Any) -> None:
    one = client()
    one.connect(type="nonprivate")
    one.command("releaseStream", 2.0, None, "show")
    one.command("FCPublish", 3.0, None, "show")
    one.command("createStream", 4.0, None)
    one.command("publish", 5.0, None, "show", "live", stream_id=1)
    assert [values[:2] for values in one.commands()[1:4]] == [
        ["_result", 2.0],
        ["_result", 3.0],
        ["_result", 4.0],
    ]
    assert one.statuses() == [("status", "NetStream.Publish.Start", "Publishing has begun.")]
    request = node.gate.published[0]
    assert (request.stream, request.key, request.agent) == ("show", "", "FMLE/3.0 (test)")
    one.headers()
    one.frames(0, 20)
    assert len(node.packets("show")) == 40
    assert node.packets("show")[0].keyframe
    one.command("FCUnpublish", 6.0, None, "show")
    one.command("deleteStream", 7.0, None, 1.0)
    assert one.session.role is Role.SETUP
    assert node.streams.get("show").state == "ended"


def test_a_key_in_the_query_reaches_the_gate(client: Make, node: Any) -> None:
    client().publish("show?key=a%20b&x=1")
    assert (node.gate.published[0].stream, node.gate.published[0].key) == ("show", "a b")


def test_a_key_on_the_application_reaches_the_gate(client: Make, node: Any) -> None:
    one = client()
    one.connect(app="live/show?key=K")
    one.command("createStream", 2.0, None)
    one.command("publish", 3.0, None, "", stream_id=1)
    assert (node.gate.published[0].stream, node.gate.published[0].key) == ("show", "K")


def test_a_refused_publisher_reads_why_and_is_closed(client: Make, node: Any) -> None:
    node.gate.refuse = "no such key"
    one = client()
    one.publish("show")
    assert one.statuses() == [("error", "NetStream.Publish.BadName", "no such key")]
    assert one.transport.closed


def test_a_codec_that_is_not_carried_ends_the_publication_with_the_fix(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.headers()
    one.frames(0, 3)
    one.audio(b"\x2f\xff\xfb")
    level, code, text = one.statuses()[-1]
    assert (level, code) == ("error", "NetStream.Publish.Rejected")
    assert "set the encoder's audio codec to AAC" in text
    assert one.transport.closed
    assert node.streams.get("show").state == "ended"


def test_a_publisher_that_is_taken_over_is_told_and_closed(client: Make, node: Any) -> None:
    one, two = client(), client()
    one.publish("show")
    two.publish("show")
    one.read()
    assert one.statuses()[-1] == (
        "error",
        "NetStream.Publish.Denied",
        "another publisher took this stream over",
    )
    assert one.transport.closed
    assert not two.transport.closed


def test_a_second_publish_on_one_connection_is_turned_down(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.command("createStream", 4.0, None)
    one.command("publish", 5.0, None, "other", stream_id=2)
    assert one.statuses()[-1][1] == "NetStream.Publish.BadName"
    assert one.session.role is Role.PUBLISH
    assert len(node.gate.published) == 1


def test_frames_arrive_in_one_flush_per_receive(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.headers()
    one.frames(0, 2)
    told = []
    node.streams.get("show").subscribe(told.append)
    body = b"\x27\x01\0\0\0\0\0\0\x02\x41\x01"
    one.send(b"".join(to_chunks(6, 9, 1, 80 + 40 * number, 128, body) for number in range(5)))
    assert told == [0.0]


def test_a_client_that_does_nothing_is_dropped(client: Make) -> None:
    one = client()
    assert one.transport.deadline == 10.0
    one.session.on_deadline(10.0)
    assert one.transport.closed
    assert one.transport.sent == b""


def test_a_client_that_only_connects_is_told_and_dropped(client: Make) -> None:
    one = client()
    one.connect()
    one.session.on_deadline(10.0)
    one.read()
    assert one.statuses()[-1][2] == "neither publish nor play within 10 s"
    assert one.transport.closed


def test_a_silent_publisher_is_dropped(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.now = 5.0
    one.headers()
    one.frames(0, 3)
    for when in (10.0, 20.0, 30.0):
        assert one.transport.deadline == when
        one.session.on_deadline(when)
    one.now = 31.0
    one.message(MessageType.USER_CONTROL, b"\0\x07\0\0\0\0", chunks=2)  # an answer to a ping is no data
    assert one.transport.deadline == 35.0
    assert not one.transport.closed
    one.session.on_deadline(35.0)
    one.read()
    assert one.statuses()[-1][2] == "no data for 30 s"
    assert one.transport.closed
    assert node.streams.get("show").state == "ended"


def test_pings_measure_the_round_trip(client: Make) -> None:
    one = client()
    one.publish("show")
    one.session.on_deadline(CHECK_S)
    one.read()
    ping = one.messages[-1]
    assert (ping[0], ping[3][:2]) == (MessageType.USER_CONTROL, b"\0\x06")
    one.now = CHECK_S + 0.25
    one.message(MessageType.USER_CONTROL, b"\0\x07" + ping[3][2:], chunks=2)
    assert one.session.statistics(one.now).rtt_ms == 250.0


def test_a_ping_is_answered(client: Make) -> None:
    one = client()
    one.connect()
    one.message(MessageType.USER_CONTROL, b"\0\x06\0\0\x12\x34", chunks=2)
    assert one.messages[-1][3] == b"\0\x07\0\0\x12\x34"


def test_input_is_acknowledged(client: Make) -> None:
    one = client()
    one.publish("show")
    one.message(MessageType.WINDOW_ACK_SIZE, (20_000).to_bytes(4), chunks=2)
    one.headers()
    before = len(one.messages)
    one.frames(0, 30, size=1000)
    fresh = [message for message in one.messages[before:] if message[0] == MessageType.ACKNOWLEDGEMENT]
    assert len(fresh) == 1
    assert 20_000 < int.from_bytes(fresh[0][3]) < 40_000


def test_commands_before_connect_are_an_error(client: Make) -> None:
    one = client()
    one.handshake()
    with pytest.raises(WireError, match="before connect"):
        one.command("publish", 1.0, None, "show")


def test_unknown_commands_get_an_error_and_live_has_no_length(client: Make) -> None:
    one = client()
    one.connect()
    one.command("doMagic", 8.0, None)
    one.command("getStreamLength", 9.0, None, "show")
    one.command("_checkbw", 10.0, None)
    one.command("pause", 11.0, None, True, 0.0)
    answers = [values[:2] for values in one.commands()[1:]]
    assert answers == [["_error", 8.0], ["_result", 9.0], ["_result", 10.0]]


def test_amf3_commands_are_understood(client: Make, node: Any) -> None:
    one = client()
    one.handshake()
    # The command object as AMF3: anonymous dynamic object {app: "live"}.
    given = b"\x11\x0a\x0b\x01" + b"\x07app\x06\x09live" + b"\x01"
    one.message(MessageType.COMMAND_AMF3, b"\0" + amf.encode("connect", 1.0) + given)
    one.message(MessageType.COMMAND_AMF3, b"\0" + amf.encode("createStream", 2.0, None))
    one.message(MessageType.COMMAND_AMF3, b"\0" + amf.encode("publish", 3.0, None, "show"), stream_id=1)
    assert one.statuses()[-1][1] == "NetStream.Publish.Start"


def test_garbage_is_reported_and_raised(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.headers()
    one.frames(0, 2)
    with pytest.raises(WireError, match="cut off"):
        one.send(to_chunks(6, 9, 1, 200, 128, b"\x17\x01"))
    one.read()
    assert one.statuses()[-1][1] == "NetStream.Failed"
    one.session.closed(1.0)
    assert node.streams.get("show").state == "ended"
    assert len(node.sessions) == 0


def test_large_messages_only_from_publishers(client: Make) -> None:
    one = client()
    one.connect()
    with pytest.raises(WireError, match="more than"):
        one.video(bytes(MAX_COMMAND_BYTES + 1))


def test_a_flood_of_messages_from_one_who_does_not_publish_ends(client: Make) -> None:
    one = client()
    one.connect()
    ack = to_chunks(2, MessageType.ACKNOWLEDGEMENT, 0, 0, 128, bytes(4))
    with pytest.raises(WireError, match="does not publish"):
        one.send(ack * (IDLE_MESSAGES + 1))


def test_reconnect_is_asked_of_those_who_know_it(client: Make, node: Any) -> None:
    old, new = client(), client()
    old.publish("old")
    new.publish("new", capsEx=1.0)
    assert node.sessions.request_reconnect("rtmp://other/live", "this node is being updated") == 1
    new.read()
    info = new.commands()[-1][3]
    assert info["code"] == "NetConnection.Connect.ReconnectRequest"
    assert info["tcUrl"] == "rtmp://other/live"
    assert not new.transport.closed


def test_shut_down_tells_everybody(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    node.sessions.shut_down("going down", 3.0)
    one.read()
    assert one.statuses()[-1] == ("error", "NetConnection.Connect.AppShutdown", "going down")
    assert one.transport.closed


def test_statistics_of_a_publisher(client: Make) -> None:
    one = client()
    one.publish("show")
    one.headers()
    one.frames(0, 10)
    numbers = one.session.statistics(2.0)
    assert numbers.role is Role.PUBLISH
    assert (numbers.stream, numbers.peer, numbers.age_s) == ("show", "192.0.2.7:4321", 2.0)
    assert numbers.publication.frames == 20
    assert numbers.bytes_in > 3073
    assert numbers.jitter_ms is not None


def test_the_end_of_input_ends_the_stream(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.headers()
    one.frames(0, 3)
    one.session.receive_eof(1.0)
    assert one.transport.closed
    assert node.streams.get("show").state == "ended"


def test_too_many_tracks_are_refused_and_the_stream_is_let_go(client: Make, node: Any) -> None:
    one = client()
    one.publish("show")
    one.headers()
    for index in range(1, 17):
        one.video(b"\x96\x00avc1" + bytes((index,)) + AVCC)
    one.frames(0, 30)
    assert "more than 16 tracks" in one.statuses()[-1][2]
    assert one.transport.closed
    stream = node.streams.get("show")
    assert stream is None or stream.state == "ended"
