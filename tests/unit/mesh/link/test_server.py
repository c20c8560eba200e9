"""The port itself: strangers, floods, tokens, faults of what serves a connection."""

import socket
import ssl
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio

from mesh.errors import Refused, Unavailable
from mesh.link import limits, server
from mesh.link.client import dial
from mesh.link.connection import service
from mesh.link.connection.service import LinkRefused, SecureConnection, secure
from mesh.link.refusals import Refusals


async def connect(node: Any) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", node.sock.getsockname()[1])


async def until_refused(node: Any, total: int = 1) -> Any:
    with trio.fail_after(10):
        while node.refusals.total < total:
            await trio.lowlevel.checkpoint()
    return node.refusals.rows()[0]


async def ending(stream: trio.SocketStream) -> bytes:
    """What comes until the other side closes, a reset counting as that."""
    got = b""
    with trio.fail_after(10):
        try:
            async for part in stream:
                got += part
        except trio.BrokenResourceError:
            pass
    return got


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"FWXX" + bytes(16)])
async def test_other_protocols_are_closed(network: Any, listening: Any, first: bytes) -> None:
    async with listening(network.member("first")) as node, await connect(node) as stream:
        await stream.send_all(first)
        assert await ending(stream) == b""
        assert (await until_refused(node)).reason == "it did not knock: not a node of fwnode"
        assert not node.tokens


async def test_tls_without_a_knock(network: Any, listening: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name in (None, "www.example.org", "v1-.fwnode"):
        async with listening(network.member("first")) as node:
            stream = trio.SSLStream(await connect(node), context, server_hostname=name)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.do_handshake()
            assert "ACCESS_DENIED" in str(caught.value.__cause__).upper().replace(" ", "_")
            await stream.transport_stream.aclose()
            assert (await until_refused(node)).reason == "it did not knock: not a node of fwnode"


@pytest.mark.parametrize(
    "mangled", [b"\x16", b"\x16\x03\x01\x00\x05garbage", b"\x16\x03\x01\xff\xff" + bytes(99)]
)
async def test_broken_tls(network: Any, listening: Any, mangled: bytes) -> None:
    async with listening(network.member("first")) as node, await connect(node) as stream:
        await stream.send_all(mangled)
        with suppress(trio.BrokenResourceError):
            await stream.send_eof()
        await ending(stream)
        assert node.connections.statistics().current_buffer_used == 0


async def test_token(network: Any, listening: Any) -> None:
    async with listening(network.member("first")) as node, await connect(node) as stream:
        for part in (b"FW", b"R1" + bytes(10), bytes(5) + b"\1"):
            await stream.send_all(part)
        assert await ending(stream) == b""
        assert node.tokens == [bytes(15) + b"\1"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a silent peer reaches at once. Real sockets take real time, so no clock is jumped."""
    monkeypatch.setattr(server, "FIRST_BYTES_S", 0.05)
    monkeypatch.setattr(service, "HANDSHAKE_S", 0.05)


@pytest.mark.usefixtures("hasty")
async def test_silence_is_closed(network: Any, listening: Any) -> None:
    async with listening(network.member("first")) as node:
        for first in (b"", b"F", b"\x16"):
            async with await connect(node) as stream:
                if first:
                    await stream.send_all(first)
                await ending(stream)
        assert not node.refusals.total


@pytest.mark.usefixtures("hasty")
async def test_silent_server(network: Any) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with pytest.raises(Unavailable, match="in time"):
            await dial(f"127.0.0.1:{sock.getsockname()[1]}", network.member("second"))


async def test_server_that_is_none(network: Any) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(LinkRefused, match="no node of fwnode") as caught:
        await secure(ours, network.member("second"), dialler=True)
    assert caught.value.by_us
    theirs.close()
    assert ours.fileno() == -1


async def test_server_that_goes_away(network: Any) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(Unavailable):
        await secure(ours, network.member("second"), dialler=True)
    assert ours.fileno() == -1


async def test_flood_is_slowed_and_a_member_is_not(
    network: Any, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BURST", 3)
    monkeypatch.setattr(limits, "PER_S", 0.0)
    second = network.member("second")
    async with listening(network.member("first")) as node:
        for _ in range(5):
            await (await dial(node.address, second)).aclose()
            (await node.connections.receive()).close()
        for _ in range(4):
            async with await connect(node) as stream:
                await stream.send_all(b"?")
                await ending(stream)
        await until_refused(node, 4)
        reasons = {row.reason: row.count for row in node.refusals.rows()}
        assert reasons["connections from this address come too fast"] == 1
        with pytest.raises(Unavailable):
            await dial(node.address, second)


async def test_faults_end_their_own_connection(network: Any, listening: Any) -> None:
    """A lost connection or a peer's fault, bare or in a group, ends one connection; the server goes on."""
    faults: list[BaseException] = [
        trio.BrokenResourceError("gone"),
        ExceptionGroup("two", [trio.ClosedResourceError("closed")]),
        Refused("it asks too much"),
        ExceptionGroup("two", [ExceptionGroup("in", [Refused("it asks far too much")])]),
    ]
    pending = list(faults)

    async def on_connection(_connection: SecureConnection) -> None:
        raise pending.pop(0)

    second = network.member("second")
    async with listening(network.member("first"), on_connection) as node:
        for _ in faults:
            connection = await dial(node.address, second)
            with trio.fail_after(10):
                assert await connection.receive_some() == b""
            connection.close()
        await until_refused(node, 2)
        assert node.reasons() == [("it asks far too much", True), ("it asks too much", True)]


async def test_own_faults_go_to_the_caller(network: Any) -> None:
    faults: list[Exception] = []
    seen = trio.Event()

    async def on_connection(_connection: SecureConnection) -> None:
        raise ZeroDivisionError("ours")

    async def on_token(_sock: socket.socket, _token: bytes) -> None:
        raise AssertionError

    def on_fault(error: Exception) -> None:
        faults.append(error)
        seen.set()

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    first = network.member("first")
    async with trio.open_nursery() as nursery:
        serve = partial(server.serve_links, on_fault=on_fault)
        await nursery.start(serve, [sock], first, on_connection, on_token, Refusals())
        connection = await dial(f"127.0.0.1:{sock.getsockname()[1]}", network.member("second"))
        with trio.fail_after(10):
            await seen.wait()
        connection.close()
        nursery.cancel_scope.cancel()
    assert "ZeroDivisionError" in repr(faults[0])
    assert sock.fileno() == -1


async def test_handshake_deadline(network: Any, listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops after TLS keeps nothing of the server's."""
    monkeypatch.setattr(service, "HANDSHAKE_S", 0.5)
    first, second = network.member("first"), network.member("second")
    async with listening(first) as node:
        stream = await connect(node)
        sock = second.wrap(socket.socket(fileno=stream.socket.detach()), dialler=True)
        sock.setblocking(False)
        with trio.fail_after(60):
            await step(sock, sock.do_handshake)
            assert await step(sock, lambda: sock.recv(4096))  # the greeting, never answered
            with pytest.raises(OSError):
                await step(sock, lambda: sock.recv(4096))
        sock.close()


async def step(sock: ssl.SSLSocket, call: Any) -> Any:
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
