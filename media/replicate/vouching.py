"""A node's own word on the parts that it passes on: a lie can be shown to those who were not there. Pure.

The origin's signature lets an edge see that a parent altered a part, but shows nobody else who did it: bytes
on a connection are not signed by who sends them, and the edge could have made them up. So a node that passes
a copy on signs, for each part, what it says that the origin signed and the digest of the packets as it sends
them. If the two do not agree, the statement convicts its signer, and nobody can make one in its name.

It does not convict who signs the truth and sends something else, or signs nothing: the edge finds that out
alone, before it has served a part of it, and leaves.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from media.replicate.signing import (
    DOMAIN,
    PROOFS_MAX,
    Identity,
    Sign,
    Verify,
    leaf_of,
    packets_digest,
    section_digest,
    signed_message,
)
from media.replicate.wire import Hash, Index, Number, PartSigned, Signature, Target, Vouched
from media.track.model import Packet
from media.track.stream import Stream

SENT_DOMAIN = b"fwnode media sent 1\0"  # no other signature of a node begins so
MESSAGE_BYTES_MAX = 256  # what an origin signs: a name of 63, two hashes and some numbers
KEY_BYTES = 32  # Ed25519

Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]

_pack = msgspec.msgpack.Encoder().encode


class Statement(msgspec.Struct, array_like=True, frozen=True):
    """What one node said of one part: `message` and `signature` are the origin's, `found` is what it sent."""

    origin: Key
    message: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Signature
    found: Hash
    vouch: Signature


class _Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What signing.signed_message packs."""

    name: str
    epoch: Number
    section: Hash
    segment: Number
    part: Index
    part_target_us: Target
    target_duration_us: Target
    closes: bool
    digest: Hash
    previous: Hash


_messages = msgspec.msgpack.Decoder(_Message)


def vouched_message(origin: bytes, message: bytes, signature: bytes, found: bytes) -> bytes:
    """The bytes that a node signs of a part that it passes on."""
    return SENT_DOMAIN + sha256(_pack((origin, message, signature, found))).digest()


def convicts(statement: Statement, node: bytes, verify: Verify) -> bool:
    """Whether `node` itself signed that it sent something else than the origin signed. Costs two checks."""
    message, found = statement.message, statement.found
    said = vouched_message(statement.origin, message, statement.signature, found)
    if not verify(node, said, statement.vouch):
        return False  # anybody could have written that
    if not verify(statement.origin, message, statement.signature):
        return True  # who passes a part on has checked that
    return _digest_in(message) not in (None, found)


def _digest_in(message: bytes) -> bytes | None:
    """The packets' digest in what an origin signed, None when it is no part's."""
    if not message.startswith(DOMAIN):
        return None
    try:
        return _messages.decode(memoryview(message)[len(DOMAIN) :]).digest
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Voucher:
    """Signs what one node sends of one copy, once for all its edges."""

    def __init__(self, stream: Stream, identity: Identity, origin: bytes, sign: Sign) -> None:
        self._stream = stream
        self._identity = identity
        self._origin = origin
        self._sign = sign
        self._made: dict[tuple[int, int], Vouched] = {}

    def vouch(self, part: PartSigned) -> Vouched | None:
        """The word on a part that is held; None when it is not held whole any more."""
        made = self._made.get(part.position)
        if made is None:
            packets = self._packets(part.position)
            section = self._stream.sections.get(part.discontinuity)
            if not packets or section is None:
                return None
            message = signed_message(self._identity, section_digest(section, self._identity.epoch), part)
            found = packets_digest([leaf_of(packet) for packet in packets])
            said = vouched_message(self._origin, message, part.signature, found)
            made = self._made[part.position] = Vouched(self._sign(said))
            self._forget()
        return made

    def _packets(self, position: tuple[int, int]) -> list[Packet]:
        """All packets of a part; none when its first ones may have left the ring."""
        ring = self._stream.ring
        index = _first(ring.get, ring.first, ring.next, position)
        if index == ring.first and index > 0:
            return []
        packets = []
        while index < ring.next and _position(ring.get(index)) == position:
            packets.append(ring.get(index))
            index += 1
        return packets

    def _forget(self) -> None:
        made, ring = self._made, self._stream.ring
        oldest = ring.get(ring.first).segment
        while len(made) > PROOFS_MAX or next(iter(made))[0] < oldest:
            del made[next(iter(made))]


def _position(packet: Packet) -> tuple[int, int]:
    return packet.segment, packet.part


def _first(get: Callable[[int], Packet], low: int, high: int, position: tuple[int, int]) -> int:
    """The first index at or behind that part."""
    while low < high:
        middle = (low + high) // 2
        if _position(get(middle)) < position:
            low = middle + 1
        else:
            high = middle
    return low
