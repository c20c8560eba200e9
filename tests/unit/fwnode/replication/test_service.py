"""Nodes of one network in one process, on virtual time: who fetches what from whom, what when it fails."""

import itertools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from fwnode.peering.load import carried_streams
from fwnode.promise.holds import EVERYBODY, Holds
from fwnode.promise.holds import Role as HoldRole
from fwnode.promise.promise import Kept, Promise
from fwnode.promise.terms import Terms
from fwnode.replication.answer import AnswerReader
from fwnode.replication.copy import IDLE_S, LOST_S
from fwnode.replication.fetching.client import DEAD_S
from fwnode.replication.giving import service as giving_service
from fwnode.replication.giving.service import (
    SEND_S,
    SERVICE,
    SUBSCRIBERS_OF_PEER_MAX,
    WAITING_OF_PEER_MAX,
    WANT_S,
    WANTS_PAUSE_S,
)
from fwnode.replication.service import Replication
from media.bitstream.duration import frame_duration
from media.replicate.wire import Drop, Want, encode
from media.track.model import Codec, Frame, Packet, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, Stream, StreamState
from mesh.directory.facts import Load, Reports, Who, payload
from mesh.directory.record import Kind
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

    def __init__(
        self,
        stream: Any,
        owner: "Node",
        peer: "Node",
        argument: bytes,
        alter: Callable[[bytes], bytes],
    ) -> None:
        self.owner = owner
        self.peer = SimpleNamespace(node_id=peer.id, name=peer.name)
        self.argument = argument
        self.silent = False
        self._stream = stream
        self._alter = alter

    async def send_all(self, data: bytes) -> None:
        self.owner.bytes_out += len(data)
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
        self.bytes_out = 0
        self.reports = Reports([])
        self.record: Any = None
        self.alter: Callable[[bytes], bytes] = lambda data: data
        self.ends: list[End] = []
        self.service_ends: list[End] = []  # of streams that others opened
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
            fact=network.fact,
            roll=SimpleNamespace(roles_of=lambda node, claim: frozenset(Role)),
            name_of=lambda node: network.nodes[node].name,
        )
        parts = SimpleNamespace(
            streams=self.streams,
            reactor=SimpleNamespace(now=trio.current_time, bytes_out=0),
            network=SimpleNamespace(node_key=self.key),
            config=SimpleNamespace(hls=SimpleNamespace(window_s=6.0)),
            gate=SimpleNamespace(refusal=None),
            promise=Promise(Terms(round(network.uplink_mbps * 1e6)), (), Kept()),
            published_elsewhere=None,
            draining=False,
            bytes_out=0,
            replication=None,
        )
        self.parts = parts
        self.replication = Replication(parts, self)  # type: ignore[arg-type]  # as much of them as it asks of

    def tell_all(self, reports: Reports) -> None:
        self.reports = reports
        self.record = SimpleNamespace(payload=payload(reports))

    def serve(self, name: str, service: Callable[[End], Awaitable[None]]) -> None:
        self.services[name] = service

    async def open_stream(self, peer: NodeId, name: str, argument: bytes = b"") -> End:
        other = self.network.nodes[peer]
        if not other.up or (self.name, other.name) in self.network.cut:
            raise Unavailable("no way", 1.0)
        ours, theirs = trio.testing.memory_stream_pair()
        here = End(ours, self, other, argument, lambda data: data)
        there = End(theirs, other, self, argument, other.alter)
        self.opened += name == SERVICE
        other.ends.append(here)
        other.service_ends.append(there)
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
        self.uplink_mbps = 0.0  # of the nodes that are added
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

    def fact(self, node: NodeId, shape: type) -> Any:
        if shape is Load:
            uplink = self.nodes[node].replication.uplink()
            return Load(uplink.promised_bps, uplink.budget_bps, 0.0, 0, 0, 0)
        return SimpleNamespace(claim=b"", nat="open") if shape is Who else None

    def record(self, owner: NodeId, kind: int) -> Any:
        if kind == Kind.REPORTS:
            return self.nodes[owner].record
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
        for _ in range(SUBSCRIBERS_OF_PEER_MAX):
            first = await edge.open_stream(origin.id, "media", STREAM.encode())
            await first.send_all(encode(Want()))
            await trio.sleep(0.1)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        assert b"gives you" in await end.receive_some()
        first.close()
        await trio.sleep(1)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        await end.send_all(encode(Want()))
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
        await end.send_all(said)
        assert await end.receive_some() == b""

    on_network(run)


# --- the uplink's budget, and nodes that stop


def parents(nodes: list[Node]) -> list[str]:
    """Whom each takes the stream from, by name; "" from nobody."""
    places = [node.replication.place_of(STREAM) for node in nodes]
    return [place.parent_name if place is not None else "" for place in places]


def set_budget(node: Node, streams: float) -> None:
    """An uplink with room for so many of the stream."""
    stream = node.streams.get(STREAM)
    assert stream is not None and stream.bitrate_bps
    budget_bps = round(streams * stream.bitrate_bps * 1.3)  # with what is said beside it
    node.parts.promise.terms = Terms(budget_bps)
    node.replication._giving.uplink.budget_bps = budget_bps


