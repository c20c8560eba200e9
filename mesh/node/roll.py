"""Whom a node has heard of: since when, under which name, and who lied about itself. Pure."""

from mesh.directory.facts import Who
from mesh.errors import RemoteError, Unavailable
from mesh.identity.claim import Chain, parse_chain_untrusted
from mesh.identity.membership import Membership
from mesh.model import NodeId

SEEN_MAX = 16 * 1024  # nodes that are remembered, as many as the directory holds


class Roll:
    """The nodes that one node has heard of."""

    def __init__(self, node: NodeId, membership: Membership, unix_s: float) -> None:
        self.first_seen: dict[NodeId, float] = {node: unix_s}  # -> Unix seconds
        self.names = {node: membership.own.claim.name}
        self.liars: set[NodeId] = set()  # members that published what their claim does not say
        self._membership = membership

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
