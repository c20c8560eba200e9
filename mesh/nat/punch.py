"""Finds a UDP path between two nodes behind routers while they talk over a relay. Pure.

Both ends run a `Puncher` with the same secret: the initiator's begins when the responder's answer came over
the relay, the responder's when it sent that answer. What a router lets in is decided by what went out before,
so the order counts:

- Openers, packets whose TTL is too small to arrive, make an end's own router expect the other. A router that
  takes unsolicited packets for its own (plain Linux masquerade) would give the flow another outside port if
  the other's packet came first.
- Pings follow when the other's openers must have left. Whoever hears one answers with a pong and a ping of
  its own to where it came from. A pong proves a path: to the address that was pinged, from it, with a nonce
  that nobody else knows. The initiator takes the first and says so (CHOICE).
- A round that brings nothing is followed by one from a fresh local port, which no router has met.
- A router that counts its ports up is met at a port ahead, by several sockets in a row.
- Against one that draws a port for each destination: SEARCH_SOCKETS sockets there, and a search through the
  ports from the other end; one in 252 probes meets one.

Outputs are done by a shell, which tells how they went:

    SendProbe    -> nothing
    OpenSockets  -> opened, and mapped if STUN was asked for
    CloseSockets -> nothing
    TellOther    -> nothing; the other end's puncher is `told`, in order
    Punched, GaveUp: the end. `deadline()` is None when nothing is left to do.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b
from heapq import heappop, heappush
from math import inf
from random import Random

from mesh.address import PORT_MAX, host_of, numeric_address
from mesh.errors import WireError
from mesh.nat.facts import NatKind
from mesh.nat.ping import (
    NONCE_BYTES,
    ProbeKind,
    encode_probe,
    parse_probe_untrusted,
    sender_key,
    session_tag,
)
from mesh.nat.punch_steps import (
    CloseSockets,
    GaveUp,
    OpenSockets,
    Output,
    Punched,
    SendProbe,
    Side,
    TellOther,
)
from mesh.nat.targets import Budget, Reach, reach_of, usable_targets

MARGIN_S = 0.03  # for the way of a message through two programs, beyond half a round trip
SEND_GAP_S = 0.001  # between packets: the queues of small routers hold a few dozen
SEND_BURST = 8  # that may go at once
OPENER_REPEATS_S = (0.0, 0.01)  # one lost opener would cost a round
PINGS_S = (0.0, 0.1, 0.25, 0.55)  # a volley's repetitions
ECHO_PINGS_S = (0.1, 0.3)  # repetitions of a ping in answer to one
ECHO_GAP_S = 0.02  # between such answers to one address
CHOICES_S = (0.0, 0.1, 0.3, 0.7)
ROUNDS_MAX = 3  # the mesh port, then two fresh ones
ROUND_S = 0.4  # until the next round begins beside the last, at least; two round trips and
ROUND_EXTRA_S = 0.2
LAST_ROUNDS = 2.5  # times a round's time until the last one is given up
RESPONDER_EXTRA_S = 0.5  # the initiator's choice may come late
LAN_WAIT_S = 0.03  # for the LAN's answer, when the same outside address says that both may be in one
OPENER_TTL_MAX = 5  # few paths between two homes are shorter than six hops
PREDICTED_SOCKETS = 16
PREDICTED_AHEAD = (
    12  # ports ahead of the last one seen; others in the house may have taken that many less one
)
PREDICT_AFTER_S = 0.03  # the first volley's flows take ports, too
SEARCH_SOCKETS = 256  # more would need more file descriptors than a process has by default
SEARCH_PROBES_MAX = 2048  # 99.97 %; small routers keep a few thousand flows
SEARCH_PER_S = 400.0  # 99 % in 3 s, 200 kb/s; at 200/s 5 s would not do
SEARCH_AFTER_S = 0.15  # beyond a round trip: open routers need no search
SEARCH_OPENERS_S = (0.0, 1.0)
SEARCH_DEEP_S = 4.0  # then with OPENER_TTL_MAX: the router that draws ports may be the carrier's
SEARCH_LATE_S = 1.5
SEARCH_PORT_MIN = 1024
SEARCH_PORTS = PORT_MAX + 1 - SEARCH_PORT_MIN
PENDING_MAX = 3072  # pings whose pong may still come, a search's included; 200 bytes each
PINGS_ANSWERED_MAX = 1024  # of one session; replays are known by their nonce among so many
HEARD_MAX = 64  # paths on which a ping came

_PER_DESTINATION = (NatKind.PREDICTABLE, NatKind.IMPENETRABLE)


class _Role(Enum):
    """What this end does in a round."""

    PLAIN = auto()
    AHEAD = auto()  # several sockets in a row, one of which gets the port that was foretold
    MANY = auto()  # sockets to be found
    SEEK = auto()  # the search for them


@dataclass(slots=True)
class _Round:
    """A try from one local port, or many, to the addresses that the other end told for it."""

    role: _Role
    sockets: tuple[int, ...] = ()
    opened: bool = False
    ready_at: float = inf  # the other end was told of this one's sockets
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, order=True)
class _Shot:
    """A packet that is to be sent."""

    at: float
    order: int
    socket: int
    address: str
    ttl: int | None
    kind: ProbeKind


@dataclass(slots=True)
class _Search:
    """A walk through all ports of a host in an order of its own; the stride is odd, prime to 64512."""

    socket: int
    host: str
    port: int
    stride: int
    next_at: float
    left: int = SEARCH_PROBES_MAX


class Puncher:
    """One session with one peer.

    `random` must be seeded with entropy. `eager`: the link is wanted for long enough to search ports for;
    both ends must say the same. `vouched`: hosts at which somebody else than the peer saw the peer; only they
    are searched. `depth`: routers that translate between this node and the Internet, 2 behind a carrier's.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        initiator: bool,
        own: Side,
        other: Side,
        round_trip_s: float,
        eager: bool,
        random: Random,
        now: float,
        vouched: Collection[str] = (),
        depth: int = 1,
    ) -> None:
        self.dropped = 0  # packets that were not of this session, or came twice, or from elsewhere
        self.result: Punched | GaveUp | None = None
        self._initiator = initiator
        self._own, self._other = own, other
        self._round_trip_s = round_trip_s
        self._random = random
        self._depth = depth
        self._tag = session_tag(secret)
        self._key = sender_key(secret, initiator=initiator)
        self._their_key = sender_key(secret, initiator=not initiator)
        self._nonce_key = random.randbytes(32)  # nonces tell nothing of the generator's state
        self._nonces = 0
        self._budget = Budget(vouched)
        self._outputs: list[Output] = []
        self._rounds: list[_Round] = []
        self._fresh: list[int] = []
        self._told = 0
        self._plan: list[_Shot] = []
        self._order = 0
        self._free_at = -inf
        self._pending: dict[bytes, tuple[int, str, float, ProbeKind]] = {}
        self._seen: set[bytes] = set()
        self._heard: dict[tuple[int, str], float] = {}  # path on which a ping came -> when it was answered
        self._round_trips: dict[tuple[int, str], float] = {}
        self._search: _Search | None = None
        self._best: Punched | None = None  # waits for the LAN's answer until
        self._best_until = inf
        self._next_round_at = self._ends_at = inf
        self._last_round, self._search_round = self._rounds_wanted(eager)
        self._lan_hoped = False
        self._begin(now)

    # --- input

    def receive(self, socket: int, data: bytes | memoryview, source: str, now: float) -> None:
        """A datagram that came on a socket of this session; what is no probe of the other end is dropped."""
        try:
            probe = parse_probe_untrusted(data, self._their_key, self._tag)
        except WireError:
            self.dropped += 1
            return
        if isinstance(self.result, GaveUp):
            return
        if probe.kind is ProbeKind.PONG:
            self._on_pong(socket, source, probe.nonce, now)
        else:
            self._on_ping(socket, source, probe.kind, probe.nonce, now)

    def opened(self, ids: Sequence[int], now: float) -> None:
        """The sockets of the oldest `OpenSockets` not yet answered; fewer than asked for if need be."""
        if self.result is not None:
            if ids:
                self._outputs.append(CloseSockets(tuple(ids)))
            return
        for tried in self._rounds[1:]:
            if not tried.opened:
                tried.opened = True
                tried.sockets = tuple(ids) or (0,)
                self._fresh += ids
                if not ids or tried.role is _Role.MANY:
                    self._tell(tried, (), now)
                return

    def mapped(self, socket: int, address: str | None, now: float) -> None:
        """What STUN found of a fresh socket, None: nothing."""
        for tried in self._rounds:
            if socket in tried.sockets and tried.ready_at == inf and self.result is None:
                candidates = self._told_address(tried, address)
                if not candidates:
                    tried.sockets = (0,)  # whose address the other end knows
                self._tell(tried, candidates, now)

    def told(self, candidates: Iterable[str], now: float) -> None:
        """The other end's sockets for the next round, as its `TellOther` said."""
        number = self._told + 1
        if self.result is not None or number > self._last_round:
            return
        self._told = number
        while len(self._rounds) <= number:
            self._next_round(now)
        tried = self._rounds[number]
        targets = usable_targets(candidates, self._own.candidates) or self._rounds[0].targets or ()
        tried.targets = tuple(targets)
        self._aim(tried, now)

    # --- time

    def deadline(self) -> float | None:
        """When `on_deadline` is next due; None: never again."""
        due = max(self._plan[0].at, self._free_at) if self._plan else inf
        if self.result is None:
            due = min(due, self._next_round_at, self._ends_at, self._best_until)
            if self._search is not None:
                due = min(due, self._search.next_at)
        return None if due == inf else due

    def on_deadline(self, now: float) -> None:
        """Do what is due. Harmless when early."""
        if self.result is None:
            if self._best is not None and now >= self._best_until:
                self._choose(self._best, now)
            elif now >= self._ends_at:
                self._give_up(self._why_not())
            elif now >= self._next_round_at:
                self._next_round(now)
        while self._plan and self._plan[0].at <= now and self._free_at <= now:
            shot = heappop(self._plan)
            if self._shoot(shot, now):
                self._free_at = max(self._free_at, now - SEND_BURST * SEND_GAP_S) + SEND_GAP_S
        if self._search is not None and self.result is None:
            self._seek(self._search, now)

    def outputs(self) -> list[Output]:
        """What to do now, in order; empties the list."""
        outputs = self._outputs
        self._outputs = []
        return outputs

    # --- rounds

    def _rounds_wanted(self, eager: bool) -> tuple[int, int | None]:
        """The number of the last round, and of the one that is a search."""
        kinds = (self._own.kind, self._other.kind)
        hard = [kind for kind in kinds if kind in _PER_DESTINATION]
        if len(hard) == 2 and NatKind.IMPENETRABLE in hard:
            return 0, None  # one in 64512 packets would meet: only a LAN helps
        if len(hard) == 1 and eager:
            number = 1 if hard[0] is NatKind.IMPENETRABLE else ROUNDS_MAX
            return number, number
        return ROUNDS_MAX - 1, None

    def _begin(self, now: float) -> None:
        """The first round, from the mesh port; the other end knows of it since the session was agreed on."""
        if NatKind.BLOCKED in (self._own.kind, self._other.kind):
            self._give_up(self._why_not())
            return
        targets = usable_targets(self._other.candidates, self._own.candidates)
        own_hosts = {host_of(address) for address in map(numeric_address, self._own.candidates) if address}
        reaches = {reach_of(address) for address in targets}
        shared = any(host_of(address) in own_hosts for address in targets)
        self._lan_hoped = shared and Reach.LAN in reaches
        told_at = now - self._round_trip_s if self._initiator else now
        tried = _Round(_Role.PLAIN, (0,), True, told_at, tuple(targets))
        self._rounds.append(tried)
        self._set_timers(now)
        self._aim(tried, now)

    def _next_round(self, now: float) -> None:
        """Ask for what the next round needs; the last one's pings go on."""
        for before in self._rounds:
            if before.ready_at == inf:
                self._tell(before, (), now)  # each round is told of once: that is how they are counted
        number = len(self._rounds)
        role = self._role(number)
        self._rounds.append(_Round(role))
        count = {_Role.AHEAD: PREDICTED_SOCKETS, _Role.MANY: SEARCH_SOCKETS}.get(role, 1)
        self._outputs.append(OpenSockets(count, role is not _Role.MANY))
        self._set_timers(now)

    def _role(self, number: int) -> _Role:
        if number == self._search_round:
            return _Role.MANY if self._own.kind in _PER_DESTINATION else _Role.SEEK
        return _Role.AHEAD if self._own.kind is NatKind.PREDICTABLE else _Role.PLAIN

    def _set_timers(self, now: float) -> None:
        round_s = max(ROUND_S, 2 * self._round_trip_s + ROUND_EXTRA_S)
        number = len(self._rounds)
        if number > self._last_round:
            self._next_round_at = inf
            last_s = LAST_ROUNDS * round_s
            if self._search_round is not None:
                last_s = SEARCH_PROBES_MAX / SEARCH_PER_S + SEARCH_LATE_S + 2 * self._round_trip_s
            self._ends_at = now + last_s + (0 if self._initiator else RESPONDER_EXTRA_S)
        elif number == 1 and NatKind.PREDICTABLE in (self._own.kind, self._other.kind):
            self._next_round_at = now + PREDICT_AFTER_S
        elif number == self._search_round:
            self._next_round_at = now + self._round_trip_s + SEARCH_AFTER_S
        else:
            self._next_round_at = now + round_s

    def _tell(self, tried: _Round, candidates: tuple[str, ...], now: float) -> None:
        tried.ready_at = now
        self._outputs.append(TellOther(candidates))
        self._aim(tried, now)

    def _told_address(self, tried: _Round, address: str | None) -> tuple[str, ...]:
        """Where the other end will find a round's socket."""
        address = numeric_address(address or "")
        if not address:
            return ()
        if tried.role is _Role.AHEAD:
            port = int(address.rpartition(":")[2]) + PREDICTED_AHEAD * (self._own.port_delta or 1)
            if SEARCH_PORT_MIN <= port <= PORT_MAX:
                return (f"{address.rpartition(':')[0]}:{port}",)
        return (address,)

    # --- what to send when

    def _aim(self, tried: _Round, now: float) -> None:
        """Plan a round as soon as both ends know of each other's sockets."""
        if tried.ready_at == inf or tried.targets is None or not tried.opened:
            return
        pings_at = max(now, tried.ready_at + self._round_trip_s / 2 + MARGIN_S)
        match tried.role:
            case _Role.PLAIN:
                self._aim_plain(tried, pings_at, now)
            case _Role.AHEAD:
                self._aim_ahead(tried, pings_at, now)
            case _Role.MANY:
                self._aim_many(tried, now)
            case _Role.SEEK:
                self._aim_search(tried, pings_at)

    def _aim_plain(self, tried: _Round, pings_at: float, now: float) -> None:
        """Later rounds' addresses are what STUN saw: outside, even if private, as within a large company."""
        for address in tried.targets or ():
            socket = tried.sockets[0] if _is_v4(address) else 0
            if tried is self._rounds[0] and reach_of(address) is Reach.LAN:
                self._plan_shots(socket, address, now, PINGS_S)
                continue
            if pings_at > now:  # else pings are as good as openers
                self._plan_openers((socket,), address, now)
            self._plan_shots(socket, address, pings_at, PINGS_S)

    def _aim_ahead(self, tried: _Round, pings_at: float, now: float) -> None:
        """Openers take ports one after the other; pings first from the sockets that have the likeliest."""
        address = self._one_target(tried)
        if address is None:
            return
        for ttl in range(self._shortest, self._furthest + 1):
            self._plan_shots_from(tried.sockets, address, now, ttl)
        for delay_s in PINGS_S[:3]:
            for socket in reversed(tried.sockets[:PREDICTED_AHEAD]):
                self._plan_shots(socket, address, pings_at + delay_s, (0.0,))

    def _aim_many(self, tried: _Round, now: float) -> None:
        """Openers only: pings that arrive before a probe would spoil its port at a plain masquerade."""
        if (address := self._one_target(tried)) is not None:
            for delay_s in SEARCH_OPENERS_S:
                self._plan_shots_from(tried.sockets, address, now + delay_s, self._shortest)
            self._plan_shots_from(tried.sockets, address, now + SEARCH_DEEP_S, OPENER_TTL_MAX)

    def _aim_search(self, tried: _Round, pings_at: float) -> None:
        first = self._rounds[0].targets or ()
        hosts = [host_of(address) for address in first if _is_v4(address)]
        host = next((host for host in hosts if host in self._budget.vouched), None)
        if host is not None:
            port = self._random.randrange(SEARCH_PORTS)
            stride = self._random.choice(_STRIDES)
            self._search = _Search(tried.sockets[0], host, port, stride, pings_at)

    def _one_target(self, tried: _Round) -> str | None:
        """The first IPv4 address, a public one before others; None without one."""
        targets = filter(_is_v4, tried.targets or ())
        return min(targets, key=lambda address: reach_of(address) is not Reach.V4, default=None)

    def _plan_openers(self, sockets: Sequence[int], address: str, at: float) -> None:
        """A round's openers go a hop further than the last one's, after the shortest that may do."""
        for delay_s in OPENER_REPEATS_S:
            self._plan_shots_from(sockets, address, at + delay_s, self._shortest)
        for ttl in range(self._shortest + 1, self._furthest + 1):
            self._plan_shots_from(sockets, address, at, ttl)

    @property
    def _shortest(self) -> int:
        """The TTL that just gets through this node's own routers."""
        return min(self._depth + 1, OPENER_TTL_MAX)

    @property
    def _furthest(self) -> int:
        """The largest of the latest round."""
        return min(self._depth + len(self._rounds), OPENER_TTL_MAX)

    def _plan_shots_from(self, sockets: Sequence[int], address: str, at: float, ttl: int) -> None:
        for socket in sockets:
            self._plan_shots(socket, address, at, (0.0,), ttl)

    def _plan_shots(
        self,
        socket: int,
        address: str,
        at: float,
        delays_s: Sequence[float],
        ttl: int | None = None,
        kind: ProbeKind = ProbeKind.PING,
    ) -> None:
        for delay_s in delays_s:
            self._order += 1
            heappush(self._plan, _Shot(at + delay_s, self._order, socket, address, ttl, kind))

    # --- sending

    def _shoot(self, shot: _Shot, now: float) -> bool:
        """Send a planned packet if it is still needed, and allowed; False: nothing was sent."""
        if shot.kind is ProbeKind.PING and (shot.socket, shot.address) in self._round_trips:
            return False
        return self._ping(shot.socket, shot.address, now, shot.ttl, shot.kind)

    def _ping(
        self,
        socket: int,
        address: str,
        now: float,
        ttl: int | None = None,
        kind: ProbeKind = ProbeKind.PING,
    ) -> bool:
        if not (self._budget.take(address) if ttl is None else self._budget.take_opener(address)):
            return False
        self._send_ping(socket, address, now, ttl, kind)
        return True

    def _send_ping(self, socket: int, address: str, now: float, ttl: int | None, kind: ProbeKind) -> None:
        self._nonces += 1
        count = self._nonces.to_bytes(8, "big")
        nonce = blake2b(count, digest_size=NONCE_BYTES, key=self._nonce_key).digest()
        if len(self._pending) >= PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        self._pending[nonce] = (socket, address, now, kind)
        data = encode_probe(self._key, self._tag, kind, nonce)
        self._outputs.append(SendProbe(socket, address, data, ttl))

    def _seek(self, search: _Search, now: float) -> None:
        search.next_at = max(search.next_at, now - SEND_BURST / SEARCH_PER_S)
        while search.next_at <= now:
            if search.left == 0 or not self._budget.take_search(search.host):
                search.next_at = inf
                return
            search.left -= 1
            search.next_at += 1 / SEARCH_PER_S
            search.port = (search.port + search.stride) % SEARCH_PORTS
            address = f"{search.host}:{SEARCH_PORT_MIN + search.port}"
            self._send_ping(search.socket, address, now, None, ProbeKind.PING)

    # --- what came

    def _on_ping(self, socket: int, source: str, kind: ProbeKind, nonce: bytes, now: float) -> None:
        if nonce in self._seen or len(self._seen) >= PINGS_ANSWERED_MAX:
            self.dropped += 1
            return
        self._seen.add(nonce)
        if self._budget.take(source, answer=True):
            data = encode_probe(self._key, self._tag, ProbeKind.PONG, nonce)
            self._outputs.append(SendProbe(socket, source, data))
        if self.result is not None:
            return
        if kind is ProbeKind.CHOICE and not self._initiator:
            round_trip_s = self._round_trips.get((socket, source), self._round_trip_s)
            self._settle(Punched(socket, source, round_trip_s))
            return
        self._echo(socket, source, now)

    def _echo(self, socket: int, source: str, now: float) -> None:
        """A ping of its own to where a ping came from: a peer-reflexive candidate (RFC 8445 7.3.1.3)."""
        path = (socket, source)
        before = self._heard.get(path)
        if path in self._round_trips:
            return
        if before is None:
            if len(self._heard) >= HEARD_MAX:
                return
            self._plan_shots(socket, source, now, ECHO_PINGS_S)
        elif now < before + ECHO_GAP_S:
            return
        self._heard[path] = now
        if self._budget.take(source, answer=True):
            self._send_ping(socket, source, now, None, ProbeKind.PING)

    def _on_pong(self, socket: int, source: str, nonce: bytes, now: float) -> None:
        sent = self._pending.get(nonce)
        if sent is None or sent[:2] != (socket, source):
            self.dropped += 1
            return
        del self._pending[nonce]
        self._budget.prove(source)
        path = (socket, source)
        if path in self._round_trips or len(self._round_trips) < HEARD_MAX:
            self._round_trips[path] = now - sent[2]
        if sent[3] is ProbeKind.CHOICE:
            self._plan.clear()  # the other end knows of it
        elif self._initiator and self.result is None:
            self._consider(Punched(socket, source, now - sent[2]), now)

    def _consider(self, path: Punched, now: float) -> None:
        """The first path is taken, but for one in the LAN that may be found in a moment."""
        if not self._lan_hoped or reach_of(path.address) is Reach.LAN:
            self._choose(path, now)
        elif self._best is None:
            self._best, self._best_until = path, now + LAN_WAIT_S

    # --- the end

    def _choose(self, path: Punched, now: float) -> None:
        self._settle(path)
        self._plan_shots(path.socket, path.address, now, CHOICES_S, None, ProbeKind.CHOICE)
        self._shoot(heappop(self._plan), now)

    def _settle(self, path: Punched) -> None:
        self._finish(path.socket)
        self.result = path
        self._outputs.append(path)

    def _give_up(self, reason: str) -> None:
        self._finish(0)
        self.result = GaveUp(reason)
        self._outputs.append(self.result)

    def _finish(self, keep: int) -> None:
        self._plan.clear()
        self._search = None
        unneeded = tuple(socket for socket in self._fresh if socket != keep)
        if unneeded:
            self._outputs.append(CloseSockets(unneeded))

    def _why_not(self) -> str:
        own, other = self._own.kind, self._other.kind
        if own is NatKind.BLOCKED:
            return "no UDP gets out of this node's network"
        if other is NatKind.BLOCKED:
            return "no UDP gets out of the other node's network"
        if not self._rounds[0].targets:
            return "the other node has no address to try"
        if self._round_trips:
            return "a path was found, but the other node chose none"
        if own in _PER_DESTINATION and other in _PER_DESTINATION:
            return f"both routers take another port for each destination ({own} here, {other} there)"
        if self._search_round is None and (own in _PER_DESTINATION or other in _PER_DESTINATION):
            return (
                f"the router {'here' if own in _PER_DESTINATION else 'there'} takes another port for each "
                "destination; its ports are searched only for a link that is wanted for long"
            )
        return f"no packet came through ({own or 'unknown'} here, {other or 'unknown'} there)"


def _is_v4(address: str) -> bool:
    return not address.startswith("[")


_STRIDES = tuple(
    stride for stride in range(20011, 40000, 2) if stride % 3 and stride % 7
)  # prime to 64512 = 2^10 * 3^2 * 7
