"""Gets and keeps one link to each wanted peer: dials, has itself dialled back, goes over a relay. Pure.

States of a peer: no link (waiting to try again), trying (dials under way), linked. While a link's path is
doubted, or leads over a relay, the machine tries for a better one beside it; the newer connection takes over
and its users notice nothing. Outputs are done by a shell, which tells how they went:

    Dial       -> dialled(attempt, ...) or dial_failed(attempt, ...)
    DialRelay  -> the same
    Frame      -> nothing
    Close      -> nothing; `closed` is for connections that end by themselves

Hole punching is one more way to get a connected socket, tried between dialling back and the relay's own path.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from random import Random

from mesh.errors import StateError, WireError
from mesh.identity.claim import Chain
from mesh.link.control import (
    Bye,
    CallMe,
    CallStream,
    Control,
    Forward,
    Forwarded,
    Hold,
    Knock,
    OpenTcp,
    Ping,
    Pong,
    Punch,
    PunchMore,
    RelayAsk,
    RelayDeny,
    RelayGrant,
    RelayOffer,
    TcpSide,
    Tried,
    Try,
    encode,
    parse_control_untrusted,
)
from mesh.link.errands import Errands
from mesh.link.known import NOWHERE, Known, Whereabouts
from mesh.link.live import RELAYED, Link
from mesh.link.model import TCP, TOKEN_BYTES, Peer
from mesh.link.pulse import Pulse
from mesh.link.steps import (
    Close,
    Dial,
    DialRelay,
    Down,
    Frame,
    Output,
    Relayed,
    RelayRefused,
    Up,
)
from mesh.model import NodeId, Role

ADDRESSES_MAX = 16  # tried of one peer
PEERS_MAX = 4096  # linked or wanted; and as many whose addresses are remembered: the directory has the rest
STAGGER_S = 0.25  # RFC 8305 5: between two addresses of one peer
ROUND_S = 3.0  # of dialling before a peer's answer is given up and the next way is tried
RELAY_S = 0.2  # after which a relay is asked although dials are under way: the user should not wait for them
GRACE_S = 1.0  # a broken link is made anew in this time before anybody is told
RETRY_S = 2.0  # after a round that failed; doubled each time
RETRY_MAX_S = 60.0
FAILURES_MAX = 4  # rounds, a quarter of a minute
UPGRADE_S = 60.0  # between tries to replace a relayed path; the first come after
UPGRADE_FIRST_S = 4.0  # doubled each time: what was cut off a moment ago is often soon back
FRESH_S = 3.0  # two connections that came up within this time were dialled by both ends at once
CALLS_PER_MINUTE = 30  # dial-back requests followed for one peer
TICKETS_MAX = 1024  # requests to relays that were not answered yet; the oldest is given up first
PROBES_MAX = 32  # addresses of this node that peers are trying
PROBE_EVERY_S = 5.0  # one peer's addresses are tried at most this often
COUNTERS = ("dials", "dials_failed", "links_made", "links_lost", "links_replaced", "calls", "relays_asked")
REPLACED = "replaced by a newer connection"
CONTROL_FRAME = 1
"""Kind of the frames that are this machine's own."""


