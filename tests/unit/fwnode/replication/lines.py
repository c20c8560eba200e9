"""Nodes of one network on virtual time, with lines between them that are slow, silent or cut."""

import itertools
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from fwnode.peering.load import carried_streams
from fwnode.promise.promise import Kept, Promise
from fwnode.promise.terms import Terms
from fwnode.replication.copy import Copy
from fwnode.replication.giving.service import SERVICE
from fwnode.replication.service import Replication
from media.bitstream.duration import frame_duration
from media.track.model import Codec, Frame, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream
from mesh.directory.facts import Reports, payload
from mesh.errors import Unavailable
from mesh.identity.key import SecretKey
from mesh.model import NodeId, Role

STREAM = "cam"
FPS = 30
WINDOW_S = 6.0
PACKET_BYTES = 1400
CONFIG = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")
LARGE = Track(1, Codec.H264, 90_000, CONFIG, width=320, height=180, declared_fps=FPS)
SMALL = Track(2, Codec.H264, 90_000, CONFIG, width=160, height=90, declared_fps=FPS)
SOUND = Track(3, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
BYTES = {LARGE.id: 500, SMALL.id: 100, SOUND.id: 20}  # of a frame; 0.03 of a second each
BITRATE_BPS = FPS * 8 * BYTES[LARGE.id]


class Line:
    """What a node sends to another: as fast as `bps` allows, nothing while it is not `open`."""

    def __init__(self) -> None:
        self.bps = 0.0  # 0: no limit
        self.open = trio.Event()
        self.open.set()
        self.alter: Callable[[bytes], bytes] = lambda data: data

    def fall_silent(self) -> None:
        """What is sent waits until `open` is set."""
        self.open = trio.Event()


class End:
    """One end of a bulk stream."""

    def __init__(self, stream: Any, peer: "Node", argument: bytes, line: Line) -> None:
        self.peer = SimpleNamespace(node_id=peer.id, name=peer.name)
        self.argument = argument
        self.closed = False
        self._stream = stream
        self._line = line

    async def send_all(self, data: bytes) -> None:
        line = self._line
        await line.open.wait()
        data = line.alter(bytes(data))
        while line.bps and len(data) > PACKET_BYTES:
            await trio.sleep(PACKET_BYTES * 8 / line.bps)
            await self._stream.send_all(data[:PACKET_BYTES])
            data = data[PACKET_BYTES:]
        if line.bps:
            await trio.sleep(len(data) * 8 / line.bps)
        await self._stream.send_all(data)

    async def receive_some(self, n: int = 65536) -> bytes:
        return bytes(await self._stream.receive_some(n))

    def close(self) -> None:
        self.closed = True
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class Node:
    """One node, as replication sees it. All know everything at once."""

    def __init__(self, network: "Network", number: int) -> None:
        self.network = network
        self.name = f"n{number}"
        self.key = SecretKey(bytes([number + 1]) * 32)
        self.id: NodeId = self.key.node_id
        self.up = True
        self.scope = trio.CancelScope()
        self.gate = SimpleNamespace(refusal=None)
        self.services: dict[str, Callable[[End], Awaitable[None]]] = {}
        self.opened: list[tuple[str, End]] = []  # to whom
        self.links: dict[NodeId, Any] = {}
        self.paused = False  # the publisher sends nothing
        self.streams = Streams(RegistrySettings(), call_at=network.call_at, measure=frame_duration)
        self.core = SimpleNamespace(
            node=self.id,
            roles=frozenset(Role),
            connector=SimpleNamespace(links=self.links),
            gossip=SimpleNamespace(directory=Directory(network, self.name)),
            fact=lambda node, shape: (
                SimpleNamespace(roles=list(Role), nat="open", claim=b"")
                if "roles" in shape.__struct_fields__
                else None
            ),
            roll=SimpleNamespace(roles_of=lambda node, claim: frozenset(Role)),
            name_of=lambda node: network.nodes[node].name,
        )
        self.bytes_out = 0
        parts = SimpleNamespace(
            streams=self.streams,
            reactor=SimpleNamespace(now=trio.current_time, bytes_out=0),
            network=SimpleNamespace(node_key=self.key),
            gate=self.gate,
            promise=Promise(Terms(), (), Kept()),
            published_elsewhere=None,
            config=SimpleNamespace(hls=SimpleNamespace(window_s=WINDOW_S)),
            draining=False,
            bytes_out=0,
            replication=None,
        )
        self.replication = Replication(parts, self)  # type: ignore[arg-type]  # as much of them as it asks of

    def serve(self, name: str, service: Callable[[End], Awaitable[None]]) -> None:
        self.services[name] = service

    def tell_all(self, reports: Reports) -> None:
        """What the node tells of others that lied: nobody hears of it here."""

    def measures(self, other: "Node", rtt_s: float) -> None:
        """The round trip to another node from now on."""
        pulse = SimpleNamespace(rtt_s=rtt_s, loss=lambda now: 0.0)
        self.links[other.id] = SimpleNamespace(pulse=pulse, via=None, carrier="tcp")

    def kill(self) -> None:
        """As kill -9 does it."""
        self.up = False
        self.scope.cancel()
        for first, second, end in self.network.ends:
            if self.name in (first, second):
                end.close()

    async def run(self) -> None:
        with self.scope:
            await self.replication.run()

    async def open_stream(self, peer: NodeId, name: str, argument: bytes = b"") -> End:
        network, other = self.network, self.network.nodes[peer]
        if not other.up or (self.name, other.name) in network.cut:
            raise Unavailable("no way", 1.0)
        ours, theirs = trio.testing.memory_stream_pair()
        here = End(ours, other, argument, Line())
        there = End(theirs, self, argument, network.line(other, self))
        if name == SERVICE:
            self.opened.append((other.name, here))
        network.ends += [(self.name, other.name, here), (self.name, other.name, there)]
        network.nursery.start_soon(self._answer, other.services[name], there)
        return here

    async def _answer(self, service: Callable[[End], Awaitable[None]], end: End) -> None:
        await service(end)
        end.close()

    def taken_from(self) -> list[str]:
        """Nodes to which there is a line now."""
        return [name for name, end in self.opened if not end.closed]

    async def publish(self, tracks: Iterable[Track] = (LARGE,), scale: int = 1) -> None:
        """Thirty frames a second of each track, a keyframe in each; `scale` times BITRATE_BPS."""
        source = Source("test", "127.0.0.1:1")
        writer = self.streams.open(STREAM, source, trio.current_time(), 10**15, lambda reason: None)
        tracks = list(tracks)
        for track in tracks:
            writer.describe(track, trio.current_time())
        sent = 0
        while True:
            for track in [] if self.paused else tracks:
                unit = b"\x65" + sent.to_bytes(4, "big") + bytes(scale * BYTES[track.id])
                data = unit if track is SOUND else len(unit).to_bytes(4, "big") + unit
                dts_us = sent * 1_000_000 // FPS
                keyframe = track is SOUND or sent % FPS == 0
                writer.write(Frame(track.id, dts_us, 0, keyframe, data), trio.current_time())
            sent += not self.paused
            writer.flush(trio.current_time())
            await trio.sleep(1 / FPS)

    def watch(self) -> Stream:
        found = self.streams.find(STREAM, trio.current_time())
        assert found is not None
        return found

    @property
    def copy(self) -> Copy:
        found = self.replication._fetching.copy_of(STREAM)
        assert found is not None
        return found

    @property
    def parent(self) -> str:
        """Whom it takes the stream from."""
        parent = self.copy.parent
        return self.network.nodes[parent].name if parent is not None else ""


class Timer:
    """What `call_at` gives."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    def cancel(self) -> None:
        self._scope.cancel()

    async def run(self, when: float, callback: Callable[[float], None]) -> None:
        with self._scope:
            await trio.sleep_until(when)
        if not self._scope.cancelled_caught:
            callback(trio.current_time())


class Directory:
    """What one node has heard of the others: all, but for `Network.unheard`."""

    def __init__(self, network: "Network", reader: str) -> None:
        self._network = network
        self._reader = reader

    def members(self) -> list[NodeId]:
        network = self._network
        return [
            node.id
            for node in network.nodes.values()
            if node.up and (self._reader, node.name) not in network.unheard
        ]

    def record(self, owner: NodeId, kind: int) -> Any:
        carried = self._network.nodes[owner].replication.carried()
        return SimpleNamespace(payload=payload(carried_streams(carried)))


class Network:
    """All nodes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.cut: set[tuple[str, str]] = set()
        self.unheard: set[tuple[str, str]] = set()  # who does not hear of whom
        self.ends: list[tuple[str, str, End]] = []
        self.nodes: dict[NodeId, Node] = {}
        self._lines: dict[tuple[str, str], Line] = {}

    def add(self, count: int) -> list[Node]:
        made = [Node(self, number) for number in range(count)]
        self.nodes = {node.id: node for node in made}
        for node in made:
            self.nursery.start_soon(node.run)
        return made

    def line(self, giver: Node, taker: Node) -> Line:
        """From one node to another, for all streams."""
        return self._lines.setdefault((giver.name, taker.name), Line())

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        timer = Timer()
        self.nursery.start_soon(timer.run, when, callback)
        return timer


class Watcher:
    """Notes when new packets came to a node, and how far behind its origin's they were."""

    def __init__(self, node: Node, origin: Node) -> None:
        self.longest_pause_s = self.most_behind_s = 0.0
        self._stream, self._origin = node.watch(), origin.watch()
        self._newest_us, self._came_at = self._stream.newest_us, trio.current_time()
        self._stream.subscribe(self._news)

    def _news(self, now: float) -> None:
        newest_us = self._stream.newest_us
        if newest_us > self._newest_us:
            self.longest_pause_s = max(self.longest_pause_s, now - self._came_at)
            self._newest_us, self._came_at = newest_us, now
        self.most_behind_s = max(self.most_behind_s, (self._origin.newest_us - newest_us) / 1e6)


def on_network(test: Callable[[Network], Awaitable[None]]) -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await test(Network(nursery))
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def assert_whole(origin: Node, edge: Node) -> None:
    """What the edge holds is as at the origin, without a hole."""
    theirs, ours = origin.watch().ring, edge.watch().ring
    there = {packet.dts: packet for packet in theirs.slice(theirs.first, theirs.next)}
    here = ours.slice(ours.first, ours.next)
    assert len(here) > FPS
    assert {after.dts - before.dts for before, after in itertools.pairwise(here)} == {90_000 // FPS}
    for packet in here:
        if (same := there.get(packet.dts)) is not None:
            assert bytes(packet.data) == bytes(same.data)
            assert (packet.segment, packet.part) == (same.segment, same.part)
