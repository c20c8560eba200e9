"""A host of the lab with fwnode on it, and what the tests of the mesh ask of it."""

import http.client
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lab import Host

MESH_PORT = 7077
POLL_S = 0.05
ANSWER_S = 10.0
STOP_S = 15.0
PATIENCE_S = 20.0  # for what no requirement bounds and takes about a second on an idle machine
SETTINGS = ("--rtmp", "off", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")

Found = TypeVar("Found")


def until(
    condition: Callable[[], Found | None],
    what: str,
    patience_s: float = PATIENCE_S,
    began: float | None = None,
    seen: Callable[[], object] | None = None,
) -> float:
    """Seconds from `began` (monotonic; now, when None) until `condition` gives something true.

    Fails after `patience_s` with `what` and what `seen` gives.
    """
    began = time.monotonic() if began is None else began
    while True:
        asked = time.monotonic() - began
        if condition():
            print(f"{asked:6.2f} s of {patience_s:g}: {what}")
            return asked
        if asked > patience_s:
            raise AssertionError(f"not within {patience_s:g} s: {what}: {seen() if seen else ''}")
        time.sleep(POLL_S)


class Machine:
    """One host and one data folder. The node on it can end and start again."""

    def __init__(self, conftest: Any, host: Host, folder: Path, name: str) -> None:
        """`conftest`: tests/conftest.py, which has RunningNode and run_cli."""
        self._conftest = conftest
        self.host = host
        self.name = name
        self.data_dir = folder
        self.running: Any = None
        self.errors_expected: set[str] = set()  # events of level error that the test provokes
        self._ended: list[Any] = []

    @property
    def address(self) -> str:
        """Where other nodes reach it."""
        return f"{self.host.address}:{MESH_PORT}"

    def start(self, *options: str, environment: dict[str, str] | None = None) -> "Machine":
        """`fwnode run`; returns when it listens."""
        mesh = ("--mesh", f"[::]:{MESH_PORT}", "--name", self.name)
        self.running = self._conftest.RunningNode(
            self.data_dir, *SETTINGS, *mesh, *options, environment=environment, prefix=self.host.prefix
        )
        return self

    def cli(self, *arguments: str, check: bool = True) -> Any:
        """Another fwnode command on its data folder, whether the node runs or not."""
        environment = self._conftest.clean_environment(self.data_dir)
        return self._conftest.run_cli(
            *arguments, environment=environment, check=check, prefix=self.host.prefix
        )

    def cli_json(self, *arguments: str) -> Any:
        """What a command says with --json."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def invite(self, *options: str) -> str:
        """A new invite's line."""
        return str(self.cli_json("invite", *options)["invite"])

    def get(self, path: str) -> Any:
        """The answer of its control API."""
        host, _, port = self.running.addresses["admin"].rpartition(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.sock = self.host.socket()
        try:
            connection.sock.settimeout(ANSWER_S)
            connection.sock.connect((host, int(port)))
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, f"{path}: {answer.status} {body!r}"
            return json.loads(body)
        finally:
            connection.close()

    def view(self) -> dict[str, Any]:
        """What `fwnode peers --json` prints, without the time that a process takes to begin."""
        return {"network": self.get("/api/v1/network"), "peers": self.get("/api/v1/peers")["peers"]}

    def peers(self) -> dict[str, dict[str, Any]]:
        """Every node of its network by name, itself included."""
        return {peer["name"]: peer for peer in self.view()["peers"]}

    def linked(self) -> set[str]:
        """Names of the nodes to which it has a link with a measured round trip, and its own."""
        return {
            name
            for name, peer in self.peers().items()
            if peer["state"] == "self" or (peer["state"] == "connected" and peer["rtt_ms"] is not None)
        }

    def refused(self, text: str, *, by_us: bool | None = None) -> list[dict[str, Any]]:
        """Those with whom no link was made for a reason with `text` in it."""
        return [
            row
            for row in self.view()["network"]["refused"]
            if text in row["reason"] and (by_us is None or row["by_us"] == by_us)
        ]

    @property
    def key(self) -> str:
        """Its node key as others see it."""
        return str(self.peers()[self.name]["node"])

    def log(self) -> str:
        """All that it logged since it was last started."""
        return str(self.running.stderr)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of that event."""
        lines = [json.loads(line) for line in self.log().splitlines(keepends=True) if line.endswith("}\n")]
        return [line for line in lines if line["event"] == name]

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """It is gone without a word."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        self.running.process.send_signal(number)
        code = int(self.running.process.wait(STOP_S))
        self._ended.append(self.running)
        self.running = None
        return code

    def finish(self) -> None:
        """Stop it; it must end well and have logged no fault of its own."""
        running = self.running
        if running:
            assert self.stop() == 0, running.stderr
        for ended in self._ended:
            lines = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
            errors = {line["event"] for line in lines if line["level"] == "error"}
            assert "Traceback" not in ended.stderr, ended.stderr[-5000:]
            assert errors <= self.errors_expected, (errors, ended.stderr[-5000:])

    def close(self) -> None:
        """End what still runs."""
        for running in (*self._ended, *([self.running] if self.running else [])):
            running.close()


class MakeMachines(Protocol):
    """So many hosts on one bridge, named n0 and on; nothing runs on them yet."""

    def __call__(self, count: int) -> list[Machine]: ...


def all_linked(machines: list[Machine]) -> bool:
    """Whether each has a link to each other one, and to nobody else."""
    names = {machine.name for machine in machines}
    return all(machine.linked() == names for machine in machines)


def who_sees_whom(*machines: Machine) -> str:
    """For the message of a failure."""
    return "; ".join(
        f"{machine.name}: "
        + ", ".join(f"{n} {p['state']} {p['path']} {p['rtt_ms']}" for n, p in machine.peers().items())
        + f" refused {machine.view()['network'].get('refused')}"
        for machine in machines
    )
