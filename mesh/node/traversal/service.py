"""The mesh's UDP port at work: answers STUN, learns what the routers do, finds paths, carries QUIC links."""

import importlib
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from mesh.address import host_of
from mesh.errors import MeshError
from mesh.link.connection.service import Credentials, LinkRefused
from mesh.link.control import Knock, Punch, PunchMore, Traversal
from mesh.link.live import RELAYED
from mesh.link.refusals import Refusals
from mesh.link.steps import Heard
from mesh.model import NodeId
from mesh.nat import asking
from mesh.nat.answerer import StunAnswerer
from mesh.nat.asking import MESH_SOCKET, SOFTWARE, AskProbe
from mesh.nat.facts import NatKind
from mesh.nat.ping import PROBE_BYTE, probe_tag_untrusted, session_tag
from mesh.nat.punch import Puncher
from mesh.nat.punch_steps import CloseSockets, GaveUp, OpenSockets, Punched, SendProbe, Side, TellOther
from mesh.nat.stun import (
    TRANSACTION_BYTES,
    Kind,
    encode_binding_indication,
    encode_binding_request,
    mapped_address,
    parse_stun_untrusted,
)
from mesh.nat.survey import FactsChanged, NatSurvey
from mesh.nat.udp.service import UdpPort
from mesh.node.core import MeshCore
from mesh.node.servers import stun_servers

if TYPE_CHECKING:
    from mesh.link.quic.service import QuicEndpoint
    from mesh.link.quic.stream.service import QuicStream

SESSIONS_MAX = 32  # looked for at a time; each may open some hundred sockets for some seconds
SESSION_S = 20.0  # from the first word: a search takes 5 s, and the other end may never answer
FACTS_S = 1.5  # to wait for what the routers do, when a peer is to be told: two round trips and a retry
FACTS_POLL_S = 0.1  # records of whom to ask may arrive meanwhile
SERVERS_S = 5.0  # between looks who can be asked
STUN_MAX = 3  # first byte of STUN (RFC 9443 2); QUIC has 64 and above
QUIC_MIN = 64
ASKS_S = (0.15, 0.3, 0.6)  # for a fresh socket's outside address
FRESH_S = 2.0  # a port that knocked once
REASONS_MAX = 256  # peers of which it is remembered why there is no path; links are far fewer
PATH_S = 15.0  # for the peer to come over the path that was found
QUIC_MODULE = "mesh.link.quic.service"

OnConnection: TypeAlias = Callable[["QuicStream"], Awaitable[None]]
OnNote: TypeAlias = Callable[[str, dict[str, str]], None]


@dataclass(slots=True)
class _Session:
    """The search for a path to one peer."""

    peer: NodeId
    secret: bytes
    initiator: bool
    until: float
    own: Side
    puncher: Puncher | None = None
    sockets: set[int] = field(default_factory=set)
    over: bool = False


