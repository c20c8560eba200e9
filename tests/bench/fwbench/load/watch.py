"""Viewers that hold one connection and are sent the stream: RTMP, progressive HTTP, WebSocket."""

import select
import socket
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from fwbench import rtmp, websocket
from fwbench.load.control import Poller, Result
from fwbench.load.session import PATIENCE_S, Session
from fwbench.summary import percentile

SAME_WRITE_S = 0.002  # what arrives this soon after is the rest of the same write
_SCRATCH = bytearray(1 << 20)  # never touched where MSG_TRUNC discards
_ACKNOWLEDGE_BYTES = 2_500_000  # the window that servers commonly announce


@dataclass(frozen=True, slots=True)
class WatchSpec:
    protocol: str  # "rtmp", "http", "ws"
    host: str
    port: int
    path: str  # the stream's name for RTMP
    viewers: int


class WatchLoad:
    def __init__(self, spec: WatchSpec) -> None:
        self._spec = spec
        self._viewers: list[_Viewer] = []

    def connect(self, poller: Poller) -> Iterator[None]:
        make = {"rtmp": _RtmpViewer, "http": _HttpViewer, "ws": _WebSocketViewer}[self._spec.protocol]
        for _ in range(self._spec.viewers):
            self._viewers.append(make(self._spec, poller))
            yield

    def tick(self, now: float) -> float:
        return 1.0

    def begin(self, now: float) -> None:
        for viewer in self._viewers:
            viewer.begin(now)

    def end(self, now: float) -> Result:
        gaps: list[float] = []
        for viewer in self._viewers:
            gaps.extend(viewer.gaps)
            gaps.append(now - viewer.last)
        return {
            "bytes": float(sum(viewer.bytes for viewer in self._viewers)),
            "gap_p50_ms": 1000 * percentile(gaps, 0.5),
            "gap_p99_ms": 1000 * percentile(gaps, 0.99),
            "gap_max_ms": 1000 * max(gaps, default=0.0),
            "closed": float(sum(viewer.closed for viewer in self._viewers)),
            "fault": next((viewer.fault for viewer in self._viewers if viewer.fault), ""),
        }


class _Viewer:
    """Counts bytes and the gaps between arrivals."""

    def __init__(self, sock: socket.socket, poller: Poller) -> None:
        self.sock, self._poller = sock, poller
        self.bytes = 0
        self.last = time.monotonic()
        self.gaps = array("d")
        self.closed = False
        self.fault = ""
        sock.setblocking(False)
        self._fd = sock.fileno()
        poller.add(self._fd, self._event, select.EPOLLIN)

    def begin(self, now: float) -> None:
        self.bytes = 0
        self.gaps = array("d")

    def take(self) -> int:
        """Receive once; 0 at the end."""
        return self.sock.recv_into(_SCRATCH, len(_SCRATCH), socket.MSG_TRUNC)

    def _event(self, _events: int) -> None:
        now = time.monotonic()
        try:
            size = self.take()
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self.close(str(error))
            return
        if not size:
            self.close("the server closed the connection")
            return
        self.bytes += size
        gap = now - self.last
        self.last = now
        if gap > SAME_WRITE_S:
            self.gaps.append(gap)

    def close(self, fault: str) -> None:
        self.closed, self.fault = True, self.fault or fault
        self._poller.drop(self._fd)
        self.sock.close()


class _RtmpViewer(_Viewer):
    def __init__(self, spec: WatchSpec, poller: Poller) -> None:
        session = Session(spec.host, spec.port, "live")
        session.play(spec.path)
        self._received = self._acknowledged = 0
        super().__init__(session.sock, poller)

    def take(self) -> int:
        size = super().take()
        self._received += size
        if self._received - self._acknowledged > _ACKNOWLEDGE_BYTES:
            self._acknowledged = self._received
            self.sock.send(rtmp.acknowledgement(self._received))
        return size


class _HttpViewer(_Viewer):
    """Takes the answer's head apart, then discards."""

    def __init__(self, spec: WatchSpec, poller: Poller) -> None:
        self._head: bytes | None = b""
        super().__init__(_request(spec, ""), poller)

    def take(self) -> int:
        if self._head is None:
            return super().take()
        data = self.sock.recv(4096)
        head = self._head = self._head + data
        if b"\r\n\r\n" in head:
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(head[:60].decode("latin-1"))
            self._head = None
        return len(data)


class _WebSocketViewer(_Viewer):
    """Follows the frames (RFC 6455 5.2) and answers pings."""

    def __init__(self, spec: WatchSpec, poller: Poller) -> None:
        self._head: bytes | None = b""
        self._frames = websocket.FrameReader()
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        super().__init__(_request(spec, upgrade + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), poller)

    def take(self) -> int:
        size = self.sock.recv_into(_SCRATCH, 1 << 18)
        data = memoryview(_SCRATCH)[:size]
        if self._head is not None:
            self._head += bytes(data)
            if b"\r\n\r\n" not in self._head:
                return size
            head, _, rest = self._head.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise ValueError(head[:60].decode("latin-1"))
            self._head, data = None, memoryview(rest)
        for ping in self._frames.receive(data):
            self.sock.send(websocket.pong(ping))
        return size


def _request(spec: WatchSpec, headers: str) -> socket.socket:
    sock = socket.create_connection((spec.host, spec.port), PATIENCE_S)
    sock.sendall(f"GET {spec.path} HTTP/1.1\r\nHost: {spec.host}:{spec.port}\r\n{headers}\r\n".encode())
    return sock
