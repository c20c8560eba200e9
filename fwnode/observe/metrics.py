"""Prometheus metrics, made from the parts' statistics when somebody asks: nothing is counted twice. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fwnode import __version__
from fwnode.network import Network
from fwnode.node import Node
from fwnode.observe.families import Samples, counter, gauge
from fwnode.observe.probe import ProcessUsage
from fwnode.observe.viewing import of_viewing
from fwnode.promise.model import Why
from fwnode.transcoding.usage import BYTES, MEDIA
from fwnode.workers.crew import WorkerState
from media.track.model import MICROSECONDS
from media.track.stream import StreamState, StreamStatistics
from mesh.model import short
from mesh.node.model import PeerView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

CONNECTED = "connected"
PATHS = ("lan", "direct", "mapped", "punched", "relayed")


class NodeCollector(Collector):
    """Reads a node's statistics at each scrape."""

    def __init__(self, node: Node, usage: Callable[[], ProcessUsage]) -> None:
        self._node = node
        self._usage = usage

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._of_process()
        yield from self._of_node()
        yield from self._of_promise()
        yield from self._of_http()
        yield from self._of_workers()
        yield from self._of_posters()
        yield from self._of_streams()
        yield from of_viewing(self._node.quality, self._node.reactor.now())
        yield from _of_mesh(self._node.network)
        yield from _of_replication(self._node)
        yield from _of_steering(self._node)
        yield from _of_transcoding(self._node)

    def _of_process(self) -> Iterator[Metric]:
        usage = self._usage()
        yield gauge("process_resident_memory_bytes", "Resident memory.", (), [((), usage.memory_bytes)])
        yield counter("process_cpu_seconds", "CPU time.", (), [((), usage.cpu_s)])
        yield gauge("process_start_time_seconds", "Unix time.", (), [((), self._node.started_unix_s)])

    def _of_node(self) -> Iterator[Metric]:
        node, counts = self._node, self._node.counts()
        yield gauge("fwnode_info", "Version.", ("version", "name"), [((__version__, node.config.name), 1)])
        draining = node.state == "draining"
        yield gauge("fwnode_draining", "1 while the node stops, or is drained.", (), [((), draining)])
        open_now = [((option,), listener.connections) for option, listener in node.listeners.items()]
        yield gauge("fwnode_connections", "Open connections.", ("listener",), open_now)
        yield counter("fwnode_connections_accepted", "Connections accepted.", (), [((), counts.accepted)])
        yield counter(
            "fwnode_connections_refused", "Connections turned away by a limit.", (), [((), counts.refused)]
        )
        yield counter("fwnode_received_bytes", "Bytes received.", (), [((), counts.bytes_in)])
        yield counter("fwnode_sent_bytes", "Bytes sent.", (), [((), counts.bytes_out)])
        yield counter(
            "fwnode_connection_faults",
            "Connections that ended badly, by kind.",
            ("kind",),
            [((kind,), count) for kind, count in sorted(counts.faults.items())],
        )
        yield counter(
            "fwnode_publishers_refused",
            "Publishers turned away by key, name or a stream in use.",
            (),
            [((), node.gate.refused)],
        )

    def _of_promise(self) -> Iterator[Metric]:
        promise = self._node.promise_view()
        yield gauge(
            "fwnode_closed",
            "1 while nobody new is let in.",
            ("reason",),
            [((w,), w == promise.state) for w in Why],
        )
        for name, text, value in (
            ("budget", "Of the uplink; 0: no limit.", promise.budget_bps),
            ("taken", "Sent, or promised to viewers and edges.", promise.taken_bps),
            ("sent", "All that left, as a mean over 10 s.", promise.sent_bps),
            ("observed", "The most that was ever sent over 10 s.", promise.observed_bps),
        ):
            yield gauge(f"fwnode_uplink_{name}_bits_per_second", text, (), [((), value)])
        yield gauge("fwnode_month_sent_bytes", "Sent in this month.", (), [((), promise.month_bytes)])
        yield gauge("fwnode_month_limit_bytes", "0: no limit.", (), [((), promise.month_limit_bytes)])
        refused = [((why,), count) for why, count in sorted(promise.refused.items())]
        yield counter("fwnode_turned_away", "Viewers and nodes turned away.", ("reason",), refused)

    def _of_http(self) -> Iterator[Metric]:
        counts = self._node.counts()
        routes = counts.routes
        requests = [((route.name,), route.requests) for route in routes]
        yield counter("fwnode_http_requests", "Requests by route.", ("route",), requests)
        answers = [
            ((route.name, f"{hundreds}xx"), count)
            for route in routes
            for hundreds, count in enumerate(route.answers)
            if count
        ]
        yield counter("fwnode_http_answers", "Answers by route.", ("route", "status"), answers)
        refused = [((str(status),), count) for status, count in sorted(counts.requests_refused.items())]
        yield counter("fwnode_http_refused", "Broken requests, by answer.", ("status",), refused)
        body = [((route.name,), route.bytes_out) for route in routes]
        yield counter("fwnode_http_body_bytes", "Bodies sent, streams not included.", ("route",), body)

    def _of_workers(self) -> Iterator[Metric]:
        workers = [((str(worker.number),), worker) for worker in self._node.crew.status()]
        if not workers:
            return
        labels = ("worker",)
        serving = [(key, worker.state is WorkerState.SERVING) for key, worker in workers]
        yield gauge("fwnode_worker_serving", "1 while it accepts viewers.", labels, serving)
        for name, kind, text, field in WORKER_METRICS:
            yield kind(f"fwnode_worker_{name}", text, labels, [(k, getattr(w, field)) for k, w in workers])

    def _of_posters(self) -> Iterator[Metric]:
        posters = self._node.posters
        counts = posters.statistics
        results = [((name,), getattr(counts, name)) for name in ("made", "failed", "refused")]
        yield counter("fwnode_posters", "Posters by what became of them.", ("result",), results)
        yield counter("fwnode_poster_workers", "Workers started.", (), [((), counts.workers_started)])
        yield counter(
            "fwnode_poster_workers_lost", "Workers that crashed or hung.", (), [((), counts.workers_lost)]
        )
        yield gauge("fwnode_poster_requests", "Requests that wait.", (), [((), posters.waiting)])

    def _of_streams(self) -> Iterator[Metric]:
        now = self._node.reactor.now()
        streams = [stream.statistics(now) for stream in self._node.streams]
        states = [((state.value,), sum(s.state is state for s in streams)) for state in StreamState]
        yield gauge("fwnode_streams", "Streams by state.", ("state",), states)
        yield gauge("fwnode_stream_age_seconds", "Time since it began.", ("stream",), _each(streams, "age_s"))
        yield gauge(
            "fwnode_stream_held_bytes", "Held for readers.", ("stream",), _each(streams, "held_bytes")
        )
        yield counter(
            "fwnode_stream_reader_skips",
            "Times that a slow reader skipped.",
            ("stream",),
            _each(streams, "reader_skips"),
        )
        published = [stream.statistics(now) for stream in self._node.streams if not stream.replicated]
        yield counter(
            "fwnode_stream_publishers", "Publishers so far.", ("stream",), _each(published, "publishers")
        )
        yield gauge(
            "fwnode_stream_viewers",
            "Viewers.",
            ("stream", "protocol"),
            [((s.name, protocol), count) for s in streams for protocol, count in s.viewers.items()],
        )
        yield counter("fwnode_stream_repairs", "Timestamps repaired.", ("stream", "kind"), _repairs(streams))
        yield gauge(
            "fwnode_stream_finding",
            "1 for each thing about a publisher that hurts viewers.",
            ("stream", "code", "severity"),
            [((s.name, finding.code, finding.severity.value), 1) for s in streams for finding in s.findings],
        )
        yield from _of_tracks(streams)


