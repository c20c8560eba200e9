"""Whom a node has heard of: since when, under which name, and who lied about itself. Pure."""

from typing import NamedTuple

from mesh.directory.facts import Who
from mesh.errors import RemoteError, Unavailable
from mesh.identity.claim import Chain, parse_chain_untrusted
from mesh.identity.membership import Membership
from mesh.model import NodeId, Role

SEEN_MAX = 16 * 1024  # nodes that are remembered, as many as the directory holds


class _Claimed(NamedTuple):
    """What a claim was found to say, by the membership of that version."""

    claim: bytes
    version: int
    roles: frozenset[Role]
    not_after_unix_s: int


class Roll:
    """The nodes that one node has heard of."""

    def __init__(self, node: NodeId, membership: Membership, unix_s: float) -> None:
        self.first_seen: dict[NodeId, float] = {node: unix_s}  # -> Unix seconds
        self.names = {node: membership.own.claim.name}
        self.liars: set[NodeId] = set()  # members that published what their claim does not say
        self.unix_s = unix_s  # the wall clock, as it was a moment ago
        self._membership = membership
        self._roles: dict[NodeId, _Claimed] = {}

    def roles_of(self, node: NodeId, claim: bytes) -> frozenset[Role]:
        """What a node's claim, as it publishes it, lets it do now: nothing when that makes it no member."""
        version, known = self._membership.version, self._roles.get(node)
        if known is None or known.claim != claim or known.version != version:
            try:
                chain = parse_chain_untrusted(claim)
                checked = self._membership.check(chain, self.unix_s)
            except (RemoteError, Unavailable):
                return frozenset()
            if checked.node_id != node:
                return frozenset()
            if node not in self._roles and len(self._roles) >= SEEN_MAX:
                del self._roles[next(iter(self._roles))]
            version = self._membership.version  # the check may have counted a use
            known = self._roles[node] = _Claimed(claim, version, checked.roles, checked.not_after_unix_s)
        return known.roles if self.unix_s <= known.not_after_unix_s else frozenset()

    def see(self, node: NodeId, name: str, unix_s: float) -> None:
        """A node was heard of."""
        if node in self.first_seen or len(self.first_seen) < SEEN_MAX:
            self.first_seen.setdefault(node, unix_s)
        if node not in self.names and len(self.names) >= SEEN_MAX:
            del self.names[next(iter(self.names))]
        self.names[node] = name

    def forget(self, node: NodeId) -> None:
        """It is gone; its name may still be told."""
        self.first_seen.pop(node, None)

    def lied(self, node: NodeId) -> None:
        """A member published something else than its claim."""
        if len(self.liars) < SEEN_MAX:
            self.liars.add(node)

    def reason_against(
        self, node: NodeId, claim: bytes | Chain, unix_s: float, says: Who | None = None
    ) -> str:
        """Why a node is no member, or not the one that it `says`; empty when it is."""
        try:
            chain = claim if isinstance(claim, Chain) else parse_chain_untrusted(claim)
            if chain.node_id != node:
                return "it shows the claim of another node"
            checked = self._membership.check(chain, unix_s)
        except Unavailable:
            return ""  # no more can be counted here: others count it
        except RemoteError as error:
            return str(error)
        if says is not None and (says.name != checked.name or not checked.roles.issuperset(says.roles)):
            return "it says another name or other roles than its claim"
        return ""
