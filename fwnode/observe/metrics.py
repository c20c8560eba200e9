"""Prometheus metrics, made from the parts' statistics when somebody asks: nothing is counted twice. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fwnode import __version__
from fwnode.network import Network
from fwnode.node import Node
from fwnode.observe.probe import ProcessUsage
from fwnode.transcoding.usage import BYTES, MEDIA
from fwnode.workers.crew import WorkerState
from media.track.model import MICROSECONDS
from media.track.stream import StreamState, StreamStatistics
from mesh.model import short
from mesh.node.model import PeerView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

CONNECTED = "connected"
PATHS = ("lan", "direct", "mapped", "punched", "relayed")

Samples = Sequence[tuple[tuple[str, ...], float]]


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
        yield from self._of_http()
        yield from self._of_workers()
        yield from self._of_posters()
        yield from self._of_streams()
        yield from _of_mesh(self._node.network)
        yield from _of_replication(self._node)
        yield from _of_transcoding(self._node)

    def _of_process(self) -> Iterator[Metric]:
        usage = self._usage()
        yield _gauge("process_resident_memory_bytes", "Resident memory.", (), [((), usage.memory_bytes)])
        yield _counter("process_cpu_seconds", "CPU time.", (), [((), usage.cpu_s)])
        yield _gauge("process_start_time_seconds", "Unix time.", (), [((), self._node.started_unix_s)])

    def _of_node(self) -> Iterator[Metric]:
        node, counts = self._node, self._node.counts()
        yield _gauge("fwnode_info", "Version.", ("version", "name"), [((__version__, node.config.name), 1)])
        yield _gauge("fwnode_draining", "1 while the node stops.", (), [((), node.draining)])
        open_now = [((option,), listener.connections) for option, listener in node.listeners.items()]
        yield _gauge("fwnode_connections", "Open connections.", ("listener",), open_now)
        yield _counter("fwnode_connections_accepted", "Connections accepted.", (), [((), counts.accepted)])
        yield _counter(
            "fwnode_connections_refused", "Connections turned away by a limit.", (), [((), counts.refused)]
        )
        yield _counter("fwnode_received_bytes", "Bytes received.", (), [((), counts.bytes_in)])
        yield _counter("fwnode_sent_bytes", "Bytes sent.", (), [((), counts.bytes_out)])
        yield _counter(
            "fwnode_connection_faults",
            "Connections that ended badly, by kind.",
            ("kind",),
            [((kind,), count) for kind, count in sorted(counts.faults.items())],
        )
        yield _counter(
            "fwnode_publishers_refused",
            "Publishers turned away by key, name or a stream in use.",
            (),
            [((), node.gate.refused)],
        )

    def _of_http(self) -> Iterator[Metric]:
        counts = self._node.counts()
        routes = counts.routes
        requests = [((route.name,), route.requests) for route in routes]
        yield _counter("fwnode_http_requests", "Requests by route.", ("route",), requests)
        answers = [
            ((route.name, f"{hundreds}xx"), count)
            for route in routes
            for hundreds, count in enumerate(route.answers)
            if count
        ]
        yield _counter("fwnode_http_answers", "Answers by route.", ("route", "status"), answers)
        refused = [((str(status),), count) for status, count in sorted(counts.requests_refused.items())]
        yield _counter("fwnode_http_refused", "Broken requests, by answer.", ("status",), refused)
        body = [((route.name,), route.bytes_out) for route in routes]
        yield _counter("fwnode_http_body_bytes", "Bodies sent, streams not included.", ("route",), body)

    def _of_workers(self) -> Iterator[Metric]:
        workers = [((str(worker.number),), worker) for worker in self._node.crew.status()]
        if not workers:
            return
        labels = ("worker",)
        serving = [(key, worker.state is WorkerState.SERVING) for key, worker in workers]
        yield _gauge("fwnode_worker_serving", "1 while it accepts viewers.", labels, serving)
        for name, kind, text, field in WORKER_METRICS:
            yield kind(f"fwnode_worker_{name}", text, labels, [(k, getattr(w, field)) for k, w in workers])

    def _of_posters(self) -> Iterator[Metric]:
        posters = self._node.posters
        counts = posters.statistics
        results = [((name,), getattr(counts, name)) for name in ("made", "failed", "refused")]
        yield _counter("fwnode_posters", "Posters by what became of them.", ("result",), results)
        yield _counter("fwnode_poster_workers", "Workers started.", (), [((), counts.workers_started)])
        yield _counter(
            "fwnode_poster_workers_lost", "Workers that crashed or hung.", (), [((), counts.workers_lost)]
        )
        yield _gauge("fwnode_poster_requests", "Requests that wait.", (), [((), posters.waiting)])

    def _of_streams(self) -> Iterator[Metric]:
        now = self._node.reactor.now()
        streams = [stream.statistics(now) for stream in self._node.streams]
        states = [((state.value,), sum(s.state is state for s in streams)) for state in StreamState]
        yield _gauge("fwnode_streams", "Streams by state.", ("state",), states)
        yield _gauge(
            "fwnode_stream_age_seconds", "Time since it began.", ("stream",), _each(streams, "age_s")
        )
        yield _gauge(
            "fwnode_stream_held_bytes", "Held for readers.", ("stream",), _each(streams, "held_bytes")
        )
        yield _counter(
            "fwnode_stream_reader_skips",
            "Times that a slow reader skipped.",
            ("stream",),
            _each(streams, "reader_skips"),
        )
        published = [stream.statistics(now) for stream in self._node.streams if not stream.replicated]
        yield _counter(
            "fwnode_stream_publishers", "Publishers so far.", ("stream",), _each(published, "publishers")
        )
        yield _gauge(
            "fwnode_stream_viewers",
            "Viewers.",
            ("stream", "protocol"),
            [((s.name, protocol), count) for s in streams for protocol, count in s.viewers.items()],
        )
        yield _counter("fwnode_stream_repairs", "Timestamps repaired.", ("stream", "kind"), _repairs(streams))
        yield _gauge(
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
    yield _counter("fwnode_track_packets", "Packets received.", labels, [(k, t.packets) for k, t in tracks])
    yield _counter("fwnode_track_bytes", "Media bytes received.", labels, [(k, t.bytes) for k, t in tracks])
    yield _gauge(
        "fwnode_track_bits_per_second", "Mean over 2 s.", labels, [(k, t.bitrate_bps) for k, t in tracks]
    )


def _of_mesh(network: Network) -> Iterator[Metric]:
    status = network.status()
    yield _gauge("fwnode_mesh_members", "Nodes known to live, this one included.", (), [((), status.members)])
    yield _gauge("fwnode_mesh_links", "Live links to other nodes.", (), [((), status.links)])
    for name, count in sorted((status.counters | status.nat.counters).items()):
        yield _counter(f"fwnode_mesh_{name}", f"{name.replace('_', ' ').capitalize()}.", (), [((), count)])
    # Not counters: the list is bounded and forgets.
    sides = [
        ((side,), sum(row.count for row in status.refused if row.by_us is by_us))
        for side, by_us in (("us", True), ("them", False))
    ]
    yield _gauge("fwnode_mesh_refusals", "Links refused of late, by who refused.", ("side",), sides)
    nat = status.nat
    labels = ("kind", "tcp", "portmap")
    yield _gauge(
        "fwnode_mesh_router", "What the routers do.", labels, [((nat.kind, nat.tcp, nat.portmap.state), 1)]
    )
    yield from _of_links([peer for peer in network.peers() if peer.state == CONNECTED])


def _of_links(peers: list[PeerView]) -> Iterator[Metric]:
    kinds = Counter(peer.path.partition(" ")[0] for peer in peers)  # "relayed via NAME" is one kind
    paths = [((kind,), kinds[kind]) for kind in PATHS]
    yield _gauge("fwnode_mesh_paths", "Live links by the kind of their path.", ("path",), paths)
    # Names are not unique; keys are.
    named = [((peer.name, short(bytes.fromhex(peer.node))), peer) for peer in peers]
    labels = ("name", "node")
    rtts = [(key, peer.rtt_ms / 1000) for key, peer in named if peer.rtt_ms is not None]
    yield _gauge("fwnode_mesh_rtt_seconds", "Round trip to linked nodes.", labels, rtts)
    losses = [(key, peer.loss) for key, peer in named if peer.loss is not None]
    yield _gauge("fwnode_mesh_loss_ratio", "Pings of the last minute without an answer.", labels, losses)


def _of_replication(node: Node) -> Iterator[Metric]:
    yield _gauge("fwnode_publishers", "Streams that somebody publishes here.", (), [((), node.publishers)])
    replication = node.replication
    if replication is None:
        return
    yield _gauge("fwnode_replication_edges", "Streams given to other nodes.", (), [((), node.edges)])
    yield _gauge("fwnode_replication_copies", "Streams taken from other nodes.", (), [((), node.copies)])
    uplink, counters = replication.uplink(), replication.counters
    yield _gauge("fwnode_uplink_bits_per_second", "All that leaves.", (), [((), uplink.sent_bps)])
    yield _gauge("fwnode_uplink_budget_bits_per_second", "0: no limit.", (), [((), uplink.budget_bps)])
    yield _gauge(
        "fwnode_uplink_promised_bits_per_second",
        "With what edges will take.",
        (),
        [((), uplink.promised_bps)],
    )
    for name, (field, text) in REPLICATED.items():
        yield _counter(f"fwnode_replication_{name}", text, (), [((), getattr(counters, field))])


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
    yield _counter("fwnode_transcode_media_seconds", "Of renditions made, gaps left out.", labels, seconds)
    yield _counter("fwnode_transcode_bytes", "Of renditions made.", labels, made[BYTES])
    yield _counter("fwnode_transcode_cpu_seconds", "CPU time of workers.", (), [((), parts.ledger.cpu_s)])
    streams = sum(session.ladder is not None for session in sessions)
    yield _gauge("fwnode_transcode_streams", "Streams with renditions.", (), [((), streams)])
    for name, field, text in TRANSCODED:
        each = [((session.stream.name,), getattr(session, field)) for session in sessions]
        yield _counter(f"fwnode_transcode_{name}", text, ("stream",), each)
    free = parts.broker.free(node.reactor.now())
    yield _gauge("fwnode_transcode_free", "Renditions of 720p30 for which there is room.", (), [((), free)])


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


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), samples)


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    """A counter; the text format adds `_total` to its name."""
    return _filled(CounterMetricFamily(name, text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


WORKER_METRICS = (
    ("restarts", _counter, "Times that its process was started again.", "restarts"),
    ("connections", _gauge, "Open connections.", "connections"),
    ("connections_accepted", _counter, "Connections accepted by its process.", "connections_accepted"),
    ("sent_bytes", _counter, "Bytes sent by its process.", "bytes_out"),
    ("resident_memory_bytes", _gauge, "Resident memory.", "memory_bytes"),
    ("cpu_seconds", _counter, "CPU time of its process.", "cpu_s"),
)
