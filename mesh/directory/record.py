"""A record: what a node says of itself, signed, with a generation and a version.

A generation is one life of a node: it rises at every start and whenever the node has to contradict its own
death. Within one, each kind of record counts its own versions. The higher (generation, version) wins
(chitchat's rules); nothing here compares clocks.
"""

from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.errors import WireError
from mesh.membership.message import BLOB_BYTES_MAX, Node
from mesh.model import SIGNATURE_BYTES, NetworkId, NodeId, Signer, Verify

PAYLOAD_BYTES_MAX = 7 * 1024  # forty streams of 150 bytes; leaves room for the rest of a blob
KIND_MAX = 15  # kinds of later versions are kept and sent on unread

_PREFIX = b"fwnode record 1\0"


class Kind(IntEnum):
    """What a record is about. Payloads are opaque here; `mesh.directory.facts` has their shapes."""

    WHO = 1
    WHERE = 2
    LOAD = 3
    STREAMS = 4
    TRANSCODE = 5
    PLACE = 6
    GOODBYE = 7  # the node has left: its other records of this generation are void
    REPORTS = 8  # members that it can prove to have altered media
    DOORS = 9  # where anybody can ask it for a stream


class _Body(msgspec.Struct, array_like=True, frozen=True, gc=False):
    owner: Node
    generation: Annotated[int, Meta(ge=0)]
    kind: Annotated[int, Meta(ge=1, le=KIND_MAX)]
    version: Annotated[int, Meta(ge=0)]
    payload: Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One signed record; `blob` is how it travels: signature, then the signed body."""

    owner: NodeId
    generation: int
    kind: int
    version: int
    payload: bytes
    id: int  # first 8 bytes of the signature: of an Ed25519 signature they cannot be chosen freely
    key: tuple[NodeId, int]  # (owner, kind)
    blob: bytes


_decoder = msgspec.msgpack.Decoder(_Body)
_encode = msgspec.msgpack.Encoder().encode


def sign_record(
    signer: Signer, network: NetworkId, generation: int, kind: int, version: int, payload: bytes
) -> Record:
    """The signer's own record, valid in `network` only."""
    body = _encode(_Body(signer.node_id, generation, kind, version, payload))
    return _record(signer.sign(_PREFIX + network + body) + body, body)


def parse_record_untrusted(blob: bytes) -> Record:
    """The record in a blob, its signature not yet checked; raises WireError."""
    if not SIGNATURE_BYTES < len(blob) <= BLOB_BYTES_MAX:
        raise WireError(f"a record of {len(blob)} bytes")
    return _record(blob, blob[SIGNATURE_BYTES:])


def is_signed(record: Record, network: NetworkId, verify: Verify) -> bool:
    """Whether the owner signed this record for this network."""
    blob = record.blob
    return verify(record.owner, _PREFIX + network + blob[SIGNATURE_BYTES:], blob[:SIGNATURE_BYTES])


def _record(blob: bytes, body: bytes) -> Record:
    try:
        parsed = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"not a record: {error}") from None
    return Record(
        parsed.owner,
        parsed.generation,
        parsed.kind,
        parsed.version,
        parsed.payload,
        int.from_bytes(blob[:8], "big"),
        (parsed.owner, parsed.kind),
        blob,
    )
