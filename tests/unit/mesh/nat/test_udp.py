"""The UDP port on loopback: order, batches, sockets beside it, and what the kernel does not take."""

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mesh.address import show_address
from mesh.nat.udp import service
from mesh.nat.udp.service import MESH_PORT, UdpPort

IP_RECVTTL = 12  # linux/in.h

Came = tuple[int, bytes, str]


def bound(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    return sock


class Taken:
    """What came to a port."""

    def __init__(self, port: UdpPort) -> None:
        self.port = port
        self.came: list[Came] = []
        self.turns = 0
        self.more = trio.Event()

    def take(self, number: int, data: bytes, source: str) -> None:
        self.came.append((number, data, source))

    def turn(self) -> None:
        self.turns += 1
        self.more.set()
        self.more = trio.Event()

    async def until(self, count: int) -> list[Came]:
        with trio.fail_after(10):
            while len(self.came) < count:
                await self.more.wait()
        return self.came

    @property
    def address(self) -> str:
        return self.port.local(MESH_PORT)


@asynccontextmanager
async def ports(*families: int) -> AsyncIterator[list[Taken]]:
    async with trio.open_nursery() as nursery:
        taken = [Taken(UdpPort([bound(family)])) for family in families]
        for each in taken:
            await nursery.start(each.port.run, each.take, each.turn)
        yield taken
        nursery.cancel_scope.cancel()


def socket_of(port: UdpPort) -> socket.socket:
    return next(iter(port._mesh.values())).sock


@pytest.mark.parametrize("segments", [True, False], ids=["in one call", "one by one"])
async def test_all_sizes_arrive_in_order(segments: bool) -> None:
    async with ports(socket.AF_INET, socket.AF_INET) as (near, far):
        next(iter(near.port._mesh.values())).segments = segments
        sizes = [1200] * 100 + [40, 40, 41, 1, 1400, 1400, 3, 1400, 9000, 9000, 20, 1, 1, 60_000, 7]
        sent = [os.urandom(size) for size in sizes]
        for first in range(0, len(sent), 30):
            near.port.send(MESH_PORT, far.address, sent[first : first + 30])
            await far.until(min(len(sent), first + 30))
        assert far.came == [(MESH_PORT, data, near.address) for data in sent]
        counters = near.port.counters
        assert (counters.datagrams_out, counters.bytes_out) == (len(sent), sum(sizes))
        assert (far.port.counters.datagrams_in, far.port.counters.bytes_in) == (len(sent), sum(sizes))
        assert near.port.counters.dropped_full == 0


async def test_a_batch_is_one_turn() -> None:
    async with ports(socket.AF_INET, socket.AF_INET) as (near, far):
        near.port.send(MESH_PORT, far.address, [bytes(1000)] * 50)
        await far.until(50)
        assert far.turns <= 2


async def test_a_kernel_without_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ports(socket.AF_INET, socket.AF_INET) as (near, far):
        port = next(iter(near.port._mesh.values()))
        port.sock = Refusing(port.sock)  # type: ignore[assignment]  # has what is used
        near.port.send(MESH_PORT, far.address, [b"abc"] * 5)
        assert [data for _number, data, _source in await far.until(5)] == [b"abc"] * 5
        assert not port.segments
        near.port.send(MESH_PORT, far.address, [b"abc"] * 5)
        await far.until(10)
        assert port.sock.calls == 1


class Refusing:
    """A socket of a kernel that does not know UDP_SEGMENT."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.calls = 0

    def sendmsg(self, *args: Any) -> int:
        self.calls += 1
        raise OSError(errno.EINVAL, "Invalid argument")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


async def test_ipv6() -> None:
    async with ports(socket.AF_INET6, socket.AF_INET6) as (near, far):
        address = show_address(socket_of(far.port).getsockname())
        assert address.startswith("[::1]:")
        near.port.send(MESH_PORT, address, [b"six"])
        ((_number, data, source),) = await far.until(1)
        assert (data, source) == (b"six", show_address(socket_of(near.port).getsockname()))


async def test_v4_through_a_v6_socket_is_shown_as_v4() -> None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    number = sock.getsockname()[1]
    async with ports(socket.AF_INET) as (near,), trio.open_nursery() as nursery:
        both = Taken(UdpPort([sock]))
        await nursery.start(both.port.run, both.take, both.turn)
        near.port.send(MESH_PORT, f"127.0.0.1:{number}", [b"four"])
        ((_number, _data, source),) = await both.until(1)
        assert source == near.address
        nursery.cancel_scope.cancel()


async def test_fresh_sockets() -> None:
    async with ports(socket.AF_INET, socket.AF_INET) as (near, far):
        numbers = near.port.fresh(3)
        assert len(set(numbers)) == 3 and MESH_PORT not in numbers
        for number in numbers:
            near.port.send(number, far.address, [b"from a fresh one"])
        came = await far.until(3)
        assert len({source for _number, _data, source in came}) == 3
        for _number, _data, source in list(came):
            far.port.send(MESH_PORT, source, [b"back"])
        assert sorted(number for number, _data, _source in await near.until(3)) == sorted(numbers)
        near.port.close(numbers[:2])
        near.port.close([*numbers[:2], 4711])
        near.port.send(numbers[0], far.address, [b"x"])
        assert near.port.counters.dropped_other == 1
        assert near.port.local(numbers[0]) == ""
        assert near.port.local(numbers[2]) != ""


async def test_fresh_sockets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FRESH_MAX", 5)
    async with ports(socket.AF_INET) as (near,):
        assert len(near.port.fresh(4)) == 4
        assert len(near.port.fresh(4)) == 1


async def test_a_socket_closed_by_what_came_to_it() -> None:
    async with ports(socket.AF_INET) as (far,), trio.open_nursery() as nursery:
        port = UdpPort([bound()])
        came: list[bytes] = []

        def take(number: int, data: bytes, source: str) -> None:
            came.append(data)
            port.close([number])

        await nursery.start(port.run, take)
        (number,) = port.fresh(1)
        port.send(number, far.address, [b"here"])
        ((_number, _data, source),) = await far.until(1)
        far.port.send(MESH_PORT, source, [b"one"])
        far.port.send(MESH_PORT, source, [b"two"])
        with trio.fail_after(5):
            while not came:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert len(came) <= 2


async def test_a_hop_count_for_one_datagram_only() -> None:
    async with ports(socket.AF_INET) as (near,):
        heard = bound()
        heard.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        address = show_address(heard.getsockname())
        near.port.send(MESH_PORT, address, [b"a"], ttl=3)
        near.port.send(MESH_PORT, address, [b"b"])
        heard.settimeout(5)
        seen = []
        for _ in range(2):
            data, extra, _flags, _from = heard.recvmsg(100, 100)
            seen.append((data, struct.unpack("=i", extra[0][2])[0]))
        assert seen[0] == (b"a", 3)
        assert seen[1][1] > 3
        heard.close()


async def test_what_cannot_be_sent_is_counted() -> None:
    async with ports(socket.AF_INET) as (near,):
        near.port.send(MESH_PORT, "127.0.0.1:9", [bytes(70_000)])
        assert near.port.counters.dropped_large == 1
        for address in ("[::1]:9", "name:9", "127.0.0.1:0", "nonsense", ""):
            near.port.send(MESH_PORT, address, [b"x"])
        assert near.port.counters.dropped_other == 5
        assert near.port.local(MESH_PORT, socket.AF_INET6) == ""


async def test_nobody_there_is_no_error() -> None:
    async with ports(socket.AF_INET, socket.AF_INET) as (near, far):
        closed = bound()
        address = show_address(closed.getsockname())
        closed.close()
        for _ in range(3):
            near.port.send(MESH_PORT, address, [b"x"])
        far.port.send(MESH_PORT, near.address, [b"still here"])
        assert (await near.until(1))[0][1] == b"still here"


async def test_a_full_buffer_drops_and_says_so() -> None:
    async with ports(socket.AF_INET) as (near,):
        port = next(iter(near.port._mesh.values()))
        port.sock = Full(port.sock)  # type: ignore[assignment]  # has what is used
        near.port.send(MESH_PORT, "127.0.0.1:9", [b"x"] * 10)
        near.port.send(MESH_PORT, "127.0.0.1:9", [b"x"])
        assert near.port.counters.dropped_full == 11


class Full(Refusing):
    """A socket whose buffer is full."""

    def sendmsg(self, *args: Any) -> int:
        raise BlockingIOError(errno.EAGAIN, "again")

    sendto = sendmsg


async def test_sources_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ADDRESSES_MAX", 4)
    async with ports(socket.AF_INET) as (near,):
        for number in range(20):
            near.port.send(MESH_PORT, f"127.0.0.1:{1000 + number}", [b"x"])
            near.port._show(("10.0.0.1", number))
        assert len(near.port._parsed) <= 4
        assert len(near.port._shown) <= 4


async def test_cancelled_it_closes_its_sockets() -> None:
    async with ports(socket.AF_INET) as (near,):
        near.port.fresh(2)
        sock = socket_of(near.port)
    assert sock.fileno() == -1
    assert near.port.local(1) == ""
