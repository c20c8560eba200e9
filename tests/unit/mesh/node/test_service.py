"""Whole nodes on loopback, with real keys and claims: links, streams by name, stopping, starting again."""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mesh.directory.facts import CarriedStream, CarriedStreams, Load, Place
from mesh.errors import MeshError, Unavailable
from mesh.identity.membership import Membership
from mesh.link.channel.service import Channel
from mesh.link.client import dial
from mesh.link.connection.service import Credentials, LinkRefused, SecureConnection
from mesh.node.streams import service as streams

WAIT_S = 10.0  # real seconds, for what takes milliseconds on an idle machine


def credentials(name: str, loopback: Any) -> Credentials:
    """Of a member that runs no node."""
    node = loopback.make(name)
    node.sock.close()
    return node._credentials  # type: ignore[no-any-return]  # fixtures have no types


def sockets() -> set[str]:
    """Open sockets of this process."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            name = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of this very listing
        if name.startswith("socket:"):
            found.add(name)
    return found


async def echo(connection: SecureConnection) -> None:
    await connection.send_all(connection.argument + b" from " + connection.peer.name.encode())
    while data := await connection.receive_some():
        await connection.send_all(data)


async def answer(connection: SecureConnection, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await connection.receive_some()
        assert more, data
        data += more
    return data


async def test_nodes_find_each_other_through_one_seed_and_see_what_each_says(loopback: Any) -> None:
    async with loopback.linked("first", "second", "third") as nodes:
        for node in nodes:
            node.set_load(Load(1, 2, 0.5, 3, 4, 0))
            node.set_streams(CarriedStreams([CarriedStream(f"{node.core.settings.name}-cam", 1, 0, [])]))
            node.set_place(Place(1.0, 2.0, "configured", "DE"))

        def all_told(node: Any) -> bool:
            views = node.peers()
            return len(views) == 3 and all(view.load and view.streams and view.place for view in views)

        for node in nodes:
            await node.until(lambda node=node: all_told(node))
            own, *others = node.peers()
            assert own.node == node.node.hex() and own.state == "self"
            assert {view.state for view in others} == {"connected"}
            assert {view.path for view in others} == {"lan"}
            assert all(0 < view.rtt_ms < 1000 for view in others)
            assert {view.streams[0] for view in (own, *others)} == {"first-cam", "second-cam", "third-cam"}
            assert node.address in node.addresses()
        assert nodes[0].status().owner and not nodes[1].status().owner
        assert nodes[1].status().seeds == [nodes[0].address]
        assert (nodes[2].status().members, nodes[2].status().links) == (3, 2)


async def test_streams_are_opened_by_name_from_either_side(loopback: Any) -> None:
    async with loopback.linked("first", "second") as (first, second):
        for node in (first, second):
            node.serve("echo", echo)
        for one, other in ((first, second), (second, first)):
            await one.until(lambda one=one, other=other: one.knows(other))
            with trio.fail_after(WAIT_S):
                connection = await one.open_stream(other.node, "echo", b"live/cam")
                assert connection.peer.node_id == other.node
                greeting = b"live/cam from " + one.core.settings.name.encode()
                assert await answer(connection, len(greeting)) == greeting
                await connection.send_all(b"x" * 100_000)
                assert await answer(connection, 100_000) == b"x" * 100_000
                await connection.aclose()
        assert first.is_linked(second)


async def test_many_streams_run_beside_each_other(loopback: Any) -> None:
    async with loopback.linked("first", "second") as (first, second):
        first.serve("echo", echo)
        answers: list[bytes] = []

        async def ask(number: int) -> None:
            connection = await second.open_stream(first.node, "echo", b"%03d" % number)
            answers.append((await answer(connection, 15))[:3])
            await connection.aclose()

        with trio.fail_after(WAIT_S):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(ask, number)
        assert sorted(answers) == [b"%03d" % number for number in range(20)]


async def test_a_stream_to_nobody_is_unavailable(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINK_S", 0.05)
    async with loopback.linked("first", "second") as (first, _):
        with pytest.raises(Unavailable) as caught:
            await first.open_stream(bytes(range(32)), "echo")
        assert caught.value.retry_after_s > 0


async def test_a_service_that_fails_ends_its_own_stream_only(loopback: Any) -> None:
    async def broken(connection: SecureConnection) -> None:
        raise ValueError("a fault of ours")

    async with loopback.linked("first", "second") as (first, second):
        first.serve("broken", broken)
        first.serve("echo", echo)
        with trio.fail_after(WAIT_S):
            connection = await second.open_stream(first.node, "broken")
            with pytest.raises((trio.BrokenResourceError, AssertionError)):
                await answer(connection, 1)
            connection.close()
            await first.until(lambda: first.noted("fault"))
            assert len(first.noted("fault")) == 1
            connection = await second.open_stream(first.node, "echo", b"still")
            assert await answer(connection, 17) == b"still from second"
            await connection.aclose()


async def test_stopping_says_goodbye_and_leaves_no_task_and_no_socket(loopback: Any) -> None:
    before, tasks = sockets(), own_tasks()
    first = loopback.make("first")
    second = loopback.make("second", first.address)
    ended = trio.Event()

    async def held(connection: SecureConnection) -> None:
        try:
            await connection.receive_some()
        finally:
            ended.set()

    async with loopback.run(first):
        first.serve("held", held)
        async with loopback.run(second):
            await second.until(lambda: second.is_linked(first) and first.is_linked(second))
            stream = await second.open_stream(first.node, "held")
            stopped_at = trio.current_time()
        assert trio.current_time() - stopped_at < 2.0
        await first.until(lambda: first.noted("peer gone"))
        assert [said["reason"] for said in first.noted("peer gone")] == ["left"]
        assert [view.name for view in first.peers()] == ["first"]
        assert not ended.is_set()
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", int(second.address.rpartition(":")[2]))
    assert ended.is_set()
    stream.close()
    assert trio.current_time() - stopped_at < WAIT_S
    assert sockets() == before
    assert own_tasks() == tasks


def own_tasks() -> int:
    """Tasks beside the one that asks."""
    nursery = trio.lowlevel.current_task().parent_nursery
    assert nursery is not None
    return len(nursery.child_tasks)


async def test_a_node_that_starts_again_is_linked_again(loopback: Any) -> None:
    first = loopback.make("first")
    async with loopback.run(first):
        lives = []
        for number in range(2):
            second = loopback.make("second", first.address)
            async with loopback.run(second):
                second.set_streams(CarriedStreams([CarriedStream(f"life-{number}", 1, 0, [])]))
                await first.until(
                    lambda number=number: any(view.streams == [f"life-{number}"] for view in first.peers())
                )
                lives.append(first.core.gossip.directory.generation(second.node))
                await first.until(lambda second=second: first.is_linked(second))
            await first.until(lambda second=second: not first.is_linked(second))
    assert lives == sorted(set(lives))


async def test_last_known_addresses_are_enough_to_come_back(loopback: Any) -> None:
    first = loopback.make("first")
    async with loopback.run(first):
        second = loopback.make("second")
        second.parts.peers_file.keep([first.address])
        async with loopback.run(second):
            await second.until(lambda: second.is_linked(first))


async def test_a_damaged_file_of_peers_is_said_and_the_node_runs(loopback: Any, tmp_path: Path) -> None:
    first = loopback.make("first")
    (tmp_path / "first" / "peers.json").write_bytes(b"\xff not json")
    async with loopback.run(first):
        [said] = first.noted("last known peers")
        assert "damaged" in said["trouble"]


async def test_a_seed_that_is_the_node_itself_is_left_alone(loopback: Any) -> None:
    first = loopback.make("first")
    second = loopback.make("second")
    second.parts.peers_file.keep([second.address, first.address])
    async with loopback.run(first, second):
        await second.until(lambda: second.is_linked(first) and second.address in second._own_seeds)
        assert not second.noted("peer refused")
        assert [view.name for view in second.peers()] == ["second", "first"]


async def test_a_seed_where_nobody_listens_is_said_and_tried_again(loopback: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        first = loopback.make("first", address)
        async with loopback.run(first):
            await first.until(lambda: len(first.noted("seed not reached")) == 2)
            assert {said["address"] for said in first.noted("seed not reached")} == {address}


async def test_a_node_of_another_network_is_refused_and_both_can_see_why(
    loopback: Any, strangers: Any
) -> None:
    first = loopback.make("first")
    stranger = loopback.make("stranger", first.address, community=strangers)
    async with loopback.run(first, stranger):
        await stranger.until(lambda: stranger.status().refused)
        [row] = stranger.status().refused
        assert row.reason and row.address == first.address
        assert stranger.status().counters["refused"] == 1
        assert [view.name for view in first.peers()] == ["first"]
        assert stranger.noted("peer refused")[0]["by"] in ("us", "them")


async def test_a_revocation_cuts_the_link_and_is_kept(loopback: Any) -> None:
    async with loopback.linked("first", "second", "third") as (first, second, third):
        first.core.membership.revoke(loopback.community.owner, third.node, int(loopback.community.now) + 60)
        first.membership_changed()
        for node in (first, second):
            await node.until(lambda node=node: not node.is_linked(third))
            await node.until(lambda node=node: node.parts.states)
        with pytest.raises(LinkRefused):
            await dial(second.address, third._credentials)
        await second.until(lambda: second.status().refused)
        assert first.is_linked(second)
        assert sorted(view.name for view in second.peers()) == ["first", "second"]
    for node in (first, second):
        kept = Membership.restore(node.parts.states[-1])
        assert kept.revocations.is_revoked(third.node)


async def test_the_membership_is_kept_in_the_end(loopback: Any) -> None:
    async with loopback.linked("first", "second") as (first, second):
        pass
    for node in (first, second):
        kept = Membership.restore(node.parts.states[-1])
        assert kept.own == node.core.membership.own
        # Each counted the other's use of an invite; the first node needed none.
        assert len(kept.uses.chains()) == 1


@pytest.mark.parametrize(
    ("kind", "data"), [(1, b"\xff"), (2, b"\xc1" * 100), (3, b""), (9, b"unknown"), (200, bytes(60_000))]
)
async def test_garbage_on_a_link_ends_it_and_nothing_else(loopback: Any, kind: int, data: bytes) -> None:
    async with loopback.linked("first", "second") as (first, second):
        bad = credentials("bad", loopback)
        with trio.fail_after(WAIT_S):
            connection = await dial(first.address, bad)
            channel = Channel(connection)
            channel.send(kind, data)
            frames: list[int] = []
            await channel.run(lambda kind, data: frames.append(kind))
            assert frames, "the node greeted before it hung up"
        await first.until(lambda: bad.node_id not in first.core.connector.links)
        assert not first.noted("fault")
        assert first.is_linked(second)


async def test_a_frame_that_is_too_long_ends_the_link(loopback: Any) -> None:
    async with loopback.linked("first", "second") as (first, second):
        bad = credentials("bad", loopback)
        with trio.fail_after(WAIT_S):
            connection = await dial(first.address, bad)
            await connection.send_all(b"\x01\xff\xff\xff" + bytes(1000))
            with pytest.raises((trio.BrokenResourceError, EOFError)):
                while True:
                    if not await connection.receive_some():
                        raise EOFError
            connection.close()
        await first.until(lambda: not first.core.connector.links.get(bad.node_id))
        assert first.is_linked(second)
        assert not first.noted("fault")


async def test_a_state_that_cannot_be_kept_is_said_and_the_node_goes_on(loopback: Any) -> None:
    first = loopback.make("first")

    def full(state: bytes) -> None:
        raise MeshError("the disk is full")

    object.__setattr__(first._parts, "keep", full)
    second = loopback.make("second", first.address)
    async with loopback.run(first, second):
        await first.until(lambda: first.noted("membership not kept"))
        assert first.noted("membership not kept")[0] == {"reason": "the disk is full"}
        await first.until(lambda: first.is_linked(second))
