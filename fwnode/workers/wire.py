"""What the agent and a worker say to each other on their socket. Pure.

    frame  := length u32 (of the body), number u32, body            all big-endian
    body   := MessagePack array (number 0)
            | bytes of media.replicate.wire (the subscription of that number, as the worker gave it)

The agent speaks first, with Start. The worker says Ready, and then Subscribe for each stream that its
viewers ask for; the agent sends it what an edge would be sent. Frames of media may end anywhere.
"""

import struct
from collections.abc import Iterator
from typing import Annotated, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from fwnode.delivery import DeliverySettings
from fwnode.promise.door import Lent
from media.deliver.poster.wire import JPEG_MAX_BYTES
from media.deliver.quality.model import Sighting
from media.errors import WireError
from media.track.registry import STREAMS_MAX
from media.track.stream import StreamState

CONTROL_BYTES_MAX = 16 * 1024 * 1024  # the player's files are 0.7 MB, a report of every viewer 1.5 MB
VISITS_MAX = 50_000  # viewers in one report, as many as an audience counts
HEARD_MAX = 8_000  # players in one report: what they tell and what their requests do, as a board keeps
LISTENERS_MAX = 8
KINDS_MAX = 64  # of faults, of statuses, of routes: the program has about ten of each
TEXT_MAX = 200
TARGET_MAX = 16 * 1024  # above what a request may have, and what is made of it
ANSWER_BYTES_MAX = 64 * 1024  # a few nodes with their URLs have 2 kB
CONTROL = 0  # the number of frames that are no media
HEAD = struct.Struct(">II")

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=63)]
Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**32 - 1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
Value: TypeAlias = Annotated[str, Meta(max_length=TARGET_MAX)]
Word: TypeAlias = Annotated[str, Meta(max_length=63)]