def test_with_room_for_one_the_second_edge_is_fed_by_the_first() -> None:
    async def run(network: Network) -> None:
        origin, *edges = network.add(3)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(4)
        set_budget(origin, 1)
        for edge in edges:
            edge.watch()
            await trio.sleep(4)
        assert sorted(parents(edges)) == ["n0", "n1"]
        assert origin.replication.edges == 1
        uplink = origin.replication.uplink()
        assert 0 < uplink.promised_bps <= uplink.budget_bps
        await trio.sleep(20)
        assert origin.replication.counters.let_go == 0
        for edge in edges:
            assert_same(origin, edge)

    on_network(run)


def test_two_who_come_at_once_are_sorted_out() -> None:
    """Neither has anybody else when it comes, so both are fed; then the newer one goes below the other."""

    async def run(network: Network) -> None:
        origin, *edges = network.add(3)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(4)
        set_budget(origin, 1)
        for edge in edges:
            edge.watch()
        await trio.sleep(3)
        assert parents(edges) == ["n0", "n0"]
        await trio.sleep(20)
        assert sorted(parents(edges)) in (["n0", "n1"], ["n0", "n2"])
        assert origin.replication.counters.let_go == 1
        for edge in edges:
            assert_same(origin, edge)

    on_network(run)


def test_who_has_nobody_else_is_fed_whatever_the_budget() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(4)
        set_budget(origin, 0.5)
        edge.watch()
        for _ in range(4):
            await trio.sleep(15)
            edge.watch()
            assert parents([edge]) == ["n0"]
        [view] = origin.replication.place_of(STREAM).edges  # type: ignore[union-attr]  # it publishes
        assert view.last_resort
        assert_same(origin, edge)
        assert origin.replication.counters.let_go <= 1  # it came back, and is kept for a minute

    on_network(run)


def test_a_parent_without_room_refuses_with_a_sentence() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(4)
        set_budget(origin, 0.5)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        await end.send_all(encode(Want()))
        assert b"uplink is full" in await end.receive_some()
        assert await end.receive_some() == b""
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        await end.send_all(encode(Want(last_resort=True)))
        assert b"full" not in await end.receive_some()
        await trio.sleep(1)
        assert origin.replication.edges == 1
        assert origin.replication.counters.refused == 1

    on_network(run)


def test_a_node_that_stops_sends_its_edges_elsewhere() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        network.cut.clear()
        assert nodes[1].replication.edges == 1
        nodes[1].parts.draining = True
        nodes[1].replication.drain()
        assert nodes[1].replication.carried() == []
        await trio.sleep(0.5)
        assert parents(nodes[2:]) == ["n0"]
        assert nodes[1].replication.edges == 0
        assert_same(nodes[0], nodes[2])
        end = await nodes[2].open_stream(nodes[1].id, "media", STREAM.encode())
        assert b"about to stop" in await end.receive_some()

    on_network(run)


def test_who_takes_what_is_published_on_a_node_that_stops_is_fed_to_its_end() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(3)
        edge.watch()
        await trio.sleep(3)
        origin.parts.draining = True
        origin.replication.drain()
        await trio.sleep(3)
        assert parents([edge]) == ["n0"] and origin.replication.edges == 1
        assert_same(origin, edge)

    on_network(run)


# --- lies


def test_a_liar_is_convicted_before_everybody() -> None:
    async def run(network: Network) -> None:
        nodes = network.add(4)
        origin, liar, victim, other = nodes
        network.cut |= {("n2", "n0"), ("n3", "n0"), ("n3", "n2")}
        network.nursery.start_soon(origin.publish)
        await trio.sleep(3)
        liar.watch()
        await trio.sleep(2)
        copy = liar.streams.get(STREAM)
        assert copy is not None
        keep = copy.ring.append

        def append(packet: Packet) -> None:
            keep(msgspec.structs.replace(packet, data=packet.data[:-1] + b"\x01"))

        copy.ring.append = append  # type: ignore[method-assign]  # what it holds is not what it was given
        victim.watch()
        await trio.sleep(4)
        assert victim.replication.liars() == [liar.id.hex()]
        assert victim.replication.counters.altered == 1
        assert [report.liar for report in victim.reports.reports] == [liar.id]
        await trio.sleep(2)
        for node in (origin, other):
            assert node.replication.liars() == [liar.id.hex()]
            assert node.replication.counters.reports_believed == 1
        assert liar.replication.liars() == []
        before = other.opened
        other.watch()  # only the liar could be reached
        await trio.sleep(2)
        assert other.opened == before

    on_network(run)


# --- edges that are slow, silent or many


class NeverReads(End):
    """Its transport takes nothing in."""

    async def send_all(self, data: bytes) -> None:
        await trio.sleep_forever()


