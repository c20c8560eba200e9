"""Words that links share. Pure."""

from dataclasses import dataclass

from mesh.identity.claim import Chain
from mesh.model import NodeId, Role

PROTOCOL_VERSION = 1
CONTROL = ""  # the purpose of the one connection that carries frames; any other purpose names a service
TOKEN_BYTES = 16  # of a relayed connection and of a ticket: 128 bits cannot be guessed


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of an authenticated connection."""

    node_id: NodeId
    name: str
    roles: frozenset[Role]
    chain: Chain
    program: str  # "fwnode 0.1.0", as the peer says
    clock: str  # what to say about the two clocks, "" when nothing
    remote: str  # "host:port" of the peer's end, "" over a relay
    observed: str  # "host:port" of our end as the peer sees it, "" over a relay
    dialled: bool  # by us
    round_trip_s: float  # of the handshake
