"""One stream that this node takes from another: from whom, how deep in the tree, and until when. Pure.

What may go wrong with a parent ends with another choice among those who carry the stream; the replica goes
on behind the last part that was proven, so readers of the stream notice a pause at most.
"""

from collections.abc import Iterable
from math import inf

import msgspec

from fwnode.replication.origins import Bitrates, resume_of
from media.replicate.replica import Replica
from media.track.stream import Stream, StreamState
from mesh.directory.facts import CarriedStream
from mesh.model import NodeId
from mesh.routing.owners import Publication
from mesh.routing.parents import Choice, Edge, Member, Rung, choose_parent, lower, objection, rung

AVOID_S = 1.5  # a parent that went or refused is not asked again so long: time for another, or to come back
ALONE_S = 2.0  # without a parent for so long it is as if its publisher had gone: another one takes less
LOST_S = 6.0  # and for so long, or the longer time that publishers may be away, it ends; players bear as much
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
        known = [
            msgspec.structs.replace(member, excluded=self._avoided[member.node][0])
            if member.node in self._avoided
            else member
            for member in members
        ]
        return choose_parent(self._edge(), known, now)

    def objection(self, parent: NodeId, publication: Publication, depth: int) -> str:
        """Why a node that answered so cannot be the parent, "" when it can."""
        return objection(self._edge(), parent, publication, depth)

    def adopted(self, parent: NodeId, depth: int, now: float) -> None:
        """The stream comes from `parent`, which is at `depth`."""
        self.parent, self._parent_since, self.depth = parent, now, depth + 1
        self._floor = lower(self._floor, rung(self.node, self.name, self.depth))

    def left(self, parent: NodeId, reason: str, now: float, *, for_ever: bool = False) -> None:
        """It comes from there no more, or never did."""
        if self.parent == parent:
            self.parent, self._without_since = None, now
        self._avoided[parent] = (reason, inf if for_ever else now + AVOID_S)

    def begin_anew(self) -> None:
        """As an edge that never told anybody where it is; its children must have been let go."""
        self._floor = None

    def is_alone(self, now: float) -> bool:
        """Nobody can give it, for longer than it takes to find another parent."""
        return self.parent is None and now - self._without_since >= ALONE_S

    def is_lost(self, now: float, linger_s: float) -> bool:
        """Nobody can give it, and that for too long. `linger_s`: how long publishers may be away."""
        return self.parent is None and now - self._without_since >= max(LOST_S, linger_s)

    def succeed(self, publication: Publication, replica: Replica, now: float) -> None:
        """Another publication goes on with the stream: its tree is another one."""
        self.publication, self.replica = publication, replica
        self.parent, self._without_since, self._floor = None, now, None
        # Who went, or had another epoch, may have this one; who altered media is not believed again.
        self._avoided = {node: row for node, row in self._avoided.items() if row[1] == inf}

    # --- who watches

    def is_idle(self, children: int, now: float) -> bool:
        """Nobody watches it here, and that for a while."""
        stream = self.stream
        if children or any(stream.viewers.values()):
            self._used_at = now
        return now - max(self._used_at, stream.asked_at) >= IDLE_S

    # --- what is told

    def carried(self) -> CarriedStream | None:
        """What to tell of it. While it comes from nobody: where a publisher would go on with it."""
        stream = self.stream
        resume = resume_of(stream) if self.parent is None else None
        if stream.state is StreamState.ENDED or (self.parent is None and resume is None):
            return None
        tracks = [track.name for track in stream.tracks.values()]
        epoch, origin = self.publication.epoch_unix_us, self.publication.origin
        depth, parent = max(self.depth, 1), (self.parent or b"") if self.depth > 1 else b""
        return CarriedStream(
            self.name, epoch, depth, tracks, origin, parent, self._bitrates.of(stream), resume
        )

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
