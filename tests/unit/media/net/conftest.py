"""A reactor turned by hand on a clock of its own, with real sockets on loopback."""

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from media.net.server import Pollable
from media.net.timers import Timer, Timers
from media.net.transport import Transport


class HandLoop:
    """What connections and listeners need of a reactor, one turn at a time."""

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.accepted = self.refused = 0
        self.time = 100.0
        self.faults: list[tuple[str, str]] = []
        self.pollables: dict[int, Pollable] = {}
        self.timers = Timers()
        self._poll = select.poll()

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        return self.timers.call_at(when, callback)

    def watch(self, descriptor: int, mask: int, pollable: Pollable) -> None:
        self._poll.register(descriptor, mask)
        self.pollables[descriptor] = pollable

    def rewatch(self, descriptor: int, mask: int) -> None:
        self._poll.modify(descriptor, mask)

    def unwatch(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self.pollables[descriptor]

    def fault(self, kind: str, error: Exception, peer: str) -> None:
        self.faults.append((kind, str(error)))

    def turn(self, wait_ms: int = 5) -> bool:
        events = self._poll.poll(wait_ms)
        for descriptor, mask in events:
            if descriptor in self.pollables:
                self.pollables[descriptor].ready(mask, self.time)
        self.run_timers()
        return bool(events)

    def settle(self) -> None:
        """Turn until nothing is ready."""
        while self.turn():
            pass

    def run_timers(self) -> None:
        while (callback := self.timers.pop_due(self.time)) is not None:
            callback(self.time)

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while (due := self.timers.next()) is not None and due <= end:
            self.time = max(self.time, due)
            self.run_timers()
        self.time = end


class Recorder:
    """A protocol that writes down what happens; `act` is called with what it received."""

    def __init__(self, transport: Transport, now: float) -> None:
        self.transport = transport
        self.events: list[Any] = []
        self.act: Callable[[bytes], None] = lambda data: None

    def receive(self, data: bytes, now: float) -> None:
        self.events.append(data)
        self.act(data)

    def receive_eof(self, now: float) -> None:
        self.events.append("eof")

    def drained(self, now: float) -> None:
        self.events.append("drained")

    def on_deadline(self, now: float) -> None:
        self.events.append(("deadline", now))

    def closed(self, now: float) -> None:
        self.events.append("closed")


class Recorders(list[Recorder]):
    """A protocol factory that keeps what it made."""

    def __call__(self, transport: Transport, now: float) -> Recorder:
        self.append(Recorder(transport, now))
        return self[-1]


@pytest.fixture
def loop() -> Iterator[HandLoop]:
    made = HandLoop()
    yield made
    for pollable in list(made.pollables.values()):
        pollable.discard(made.time)


@pytest.fixture
def made() -> Recorders:
    return Recorders()


@pytest.fixture
def dial() -> Iterator[Callable[[str], socket.socket]]:
    """Connects to "host:port"; the sockets are closed at the end."""
    opened: list[socket.socket] = []

    def connect(address: str) -> socket.socket:
        host, _, port = address.rpartition(":")
        opened.append(socket.create_connection((host.strip("[]"), int(port)), 5.0))
        return opened[-1]

    yield connect
    for sock in opened:
        sock.close()
