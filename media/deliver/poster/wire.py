"""What the agent and the poster worker say to each other: msgpack behind a 4-byte length. Pure."""

import msgspec

from media.errors import WireError
from media.track.model import Codec

HEADER_BYTES = 4
KEYFRAME_MAX_BYTES = 8 * 1024 * 1024  # guess: most of a second of 4K at 100 Mb/s
CONFIG_MAX_BYTES = 65_536  # as media.bitstream.describe takes them
JOB_MAX_BYTES = KEYFRAME_MAX_BYTES + CONFIG_MAX_BYTES + 1024
JPEG_MAX_BYTES = 128 * 1024  # measured: 12 to 36 KB; noise is encoded coarser until it fits
ANSWER_MAX_BYTES = JPEG_MAX_BYTES + 1024
REASON_MAX_LETTERS = 200


class Job(msgspec.Struct, frozen=True, array_like=True):
    """A keyframe to be made into a poster; `config` and `data` as in Track and Packet."""

    codec: Codec
    config: bytes
    data: bytes


class Picture(msgspec.Struct, frozen=True, tag="picture"):
    """A JPEG of at most JPEG_MAX_BYTES."""

    jpeg: bytes


class NoPicture(msgspec.Struct, frozen=True, tag="none"):
    """The keyframe gives no picture."""

    reason: str


Answer = Picture | NoPicture

_encoder = msgspec.msgpack.Encoder()
_jobs = msgspec.msgpack.Decoder(Job)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Job | Answer) -> bytes:
    """A message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_bytes_untrusted(header: bytes, limit: int) -> int:
    """Length of the body behind a header. Raises WireError when it is cut off or says more than `limit`."""
    size = int.from_bytes(header, "big")
    if len(header) != HEADER_BYTES or size > limit:
        raise WireError(f"a message of {size} bytes behind {len(header)} bytes of length, limit {limit}")
    return size


def decode_job_untrusted(body: bytes) -> Job:
    """A job without its length. Raises WireError."""
    try:
        return _jobs.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a job: {error}") from error


def decode_answer_untrusted(body: bytes) -> Answer:
    """An answer without its length. Raises WireError."""
    try:
        return _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a poster: {error}") from error
