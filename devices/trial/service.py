"""Runs trial workers: one child process for each engine, with a deadline and a memory limit."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import trio

from devices import probe
from devices.cost import fit_codec, fit_scaling
from devices.engines import ENGINES, Engine, Target, targets
from devices.errors import DevicesError, WireError
from devices.model import CPU, Kind
from devices.sample import MEDIA_S, SAMPLES, Compared, plan_of
from devices.survey import Finding, Host, Survey, refusal
from devices.trial.wire import (
    HEADER_BYTES,
    Answer,
    Counted,
    CountSessions,
    Job,
    Library,
    LookAround,
    Measured,
    MeasureHost,
    Refused,
    Took,
    Transcode,
    Try,
    Works,
    body_bytes_untrusted,
    decode_answer_untrusted,
    encode,
)
from devices.trial.wire import Host as HostCosts

WORKER_COMMAND = (sys.executable, "-m", "devices.trial.worker")
TRIAL_S = 20.0  # to the first answer; measured: 0.1 to 0.4 s, 3 s for a driver that wakes its card
MEASURE_S = 100.0  # to the second; measured: 1 to 3 s, and the worker stops by itself on slow hosts
MEMORY_MAX_BYTES = 3 << 30  # in use, of any worker; measured: 0.7 GB for two encoders of 1080p
WATCH_S = 0.25
KILL_WAIT_S = 5.0  # for the kernel to end a child; one that waits for a broken device never ends


class Report(Protocol):
    """Is told how far it is: before each trial, and after it."""

    def step(self, number: int, count: int, what: str) -> None: ...

    def found(self, finding: Finding) -> None: ...


async def look_around(command: Sequence[str] = WORKER_COMMAND) -> tuple[Library, Host]:
    """What this FFmpeg and this host have. Raises DevicesError when no worker can be run."""
    said, trouble = await converse(LookAround(), (TRIAL_S,), command)
    if not said or not isinstance(said[0], Library):
        raise DevicesError(f"the codecs of FFmpeg cannot be listed: {_why(said, trouble)}")
    library = said[0]
    gpus = await trio.to_thread.run_sync(probe.gpus)
    host = Host(
        probe.cpu_name(), probe.cores(), probe.memory_bytes(), tuple(gpus), library.pyav, library.ffmpeg
    )
    return library, host


async def survey(
    report: Report,
    *,
    engines: Sequence[Engine] = ENGINES,
    command: Sequence[str] = WORKER_COMMAND,
) -> Survey:
    """Try and measure every engine on every device, one after another. Raises DevicesError."""
    library, host = await look_around(command)
    wanted = targets(host.gpus, engines)
    findings = []
    for number, target in enumerate(wanted, 1):
        report.step(number, len(wanted) + 1, f"{target.engine.kind} {target.engine.name}")
        finding = await try_target(target, library, command)
        report.found(finding)
        findings.append(finding)
    report.step(len(wanted) + 1, len(wanted) + 1, "scaling, and all cores at once")
    said, trouble = await converse(MeasureHost(max(1, round(host.cores))), (MEASURE_S,), command)
    if not said or not isinstance(said[0], HostCosts):
        raise DevicesError(f"scaling cannot be measured: {_why(said, trouble)}")
    return Survey(host, tuple(findings), fit_scaling(said[0].scaling), said[0].contention)


async def compare(
    survey: Survey, say: Callable[[int, int, str], None], command: Sequence[str] = WORKER_COMMAND
) -> list[Compared]:
    """Really transcode the sample streams, one after another. Raises DevicesError."""
    found = []
    for number, sample in enumerate(SAMPLES, 1):
        say(number, len(SAMPLES), sample.name)
        plan = plan_of(sample.work, survey)
        job = Transcode(sample.work, plan, sample.picture, MEDIA_S)
        said, trouble = await converse(job, (MEASURE_S,), command)
        if not said or not isinstance(said[0], Took):
            raise DevicesError(f"{sample.name} cannot be transcoded: {_why(said, trouble)}")
        took = said[0]
        measured = (took.decode_s + took.scale_s + took.encode_s) / took.media_s
        found.append(
            Compared(sample.name, plan.demand[CPU].busy, measured, took.early, 2 * measured - took.early)
        )
    return found


async def try_target(target: Target, library: Library, command: Sequence[str] = WORKER_COMMAND) -> Finding:
    """Whether an engine works here, and what it costs. Whatever it does, an answer comes in time."""
    engine = target.engine
    names = library.encoders if engine.kind is Kind.ENCODER else library.decoders
    if engine.ffmpeg not in names:
        return refusal(target, f"not in this FFmpeg ({library.ffmpeg}, of PyAV {library.pyav})")
    job = Try(engine.kind, engine.codec, target.choice)
    said, trouble = await converse(job, (TRIAL_S, MEASURE_S), command, target.choice.environment)
    if len(said) == 2 and isinstance(said[0], Works) and isinstance(said[1], Measured):
        cost = fit_codec(said[1].points)
        finding = Finding(
            engine.name, engine.kind, engine.codec, target.choice, True, "", said[0].psnr_db, cost
        )
        return await _with_sessions(finding, command)
    if said and isinstance(said[0], Works):
        return refusal(target, f"it works, and failed while it was measured: {_why(said[1:], trouble)}")
    return refusal(target, _why(said, trouble))


async def _with_sessions(finding: Finding, command: Sequence[str]) -> Finding:
    """How many encoders the driver lets be open at a time, by opening until it says no."""
    if finding.kind is not Kind.ENCODER or finding.device == CPU:
        return finding
    said, _ = await converse(CountSessions(finding.choice), (MEASURE_S,), command, finding.choice.environment)
    if said and isinstance(said[0], Counted) and said[0].reason:
        return msgspec.structs.replace(finding, sessions=max(1, said[0].sessions))
    return finding


async def converse(
    job: Job,
    limits_s: Sequence[float],
    command: Sequence[str] = WORKER_COMMAND,
    environment: dict[str, str] | None = None,
) -> tuple[list[Answer], str]:
    """The answers of a worker, each within its limit, and what went wrong then ("": nothing).

    A Refused is always the last. The child is gone when this returns, unless it cannot be killed.
    """
    try:
        child = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    except OSError as error:
        return [], f"the trial could not be started: {error.strerror}"
    talk = _Talk(child)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.watch_memory)
            await talk.run(job, limits_s)
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(KILL_WAIT_S, shield=True):
            await talk.end()
    return talk.said, talk.trouble


class _Talk:
    """One child process, from the job to its end."""

    def __init__(self, child: trio.Process) -> None:
        self._child = child
        self.said: list[Answer] = []
        self.trouble = ""

    async def run(self, job: Job, limits_s: Sequence[float]) -> None:
        assert self._child.stdin is not None
        try:
            with trio.fail_after(limits_s[0]):
                await self._child.stdin.send_all(encode(job))
            for limit_s in limits_s:
                with trio.fail_after(limit_s):
                    self.said.append(await self._answer())
                if isinstance(self.said[-1], Refused):
                    return
        except trio.TooSlowError:
            self.trouble = f"it hung: nothing came within {limits_s[len(self.said)]:g} s"
        except WireError as error:
            self.trouble = f"it said nonsense: {error}"
        except trio.BrokenResourceError:
            await self._ended()
        except _Ended:
            await self._ended()

    async def watch_memory(self) -> None:
        """End a child that takes too much. CUDA maps too many addresses for a limit on those."""
        while (resident := probe.resident_bytes(self._child.pid)) is not None:
            if resident > MEMORY_MAX_BYTES:
                self.trouble = f"it took more than {MEMORY_MAX_BYTES >> 30} GB of memory"
                self._child.kill()
                return
            await trio.sleep(WATCH_S)

    async def end(self) -> None:
        """Kill it and let go of its pipes."""
        self._child.kill()
        assert self._child.stdin is not None and self._child.stdout is not None
        await self._child.stdin.aclose()
        await self._child.stdout.aclose()
        await self._child.wait()

    async def _answer(self) -> Answer:
        header = await self._receive(HEADER_BYTES)
        return decode_answer_untrusted(await self._receive(body_bytes_untrusted(header)))

    async def _receive(self, size: int) -> bytes:
        assert self._child.stdout is not None
        data = bytearray()
        while len(data) < size:
            more = await self._child.stdout.receive_some(size - len(data))
            if not more:
                raise _Ended
            data += more
        return bytes(data)

    async def _ended(self) -> None:
        """Say how it ended, when it did so by itself."""
        with trio.move_on_after(KILL_WAIT_S):
            code = await self._child.wait()
            if not self.trouble:
                self.trouble = exit_words(code)
            return
        self.trouble = self.trouble or "it closed its output and went on"


class _Ended(Exception):
    """The child closed its output."""


def exit_words(code: int) -> str:
    """A return code of a child for people: "it crashed (SIGSEGV)"."""
    if code >= 0:
        return f"it ended with code {code}"
    try:
        return f"it crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"it crashed (signal {-code})"


def _why(said: Sequence[Answer], trouble: str) -> str:
    if said and isinstance(said[-1], Refused):
        return said[-1].reason
    return trouble or "it answered something else than was asked"
