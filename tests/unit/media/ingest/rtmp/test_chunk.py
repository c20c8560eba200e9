"""Chunks to messages and back: header types, extended timestamps, interleaving, limits."""

import pytest

from media.errors import WireError
from media.ingest.rtmp.chunk import (
    MAX_CHUNK_STREAMS,
    MAX_COMMAND_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PARTIAL_BYTES,
    ChunkReader,
    to_chunks,
)

Message = tuple[int, int, int, bytes]


class Reader:
    def __init__(self, media_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.messages: list[Message] = []
        self.reader = ChunkReader(lambda *message: self.messages.append(message))
        self.reader.message_limit = media_bytes

    def feed(self, data: bytes, step: int = 0) -> list[Message]:
        step = step or len(data)
        for at in range(0, len(data), step):
            self.reader.receive(data[at : at + step])
        return self.messages


def header0(chunks: int, time: int, length: int, kind: int, stream: int = 1) -> bytes:
    return (
        bytes((chunks,))
        + time.to_bytes(3)
        + length.to_bytes(3)
        + bytes((kind,))
        + stream.to_bytes(4, "little")
    )


@pytest.mark.parametrize("step", [0, 1, 5, 128, 129])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 256, 257, 5000])
def test_a_message_of_any_size_in_any_pieces(size: int, step: int) -> None:
    body = bytes(index & 0xFF for index in range(size))
    data = to_chunks(6, 9, 1, 77, 128, body) + to_chunks(4, 8, 1, 78, 128, b"after")
    assert Reader().feed(data, step) == [(9, 1, 77, body), (8, 1, 78, b"after")]


def test_deltas_accumulate_and_type_3_repeats_them() -> None:
    data = header0(6, 1000, 1, 9) + b"a"
    data += b"\x46" + (40).to_bytes(3) + (1).to_bytes(3) + b"\x09" + b"b"  # type 1: delta 40
    data += b"\x86" + (30).to_bytes(3) + b"c"  # type 2: delta 30
    data += b"\xc6" + b"d"  # type 3: delta 30 again
    assert [(time, body) for _, _, time, body in Reader().feed(data)] == [
        (1000, b"a"), (1040, b"b"), (1070, b"c"), (1100, b"d"),
    ]  # fmt: skip


def test_type_3_after_type_0_takes_its_time_as_delta() -> None:
    assert [time for _, _, time, _ in Reader().feed(header0(6, 10, 1, 9) + b"a\xc6b")] == [10, 20]


def test_deltas_wrap_at_32_bits() -> None:
    data = (
        to_chunks(6, 9, 1, 0xFFFFFFF0, 128, b"a")
        + b"\x46"
        + (32).to_bytes(3)
        + (1).to_bytes(3)
        + b"\x09"
        + b"b"
    )
    assert [time for _, _, time, _ in Reader().feed(data)] == [0xFFFFFFF0, 16]


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("time", [0xFFFFFE, 0xFFFFFF, 0x1000000, 0xFFFFFFFF])
def test_extended_timestamps_repeated_on_type_3(time: int, step: int) -> None:
    body = bytes(300)
    assert Reader().feed(to_chunks(6, 9, 1, time, 128, body), step) == [(9, 1, time, body)]


@pytest.mark.parametrize("step", [0, 1])
def test_extended_timestamps_left_out_on_type_3(step: int) -> None:
    body = b"\x55" * 300
    head = header0(6, 0xFFFFFF, 300, 9) + (0x1234567).to_bytes(4)
    data = (
        head
        + body[:128]
        + b"\xc6"
        + body[128:256]
        + b"\xc6"
        + body[256:]
        + to_chunks(4, 8, 1, 9, 128, b"next")
    )
    assert Reader().feed(data, step) == [(9, 1, 0x1234567, body), (8, 1, 9, b"next")]


def test_extended_delta_with_the_absolute_time_repeated() -> None:
    first = to_chunks(6, 9, 1, 100, 128, b"a")
    delta = (0x2000000).to_bytes(4)
    body = b"\x55" * 200
    head = b"\x46" + b"\xff\xff\xff" + (200).to_bytes(3) + b"\x09" + delta
    data = first + head + body[:128] + b"\xc6" + (0x2000000 + 100).to_bytes(4) + body[128:]
    assert Reader().feed(data)[1] == (9, 1, 0x2000064, body)


@pytest.mark.parametrize(("number", "basic"), [(2, b"\x02"), (63, b"\x3f"), (64, b"\0\0"), (319, b"\0\xff"),
                                               (320, b"\x01\0\x01"), (65599, b"\x01\xff\xff")])  # fmt: skip
