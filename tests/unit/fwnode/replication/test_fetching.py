"""Better parents, silent and slow ones, depth, tracks, the first picture: nodes on virtual time."""

from collections.abc import Callable

import pytest
import trio
from lines import BITRATE_BPS, FPS, LARGE, SMALL, SOUND, Network, Node, Watcher, assert_whole, on_network

from fwnode.replication.fetching.change import LOOK_S, ROUNDS
from fwnode.replication.fetching.client import DEAD_S, QUIET_S
from fwnode.replication.fetching.pace import PATIENCE_MAX_S
from media.track.model import Hollow
from media.track.stream import Stream
from mesh.routing.costs import SETTLE_S

STALL_MAX_S = 1.0
SCALE = 20  # 2.4 Mb/s
SWITCH_S = SETTLE_S + (ROUNDS + 2) * LOOK_S


async def triangle(network: Network) -> list[Node]:
    """n0 publishes; n1 and n2 take it from there, n3 from n1."""
    nodes = network.add(4)
    network.nursery.start_soon(nodes[0].publish)
    network.cut |= {("n3", "n0"), ("n3", "n2"), ("n2", "n1"), ("n1", "n2")}
    await trio.sleep(2)
    for node in nodes[1:]:
        node.watch().viewer_came("hls")
        await trio.sleep(3)
    assert [node.parent for node in nodes[1:]] == ["n0", "n0", "n1"]
    network.cut -= {("n3", "n0"), ("n3", "n2")}
    return nodes


@pytest.mark.parametrize("hold", [True, False])
def test_a_silent_parent_costs_no_second(hold: bool) -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        watcher = Watcher(nodes[3], nodes[0])
        for other in nodes[2:] if hold else nodes[3:]:
            network.line(nodes[1], other).fall_silent()
        await trio.sleep(DEAD_S)
        assert nodes[3].parent in ("n0", "n2")
        assert watcher.longest_pause_s < STALL_MAX_S
        assert nodes[3].taken_from() == [nodes[3].parent]
        assert_whole(nodes[0], nodes[3])

    on_network(run)


def test_the_one_nearest_to_the_failure_repairs_it() -> None:
    """Those below it hear that it is there, or wait for it: they do not all run to the origin."""

    async def run(network: Network) -> None:
        nodes = await triangle(network)
        network.cut -= {("n2", "n1"), ("n1", "n2")}
        opened = len(nodes[3].opened)
        watcher = Watcher(nodes[3], nodes[0])
        network.line(nodes[0], nodes[1]).fall_silent()
        await trio.sleep(2 * DEAD_S)
        assert watcher.longest_pause_s < 2 * STALL_MAX_S
        assert len(nodes[3].opened) - opened <= 2
        for node in nodes[1:]:
            assert_whole(nodes[0], node)

    on_network(run)


def test_a_short_pause_changes_nothing() -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        network.line(nodes[1], nodes[3]).fall_silent()
        network.line(nodes[0], nodes[3]).fall_silent()
        network.line(nodes[2], nodes[3]).fall_silent()
        await trio.sleep(PATIENCE_MAX_S)
        network.line(nodes[1], nodes[3]).open.set()
        await trio.sleep(1)
        assert nodes[3].parent == "n1"
        assert nodes[3].taken_from() == ["n1"]
        assert_whole(nodes[0], nodes[3])

    on_network(run)


def test_a_better_parent_is_found_and_taken_without_a_pause() -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        nodes[3].measures(nodes[1], 0.2)
        for better in (nodes[0], nodes[2]):
            nodes[3].measures(better, 0.01)
        watcher = Watcher(nodes[3], nodes[0])
        await trio.sleep(SWITCH_S)
        assert nodes[3].parent in ("n0", "n2")
        assert nodes[3].taken_from() == [nodes[3].parent]
        assert watcher.longest_pause_s < 3 / FPS
        assert_whole(nodes[0], nodes[3])
        changes = nodes[3].copy.changes
        await trio.sleep(2 * SWITCH_S)
        assert nodes[3].copy.changes == changes

    on_network(run)


def test_a_parent_that_would_be_better_but_is_slow_is_not_taken() -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        network.cut.add(("n3", "n0"))
        nodes[3].measures(nodes[1], 0.2)
        nodes[3].measures(nodes[2], 0.01)
        network.line(nodes[2], nodes[3]).bps = BITRATE_BPS / 10
        watcher = Watcher(nodes[3], nodes[0])
        await trio.sleep(2 * SWITCH_S)
        assert [name for name, _ in nodes[3].opened].count("n2") >= 1
        assert nodes[3].parent == "n1"
        assert watcher.longest_pause_s < 3 / FPS

    on_network(run)


def test_a_slow_parent_is_left_before_viewers_have_seen_all() -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        watcher = Watcher(nodes[3], nodes[0])
        network.line(nodes[1], nodes[3]).bps = BITRATE_BPS * 0.6
        await trio.sleep(8)
        assert nodes[3].parent in ("n0", "n2")
        assert watcher.most_behind_s < 2.5
        assert nodes[3].copy.is_weak(nodes[1].id)
        network.line(nodes[1], nodes[3]).bps = 0
        assert_whole(nodes[0], nodes[3])

    on_network(run)


def test_a_slow_encoder_is_no_slow_parent() -> None:
    """Media time runs at half the speed, everywhere alike."""

    async def run(network: Network) -> None:
        nodes = await triangle(network)
        opened = [len(node.opened) for node in nodes]
        for _ in range(200):
            nodes[0].paused = not nodes[0].paused
            await trio.sleep(0.1)
        assert [len(node.opened) for node in nodes] == opened

    on_network(run)


