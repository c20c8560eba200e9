"""Gossip, links and membership of one node as one sans-IO machine. Pure.

The shell carries out what `outputs` says: dial, send, close, keep the membership. Frames of one connection
have a kind: the connector's own, gossip's, or the membership's.
"""

from collections.abc import Callable, Sequence
from random import Random

from mesh.directory.facts import (
    KINDS,
    CarriedStreams,
    Doors,
    F,
    Fact,
    Load,
    Place,
    Reports,
    Transcode,
    Where,
    Who,
    is_worth_telling,
    parse_fact_untrusted,
    payload,
)
from mesh.directory.gossip import Appeal, Changed, Gone, Gossip
from mesh.directory.gossip import Output as GossipOutput
from mesh.directory.record import Kind, Record
from mesh.discovery.candidates import dial_order, is_lan
from mesh.errors import Unavailable, WireError
from mesh.identity.key import verify
from mesh.identity.membership import Membership
from mesh.identity.notices import Notices
from mesh.identity.spread import Displaced, Noticed, Renewed, Revoked, Shown, Spread, Tell
from mesh.identity.spread import Output as SpreadOutput
from mesh.link.connector import CONTROL_FRAME, Connector
from mesh.link.control import Traversal
from mesh.link.model import TCP, Peer
from mesh.link.relay.book import Granted, RelayBook
from mesh.link.steps import (
    Called,
    Down,
    Probe,
    Reached,
    Relay,
    RelayRefused,
    Up,
)
from mesh.link.steps import Frame as ControlFrame
from mesh.link.steps import Output as ConnectorOutput
from mesh.membership.outbox import Connect, Release, Send
from mesh.model import NodeId, Role, Signer, short
from mesh.nat.facts import NatFacts
from mesh.node.presence import REACHABLE, UNREACHABLE, Presence
from mesh.node.roll import Roll
from mesh.node.standby import choose_standby
from mesh.node.steps import Keep, MeshSettings, News, Note, Output, Transmit
from mesh.node.ways import CallBack, Over, Way, stream_ways

GOSSIP_FRAME = 2
SPREAD_FRAME = 3
STANDBY_S = 5.0  # between looks whether standby relays are needed and alive
MAPPED_ASKS = 4  # looks, STANDBY_S apart, in which peers are asked to try an address that a router opened
FOUND_MAX = 256  # on a LAN; for half a minute each
FOUND_S = 30.0
RETRY_S = 1.0


