"""Ties broken by a hash: alike for whoever asks again, different by node and by stream. Pure.

Rendezvous hashing (Thaler and Ravishankar 1998): of the same members each edge has an order of its own, so
that a crowd of equal edges does not choose one parent.
"""

from hashlib import blake2b

from mesh.model import NodeId

_BYTES = 8
_WHOLE = float(1 << 8 * _BYTES)


def spread(node: NodeId, stream: str, candidate: NodeId) -> float:
    """Where `candidate` comes in `node`'s own order for the stream, 0 to 1."""
    digest = blake2b(candidate + stream.encode(), digest_size=_BYTES, key=node).digest()
    return int.from_bytes(digest, "big") / _WHOLE


def order(node: NodeId, stream: str) -> bytes:
    """The node's place among all nodes for this stream; the same whoever asks."""
    return blake2b(stream.encode(), digest_size=_BYTES, key=node).digest()
