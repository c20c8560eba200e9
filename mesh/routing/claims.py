"""How much of what a member says of itself is believed: its place and its uplink. Pure.

A node that says that it is next to everybody and has no end of bandwidth would draw all viewers to itself.
So a place is dropped that a measured round trip refutes, and an uplink counts only up to what others saw.
"""

from collections.abc import Iterable

import msgspec

from mesh.directory.facts import Load
from mesh.geo.light import doubt
from mesh.geo.model import Spot
from mesh.model import NodeId
from mesh.routing.costs import ASSUMED_UPLINK_BPS

UNPROVEN_BPS = 100_000_000  # what is believed of a member of which nobody saw more; guess: a good home line
PROOF_FACTOR = 2  # what was seen proves as much again, so that a node that is used grows into its claim
WITNESSES = 2  # others who must refute a place: one alone could slander


class Measured(msgspec.Struct, frozen=True):
    """The smallest round trip that a member saw to another, and where that member is."""

    by: NodeId
    at: Spot
    rtt_s: float


def believed_place(
    claimed: Spot | None, own: Spot | None, rtt_s: float | None, others: Iterable[Measured] = ()
) -> tuple[Spot | None, str]:
    """The place to count with, and why it is not the one claimed.

    `rtt_s` is this node's own smallest round trip to the member; it needs no witness.
    """
    if claimed is None:
        return None, ""
    if own is not None and rtt_s is not None and (why := doubt(own, claimed, rtt_s)):
        return None, why
    whys = {seen.by: why for seen in others if (why := doubt(seen.at, claimed, seen.rtt_s))}
    if len(whys) >= WITNESSES:
        return None, whys[min(whys)]
    return claimed, ""


def believed_budget_bps(load: Load | None, proven_bps: int) -> int:
    """The uplink that viewers are sent for: what the owner allows, as far as others saw that it is there.

    A node without a limit, or that has not told, has what a home line has until more was seen.
    """
    claimed = load.uplink_budget_bps if load is not None else 0
    proven = PROOF_FACTOR * max(0, proven_bps)
    if not claimed:
        return max(ASSUMED_UPLINK_BPS, proven)
    return min(claimed, max(UNPROVEN_BPS, proven))