class MeshCore:
    """One node of one network. Times are monotonic seconds and, as `unix_s`, those of the wall clock."""

    def __init__(
        self,
        key: Signer,
        membership: Membership,
        owner: Signer | None,
        settings: MeshSettings,
        *,
        random: Random,
        entropy: Callable[[int], bytes],
        generation: int,
        now: float,
        unix_s: float,
        notices: Notices | None = None,
    ) -> None:
        """`owner` is the network's key when this node holds it; `notices` are those that it kept."""
        inviter = Role.INVITER in membership.own_roles
        self.node = key.node_id
        self.membership = membership
        self.settings = settings
        self.gossip = Gossip(key, membership.network, verify, random, generation, now)
        self.connector = Connector(
            self.node, random, entropy, lambda: self.candidates, lambda node: node in self.gossip.directory
        )
        self.notices = Notices(membership) if notices is None else notices
        self.spread = Spread(membership, owner or (key if inviter else None), random, now, self.notices)
        self.book = RelayBook(settings.relay, entropy, now)
        self.presence = Presence(settings.port, settings.announce)
        self.place: Place | None = None
        self.roll = Roll(self.node, membership, unix_s)
        self._found: set[NodeId] = set()  # by discovery, before anybody vouched for them
        self._found_until = now + FOUND_S
        self._standby: list[NodeId] = []
        self._standby_at = now
        self._mapped_asks = 0
        self._where: Where | None = None
        self._load: Load | None = None
        self._streams: CarriedStreams | None = None
        self._left = False
        self._version = membership.version
        self._outputs: list[Output] = []
        self._publish_who(now)

    # --- what this node says of itself

    def set_addresses(self, hosts: Sequence[str], now: float) -> None:
        """Numeric addresses of this host; a change makes every link prove itself."""
        if self.presence.move(hosts):
            self.connector.address_changed(now)
        self._publish_where(now)
        self._settle(now)

    def set_udp(self, facts: NatFacts, now: float) -> None:
        """What the node found out about UDP and its NAT."""
        self.presence.udp = facts
        self._publish_where(now)
        self._settle(now)

    def set_mapped(self, address: str, now: float) -> None:
        """The router leads this address to the mesh port, or "" none any more."""
        lost = bool(self.presence.mapped) and not address
        self.presence.mapped = address
        self._mapped_asks = MAPPED_ASKS if address else 0
        if lost and self.nat == REACHABLE:
            self._reachable("", now)
            for link in list(self.connector.links.values()):
                if link.peer.dialled and link.via is None and link.carrier == TCP:
                    self._on_observed(link.peer, now)
        self._publish_where(now)
        self._standby_at = now
        self._settle(now)

    def set_load(self, load: Load, now: float) -> None:
        """How busy the node is; told only when that changed enough."""
        if is_worth_telling(self._load, load):
            self._load = load
            self._publish(load, now)
            self._settle(now)

    def set_streams(self, streams: CarriedStreams, now: float) -> None:
        """What the node carries."""
        if streams != self._streams:
            self._streams = streams
            self._publish(streams, now)
            self._settle(now)

    def set_place(self, place: Place | None, now: float) -> None:
        """Where the node is."""
        if place != self.place:
            self.place = place
            if place is not None:
                self._publish(place, now)
            self._settle(now)

    def tell_all(self, fact: Reports | Transcode | Doors, now: float) -> None:
        """What changes seldom; whoever says it knows that it changed."""
        self._publish(fact, now)
        self._settle(now)

    def membership_changed(self, now: float, unix_s: float) -> None:
        """This node itself revoked somebody, was renewed, or says something else in its notices."""
        self.spread.announce(now)
        self._settle(now, unix_s)

    def leave(self, now: float) -> None:
        """Say goodbye to everybody."""
        self._left = True
        self.gossip.leave(now)
        self._settle(now)

    # --- connections

    def found(self, peer: NodeId, address: str, now: float) -> None:
        """Discovery heard of a member at an address."""
        if peer == self.node or peer in self.connector.links:
            return
        if self.gossip.directory.record(peer, Kind.WHERE) is None:
            if peer not in self._found and len(self._found) >= FOUND_MAX:
                return  # anybody on the LAN can announce nodes that do not exist
            self._found.add(peer)
            self.connector.learn(peer, [address], ())
            if not self.gossip.directory.is_forbidden(peer):
                self.connector.want(peer, now)
        self._settle(now)

    def try_address(self, address: str, now: float) -> int:
        """Dial whoever is at an address; returns the attempt."""
        attempt = self.connector.try_address(address, now)
        self._settle(now)
        return attempt

    def connected(
        self,
        connection: int,
        peer: Peer,
        now: float,
        unix_s: float,
        *,
        via: NodeId | None = None,
        carrier: str = TCP,
        again: bool = False,
    ) -> bool:
        """A control connection was made; False when it is not needed."""
        if peer.node_id == self.node:
            return False
        self.roll.see(peer.node_id, peer.name, unix_s)
        if peer.node_id not in self.roll.liars:
            self.gossip.directory.allow(peer.node_id)  # its membership was checked a moment ago
        taken = self.connector.connected(connection, peer, now, via=via, carrier=carrier, again=again)
        if taken and peer.observed and carrier == TCP:
            self._on_observed(peer, now)
        if taken and peer.clock:
            self._note("clock", node=peer.name, what=peer.clock)
        self._settle(now, unix_s)
        return taken

    def dialled(self, attempt: int) -> None:
        """An attempt succeeded."""
        self.connector.dialled(attempt)

    def dial_failed(self, attempt: int, now: float) -> None:
        """An attempt did not."""
        self.connector.dial_failed(attempt, now)
        self._settle(now)

    def closed(self, connection: int, reason: str, now: float) -> None:
        """A connection ended by itself."""
        self.connector.closed(connection, reason, now)
        self._settle(now)

    def tried(self, probe: Probe, ok: bool, reason: str, now: float) -> None:
        """What became of a probe for a peer."""
        self.connector.errands.tried(probe, ok, reason, now)
        self._settle(now)

    def receive(self, connection: int, kind: int, data: bytes, now: float, unix_s: float) -> None:
        """One frame. Raises RemoteError: close the connection."""
        peer = self.connector.heard(connection, now)
        if peer is None:
            return
        try:
            if kind == CONTROL_FRAME:
                self.connector.receive(connection, data, now)
            elif kind == GOSSIP_FRAME:
                self.gossip.receive(peer, data, now)
            elif kind == SPREAD_FRAME:
                self.spread.receive(peer, data, now, unix_s)
            else:
                raise WireError(f"frames of kind {kind} are not known")
        finally:
            self._settle(now, unix_s)

    # --- time

    def deadline(self, now: float) -> float:
        """When `on_deadline` is next due."""
        times = [
            self.gossip.deadline(),
            self.connector.deadline(now),
            self.spread.deadline(),
            self._standby_at,
        ]
        return min(at for at in times if at is not None)

    def on_deadline(self, now: float, unix_s: float) -> None:
        """Do what is due. Harmless when early."""
        due = self.gossip.deadline()
        self.roll.unix_s = unix_s
        if due is not None and now >= due:
            self.gossip.on_deadline(now)
        self.connector.on_deadline(now)
        if now >= self.spread.deadline():
            self.spread.on_deadline(now, unix_s)
        if now >= self._standby_at:
            self._standby_at = now + STANDBY_S
            if now >= self._found_until:
                self._found.clear()
                self._found_until = now + FOUND_S
            self._keep_standby(now)
            if self._mapped_asks:
                self._ask_mapped(now)
        self._settle(now, unix_s)

    def outputs(self) -> list[Output]:
        """What to do now, in order; empties the list."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- UDP paths

    def tell(self, peer: NodeId, message: Traversal, now: float) -> None:
        """Say something about finding a UDP path to a linked peer."""
        self.connector.errands.tell(peer, message, now)
        self._settle(now)

    # --- bulk streams

    def link_for_stream(self, peer: NodeId, now: float) -> bool:
        """Whether there is a link to a member; if not, one is being made. Raises Unavailable."""
        if peer in self.connector.links:
            return True
        if peer == self.node or self.gossip.directory.is_forbidden(peer):
            raise Unavailable(f"no stream to {self.name_of(peer)}: it is no other member", RETRY_S)
        self.connector.want(peer, now)
        self._settle(now)
        return False

    def suspect(self, peer: NodeId, now: float) -> None:
        """Something is silent on the way to a peer: it has as long to answer as after a message."""
        if (link := self.connector.links.get(peer)) is not None:
            link.pulse.sent(now)

    def stream_ways(self, peer: NodeId) -> list[Way]:
        """How to open a stream to a linked peer, the best first."""
        return stream_ways(self.connector, peer)

    def ask_stream(
        self, peer: NodeId, way: CallBack | Over, ticket: bytes, service: str, argument: bytes, now: float
    ) -> None:
        """Ask for one; `Spliced`, `NotOpened` or a connection with the ticket comes of it."""
        if isinstance(way, Over):
            self.connector.errands.ask_splice(peer, way.relay, ticket, now)
        else:
            self.connector.errands.call_stream(peer, ticket, service, argument, now)
        self._settle(now)

    def not_called(self, call: Called, reason: str, now: float) -> None:
        """This node could not dial whoever asked for a stream."""
        self.connector.errands.not_called(call, reason, now)
        self._settle(now)

    # --- between the machines

    def _settle(self, now: float, unix_s: float | None = None) -> None:
        """Hand every machine's outputs to who they are for, until there are none."""
        moving = True
        while moving:
            moving = False
            for gossiped in self.gossip.outputs():
                moving = True
                self._from_gossip(gossiped, now, unix_s)
            for told in self.spread.outputs():
                moving = True
                self._from_spread(told, now)
            for linked in self.connector.outputs():
                moving = True
                self._from_connector(linked, now)
        if unix_s is not None and self.membership.version != self._version:
            self._version = self.membership.version
            self.notices.forget_ended(unix_s)
            self._outputs += (Keep(), News())
            self._check_everybody(now, unix_s)
            self._settle(now, unix_s)

    def _from_gossip(self, output: GossipOutput, now: float, unix_s: float | None) -> None:
        match output:
            case Send():
                self._transmit(output.peer, GOSSIP_FRAME, output.data, now)
            case Connect():
                self.connector.want(output.peer, now)
            case Release():
                link = self.connector.links.get(output.peer)
                if output.fault or not ((link and link.held) or output.peer in self._standby):
                    self.connector.unwant(output.peer, output.reason, now)
            case Changed():
                self._on_record(output.record, now, unix_s)
            case Appeal():
                self._on_appeal(output.record, unix_s)
            case Gone():
                self._note("peer gone", node=self.name_of(output.node), reason=output.reason)
                self.roll.forget(output.node)
                self.connector.unwant(output.node, output.reason, now)

    def _from_spread(self, output: SpreadOutput, now: float) -> None:
        match output:
            case Tell():
                self._transmit(output.peer, SPREAD_FRAME, output.data, now)
            case Renewed():
                self._publish_who(now)
                self._outputs.append(Keep())
                self._note("membership renewed")
            case Shown():
                self.connector.show(output.peer, output.chain)
            case Noticed():
                self._outputs.append(News())
            case Revoked() | Displaced():
                pass  # the membership's version says so, too

    def _from_connector(self, output: ConnectorOutput, now: float) -> None:
        match output:
            case ControlFrame():
                self._outputs.append(Transmit(output.connection, CONTROL_FRAME, output.data))
            case Up():
                link = self.connector.links[output.peer]
                self._note("peer linked", node=link.peer.name, address=link.peer.remote)
                self.gossip.link_up(output.peer, now)
                self.spread.link_up(output.peer, link.peer.chain, now)
            case Down():
                self._note("peer unlinked", node=self.name_of(output.peer), reason=output.reason)
                self.gossip.link_down(output.peer, now)
                self.spread.link_down(output.peer, now)
            case Relay():
                self._on_relay(output, now)
            case Reached():
                self._on_reached(output, now)
            case RelayRefused():
                facts = {"relay": self.name_of(output.relay), "reason": output.reason}
                self._note("relay refused", node=self.name_of(output.peer), **facts)
            case _:
                self._outputs.append(output)

    def _transmit(self, peer: NodeId, kind: int, data: bytes, now: float) -> None:
        connection = self.connector.sent(peer, now)
        if connection is not None:
            self._outputs.append(Transmit(connection, kind, data))

    def _on_relay(self, ask: Relay, now: float) -> None:
        errands = self.connector.errands
        answer = self._splice(ask, now)
        if isinstance(answer, Granted):
            errands.granted(ask, answer.origin_token, answer.target_token, now)
            return
        errands.denied(ask, answer, now)
        between = f"{self.name_of(ask.origin)} and {self.name_of(ask.target)}"
        self._note("relay denied", between=between, reason=answer)

    def _splice(self, ask: Relay, now: float) -> Granted | str:
        """What the book says, or why it is not even asked."""
        if Role.RELAY not in self.roles:
            return "this node does not relay"
        if ask.target not in self.connector.links:
            return "this relay has no link to that node"
        answer = self.book.ask(ask.origin, ask.target, now)
        return answer if isinstance(answer, Granted) else answer.reason

    # --- what others say

    def _on_record(self, record: Record, now: float, unix_s: float | None) -> None:
        owner = record.owner
        if owner == self.node or not record.payload:
            return
        try:
            if record.kind == Kind.WHO:
                self._on_who(owner, parse_fact_untrusted(Who, record.payload), now, unix_s)
            elif record.kind == Kind.WHERE:
                where = parse_fact_untrusted(Where, record.payload)
                self.connector.learn(owner, dial_order(where.candidates, self.presence.hosts), where.relays)
        except WireError as error:
            self._note("record not understood", node=short(owner), reason=str(error))

    def _on_who(self, owner: NodeId, who: Who, now: float, unix_s: float | None) -> None:
        if unix_s is None:
            return
        reason = self.roll.reason_against(owner, who.claim, unix_s, who)
        if reason:
            link = self.connector.links.get(owner)
            if link and not self.roll.reason_against(owner, link.peer.chain, unix_s):
                self.roll.lied(owner)
            self._expel(owner, reason, now)
        else:
            self.roll.see(owner, who.name, unix_s)

    def _on_appeal(self, record: Record, unix_s: float | None) -> None:
        """One that was expelled may have a new claim; what it publishes is fetched from neighbours then."""
        if unix_s is None or record.owner == self.node:
            return
        try:
            who = parse_fact_untrusted(Who, record.payload)
        except WireError:
            return
        if not self.roll.reason_against(record.owner, who.claim, unix_s, who):
            self.roll.liars.discard(record.owner)
            self.gossip.directory.allow(record.owner)

    def _expel(self, node: NodeId, reason: str, now: float) -> None:
        self._note("not a member", node=self.name_of(node), reason=reason)
        self.gossip.forbid(node, now)
        self.connector.unwant(node, reason, now)
        self.book.forget(node)

    def _check_everybody(self, now: float, unix_s: float) -> None:
        """Somebody may be a member no longer."""
        for peer, link in list(self.connector.links.items()):
            if reason := self.roll.reason_against(peer, link.peer.chain, unix_s):
                self._expel(peer, reason, now)
        for node in self.gossip.directory.members():
            who = self.fact(node, Who)
            if node == self.node or who is None:
                continue
            if reason := self.roll.reason_against(node, who.claim, unix_s):
                self._expel(node, reason, now)

    # --- being reached

    def _on_observed(self, peer: Peer, now: float) -> None:
        before = self.nat
        if ask := self.presence.observe(peer):
            self.connector.errands.ask_reachable(peer.node_id, ask, now)
        if self.nat != before:
            self._standby_at = now
        self._publish_where(now)

    def _ask_mapped(self, now: float) -> None:
        """Have linked peers try what the router opened: some were asked to try another address just now."""
        self._mapped_asks -= 1
        for peer, link in list(self.connector.links.items()):
            if self.nat != REACHABLE and link.via is None and not is_lan(link.peer.remote):
                self.connector.errands.ask_reachable(peer, self.presence.mapped, now)

    def _on_reached(self, output: Reached, now: float) -> None:
        if output.ok:
            self._reachable(REACHABLE, now)
        elif self.nat != REACHABLE:
            self._reachable(UNREACHABLE, now)

    def _reachable(self, nat: str, now: float) -> None:
        if nat != self.nat:
            self.presence.nat = nat
            self._publish_where(now)
            self._standby_at = now

    def _keep_standby(self, now: float) -> None:
        """A node that nobody can dial has relays hold a link to it, and says which."""
        relays = filter(self._is_relay, self.gossip.directory.members()) if self.nat == UNREACHABLE else ()
        connector = self.connector
        wanted = choose_standby(
            self._standby, relays, connector.links, lambda node: connector.want(node, now)
        )
        for node in wanted:
            if node not in self._standby:
                connector.hold(node, True, now)
        if wanted != self._standby:
            self._standby = wanted
            self._publish_where(now)

    def _is_relay(self, node: NodeId) -> bool:
        if node == self.node:
            return False
        who, where = self.fact(node, Who), self.fact(node, Where)
        return bool(who and where and Role.RELAY in who.roles and where.nat == REACHABLE)

    # --- publishing

    @property
    def candidates(self) -> list[str]:
        """Where others may dial this node, the best first."""
        return self.presence.candidates

    @property
    def nat(self) -> str:
        """Whether others can connect over TCP: REACHABLE, UNREACHABLE, or "" when that is not known."""
        return self.presence.nat

    @property
    def roles(self) -> frozenset[Role]:
        """What this node may do."""
        return self.membership.own_roles

    def fact(self, node: NodeId, shape: type[F]) -> F | None:
        """What a node says of itself, when it can be understood."""
        record = self.gossip.directory.record(node, KINDS[shape])
        if record is None or not record.payload:
            return None
        try:
            return parse_fact_untrusted(shape, record.payload)
        except WireError:
            return None

    def name_of(self, node: NodeId) -> str:
        """A node's name, or the first characters of its key."""
        return self.roll.names.get(node) or short(node)

    def _publish_who(self, now: float) -> None:
        own = self.membership.own
        roles = sorted(self.roles)
        self._publish(Who(own.claim.name, self.settings.program, roles, own.data), now)

    def _publish_where(self, now: float) -> None:
        where = self.presence.where(self._standby)
        if where != self._where:
            self._where = where
            self._publish(where, now)

    def _publish(self, fact: Fact, now: float) -> None:
        if not self._left:
            self.gossip.publish(KINDS[type(fact)], payload(fact), now)

    def _note(self, event: str, **facts: str) -> None:
        self._outputs.append(Note(event, facts))
