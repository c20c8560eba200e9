"""Measures the host when renditions are wanted, acts on load, and writes down what was made."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog
import trio

from devices import store
from devices.errors import DevicesError
from devices.survey import Finding, Survey
from devices.trial.service import look_around, survey
from fwnode.errors import StoreError
from fwnode.node import Node
from fwnode.store import Database
from fwnode.transcoding.ledger import Ledger
from fwnode.transcoding.model import Transcoding

LOOK_S = 1.0
WRITE_S = 60.0  # a crash loses at most so much of the sums
MEASURE_AFTER_S = (
    60.0  # from the first stream that gets renditions: a node that starts has other things to do
)
MEASURE_AGAIN_S = 3600.0  # after it failed


async def serve_transcoding(node: Node, parts: Transcoding, database: Database, folder: Path) -> None:
    """Until cancelled. What was not written by then is left to `write_usage`."""
    async with trio.open_nursery() as nursery:
        if parts.transcoder.enabled:
            nursery.start_soon(_know_the_host, parts, folder)
            nursery.start_soon(_look, node, parts)
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


async def _look(node: Node, parts: Transcoding) -> None:
    log = structlog.get_logger()
    try:
        while True:
            await trio.sleep(LOOK_S)
            sessions = parts.transcoder.sessions
            parts.ledger.read(sessions.values())
            for said in parts.broker.look(sessions, node.reactor.now()):
                log.warning("renditions", reason=said)
    finally:
        parts.ledger.read(parts.transcoder.sessions.values())


async def _know_the_host(parts: Transcoding, folder: Path) -> None:
    """What was measured here before, or else measure once somebody gets renditions."""
    log = structlog.get_logger()
    try:
        if await trio.to_thread.run_sync(store.last, folder) is not None:
            _, host = await look_around()
            known = await trio.to_thread.run_sync(store.load, folder, host)
            if known is not None:
                parts.broker.adopt(known)
                log.info("renditions are admitted by measured cost", cores=round(known.cores, 2))
                return
    except DevicesError as error:
        log.warning("the host is not known", reason=str(error))
    while not parts.broker.wanted:  # noqa: ASYNC110 - a stream comes once in a while
        await trio.sleep(LOOK_S)
    await trio.sleep(MEASURE_AFTER_S)
    while (found := await _measure(folder)) is None:
        await trio.sleep(MEASURE_AGAIN_S)
    parts.broker.adopt(found)


async def _measure(folder: Path) -> Survey | None:
    log = structlog.get_logger()
    log.info("measuring what this host can transcode; streams go on, it takes a minute or two")
    try:
        found = await survey(_Progress())
    except DevicesError as error:
        log.warning("what this host can transcode is not known", reason=str(error))
        return None
    try:
        await trio.to_thread.run_sync(store.save, folder, found)
    except OSError as error:
        log.warning("measurements not kept for the next time", reason=os.strerror(error.errno or 0))
    log.info("renditions are admitted by measured cost", cores=round(found.cores, 2))
    return found


class _Progress:
    """Into the log: what works, and every tenth step."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def step(self, number: int, count: int, what: str) -> None:
        if number % 10 == 1:
            self._log.info("measuring", step=number, of=count, what=what)

    def found(self, finding: Finding) -> None:
        if finding.usable:
            self._log.info("works here", engine=finding.name, kind=str(finding.kind), device=finding.device)
