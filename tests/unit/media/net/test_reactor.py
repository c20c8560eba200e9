"""The reactor as a trio task."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from media.net.reactor import EVENTS_PER_TURN, Reactor


@pytest.fixture
def faults() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def reactor(faults: list[tuple[str, str]], nursery: trio.Nursery) -> AsyncIterator[Reactor]:
    made = Reactor(lambda kind, error, peer: faults.append((kind, str(error))))
    await nursery.start(made.run)
    yield made
    nursery.cancel_scope.cancel()


class Echo:
    """Says everything back; closes at the end of input."""

    def __init__(self, transport: Any, now: float) -> None:
        self.transport = transport

    def receive(self, data: bytes, now: float) -> None:
        self.transport.send(data)

    def receive_eof(self, now: float) -> None:
        self.transport.close()

    def drained(self, now: float) -> None: ...
    def on_deadline(self, now: float) -> None: ...
    def closed(self, now: float) -> None: ...


async def dial(address: str) -> trio.SocketStream:
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def test_serves_several_at_once_and_counts(reactor: Reactor) -> None:
    listener = reactor.listen("127.0.0.1:0", Echo, limit=500, name="echo")
    size = 300_000

    async def talk() -> None:
        async with await dial(listener.address) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, bytes(size))
            got = 0
            while got < size:
                got += len(await stream.receive_some(65536))
            await stream.send_eof()
            assert await stream.receive_some() == b""

    async with trio.open_nursery() as nursery:
        for _ in range(EVENTS_PER_TURN + 10):
            nursery.start_soon(talk)
    with trio.fail_after(5):
        while reactor.statistics().connections:
            await trio.lowlevel.checkpoint()
    counts = reactor.statistics()
    assert counts.accepted == EVENTS_PER_TURN + 10
    assert counts.bytes_in == counts.bytes_out == counts.accepted * size
    assert counts.faults == {}


async def test_timer_asked_for_by_another_task_wakes_a_sleeping_reactor(reactor: Reactor) -> None:
    fired = trio.Event()
    reactor.call_at(reactor.now() + 1000.0, lambda now: None)
    await trio.testing.wait_all_tasks_blocked()
    reactor.call_at(reactor.now(), lambda now: fired.set())
    with trio.fail_after(5):
        await fired.wait()


async def test_timer_that_fails_is_counted_and_hurts_nobody(
    reactor: Reactor, faults: list[tuple[str, str]]
) -> None:
    def fail(now: float) -> None:
        raise KeyError("bug")

    fired = trio.Event()
    reactor.call_at(0.0, fail)
    reactor.call_at(0.0, lambda now: fired.set())
    with trio.fail_after(5):
        await fired.wait()
    assert faults == [("timer", "'bug'")]
    assert reactor.statistics().faults == {"timer": 1}


async def test_other_tasks_run_while_connections_are_busy(reactor: Reactor) -> None:
    listener = reactor.listen("127.0.0.1:0", Echo, limit=5, name="echo")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with await dial(listener.address) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(200):
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    assert turns > 200


async def test_now_is_one_value_in_a_turn(reactor: Reactor) -> None:
    done = trio.Event()
    seen: list[float] = []

    def look(now: float) -> None:
        seen.extend((now, reactor.now(), reactor.now()))
        done.set()

    reactor.call_at(0.0, look)
    with trio.fail_after(5):
        await done.wait()
    assert len(set(seen)) == 1
    assert reactor.now() > seen[0]


async def test_end_of_the_task_closes_everything() -> None:
    closed: list[str] = []

    class Watch(Echo):
        def closed(self, now: float) -> None:
            closed.append("closed")

    reactor = Reactor(lambda kind, error, peer: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(reactor.run)
        listener = reactor.listen("127.0.0.1:0", Watch, limit=5, name="echo")
        stream = await dial(listener.address)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    async with stream:
        assert await stream.receive_some() == b""
    assert closed == ["closed"]


async def test_connected_sockets_may_be_handed_over(reactor: Reactor) -> None:
    gone = trio.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    transport = reactor.adopt(ours, Echo, gone.set)
    assert transport.peer_port == peer.getsockname()[1]
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(peer))
    async with stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
    with trio.fail_after(5):
        await gone.wait()