def test_a_quiet_stream_is_not_looked_for_elsewhere() -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        opened = sum(len(node.opened) for node in nodes)
        nodes[0].paused = True
        await trio.sleep(60)
        assert [node.parent for node in nodes[1:]] == ["n0", "n0", "n1"]
        assert sum(len(node.opened) for node in nodes) - opened <= 6  # n1 and n2 have nobody else to ask
        nodes[0].paused = False
        await trio.sleep(2)
        assert_whole(nodes[0], nodes[3])

    on_network(run)


def test_a_parent_that_says_that_it_is_there_and_sends_nothing_is_left() -> None:
    async def run(network: Network) -> None:
        nodes = await triangle(network)
        network.line(nodes[1], nodes[3]).alter = lambda data: data if len(data) < 64 else b""
        watcher = Watcher(nodes[3], nodes[0])
        await trio.sleep(2 * QUIET_S)
        assert nodes[3].parent in ("n0", "n2")
        assert watcher.longest_pause_s < QUIET_S + STALL_MAX_S
        assert_whole(nodes[0], nodes[3])

    on_network(run)


def test_children_are_told_where_their_parent_is() -> None:
    async def run(network: Network) -> None:
        nodes = network.add(4)
        network.nursery.start_soon(nodes[0].publish)
        network.cut |= {("n2", "n0"), ("n3", "n0"), ("n3", "n1")}
        await trio.sleep(2)
        for node in nodes[1:]:
            node.watch()
            await trio.sleep(2)
        assert [node.copy.depth for node in nodes[1:]] == [1, 2, 3]
        network.cut.clear()
        network.cut.add(("n3", "n0"))
        network.line(nodes[1], nodes[2]).fall_silent()
        await trio.sleep(1.5)
        assert nodes[2].parent == "n0"
        assert [node.copy.depth for node in nodes[1:]] == [1, 1, 2]
        assert nodes[3].parent == "n2"

    on_network(run)


def packets_of(node: Node, track_id: int) -> list[bool]:
    """For the newest packets of a track: were they fetched?"""
    ring = node.watch().ring
    held = [packet for packet in ring.slice(ring.first, ring.next) if packet.track.id == track_id]
    return [type(packet) is not Hollow for packet in held[-FPS // 2 :]]


def test_a_slow_line_without_another_brings_a_smaller_picture() -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish, (LARGE, SMALL, SOUND), SCALE)
        await trio.sleep(2)
        stream = edge.watch()
        stream.viewer_came("hls")
        await trio.sleep(4)
        line = network.line(origin, edge)
        line.bps = SCALE * BITRATE_BPS * 0.8  # of the larger picture alone
        for _ in range(20):
            stream.track_asked((LARGE, SOUND), trio.current_time())
            await trio.sleep(1)
        assert "slower" in edge.copy.lowered
        assert not any(packets_of(edge, LARGE.id))
        assert all(packets_of(edge, SMALL.id))
        assert all(packets_of(edge, SOUND.id))
        assert edge.copy.late_s < 0.5
        line.bps = 0
        for _ in range(40):
            stream.track_asked((LARGE, SOUND), trio.current_time())
            await trio.sleep(1)
        assert edge.copy.lowered == ""
        assert all(packets_of(edge, LARGE.id))

    on_network(run)


def test_only_what_is_watched_is_fetched_and_more_when_it_is() -> None:
    async def run(network: Network) -> None:
        origin, edge, below = network.add(3)
        network.cut.add(("n2", "n0"))
        network.nursery.start_soon(origin.publish, (LARGE, SMALL, SOUND))
        await trio.sleep(2)
        stream = edge.watch()
        stream.viewer_came("hls")
        for _ in range(20):
            stream.track_asked((SMALL, SOUND), trio.current_time())
            await trio.sleep(1)
        assert not any(packets_of(edge, LARGE.id))
        assert all(packets_of(edge, SMALL.id)) and all(packets_of(edge, SOUND.id))
        lower = below.watch()
        lower.viewer_came("ws")  # gets the leading picture, over two hops
        await trio.sleep(4)
        assert all(packets_of(edge, LARGE.id))
        assert all(packets_of(below, LARGE.id))
        await trio.sleep(20)
        assert all(packets_of(below, LARGE.id))
        assert not any(packets_of(below, SMALL.id))

    on_network(run)


async def time_until(condition: Callable[[], bool]) -> float:
    """How long it takes."""
    began = trio.current_time()
    for _ in range(3000):
        if condition():
            return trio.current_time() - began
        await trio.sleep(0.01)
    raise AssertionError("not within 30 s")


def newest_part(stream: Stream) -> int:
    return stream.ring.get(stream.ring.next - 1).part


@pytest.mark.parametrize("rtt_s", [0.001, 0.05])
def test_the_first_picture_of_a_slow_line_is_a_new_one(rtt_s: float) -> None:
    async def run(network: Network) -> None:
        origin, edge = network.add(2)
        network.nursery.start_soon(origin.publish, (LARGE,), SCALE)
        await trio.sleep(20)
        edge.measures(origin, rtt_s)
        network.line(origin, edge).bps = SCALE * BITRATE_BPS * 1.5
        stream = edge.watch()
        first_s = await time_until(lambda: stream.ring.next > 0 and newest_part(stream) > 0)
        live_s = await time_until(lambda: origin.watch().newest_us - stream.newest_us < 300_000)
        print(f"round trip {rtt_s} s: first part after {first_s:.2f} s, live {live_s:.2f} s later")
        assert first_s < 0.6

    on_network(run)
