"""What linked peers do for each other on request: try an address, splice a pair, dial for a stream. Pure."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from mesh.address import host_of
from mesh.link.control import (
    REASON_CHARS_MAX,
    CallStream,
    Control,
    Knock,
    OpenTcp,
    Punch,
    PunchMore,
    RelayAsk,
    RelayDeny,
    RelayGrant,
    RelayOffer,
    TcpSide,
    Traversal,
    Tried,
    Try,
)
from mesh.link.live import Link
from mesh.link.model import TOKEN_BYTES
from mesh.link.steps import Called, Heard, NotOpened, Output, Probe, Reached, Relay, Spliced
from mesh.model import NodeId

PROBES_MAX = 32  # addresses of this node that peers are trying
PROBE_EVERY_S = 5.0  # one peer's addresses are tried at most this often

Request: TypeAlias = RelayAsk | Try | Tried | CallStream | Traversal


class Say(Protocol):
    """Puts a message on a link."""

    def __call__(self, link: Link, message: Control, now: float) -> None: ...


class Errands:
    """Requests of one node's peers and to them; part of a `Connector`, to whose outputs it adds."""

    def __init__(
        self,
        links: Mapping[NodeId, Link],
        say: Say,
        outputs: list[Output],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._links = links
        self._say = say
        self._outputs = outputs
        self._entropy = entropy
        self._probes: dict[bytes, str] = {}  # ticket -> own address that a peer tries

    # --- requests to peers

    def ask_reachable(self, peer: NodeId, address: str, now: float) -> None:
        """Have a linked peer try an address of this node; `Reached` tells what it found."""
        link = self._links.get(peer)
        if link is not None:
            ticket = self._entropy(TOKEN_BYTES)
            self._probes[ticket] = address
            while len(self._probes) > PROBES_MAX:
                del self._probes[next(iter(self._probes))]
            self._say(link, Try(ticket, address), now)

    def call_stream(self, peer: NodeId, ticket: bytes, service: str, argument: bytes, now: float) -> None:
        """Have a linked peer dial this node; `NotOpened` when it says that it could not."""
        if (link := self._links.get(peer)) is not None:
            self._say(link, CallStream(ticket, service, argument), now)

    def ask_splice(self, peer: NodeId, relay: NodeId, ticket: bytes, now: float) -> None:
        """Have a relay join this node and a peer for a stream: `Spliced` or `NotOpened` says what it did."""
        if (link := self._links.get(relay)) is not None:
            self._say(link, RelayAsk(peer, ticket), now)

    def tell(self, peer: NodeId, message: Traversal, now: float) -> None:
        """Say something about finding a path to a linked peer."""
        if (link := self._links.get(peer)) is not None:
            self._say(link, message, now)

    # --- answers to peers

    def granted(self, ask: Relay, token_for_origin: bytes, token_for_target: bytes, now: float) -> None:
        """The relay of this node takes a pair on: tell both."""
        origin, target = self._links.get(ask.origin), self._links.get(ask.target)
        if origin is not None and target is not None:
            seen, offered = host_of(target.peer.remote), host_of(origin.peer.remote)
            self._say(origin, RelayGrant(ask.ticket, token_for_origin, seen), now)
            self._say(target, RelayOffer(ask.origin, ask.ticket, token_for_target, offered), now)

    def denied(self, ask: Relay, reason: str, now: float) -> None:
        """The relay of this node does not."""
        if (origin := self._links.get(ask.origin)) is not None:
            self._say(origin, RelayDeny(ask.ticket, reason), now)

    def tried(self, probe: Probe, ok: bool, reason: str, now: float) -> None:
        """What became of a `Probe`."""
        self._answer(probe.peer, probe.ticket, ok, reason, now)

    def not_called(self, call: Called, reason: str, now: float) -> None:
        """This node could not, or would not, dial whoever asked for it."""
        self._answer(call.peer, call.ticket, False, reason, now)

    # --- messages

    def receive(self, link: Link, message: Request, now: float) -> None:
        """One message that came on a link."""
        match message:
            case RelayAsk():
                self._outputs.append(Relay(link.peer.node_id, message.target, message.ticket))
            case Try():
                self._on_try(link, message, now)
            case Tried():
                self._on_tried(link, message)
            case CallStream():
                self._on_call_stream(link, message, now)
            case Punch() | PunchMore() | TcpSide():
                self._outputs.append(Heard(link.peer.node_id, message))
            case OpenTcp() if link.calls.take(now):
                self._outputs.append(Heard(link.peer.node_id, message))
            case OpenTcp():
                self._say(link, TcpSide(message.ticket, []), now)
            case Knock():
                self._on_knock(link, message, now)

    def _on_knock(self, link: Link, message: Knock, now: float) -> None:
        """Only where the peer itself is: nobody is made to knock at strangers' doors."""
        same = host_of(message.address) == host_of(link.peer.remote)
        if same and link.via is None and link.knocks.take(now):
            self._outputs.append(Heard(link.peer.node_id, message))

    def on_grant(self, address: str, message: RelayGrant) -> None:
        """Not for a link, so for a stream: the relay can be dialled at `address`."""
        self._outputs.append(Spliced(message.ticket, address, message.token))

    def on_deny(self, message: RelayDeny) -> None:
        """Not for a link, so for a stream."""
        self._outputs.append(NotOpened(message.ticket, message.reason))

    def _on_try(self, link: Link, message: Try, now: float) -> None:
        """Only the address that the peer comes from is tried: nobody is made to knock at strangers' doors."""
        probe = Probe(link.peer.node_id, message.ticket, message.address)
        if now < link.probed_at + PROBE_EVERY_S:
            self.tried(probe, False, "asked too often", now)
        elif host_of(message.address) != host_of(link.peer.remote):
            self.tried(probe, False, "not the address that this link comes from", now)
        else:
            link.probed_at = now
            self._outputs.append(probe)

    def _on_tried(self, link: Link, message: Tried) -> None:
        address = self._probes.pop(message.ticket, None)
        if address is not None:
            self._outputs.append(Reached(link.peer.node_id, address, message.ok, message.reason))
        elif not message.ok:
            self._outputs.append(NotOpened(message.ticket, message.reason))

    def _on_call_stream(self, link: Link, message: CallStream, now: float) -> None:
        """Dialled is only where this node dialled before, for the same reason."""
        peer = link.peer
        call = Called(peer.node_id, peer.remote, message.ticket, message.service, message.argument)
        if not peer.dialled or link.via is not None:
            self.not_called(call, "this node did not dial that one itself", now)
        elif not link.calls.take(now):
            self.not_called(call, "asked too often", now)
        else:
            self._outputs.append(call)

    def _answer(self, peer: NodeId, ticket: bytes, ok: bool, reason: str, now: float) -> None:
        if (link := self._links.get(peer)) is not None:
            self._say(link, Tried(ticket, ok, reason[:REASON_CHARS_MAX]), now)
