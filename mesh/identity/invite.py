"""Invites: one line that lets its holder make nodes members, within a grant, while the owner is away.

    fwinvite1…    the chain to the grant, the secret half of its enrolment key, addresses to try first

The line is a secret until it is used up, expired or settled: whoever has it can join.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

import msgspec

from mesh.errors import Refused, StateError, WireError
from mesh.identity.claim import (
    CHAIN_BYTES_MAX,
    NAME_RULE,
    USES_MAX,
    Chain,
    Claim,
    Grant,
    is_name,
    make_chain,
    parse_chain_untrusted,
    sign_statement,
    to_bits,
    to_roles,
)
from mesh.identity.key import SEED_BYTES, SecretKey, verify
from mesh.identity.line import CONTENT_BYTES_MAX, read_line_untrusted, write_line
from mesh.identity.moment import CLOCK_TOLERANCE_S, moment
from mesh.identity.rules import check_shape
from mesh.identity.signatures import check_signatures
from mesh.identity.wire import decode_untrusted, encode
from mesh.model import NetworkId, NodeId, Role, Signer, Verify

PREFIX = "fwinvite"
VERSION = 1
WHAT = "an invite"
SEEDS_MAX = 8  # each is tried; more makes a line that people do not paste
SEED_CHARACTERS_MAX = 261  # a DNS name of 253, a colon, a port, brackets
PORT_MAX = 65_535
LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")  # RFC 1123 2.1; _ as people use it
HOUR_S = 3600
EXPIRES_S = 24 * HOUR_S
EXPIRES_S_MIN = 60
EXPIRES_S_MAX = 366 * 24 * HOUR_S  # a line in a mailbox should not admit anybody for longer
MEMBERSHIP_S = 366 * 24 * HOUR_S  # a year: a node that was away for a season is still a member
MEMBERSHIP_S_MAX = 20 * MEMBERSHIP_S

Seed = Annotated[str, msgspec.Meta(min_length=1, max_length=SEED_CHARACTERS_MAX)]


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    chain: Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    seeds: Annotated[tuple[Seed, ...], msgspec.Meta(max_length=SEEDS_MAX)]


_wires = msgspec.msgpack.Decoder(_Wire)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an invite gives."""

    roles: frozenset[Role] = frozenset({Role.ORIGIN, Role.EDGE, Role.RELAY, Role.TRANSCODE})
    uses: int = 1
    expires_in_s: int = EXPIRES_S
    membership_s: int | None = None  # None: MEMBERSHIP_S, or as long as the inviter's own if that is less
    invites: int = 0  # nodes that each new member may admit in its turn; needs Role.INVITER


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite as read or made. `line()` shows the secret; printing the object does not."""

    chain: Chain  # ends in the grant
    key: SecretKey
    seeds: tuple[str, ...]  # "host:port", to be tried in this order

    @property
    def network(self) -> NetworkId:
        """The network that it leads to."""
        return self.chain.network

    @property
    def grant(self) -> Grant:
        """What it gives."""
        last = self.chain.last
        assert isinstance(last, Grant)
        return last

    def line(self) -> str:
        """The one line to give away. Raises Refused when chain and seeds are too long for one."""
        content = encode(_Wire(self.chain.data, self.key.seed, self.seeds))
        if len(content) > CONTENT_BYTES_MAX:
            raise Refused("the invite is too long for one line: give it fewer or shorter seed addresses")
        return write_line(PREFIX, VERSION, content)


def parse_invite_untrusted(text: str) -> Invite:
    """An invite from what somebody pasted. Raises WireError that says what is wrong with the line.

    Its signatures and its time are checked by `enrol`.
    """
    wire = decode_untrusted(_wires, read_line_untrusted(PREFIX, VERSION, text, WHAT), CONTENT_BYTES_MAX, WHAT)
    chain = parse_chain_untrusted(wire.chain)
    key = SecretKey(wire.secret)
    if not isinstance(chain.last, Grant):
        raise WireError("the invite carries no grant")
    if chain.last.holder != key.node_id:
        raise WireError("the invite's secret is not the one that its grant names")
    for seed in wire.seeds:
        if not is_address(seed):
            raise WireError(f"the invite's seed {seed!a} is not an address with a port")
    return Invite(chain, key, wire.seeds)


def make_invite(
    signer: Signer,
    inviter: Chain | NetworkId,
    terms: Terms,
    *,
    enrolment_seed: bytes,
    seeds: tuple[str, ...],
    now_unix_s: int,
) -> Invite:
    """A new invite by a member with the inviter role (`inviter` is its chain) or by the owner (the network).

    `enrolment_seed` is 32 random bytes that were used for nothing else. Raises Refused when the inviter may
    not give these terms; StateError when `signer` is not the inviter's key.
    """
    above = inviter if isinstance(inviter, Chain) else None
    network = inviter.network if isinstance(inviter, Chain) else inviter
    if signer.node_id != (above.node_id if above else network):
        raise StateError("the invite's signer is not its inviter")
    if len(seeds) > SEEDS_MAX or not all(is_address(seed) for seed in seeds):
        raise Refused(f"seeds are at most {SEEDS_MAX} addresses with ports, like 203.0.113.7:4100")
    key = SecretKey(enrolment_seed)
    grant = _grant(key.node_id, terms, above.claim if above else None, now_unix_s)
    links = (*(above.links if above else ()), sign_statement(network, grant, signer))
    chain = make_chain(network, links)
    check_shape(chain)
    return Invite(chain, key, seeds)


def _grant(holder: bytes, terms: Terms, inviter: Claim | None, now_unix_s: int) -> Grant:
    if not EXPIRES_S_MIN <= terms.expires_in_s <= EXPIRES_S_MAX:
        raise Refused("an invite can be good for one minute to 366 days")
    if terms.membership_s is not None and not terms.expires_in_s <= terms.membership_s <= MEMBERSHIP_S_MAX:
        raise Refused("membership lasts at least as long as the invite is good for, and at most 20 years")
    if not 1 <= terms.uses <= USES_MAX or not 0 <= terms.invites <= USES_MAX:
        raise Refused(f"an invite is for 1 to {USES_MAX} nodes")
    # An inviter's clock may be behind the one that dated its own claim.
    begins = max(now_unix_s, inviter.not_before) if inviter else now_unix_s
    until = begins + (terms.membership_s or max(MEMBERSHIP_S, terms.expires_in_s))
    if inviter and terms.membership_s is None:
        until = min(until, inviter.not_after)
    return Grant(
        holder=holder,
        roles=to_bits(terms.roles),
        not_before=begins,
        not_after=begins + terms.expires_in_s,
        members_until=until,
        uses=terms.uses,
        invites=terms.invites,
    )


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A claim that a node made for itself."""

    chain: Chain
    clock: str  # what to say about this machine's clock, "" when nothing


