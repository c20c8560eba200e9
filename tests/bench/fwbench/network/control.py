"""What every process that runs trio shares: commands on standard input, results on standard output."""

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Protocol

import trio

from fwbench.load.control import Result


class Service(Protocol):
    """Serves until cancelled, counts between begin and end."""

    async def run(self, *, task_status: trio.TaskStatus[Result]) -> None:
        """Started with what others need to reach it."""

    def begin(self) -> None: ...

    def end(self) -> Result: ...


async def obey(service: Service) -> None:
    """Say what `run` is started with, then obey `begin`, `end` and `stop` (or the end of input)."""
    async with trio.open_nursery() as nursery:
        _say(await nursery.start(service.run))
        began = time.monotonic()
        async for word in _words():
            now = time.monotonic()
            if word == "begin":
                began = now
                service.begin()
            elif word == "end":
                _say({**service.end(), "seconds": now - began})
            else:
                break
        nursery.cancel_scope.cancel()


async def _words() -> AsyncIterator[str]:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
        async for data in commands:
            for word in data.decode().split():
                yield word


def _say(result: Result) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
