"""Opens TCP connections to members through both routers, and answers those who want one.

What comes of it is a connection as any other: the one who asked is its dialler.
"""

import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, TypeAlias, TypeVar

import trio

from mesh.address import host_of, numeric_address
from mesh.errors import MeshError, Unavailable
from mesh.link.connection.service import Credentials, SecureConnection, secure
from mesh.link.control import OpenTcp, TcpSide
from mesh.link.model import CONTROL, TOKEN_BYTES, Connection
from mesh.link.steps import Heard
from mesh.link.stun.service import ask
from mesh.model import NodeId
from mesh.nat.simultaneous import Abandon, Connect, Experience, TcpPuncher, agreed, is_near, targets
from mesh.node.core import MeshCore
from mesh.node.servers import stun_servers
from mesh.node.simultaneous.port.service import FreshPort
from mesh.node.ways import seen_hosts

WAIT_S = 0.9  # with a peer with whom it is not known to work: then other ways are tried beside
KNOWN_WAIT_S = 3.0  # with one with whom it worked
MEETING_S = 6.0  # of all; the slowest: two questions to a server and the words about them, then PUNCH_S
ASK_S = 1.0  # for the outside address; a SYN that is lost costs a second, and then the other server is there
SECOND_S = 0.15  # for another server's word, when one has answered
SIDE_S = 2.5  # for the other end's candidates
SECURE_S = 3.0  # for the handshake: three round trips
SERVERS_MAX = 2  # asked: two that differ show a router for which this is of no use
OWN_MAX = 3  # addresses of this host beside the outside one
SOCKETS_MAX = 8  # connections of one meeting that wait for their handshake
MEETINGS_MAX = 32  # at a time; each has some ten sockets for some seconds
RETRY_S = 1.0

Use: TypeAlias = Callable[["trio.MemoryReceiveChannel[socket.socket]"], Awaitable[None]]


@dataclass(slots=True)
class _Meeting:
    """One attempt, at one end."""

    peer: NodeId
    ticket: bytes
    v6: bool
    initiator: bool
    candidates: tuple[str, ...] = ()  # of the other end, those that may be connected to
    told: trio.Event = field(default_factory=trio.Event)
    told_at: float = 0.0
    trouble: str = "no connection came about"


class Opened(Protocol):
    """What another way gives."""

    @property
    def connection(self) -> Connection: ...


Other = TypeVar("Other", bound=Opened)


