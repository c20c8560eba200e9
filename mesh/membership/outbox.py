"""What the core wants done: drained by the shell, in order."""

from typing import TypeAlias

import msgspec

from mesh.membership.message import Message, encode
from mesh.membership.neighbour import Neighbour
from mesh.model import NodeId


class Send(msgspec.Struct, frozen=True, gc=False):
    """One whole message for a peer with a live link."""

    peer: NodeId
    data: bytes


class Connect(msgspec.Struct, frozen=True, gc=False):
    """A link to this node is wanted; answer with `link_up` when there is one. May be asked again."""

    peer: NodeId


class Release(msgspec.Struct, frozen=True, gc=False):
    """Gossip has no use for the link any more; close it if nothing else has. `reason` is for the log.

    `fault`: the peer is gone or misbehaved; close it whatever else it is good for.
    """

    peer: NodeId
    reason: str
    fault: bool = False


Output: TypeAlias = Send | Connect | Release


class Outbox:
    """Collects outputs and keeps each neighbour's time of sending. `bytes_out` is without framing."""

    def __init__(self) -> None:
        self.items: list[Output] = []
        self.messages_out = 0
        self.bytes_out = 0

    def send(self, neighbour: Neighbour, message: Message, now: float) -> None:
        """Encode and queue one message."""
        self.send_bytes(neighbour, encode(message), now)

    def send_bytes(self, neighbour: Neighbour, data: bytes, now: float) -> None:
        """As `send`, for a message encoded once for several neighbours."""
        neighbour.sent = now
        self.messages_out += 1
        self.bytes_out += len(data)
        self.items.append(Send(neighbour.id, data))

    def connect(self, peer: NodeId) -> None:
        """Ask for a link."""
        self.items.append(Connect(peer))

    def release(self, peer: NodeId, reason: str, *, fault: bool = False) -> None:
        """Give a link back."""
        self.items.append(Release(peer, reason, fault))
