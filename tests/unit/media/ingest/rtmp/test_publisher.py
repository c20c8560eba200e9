"""The publishing client against our own server."""

from random import Random
from typing import Any

import pytest

from media.bitstream import h264
from media.errors import StateError
from media.ingest.rtmp.publisher import RtmpPublisher
from media.track.model import Codec, Packet, Track

AVCC = h264.avcc_untrusted(
    [bytes.fromhex("67640028acd940780227e5c044000003000400000300c83c60c658")], [bytes.fromhex("68ebecb22c")]
)
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=1920, height=1080, declared_bps=1_000_000, declared_fps=25.0)
AUDIO = Track(2, Codec.AAC, 48_000, bytes.fromhex("1190"), sample_rate=48_000, channels=2)


class Pair:
    """A publisher and a session of the node, and what goes between them."""

    def __init__(self, node: Any, transport: type, stream: str = "show") -> None:
        self.near, self.far = transport(), transport()
        self.session = node.sessions(self.far, 0.0)
        self.ready: list[float] = []
        self.ended: list[str] = []
        self.publisher = RtmpPublisher(
            self.near,
            0.0,
            tc_url="rtmp://host/live",
            app="live",
            stream=stream,
            random=Random(4),
            on_ready=self.ready.append,
            on_ended=self.ended.append,
        )
        self._taken = [0, 0]

    def run(self) -> None:
        """Pass bytes until both are silent."""
        while True:
            moved = False
            for index, (source, sink) in enumerate(((self.near, self.session), (self.far, self.publisher))):
                fresh = bytes(source.sent[self._taken[index] :])
                self._taken[index] = len(source.sent)
                if fresh:
                    sink.receive(fresh, 1.0)
                    moved = True
            if not moved:
                return


@pytest.fixture
def transport(client: Any) -> type:
    found: type = type(client().transport)
    return found


def packet(track: Track, dts: int, data: bytes) -> Packet:
    return Packet(track, dts, 0, 3600, True, data, 1, 1, 0, 0)


def test_publishing(node: Any, transport: type) -> None:
    pair = Pair(node, transport)
    with pytest.raises(StateError):
        pair.publisher.write([])
    pair.run()
    assert pair.ready == [1.0]
    pair.publisher.describe((VIDEO, AUDIO))
    frames = [packet(VIDEO, 900_000 + 3600 * number, b"\0\0\0\x02\x65\x01") for number in range(10)]
    pair.publisher.write(frames)
    pair.publisher.write([packet(AUDIO, 480_000, b"sound")])
    pair.run()
    stream = node.streams.get("show")
    assert [track.codec for track in stream.tracks.values()] == [Codec.H264, Codec.AAC]
    assert stream.tracks[1].declared_fps == 25.0
    assert [len(one.data) for one in node.packets("show")] == [6] * 10 + [5]
    pair.publisher.close()
    pair.run()
    assert pair.ended == ["closed"]
    assert stream.state == "ended"


def test_a_refusal_is_told_in_the_servers_words(node: Any, transport: type) -> None:
    node.gate.refuse = "this key was revoked"
    pair = Pair(node, transport)
    pair.run()
    assert pair.ended == ["the server says: this key was revoked"]
    assert pair.ready == []
    assert pair.near.closed


def test_a_server_that_does_not_answer(node: Any, transport: type) -> None:
    pair = Pair(node, transport)
    assert pair.near.deadline == 10.0
    pair.publisher.on_deadline(10.0)
    assert pair.ended == ["the server did not let us publish within 10 s"]
