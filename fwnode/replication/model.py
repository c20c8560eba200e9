"""What replication shows of itself, and what the rest of the node asks of it. Pure."""

from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

Described = msgspec.Meta


class EdgeView(msgspec.Struct, frozen=True):
    """A node that is fed a stream from here."""

    node: Annotated[str, Described(description="Public key, 64 hexadecimal digits.")]
    name: str
    since_s: Annotated[float, Described(description="How long ago it was let in.")]
    bytes_out: int
    last_resort: Annotated[bool, Described(description="It had nobody else, so no budget held it back.")]


class StreamPlace(msgspec.Struct, frozen=True):
    """A stream's place in the tree that brings it to the nodes of the network."""

    origin: Annotated[str, Described(description="Public key of the node that it is published on.")]
    origin_name: str
    epoch_unix_us: Annotated[
        int, Described(description="Which publication; a newer one has a higher number.")
    ]
    depth: Annotated[int, Described(description="Hops from the origin; 0 also without a parent.")]
    copy: Annotated[bool, Described(description="Taken from another node, not published here.")]
    parent: Annotated[str, Described(description="Public key of whom it comes from; empty: nobody.")]
    parent_name: str
    edges: list[EdgeView]
    verified_parts: Annotated[int, Described(description="Proven to be the origin's; of a copy.")]
    skips: Annotated[int, Described(description="Times that media was left out, as the parent was ahead.")]
    parent_changes: int


class TreeNode(msgspec.Struct, frozen=True):
    """One node that says that it has a stream."""

    node: str
    name: str
    depth: int
    parent: Annotated[str, Described(description="Public key; empty at the origin.")]
    bitrate_bps: Annotated[int, Described(description="0: not known.")]
    tracks: list[str]
    uplink_bps: Annotated[int | None, Described(description="All that it sends; null: not known.")]
    uplink_budget_bps: Annotated[int | None, Described(description="0: no limit set.")]


class StreamTree(msgspec.Struct, frozen=True):
    """Who takes one publication of a stream from whom, as the directory has it."""

    stream: str
    origin: str
    origin_name: str
    epoch_unix_us: int
    current: Annotated[bool, Described(description="What the stream's name means now.")]
    nodes: Annotated[list[TreeNode], Described(description="Parents before their children.")]


class TreeList(msgspec.Struct, frozen=True):
    """Every stream of the network."""

    trees: list[StreamTree]
    left_out: Annotated[int, Described(description="Entries beyond what one answer holds.")] = 0


class UplinkView(msgspec.Struct, frozen=True):
    """What leaves this node against its budget."""

    sent_bps: Annotated[int, Described(description="All bytes that leave, as a mean over some seconds.")]
    budget_bps: Annotated[int, Described(description="0: no limit set.")]
    promised_bps: Annotated[int, Described(description="The same with edges counted at what they will take.")]


@dataclass(slots=True)
class Counters:
    """Counts of one node since it entered its network."""

    bytes_in: int = 0  # of streams fetched
    bytes_out: int = 0  # of streams given
    verified_parts: int = 0
    altered: int = 0  # parts that their origin did not sign so
    skips: int = 0
    parent_changes: int = 0  # after the first parent of a stream
    refused: int = 0  # edges that were not let in
    let_go: int = 0  # edges sent to other parents, as the uplink was over its budget
    reports_believed: int = 0  # reports of altered media with a proof that held
    reports_false: int = 0


class Replicating(Protocol):
    """What is asked of replication that runs: `fwnode.replication.service.Replication`."""

    @property
    def edges(self) -> int:
        """Streams that are given now, one for each node that takes it."""
        ...

    @property
    def counters(self) -> Counters: ...

    def drain(self) -> None: ...

    def hold(self, *, closed: bool) -> None: ...

    def edges_bps(self) -> int:
        """What they take, or were promised."""
        ...

    def place_of(self, name: str) -> StreamPlace | None: ...

    def tree(self) -> TreeList: ...

    def uplink(self) -> UplinkView: ...

    def liars(self) -> list[str]: ...
