"""What the agent and a transcoding worker say to each other: msgpack behind a 4-byte length. Pure.

The agent says Begin before the first picture of each section, then one Coded for each picture in
decoding order, numbered on and on. The worker answers with Opened when its encoders are there, then
for each rung one Encoded for each picture that it was shown, empty where the rung leaves it out. A
number's pictures are in presentation order: the n-th picture shown takes the place of the n-th
decoded, so the renditions have the source's decoding times.
"""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from media.errors import WireError
from media.track.model import Codec

HEADER_BYTES = 4
CODED_MAX_BYTES = 16 * 1024 * 1024  # an RTMP message's payload is no larger
MESSAGE_MAX_BYTES = CODED_MAX_BYTES + 65_536 + 1024  # with a codec configuration
REASON_MAX_LETTERS = 200
RUNGS_MAX = 16  # tracks of one stream


class Engine(msgspec.Struct, frozen=True, array_like=True):
    """Which of FFmpeg's encoders makes a rendition, and how it is opened.

    `device` is for people and for sums. `environment` is set before the driver is asked for the device.
    `is_capped`: it takes a maximum beside the bit rate; one that does not refuses to open with it.
    """

    name: str = "libx264"
    device: str = "cpu"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = {}
    environment: dict[str, str] = {}
    is_capped: bool = True


X264 = Engine()


class RungOrder(msgspec.Struct, frozen=True, array_like=True):
    """One encoder: as PlannedRung, but for the size, which the first picture decides."""

    side: int
    bps: int
    fps: int
    engine: Engine = X264


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A section begins with picture `number`: all that came before is finished first."""

    number: int
    codec: Codec
    config: bytes
    timescale: int
    source_fps: float
    rungs: list[RungOrder]
    threads: int
    preset: str
    latency: Literal["low", "quality"]


class Coded(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A picture of the source. Times in ticks."""

    number: int
    dts: int
    pts: int
    keyframe: bool
    data: bytes


class Flush(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Nothing more comes for now: give what is still in decoder and encoders."""


ToWorker = Begin | Coded | Flush


class OpenedRung(msgspec.Struct, frozen=True, array_like=True):
    """One encoder as it was opened; `config` as in Track."""

    config: Annotated[bytes, Meta(max_length=65_536)]
    width: Annotated[int, Meta(ge=2, le=65535)]
    height: Annotated[int, Meta(ge=2, le=65535)]
    fps: Annotated[float, Meta(ge=0, le=10_000)]


class Opened(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The encoders for the Begin of that number, in the order of its rungs."""

    number: int
    rungs: Annotated[list[OpenedRung], Meta(max_length=RUNGS_MAX)]
    source: Annotated[str, Meta(max_length=REASON_MAX_LETTERS)]  # what the picture is, for people


class Encoded(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A rung is done with a number and with all below it. Empty data: it has no picture there."""

    rung: Annotated[int, Meta(ge=0, lt=RUNGS_MAX)]
    number: Annotated[int, Meta(ge=0, lt=2**62)]
    pts: Annotated[int, Meta(ge=0, lt=2**62)]
    keyframe: bool
    data: bytes


class Damaged(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Pictures could not be decoded, so many since the beginning."""

    count: int
    reason: Annotated[str, Meta(max_length=REASON_MAX_LETTERS)]


class Flushed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A Flush is done."""


class Impossible(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What the Begin of that number tells of cannot be transcoded here; another section may be."""

    number: int
    reason: Annotated[str, Meta(max_length=REASON_MAX_LETTERS)]


class Spent(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """What it took since the last of these: CPU time, and time that the busiest thread did not wait.

    `media_us` is what it was given to transcode in the meantime.
    """

    cpu_s: Annotated[float, Meta(ge=0, le=1e6)]
    busy_s: Annotated[float, Meta(ge=0, le=1e6)]
    media_us: Annotated[int, Meta(ge=0, lt=2**62)]


Message = TypeVar("Message")
FromWorker = Opened | Encoded | Damaged | Flushed | Impossible | Spent

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """A message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FromWorkerReader:
    """Cuts what a worker says into messages; holds at most one that is not whole."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def receive(self, data: bytes) -> list[FromWorker]:
        """The messages that `data` completes. Raises WireError, and is of no more use then."""
        pending = self._pending
        pending += data
        messages: list[FromWorker] = []
        at = 0
        while len(pending) - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + size_untrusted(bytes(pending[at : at + HEADER_BYTES]))
            if end > len(pending):
                break
            messages.append(_decoded(_from_worker, bytes(pending[at + HEADER_BYTES : end])))
            at = end
        del pending[:at]
        return messages


def size_untrusted(header: bytes) -> int:
    """Length of the body behind a header. Raises WireError when cut off, or beyond MESSAGE_MAX_BYTES."""
    size = int.from_bytes(header, "big")
    if len(header) != HEADER_BYTES or size > MESSAGE_MAX_BYTES:
        raise WireError(f"a message of {size} bytes behind {len(header)} bytes of length")
    return size


def parse_to_worker_untrusted(body: bytes) -> ToWorker:
    """One message without its length. Raises WireError."""
    return _decoded(_to_worker, body)


def parse_from_worker_untrusted(body: bytes) -> FromWorker:
    """One message without its length. Raises WireError."""
    return _decoded(_from_worker, body)


def _decoded(decoder: "msgspec.msgpack.Decoder[Message]", body: bytes) -> Message:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a message of transcoding: {error}") from None