class Connector:
    """Every link of one node. `own_addresses` are told to peers that are asked to dial back."""

    def __init__(
        self,
        node: NodeId,
        random: Random,
        entropy: Callable[[int], bytes],
        own_addresses: Callable[[], Sequence[str]],
        is_member: Callable[[NodeId], bool] = lambda _node: True,
    ) -> None:
        """`is_member` says of a node that asks, through another one, to be dialled whether it is known."""
        self.links: dict[NodeId, Link] = {}
        self.counters: dict[str, int] = dict.fromkeys(
            ("dials", "dials_failed", "links_made", "links_lost", "links_replaced", "calls", "relays_asked"),
            0,
        )
        self._node = node
        self._random = random
        self._entropy = entropy
        self._own_addresses = own_addresses
        self._is_member = is_member
        self._known: dict[NodeId, Known] = {}
        self._heard: dict[NodeId, Whereabouts] = {}
        self._by_connection: dict[int, Link] = {}
        self._attempts: dict[int, NodeId | None] = {}
        self._attempt = 0
        self._tickets: dict[bytes, NodeId] = {}  # relay asked for -> the peer wanted
        self._outputs: list[Output] = []
        self.errands = Errands(self.links, self._say, self._outputs, entropy)

    # --- what is wanted

    def want(self, peer: NodeId, now: float) -> None:
        """Get a link to a peer and keep it."""
        if peer == self._node:
            raise StateError("a link to the node itself")
        known = self._about(peer)
        known.wanted = True
        if known.link is None and now >= known.trying_until and (known.retry_at == inf or not known.failures):
            self._begin(peer, known, now)

    def unwant(self, peer: NodeId, reason: str, now: float) -> None:
        """Nobody here needs the link: it is closed with a word, so that the peer does not dial again."""
        known = self._known.get(peer)
        if known is None:
            return
        known.wanted = False
        self._stop(known)
        was_up = known.link is not None or known.lost_at != inf
        if known.link is not None:
            link = known.link
            self._say(link, Bye(reason), now)
            self._outputs.append(Close(link.connection, reason))
            self._forget_link(peer, known)
        known.lost_at = inf
        if was_up:
            self._outputs.append(Down(peer, reason))

    def learn(self, peer: NodeId, addresses: Sequence[str], relays: Sequence[NodeId]) -> None:
        """What the directory, or discovery, says about where a peer is; the best first."""
        if peer == self._node:
            return
        before = self._heard.pop(peer, NOWHERE)
        self._heard[peer] = Whereabouts(
            tuple(addresses[:ADDRESSES_MAX]) or before.addresses,
            tuple(relay for relay in relays if relay != self._node) or before.relays,
        )
        if len(self._heard) > PEERS_MAX:
            del self._heard[next(iter(self._heard))]  # the directory can tell of it again
        known = self._known.get(peer)
        if known is not None and before.addresses != self._heard[peer].addresses:
            self._look_again(peer, known)

    def _look_again(self, peer: NodeId, known: Known) -> None:
        """A peer is somewhere else than was thought when a round began, or a relay was taken."""
        if known.link is not None and known.link.via is not None:
            known.retry_at = -inf
        elif known.trying_until != -inf and not known.running and not known.queue:
            known.queue = list(self._where(peer).addresses)
            known.next_dial_at = -inf

    def try_address(self, address: str, now: float) -> int:
        """Dial an address of nobody in particular; returns the attempt."""
        return self._dial(address, None)

    def address_changed(self, now: float) -> None:
        """This node has other addresses now: every link is suspected until something comes over it."""
        for peer, link in list(self.links.items()):
            link.pulse.sent(now)
            self._ping(link, now, at_once=True)
            known = self._about(peer)
            if self._where(peer).addresses and not known.running:
                link.doubted = True
                self._begin(peer, known, now, relayed=False)

    # --- how it went

    def connected(
        self,
        connection: int,
        peer: Peer,
        now: float,
        *,
        via: NodeId | None = None,
        carrier: str = TCP,
        again: bool = False,
    ) -> bool:
        """A control connection is there, dialled by either side, `again` as the dialler says.

        False: not needed, close it.
        """
        known = self._about(peer.node_id)
        old = known.link
        link = Link(connection, peer, via, now, Pulse(peer.round_trip_s or None, now), carrier=carrier)
        if old is not None and not again and not self._is_better(old, link, now):
            return False
        if old is not None:
            self.counters["links_replaced"] += 1
            link.linked_at = old.linked_at
            self._by_connection[old.connection] = link  # what is under way on it is taken until it closes
            self._outputs.append(Close(old.connection, REPLACED))
        known.link = self.links[peer.node_id] = self._by_connection[connection] = link
        self.counters["links_made"] += 1
        if via is None:
            self._stop(known)
            known.upgrades = 0
        else:
            known.relay_at = inf  # dials go on beside the relayed link until the round ends
            known.retry_at = self._upgrade_at(known, now)
            self._seek_direct(link)
        known.failures = 0
        if old is None and known.lost_at == inf:
            self._outputs.append(Up(peer.node_id))
        known.lost_at = inf
        self._ping(link, now, at_once=True)
        return True

    def dialled(self, attempt: int) -> None:
        """A dial succeeded; `connected` says with whom."""
        peer = self._attempts.pop(attempt, None)
        if peer is not None and peer in self._known:
            self._known[peer].running.discard(attempt)

    def dial_failed(self, attempt: int, now: float) -> None:
        """A dial did not."""
        self.counters["dials_failed"] += 1
        peer = self._attempts.pop(attempt, None)
        if peer is None or peer not in self._known:
            return
        known = self._known[peer]
        known.running.discard(attempt)
        known.next_dial_at = min(known.next_dial_at, now) if known.queue else inf
        if not known.queue and not known.running and known.relay_at != inf:
            known.relay_at = now

    def closed(self, connection: int, reason: str, now: float) -> None:
        """A connection ended by itself."""
        link = self._by_connection.pop(connection, None)
        if link is not None and link.connection == connection:
            self._lose(link.peer.node_id, reason, now)

    def sent(self, peer: NodeId, now: float) -> int | None:
        """A frame is about to be sent to a peer: on which connection, or None when there is no link."""
        link = self.links.get(peer)
        if link is None:
            return None
        link.pulse.sent(now)
        return link.connection

    def heard(self, connection: int, now: float) -> NodeId | None:
        """A frame came on a connection: from whom, or None when the connection was given up."""
        link = self._by_connection.get(connection)
        if link is None:
            return None
        if link.connection == connection:
            link.pulse.heard(now)
            link.doubted = False
        return link.peer.node_id

    def receive(self, connection: int, data: bytes, now: float) -> None:
        """A control frame. Raises WireError."""
        link = self._by_connection.get(connection)
        message = parse_control_untrusted(data)
        if link is None:
            return
        match message:
            case Ping():
                self._say(link, Pong(message.nonce), now, expects=False)
            case Pong():
                link.pulse.pong(message.nonce, now)
            case Bye():
                self._on_bye(link, message.reason, now)
            case Forward():
                self._on_forward(link, message, now)
            case Forwarded():
                self._on_forwarded(link, message, now)
            case RelayGrant():
                self._on_grant(link, message)
            case RelayOffer():
                self._on_offer(link, message, now)
            case RelayDeny():
                self._on_deny(link, message, now)
            case Hold():
                link.held = message.on and link.via is None
            case (
                RelayAsk()
                | Try()
                | Tried()
                | CallStream()
                | Punch()
                | PunchMore()
                | Knock()
                | OpenTcp()
                | TcpSide()
            ):
                self.errands.receive(link, message, now)
            case _:
                raise WireError(f"a {type(message).__name__} has no place on a link")

    def show(self, peer: NodeId, chain: Chain) -> None:
        """A linked peer was renewed: its link is judged by this chain from now on."""
        if (link := self.links.get(peer)) is not None:
            link.peer = replace(link.peer, chain=chain)

    def hold(self, peer: NodeId, on: bool, now: float) -> None:
        """Ask a linked peer to keep the link, or not to."""
        if (link := self.links.get(peer)) is not None:
            self._say(link, Hold(on), now)

    # --- time

    def deadline(self, now: float) -> float | None:
        """When `on_deadline` is next due."""
        due = min((link.pulse.deadline(now) for link in self.links.values()), default=inf)
        for known in self._known.values():
            due = min(due, known.next_dial_at, known.relay_at, known.lost_at + GRACE_S)
            if known.wanted or known.link is not None:
                due = min(due, known.retry_at)
            if known.trying_until > now:
                due = min(due, known.trying_until)
        return None if due == inf else due

    def on_deadline(self, now: float) -> None:
        """Do what is due. Harmless when early."""
        for link in list(self.links.values()):
            self._look(link, now)
        for peer, known in list(self._known.items()):
            if now >= known.next_dial_at:
                self._dial_next(peer, known, now)
            if now >= known.relay_at:
                known.relay_at = inf
                self._ask_relays(peer, known, now)
            if now >= known.lost_at + GRACE_S:
                self._tell_lost(peer, known)
            if known.trying_until <= now and known.trying_until != -inf:
                self._give_up(known, now)
            if now >= known.retry_at and (known.wanted or known.link is not None):
                self._begin(peer, known, now, relayed=known.link is None)
            if known.idle and now >= known.calls.since + 60.0:
                del self._known[peer]

    def outputs(self) -> list[Output]:
        """What to do now, in order; empties the list."""
        outputs = list(self._outputs)
        self._outputs.clear()
        return outputs

    # --- rounds of dialling

    def _begin(self, peer: NodeId, known: Known, now: float, *, relayed: bool = True) -> None:
        """Start a round: every address, staggered; a relay soon after, as dialling takes long to fail."""
        known.retry_at = inf
        known.asked.clear()
        known.trying_until = now + ROUND_S
        known.queue = list(self._where(peer).addresses)
        known.next_dial_at = now if known.queue else inf
        known.relay_at = (now + RELAY_S if known.queue else now) if relayed else inf
        if known.link is not None and known.link.via in self.links:
            known.upgrades += 1
            self._call_me(self.links[known.link.via], peer, now)
            self._seek_direct(known.link)

    def _stop(self, known: Known) -> None:
        known.queue.clear()
        known.next_dial_at = known.relay_at = known.retry_at = inf
        known.trying_until = -inf

    def _give_up(self, known: Known, now: float) -> None:
        """The round brought nothing."""
        self._stop(known)
        if known.link is not None:
            known.retry_at = self._upgrade_at(known, now) if known.link.rank == RELAYED else inf
            return
        known.failures += 1
        if known.failures >= FAILURES_MAX:
            known.wanted, known.failures = False, 0  # whoever wants it will say so again
            return
        wait_s = min(RETRY_S * 2 ** min(known.failures - 1, 8), RETRY_MAX_S)
        known.retry_at = now + wait_s * (0.75 + 0.5 * self._random.random())

    def _upgrade_at(self, known: Known, now: float) -> float:
        wait_s = min(UPGRADE_S, UPGRADE_FIRST_S * 2.0 ** min(known.upgrades, 8))
        return now + wait_s * (0.75 + 0.5 * self._random.random())

    def _dial_next(self, peer: NodeId, known: Known, now: float) -> None:
        known.next_dial_at = inf
        if known.queue:
            known.running.add(self._dial(known.queue.pop(0), peer))
            if known.queue:
                known.next_dial_at = now + STAGGER_S

    def _dial(self, address: str, peer: NodeId | None) -> int:
        attempt = self._new_attempt(peer)
        self._outputs.append(Dial(attempt, address, peer, self._is_doubted(peer)))
        return attempt

    def _new_attempt(self, peer: NodeId | None) -> int:
        self.counters["dials"] += 1
        self._attempt += 1
        self._attempts[self._attempt] = peer
        return self._attempt

    # --- over others

    def seen_at(self, peer: NodeId) -> str:
        """The host at which the relay between sees a peer, "" when none said."""
        known = self._known.get(peer)
        return known.seen_at if known is not None else ""

    def stream_relays(self, peer: NodeId) -> list[NodeId]:
        """Linked relays to try for a stream to a peer, the one that carries the link first."""
        link = self.links.get(peer)
        first = [link.via] if link is not None and link.via in self.links else []
        others = [node for node in self._relays_for(peer) if self._may_relay(node)]
        return list(dict.fromkeys([*(node for node in first if node is not None), *others]))

    def _ask_relays(self, peer: NodeId, known: Known, now: float) -> None:
        """Ask whoever is linked to both: first to have the peer dial us, and to splice us meanwhile."""
        for relay in self._relays_for(peer):
            if relay in known.asked:
                continue
            known.asked.add(relay)
            link = self.links[relay]
            ticket = self._entropy(TOKEN_BYTES)
            self._call_me(link, peer, now)
            if self._may_relay(relay):
                self._tickets[ticket] = peer
                while len(self._tickets) > TICKETS_MAX:
                    del self._tickets[next(iter(self._tickets))]
                self.counters["relays_asked"] += 1
                self._say(link, RelayAsk(peer, ticket), now)
                return

    def _call_me(self, relay: Link, peer: NodeId, now: float) -> None:
        """Have a peer asked to dial this node."""
        if own := list(self._own_addresses())[:ADDRESSES_MAX]:
            self._say(relay, Forward(peer, encode(CallMe(self._entropy(TOKEN_BYTES), own))), now)

    def _relays_for(self, peer: NodeId) -> list[NodeId]:
        """Linked members that may reach the peer: its own standby relays, else any relay."""
        direct = [node for node, link in self.links.items() if link.via is None and node != peer]
        best = [node for node in self._where(peer).relays if node in direct]
        return best or [node for node in direct if self._may_relay(node)][:3]

    def _may_relay(self, node: NodeId) -> bool:
        return Role.RELAY in self.links[node].peer.roles

    def _on_forward(self, link: Link, message: Forward, now: float) -> None:
        target = self.links.get(message.to)
        if target is not None and target is not link:
            self._say(target, Forwarded(link.peer.node_id, message.body), now)

    def _on_forwarded(self, link: Link, message: Forwarded, now: float) -> None:
        inner = parse_control_untrusted(message.body)
        if not isinstance(inner, CallMe):
            raise WireError("only a request to dial back is forwarded")
        origin = message.origin
        if origin == self._node or not (self._is_member(origin) or link.calls.take(now)):
            return  # a member that makes up others has so many followed, no more
        known = self._about(origin)
        if not known.calls.take(now) or (known.link is not None and known.link.via is None):
            return
        self.counters["calls"] += 1
        for address in inner.addresses[:ADDRESSES_MAX]:
            if address not in known.queue:
                known.queue.append(address)
        known.next_dial_at = min(known.next_dial_at, now)
        known.trying_until = max(known.trying_until, now + ROUND_S)

    def _on_grant(self, link: Link, message: RelayGrant) -> None:
        peer = self._tickets.pop(message.ticket, None)
        relay, address = link.peer.node_id, self._address_of(link)
        if peer is None:
            self.errands.on_grant(address, message)
        else:
            self._about(peer).seen_at = message.host
            attempt = self._new_attempt(peer)
            again = self._is_doubted(peer)
            self._outputs.append(DialRelay(attempt, address, message.token, peer, relay, False, again))

    def _on_deny(self, link: Link, message: RelayDeny, now: float) -> None:
        peer = self._tickets.pop(message.ticket, None)
        if peer is None:
            self.errands.on_deny(message)
            return
        self._outputs.append(RelayRefused(link.peer.node_id, peer, message.reason))
        if (known := self._known.get(peer)) is not None and known.link is None:
            known.relay_at = now  # another one may

    def _on_offer(self, link: Link, message: RelayOffer, now: float) -> None:
        if message.origin == self._node or not link.peer.remote:
            return
        self._about(message.origin).seen_at = message.host
        attempt = self._new_attempt(message.origin)
        self._outputs.append(
            DialRelay(
                attempt, self._address_of(link), message.token, message.origin, link.peer.node_id, accept=True
            )
        )

    def _address_of(self, link: Link) -> str:
        """Where a linked node can be dialled: where it was, or where it says that it listens."""
        if link.peer.dialled:
            return link.peer.remote
        addresses = self._where(link.peer.node_id).addresses
        return addresses[0] if addresses else link.peer.remote

    # --- links

    def _is_better(self, old: Link, new: Link, now: float) -> bool:
        """Whether a new connection takes the place of a live one. Both ends come to the same answer."""
        if new.rank != old.rank:
            return new.rank > old.rank or old.doubted
        if now - old.up_at >= FRESH_S or new.peer.dialled == old.peer.dialled:
            return True
        # Dialled by both at once: the one of the smaller key stays.
        return new.peer.dialled == (self._node < new.peer.node_id)

    def _is_doubted(self, peer: NodeId | None) -> bool:
        link = self.links.get(peer) if peer is not None else None
        return link is not None and link.doubted

    def _seek_direct(self, link: Link) -> None:
        if link.peer.dialled:
            self._outputs.append(Relayed(link.peer.node_id))

    def _look(self, link: Link, now: float) -> None:
        peer = link.peer.node_id
        if link.pulse.dead(now):
            self._outputs.append(Close(link.connection, "silent"))
            self._lose(peer, "silent", now)
            return
        self._ping(link, now)
        if link.pulse.doubted(now) and not link.doubted:
            link.doubted = True
            self._begin(peer, self._about(peer), now)

    def _ping(self, link: Link, now: float, *, at_once: bool = False) -> None:
        nonce = link.pulse.ping_now(now) if at_once else link.pulse.ping_due(now)
        if nonce is not None:
            self._say(link, Ping(nonce), now, expects=False)

    def _say(self, link: Link, message: Control, now: float, *, expects: bool = True) -> None:
        if expects:
            link.pulse.sent(now)
        self._outputs.append(Frame(link.connection, encode(message)))

    def _on_bye(self, link: Link, reason: str, now: float) -> None:
        peer = link.peer.node_id
        known = self._about(peer)
        self._outputs.append(Close(link.connection, "the peer closed the link"))
        self._forget_link(peer, known)
        known.wanted = False
        self._stop(known)
        known.lost_because = reason
        self._tell_lost(peer, known)

    def _lose(self, peer: NodeId, reason: str, now: float) -> None:
        """A link broke: try at once to have it back, and say so only when that fails."""
        known = self._about(peer)
        self._forget_link(peer, known)
        known.lost_at, known.lost_because = now, reason
        if now >= known.trying_until:
            self._begin(peer, known, now)

    def _forget_link(self, peer: NodeId, known: Known) -> None:
        if known.link is not None:
            self._by_connection.pop(known.link.connection, None)
            self.links.pop(peer, None)
            known.link = None

    def _tell_lost(self, peer: NodeId, known: Known) -> None:
        known.lost_at = inf
        self.counters["links_lost"] += 1
        self._outputs.append(Down(peer, known.lost_because))
        if not known.wanted:
            self._stop(known)

    def _about(self, peer: NodeId) -> Known:
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= PEERS_MAX:
                self._forget_idle()
            known = self._known[peer] = Known()
        return known

    def _where(self, peer: NodeId) -> Whereabouts:
        return self._heard.get(peer, NOWHERE)

    def _forget_idle(self) -> None:
        for peer in [peer for peer, known in self._known.items() if known.idle]:
            del self._known[peer]
        if len(self._known) >= PEERS_MAX:
            raise StateError(f"{PEERS_MAX} peers are linked or wanted, who were never more than a few")
