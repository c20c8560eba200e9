"""Speed tests between whole nodes on loopback."""

import hashlib
from typing import Any, TypeAlias

import pytest
import trio

from mesh.errors import Refused, Unavailable
from mesh.model import NodeId
from mesh.node.objects.service import ObjectSender
from mesh.node.speed import service
from mesh.node.speed.model import BYTES_MAX, OBJECT_BYTES, SpeedPath
from mesh.node.speed.pattern import pack_request

Loopback: TypeAlias = Any


async def test_all_comes_and_is_right(loopback: Loopback) -> None:
    async with loopback.linked("first", "second") as (first, second):
        found = await first.speed_test(second.node, 3 * OBJECT_BYTES + 1)
        assert (found.node, found.name) == (second.node.hex(), "second")
        assert (found.bytes, found.objects, found.complete) == (3 * OBJECT_BYTES + 1, 4, True)
        assert found.paths == [SpeedPath("lan", 0)]
        assert found.intact
        assert found.bytes_per_s > 0
        assert found.seconds >= found.first_object_s > 0
        assert (found.duplicates, found.moves, found.trouble) == (0, 0, "")
        again = await first.speed_test(second.node, 3 * OBJECT_BYTES + 1)
        assert again.sha256 != found.sha256


async def test_wrong_bytes_are_told(loopback: Loopback) -> None:
    async def source(_peer: NodeId, _argument: bytes, first: int, send: ObjectSender) -> None:
        await send(first, bytes(10))

    async with loopback.linked("first", "second") as (first, second):
        second.objects.serve("speed", source)
        found = await first.speed_test(second.node, OBJECT_BYTES + 10)
        assert not found.intact
        assert not found.complete
        assert found.trouble == "the peer sent less"
        assert found.sha256 == hashlib.sha256(bytes(10)).hexdigest()


async def test_time_is_bounded_at_both_ends(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback.linked("first", "second") as (first, second):
        with pytest.raises(Unavailable, match="nothing came from second: the time was up"):
            await first._speed.run(second.node, 1, 0.0)
        monkeypatch.setattr(service, "SERVED_S", 0.0)
        with pytest.raises(Unavailable, match="nothing came"):
            await first._speed.run(second.node, 1 << 30, 0.3)
        assert not second.noted("fault")


@pytest.mark.parametrize("argument", [b"", *(pack_request(bytes(16), total) for total in (0, BYTES_MAX + 1))])
async def test_what_may_not_be_asked(loopback: Loopback, argument: bytes) -> None:
    async with (
        loopback.linked("first", "second") as (first, second),
        first.objects.subscribe(second.node, "speed", argument) as reader,
    ):
        with trio.fail_after(5), pytest.raises(Refused, match="speed test"):
            await reader.receive()


async def test_how_many_run_is_bounded(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SERVED_MAX", 0)
    monkeypatch.setattr(service, "TESTS_MAX", 1)
    async with loopback.linked("first", "second") as (first, second):
        with pytest.raises(Refused, match="run there already"):
            await first.speed_test(second.node, 1)
        first._speed._testing.acquire_on_behalf_of_nowait("another")
        with pytest.raises(Unavailable, match="run already"):
            await first.speed_test(second.node, 1)
