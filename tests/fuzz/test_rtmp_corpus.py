"""Replays what RTMP clients have sent: `publish-*` give frames, `play-*` begin to play or wait,
`refused-*` are turned away in words, `bad-*` raise WireError. All of them in any pieces."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from media.bitstream.duration import frame_duration
from media.container.feed import Feeds, FeedSettings
from media.errors import WireError
from media.ingest.gate import PlayRequest, PublishRequest
from media.ingest.rtmp.model import Role, RtmpSettings
from media.ingest.rtmp.session import RtmpSession
from media.net.transport import Buffer, FileSlice
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, Writer

CORPUS = sorted((Path(__file__).parent / "rtmp").glob("*.bin"))
STEPS = [0, 1, 13, 1000]  # bytes per receive; 0 is all at once


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


class Replay:
    """One client's bytes through a session behind an open gate."""

    def __init__(self) -> None:
        self.streams = Streams(
            RegistrySettings(linger_s=0.0), call_at=lambda when, call: Timer(), measure=frame_duration
        )
        self.stream: Stream | None = None
        self.transport = Transport()
        self.session = RtmpSession(
            self.transport,
            0.0,
            gate=self,
            settings=RtmpSettings(),
            random=Random(1),
            wait_for=self.streams.wait_for,
            feeds=Feeds(FeedSettings(), lambda when, call: Timer()),
        )

    def publish(self, request: PublishRequest, on_stop: Callable[[str], None], now: float) -> Writer:
        writer = self.streams.open(request.stream, Source("rtmp", ""), now, 1_700_000_000_000_000, on_stop)
        self.stream = writer.stream
        return writer

    def play(self, request: PlayRequest, now: float) -> Stream | None:
        return None

    def feed(self, data: bytes, step: int) -> None:
        for at in range(0, len(data), step or len(data)):
            if self.transport.closed:
                return
            self.session.receive(data[at : at + (step or len(data))], 0.0)

    def frames(self) -> list[tuple[int, int, bytes]]:
        assert self.stream is not None
        ring = self.stream.ring
        return [(packet.track.id, packet.dts, packet.data) for packet in ring.slice(0, ring.next)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_replay(path: Path, step: int) -> None:
    data = path.read_bytes()
    replay = Replay()
    kind = path.name.partition("-")[0]
    if kind == "bad":
        with pytest.raises(WireError):
            replay.feed(data, step)
        return
    replay.feed(data, step)
    if kind == "refused":
        assert replay.transport.closed
        assert b"is not carried here" in replay.transport.sent
    elif kind == "play":
        assert replay.session.role is Role.WAIT
    else:
        replay.session.closed(0.0)
        whole = Replay()
        whole.feed(data, 0)
        whole.session.closed(0.0)
        assert len(replay.frames()) >= 14
        assert replay.frames() == whole.frames()
