"""Streams that both ends open, where loopback stands for a LAN; and what happens when it does not work."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio

from mesh.link.control import OpenTcp, TcpSide
from mesh.link.steps import Heard
from mesh.node.presence import Presence
from mesh.node.simultaneous import service
from mesh.node.simultaneous.port.service import FreshPort

Running: TypeAlias = Any
Loopback: TypeAlias = Any

DISCARD_PORT = 9  # where nobody listens


async def answer_hello(connection: Any) -> None:
    await connection.send_all(b"hello " + connection.argument)


async def hears_hello(connection: Any) -> None:
    with trio.fail_after(5):
        assert await connection.receive_some() == b"hello x"
    await connection.aclose()


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Members to be asked for one's outside address; every host here is on the LAN 127.0.0.0/24."""
    servers: list[str] = []
    monkeypatch.setattr(service, "stun_servers", lambda _core: [(server, None) for server in servers])
    return servers


@asynccontextmanager
async def relayed(loopback: Loopback) -> AsyncIterator[tuple[Running, Running, Running]]:
    """A relay and two nodes that reach each other over it only."""
    relay = loopback.make("first")
    one, other = (loopback.make(name, relay.address) for name in ("one", "other"))
    for node in (one, other):
        node.core.presence = Presence(DISCARD_PORT, ())
    async with loopback.run(relay, one, other):
        for node, peer in ((one, other), (other, one)):
            await node.until(lambda node=node, peer=peer: node.is_linked(peer))
            assert node.core.connector.links[peer.node].via == relay.node
            node.core.presence.hosts = ("127.0.0.1",)
            node.serve("hello", answer_hello)
        yield relay, one, other


async def test_a_stream_over_tcp_of_its_own(loopback: Loopback, near: list[str]) -> None:
    async with relayed(loopback) as (relay, one, other):
        near.append(relay.address)
        pairs = len(relay.core.book)
        for node, peer in ((one, other), (other, one)):
            for _ in range(2):
                stream = await node.open_stream(peer.node, "hello", b"x")
                assert stream.peer.node_id == peer.node and stream.peer.remote
                await hears_hello(stream)
            assert node._streams.simultaneous.worked(peer.node)
            assert not node._streams.simultaneous._meetings
        assert len(relay.core.book) == pairs, "the relay carries the link only"


async def test_without_anybody_to_ask_it_is_not_tried(loopback: Loopback, near: list[str]) -> None:
    async with relayed(loopback) as (_, one, other):
        await hears_hello(await one.open_stream(other.node, "hello", b"x"))
        assert one._streams.simultaneous.counters["tcp_tried"] == 0


async def test_a_failure_costs_one_stream_a_second_and_later_ones_nothing(
    loopback: Loopback, near: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "targets", lambda *_: ["192.0.2.1:9"])  # nobody is there
    async with relayed(loopback) as (relay, one, other):
        near.append(relay.address)
        began = trio.current_time()
        await hears_hello(await one.open_stream(other.node, "hello", b"x"))
        first_s, began = trio.current_time() - began, trio.current_time()
        await hears_hello(await one.open_stream(other.node, "hello", b"x"))
        assert first_s < service.WAIT_S + 0.6
        assert trio.current_time() - began < 0.5
        assert one._streams.simultaneous.counters == {"tcp_tried": 1, "tcp_opened": 0, "tcp_answered": 0}


async def test_a_peer_that_does_not_want_to_is_believed_at_once(
    loopback: Loopback, near: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relayed(loopback) as (relay, one, other):
        near.append(relay.address)
        monkeypatch.setattr(
            other._streams.simultaneous, "_meetings", dict.fromkeys(range(service.MEETINGS_MAX))
        )
        began = trio.current_time()
        await hears_hello(await one.open_stream(other.node, "hello", b"x"))
        assert trio.current_time() - began < 0.5


async def test_an_opening_that_is_cancelled_leaves_nothing(loopback: Loopback, near: list[str]) -> None:
    async with relayed(loopback) as (relay, one, other):
        near.append(relay.address)
        one.core.tell = lambda *_: None  # nothing is heard of it
        with trio.move_on_after(0.05) as scope:
            await one.open_stream(other.node, "hello", b"x")
        assert scope.cancelled_caught
        opens = one._streams.simultaneous
        assert not opens._meetings
        assert opens.may_try(other.node), "that says nothing about the routers"


async def test_a_side_counts_once_and_from_the_peer_only(loopback: Loopback, near: list[str]) -> None:
    async with relayed(loopback) as (_, one, other):
        opens, ticket = one._streams.simultaneous, b"t" * 16
        assert opens.asked(Heard(other.node, OpenTcp(ticket, False)))
        assert not opens.asked(Heard(other.node, OpenTcp(ticket, False)))
        opens.told(Heard(bytes(32), TcpSide(ticket, ["127.0.0.1:1"])))
        assert not opens._meetings[ticket].told.is_set()
        opens.told(Heard(other.node, TcpSide(ticket, ["127.0.0.1:1001", "192.0.2.1:1"])))
        opens.told(Heard(other.node, TcpSide(ticket, ["127.0.0.1:2"])))
        assert opens._meetings[ticket].candidates == ("127.0.0.1:1001",)


async def test_many_connections_from_one_port() -> None:
    with FreshPort(v6=False) as port, FreshPort(v6=False) as other, FreshPort(v6=False) as third:
        socks = []
        for target in (other, third):
            sock = await port.connect(f"127.0.0.1:{target.near}")
            accepted = await target.accept({"127.0.0.1"})
            assert accepted.getpeername()[1] == port.number
            socks += [sock, accepted]
        near = await port.connect(f"127.0.0.1:{other.near}", near=True)
        assert near.getsockname()[1] != port.number
        for sock in (*socks, near):
            sock.close()


async def test_nobody_listens_and_both_ends_connect() -> None:
    """RFC 9293 3.5, figure 7, with the only two SYNs on loopback that surely cross: a socket's own."""
    with FreshPort(v6=False) as port, trio.fail_after(5):
        sock = await port.connect(f"127.0.0.1:{port.number}", 4)
        assert sock.getpeername() == sock.getsockname()
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) > 4, "only the first packet is to die"
        sock.close()


async def test_only_expected_hosts_are_let_in() -> None:
    with FreshPort(v6=False) as port:
        stranger = await port.connect(f"127.0.0.1:{port.near}", near=True)
        with trio.move_on_after(0.1) as scope:
            await port.accept({"192.0.2.1"})
        assert scope.cancelled_caught
        await trio.lowlevel.wait_readable(stranger)
        assert stranger.recv(1) == b""
        stranger.close()
