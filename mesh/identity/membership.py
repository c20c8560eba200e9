"""One node's place in one network: its claim, whom it accepts, and who was revoked. Pure.

Links call `check` with the chain that a peer shows, after or before the peer proved that it has the key.
Whatever changes `version` (a revocation, a use that displaced another) can end the membership of somebody
already connected: check the chains of all links again then; that costs microseconds each, because signatures
are remembered. Save `state()` when `version` changed.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mesh.errors import Refused, StateError
from mesh.identity.claim import (
    CHAIN_BYTES_MAX,
    NAME_RULE,
    Chain,
    Claim,
    is_name,
    make_chain,
    parse_chain_untrusted,
    sign_statement,
    to_bits,
    to_roles,
)
from mesh.identity.invite import MEMBERSHIP_S, Invite, Terms, make_invite
from mesh.identity.key import verify as verify_ed25519
from mesh.identity.moment import moment
from mesh.identity.revocation import (
    KEEP_MAX,
    REVOCATIONS_MAX,
    Revocation,
    Revocations,
    Revoked,
    check_revocation,
    make_revocation,
    parse_revocation_untrusted,
)
from mesh.identity.rules import check_shape, check_time
from mesh.identity.signatures import KnownSignatures, check_signatures
from mesh.identity.uses import SEATS_MAX, Uses, has_ended, limit_of
from mesh.identity.wire import decode_untrusted, encode
from mesh.model import NetworkId, NodeId, Role, Signer, Verify, short

STATE_VERSION = 1
STATE_BYTES_MAX = 32_000_000  # 10,000 seats and 10,000 revocations take about 10 MB
RENEW_AT = 2 / 3  # of a claim's time: the last third, months by default, is for finding somebody who renews


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=STATE_VERSION, le=STATE_VERSION)]
    own: Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)]
    revocations: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=REVOCATIONS_MAX)]
    uses: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)], ...],
        msgspec.Meta(max_length=SEATS_MAX),
    ]


_states = msgspec.msgpack.Decoder(_State)


@dataclass(frozen=True, slots=True)
class Checked:
    """A member, as its chain says."""

    node_id: NodeId
    name: str
    roles: frozenset[Role]
    not_after_unix_s: int
    serial: int
    chain: Chain
    clock: str  # what to say about the two clocks, "" when nothing


class Membership:
    """What a node of a network knows about who belongs to it."""

    def __init__(self, own: Chain, verify: Verify = verify_ed25519) -> None:
        """`own` is this node's chain. Raises Refused when it is forged; WireError when it ends in a grant.

        A claim that has ended is taken, so that it can be renewed.
        """
        self.network: NetworkId = own.network
        self.node_id: NodeId = own.node_id
        self.own = own
        self.revocations = Revocations()
        self.uses = Uses()
        self._renewals = 0
        self._verify = KnownSignatures(verify)
        check_shape(own)
        check_signatures(own, self._verify)
        self.uses.take(own)

    @property
    def version(self) -> int:
        """Goes up with every change that must be saved and may end somebody's membership."""
        return self.uses.version + self.revocations.version + self._renewals

    @property
    def own_roles(self) -> frozenset[Role]:
        """What this node's own claim lets it do."""
        return to_roles(self.own.claim.roles)

    def check(self, chain: Chain, now_unix_s: float) -> Checked:
        """Who the chain makes a member, now, counting its use of an invite.

        Raises Refused with the reason, for both sides' logs; WireError when it stands for no node;
        Unavailable when no more members can be counted. That the peer has the key is for the link to check.
        """
        claim = chain.claim
        self._check_ours(chain)
        clock = check_time(claim, now_unix_s)
        if reason := self.revocations.reason_against(chain):
            raise Refused(reason)
        check_signatures(chain, self._verify)
        self.uses.take(chain)
        if reason := self.uses.reason_against(chain):
            raise Refused(reason)
        return Checked(
            claim.holder, claim.name, to_roles(claim.roles), claim.not_after, claim.serial, chain, clock
        )

    def learn_use(self, chain: Chain, now_unix_s: float) -> bool:
        """Count a chain that another member passed on, in force, ended or revoked. True when that changed
        anything; what `forget_ended` would drop is left alone.

        Raises Refused when it is foreign or forged; Unavailable as `check`.
        """
        self._check_ours(chain)
        if has_ended(chain, now_unix_s):
            return False
        before = self.uses.version
        check_signatures(chain, self._verify)
        self.uses.take(chain)
        return self.uses.version != before

    def learn_revocation(self, revocation: Revocation) -> bool:
        """Take in a revocation. True when new. Raises Refused when it is foreign or not the owner's."""
        check_revocation(revocation, self.network, self._verify)
        return self.revocations.add(revocation)

    def forget_ended(self, now_unix_s: float) -> None:
        """Drop what can never count again. Call it now and then, an hour apart or so."""
        self.uses.forget_ended(now_unix_s)

    def invites_left(self) -> int:
        """How many more nodes this one may admit without the network key."""
        return max(0, self.own.claim.invites - self.uses.taken(limit_of(self.own)))

    def brought_by(self, chain: Chain) -> list[NodeId]:
        """The nodes that came by the grant or the inviter that ends this chain, the first first."""
        return self.uses.nodes_under(limit_of(chain))

    def make_invite(
        self,
        signer: Signer,
        terms: Terms,
        *,
        enrolment_seed: bytes,
        seeds: tuple[str, ...],
        now_unix_s: int,
    ) -> Invite:
        """An invite signed with the network key or, within its own claim, with this node's key.

        Raises Refused when this node may not give these terms; StateError for another's key.
        """
        if signer.node_id == self.network:
            inviter: Chain | NetworkId = self.network
        else:
            member = self.check(self.own, now_unix_s)
            if Role.INVITER not in member.roles:
                raise Refused(
                    "this node may not invite: it needs the inviter role, or the network's owner key"
                )
            if terms.uses > self.invites_left():
                raise Refused(f"this node may admit {self.invites_left()} more nodes, not {terms.uses}")
            inviter = self.own
        return make_invite(
            signer, inviter, terms, enrolment_seed=enrolment_seed, seeds=seeds, now_unix_s=now_unix_s
        )

    def revoke(
        self, owner: Signer, key: bytes, now_unix_s: int, keep: frozenset[NodeId] = frozenset()
    ) -> Revocation:
        """Revoke a node's or an enrolment key, sparing nodes that came through it. To be gossiped.

        Raises StateError without the network key; Refused when there is no room, or for the owner's own key.
        """
        self._require_owner(owner)
        if key == self.network:
            raise Refused("the network key cannot be revoked: begin a new network")
        if len(keep) > KEEP_MAX:
            raise Refused(f"a revocation spares at most {KEEP_MAX} nodes")
        serial = self.revocations.next_serial(len(keep))
        said = Revoked(key, now_unix_s, serial, tuple(sorted(keep)))
        revocation = make_revocation(owner, said)
        self.revocations.add(revocation)
        return revocation

    def settle(self, owner: Signer, grant: Chain, now_unix_s: int) -> Revocation:
        """Close an invite for ever: who has joined stays, nobody else can join, not even dated back.

        `grant` is the chain that ends in the invite's grant. Made when an invite expired or was used up, by
        an owner's node that has heard from the others; who it has not heard of is out. Raises as `revoke`.
        """
        return self.revoke(owner, grant.last.holder, now_unix_s, frozenset(self.brought_by(grant)))

    def renewal_due(self, now_unix_s: float) -> bool:
        """Whether this node should ask the owner or an inviter for a new claim: the last third has begun."""
        claim = self.own.claim
        return now_unix_s >= claim.not_before + (claim.not_after - claim.not_before) * RENEW_AT

    def renew(self, signer: Signer, chain: Chain, now_unix_s: int, lasts_s: int = MEMBERSHIP_S) -> Chain:
        """A new chain for a member: signed with the network key, or with this node's key as an inviter.

        The owner keeps name, roles and invites, for `lasts_s` from now; an inviter's renewed claim begins a
        new count of its invites. An inviter renews for as long as its own claim lasts, never an inviter,
        and spends one of its invites. Raises Refused when it may not, or the member is none.
        """
        old = self.check(chain, now_unix_s).chain.claim
        by_owner = signer.node_id == self.network
        if not by_owner and signer.node_id != self.node_id:
            raise StateError("the signer is neither the owner nor this node")
        mine = None if by_owner else self.check(self.own, now_unix_s).chain.claim
        begins = max(now_unix_s, mine.not_before) if mine else now_unix_s
        until = min(begins + lasts_s, mine.not_after) if mine else begins + lasts_s
        if until <= old.not_after:
            raise Refused(f"this node cannot renew beyond {moment(until)}: ask another inviter or the owner")
        if mine and not self.invites_left():
            raise Refused("this node may admit no more nodes: ask another inviter or the owner")
        claim = msgspec.structs.replace(
            old,
            not_before=begins,
            not_after=until,
            serial=max(begins, old.serial + 1),
            invites=0 if mine else old.invites,
        )
        above = self.own.links if mine else ()
        renewed = make_chain(self.network, (*above, sign_statement(self.network, claim, signer)))
        self.check(renewed, now_unix_s)
        return renewed

    def adopt(self, chain: Chain, now_unix_s: float) -> None:
        """Replace this node's own claim by a renewed one. Refused when it is no newer or not its own."""
        checked = self.check(chain, now_unix_s)
        if checked.node_id != self.node_id:
            raise Refused("a claim of another node")
        if checked.serial <= self.own.claim.serial:
            raise Refused("a claim that is no newer than the one that this node has")
        self.own = chain
        self._renewals += 1

    def state(self) -> bytes:
        """Everything to keep, for `restore`. Holds no secret."""
        return encode(
            _State(
                STATE_VERSION,
                self.own.data,
                tuple(revocation.data for revocation in self.revocations.all()),
                tuple(chain.data for chain in self.uses.chains()),
            )
        )

    @classmethod
    def restore(cls, state: bytes, verify: Verify = verify_ed25519) -> "Membership":
        """From `state()`. Raises WireError when it is damaged, Refused when it does not fit together.

        What this node once checked and stored is not verified again: 10,000 seats would take seconds.
        """
        found = decode_untrusted(_states, state, STATE_BYTES_MAX, "membership state")
        membership = cls(parse_chain_untrusted(found.own), verify)
        for data in found.revocations:
            revocation = parse_revocation_untrusted(data)
            if revocation.network != membership.network:
                raise Refused("membership state: a revocation of another network")
            membership.revocations.add(revocation)
        for data in found.uses:
            chain = parse_chain_untrusted(data)
            membership._check_ours(chain)
            membership.uses.take(chain)
        return membership

    def _check_ours(self, chain: Chain) -> None:
        if chain.network != self.network:
            raise Refused(
                f"it is of another network ({short(chain.network)}, this one is {short(self.network)})"
            )
        check_shape(chain)

    def _require_owner(self, owner: Signer) -> None:
        if owner.node_id != self.network:
            raise StateError("only the network's owner key does this")


def found_network(
    owner: Signer, node_id: NodeId, name: str, now_unix_s: int, lasts_s: int = MEMBERSHIP_S
) -> Chain:
    """The first claim of a new network: its owner's node, with every role. Raises Refused for a bad name."""
    if not is_name(name):
        raise Refused(f"a node cannot be called {name!a}: {NAME_RULE}")
    claim = Claim(
        holder=node_id,
        roles=to_bits(frozenset(Role)),
        not_before=now_unix_s,
        not_after=now_unix_s + lasts_s,
        serial=now_unix_s,
        name=name,
    )
    chain = make_chain(owner.node_id, (sign_statement(owner.node_id, claim, owner),))
    check_shape(chain)
    return chain
