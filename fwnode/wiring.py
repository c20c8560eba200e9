"""Binds the parts of a node to each other: the one place that sees all of them. Pure."""

from collections.abc import Callable, Mapping
from random import Random

import msgspec

from fwnode.config import Config
from fwnode.delivery import DeliverySettings, public_routes
from fwnode.gate import DRAINING, NodeGate
from fwnode.keys import Keyring
from fwnode.network import Network
from fwnode.node import Node
from fwnode.observe.journal import Journal
from fwnode.promise.door import PromiseDoor, lent
from fwnode.promise.holds import Role
from fwnode.promise.promise import Kept, Promise
from fwnode.promise.terms import terms_of
from fwnode.setting import OFF, split_addresses
from fwnode.steering.answers import Answers
from fwnode.steering.choosing import Choosing
from fwnode.steering.consulted import consult
from fwnode.steering.forwarded import Proxies, parse_networks
from fwnode.transcoding.ledger import Ledger
from fwnode.transcoding.model import Transcoding
from fwnode.workers.crew import Crew
from fwnode.workers.lending import Lending
from fwnode.workers.server import SharedPort
from fwnode.workers.wire import Start
from media.bitstream.duration import frame_duration
from media.container.feed import Feeds, FeedSettings
from media.deliver.audience import Audience
from media.deliver.http.service import HttpService
from media.deliver.quality.board import Board
from media.ingest.diagnosis.observer import Diagnosis
from media.ingest.rtmp.model import Role as RtmpRole
from media.ingest.rtmp.model import RtmpSettings
from media.ingest.rtmp.sessions import RtmpSessions
from media.net.reactor import Reactor
from media.net.tls import TlsSettings
from media.track.marker import MarkerSettings
from media.track.model import MICROSECONDS
from media.track.registry import RegistrySettings, Streams, Takeover
from media.track.stream import StreamSettings, StreamState
from media.transcode.capacity import StreamsAtMost
from media.transcode.ladder import parse_policy
from media.transcode.session import TranscodeSettings
from media.transcode.transcoder import Transcoder
from mesh.directory.facts import Doors

PUBLIC_LISTENERS = ("http", "https", "rtmp")
DEMO_STREAM = "demo"
RETAINED_SEGMENTS = 2  # after they left the playlist
STOPPING = "this node is stopping"
NOTHING_KEPT = Kept()
PLEASE_GO = "this node is being drained: another one has room"


def stream_settings(config: Config) -> RegistrySettings:
    """What the settings say about every stream."""
    return RegistrySettings(
        stream=StreamSettings(
            marker=MarkerSettings(
                segment_us=round(config.hls.segment_s * MICROSECONDS),
                part_us=round(config.hls.part_s * MICROSECONDS),
            ),
            # What left a playlist stays for those who have just read it (RFC 8216bis 6.2.2).
            window_us=round((config.hls.window_s + RETAINED_SEGMENTS * config.hls.segment_s) * MICROSECONDS),
        ),
        takeover=Takeover(config.ingest.takeover),
        linger_s=config.ingest.linger_s,
    )


def delivery_settings(config: Config, player_files: Mapping[str, bytes]) -> DeliverySettings:
    """What the settings say about delivery."""
    return DeliverySettings(
        node=config.name,
        playlist_us=round(config.hls.window_s * MICROSECONDS),
        held_us=stream_settings(config).stream.window_us,
        flush_s=config.deliver.flush_ms / 1000 or None,
        connections_max=config.limits.connections,
        player_files=player_files,
    )


