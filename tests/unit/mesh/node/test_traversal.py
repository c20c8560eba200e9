"""A relayed link becomes direct over UDP, on loopback; and what peers and strangers may not do to it."""

import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio

from mesh.address import split_address
from mesh.link.control import Knock, Punch, PunchMore
from mesh.link.live import CALLS_PER_MINUTE
from mesh.link.model import QUIC
from mesh.link.steps import Heard
from mesh.nat.stun import (
    Kind,
    encode_binding_request,
    mapped_address,
    parse_stun_untrusted,
)
from mesh.nat.targets import PROBES_UNPROVEN_MAX
from mesh.node.presence import Presence
from mesh.node.traversal.service import SESSIONS_MAX
from mesh.node.ways import Inside, Over, Simultaneous

Loopback: TypeAlias = Any
Running: TypeAlias = Any
LOCALHOST = "127.0.0.1"


@asynccontextmanager
async def over_a_relay(loopback: Loopback) -> AsyncIterator[tuple[Running, Running, Running]]:
    """A relay and two nodes that say no address to dial, with UDP ports."""
    relay = loopback.make("first")
    nodes = [relay, loopback.make("one", relay.address), loopback.make("other", relay.address)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind((LOCALHOST, 0))
            node.core.presence = Presence(udp.getsockname()[1], (relay.address,) if node is relay else ())
            await nursery.start(node.run, [node.sock], [udp])
            node.core.presence.hosts = (LOCALHOST,)
        yield relay, nodes[1], nodes[2]
        nursery.cancel_scope.cancel()


def is_punched(node: Running, peer: Running) -> bool:
    link = node.core.connector.links.get(peer.node)
    return link is not None and link.carrier == QUIC


async def await_punched(one: Running, other: Running) -> None:
    for node, peer in ((one, other), (other, one)):
        await node.until(lambda node=node, peer=peer: is_punched(node, peer))


async def test_a_relayed_link_becomes_direct_and_carries_streams(loopback: Loopback) -> None:
    async with over_a_relay(loopback) as (relay, one, other):
        await await_punched(one, other)

        async def echo(connection: Any) -> None:
            while data := await connection.receive_some():
                await connection.send_all(data)

        for node, peer in ((one, other), (other, one)):
            peer.serve("echo", echo)
            assert node.core.stream_ways(peer.node) == [Simultaneous(), Inside(), Over(relay.node)]
            stream = await node.open_stream(peer.node, "echo", b"")
            await stream.send_all(b"x" * 100_000)
            came = 0
            while came < 100_000:
                came += len(await stream.receive_some())
            await stream.aclose()
        assert {view.path for view in one.peers()} >= {"self"}


async def test_a_path_that_dies_is_replaced_by_the_relay_and_found_again(loopback: Loopback) -> None:
    async with over_a_relay(loopback) as (relay, one, other):
        await await_punched(one, other)
        for node in (one, other):
            node._traversal.port.send = lambda *_args, **_more: None  # a hole in the road
        for node, peer in ((one, other), (other, one)):
            await node.until(
                lambda node=node, peer=peer: (
                    node.is_linked(peer) and node.core.connector.links[peer.node].via == relay.node
                )
            )
        assert not one.noted("peer unlinked") and not other.noted("peer unlinked")


@pytest.fixture
async def quiet(loopback: Loopback) -> AsyncIterator[Running]:
    """One running node with a UDP port."""
    node = loopback.make("first")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((LOCALHOST, 0))
    node.udp_address = udp.getsockname()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run, [node.sock], [udp])
        yield node
        nursery.cancel_scope.cancel()


async def answers(sock: trio.socket.SocketType, wait_s: float = 0.2) -> list[bytes]:
    """What comes until it is quiet."""
    found: list[bytes] = []
    while True:
        with trio.move_on_after(wait_s) as scope:
            found.append(await sock.recv(2048))
        if scope.cancelled_caught:
            return found


async def test_stun_is_answered_to_anybody_and_not_too_often(quiet: Running) -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind((LOCALHOST, 0))
        transaction = secrets.token_bytes(12)
        request = encode_binding_request(transaction)
        await sock.sendto(request, quiet.udp_address)
        (answer,) = await answers(sock)
        message = parse_stun_untrusted(answer)
        assert (message.kind, message.transaction) == (Kind.SUCCESS, transaction)
        assert mapped_address(message) == f"{LOCALHOST}:{sock.getsockname()[1]}"
        assert len(answer) <= 2 * len(request)
        for _ in range(200):
            await sock.sendto(encode_binding_request(secrets.token_bytes(12)), quiet.udp_address)
        assert len(await answers(sock)) <= 20


