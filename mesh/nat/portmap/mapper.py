"""Keeps one port of this host mapped on one router: PCP, else NAT-PMP, else UPnP IGD. Pure."""

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeAlias

from mesh.errors import WireError
from mesh.nat.portmap.exchange import Exchange, Key, RouterClock
from mesh.nat.portmap.model import (
    LEASE_S,
    TRANSPORTS,
    Alive,
    Answer,
    ExternalHost,
    Mapped,
    PortMapping,
    Refusal,
    Removed,
    Transport,
    UpnpGrant,
    bounded_lease,
    is_public,
)
from mesh.nat.portmap.natpmp import NatPmp
from mesh.nat.portmap.pcp import Pcp

WATCH_S = 60.0  # between looks whether the router was restarted: 24 bytes, and a restart costs a minute
RETRY_FIRST_S = (
    30.0  # after all said no, doubled each time: after a power cut the router is the last to be up
)
RETRY_S = 300.0  # and at most: somebody may have changed a setting
FAILURES_MAX = 10  # counted; RETRY_S is reached long before
RETRY_MIN_S, RETRY_MAX_S = 30.0, 1800.0  # RFC 6887 11.5 for the router's own wish, within reason
ASK_GAP_S = 5.0  # between two times of mapping anew: an epoch that jumps about must not make a flood
RENEW_GAP_S = 15.0  # before an unanswered renewal is tried again
MOVES_MAX = 2  # tries to have TCP and UDP on the same port; each takes a few milliseconds


@dataclass(frozen=True, slots=True)
class Send:
    """A datagram to the router's port 5351."""

    data: bytes


@dataclass(frozen=True, slots=True)
class UpnpMap:
    """Ask by UPnP for that external port, TCP and UDP; then `upnp_mapped` or `upnp_failed`."""

    port: int


@dataclass(frozen=True, slots=True)
class UpnpLook:
    """See by UPnP whether the mappings are still there; then `upnp_seen`."""


@dataclass(frozen=True, slots=True)
class UpnpRemove:
    """Remove them; then `upnp_removed`."""


