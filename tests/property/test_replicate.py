"""Replication: any chunking, any lie, any join point; the objects are the origin's or they are not there."""

import itertools
from hashlib import sha256

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fwnode.replication.fetching.trial import Trial
from media.bitstream.duration import frame_duration
from media.errors import WireError
from media.package.window import LiveWindow
from media.replicate.publication import Publication
from media.replicate.replica import Event, Replica
from media.replicate.signing import Identity, Proofs, Signer
from media.replicate.wire import (
    Alive,
    FrameReader,
    Skip,
    Want,
    encode,
    encode_hollow,
    encode_packet,
    parse_to_edge_untrusted,
    parse_to_parent_untrusted,
)
from media.track.marker import MarkerSettings
from media.track.model import Codec, Frame, Packet, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, StreamSettings, Writer

SECOND = 1_000_000
UNIX_US = 1_700_000_000 * SECOND
IDENTITY = Identity("any", UNIX_US)
AVCC = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")
VIDEO = Track(1, Codec.H264, 90_000, AVCC, width=320, height=180)
SMALL = Track(2, Codec.H264, 90_000, AVCC, width=160, height=90)
SOUND = Track(3, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
SETS = [(VIDEO,), (VIDEO, SOUND), (SOUND,), (VIDEO, SMALL, SOUND)]

# Tracks, frames a second, frames a group, tenths of seconds of content.
publishers = st.tuples(
    st.sampled_from(SETS), st.sampled_from([5, 10, 24]), st.integers(1, 60), st.integers(5, 60)
)
scripts = st.lists(publishers, min_size=1, max_size=3)


def sign(message: bytes) -> bytes:
    """Stands in for Ed25519, which has tests of its own: what counts is that it covers the message."""
    return sha256(b"secret" + message).digest() * 2


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return sign(message) == signature


class Timer:
    def cancel(self) -> None:
        """Nothing lingers here."""


class Origin:
    """A stream that writes frame after frame of a script."""

    def __init__(self, script: list[tuple[tuple[Track, ...], int, int, int]]) -> None:
        # Nothing is evicted, so that everything can be compared.
        settings = StreamSettings(MarkerSettings(2_000_000, 500_000), 1 << 60)
        self.stream = Stream("any", settings, 0.0, UNIX_US)
        self.signer = Signer(self.stream, IDENTITY, sign)
        self.stream.subscribe(self.signer.update)
        self.proofs = self.signer.proofs
        self.steps = self._steps(script)

    def _steps(self, script):
        for tracks, fps, gop, tenths in script:
            writer = Writer(
                self.stream, Source("test", "[::1]:1"), 0.0, UNIX_US, on_stop=lambda reason: None,
                on_close=lambda writer, reason, now: None, measure=frame_duration, observer=None,
            )  # fmt: skip
            frames = []
            for track in tracks:
                writer.describe(track, 0.0)
                video = track.codec is Codec.H264
                for index in range(tenths * (fps if video else 47) // 10):
                    at_us = index * 1000 // fps * 1000 if video else index * 1024 // 48 * 1000
                    frames.append(Frame(track.id, at_us, 0, not video or index % gop == 0, index.to_bytes(4)))
            for frame in sorted(frames, key=lambda frame: (frame.dts_us, -frame.track_id)):
                writer.write(frame, frame.dts_us / SECOND)
                writer.flush(frame.dts_us / SECOND)
                yield
            writer.stop("replaced")

    def write(self, frames: int) -> None:
        for _ in itertools.islice(self.steps, frames):
            pass


class Edge:
    def __init__(self) -> None:
        settings = RegistrySettings(stream=StreamSettings(window_us=1 << 60))
        streams = Streams(settings, call_at=lambda when, callback: Timer(), measure=frame_duration)
        writer = streams.open_copy("any", Source("mesh", ""), 0.0, 0, lambda reason: None)
        self.stream: Stream = writer.stream
        self.replica = Replica(writer, IDENTITY, b"", verify)
        self.proofs: Proofs = self.replica.proofs
        self.window = LiveWindow(self.stream)
        self.stream.subscribe(lambda now: self.window.update())
        self.events: list[Event] = []
        self.publication: Publication | None = None

    def follow(self, parent: "Origin | Edge", history_us: int = 0) -> None:
        if self.publication is not None:
            self.publication.close()
        want = self.replica.adopt([], history_us)
        self.publication = Publication(
            parent.stream, parent.proofs, IDENTITY, want, lambda now: None, late_us=1 << 60
        )

    def pump(self, size: int = 1 << 20, chunk: int = 1 << 20) -> None:
        """Take all there is, `size` bytes a pull, in chunks."""
        assert self.publication is not None
        while buffers := self.publication.pull(size):
            data = b"".join(buffers)
            for start in range(0, len(data), chunk):
                self.events += self.replica.receive(data[start : start + chunk], 0.0)


def objects(window: LiveWindow, since: int) -> dict[tuple[str, int, int], object]:
    made: dict[tuple[str, int, int], object] = {}
    for segment in window.segments:
        if segment.msn < since:
            continue
        for name, rendition in segment.renditions.items():
            if segment.complete:
                made[name, segment.msn, -1] = (
                    segment.unix_us,
                    segment.duration_us,
                    window.segment_bytes(name, segment.msn),
                )
            for part in segment.complete_parts():
                made[name, segment.msn, part.index] = (
                    part.duration_us,
                    part.starts_clean(rendition),
                    rendition.init,
                    window.init_bytes(name, rendition.init),
                    window.part_bytes(name, segment.msn, part.index),
                )
    return made


@settings(max_examples=60, deadline=None)
@given(scripts, st.data())
def test_from_any_join_point_over_any_parents_the_objects_are_the_origins(script, data) -> None:
    origin, relay, edge = Origin(script), Edge(), Edge()
    integers = st.integers(0, 120)
    origin.write(data.draw(integers))
    relay.follow(origin, data.draw(st.sampled_from([0, 3 * SECOND, 60 * SECOND])))
    relay.pump()
    origin.write(data.draw(integers))
    edge.follow(relay, data.draw(st.sampled_from([0, 3 * SECOND])))
    for _ in range(data.draw(st.integers(1, 4))):
        origin.write(data.draw(integers))
        relay.pump(data.draw(st.integers(1, 2000)), data.draw(st.integers(20, 500)))
        edge.pump(data.draw(st.integers(1, 2000)), data.draw(st.integers(20, 500)))
        edge.follow(data.draw(st.sampled_from([origin, relay])))
    origin.write(1 << 30)
    relay.pump()
    edge.pump()
    whole = LiveWindow(origin.stream)
    for node in (relay, edge):
        assert node.events == []
        if not whole.segments or not node.window.segments:
            assert not node.stream.ring.next or not whole.segments
            continue
        first = node.window.segments[0].msn
        assert objects(node.window, 0) == objects(whole, first)
        assert node.window.newest() == whole.newest() or whole.newest() < (first, 0)
        packets = node.stream.ring.slice(0, node.stream.ring.next)
        assert packets == origin.stream.ring.slice(origin.stream.ring.next - len(packets), 1 << 60)


@settings(max_examples=80, deadline=None)
@given(scripts, st.floats(0, 0.999), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_is_found_within_its_part(script, place, bit, relayed) -> None:
    origin, relay, edge = Origin(script), Edge(), Edge()
    parent = relay if relayed else origin
    relay.follow(origin, 1 << 50)
    origin.write(1 << 30)
    relay.pump()
    assume(parent.stream.ring.next)
    edge.replica.adopt([], 1 << 50)
    want = Want([], 1 << 50, IDENTITY.epoch, None)
    publication = Publication(parent.stream, parent.proofs, IDENTITY, want, lambda now: None)
    sent = bytearray(b"".join(publication.pull(1 << 30)))
    at = int(place * len(sent))
    sound = Edge()
    sound.replica.adopt()
    sound.replica.receive(bytes(sent[:at]), 0.0)
    sent[at] ^= 1 << bit
    try:
        edge.replica.receive(bytes(sent), 0.0)
    except WireError:
        pass
    theirs = objects(LiveWindow(origin.stream), 0)
    ours = objects(edge.window, 0)
    assert {key: theirs[key] for key in ours} == ours
    # A changed length may make the rest wait for bytes that do not come: nothing is proven then, either.
    assert edge.replica.verified == sound.replica.verified


numbers = st.integers(0, 2**32)
packets = st.builds(
    Packet, st.just(VIDEO), numbers, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.booleans(),
    st.binary(max_size=300), numbers, numbers, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1),
)  # fmt: skip


@given(
    st.lists(st.one_of(packets, st.builds(Skip, numbers)), max_size=12),
    st.lists(st.integers(1, 400)),
    st.data(),
)
def test_any_chunking_gives_the_same_messages(messages, cuts, data) -> None:
    frames = []
    for message in messages:
        if isinstance(message, Skip):
            frames.append(encode(message))
        else:
            frames.append(
                encode_hollow(message) if data.draw(st.booleans()) else b"".join(encode_packet(message))
            )
    whole = b"".join(frames)
    places = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    reader = FrameReader(parse_to_edge_untrusted)
    read = [message for begin, end in itertools.pairwise(places) for message in reader.feed(whole[begin:end])]
    assert len(read) == len(messages)
    for message, came in zip(messages, read, strict=True):
        if isinstance(message, Skip):
            assert came == message
        else:
            assert (came.segment, came.part, came.dts, came.group) == (
                message.segment, message.part, message.dts, message.group,
            )  # fmt: skip
            assert came.data in (None, message.data)
            assert came.payload_hash == sha256(message.data).digest()


@pytest.mark.parametrize("parse", [parse_to_edge_untrusted, parse_to_parent_untrusted])
@given(st.integers(0, 3), st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_raises_only_wire_error(parse, kind, body) -> None:
    try:
        for _ in FrameReader(parse).feed((len(body) + 1).to_bytes(4, "big") + bytes([kind]) + body):
            pass
    except WireError:
        pass


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(), st.binary()),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)


@given(st.integers(0, 12), st.lists(values, max_size=8))
def test_messages_of_any_shape_raise_only_wire_error(tag, fields) -> None:
    body = msgspec.msgpack.encode([tag, *fields])
    for parse in (parse_to_edge_untrusted, parse_to_parent_untrusted):
        try:
            parse(0, memoryview(body))
        except WireError:
            pass
    edge = Edge()
    edge.replica.adopt()
    try:
        edge.replica.receive((len(body) + 1).to_bytes(4, "big") + b"\0" + body, 0.0)
    except WireError:
        pass


@settings(max_examples=60, deadline=None)
@given(scripts, st.data())
def test_a_parent_that_was_asked_long_before_it_is_adopted_repeats_what_is_proven(script, data) -> None:
    """What it had sent by then is fed to the replica at once: as when the present parent is left for it."""
    origin, edge = Origin(script), Edge()
    integers = st.integers(0, 120)
    origin.write(data.draw(integers))
    edge.follow(origin, data.draw(st.sampled_from([0, 3 * SECOND])))
    for _ in range(data.draw(st.integers(1, 4))):
        origin.write(data.draw(integers))
        edge.pump(data.draw(st.integers(1, 2000)), data.draw(st.integers(20, 500)))
        want = edge.replica.want([], SECOND)
        other = Publication(origin.stream, origin.proofs, IDENTITY, want, lambda now: None, late_us=1 << 60)
        taken = b""
        for _ in range(data.draw(st.integers(0, 3))):
            origin.write(data.draw(integers))
            edge.pump()
            other.say_alive(1, 0.0)
            taken += b"".join(other.pull(data.draw(st.integers(1, 1 << 20))))
        if want.after is None and edge.replica.follows_on is not None:
            other.close()
            continue
        assert edge.publication is not None
        edge.publication.close()
        edge.replica.adopt()
        edge.publication = other
        edge.events += edge.replica.receive(taken, 0.0)
    origin.write(1 << 30)
    edge.pump()
    assert [event for event in edge.events if not isinstance(event, Alive)] == []
    whole = LiveWindow(origin.stream)
    if whole.segments and edge.window.segments:
        assert objects(edge.window, 0) == objects(whole, edge.window.segments[0].msn)
        assert edge.window.newest() == whole.newest() or whole.newest() < (edge.window.segments[0].msn, 0)


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, 3))
def test_a_trial_of_garbage_raises_only_wire_errors(pieces, kind) -> None:
    trial = Trial(1)
    try:
        for piece in pieces:
            trial.receive((len(piece) + 1).to_bytes(4, "big") + bytes([kind]) + piece)
    except WireError:
        return
    assert trial.newest_us == -1
