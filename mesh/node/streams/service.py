"""Opens bulk streams to members whatever lies between, and answers those that members open."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeAlias

import trio

from mesh.errors import MeshError, Refused, Unavailable
from mesh.link.client import dial
from mesh.link.connection.service import Credentials, secure
from mesh.link.hello import ARGUMENT_BYTES_MAX, TEXT_LENGTH_MAX
from mesh.link.model import CONTROL, TOKEN_BYTES, Connection
from mesh.link.relay.client import dial_relay
from mesh.link.steps import Called, Heard, NotOpened, Spliced
from mesh.model import NodeId
from mesh.node.core import RETRY_S, MeshCore
from mesh.node.simultaneous.service import SimultaneousOpens
from mesh.node.ways import CallBack, Inside, Over, Simultaneous, Straight, Way

PROBE = "probe"  # purpose of a connection that only shows that it can be made
CALLED = "called"  # purpose of a connection that was asked for over the link; its argument is the ticket
LINK_S = 6.0  # to get a link to a member that is none's neighbour here: dialling, then a relay
WAY_S = 4.0  # for one way to a stream: the request, a dial and a handshake across the world take below 2 s
OPENINGS_MAX = 256  # streams that wait for their connection at a time

Service: TypeAlias = Callable[[Connection], Awaitable[None]]
_OneSided: TypeAlias = Straight | CallBack | Inside | Over


class Multiplexed(Protocol):
    """A link that carries streams beside its frames."""

    async def open_stream(self, purpose: str, argument: bytes = b"") -> Connection:
        """One more. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream, how it was opened, and whether that was the first way tried."""

    connection: Connection
    way: Way
    best: bool


@dataclass(slots=True)
class _Opening:
    """A stream that was asked for."""

    peer: NodeId
    answered: trio.Event = field(default_factory=trio.Event)
    answer: Connection | Spliced | NotOpened | None = None

    def give(self, answer: Connection | Spliced | NotOpened) -> bool:
        """False when it has an answer already."""
        if self.answer is not None:
            return False
        self.answer = answer
        self.answered.set()
        return True


class BulkStreams:
    """Streams of one node. `advance` makes the shell do what the core says."""

    def __init__(
        self,
        core: MeshCore,
        credentials: Credentials,
        advance: Callable[[], None],
        inside: Callable[[NodeId], Multiplexed | None],
    ) -> None:
        """`inside` gives a peer's link when that carries streams itself."""
        self._inside = inside
        self._core = core
        self._credentials = credentials
        self._advance = advance
        self.simultaneous = SimultaneousOpens(core, credentials, advance)
        self._services: dict[str, Service] = {}
        self._openings: dict[bytes, _Opening] = {}
        self._linked = trio.Event()
        self._listeners: dict[NodeId, list[Callable[[], None]]] = {}

    def serve(self, name: str, service: Service) -> None:
        """Answer streams of this name; the connection is closed when `service` returns."""
        assert 0 < len(name) <= TEXT_LENGTH_MAX
        assert name not in (CONTROL, PROBE, CALLED)
        self._services[name] = service

    def link_made(self, peer: NodeId) -> None:
        """A peer has a link, or its link another connection."""
        self._linked.set()
        self._linked = trio.Event()
        for listener in list(self._listeners.get(peer, ())):
            listener()

    def listen(self, peer: NodeId, listener: Callable[[], None]) -> None:
        """Be told whenever the link to a peer has another connection, until `ignore`."""
        self._listeners.setdefault(peer, []).append(listener)

    def ignore(self, peer: NodeId, listener: Callable[[], None]) -> None:
        """Undo `listen`."""
        self._listeners[peer].remove(listener)
        if not self._listeners[peer]:
            del self._listeners[peer]

    def suspect(self, peer: NodeId) -> None:
        """A stream to a peer is silent that should not be: its link has to show that the path lives."""
        self._core.suspect(peer, trio.current_time())
        self._advance()

    # --- opening

    async def open(self, peer: NodeId, name: str, argument: bytes = b"") -> Connection:
        """A connection to a member's service, by the first way that works.

        Ways: dialling where the link leads, having the peer dial back, TCP opened from both ends, the link
        itself, a relay. Raises Unavailable when none works, LinkRefused when the peer does not want it.
        """
        return (await self.open_way(peer, name, argument)).connection

    async def open_way(
        self,
        peer: NodeId,
        name: str,
        argument: bytes = b"",
        *,
        avoid: Opened | None = None,
        best_only: bool = False,
    ) -> Opened:
        """As `open`. The way of `avoid`, a stream to that peer that seems dead, is tried last.

        `best_only`: no other way than the first is tried.
        """
        assert len(argument) <= ARGUMENT_BYTES_MAX
        await self._link(peer)
        ways = self._core.stream_ways(peer)
        if best_only:
            ways = ways[:1]
        best = ways[0] if ways else None
        if avoid is not None:
            ways.sort(key=lambda way: self._leads_as(way, peer, avoid))
        others: list[_OneSided] = [way for way in ways if not isinstance(way, Simultaneous)]
        rest = partial(self._open_in_turn, others, best, peer, name, argument)
        if ways[:1] != [Simultaneous()] or not self.simultaneous.may_try(peer):
            return await rest()
        found = await self.simultaneous.open_or(peer, name, argument, rest)
        return found if isinstance(found, Opened) else Opened(found, Simultaneous(), True)

    def _leads_as(self, way: Way, peer: NodeId, old: Opened) -> bool:
        """Whether a stream by this way would go where an old one goes."""
        if isinstance(way, Inside) and getattr(old.connection, "carrier", None) is not self._inside(peer):
            return False
        return way == old.way

    async def _open_in_turn(
        self, ways: Sequence[_OneSided], best: Way | None, peer: NodeId, name: str, argument: bytes
    ) -> Opened:
        trouble = "the link was lost"
        for way in ways:
            try:
                with trio.fail_after(WAY_S):
                    connection = await self._open_by(way, peer, name, argument)
                    return Opened(connection, way, way == best)
            except Unavailable as error:
                trouble = str(error)
            except trio.TooSlowError:
                trouble = "no answer in time"
        raise Unavailable(f"no stream to {self._core.name_of(peer)}: {trouble}", RETRY_S)

    async def _link(self, peer: NodeId) -> None:
        with trio.move_on_after(LINK_S):
            while not self._core.link_for_stream(peer, trio.current_time()):
                self._advance()
                await self._linked.wait()
            return
        raise Unavailable(f"no link to {self._core.name_of(peer)} could be made", RETRY_S)

    async def _open_by(self, way: _OneSided, peer: NodeId, name: str, argument: bytes) -> Connection:
        if isinstance(way, Straight):
            return await dial(way.address, self._credentials, expect=peer, purpose=name, argument=argument)
        if isinstance(way, Inside):
            link = self._inside(peer)
            if link is None:
                raise Unavailable("the link is another one now", RETRY_S)
            return await link.open_stream(name, argument)
        answer = await self._ask(way, peer, name, argument)
        if isinstance(answer, NotOpened):
            raise Unavailable(answer.reason, RETRY_S)
        if not isinstance(answer, Spliced):
            return answer
        sock = await dial_relay(answer.address, answer.token)
        return await secure(
            sock, self._credentials, dialler=True, expect=peer, purpose=name, argument=argument, relayed=True
        )

    async def _ask(
        self, way: CallBack | Over, peer: NodeId, name: str, argument: bytes
    ) -> Connection | Spliced | NotOpened:
        if len(self._openings) >= OPENINGS_MAX:
            raise Unavailable(f"{OPENINGS_MAX} streams are being opened already", RETRY_S)
        ticket = secrets.token_bytes(TOKEN_BYTES)
        opening = self._openings[ticket] = _Opening(peer)

        def ask() -> None:
            if opening.answer is None:
                self._core.ask_stream(peer, way, ticket, name, argument, trio.current_time())
                self._advance()

        asked = way.relay if isinstance(way, Over) else peer
        self.listen(asked, ask)  # what was said on a connection that another one replaced may be lost
        try:
            ask()
            await opening.answered.wait()
        except trio.Cancelled:
            if opening.answer is not None and not isinstance(opening.answer, Spliced | NotOpened):
                opening.answer.close()
            raise
        finally:
            self.ignore(asked, ask)
            del self._openings[ticket]
        assert opening.answer is not None
        return opening.answer

    def answered(self, answer: Spliced | NotOpened) -> None:
        """The core heard what became of a request."""
        opening = self._openings.get(answer.ticket)
        if opening is not None:
            opening.give(answer)

    # --- answering

    async def on_connection(self, connection: Connection) -> None:
        """A member's connection that is for a stream; it is closed, or has another owner, after this."""
        if connection.purpose == CALLED:
            self._on_called(connection)
        service = self._services.get(connection.purpose)
        await self._serve(connection, service or _no_service)

    async def _serve(self, connection: Connection, service: Service) -> None:
        try:
            await service(connection)
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    def _on_called(self, connection: Connection) -> None:
        opening = self._openings.get(connection.argument)
        if opening is None or opening.peer != connection.peer.node_id:
            return
        taken = connection.hand_over()
        if not opening.give(taken):
            taken.close()

    async def answer(self, asked: Heard) -> None:
        """A peer wants a TCP connection that both open, for a stream."""
        connection = await self.simultaneous.answer(asked)
        if connection is not None:
            await self.on_connection(connection)

    async def call(self, called: Called) -> None:
        """Dial a peer that cannot dial here, and answer the stream that it wants."""
        service = self._services.get(called.service)
        try:
            if service is None:
                raise Refused(f"this node has no service {called.service!a}")
            connection = await dial(
                called.address,
                self._credentials,
                expect=called.peer,
                purpose=CALLED,
                argument=called.ticket,
            )
        except (MeshError, OSError) as error:
            self._core.not_called(called, str(error), trio.current_time())
            self._advance()
            return
        await self._serve(connection.hand_over(called.service, called.argument), service)


async def _no_service(_connection: Connection) -> None:
    """What is not served ends at once."""
