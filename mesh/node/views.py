"""What a node shows of its network: every member with its path, place and load. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from mesh.address import host_of
from mesh.directory.facts import CarriedStreams, Load, Place, Where, Who
from mesh.discovery.candidates import is_lan
from mesh.errors import WireError
from mesh.geo.light import doubt
from mesh.identity.claim import to_roles
from mesh.link.live import Link
from mesh.link.model import QUIC
from mesh.link.refusals import Refusals
from mesh.model import NodeId
from mesh.nat.facts import NatKind, parse_facts_untrusted
from mesh.node.core import MeshCore
from mesh.node.model import MeshStatus, NatStatus, PeerLoad, PeerPlace, PeerView, RefusedPeer

NO_REASONS: Mapping[NodeId, str] = MappingProxyType({})
SELF = "self"
CONNECTED = "connected"
KNOWN = "known"


def peer_views(
    core: MeshCore, now: float, unix_s: float, reasons: Mapping[NodeId, str] = NO_REASONS
) -> list[PeerView]:
    """Every known node, this one first, then by name. `reasons`: why no path through NAT was found."""
    nodes = dict.fromkeys((*core.gossip.directory.members(), *core.connector.links))
    nodes.pop(core.node, None)
    views = [_peer_view(core, node, now, unix_s, reasons.get(node, "")) for node in nodes]
    views.sort(key=lambda view: (view.state != CONNECTED, view.name, view.node))
    return [_peer_view(core, core.node, now, unix_s), *views]


def mesh_status(
    core: MeshCore,
    refusals: Refusals,
    seeds: list[str],
    *,
    owner: bool,
    counters: dict[str, int],
    nat: NatStatus | None = None,
) -> MeshStatus:
    """This node's network."""
    claim = core.membership.own.claim
    return MeshStatus(
        network=core.membership.network.hex(),
        owner=owner,
        node=core.node.hex(),
        name=claim.name,
        roles=sorted(to_roles(claim.roles)),
        member_until_unix_s=claim.not_after,
        members=core.gossip.directory.population,
        links=len(core.connector.links),
        seeds=seeds,
        refused=[
            RefusedPeer(row.address, row.node, row.reason, row.by_us, row.count, row.last_unix_s)
            for row in refusals.rows()
        ],
        counters=counters,
        nat=nat or NatStatus(),
    )


def mesh_counters(core: MeshCore, refusals: Refusals) -> dict[str, int]:
    """Every count of the mesh since the start, by name."""
    gossip, spread, relay = core.gossip.counters, core.spread.counters, core.book.counters
    found = {f"link_{name}": count for name, count in core.connector.counters.items()}
    found |= {f"gossip_{name}": getattr(gossip, name) for name in gossip.__slots__}
    found["gossip_messages_out"] = core.gossip.outbox.messages_out
    found["gossip_bytes_out"] = core.gossip.outbox.bytes_out
    found |= {f"membership_{name}": getattr(spread, name) for name in spread.__slots__}
    found |= {f"relay_{name}": getattr(relay, name) for name in relay.__slots__ if name != "denied"}
    found["relay_denied"] = relay.denied.total()
    found["refused"] = refusals.total
    return found


def _peer_view(core: MeshCore, node: NodeId, now: float, unix_s: float, reason: str = "") -> PeerView:
    who, where = core.fact(node, Who), core.fact(node, Where)
    load, streams = core.fact(node, Load), core.fact(node, CarriedStreams)
    link = core.connector.links.get(node)
    rtt_s = link.pulse.rtt_s if link else None
    since = unix_s - (now - link.linked_at) if link else core.roll.first_seen.get(node, unix_s)
    loss = link.pulse.loss(now) if link else None
    return PeerView(
        name=core.name_of(node),
        node=node.hex(),
        state=SELF if node == core.node else CONNECTED if link else KNOWN,
        path=SELF if node == core.node else _path(core, link) if link else "",
        address=_address(link, where),
        rtt_ms=None if rtt_s is None else round(rtt_s * 1000, 2),
        place=_place(core, node, link),
        nat=_nat(where) if where else "",
        load=_load(load) if load else None,
        streams=[stream.name for stream in streams.streams] if streams else [],
        roles=sorted(who.roles) if who else sorted(link.peer.roles) if link else [],
        version=who.version if who else link.peer.program if link else "",
        since_unix_s=int(since),
        clock=link.peer.clock if link else "",
        loss=None if loss is None else round(loss, 3),
        path_since_unix_s=int(unix_s - (now - link.up_at)) if link else None,
        why_relayed=reason if link and link.via is not None else "",
    )


def _load(load: Load) -> PeerLoad:
    return PeerLoad(
        load.cpu, load.uplink_bps, load.uplink_budget_bps, load.viewers, load.sessions, load.standing
    )


def _nat(where: Where) -> str:
    """What a stranger meets: of UDP, as far as that is known, else of TCP."""
    try:
        kind = parse_facts_untrusted(where.udp).kind
    except WireError:
        kind = NatKind.UNKNOWN
    return kind.value or where.nat


def _path(core: MeshCore, link: Link) -> str:
    if link.via is not None:
        return f"relayed via {core.name_of(link.via)}"
    if is_lan(link.peer.remote):
        return "lan"
    if link.carrier == QUIC:
        return "punched"
    where = core.fact(link.peer.node_id, Where)
    mapped = where.mapped if where is not None and link.peer.dialled else core.presence.mapped
    return "mapped" if mapped and mapped in (link.peer.remote, link.peer.observed) else "direct"


def _address(link: Link | None, where: Where | None) -> str:
    """Where the node can be dialled; of a linked one, an address of the host that the link leads to."""
    said = list(where.candidates) if where else []
    if link is None or link.via is not None:
        return said[0] if said else ""
    if link.peer.dialled:
        return link.peer.remote
    host = host_of(link.peer.remote)
    return next((address for address in said if host_of(address) == host), link.peer.remote)


def _place(core: MeshCore, node: NodeId, link: Link | None) -> PeerPlace | None:
    place = core.fact(node, Place)
    if place is None:
        return None
    fastest_s = link.pulse.fastest_s if link else None
    why = doubt(core.place, place, fastest_s) if core.place and fastest_s and node != core.node else ""
    return PeerPlace(place.latitude, place.longitude, place.country, place.source, why)
