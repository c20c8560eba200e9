"""What is said on the pipes of a trial worker: one job to it, then its answers. Pure.

msgpack behind a 4-byte length, both ways. The worker is our own program, but the driver inside it is
not: what comes from it is checked like anything from outside.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from devices.errors import WireError
from devices.model import Choice, Kind, Plan, Work

HEADER_BYTES = 4
MESSAGE_MAX_BYTES = 256 * 1024  # measured: the list of all codecs of FFmpeg is 10 kB
REASON_MAX_LETTERS = 300
POINTS_MAX = 16
SESSIONS_MAX = 32  # more encoders at a time than any driver allows a consumer card (12 in 2026)

Seconds: TypeAlias = Annotated[float, Meta(ge=0.0, le=3600.0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=2**31)]
Reason: TypeAlias = Annotated[str, Meta(max_length=REASON_MAX_LETTERS)]
Names: TypeAlias = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=4096)]


class LookAround(msgspec.Struct, frozen=True, tag="look"):
    """Say what this FFmpeg has; answered with Library."""


class Try(msgspec.Struct, frozen=True, tag="try"):
    """Open, code some pictures and check the result; answered with Refused, or Works and then Measured."""

    kind: Kind
    codec: str
    choice: Choice
    measure: bool = True


class CountSessions(msgspec.Struct, frozen=True, tag="count"):
    """Open encoders until the driver refuses, `limit` at most; answered with Counted."""

    choice: Choice
    limit: int = SESSIONS_MAX


class MeasureHost(msgspec.Struct, frozen=True, tag="host"):
    """Measure scaling, and what cores lose when all of them work; answered with Host."""

    cores: int


class Transcode(msgspec.Struct, frozen=True, tag="transcode"):
    """Really do some work for some seconds of media; answered with Took.

    `picture` is the libavfilter source that is transcoded.
    """

    work: Work
    plan: Plan
    picture: str
    media_s: float


class Library(msgspec.Struct, frozen=True, tag="library"):
    """Versions of PyAV and FFmpeg, the names of its encoders, decoders and hardware device types."""

    pyav: Reason
    ffmpeg: Reason
    encoders: Names
    decoders: Names
    hwaccels: Names


class Works(msgspec.Struct, frozen=True, tag="works"):
    """The engine did what it is for; PSNR of what came back."""

    psnr_db: Annotated[float, Meta(ge=0.0, le=200.0)]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The engine did not do what it is for, in FFmpeg's words where it has any."""

    reason: Reason


class Point(msgspec.Struct, frozen=True):
    """What one picture took: of the device, and of the CPU (the same where the device is the CPU)."""

    width: Positive
    height: Positive
    bits: Annotated[float, Meta(ge=0.0, le=1e9)]
    device_s: Seconds
    cpu_s: Seconds
    memory_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 0


Points: TypeAlias = Annotated[tuple[Point, ...], Meta(max_length=POINTS_MAX)]


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """Costs of coding at some sizes and bit rates."""

    points: Points


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Encoders that were open at a time, and why there were not more ("": none was wanted)."""

    sessions: Annotated[int, Meta(ge=0, le=SESSIONS_MAX)]
    reason: Reason


class ScalePoint(msgspec.Struct, frozen=True):
    """What scaling one picture took of the CPU."""

    from_width: Positive
    from_height: Positive
    to_width: Positive
    to_height: Positive
    cpu_s: Seconds


class Host(msgspec.Struct, frozen=True, tag="host"):
    """Costs of scaling; and CPU seconds for the same work with all cores busy over those alone (1 to 2)."""

    scaling: Annotated[tuple[ScalePoint, ...], Meta(max_length=POINTS_MAX)]
    contention: Annotated[float, Meta(ge=0.1, le=100.0)]


class Took(msgspec.Struct, frozen=True, tag="took"):
    """CPU seconds of a Transcode in all, by step, and the seconds of media that were made.

    `early`: CPU seconds per second of media in the first half.
    """

    media_s: Annotated[float, Meta(gt=0.0, le=3600.0)]
    decode_s: Seconds
    scale_s: Seconds
    encode_s: Seconds
    early: Seconds


Job: TypeAlias = LookAround | Try | CountSessions | MeasureHost | Transcode
Answer: TypeAlias = Library | Works | Refused | Measured | Counted | Host | Took

_encoder = msgspec.msgpack.Encoder()
_jobs: msgspec.msgpack.Decoder[Job] = msgspec.msgpack.Decoder(Job)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Job | Answer) -> bytes:
    """A message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_bytes_untrusted(header: bytes) -> int:
    """Length of the body behind a header. Raises WireError."""
    size = int.from_bytes(header, "big")
    if len(header) != HEADER_BYTES or size > MESSAGE_MAX_BYTES:
        raise WireError(f"a message of {size} bytes behind {len(header)} bytes of length")
    return size


def decode_job_untrusted(body: bytes) -> Job:
    """A job without its length. Raises WireError."""
    try:
        return _jobs.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a job: {error}") from None


def decode_answer_untrusted(body: bytes) -> Answer:
    """An answer without its length. Raises WireError."""
    try:
        return _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not an answer: {error}") from None
