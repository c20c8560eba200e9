"""The agent's side of the poster worker, against children that are scripts."""

import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from media.deliver.poster import posters as model
from media.deliver.poster import service
from media.deliver.poster.posters import Posters
from media.deliver.poster.service import serve_posters

PRELUDE = """
import os, sys, time
from media.deliver.poster.wire import *
def job():
    header = sys.stdin.buffer.read(4)
    if not header: sys.exit()
    return decode_job_untrusted(sys.stdin.buffer.read(body_bytes_untrusted(header, JOB_MAX_BYTES)))
def send(data):
    sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
"""
ECHO = """
while True:
    job(); send(encode(Picture(b"%d" % os.getpid())))
"""


class Asked:
    def __init__(self) -> None:
        self.response: Any = None
        self.on_close: Any = None
        self._answered = trio.Event()

    def send(self, response: Any) -> None:
        self.response = response
        self._answered.set()

    async def wait(self) -> Any:
        with trio.fail_after(20):
            await self._answered.wait()
        return self.response


class Wall:
    def now(self) -> float:
        return trio.current_time()


class Bench:
    """Posters with a running service."""

    def __init__(self) -> None:
        self.posters = Posters()
        self.reasons: list[str] = []

    def ask(self, stream: Any) -> Asked:
        asked = Asked()
        self.posters.answer(stream, asked, trio.current_time())
        return asked

    @asynccontextmanager
    async def running(self, script: str, *, command: list[str] | None = None) -> AsyncIterator[None]:
        command = command or [sys.executable, "-c", PRELUDE + textwrap.dedent(script)]

        def report(stream: str, reason: str) -> None:
            self.reasons.append(f"{stream}: {reason}")

        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: "trio.TaskStatus[None]") -> None:
                await serve_posters(self.posters, Wall(), report, command=command, task_status=task_status)

            await nursery.start(serve)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(model, "FRESH_S", 0.0)
    monkeypatch.setattr(model, "RETRY_S", 0.0)
    return Bench()


@pytest.fixture
def stream(publisher):
    publisher.send(1)
    return publisher.stream


def another_keyframe(publisher):
    publisher.send(30)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_one_worker_makes_all(bench, stream, publisher):
    async with bench.running(ECHO):
        first = await bench.ask(stream).wait()
        another_keyframe(publisher)
        second = await bench.ask(stream).wait()
        assert first.status == second.status == 200
        assert first.body == second.body, "the same process"
        assert is_alive(int(first.body))
    assert not is_alive(int(first.body)), "it ends with the service"
    assert bench.posters.statistics.workers_started == 1
    assert bench.posters.statistics.made == 2


async def test_no_request_no_worker(bench):
    async with bench.running(ECHO):
        await trio.testing.wait_all_tasks_blocked()
    assert bench.posters.statistics.workers_started == 0


async def test_an_idle_worker_ends_and_another_begins(bench, stream, publisher, monkeypatch):
    monkeypatch.setattr(service, "IDLE_S", 0.0)
    async with bench.running(ECHO):
        first = await bench.ask(stream).wait()
        another_keyframe(publisher)
        second = await bench.ask(stream).wait()
        assert first.body != second.body
        assert not is_alive(int(first.body))
    assert bench.posters.statistics.workers_started == 2
    assert bench.posters.statistics.workers_lost == 0


async def test_a_worker_killed_while_idle_is_not_noticed(bench, stream, publisher):
    async with bench.running(ECHO):
        first = await bench.ask(stream).wait()
        os.kill(int(first.body), signal.SIGKILL)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, int(first.body), os.WEXITED | os.WNOWAIT)
        another_keyframe(publisher)
        second = await bench.ask(stream).wait()
        assert second.status == 200 and second.body != first.body
    assert bench.posters.statistics.workers_lost == 1
    assert bench.posters.statistics.failed == 0


@pytest.mark.parametrize(
    "script",
    [
        "job(); os.kill(os.getpid(), 11)",  # a crash
        "job(); sys.exit(3)",
        "sys.exit(3)",
        "job(); send(b'\\xff\\xff\\xff\\xff')",  # more than an answer may have
        "job(); send(encode(NoPicture('x'))[:-1]); sys.exit()",
        "job(); send(b'\\x00\\x00\\x00\\x01\\xc1')",
    ],
)
async def test_a_lost_worker_costs_its_poster_only(bench, stream, script, tmp_path: Path, monkeypatch):
    flag = tmp_path / "was"
    monkeypatch.setenv("FLAG", str(flag))
    once = f"""
    if not os.path.exists(os.environ["FLAG"]):
        open(os.environ["FLAG"], "w").close()
        {script}
    """
    async with bench.running(once + ECHO.replace("\n", "\n    ")):
        assert (await bench.ask(stream).wait()).status == 503
        assert (await bench.ask(stream).wait()).status == 200
    assert bench.posters.statistics.workers_lost == 1
    assert len(bench.reasons) == 1 and bench.reasons[0].startswith("live: the worker is lost")


async def test_a_worker_that_hangs_is_killed(bench, stream, monkeypatch):
    monkeypatch.setattr(service, "WORK_S", 0.05)
    async with bench.running("job(); time.sleep(1000)"):
        assert (await bench.ask(stream).wait()).status == 503
    assert bench.reasons == ["live: not within 0.05 s"]


async def test_a_worker_that_reads_nothing_is_killed(bench, publisher, monkeypatch):
    monkeypatch.setattr(service, "WORK_S", 0.05)
    publisher.send(1, size=1_000_000)  # more than a pipe holds
    async with bench.running("time.sleep(1000)"):
        assert (await bench.ask(publisher.stream).wait()).status == 503


async def test_no_picture_keeps_the_worker(bench, stream):
    async with bench.running("while True:\n    job(); send(encode(NoPicture('damaged')))"):
        assert (await bench.ask(stream).wait()).status == 503
        assert (await bench.ask(stream).wait()).status == 503
    assert bench.reasons == ["live: damaged"] * 2
    assert bench.posters.statistics.workers_started == 1
    assert bench.posters.statistics.workers_lost == 0


async def test_a_worker_that_cannot_be_started(bench, stream):
    async with bench.running("", command=["/nowhere/python"]):
        assert (await bench.ask(stream).wait()).status == 503
    assert bench.reasons[0].startswith("live: the worker could not be started")


async def test_who_waits_when_the_service_ends_is_answered(bench, stream):
    async with bench.running("time.sleep(1000)"):
        asked = bench.ask(stream)
        await trio.testing.wait_all_tasks_blocked()
    assert asked.response.status == 503
    assert bench.posters.on_work is None


async def test_the_real_worker_ends_with_its_input(bench):
    child = await trio.lowlevel.open_process(list(service.WORKER_COMMAND), stdin=-1, stdout=-1)
    assert child.stdin is not None and child.stdout is not None
    await child.stdin.aclose()
    with trio.fail_after(20):
        assert await child.wait() == 0
    await child.stdout.aclose()
