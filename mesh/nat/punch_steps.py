"""What a `Puncher` is told of its two ends, what it wants done and what it found. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from mesh.nat.facts import NatKind


@dataclass(frozen=True, slots=True)
class Side:
    """What one end says of itself: numeric "host:port", the kind of its router, the step of its ports."""

    candidates: tuple[str, ...]
    kind: NatKind
    port_delta: int | None = None


@dataclass(frozen=True, slots=True)
class SendProbe:
    """A datagram from a socket: 0 is the mesh port of the address's family."""

    socket: int
    address: str
    data: bytes
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Fresh IPv4 sockets, then `opened`; with `stun` the first one's mapping is asked for, then `mapped`."""

    count: int
    stun: bool


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """Fresh sockets that are not needed any more."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TellOther:
    """To the other end over the relay, where `told` takes it; may be empty, the order counts."""

    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Punched:
    """Datagrams go both ways; `round_trip_s` is the relay's where this end did not measure itself."""

    socket: int
    address: str
    round_trip_s: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No path was found."""

    reason: str


Output: TypeAlias = SendProbe | OpenSockets | CloseSockets | TellOther | Punched | GaveUp
