"""Replication between the nodes of a network: gives streams to edges, fetches those that viewers want."""

import time

import structlog
import trio

from fwnode.node import Node
from fwnode.promise.holds import Role
from fwnode.replication.catalogue import Catalogue
from fwnode.replication.copy import Copy
from fwnode.replication.fetching.service import Fetching
from fwnode.replication.giving.service import SERVICE, Bell, Giving
from fwnode.replication.giving.uplink import Uplink
from fwnode.replication.handover.service import SERVICE as HANDOVER
from fwnode.replication.handover.service import Handover, Opening
from fwnode.replication.liars import Liars
from fwnode.replication.members import may_publish
from fwnode.replication.model import Counters, StreamPlace, TreeList, UplinkView
from fwnode.replication.origins import Origins
from fwnode.replication.tree import stream_trees
from media.replicate.signing import Signer
from media.track.continuation import Continuation
from media.track.model import MICROSECONDS
from media.track.stream import Writer
from mesh.directory.facts import CarriedStream, Load
from mesh.identity.key import verify
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication, current_publication, has_lost

LOOK_S = 0.25  # between looks whether anybody watches, for streams that viewers wait for, and who has a name


class Replication:
    """Everything of one node that has to do with streams of other nodes, while it is in a network."""

    def __init__(self, node: Node, mesh: MeshNode) -> None:
        self._node = node
        self._streams = node.streams
        self._mesh = mesh
        self._clock = node.reactor.now
        self._news = Bell()
        self._counters = Counters()
        self._liars = Liars(mesh.core.node, verify)
        self._catalogue = Catalogue(mesh.core.gossip.directory, self._clock)
        sign = node.network.node_key.sign
        self._fetching = Fetching(
            self._streams,
            mesh,
            self._catalogue,
            self._clock,
            history_us=round(node.config.hls.window_s * MICROSECONDS),
            on_news=self._news.ring,
            liars=self._liars,
            counters=self._counters,
        )
        self._origins = Origins(
            mesh.core.node,
            self._streams,
            self._catalogue.said,
            self._fetching.current,
            sign,
            _unix_us,
        )
        promise = node.promise
        self._giving = Giving(
            mesh.core.node,
            self._origins,
            self._fetching.copy_of,
            self._clock,
            uplink=Uplink(
                promise.budget_bps, lambda: node.bytes_out + mesh.bytes_out, promise.crowd.reserved_bps
            ),
            sign=sign,
            counters=self._counters,
            refuse=lambda stream: promise.refuse_edge(stream.name, foreign=stream.replicated),
        )
        self._handover = Handover(mesh, self._clock, _unix_us, give=self._give_way, told=self._origins.told)

    # --- what is told and shown

    def carried(self) -> list[CarriedStream]:
        """What this node can give to others, for the directory: nothing when it is about to stop.

        While edges are drained it is what is published here, which nobody else has.
        """
        if self._node.draining:
            return []
        if Role.EDGES in self._node.promise.holds.drain:
            return self._origins.carried()
        copies = [copy.carried() for copy in self._fetching.copies()]
        return self._origins.carried() + [carried for carried in copies if carried is not None]

    async def changed(self) -> None:
        """Wait until `carried` may give something else."""
        await self._news.wait()

    @property
    def edges(self) -> int:
        """Streams that are given now, one for each node that takes it."""
        return self._giving.edges

    @property
    def counters(self) -> Counters:
        """Counts since this node entered the network."""
        self._counters.reports_believed, self._counters.reports_false = (
            self._liars.believed,
            self._liars.false,
        )
        return self._counters

    def drain(self) -> None:
        """This node is about to stop: send edges elsewhere, and let nobody choose it."""
        self._giving.drain()
        self._news.ring()

    def hold(self, *, closed: bool) -> None:
        """Edges are drained, or that is over."""
        if closed:
            self._giving.send_elsewhere()
        self._news.ring()

    def edges_bps(self) -> int:
        """What edges take, or were promised."""
        return self._giving.uplink.fed_bps(self._clock())

    def place_of(self, name: str) -> StreamPlace | None:
        """Where this node is in a stream's tree; None for a stream that has nothing to do with others."""
        signer = self._origins.get(name)
        stream = self._streams.get(name)
        if signer is not None and signer.stream is stream:
            return self._place_of_origin(signer)
        copy = self._fetching.copy_of(name)
        return self._place_of_copy(copy) if copy is not None and copy.stream is stream else None

    def tree(self) -> TreeList:
        """Who takes what from whom in the network."""
        core = self._mesh.core
        return stream_trees(
            self._catalogue.everything(), self._current, core.name_of, lambda node: core.fact(node, Load)
        )

    def uplink(self) -> UplinkView:
        """What leaves this node."""
        uplink = self._giving.uplink
        return UplinkView(uplink.sent_bps(), uplink.budget_bps, uplink.promised_bps(self._clock()))

    def liars(self) -> list[str]:
        """Public keys of nodes from which no stream is taken any more."""
        return [node.hex() for node in self._liars.known()]

    def _current(self, name: str) -> Publication | None:
        core = self._mesh.core
        return current_publication(self._catalogue.said(name), lambda node: may_publish(core, node))

    def _place_of_origin(self, signer: Signer) -> StreamPlace:
        core = self._mesh.core
        return StreamPlace(
            origin=core.node.hex(),
            origin_name=core.name_of(core.node),
            epoch_unix_us=signer.identity.epoch,
            depth=0,
            copy=False,
            parent="",
            parent_name="",
            edges=self._giving.edges_of(signer.stream, core.name_of),
            verified_parts=0,
            skips=0,
            parent_changes=0,
        )

    def _place_of_copy(self, copy: Copy) -> StreamPlace:
        core, origin, parent = self._mesh.core, copy.publication.origin, copy.parent
        return StreamPlace(
            origin=origin.hex(),
            origin_name=core.name_of(origin),
            epoch_unix_us=copy.publication.epoch_unix_us,
            depth=copy.depth if parent is not None else 0,
            copy=True,
            parent=parent.hex() if parent is not None else "",
            parent_name=core.name_of(parent) if parent is not None else "",
            edges=self._giving.edges_of(copy.stream, core.name_of),
            verified_parts=copy.replica.verified,
            skips=copy.skips,
            parent_changes=max(0, copy.changes - 1),
        )

    # --- running

    async def run(self) -> None:
        """Give and fetch until cancelled; what was fetched ends then."""
        self._origins.follow(self._clock())
        self._streams.subscribe(self._stream_changed)
        self._streams.fetch = self._fetch
        self._streams.opening = self._opening
        self._node.gate.refusal = self._origins.refusal
        self._node.published_elsewhere = self._is_published_elsewhere
        self._mesh.serve(SERVICE, self._giving.serve)
        self._mesh.serve(HANDOVER, self._handover.serve)
        self._node.replication = self
        if self._node.draining:
            self.drain()
        else:
            self.hold(closed=Role.EDGES in self._node.promise.holds.drain)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                nursery.start_soon(self._giving.run)
                nursery.start_soon(self._fetching.run, self._giving)
                nursery.start_soon(self._handover.run)
        finally:
            self._node.replication = None
            self._streams.fetch = self._streams.opening = None
            self._node.gate.refusal = self._node.published_elsewhere = None
            self._streams.unsubscribe(self._stream_changed)
            self._origins.close()

    def _fetch(self, name: str, now: float) -> None:
        """A viewer wants a stream; one that its owner does not serve is not fetched."""
        if self._node.promise.terms.allows(name):
            self._fetching.fetch(name, now)

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
        log = structlog.get_logger()
        told = self._liars.reports()
        while True:
            await trio.sleep(LOOK_S)
            now = self._clock()
            for name, winner in self._origins.lost():
                log.info("stream lost", stream=name, reason=self._reason(winner))
                self._origins.give_way(name, winner, self._reason(winner), now)
                self._fetching.fetch(name, now)  # for who watches it here
            self._giving.uplink.budget_bps = self._node.promise.budget_bps
            self._giving.look()
            self._fetching.look(now)
            for liar in self._liars.look(self._mesh.core.gossip.directory):
                log.error("a node was proven to alter media", peer=self._mesh.core.name_of(liar))
            reports = self._liars.reports()
            if reports != told:
                told = reports
                self._mesh.tell_all(reports)


def _unix_us() -> int:
    return time.time_ns() // 1000
