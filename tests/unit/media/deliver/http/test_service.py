"""The HTTP server on a reactor: listening and draining."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from media.deliver.http.reply import Reply
from media.deliver.http.response import Response
from media.deliver.http.router import Router
from media.deliver.http.service import HttpService
from media.net.reactor import Reactor

GET = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"


class Node:
    """A service with an answer at once and one that is held."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.reactor = Reactor(lambda kind, error, peer: self.faults.append(kind))
        self.held: list[Reply] = []
        router = Router()
        router.add("GET", "/now", lambda request, reply: reply.send(Response(200, b"now")), name="now")
        router.add("GET", "/later", lambda request, reply: self.held.append(reply), name="later")
        self.service = HttpService(self.reactor, router)
        self.listener = self.service.listen("127.0.0.1:0")

    async def dial(self) -> trio.SocketStream:
        host, _, port = self.listener.address.rpartition(":")
        return await trio.open_tcp_stream(host, int(port))


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Node]:
    made = Node()
    await nursery.start(made.reactor.run)
    yield made
    nursery.cancel_scope.cancel()


async def read_to_end(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(5):
        return b"".join([bytes(chunk) async for chunk in stream])


async def test_drain_waits_for_answers_and_nothing_else(node: Node) -> None:
    idle, busy = await node.dial(), await node.dial()
    await idle.send_all(GET % b"now")
    assert b"now" in await idle.receive_some()
    await busy.send_all(GET % b"later")
    with trio.fail_after(5):
        while not node.held:
            await trio.lowlevel.checkpoint()
    drained = trio.Event()

    async def drain() -> None:
        await node.service.drain()
        drained.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        assert await read_to_end(idle) == b""
        await idle.aclose()
        assert not drained.is_set()
        with pytest.raises(OSError, match="all attempts to connect"):
            await node.dial()
        node.held[0].send(Response(200, b"late"))
        answer = await read_to_end(busy)
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"late")
        await busy.aclose()
        with trio.fail_after(5):
            await drained.wait()


async def test_drain_of_an_idle_service_returns_at_once(node: Node) -> None:
    with trio.fail_after(5):
        await node.service.drain()


async def test_a_viewer_that_leaves_frees_its_held_request(node: Node) -> None:
    stream = await node.dial()
    await stream.send_all(GET % b"later")
    with trio.fail_after(5):
        while not node.held:
            await trio.lowlevel.checkpoint()
        gone = trio.Event()
        node.held[0].on_close = lambda now: gone.set()
        await stream.aclose()
        await gone.wait()
        assert not node.service.site.connections
    assert node.faults == []
