"""A running node for the tests that need a whole one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

START_S = 30.0  # a second when the machine is idle; the tests share two cores with others
STOP_S = 15.0
POLL_S = 0.01
FWNODE = (sys.executable, "-m", "fwnode")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browsers last: they decode video, and the pure tests, which want a whole core, have ended by then."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


class RunningNode:
    """`fwnode run` in a process of its own, on free ports of loopback."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        environment: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        """`prefix` is a command that runs the rest of its line in its place, like `ip netns exec NAME`."""
        self.data_dir = data_dir
        self.prefix = prefix
        self.environment = clean_environment(data_dir) | (environment or {})
        self.ready_file = data_dir.parent / f"{data_dir.name}-ready.json"
        self.ready_file.unlink(missing_ok=True)
        self._stdout: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `close`
        self._stderr: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `close`
        addresses: list[str] = []
        for option in ("--http", "--rtmp", "--mesh", "--admin"):
            if option not in options:
                addresses += [option, "127.0.0.1:0"]
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*prefix, *FWNODE, "run", *addresses, "--ready-file", str(self.ready_file), *options],
            env=self.environment,
            stdout=self._stdout,
            stderr=self._stderr,
        )
        self.addresses: dict[str, str] = self._wait_until_ready()
        self.started_in_s = time.monotonic() - began

    def _wait_until_ready(self) -> dict[str, str]:
        until = time.monotonic() + START_S
        while not self.ready_file.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the node did not start:\n{self.stderr}")
            time.sleep(POLL_S)
        found: dict[str, str] = json.loads(self.ready_file.read_bytes())
        return found

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return _all_of(self._stdout)

    @property
    def stderr(self) -> str:
        """What it logged so far."""
        return _all_of(self._stderr)

    def url(self, path: str, listener: str = "http") -> str:
        """A URL on one of its listeners: "http" or "admin"."""
        return f"http://{self.addresses[listener]}{path}"

    def rtmp_url(self, name: str) -> str:
        """Where to publish or play a stream, or with a key as its name."""
        return f"rtmp://{self.addresses['rtmp']}/live/{name}"

    def cli(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Another fwnode command on this node's data folder."""
        return run_cli(*arguments, environment=self.environment, check=check, prefix=self.prefix)

    def cli_json(self, *arguments: str) -> Any:
        """What the command says with --json."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def new_key(self, stream: str = "*") -> str:
        """A stream key."""
        key: str = self.cli_json("key", "new", "--stream", stream)["key"]
        return key

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def close(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_S)
        self._stdout.close()
        self._stderr.close()


def _all_of(file: IO[str]) -> str:
    # The child's file offset is the same open file's: read without moving it.
    return os.pread(file.fileno(), 10_000_000, 0).decode("utf-8", "replace")


def clean_environment(data_dir: Path) -> dict[str, str]:
    """This process's environment without settings of fwnode."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FWNODE_")}
    return kept | {"FWNODE_DATA_DIR": str(data_dir), "PYTHONWARNINGS": "error::ResourceWarning"}


def run_cli(
    *arguments: str, environment: dict[str, str], check: bool = True, prefix: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """One fwnode command; `check` asserts that it succeeded."""
    ran = subprocess.run(
        [*prefix, *FWNODE, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert not check or ran.returncode == 0, ran.stderr
    return ran


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Starts nodes that end with the test: `start_node("--demo", environment={...})`."""
    nodes: list[RunningNode] = []

    def start(*options: str, name: str = "data", environment: dict[str, str] | None = None) -> RunningNode:
        nodes.append(RunningNode(tmp_path / name, *options, environment=environment))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One node for all tests of a module: they must not stop it."""
    running = RunningNode(tmp_path_factory.mktemp("node") / "data")
    yield running
    running.close()
