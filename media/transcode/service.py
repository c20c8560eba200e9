"""Runs the transcoding workers: one child process for each stream that needs one."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

import trio

from media.errors import WireError
from media.transcode.session import Session
from media.transcode.transcoder import Transcoder
from media.transcode.wire import FromWorkerReader

WORKER_COMMAND = (sys.executable, "-m", "media.transcode.worker")
READ_BYTES = 256 * 1024
GATHER_S = 0.008  # a picture's renditions come one after the other: wake once for them, not three times
TICK_S = 0.5
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
STEADY_S = 30.0  # a child that ran this long is started again without delay growing
KILL_WAIT_S = 2.0  # for the kernel to end a child that was killed


class Clock(Protocol):
    """The clock of the streams; media.net.reactor.Reactor is one."""

    def now(self) -> float: ...


class Report(Protocol):
    """Is told, for the log, when a worker was lost."""

    def __call__(self, stream: str, reason: str, /) -> None: ...


async def serve_transcoder(
    transcoder: Transcoder,
    clock: Clock,
    report: Report,
    *,
    command: Sequence[str] = WORKER_COMMAND,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run workers until cancelled. One that ends, hangs or says nonsense is killed and started again."""
    running: dict[Session, _Keeper] = {}
    try:
        async with trio.open_nursery() as nursery:

            def look() -> None:
                now = clock.now()
                for session in transcoder.sessions.values():
                    if session not in running and session.wants_worker(now):
                        running[session] = keeper = _Keeper(session, clock, report, command)
                        nursery.start_soon(_keep, keeper, running)
                for keeper in running.values():
                    keeper.bell.set()

            transcoder.on_work = look
            transcoder.follow(clock.now())
            look()
            task_status.started()
            while True:
                await trio.sleep(TICK_S)
                transcoder.tick(clock.now())
                look()
    finally:
        transcoder.on_work = lambda: None
        transcoder.close(clock.now())


async def _keep(keeper: "_Keeper", running: "dict[Session, _Keeper]") -> None:
    try:
        await keeper.run()
    finally:
        del running[keeper.session]


class _Keeper:
    """Keeps one session supplied with a worker for as long as it wants one."""

    def __init__(self, session: Session, clock: Clock, report: Report, command: Sequence[str]) -> None:
        self.session = session
        self.bell = trio.Event()
        self._clock, self._report, self._command = clock, report, command

    async def run(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while self.session.wants_worker(self._clock.now()):
            began = trio.current_time()
            reason = ""
            try:
                reason = await self._run_child()
            except (WireError, OSError, trio.BrokenResourceError) as error:
                reason = str(error) or type(error).__name__
            finally:
                self.session.worker_lost(reason, self._clock.now())
            if not reason:
                continue
            self._report(self.session.stream.name, reason)
            if trio.current_time() - began >= STEADY_S:
                backoff_s = BACKOFF_FIRST_S
            await trio.sleep(backoff_s)
            backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _run_child(self) -> str:
        """Why it is gone; "": it was not needed any more. It never outlives this call."""
        child = await trio.lowlevel.open_process(
            list(self._command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self.session.worker_started(self._clock.now())
            return await self._work(child)
        finally:
            child.kill()
            with trio.move_on_after(KILL_WAIT_S, shield=True):
                assert child.stdin is not None and child.stdout is not None
                await child.stdin.aclose()
                await child.stdout.aclose()
                await child.wait()

    async def _work(self, child: trio.Process) -> str:
        reason = ""
        async with trio.open_nursery() as nursery:

            async def end_with(task: "_Task") -> None:
                nonlocal reason
                reason = await task(child)
                nursery.cancel_scope.cancel()

            for task in (self._send, self._receive, self._watch):
                nursery.start_soon(end_with, task)
        return reason

    async def _send(self, child: trio.Process) -> str:
        assert child.stdin is not None
        try:
            while True:
                output = self.session.take_output()
                if output:
                    await child.stdin.send_all(output)
                else:
                    await self.bell.wait()
                    self.bell = trio.Event()
        except trio.BrokenResourceError:
            return await self._ending(child)

    async def _receive(self, child: trio.Process) -> str:
        assert child.stdout is not None
        reader = FromWorkerReader()
        while data := await child.stdout.receive_some(READ_BYTES):
            try:
                messages = reader.receive(bytes(data))
            except WireError as error:
                return str(error)
            if messages:
                self.session.receive(messages, self._clock.now())
            await trio.sleep(GATHER_S)
        return await self._ending(child)

    async def _watch(self, child: trio.Process) -> str:
        while True:
            await trio.sleep(TICK_S)
            now = self._clock.now()
            if not self.session.wants_worker(now):
                return ""
            if self.session.is_stalled(now):
                return "it had work and did nothing"

    async def _ending(self, child: trio.Process) -> str:
        with trio.move_on_after(KILL_WAIT_S):
            await child.wait()
        return f"it ended, exit status {child.returncode}"


class _Task(Protocol):
    async def __call__(self, child: trio.Process) -> str: ...
