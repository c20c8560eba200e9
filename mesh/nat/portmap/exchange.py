"""Requests to a router until they are answered, and what its clock tells. Pure."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from mesh.nat.portmap.model import Transport

GAP_S = 0.25  # RFC 6886 3.1: the first wait, doubled each time
SENDS = 3  # the last is waited for 1 s: a router that is there answers in milliseconds
CLOCK_SLACK_S = 2.0  # RFC 6887 8.5, RFC 6886 3.6

Key: TypeAlias = tuple[str, Transport | None]  # what a request is for


class Exchange:
    """A few requests, each repeated until it is answered or all were sent SENDS times."""

    def __init__(self) -> None:
        self._pending: dict[Key, bytes] = {}
        self._beside: tuple[bytes, ...] = ()
        self._due = 0.0
        self._sent = 0

    def begin(self, requests: Mapping[Key, bytes], now: float, beside: Iterable[bytes] = ()) -> list[bytes]:
        """What to send at once. `beside` is sent with each repetition, and no answer to it is waited for."""
        self._pending = dict(requests)
        self._beside = tuple(beside)
        self._sent = 1
        self._due = now + GAP_S
        return list(requests.values())

    @property
    def pending(self) -> tuple[Key, ...]:
        """What is not answered yet."""
        return tuple(self._pending)

    def answered(self, key: Key) -> bool:
        """Whether that was waited for; it is not any more."""
        return self._pending.pop(key, None) is not None

    def end(self) -> None:
        """Wait for nothing."""
        self._pending = {}

    def deadline(self) -> float | None:
        """When to call `on_deadline`."""
        return self._due if self._pending else None

    def on_deadline(self, now: float) -> list[bytes] | None:
        """What to send again; None when it was sent often enough: all is given up."""
        if self._sent == SENDS:
            self._pending = {}
            return None
        self._due = now + GAP_S * 2**self._sent
        self._sent += 1
        return [*self._pending.values(), *self._beside]


class RouterClock:
    """Sees from a router's seconds since its start that it lost all mappings (RFC 6887 8.5, RFC 6886 3.6)."""

    def __init__(self) -> None:
        self._router_s: int | None = None
        self._own_s = 0.0

    def restarted(self, epoch_s: int, now: float) -> bool:
        """Take what the router says now. A clock too slow or too fast is a new one."""
        before, self._router_s = self._router_s, epoch_s
        own = now - self._own_s
        self._own_s = now
        if before is None:
            return False
        router = epoch_s - before
        if router < -1:
            return True
        return own + CLOCK_SLACK_S < router - router / 16 or router + CLOCK_SLACK_S < own - own / 16
