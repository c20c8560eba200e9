"""Plays one stream over RTMP from two nodes, and says how much later each message comes from the second."""

import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fwbench import rtmp
from fwbench.load.control import Poller, Result
from fwbench.load.session import Session
from fwbench.summary import percentile

Hear = Callable[[bytes, float], None]  # a message's body, and when it came
_MEDIA = (rtmp.AUDIO, rtmp.VIDEO)
_HELD_MAX = 4096  # messages of the first node whose second has not come: the clip repeats before that


@dataclass(frozen=True, slots=True)
class HopSpec:
    host: str
    origin_port: int
    edge_port: int
    name: str


class HopLoad:
    def __init__(self, spec: HopSpec) -> None:
        self._spec = spec
        self._came: dict[bytes, float] = {}  # from the origin, by what is in it
        self._later = array("d")
        self._faults: list[str] = []

    def connect(self, poller: Poller) -> Iterator[None]:
        for port, hear in (
            (self._spec.origin_port, self._from_origin),
            (self._spec.edge_port, self._from_edge),
        ):
            session = Session(self._spec.host, port, "live")
            session.play(self._spec.name)
            _Player(session, poller, hear, self._faults)
            yield

    def tick(self, now: float) -> float:
        return 1.0

    def begin(self, now: float) -> None:
        self._later = array("d")

    def end(self, now: float) -> Result:
        return {
            "hop_p50_ms": 1000 * percentile(self._later, 0.5),
            "hop_p99_ms": 1000 * percentile(self._later, 0.99),
            "hop_max_ms": 1000 * max(self._later, default=0.0),
            "messages": float(len(self._later)),
            "fault": "; ".join(self._faults),
        }

    def _from_origin(self, body: bytes, now: float) -> None:
        self._came.pop(body, None)
        self._came[body] = now
        if len(self._came) > _HELD_MAX:
            del self._came[next(iter(self._came))]

    def _from_edge(self, body: bytes, now: float) -> None:
        came = self._came.pop(body, None)
        if came is not None:
            self._later.append(now - came)


class _Player:
    """Reads messages from one node."""

    def __init__(self, session: Session, poller: Poller, hear: Hear, faults: list[str]) -> None:
        self._session, self._poller, self._hear, self._faults = session, poller, hear, faults
        self._sock: socket.socket = session.sock
        self._sock.setblocking(False)
        self._fd = self._sock.fileno()
        poller.add(self._fd, self._event, select.EPOLLIN)

    def _event(self, _events: int) -> None:
        now = time.monotonic()
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            self._faults.append(str(error))
        if not data:
            self._faults.append("the node hung up")
            self._poller.drop(self._fd)
            return
        for message in self._session.received(data):
            if message.kind in _MEDIA:
                self._hear(message.body, now)
