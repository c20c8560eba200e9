"""What each process is told: the fields as JSON on its command line. Pure."""

from dataclasses import dataclass

HOST = "127.0.0.1"
MESSAGE_BYTES = 1 << 20  # handed to the stream at once: about a part of a 3 Mb/s rendition and more
BUFFER_BYTES = 256 << 10  # asked of the stream at once
STRANGERS = ("no knock", "wrong knock", "garbage", "no member", "too fast")


@dataclass(frozen=True, slots=True)
class ReceiverSpec:
    """Takes one bulk stream."""

    invite: str
    plain: bool  # trio.SSLStream in place of a link


@dataclass(frozen=True, slots=True)
class SenderSpec:
    """Sends one bulk stream to a receiver."""

    invite: str
    plain: bool
    port: int


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """Splices two connections."""

    invite: str
    plain: bool  # copies bytes with trio's streams in place of the relay


@dataclass(frozen=True, slots=True)
class SplicedSpec:
    """Both ends of a spliced connection: one sends, the other discards."""

    port: int
    tokens: list[str]  # sink's and source's in hexadecimal; empty for a relay that asks for none


@dataclass(frozen=True, slots=True)
class DoorSpec:
    """Listens for members."""

    invite: str
    limited: bool  # by the number of connections that one address may open, as a node is


@dataclass(frozen=True, slots=True)
class StrangerSpec:
    """Connects again and again and is refused."""

    invite: str
    kind: str  # of STRANGERS
    port: int


@dataclass(frozen=True, slots=True)
class SwarmSpec:
    """Many nodes of one network."""

    invite: str
    nodes: int
    name: str  # what their names begin with
    seeds: list[str]


@dataclass(frozen=True, slots=True)
class NatStart:
    """A member behind a router, for one round. Its process is told on standard input, not at its start."""

    invite: str
    name: str
    peer: str  # whose link it is asked about, by name; "": anybody's
    seeds: list[str]
    asks: bool  # opens a stream to the peer as soon as it is known


@dataclass(frozen=True, slots=True)
class NatFlow:
    """A stream from this member to the peer of its `NatStart`, if not from that one to this."""

    seconds: float  # 0: the other one sends
    mbps: float  # 0: as fast as it goes


Spec = ReceiverSpec | SenderSpec | RelaySpec | SplicedSpec | DoorSpec | StrangerSpec | SwarmSpec
