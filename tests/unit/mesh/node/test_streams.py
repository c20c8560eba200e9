"""Bulk streams between whole nodes on loopback: every way that leads to a member."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
import trio

from mesh.errors import Unavailable
from mesh.link.client import dial
from mesh.link.connection.service import SecureConnection
from mesh.node.presence import Presence
from mesh.node.streams import service as streams
from mesh.node.ways import CallBack, Over, Simultaneous, Straight

Loopback: TypeAlias = Any
Running: TypeAlias = Any

DISCARD_PORT = 9  # where nobody listens
SENT = bytes(range(256)) * 4096


async def digest(connection: SecureConnection) -> None:
    """The service of these tests: says what it was asked, then the digest of all that came."""
    seen = hashlib.sha256(connection.argument)
    while data := await connection.receive_some():
        seen.update(data)
        if seen_all(connection):
            break
    await connection.send_all(connection.purpose.encode() + b":" + seen.digest())


def seen_all(connection: SecureConnection) -> bool:
    return connection.bytes_in >= len(SENT)


async def exchange(connection: SecureConnection, argument: bytes) -> None:
    """Send SENT to `digest` and compare."""
    await connection.send_all(SENT)
    answer = b""
    while data := await connection.receive_some():
        answer += data
    assert answer == b"digest:" + hashlib.sha256(argument + SENT).digest()
    await connection.aclose()


@pytest.fixture
def hidden(loopback: Loopback) -> Callable[..., Running]:
    """Makes a node that says no address, so that only those whom it dials are linked to it."""

    def make(name: str, *seeds: str) -> Running:
        node = loopback.make(name, *seeds)
        node.core.presence = Presence(DISCARD_PORT, ())
        return node

    return make


@asynccontextmanager
async def behind_a_relay(
    loopback: Loopback, hidden: Callable[..., Running]
) -> AsyncIterator[tuple[Running, Running, Running]]:
    """A relay and two nodes that nobody can dial, linked over it."""
    relay = loopback.make("first")
    one, other = hidden("one", relay.address), hidden("other", relay.address)
    async with loopback.run(relay, one, other):
        for node, peer in ((one, other), (other, one)):
            await node.until(lambda node=node, peer=peer: node.is_linked(peer))
            assert node.core.connector.links[peer.node].via == relay.node
        yield relay, one, other


async def test_whoever_dialled_dials_again_and_the_other_has_itself_dialled(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as nodes:
        ways = set()
        for node, peer in (nodes, reversed(nodes)):
            node.serve("digest", digest)
            ways |= {type(way) for way in node.core.stream_ways(peer.node)}
        assert ways == {Straight, CallBack, Over} - {Over}
        for node, peer in (nodes, list(reversed(nodes))):
            for argument in (b"", b"live/1080p"):
                stream = await node.open_stream(peer.node, "digest", argument)
                assert stream.peer.node_id == peer.node
                await exchange(stream, argument)


async def test_streams_over_a_relay(loopback: Loopback, hidden: Callable[..., Running]) -> None:
    async with behind_a_relay(loopback, hidden) as (relay, one, other):
        other.serve("digest", digest)
        assert one.core.stream_ways(other.node) == [Simultaneous(), Over(relay.node)]
        with trio.fail_after(5):
            await exchange(await one.open_stream(other.node, "digest", b"x"), b"x")
            await other.until(lambda: len(relay.core.book) == 1)  # the link's pair is what is left
        assert relay.core.book.counters.bytes > len(SENT)


async def test_a_relay_that_refuses_says_why(loopback: Loopback, hidden: Callable[..., Running]) -> None:
    async with behind_a_relay(loopback, hidden) as (relay, one, other):
        relay.core.book.settings = replace(relay.core.book.settings, pairs_max=1)
        with trio.fail_after(2), pytest.raises(Unavailable, match="as many pairs as it may"):
            await one.open_stream(other.node, "digest")
        assert relay.noted("relay denied")[-1]["between"] == "one and other"


async def test_a_service_that_the_peer_does_not_have(loopback: Loopback) -> None:
    """Over a dial-back the reason comes over the link; where this node dials, the stream ends at once."""
    async with loopback.linked("first", "second") as (first, second):
        assert isinstance(first.core.stream_ways(second.node)[0], CallBack)
        with trio.fail_after(2), pytest.raises(Unavailable, match="no service 'absent'"):
            await first.open_stream(second.node, "absent")
        stream = await second.open_stream(first.node, "absent")
        with trio.fail_after(2):
            assert await stream.receive_some() == b""
        await stream.aclose()


async def test_no_stream_to_who_is_no_member(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, _):
        with pytest.raises(Unavailable, match="no other member"):
            await first.open_stream(first.node, "digest")


async def test_a_member_that_cannot_be_reached(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINK_S", 0.1)
    async with loopback.linked("first", "second") as (first, _):
        with trio.fail_after(2), pytest.raises(Unavailable, match="no link to"):
            await first.open_stream(loopback.make("third").node, "digest")


async def test_an_opening_that_is_cancelled_leaves_nothing(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        second.serve("digest", digest)
        with trio.CancelScope() as scope:
            scope.cancel()
            await first.open_stream(second.node, "digest")
        assert scope.cancelled_caught
        await exchange(await first.open_stream(second.node, "digest"), b"")
        assert not first._streams._openings


async def test_tickets_are_the_peers_own(loopback: Loopback) -> None:
    """A connection with a ticket that was not given to that node is closed."""
    async with loopback.linked("first", "second", "third") as (first, second, third):
        second.serve("digest", digest)
        opening = streams._Opening(second.node)
        first._streams._openings[b"t" * 16] = opening
        stolen = await dial(
            first.address, third._credentials, expect=first.node, purpose=streams.CALLED, argument=b"t" * 16
        )
        with trio.fail_after(2):
            assert await stolen.receive_some() == b""
        await stolen.aclose()
        assert opening.answer is None


async def test_openings_are_bounded(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "OPENINGS_MAX", 0)
    async with loopback.linked("first", "second") as (first, second):
        with pytest.raises(Unavailable, match="being opened already"):
            await first.open_stream(second.node, "digest")


async def test_a_request_is_made_again_on_the_connection_that_takes_over(loopback: Loopback) -> None:
    """The first one goes to a connection that is about to be replaced, and is lost with it."""
    async with loopback.linked("first", "second") as (first, second):
        second.serve("digest", digest)
        tell, lost = first.core.ask_stream, []

        def lose_first(*asked: Any) -> None:
            if lost:
                tell(*asked)
            lost.append(asked)

        first.core.ask_stream = lose_first
        async with trio.open_nursery() as nursery:

            async def opened() -> None:
                await exchange(await first.open_stream(second.node, "digest"), b"")

            nursery.start_soon(opened)
            while not lost:
                await trio.lowlevel.checkpoint()
            with trio.fail_after(streams.WAY_S / 2):
                first._streams.link_made(second.node)
                while len(lost) < 2:
                    await trio.lowlevel.checkpoint()
        assert not first._streams._openings
        assert not first._streams._listeners


async def test_all_that_leaves_is_counted(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as nodes:
        for node, peer in (nodes, list(reversed(nodes))):
            node.serve("digest", digest)
            before = peer.bytes_out
            await exchange(await peer.open_stream(node.node, "digest", b""), b"")
            assert peer.bytes_out - before >= len(SENT)
