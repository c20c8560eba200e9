"""A QUIC stream as a stream of bytes: everything that a TLS connection does."""

from typing import Any

import pytest
import trio
import trio.testing

from mesh.link.channel.service import LOST, Channel
from mesh.link.model import Connection
from mesh.link.quic import transport

BULK = bytes(range(256)) * 20_000  # 5 MB: many times the windows


def as_connection(connection: Connection) -> Connection:
    return connection


async def test_it_is_a_connection(pair: Any) -> None:
    async with pair() as (near, far, dialler, other):
        for end in (near, far):
            assert as_connection(end).purpose == ""
        assert near.peer.dialled and not far.peer.dialled
        assert near.peer.remote == far.peer.observed == other.address
        assert far.peer.remote == near.peer.observed == dialler.address
        assert 0 < near.peer.round_trip_s < 1


async def test_bulk_both_ways_at_once(pair: Any) -> None:
    async with pair() as (near, far, *_nodes):
        got: dict[Any, bytearray] = {near: bytearray(), far: bytearray()}

        async def receive(end: Any) -> None:
            buffer = bytearray(100_000)
            while len(got[end]) < len(BULK):
                if end is near:
                    got[end] += await end.receive_some()
                else:
                    got[end] += buffer[: await end.receive_into(buffer)]

        async with trio.open_nursery() as nursery:
            for end in (near, far):
                nursery.start_soon(end.send_all, memoryview(BULK))
                nursery.start_soon(receive, end)
        assert got[near] == got[far] == BULK
        assert [(end.bytes_in, end.bytes_out) for end in (near, far)] == [(len(BULK), len(BULK))] * 2


async def test_small_reads(pair: Any) -> None:
    async with pair() as (near, far, *_nodes):
        await near.send_all(b"abcdef")
        assert await far.receive_some(1) == b"a"
        buffer = bytearray(2)
        assert await far.receive_into(buffer) == 2
        assert buffer == b"bc"
        assert await far.receive_some(100) == b"def"


async def test_end_is_told_apart_from_a_cut(pair: Any, all_gone: Any) -> None:
    async with pair() as (near, far, dialler, other):
        await near.send_all(BULK[:500_000])
        await near.aclose()
        got = b""
        while data := await far.receive_some():
            got += data
        assert got == BULK[:500_000]
        assert await far.receive_into(bytearray(1)) == 0
        near.close()
        await far.aclose()
        await all_gone(dialler, other)


async def test_cut(pair: Any) -> None:
    async with pair() as (near, far, *_nodes):
        near.close()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"x")


async def test_closed_here(pair: Any) -> None:
    async with pair() as (near, _far, *_nodes):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await near.receive_some()

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            near.close()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        await near.aclose()


async def test_cancelled_send_ends_sending(pair: Any) -> None:
    async with pair() as (near, _far, *_nodes):
        with trio.move_on_after(0.05) as scope:
            await near.send_all(BULK)
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")


async def test_cancelled_receive_loses_nothing(pair: Any) -> None:
    async with pair() as (near, far, *_nodes):
        with trio.move_on_after(0.01):
            await far.receive_some()
        await near.send_all(b"all of it")
        assert await far.receive_some() == b"all of it"


async def test_two_senders(pair: Any) -> None:
    async with pair() as (near, _far, *_nodes), trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, BULK)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await near.send_all(b"x")
        nursery.cancel_scope.cancel()


async def test_hand_over(pair: Any) -> None:
    async with pair() as (near, far, *_nodes):
        taken = near.hand_over("else", b"argument")
        assert (taken.purpose, taken.argument, taken.peer) == ("else", b"argument", near.peer)
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        await taken.send_all(b"through the other")
        assert await far.receive_some() == b"through the other"


async def test_a_slow_reader_fills_no_memory_and_holds_up_nobody(pair: Any) -> None:
    async with pair() as (near, far, _dialler, other):
        slow = await near.carrier.open_stream("slow")
        far_slow = await other.connections.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send_all, BULK)
            nursery.start_soon(near.send_all, BULK[:3_000_000])
            got = 0
            while got < 3_000_000:
                got += len(await far.receive_some())
            held = far_slow._stream.size
            assert 0 < held <= transport.FIRST_WINDOW_BYTES
            assert slow.bytes_out - held <= transport.SEND_BUFFER_BYTES
            got = 0
            while got < len(BULK):
                got += len(await far_slow.receive_some())
                assert far_slow._stream.size <= transport.STREAM_WINDOW_BYTES


async def test_frames_of_a_link(pair: Any) -> None:
    async with pair() as (near, far, *_nodes):
        channels = [Channel(near), Channel(far)]
        got: list[tuple[int, bytes]] = []
        done = trio.Event()

        def take(kind: int, data: bytes) -> None:
            got.append((kind, data))
            if len(got) == 200:
                done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(channels[0].run, lambda kind, data: None)
            nursery.start_soon(channels[1].run, take)
            for kind in range(200):
                channels[0].send(kind, bytes([kind]) * kind * 100)
            await done.wait()
            channels[0].close("enough")
        assert got == [(kind, bytes([kind]) * kind * 100) for kind in range(200)]
        assert channels[1].reason == LOST
