"""Questions that a survey has open: STUN requests, probes asked of peers, sockets, pauses. Pure.

A trial is a generator that yields what it waits for, all of it at once, and finds the results in these very
objects when it goes on. So each trial reads from top to bottom like what it does, and several run side by
side without a clock, a socket or a task of their own.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeAlias, TypeVar

from mesh.address import host_of
from mesh.errors import WireError
from mesh.model import NodeId
from mesh.nat.stun import (
    BINDING,
    TRANSACTION_BYTES,
    Kind,
    StunMessage,
    encode_binding_request,
    mapped_address,
    parse_stun_untrusted,
)

MESH_SOCKET = 0  # the mesh port, whose family follows from the address; other numbers are throw-away sockets
SOFTWARE = "fwnode"  # also makes a request long enough for an answer of twice its length over IPv6

ASK_WAITS_S = (0.25, 0.5, 1.0)  # after each sending; RFC 8489 6.2.1 would be 39.5 s until it gives up
PROBE_WAITS_S = (0.8, 1.2)  # the word goes over a link, the probe comes back: two slow round trips
OPENING_WAIT_S = 5.0  # binding a socket takes no time; this is for a shell that forgot
PENDING_MAX = 64  # two families with eight servers each, and the lifetime trial


@dataclass(frozen=True, slots=True)
class Send:
    """A datagram from a socket."""

    socket: int
    address: str
    data: bytes


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Bind throw-away sockets of a family (4 or 6) to ports of the system's choice; then call `opened`."""

    ticket: int
    count: int
    family: int


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """They are not needed any more."""

    sockets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskProbe:
    """Have a linked peer send `encode_binding_indication(transaction)` to `address`, once.

    `fresh`: from a port that this node never sent anything to; else from the peer's mesh port.
    """

    peer: NodeId
    address: str
    transaction: bytes
    fresh: bool


Output: TypeAlias = Send | OpenSockets | CloseSockets | AskProbe


@dataclass(slots=True, eq=False)
class Ask:
    """A Binding request. `mapped`: what the answer says; `looped`: the request itself came back in."""

    socket: int
    address: str
    mapped: str = ""
    looped: bool = False


@dataclass(slots=True, eq=False)
class Probe:
    """An unsolicited packet to `address`, where `socket` is seen, from a peer at `host`. `came`: it did."""

    peer: NodeId
    host: str
    socket: int
    address: str
    fresh: bool
    came: bool = False


@dataclass(slots=True, eq=False)
class Opening:
    """Throw-away sockets; none when the system has none to give."""

    count: int
    family: int
    sockets: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Pause:
    """Nothing, for so long."""

    seconds: float


Wait: TypeAlias = Ask | Probe | Opening | Pause
T = TypeVar("T")
Trial: TypeAlias = Generator[Sequence[Wait], None, T]


@dataclass(slots=True, eq=False)
class _Run:
    """A trial under way, and for how many things it waits."""

    trial: Trial[None]
    waiting: int = 0


@dataclass(slots=True, eq=False)
class _Pending:
    """One wait: `key` finds it again, `due` is when the next of its sendings or its end comes."""

    wait: Wait
    run: _Run
    key: bytes | int
    due: float
    sent: int = 0


