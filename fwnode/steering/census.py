"""What the directory, the links and this node's own measurements say of everybody. Pure.

The records of others are read again only when they changed, so a look at a thousand members that say nothing
new costs some milliseconds. Whoever decides reads what the last look found: nothing is parsed for a viewer.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from fwnode.steering.doors import DRAINING, scheme_of
from mesh.directory.facts import (
    KINDS,
    CarriedStream,
    CarriedStreams,
    Doors,
    Load,
    Place,
    Where,
    Who,
    parse_fact_untrusted,
)
from mesh.directory.record import Kind, Record
from mesh.errors import WireError
from mesh.model import NodeId, short
from mesh.routing.claims import believed_place
from mesh.routing.field import Field
from mesh.routing.owners import current_publication, publication_of
from mesh.routing.viewer_address import seen_as
from mesh.routing.viewers import Candidate, Wanted

BITRATE_DIGITS = 2  # a stream's bitrate wavers; each other one is a stream to be looked at anew
RTT_STEP = 0.1  # a round trip has to change by so much of itself to be worth putting in order anew
KEPT_KINDS = (Kind.WHO, Kind.WHERE, Kind.LOAD, Kind.PLACE, Kind.DOORS)

S = TypeVar("S", Who, Where, Load, Place, Doors, CarriedStreams)


class Directory(Protocol):
    """What is asked of mesh.directory.table.Directory."""

    def members(self) -> list[NodeId]: ...

    def record(self, owner: NodeId, kind: Kind | int) -> Record | None: ...


class Near(msgspec.Struct, frozen=True):
    """What this node found out of another by the link to it."""

    rtt_s: float | None = None
    fastest_s: float | None = None
    lan: bool = False


class Surroundings(Protocol):
    """What a census asks of the mesh."""

    @property
    def node(self) -> NodeId:
        """This node."""

    def near(self, node: NodeId) -> Near: ...

    def is_edge(self, node: NodeId, who: Who | None) -> bool:
        """By the claim that makes it a member."""

    def is_origin(self, node: NodeId) -> bool:
        """Likewise."""

    def fault(self, node: NodeId) -> str:
        """Why a node is not well, "" when it is."""


class Own(msgspec.Struct, frozen=True):
    """This node, as it knows itself now."""

    load: Load | None = None
    load_at: float = 0.0
    most_bps: int = 0  # the most that it ever sent
    closed: str = ""  # why nobody new is let in


class Census:
    """All members as candidates, in a Field."""

    def __init__(self, directory: Directory, around: Surroundings, program: str) -> None:
        """`program` is what this node says in its own Who."""
        self.field = Field()
        self.doors: dict[NodeId, Doors] = {}
        self.by_short: dict[str, NodeId] = {}
        self.candidates: dict[NodeId, Candidate] = {}
        self._directory = directory
        self._around = around
        self._program = program
        self._records: dict[NodeId, tuple[Record | None, ...]] = {}
        self._heard: dict[NodeId, tuple[Record | None, float]] = {}  # its load, and since when
        self._near: dict[NodeId, Near] = {}
        self._faults: dict[NodeId, str] = {}
        self._own = Own()
        self._own_place: Place | None = None
        self._carried: dict[NodeId, tuple[Record, dict[str, CarriedStream]]] = {}
        self._sayers: dict[str, dict[NodeId, CarriedStream]] = {}
        self._roles_changed = False  # whoever may publish decides whose stream a name means

    @property
    def node(self) -> NodeId:
        """This node."""
        return self._around.node

    def takes_publishers(self, node: NodeId) -> bool:
        """Whether its membership has the role."""
        return self._around.is_origin(node)

    def look(self, own: Own, now: float) -> None:
        """Take in what changed since the last look."""
        members = dict.fromkeys((self.node, *self._directory.members()))
        for gone in [node for node in self.candidates if node not in members]:
            self._forget(gone)
        own_changed = own != self._own
        self._own = own
        place = self._read(self.node, Place)
        moved, self._own_place = place != self._own_place, place
        for node in members:
            self._look_at(node, now, anew=moved or (own_changed and node == self.node))
        self._look_at_streams(members)

    def _look_at(self, node: NodeId, now: float, *, anew: bool) -> None:
        record = self._directory.record
        records = tuple([record(node, kind) for kind in KEPT_KINDS])
        before = self._records.get(node)
        near, fault = self._near_of(node), self._around.fault(node)
        if (
            not anew
            and before is not None
            and records == before  # of the same objects, which costs nothing
            and near is self._near.get(node)
            and fault == self._faults.get(node)
            and not self.candidates[node].allowed  # it changes with what the node publishes
        ):
            return
        if before is None or before[0] is not records[0]:
            self._roles_changed = True
        self._records[node], self._near[node], self._faults[node] = records, near, fault
        loaded = records[KEPT_KINDS.index(Kind.LOAD)]
        heard = self._heard.get(node)
        if heard is None or heard[0] is not loaded:
            self._heard[node] = heard = (loaded, now)
        doors = self._read(node, Doors) or Doors([])
        self.doors[node] = doors
        self.by_short[short(node)] = node
        candidate = self._candidate(node, doors, near, fault, heard[1])
        if candidate != self.candidates.get(node):
            self.candidates[node] = candidate
            self.field.put(candidate)

    def _near_of(self, node: NodeId) -> Near:
        """The same object as before while nothing of it changed that matters."""
        found, before = self._around.near(node), self._near.get(node)
        if found is before:
            return found
        if before is None or found.lan != before.lan or (found.rtt_s is None) != (before.rtt_s is None):
            return found
        if found.rtt_s is None or before.rtt_s is None:
            return before
        return before if abs(found.rtt_s - before.rtt_s) <= RTT_STEP * before.rtt_s else found

    def _candidate(self, node: NodeId, doors: Doors, near: Near, fault: str, heard_at: float) -> Candidate:
        here, own = node == self.node, self._own
        who, where = self._read(node, Who), self._read(node, Where)
        claimed = self._read(node, Place)
        place = claimed if here else believed_place(claimed, self._own_place, near.fastest_s)[0]
        load = own.load if here else self._read(node, Load)
        closed = own.closed if here else doors.closed
        return Candidate(
            node,
            place=place,
            load=load,
            load_at=own.load_at if here else heard_at,
            proven_bps=max(own.most_bps, load.uplink_budget_bps if load else 0) if here else 0,
            doors=frozenset(map(scheme_of, doors.public)),
            lan_doors=frozenset(map(scheme_of, doors.lan)),
            lan=here or near.lan,
            prefixes=_prefixes(where),
            rtt_s=None if here else near.rtt_s,
            edge=self._around.is_edge(node, who),
            compatible=here or who is None or is_compatible(who.version, self._program),
            draining=closed == DRAINING,
            paused=bool(closed) and closed != DRAINING,
            allowed=self._allowed(node, load),
            failing=fault or ("" if here or who is not None else "it has not said who it is"),
        )

    def _allowed(self, node: NodeId, load: Load | None) -> tuple[str, ...]:
        """What the owner lets the node serve of others, and all that it publishes itself."""
        if load is None or not load.streams:
            return ()
        said = self._read(node, CarriedStreams)
        own = [carried.name for carried in said.streams if carried.depth == 0] if said else []
        return (*load.streams, *own)

    def _read(self, node: NodeId, shape: type[S]) -> S | None:
        record = self._directory.record(node, KINDS[shape])
        if record is None or not record.payload:
            return None
        try:
            return parse_fact_untrusted(shape, record.payload)
        except WireError:
            return None

    def _forget(self, node: NodeId) -> None:
        for kept in (self.candidates, self.doors, self._records, self._heard, self._near, self._faults):
            kept.pop(node, None)
        if self.by_short.get(short(node)) == node:
            del self.by_short[short(node)]
        self.field.remove(node)

    # --- streams

    def _look_at_streams(self, members: Iterable[NodeId]) -> None:
        touched: dict[str, None] = {}
        present = set(members)
        for gone in [node for node in self._carried if node not in present]:
            touched.update(dict.fromkeys(self._replace(gone, None)))
        for node in present:
            record = self._directory.record(node, Kind.STREAMS)
            held = self._carried.get(node)
            if record is not (held[0] if held else None):
                touched.update(dict.fromkeys(self._replace(node, record)))
        if self._roles_changed:
            self._roles_changed = False
            touched = dict.fromkeys((*touched, *self._sayers))
        for name in touched:
            self._settle(name)

    def _replace(self, node: NodeId, record: Record | None) -> list[str]:
        """Names of streams of which a node says something else now."""
        held = self._carried.pop(node, None)
        before = held[1] if held else {}
        after = _streams_in(record)
        if record is not None:
            self._carried[node] = (record, after)
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        for name in changed:
            sayers = self._sayers.setdefault(name, {})
            if name in after:
                sayers[node] = after[name]
            else:
                sayers.pop(node, None)
                self.field.carry(name, node, None)
        return changed

    def _settle(self, name: str) -> None:
        """Tell the field who has a stream."""
        sayers = self._sayers.get(name, {})
        publication = current_publication(sayers.items(), self._around.is_origin)
        if publication is None:
            self.field.forget(name)
            if not sayers:
                self._sayers.pop(name, None)
            return
        bitrates = [
            (carried.depth, -carried.bitrate_bps)
            for node, carried in sayers.items()
            if carried.bitrate_bps and publication_of(node, carried) == publication
        ]
        bitrate_bps = -min(bitrates)[1] if bitrates else 0
        self.field.want(Wanted(name, publication, _rounded(bitrate_bps)))
        for node, carried in sayers.items():
            self.field.carry(name, node, carried)


def is_compatible(theirs: str, ours: str) -> bool:
    """Whether two versions serve the same: of 0.x the second number counts, too (semver.org, item 4)."""

    def line(program: str) -> tuple[str, ...]:
        numbers = program.rpartition(" ")[2].split(".")
        return tuple(numbers[: 2 if numbers[0] == "0" else 1])

    return line(theirs) == line(ours)


def _prefixes(where: Where | None) -> frozenset[str]:
    if where is None:
        return frozenset()
    hosts = (address.rpartition(":")[0].strip("[]") for address in (*where.candidates, where.mapped))
    return frozenset(prefix for host in hosts if (prefix := seen_as(host).prefix))


def _streams_in(record: Record | None) -> dict[str, CarriedStream]:
    if record is None or not record.payload:
        return {}
    try:
        return {
            stream.name: stream for stream in parse_fact_untrusted(CarriedStreams, record.payload).streams
        }
    except WireError:
        return {}


def _rounded(bitrate_bps: int) -> int:
    """Up, so that nobody is thought to have room who has not."""
    step: int = 10 ** max(0, len(str(bitrate_bps)) - BITRATE_DIGITS)
    return -(-bitrate_bps // step) * step