def test_an_edge_that_never_reads_is_let_go() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        for argument in (STREAM.encode(), b"nobody"):
            ours, theirs = trio.testing.memory_stream_pair()
            with trio.fail_after(SEND_S + 1):
                async with trio.open_nursery() as nursery:
                    end = NeverReads(theirs, origin, edge, argument, lambda data: data)
                    nursery.start_soon(origin.services[SERVICE], end)
                    await ours.send_all(encode(Want()))
        assert origin.replication.edges == 0
        assert not origin.replication._giving._subscribers

    on_network(run)


def test_an_edge_with_many_viewers_may_open_all_its_streams_at_once() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        ends = [
            await edge.open_stream(origin.id, "media", STREAM.encode())
            for _ in range(SUBSCRIBERS_OF_PEER_MAX)
        ]
        for end in ends:
            await end.send_all(encode(Want()))
        for end in ends:
            reader = AnswerReader()
            while reader.answer is None:
                reader.feed(await end.receive_some())
            assert not reader.answer.refusal
        assert origin.replication.edges == SUBSCRIBERS_OF_PEER_MAX
        one_more = await edge.open_stream(origin.id, "media", STREAM.encode())
        assert b"gives you" in await one_more.receive_some()

    on_network(run)


def test_who_never_says_what_it_wants_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_service, "CROWDED_AT", WAITING_OF_PEER_MAX)

    async def run(network: Network) -> None:
        origin, edge, other = network.add(3)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        for _ in range(WAITING_OF_PEER_MAX):
            await edge.open_stream(origin.id, "media", STREAM.encode())
        await trio.sleep(1)
        for _ in range(100):
            end = await edge.open_stream(origin.id, "media", STREAM.encode())
            assert b"have not said" in await end.receive_some()
        other.watch()
        await trio.sleep(1)
        assert parents([other]) == ["n0"]
        await trio.sleep(WANT_S)
        assert not origin.replication._giving._waiting

    on_network(run)


def test_an_edge_that_changes_its_mind_all_the_time_is_not_followed_faster() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        await end.send_all(encode(Want()) * 3)
        await end.receive_some()
        reads = 0
        there = origin.service_ends[-1]
        receive = there.receive_some

        async def counted(n: int = 65536) -> bytes:
            nonlocal reads
            reads += 1
            return await receive(n)

        there.receive_some = counted  # type: ignore[method-assign]  # counts
        began = trio.current_time()
        for _ in range(1000):
            await end.send_all(encode(Want([1])))
            await trio.sleep(0.001)
        assert reads <= (trio.current_time() - began) / WANTS_PAUSE_S + 2
        assert origin.replication.edges == 1

    on_network(run)


def test_a_drop_right_behind_the_want_is_heeded() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        end = await edge.open_stream(origin.id, "media", STREAM.encode())
        await end.send_all(encode(Want()) + encode(Drop()))
        assert await end.receive_some() == b""
        assert origin.replication.edges == 0

    on_network(run)


def test_the_tree_of_the_network() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        [tree] = nodes[1].replication.tree().trees
        assert tree.current and tree.origin_name == "n0" and tree.stream == STREAM
        assert [(node.name, node.depth) for node in tree.nodes] == [("n0", 0), ("n1", 1), ("n2", 2)]
        assert [node.parent for node in tree.nodes] == ["", nodes[0].id.hex(), nodes[1].id.hex()]
        place = nodes[1].replication.place_of(STREAM)
        assert place is not None and place.copy and place.verified_parts > 4
        assert [edge.name for edge in place.edges] == ["n2"]

    on_network(run)


def test_edges_are_drained_from_a_copy_and_come_back() -> None:
    async def run(network: Network) -> None:
        nodes = await chain(network)
        assert parents(nodes[1:]) == ["n0", "n1"]
        network.cut.clear()
        held = nodes[1].parts.promise
        held.hold(Holds().drained([HoldRole.EDGES]))
        nodes[1].replication.hold(closed=True)
        assert nodes[1].replication.carried() == []
        await trio.sleep(5)
        assert parents(nodes[1:]) == ["n0", "n0"] and nodes[1].replication.edges == 0
        held.hold(Holds())
        nodes[1].replication.hold(closed=False)
        assert [carried.name for carried in nodes[1].replication.carried()] == [STREAM]

    on_network(run)


def test_what_is_published_on_a_drained_node_is_given_and_on_a_paused_one_not() -> None:
    async def run(network: Network) -> None:
        origin, first, second = network.add(3)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        origin.parts.promise.hold(Holds().drained(EVERYBODY))
        origin.replication.hold(closed=True)
        assert [carried.name for carried in origin.replication.carried()] == [STREAM]
        first.watch()
        await trio.sleep(4)
        assert parents([first]) == ["n0"]
        origin.parts.promise.hold(Holds().paused())
        end = await second.open_stream(origin.id, "media", STREAM.encode())
        await end.send_all(encode(Want()))
        assert b"lets nobody new in" in await end.receive_some()
        assert parents([first]) == ["n0"], "who is in stays"

    on_network(run)


def test_a_stream_that_the_owner_does_not_serve_is_not_fetched() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish)
        await trio.sleep(2)
        edge.parts.promise.terms = Terms(streams=("news*",))
        edge.watch()
        await trio.sleep(4)
        assert origin.replication.edges == 0

    on_network(run)
