"""Replication between the nodes of a network: gives streams to edges, fetches those that viewers want."""

import time

import structlog
import trio

from fwnode.node import Node
from fwnode.replication.catalogue import Catalogue
from fwnode.replication.fetching.service import Fetching
from fwnode.replication.giving.service import SERVICE, Bell, Giving
from fwnode.replication.handover.service import SERVICE as HANDOVER
from fwnode.replication.handover.service import Handover, Opening
from fwnode.replication.members import may_publish
from fwnode.replication.origins import Origins
from media.track.continuation import Continuation
from media.track.model import MICROSECONDS
from media.track.stream import Writer
from mesh.directory.facts import CarriedStream
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication, has_lost

# Between looks whether anybody watches, for streams that viewers wait for, and who publishes a name now.
LOOK_S = 0.25


class Replication:
    """Everything of one node that has to do with streams of other nodes, while it is in a network."""

    def __init__(self, node: Node, mesh: MeshNode) -> None:
        self._node = node
        self._streams = node.streams
        self._mesh = mesh
        self._clock = node.reactor.now
        self._news = Bell()
        self._catalogue = Catalogue(mesh.core.gossip.directory, self._clock)
        self._fetching = Fetching(
            self._streams,
            mesh,
            self._catalogue,
            self._clock,
            history_us=round(node.config.hls.window_s * MICROSECONDS),
            on_news=self._news.ring,
        )
        self._origins = Origins(
            mesh.core.node,
            self._streams,
            self._catalogue.said,
            self._fetching.current,
            node.network.node_key.sign,
            _unix_us,
        )
        self._giving = Giving(mesh.core.node, self._origins, self._fetching.copy_of, self._clock)
        self._handover = Handover(mesh, self._clock, _unix_us, give=self._give_way, told=self._origins.told)

    def carried(self) -> list[CarriedStream]:
        """What this node can give to others, for the directory."""
        copies = [copy.carried() for copy in self._fetching.copies()]
        return self._origins.carried() + [carried for carried in copies if carried is not None]

    async def changed(self) -> None:
        """Wait until `carried` may give something else."""
        await self._news.wait()

    async def run(self) -> None:
        """Give and fetch until cancelled; what was fetched ends then."""
        self._origins.follow(self._clock())
        self._streams.subscribe(self._stream_changed)
        self._streams.fetch = self._fetching.fetch
        self._streams.opening = self._opening
        self._node.gate.refusal = self._origins.refusal
        self._node.published_elsewhere = self._is_published_elsewhere
        self._mesh.serve(SERVICE, self._giving.serve)
        self._mesh.serve(HANDOVER, self._handover.serve)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                nursery.start_soon(self._fetching.run, self._giving)
                nursery.start_soon(self._handover.run)
        finally:
            self._streams.fetch = self._streams.opening = None
            self._node.gate.refusal = self._node.published_elsewhere = None
            self._streams.unsubscribe(self._stream_changed)
            self._origins.close()

    def _stream_changed(self, name: str, now: float) -> None:
        self._news.ring()

    def _is_published_elsewhere(self, name: str) -> bool:
        """By another node, or so it said: this one has given way."""
        current = self._fetching.current(name)
        elsewhere = current is not None and current.origin != self._mesh.core.node
        return elsewhere or bool(self._origins.refusal(name, self._clock()))

    # --- who publishes a name

    def _opening(self, writer: Writer, now: float) -> None:
        """A publisher came: where its stream goes on is asked of those who have it."""
        others = self._origins.begin(writer, now)
        publication = self._origins.publication(writer.stream.name)
        if others and publication is not None:
            said = dict(self._catalogue.said(writer.stream.name))
            origins = tuple(node for node in others if said[node].depth == 0)
            edges = tuple(node for node in others if said[node].depth)
            self._handover.open(Opening(writer, publication.epoch_unix_us, origins, edges))

    def _give_way(self, name: str, winner: Publication, now: float) -> Continuation | None:
        """Another node has a publisher for a stream; where that goes on behind what is here."""
        if not may_publish(self._mesh.core, winner.origin):
            return None
        own = self._origins.publication(name)
        if own is None:
            return self._fetching.yield_to(name, winner, now)
        if not has_lost(own, winner):
            return None
        return self._origins.give_way(name, winner, self._reason(winner), now)

    def _reason(self, winner: Publication) -> str:
        return f"this stream is published on node {self._mesh.core.name_of(winner.origin)} now"

    async def _look(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            now = self._clock()
            for name, winner in self._origins.lost():
                structlog.get_logger().info("stream lost", stream=name, reason=self._reason(winner))
                self._origins.give_way(name, winner, self._reason(winner), now)
                self._fetching.fetch(name, now)  # for who watches it here
            self._fetching.look(now)


def _unix_us() -> int:
    return time.time_ns() // 1000
