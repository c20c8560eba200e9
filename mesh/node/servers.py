"""Which members a node can ask over UDP what its router does. Pure."""

from mesh.address import host_of
from mesh.directory.facts import Where
from mesh.discovery.candidates import is_lan
from mesh.link.live import BEST
from mesh.model import NodeId
from mesh.node.core import MeshCore
from mesh.node.presence import REACHABLE, answers_strangers

OPINIONS = 2  # addresses for a second opinion: the mapping of one alone says little


def stun_servers(core: MeshCore) -> list[tuple[str, NodeId | None]]:
    """Addresses of members that anybody can dial, who answer STUN on the same port; the linked ones first.

    With each the member, when it has a direct link to this node. Whoever this node could dial is one, before
    its record says so.
    """
    dialled: list[tuple[str, NodeId | None]] = []
    for node, link in core.connector.links.items():
        where = core.fact(node, Where)
        if link.rank == BEST and link.peer.dialled and (where is None or answers_strangers(where)):
            dialled.append((link.peer.remote, node))
    told: list[tuple[str, NodeId | None]] = []
    for node in core.gossip.directory.members():
        where = core.fact(node, Where) if node != core.node else None
        if where is not None and where.nat == REACHABLE and answers_strangers(where):
            direct = core.connector.links.get(node)
            near = node if direct is not None and direct.via is None else None
            told += [(address, near) for address in where.candidates]
    servers = [server for server in dict.fromkeys((*dialled, *told)) if not is_lan(server[0])]
    return sorted(servers, key=lambda server: server[1] is None)


def opinion_servers(core: MeshCore) -> list[str]:
    """At most OPINIONS of them, of different hosts and over IPv4: what pystun3 can ask."""
    found: dict[str, str] = {}
    for address, _ in stun_servers(core):
        host = host_of(address)
        if ":" not in host:
            found.setdefault(host, address)
    return list(found.values())[:OPINIONS]
