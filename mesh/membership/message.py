"""Messages between neighbours: MessagePack arrays whose first element is the kind.

Everything here arrives on an authenticated link, so messages carry no signature of their own; what must be
believed from third parties (records, accusations, vouches) travels inside as signed blobs, opaque here.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from mesh.errors import WireError
from mesh.model import KEY_BYTES

MESSAGE_BYTES_MAX = 64 * 1024  # a batch of records for a node that just joined; a frame on every carrier
BLOB_BYTES_MAX = 8 * 1024  # one signed record or accusation
PUSH_BYTES = MESSAGE_BYTES_MAX - 4 * 1024  # of blobs in a message: each of 512 has 3 bytes of length
BATCH_MAX = 512  # blobs or ids in one message: 512 ids are 4.6 kB
SAMPLE_MAX = 16  # nodes named in one shuffle or answer
PATH_MAX = 8  # hops that a shuffle remembers to find its way back
RANGES_MAX = 256  # ranges compared in one message: sixteen ranges, each split once
TTL_MAX = 8  # steps of a random walk; HyParView's own figure is 6

Id: TypeAlias = Annotated[int, Meta(ge=0)]
Ids: TypeAlias = Annotated[list[Id], Meta(max_length=BATCH_MAX)]
Node: TypeAlias = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Sample: TypeAlias = Annotated[list[Node], Meta(max_length=SAMPLE_MAX)]
Blob: TypeAlias = Annotated[bytes, Meta(max_length=BLOB_BYTES_MAX)]
Blobs: TypeAlias = Annotated[list[Blob], Meta(max_length=BATCH_MAX)]
Ttl: TypeAlias = Annotated[int, Meta(ge=0, le=TTL_MAX)]
Path: TypeAlias = Annotated[list[Node], Meta(max_length=PATH_MAX)]


class Push(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Signed blobs, sent on along the tree; or `aside` from it, so that a duplicate is no reason to prune."""

    records: Blobs
    accusations: Blobs = []
    aside: bool = False


class Have(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """Ids that the sender has and did not push here (Plumtree's IHAVE); `old`: found by comparing ranges."""

    ids: Ids
    old: bool = False


class Want(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Send these; `graft`: and push to me from now on (Plumtree's GRAFT)."""

    ids: Ids
    graft: bool = False


class Prune(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """I get everything from somebody else as well: announce to me instead of pushing."""


class Beat(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """I am here. `ask`: answer at once. `vouch`: sequence of the newest vouch of yours that I hold."""

    ask: bool = False
    vouch: Id = 0


class Join(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """I know nobody else: take me as a neighbour and tell others of me."""


class ForwardJoin(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=7):
    """A node joined: whoever the random walk ends at links to it."""

    node: Node
    ttl: Ttl


class Adopt(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=8):
    """Be my neighbour (HyParView's NEIGHBOR). `urgent`: I have none, do not refuse."""

    urgent: bool


class Adopted(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """We are neighbours; some others I know, for your passive view."""

    sample: Sample


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=10):
    """We are not, or no longer, neighbours; I stay reachable."""


class Shuffle(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=11):
    """Nodes I know, for whoever the walk ends at, to exchange for some of theirs."""

    ttl: Ttl
    path: Path
    sample: Sample


class Shuffled(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=12):
    """The other half of the exchange, going back along the path."""

    path: Path
    sample: Sample


class Range(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Exclusive-or and number of the ids whose first `bits` bits are `prefix`."""

    bits: Annotated[int, Meta(ge=0, le=60)]
    prefix: Id
    fingerprint: Id
    count: Annotated[int, Meta(ge=0)]


class Compare(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=13):
    """What I hold in these ranges; answer for those where you differ."""

    ranges: Annotated[list[Range], Meta(max_length=RANGES_MAX)]


class Content(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=14):
    """All ids that I hold in one range; ask for those you lack, announce those I lack."""

    bits: Annotated[int, Meta(ge=0, le=60)]
    prefix: Id
    ids: Ids


class Vouched(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=15):
    """My signed list of neighbours: what lets you accuse me when I fall silent."""

    vouch: Blob


Message: TypeAlias = (
    Push
    | Have
    | Want
    | Prune
    | Beat
    | Join
    | ForwardJoin
    | Adopt
    | Adopted
    | Part
    | Shuffle
    | Shuffled
    | Compare
    | Content
    | Vouched
)

_decoder = msgspec.msgpack.Decoder(Message)
encode = msgspec.msgpack.Encoder().encode


def parse_message_untrusted(data: bytes) -> Message:
    """One whole message; raises WireError if it is too large, of an unknown kind, or out of any bound."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise WireError(f"a message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX} are allowed")
    try:
        message: Message = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"not a gossip message: {error}") from None
    return message


def pushes(records: list[bytes], accusations: list[bytes], *, aside: bool) -> list[bytes]:
    """Encoded pushes of all these blobs, each within the bounds of a message."""
    size = sum(map(len, records)) + sum(map(len, accusations))
    if size <= PUSH_BYTES and len(records) + len(accusations) <= BATCH_MAX:
        return [encode(Push(records, accusations, aside))]
    batches = [encode(Push(batch, [], aside)) for batch in _batches(records)]
    return batches + [encode(Push([], batch, aside)) for batch in _batches(accusations)]


def _batches(blobs: list[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = []
    size = PUSH_BYTES
    for blob in blobs:
        if size + len(blob) > PUSH_BYTES or len(batches[-1]) >= BATCH_MAX:
            batches.append([])
            size = 0
        batches[-1].append(blob)
        size += len(blob)
    return batches
