"""Acts on the load that renditions make, and writes down what was made."""

import importlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from fwnode.errors import StoreError
from fwnode.node import Node
from fwnode.store import Database
from fwnode.transcoding.ledger import Ledger
from fwnode.transcoding.model import Transcoding

if TYPE_CHECKING:
    from fwnode.transcoding.broker import Broker

LOOK_S = 1.0
WRITE_S = 60.0  # a crash loses at most so much of the sums
MEASURE_AFTER_S = (
    60.0  # from the first stream that gets renditions: a node that starts has other things to do
)
MEASURE_AGAIN_S = 3600.0  # after it failed


async def serve_transcoding(node: Node, parts: Transcoding, database: Database, folder: Path) -> None:
    """Until cancelled. What was not written by then is left to `write_usage`."""
    async with trio.open_nursery() as nursery:
        if parts.broker is not None:
            # What runs trials takes time to import, and few nodes have a use for it.
            measuring = await trio.to_thread.run_sync(
                importlib.import_module, "fwnode.transcoding.measuring.service"
            )
            nursery.start_soon(measuring.know_the_host, parts.broker, folder)
            nursery.start_soon(_look, node, parts, parts.broker)
        while True:
            await trio.sleep(WRITE_S)
            await write_usage(node, parts.ledger, database)


async def write_usage(node: Node, ledger: Ledger, database: Database) -> None:
    """Add what was made and sent since the last time to today's sums."""
    ledger.sent(node.bytes_out)
    taken = ledger.take()
    if not taken:
        return
    day = datetime.fromtimestamp(time.time(), UTC).date().isoformat()
    try:
        await trio.to_thread.run_sync(database.add_usage, day, taken)
    except StoreError as error:
        # Streams go on with a full disk; it is tried again with the next sums.
        ledger.give_back(taken)
        structlog.get_logger().warning("usage not kept", reason=str(error))


async def _look(node: Node, parts: Transcoding, broker: "Broker") -> None:
    log = structlog.get_logger()
    try:
        while True:
            await trio.sleep(LOOK_S)
            sessions = parts.transcoder.sessions
            parts.ledger.read(sessions.values())
            for said in broker.look(sessions, node.reactor.now()):
                log.warning("renditions", reason=said)
    finally:
        parts.ledger.read(parts.transcoder.sessions.values())
