"""A secure connection as a stream of bytes, and frames on it."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from mesh.errors import RemoteError
from mesh.link.channel import service as channel_service
from mesh.link.channel.service import ENDED, LOST, STALLED, Channel
from mesh.link.connection.service import SENDS_PER_TURN, SecureConnection, secure
from mesh.link.frame import FRAME_BYTES_MAX

Pair = tuple[SecureConnection, SecureConnection]
BULK = bytes(range(256)) * 20_000  # 5 MB: many times the socket's buffers


@pytest.fixture
async def pair(network: Any) -> AsyncIterator[Pair]:
    """The dialler's end and the other's, as over a relay."""
    ends: dict[bool, SecureConnection] = {}
    near, far = socket.socketpair()

    async def make(sock: socket.socket, name: str, dialler: bool) -> None:
        ends[dialler] = await secure(sock, network.member(name), dialler=dialler, relayed=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make, near, "second", True)
        nursery.start_soon(make, far, "first", False)
    yield ends[True], ends[False]
    for end in ends.values():
        end.close()


async def test_over_a_relay_no_addresses(pair: Pair) -> None:
    for end in pair:
        assert (end.peer.remote, end.peer.observed) == ("", "")


async def test_bulk_both_ways_at_once(pair: Pair) -> None:
    got: dict[int, bytearray] = {0: bytearray(), 1: bytearray()}

    async def receive(which: int) -> None:
        buffer = bytearray(100_000)
        while len(got[which]) < len(BULK):
            if which:
                got[which] += await pair[which].receive_some()
            else:
                got[which] += buffer[: await pair[which].receive_into(buffer)]

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for which in (0, 1):
                nursery.start_soon(pair[which].send_all, memoryview(BULK))
                nursery.start_soon(receive, which)
    assert got[0] == got[1] == BULK
    assert [(end.bytes_in, end.bytes_out) for end in pair] == [(len(BULK), len(BULK))] * 2


async def test_small_reads(pair: Pair) -> None:
    await pair[0].send_all(b"abcdef")
    assert await pair[1].receive_some(1) == b"a"
    buffer = bytearray(2)
    assert await pair[1].receive_into(buffer) == 2
    assert buffer == b"bc"
    assert await pair[1].receive_some(100) == b"def"


async def test_records_that_arrive_together_are_all_read(pair: Pair) -> None:
    said = [bytes([number]) * size for number, size in enumerate((1, 16384, 5, 40_000, 16384 * 4, 7))]
    for data in said:
        await pair[0].send_all(data)
    got, buffer = b"", bytearray(30_000)
    with trio.fail_after(10):
        while len(got) < sum(map(len, said)):
            got += await pair[1].receive_some()
            if len(got) < sum(map(len, said)):
                got += buffer[: await pair[1].receive_into(buffer)]
    assert got == b"".join(said)


async def test_many_small_sends_let_other_tasks_have_their_turn(pair: Pair) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(4 * SENDS_PER_TURN):
            await pair[0].send_all(b"x")
        nursery.cancel_scope.cancel()
    assert turns >= 2  # the first is its beginning, the last may be to come


async def test_a_send_that_need_not_wait_can_be_cancelled(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair[0].send_all(b"x")
    assert scope.cancelled_caught
    await pair[0].send_all(b"y")
    assert await pair[1].receive_some() == b"y"


async def test_end_is_told_apart_from_a_cut(pair: Pair) -> None:
    await pair[0].send_all(b"last words")
    await pair[0].aclose()
    assert await pair[1].receive_some() == b"last words"
    assert await pair[1].receive_some() == b""
    assert await pair[1].receive_into(bytearray(1)) == 0
    pair[0].close()


async def test_cut(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(trio.BrokenResourceError):
        await pair[1].receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await pair[1].send_all(b"x")


async def test_closed_here(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair[0].receive_some()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        pair[0].close()
    with pytest.raises(trio.ClosedResourceError):
        await pair[0].send_all(b"x")
    await pair[0].aclose()


async def test_cancelled_send_ends_sending(pair: Pair) -> None:
    with trio.move_on_after(0.01) as scope:
        await pair[0].send_all(BULK)
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await pair[0].send_all(b"x")


async def test_two_senders(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair[0].send_all, BULK)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pair[0].send_all(b"x")
        nursery.start_soon(pair[1].receive_some)
        nursery.cancel_scope.cancel()


class Frames:
    def __init__(self, want: int) -> None:
        self.got: list[tuple[int, bytes]] = []
        self.want = want
        self.done = trio.Event()

    def take(self, kind: int, data: bytes) -> None:
        self.got.append((kind, data))
        if len(self.got) == self.want:
            self.done.set()


async def test_frames(pair: Pair) -> None:
    channels = [Channel(end) for end in pair]
    frames = [Frames(200), Frames(200)]
    sent = [(kind, bytes([kind]) * (kind * 100)) for kind in range(200)]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for channel, taken in zip(channels, frames, strict=True):
                nursery.start_soon(channel.run, taken.take)
                for kind, data in sent[:100]:
                    channel.send(kind, data)
            await channels[0].flush()
            for channel in channels:
                for kind, data in sent[100:]:
                    channel.send(kind, data)
            for taken in frames:
                await taken.done.wait()
            channels[0].close("enough")
    assert frames[0].got == frames[1].got == sent
    assert channels[0].reason == "enough"
    assert channels[1].reason == LOST
    assert [channel.frames_in for channel in channels] == [200, 200]


async def test_goodbye_arrives(pair: Pair) -> None:
    near, far = Channel(pair[0]), Channel(pair[1])
    frames = Frames(1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.run, frames.take)
            nursery.start_soon(near.run, frames.take)
            near.send(9, b"goodbye")
            await near.flush()
            await pair[0].aclose()
    assert frames.got == [(9, b"goodbye")]
    assert far.reason == ENDED


async def test_who_does_not_read_is_dropped(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_service, "QUEUED_BYTES_MAX", 1_000_000)
    channel = Channel(pair[0])
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run, lambda kind, data: None)
            while not channel.reason:
                channel.send(1, bytes(FRAME_BYTES_MAX))
                assert channel.queued_bytes <= 1_000_000
                await trio.testing.wait_all_tasks_blocked()
    assert channel.reason == STALLED
    channel.send(1, b"ignored")
    assert channel.queued_bytes == 0


async def test_bad_frames_close(pair: Pair) -> None:
    channel = Channel(pair[0])
    await pair[1].send_all(b"\x01\xff\xff\xff")
    with trio.fail_after(30):
        await channel.run(lambda kind, data: None)
    assert "are allowed" in channel.reason


async def test_who_takes_frames_may_refuse_and_close(pair: Pair) -> None:
    def refuse(kind: int, _data: bytes) -> None:
        raise RemoteError(f"no kind {kind}")

    channel = Channel(pair[0])
    await pair[1].send_all(b"\x01\0\0\0\x02\0\0\0")
    with trio.fail_after(30):
        await channel.run(refuse)
    assert channel.reason == "no kind 1"


async def test_cancelled_run_closes(pair: Pair) -> None:
    channel = Channel(pair[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run, lambda kind, data: None)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert channel.reason == "stopped"
    with pytest.raises(trio.ClosedResourceError):
        await pair[0].send_all(b"x")
