"""The demo's parent side, against children that are scripts."""

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from fwnode.demo.service import ELSEWHERE_S, TURN_S, serve_demo
from fwnode.demo.wire import Frames, Tracks
from media.track.model import Codec, Frame, Track
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Stream, StreamState

SOUND = Track(1, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
PRELUDE = """
import os, sys, time
from fwnode.demo.wire import *
from media.track.model import *
tracks = Tracks([Track(1, Codec.AAC, 48_000, b"\\x11\\x90", sample_rate=48_000, channels=2)])
def send(message):
    sys.stdout.buffer.write(encode(message)); sys.stdout.buffer.flush()
def frame(number):
    send(Frames([Frame(1, number * 20_000, 0, True, b"sound")]))
"""


class NoTimer:
    def cancel(self) -> None: ...


class Clock:
    def now(self) -> float:
        return trio.current_time()


def make_streams() -> Streams:
    def call_at(when: float, callback: Callable[[float], None]) -> NoTimer:
        return NoTimer()

    return Streams(RegistrySettings(), call_at=call_at, measure=lambda track, data: 960)


def child(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(script), *arguments]


async def until(streams: Streams, check: Callable[[Stream], bool]) -> Stream:
    """Wait until `check` of the stream `demo` holds."""
    with trio.fail_after(20):
        while True:
            news = trio.Event()

            def told(*what: object, news: trio.Event = news) -> None:
                news.set()

            streams.subscribe(told)
            stream = streams.get("demo")
            if stream is not None:
                if check(stream):
                    return stream
                stream.subscribe(told)
            await news.wait()


@pytest.mark.trio
async def test_publishes_what_the_child_sends_and_ends_with_it(tmp_path: Path) -> None:
    streams, alive = make_streams(), tmp_path / "alive"
    script = f"""
        open({str(alive)!r}, "w").write(str(os.getpid()))
        send(tracks)
        for number in range(10_000):
            frame(number)
            time.sleep(0.02)
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_demo(streams, Clock(), command=child(script)))
        stream = await until(streams, lambda stream: stream.ring.next >= 3)
        assert stream.source is not None
        assert stream.source.protocol == "demo"
        nursery.cancel_scope.cancel()
    assert stream.state is StreamState.LINGERING
    with pytest.raises(ProcessLookupError):
        os.kill(int(await trio.Path(alive).read_text()), 0)


@pytest.mark.trio
async def test_a_child_that_crashes_is_started_again_and_the_stream_continues() -> None:
    streams = make_streams()
    script = "send(tracks)\nfor number in range(5): frame(number)\nsys.exit(3)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_demo(streams, Clock(), command=child(script)))
        stream = await until(streams, lambda stream: len(stream.sections) >= 2)
        assert stream.ring.next > 5
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_nonsense_from_the_child_is_a_crash_of_the_child() -> None:
    streams = make_streams()
    script = "send(tracks)\nframe(0)\ntime.sleep(0.1)\nsys.stdout.buffer.write(b'\\xff' * 99)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_demo(streams, Clock(), command=child(script)))
        await until(streams, lambda stream: stream.state is StreamState.LINGERING)
        await until(streams, lambda stream: len(stream.sections) >= 2)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_ends_when_the_operator_stops_the_stream() -> None:
    streams = make_streams()
    script = "send(tracks)\nfor number in range(10_000):\n    frame(number)\n    time.sleep(0.02)"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve_demo(streams, Clock(), command=child(script)))
            await until(streams, lambda stream: stream.state is StreamState.LIVE)
            streams.stop("demo", "the operator said so", 0.0)


@pytest.mark.trio
async def test_publishes_only_while_no_other_node_does(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives way when it must, and begins again when the other one goes."""
    streams, elsewhere, runs = make_streams(), True, 0

    async def run_child(arguments: object, publication: Any) -> str:
        nonlocal runs
        runs += 1
        publication.take([Tracks([SOUND])])
        while not publication.over:
            publication.take([Frames([Frame(1, round(trio.current_time() * 1e6), 0, True, b"sound")])])
            await trio.sleep(0.02)
        return "no more use"

    monkeypatch.setattr("fwnode.demo.service._run_child", run_child)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_demo(streams, Clock(), elsewhere=lambda name: elsewhere))
        await trio.sleep(10)
        assert runs == 0
        elsewhere = False
        await trio.sleep(ELSEWHERE_S + TURN_S + 1)
        stream = streams.get("demo")
        assert runs == 1 and stream is not None and stream.state is StreamState.LIVE
        elsewhere = True
        streams.yield_to("demo", "another node has it", trio.current_time())
        await trio.sleep(5)
        assert runs == 1 and stream.state is StreamState.LINGERING
        elsewhere = False
        await trio.sleep(ELSEWHERE_S + TURN_S + 1)
        assert runs == 2 and stream.state is StreamState.LIVE
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_does_not_try_again_what_cannot_be_done_here() -> None:
    with trio.fail_after(20):
        await serve_demo(make_streams(), Clock(), command=child("send(Impossible('no libx264'))"))


@pytest.mark.trio
async def test_the_real_child_ends_when_nobody_reads() -> None:
    command = [sys.executable, "-m", "fwnode.demo.worker", '{"width": 640, "height": 360}']
    process = await trio.lowlevel.open_process(command, stdout=-1)
    assert process.stdout is not None
    try:
        with trio.fail_after(20):
            await process.stdout.receive_some(1000)
            await process.stdout.aclose()
            assert await process.wait() == 0
    finally:
        process.kill()
