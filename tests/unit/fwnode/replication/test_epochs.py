"""A streamer who comes back on another node, and two who publish one name, as viewers see it."""

import pytest
import trio
from lines import STREAM, Network, Node, on_network
from viewing import UNIX_US, Streamer, Viewer, assert_one_stream

from media.track.stream import StreamState
from mesh.routing.owners import SETTLE_S, YIELD_S

SETTLED_S = 8.0  # beyond all that goes on, and a window of playlists


async def watched(network: Network, count: int) -> tuple[list[Node], Streamer, list[Viewer]]:
    """n0 publishes, everybody watches."""
    nodes = network.add(count)
    streamer = Streamer(nodes[0])
    await trio.sleep(4)
    viewers = [Viewer(node) for node in nodes]
    await trio.sleep(4)
    return nodes, streamer, viewers


async def settle(viewers: list[Viewer]) -> None:
    """All have the newest, and for long enough."""
    await trio.sleep(SETTLED_S)
    newest = {viewer.newest for viewer in viewers}
    assert len(newest) == 1, newest


@pytest.mark.parametrize("away_s", [0.1, 1.0, 3.0, 7.0])
@pytest.mark.parametrize("had_a_copy", [True, False])
def test_the_origin_is_killed(away_s: float, had_a_copy: bool) -> None:
    async def run(network: Network) -> None:
        nodes = network.add(3)
        streamer = Streamer(nodes[0])
        await trio.sleep(3.77)
        viewers = [Viewer(node) for node in (nodes[1:] if had_a_copy else nodes[2:])]
        await trio.sleep(5.41)
        nodes[0].kill()
        streamer.vanish()
        await trio.sleep(away_s)
        Streamer(nodes[1])
        if not had_a_copy:
            viewers.append(Viewer(nodes[1]))
        await settle(viewers)
        assert_one_stream(*viewers)
        assert [len(viewer.gaps) for viewer in viewers[:1]] == [1]
        assert viewers[0].longest_pause_s < away_s + 2.5
        assert nodes[2].copy.publication.origin == nodes[1].id

    on_network(run)


@pytest.mark.parametrize("away_s", [0.0, 0.3, 3.0, 8.0])
def test_the_streamer_leaves_one_node_and_comes_to_another(away_s: float) -> None:
    async def run(network: Network) -> None:
        nodes, streamer, viewers = await watched(network, 3)
        streamer.leave()
        await trio.sleep(away_s)
        Streamer(nodes[1])
        await settle(viewers)
        assert_one_stream(*viewers)
        assert not viewers[0].gaps and not viewers[2].gaps, "all of it has come"
        assert {viewer.breaks for viewer in viewers} == {2}

    on_network(run)


def test_the_streamer_merely_moved() -> None:
    """The old connection is still there: it is told why it ends."""

    async def run(network: Network) -> None:
        nodes, streamer, viewers = await watched(network, 3)
        Streamer(nodes[1])
        await settle(viewers)
        assert streamer.stopped == "this stream is published on node n1 now"
        assert_one_stream(*viewers)
        assert not viewers[0].gaps and not viewers[2].gaps
        assert viewers[0].longest_pause_s < 1.5
        assert nodes[0].copy.publication.origin == nodes[1].id, "the old origin is an edge"

    on_network(run)


def test_to_a_node_that_had_nothing_of_it_and_back() -> None:
    async def run(network: Network) -> None:
        nodes = network.add(3)
        first = Streamer(nodes[0])
        await trio.sleep(3)
        viewers = [Viewer(nodes[0]), Viewer(nodes[2])]
        await trio.sleep(3.3)
        first.leave()
        await trio.sleep(1)
        second = Streamer(nodes[1])
        viewers.append(Viewer(nodes[1]))
        await trio.sleep(5.5)
        second.leave()
        await trio.sleep(1)
        Streamer(nodes[0])
        await settle(viewers)
        assert_one_stream(*viewers)
        assert {viewer.breaks for viewer in viewers[:2]} == {3}

    on_network(run)


def test_who_comes_back_to_the_same_node_stays_in_the_epoch() -> None:
    async def run(network: Network) -> None:
        nodes, streamer, viewers = await watched(network, 2)
        before = nodes[1].copy.publication
        streamer.leave()
        await trio.sleep(5)
        Streamer(nodes[0])
        await settle(viewers)
        assert nodes[1].copy.publication == before
        assert_one_stream(*viewers)

    on_network(run)


def test_nobody_comes_back() -> None:
    async def run(network: Network) -> None:
        nodes, streamer, viewers = await watched(network, 3)
        nodes[0].kill()
        streamer.vanish()
        await trio.sleep(9)
        assert not viewers[1].ended
        stream = nodes[1].streams.get(STREAM)
        assert stream is not None and stream.state is StreamState.LINGERING
        assert [carried.resume is not None for carried in nodes[1].replication.carried()] == [True]
        await trio.sleep(6)
        assert viewers[1].ended and viewers[2].ended
        assert nodes[1].replication.carried() == []

    on_network(run)


