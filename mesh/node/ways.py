"""How a bulk stream to a linked member can be opened. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

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


Way: TypeAlias = Straight | CallBack | Inside | Over


def stream_ways(connector: Connector, peer: NodeId) -> list[Way]:
    """The ways to a peer, the best first; none without a link."""
    link = connector.links.get(peer)
    if link is None:
        return []
    relays: list[Way] = [Over(relay) for relay in connector.stream_relays(peer)]
    if link.via is not None:
        return relays
    if link.carrier == QUIC:
        return [Inside(), *relays]
    return [Straight(link.peer.remote) if link.peer.dialled else CallBack(), *relays]