def enrol(
    invite: Invite,
    node_id: NodeId,
    name: str,
    now_unix_s: int,
    *,
    roles: frozenset[Role] | None = None,
    check: Verify = verify,
) -> Enrolled:
    """Make a node's claim with an invite: what `fwnode join` does, without asking anybody.

    `roles` are those that it wants, all that the invite gives when None. A clock that is at most
    CLOCK_TOLERANCE_S off the invite's time is worked around and said. Raises Refused when the invite is
    forged or expired, or does not give the roles. That it is used up shows when other nodes are asked.
    """
    check_shape(invite.chain)
    check_signatures(invite.chain, check)
    if not is_name(name):
        raise Refused(f"a node cannot be called {name!a}: {NAME_RULE}")
    grant = invite.grant
    begins, clock = _begins(grant, now_unix_s)
    bits = grant.roles if roles is None else to_bits(roles)
    claim = Claim(
        holder=node_id,
        roles=bits,
        not_before=begins,
        not_after=grant.members_until,
        serial=begins,
        name=name,
        invites=grant.invites if Role.INVITER in to_roles(bits) else 0,
    )
    links = (*invite.chain.links, sign_statement(invite.network, claim, invite.key))
    chain = make_chain(invite.network, links)
    check_shape(chain)
    return Enrolled(chain, clock)


def _begins(grant: Grant, now_unix_s: int) -> tuple[int, str]:
    """When a claim made now begins, and what to say about the clock."""
    here = f"this machine's clock says {moment(now_unix_s)}"
    if now_unix_s > grant.not_after + CLOCK_TOLERANCE_S:
        raise Refused(f"the invite expired {moment(grant.not_after)} ({here}): ask for a new one")
    if now_unix_s < grant.not_before - CLOCK_TOLERANCE_S:
        raise Refused(f"the invite begins {moment(grant.not_before)}, but {here}: set the clock")
    if now_unix_s > grant.not_after:
        return (
            grant.not_after,
            f"the invite expired {moment(grant.not_after)}: just in time for its tolerance",
        )
    if now_unix_s < grant.not_before:
        off_s = grant.not_before - now_unix_s
        return grant.not_before, f"the invite begins {off_s} s from now: one of the two clocks is that wrong"
    return now_unix_s, ""


def is_address(text: str) -> bool:
    """Whether it is "name:port", "192.0.2.1:port" or "[2001:db8::1]:port"."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= len(str(PORT_MAX))):
        return False
    if len(text) > SEED_CHARACTERS_MAX or not 0 < int(port) <= PORT_MAX:
        return False
    if host.startswith("["):
        return host.endswith("]") and "%" not in host and _is(ipaddress.IPv6Address, host[1:-1])
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():  # RFC 1123 2.1: no name ends like an IPv4 address
        return _is(ipaddress.IPv4Address, host)
    return all(LABEL.fullmatch(label) for label in labels)


def _is(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], host: str) -> bool:
    try:
        kind(host)
    except ValueError:
        return False
    return True
