"""Runs the workers: starts them, starts again those that end, and ends them with the agent."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
import trio

from fwnode.workers.crew import Crew, Worker, WorkerState
from fwnode.workers.lending import Lending, WorkerLink
from fwnode.workers.link import LinkLoop
from fwnode.workers.server import SharedPort
from fwnode.workers.wire import Start
from media.net.reactor import Reactor
from media.net.server import Connection
from media.net.transport import Transport

COMMAND = (sys.executable, "-m", "fwnode.workers.worker")
TICK_S = 1.0  # between news of viewers' numbers to the workers
READY_S = 30.0  # to accept connections; measured: 0.4 s, and a small ARM board takes ten times that
SILENT_S = 10.0  # a worker reports each second; one that hangs so long is ended
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0
STEADY_S = 30.0  # who ran so long is started again at once
LEAVE_S = 1.0  # to end by itself when the link was closed
KILL_WAIT_S = 2.0  # for the kernel to end a child that was killed


async def serve_workers(
    crew: Crew,
    lending: Lending,
    reactor: Reactor,
    ports: Mapping[str, SharedPort],
    start: Start,
    *,
    command: Sequence[str] = COMMAND,
    own_pid: int,
) -> None:
    """Keep every worker of the crew running until cancelled. For the main thread only.

    Linux ends a child with the thread that made it, if the child asked for that as ours do.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell, lending)
        for worker in crew.workers:
            place = _Place(crew, worker, lending, reactor, ports, start)
            nursery.start_soon(place.keep, [*command, str(own_pid)])


async def _tell(lending: Lending) -> None:
    while True:
        await trio.sleep(TICK_S)
        lending.tell()


class _Place:
    """One worker, process after process."""

    def __init__(
        self,
        crew: Crew,
        worker: Worker,
        lending: Lending,
        reactor: Reactor,
        ports: Mapping[str, SharedPort],
        start: Start,
    ) -> None:
        self._crew = crew
        self._worker = worker
        self._lending = lending
        self._reactor = reactor
        self._ports = ports
        self._start = msgspec.structs.replace(start, worker=worker.number)
        self._log = structlog.get_logger().bind(worker=worker.number)

    async def keep(self, command: Sequence[str]) -> None:
        """Start it again whenever it ends, soon the first time, ever later when that happens often."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            began = trio.current_time()
            reason = await self._run(command)
            if trio.current_time() - began >= STEADY_S:
                backoff_s = BACKOFF_FIRST_S
            self._log.warning("worker ended, starting it again", reason=reason, after_s=backoff_s)
            await trio.sleep(backoff_s)
            backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _run(self, command: Sequence[str]) -> str:
        """One process from its start to its end; why it ended. It never outlives this call."""
        worker = self._worker
        worker.state = WorkerState.STARTING
        worker.starts += 1
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                child = self._spawn([*command, str(theirs.fileno())], theirs)
        except OSError as error:
            ours.close()
            worker.state = WorkerState.WAITING
            return f"it could not be started: {error}"
        worker.pid = child.pid
        ours.setblocking(False)
        process = _Process(child)
        link = self._connect(ours, process)
        try:
            reason = await self._watch(link, process)
            self._accept_here()
            return reason
        finally:
            worker.state = WorkerState.WAITING
            link.abort()
            ours.close()  # the reactor may end before its turn to do so
            await _end(child)
            self._crew.retire(worker)

    def _spawn(self, command: Sequence[str], link: socket.socket) -> "subprocess.Popen[bytes]":
        own = {option: port.descriptor(self._worker.number - 1) for option, port in self._ports.items()}
        return subprocess.Popen(
            [*command, *(f"{option}={descriptor}" for option, descriptor in own.items())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(link.fileno(), *own.values()),
        )

    def _connect(self, sock: socket.socket, process: "_Process") -> WorkerLink:
        made: list[WorkerLink] = []

        def link(transport: Transport, now: float) -> WorkerLink:
            made.append(
                WorkerLink(
                    transport,
                    self._lending,
                    self._worker,
                    self._start,
                    now,
                    on_ready=lambda: self._ready(process),
                    on_closed=process.gone.set,
                )
            )
            return made[0]

        loop = LinkLoop(self._reactor)
        Connection(sock, f"worker {self._worker.number}", 0, loop, lambda: None).start(link, loop.now())
        return made[0]

    def _ready(self, process: "_Process") -> None:
        process.ready.set()
        self._worker.state = WorkerState.SERVING
        for port in self._ports.values():
            port.leave_to(self._worker.number - 1)
        self._log.info("worker serves", pid=self._worker.pid)

    def _accept_here(self) -> None:
        for port in self._ports.values():
            port.accept_for(self._worker.number - 1)

    async def _watch(self, link: WorkerLink, process: "_Process") -> str:
        """Until it is gone or no good; why."""
        with trio.move_on_after(READY_S) as starting:
            await _first(process.ready.wait, process.gone.wait)
        if starting.cancelled_caught:
            return f"not ready within {READY_S:g} s"
        while not process.gone.is_set():
            left_s = link.heard_at + SILENT_S - self._reactor.now()
            if left_s <= 0:
                return f"it said nothing for {SILENT_S:g} s"
            with trio.move_on_after(left_s):
                await process.gone.wait()
        return await process.ending()


class _Process:
    """A child, and what its link tells of it."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self.child = child
        self.ready = trio.Event()
        self.gone = trio.Event()  # the link is closed

    async def ending(self) -> str:
        """How it ended."""
        status = await _wait(self.child, LEAVE_S)
        if status is None:
            return "it closed its link"
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


async def _first(*waits: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def one(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(one, wait)


async def _end(child: "subprocess.Popen[bytes]") -> None:
    """Let it end by itself, as its link is closed, else end it."""
    with trio.CancelScope(shield=True):
        if await _wait(child, LEAVE_S) is None:
            child.kill()
            await _wait(child, KILL_WAIT_S)


async def _wait(child: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    """Exit status, None when it has not ended within that time."""

    def wait() -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(seconds)
        return None

    return await trio.to_thread.run_sync(wait)
