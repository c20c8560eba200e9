"""Words that every room of the mesh shares: who a node is, what it may do, how it signs.

Wire format of the whole mesh: MessagePack through `msgspec.msgpack` with typed structs. Chosen over the
`msgpack` package because the type is the bound: a decoder made for a struct refuses unknown shapes, wrong
types and over-long fields (`msgspec.Meta(max_length=...)`) while it reads, in C, so nothing is built from a
stranger's bytes that would have to be checked again field by field.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeAlias

KEY_BYTES = 32  # RFC 8032 5.1.5: an Ed25519 public key
SIGNATURE_BYTES = 64  # RFC 8032 5.1.6

NodeId: TypeAlias = bytes
"""A node: its Ed25519 public key, 32 bytes."""

NetworkId: TypeAlias = bytes
"""A network: its owner's Ed25519 public key, 32 bytes."""

Verify: TypeAlias = Callable[[NodeId, bytes, bytes], bool]
"""(node_id, message, signature) -> whether that node signed exactly that message. Never raises."""


class Role(StrEnum):
    """What a member of a network may do in it."""

    ORIGIN = "origin"  # take streams in and announce them
    EDGE = "edge"  # carry streams and serve viewers
    RELAY = "relay"  # splice connections for members that cannot reach each other
    TRANSCODE = "transcode"  # make renditions for others
    INVITER = "inviter"  # make invites, within what its own grant allows


class Signer(Protocol):
    """A private key. Simulations use a cheap stand-in."""

    @property
    def node_id(self) -> NodeId: ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`. Callers put a prefix naming kind and version before it."""
        ...


def short(node_id: NodeId) -> str:
    """The first characters of a key, for people: `3f9a1c07`. Not unique; never compare it."""
    return node_id[:4].hex()
