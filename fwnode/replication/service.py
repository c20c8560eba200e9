"""Replication between the nodes of a network: gives streams to edges, fetches those that viewers want."""

import time

import trio

from fwnode.node import Node
from fwnode.replication.catalogue import Catalogue
from fwnode.replication.fetching.service import Fetching
from fwnode.replication.giving.service import SERVICE, Bell, Giving
from fwnode.replication.origins import Origins
from media.track.model import MICROSECONDS
from mesh.directory.facts import CarriedStream
from mesh.node.service import MeshNode

LOOK_S = 1.0  # between looks whether anybody watches, and for streams that viewers wait for


class Replication:
    """Everything of one node that has to do with streams of other nodes, while it is in a network."""

    def __init__(self, node: Node, mesh: MeshNode) -> None:
        self._streams = node.streams
        self._mesh = mesh
        self._clock = node.reactor.now
        self._news = Bell()
        catalogue = Catalogue(mesh.core.gossip.directory, self._clock)
        self._origins = Origins(self._streams, catalogue.said, node.network.node_key.sign, _unix_us)
        self._fetching = Fetching(
            self._streams,
            mesh,
            catalogue,
            self._clock,
            history_us=round(node.config.hls.window_s * MICROSECONDS),
            on_news=self._news.ring,
        )
        self._giving = Giving(mesh.core.node, self._origins, self._fetching.copy_of, self._clock)

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
        self._mesh.serve(SERVICE, self._giving.serve)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                nursery.start_soon(self._fetching.run, self._giving)
        finally:
            self._streams.fetch = None
            self._streams.unsubscribe(self._stream_changed)
            self._origins.close()

    def _stream_changed(self, name: str, now: float) -> None:
        self._news.ring()

    async def _look(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._fetching.look(self._clock())


def _unix_us() -> int:
    return time.time_ns() // 1000
