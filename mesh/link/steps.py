"""What a connector wants done, and what it tells its owner. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from mesh.link.control import Traversal
from mesh.model import NodeId


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial an address; `expect` None: whoever answers there.

    `again`: the link that there is looks broken from here, so the peer should take the new one for it.
    """

    attempt: int
    address: str
    expect: NodeId | None
    again: bool = False


@dataclass(frozen=True, slots=True)
class DialRelay:
    """Connect to a relay, show the token; then `accept` a dialler there, or dial `expect` through it."""

    attempt: int
    address: str
    token: bytes
    expect: NodeId
    via: NodeId
    accept: bool
    again: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One control message on a connection."""

    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A connection that is not needed."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class Up:
    """There is a link to a peer."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Down:
    """There is none any more."""

    peer: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Relay:
    """A neighbour asks to be spliced to another: see `Connector.granted` and `denied`."""

    origin: NodeId
    target: NodeId
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """A peer asks whether this node can connect to an address of its own: see `Connector.tried`."""

    peer: NodeId
    ticket: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Reached:
    """What a peer found when it tried an address of this node."""

    peer: NodeId
    address: str
    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """A relay does not join this node to a peer."""

    relay: NodeId
    peer: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Spliced:
    """A relay took on the pair that `Connector.ask_splice` asked for: connect there, show the token."""

    ticket: bytes
    address: str
    token: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """A linked peer says something about finding a path."""

    peer: NodeId
    message: Traversal


@dataclass(frozen=True, slots=True)
class Relayed:
    """A peer that this node dialled is reached over a relay: a direct path should be looked for."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class NotOpened:
    """A bulk stream did not come about by the way that was tried."""

    ticket: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Called:
    """A linked peer, that cannot dial here, wants to be dialled for a stream; see `Connector.not_called`."""

    peer: NodeId
    address: str
    ticket: bytes
    service: str
    argument: bytes


Output: TypeAlias = (
    Dial
    | DialRelay
    | Frame
    | Close
    | Up
    | Down
    | Relay
    | RelayRefused
    | Probe
    | Reached
    | Spliced
    | NotOpened
    | Called
    | Heard
    | Relayed
)
