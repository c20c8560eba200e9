"""Measures how fast bytes come from a member, and answers members that measure this node."""

import hashlib
import secrets
from collections.abc import Callable

import trio

from mesh.errors import Refused, Unavailable, WireError
from mesh.model import NodeId
from mesh.node.objects.service import Objects, ObjectSender
from mesh.node.speed.model import SPEED, TEST_S, SpeedPath, SpeedResult
from mesh.node.speed.pattern import (
    SEED_BYTES,
    count_of,
    digest,
    pack_request,
    parse_request_untrusted,
    part,
)

SERVED_S = TEST_S + 30.0  # of one stream: a test and the moves in it
SERVED_MAX = 8  # streams at a time: a test that moves has two, and one on a dead path for a while
TESTS_MAX = 2  # of this node's own at a time: more measure each other
RETRY_S = 5.0


class SpeedTests:
    """Both ends of one node."""

    def __init__(self, objects: Objects, name_of: Callable[[NodeId], str]) -> None:
        self._objects = objects
        self._name_of = name_of
        self._serving = trio.CapacityLimiter(SERVED_MAX)
        self._testing = trio.CapacityLimiter(TESTS_MAX)
        objects.serve(SPEED, self._source)

    async def _source(self, _peer: NodeId, argument: bytes, first: int, send: ObjectSender) -> None:
        try:
            seed, total = parse_request_untrusted(argument)
        except WireError as error:
            raise Refused(str(error)) from None
        try:
            self._serving.acquire_nowait()
        except trio.WouldBlock:
            raise Refused(f"{SERVED_MAX} speed tests run there already") from None
        try:
            with trio.move_on_after(SERVED_S) as scope:
                for number in range(first, count_of(total)):
                    await send(number, part(seed, total, number))
            if scope.cancelled_caught:
                raise trio.BrokenResourceError("a speed test took too long")
        finally:
            self._serving.release()

    async def run(self, peer: NodeId, total: int, limit_s: float = TEST_S) -> SpeedResult:
        """Have `total` bytes sent by a member, for `limit_s` at most.

        Raises Unavailable when nothing came, Refused when the peer does not want to.
        """
        try:
            self._testing.acquire_nowait()
        except trio.WouldBlock:
            raise Unavailable(f"{TESTS_MAX} speed tests run already", RETRY_S) from None
        try:
            return await self._run(peer, total, limit_s)
        finally:
            self._testing.release()

    async def _run(self, peer: NodeId, total: int, limit_s: float) -> SpeedResult:
        seed, count = secrets.token_bytes(SEED_BYTES), count_of(total)
        seen, came, taken, trouble = hashlib.sha256(), 0, 0, "the time was up"
        began = last = trio.current_time()
        first_s = longest_s = 0.0
        async with self._objects.subscribe(peer, SPEED, pack_request(seed, total)) as reader:
            with trio.move_on_after(limit_s):
                try:
                    while taken < count:
                        _, data = await reader.receive()
                        now = trio.current_time()
                        seen.update(data)
                        came, taken = came + len(data), taken + 1
                        first_s = first_s or now - began
                        longest_s = max(longest_s, now - last) if taken > 1 else 0.0
                        last = now
                    trouble = ""
                except Unavailable as error:
                    trouble = str(error)
                except trio.EndOfChannel:
                    trouble = "the peer sent less"
        if not taken:
            raise Unavailable(f"nothing came from {self._name_of(peer)}: {trouble}", RETRY_S)
        found = seen.hexdigest()
        expected = await trio.to_thread.run_sync(digest, seed, total, taken)
        return SpeedResult(
            node=peer.hex(),
            name=self._name_of(peer),
            bytes=came,
            complete=came == total,
            seconds=round(last - began, 6),
            bytes_per_s=round(came / max(last - began, 1e-9), 1),
            first_object_s=round(first_s, 6),
            longest_gap_s=round(longest_s, 6),
            objects=taken,
            duplicates=reader.duplicates,
            moves=reader.moves,
            paths=[SpeedPath(used.path, used.first) for used in reader.paths],
            sha256=found,
            intact=found == expected,
            trouble=trouble,
        )
