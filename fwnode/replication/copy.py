"""One stream that this node takes from another: from whom, how deep in the tree, and until when. Pure.

What may go wrong with a parent ends with another choice among those who carry the stream; the replica goes
on behind the last part that was proven, so readers of the stream notice a pause at most.
"""

from collections.abc import Collection, Iterable
from math import inf

import msgspec

from fwnode.replication.origins import Bitrates, resume_of
from media.replicate.replica import Replica
from media.track.stream import Stream, StreamState
from mesh.directory.facts import CarriedStream
from mesh.model import NodeId
from mesh.routing.owners import Publication
from mesh.routing.parents import (
    DEPTH_MAX,
    Choice,
    Edge,
    Member,
    Rung,
    choose_parent,
    lower,
    objection,
    rung,
)

ALIVE_S = 0.2  # between a parent's words that it is there; 28 bytes each
HEARD_S = 2 * ALIVE_S  # one word may be late
AVOID_S = 1.5  # a parent that went or refused is not asked again so long: time for another, or to come back
FULL_S = 10.0  # a parent that had no room is taken before nobody only: it may have told of that by then
ALONE_S = 2.0  # without a parent for so long it is as if its publisher had gone: another one takes less
WEAK_S = 60.0  # one that was slow or silent comes after the others for so long; doubled each time
WEAK_MAX_S = 900.0
WEAK_DOUBLINGS_MAX = 4  # WEAK_MAX_S is reached
LOST_S = 6.0  # and for so long, or the longer time that publishers may be away, it ends: players have stalled
IDLE_S = 30.0  # nobody watched for so long: twice what an HLS viewer counts after its last request


class Copy:
    """Its replica's place in the tree. Times are monotonic seconds."""

    def __init__(self, node: NodeId, publication: Publication, replica: Replica, now: float) -> None:
        self.node = node
        self.publication = publication
        self.replica = replica
        self.parent: NodeId | None = None
        self.depth = 0  # while there is a parent
        self.heard_at = now  # from the parent
        self.late_s = 0.0  # later than at its best, as the parent's line is now
        self.changes = 0  # of parent, the first included
        self.skips = 0  # times that media was lost on the way
        self.lowered = ""  # why it comes with fewer pictures than are watched, "" while it does not
        self._parent_since = now
        self._brought = False  # the parent has sent something new
        self._without_since = now
        self._floor: Rung | None = None
        self._avoided: dict[NodeId, tuple[str, float]] = {}  # why, and until when
        self._full: dict[NodeId, float] = {}  # parents without room, by their own answer: until when
        self._just_full: NodeId | None = None
        self._weak: dict[NodeId, tuple[str, float]] = {}  # likewise, those that were slow or fell silent
        self._weakened: dict[NodeId, int] = {}  # how often
        self._used_at = now
        self._bitrates = Bitrates()

    @property
    def name(self) -> str:
        return self.replica.identity.name

    @property
    def stream(self) -> Stream:
        return self.replica.writer.stream

    # --- the parent

    def choose(
        self, members: Iterable[Member], now: float, *, asked: Collection[NodeId] = (), weak: str = ""
    ) -> Choice:
        """Whom to take the stream from. `starved`: `begin_anew`, then choose again.

        `asked` are being asked already; `weak` is what is wrong with the present parent.
        """
        self._avoided = {node: row for node, row in self._avoided.items() if row[1] > now}
        self._weak = {node: row for node, row in self._weak.items() if row[1] > now}
        self._full = {node: until for node, until in self._full.items() if until > now}
        known = [self._as_found(member, asked, weak) for member in members]
        return choose_parent(self._edge(), known, now)

    def _as_found(self, member: Member, asked: Collection[NodeId], weak: str) -> Member:
        """What this edge has found out itself about a member."""
        node = member.node
        if node in self._avoided:
            return msgspec.structs.replace(member, excluded=self._avoided[node][0])
        if node in asked:
            return msgspec.structs.replace(member, excluded="it is being asked")
        if weak and node == self.parent:
            return msgspec.structs.replace(member, weak=weak)
        if node in self._weak:
            return msgspec.structs.replace(member, weak=self._weak[node][0])
        if node in self._full:
            return msgspec.structs.replace(member, weak="its uplink is full")
        return member

    def objection(self, parent: NodeId, publication: Publication, depth: int) -> str:
        """Why a node that answered so cannot be the parent, "" when it can."""
        return objection(self._edge(), parent, publication, depth)

    def adopted(self, parent: NodeId, depth: int, now: float) -> None:
        """The stream comes from `parent`, which is at `depth`."""
        self.parent, self._parent_since, self.heard_at = parent, now, now
        self._brought = False
        self.changes += 1
        self._stand_at(depth + 1)

    def moved(self, depth: int) -> str:
        """The parent is at `depth` now; why it must be left for that, "" when it need not."""
        if depth + 1 != self.depth:
            if depth >= DEPTH_MAX:
                return f"it moved to {depth} hops from the origin, and nobody may be more than {DEPTH_MAX}"
            if depth == 0 and self.parent != self.publication.origin:
                return "it says that it is the origin"
            self._stand_at(depth + 1)
        return ""

    def _stand_at(self, depth: int) -> None:
        """The floor sinks before anybody is told."""
        self.depth = depth
        self._floor = lower(self._floor, rung(self.node, self.name, depth))

    def hears(self, now: float) -> bool:
        """Whether what others take from here comes in now; else they must not be told so."""
        return self.parent is not None and now - self.heard_at <= HEARD_S

    def brought(self) -> None:
        """Something new came from the parent: one that only answers is as good as none."""
        self._brought = True

    def weaken(self, node: NodeId, reason: str, now: float) -> None:
        """Others come before this one for a while."""
        times = self._weakened[node] = self._weakened.get(node, -1) + 1
        self._weak[node] = (reason, now + min(WEAK_MAX_S, WEAK_S * 2 ** min(times, WEAK_DOUBLINGS_MAX)))

    def is_weak(self, node: NodeId) -> bool:
        """Whether it was slow or silent a while ago."""
        return node in self._weak

    def left(self, parent: NodeId, reason: str, now: float, *, for_ever: bool = False) -> None:
        """It comes from there no more, or never did."""
        if self.parent == parent:
            self.parent = None
            if self._brought:
                self._without_since = now
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

    def is_alone(self, now: float) -> bool:
        """Nobody can give it, for longer than it takes to find another parent."""
        return self.parent is None and now - self._without_since >= ALONE_S

    def is_lost(self, now: float, more_s: float = 0.0, *, linger_s: float = 0.0) -> bool:
        """Nobody can give it, and that for too long. `linger_s`: how long publishers may be away."""
        return self.parent is None and now - self._without_since >= max(LOST_S, linger_s) + more_s

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
