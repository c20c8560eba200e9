"""Those who carry a stream, as far as this node knows and measures them. Pure."""

from collections.abc import Callable

from mesh.directory.facts import CarriedStream, Load, Where, Who
from mesh.link.model import QUIC
from mesh.model import NodeId, Role
from mesh.node.core import MeshCore
from mesh.node.presence import REACHABLE
from mesh.routing.costs import Reach
from mesh.routing.owners import Said
from mesh.routing.parents import Member


def members_of(
    core: MeshCore, said: Said, now: float, liar: Callable[[NodeId], str] = lambda node: ""
) -> list[Member]:
    """A Member for everybody else who says that it carries the stream. `now` is the mesh's clock.

    `liar`: why a node must never be taken.
    """
    return [_member(core, node, carried, now, liar(node)) for node, carried in said if node != core.node]


def may_publish(core: MeshCore, node: NodeId) -> bool:
    """Whether the claim that makes a node a member has the role for it, whatever else the node says."""
    if node == core.node:
        return Role.ORIGIN in core.roles
    who = core.fact(node, Who)
    return who is not None and Role.ORIGIN in core.roll.roles_of(node, who.claim)


def _member(core: MeshCore, node: NodeId, carried: CarriedStream, now: float, liar: str) -> Member:
    link = core.connector.links.get(node)
    return Member(
        node,
        carried,
        load=core.fact(node, Load),
        reach=_reach(core, node),
        rtt_s=link.pulse.rtt_s if link else None,
        loss=(link.pulse.loss(now) or 0.0) if link else 0.0,
        excluded=liar or ("it has nobody to take it from" if carried.depth and carried.resume else ""),
    )


def _reach(core: MeshCore, node: NodeId) -> Reach:
    link = core.connector.links.get(node)
    if link is None:
        where = core.fact(node, Where)
        return Reach.DIALABLE if where is not None and where.nat == REACHABLE else Reach.INDIRECT
    if link.via is not None:
        return Reach.RELAYED
    return Reach.PUNCHED if link.carrier == QUIC else Reach.DIRECT
