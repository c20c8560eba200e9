"""The shell with a router on loopback."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from mesh.nat.portmap.model import PortMapping
from mesh.nat.portmap.probe import Route
from mesh.nat.portmap.service import REMOVE_S, keep_mappings

PORT = 7077
OWN = "127.0.0.1"
WAIT_S = 10.0  # for what takes milliseconds on an idle machine
BOTH = {6: PORT, 17: PORT}


@pytest.fixture
def udp(gateway: str) -> Iterator[Callable[[int], trio.socket.SocketType]]:
    """Sockets on the gateway's address."""
    made = []

    def bind(port: int) -> trio.socket.SocketType:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.append(sock)
        sock.bind((gateway, port))
        return trio.socket.from_stdlib_socket(sock)

    yield bind
    for sock in made:
        sock.close()


async def serve(sock: trio.socket.SocketType, router: Any) -> None:
    while True:
        data, source = await sock.recvfrom(2000)
        answer = router.answer(data, trio.current_time())
        if answer is not None:
            await sock.sendto(answer, source)


async def answer_searches(sock: trio.socket.SocketType, url: str) -> None:
    while True:
        _, source = await sock.recvfrom(2000)
        await sock.sendto(b"garbage", source)
        await sock.sendto(f"HTTP/1.1 200 OK\r\nLOCATION: {url}\r\n\r\n".encode(), source)


class Told:
    """What `keep_mappings` said."""

    def __init__(self) -> None:
        self.all: list[PortMapping | str | None] = []
        self._more = trio.Event()

    def take(self, said: PortMapping | str | None) -> None:
        self.all.append(said)
        self._more.set()
        self._more = trio.Event()

    async def wait(self, count: int) -> Any:
        with trio.fail_after(WAIT_S):
            while len(self.all) < count:
                await self._more.wait()
        return self.all[count - 1]


@asynccontextmanager
async def kept(*routes: Route | None, **options: Any) -> AsyncIterator[tuple[Told, trio.Nursery]]:
    """`keep_mappings`, with these routes one after the other; the last one stays."""
    left = list(routes)
    told = Told()

    def find_route() -> Route | None:
        return left.pop(0) if len(left) > 1 else left[0]

    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[None]) -> None:
            await keep_mappings(
                PORT,
                told.take,
                on_trouble=told.take,
                find_route=find_route,
                task_status=task_status,
                **options,
            )

        await nursery.start(start)
        yield told, nursery
        nursery.cancel_scope.cancel()


async def test_mapped_and_removed_at_the_end(gateway: str, make_router: Any, udp: Any) -> None:
    router = make_router(began=trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, udp(5351), router)
        async with kept(Route(gateway, OWN)) as (told, _):
            mapping = await told.wait(1)
            assert (mapping.protocol, mapping.external) == ("pcp", f"203.0.113.7:{PORT}")
            assert router.mapped == BOTH
        assert router.mapped == {}
        nursery.cancel_scope.cancel()
    assert len(told.all) == 1


async def test_the_secret_gives_the_same_nonce(gateway: str, make_router: Any, udp: Any) -> None:
    router = make_router(began=trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, udp(5351), router)
        nonces = []
        for secret in (b"one", b"one", b"other", b"", b""):
            router.heard.clear()
            async with kept(Route(gateway, OWN), secret=secret) as (told, _):
                await told.wait(1)
            nonces.append({data[24:36] for data in router.heard})
        nursery.cancel_scope.cancel()
    assert all(len(found) == 1 for found in nonces)
    assert nonces[0] == nonces[1]
    assert len(set.union(*nonces)) == 4


async def test_by_upnp(gateway: str, igd: Any, udp: Any) -> None:
    pytest.importorskip("miniupnpc")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_searches, udp(1900), igd.url)
        async with kept(Route(gateway, OWN), watch_s=0.05) as (told, _):
            mapping = await told.wait(1)
            assert (mapping.protocol, mapping.external) == ("upnp", f"203.0.113.7:{PORT}")
            igd.has_both.clear()
            igd.mapped.clear()
            assert await trio.to_thread.run_sync(igd.has_both.wait, WAIT_S)
            assert len(told.all) == 1
        assert igd.mapped == {}
        nursery.cancel_scope.cancel()


async def test_a_hanging_removal_by_upnp_is_given_up(gateway: str, igd: Any, udp: Any) -> None:
    pytest.importorskip("miniupnpc")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_searches, udp(1900), igd.url)
        async with kept(Route(gateway, OWN)) as (told, _):
            await told.wait(1)
            igd.hangs.clear()
            began = trio.current_time()
        assert REMOVE_S * 0.9 < trio.current_time() - began < REMOVE_S + 1.0
        nursery.cancel_scope.cancel()


async def test_nobody_there(gateway: str, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with kept(Route(gateway, OWN)) as (told, _):
        assert "PCP: it has that switched off, NAT-PMP: it has" in await told.wait(1)
        assert trio.current_time() - began < 3.0
        await trio.sleep(3600.0)
    assert len(told.all) == 1


async def test_a_router_that_is_gone_at_the_end(
    gateway: str, make_router: Any, udp: Any, autojump_clock: MockClock
) -> None:
    router = make_router(began=trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, udp(5351), router)
        async with kept(Route(gateway, OWN)) as (told, _):
            await told.wait(1)
            router.silent = True
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(REMOVE_S)
        nursery.cancel_scope.cancel()


async def test_another_network(gateway: str, make_router: Any, udp: Any, autojump_clock: MockClock) -> None:
    """Given back to the old router, lost, and asked for again."""
    router = make_router(began=trio.current_time())
    here, nowhere = Route(gateway, OWN), None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, udp(5351), router)
        async with kept(nowhere, nowhere, here, here, here, nowhere, nowhere, here) as (told, _):
            await told.wait(3)
            assert [said and said.external for said in told.all if not isinstance(said, str)] == [
                f"203.0.113.7:{PORT}",
                None,
                f"203.0.113.7:{PORT}",
            ]
            assert router.mapped == BOTH
        nursery.cancel_scope.cancel()


async def test_a_public_host_asks_nobody(
    gateway: str, make_router: Any, udp: Any, autojump_clock: MockClock
) -> None:
    router = make_router()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, udp(5351), router)
        async with kept(Route(gateway, "203.0.113.5")) as (told, _):
            await trio.sleep(3600.0)
        nursery.cancel_scope.cancel()
    assert not router.heard
    assert told.all == []


async def test_garbage_from_the_router(gateway: str, udp: Any, autojump_clock: MockClock) -> None:
    class Babbler:
        def answer(self, data: bytes, now: float) -> bytes:
            return bytes([2, 0x81, 0, 0]) * 300

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, udp(5351), Babbler())
        async with kept(Route(gateway, OWN)) as (told, _):
            assert "PCP: no answer" in await told.wait(1)
        nursery.cancel_scope.cancel()
