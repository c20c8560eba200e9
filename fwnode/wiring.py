"""Binds the parts of a node to each other: the one place that sees all of them. Pure."""

from collections.abc import Callable, Mapping
from random import Random

from fwnode.config import Config
from fwnode.gate import NodeGate
from fwnode.keys import Keyring
from fwnode.network import Network
from fwnode.node import Node
from fwnode.observe.journal import Journal
from media.bitstream.duration import frame_duration
from media.container.feed import Feeds, FeedSettings
from media.deliver.http.router import Router
from media.deliver.http.service import HttpService
from media.deliver.live import Live
from media.deliver.routes import Pages, has_hls_script, public_router
from media.ingest.diagnosis.observer import Diagnosis
from media.ingest.rtmp.model import RtmpSettings
from media.ingest.rtmp.sessions import RtmpSessions
from media.net.reactor import Reactor
from media.net.store import MemoryFiles
from media.net.tls import TlsSettings
from media.track.marker import MarkerSettings
from media.track.model import MICROSECONDS
from media.track.registry import RegistrySettings, Streams, Takeover
from media.track.stream import StreamSettings
from media.transcode.capacity import StreamsAtMost
from media.transcode.ladder import parse_policy
from media.transcode.session import TranscodeSettings
from media.transcode.transcoder import Transcoder

PUBLIC_LISTENERS = ("http", "https", "rtmp")
DEMO_STREAM = "demo"
RETAINED_SEGMENTS = 2  # after they left the playlist
STOPPING = "this node is stopping"


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


def transcode_settings(config: Config) -> TranscodeSettings:
    """What the settings say about renditions."""
    said = config.transcode
    policy = parse_policy(said.ladder)
    return TranscodeSettings(policy, said.preset, said.latency, said.threads, said.on_demand)


class Services:
    """The composed node, and what the agent does with it."""

    def __init__(
        self, node: Node, journal: Journal, http: HttpService, rtmp: RtmpSessions, transcoder: Transcoder
    ) -> None:
        self.node = node
        self.transcoder = transcoder
        self.journal = journal
        self.tls: TlsSettings | None = None  # of the https listener
        self._http = http
        self._rtmp = rtmp

    def listen(self, option: str) -> None:
        """Bind a public listener of PUBLIC_LISTENERS. Raises OSError with a useful text.

        https needs `load_certificate` first.
        """
        node, config = self.node, self.node.config
        address, limit = config.value(option), config.limits.connections
        if option == "rtmp":
            listener = node.reactor.listen(address, self._rtmp, limit=limit, name=option)
        else:
            tls = self.tls if option == "https" else None
            listener = self._http.listen(address, tls=tls, limit=limit)
        node.listeners[option] = listener

    def load_certificate(self) -> None:
        """Read the certificate of the https listener. Raises OSError."""
        self.tls = TlsSettings(self.node.config.https_cert, self.node.config.https_key)

    def close_listeners(self) -> None:
        """Accept no more."""
        for listener in self.node.listeners.values():
            listener.close()

    def drain(self) -> None:
        """Refuse publishers, close RTMP's listener, tell load balancers and encoders to go elsewhere.

        HTTP's listeners stay, though each connection ends with its next answer: every request of
        an HLS viewer may come on a new one.
        """
        self.node.draining = True
        self.node.gate.drain()
        self._http.site.draining = True
        if "rtmp" in self.node.listeners:
            self.node.listeners["rtmp"].close()
        # To the same name: it may lead to another node by now.
        self._rtmp.request_reconnect("", STOPPING)

    def stop(self) -> None:
        """Say goodbye to who is still here; the reactor needs a moment to send it."""
        self._rtmp.shut_down(STOPPING, self.node.reactor.now())

    @property
    def busy(self) -> bool:
        """Somebody watches; a publisher that nobody watches need not be waited for."""
        return self.node.viewers > 0


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
) -> Services:
    """All parts of a node, listening nowhere yet. `unix_us` is the wall clock."""
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
    feeds = Feeds(FeedSettings(config.deliver.flush_ms / 1000 or None), reactor.call_at)
    rtmp_settings = RtmpSettings(idle_s=config.ingest.idle_s)
    rtmp = RtmpSessions(gate, rtmp_settings, random, streams.wait_for, feeds)
    node.router = public_routes(node, feeds, player_files)
    http = HttpService(reactor, node.router)
    http.site.on_refused = journal.request_refused
    node.http_refused = http.site.refused
    capacity = StreamsAtMost(config.transcode.streams)
    transcoder = Transcoder(streams, transcode_settings(config), capacity, unix_us)
    return Services(node, journal, http, rtmp, transcoder)


def public_routes(node: Node, feeds: Feeds, player_files: Mapping[str, bytes]) -> Router:
    """Everything that the public HTTP listeners answer."""
    config, reactor = node.config, node.reactor
    window_us = round(config.hls.window_s * MICROSECONDS)
    live = Live(
        node.streams,
        feeds,
        node.posters,
        window_us=window_us,
        put_file=MemoryFiles().put,
        call_at=reactor.call_at,
    )
    pages = Pages(
        node.streams,
        node=config.name,
        hls_script=has_hls_script(player_files),
        ready=lambda: not node.draining,
    )
    return public_router(live, pages, player_files)