@dataclass(frozen=True, slots=True)
class Changed:
    """There is a mapping, another one, or none any more."""

    mapping: PortMapping | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A sentence for people. Not said again while it stays true."""

    text: str


Output: TypeAlias = Send | UpnpMap | UpnpLook | UpnpRemove | Changed | Trouble


class _Phase(Enum):
    ASKING = auto()
    UPNP = auto()
    MAPPED = auto()
    FAILED = auto()
    STOPPING = auto()
    STOPPED = auto()


class _Purpose(Enum):
    MAP = auto()
    MAKE_ROOM = auto()
    RENEW = auto()
    LOOK = auto()
    STOP = auto()


@dataclass(frozen=True, slots=True)
class _Grant:
    port: int
    lease_s: float
    until: float


class Mapper:
    """One router, one port. What the network and the UPnP client say goes in, `outputs` come out."""

    def __init__(
        self,
        *,
        port: int,
        own: str,
        gateway: str,
        nonce: bytes,
        now: float,
        lease_s: int = LEASE_S,
        watch_s: float = WATCH_S,
    ) -> None:
        """`own`: this host's IPv4 address towards the gateway. `nonce`: NONCE_BYTES that only it knows.

        With the nonce of its last life a node that was killed gets the same mapping again from PCP.
        """
        self._port, self._own, self._gateway = port, own, gateway
        self._lease_s, self._watch_s = lease_s, watch_s
        self._pcp, self._nat_pmp = Pcp(own, port, nonce), NatPmp(port)
        self._speaks: Pcp | NatPmp | None = self._pcp
        self._phase = _Phase.ASKING
        self._purpose = _Purpose.MAP
        self._exchange = Exchange()
        self._clock = RouterClock()
        self._grants: dict[Transport, _Grant] = {}
        self._host = ""
        self._refused: dict[Transport, str] = {}
        self._retry_after_s = 0.0
        self._reasons: dict[str, str] = {}
        self._moves = 0
        self._moving = Transport.UDP
        self._wish = port  # the external port
        self._upnp_said = ""
        self._upnp_busy = False
        self._mapping: PortMapping | None = None
        self._asked_at = self._spoke_at = self._renew_at = self._look_at = self._until = self._again_at = now
        self._trouble, self._failures = "", 0
        self._outputs: list[Output] = []
        self.ignored = 0  # datagrams that were not ours to read
        self.remapped = 0  # times that the router had forgotten
        self._start_over(now)

    # What comes in

    def receive(self, data: bytes, now: float) -> None:
        """A datagram from the router's port 5351."""
        if self._speaks is None or self._phase is _Phase.STOPPED:
            return
        try:
            answer = self._speaks.parse_untrusted(data)
        except WireError:
            self._receive_other(data, now)
            return
        restarted = answer.epoch_s is not None and self._clock.restarted(answer.epoch_s, now)
        if not (restarted and self._phase is _Phase.MAPPED and self._map_again(now)):
            self._take(answer, now)

    def announced(self, now: float) -> None:
        """The router told everybody that it begins anew. Anybody can say so: it is asked."""
        self._look_at = min(self._look_at, max(now, self._spoke_at + ASK_GAP_S))
        self._again_at = min(self._again_at, max(now, self._spoke_at + RETRY_FIRST_S))

    def unreachable(self, now: float) -> None:
        """The router said by ICMP that nothing listens on its port 5351."""
        if self._exchange.pending:
            self._exchange.end()
            self._settle(now, "it has that switched off")

    def upnp_mapped(self, grant: UpnpGrant, now: float) -> None:
        """Done."""
        self._upnp_busy = False
        if self._phase in (_Phase.STOPPING, _Phase.STOPPED):
            return
        self._host, self._upnp_said = grant.external_host, grant.said
        self._refused = {}  # was in PCP or NAT-PMP
        lease_s = bounded_lease(grant.lease_s) if grant.lease_s else 0.0
        until = now + lease_s if lease_s else float("inf")
        there = {Transport.TCP: grant.tcp, Transport.UDP: grant.udp}
        self._grants = {key: _Grant(grant.external_port, lease_s, until) for key in there if there[key]}
        self._have(now)

    def upnp_failed(self, reason: str, now: float) -> None:
        """Not this time."""
        self._upnp_busy = False
        if self._phase is _Phase.MAPPED:
            self._renew_later(now)
        elif self._phase is _Phase.UPNP:
            self._reasons["UPnP"] = reason
            self._fail(now)

    def upnp_seen(self, there: bool, now: float) -> None:
        """Whether the mappings still exist."""
        self._upnp_busy = False
        self._look_at = now + self._watch_s
        if not there and self._phase is _Phase.MAPPED:
            self.remapped += 1
            self._until = now
            self._ask_upnp(now)

    def upnp_removed(self) -> None:
        """As far as it can be had."""
        self._upnp_busy = False
        if self._phase is _Phase.STOPPING:
            self._phase = _Phase.STOPPED

    def stop(self, now: float) -> None:
        """Remove what was asked for. Done when `stopped`."""
        if self._phase in (_Phase.STOPPING, _Phase.STOPPED):
            return
        asked = self._phase in (_Phase.ASKING, _Phase.MAPPED)
        by_upnp = self._speaks is None and self._phase in (_Phase.UPNP, _Phase.MAPPED)
        self._phase = _Phase.STOPPING if asked or by_upnp else _Phase.STOPPED
        self._exchange.end()
        if by_upnp:
            self._outputs.append(UpnpRemove())
        elif asked and self._speaks is not None:
            speaks = self._speaks
            self._begin(_Purpose.STOP, {("remove", key): speaks.remove(key) for key in TRANSPORTS}, now)

    @property
    def stopped(self) -> bool:
        """Whether there is nothing left to remove or to wait for."""
        return self._phase is _Phase.STOPPED

    @property
    def mapping(self) -> PortMapping | None:
        """What there is now."""
        return self._mapping

    def outputs(self) -> list[Output]:
        """What to do, in this order. Each is given once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # Time

    def deadline(self) -> float | None:
        """When to call `on_deadline`; None while only the UPnP client is waited for."""
        if (due := self._exchange.deadline()) is not None:
            return due
        if self._phase is _Phase.FAILED:
            return self._again_at
        if self._phase is _Phase.MAPPED and not self._upnp_busy:
            return min(self._renew_at, self._look_at, self._until)
        return None

    def on_deadline(self, now: float) -> None:
        """It is time."""
        due = self._exchange.deadline()
        if due is not None:
            if now >= due:
                self._repeat(now)
        elif self._phase is _Phase.FAILED:
            if now >= self._again_at:
                self._start_over(now)
        elif self._phase is _Phase.MAPPED and not self._upnp_busy:
            self._upkeep(now)

    def _repeat(self, now: float) -> None:
        again = self._exchange.on_deadline(now)
        if again is None:
            self._settle(now, "no answer")
        else:
            self._outputs += map(Send, again)

    def _upkeep(self, now: float) -> None:
        if now >= self._until:
            self._drop()
            self._start_over(now)
        elif now >= self._renew_at:
            if self._speaks is None:
                self._ask_upnp(now)
            else:
                self._begin(_Purpose.RENEW, self._map_requests(*self._grants), now)
        elif now >= self._look_at:
            self._look_at = now + self._watch_s
            if self._speaks is None:
                self._upnp_busy = True
                self._spoke_at = now
                self._outputs.append(UpnpLook())
            else:
                self._begin(_Purpose.LOOK, {("look", None): self._speaks.look()}, now)

    # PCP and NAT-PMP

    def _start_over(self, now: float) -> None:
        self._reasons = {}
        self._retry_after_s = 0.0
        self._ask(self._pcp, now)

    def _map_again(self, now: float) -> bool:
        """The router has forgotten. Whether all is asked for now; if not, it is soon."""
        if now < self._asked_at + ASK_GAP_S:
            self._renew_at = min(self._renew_at, self._asked_at + ASK_GAP_S)
            return False
        self.remapped += 1
        assert self._speaks is not None
        self._ask(self._speaks, now)
        return True

    def _ask(self, speaks: Pcp | NatPmp, now: float) -> None:
        if speaks is not self._speaks:
            self._clock = RouterClock()
        self._speaks = speaks
        self._phase = _Phase.ASKING
        self._asked_at = now
        self._grants, self._refused, self._moves = {}, {}, 0
        requests = self._map_requests(*TRANSPORTS)
        if speaks is self._nat_pmp:
            requests[("look", None)] = speaks.look()
        # A router that throws PCP away may know its predecessor.
        beside = (self._nat_pmp.look(),) if speaks is self._pcp else ()
        self._begin(_Purpose.MAP, requests, now, beside)

    def _map_requests(self, *transports: Transport) -> dict[Key, bytes]:
        assert self._speaks is not None
        host = self._host if is_public(self._host) else ""
        return {("map", key): self._speaks.map(key, self._lease_s, self._wish, host) for key in transports}

    def _begin(
        self, purpose: _Purpose, requests: dict[Key, bytes], now: float, beside: tuple[bytes, ...] = ()
    ) -> None:
        self._purpose = purpose
        self._spoke_at = now
        self._outputs += map(Send, self._exchange.begin(requests, now, beside))

    def _receive_other(self, data: bytes, now: float) -> None:
        """No answer in PCP. One in NAT-PMP before any in PCP: that is what the router speaks."""
        self.ignored += 1
        if self._speaks is not self._pcp or self._phase is not _Phase.ASKING or self._grants:
            return
        try:
            found = self._nat_pmp.parse_untrusted(data).content
        except WireError:
            return
        if isinstance(found, ExternalHost):
            self._reasons["PCP"] = "no answer"
            self._ask(self._nat_pmp, now)

    def _take(self, answer: Answer, now: float) -> None:
        waited = bool(self._exchange.pending)
        match answer.content:
            case Mapped() as mapped:
                self._take_mapped(mapped, now)
            case Removed(transport):
                self._exchange.answered(("remove", transport))
            case ExternalHost(host):
                changed, self._host = host != self._host, host
                self._exchange.answered(("look", None))
                if changed and self._phase is _Phase.MAPPED:
                    self._publish()
            case Alive():
                self._exchange.answered(("look", None))
            case Refusal() as refusal:
                if self._is_other_version(refusal, now):
                    return
                self._take_refusal(refusal)
        if waited and not self._exchange.pending:
            self._settle(now, "no answer")

    def _take_mapped(self, mapped: Mapped, now: float) -> None:
        if not self._exchange.answered(("map", mapped.transport)):
            return
        lease_s = bounded_lease(mapped.lease_s)
        self._grants[mapped.transport] = _Grant(mapped.external_port, lease_s, now + lease_s)
        self._refused.pop(mapped.transport, None)
        self._host = mapped.external_host or self._host

    def _is_other_version(self, refusal: Refusal, now: float) -> bool:
        if refusal.version and self._speaks is self._pcp and self._phase is _Phase.ASKING:
            self._reasons["PCP"] = refusal.reason
            self._ask(self._nat_pmp, now)
            return True
        return refusal.version  # a late answer to PCP, which looks like one to NAT-PMP

    def _take_refusal(self, refusal: Refusal) -> None:
        if refusal.look:
            self._exchange.answered(("look", None))
            return
        self._retry_after_s = max(self._retry_after_s, refusal.retry_after_s)
        for transport in TRANSPORTS if refusal.transport is None else (refusal.transport,):
            if self._exchange.answered(("map", transport)):
                self._refused[transport] = refusal.reason
                self._grants.pop(transport, None)
            self._exchange.answered(("remove", transport))

    def _settle(self, now: float, silence: str) -> None:
        """All requests were answered, or given up: that is what `silence` says."""
        match self._purpose:
            case _Purpose.MAP | _Purpose.RENEW if not self._grants:
                self._try_next(now, next(iter(self._refused.values()), silence))
            case _Purpose.MAP:
                self._settle_ports(now)
            case _Purpose.RENEW:
                self._settle_renewal(now)
            case _Purpose.MAKE_ROOM:
                self._begin(_Purpose.MAP, self._map_requests(self._moving), now)
            case _Purpose.STOP:
                self._phase = _Phase.STOPPED
            case _Purpose.LOOK:
                pass

    def _settle_renewal(self, now: float) -> None:
        if min(grant.until for grant in self._grants.values()) > self._until:
            self._have(now)
        else:
            self._renew_later(now)

    def _renew_later(self, now: float) -> None:
        self._renew_at = now + max(RENEW_GAP_S, (self._until - now) / 2)

    def _settle_ports(self, now: float) -> None:
        """TCP and UDP on one port, if the router lets them."""
        ports = {key: grant.port for key, grant in self._grants.items()}
        if len(set(ports.values())) < 2:
            self._have(now)
            return
        assert self._speaks is not None
        self._moving, stays = TRANSPORTS[:: -1 if self._moves % 2 == 0 else 1]
        if self._moves == MOVES_MAX:
            del self._grants[Transport.UDP]  # a TCP port is of more use
            self._outputs.append(Send(self._speaks.remove(Transport.UDP)))
            self._have(now)
            return
        self._moves += 1
        self._wish = ports[stays]
        del self._grants[self._moving]
        remove: dict[Key, bytes] = {("remove", self._moving): self._speaks.remove(self._moving)}
        self._begin(_Purpose.MAKE_ROOM, remove, now)

    # UPnP, and the end of every try

    def _try_next(self, now: float, reason: str) -> None:
        assert self._speaks is not None
        silent = not self._refused
        if self._phase is _Phase.MAPPED:
            self._start_over(now)  # it said no to a renewal: perhaps it says yes to something else
            return
        self._reasons["PCP" if self._speaks is self._pcp else "NAT-PMP"] = reason
        if self._speaks is self._pcp and not silent:
            self._ask(self._nat_pmp, now)
            return
        if self._speaks is self._pcp:
            self._reasons["NAT-PMP"] = reason
        self._phase = _Phase.UPNP
        self._speaks = None
        self._ask_upnp(now)

    def _ask_upnp(self, now: float) -> None:
        self._asked_at = self._spoke_at = now
        self._upnp_busy = True
        self._outputs.append(UpnpMap(self._wish))

    def _have(self, now: float) -> None:
        self._phase = _Phase.MAPPED
        grants = self._grants.values()
        lease_s = min(grant.lease_s for grant in grants)
        self._until = min(grant.until for grant in grants)
        self._renew_at = now + lease_s / 2 if lease_s else float("inf")
        self._look_at = now + self._watch_s
        self._wish = next(iter(grants)).port
        self._trouble, self._failures = "", 0
        self._publish()

    def _publish(self) -> None:
        protocol = "upnp" if self._speaks is None else self._speaks.name
        host = self._host or "0.0.0.0"
        mapping = PortMapping(
            protocol=protocol,
            external=f"{host}:{self._wish}",
            tcp=Transport.TCP in self._grants,
            udp=Transport.UDP in self._grants,
            lease_s=min(grant.lease_s for grant in self._grants.values()),
            gateway=self._gateway,
            said=self._said(host),
        )
        before, self._mapping = self._mapping, mapping
        if before is None or replace(before, lease_s=mapping.lease_s) != mapping:
            self._outputs.append(Changed(mapping))

    def _said(self, host: str) -> str:
        name = {"pcp": "PCP", "nat-pmp": "NAT-PMP"}[self._speaks.name] if self._speaks else "UPnP"
        there = " and ".join(key.name for key in TRANSPORTS if key in self._grants)
        text = f"the router {self._gateway} maps {there} port {self._wish} of {host} by {name}"
        for transport, reason in self._refused.items():
            text += f"; {transport.name}: {reason}"
        if self._upnp_said and self._speaks is None:
            text += f"; {self._upnp_said}"
        if not is_public(host):
            text += ", an address that the Internet does not reach: there is another router before it"
        return text

    def _drop(self) -> None:
        self._grants = {}
        if self._mapping is not None:
            self._mapping = None
            self._outputs.append(Changed(None))

    def _fail(self, now: float) -> None:
        self._phase = _Phase.FAILED
        self._drop()
        self._wish = self._port
        self._again_at = now + min(RETRY_FIRST_S * 2**self._failures, RETRY_S)
        self._failures = min(self._failures + 1, FAILURES_MAX)
        if self._retry_after_s:
            self._again_at = now + min(max(self._retry_after_s, RETRY_MIN_S), RETRY_MAX_S)
        reasons = ", ".join(f"{protocol}: {reason}" for protocol, reason in self._reasons.items())
        trouble = (
            f"the router {self._gateway} maps no port ({reasons}): switch on UPnP or NAT-PMP there, "
            f"or have it forward TCP and UDP port {self._port} to {self._own}"
        )
        if trouble != self._trouble:
            self._trouble = trouble
            self._outputs.append(Trouble(trouble))
