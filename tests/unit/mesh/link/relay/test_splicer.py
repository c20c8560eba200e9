"""Real sockets through the splicer; time is virtual where it matters."""

import errno
import os
import socket
from collections.abc import Callable
from random import Random

import pytest
import trio
from trio.testing import MockClock

from mesh.errors import Unavailable
from mesh.link.relay.book import PREAMBLE, TOKEN_S, Granted, RelayBook, RelaySettings
from mesh.link.relay.client import dial_relay
from mesh.link.relay.service import IDLE_S, Carrier, CopyCarrier, PipeCarrier, Splicer

A, B = b"a" * 32, b"b" * 32
MB = 1_000_000
UNLIMITED = RelaySettings(0, 0)
CARRIERS: list[Callable[[], Carrier]] = [PipeCarrier, CopyCarrier]


class Relay:
    """A splicer with a granted pair, and connections to it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        settings: RelaySettings = UNLIMITED,
        carrier: Callable[[], Carrier] | None = None,
    ) -> None:
        self.book = RelayBook(settings, Random(1).randbytes, trio.current_time())
        self.splicer = Splicer(self.book, carrier)
        self.scopes: list[trio.CancelScope] = []
        self.joined: list[socket.socket] = []
        self.over = 0
        self._nursery = nursery
        granted = self.book.ask(A, B, trio.current_time())
        assert isinstance(granted, Granted)
        self.granted = granted

    def connect(self, token: bytes) -> trio.SocketStream:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            end = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        self.joined.append(ours)
        self._nursery.start_soon(self._join, ours, token)
        end.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(end))

    def pair(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        return self.connect(self.granted.origin_token), self.connect(self.granted.target_token)

    def all_closed(self) -> bool:
        return len(self.book) == 0 and all(sock.fileno() < 0 for sock in self.joined)

    async def _join(self, sock: socket.socket, token: bytes) -> None:
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            await self.splicer.join(sock, token)
        self.over += 1


async def read_all(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    async for chunk in stream:
        data += chunk
    return bytes(data)


async def ended(stream: trio.SocketStream) -> bool:
    """Whether the next thing on the stream is its end, orderly or not."""
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_both_ways_at_once_with_half_close(carrier: Callable[[], Carrier]) -> None:
    sent = [Random(seed).randbytes(50 * MB) for seed in (1, 2)]
    got: dict[int, bytes] = {}

    async def send(stream: trio.SocketStream, data: bytes) -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async def receive(stream: trio.SocketStream, which: int) -> None:
        got[which] = await read_all(stream)

    async with trio.open_nursery() as relays:
        relay = Relay(relays, carrier=carrier)
        left, right = relay.pair()
        async with left, right, trio.open_nursery() as ends:
            ends.start_soon(send, left, sent[0])
            ends.start_soon(send, right, sent[1])
            ends.start_soon(receive, left, 1)
            ends.start_soon(receive, right, 0)
    assert (got[0] == sent[0], got[1] == sent[1]) == (True, True)
    assert relay.book.counters.bytes == 100 * MB
    assert relay.all_closed()


async def test_an_answer_after_half_close() -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        left, right = relay.pair()
        async with left, right:
            await left.send_all(b"question")
            await left.send_eof()
            assert await read_all(right) == b"question"
            assert len(relay.book.spliced()) == 1
            await right.send_all(b"answer")
            await right.send_eof()
            assert await read_all(left) == b"answer"
    assert relay.all_closed()


async def test_what_the_first_half_says_waits_for_the_other() -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        async with relay.connect(relay.granted.target_token) as right:
            await right.send_all(b"early")
            async with relay.connect(relay.granted.origin_token) as left:
                assert await left.receive_some() == b"early"
                await left.send_all(b"late")
                assert await right.receive_some() == b"late"


async def test_one_side_dying_closes_the_other() -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        left, right = relay.pair()
        async with right:
            await left.send_all(b"x")
            assert await right.receive_some() == b"x"
            left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close says RST
            left.socket.close()
            assert await ended(right)
    assert relay.all_closed()


async def test_an_unknown_token_is_closed_at_once() -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        async with relay.connect(b"?" * 16) as stream:
            assert await ended(stream)
        assert relay.book.counters.unknown == 1


async def test_a_half_alone_is_closed_after_its_time(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        began = trio.current_time()
        async with relay.connect(relay.granted.origin_token) as stream:
            assert await ended(stream)
        assert trio.current_time() - began == pytest.approx(TOKEN_S, abs=0.1)
    assert relay.all_closed()


async def test_a_silent_pair_is_closed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        left, right = relay.pair()
        async with left, right:
            await left.send_all(b"x")
            assert await right.receive_some() == b"x"
            began = trio.current_time()
            assert await ended(left)
            assert await ended(right)
            assert trio.current_time() - began == pytest.approx(IDLE_S, abs=1)
    assert relay.all_closed()


@pytest.mark.parametrize("spliced", [True, False])
async def test_a_revoked_member_is_cut_off(spliced: bool) -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        left = relay.connect(relay.granted.origin_token)
        streams = [left, relay.connect(relay.granted.target_token)] if spliced else [left]
        await trio.testing.wait_all_tasks_blocked()
        relay.book.forget(B)
        for stream in streams:
            assert await ended(stream)
            stream.socket.close()
    assert relay.all_closed()


@pytest.mark.parametrize("spliced", [True, False])
async def test_cancelling_closes_everything(spliced: bool) -> None:
    async with trio.open_nursery() as relays:
        relay = Relay(relays)
        streams = relay.pair() if spliced else (relay.connect(relay.granted.origin_token),)
        await trio.testing.wait_all_tasks_blocked()
        for scope in relay.scopes:
            scope.cancel()
        for stream in streams:
            assert await ended(stream)
            stream.socket.close()
    assert relay.all_closed()
    assert relay.over == len(streams)


@pytest.mark.parametrize("settings", [RelaySettings(0, 8 * MB), RelaySettings(8 * MB, 0)])
async def test_the_budget_holds(settings: RelaySettings, autojump_clock: MockClock) -> None:
    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(bytes(5 * MB))
        await stream.send_eof()

    async with trio.open_nursery() as relays:
        relay = Relay(relays, settings)
        left, right = relay.pair()
        began = trio.current_time()
        async with left, right:
            relays.start_soon(send, left)
            assert len(await read_all(right)) == 5 * MB
            assert trio.current_time() - began == pytest.approx(5.0, rel=0.2)


async def test_no_descriptors_left_ends_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe2", full)
    async with trio.open_nursery() as relays:
        relay = Relay(relays, carrier=PipeCarrier)
        left, right = relay.pair()
        async with left, right:
            assert await ended(left)
            assert await ended(right)
    assert relay.all_closed()


def test_descriptors_are_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    with PipeCarrier():
        assert len(os.listdir("/proc/self/fd")) == before + 2  # noqa: PTH208 - names only
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names only


async def test_dialling_a_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        sock = await dial_relay(f"{host}:{port}", b"t" * 16)
        ours, _ = listener.accept()
        with sock, ours:
            assert ours.recv(100) == PREAMBLE + b"t" * 16
            assert not sock.getblocking()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:99999", "[::1:9"])
async def test_a_relay_that_is_not_there(address: str) -> None:
    with pytest.raises(Unavailable):
        await dial_relay(address, b"t" * 16)
