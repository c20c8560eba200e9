"""Numbered objects between whole nodes on loopback, and over paths that change under them."""

import hashlib
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from mesh.errors import Refused, StateError, Unavailable
from mesh.model import NodeId
from mesh.node.objects import mover, service
from mesh.node.objects.frame import OBJECT_BYTES_MAX, Kind, pack_frame
from mesh.node.objects.service import MissedObjects, ObjectReader, ObjectSender
from mesh.node.presence import Presence
from mesh.node.streams import service as streams

Loopback: TypeAlias = Any
Running: TypeAlias = Any

COUNT = 40
DISCARD_PORT = 9  # where nobody listens


def body(number: int, size: int = 30_000) -> bytes:
    return hashlib.shake_128(number.to_bytes(8, "big")).digest(size)


async def count_up(_peer: NodeId, argument: bytes, first: int, send: ObjectSender) -> None:
    """The source of these tests: so many objects as the argument says."""
    for number in range(first, int(argument)):
        await send(number, body(number))


async def read_all(reader: ObjectReader) -> list[tuple[int, bytearray]]:
    found = []
    with pytest.raises(trio.EndOfChannel):
        while True:
            found.append(await reader.receive())
    return found


def whole(found: list[tuple[int, bytearray]], first: int = 0, end: int = COUNT) -> bool:
    return found == [(number, body(number)) for number in range(first, end)]


