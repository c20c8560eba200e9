"""A whole node in a process of its own, and what the tests beside this file ask of it."""

import http.client
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

POLL_S = 0.02
PATIENCE_S = 20.0  # for what takes well under a second on an idle machine
STOPPED = 0

Found = TypeVar("Found")


def until(condition: Callable[[], Found | None], what: str, patience_s: float = PATIENCE_S) -> Found:
    """What `condition` gives once it gives something true. Fails after `patience_s`, saying `what`."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(POLL_S)
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value; several are joined, none is empty."""
        return ", ".join(value for key, value in self.headers if key.lower() == name)

    @property
    def text(self) -> str:
        return self.body.decode()


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """Read a response to its end."""
    return Answer(response.status, response.getheaders(), response.read())


class LiveNode:
    """`fwnode run` with a data folder of its own. Everything it logs is JSON, a line each."""

    def __init__(self, running: Any) -> None:
        """`running`: tests/conftest.py's RunningNode."""
        self._running = running
        self.process = running.process
        self.data_dir = running.data_dir
        self.killed = False
        self.faults_expected: set[str] = set()  # kinds of connection faults that the tests provoke
        self.errors_expected: set[str] = set()  # events of level error that they provoke

    @property
    def stdout(self) -> str:
        return str(self._running.stdout)

    def address(self, listener: str) -> tuple[str, int]:
        """Host and port of "http", "https", "rtmp" or "admin"."""
        host, _, port = self._running.addresses[listener].rpartition(":")
        return host, int(port)

    def url(self, path: str, listener: str = "http") -> str:
        scheme = "https" if listener == "https" else "http"
        return f"{scheme}://{self._running.addresses[listener]}{path}"

    def rtmp_url(self, name: str) -> str:
        return str(self._running.rtmp_url(name))

    def cli(self, *arguments: str, check: bool = True) -> Any:
        """Another fwnode command on this node's data folder."""
        return self._running.cli(*arguments, check=check)

    def cli_json(self, *arguments: str) -> Any:
        return self._running.cli_json(*arguments)

    def new_key(self, stream: str = "*") -> str:
        """`fwnode key new --json`."""
        return str(self._running.new_key(stream))

    def connect(self, listener: str = "http", timeout_s: float = PATIENCE_S) -> http.client.HTTPConnection:
        """A kept-alive HTTP connection."""
        return http.client.HTTPConnection(*self.address(listener), timeout=timeout_s)

    def fetch(self, path: str, method: str = "GET", listener: str = "http", **headers: str) -> Answer:
        """One request on a connection of its own; `accept_encoding="gzip"` is Accept-Encoding."""
        connection = self.connect(listener)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=given | {"Connection": "close"})
            return answer_of(connection.getresponse())
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """/api/v1/status."""
        found: dict[str, Any] = json.loads(self.fetch("/api/v1/status", listener="admin").body)
        return found

    def stream(self, name: str) -> dict[str, Any] | None:
        """/api/v1/streams/{name}, None when there is none."""
        answer = self.fetch(f"/api/v1/streams/{name}", listener="admin")
        return json.loads(answer.body) if answer.status == 200 else None

    def await_stream(self, name: str, state: str = "live") -> dict[str, Any]:
        """The stream once it is in that state."""

        def look() -> dict[str, Any] | None:
            found = self.stream(name)
            return found if found is not None and found["state"] == state else None

        return until(look, f"stream {name} {state}: {self.stream(name)}")

    def await_finding(self, name: str, code: str) -> dict[str, Any]:
        """The finding of that code once the stream has it."""

        def look() -> dict[str, Any] | None:
            findings = (self.stream(name) or {"findings": []})["findings"]
            return next((finding for finding in findings if finding["code"] == code), None)

        return until(look, f"finding {code} on {name}")

    def log(self) -> list[dict[str, Any]]:
        """Every line so far."""
        lines = self._running.stderr.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def await_log(self, event: str, **fields: str) -> dict[str, Any]:
        """The line that says `event`, each of `fields` within its own value."""

        def look() -> dict[str, Any] | None:
            for line in self.log():
                if line["event"] == event and all(text in str(line.get(k)) for k, text in fields.items()):
                    return line
            return None

        return until(look, f"log line {event!r} with {fields}", 5.0)

    def rss_kib(self) -> int:
        """Resident memory of the node's process, its children not included."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def descriptors(self) -> int:
        """Open files and sockets of the node's process."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def signal(self, number: int) -> None:
        """Send a signal that ends it, soon."""
        self.killed = True
        self.process.send_signal(number)

    def stop(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.signal(number)
        return int(self.process.wait(PATIENCE_S))

    def finish(self) -> None:
        """Stop it; what it says of itself and what it logged must be without fault of its own."""
        try:
            if not self.killed:
                faults = self.status()["faults"]
                assert faults.keys() <= self.faults_expected, (faults, self.log())
                assert self.stop(signal.SIGTERM) == STOPPED
            text = self._running.stderr
            assert "Traceback" not in text, text[-5000:]
            errors = [line for line in self.log() if line["level"] == "error"]
            assert {line["event"] for line in errors} <= self.errors_expected, errors
        finally:
            self._running.close()


class StartNode(Protocol):
    """Starts a node: options of `fwnode run`, and settings with __ for the dot."""

    def __call__(self, *options: str, data_dir: Path | None = None, **settings: object) -> LiveNode: ...
