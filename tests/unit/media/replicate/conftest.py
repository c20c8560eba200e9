"""An origin that signs, edges that take its stream from parents, and the bytes between them."""

from collections.abc import Callable, Iterable

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from media.bitstream.duration import frame_duration
from media.package.playlist import media_playlist, multivariant_playlist
from media.package.window import LiveWindow
from media.replicate.publication import Publication
from media.replicate.replica import Event, Replica
from media.replicate.signing import Identity, Proofs, Signer
from media.replicate.wire import Want
from media.track.continuation import Continuation
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Writer

KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
IDENTITY = Identity("live", 1_800_000_000_000_000)
SECOND = 1_000_000


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


class Link:
    """A parent's publication, connected to an edge; `alter` stands between them."""

    def __init__(self, parent: "Origin | Edge", edge: "Edge", want: Want, late_us: int = 6 * SECOND) -> None:
        self.edge = edge
        self.open = True
        self.alter: Callable[[bytes], bytes] = lambda data: data
        self.publication = Publication(
            parent.stream, parent.proofs, parent.identity, want, self.ready, late_us=late_us
        )
        self.ready(edge.now())

    def ready(self, now: float) -> None:
        while self.open and (buffers := self.publication.pull(65536)):
            self.edge.take(self.alter(b"".join(buffers)))

    def close(self) -> None:
        self.open = False
        self.publication.close()


class Edge:
    """A node with a copy of the stream."""

    def __init__(self, clock, streams: Streams | None = None, identity: Identity = IDENTITY) -> None:
        self.clock = clock
        settings = RegistrySettings()
        self.streams = streams or Streams(settings, call_at=clock.call_at, measure=frame_duration)
        self.stopped: list[str] = []
        source = Source("mesh", "parent")
        writer = self.streams.open_copy("live", source, clock.now, 0, self.stopped.append)
        self.replica = Replica(writer, identity, PUBLIC, verify)
        self.stream = writer.stream
        self.window = LiveWindow(self.stream)
        self.stream.subscribe(lambda now: self.window.update())
        self.events: list[Event] = []
        self.link: Link | None = None

    def now(self) -> float:
        return self.clock.now

    def take(self, data: bytes) -> None:
        self.events += self.replica.receive(data, self.clock.now)

    def follow(
        self, parent: "Origin | Edge", tracks: Iterable[int] = (), history_us: int = 6 * SECOND, **options
    ) -> Link:
        """Take the stream from this parent from now on."""
        if self.link is not None:
            self.link.close()
        want = self.replica.adopt(list(tracks), history_us)
        self.link = Link(parent, self, want, **options)
        return self.link

    def succeed(self, identity: Identity) -> None:
        """What this origin publishes from now on is another epoch's."""
        if self.link is not None:
            self.link.close()
        self.replica.writer.begin_epoch(Source("mesh", "other"), self.clock.now)
        self.replica = Replica(self.replica.writer, identity, PUBLIC, verify)

    @property
    def proofs(self) -> Proofs:
        return self.replica.proofs

    @property
    def identity(self) -> Identity:
        return self.replica.identity


class Origin:
    """A stream that is published here, with its signer."""

    def __init__(self, publisher, identity: Identity = IDENTITY) -> None:
        self.publisher = publisher
        self.identity = identity
        self.stream = publisher.stream
        self.signer = Signer(self.stream, identity, sign)
        self.stream.subscribe(self.signer.update)
        self.proofs = self.signer.proofs
        self.window = LiveWindow(self.stream)
        self.stream.subscribe(lambda now: self.window.update())

    def send(self, frames: int, **options) -> None:
        self.publisher.send(frames, **options)


def objects(window: LiveWindow, since: int = 0) -> dict[str, bytes | tuple[bytes, ...] | None]:
    """Every init, part and segment that can be had, by its path."""
    made: dict[str, bytes | tuple[bytes, ...] | None] = {}
    for segment in window.segments:
        if segment.msn < since:
            continue
        for name, rendition in segment.renditions.items():
            path = f"init-{rendition.init}.mp4"
            made[f"{name}/{path}"] = window.init_bytes(name, rendition.init)
            if segment.complete:
                made[f"{name}/{segment.msn}.m4s"] = window.segment_bytes(name, segment.msn)
            for part in segment.complete_parts():
                path = f"{name}/{segment.msn}.{part.index}.m4s"
                made[path] = window.part_bytes(name, segment.msn, part.index)
    return made


def playlists(window: LiveWindow, window_us: int = 6 * SECOND) -> list[bytes | None]:
    """The multivariant playlist and every media playlist, short enough for all to be the same."""
    names = sorted({name for segment in window.segments for name in segment.renditions})
    return [multivariant_playlist(window), *(media_playlist(window, name, window_us) for name in names)]


def assert_same(edge: Edge, origin: "Origin | Edge", *, least: int = 1) -> None:
    """All that the edge has is what the origin has, up to the newest part."""
    theirs = objects(origin.window, edge.window.segments[0].msn)
    ours = objects(edge.window)
    assert len(ours) >= least
    assert ours == theirs
    assert edge.window.newest() == origin.window.newest()


@pytest.fixture
def origin(publisher) -> Origin:
    return Origin(publisher)


@pytest.fixture
def new_origin(clock, publish_on) -> Callable[..., Origin]:
    """Another one, in the epoch after; `where` its stream goes on, None: it does not know."""

    def make(where: Continuation | None, streams: Streams | None = None) -> Origin:
        if streams is None:
            streams = Streams(RegistrySettings(), call_at=clock.call_at, measure=frame_duration)

        def opening(writer: Writer, now: float) -> None:
            writer.delay(now)
            writer.begin(where, now)

        streams.opening = opening
        return Origin(publish_on(streams), Identity("live", IDENTITY.epoch + 1))

    return make


@pytest.fixture
def new_edge(clock) -> Callable[[], Edge]:
    return lambda: Edge(clock)


@pytest.fixture
def take_over(clock) -> Callable[[Streams, Origin], Edge]:
    """A node whose stream another one goes on with."""
    return lambda streams, origin: Edge(clock, streams, origin.identity)


@pytest.fixture
def edge(new_edge) -> Edge:
    return new_edge()


@pytest.fixture
def same() -> Callable[..., None]:
    return assert_same


@pytest.fixture
def made() -> Callable[..., dict[str, bytes | tuple[bytes, ...] | None]]:
    return objects


@pytest.fixture
def lists() -> Callable[..., list[bytes | None]]:
    return playlists
