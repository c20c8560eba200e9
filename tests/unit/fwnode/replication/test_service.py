"""Nodes of one network in one process, on virtual time: who fetches what from whom, what when it fails."""

import itertools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from fwnode.peering.load import carried_streams
from fwnode.replication.copy import IDLE_S, LOST_S
from fwnode.replication.fetching.client import DEAD_S
from fwnode.replication.giving.service import SERVICE, SUBSCRIBERS_OF_PEER_MAX, WANT_S
from fwnode.replication.service import Replication
from media.bitstream.duration import frame_duration
from media.replicate.wire import Want, encode
from media.track.model import Codec, Frame, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, StreamState
from mesh.directory.facts import payload
from mesh.errors import Unavailable
from mesh.identity.key import SecretKey
from mesh.model import NodeId, Role

STREAM = "cam"
FPS = 30
CONFIG = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")
VIDEO = Track(
    id=1, codec=Codec.H264, timescale=90_000, config=CONFIG, width=320, height=180, declared_fps=FPS
)


class End:
    """One end of a bulk stream between two nodes."""

    def __init__(self, stream: Any, peer: "Node", argument: bytes, alter: Callable[[bytes], bytes]) -> None:
        self.peer = SimpleNamespace(node_id=peer.id, name=peer.name)
        self.argument = argument
        self.silent = False
        self._stream = stream
        self._alter = alter

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(self._alter(bytes(data)))

    async def receive_some(self, n: int = 65536) -> bytes:
        data = bytes(await self._stream.receive_some(n))
        if self.silent:
            await trio.sleep_forever()
        return data

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class Node:
    """One node, as replication sees it: its streams, and a mesh of which all know everything at once."""

    def __init__(self, network: "Network", number: int) -> None:
        self.network = network
        self.name = f"n{number}"
        self.key = SecretKey(bytes([number + 1]) * 32)
        self.id: NodeId = self.key.node_id
        self.up = True
        self.alter: Callable[[bytes], bytes] = lambda data: data
        self.ends: list[End] = []
        self.services: dict[str, Callable[[End], Awaitable[None]]] = {}
        self.opened = 0
        call_at = SimpleNamespace(cancel=lambda: None)
        self.streams = Streams(
            RegistrySettings(), call_at=lambda when, callback: call_at, measure=frame_duration
        )
        self.core = SimpleNamespace(
            node=self.id,
            roles=frozenset(Role),
            connector=SimpleNamespace(links={}),
            gossip=SimpleNamespace(directory=network),
            fact=lambda node, shape: (
                SimpleNamespace(roles=list(Role), nat="open") if "roles" in shape.__struct_fields__ else None
            ),
            name_of=lambda node: network.nodes[node].name,
        )
        parts = SimpleNamespace(
            streams=self.streams,
            reactor=SimpleNamespace(now=trio.current_time),
            network=SimpleNamespace(node_key=self.key),
            gate=SimpleNamespace(refusal=None),
            published_elsewhere=None,
            config=SimpleNamespace(hls=SimpleNamespace(window_s=6.0)),
        )
        self.replication = Replication(parts, self)  # type: ignore[arg-type]  # as much of them as it asks of

    def serve(self, name: str, service: Callable[[End], Awaitable[None]]) -> None:
        self.services[name] = service

    async def open_stream(self, peer: NodeId, name: str, argument: bytes = b"") -> End:
        other = self.network.nodes[peer]
        if not other.up or (self.name, other.name) in self.network.cut:
            raise Unavailable("no way", 1.0)
        ours, theirs = trio.testing.memory_stream_pair()
        here, there = End(ours, other, argument, lambda data: data), End(theirs, self, argument, other.alter)
        self.opened += name == SERVICE
        other.ends.append(here)
        self.network.nursery.start_soon(self._answer, other.services[name], there)
        return here

    async def _answer(self, service: Callable[[End], Awaitable[None]], end: End) -> None:
        await service(end)
        end.close()

    def hang_up(self) -> None:
        """As when its process is killed."""
        self.up = False
        for end in self.ends:
            end.close()

    async def publish(self) -> None:
        """Thirty frames a second, a keyframe in each."""
        source = Source("test", "127.0.0.1:1")
        writer = self.streams.open(STREAM, source, trio.current_time(), 10**15, lambda reason: None)
        writer.describe(VIDEO, trio.current_time())
        number = 0
        try:
            while True:
                unit = b"\x65" + number.to_bytes(4, "big") + bytes(500)
                data = len(unit).to_bytes(4, "big") + unit
                dts_us = number * 1_000_000 // FPS
                writer.write(Frame(1, dts_us, 0, number % FPS == 0, data), trio.current_time())
                writer.flush(trio.current_time())
                number += 1
                await trio.sleep(1 / FPS)
        finally:
            writer.close("the publisher went", trio.current_time())

    def watch(self) -> Stream | None:
        return self.streams.find(STREAM, trio.current_time())


