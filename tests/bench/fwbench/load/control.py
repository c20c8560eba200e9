"""What every load generator shares: one epoll, commands on standard input, results on standard output."""

import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

Handler = Callable[[int], None]
Result = dict[str, float | str]
_LONGEST_WAIT_S = 1.0


class Poller:
    """A level-triggered epoll that calls one handler for each ready descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def add(self, fd: int, handler: Handler, events: int = select.EPOLLIN) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def drop(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout_s: float) -> None:
        handlers = self._handlers
        for fd, events in self._epoll.poll(timeout_s):
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)


class Load(Protocol):
    """One kind of load: connects step by step, runs until told to stop, counts between begin and end."""

    def connect(self, poller: Poller) -> Iterator[None]:
        """Open the connections; the poller turns between the steps."""

    def tick(self, now: float) -> float:
        """Do what is due at monotonic `now`; seconds until it wants to be called again."""

    def begin(self, now: float) -> None: ...

    def end(self, now: float) -> Result: ...


def run(load: Load) -> None:
    """Connect, say `ready`, then obey `begin`, `end` and `stop` (or the end of input)."""
    poller = Poller()
    commands = _Commands(load)
    for _ in load.connect(poller):
        poller.turn(0)
        load.tick(time.monotonic())
    poller.add(sys.stdin.fileno(), commands.readable)
    _say({"ready": 1.0})
    while not commands.stopped:
        poller.turn(min(_LONGEST_WAIT_S, max(0.0, load.tick(time.monotonic()))))


class _Commands:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._cpu_s = 0.0
        self._began = 0.0
        self.stopped = False

    def readable(self, _events: int) -> None:
        data = os.read(sys.stdin.fileno(), 1024)
        self.stopped = not data
        for word in data.decode().split():
            self._obey(word)

    def _obey(self, word: str) -> None:
        now = time.monotonic()
        if word == "begin":
            self._began, self._cpu_s = now, time.process_time()
            self._load.begin(now)
        elif word == "end":
            result = self._load.end(now)
            result["seconds"] = now - self._began
            result["load_core_percent"] = 100 * (time.process_time() - self._cpu_s) / (now - self._began)
            _say(result)
        else:
            self.stopped = True


def _say(result: Result) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
