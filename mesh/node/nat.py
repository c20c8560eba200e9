"""What a node shows of its way through the routers before it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.nat import facts as words
from mesh.nat.portmap.model import PortMapping
from mesh.node.core import MeshCore
from mesh.node.model import NatStatus, PortmapStatus
from mesh.node.presence import REACHABLE
from mesh.node.servers import stun_servers

NO_UDP = (
    "The mesh port is not open for UDP here: another program has it, or the mesh listens in a way that has "
    "none. Nodes that can be dialled are reached directly, all others over a relay."
)
MAPPING_WORDS = {
    words.Mapping.UNKNOWN: "",
    words.Mapping.NONE: "none",
    words.Mapping.INDEPENDENT: "one for all destinations",
    words.Mapping.DEPENDENT: "another for each destination",
}
FILTERING_WORDS = {
    words.Filtering.UNKNOWN: "",
    words.Filtering.INDEPENDENT: "lets anybody in",
    words.Filtering.DEPENDENT: "lets answers in",
}


@dataclass(frozen=True, slots=True)
class Portmap:
    """What became of asking the router for a port; `trouble` says why there is none."""

    wanted: bool = False
    mapping: PortMapping | None = None
    trouble: str = ""

    @property
    def announced(self) -> str:
        """The address that others are told, "" when none is of use to them."""
        mapping = self.mapping
        return mapping.external if mapping is not None and mapping.usable and mapping.tcp else ""


def nat_status(
    core: MeshCore, portmap: Portmap, counters: Mapping[str, int], *, udp: bool, says: str = ""
) -> NatStatus:
    """The node's own position. `udp`: the mesh port takes datagrams. `says`: why no port is asked for."""
    facts = core.presence.udp
    return NatStatus(
        udp=udp,
        kind=facts.kind.value,
        words=words.explain(facts, core.settings.port) if udp else [NO_UDP],
        mapping=MAPPING_WORDS[facts.mapping],
        filtering=FILTERING_WORDS[facts.filtering],
        mapped=list(facts.mapped),
        port_delta=facts.port_delta,
        lifetime_s=facts.lifetime_s,
        hairpin=facts.hairpin,
        tcp={REACHABLE: "open", "": ""}.get(core.nat, "closed"),
        servers=len(stun_servers(core)),
        portmap=_portmap_status(portmap, says),
        counters=dict(counters),
    )


def _portmap_status(portmap: Portmap, says: str) -> PortmapStatus:
    mapping = portmap.mapping
    if not portmap.wanted:
        return PortmapStatus("off", said=says)
    if mapping is None:
        return PortmapStatus("refused" if portmap.trouble else "asking", said=portmap.trouble)
    return PortmapStatus(
        "mapped" if portmap.announced else "unusable",
        mapping.protocol,
        mapping.external,
        mapping.said,
        mapping.gateway,
        mapping.lease_s,
    )
