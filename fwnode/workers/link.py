"""The socket between the agent and a worker, on the reactor of each. Pure."""

from collections.abc import Callable

from media.net.server import Loop, Pollable
from media.net.timers import Timer


class LinkLoop:
    """A reactor to a link: what goes over it is not counted as sent to or received from the world."""

    def __init__(self, reactor: Loop) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.accepted = 0
        self.refused = 0
        self._reactor = reactor

    def now(self) -> float:
        return self._reactor.now()

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        return self._reactor.call_at(when, callback)

    def watch(self, descriptor: int, mask: int, pollable: Pollable) -> None:
        self._reactor.watch(descriptor, mask, pollable)

    def rewatch(self, descriptor: int, mask: int) -> None:
        self._reactor.rewatch(descriptor, mask)

    def unwatch(self, descriptor: int) -> None:
        self._reactor.unwatch(descriptor)

    def fault(self, kind: str, error: Exception, peer: str) -> None:
        self._reactor.fault(kind, error, peer)
