"""A worker: a child process of the agent that delivers to viewers on the agent's public port.

`python -m fwnode.workers.worker AGENT LINK NAME=DESCRIPTOR...`: the agent's process, and inherited
sockets, the one to the agent and the listening ones. It ends when the agent closes the link or goes
away, and never by a signal that is meant for the whole process group: the agent decides.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence

import structlog
import trio

from fwnode.delivery import copied_streams, public_routes
from fwnode.observe import log
from fwnode.observe.journal import log_fault, log_refused_request
from fwnode.observe.probe import process_usage
from fwnode.promise.door import Lent, PromiseDoor
from fwnode.promise.hours import WallTime
from fwnode.promise.promise import Kept, Promise
from fwnode.promise.terms import Terms
from fwnode.workers.link import LinkLoop
from fwnode.workers.mirror import Mirror, first_message
from fwnode.workers.wire import CONTROL_BYTES_MAX, HEAD, Counts, RouteCounts, Start
from media.container.feed import Feeds, FeedSettings
from media.deliver.http.service import HttpService
from media.errors import WireError
from media.net.reactor import Reactor
from media.net.server import Connection, Listener
from media.net.tls import TlsSettings

LOOK_S = 1.0  # between looks at what leaves
PR_SET_PDEATHSIG = 1  # prctl(2)
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process:
    """One worker's parts."""

    def __init__(self, start: Start, listening: Mapping[str, int]) -> None:
        """`listening`: descriptors by option. Raises OSError when the certificate cannot be used."""
        self._start = start
        self._lost = trio.Event()
        self._draining = self._stopping = False
        self._reactor = Reactor(log_fault)
        self._tls = TlsSettings(start.certificate, start.key) if "https" in listening else None
        settings = start.delivery
        streams = copied_streams(settings, self._reactor.call_at)
        self._promise = Promise(Terms(), streams, Kept())
        self._mirror = Mirror(
            streams,
            lambda: time.time_ns() // 1000,
            self._counts,
            lambda event, stream, reason: structlog.get_logger().error(event, stream=stream, reason=reason),
            on_begin=lambda: self._accept(listening),
            on_drain=self._drain,
            on_renew=self._renew,
            on_lost=self._lost.set,
            on_lend=self._take_loan,
        )
        router = public_routes(
            settings,
            streams,
            Feeds(FeedSettings(settings.flush_s), self._reactor.call_at),
            self._mirror.posters,
            self._reactor.call_at,
            shown=self._mirror,
            ready=lambda: not self._draining,
            audience=self._mirror.visits,
            steering=self._mirror.answers,
            door=PromiseDoor(self._promise, streams, self._reactor.now),
            quality=self._mirror.quality,
        )
        for route in router.routes:
            if route.name == "live":
                route.handler = self._mirror.asking_first(route.handler)
        self._http = HttpService(self._reactor, router)
        self._http.site.on_refused = log_refused_request
        self._listeners: dict[str, Listener] = {}

    async def run(self, link: socket.socket) -> None:
        """Serve until the agent ends it or is gone."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._reactor.run)
            gc.freeze()  # what start-up made lives as long as this process: never look at it again
            self._look(self._reactor.now())
            loop = LinkLoop(self._reactor)
            Connection(link, "agent", 0, loop, lambda: None).start(self._mirror.start, loop.now())
            await self._lost.wait()
            nursery.cancel_scope.cancel()

    def _accept(self, listening: Mapping[str, int]) -> None:
        """Take viewers in; not before it is known what there is for them."""
        for option, descriptor in listening.items():
            tls = self._tls if option == "https" else None
            limit = self._start.delivery.connections_max
            sock = socket.socket(fileno=descriptor)
            self._listeners[option] = self._http.serve(sock, tls=tls, limit=limit)

    def _take_loan(self, lent: Lent) -> None:
        """What of the uplink is this process's, and whether anybody may come."""
        self._promise.told = lent.refusal
        self._promise.terms = Terms(budget_bps=lent.budget_bps)
        if not self._stopping:
            self._draining = self._http.site.draining = lent.drain

    def _look(self, now: float) -> None:
        """Every second: what leaves here."""
        self._promise.look(now, 0.0, WallTime("", -1), self._reactor.bytes_out)
        self._reactor.call_at(now + LOOK_S, self._look)

    def _drain(self) -> None:
        self._stopping = True
        self._draining = self._http.site.draining = True

    def _renew(self) -> None:
        if self._tls is not None:
            try:
                self._tls.reload()
            except OSError as error:
                structlog.get_logger().error("certificate not renewed", reason=str(error))

    def _counts(self) -> Counts:
        reactor, usage = self._reactor.statistics(), process_usage()
        return Counts(
            connections={option: listener.connections for option, listener in self._listeners.items()},
            accepted=reactor.accepted,
            refused=reactor.refused,
            bytes_in=reactor.bytes_in,
            bytes_out=reactor.bytes_out,
            faults=reactor.faults,
            requests_refused=self._http.site.refused,
            routes=[
                RouteCounts(route.name, route.requests, route.answers, route.bytes_out)
                for route in self._http.site.router.routes
            ],
            cpu_s=usage.cpu_s,
            memory_bytes=usage.memory_bytes,
        )


def read_start(link: socket.socket) -> Start:
    """The agent's first message. Raises WireError and OSError."""
    length, number = HEAD.unpack(_exactly(link, HEAD.size))
    if number or length > CONTROL_BYTES_MAX:
        raise WireError("the agent does not begin with a start")
    return first_message(_exactly(link, length))


def _exactly(link: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = link.recv(size - len(data))
        if not more:
            raise WireError("the agent is gone")
        data += more
    return bytes(data)


def end_with_agent(agent: int) -> None:
    """Have the kernel end this process with the agent, also when it hangs; elsewhere the link's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:
            sys.exit(0)  # it was gone before


def main(arguments: Sequence[str]) -> int:
    """0 when the agent ended it or went away."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    agent, link_fd, *listeners = arguments
    end_with_agent(int(agent))
    link = socket.socket(fileno=int(link_fd))
    try:
        start = read_start(link)
    except (WireError, OSError):
        return 0
    log.configure(start.log_level, start.log_format, time.monotonic, about={"worker": start.worker})
    link.setblocking(False)
    try:
        process = Process(start, {name: int(fd) for name, fd in (text.split("=") for text in listeners)})
    except OSError as error:
        structlog.get_logger().error("the worker cannot start", reason=str(error))
        return 1
    trio.run(process.run, link)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