def test_edges_had_different_amounts() -> None:
    """One lost its line a while before: what it has nothing of is a gap there, under everybody's numbers."""

    async def run(network: Network) -> None:
        nodes, streamer, viewers = await watched(network, 3)
        line = network.line(nodes[0], nodes[2])
        line.fall_silent()
        network.cut |= {("n2", "n1"), ("n1", "n2")}
        await trio.sleep(2.7)
        nodes[0].kill()
        streamer.vanish()
        await trio.sleep(1)
        network.cut.clear()
        Streamer(nodes[1])
        await settle(viewers[1:])
        assert_one_stream(*viewers[1:])
        assert len(viewers[2].gaps) > len(viewers[1].gaps) == 1

    on_network(run)


def test_a_chain_follows() -> None:
    async def run(network: Network) -> None:
        nodes = network.add(4)
        network.cut |= {("n3", "n0"), ("n3", "n1")}
        streamer = Streamer(nodes[0])
        await trio.sleep(3)
        viewers = [Viewer(nodes[1]), Viewer(nodes[2])]
        await trio.sleep(3)
        viewers.append(Viewer(nodes[3]))
        await trio.sleep(3.2)
        assert nodes[3].parent == "n2"
        nodes[0].kill()
        streamer.vanish()
        await trio.sleep(1)
        Streamer(nodes[1])
        await settle(viewers)
        assert_one_stream(*viewers)
        assert nodes[3].parent == "n2"

    on_network(run)


def test_the_old_origin_cannot_be_asked() -> None:
    """The new one cannot reach it, but edges can: they say how far they are, and take no more from it."""

    async def run(network: Network) -> None:
        nodes, streamer, viewers = await watched(network, 3)
        network.cut |= {("n1", "n0"), ("n0", "n1")}
        Streamer(nodes[1])
        await settle(viewers[1:])
        assert streamer.stopped
        assert_one_stream(*viewers[1:])

    on_network(run)


def test_two_publishers_who_did_not_know_of_each_other() -> None:
    """The later one wins. Those who watched the other go on, with its numbers."""

    async def run(network: Network) -> None:
        nodes = network.add(3)
        network.unheard |= {("n0", "n1"), ("n1", "n0")}
        first = Streamer(nodes[0])
        await trio.sleep(1)
        second = Streamer(nodes[1], unix_us=UNIX_US + 1_000_000)
        viewers = [Viewer(nodes[0]), Viewer(nodes[1])]
        await trio.sleep(2)
        network.unheard.clear()
        await trio.sleep(1)
        assert "n1" in first.stopped and not second.stopped
        await trio.sleep(SETTLED_S)
        assert not viewers[0].ended and not viewers[1].ended
        assert [len(viewer.streams) for viewer in viewers] == [1, 1]
        assert viewers[0].newest == viewers[1].newest
        assert not any("other bytes" in fault for fault in viewers[0].faults + viewers[1].faults)

    on_network(run)


def test_the_winner_has_lower_numbers_than_viewers_of_the_loser() -> None:
    """They cannot go back: their stream ends, and who asks again is given the other."""

    async def run(network: Network) -> None:
        nodes = network.add(2)
        network.unheard |= {("n0", "n1"), ("n1", "n0")}
        Streamer(nodes[0], unix_us=UNIX_US + 100_000_000)
        await trio.sleep(1)
        Streamer(nodes[1])
        viewer = Viewer(nodes[0])
        await trio.sleep(2)
        network.unheard.clear()
        await trio.sleep(SETTLED_S)
        assert viewer.ended and len(viewer.streams) == 2
        assert nodes[0].watch().state is StreamState.LIVE

    on_network(run)


def test_the_loser_refuses_publishers_for_a_while() -> None:
    async def run(network: Network) -> None:
        nodes, streamer, _ = await watched(network, 2)
        winner = Streamer(nodes[1])
        await trio.sleep(1)
        assert streamer.stopped

        def refused() -> str:
            return str(nodes[0].gate.refusal(STREAM, trio.current_time()))

        assert "another node" in refused()
        assert nodes[0].gate.refusal("other", trio.current_time()) == ""
        await trio.sleep(SETTLE_S)
        assert "another node" in refused()
        winner.leave()
        await trio.sleep(1)
        assert refused() == "", "the streamer may come back"

    on_network(run)


def test_it_does_so_no_longer_than_it_must() -> None:
    async def run(network: Network) -> None:
        nodes, _, _ = await watched(network, 2)
        Streamer(nodes[1])
        await trio.sleep(1)
        assert nodes[0].gate.refusal(STREAM, trio.current_time())
        await trio.sleep(YIELD_S)
        assert nodes[0].gate.refusal(STREAM, trio.current_time()) == ""

    on_network(run)


def test_a_publisher_who_waits_begins_when_the_node_leaves_the_network() -> None:
    async def run(network: Network) -> None:
        nodes, _, _ = await watched(network, 2)
        network.line(nodes[0], nodes[1]).fall_silent()
        Streamer(nodes[1])
        await trio.sleep(0.2)
        nodes[1].scope.cancel()
        await trio.sleep(2)
        stream = nodes[1].streams.get(STREAM)
        assert stream is not None and stream.state is StreamState.LIVE and not stream.replicated
        assert nodes[1].gate.refusal is None

    on_network(run)
