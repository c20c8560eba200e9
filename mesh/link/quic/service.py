"""QUIC on the mesh's UDP port: dials from a punched socket, takes connections, sends strangers away cheaply.

One task runs every connection's time. Datagrams come and go in synchronous calls.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol, TypeAlias

import trio

from mesh.address import group_of, host_of
from mesh.errors import MeshError, RemoteError, Unavailable, WireError
from mesh.link.certificate import node_of_untrusted
from mesh.link.connection.service import HANDSHAKE_S, RETRY_S, Credentials, LinkRefused
from mesh.link.hello import ARGUMENT_BYTES_MAX, TEXT_LENGTH_MAX
from mesh.link.knock import NONCE_BYTES as KNOCK_NONCE_BYTES
from mesh.link.knock import OtherVersion, check_knock_untrusted, make_knock
from mesh.link.limits import ConnectionLimits
from mesh.link.model import CONTROL, PROTOCOL_VERSION
from mesh.link.quic.greet.service import greet_as_client, greet_as_server, receive_header
from mesh.link.quic.inbox import Stream
from mesh.link.quic.link.service import QuicLink
from mesh.link.quic.machine import (
    ACCESS_DENIED,
    CONNECTION_REFUSED,
    FAULT,
    IDLE_S,
    KEEPALIVE_S,
    PROTOCOL_VERSION_ALERT,
    Configuration,
    Ended,
    Machine,
    Path,
)
from mesh.link.quic.opening import (
    ANSWERS_BURST,
    ANSWERS_PER_S,
    BUSY_HANDSHAKES,
    LOOKS_BURST,
    LOOKS_PER_S,
    Answers,
    Budget,
    First,
    Seen,
    destination_of,
    look_untrusted,
    server_name_untrusted,
)
from mesh.link.quic.packet import CONNECTION_ID_BYTES
from mesh.link.quic.stream.service import QuicStream
from mesh.link.quic.transport import Transport
from mesh.link.refusals import Refusals
from mesh.model import NodeId

CONNECTIONS_MAX = 512  # at a time; an active view has tens, a punched path is for homes
FEW_LINKS = 32  # among which the next deadline is looked for at once; with more the loop wakes for nothing
HEADER_S = 5.0  # for a stream to say what it is for
FAREWELLS_MAX = 64  # connections whose last word is said again to a peer that missed it
FAREWELL_TIMES = 4

OnConnection: TypeAlias = Callable[[QuicStream], Awaitable[None]]
_Job: TypeAlias = Callable[[], Awaitable[None]]


class Port(Protocol):
    """What a UDP port does for this."""

    def send(self, number: int, address: str, datagrams: Sequence[bytes], ttl: int | None = None) -> None:
        """Send datagrams from a socket; what cannot be sent at once is lost."""
        ...


@dataclass(slots=True)
class QuicCounters:
    """What came of datagrams and connections."""

    dialled: int = 0
    accepted: int = 0
    strays: int = 0  # datagrams that belong to no connection
    knocks_refused: int = 0
    retries: int = 0
    dropped_busy: int = 0  # first datagrams beyond what is looked at


class QuicEndpoint:
    """All QUIC connections of one node. `run` it; give it datagrams whose first byte is 64 to 255."""

    def __init__(
        self,
        credentials: Credentials,
        port: Port,
        on_connection: OnConnection,
        refusals: Refusals,
        *,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        """`on_connection` gets each stream that a member opened, the control connections it dialled among
        them, in a task of its own; the stream is closed when it returns. `on_fault` is for faults here."""
        self.counters = QuicCounters()
        self._own = credentials
        self._port = port
        self._on_connection = on_connection
        self._refusals = refusals
        self._on_fault = on_fault
        self._configuration = Configuration(credentials.key)
        self._answers = Answers()
        self._limits = ConnectionLimits()
        self._looks = Budget(LOOKS_PER_S, LOOKS_BURST)
        self._answered = Budget(ANSWERS_PER_S, ANSWERS_BURST)
        self._links: dict[QuicLink, None] = {}
        self._by_id: dict[bytes, QuicLink] = {}
        self._farewells: dict[bytes, tuple[list[tuple[bytes, Path]], int]] = {}
        self._dirty: dict[QuicLink, None] = {}
        self._jobs: list[_Job] = []
        self._now = 0.0  # while a batch of datagrams is received
        self._wake = trio.Event()
        self._sleep = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many there are, handshakes included."""
        return len(self._links)

    # --- datagrams and time

    def receive(self, number: int, data: bytes, source: str) -> None:
        """A datagram that came to a socket. Call `flush` when the batch it was in is over."""
        if not data:
            return
        link = self._by_id.get(destination_of(data))
        if link is None:
            self._on_stray(number, data, source)
            return
        try:
            now = self._now = self._now or trio.current_time()  # once for a batch
            link.machine.receive(data, (source, number), now)
        except Exception as error:  # one connection's fault is its own
            self._fail(link, error)
        self._dirty[link] = None

    def flush(self) -> None:
        """Send what the datagrams since the last flush gave rise to."""
        self._now = 0.0
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            self.flush_one(link)

    def flush_one(self, link: QuicLink) -> None:
        """Send what one connection has to send, and look after it."""
        if link not in self._links:
            return
        now, machine = trio.current_time(), link.machine
        try:
            sent = machine.outputs(now)
            due = machine.deadline()
        except Exception as error:  # one connection's fault is its own
            self._fail(link, error)
            return
        self._transmit(sent)
        for number, new in machine.take_ids():
            self._route(link, number, new)
        self._take_opened(link)
        if machine.ended is not None:
            self._forget(link, sent)
        elif now >= link.linger_until or (link.linger_until != inf and machine.is_acknowledged()):
            machine.close("")
            self.flush_one(link)
        else:
            self._set_deadline(link, inf if due is None else due)

    def _set_deadline(self, link: QuicLink, due: float) -> None:
        heard_at = link.machine.heard_at
        quiet_at = max(heard_at, link.pinged_at) + KEEPALIVE_S
        before = link.deadline
        link.deadline = min(due, link.linger_until, quiet_at, heard_at + IDLE_S)
        if link.deadline < self._sleep.deadline:
            self._sleep.deadline = link.deadline
        elif before == self._sleep.deadline < link.deadline and len(self._links) <= FEW_LINKS:
            self._sleep.deadline = min(each.deadline for each in self._links)

    def _on_deadline(self, link: QuicLink, now: float) -> None:
        machine = link.machine
        try:
            if now >= machine.heard_at + IDLE_S:
                machine.fail("silent", silent=True)
            elif now >= max(machine.heard_at, link.pinged_at) + KEEPALIVE_S:
                link.pinged_at = now
                machine.ping()
            machine.on_deadline(now)
        except Exception as error:  # as above
            self._fail(link, error)
        self.flush_one(link)

    def _take_opened(self, link: QuicLink) -> None:
        for stream in link.machine.take_opened():
            if link.machine.dialled and link.first is None:
                link.first = stream
                link.changed()
            else:
                self._jobs.append(partial(self._serve_stream, link, stream))
                self._wake.set()

    def _transmit(self, datagrams: list[tuple[bytes, Path]]) -> None:
        first, count = 0, len(datagrams)
        while first < count:
            path, end = datagrams[first][1], first + 1
            while end < count and datagrams[end][1] == path:
                end += 1
            self._port.send(path[1], path[0], [data for data, _path in datagrams[first:end]])
            first = end

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every connection is closed with a word."""
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    jobs, self._jobs = self._jobs, []
                    for job in jobs:
                        nursery.start_soon(job)
                    due = min((link.deadline for link in self._links), default=inf)
                    self._wake = trio.Event()
                    with trio.CancelScope(deadline=due) as self._sleep:
                        await self._wake.wait()
                    now = trio.current_time()
                    for link in [link for link in self._links if link.deadline <= now]:
                        self._on_deadline(link, now)
        finally:
            for link in list(self._links):
                link.close("the node stops")

    # --- dialling

    async def dial(
        self,
        number: int,
        address: str,
        expect: NodeId | None,
        *,
        purpose: str = CONTROL,
        argument: bytes = b"",
    ) -> QuicStream:
        """Connect from a socket to a peer's "host:port" (numeric), as `mesh.link.client.dial` does over TCP.

        Raises LinkRefused when either side does not want the other; Unavailable when nobody answers.
        """
        assert len(purpose) <= TEXT_LENGTH_MAX
        assert len(argument) <= ARGUMENT_BYTES_MAX
        if len(self._links) >= CONNECTIONS_MAX:
            raise Unavailable(f"{CONNECTIONS_MAX} connections are open already", RETRY_S)
        knock = make_knock(self._own.membership.network, secrets.token_bytes(KNOCK_NONCE_BYTES))
        transport = Transport(self._configuration.client(knock))
        link = self._add(Machine(transport, dialled=True, now=trio.current_time()))
        self.counters.dialled += 1
        link.machine.connect((address, number), trio.current_time())
        link.flush()
        try:
            with trio.fail_after(HANDSHAKE_S):
                return await self._greet_as_client(link, expect, purpose, argument)
        except trio.TooSlowError:
            link.close("the handshake took too long")
            raise Unavailable("the other side did not finish the handshake in time", RETRY_S) from None
        except LinkRefused as refused:
            link.leave(refused.reason)
            raise
        except BaseException:
            link.close("given up")
            raise

    async def _greet_as_client(
        self, link: QuicLink, expect: NodeId | None, purpose: str, argument: bytes
    ) -> QuicStream:
        machine = link.machine
        while machine.ended is None and (not machine.ready or link.first is None):
            await link.wait()
        if machine.ended is not None:
            raise _why(machine.ended)
        assert link.first is not None
        try:
            server = node_of_untrusted(machine.certificate)
        except WireError as error:
            raise LinkRefused(str(error), by_us=True) from None
        stream = await greet_as_client(self._own, link, link.first, server, expect, purpose, argument)
        link.meet(stream.peer)
        return stream

    # --- being dialled

    def _on_stray(self, number: int, data: bytes, source: str) -> None:
        """A datagram of no connection: a late one, a stranger's first, or noise."""
        self.counters.strays += 1
        destination, now = destination_of(data), trio.current_time()
        if destination in self._farewells:
            words, left = self._farewells.pop(destination)
            if left:
                self._farewells[destination] = (words, left - 1)
                self._transmit(words)
            return
        seen, first = look_untrusted(data)
        if seen is Seen.NOTHING or first is None:
            return
        if seen is Seen.OTHER_VERSION:
            self._answer(number, source, lambda: self._answers.version_negotiation(first), now)
            return
        proven = self._answers.proven_untrusted(first, source, now)
        if proven is None and (self._limits.pending >= BUSY_HANDSHAKES or not self._looks.take(now)):
            fresh_id = secrets.token_bytes(CONNECTION_ID_BYTES)
            if self._answer(number, source, lambda: self._answers.retry(first, source, fresh_id, now), now):
                self.counters.retries += 1
            return
        self._on_first(number, data, source, first, proven)

    def _on_first(self, number: int, data: bytes, source: str, first: First, proven: bytes | None) -> None:
        """A client's first datagram. One whose address is proven counts against it before it costs anything;
        one whose is not, only when it knows the network: nobody can use up what another address may do."""
        now, host = trio.current_time(), host_of(source)
        reason = self._limits.admit(group_of(host), now) if proven is not None else ""
        if reason:
            self._note(host, LinkRefused(reason, by_us=True))
            return
        knows = self._knocked(number, data, source, first, now)
        if proven is None:
            reason = self._limits.admit(group_of(host), now) if knows else "it did not knock"
        elif not knows:
            self._limits.done(group_of(host), now, member=False)
        if not knows or reason:
            return
        transport = Transport(
            self._configuration.server(),
            first_destination=proven or first.destination,
            retried_from=first.destination if proven else None,
        )
        link = self._add(Machine(transport, dialled=False, now=now))
        self._route(link, first.destination, True)
        self.receive(number, data, source)
        self._jobs.append(partial(self._serve_link, link, host))
        self._wake.set()

    def _knocked(self, number: int, data: bytes, source: str, first: First, now: float) -> bool:
        """Whether a first datagram is of somebody who knows this network; if not, they are told."""
        code = ACCESS_DENIED
        try:
            check_knock_untrusted(server_name_untrusted(data, first), self._own.membership.network)
            if len(self._links) < CONNECTIONS_MAX:
                return True
            error: WireError = WireError("too many connections are open")
            code = CONNECTION_REFUSED
        except OtherVersion as other:
            error, code = other, PROTOCOL_VERSION_ALERT
        except WireError as wrong:
            error = wrong
        self.counters.knocks_refused += 1
        self._note(host_of(source), LinkRefused(str(error), by_us=True))
        self._answer(number, source, lambda: self._answers.refusal(first, code, ""), now)
        return False

    def _answer(self, number: int, source: str, make: Callable[[], bytes], now: float) -> bool:
        """A short answer to a stranger, when there is time for it."""
        if not self._answered.take(now):
            self.counters.dropped_busy += 1
            return False
        self._port.send(number, source, [make()])
        return True

    async def _serve_link(self, link: QuicLink, host: str) -> None:
        """A stranger's connection, from its handshake to the end of its control stream."""
        member = False
        try:
            with trio.fail_after(HANDSHAKE_S):
                control = await greet_as_server(self._own, link, link.open())
            link.meet(control.peer)
            member = True
            self.counters.accepted += 1
        except LinkRefused as refused:
            self._note(host, refused)
            link.leave(refused.reason)
            return
        except (Unavailable, trio.TooSlowError, trio.ClosedResourceError):
            link.close("the handshake took too long")
            return
        finally:
            self._limits.done(group_of(host), trio.current_time(), member=member)
        await self._hand_on(control)

    async def _serve_stream(self, link: QuicLink, stream: Stream) -> None:
        """A further stream that the peer opened."""
        host = host_of(link.machine.path[0])
        try:
            with trio.fail_after(HEADER_S):
                while link.peer is None:
                    if link.reason:
                        raise Unavailable(link.reason, RETRY_S)
                    await link.wait()
                opened = await receive_header(link, stream, link.peer)
        except (Unavailable, trio.TooSlowError, trio.ClosedResourceError):
            link.machine.abandon(stream)
            link.let_go()
            return
        except WireError as error:
            node_id = link.peer.node_id if link.peer else None
            self._note(host, LinkRefused(str(error), by_us=True, node_id=node_id))
            link.close(str(error), FAULT)
            return
        await self._hand_on(opened)

    async def _hand_on(self, stream: QuicStream) -> None:
        try:
            await self._guard(stream)
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def _guard(self, stream: QuicStream) -> None:
        """One stream's fault is its own."""
        try:
            await self._on_connection(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except* RemoteError as group:
            reason = _first(group)
            host = host_of(stream.peer.remote)
            self._note(host, LinkRefused(reason, by_us=True, node_id=stream.peer.node_id))
        except* Exception as group:
            if self._on_fault is None:
                raise
            self._on_fault(group)

    # --- keeping account

    def _add(self, machine: Machine) -> QuicLink:
        link = QuicLink(machine, self.flush_one)
        self._links[link] = None
        for number, new in machine.take_ids():
            self._route(link, number, new)
        return link

    def _route(self, link: QuicLink, number: bytes, new: bool) -> None:
        if new:
            self._by_id[number] = link
            link.ids.add(number)
        elif number in link.ids:
            link.ids.discard(number)
            del self._by_id[number]

    def _forget(self, link: QuicLink, last: list[tuple[bytes, Path]]) -> None:
        """A connection is over; `last` are its last words."""
        self._links.pop(link, None)
        self._dirty.pop(link, None)
        for number in link.ids:
            self._by_id.pop(number, None)
            if last:
                self._farewells[number] = (last, FAREWELL_TIMES)
        while len(self._farewells) > FAREWELLS_MAX:
            del self._farewells[next(iter(self._farewells))]
        link.changed()

    def _fail(self, link: QuicLink, error: Exception) -> None:
        """A fault of ours, or of the library, in one connection ends that one."""
        link.machine.fail("a fault on this side")
        self._forget(link, [])
        if self._on_fault is None:
            raise error
        self._on_fault(error)

    def _note(self, host: str, refused: LinkRefused) -> None:
        self._refusals.note(host, refused.node_id, refused.reason, refused.by_us, self._own.unix_s())


def _why(ended: Ended) -> MeshError:
    """What a dialler is told of a connection that ended in its handshake."""
    if ended.code == ACCESS_DENIED and ended.by_peer:
        return LinkRefused("it is of another network, or no node that this one may know", by_us=False)
    if ended.code == PROTOCOL_VERSION_ALERT and ended.by_peer:
        return LinkRefused(
            f"it speaks another version of the mesh's protocol than this node's {PROTOCOL_VERSION}: "
            "update the older",
            by_us=False,
        )
    return Unavailable(f"the connection was lost in the handshake: {ended.reason or 'closed'}", RETRY_S)


def _first(group: BaseExceptionGroup[RemoteError]) -> str:
    while True:
        error = group.exceptions[0]
        if not isinstance(error, BaseExceptionGroup):
            return str(error)
        group = error