class SimultaneousOpens:
    """Both ends of one node's. `advance` makes the shell do what the core says."""

    def __init__(self, core: MeshCore, credentials: Credentials, advance: Callable[[], None]) -> None:
        self.experience = Experience()
        self.counters = dict.fromkeys(("tcp_tried", "tcp_opened", "tcp_answered"), 0)
        self._core = core
        self._credentials = credentials
        self._advance = advance
        self._random = Random(secrets.randbits(64))  # noqa: S311 - spreads repetitions, guards nothing
        self._meetings: dict[bytes, _Meeting] = {}

    # --- asking

    def may_try(self, peer: NodeId) -> bool:
        """Whether somebody is there to be asked, and it did not fail a moment ago between the same hosts."""
        able = self._over_v6(peer) or self._servers()
        return bool(able) and self.experience.may_try(peer, self._hosts(peer), trio.current_time())

    def worked(self, peer: NodeId) -> bool:
        """Whether the last one with the peer did, between the same hosts."""
        return self.experience.worked(peer, self._hosts(peer))

    async def open_or(
        self, peer: NodeId, name: str, argument: bytes, otherwise: Callable[[], Awaitable[Other]]
    ) -> Connection | Other:
        """A connection to a linked member's service, or what `otherwise` gives, and raises.

        That is asked when this failed, and beside this when it takes long.
        """
        won: list[Connection] = []
        other: list[Other] = []
        errors: list[MeshError] = []
        ended = trio.Event()

        async def first(scope: trio.CancelScope) -> None:
            with suppress(Unavailable):
                won.append(await self.open(peer, name, argument))
                scope.cancel()
            ended.set()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first, nursery.cancel_scope)
                with trio.move_on_after(KNOWN_WAIT_S if self.worked(peer) else WAIT_S):
                    await ended.wait()
                try:
                    other.append(await otherwise())
                except MeshError as error:
                    errors.append(error)
                else:
                    self.experience.note(peer, self._hosts(peer), False, trio.current_time())
                    nursery.cancel_scope.cancel()
        except BaseException:
            _close([*won, *(opened.connection for opened in other)])
            raise
        if other:
            _close(won)
            return other[0]
        if not won:
            raise errors[0]
        return won[0]

    async def open(self, peer: NodeId, name: str, argument: bytes) -> SecureConnection:
        """A connection to a linked member's service. Raises Unavailable; the outcome is remembered."""
        hosts = self._hosts(peer)
        opened: SecureConnection | None = None
        self.counters["tcp_tried"] += 1
        meeting = self._begin(peer, secrets.token_bytes(TOKEN_BYTES), v6=self._over_v6(peer), initiator=True)
        try:
            self._tell(peer, OpenTcp(meeting.ticket, meeting.v6))

            async def use(found: "trio.MemoryReceiveChannel[socket.socket]") -> None:
                nonlocal opened
                async for sock in found:
                    opened = await self._dial(sock, meeting, name, argument)
                    if opened is not None:
                        return

            with trio.move_on_after(MEETING_S):
                await self._meet(meeting, use)
        finally:
            del self._meetings[meeting.ticket]
        self.experience.note(peer, hosts, opened is not None, trio.current_time())
        if opened is None:
            raise Unavailable(f"no TCP through both routers: {meeting.trouble}", RETRY_S)
        self.counters["tcp_opened"] += 1
        return opened

    async def _dial(
        self, sock: socket.socket, meeting: _Meeting, name: str, argument: bytes
    ) -> SecureConnection | None:
        try:
            with trio.fail_after(SECURE_S):
                return await secure(
                    sock,
                    self._credentials,
                    dialler=True,
                    expect=meeting.peer,
                    purpose=name,
                    argument=argument,
                )
        except trio.TooSlowError:
            meeting.trouble = "the handshake took too long"
        except (MeshError, OSError) as error:
            meeting.trouble = str(error)
        return None

    # --- answering

    def told(self, heard: Heard) -> None:
        """A peer's side came."""
        assert isinstance(heard.message, TcpSide)
        meeting = self._meetings.get(heard.message.ticket)
        if meeting is None or meeting.peer != heard.peer or meeting.told.is_set():
            return
        own = self._core.presence.hosts
        meeting.candidates = tuple(
            targets(heard.message.candidates, seen_hosts(self._core.connector, heard.peer), own)
        )
        meeting.told_at = trio.current_time()
        meeting.told.set()

    def asked(self, heard: Heard) -> bool:
        """A peer wants a connection: whether to `answer`. Its side may come before that has begun."""
        message = heard.message
        assert isinstance(message, OpenTcp)
        if message.ticket in self._meetings:
            return False
        if len(self._meetings) >= MEETINGS_MAX:
            self._tell(heard.peer, TcpSide(message.ticket, []))
            return False
        self._begin(heard.peer, message.ticket, v6=message.v6, initiator=False)
        return True

    async def answer(self, heard: Heard) -> SecureConnection | None:
        """What came about of what was `asked`, for a stream of the peer's, or None."""
        assert isinstance(heard.message, OpenTcp)
        meeting = self._meetings[heard.message.ticket]
        came: list[SecureConnection] = []

        async def use(found: "trio.MemoryReceiveChannel[socket.socket]") -> None:
            async with trio.open_nursery() as nursery:
                async for sock in found:
                    nursery.start_soon(self._take, sock, meeting.peer, came, nursery.cancel_scope)

        try:
            with trio.move_on_after(MEETING_S):
                await self._meet(meeting, use)
        except BaseException:
            _close(came)
            raise
        finally:
            del self._meetings[meeting.ticket]
        self.counters["tcp_answered"] += bool(came)
        _close(came[1:])
        return came[0] if came else None

    async def _take(
        self, sock: socket.socket, peer: NodeId, came: list[SecureConnection], scope: trio.CancelScope
    ) -> None:
        """Whoever is at the other end of one of the connections: only the peer, and for a stream."""
        try:
            with trio.fail_after(SECURE_S):
                connection = await secure(sock, self._credentials, dialler=False)
        except (MeshError, OSError, trio.TooSlowError):
            return
        if connection.peer.node_id != peer or connection.purpose == CONTROL:
            connection.close()
            return
        came.append(connection)
        scope.cancel()

    # --- both

    def _begin(self, peer: NodeId, ticket: bytes, *, v6: bool, initiator: bool) -> _Meeting:
        if len(self._meetings) >= MEETINGS_MAX:
            raise Unavailable(f"{MEETINGS_MAX} connections are being opened already", RETRY_S)
        meeting = self._meetings[ticket] = _Meeting(peer, ticket, v6, initiator)
        return meeting

    async def _meet(self, meeting: _Meeting, use: Use) -> None:
        """Give `use` the connections that come about; it ends with it. What it did not take is closed."""
        send, receive = trio.open_memory_channel[socket.socket](SOCKETS_MAX)
        try:
            with FreshPort(v6=meeting.v6) as port:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._find, meeting, port, send)
                    await use(receive)
                    nursery.cancel_scope.cancel()
        except OSError as error:
            meeting.trouble = str(error)
        finally:
            _drain(receive)

    async def _find(
        self, meeting: _Meeting, port: FreshPort, send: "trio.MemorySendChannel[socket.socket]"
    ) -> None:
        held: list[socket.socket] = []
        try:
            with send:
                own = await self._own_side(meeting, port, held)
                self._tell(meeting.peer, TcpSide(meeting.ticket, own))
                said_at = trio.current_time()
                if not own:
                    return
                with trio.move_on_after(SIDE_S):
                    await meeting.told.wait()
                if not meeting.candidates:
                    meeting.trouble = "the other node has no address for it"
                    return
                puncher = TcpPuncher(
                    self._half_trip_s(meeting.peer), self._random, initiator=meeting.initiator
                )
                puncher.said(said_at)
                puncher.told(meeting.candidates, meeting.told_at)
                hosts = frozenset(host_of(address) for address in meeting.candidates)
                await _Punching(puncher, port, hosts, send).run()
        finally:
            for sock in held:
                sock.close()

    async def _own_side(self, meeting: _Meeting, port: FreshPort, held: list[socket.socket]) -> list[str]:
        """Where the port is seen; the connections on which that was asked are added to `held`."""
        own = [host for host in self._core.presence.hosts if (":" in host) == port.v6]
        own = [_join(host, port.near if is_near(_join(host, 1)) else port.number) for host in own]
        if port.v6:
            return own[: OWN_MAX + 1]  # nothing translates: the routers only have to expect the other
        mapped: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + ASK_S
            for server in self._servers():
                nursery.start_soon(_outside, port, server, held, mapped, nursery.cancel_scope)
        outside = agreed(mapped)
        if not outside:
            meeting.trouble = (
                "this node's router gives each connection another port"
                if mapped
                else "no member that answers strangers could be asked for this node's outside address"
            )
            return []
        return [outside, *own[:OWN_MAX]]

    def _servers(self) -> list[str]:
        """Members to be asked for this node's outside address."""
        known = (address for address, _ in stun_servers(self._core))
        return [address for address in known if _is_v4(address)][:SERVERS_MAX]

    def _half_trip_s(self, peer: NodeId) -> float:
        link = self._core.connector.links.get(peer)
        return (link.pulse.rtt_s or 0.0) / 2 if link is not None else 0.0

    def _hosts(self, peer: NodeId) -> tuple[str, ...]:
        """Between which hosts it would be: the peer's, then this node's."""
        return (*seen_hosts(self._core.connector, peer), "", *self._core.presence.hosts)

    def _over_v6(self, peer: NodeId) -> bool:
        seen = seen_hosts(self._core.connector, peer)
        return bool(seen) and all(":" in host for host in seen)

    def _tell(self, peer: NodeId, message: OpenTcp | TcpSide) -> None:
        self._core.tell(peer, message, trio.current_time())
        self._advance()