class Asking:
    """Runs trials. Adds to `outputs`, which its owner drains."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.outputs: list[Output] = []
        self.spoofed = 0  # answers to a question of ours from another address than was asked
        self.now = -inf  # of the last call, for trials
        self._entropy = entropy
        self._pending: list[_Pending] = []
        self._runs: list[_Run] = []
        self._ticket = 0

    def start(self, trial: Trial[None], now: float) -> None:
        """Run a trial until it ends."""
        run = _Run(trial)
        self._runs.append(run)
        self._go_on(run, now)

    def abort(self) -> None:
        """End all trials; each releases its sockets."""
        for run in self._runs:
            run.trial.close()
        self._runs.clear()
        self._pending.clear()

    def close(self, sockets: Sequence[int]) -> None:
        """For trials: they are done with these."""
        if sockets:
            self.outputs.append(CloseSockets(tuple(sockets)))

    # --- what happened

    def receive(self, socket: int, data: bytes | memoryview, source: str, now: float) -> bool:
        """Take a datagram that may answer a question; False when it belongs to nobody here."""
        try:
            message = parse_stun_untrusted(data)
        except WireError:
            return False
        pending = next((p for p in self._pending if p.key == message.transaction), None)
        if pending is None or message.method != BINDING:
            return False
        wait = pending.wait
        if isinstance(wait, Ask):
            done = self._is_answer(wait, message, socket, source)
        else:
            done = isinstance(wait, Probe) and self._is_probe(wait, message, socket, source)
        if done:
            self._done(pending, now)
        return True

    def opened(self, ticket: int, sockets: Sequence[int], now: float) -> None:
        """The answer to OpenSockets; fewer than asked, or none, when there were no more."""
        pending = next((p for p in self._pending if p.key == ticket), None)
        if pending is None or not isinstance(pending.wait, Opening):
            self.close(sockets)  # for a trial that is over
        else:
            pending.wait.sockets = tuple(sockets)
            self._done(pending, now)

    def probe_refused(self, transaction: bytes, now: float) -> None:
        """The peer says that it does not send a probe."""
        pending = next((p for p in self._pending if p.key == transaction), None)
        if pending is not None and isinstance(pending.wait, Probe):
            self._done(pending, now)

    def deadline(self) -> float | None:
        due = min((p.due for p in self._pending), default=inf)
        return None if due == inf else due

    def on_deadline(self, now: float) -> None:
        for pending in [p for p in self._pending if p.due <= now]:
            if pending in self._pending:  # a trial that went on may have ended others' waits
                self._again(pending, now)

    # --- inside

    def _is_answer(self, wait: Ask, message: StunMessage, socket: int, source: str) -> bool:
        """Believed is only who was asked, on the socket that asked."""
        if message.kind is Kind.REQUEST:
            wait.looped = True
            return True
        if socket != wait.socket or source != wait.address:
            self.spoofed += 1
            return False
        if message.kind is Kind.SUCCESS and not message.unknown:
            wait.mapped = mapped_address(message) or ""
        return message.kind is not Kind.INDICATION

    def _is_probe(self, wait: Probe, message: StunMessage, socket: int, source: str) -> bool:
        if message.kind is not Kind.INDICATION or socket != wait.socket or host_of(source) != wait.host:
            self.spoofed += 1
            return False
        wait.came = True
        return True

    def _go_on(self, run: _Run, now: float) -> None:
        """Let a trial go on until it waits for something, or ends."""
        self.now = now
        while not run.waiting:
            try:
                waits = next(run.trial)
            except StopIteration:
                self._runs.remove(run)
                return
            run.waiting = len(waits)
            assert len(self._pending) + len(waits) <= PENDING_MAX
            begun = [_Pending(wait, run, self._key(wait), inf) for wait in waits]
            self._pending += begun
            for pending in begun:
                self._again(pending, now)

    def _key(self, wait: Wait) -> bytes | int:
        if isinstance(wait, Ask | Probe):
            return self._entropy(TRANSACTION_BYTES)
        self._ticket += 1
        return self._ticket

    def _again(self, pending: _Pending, now: float) -> None:
        """Begin a wait, send again what was not answered, or give up."""
        wait, key = pending.wait, pending.key
        waits_s = _waits_s(wait)
        if pending.sent == len(waits_s):
            self._done(pending, now)
            return
        pending.due = now + waits_s[pending.sent]
        pending.sent += 1
        if isinstance(wait, Ask) and isinstance(key, bytes):
            self.outputs.append(
                Send(wait.socket, wait.address, encode_binding_request(key, software=SOFTWARE))
            )
        elif isinstance(wait, Probe) and isinstance(key, bytes):
            self.outputs.append(AskProbe(wait.peer, wait.address, key, wait.fresh))
        elif isinstance(wait, Opening) and isinstance(key, int):
            self.outputs.append(OpenSockets(key, wait.count, wait.family))

    def _done(self, pending: _Pending, now: float) -> None:
        self._pending.remove(pending)
        pending.run.waiting -= 1
        self._go_on(pending.run, now)


def _waits_s(wait: Wait) -> tuple[float, ...]:
    match wait:
        case Ask():
            return ASK_WAITS_S
        case Probe():
            return PROBE_WAITS_S
        case Opening():
            return (OPENING_WAIT_S,)
        case Pause():
            return (wait.seconds,)
