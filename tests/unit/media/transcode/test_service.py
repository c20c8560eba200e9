"""Children that are no use: each is told of, killed and started again, and nobody waits for it."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from media.transcode.service import serve_transcoder

PATIENCE_S = 20.0
PYTHON = (sys.executable, "-c")


async def reports(
    open_house: Callable[..., Any], publisher: Any, command: tuple[str, ...], count: int
) -> list[str]:
    """What is told of the first children."""
    house = open_house()
    publisher.send(1)
    told: list[str] = []
    enough = trio.Event()

    class Clock:
        def now(self) -> float:
            return float(house.clock.now)

    def report(stream: str, reason: str) -> None:
        assert stream == "live"
        told.append(reason)
        if len(told) == count:
            enough.set()

    house.transcoder.close(house.clock.now)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: "trio.TaskStatus[None]") -> None:
                await serve_transcoder(
                    house.transcoder, Clock(), report, command=command, task_status=task_status
                )

            await nursery.start(serve)
            publisher.send(40)
            await enough.wait()
            nursery.cancel_scope.cancel()
    assert house.transcoder.sessions == {}
    assert publisher.stream.remarks == {}
    return told


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ((*PYTHON, "raise SystemExit(3)"), "exit status 3"),
        ((*PYTHON, "import sys; sys.stdout.write('x' * 99); sys.stdout.flush(); sys.stdin.read()"), "bytes"),
        (("/nonexistent/worker",), "No such file"),
        ((*PYTHON, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "exit status -9"),
    ],
)
def test_a_child_that_is_no_use(
    open_house: Callable[..., Any], publisher: Any, command: tuple[str, ...], reason: str
) -> None:
    told = trio.run(reports, open_house, publisher, command, 2)
    assert all([reason in each for each in told])


def test_cancelling_ends_the_child(open_house: Callable[..., Any], publisher: Any) -> None:
    async def run() -> None:
        house = open_house()
        publisher.send(1)
        house.transcoder.close(house.clock.now)

        class Clock:
            def now(self) -> float:
                return float(house.clock.now)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def serve(*, task_status: "trio.TaskStatus[None]") -> None:
                    await serve_transcoder(
                        house.transcoder, Clock(), lambda stream, reason: None,
                        command=(*PYTHON, "import sys; sys.stdin.read()"), task_status=task_status,
                    )  # fmt: skip

                await nursery.start(serve)
                nursery.cancel_scope.cancel()

    trio.run(run)
