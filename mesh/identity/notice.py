"""What a member tells all others for as long as it is one, also while it is away.

A record of the directory goes when its node goes. A notice is kept by every member, on its disk, and holds
until its author replaces it, is a member no longer, or does not repeat it for NOTICE_S. An author has SLOTS
of them, each replaced as a whole. Its version is its author's wall clock when it was said, so whatever is
newer also ends later: an empty notice, which takes back what its slot said, can be forgotten once it has
ended, because every older copy, wherever it was kept meanwhile, has ended before.

What a notice says is opaque here. Who says something needs the role `origin`; anybody may take back.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from mesh.errors import Refused
from mesh.identity.claim import CHAIN_BYTES_MAX, Chain, parse_chain_untrusted, to_roles
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.wire import Signature, decode_untrusted, digest, encode
from mesh.model import NodeId, Role, Signer, Verify

PREFIX = b"fwnode notice 1\0"
SLOTS = 32  # with PAYLOAD_BYTES_MAX, 128 KiB that one member can have all others keep
PAYLOAD_BYTES_MAX = 4 * 1024  # what a small change sends over every link
BODY_BYTES_MAX = CHAIN_BYTES_MAX + PAYLOAD_BYTES_MAX + 40
NOTICE_BYTES_MAX = BODY_BYTES_MAX + 80
AT_MAX = 1 << 50  # milliseconds: beyond any date that can be shown
MS = 1000
NOTICE_S = 30 * 86_400.0  # a node away for a month; also how long one cut off believes what was taken back
REPEAT_S = NOTICE_S / 6  # several chances before it ends, and no traffic to speak of

SlotNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=SLOTS)]
Rank: TypeAlias = tuple[int, NodeId]


class Said(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the author signs."""

    chain: Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)]  # the author's, with its network
    slot: SlotNumber
    at_unix_ms: Annotated[int, msgspec.Meta(ge=0, le=AT_MAX)]
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)]  # empty: taken back


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]
    signature: Signature


_signed = msgspec.msgpack.Decoder(_Signed)
_bodies = msgspec.msgpack.Decoder(Said)


@dataclass(frozen=True, slots=True)
class Notice:
    """A signed notice. Parsed; its signature is checked by `check_notice`."""

    chain: Chain
    slot: int
    at_unix_ms: int
    payload: bytes
    data: bytes

    @property
    def author(self) -> NodeId:
        """Who says it."""
        return self.chain.node_id

    @property
    def rank(self) -> Rank:
        """Which notice it is, and what is kept when there are too many: the first slots of everybody."""
        return self.slot, self.author

    @property
    def version(self) -> tuple[int, bytes]:
        """The higher replaces the lower. The digest decides where an author says two things at once."""
        return self.at_unix_ms, digest(self.data)

    def has_ended(self, unix_s: float) -> bool:
        """Whether it counts no more, and no older one does."""
        return unix_s > self.at_unix_ms / MS + NOTICE_S + CLOCK_TOLERANCE_S

    def is_early(self, unix_s: float) -> bool:
        """Whether it comes from a clock that is wrong, or is seen by one."""
        return unix_s < self.at_unix_ms / MS - CLOCK_TOLERANCE_S


def make_notice(author: Signer, chain: Chain, slot: int, at_unix_ms: int, payload: bytes) -> Notice:
    """Sign a notice. `chain` is the author's."""
    body = encode(Said(chain.data, slot, at_unix_ms, payload))
    data = encode(_Signed(body, author.sign(PREFIX + chain.network + body)))
    return Notice(chain, slot, at_unix_ms, payload, data)


def parse_notice_untrusted(data: bytes) -> Notice:
    """A notice from its bytes. Raises WireError. Its signature is not checked yet."""
    signed = decode_untrusted(_signed, data, NOTICE_BYTES_MAX, "notice")
    said = decode_untrusted(_bodies, signed.body, BODY_BYTES_MAX, "notice")
    chain = parse_chain_untrusted(said.chain)
    _ = chain.claim  # of a node, not of an invite
    return Notice(chain, said.slot, said.at_unix_ms, said.payload, data)


def check_notice(notice: Notice, verify: Verify) -> None:
    """Raise Refused when its author did not sign it or may not say anything. Its chain is checked apart."""
    if notice.payload and Role.ORIGIN not in to_roles(notice.chain.claim.roles):
        raise Refused("a notice of a node without the role origin")
    signed = _signed.decode(notice.data)
    if not verify(notice.author, PREFIX + notice.chain.network + signed.body, signed.signature):
        raise Refused("a notice that its author did not sign")
