"""Which members a node can ask over UDP what its router does. Pure."""

from mesh.directory.facts import Where
from mesh.discovery.candidates import is_lan
from mesh.link.model import TCP
from mesh.model import NodeId
from mesh.node.core import MeshCore
from mesh.node.presence import REACHABLE, answers_strangers


def stun_servers(core: MeshCore) -> list[tuple[str, NodeId | None]]:
    """Addresses of members that anybody can dial, who answer STUN on the same port; the linked ones first.

    With each the member, when it has a direct link to this node. Whoever this node could dial is one, before
    its record says so.
    """
    servers: list[tuple[str, NodeId | None]] = [
        (link.peer.remote, node)
        for node, link in core.connector.links.items()
        if link.peer.dialled and link.via is None and link.carrier == TCP and not is_lan(link.peer.remote)
    ]
    for node in core.gossip.directory.members():
        where = core.fact(node, Where) if node != core.node else None
        if where is None or where.nat != REACHABLE or not answers_strangers(where):
            continue
        link = core.connector.links.get(node)
        near = node if link is not None and link.via is None else None
        servers += [(address, near) for address in where.candidates if not is_lan(address)]
    return sorted(dict.fromkeys(servers), key=lambda server: server[1] is None)
