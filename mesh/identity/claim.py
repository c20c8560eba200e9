"""Claims and grants: who is a member of a network, and who may make members of it.

A **claim** says that a node is a member, with a name and roles, from and until when. A **grant** is what an
invite carries: whoever has its enrolment key may sign claims within it. A **chain** is the statements from
the network key to one claim or grant; each is signed by the key that the one before it names, the first by
the network key. These are all chains there are (G grant, C claim):

    C            the owner made the node a member          C C      a member with the inviter role did
    G C          ... with an invite of the owner           C G C    ... with an invite of that member
                                                           G C C    G C G C    the same, itself invited

Only the owner makes inviters, so that a chain has at most four statements, a check at most four signatures,
and the harm that one inviter can do is counted against one number that the owner signed.

A signature covers a prefix with the kind and version, the network and the statement's bytes.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from mesh.errors import WireError
from mesh.identity.wire import (
    PublicKey,
    Serial,
    Signature,
    UnixSeconds,
    decode_untrusted,
    digest,
    encode,
)
from mesh.model import NetworkId, NodeId, Role, Signer

GRANT_PREFIX = b"fwnode grant 1\0"
CLAIM_PREFIX = b"fwnode claim 1\0"
LINKS_MAX = 4  # G C G C
NAME_LENGTH_MAX = 63  # one DNS label, one line in a table
NAME_RULE = f"1 to {NAME_LENGTH_MAX} printable characters on one line"
BODY_BYTES_MAX = 400  # the longest claim: a name of 63 four-byte characters and about 70 bytes of numbers
CHAIN_BYTES_MAX = 2048  # four such statements with signatures
USES_MAX = 1000  # of one grant, and of one inviter: the mesh is built for about as many nodes
ADMITS_MAX = 10_000  # nodes that one grant of the owner can bring, those brought by its inviters included
ROLE_BITS_MAX = 0xFFFF  # bits of roles that a newer version knows are carried along

ROLE_BITS = {role: 1 << place for place, role in enumerate(Role)}  # the order of Role is the wire format

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
RoleBits = Annotated[int, msgspec.Meta(ge=0, le=ROLE_BITS_MAX)]


class Grant(msgspec.Struct, frozen=True, array_like=True, tag="g", forbid_unknown_fields=True):
    """Leave for whoever has the enrolment key to make `uses` nodes members."""

    holder: PublicKey  # the enrolment key; its secret half is in the invite
    roles: RoleBits  # that a member may have
    not_before: UnixSeconds  # claims begin from here
    not_after: UnixSeconds  # to here: the invite's expiry
    members_until: UnixSeconds  # no claim lasts longer
    uses: Annotated[int, msgspec.Meta(ge=1, le=USES_MAX)]
    invites: Annotated[int, msgspec.Meta(ge=0, le=USES_MAX)] = (
        0  # that each member with the inviter role may use
    )


class Claim(msgspec.Struct, frozen=True, array_like=True, tag="c", forbid_unknown_fields=True):
    """A node is a member."""

    holder: PublicKey  # the node
    roles: RoleBits
    not_before: UnixSeconds  # when it was made, too
    not_after: UnixSeconds
    serial: Serial  # of two claims of one node the higher is the newer
    name: Name
    invites: Annotated[int, msgspec.Meta(ge=0, le=USES_MAX)] = 0  # nodes that it may admit in all


Statement: TypeAlias = Grant | Claim


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]
    signature: Signature


class _Chain(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    network: PublicKey
    links: Annotated[tuple[_Signed, ...], msgspec.Meta(min_length=1, max_length=LINKS_MAX)]


_statements = msgspec.msgpack.Decoder(Grant | Claim)
_chains = msgspec.msgpack.Decoder(_Chain)


@dataclass(frozen=True, slots=True)
class Link:
    """One signed statement and the bytes of it that are signed."""

    statement: Statement
    body: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Chain:
    """Statements from the network key on. Parsed, not checked: see `rules.check_shape` and `Membership`."""

    network: NetworkId
    links: tuple[Link, ...]
    data: bytes  # its one encoding

    @property
    def last(self) -> Statement:
        """The statement that the others lead to."""
        return self.links[-1].statement

    @property
    def claim(self) -> Claim:
        """The claim at its end. Raises WireError when it ends in a grant."""
        last = self.last
        if not isinstance(last, Claim):
            raise WireError("a chain that ends in a grant stands for no node")
        return last

    @property
    def node_id(self) -> NodeId:
        """Whom it makes a member. Raises WireError as `claim`."""
        return self.claim.holder

    def issuer(self, at: int) -> bytes:
        """The key that must have signed link `at`."""
        return self.links[at - 1].statement.holder if at else self.network

    def before(self, count: int) -> "Chain":
        """The chain of its first `count` links."""
        return self if count == len(self.links) else make_chain(self.network, self.links[:count])

    def digest(self) -> bytes:
        """16 bytes that stand for exactly these bytes."""
        return digest(self.data)


def parse_chain_untrusted(data: bytes) -> Chain:
    """A chain from its bytes. Raises WireError. No signature is checked yet."""
    wire = decode_untrusted(_chains, data, CHAIN_BYTES_MAX, "chain of claims")
    return Chain(wire.network, tuple(_link_untrusted(signed) for signed in wire.links), data)


def _link_untrusted(signed: _Signed) -> Link:
    statement = decode_untrusted(_statements, signed.body, BODY_BYTES_MAX, "claim")
    if isinstance(statement, Claim) and not is_name(statement.name):
        raise WireError(f"claim: the name {statement.name!a} is not one line of printable characters")
    return Link(statement, signed.body, signed.signature)


def make_chain(network: NetworkId, links: tuple[Link, ...]) -> Chain:
    """A chain of links that are known to be sound."""
    wire = _Chain(network, tuple(_Signed(link.body, link.signature) for link in links))
    return Chain(network, links, encode(wire))


def sign_statement(network: NetworkId, statement: Statement, signer: Signer) -> Link:
    """A signed statement. Whether the signer may make it is for `rules.check_shape` to say."""
    body = encode(statement)
    return Link(statement, body, signer.sign(signed_message(network, statement, body)))


def signed_message(network: NetworkId, statement: Statement, body: bytes) -> bytes:
    """What the signature of a statement covers."""
    return (GRANT_PREFIX if isinstance(statement, Grant) else CLAIM_PREFIX) + network + body


def is_name(text: str) -> bool:
    """Whether a node may be called so: one line, printable, no blanks at the ends, 1 to 63 characters."""
    return 0 < len(text) <= NAME_LENGTH_MAX and text.isprintable() and text == text.strip()


def to_bits(roles: "frozenset[Role] | set[Role]") -> int:
    """Roles as they are on the wire."""
    return sum(ROLE_BITS[role] for role in roles)


def to_roles(bits: int) -> frozenset[Role]:
    """Roles from the wire; bits that this version does not know are left out."""
    return frozenset(role for role, bit in ROLE_BITS.items() if bits & bit)