def render(node: Node, usage: Callable[[], ProcessUsage]) -> bytes:
    """The whole page in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node, usage))
    return generate_latest(registry)


REPAIRS = {
    "jump": "timestamp_jumps",
    "outlier": "timestamp_outliers",
    "backward": "timestamps_backward",
    "duplicate": "timestamps_duplicate",
    "audio_gap": "audio_gaps",
    "composition_offset": "bad_composition_offsets",
}


def _repairs(streams: list[StreamStatistics]) -> Samples:
    return [((s.name, kind), getattr(s, field)) for s in streams for kind, field in REPAIRS.items()]


def _of_tracks(streams: list[StreamStatistics]) -> Iterator[Metric]:
    labels = ("stream", "track", "codec")
    tracks = [((s.name, track.name, track.codec.value), track) for s in streams for track in s.tracks]
    yield counter("fwnode_track_packets", "Packets received.", labels, [(k, t.packets) for k, t in tracks])
    yield counter("fwnode_track_bytes", "Media bytes received.", labels, [(k, t.bytes) for k, t in tracks])
    yield gauge(
        "fwnode_track_bits_per_second", "Mean over 2 s.", labels, [(k, t.bitrate_bps) for k, t in tracks]
    )


def _of_mesh(network: Network) -> Iterator[Metric]:
    status = network.status()
    yield gauge("fwnode_mesh_members", "Nodes known to live, this one included.", (), [((), status.members)])
    yield gauge("fwnode_mesh_links", "Live links to other nodes.", (), [((), status.links)])
    for name, count in sorted((status.counters | status.nat.counters).items()):
        yield counter(f"fwnode_mesh_{name}", f"{name.replace('_', ' ').capitalize()}.", (), [((), count)])
    # Not counters: the list is bounded and forgets.
    sides = [
        ((side,), sum(row.count for row in status.refused if row.by_us is by_us))
        for side, by_us in (("us", True), ("them", False))
    ]
    yield gauge("fwnode_mesh_refusals", "Links refused of late, by who refused.", ("side",), sides)
    nat = status.nat
    labels = ("kind", "tcp", "portmap")
    yield gauge(
        "fwnode_mesh_router", "What the routers do.", labels, [((nat.kind, nat.tcp, nat.portmap.state), 1)]
    )
    yield from _of_links([peer for peer in network.peers() if peer.state == CONNECTED])


def _of_links(peers: list[PeerView]) -> Iterator[Metric]:
    kinds = Counter(peer.path.partition(" ")[0] for peer in peers)  # "relayed via NAME" is one kind
    paths = [((kind,), kinds[kind]) for kind in PATHS]
    yield gauge("fwnode_mesh_paths", "Live links by the kind of their path.", ("path",), paths)
    # Names are not unique; keys are.
    named = [((peer.name, short(bytes.fromhex(peer.node))), peer) for peer in peers]
    labels = ("name", "node")
    rtts = [(key, peer.rtt_ms / 1000) for key, peer in named if peer.rtt_ms is not None]
    yield gauge("fwnode_mesh_rtt_seconds", "Round trip to linked nodes.", labels, rtts)
    losses = [(key, peer.loss) for key, peer in named if peer.loss is not None]
    yield gauge("fwnode_mesh_loss_ratio", "Pings of the last minute without an answer.", labels, losses)


def _of_replication(node: Node) -> Iterator[Metric]:
    yield gauge("fwnode_publishers", "Streams that somebody publishes here.", (), [((), node.publishers)])
    replication = node.replication
    if replication is None:
        return
    yield gauge("fwnode_replication_edges", "Streams given to other nodes.", (), [((), node.edges)])
    yield gauge("fwnode_replication_copies", "Streams taken from other nodes.", (), [((), node.copies)])
    uplink, counters = replication.uplink(), replication.counters
    yield gauge("fwnode_uplink_bits_per_second", "All that leaves.", (), [((), uplink.sent_bps)])
    yield gauge("fwnode_uplink_budget_bits_per_second", "0: no limit.", (), [((), uplink.budget_bps)])
    yield gauge(
        "fwnode_uplink_promised_bits_per_second",
        "With what edges will take.",
        (),
        [((), uplink.promised_bps)],
    )
    for name, (field, text) in REPLICATED.items():
        yield counter(f"fwnode_replication_{name}", text, (), [((), getattr(counters, field))])


def _of_steering(node: Node) -> Iterator[Metric]:
    """Viewers sent to nodes. The distances make a histogram: classes add up."""
    counters = node.choosing.counters
    for name, text in STEERED.items():
        yield counter(f"fwnode_steering_{name}", text, (), [((), getattr(counters, name))])
    family = HistogramMetricFamily(
        "fwnode_steering_distance_kilometres", "From viewers to the nodes that they were given."
    )
    below, buckets = 0, []
    for bound, count in counters.distances().items():
        below += count
        buckets.append(("+Inf" if bound == "inf" else bound, below))
    family.add_metric((), buckets, counters.distance_km)
    yield family


STEERED = {
    "decisions": "Choices of a node for a viewer.",
    "redirects": "Viewers sent to other nodes.",
    "kept": "Viewers that were sent on often enough and stay.",
    "refused": "Viewers for whom there was no node.",
    "last_resort": "Viewers sent beyond a promise rather than to nobody.",
    "unknown": "Viewers of streams that nobody has.",
}


def _of_transcoding(node: Node) -> Iterator[Metric]:
    parts = node.transcoding
    if parts is None or parts.broker is None:
        return
    sessions, labels = list(parts.transcoder.sessions.values()), ("engine", "rendition")
    made: dict[str, Samples] = {
        kind: [(line[1:], amount) for line, amount in sorted(parts.ledger.totals.items()) if line[0] == kind]
        for kind in (MEDIA, BYTES)
    }
    seconds = [(key, amount / MICROSECONDS) for key, amount in made[MEDIA]]
    yield counter("fwnode_transcode_media_seconds", "Of renditions made, gaps left out.", labels, seconds)
    yield counter("fwnode_transcode_bytes", "Of renditions made.", labels, made[BYTES])
    yield counter("fwnode_transcode_cpu_seconds", "CPU time of workers.", (), [((), parts.ledger.cpu_s)])
    streams = sum(session.ladder is not None for session in sessions)
    yield gauge("fwnode_transcode_streams", "Streams with renditions.", (), [((), streams)])
    for name, field, text in TRANSCODED:
        each = [((session.stream.name,), getattr(session, field)) for session in sessions]
        yield counter(f"fwnode_transcode_{name}", text, ("stream",), each)
    free = parts.broker.free(node.reactor.now())
    yield gauge("fwnode_transcode_free", "Renditions of 720p30 for which there is room.", (), [((), free)])


TRANSCODED = (
    ("overruns", "overruns", "Times that the machine was too slow, each a gap."),
    ("workers_lost", "worker_losses", "Workers that crashed or hung."),
    ("damaged_pictures", "damaged", "Pictures that could not be decoded."),
)
REPLICATED = {
    "received_bytes": ("bytes_in", "Of streams taken from other nodes."),
    "sent_bytes": ("bytes_out", "Of streams given to other nodes."),
    "verified_parts": ("verified_parts", "Parts proven to be their origin's."),
    "altered_parts": ("altered", "Parts that their origin did not sign so."),
    "skips": ("skips", "Times that media was left out of a copy."),
    "parent_changes": ("parent_changes", "Times that a copy went on from another node."),
    "edges_refused": ("refused", "Edges that were not let in."),
    "edges_let_go": ("let_go", "Edges sent elsewhere as the uplink was over its budget."),
    "reports_believed": ("reports_believed", "Reports of altered media with a proof."),
    "reports_false": ("reports_false", "Reports whose proof does not hold."),
}


def _each(streams: list[StreamStatistics], field: str) -> Samples:
    return [((stream.name,), getattr(stream, field)) for stream in streams]


WORKER_METRICS = (
    ("restarts", counter, "Times that its process was started again.", "restarts"),
    ("connections", gauge, "Open connections.", "connections"),
    ("connections_accepted", counter, "Connections accepted by its process.", "connections_accepted"),
    ("sent_bytes", counter, "Bytes sent by its process.", "bytes_out"),
    ("resident_memory_bytes", gauge, "Resident memory.", "memory_bytes"),
    ("cpu_seconds", counter, "CPU time of its process.", "cpu_s"),
)
