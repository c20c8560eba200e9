"""What a parent says first on a stream between two nodes: what it has, or why it gives nothing. Pure.

The edge names the stream in the connection's argument and sends its Want at once. The answer to that goes
before everything else: a length of two bytes, big-endian, and a MessagePack array.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from media.errors import WireError
from mesh.directory.facts import Count
from mesh.model import KEY_BYTES

LENGTH_BYTES = 2
ANSWER_BYTES_MAX = 512  # a key, two numbers and a sentence
REASON_CHARS_MAX = 200


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What a parent has, and its depth of now, or a sentence why the edge gets nothing."""

    epoch_unix_us: Count = 0
    origin: Annotated[bytes, Meta(max_length=KEY_BYTES)] = b""
    depth: Annotated[int, Meta(ge=0, le=64)] = 0
    refusal: Annotated[str, Meta(max_length=REASON_CHARS_MAX)] = ""
    segment: Count = 0  # its newest
    full: bool = False  # refused only because others might have room: who has nobody else may say so


_decoder = msgspec.msgpack.Decoder(Answer)


def encode_answer(answer: Answer) -> bytes:
    """The answer as it is sent."""
    body = msgspec.msgpack.encode(answer)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class AnswerReader:
    """Takes the answer from the beginning of a byte stream."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self._buffer = b""

    def feed(self, data: bytes) -> bytes:
        """What follows on the answer, b"" before it is whole. Raises WireError."""
        self._buffer += data
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if len(self._buffer) < LENGTH_BYTES:
            return b""
        if length > ANSWER_BYTES_MAX:
            raise WireError(f"an answer of {length} bytes")
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return b""
        try:
            self.answer = _decoder.decode(self._buffer[LENGTH_BYTES:end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"not an answer: {error}") from None
        rest, self._buffer = self._buffer[end:], b""
        return rest
