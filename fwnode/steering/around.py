"""What the choice of nodes asks of a running mesh. Pure."""

from fwnode.replication.members import may_publish
from fwnode.steering.census import Near
from mesh.directory.facts import Who
from mesh.discovery.candidates import is_lan
from mesh.model import NodeId, Role
from mesh.node.core import MeshCore

UNLINKED = Near()
ALTERED = "it altered media"


class MeshAround:
    """A census's Surroundings."""

    def __init__(self, core: MeshCore) -> None:
        self.liars: frozenset[str] = frozenset()  # public keys as text
        self._core = core

    @property
    def node(self) -> NodeId:
        """This node."""
        return self._core.node

    def near(self, node: NodeId) -> Near:
        """What the link to a member tells, if there is one."""
        link = self._core.connector.links.get(node)
        if link is None:
            return UNLINKED
        lan = link.via is None and is_lan(link.peer.remote)
        return Near(link.pulse.rtt_s, link.pulse.fastest_s, lan)

    def is_edge(self, node: NodeId, who: Who | None) -> bool:
        """Whether its claim lets it serve viewers."""
        if node == self._core.node:
            return Role.EDGE in self._core.roles
        return who is not None and Role.EDGE in self._core.roll.roles_of(node, who.claim)

    def is_origin(self, node: NodeId) -> bool:
        """Whether its claim lets it take streams in."""
        return may_publish(self._core, node)

    def fault(self, node: NodeId) -> str:
        """Why nobody is sent there, whatever it says."""
        return ALTERED if self.liars and node.hex() in self.liars else ""
