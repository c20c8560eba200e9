"""This node's place in a network, and every change of it that an operator can make. Pure but for its store.

Changes come in two steps, so that what is in force is on disk before: a method works the change out and
raises what speaks against it; `Change.write` blocks on the disk, in a thread when a node runs; `Change.apply`
puts it in force and belongs to whom the membership belongs, the trio thread. One change at a time.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from mesh.discovery.store import PeersFile
from mesh.errors import Refused, Unavailable
from mesh.identity.claim import Grant
from mesh.identity.invite import SEEDS_MAX, Invite, Terms, enrol, is_address, parse_invite_untrusted
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.identity.moment import moment
from mesh.identity.owner import ENTROPY_BYTES, export_owner, parse_owner_untrusted
from mesh.identity.revocation import Revocation
from mesh.identity.store import IdentityStore
from mesh.identity.uses import limit_of
from mesh.model import KEY_BYTES, NetworkId, NodeId, Role, short
from mesh.node.model import MeshStatus, PeerView, SecondOpinion
from mesh.node.speed.model import SpeedResult

PREFIX_DIGITS_MIN = 8  # of a key, as `short` shows it
HEX = re.compile(r"[0-9a-fA-F]+")
SELF = "self"
RETRY_S = 10.0  # a network that is entered has members to ask soon
NAME_SHOWN_MAX = 63  # of what somebody typed as a node's name

W = TypeVar("W")
T = TypeVar("T")

Listener: TypeAlias = Callable[[], None]


class RunningMesh(Protocol):
    """What is asked of a mesh that runs: `mesh.node.service.MeshNode`."""

    @property
    def bytes_out(self) -> int:
        """Sent since it began."""
        ...

    def peers(self) -> list[PeerView]: ...

    def status(self) -> MeshStatus: ...

    def addresses(self) -> list[str]: ...

    async def second_opinion(self) -> SecondOpinion: ...

    async def speed_test(self, peer: NodeId, total: int) -> SpeedResult: ...


@dataclass(frozen=True, slots=True)
class Change(Generic[W, T]):
    """A change that nothing speaks against. `write` blocks and may raise mesh's StoreError and Refused."""

    write: Callable[[], W]
    apply: Callable[[W], T]

    def carry_out(self) -> T:
        """Both steps, where no node runs."""
        return self.apply(self.write())


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of `join`."""

    network: NetworkId
    name: str
    roles: frozenset[Role]
    not_after_unix_s: int
    notes: tuple[str, ...]  # about the clock, or a file that could not be written


@dataclass(frozen=True, slots=True)
class Expelled:
    """What became of `revoke`."""

    node_id: NodeId
    name: str  # "" when this node never heard of it
    note: str  # what else the owner should know; "" when nothing


@dataclass(frozen=True, slots=True)
class _Place:
    """A membership to be in, and the key of its network where that comes with it."""

    membership: Membership
    owner: SecretKey | None


class Network:
    """The identity in one data folder. Whoever runs a mesh for `membership` sets `mesh` while it runs."""

    def __init__(
        self,
        store: IdentityStore,
        peers_file: PeersFile,
        *,
        name: str,
        program: str,
        unix_s: Callable[[], float],
        entropy: Callable[[int], bytes],
        addresses: Callable[[], Iterable[str]] = tuple,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        """Blocks; raises mesh's StoreError. The caller holds the data folder's lock.

        `name` is for a network that is founded or joined from now on. `addresses` says where others reach
        this node, for invites made while no mesh runs; it is called where `Change.write` is. `turn` is a
        lock, needed when writes come from several threads.
        """
        self._store = store
        self._peers_file = peers_file
        self._name = name
        self._program = program
        self._unix_s = unix_s
        self._entropy = entropy
        self._addresses = addresses
        self._turn = turn or contextlib.nullcontext()
        self._listeners: list[Listener] = []
        self._since_unix_s = int(unix_s())
        self.mesh: RunningMesh | None = None
        self.node_key: SecretKey = store.node_key()
        self.membership: Membership | None = store.membership(self.node_key)
        self._held_key = store.network_key()
        self._kept = self.membership  # whose state belongs on the disk; changes in `turn`

    @property
    def owner_key(self) -> SecretKey | None:
        """The key of the network that this node is in, when it is held here."""
        held, membership = self._held_key, self.membership
        return held if held and membership and held.node_id == membership.network else None

    def subscribe(self, listener: Listener) -> None:
        """Be told, synchronously, of every change once it is in force.

        After a revocation `membership` is the same object and has another version. After everything else it
        is another object or None; `mesh`, which is of the old one, was forgotten and has to begin anew.
        """
        self._listeners.append(listener)

    def keeper(self, membership: Membership) -> Callable[[bytes], None]:
        """What writes states of `membership` as long as that is this node's. It blocks, raises StoreError.

        A mesh that is about to stop cannot bring a membership back with it that was left or replaced.
        """

        def keep(state: bytes) -> None:
            with self._turn:
                if self._kept is membership:
                    self._store.keep_membership(state)

        return keep

    # --- looking

    def peers(self) -> list[PeerView]:
        """Every known node of the network, this one first; it alone when no mesh runs."""
        return self.mesh.peers() if self.mesh else [self.own_view()]

    def status(self) -> MeshStatus:
        """The network as this node sees it."""
        if self.mesh:
            return self.mesh.status()
        membership = self.membership
        own = self.own_view()
        return MeshStatus(
            network=membership.network.hex() if membership else "",
            owner=self.owner_key is not None,
            node=own.node,
            name=own.name,
            roles=own.roles,
            member_until_unix_s=membership.own.claim.not_after if membership else 0,
            members=1 if membership else 0,
            links=0,
            seeds=[],
            refused=[],
            counters={},
        )

    async def second_opinion(self) -> SecondOpinion:
        """What pystun3 makes of the router, in some seconds. Raises Unavailable."""
        if self.mesh is None:
            raise Unavailable("this node takes no part in a network now", RETRY_S)
        return await self.mesh.second_opinion()

    async def speed_test(self, text: str, total: int) -> SpeedResult:
        """Have bytes sent by a node that `text` names, for a minute at most. Raises Unavailable, Refused."""
        if self.mesh is None:
            raise Unavailable("this node takes no part in a network now", RETRY_S)
        known = {bytes.fromhex(view.node): view.name for view in self.peers()[1:]}
        found = _matching(text.strip(), known)
        if len(found) != 1:
            what = "means several nodes: give 8 digits or more of the key" if found else "is no node's name"
            raise Refused(f"{text.strip()[:NAME_SHOWN_MAX]!a} {what}: see `fwnode peers`")
        return await self.mesh.speed_test(found[0], total)

    def own_view(self) -> PeerView:
        """This node, as far as it is known without a mesh."""
        membership = self.membership
        return PeerView(
            name=membership.own.claim.name if membership else self._name,
            node=self.node_key.node_id.hex(),
            state=SELF,
            path=SELF,
            address="",
            rtt_ms=None,
            place=None,
            nat="",
            load=None,
            streams=[],
            roles=sorted(membership.own_roles) if membership else [],
            version=self._program,
            since_unix_s=self._since_unix_s,
            clock="",
        )

    # --- changing

    def invite(self, terms: Terms, seeds: Sequence[str] = ()) -> Change[tuple[str, ...], Invite]:
        """Make an invite, and the network when this node is in none. Without `seeds` it names this node.

        Raises Refused when this node may not give these terms, or the seeds are none.
        """
        founded = None if self.membership else self._founded(self._held_key)
        membership = founded.membership if founded else self._membership()
        owner = founded.owner if founded else self.owner_key
        made = membership.make_invite(
            owner or self.node_key,
            terms,
            enrolment_seed=self._entropy(SEED_BYTES),
            seeds=tuple(seeds),
            now_unix_s=self._now(),
        )
        made.line()  # refused here and not after a network was made
        known = tuple(seeds) or (_usable(self.mesh.addresses()) if self.mesh else ())

        def write() -> tuple[str, ...]:
            if founded:
                self._keep(founded)
            return known or _usable(self._addresses())

        def apply(found: tuple[str, ...]) -> Invite:
            if founded:
                self._enter(founded)
            return dataclasses.replace(made, seeds=found)

        return Change(write, apply)

    def join(
        self, line: str, *, name: str | None = None, roles: frozenset[Role] | None = None
    ) -> Change[str, Joined]:
        """Become a member by an invite, or one with another claim where this node is a member already.

        Raises WireError for what is no invite; Refused with the reason.
        """
        invite = parse_invite_untrusted(line)
        before, now = self.membership, self._now()
        if before and before.network != invite.network:
            raise Refused(f"this node is in network {short(before.network)} already: `fwnode leave` first")
        if self._held_key and self._held_key.node_id == invite.network:
            raise Refused("this node has that network's owner key: `fwnode invite` is all that it needs")
        called = name or (before.own.claim.name if before else self._name)
        enrolled = enrol(invite, self.node_key.node_id, called, now, roles=roles)
        if before:
            membership = _copied(before)
            membership.adopt(enrolled.chain, now)
        else:
            membership = Membership(enrolled.chain)

        def write() -> str:
            # First: it is the membership that makes a member, and without seeds it might find nobody.
            self._peers_file.keep((*invite.seeds, *self._peers_file.load()))
            trouble = self._peers_file.trouble
            self._keep(_Place(membership, None))
            return trouble

        def apply(trouble: str) -> Joined:
            self._enter(_Place(membership, None))
            claim = enrolled.chain.claim
            notes = tuple(note for note in (enrolled.clock, trouble) if note)
            return Joined(membership.network, claim.name, membership.own_roles, claim.not_after, notes)

        return Change(write, apply)

    def leave(self) -> Change[None, NetworkId]:
        """Be in no network. The node's key stays, and an owner key that it holds. Raises Refused."""
        network = self._membership().network

        def write() -> None:
            with self._turn:
                self._store.forget_membership()
                self._kept = None
            self._peers_file.keep(())

        def apply(_: None) -> NetworkId:
            self.membership = self.mesh = None
            self._tell()
            return network

        return Change(write, apply)

    def revoke(self, text: str) -> Change[Revocation, Expelled]:
        """Expel a node for ever, given its name where only one has it, its key, or the beginning of that.

        Raises Refused without the owner key, or when `text` names no node or several; so does `write` when
        there is no room for another revocation.
        """
        membership, owner, now = self._membership(), self.owner_key, self._now()
        if owner is None:
            raise Refused(
                "only the owner's node can revoke, and this one has no owner key "
                "(`fwnode invite --import-owner` brings it)"
            )
        key, name = self._named(text, membership)
        note = _open_invite(membership, key, now)
        return self._revocation(membership, owner, key, Expelled(key, name, note))

    def revoke_key(self, digest: bytes) -> Change[Revocation, None]:
        """Revoke another node's stream key, by the digest that its node tells, on all nodes.

        It is named by a revocation as a node's key is: the two cannot be mistaken for each other. Raises
        Refused as `revoke`.
        """
        membership, owner = self._membership(), self.owner_key
        if owner is None:
            raise Refused("only the node that made it and the owner's node can revoke a stream key")
        return self._revocation(membership, owner, digest, None)

    def _revocation(
        self, membership: Membership, owner: SecretKey, key: bytes, outcome: T
    ) -> Change[Revocation, T]:
        state, now = membership.state(), self._now()

        def write() -> Revocation:
            changed = Membership.restore(state)  # 10,000 seats take a moment, so not on the trio thread
            revocation = changed.revoke(owner, key, now)
            self.keeper(membership)(changed.state())
            return revocation

        def apply(revocation: Revocation) -> T:
            membership.learn_revocation(revocation)
            self._tell()
            return outcome

        return Change(write, apply)

    def export_owner(self, passphrase: str) -> str:
        """The owner key as one line. Slow, by intent: call it in a thread. Raises Refused, Unavailable."""
        if self._held_key is None:
            raise Refused("this node has no owner key: run this where the network was made")
        return export_owner(self._held_key, passphrase, self._entropy(ENTROPY_BYTES))

    def import_owner(self, line: str, passphrase: str) -> Change[_Place, NetworkId]:
        """Take an exported owner key, and be a member of its network.

        Raises WireError for what is none; Refused in another network. `write` is slow and raises Refused
        for a wrong passphrase, Unavailable without memory to try it.
        """
        export = parse_owner_untrusted(line)
        before, held = self.membership, self._held_key
        for network in (before and before.network, held and held.node_id):
            if network and network != export.network:
                raise Refused(
                    f"this is the owner key of network {short(export.network)}, and this node has to do with "
                    f"{short(network)}: use a fresh data folder"
                )
        copied = _copied(before) if before else None

        def write() -> _Place:
            key = export.open(passphrase)
            place = _Place(copied, key) if copied else self._founded(key)
            self._keep(place)
            return place

        def apply(place: _Place) -> NetworkId:
            self._enter(place)
            return place.membership.network

        return Change(write, apply)

    # --- parts

    def _now(self) -> int:
        return int(self._unix_s())

    def _membership(self) -> Membership:
        if self.membership is None:
            raise Refused("this node is in no network: `fwnode invite` makes one, `fwnode join` enters one")
        return self.membership

    def _founded(self, held: SecretKey | None) -> _Place:
        """A network of which this node is the first member, or is again."""
        owner = held or SecretKey(self._entropy(SEED_BYTES))
        chain = found_network(owner, self.node_key.node_id, self._name, self._now())
        return _Place(Membership(chain), owner)

    def _keep(self, place: _Place) -> None:
        """Blocks. A crash in between leaves an owner key, with which the next invite goes on."""
        with self._turn:
            if place.owner:
                self._store.keep_network_key(place.owner)
            self._store.keep_membership(place.membership.state())
            self._kept = place.membership

    def _enter(self, place: _Place) -> None:
        self._held_key = place.owner or self._held_key
        self.membership = place.membership
        self.mesh = None
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _named(self, text: str, membership: Membership) -> tuple[NodeId, str]:
        """The one node that `text` names, and its name."""
        known = {chain.node_id: chain.claim.name for chain in membership.uses.chains()}
        known |= {bytes.fromhex(view.node): view.name for view in self.peers()}
        found = _matching(text.strip(), known)
        shown = f"{text.strip()[:NAME_SHOWN_MAX]!a}"
        if not found:
            raise Refused(
                f"no node is called {shown} or has a key that begins so "
                f"(at least {PREFIX_DIGITS_MIN} digits): see `fwnode peers`"
            )
        present = [node for node in found if not membership.revocations.is_revoked(node)]
        if not present:
            raise Refused(f"{shown} is revoked already")
        if len(present) > 1:
            keys = ", ".join(sorted(short(node) for node in present))
            raise Refused(f"{shown} means several nodes ({keys}): give more of the key")
        if present[0] == self.node_key.node_id:
            raise Refused("the owner's node cannot revoke itself: `fwnode leave` takes it out of the network")
        return present[0], known.get(present[0], "")


def _matching(text: str, known: dict[NodeId, str]) -> list[NodeId]:
    digits = text.lower() if HEX.fullmatch(text) and len(text) >= PREFIX_DIGITS_MIN else ""
    found = [
        node for node, name in known.items() if name == text or (digits and node.hex().startswith(digits))
    ]
    if not found and len(digits) == 2 * KEY_BYTES:
        return [bytes.fromhex(digits)]  # never heard of here; its claim may be on its way
    return found


def _usable(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if is_address(address))[:SEEDS_MAX]


def _copied(membership: Membership) -> Membership:
    return Membership.restore(membership.state())


def _open_invite(membership: Membership, node: NodeId, now: int) -> str:
    """Whether the invite by which a node came still lets others in, to be said to the owner."""
    for chain in membership.uses.chains():
        if chain.node_id != node or len(chain.links) < 2:
            continue
        above = chain.before(len(chain.links) - 1)
        grant = above.last
        if isinstance(grant, Grant) and now <= grant.not_after:
            left = grant.uses - membership.uses.taken(limit_of(above))
            if left > 0:
                return (
                    f"the invite by which it came is good for {left} more until {moment(grant.not_after)}, "
                    "and it may have kept the line"
                )
    return ""