class Network:
    """All nodes; also their directory, in which everything is known at once."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.cut: set[tuple[str, str]] = set()
        self.nodes: dict[NodeId, Node] = {}

    def add(self, count: int) -> list[Node]:
        made = [Node(self, number) for number in range(count)]
        self.nodes = {node.id: node for node in made}
        for node in made:
            self.nursery.start_soon(node.replication.run)
        return made

    def members(self) -> list[NodeId]:
        return [node.id for node in self.nodes.values() if node.up]

    def record(self, owner: NodeId, kind: int) -> Any:
        return SimpleNamespace(payload=payload(carried_streams(self.nodes[owner].replication.carried())))


def on_network(test: Callable[[Network], Awaitable[None]]) -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await test(Network(nursery))
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def held(stream: Stream) -> dict[int, tuple[Any, ...]]:
    ring = stream.ring
    return {
        packet.dts: (packet.segment, packet.part, packet.group, packet.keyframe, bytes(packet.data))
        for packet in ring.slice(ring.first, ring.next)
    }


def assert_same(origin: Node, edge: Node) -> None:
    """What the edge holds is as at the origin, without a hole."""
    theirs, ours = origin.streams.get(STREAM), edge.streams.get(STREAM)
    assert theirs is not None and ours is not None
    here, there = held(ours), held(theirs)
    assert len(here) > FPS
    shared = [dts for dts in here if dts in there]
    assert shared and all(here[dts] == there[dts] for dts in shared)
    times = sorted(here)
    assert {b - a for a, b in itertools.pairwise(times)} == {90_000 // FPS}


async def chain(network: Network) -> list[Node]:
    """n0 publishes, n1 takes it from there, n2 from n1."""
    nodes = network.add(3)
    network.cut.add(("n2", "n0"))
    network.nursery.start_soon(nodes[0].publish)
    await trio.sleep(3)
    for node in nodes[1:]:
        assert node.watch() is not None
        await trio.sleep(4)
    assert [stream.depth for stream in nodes[2].replication.carried()] == [2]
    assert nodes[2].replication.carried()[0].parent == nodes[1].id
    return nodes


def test_a_name_that_nobody_has_costs_nothing() -> None:
    async def run(network: Network) -> None:
        [node] = network.add(1)
        await trio.sleep(1)
        assert node.watch() is None and len(node.streams) == 0

    on_network(run)


def test_a_chain_is_the_same_all_along() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        for edge in nodes[1:]:
            assert_same(nodes[0], edge)

    on_network(run)


def test_many_who_ask_cause_one_fetch() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        for _ in range(100):
            assert edge.watch() is not None
        await trio.sleep(2)
        assert edge.opened == 1
        assert_same(origin, edge)

    on_network(run)


def test_a_parent_that_dies_is_replaced_without_a_hole() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        before = nodes[2].watch()
        network.cut.clear()
        nodes[1].hang_up()
        await trio.sleep(3)
        assert nodes[2].watch() is before
        [carried] = nodes[2].replication.carried()
        assert carried.depth == 1
        assert_same(nodes[0], nodes[2])

    on_network(run)


def test_a_parent_that_falls_silent_is_left() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        network.cut.clear()
        for end in nodes[1].ends:
            end.silent = True
        await trio.sleep(DEAD_S + 1)
        assert [stream.depth for stream in nodes[2].replication.carried()] == [1]
        assert_same(nodes[0], nodes[2])

    on_network(run)


def test_a_parent_that_alters_media_is_left_for_good() -> None:
    async def run(network: Network) -> None:
        nodes = network.add(3)
        network.cut.add(("n2", "n0"))
        nodes[1].alter = lambda data: data.replace(bytes(400), bytes(399) + b"\x01", 1)
        network.nursery.start_soon(nodes[0].publish)
        await trio.sleep(3)
        nodes[1].watch()
        await trio.sleep(3)
        nodes[2].watch()
        await trio.sleep(2)
        network.cut.clear()
        await trio.sleep(3)
        assert [stream.depth for stream in nodes[2].replication.carried()] == [1]
        assert_same(nodes[0], nodes[2])

    on_network(run)


def test_the_origins_death_ends_it_everywhere() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        nodes[0].hang_up()
        await trio.sleep(LOST_S)
        for edge in nodes[1:]:
            assert edge.watch().state is StreamState.LINGERING, "another publisher may go on with it"
        await trio.sleep(LOST_S + RegistrySettings().linger_s)
        for edge in nodes[1:]:
            stream = edge.streams.get(STREAM)
            assert stream is None or stream.state is StreamState.ENDED
            assert edge.replication.carried() == []

    on_network(run)


def test_what_nobody_watches_is_let_go_from_the_leaves_up() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        await trio.sleep(IDLE_S)
        assert nodes[2].replication.carried() == []
        await trio.sleep(IDLE_S + 3)
        assert nodes[1].replication.carried() == []
        assert nodes[1].watch() is not None  # and may come back
        await trio.sleep(3)
        assert_same(nodes[0], nodes[1])

    on_network(run)


def test_a_publisher_takes_the_name_over() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(3)
        edge.watch()
        await trio.sleep(3)
        first = edge.replication.carried()[0]
        network.nursery.start_soon(edge.publish)
        await trio.sleep(1)
        [own] = edge.replication.carried()
        assert own.depth == 0 and own.epoch_unix_us > first.epoch_unix_us

    on_network(run)


def test_a_streamer_who_comes_back_elsewhere_is_followed() -> None:
    async def run(network: Network) -> None:
        first, second, edge = network.add(3)
        network.nursery.start_soon(first.publish)
        await trio.sleep(3)
        edge.watch()
        await trio.sleep(3)
        network.nursery.start_soon(second.publish)
        await trio.sleep(2)
        edge.watch()
        await trio.sleep(3)
        [carried] = edge.replication.carried()
        assert carried.origin == second.id
        assert_same(second, edge)

    on_network(run)


@pytest.mark.parametrize("name", [b"", b"nobody", b"\xff\x00", b"x" * 1000])
def test_a_stranger_to_the_stream_is_refused_with_a_sentence(name: bytes) -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(1)
        end = await edge.open_stream(origin.id, "media", name)
        assert b"does not have that stream" in await end.receive_some()
        assert await end.receive_some() == b""

    on_network(run)


def test_one_member_gets_so_many_streams() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(1)
        for number in range(SUBSCRIBERS_OF_PEER_MAX):
            end = await edge.open_stream(origin.id, "media", STREAM.encode())
            if number % 2:  # the others never say what they want
                await end.send_all(encode(Want()))
        await trio.sleep(1)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        assert b"streams already" in await end.receive_some()
        await trio.sleep(WANT_S)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        assert b"already" not in await end.receive_some()

    on_network(run)


@pytest.mark.parametrize(
    "said", [b"\x00\x10\x00\x00\x01", b"\x00\x00\x00\x02\x00\xc1", b"\x00\x00\x00\x01\x07"]
)
def test_an_edge_that_talks_nonsense_is_let_go(said: bytes) -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(1)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        await end.receive_some()
        await end.send_all(said)
        assert await end.receive_some() == b""

    on_network(run)
