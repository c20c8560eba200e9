"""Runs the poster worker: started at the first request, ended when nobody has asked for a while."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

import trio

from media.deliver.poster.posters import Posters
from media.deliver.poster.wire import (
    ANSWER_MAX_BYTES,
    HEADER_BYTES,
    JPEG_MAX_BYTES,
    Answer,
    Job,
    Picture,
    body_bytes_untrusted,
    decode_answer_untrusted,
    encode,
)
from media.errors import WireError

WORKER_COMMAND = (sys.executable, "-m", "media.deliver.poster.worker")
WORK_S = 5.0  # for one poster, its worker's start included; measured: 0.2 s, 0.6 s for 8K
IDLE_S = 60.0
KILL_WAIT_S = 2.0  # for the kernel to end a child that was killed


class Clock(Protocol):
    """The clock of the streams; media.net.reactor.Reactor is one."""

    def now(self) -> float: ...


class Report(Protocol):
    """Is told, for the log, when a poster could not be made."""

    def __call__(self, stream: str, reason: str, /) -> None: ...


async def serve_posters(
    posters: Posters,
    clock: Clock,
    report: Report,
    *,
    command: Sequence[str] = WORKER_COMMAND,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Make posters until cancelled.

    A worker that takes longer than WORK_S, ends or says nonsense is killed; the poster it worked on
    is not made, and the next one starts another.
    """
    bell, rings = trio.open_memory_channel[None](1)

    def ring() -> None:
        try:
            bell.send_nowait(None)
        except trio.WouldBlock:
            pass  # it has been rung and not been heard yet

    with bell, rings:
        posters.on_work = ring
        task_status.started()
        try:
            while True:
                while (job := posters.begin()) is not None:
                    await _Worker(posters, clock, report, rings).run(command, job)
                await rings.receive()
        finally:
            posters.stop()


class _Worker:
    """One child process, from its first job to its end."""

    def __init__(
        self, posters: Posters, clock: Clock, report: Report, rings: "trio.MemoryReceiveChannel[None]"
    ) -> None:
        self._posters = posters
        self._clock = clock
        self._report = report
        self._rings = rings

    async def run(self, command: Sequence[str], job: Job) -> None:
        """Work until the child is lost or has been idle for IDLE_S. It never outlives this call."""
        self._posters.statistics.workers_started += 1
        try:
            child = await trio.lowlevel.open_process(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            self._lost(f"the worker could not be started: {error}")
            return
        try:
            await self._work(child, job)
        finally:
            child.kill()
            with trio.move_on_after(KILL_WAIT_S, shield=True):
                assert child.stdin is not None and child.stdout is not None
                await child.stdin.aclose()
                await child.stdout.aclose()
                await child.wait()

    async def _work(self, child: trio.Process, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            try:
                with trio.fail_after(WORK_S):
                    answer = await _ask(child, job)
            except trio.TooSlowError:
                self._lost(f"not within {WORK_S:g} s")
                return
            except (trio.BrokenResourceError, WireError) as error:
                self._lost(f"the worker is lost: {error}")
                return
            if isinstance(answer, Picture) and len(answer.jpeg) <= JPEG_MAX_BYTES:
                self._posters.finished(answer.jpeg, self._clock.now())
            else:
                self._failed("the picture is too large" if isinstance(answer, Picture) else answer.reason)
            job = await self._next_job(child)

    async def _next_job(self, child: trio.Process) -> Job | None:
        """None: the child is not needed any more, or somebody ended it."""
        with trio.move_on_after(IDLE_S):
            while child.poll() is None:
                job = self._posters.begin()
                if job is not None:
                    return job
                await self._rings.receive()
            self._posters.statistics.workers_lost += 1
        return None

    def _lost(self, reason: str) -> None:
        self._posters.statistics.workers_lost += 1
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        self._report(self._posters.stream, reason)
        self._posters.failed(self._clock.now())


async def _ask(child: trio.Process, job: Job) -> Answer:
    """One job's answer. Raises BrokenResourceError and WireError."""
    assert child.stdin is not None and child.stdout is not None
    await child.stdin.send_all(encode(job))
    header = await _receive(child.stdout, HEADER_BYTES)
    return decode_answer_untrusted(
        await _receive(child.stdout, body_bytes_untrusted(header, ANSWER_MAX_BYTES))
    )


async def _receive(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Exactly `size` bytes. Raises WireError when the stream ends before."""
    data = bytearray()
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise WireError("it ended")
        data += more
    return bytes(data)
