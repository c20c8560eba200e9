"""Getting this node's claim renewed in time, and renewing for others. Pure; `Spread` carries the messages.

A node whose claim is in its last third asks one neighbour after the other that may have a key for it. The
owner's node renews itself.
"""

from collections.abc import Iterable
from typing import Protocol

from mesh.errors import Refused, StateError, Unavailable
from mesh.identity.claim import Chain, parse_chain_untrusted
from mesh.identity.membership import RENEW_AT, Membership
from mesh.identity.moment import CLOCK_TOLERANCE_S, moment
from mesh.identity.rules import INVITER
from mesh.identity.spread_message import REASON_LENGTH_MAX, Renewal
from mesh.model import NodeId, Signer

ANSWER_S = 10.0  # for one neighbour to renew, then the next is asked
RENEW_AGAIN_S = 600.0  # after all neighbours refused; the last third of a claim is months by default


class Link(Protocol):
    """A neighbour, and the chain that its link is judged by."""

    id: NodeId
    chain: Chain


class Renewer:
    """Whom to ask when, and what to answer."""

    def __init__(self, membership: Membership, signer: Signer | None, now: float) -> None:
        """`signer` is the network key, this node's key where it is an inviter, or None.

        Raises StateError for another's key.
        """
        if signer is not None and signer.node_id not in (membership.network, membership.node_id):
            raise StateError("the signer is neither the owner nor this node")
        self.at = now  # when to `seek`
        self.refusal = ""  # why this node's claim was not renewed, as the last who was asked said
        self._membership = membership
        self._signer = signer
        self._asked: set[NodeId] = set()

    def link_up(self, chain: Chain, now: float) -> None:
        """There is a new neighbour to ask."""
        if _may_renew(chain):
            self.at = min(self.at, now)

    def link_down(self, peer: NodeId, now: float) -> None:
        """An answer may never come."""
        if peer in self._asked:
            self.at = min(self.at, now)

    def seek(self, links: Iterable[Link], now: float, unix_s: float) -> NodeId | None:
        """Whom to ask now, if anybody. Where the network key is here, the claim is renewed and adopted."""
        self.at = now + RENEW_AGAIN_S
        if not self._membership.renewal_due(unix_s):
            self._asked.clear()
            return None
        if self._signer is not None and self._signer.node_id == self._membership.network:
            self._renew_self(self._signer, unix_s)
            return None
        able = [link for link in links if _may_renew(link.chain) and link.id not in self._asked]
        if not able:
            self._asked.clear()
            return None
        # The owner's node has a claim without an inviter in it, and renews for longest.
        chosen = min(able, key=lambda link: (len(link.chain.links), link.id)).id
        self._asked.add(chosen)
        self.at = now + ANSWER_S
        return chosen

    def answer(self, link: Link, unix_s: float) -> Renewal:
        """What to answer a neighbour that asks for a new claim; its link is judged by that from now on."""
        try:
            link.chain = self._renew_for(link.chain, unix_s)
        except (Refused, Unavailable) as error:
            return Renewal(reason=str(error)[:REASON_LENGTH_MAX])
        return Renewal(link.chain.data)

    def take(self, peer: NodeId, message: Renewal, now: float, unix_s: float) -> None:
        """Adopt what a neighbour answered, or ask the next. Unasked, it is ignored.

        Raises WireError, and Refused for a chain that no honest neighbour would make.
        """
        if peer not in self._asked:
            return
        self.at = now
        if not message.chain:
            self.refusal = "".join(letter if letter.isprintable() else "?" for letter in message.reason)
            return
        chain = parse_chain_untrusted(message.chain)
        claim, own = chain.claim, self._membership.own.claim
        if claim.not_after <= own.not_after or (claim.name, claim.roles) != (own.name, own.roles):
            raise Refused("a renewed claim that says less than the old one")
        try:
            self._membership.adopt(chain, unix_s)
        except Unavailable as error:
            self.refusal = str(error)
            return
        self._adopted(now)

    def _renew_self(self, owner: Signer, unix_s: float) -> None:
        try:
            chain = self._membership.renew(owner, self._membership.own, int(unix_s))
            self._membership.adopt(chain, unix_s)
        except (Refused, Unavailable) as error:
            self.refusal = str(error)
        else:
            self.refusal = ""

    def _adopted(self, now: float) -> None:
        self.refusal = ""
        self._asked.clear()
        self.at = now + RENEW_AGAIN_S

    def _renew_for(self, chain: Chain, unix_s: float) -> Chain:
        """A new claim for a member in good standing. Raises Refused, or Unavailable, with the reason."""
        if self._signer is None:
            raise Refused("this node has no key to renew a membership with")
        claim = chain.claim
        due = claim.not_before + (claim.not_after - claim.not_before) * RENEW_AT
        if unix_s < due - CLOCK_TOLERANCE_S:
            raise Refused(f"it is not to be renewed before {moment(due)}")
        return self._membership.renew(self._signer, chain, int(unix_s))


def _may_renew(chain: Chain) -> bool:
    """Whether the node with this chain may have a key to renew with: the owner's node has every role."""
    return bool(chain.claim.roles & INVITER)