@pytest.mark.parametrize("step", [0, 1])
def test_chunk_stream_ids_of_one_two_and_three_bytes(number: int, basic: bytes, step: int) -> None:
    body = bytes(200)
    again = bytes((basic[0] | 0xC0,)) + basic[1:]
    data = basic + header0(0, 5, 200, 9)[1:] + body[:128] + again + body[128:]
    reader = Reader()
    assert reader.feed(data, step) == [(9, 1, 5, body)]
    assert list(reader.reader._streams) == [number]


@pytest.mark.parametrize("step", [0, 1, 100])
def test_interleaved_messages(step: int) -> None:
    video, audio = b"v" * 300, b"a" * 200
    one = to_chunks(6, 9, 1, 1, 128, video)
    two = to_chunks(4, 8, 1, 2, 128, audio)
    cut_one, cut_two = 12 + 128, 12 + 128
    data = one[:cut_one] + two[:cut_two] + one[cut_one : cut_one + 129] + two[cut_two:] + one[cut_one + 129 :]
    assert Reader().feed(data, step) == [(8, 1, 2, audio), (9, 1, 1, video)]


def test_chunk_size_changes_between_messages_and_inside_one() -> None:
    body = b"v" * 500
    one = to_chunks(6, 9, 1, 1, 128, body)
    resize = to_chunks(2, 1, 0, 0, 128, (4096).to_bytes(4))
    data = one[: 12 + 128] + resize + b"\xc6" + body[128:]
    assert Reader().feed(data) == [(9, 1, 1, body)]


def test_abort_forgets_a_partial_message() -> None:
    one = to_chunks(6, 9, 1, 1, 128, b"v" * 500)
    abort = to_chunks(2, 2, 0, 0, 128, (6).to_bytes(4))
    again = to_chunks(6, 9, 1, 2, 128, b"w" * 500)
    assert Reader().feed(one[: 12 + 128] + abort + again) == [(9, 1, 2, b"w" * 500)]


def test_stop_stops_within_one_receive() -> None:
    reader = Reader()
    reader.reader = ChunkReader(lambda *message: (reader.messages.append(message), reader.reader.stop())[0])
    reader.feed(to_chunks(4, 8, 1, 0, 128, b"a") * 3)
    assert len(reader.messages) == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xc6", "begins without a header"),
        (b"\x86\0\0\0", "begins without a header"),
        (header0(6, 0, 500, 9) + bytes(128) + header0(6, 0, 5, 9), "inside another"),
        (header0(6, 0, 0xFFFFFF, 9), "more than"),
        (header0(3, 0, MAX_COMMAND_BYTES + 1, 20), "more than"),
        (header0(2, 0, 65, 4), "more than"),
        (to_chunks(2, 1, 0, 0, 128, (127).to_bytes(4)), "chunk size 127"),
        (to_chunks(2, 1, 0, 0, 128, (0x80000080).to_bytes(4)), "chunk size"),
        (to_chunks(2, 1, 0, 0, 128, b"\0\0"), "chunk size"),
    ],
)
def test_what_breaks_the_protocol_is_an_error(data: bytes, text: str) -> None:
    with pytest.raises(WireError, match=text):
        Reader().feed(data)


def test_media_are_small_until_the_session_says_otherwise() -> None:
    with pytest.raises(WireError):
        Reader(MAX_COMMAND_BYTES).feed(header0(6, 0, MAX_COMMAND_BYTES + 1, 9))


def test_chunk_streams_are_bounded() -> None:
    with pytest.raises(WireError, match="chunk streams"):
        Reader().feed(
            b"".join(b"\0" + bytes((number,)) + header0(0, 0, 1, 8)[1:] + b"x" for number in range(65))
        )
    assert MAX_CHUNK_STREAMS == 64


def test_unfinished_messages_are_bounded_in_all() -> None:
    reader = Reader()
    reader.feed(to_chunks(2, 1, 0, 0, 128, (1 << 20).to_bytes(4)))
    head = [header0(number, 0, MAX_MESSAGE_BYTES, 9) + bytes(1 << 20) for number in range(3, 40)]
    with pytest.raises(WireError, match="unfinished"):
        for data in head:
            reader.feed(data)
    assert reader.reader._partial_bytes <= MAX_PARTIAL_BYTES + (1 << 20)


def test_a_length_alone_takes_no_memory() -> None:
    reader = Reader()
    reader.feed(header0(6, 0, MAX_MESSAGE_BYTES, 9) + b"x")
    assert reader.reader._partial_bytes == 1
