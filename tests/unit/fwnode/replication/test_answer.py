"""A parent's first words: whole in any chunks, refused when they are none."""

import pytest

from fwnode.replication.answer import Answer, AnswerReader, encode_answer
from media.errors import WireError

ANSWERS = [Answer(10**15, b"o" * 32, 3), Answer(refusal="this node does not have that stream now")]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_whatever_the_chunks(answer: Answer, size: int) -> None:
    data = encode_answer(answer) + b"more"
    reader, rest = AnswerReader(), b""
    for at in range(0, len(data), size):
        chunk = data[at : at + size]
        rest += chunk if reader.answer is not None else reader.feed(chunk)
    assert (reader.answer, rest) == (answer, b"more")


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff", b"\x00\x01\xc1", b"\x00\x00", encode_answer(Answer(depth=65)), b"\x00\x03\xff\xff\xff"],
    ids=["long", "never used", "empty", "deep", "a number"],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(WireError):
        AnswerReader().feed(data)
