"""The parts of one running node, as those who show or control it see them. Pure."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from fwnode.config import Config
from fwnode.gate import NodeGate
from fwnode.keys import Keyring, StreamKey
from fwnode.network import Network
from fwnode.promise.model import Door, PromiseView, Why
from fwnode.promise.promise import DRAINS, Kept, Promise
from fwnode.promise.terms import Terms
from fwnode.replication.model import Replicating
from fwnode.steering.choosing import Choosing
from fwnode.transcoding.model import Transcoding
from fwnode.workers.crew import Crew, add
from fwnode.workers.wire import Counts, RouteCounts
from media.deliver.http.router import Router
from media.deliver.poster.posters import Posters
from media.deliver.quality.board import Board
from media.net.reactor import Reactor
from media.track.derived import is_ladder
from media.track.registry import Streams
from media.track.stream import StreamState

REVOKED = "the stream key was revoked"
NOT_VALID = "the stream key is not valid here any more: its node or the network's owner took it back"
STOPPED_BY_OPERATOR = "the node's operator stopped this stream"


class Bound(Protocol):
    """A public listener; media.net.server.Listener is one."""

    @property
    def address(self) -> str:
        """Bound, "host:port"."""

    @property
    def connections(self) -> int:
        """Open ones."""

    def close(self) -> None: ...


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
    listeners: dict[str, Bound] = dataclasses.field(default_factory=dict)  # public ones, by option
    admin_address: str = ""  # bound, "host:port"
    mesh_address: str = ""  # the same, for other nodes
    router: Router = dataclasses.field(default_factory=Router)  # what the public HTTP listeners answer
    posters: Posters = dataclasses.field(default_factory=Posters)
    http_refused: dict[int, int] = dataclasses.field(default_factory=dict)  # broken requests, by status
    crew: Crew = dataclasses.field(default_factory=Crew)  # processes that deliver beside this one
    choosing: Choosing = dataclasses.field(default_factory=lambda: Choosing(lambda stream: False, ""))
    quality: Board = dataclasses.field(default_factory=lambda: Board(lambda name: False))  # what viewers see
    draining: bool = False
    replication: Replicating | None = None  # while the node takes part in a network
    promise: Promise = dataclasses.field(default_factory=lambda: Promise(Terms(), (), Kept()))
    door: Door | None = None  # who may watch here; for those who send viewers on
    on_hold: Callable[[], None] = lambda: None  # what is held changed: it is to be in force
    transcoding: Transcoding | None = None  # set as soon as the node is composed
    published_elsewhere: Callable[[str], bool] | None = None  # set while in a network

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
        """Streams that somebody publishes here now; copies of other nodes' and ladders are none."""
        live = (StreamState.STARTING, StreamState.LIVE)
        return sum(
            stream.state in live and not stream.replicated
            for stream in self.streams
            if not is_ladder(stream.name)
        )

    @property
    def copies(self) -> int:
        """Streams that are taken from other nodes now."""
        return sum(stream.state is not StreamState.ENDED and stream.replicated for stream in self.streams)

    @property
    def edges(self) -> int:
        """Other nodes that are fed a stream, each as often as it is."""
        return self.replication.edges if self.replication is not None else 0

    @property
    def connections(self) -> int:
        """Open connections on the public listeners."""
        return sum(listener.connections for listener in self.listeners.values())

    def drain(self) -> None:
        """The node is about to stop: other nodes are told to look elsewhere."""
        self.draining = True
        if self.replication is not None:
            self.replication.drain()

    @property
    def state(self) -> Literal["ready", "draining", "paused"]:
        """For people and programs."""
        if self.draining or self.promise.holds.drain:
            return "draining"
        return "paused" if self.promise.holds.pause is not None else "ready"

    @property
    def standing(self) -> str:
        """Why no viewers are to be sent here, by `fwnode.promise.model.Why`; "" when they may come."""
        return Why.DRAINING.value if self.draining else self.promise.standing

    def why_not(self, stream: str, session: str = "") -> str:
        """Why a viewer of a stream would be turned away here now, "" when it would be let in."""
        if self.draining:
            return DRAINS
        return self.door.may_admit(stream, session) if self.door is not None else ""

    def is_published_elsewhere(self, name: str) -> bool:
        """Whether another node of the network publishes a stream of that name."""
        return self.published_elsewhere is not None and self.published_elsewhere(name)

    @property
    def bytes_out(self) -> int:
        """Sent since the start, by the workers too."""
        return self.reactor.bytes_out + self.crew.bytes_out

    @property
    def sent_bytes(self) -> int:
        """The same with what left for other nodes."""
        mesh = self.network.mesh
        return self.bytes_out + (mesh.bytes_out if mesh is not None else 0)

    def promise_view(self) -> PromiseView:
        """What is promised and used."""
        promise = self.promise
        closed = promise.closed()
        return PromiseView(
            state=self.standing or "open",
            reason=DRAINS if self.draining else closed.text if closed is not None else "",
            drain=promise.holds.drain,
            paused_until_unix_s=promise.holds.pause,
            budget_bps=promise.budget_bps,
            sent_bps=promise.crowd.sent_bps(),
            taken_bps=promise.taken_bps(self.reactor.now()),
            observed_bps=promise.observed_bps,
            month=promise.volume.month,
            month_bytes=promise.volume.used_bytes,
            month_limit_bytes=promise.terms.month_bytes,
            months=promise.months(),
            quiet=str(promise.terms.quiet or ""),
            streams=list(promise.terms.streams),
            refused=dict(promise.refused),
            viewers=self.viewers,
            publishers=self.publishers,
            edges=self.edges,
        )

    def counts(self) -> Counts:
        """Of this process and its workers since the start; CPU and memory are the workers'."""
        reactor = self.reactor.statistics()
        routes = [
            RouteCounts(route.name, route.requests, route.answers, route.bytes_out)
            for route in self.router.routes
        ]
        own = Counts(
            accepted=reactor.accepted,
            refused=reactor.refused,
            bytes_in=reactor.bytes_in,
            bytes_out=reactor.bytes_out,
            faults=reactor.faults,
            requests_refused=self.http_refused,
            routes=routes,
        )
        return add((own, self.crew.counts()))

    def stop_stream(self, name: str, reason: str = STOPPED_BY_OPERATOR) -> bool:
        """Disconnect a stream's publisher and end the stream; False when nobody publishes it."""
        return self.streams.stop(name, reason, self.reactor.now())

    def revoke(self, key_id: str) -> StreamKey | None:
        """Refuse a key from now on and disconnect who uses it; None when there is no such key."""
        key = self.keyring.revoke(key_id)
        if key is not None:
            self._disconnect({key.name}, REVOKED)
        return key

    def accept(self, keys: Iterable[StreamKey]) -> None:
        """Accept these keys of other nodes and no others; who uses one of the others is disconnected."""
        self._disconnect(self.keyring.set_foreign(keys), NOT_VALID)

    def _disconnect(self, names: set[str], reason: str) -> None:
        """End the streams that are published with these keys."""
        for stream in list(self.streams) if names else ():
            if stream.source is not None and stream.source.key_id in names:
                self.stop_stream(stream.name, reason)