class TraversalShell:
    """What a node does over UDP. `on_connection` gets each stream of a QUIC link."""

    def __init__(
        self,
        core: MeshCore,
        credentials: Credentials,
        refusals: Refusals,
        sockets: Sequence[socket.socket],
        on_connection: OnConnection,
        advance: Callable[[], None],
        note: OnNote,
        on_fault: Callable[[Exception], None],
    ) -> None:
        """`sockets` are bound UDP sockets of the mesh port, which are taken."""
        now = trio.current_time()
        self.survey = NatSurvey(Random(secrets.randbits(64)), secrets.token_bytes, now)  # noqa: S311 - spreads load
        self.answerer = StunAnswerer(now)
        self.port = UdpPort(sockets)
        self.quic: QuicEndpoint | None = None
        self.counters = dict.fromkeys(("punches", "punched", "gave_up", "knocks"), 0)
        self.reasons: dict[NodeId, str] = {}
        self._core = core
        self._credentials = credentials
        self._refusals = refusals
        self._on_connection = on_connection
        self._advance = advance
        self._note = note
        self._on_fault = on_fault
        self._sessions: dict[bytes, _Session] = {}  # by secret
        self._by_tag: dict[bytes, _Session] = {}
        self._asked: dict[bytes, tuple[_Session, int]] = {}  # transaction -> whose socket
        self._paths: dict[int, float] = {}  # fresh socket that carries a link, or soon -> until when
        self._wake = trio.Event()
        self._known = trio.Event()
        self._nursery: trio.Nursery

    # --- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the port until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.port.run, self._on_datagram, self._on_turn)
            nursery.start_soon(self._turn)
            nursery.start_soon(self._keep_mapping)
            task_status.started()

    async def _turn(self) -> None:
        servers_at = -inf
        while True:
            now = trio.current_time()
            if now >= servers_at:
                servers_at = now + SERVERS_S
                self.look_for_servers()
            self.survey.on_deadline(now)
            self._do_survey()
            due = min(servers_at, self.survey.deadline() or inf)
            for session in list(self._sessions.values()):
                due = min(due, self._drive(session, now))
            for number in [number for number, until in self._paths.items() if until <= now]:
                self._drop_path(number)
            self._wake = trio.Event()
            with trio.move_on_after(max(0.0, due - trio.current_time())):
                await self._wake.wait()

    def _drive(self, session: _Session, now: float) -> float:
        """Do what is due in a session; when it wants to be called again."""
        puncher = session.puncher
        if now >= session.until:
            link = self._core.connector.links.get(session.peer)
            if puncher is None and session.initiator and link is not None and link.via is not None:
                self._give_up(session.peer, "the other node did not answer when asked to look for one")
            self._end(session)
            return inf
        if puncher is None:
            return session.until
        puncher.on_deadline(now)
        self._do(session)
        due = puncher.deadline()
        return min(session.until, inf if due is None else due)

    # --- datagrams

    def _on_datagram(self, number: int, data: bytes, source: str) -> None:
        if not data:
            return
        try:
            self._take(number, data, source)
        except Exception as error:  # a fault of ours that one packet found must not end the node
            self._on_fault(error)

    def _take(self, number: int, data: bytes, source: str) -> None:
        first, now = data[0], trio.current_time()
        if first >= QUIC_MIN:
            if self.quic is not None:
                self.quic.receive(number, data, source)
        elif first == PROBE_BYTE:
            tag = probe_tag_untrusted(data)
            session = self._by_tag.get(tag) if tag is not None else None
            if session is not None and session.puncher is not None:
                session.puncher.receive(number, data, source, now)
                self._do(session)
                self._wake.set()
        elif first <= STUN_MAX:
            self._on_stun(number, data, source, now)

    def _on_stun(self, number: int, data: bytes, source: str, now: float) -> None:
        if self.survey.receive(number, data, source, now):
            self._do_survey()
            self._wake.set()
        elif number != MESH_SOCKET:
            self._on_mapped(number, data)
        elif (answer := self.answerer.answer(data, source, now)) is not None:
            self.port.send(number, source, [answer])

    def _on_turn(self) -> None:
        if self.quic is not None:
            self.quic.flush()

    # --- what the routers do

    def look_for_servers(self) -> None:
        """Links or records changed: others may be asked."""
        now = trio.current_time()
        self.survey.set_hosts(self._core.presence.hosts, now)
        self.survey.set_servers(stun_servers(self._core), now)

    def interface_changed(self) -> None:
        """Measure everything again."""
        self.survey.set_hosts(self._core.presence.hosts, trio.current_time())
        self._wake.set()

    def set_portmap(self, protocol: str) -> None:
        """The router opened the mesh port by this protocol, or "" no longer."""
        self.survey.set_portmap(protocol)
        self._do_survey()

    def counts(self) -> dict[str, int]:
        """Every count since the start, by name; of QUIC only after a path through NAT was looked for."""
        parts: dict[str, Any] = {
            "stun": self.answerer.counters,
            "survey": self.survey.counters,
            "udp": self.port.counters,
        }
        if self.quic is not None:
            parts["quic"] = self.quic.counters
        found = {f"nat_{name}": count for name, count in self.counters.items()}
        for part, counters in parts.items():
            found |= {f"{part}_{name}": getattr(counters, name) for name in counters.__slots__}
        return found | {"survey_spoofed": self.survey.spoofed}

    def _do_survey(self) -> None:
        for output in self.survey.outputs():
            match output:
                case asking.Send():
                    self.port.send(output.socket, output.address, [output.data])
                case asking.OpenSockets():
                    family = socket.AF_INET if output.family == 4 else socket.AF_INET6
                    self.survey.opened(
                        output.ticket, self.port.fresh(output.count, family), trio.current_time()
                    )
                    self._wake.set()
                case asking.CloseSockets():
                    self.port.close(output.sockets)
                case AskProbe():
                    message = Knock(output.transaction, output.address, output.fresh)
                    self._tell(output.peer, message)
                case FactsChanged():
                    self._on_facts(output)

    def _on_facts(self, output: FactsChanged) -> None:
        before, facts = self._core.presence.udp, output.facts
        self._core.set_udp(facts, trio.current_time())
        if facts.kind is not before.kind and facts.kind is not NatKind.UNKNOWN:
            self._note("router", {"kind": facts.kind.value, "seen at": ", ".join(facts.mapped)})
        if facts.mapped or facts.kind is NatKind.BLOCKED:
            known, self._known = self._known, trio.Event()
            known.set()
        if facts.mapped != before.mapped:
            for peer, link in self._core.connector.links.items():
                if link.rank == RELAYED:
                    self.seek(peer)
        self._advance()

    async def _keep_mapping(self) -> None:
        """Have the router remember the mesh port as long as it is told to others."""
        while True:
            facts = self._core.presence.udp
            await trio.sleep(facts.keepalive_s)
            servers = stun_servers(self._core)
            if facts.mapped and servers and facts.kind is not NatKind.OPEN:
                request = encode_binding_indication(secrets.token_bytes(TRANSACTION_BYTES))
                self.port.send(MESH_SOCKET, servers[0][0], [request])

    def _knock(self, peer: NodeId, message: Knock) -> None:
        """A peer wants to see whether a stranger's packet gets in."""
        self.counters["knocks"] += 1
        data = encode_binding_indication(message.transaction)
        if not message.fresh:
            self.port.send(MESH_SOCKET, message.address, [data])
            return
        family = socket.AF_INET6 if ":" in host_of(message.address) else socket.AF_INET
        for number in self.port.fresh(1, family):
            self._paths[number] = trio.current_time() + FRESH_S
            self.port.send(number, message.address, [data])

    # --- sessions

    def seek(self, peer: NodeId) -> None:
        """Look for a path to a linked peer that is reached over a relay."""
        busy = any(session.peer == peer and not session.over for session in self._sessions.values())
        if not busy and len(self._sessions) < SESSIONS_MAX:
            session = self._begin(peer, secrets.token_bytes(16), initiator=True)
            self._nursery.start_soon(self._call, session)

    def _begin(self, peer: NodeId, secret: bytes, *, initiator: bool) -> _Session:
        until = trio.current_time() + SESSION_S
        session = _Session(peer, secret, initiator, until, self._core.presence.side())
        self._sessions[secret] = session
        self._by_tag[session_tag(secret)] = session
        self.counters["punches"] += 1
        return session

    def _end(self, session: _Session) -> None:
        session.over = True
        self._sessions.pop(session.secret, None)
        self._by_tag.pop(session_tag(session.secret), None)
        self.port.close([number for number in session.sockets if number not in self._paths])
        session.sockets.clear()

    async def _call(self, session: _Session) -> None:
        await self._prepare()
        if session.over:
            return  # the peer's own call came first: a word of this one would end what they agreed on
        session.own = self._core.presence.side()
        self._say_side(session, answer=False)

    async def _prepare(self) -> None:
        """Before a peer is told: what its packets will meet."""
        with trio.move_on_after(FACTS_S):
            while not self.survey.facts.mapped and self.survey.facts.kind is not NatKind.BLOCKED:
                self.look_for_servers()
                self._wake.set()
                with trio.move_on_after(FACTS_POLL_S):
                    await self._known.wait()

    async def _load_quic(self) -> "QuicEndpoint":
        """Its import takes 0.15 s and 10 MB, which a node that others can dial never needs."""
        module = await trio.to_thread.run_sync(importlib.import_module, QUIC_MODULE)
        if self.quic is None:
            endpoint: QuicEndpoint = module.QuicEndpoint(
                self._credentials, self.port, self._serve, self._refusals, on_fault=self._on_fault
            )
            self.quic = endpoint
            await self._nursery.start(endpoint.run)
        return self.quic

    def heard(self, output: Heard) -> None:
        """A linked peer said something about UDP paths."""
        message = output.message
        match message:
            case Knock():
                self._knock(output.peer, message)
            case Punch():
                self._on_punch(output.peer, message)
            case PunchMore():
                session = self._sessions.get(message.secret)
                if session is not None and session.peer == output.peer and session.puncher is not None:
                    session.puncher.told(message.candidates, trio.current_time())
                    self._do(session)
                    self._wake.set()

    def _on_punch(self, peer: NodeId, message: Punch) -> None:
        if message.answer:
            session = self._sessions.get(message.secret)
            if session is not None and session.peer == peer and session.initiator and session.puncher is None:
                self._start(session, message)
            return
        for session in [session for session in self._sessions.values() if session.peer == peer]:
            if session.initiator and session.puncher is None and self._core.node < peer:
                return  # both began: the one of the smaller key goes on
            self._end(session)
        if len(self._sessions) < SESSIONS_MAX and message.secret not in self._sessions:
            session = self._begin(peer, message.secret, initiator=False)
            self._nursery.start_soon(self._answer, session, message)

    async def _answer(self, session: _Session, message: Punch) -> None:
        await self._prepare()
        if session.over:
            return
        session.own = self._core.presence.side()
        self._say_side(session, answer=True)
        self._start(session, message)

    def _say_side(self, session: _Session, *, answer: bool) -> None:
        own = session.own
        self._tell(
            session.peer,
            Punch(session.secret, list(own.candidates), own.kind.value, own.port_delta, answer),
        )

    def _start(self, session: _Session, message: Punch) -> None:
        link = self._core.connector.links.get(session.peer)
        if link is None:
            self._end(session)
            return
        try:
            kind = NatKind(message.kind)
        except ValueError:
            kind = NatKind.UNKNOWN  # a newer version's word
        session.puncher = Puncher(
            session.secret,
            initiator=session.initiator,
            own=session.own,
            other=Side(tuple(message.candidates), kind, message.port_delta),
            round_trip_s=link.pulse.rtt_s or 0.2,
            eager=True,
            random=Random(secrets.randbits(64)),  # noqa: S311 - spreads ports; its nonces are keyed
            now=trio.current_time(),
            vouched=[host for host in (self._core.connector.seen_at(session.peer),) if host],
        )
        self._do(session)
        self._wake.set()

    def _do(self, session: _Session) -> None:
        puncher = session.puncher
        if puncher is None:
            return
        for output in puncher.outputs():
            match output:
                case SendProbe():
                    self.port.send(output.socket, output.address, [output.data], output.ttl)
                case OpenSockets():
                    self._open(session, puncher, output)
                case CloseSockets():
                    session.sockets.difference_update(output.ids)
                    self.port.close(output.ids)
                case TellOther():
                    self._tell(session.peer, PunchMore(session.secret, list(output.candidates)))
                case Punched():
                    self._on_path(session, output)
                case GaveUp():
                    self._give_up(session.peer, output.reason)
                    self._end(session)

    def _give_up(self, peer: NodeId, reason: str) -> None:
        self.counters["gave_up"] += 1
        self.reasons.pop(peer, None)
        self.reasons[peer] = reason
        while len(self.reasons) > REASONS_MAX:
            del self.reasons[next(iter(self.reasons))]
        self._note("no direct path", {"node": self._core.name_of(peer), "reason": reason})

    def _open(self, session: _Session, puncher: Puncher, wanted: OpenSockets) -> None:
        numbers = self.port.fresh(wanted.count)
        session.sockets.update(numbers)
        puncher.opened(numbers, trio.current_time())
        if wanted.stun and numbers:
            self._nursery.start_soon(self._map, session, numbers[0])
        self._wake.set()

    async def _map(self, session: _Session, number: int) -> None:
        """Ask for the outside address of a fresh socket."""
        transaction = secrets.token_bytes(TRANSACTION_BYTES)
        self._asked[transaction] = (session, number)
        try:
            servers = [address for address, _ in stun_servers(self._core) if ":" not in host_of(address)]
            for wait_s in ASKS_S:
                for address in servers[:2]:
                    request = encode_binding_request(transaction, software=SOFTWARE)
                    self.port.send(number, address, [request])
                await trio.sleep(wait_s)
                if transaction not in self._asked:
                    return
            self._mapped(session, number, None)
        finally:
            self._asked.pop(transaction, None)

    def _on_mapped(self, number: int, data: bytes) -> None:
        try:
            message = parse_stun_untrusted(data)
        except MeshError:
            return
        session, asked = self._asked.get(message.transaction, (None, -1))
        if session is None or asked != number or message.kind is not Kind.SUCCESS:
            return
        del self._asked[message.transaction]
        self._mapped(session, number, mapped_address(message))

    def _mapped(self, session: _Session, number: int, address: str | None) -> None:
        if session.puncher is not None and not session.over:
            session.puncher.mapped(number, address, trio.current_time())
            self._do(session)
            self._wake.set()

    # --- paths

    def _on_path(self, session: _Session, found: Punched) -> None:
        """Both ends know the path now; the initiator takes it."""
        self.counters["punched"] += 1
        self.reasons.pop(session.peer, None)
        if found.socket != MESH_SOCKET:
            session.sockets.discard(found.socket)
            self._paths[found.socket] = trio.current_time() + PATH_S
        if self._is_relayed(session.peer):
            self._nursery.start_soon(self._take_path, session, found)

    def _is_relayed(self, peer: NodeId) -> bool:
        link = self._core.connector.links.get(peer)
        return link is None or link.rank == RELAYED

    async def _take_path(self, session: _Session, found: Punched) -> None:
        endpoint = await self._load_quic()
        if not session.initiator:
            return  # the other end dials
        try:
            stream = await endpoint.dial(found.socket, found.address, session.peer)
        except (MeshError, LinkRefused) as error:
            self._give_up(session.peer, f"a path was found, and no link came up on it: {error}")
            self._drop_path(found.socket)
            return
        try:
            await self._serve(stream)
        finally:
            stream.close()

    async def _serve(self, stream: "QuicStream") -> None:
        """A stream of a QUIC link; its socket is kept as long as it."""
        number = stream.carrier.machine.path[1]
        if number != MESH_SOCKET:
            self._paths[number] = inf
        try:
            await self._on_connection(stream)
        finally:
            if self._paths.get(number) == inf:
                self._paths[number] = trio.current_time() + PATH_S

    def _drop_path(self, number: int) -> None:
        if self._paths.pop(number, None) is not None:
            self.port.close([number])

    def _tell(self, peer: NodeId, message: Traversal) -> None:
        self._core.tell(peer, message, trio.current_time())
        self._advance()
