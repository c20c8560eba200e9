"""A double in a process of its own, for tests."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = Path(__file__).resolve().parent
STOP_S = 10.0
CONTROL_S = 30.0


class RunningGateway:
    """`with RunningGateway("--preset", "ultrafast") as gateway:` then `gateway.url`.

    The options are the command line's. Raises RuntimeError when it does not start.
    """

    def __init__(self, *options: str) -> None:
        command = [sys.executable, str(FOLDER), "--port", "0", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the double did not start: {command}")
        started = json.loads(line)
        self.url: str = started["url"]
        self.control_url: str = started["control"]

    def control(self, command: str, value: object = None) -> Any:
        """One command of the control port, like `control("faults", [{"fault": "drop", "times": 1}])`."""
        body = b"" if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"{self.control_url}/{command}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=CONTROL_S) as answer:
            return json.load(answer)

    def fault(self, kind: str, **settings: object) -> None:
        """This one fault from now on, in place of others."""
        self.control("faults", [{"fault": kind, **settings}])

    def no_faults(self) -> None:
        self.control("faults", [])

    def log(self) -> list[dict[str, Any]]:
        """Every push so far; `livepeer_gateway.journal.Entry` has the fields."""
        entries: list[dict[str, Any]] = self.control("log")
        return entries

    def refuse(self) -> None:
        """Connections are refused until `listen`."""
        self.control("refuse")

    def listen(self) -> None:
        self.control("listen")

    def restart(self) -> None:
        """Sessions and connections are lost, the port stays."""
        self.control("restart")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> "RunningGateway":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
