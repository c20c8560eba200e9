"""Whose stream a name means when several nodes of a network publish it. Pure.

One rule, a function of what is said and of nothing else: the newest epoch wins, of equal ones that of the
smaller key. Nodes that hold the same records agree, in whatever order the records came.

An epoch counts publications of a name; it is not a clock, though it starts as one. Whoever begins to publish
takes an epoch above every one that it knows of (`next_epoch`; Lamport 1978), so a streamer who comes back on
another node goes on in a newer epoch even if that node's clock is behind.

A node that lost to another publication, as after a partition or when the encoder was started twice,

1. stops its publisher, with the reason, and no longer says that it has the stream at depth 0;
2. goes on for the viewers that it has as any edge: it takes the winner's stream, behind a discontinuity;
3. refuses publishers of the name for `YIELD_S` (`refusal`): encoders connect again by themselves, and two of
   them would otherwise take the name from each other without end.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from mesh.directory.facts import CarriedStream
from mesh.model import KEY_BYTES, NodeId

EPOCH_US_MAX = 2**53  # the wire's bound for counts, the year 2255; whoever says so wins ties by key only
SETTLE_S = 5.0  # the winner's record may come so much later than its word
YIELD_S = 30.0  # guess: ten attempts of an encoder, and time for a person to see why it is refused

Said: TypeAlias = Iterable[tuple[NodeId, CarriedStream]]
"""Who says that it carries what; of one name only."""


class Publication(msgspec.Struct, frozen=True):
    """One publisher's run of a name: all packets of it have one origin and one numbering."""

    epoch_unix_us: int
    origin: NodeId


class Yielded(msgspec.Struct, frozen=True):
    """This node lost a name to another publication, at a monotonic time."""

    to: Publication
    at: float


def publication_of(node: NodeId, carried: CarriedStream) -> Publication | None:
    """What `node` says that it carries; None when it cannot be so."""
    if carried.depth == 0:
        own = carried.origin in (b"", node)
        return Publication(carried.epoch_unix_us, node) if own else None
    if len(carried.origin) != KEY_BYTES or carried.origin == node:
        return None
    return Publication(carried.epoch_unix_us, carried.origin)


def precedence(publication: Publication) -> tuple[int, NodeId]:
    """The smaller one wins."""
    return (-publication.epoch_unix_us, publication.origin)


def current_publication(said: Said, may_publish: Callable[[NodeId], bool]) -> Publication | None:
    """What the name means now, or None when nobody has it.

    Publications whose origin says so itself come first. Where no origin does, the newest that is carried: it
    has ended or its origin cannot be heard, and edges still have the rest. `may_publish` says whether the
    membership of a node has the role for it.
    """
    published: list[Publication] = []
    carried: list[Publication] = []
    for node, stream in said:
        publication = publication_of(node, stream)
        if publication is not None and may_publish(publication.origin):
            (carried if stream.depth else published).append(publication)
    return min(published or carried, key=precedence, default=None)


def next_epoch(said: Said, unix_us: int, before: int = 0) -> int:
    """The epoch of a publication that begins now. `before` is the last epoch of the name known from earlier.

    Everything that is said counts, whoever may publish it: a name must not fall back behind what edges carry.
    """
    newest = max((stream.epoch_unix_us for _, stream in said), default=0)
    return min(max(unix_us, newest + 1, before + 1), EPOCH_US_MAX)


def has_lost(own: Publication, current: Publication | None) -> bool:
    """Whether a node that publishes must stop. Not while its own record is merely not seen yet."""
    return current is not None and precedence(current) < precedence(own)


def refusal(yielded: Yielded | None, current: Publication | None, now: float, *, rests: bool = False) -> str:
    """Why a publisher of the name is refused here now; "" when it is not.

    `rests`: the current publication has lost its publisher, who may be the one that comes here.
    """
    if yielded is None or now >= yielded.at + YIELD_S:
        return ""
    gone = rests or current is None or precedence(current) > precedence(yielded.to)
    if gone and now >= yielded.at + SETTLE_S:
        return ""
    return (
        "this stream is being published on another node of the network: stop one of the two encoders, "
        f"or try again in {yielded.at + YIELD_S - now:.0f} s"
    )
