"""What a node's core is told at the start, and what it wants done. Pure."""

from dataclasses import dataclass, field
from typing import TypeAlias

from mesh.link.relay.book import RelaySettings
from mesh.link.steps import (
    Called,
    Close,
    Dial,
    DialRelay,
    Heard,
    NotOpened,
    Probe,
    Relayed,
    Spliced,
)


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """What the operator says about this node."""

    name: str
    program: str  # "fwnode 0.1.0"
    port: int  # where it listens
    announce: tuple[str, ...] = ()
    relay: RelaySettings = field(default_factory=RelaySettings)


@dataclass(frozen=True, slots=True)
class Transmit:
    """One frame on a connection."""

    connection: int
    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Keep:
    """The membership changed: keep `Membership.state()`."""


@dataclass(frozen=True, slots=True)
class News:
    """The notices changed, or whose are in force: keep `MeshCore.notices`, and look what they say now."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell the operator: an event's name and what belongs to it."""

    event: str
    facts: dict[str, str]


Output: TypeAlias = (
    Dial
    | DialRelay
    | Transmit
    | Close
    | Probe
    | Spliced
    | NotOpened
    | Called
    | Heard
    | Relayed
    | Keep
    | News
    | Note
)
