"""An RTMP client's end in a test's hands, and a node's with a gate that says yes."""

import dataclasses
from collections.abc import Callable
from random import Random

import pytest

from media.bitstream import h264
from media.bitstream.duration import frame_duration
from media.container import amf
from media.container.feed import Feeds, FeedSettings
from media.errors import Refused
from media.ingest.gate import PlayRequest, PublishRequest
from media.ingest.rtmp.chunk import ChunkReader, MessageType, to_chunks
from media.ingest.rtmp.handshake import ClientHandshake
from media.ingest.rtmp.model import RtmpSettings
from media.ingest.rtmp.session import RtmpSession
from media.ingest.rtmp.sessions import RtmpSessions
from media.net.transport import Buffer, FileSlice
from media.track.model import Packet
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, Writer

AVCC = h264.avcc_untrusted(
    [bytes.fromhex("67640028acd940780227e5c044000003000400000300c83c60c658")], [bytes.fromhex("68ebecb22c")]
)
ASC = bytes.fromhex("1190")  # AAC-LC, 48 kHz, stereo


class FakeTransport:
    peer_host = "192.0.2.7"
    peer_port = 4321
    secure = False

    def __init__(self) -> None:
        self.sent = bytearray()
        self.buffers: list[Buffer] = []
        self.closed = False
        self.deadline: float | None = None
        self.queued_bytes = 0

    def send(self, *buffers: Buffer) -> None:
        assert buffers
        if not self.closed:
            self.buffers += buffers
            for buffer in buffers:
                self.sent += buffer

    def send_file(self, part: FileSlice) -> None:
        raise AssertionError("RTMP sends no files")

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def wake_at(self, when: float | None) -> None:
        self.deadline = when

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class FakeTimer:
    def cancel(self) -> None: ...


class FakeGate:
    """Lets everybody in, unless `refuse` holds a text."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.refuse = ""
        self.published: list[PublishRequest] = []
        self.played: list[PlayRequest] = []

    def publish(self, request: PublishRequest, on_stop: Callable[[str], None], now: float) -> Writer:
        self.published.append(request)
        if self.refuse:
            raise Refused(self.refuse)
        source = Source("rtmp", request.peer_host, request.agent)
        return self.streams.open(request.stream, source, now, 1_700_000_000_000_000, on_stop)

    def play(self, request: PlayRequest, now: float) -> Stream | None:
        self.played.append(request)
        if self.refuse:
            raise Refused(self.refuse)
        return self.streams.get(request.stream)


@dataclasses.dataclass
class Node:
    streams: Streams
    gate: FakeGate
    sessions: RtmpSessions

    def packets(self, name: str) -> list[Packet]:
        stream = self.streams.get(name)
        assert stream is not None
        return stream.ring.slice(stream.ring.first, stream.ring.next)


class Client:
    """Sends commands and media to one session and reads its answers."""

    def __init__(self, node: Node, now: float = 0.0) -> None:
        self.transport = FakeTransport()
        self.session: RtmpSession = node.sessions(self.transport, now)
        self.now = now
        self.messages: list[tuple[int, int, int, bytes]] = []
        self.chunk_bytes = 128
        self._taken = 0
        self._reader = ChunkReader(lambda *message: self.messages.append(message))
        self._reader.message_limit = 1 << 24

    def send(self, data: bytes) -> None:
        self.session.receive(data, self.now)
        self.read()

    def read(self) -> None:
        fresh = bytes(self.transport.sent[self._taken :])
        self._taken = len(self.transport.sent)
        if fresh:
            self._reader.receive(fresh)

    def handshake(self) -> None:
        hand = ClientHandshake(Random(7))
        self.session.receive(hand.hello, self.now)
        reply = hand.receive(bytes(self.transport.sent))
        self._taken = len(self.transport.sent)
        self.send(reply)

    def message(
        self, kind: int, payload: bytes, *, stream_id: int = 0, time_ms: int = 0, chunks: int = 3
    ) -> None:
        self.send(to_chunks(chunks, kind, stream_id, time_ms, self.chunk_bytes, payload))

    def command(self, *values: amf.Value, stream_id: int = 0) -> None:
        self.message(MessageType.COMMAND, amf.encode(*values), stream_id=stream_id)

    def connect(self, **more: amf.Value) -> None:
        self.handshake()
        given: dict[str, amf.Value] = {
            "app": "live",
            "tcUrl": "rtmp://host/live",
            "flashVer": "FMLE/3.0 (test)",
        }
        self.command("connect", 1.0, given | more)

    def publish(self, name: str, **more: amf.Value) -> None:
        self.connect(**more)
        self.command("createStream", 2.0, None)
        self.command("publish", 3.0, None, name, "live", stream_id=1)

    def play(self, name: str, **more: amf.Value) -> None:
        self.connect(**more)
        self.command("createStream", 2.0, None)
        self.command("play", 3.0, None, name, -2000.0, stream_id=1)

    def video(self, body: bytes, time_ms: int = 0) -> None:
        self.message(MessageType.VIDEO, body, stream_id=1, time_ms=time_ms, chunks=6)

    def audio(self, body: bytes, time_ms: int = 0) -> None:
        self.message(MessageType.AUDIO, body, stream_id=1, time_ms=time_ms, chunks=4)

    def headers(self) -> None:
        self.video(b"\x17\0\0\0\0" + AVCC)
        self.audio(b"\xaf\0" + ASC)

    def frames(self, first: int, count: int, *, every: int = 10, gap_ms: int = 40, size: int = 20) -> None:
        """Video of `gap_ms` a frame, a keyframe `every` so many, with sound beside it."""
        for number in range(first, first + count):
            kind = b"\x17" if number % every == 0 else b"\x27"
            nal = bytes([0x65 if number % every == 0 else 0x41]) + number.to_bytes(4) + bytes(size - 5)
            self.video(kind + b"\x01\0\0\0" + len(nal).to_bytes(4) + nal, number * gap_ms)
            self.audio(b"\xaf\x01" + number.to_bytes(4), number * gap_ms)

    def commands(self) -> list[list[amf.Value]]:
        return [
            amf.decode_untrusted(payload)
            for kind, _, _, payload in self.messages
            if kind == MessageType.COMMAND
        ]

    def statuses(self) -> list[tuple[str, str, str]]:
        """Level, code and description of each onStatus."""
        found = []
        for values in self.commands():
            if values[0] == "onStatus":
                info = values[3]
                assert isinstance(info, dict)
                found.append((str(info["level"]), str(info["code"]), str(info["description"])))
        return found

    def media(self) -> list[tuple[int, int, int, bytes]]:
        return [message for message in self.messages if message[0] in (MessageType.AUDIO, MessageType.VIDEO)]


@pytest.fixture
def settings() -> RtmpSettings:
    return RtmpSettings()


@pytest.fixture
def node(settings: RtmpSettings) -> Node:
    streams = Streams(
        RegistrySettings(linger_s=0.0), call_at=lambda when, call: FakeTimer(), measure=frame_duration
    )
    gate = FakeGate(streams)
    feeds = Feeds(FeedSettings(flush_s=0.0), lambda when, call: FakeTimer())
    return Node(streams, gate, RtmpSessions(gate, settings, Random(3), streams.wait_for, feeds))


@pytest.fixture
def client(node: Node) -> Callable[[], Client]:
    """Makes clients of the node."""
    return lambda: Client(node)
