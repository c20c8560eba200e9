"""Keys that are no longer welcome: statements signed by the owner, a set that only grows.

A revocation names a public key. Every chain that goes **through** that key is refused: revoking a node
refuses its own claims and all that it admitted as an inviter; revoking an invite's enrolment key refuses all
claims made with it. A revocation may spare nodes by name (`keep`): whom an inviter brought before it went
bad, or, when an invite is settled, all who joined with it in time. A chain is refused when any revocation
refuses it, so two revocations of one key spare only the nodes that both spare, and a node whose own key is
revoked is never spared.

A revoked key never comes back: the node makes a new key. Who lost its place because its inviter or invite
was revoked can be given a claim by the owner.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from mesh.errors import Refused, WireError
from mesh.identity.claim import Chain
from mesh.identity.wire import PublicKey, Serial, Signature, UnixSeconds, decode_untrusted, digest, encode
from mesh.model import NetworkId, Signer, Verify, short

PREFIX = b"fwnode revocation 1\0"
KEEP_MAX = 1000  # as many as one invite or inviter can bring
BODY_BYTES_MAX = 40_000  # KEEP_MAX keys of 34 bytes, and 60 bytes
REVOCATIONS_MAX = 10_000  # as many as there may be seats: the owner can revoke everybody once
KEEP_TOTAL_MAX = 20_000  # kept nodes in all revocations: under 1 MB


class Revoked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the owner says."""

    key: PublicKey
    at_unix_s: UnixSeconds
    serial: Serial  # the owner counts them; for people and for order
    keep: Annotated[tuple[PublicKey, ...], msgspec.Meta(max_length=KEEP_MAX)] = ()  # ascending


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    network: PublicKey
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]
    signature: Signature


Rank: TypeAlias = tuple[int, bytes]

_signed = msgspec.msgpack.Decoder(_Signed)
_bodies = msgspec.msgpack.Decoder(Revoked)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A signed revocation. Parsed; its signature is checked by `check_revocation`."""

    network: NetworkId
    said: Revoked
    body: bytes
    signature: bytes
    data: bytes

    @property
    def rank(self) -> Rank:
        """Order in the set: by serial, then digest."""
        return self.said.serial, digest(self.data)


def parse_revocation_untrusted(data: bytes) -> Revocation:
    """A revocation from its bytes. Raises WireError. Its signature is not checked yet."""
    signed = decode_untrusted(_signed, data, BODY_BYTES_MAX + 200, "revocation")
    said = decode_untrusted(_bodies, signed.body, BODY_BYTES_MAX, "revocation")
    if any(first >= second for first, second in zip(said.keep, said.keep[1:], strict=False)):
        raise WireError("revocation: the nodes that it keeps are not in ascending order")
    return Revocation(signed.network, said, signed.body, signed.signature, data)


def make_revocation(owner: Signer, said: Revoked) -> Revocation:
    """Sign a revocation with the network key."""
    body = encode(said)
    signature = owner.sign(PREFIX + owner.node_id + body)
    data = encode(_Signed(owner.node_id, body, signature))
    return Revocation(owner.node_id, said, body, signature, data)


def check_revocation(revocation: Revocation, network: NetworkId, verify: Verify) -> None:
    """Raise Refused when it is not of this network or not its owner's."""
    if revocation.network != network:
        raise Refused(f"a revocation of another network ({short(revocation.network)})")
    if not verify(network, PREFIX + network + revocation.body, revocation.signature):
        raise Refused("a revocation that the owner did not sign")


class Revocations:
    """The growing set. Merging is union, so any order of `add` gives the same set.

    Bounded by REVOCATIONS_MAX: of more, which only the owner can make, those of the lowest rank are kept, the
    same ones everywhere. `next_serial` tells the owner before, and bounds what they spare.
    """

    def __init__(self) -> None:
        self.version = 0  # goes up with every change
        self._by_rank: dict[Rank, Revocation] = {}
        self._by_key: dict[bytes, list[Revocation]] = {}

    def __len__(self) -> int:
        return len(self._by_rank)

    def add(self, revocation: Revocation) -> bool:
        """Take a checked revocation in. False when it is known."""
        rank = revocation.rank
        if rank in self._by_rank:
            return False
        if len(self._by_rank) >= REVOCATIONS_MAX:
            highest = max(self._by_rank)
            if rank > highest:
                return False
            self._drop(highest)
        self._by_rank[rank] = revocation
        self._by_key.setdefault(revocation.said.key, []).append(revocation)
        self.version += 1
        return True

    def all(self) -> list[Revocation]:
        """Every revocation, by rank."""
        return [self._by_rank[rank] for rank in sorted(self._by_rank)]

    def reason_against(self, chain: Chain) -> str:
        """Why a chain is refused, "" when it is not."""
        last = chain.last.holder
        for at, link in enumerate(chain.links):
            for revocation in self._by_key.get(link.statement.holder, ()):
                if at == len(chain.links) - 1:
                    return "it was revoked by the network's owner"
                if last not in revocation.said.keep:
                    return "it was admitted by an invite or a node that the network's owner revoked"
        return ""

    def is_revoked(self, key: bytes) -> bool:
        """Whether a node's or an invite's key was revoked, with or without nodes that are spared."""
        return key in self._by_key

    def next_serial(self, keep: int) -> int:
        """The serial for the owner's next revocation, which spares `keep` nodes. Raises Refused when full."""
        kept = sum(len(revocation.said.keep) for revocation in self._by_rank.values())
        if len(self) >= REVOCATIONS_MAX or kept + keep > KEEP_TOTAL_MAX:
            raise Refused("this network has all the revocations that it can hold: begin a new network")
        return max((serial for serial, _ in self._by_rank), default=0) + 1

    def _drop(self, rank: Rank) -> None:
        revocation = self._by_rank.pop(rank)
        same = self._by_key[revocation.said.key]
        same.remove(revocation)
        if not same:
            del self._by_key[revocation.said.key]
