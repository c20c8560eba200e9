"""The origin's word on every part of a stream, and how an edge checks it. Pure.

What is signed for a part, with Ed25519: the stream's name and epoch, its section, the part's
numbers and targets, a digest of its packets, and the digest of what was signed for the part
before. The packets' digest is SHA-256 over each packet's marks and its data's SHA-256, in
the order of the stream: who has only some of the tracks checks them with hashes for the rest.
"""

import enum
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from media.replicate.wire import (
    HASH_BYTES,
    SIGNATURE_BYTES,
    PartSigned,
    describe_section,
    encode,
    marks_of,
    payload_hash_of,
)
from media.track.model import Packet
from media.track.stream import Section, Stream, StreamState

DOMAIN = b"fwnode media part 1\0"  # no other signature of a node begins so
CHAIN_BEGIN = bytes(HASH_BYTES)
PROOFS_MAX = 16_384  # parts of one stream; an hour of the shortest, 5 MB

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]  # key, message, signature

_pack = msgspec.msgpack.Encoder().encode


class Identity(msgspec.Struct, frozen=True):
    """Which stream: its name, and the epoch that its origin gave it when it began there."""

    name: str
    epoch: int


class Fault(enum.StrEnum):
    """What is wrong with a part."""

    SIGNATURE = "signature"  # the origin did not sign this
    PACKETS = "packets"  # it signed other packets
    CHAIN = "chain"  # it signed another part before this one


class Failure(msgspec.Struct, frozen=True):
    """A part that is not as its origin signed it, with what shows it.

    `message` and `signature` verify with the origin's key unless the fault is SIGNATURE; the
    message holds `signed`, the digest of the origin's packets, `found` is that of those that came.
    `vouch` is the parent's word on the part, not yet checked; empty when it gave none.
    """

    fault: Fault
    segment: int
    part: int
    message: bytes
    signature: bytes
    signed: bytes
    found: bytes
    vouch: bytes = b""


def packets_digest(leaves: Sequence[bytes]) -> bytes:
    """Digest of a part from its packets' leaves."""
    return sha256(b"".join(leaves)).digest()


def leaf_of(packet: Packet) -> bytes:
    """What a packet adds to its part: its marks and its data's hash."""
    return marks_of(packet) + payload_hash_of(packet)


def section_digest(section: Section, epoch: int) -> bytes:
    """Digest of a section as it is sent."""
    return sha256(encode(describe_section(section, epoch))).digest()


def signed_message(identity: Identity, section: bytes, part: PartSigned) -> bytes:
    """The bytes that the origin signs; `section` is the section's digest."""
    fields = (
        identity.name, identity.epoch, section, part.segment, part.part, part.part_target_us,
        part.target_duration_us, part.closes, part.digest, part.previous,
    )  # fmt: skip
    return DOMAIN + _pack(fields)


class Proofs:
    """Signed parts of one stream by segment and part, oldest first, while the ring holds their packets."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], PartSigned] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def get(self, segment: int, part: int) -> PartSigned | None:
        """The origin's word on that part."""
        return self._parts.get((segment, part))

    def add(self, signed: PartSigned, stream: Stream) -> None:
        """Keep one more, and let go of those whose packets left the ring."""
        parts = self._parts
        parts[signed.position] = signed
        ring = stream.ring
        if ring.first == ring.next:
            return
        oldest = ring.get(ring.first).segment
        while len(parts) > PROOFS_MAX or next(iter(parts))[0] < oldest:
            del parts[next(iter(parts))]


class Signer:
    """Signs the parts of a stream that this node is the origin of, as they complete.

    Begins with the oldest segment of the present epoch that is held whole. Its `update` is a listener
    of the stream and must be subscribed before those who send the parts on. One signer serves a stream
    for all of an epoch: a second one would begin another chain.
    """

    def __init__(self, stream: Stream, identity: Identity, sign: Sign) -> None:
        self.stream = stream
        self.identity = identity
        self.proofs = Proofs()
        self.signed = 0
        self._sign = sign
        self._previous = CHAIN_BEGIN
        self._leaves: list[bytes] = []
        self._open: Packet | None = None  # first packet of the part that is being made
        self._section = (-1, b"")  # discontinuity and digest
        self._index = self._oldest()
        self.update(0.0)

    def update(self, now: float) -> None:
        """Take in what is new; signs each part that is complete."""
        stream = self.stream
        ring = stream.ring
        if self._index > ring.next:  # a copy's open part was taken back
            self._index, self._open, self._leaves = ring.next, None, []
        if self._index < ring.first:
            self._begin_again()
        for packet in ring.slice(self._index, ring.next):
            opened = self._open
            if opened is None or packet.part != opened.part or packet.segment != opened.segment:
                if opened is not None:
                    self._finish(opened, closes=False)
                self._open = packet
            self._leaves.append(leaf_of(packet))
        self._index = ring.next
        at_rest = stream.state in (StreamState.LINGERING, StreamState.ENDED)
        if at_rest and self._open is not None:
            self._finish(self._open, closes=True)

    def _begin_again(self) -> None:
        """The ring moved on without us: one batch was larger than all of it."""
        self._index = self._oldest()
        self._open, self._leaves = None, []

    def _oldest(self) -> int:
        """Where the oldest segment that can be signed begins."""
        stream = self.stream
        return next(
            (start for start in stream.ring.segment_starts() if start >= stream.epoch_begin), stream.ring.next
        )

    def _finish(self, opened: Packet, *, closes: bool) -> None:
        stream = self.stream
        unsigned = PartSigned(
            opened.discontinuity, opened.segment, opened.part, stream.part_target_us,
            stream.target_duration_us, closes, packets_digest(self._leaves), self._previous,
            bytes(SIGNATURE_BYTES),
        )  # fmt: skip
        self._open, self._leaves = None, []
        section = stream.sections.get(opened.discontinuity)
        if section is None:
            return  # evicted before it could be signed; nobody can be sent it either
        if self._section[0] != opened.discontinuity:
            self._section = (opened.discontinuity, section_digest(section, self.identity.epoch))
        message = signed_message(self.identity, self._section[1], unsigned)
        self._previous = sha256(message).digest()
        self.signed += 1
        self.proofs.add(msgspec.structs.replace(unsigned, signature=self._sign(message)), stream)


class Verifier:
    """Checks one part after the other against the key of the stream's origin."""

    def __init__(self, identity: Identity, key: bytes, verify: Verify) -> None:
        self.identity = identity
        self._key = key
        self._verify = verify
        self._chain: bytes | None = None  # what the next part must link to; None where we begin

    def break_chain(self) -> None:
        """Parts are missing before the next one, as was said."""
        self._chain = None

    def check(self, section: bytes, leaves: Sequence[bytes], part: PartSigned) -> Failure | None:
        """None: the part is its origin's, and the next one must follow on it."""
        message = signed_message(self.identity, section, part)
        found = packets_digest(leaves)
        fault = self._fault(message, found, part)
        if fault is not None:
            return Failure(fault, part.segment, part.part, message, part.signature, part.digest, found)
        self._chain = sha256(message).digest()
        return None

    def _fault(self, message: bytes, found: bytes, part: PartSigned) -> Fault | None:
        if not self._verify(self._key, message, part.signature):
            return Fault.SIGNATURE
        if found != part.digest:
            return Fault.PACKETS
        if self._chain is not None and part.previous != self._chain:
            return Fault.CHAIN
        return None
