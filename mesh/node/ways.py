"""How a bulk stream to a linked member can be opened. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mesh.address import host_of
from mesh.discovery.candidates import is_lan
from mesh.link.connector import Connector
from mesh.link.model import QUIC
from mesh.model import NodeId


@dataclass(frozen=True, slots=True)
class Straight:
    """A stream's way: dial the peer."""

    address: str


@dataclass(frozen=True, slots=True)
class CallBack:
    """A stream's way: have the peer dial this node."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A stream's way: over the link itself, which carries many."""


@dataclass(frozen=True, slots=True)
class Over:
    """A stream's way: through a relay."""

    relay: NodeId


@dataclass(frozen=True, slots=True)
class Simultaneous:
    """A stream's way: over TCP through both routers, opened by both ends at the same moment."""


Way: TypeAlias = Straight | CallBack | Simultaneous | Inside | Over


def stream_ways(connector: Connector, peer: NodeId) -> list[Way]:
    """The ways to a peer, the best first; none without a link."""
    link = connector.links.get(peer)
    if link is None:
        return []
    relays: list[Way] = [Over(relay) for relay in connector.stream_relays(peer)]
    if link.via is not None:
        return [Simultaneous(), *relays]
    if link.carrier == QUIC:
        return [Simultaneous(), Inside(), *relays]
    return [Straight(link.peer.remote) if link.peer.dialled else CallBack(), *relays]


def seen_hosts(connector: Connector, peer: NodeId) -> tuple[str, ...]:
    """Where others see a linked peer: the other end of a direct link, and what the relay between says."""
    link = connector.links.get(peer)
    direct = host_of(link.peer.remote) if link is not None and link.via is None else ""
    return tuple(dict.fromkeys(host for host in (direct, connector.seen_at(peer)) if host))


def way_name(way: Way, remote: str, name_of: Callable[[NodeId], str]) -> str:
    """A stream's way in a word, as peers' paths are called; `remote` is its other end's "host:port"."""
    if isinstance(way, Over):
        return f"relayed via {name_of(way.relay)}"
    if is_lan(remote):
        return "lan"
    return "punched" if isinstance(way, Inside) else "direct"