async def test_what_is_nothing_gets_no_answer(quiet: Running) -> None:
    """Garbage, answers to nothing, probes of no session, QUIC without a peer that was told of it."""
    nothing = [
        b"",
        b"\x00",
        b"\x01\x01" + bytes(18),
        b"\x06\x01\x01" + bytes(40),
        b"\xc0\x00\x00\x00\x01" + bytes(1200),
        b"\x40" + bytes(60),
        secrets.token_bytes(1200),
    ]
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind((LOCALHOST, 0))
        for data in nothing * 20:
            await sock.sendto(data, quiet.udp_address)
        assert await answers(sock) == []
    assert quiet._traversal.quic is None, "loaded for nobody"
    assert not quiet.noted("fault")


async def test_a_flood_of_answers_makes_nothing_of_it(quiet: Running) -> None:
    """0x0111 and 0x0101 with transactions that nobody asked for: the facts stay as they were."""
    facts = quiet._traversal.survey.facts
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(500):
            kind = b"\x01\x11" if number % 2 else b"\x01\x01"
            await sock.sendto(kind + b"\x00\x00\x21\x12\xa4\x42" + secrets.token_bytes(12), quiet.udp_address)
        await trio.sleep(0.1)
    assert quiet._traversal.survey.facts == facts


async def test_a_peer_that_lists_a_victim(loopback: Loopback) -> None:
    """The victim gets a few packets, and none of a size that would hurt."""
    async with loopback.linked("first", "second") as (first, second):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((LOCALHOST, 0))
        shell = first._make_traversal([udp])
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            await victim.bind((LOCALHOST, 0))
            address = f"{LOCALHOST}:{victim.getsockname()[1]}"
            async with trio.open_nursery() as nursery:
                await nursery.start(shell.run)
                for _ in range(5):
                    listed = Punch(secrets.token_bytes(16), [address], "consistent", None, False)
                    shell.heard(Heard(second.node, listed))
                    await trio.sleep(0.2)
                got = await answers(victim, 1.0)
                nursery.cancel_scope.cancel()
        assert len(got) <= 5 * PROBES_UNPROVEN_MAX
        assert max(map(len, got), default=0) < 64


async def test_sessions_are_bounded_and_replays_begin_nothing(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((LOCALHOST, 0))
        shell = first._make_traversal([udp])
        async with trio.open_nursery() as nursery:
            await nursery.start(shell.run)
            said = Punch(secrets.token_bytes(16), ["127.0.0.1:9"], "consistent", None, False)
            for _ in range(50):
                shell.heard(Heard(second.node, said))
            assert len(shell._sessions) == 1
            for _ in range(2 * SESSIONS_MAX):
                more = Punch(secrets.token_bytes(16), ["127.0.0.1:9"], "consistent", None, False)
                shell.heard(Heard(second.node, more))
            assert len(shell._sessions) == 1, "one for a peer"
            shell.heard(Heard(second.node, PunchMore(secrets.token_bytes(16), ["127.0.0.1:9"])))
            answer = Punch(secrets.token_bytes(16), ["127.0.0.1:9"], "consistent", None, True)
            shell.heard(Heard(second.node, answer))
            assert len(shell._sessions) == 1
            nursery.cancel_scope.cancel()


async def test_knocks_go_to_the_peer_only_and_not_too_often(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        link = first.core.connector.links[second.node]
        errands = first.core.connector.errands
        now = trio.current_time()
        host, _ = split_address(link.peer.remote)
        first.core.outputs()
        errands.receive(link, Knock(bytes(12), "192.0.2.1:99", True), now)
        assert not [output for output in first.core.connector.outputs() if isinstance(output, Heard)]
        for _ in range(2 * CALLS_PER_MINUTE):
            errands.receive(link, Knock(bytes(12), f"{host}:99", True), now)
        heard = [output for output in first.core.connector.outputs() if isinstance(output, Heard)]
        assert len(heard) == CALLS_PER_MINUTE
