"""One stream that this node takes from another: from whom, how deep in the tree, and until when. Pure.

What may go wrong with a parent ends with another choice among those who carry the stream; the replica goes
on behind the last part that was proven, so readers of the stream notice a pause at most.
"""

from collections.abc import Iterable
from math import inf

import msgspec

from fwnode.replication.origins import Bitrates
from media.replicate.replica import Replica
from media.track.stream import Stream, StreamState
from mesh.directory.facts import CarriedStream
from mesh.model import NodeId
from mesh.routing.owners import Publication
from mesh.routing.parents import Choice, Edge, Member, Rung, choose_parent, lower, objection, rung

AVOID_S = 1.5  # a parent that went or refused is not asked again so long: time for another, or to come back
FULL_S = 10.0  # a parent that had no room is taken before nobody only: it may have told of that by then
LOST_S = 6.0  # without a parent for so long the stream ends here; players bear about as much
IDLE_S = 30.0  # nobody watched for so long: twice what an HLS viewer counts after its last request


class Copy:
    """Its replica's place in the tree. Times are monotonic seconds."""

    def __init__(self, node: NodeId, publication: Publication, replica: Replica, now: float) -> None:
        self.node = node
        self.publication = publication
        self.replica = replica
        self.parent: NodeId | None = None
        self.depth = 0  # while there is a parent
        self._parent_since = now
        self._without_since = now
        self._floor: Rung | None = None
        self._avoided: dict[NodeId, tuple[str, float]] = {}  # why, and until when
        self._full: dict[NodeId, float] = {}  # parents without room, by their own answer: until when
        self._just_full: NodeId | None = None
        self._last_parent: NodeId | None = None
        self.parent_changes = self.skips = 0
        self._used_at = now
        self._bitrates = Bitrates()

    @property
    def name(self) -> str:
        return self.replica.identity.name

    @property
    def stream(self) -> Stream:
        return self.replica.writer.stream

    # --- the parent

    def choose(self, members: Iterable[Member], now: float) -> Choice:
        """Whom to take the stream from. `starved`: `begin_anew`, then choose again."""
        self._avoided = {node: row for node, row in self._avoided.items() if row[1] > now}
        self._full = {node: until for node, until in self._full.items() if until > now}
        return choose_parent(self._edge(), map(self._known, members), now)

    def _known(self, member: Member) -> Member:
        """With what this node found out about it."""
        if member.node in self._avoided:
            member = msgspec.structs.replace(member, excluded=self._avoided[member.node][0])
        if member.node in self._full:
            member = msgspec.structs.replace(member, weak="its uplink is full")
        return member

    def objection(self, parent: NodeId, publication: Publication, depth: int) -> str:
        """Why a node that answered so cannot be the parent, "" when it can."""
        return objection(self._edge(), parent, publication, depth)

    def adopted(self, parent: NodeId, depth: int, now: float) -> None:
        """The stream comes from `parent`, which is at `depth`."""
        self.parent_changes += self._last_parent not in (None, parent)
        self._last_parent = parent
        self.parent, self._parent_since, self.depth = parent, now, depth + 1
        self._floor = lower(self._floor, rung(self.node, self.name, self.depth))

    def left(self, parent: NodeId, reason: str, now: float, *, for_ever: bool = False) -> None:
        """It comes from there no more, or never did."""
        if self.parent == parent:
            self.parent, self._without_since = None, now
        if parent == self._just_full:
            self._just_full = None
            return  # when there is nobody else it is asked again at once, and told so
        self._avoided[parent] = (reason, inf if for_ever else now + AVOID_S)

    def is_full(self, parent: NodeId, now: float) -> None:
        """It has no room, as it answered: only to be asked again when there is nobody else."""
        self._full[parent] = now + FULL_S
        self._just_full = parent

    def begin_anew(self) -> None:
        """As an edge that never told anybody where it is; its children must have been let go."""
        self._floor = None

    def is_lost(self, now: float) -> bool:
        """Nobody can give it, and that for too long."""
        return self.parent is None and now - self._without_since >= LOST_S

    # --- who watches

    def is_idle(self, children: int, now: float) -> bool:
        """Nobody watches it here, and that for a while."""
        stream = self.stream
        if children or any(stream.viewers.values()):
            self._used_at = now
        return now - max(self._used_at, stream.asked_at) >= IDLE_S

    # --- what is told

    def carried(self) -> CarriedStream | None:
        """What to tell of it; None while it comes from nobody: it could be given to nobody either."""
        if self.parent is None or self.stream.state is StreamState.ENDED:
            return None
        tracks = [track.name for track in self.stream.tracks.values()]
        epoch, origin = self.publication.epoch_unix_us, self.publication.origin
        parent = self.parent if self.depth > 1 else b""
        bitrate_bps = self._bitrates.of(self.stream)
        return CarriedStream(self.name, epoch, self.depth, tracks, origin, parent, bitrate_bps)

    def _edge(self) -> Edge:
        return Edge(
            self.node,
            self.name,
            self.publication,
            self.parent,
            self._parent_since,
            self._floor,
            self.stream.bitrate_bps,
        )
