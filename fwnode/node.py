"""The parts of one running node, as those who show or control it see them. Pure."""

import dataclasses

from fwnode.config import Config
from fwnode.gate import NodeGate
from fwnode.keys import Keyring, StreamKey
from fwnode.network import Network
from media.deliver.http.router import Router
from media.deliver.poster.posters import Posters
from media.net.reactor import Reactor
from media.net.server import Listener
from media.track.derived import is_ladder
from media.track.registry import Streams
from media.track.stream import StreamState

REVOKED = "the stream key was revoked"
STOPPED_BY_OPERATOR = "the node's operator stopped this stream"


@dataclasses.dataclass(slots=True)
class Node:
    """What `wiring.py` made. Everything here belongs to the trio thread."""

    config: Config
    network: Network
    keyring: Keyring
    streams: Streams
    gate: NodeGate
    reactor: Reactor
    started_at: float  # monotonic seconds
    started_unix_s: int
    listeners: dict[str, Listener] = dataclasses.field(default_factory=dict)  # public ones, by option
    admin_address: str = ""  # bound, "host:port"
    mesh_address: str = ""  # the same, for other nodes
    router: Router = dataclasses.field(default_factory=Router)  # what the public HTTP listeners answer
    posters: Posters = dataclasses.field(default_factory=Posters)
    http_refused: dict[int, int] = dataclasses.field(default_factory=dict)  # broken requests, by status
    draining: bool = False

    @property
    def addresses(self) -> dict[str, str]:
        """Bound address of every listener by the option that set it."""
        public = {option: listener.address for option, listener in self.listeners.items()}
        private = {"mesh": self.mesh_address, "admin": self.admin_address}
        return public | {option: address for option, address in private.items() if address}

    @property
    def viewers(self) -> int:
        """Viewers of all streams."""
        return sum(sum(stream.viewers.values()) for stream in self.streams)

    @property
    def publishers(self) -> int:
        """Streams that somebody publishes now."""
        return sum(
            stream.state in (StreamState.STARTING, StreamState.LIVE)
            for stream in self.streams
            if not is_ladder(stream.name)
        )

    @property
    def connections(self) -> int:
        """Open connections on the public listeners."""
        return sum(listener.connections for listener in self.listeners.values())

    def stop_stream(self, name: str, reason: str = STOPPED_BY_OPERATOR) -> bool:
        """Disconnect a stream's publisher and end the stream; False when nobody publishes it."""
        return self.streams.stop(name, reason, self.reactor.now())

    def revoke(self, key_id: str) -> StreamKey | None:
        """Refuse a key from now on and disconnect who uses it; None when there is no such key."""
        key = self.keyring.revoke(key_id)
        if key is not None:
            for stream in self.streams:
                if stream.source is not None and stream.source.key_id == key.id:
                    self.stop_stream(stream.name, REVOKED)
        return key
