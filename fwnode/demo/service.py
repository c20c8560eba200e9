"""Runs the demo's child process and publishes what it sends."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
import trio

from fwnode.demo.wire import DemoSettings, Frames, Impossible, Message, MessageReader, Tracks
from media.errors import Refused, WireError
from media.track.registry import Streams
from media.track.stream import Source, Writer

WORKER_COMMAND = (sys.executable, "-m", "fwnode.demo.worker")
READ_BYTES = 256 * 1024
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
STEADY_S = 30.0  # a child that ran this long is started again without delay growing
ELSEWHERE_S = 0.5  # between looks whether another node still publishes it
TURN_S = 2.0  # those who take over wait up to so long, by lot: the first is heard of in less
KILL_WAIT_S = 2.0  # for the kernel to end a child that was killed

_SOURCE = Source(protocol="demo", peer="local", agent="fwnode demo")


class Clock(Protocol):
    """The clock of the streams; media.net.reactor.Reactor is one."""

    def now(self) -> float: ...


class _Publication:
    """The stream as it is written, over restarts of the child."""

    def __init__(self, streams: Streams, reactor: Clock, name: str) -> None:
        self._streams = streams
        self._reactor = reactor
        self._name = name
        self._writer: Writer | None = None
        self.stopped: str | None = None  # why somebody stopped the stream
        self.impossible: str | None = None

    @property
    def over(self) -> bool:
        """Starting the child again would be of no use."""
        return self.stopped is not None or self.impossible is not None

    def take(self, messages: list[Message]) -> None:
        """Write what the child sent. Raises Refused when the stream may not be opened."""
        now = self._reactor.now()
        for message in messages:
            match message:
                case Tracks():
                    self._open(message, now)
                case Frames() if self._writer is not None:
                    for frame in message.frames:
                        self._writer.write(frame, now)
                case Impossible():
                    self.impossible = message.reason
        if self._writer is not None:
            self._writer.flush(now)

    def close(self, reason: str) -> None:
        """The child is gone."""
        if self._writer is not None:
            self._writer.close(reason, self._reactor.now())
            self._writer = None

    def _open(self, message: Tracks, now: float) -> None:
        self.close("the demo source began anew")
        self._writer = self._streams.open(self._name, _SOURCE, now, time.time_ns() // 1000, self._on_stop)
        for track in message.tracks:
            self._writer.describe(track, now)

    def _on_stop(self, reason: str) -> None:
        self._writer = None
        self.stopped = reason


async def serve_demo(
    streams: Streams,
    reactor: Clock,
    settings: DemoSettings | None = None,
    *,
    elsewhere: Callable[[str], bool] = lambda name: False,
    command: Sequence[str] = WORKER_COMMAND,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish the test stream until cancelled, or until it is stopped or cannot be made here.

    `elsewhere` says whether another node of the network publishes a stream of that name: this one does not,
    but takes over when that one goes.

    The child is started again when it ends by itself, after BACKOFF_FIRST_S and ever longer up to
    BACKOFF_MAX_S; the stream lingers meanwhile and continues.
    """
    settings = settings or DemoSettings()
    log = structlog.get_logger().bind(stream=settings.stream)
    publication = _Publication(streams, reactor, settings.stream)
    arguments = [*command, msgspec.json.encode(settings).decode()]
    backoff_s = BACKOFF_FIRST_S
    task_status.started()
    while True:
        await _turn(lambda: elsewhere(settings.stream))
        began = trio.current_time()
        try:
            reason = await _run_child(arguments, publication)
        except (Refused, WireError, OSError) as error:
            reason = str(error)
        finally:
            publication.close("the demo source ended")
        if publication.stopped is not None and elsewhere(settings.stream):
            log.info("demo given up", reason=publication.stopped)
            publication.stopped = None
            continue
        if publication.over:
            log.warning("demo ended", reason=publication.stopped or publication.impossible)
            return
        if trio.current_time() - began >= STEADY_S:
            backoff_s = BACKOFF_FIRST_S
        log.warning("demo source ended, starting it again", reason=reason, after_s=backoff_s)
        await trio.sleep(backoff_s)
        backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)


async def _turn(elsewhere: Callable[[], bool]) -> None:
    """Wait until nobody else publishes it, and until it is this node's turn to."""
    while elsewhere():
        while elsewhere():  # noqa: ASYNC110 - the directory has no event for one name
            await trio.sleep(ELSEWHERE_S)
        await trio.sleep(random.uniform(0, TURN_S))  # noqa: S311 - a lot, no secret


async def _run_child(arguments: Sequence[str], publication: _Publication) -> str:
    """Publish what one child sends until it ends or there is no more use for it; why it ended.

    The child never outlives this call; were this process killed, its next write would end it.
    """
    child = await trio.lowlevel.open_process(
        list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    reader = MessageReader()
    try:
        while not publication.over:
            data = await child.stdout.receive_some(READ_BYTES)
            if not data:
                break
            publication.take(reader.receive(bytes(data)))
    finally:
        child.kill()
        with trio.move_on_after(KILL_WAIT_S, shield=True):
            await child.stdout.aclose()
            await child.wait()
    return f"exit status {child.returncode}"
