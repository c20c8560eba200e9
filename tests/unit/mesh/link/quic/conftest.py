"""Nodes that speak QUIC on loopback sockets, and a forwarder between them that can be made to misbehave."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from mesh.address import show_address
from mesh.link.connection.service import Credentials
from mesh.link.quic.service import QuicEndpoint
from mesh.link.quic.stream.service import QuicStream
from mesh.link.refusals import Refusals
from mesh.nat.udp.service import MESH_PORT, UdpPort


async def gone(*nodes: "Node") -> None:
    """Wait until no connection is left: at once, not after a timeout."""
    with trio.fail_after(2):
        while any(node.endpoint.connections for node in nodes):
            await trio.testing.wait_all_tasks_blocked(0.005)


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


class Node:
    """An endpoint on a port of its own: what came, whom it refused, what went wrong."""

    def __init__(
        self, credentials: Credentials, on_connection: Callable[[QuicStream], Awaitable[None]] | None
    ) -> None:
        self.credentials = credentials
        self.port = UdpPort([bound()])
        self.refusals = Refusals()
        self.faults: list[Exception] = []
        self.endpoint = QuicEndpoint(
            credentials,
            self.port,
            on_connection or self.on_connection,
            self.refusals,
            on_fault=self.faults.append,
        )
        self.address = self.port.local(MESH_PORT)
        self.came: trio.MemorySendChannel[QuicStream]
        self.came, self.connections = trio.open_memory_channel[QuicStream](200)

    async def on_connection(self, connection: QuicStream) -> None:
        await self.came.send(connection)
        await trio.sleep_forever()

    async def dial(self, other: "Node", at: str = "", **more: Any) -> QuicStream:
        expect = more.pop("expect", other.credentials.node_id)
        return await self.endpoint.dial(MESH_PORT, at or other.address, expect, **more)

    def reasons(self) -> list[tuple[str, bool]]:
        return [(row.reason, row.by_us) for row in self.refusals.rows()]


class Forwarder:
    """Passes datagrams between one client and one server, as a router that translates addresses does."""

    def __init__(self, to: str) -> None:
        host, port = to.rsplit(":", 1)
        self.to = (host, int(port))
        self.inside = bound()
        self.outside = bound()
        self.address = show_address(self.inside.getsockname())
        self.client: Any = None
        self.passes: Callable[[bytes, bool], list[bytes]] = lambda data, inward: [data]
        self.nursery: trio.Nursery
        self.count = 0
        self.rebound = False

    def rebind(self) -> None:
        """The router forgot the client: it gets another port."""
        self.rebound = True
        old, self.outside = self.outside, bound()
        trio.lowlevel.notify_closing(old)
        old.close()
        self.nursery.start_soon(self.back, self.outside)

    async def out(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.inside)
            data, self.client = self.inside.recvfrom(65536)
            self.count += 1
            for each in self.passes(data, False):
                self.outside.sendto(each, self.to)

    async def back(self, sock: socket.socket) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            data, _from = sock.recvfrom(65536)
            self.count += 1
            for each in self.passes(data, True):
                self.inside.sendto(each, self.client)


@pytest.fixture
def running() -> Any:
    """`async with running(credentials, ...) as nodes`."""

    @asynccontextmanager
    async def run(
        *credentials: Credentials,
        on_connection: Callable[[QuicStream], Awaitable[None]] | None = None,
    ) -> AsyncIterator[list[Node]]:
        nodes = [Node(each, on_connection) for each in credentials]
        with trio.fail_after(60):
            async with trio.open_nursery() as ports:
                async with trio.open_nursery() as endpoints:
                    for node in nodes:
                        await ports.start(node.port.run, node.endpoint.receive, node.endpoint.flush)
                        await endpoints.start(node.endpoint.run)
                    yield nodes
                    endpoints.cancel_scope.cancel()
                ports.cancel_scope.cancel()
        for node in nodes:
            assert not node.faults, node.faults

    return run


@pytest.fixture
def forwarding() -> Any:
    """`async with forwarding(address) as forwarder`."""

    @asynccontextmanager
    async def run(to: str) -> AsyncIterator[Forwarder]:
        forwarder = Forwarder(to)
        async with trio.open_nursery() as nursery:
            forwarder.nursery = nursery
            nursery.start_soon(forwarder.out)
            nursery.start_soon(forwarder.back, forwarder.outside)
            yield forwarder
            nursery.cancel_scope.cancel()
        forwarder.inside.close()
        forwarder.outside.close()

    return run


@pytest.fixture
def pair(network: Any, running: Any) -> Any:
    """`async with pair() as (dialler's end, other end, dialler, other)`."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[QuicStream, QuicStream, Node, Node]]:
        async with running(network.member("second"), network.member("first")) as (near, far):
            mine = await near.dial(far)
            yield mine, await far.connections.receive(), near, far

    return make


@pytest.fixture
def translated(network: Any, running: Any, forwarding: Any) -> Any:
    """`async with translated() as (dialler's end, other end, forwarder)`: the dialler is behind a router."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[QuicStream, QuicStream, Forwarder]]:
        async with (
            running(network.member("second"), network.member("first")) as (near, far),
            forwarding(far.address) as forwarder,
        ):
            mine = await near.dial(far, at=forwarder.address)
            yield mine, await far.connections.receive(), forwarder

    return make


@pytest.fixture
def all_gone() -> Any:
    """`await all_gone(node, ...)`."""
    return gone
