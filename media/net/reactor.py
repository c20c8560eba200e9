"""One trio task that runs every TCP protocol machine of the node on its own epoll.

A connection is not a task: a turn polls, calls the machines whose sockets are ready, runs the
timers that are due, and yields to trio. trio itself is asked to wait only when nothing is ready.
"""

import select
import socket
import sys
import time
from collections.abc import Callable
from errno import EBADF, ENOENT
from math import inf

import msgspec
import trio

from media.net.server import (
    ERROR,
    HANGUP,
    READ,
    WRITE,
    Connection,
    Listener,
    Pollable,
    bind,
    tune,
)
from media.net.timers import Timer, Timers
from media.net.tls import TlsSettings, secured
from media.net.transport import ProtocolFactory, Transport

EVENTS_PER_TURN = 64  # about 1 ms of requests: what another trio task may have to wait
TIMERS_PER_TURN = 256

OnError = Callable[[str, Exception, str], None]  # kind, error, peer; kinds: see ReactorStatistics.faults


class ReactorStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and how many connections there are now."""

    connections: int
    accepted: int
    refused: int  # turned away by a listener's or an address's limit
    bytes_in: int
    bytes_out: int
    turns: int
    timers: int
    # By kind: "remote" they broke the protocol, "bug" our code raised, "stall" took nothing for
    # STALL_S, "overflow" MAX_QUEUED_BYTES, "accept" out of descriptors, "timer" a callback raised.
    faults: dict[str, int]


class Reactor:
    """Runs TCP connections, listeners and timers. Every method is for the thread that runs it."""

    def __init__(self, on_error: OnError, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.accepted = 0
        self.refused = 0
        self._turns = 0
        self._faults: dict[str, int] = {}
        self._on_error = on_error
        self._clock = clock
        self._time = clock()
        self._in_turn = False
        self._timers = Timers()
        self._pollables: dict[int, Pollable] = {}
        self._listeners = 0
        self._poller = Poller()
        self._nap: trio.CancelScope | None = None
        self._alarm_at = inf  # when the nap ends

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every connection is aborted and every listener closed."""
        task_status.started()
        try:
            while True:
                await self._run_until_alarm()
        finally:
            self._nap = None
            for pollable in list(self._pollables.values()):
                pollable.discard(self._clock())
            self._poller.close()

    def listen(
        self,
        address: str,
        factory: ProtocolFactory,
        *,
        tls: TlsSettings | None = None,
        limit: int,
        name: str,
    ) -> Listener:
        """Accept connections on "host:port", "[v6]:port" or ":port"; port 0 takes a free one.

        `limit` bounds the connections of this listener. Raises OSError with a useful text.
        """
        return self.serve(bind(address), factory, tls=tls, limit=limit, name=name)

    def serve(
        self,
        sock: socket.socket,
        factory: ProtocolFactory,
        *,
        tls: TlsSettings | None = None,
        limit: int,
        name: str,
    ) -> Listener:
        """As `listen`, on a listening, non-blocking socket, which is the listener's from now on."""
        if tls is not None:
            factory = secured(factory, tls)
        return Listener(sock, factory, self, limit=limit, name=name)

    def adopt(
        self, sock: socket.socket, factory: ProtocolFactory, on_gone: Callable[[], None] = lambda: None
    ) -> Transport:
        """Run a protocol on a connected TCP socket, which is the reactor's from now on."""
        sock.setblocking(False)
        tune(sock)
        host, port = sock.getpeername()[:2]
        connection = Connection(sock, host, port, self, on_gone)
        connection.start(factory, self.now())
        return connection

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Call `callback(now)` once, in a turn, when monotonic second `when` has come."""
        if not self._in_turn and when < self._alarm_at:
            self._set_alarm(when)
        return self._timers.call_at(when, callback)

    def now(self) -> float:
        """Monotonic seconds; the same value throughout one turn."""
        return self._time if self._in_turn else self._clock()

    def statistics(self) -> ReactorStatistics:
        return ReactorStatistics(
            connections=sum(isinstance(pollable, Connection) for pollable in self._pollables.values()),
            accepted=self.accepted,
            refused=self.refused,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            turns=self._turns,
            timers=len(self._timers),
            faults=dict(self._faults),
        )

    # What connections and listeners call.

    def watch(self, descriptor: int, mask: int, pollable: Pollable) -> None:
        self._poller.register(descriptor, mask)
        self._pollables[descriptor] = pollable

    def rewatch(self, descriptor: int, mask: int) -> None:
        self._poller.modify(descriptor, mask)

    def unwatch(self, descriptor: int) -> None:
        self._pollables.pop(descriptor, None)
        self._poller.unregister(descriptor)

    def fault(self, kind: str, error: Exception, peer: str) -> None:
        self._faults[kind] = self._faults.get(kind, 0) + 1
        self._on_error(kind, error, peer)

    def _turn(self) -> bool:
        """Serve what is ready; False when nothing was."""
        events = self._poller.poll(0, EVENTS_PER_TURN)
        now = self._time = self._clock()
        self._turns += 1
        self._in_turn = True
        pollables = self._pollables
        for descriptor, mask in events:
            pollable = pollables.get(descriptor)
            if pollable is not None:
                pollable.ready(mask, now)
        timed = self._run_timers(now)
        self._in_turn = False
        return bool(events) or timed

    def _run_timers(self, now: float) -> bool:
        mark = self._timers.mark()
        for count in range(TIMERS_PER_TURN):
            callback = self._timers.pop_due(now, mark)
            if callback is None:
                return count > 0
            try:
                callback(now)
            except Exception as error:
                self.fault("timer", error, "")
        return True

    # A cancel scope for each sleep would cost as much as a request. So one scope lasts until a timer
    # is due, and an alarm that is early, as timers were cancelled since, only ends it for nothing.

    async def _run_until_alarm(self) -> None:
        descriptor = self._poller.fileno()
        with trio.CancelScope() as self._nap:
            self._alarm_at = inf
            while True:
                if self._turn():
                    await trio.lowlevel.checkpoint()
                    continue
                due = self._timers.next()
                if due is not None and due < self._alarm_at:
                    self._set_alarm(due)
                await trio.lowlevel.wait_readable(descriptor)

    def _set_alarm(self, when: float) -> None:
        """End the present sleep at `when`."""
        self._alarm_at = when
        if self._nap is not None:
            self._nap.deadline = trio.current_time() + when - self._clock()


if sys.platform == "linux":
    Poller = select.epoll
else:

    class Poller:
        """kqueue in epoll's words."""

        def __init__(self) -> None:
            self._queue = select.kqueue()

        def fileno(self) -> int:
            return self._queue.fileno()

        def close(self) -> None:
            self._queue.close()

        def register(self, descriptor: int, mask: int) -> None:
            self.modify(descriptor, mask)

        def modify(self, descriptor: int, mask: int) -> None:
            for bit, kind in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE)):
                self._change(descriptor, kind, select.KQ_EV_ADD if mask & bit else select.KQ_EV_DELETE)

        def unregister(self, descriptor: int) -> None:
            self.modify(descriptor, 0)

        def poll(self, timeout: float, limit: int) -> list[tuple[int, int]]:
            return [_epoll_event(event) for event in self._queue.control(None, limit, timeout)]

        def _change(self, descriptor: int, kind: int, action: int) -> None:
            try:
                self._queue.control([select.kevent(descriptor, kind, action)], 0, 0)
            except OSError as error:
                if error.errno not in (ENOENT, EBADF):  # deleting what was never added
                    raise

    def _epoll_event(event: select.kevent) -> tuple[int, int]:
        mask = READ if event.filter == select.KQ_FILTER_READ else WRITE
        if event.flags & select.KQ_EV_ERROR:
            mask |= ERROR
        if event.flags & select.KQ_EV_EOF and event.filter == select.KQ_FILTER_WRITE:
            mask |= HANGUP
        return event.ident, mask
