"""RTMP publishers: one clip sent in real time on many connections, each beginning a little later."""

import heapq
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fwbench import flv, rtmp
from fwbench.load.control import Poller, Result
from fwbench.load.session import Session

_SPACING_S = 0.05  # so that the publishers' keyframes do not come at one instant
_KINDS = {flv.AUDIO: rtmp.AUDIO, flv.VIDEO: rtmp.VIDEO, flv.SCRIPT: rtmp.DATA}
_SCRATCH = bytearray(65536)


@dataclass(frozen=True, slots=True)
class PublishSpec:
    host: str
    port: int
    names: list[str]
    clip: str
    length_ms: int
    app: str = "live"


@dataclass(frozen=True, slots=True)
class Ready:
    """A message whose chunks are cut already; only the first header depends on the timestamp."""

    kind: int
    body_bytes: int
    tail: bytes


class PublishLoad:
    def __init__(self, spec: PublishSpec) -> None:
        self._spec = spec
        self._clip = flv.clip(Path(spec.clip).read_bytes(), spec.length_ms)
        self._ready = {id(tag): _prepare(tag) for tag in (*self._clip.head, *self._clip.body)}
        self._due: list[tuple[float, int, _Publisher]] = []
        self._publishers: list[_Publisher] = []
        self._first_byte_s = 0.0

    def connect(self, poller: Poller) -> Iterator[None]:
        self._first_byte_s = time.monotonic()
        for name in self._spec.names:
            publisher = _Publisher(self._spec, name, self._clip, self._ready, poller)
            self._publishers.append(publisher)
            start = time.monotonic() + len(self._publishers) * _SPACING_S / len(self._spec.names)
            publisher.start(start)
            heapq.heappush(self._due, (start, len(self._publishers), publisher))
            yield

    def tick(self, now: float) -> float:
        due = self._due
        while due and due[0][0] <= now:
            _, number, publisher = due[0]
            when = publisher.send_due(now)
            if when is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (when, number, publisher))
        return due[0][0] - now if due else 1.0

    def begin(self, now: float) -> None:
        for publisher in self._publishers:
            publisher.sent_bytes, publisher.late_s = 0, 0.0

    def end(self, now: float) -> Result:
        return {
            "bytes": float(sum(publisher.sent_bytes for publisher in self._publishers)),
            "late_ms": 1000 * max((publisher.late_s for publisher in self._publishers), default=0.0),
            "closed": float(sum(publisher.closed for publisher in self._publishers)),
            "fault": "the server hung up" if any(publisher.closed for publisher in self._publishers) else "",
            "first_byte_s": self._first_byte_s,  # monotonic, the same clock in every process
        }


def _prepare(tag: flv.Tag) -> Ready:
    kind = _KINDS[tag.kind]
    body = rtmp.encode("@setDataFrame") + tag.body if tag.kind == flv.SCRIPT else tag.body
    return Ready(kind, len(body), rtmp.chunk_tail(kind, body))


class _Publisher:
    def __init__(
        self, spec: PublishSpec, name: str, clip: flv.Clip, ready: dict[int, Ready], poller: Poller
    ) -> None:
        self._clip, self._ready, self._poller = clip, ready, poller
        session = Session(spec.host, spec.port, spec.app)
        session.publish(name)
        self._sock, self._stream_id = session.sock, session.stream_id
        self._sock.setblocking(False)
        self._fd = self._sock.fileno()
        self._schedule = clip.schedule()
        self._next = next(self._schedule)
        self._start = 0.0
        self._unsent = b""
        self.sent_bytes = 0
        self.late_s = 0.0
        self.closed = False
        poller.add(self._fd, self._ready_event)

    def start(self, at: float) -> None:
        self._start = at
        for tag in self._clip.head:
            self._send(0, tag)

    def send_due(self, now: float) -> float | None:
        """Send every tag that is due; when the next one is (None after the server hung up)."""
        if self.closed:
            return None
        time_ms, tag = self._next
        while (when := self._start + time_ms / 1000) <= now:
            self.late_s = max(self.late_s, now - when)
            if self._unsent:  # the server does not keep up: wait, and let `late_s` tell
                return now + 0.005
            self._send(time_ms, tag)
            self._next = time_ms, tag = next(self._schedule)
        return when

    def _send(self, time_ms: int, tag: flv.Tag) -> None:
        ready = self._ready[id(tag)]
        header = rtmp.chunk_header(ready.kind, ready.body_bytes, time_ms, self._stream_id)
        size = len(header) + len(ready.tail)
        try:
            sent = self._sock.sendmsg((header, ready.tail))
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return
        self.sent_bytes += sent
        if sent < size:
            self._unsent += (header + ready.tail)[sent:]
            self._poller.change(self._fd, select.EPOLLIN | select.EPOLLOUT)

    def _ready_event(self, events: int) -> None:
        try:
            if events & select.EPOLLIN and not self._sock.recv_into(_SCRATCH):
                self._close()
            elif events & select.EPOLLOUT:
                self._flush()
            elif events & (select.EPOLLERR | select.EPOLLHUP):
                self._close()
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _flush(self) -> None:
        sent = self._sock.send(self._unsent)
        self.sent_bytes += sent
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._poller.change(self._fd, select.EPOLLIN)

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._poller.drop(self._fd)
            self._sock.close()