class Start(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The agent's first word: all that the worker has to know."""

    worker: int  # its number, from 1
    delivery: DeliverySettings
    certificate: str  # PEM files of the https listener; empty without one
    key: str
    log_level: str
    log_format: Literal["auto", "text", "json"]


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """A stream of the agent. Another one of the same name has another `id`."""

    name: Name
    id: Number
    state: StreamState
    watching: Count

    @property
    def viewers(self) -> dict[str, int]:
        """As media.deliver.routes.Shown has it."""
        return {"": self.watching}


class Catalog(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Every stream of the agent, each time that one changes. `elsewhere`: other nodes may have more."""

    elsewhere: bool
    entries: Annotated[list[Entry], Meta(max_length=STREAMS_MAX)]


class Asked(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """What the agent can have of that name is in the catalog that was sent last."""

    name: Name


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """There is nothing for this subscription."""

    number: Number


class Poster(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """The answer to AskPoster: a JPEG with status 200, else why there is none."""

    number: Number
    status: Annotated[int, Meta(ge=200, le=599)]
    body: Annotated[bytes, Meta(max_length=JPEG_MAX_BYTES)]


class Drain(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """The node is about to stop: say so to load balancers, end connections with their next answer."""


class Renew(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """The certificate's files were renewed."""


class Whole(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """The subscription has all that there was when it began."""

    number: Number


class Answer(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """The answer to Consult. Status 0: the worker serves the request itself."""

    number: Number
    status: Annotated[int, Meta(ge=0, le=599)]
    headers: Annotated[list[tuple[Word, Value]], Meta(max_length=KINDS_MAX)] = []
    body: Annotated[bytes, Meta(max_length=ANSWER_BYTES_MAX)] = b""


class Lend(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Whom the worker may let in from now on; said each time that it changes."""

    lent: Lent


class Ready(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """The worker accepts connections."""


class Subscribe(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """Send this stream, under a number that was not used before."""

    number: Number
    name: Name


class Unsubscribe(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """No more of it, and nobody watches it here."""

    number: Number


class Ask(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """A viewer looks for a stream that is not in the catalog."""

    name: Name


class AskPoster(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """A viewer looks for a poster."""

    number: Number
    name: Name


class Consult(msgspec.Struct, array_like=True, frozen=True, tag=22):
    """A request that may be for another node: what the choice looks at of it."""

    number: Number
    target: Annotated[bytes, Meta(max_length=TARGET_MAX)]
    fields: Annotated[dict[Word, Annotated[bytes, Meta(max_length=TARGET_MAX)]], Meta(max_length=KINDS_MAX)]
    peer_host: Annotated[str, Meta(max_length=TEXT_MAX)]
    secure: bool


class Watched(msgspec.Struct, array_like=True, frozen=True):
    """Who watches a subscription by connections that stay, by protocol."""

    number: Number
    viewers: Annotated[dict[Word, Count], Meta(max_length=KINDS_MAX)]
    skips: Count  # slow viewers that were skipped, so far


class Visit(msgspec.Struct, array_like=True, frozen=True):
    """A viewer by HLS was here since the report before."""

    name: Name
    session: Annotated[str, Meta(max_length=TEXT_MAX)]
    again: bool  # and asked more than once


class Heard(msgspec.Struct, array_like=True, frozen=True):
    """What a player told of a stream since the report before."""

    name: Name
    sighting: Sighting


class Refusals(msgspec.Struct, array_like=True, frozen=True):
    """Reports of players that were not taken since the report before."""

    malformed: Count = 0
    limited: Count = 0
    unknown: Count = 0


class RouteCounts(msgspec.Struct, array_like=True, frozen=True):
    """Counters of one media.deliver.http.router.Route."""

    name: Word
    requests: Count
    answers: Annotated[list[Count], Meta(max_length=6)]
    bytes_out: Count


class Counts(msgspec.Struct, array_like=True, frozen=True):
    """Of one process since its start, but for `connections`, which are open now, and `memory_bytes`."""

    connections: Annotated[dict[Word, Count], Meta(max_length=LISTENERS_MAX)] = {}  # by listener
    accepted: Count = 0
    refused: Count = 0
    bytes_in: Count = 0
    bytes_out: Count = 0
    faults: Annotated[dict[Word, Count], Meta(max_length=KINDS_MAX)] = {}
    requests_refused: Annotated[dict[int, Count], Meta(max_length=KINDS_MAX)] = {}  # by status
    routes: Annotated[list[RouteCounts], Meta(max_length=KINDS_MAX)] = []
    cpu_s: Annotated[float, Meta(ge=0)] = 0.0
    memory_bytes: Count = 0


class Report(msgspec.Struct, array_like=True, frozen=True, tag=21):
    """What became of the viewers since the report before; also the sign that the worker lives."""

    counts: Counts
    watched: Annotated[list[Watched], Meta(max_length=STREAMS_MAX)] = []
    asked: Annotated[list[Name], Meta(max_length=STREAMS_MAX)] = []  # streams that viewers asked for
    awaited: Annotated[list[Name], Meta(max_length=STREAMS_MAX)] = []  # that viewers wait for
    visits: Annotated[list[Visit], Meta(max_length=VISITS_MAX)] = []
    heard: Annotated[list[Heard], Meta(max_length=HEARD_MAX)] = []
    refusals: Refusals = Refusals()


class Media(NamedTuple):
    """Some bytes of a subscription, in order."""

    number: int
    data: bytes


ToWorker: TypeAlias = Start | Catalog | Asked | Refused | Poster | Drain | Renew | Whole | Answer | Lend
ToAgent: TypeAlias = Ready | Subscribe | Unsubscribe | Ask | AskPoster | Report | Consult
Message = TypeVar("Message")

_encode = msgspec.msgpack.Encoder().encode
_to_worker: "msgspec.msgpack.Decoder[ToWorker]" = msgspec.msgpack.Decoder(ToWorker)
_to_agent: "msgspec.msgpack.Decoder[ToAgent]" = msgspec.msgpack.Decoder(ToAgent)


def encode(message: ToWorker | ToAgent) -> bytes:
    """A message as a frame."""
    body = _encode(message)
    return HEAD.pack(len(body), CONTROL) + body


class FrameReader(Generic[Message]):
    """Cuts a byte stream into messages, whatever its chunks; media is handed on as it comes."""

    def __init__(self, decoder: "msgspec.msgpack.Decoder[Message]", *, takes_media: bool) -> None:
        self._decoder = decoder
        self._takes_media = takes_media
        self._buffer = bytearray()
        self._media = (0, 0)  # the subscription whose frame is open, and bytes that it lacks

    def feed(self, data: bytes) -> "Iterator[Message | Media]":
        """What is there now, in turn. Raises WireError, and is of no more use then."""
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        try:
            while at < end:
                number, lacking = self._media
                if lacking:
                    piece = bytes(buffer[at : at + lacking])
                    at += len(piece)
                    self._media = number, lacking - len(piece)
                    yield Media(number, piece)
                    continue
                if end - at < HEAD.size:
                    break
                length, number = HEAD.unpack_from(buffer, at)
                if number != CONTROL:
                    if not self._takes_media:
                        raise WireError("a worker sends media")
                    self._media = number, length
                    at += HEAD.size
                    continue
                if length > CONTROL_BYTES_MAX:
                    raise WireError(f"a message of {length} bytes")
                if end - at - HEAD.size < length:
                    break
                with memoryview(buffer)[at + HEAD.size : at + HEAD.size + length] as body:
                    message = _decode(self._decoder, body)
                at += HEAD.size + length
                yield message
        finally:
            if at:
                del buffer[:at]


def worker_reader() -> "FrameReader[ToWorker]":
    """Reads what the agent says."""
    return FrameReader(_to_worker, takes_media=True)


def agent_reader() -> "FrameReader[ToAgent]":
    """Reads what a worker says."""
    return FrameReader(_to_agent, takes_media=False)


def _decode(decoder: "msgspec.msgpack.Decoder[Message]", body: memoryview) -> Message:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a message of an agent or its worker: {error}") from None
