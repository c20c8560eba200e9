"""Tells the broker what was measured on this host, and measures when renditions are wanted."""

import os
from pathlib import Path

import structlog
import trio

from devices import store
from devices.errors import DevicesError
from devices.survey import Finding, Survey
from devices.trial.service import look_around, survey
from fwnode.transcoding.broker import Broker

LOOK_S = 1.0
MEASURE_AFTER_S = (
    60.0  # from the first stream that gets renditions: a node that starts has other things to do
)
MEASURE_AGAIN_S = 3600.0  # after it failed


async def know_the_host(broker: Broker, folder: Path) -> None:
    """What was measured here before, or else measure once somebody gets renditions."""
    log = structlog.get_logger()
    try:
        if await trio.to_thread.run_sync(store.last, folder) is not None:
            _, host = await look_around()
            known = await trio.to_thread.run_sync(store.load, folder, host)
            if known is not None:
                broker.adopt(known)
                log.info("renditions are admitted by measured cost", cores=round(known.cores, 2))
                return
    except DevicesError as error:
        log.warning("the host is not known", reason=str(error))
    while not broker.wanted:  # noqa: ASYNC110 - a stream comes once in a while
        await trio.sleep(LOOK_S)
    await trio.sleep(MEASURE_AFTER_S)
    while broker.survey is None:
        found = await _measure(folder)
        if found is not None:
            broker.adopt(found)
            return
        await trio.sleep(MEASURE_AGAIN_S)


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
