"""All records a node holds: newest wins, the dead stay dead, everything ages out.

A grave remembers the generation at which a node died or left, so that nobody's old copy brings it back;
only a higher generation does. Ids of records are kept by their first four bits with a running exclusive-or,
which is what comparing with a neighbour starts from. A node can give its own records colliding ids; then a
neighbour that lacks one of them learns of it a version later, and nobody else's records are touched.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mesh.directory.record import KIND_MAX, Kind, Record
from mesh.model import NodeId

MEMBERS_MAX = 16 * 1024  # nodes; above the 10,000 that are simulated
GRAVES_MAX = 16 * 1024  # as many can die as can live
FORBIDDEN_MAX = 64 * 1024  # revoked nodes: a list that only grows
GRAVE_S = 14_400.0  # longer than anybody keeps the records of a silent node, who could bring it back
GOODBYE_S = 600.0  # how long a goodbye is spread; the grave stays longer
MEMBER_S = 12_000.0  # without a new record: three refreshes missed, see gossip
PACE_S = 0.5  # an owner's records come at two a second in the long run
PACE_BURST_S = 20.0  # forty at once: all kinds after a refutation, several times
SHARDS = 16
SHARD_SHIFT = 60  # ids are 64 bits; the shard is their first four


class Offered(Enum):
    """What became of a record that somebody offered."""

    NEW = "new"
    FIRST = "first"  # new, of a node or generation not known before
    OLD = "old"  # held already, or a newer one is
    BURIED = "buried"  # of a node that is dead or gone at this generation
    FLOOD = "flood"  # the owner publishes faster than it may
    FULL = "full"
    FORBIDDEN = "forbidden"
    FORGED = "forged"


@dataclass(slots=True, frozen=True)
class Grave:
    """Why a node's generation is over: accusations, or its own goodbye when `left`."""

    generation: int
    at: float
    left: bool
    proof: tuple[bytes, ...]


class _Member(NamedTuple):
    """What is kept of a node beside its records. `pace`: when its allowance is whole again (GCRA)."""

    generation: int
    pace: float


