"""Aggregate messages and protocol control, below the level of sessions."""

from random import Random

import pytest

from media.container import flv
from media.errors import WireError
from media.ingest.rtmp.chunk import MessageType, to_chunks
from media.ingest.rtmp.command import Command
from media.ingest.rtmp.connection import Connection
from media.ingest.rtmp.handshake import ServerHandshake


class Recorder:
    def __init__(self) -> None:
        self.sent = b""
        self.media: list[tuple[int, int, int, bytes]] = []
        self.data: list[tuple[int, bytes]] = []
        self.connection = Connection(ServerHandshake(Random(1)), self)
        self.connection.receive(b"\x03" + bytes(1536))
        self.connection.receive(bytes(1536))
        assert self.connection.open

    def send(self, data: bytes) -> None:
        self.sent += data

    def on_command(self, command: Command) -> None: ...

    def on_media(self, kind: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        self.media.append((kind, stream_id, timestamp, payload))

    def on_data(self, stream_id: int, payload: bytes) -> None:
        self.data.append((stream_id, payload))

    def on_user_control(self, event: int, payload: bytes) -> None: ...


def test_an_aggregate_is_its_parts_with_times_from_its_own() -> None:
    recorder = Recorder()
    tags = (
        flv._tag(9, 5000, b"\x17video") + flv._tag(8, 5020, b"\xafaudio") + flv._tag(18, 5020, b"\x02\0\x01x")
    )
    recorder.connection.receive(to_chunks(4, MessageType.AGGREGATE, 1, 90_000, 128, tags))
    assert recorder.media == [(9, 1, 90_000, b"\x17video"), (8, 1, 90_020, b"\xafaudio")]
    assert recorder.data == [(1, b"\x02\0\x01x")]


def test_an_aggregate_may_lack_its_last_size() -> None:
    recorder = Recorder()
    recorder.connection.receive(to_chunks(4, MessageType.AGGREGATE, 1, 7, 128, flv._tag(9, 0, b"abc")[:-4]))
    assert recorder.media == [(9, 1, 7, b"abc")]


def test_an_aggregate_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(WireError, match="cut off"):
        Recorder().connection.receive(
            to_chunks(4, MessageType.AGGREGATE, 1, 7, 128, flv._tag(9, 0, b"abc")[:12])
        )


def test_data_in_amf3_loses_its_format_byte() -> None:
    recorder = Recorder()
    recorder.connection.receive(to_chunks(4, MessageType.DATA_AMF3, 1, 0, 128, b"\0\x02\0\x01x"))
    recorder.connection.receive(to_chunks(4, MessageType.DATA_AMF3, 1, 0, 128, b"\x02\0\x01x"))
    assert recorder.data == [(1, b"\x02\0\x01x")] * 2


def test_unknown_messages_are_ignored() -> None:
    recorder = Recorder()
    for kind in (7, 16, 19, 22, 99, 255):
        recorder.connection.receive(to_chunks(4, kind, 1, 0, 128, b""))
    assert recorder.media == []
    assert recorder.connection.messages == 6


def test_the_peers_acknowledgement_is_kept() -> None:
    recorder = Recorder()
    recorder.connection.receive(to_chunks(2, MessageType.ACKNOWLEDGEMENT, 0, 0, 128, (1234).to_bytes(4)))
    assert recorder.connection.bytes_acknowledged == 1234
