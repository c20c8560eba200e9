"""Keep-alive connections that ask for one object again and again and discard it."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from fwbench.load.control import Poller, Result
from fwbench.load.session import PATIENCE_S

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SCRATCH = bytearray(1 << 20)


@dataclass(frozen=True, slots=True)
class FetchSpec:
    host: str
    port: int
    path: str
    connections: int


class FetchLoad:
    def __init__(self, spec: FetchSpec) -> None:
        self._spec = spec
        self._clients: list[_Client] = []

    def connect(self, poller: Poller) -> Iterator[None]:
        for _ in range(self._spec.connections):
            self._clients.append(_Client(self._spec, poller))
            yield

    def tick(self, now: float) -> float:
        return 1.0

    def begin(self, now: float) -> None:
        for client in self._clients:
            client.bytes = client.answers = 0

    def end(self, now: float) -> Result:
        return {
            "bytes": float(sum(client.bytes for client in self._clients)),
            "answers": float(sum(client.answers for client in self._clients)),
            "fault": next((client.fault for client in self._clients if client.fault), ""),
        }


class _Client:
    def __init__(self, spec: FetchSpec, poller: Poller) -> None:
        self._poller = poller
        self._sock = socket.create_connection((spec.host, spec.port), PATIENCE_S)
        self._sock.setblocking(False)
        self._request = f"GET {spec.path} HTTP/1.1\r\nHost: {spec.host}:{spec.port}\r\n\r\n".encode()
        self._rest = 0  # body bytes still to come; 0 while a head is awaited
        self.bytes = self.answers = 0
        self.fault = ""
        poller.add(self._sock.fileno(), self._event)
        self._sock.send(self._request)

    def _event(self, _events: int) -> None:
        try:
            if self._rest:
                size = self._sock.recv_into(_SCRATCH, len(_SCRATCH), socket.MSG_TRUNC)
                self._rest -= size
            else:
                size = self._head()
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._close(str(error))
            return
        self.bytes += size
        if not size:
            self._close("the server closed the connection")
        elif self._rest == 0:
            self.answers += 1
            self._sock.send(self._request)

    def _head(self) -> int:
        data = self._sock.recv(16384)
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, max(end, 0))
        if data and (not data.startswith(b"HTTP/1.1 200") or length is None):
            raise ValueError(data[:60].decode("latin-1"))
        if length is not None:
            self._rest = int(length[1]) - (len(data) - end - 4)
        return len(data)

    def _close(self, fault: str) -> None:
        self.fault = self.fault or fault
        self._poller.drop(self._sock.fileno())
        self._sock.close()