class Directory:
    """The table. `is_signed` checks a record's signature and is asked only for records that would be kept."""

    def __init__(self, is_signed: Callable[[Record], bool]) -> None:
        self._is_signed = is_signed
        self._records: dict[tuple[NodeId, int], Record] = {}
        self._shards: list[dict[int, Record]] = [{} for _ in range(SHARDS)]
        self._fingerprints = [0] * SHARDS
        self._members: dict[NodeId, _Member] = {}
        self._graves: dict[NodeId, Grave] = {}
        self._forbidden: dict[NodeId, None] = {}

    def __len__(self) -> int:
        return len(self._records)

    @property
    def population(self) -> int:
        """Nodes that are known and not gone."""
        return len(self._members)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def members(self) -> list[NodeId]:
        """Nodes that are known and not gone, in the order they were met."""
        return list(self._members)

    def __contains__(self, node: NodeId) -> bool:
        return node in self._members

    def record(self, owner: NodeId, kind: Kind | int) -> Record | None:
        """The newest record of a kind, if its owner lives."""
        return self._records.get((owner, kind))

    def generation(self, node: NodeId) -> int | None:
        """The generation at which a node lives, or nothing."""
        member = self._members.get(node)
        return None if member is None else member.generation

    def grave(self, node: NodeId) -> Grave | None:
        """How a node ended, if it did."""
        return self._graves.get(node)

    def dead(self) -> list[NodeId]:
        """Nodes that were declared dead and did not say goodbye: a partition may end."""
        return [node for node, grave in self._graves.items() if not grave.left]

    def is_forbidden(self, node: NodeId) -> bool:
        """Whether a node was found to be no member."""
        return node in self._forbidden

    def has(self, identity: int) -> bool:
        """Whether the record with this id is held."""
        return identity in self._shards[identity >> SHARD_SHIFT]

    def by_id(self, identity: int) -> Record | None:
        """The record with this id."""
        return self._shards[identity >> SHARD_SHIFT].get(identity)

    def offer(self, record: Record, now: float) -> Offered:
        """Take a record in if it is newer than what is held, allowed and signed."""
        held = self._records.get(record.key)
        if held is not None and (
            record.generation < held.generation
            or (record.generation == held.generation and record.version <= held.version)
        ):
            return Offered.OLD
        owner = record.owner
        member = self._members.get(owner)
        if member is not None:
            if record.generation < member.generation:
                return Offered.OLD
            if member.pace - now > PACE_BURST_S:
                return Offered.FLOOD
        else:
            refusal = self._refusal(record)
            if refusal is Offered.FORBIDDEN and record.kind == Kind.WHO and not self._is_signed(record):
                return Offered.FORGED  # with its signature it is an appeal
            if refusal is not None:
                return refusal
        if not self._is_signed(record):
            return Offered.FORGED
        first = member is None or record.generation > member.generation
        if first:
            self._begin(record, now)
        elif member is not None:
            pace = (member.pace if member.pace > now else now) + PACE_S
            self._members[owner] = _Member(member.generation, pace)
        self._put(record)
        if record.kind == Kind.GOODBYE:
            self.bury(owner, record.generation, now, (record.blob,), left=True)
        return Offered.FIRST if first else Offered.NEW

    def put_own(self, record: Record, now: float) -> None:
        """This node's own record: no allowance, no check."""
        self._begin(record, now)
        self._put(record)

    def hold_as(self, other: "Directory") -> None:
        """Hold what another directory of this process holds, at a copy's price; graves apart."""
        self._records = other._records.copy()
        self._members = other._members.copy()
        self._shards = [shard.copy() for shard in other._shards]
        self._fingerprints = other._fingerprints.copy()

    def bury(
        self, node: NodeId, generation: int, now: float, proof: tuple[bytes, ...], *, left: bool
    ) -> bool:
        """A node's generation is over: forget its records. Returns whether it lived until now."""
        member = self._members.get(node)
        if member is None or member.generation > generation:
            return False
        del self._members[node]
        self._forget(node, keep=Kind.GOODBYE if left else 0)
        if len(self._graves) >= GRAVES_MAX:
            self._remove_grave(next(iter(self._graves)))
        self._graves[node] = Grave(generation, now, left, proof)
        return True

    def forbid(self, node: NodeId) -> None:
        """A node is no member: forget it and take nothing of it until `allow`."""
        if len(self._forbidden) < FORBIDDEN_MAX:
            self._forbidden[node] = None
        self._members.pop(node, None)
        self._remove_grave(node)
        self._forget(node, keep=0)

    def allow(self, node: NodeId) -> None:
        """A forbidden node has shown that it is a member: its records are taken again."""
        self._forbidden.pop(node, None)

    def collect(self, now: float) -> list[NodeId]:
        """Forget members long silent, goodbyes long spread and graves long closed; returns the members."""
        for node, grave in list(self._graves.items()):
            if now - grave.at >= GRAVE_S:
                self._remove_grave(node)
            elif grave.left and now - grave.at >= GOODBYE_S:
                self._forget(node, keep=0)
        stale = [node for node, member in self._members.items() if now - member.pace >= MEMBER_S]
        for node in stale:
            self.bury(node, self._members[node].generation, now, (), left=False)
        return stale

    # --- comparing: ranges are the ids that begin with the `bits` bits of `prefix`; bits go in fours

    def range_ids(self, bits: int, prefix: int) -> list[int]:
        """All ids in a range."""
        if bits == 0:
            return [identity for shard in self._shards for identity in shard]
        shard = self._shards[prefix >> (bits - 4)]
        if bits == 4:
            return list(shard)
        shift = 64 - bits
        return [identity for identity in shard if identity >> shift == prefix]

    def range_fingerprint(self, bits: int, prefix: int) -> tuple[int, int]:
        """Exclusive-or and number of the ids in a range."""
        if bits == 0:
            fingerprint = 0
            for part in self._fingerprints:
                fingerprint ^= part
            return fingerprint, sum(map(len, self._shards))
        if bits == 4:
            return self._fingerprints[prefix], len(self._shards[prefix])
        fingerprint = 0
        identities = self.range_ids(bits, prefix)
        for identity in identities:
            fingerprint ^= identity
        return fingerprint, len(identities)

    def _refusal(self, record: Record) -> Offered | None:
        grave = self._graves.get(record.owner)
        if grave is not None and record.generation <= grave.generation:
            return Offered.BURIED
        if record.owner in self._forbidden:
            return Offered.FORBIDDEN
        if len(self._members) >= MEMBERS_MAX:
            return Offered.FULL
        return None

    def _begin(self, record: Record, now: float) -> None:
        member = self._members.get(record.owner)
        if member is None or member.generation < record.generation:
            if member is not None or record.owner in self._graves:
                self._remove_grave(record.owner)
                self._forget(record.owner, keep=0)
            generation = record.generation
        else:
            generation = member.generation
        self._members[record.owner] = _Member(generation, now + PACE_S)

    def _put(self, record: Record) -> None:
        old = self._records.get(record.key)
        if old is not None:
            self._unlist(old)
        self._records[record.key] = record
        shard = record.id >> SHARD_SHIFT
        if record.id not in self._shards[shard]:
            self._shards[shard][record.id] = record
            self._fingerprints[shard] ^= record.id

    def _unlist(self, record: Record) -> None:
        shard = record.id >> SHARD_SHIFT
        if self._shards[shard].get(record.id) is record:
            del self._shards[shard][record.id]
            self._fingerprints[shard] ^= record.id

    def _forget(self, node: NodeId, keep: int) -> None:
        for kind in _KINDS:
            if kind != keep:
                record = self._records.pop((node, kind), None)
                if record is not None:
                    self._unlist(record)

    def _remove_grave(self, node: NodeId) -> None:
        grave = self._graves.pop(node, None)
        if grave is not None and grave.left:
            self._forget(node, keep=0)


_KINDS = range(1, KIND_MAX + 1)
