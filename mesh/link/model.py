"""Words that links share. Pure."""

from dataclasses import dataclass
from typing import Protocol

from mesh.identity.claim import Chain
from mesh.model import NodeId, Role

PROTOCOL_VERSION = 1
CONTROL = ""  # the purpose of the one connection that carries frames; any other purpose names a service
AGAIN = b"again"  # argument of a CONTROL connection that takes the place of one that looks broken
TCP, QUIC = "tcp", "quic"  # what carries a connection
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


class Connection(Protocol):
    """An authenticated, encrypted stream of bytes to a member, whatever carries it.

    One task may send while one other receives. A send that was cancelled leaves a part behind: nothing can be
    sent after it. The end of the stream is authenticated: a connection that was cut is broken.
    """

    peer: Peer
    purpose: str
    argument: bytes
    bytes_in: int
    bytes_out: int

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Raises BrokenResourceError, ClosedResourceError; BusyResourceError for two."""
        ...

    async def receive_some(self, n: int = 65536) -> bytes:
        """At least one byte and at most `n`; b"" at the end. Raises as `send_all`."""
        ...

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Fill as much of `buffer` as has arrived, at least one byte; 0 at the end. Raises as `send_all`."""
        ...

    def hand_over(self, purpose: str | None = None, argument: bytes | None = None) -> "Connection":
        """The same connection as another object, and perhaps for another purpose; this one is closed."""
        ...

    async def aclose(self) -> None:
        """Say goodbye to the other side, as far as that is possible without waiting for it, and close."""
        ...

    def close(self) -> None:
        """Close at once. A task that sends or receives gets ClosedResourceError. May be repeated."""
        ...