def worker_start(config: Config, delivery: DeliverySettings) -> Start:
    """What each worker is told first: its share of what may come, and no more than it needs."""
    share = -(-config.limits.connections // max(1, config.workers))
    return Start(
        worker=0,
        delivery=msgspec.structs.replace(delivery, connections_max=share),
        certificate=config.https_cert if config.https != OFF else "",
        key=config.https_key if config.https != OFF else "",
        log_level=config.log.level,
        log_format=config.log.format,
    )


def transcode_settings(config: Config) -> TranscodeSettings:
    """What the settings say about renditions."""
    said = config.transcode
    policy = parse_policy(said.ladder)
    return TranscodeSettings(policy, said.preset, said.latency, said.threads, said.on_demand)


def transcoding(
    config: Config, streams: Streams, now: Callable[[], float], unix_us: Callable[[], int]
) -> Transcoding:
    """What makes renditions, if any are to be made."""
    said, settings = config.transcode, transcode_settings(config)
    if settings.policy.mode == "off":
        transcoder = Transcoder(streams, settings, StreamsAtMost(said.streams), unix_us)
        return Transcoding(transcoder, None, Ledger())
    # The model of the host's devices takes 0.05 s to import, and few nodes have a use for it.
    from fwnode.transcoding.broker import Broker

    broker = Broker(said.streams, now, preset=said.preset, hardware=said.engine == "auto")
    return Transcoding(Transcoder(streams, settings, broker, unix_us), broker, Ledger())


class Services:
    """The composed node, and what the agent does with it."""

    def __init__(
        self,
        node: Node,
        journal: Journal,
        http: HttpService,
        rtmp: RtmpSessions,
        start: Start,
        lending: Lending | None,
        transcoder: Transcoder,
    ) -> None:
        """`start` and `lending` are for the workers; None: there are none."""
        self.node = node
        self.transcoder = transcoder
        self.journal = journal
        self.start = start
        self.lending = lending
        self.ports: dict[str, SharedPort] = {}  # listeners that the workers share
        self.tls: TlsSettings | None = None  # of the https listener
        self._http = http
        self._rtmp = rtmp
        self._drained: frozenset[Role] = frozenset()  # who was asked to go

    def listen(self, option: str) -> None:
        """Bind a public listener of PUBLIC_LISTENERS. Raises OSError with a useful text.

        https needs `load_certificate` first.
        """
        node, config = self.node, self.node.config
        address, limit = config.value(option), config.limits.connections
        if option == "rtmp":
            node.listeners[option] = node.reactor.listen(address, self._rtmp, limit=limit, name=option)
            return
        tls = self.tls if option == "https" else None
        if self.lending is None:
            node.listeners[option] = self._http.listen(address, tls=tls, limit=limit)
            return
        port = SharedPort(
            address,
            config.workers,
            lambda sock: self._http.serve(sock, tls=tls, limit=limit),
            lambda: node.crew.connections(option),
        )
        node.listeners[option] = self.ports[option] = port

    def load_certificate(self) -> None:
        """Read the certificate of the https listener. Raises OSError."""
        self.tls = TlsSettings(self.node.config.https_cert, self.node.config.https_key)

    def close_listeners(self) -> None:
        """Accept no more."""
        for listener in self.node.listeners.values():
            listener.close()

    def drain(self) -> None:
        """Refuse publishers, close RTMP's listener, tell load balancers, encoders and nodes to go elsewhere.

        HTTP's listeners stay, though each connection ends with its next answer: every request of
        an HLS viewer may come on a new one.
        """
        self.node.drain()
        self.node.gate.drain()
        self._http.site.draining = True
        if self.lending is not None:
            self.lending.drain()
        if "rtmp" in self.node.listeners:
            self.node.listeners["rtmp"].close()
        # To the same name: it may lead to another node by now.
        self._rtmp.request_reconnect("", STOPPING)

    def follow(self) -> None:
        """Have what the operator holds in force: a drain that ends, and one for some roles only, too."""
        drained = frozenset(self.node.promise.holds.drain)
        if self.node.draining:
            return
        if drained != self._drained:
            self._drain_roles(drained, drained - self._drained)
            self._drained = drained
        self.lend()

    def _drain_roles(self, drained: frozenset[Role], new: frozenset[Role]) -> None:
        """`new`: those who were not drained before, and are asked to go."""
        node = self.node
        if Role.PUBLISHERS in drained:
            node.gate.drain(DRAINING)
        else:
            node.gate.resume()
        self._http.site.draining = Role.VIEWERS in drained
        if node.replication is not None:
            node.replication.hold(closed=Role.EDGES in drained)
        for role, client in ((Role.PUBLISHERS, RtmpRole.PUBLISH), (Role.VIEWERS, RtmpRole.PLAY)):
            if role in new:
                self._rtmp.request_reconnect("", PLEASE_GO, (client,))

    def lend(self) -> None:
        """Tell the workers what they may let in; often, as it changes with all that leaves."""
        node = self.node
        if self.lending is not None:
            now, workers = node.reactor.now(), node.config.workers
            self.lending.lend(lent(node.promise, node.streams, workers, now, stopping=node.draining))

    def stop(self) -> None:
        """Say goodbye to who is still here; the reactor needs a moment to send it."""
        self._rtmp.shut_down(STOPPING, self.node.reactor.now())

    @property
    def busy(self) -> bool:
        """Somebody watches, or is fed; a publisher that nobody watches need not be waited for."""
        return self.node.viewers > 0 or self.node.edges > 0


def compose(
    config: Config,
    network: Network,
    keyring: Keyring,
    reactor: Reactor,
    *,
    started_at: float,
    unix_us: Callable[[], int],
    random: Random,
    player_files: Mapping[str, bytes],
    kept: Kept = NOTHING_KEPT,
) -> Services:
    """All parts of a node, listening nowhere yet. `unix_us` is the wall clock; `kept` of the promise."""
    streams = Streams(
        stream_settings(config), call_at=reactor.call_at, measure=frame_duration, observer=Diagnosis
    )
    journal = Journal(streams)
    streams.subscribe(journal.stream_changed)
    streams.subscribe_departures(journal.publisher_left)
    gate = NodeGate(
        keyring,
        streams,
        open_ingest=config.ingest.open,
        reserved=frozenset((DEMO_STREAM,)) if config.demo else frozenset(),
        unix_us=unix_us,
        on_refused=journal.publisher_refused,
    )
    node = Node(config, network, keyring, streams, gate, reactor, started_at, unix_us() // MICROSECONDS)
    door = _compose_viewing(node, kept)
    gate.ask_of_players(door.admit_player)
    feeds = Feeds(FeedSettings(config.deliver.flush_ms / 1000 or None), reactor.call_at)
    rtmp_settings = RtmpSettings(idle_s=config.ingest.idle_s)
    rtmp = RtmpSessions(gate, rtmp_settings, random, streams.wait_for, feeds)
    delivery, audience = delivery_settings(config, player_files), Audience()
    answers = _answers(node)
    node.router = public_routes(
        delivery,
        streams,
        feeds,
        node.posters,
        reactor.call_at,
        shown=streams,
        ready=lambda: not (node.draining or node.promise.draining_viewers),
        audience=audience,
        steering=answers,
        door=door,
        quality=node.quality,
    )
    http = HttpService(reactor, node.router)
    http.site.on_refused = journal.request_refused
    node.http_refused = http.site.refused
    lending = _lending(node, audience, answers, delivery.held_us) if config.workers else None
    node.transcoding = transcoding(config, streams, reactor.now, unix_us)
    transcoder = node.transcoding.transcoder
    services = Services(node, journal, http, rtmp, worker_start(config, delivery), lending, transcoder)
    node.on_hold = services.follow
    return services


def _compose_viewing(node: Node, kept: Kept) -> PromiseDoor:
    """What decides which viewers come here, and knows what they see."""
    config, streams = node.config, node.streams
    node.crew = Crew(config.workers)
    node.choosing = Choosing(lambda name: _is_here(streams, name), config.name)
    node.choosing.own_doors = Doors([url.rstrip("/").lower() for url in split_addresses(config.public_url)])
    node.promise = Promise(terms_of(config), streams, kept)
    node.promise.edges_bps = lambda: node.replication.edges_bps() if node.replication is not None else 0
    node.door = door = PromiseDoor(node.promise, streams, node.reactor.now)
    node.quality = Board(lambda name: streams.get(name) is not None)
    return door


def _answers(node: Node) -> Answers:
    return Answers(
        node.choosing,
        Proxies(parse_networks(node.config.trusted_proxies)),
        lambda: {option: listener.address for option, listener in node.listeners.items()},
        node.network.node_key.node_id,
    )


def _lending(node: Node, audience: Audience, answers: Answers, history_us: int) -> Lending:
    lending = Lending(
        node.streams,
        node.posters,
        audience,
        quality=node.quality,
        history_us=history_us,
        now=node.reactor.now(),
    )
    lending.consult = lambda message, now: consult(answers, message, now)
    return lending


def _is_here(streams: Streams, name: str) -> bool:
    stream = streams.get(name)
    return stream is not None and stream.state is not StreamState.ENDED
