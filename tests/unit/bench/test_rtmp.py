import pytest
from fwbench import rtmp
from fwbench.rtmp import ChunkReader, Message


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_a_message_is_cut_into_chunks_with_short_headers() -> None:
    data = rtmp.message(rtmp.VIDEO, b"v" * 9000, 0x010203, 1)
    assert data[:12] == b"\x06\x01\x02\x03\x00\x23\x28\x09\x01\0\0\0"
    assert len(data) == 12 + 9000 + 2
    assert data[12 + 4096] == data[12 + 4096 + 1 + 4096] == 0xC6


def test_a_body_of_exactly_one_chunk_has_no_second_header() -> None:
    assert rtmp.chunk_tail(rtmp.AUDIO, b"a" * 4096) == b"a" * 4096


def test_timestamps_that_need_the_extension_are_refused() -> None:
    with pytest.raises(ValueError, match="extended"):
        rtmp.chunk_header(rtmp.AUDIO, 1, 0xFFFFFF, 1)


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_what_is_written_is_read_in_any_cut(size: int) -> None:
    sent = rtmp.set_chunk_size(rtmp.CHUNK_BYTES)
    sent += rtmp.command("connect", 1.0, {"app": "live", "n": 2.5, "flag": True, "none": None})
    sent += rtmp.message(rtmp.VIDEO, bytes(range(256)) * 40, 5, 1) + rtmp.acknowledgement(1 << 33 | 7)
    reader = ChunkReader()
    found = [message for piece in cuts(sent, size) for message in reader.receive(piece)]
    assert [message.kind for message in found] == [1, rtmp.COMMAND, rtmp.VIDEO, rtmp.ACKNOWLEDGEMENT]
    assert found[1].command() == ("connect", 1.0)
    assert found[2] == Message(rtmp.VIDEO, 1, bytes(range(256)) * 40)
    assert found[3].body == b"\0\0\0\7"


def test_compressed_headers_and_wide_chunk_stream_numbers() -> None:
    reader = ChunkReader()
    first = b"\x00\x0a\0\0\0\0\0\x02\x09\x01\0\0\0ab"  # type 0 on chunk stream 74
    second = b"\x40\x0a\0\0\x05\0\0\x03\x09cde"  # type 1: length 3
    third = b"\x80\x0a\0\0\x05fgh" + b"\xc0\x0aijk"  # types 2 and 3
    found = reader.receive(first + second + third)
    assert [message.body for message in found] == [b"ab", b"cde", b"fgh", b"ijk"]
    assert {message.stream_id for message in found} == {1}


def test_the_answer_to_create_stream() -> None:
    body = b"".join(rtmp.encode(value) for value in ("_result", 2.0, None, 7.0))
    message = Message(rtmp.COMMAND, 0, body)
    assert message.command() == ("_result", 2.0)
    assert message.last_number() == 7.0
    assert Message(rtmp.AUDIO, 1, b"\xaf\x01").command() == ("", 0.0)