class _Punching:
    """A `TcpPuncher` at work on sockets."""

    def __init__(
        self,
        puncher: TcpPuncher,
        port: FreshPort,
        hosts: frozenset[str],
        send: "trio.MemorySendChannel[socket.socket]",
    ) -> None:
        self._puncher = puncher
        self._port = port
        self._hosts = hosts
        self._send = send
        self._running: dict[int, trio.CancelScope] = {}
        self._wake = trio.Event()

    async def run(self) -> None:
        """Until the puncher says that it is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept)
            while not self._puncher.over:
                self._puncher.on_deadline(trio.current_time())
                for step in self._puncher.outputs():
                    if isinstance(step, Abandon):
                        self._running[step.number].cancel()
                    else:
                        self._running[step.number] = trio.CancelScope()
                        nursery.start_soon(self._connect, step)
                self._wake = trio.Event()
                with trio.move_on_at(self._puncher.deadline()):
                    await self._wake.wait()
            nursery.cancel_scope.cancel()

    async def _connect(self, step: Connect) -> None:
        try:
            with self._running[step.number]:
                sock = await self._port.connect(step.address, step.ttl, near=is_near(step.address))
                self._puncher.connected(step.number)
                self._give(sock)
        except Unavailable:
            self._puncher.ended(step.number, trio.current_time())
        finally:
            del self._running[step.number]
            self._wake.set()

    async def _accept(self) -> None:
        while True:
            self._give(await self._port.accept(self._hosts))

    def _give(self, sock: socket.socket) -> None:
        try:
            self._send.send_nowait(sock)
        except (trio.WouldBlock, trio.BrokenResourceError):
            sock.close()


async def _outside(
    port: FreshPort, server: str, held: list[socket.socket], mapped: list[str], scope: trio.CancelScope
) -> None:
    with suppress(Unavailable):
        sock = await port.connect(server)
        held.append(sock)
        mapped.append(await ask(sock))
        scope.deadline = min(scope.deadline, trio.current_time() + SECOND_S)


def _drain(receive: "trio.MemoryReceiveChannel[socket.socket]") -> None:
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            receive.receive_nowait().close()


def _close(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.close()


def _is_v4(address: str) -> bool:
    return bool(numeric := numeric_address(address)) and not numeric.startswith("[")


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