async def test_every_object_in_order_from_either_end(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as nodes:
        for node in nodes:
            node.objects.serve("count", count_up)
        for node, peer in (nodes, list(reversed(nodes))):
            for first in (0, 7):
                async with node.objects.subscribe(peer.node, "count", b"%d" % COUNT, first) as reader:
                    with trio.fail_after(5):
                        assert whole(await read_all(reader), first)
                    assert [used.first for used in reader.paths] == [first]
                    assert reader.paths[0].path == "lan"
        assert not nodes[0].objects._served


async def test_big_objects_and_parts(loopback: Loopback) -> None:
    big = body(1, 5_000_000)

    async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
        await send(first, big[:1], memoryview(big)[1:3_000_000], bytearray(big[3_000_000:]))
        await send(first + 1)

    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("big", source)
        async with first.objects.subscribe(second.node, "big", first=3) as reader:
            assert await read_all(reader) == [(3, big), (4, b"")]
            with pytest.raises(trio.EndOfChannel):
                await reader.receive()


async def test_objects_that_are_gone_are_told(loopback: Loopback) -> None:
    async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
        for number in range(max(first, 5), 8):
            await send(number, body(number))

    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("window", source)
        async with first.objects.subscribe(second.node, "window", first=2) as reader:
            with pytest.raises(MissedObjects, match="objects 2 to 4 are gone") as missed:
                await reader.receive()
            assert (missed.value.first, missed.value.next) == (2, 5)
            assert whole(await read_all(reader), 5, 8)


async def test_a_source_that_refuses(loopback: Loopback) -> None:
    async def source(_peer: NodeId, argument: bytes, _first: int, send: ObjectSender) -> None:
        await send(0, b"x")
        raise Refused(f"no {argument.decode()} for you")

    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("private", source)
        async with first.objects.subscribe(second.node, "private", b"tea") as reader:
            assert await reader.receive() == (0, b"x")
            for _ in range(2):
                with pytest.raises(Refused, match="no tea for you"):
                    await reader.receive()


async def test_what_the_peer_does_not_serve(loopback: Loopback) -> None:
    async with (
        loopback.linked("first", "second") as (first, second),
        second.objects.subscribe(first.node, "absent") as reader,
    ):
        with trio.fail_after(5), pytest.raises(Unavailable, match="does not serve it"):
            await reader.receive()


async def test_a_peer_that_cannot_be_reached(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINK_S", 0.05)
    monkeypatch.setattr(mover, "GIVE_UP_S", 0.2)
    async with (
        loopback.linked("first", "second") as (first, _),
        first.objects.subscribe(loopback.make("third").node, "count") as reader,
    ):
        with trio.fail_after(5), pytest.raises(Unavailable, match="no link to"):
            await reader.receive()


class Source:
    """Counts, and lets the test say how far."""

    def __init__(self) -> None:
        self.until = 0
        self.calls: list[int] = []
        self.running = 0
        self.sent = 0
        self._more = trio.Event()

    def allow(self, until: int) -> None:
        self.until = until
        more, self._more = self._more, trio.Event()
        more.set()

    async def __call__(self, _peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
        self.calls.append(first)
        self.running += 1
        try:
            for number in range(first, COUNT):
                while number >= self.until:
                    await self._more.wait()
                await send(number, body(number))
                self.sent = number + 1
        finally:
            self.running -= 1


async def test_a_stream_that_breaks_is_made_anew(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        source = Source()
        second.objects.serve("count", source)
        source.allow(COUNT)
        async with first.objects.subscribe(second.node, "count") as reader:
            found = []
            with trio.fail_after(10), pytest.raises(trio.EndOfChannel):
                while True:
                    found.append(await reader.receive())
                    if len(found) in (1, 10, 11):
                        for stream in reader._streams.values():
                            stream.opened.connection.close()
            assert whole(found)
            assert reader.moves == 3
            assert [used.first for used in reader.paths] == [0, 1, 10, 11]


async def test_a_sequence_that_pauses_is_no_stall(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in ((service, "BEAT_S", 0.02), (mover, "SILENT_S", 0.2), (mover, "STALL_S", 0.2)):
        monkeypatch.setattr(module, name, value)
    async with loopback.linked("first", "second") as (first, second):
        source = Source()
        second.objects.serve("count", source)
        async with first.objects.subscribe(second.node, "count") as reader:
            with trio.move_on_after(0.6) as scope:
                await reader.receive()
            assert scope.cancelled_caught
            source.allow(COUNT)
            assert whole(await read_all(reader))
            assert source.calls == [0]
        with trio.fail_after(5):
            while source.running:
                await trio.lowlevel.checkpoint()


async def test_a_stream_that_stalls_is_left(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BEAT_S", 1000.0)
    monkeypatch.setattr(mover, "SILENT_S", 0.1)
    monkeypatch.setattr(mover, "STALL_S", 0.1)
    calls = []

    async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
        calls.append(first)
        if first < 5:
            await send(first, body(first))
            await send._send(pack_frame(Kind.OBJECT, first + 1, 100) + b"half")
            await trio.sleep_forever()
        await send(first, body(first))

    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("stalls", source)
        async with first.objects.subscribe(second.node, "stalls") as reader:
            with trio.fail_after(10):
                assert whole(await read_all(reader), 0, 6)
        assert calls == [0, 1, 2, 3, 4, 5]


async def test_a_reader_that_does_not_read_is_waited_for(loopback: Loopback) -> None:
    """The source gets as far as the kernel's buffers, and the object that is asked for is the next."""
    async with loopback.linked("first", "second") as (first, second):
        sent = []

        async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
            for number in range(first, 1000):
                await send(number, body(0, 1_000_000))
                sent.append(number)

        second.objects.serve("flood", source)
        async with first.objects.subscribe(second.node, "flood") as reader:
            await reader.receive()
            await trio.testing.wait_all_tasks_blocked(0.05)
            before = len(sent)
            assert before < 40
            for number in range(1, before + 20):
                assert (await reader.receive())[0] == number


async def test_a_slow_reader_is_cut_and_comes_back(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STUCK_S", 0.05)
    async with loopback.linked("first", "second") as (first, second):
        cut = trio.Event()

        async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
            try:
                for number in range(first, 60):
                    await send(number, body(0, 1_000_000))
            finally:
                cut.set()

        second.objects.serve("flood", source)
        async with first.objects.subscribe(second.node, "flood") as reader:
            await reader.receive()
            with trio.fail_after(5):
                await cut.wait()
            found = await read_all(reader)
            assert [number for number, _ in found] == list(range(1, 60))
            assert reader.moves >= 1


async def test_nothing_is_left_when_the_block_is_left(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        source = Source()
        second.objects.serve("count", source)
        source.allow(3)
        with pytest.raises(ValueError, match="enough"):
            async with first.objects.subscribe(second.node, "count") as reader:
                assert (await reader.receive())[0] == 0
                raise ValueError("enough")
        with trio.CancelScope() as scope:
            async with first.objects.subscribe(second.node, "count") as reader:
                assert (await reader.receive())[0] == 0
                scope.cancel()
                await reader.receive()
        assert scope.cancelled_caught
        assert not reader._streams
        assert not first._streams._listeners
        with trio.fail_after(5):
            while source.running or second.objects._served:
                await trio.lowlevel.checkpoint()
        assert not first.noted("fault")
        assert not second.noted("fault")


async def test_two_tasks_cannot_receive(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("count", Source())
        async with (
            first.objects.subscribe(second.node, "count") as reader,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(reader.receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await reader.receive()
            nursery.cancel_scope.cancel()


async def test_streams_served_are_bounded(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SERVED_PER_PEER_MAX", 1)
    async with loopback.linked("first", "second") as (first, second):
        source = Source()
        second.objects.serve("count", source)
        source.allow(1)
        async with first.objects.subscribe(second.node, "count") as reader:
            assert await reader.receive()
            async with first.objects.subscribe(second.node, "count") as other:
                with trio.fail_after(5), pytest.raises(Unavailable):
                    await other.receive()
        assert source.calls == [0]


async def test_a_source_that_says_numbers_twice(loopback: Loopback) -> None:
    wrong = []

    async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
        await send(first, b"1")
        for number, data in ((first, b"2"), (first + 1, bytes(OBJECT_BYTES_MAX + 1))):
            with pytest.raises(StateError):
                await send(number, data)
            wrong.append(number)

    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("twice", source)
        async with first.objects.subscribe(second.node, "twice") as reader:
            assert await read_all(reader) == [(0, b"1")]
        assert wrong == [0, 1]


@pytest.mark.parametrize("said", [b"", b"\x01", b"\x09" + bytes(12), pack_frame(Kind.IDLE, 0)])
async def test_readers_that_do_not_say_where_to_begin(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(service, "START_S", 0.05)
    async with loopback.linked("first", "second") as (first, second):
        source = Source()
        first.objects.serve("count", source)
        stream = await second.open_stream(first.node, "count")
        await stream.send_all(said)
        with trio.fail_after(2):
            assert await stream.receive_some() == b""
        await stream.aclose()
        assert not source.calls
        assert not first.noted("fault")


# --- paths that change


def hide(node: Running) -> Running:
    """A node that says no address, so that others find it through a relay only."""
    node.core.presence = Presence(DISCARD_PORT, ())
    return node


@pytest.mark.parametrize("at_boundary", [True, False])
async def test_it_moves_from_a_relay_to_a_direct_path(loopback: Loopback, at_boundary: bool) -> None:
    relay = loopback.make("first")
    one, other = hide(loopback.make("one", relay.address)), hide(loopback.make("other", relay.address))
    async with loopback.run(relay, one, other):
        await one.until(lambda: one.is_linked(other))
        source = Source()
        other.objects.serve("count", source)
        source.allow(COUNT if not at_boundary else 10)
        async with one.objects.subscribe(other.node, "count") as reader:
            found = [await reader.receive() for _ in range(5)]
            assert reader.paths[-1].path == "relayed via first"
            one.core.try_address(other.address, trio.current_time())
            one._advance()
            await one.until(lambda: one.core.connector.links[other.node].via is None)
            source.allow(COUNT)
            with trio.fail_after(10):
                found += await read_all(reader)
            assert whole(found)
            assert [used.path for used in reader.paths] == ["relayed via first", "lan"]
            assert 5 <= reader.paths[-1].first <= COUNT
            assert source.calls[-1] <= reader.paths[-1].first


async def test_it_goes_on_over_another_relay_when_one_dies(loopback: Loopback) -> None:
    relays = [loopback.make("first")]
    relays.append(loopback.make("spare", relays[0].address))
    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope(), trio.CancelScope()]

        async def run(relay: Running, scope: trio.CancelScope) -> None:
            with scope:
                await relay.run([relay.sock])

        for relay, scope in zip(relays, scopes, strict=True):
            nursery.start_soon(run, relay, scope)
        one, other = (hide(loopback.make(name, *(relay.address for relay in relays))) for name in "ab")
        async with loopback.run(one, other):
            for node, peer in ((one, other), (other, one)):
                await node.until(lambda node=node: all(map(node.is_linked, relays)))
                await node.until(lambda node=node, peer=peer: node.is_linked(peer))
            source = Source()
            other.objects.serve("count", source)
            source.allow(10)
            async with one.objects.subscribe(other.node, "count") as reader:
                found = [await reader.receive() for _ in range(8)]
                used = reader.paths[-1].path
                scopes[used == "relayed via spare"].cancel()
                source.allow(COUNT)
                with trio.fail_after(20):
                    found += await read_all(reader)
                assert whole(found)
                assert reader.paths[-1].path == "relayed via " + ("first" if "spare" in used else "spare")
        nursery.cancel_scope.cancel()
