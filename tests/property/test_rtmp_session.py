"""A whole session: any pieces give the same frames; anything at all raises only RemoteError."""

import itertools
from collections.abc import Callable
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.bitstream import h264
from media.container import amf
from media.container.feed import Feeds, FeedSettings
from media.errors import RemoteError
from media.ingest.gate import PlayRequest, PublishRequest
from media.ingest.rtmp.chunk import to_chunks
from media.ingest.rtmp.model import RtmpSettings
from media.ingest.rtmp.session import RtmpSession
from media.net.transport import Buffer, FileSlice
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, Writer

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
AVCC = h264.avcc_untrusted(
    [bytes.fromhex("67640028acd940780227e5c044000003000400000300c83c60c658")], [bytes.fromhex("68ebecb22c")]
)


class Transport:
    peer_host, peer_port, secure, queued_bytes = "192.0.2.1", 1, False, 0

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def send(self, *buffers: Buffer) -> None:
        self.sent += b"".join(buffers)

    def send_file(self, part: FileSlice) -> None: ...

    def close(self) -> None:
        self.closed = True

    abort = pause_reading = resume_reading = close

    def wake_at(self, when: float | None) -> None: ...


class Timer:
    def cancel(self) -> None: ...


class Gate:
    def __init__(self) -> None:
        self.streams = Streams(
            RegistrySettings(linger_s=0.0),
            call_at=lambda when, call: Timer(),
            measure=lambda track, data: None,
        )

    def publish(self, request: PublishRequest, on_stop: Callable[[str], None], now: float) -> Writer:
        return self.streams.open(request.stream, Source("rtmp", ""), now, 1_700_000_000_000_000, on_stop)

    def play(self, request: PlayRequest, now: float) -> Stream | None:
        return self.streams.get(request.stream)


def session(gate: Gate, transport: Transport) -> RtmpSession:
    return RtmpSession(
        transport,
        0.0,
        gate=gate,
        settings=RtmpSettings(),
        random=Random(1),
        wait_for=gate.streams.wait_for,
        feeds=Feeds(FeedSettings(), lambda when, call: Timer()),
    )


def command(*values: amf.Value, stream_id: int = 0) -> bytes:
    return to_chunks(3, 20, stream_id, 0, 128, amf.encode(*values))


OPENING = (
    b"\x03" + bytes(2 * 1536)
    + command("connect", 1.0, {"app": "live", "capsEx": 15.0, "fourCcList": ["*"]})
    + command("createStream", 2.0, None)
)  # fmt: skip
PUBLISH = OPENING + command("publish", 3.0, None, "show", "live", stream_id=1)


def media(frames: int) -> bytes:
    data = to_chunks(6, 9, 1, 0, 128, b"\x17\0\0\0\0" + AVCC) + to_chunks(4, 8, 1, 0, 128, b"\xaf\0\x11\x90")
    for number in range(frames):
        body = (b"\x27" if number % 5 else b"\x17") + b"\x01\0\0\0" + (300).to_bytes(4) + bytes(300)
        data += to_chunks(6, 9, 1, 40 * number, 128, body)
        data += to_chunks(4, 8, 1, 40 * number, 128, b"\xaf\x01" + bytes(40))
    return data


GOOD = PUBLISH + media(8)


def feed(data: bytes, cuts: list[int]) -> Gate:
    gate = Gate()
    one = session(gate, Transport())
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    try:
        for start, stop in itertools.pairwise(edges):
            if start < stop and one.role != "closed":
                one.receive(data[start:stop], start / 1000)
    finally:
        one.closed(100.0)
    return gate


def packets(gate: Gate) -> list[tuple[int, int, bytes]]:
    stream = gate.streams.get("show")
    assert stream is not None
    return [(one.track.id, one.dts, one.data) for one in stream.ring.slice(0, stream.ring.next)]


WHOLE = packets(feed(GOOD, []))


@unhurried
@given(st.lists(st.integers(0, len(GOOD)), max_size=60))
def test_any_pieces_give_the_same_packets(cuts: list[int]) -> None:
    assert len(WHOLE) == 16
    assert packets(feed(GOOD, cuts)) == WHOLE


def test_one_byte_at_a_time_gives_the_same_packets() -> None:
    assert packets(feed(GOOD, list(range(len(GOOD))))) == WHOLE


@unhurried
@given(st.data())
def test_damage_raises_only_remote_errors(data: st.DataObject) -> None:
    bad = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        bad[data.draw(st.integers(3073, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        feed(bytes(bad), [])
    except RemoteError:
        pass


@unhurried
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 9, 15, 17, 18, 20, 22]), st.binary(max_size=200)),
        max_size=8,
    ),
    st.sampled_from([b"\x03" + bytes(3072), OPENING, PUBLISH, GOOD]),
)
def test_any_messages_raise_only_remote_errors(messages: list[tuple[int, bytes]], opening: bytes) -> None:
    data = opening + b"".join(to_chunks(7, kind, 1, 5, 128, body) for kind, body in messages)
    try:
        feed(data, [])
    except RemoteError:
        pass


@unhurried
@given(
    st.lists(
        st.tuples(
            st.sampled_from([
                "connect", "createStream", "publish", "play", "deleteStream", "closeStream", "FCUnpublish",
                "releaseStream", "getStreamLength", "pause", "_result", "onStatus", "x",
            ]),
            st.one_of(st.none(), st.floats(), st.text(max_size=20), st.just("show")),
            st.integers(0, 3),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_any_commands_raise_only_remote_errors(commands: list[tuple[str, amf.Value, int]]) -> None:
    data = OPENING
    for name, argument, stream_id in commands:
        data += command(name, 5.0, None, argument, stream_id=stream_id)
    try:
        feed(data + media(2), [])
    except RemoteError:
        pass
