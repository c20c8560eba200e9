"""Keeps the promise true while the node runs: looks at the clocks, and writes what must survive a restart."""

import time

import structlog
import trio

from fwnode.errors import StoreError
from fwnode.node import Node
from fwnode.promise.holds import Holds
from fwnode.promise.hours import WallTime
from fwnode.promise.model import PromiseView
from fwnode.store import Database

LOOK_S = 1.0  # between looks at what leaves and at the clocks
SAVE_S = 60.0  # how often counts go to disk; a crash loses at most this


def wall_time(unix_s: float) -> WallTime:
    """Local time, as the machine's settings have it."""
    local = time.localtime(unix_s)
    return WallTime(f"{local.tm_year:04d}-{local.tm_mon:02d}", local.tm_hour * 60 + local.tm_min)


class Keeping:
    """What changes a node's promise, by itself or as the operator wants it."""

    def __init__(self, node: Node, database: Database) -> None:
        self._node = node
        self._database = database
        self._turn = trio.Lock()  # one write at a time, the last one said is the last one written

    def look(self) -> None:
        """Once: clocks, counts, and holds that ended by themselves."""
        node, unix_s = self._node, time.time()
        ended = node.promise.look(node.reactor.now(), unix_s, wall_time(unix_s), node.sent_bytes)
        if ended:
            structlog.get_logger().info("resumed", reason="the time that was asked for is over")
        # Also without a change: what the workers may let in depends on all that leaves.
        node.on_hold()

    async def run(self) -> None:
        """Look until cancelled."""
        saved_at = self._node.reactor.now()
        while True:
            self.look()
            now = self._node.reactor.now()
            if now - saved_at >= SAVE_S:
                saved_at = now
                await self.save()
            await trio.sleep(LOOK_S)

    async def save(self) -> None:
        """Write counts; a full disk does not stop the node."""
        try:
            async with self._turn:
                await trio.to_thread.run_sync(self._database.keep_promise, self._node.promise.kept)
        except StoreError as error:
            structlog.get_logger().warning("volume not kept", reason=str(error))

    async def hold(self, holds: Holds) -> PromiseView:
        """Hold this and no more: on disk first, then in force. Raises StoreError."""
        promise = self._node.promise
        async with self._turn:
            kept = promise.kept
            if holds != promise.holds:
                kept = type(kept)(holds, kept.months, kept.observed_bps)
                await trio.to_thread.run_sync(self._database.keep_promise, kept)
                promise.hold(holds)
                structlog.get_logger().info(
                    "held" if holds.any else "resumed",
                    drain=sorted(holds.drain),
                    paused=holds.pause is not None,
                )
                self._node.on_hold()
        return self._node.promise_view()
