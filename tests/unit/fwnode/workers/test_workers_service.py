"""Processes that do not behave: they are started again, and never outlive the service."""

import os
import sys
import textwrap
from pathlib import Path

import pytest
import trio

from fwnode.workers import service
from fwnode.workers.server import SharedPort
from fwnode.workers.wire import Ready, encode
from media.net.reactor import Reactor

START_S = 20.0
HEAD = """
import os, signal, socket, sys, time
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
link = socket.socket(fileno=int(sys.argv[3]))
with open(sys.argv[1], "a") as file: file.write(f"{os.getpid()}\\n")
"""


class Bench:
    """The service with a script in place of the worker."""

    def __init__(self, folder: Path, agent) -> None:
        self.pids_file = folder / "pids"
        self.pids_file.touch()
        self.agent = agent
        self.reactor = Reactor(lambda kind, error, peer: None)
        self.served: list[str] = []

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.pids_file.read_text().split()]

    async def run(self, script: str, until, *, ports=None) -> None:
        command = [sys.executable, "-c", HEAD + textwrap.dedent(script), str(self.pids_file)]
        async with trio.open_nursery() as nursery:
            await nursery.start(self.reactor.run)
            nursery.start_soon(
                lambda: service.serve_workers(
                    self.agent.crew,
                    self.agent.lending,
                    self.reactor,
                    ports or {},
                    self.agent.start,
                    command=command,
                    own_pid=os.getpid(),
                )
            )
            with trio.fail_after(START_S):
                while not until():  # noqa: ASYNC110 - it looks at what other processes wrote
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        for pid in self.pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert {worker.pid for worker in self.agent.crew.workers} == {0}


@pytest.fixture
def bench(tmp_path, agent, monkeypatch) -> Bench:
    monkeypatch.setattr(service, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(service, "LEAVE_S", 0.1)
    return Bench(tmp_path, agent)


def test_one_that_crashes_is_started_again(bench):
    trio.run(bench.run, "sys.exit(3)", lambda: len(bench.pids) >= 4)


def test_one_that_is_never_ready_is_ended(bench, monkeypatch):
    monkeypatch.setattr(service, "READY_S", 0.3)
    trio.run(bench.run, "time.sleep(60)", lambda: len(bench.pids) >= 4)


def test_one_that_falls_silent_is_ended(bench, monkeypatch):
    monkeypatch.setattr(service, "SILENT_S", 0.3)
    script = f"link.sendall({encode(Ready())!r})\nwhile True: link.recv(65536) or time.sleep(60)"
    trio.run(bench.run, script, lambda: len(bench.pids) >= 4)


def test_one_that_talks_nonsense_is_ended(bench):
    trio.run(bench.run, "link.sendall(b'GET / HTTP/1.1' * 9)\ntime.sleep(60)", lambda: len(bench.pids) >= 4)


def test_the_agent_accepts_while_none_is_ready(bench):
    class Here:
        connections = 0

        def __init__(self, sock) -> None:
            self.sock = sock
            bench.served.append("open")

        def close(self) -> None:
            self.sock.close()
            bench.served.append("closed")

    port = SharedPort("127.0.0.1:0", 2, Here, lambda: 0)
    assert bench.served == ["open", "open"]
    script = f"link.sendall({encode(Ready())!r})\nlink.recv(9)\ntime.sleep(0.05)\nsys.exit(1)"
    trio.run(lambda: bench.run(script, lambda: bench.served.count("open") > 4, ports={"http": port}))
    port.close()
    assert bench.served.count("open") == bench.served.count("closed")
