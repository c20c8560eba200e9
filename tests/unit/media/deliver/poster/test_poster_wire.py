"""Messages between the agent and the poster worker."""

import pytest

from media.deliver.poster.wire import (
    HEADER_BYTES,
    Job,
    NoPicture,
    Picture,
    body_bytes_untrusted,
    decode_answer_untrusted,
    decode_job_untrusted,
    encode,
)
from media.errors import WireError
from media.track.model import Codec


def test_a_job_comes_back() -> None:
    job = Job(Codec.HEVC, b"config", b"\x00" * 1000)
    data = encode(job)
    assert body_bytes_untrusted(data[:HEADER_BYTES], 2000) == len(data) - HEADER_BYTES
    assert decode_job_untrusted(data[HEADER_BYTES:]) == job


@pytest.mark.parametrize("answer", [Picture(b"\xff\xd8"), NoPicture("damaged")])
def test_an_answer_comes_back(answer: Picture | NoPicture) -> None:
    assert decode_answer_untrusted(encode(answer)[HEADER_BYTES:]) == answer


@pytest.mark.parametrize("header", [b"", b"\x00\x00\x01", b"\x00\x00\x00\x65", b"\xff\xff\xff\xff"])
def test_a_wrong_length_is_refused(header: bytes) -> None:
    with pytest.raises(WireError):
        body_bytes_untrusted(header, 100)


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x80", b"\x93\xa4h265\xc4\x00\xc4\x00", b"\x81\xa4type\xa3\xff\xff\xff"]
)
def test_garbage_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_answer_untrusted(body)
    with pytest.raises(WireError):
        decode_job_untrusted(body)
