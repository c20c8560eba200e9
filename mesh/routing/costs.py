"""What a parent costs: one sum of terms in milliseconds, each kept so that a choice can be explained. Pure.

A millisecond of a term weighs as much as one of round trip. Every term but `stay_ms` is at least 0 and grows,
or stays, as the thing that it measures gets worse.
"""

from enum import StrEnum

import msgspec

from mesh.directory.facts import Load
from mesh.geo.light import shortest_rtt_s

MS = 1000.0
ESTIMATE_MS = 30.0  # on a round trip that was not measured, so that of two alike the measured one wins
DETOUR = 2.0  # cables and queues make round trips about twice what light needs; guess
UNKNOWN_MS = 200.0  # neither measured nor placed: half-way round the earth
LOSS_MS = 1000.0  # of all packets; 1 % weighs 10 ms: a lost packet holds up those behind it for a round trip
DEPTH_MS = 20.0  # a hop: half of a usual round trip, and one more node that may go
UPLINK_MS = 100.0  # of a full uplink; it grows with the square, so that half full matters little
CPU_MS = 50.0  # of a busy processor, likewise
UNTOLD = 0.5  # of the uplink and the processor of a node that has not said
ASSUMED_UPLINK_BPS = 20_000_000  # of a node without a budget; guess: what a home line sends
ASSUMED_BITRATE_BPS = 5_000_000  # of a stream whose bitrate nobody says; 1080p as encoders suggest it
SPREAD_MS = 5.0  # differences as small do not matter: the hash decides
STAY_MS = 20.0  # another parent must be better by this
STAY_SHARE = 0.2  # and by this share of what the present one costs
SETTLE_S = 10.0  # a new parent stays so long, unless it fails: two rounds in which load is told


class Reach(StrEnum):
    """How this node gets to a member, or would."""

    DIRECT = "direct"  # a link over TCP
    PUNCHED = "punched"  # a link over QUIC through NAT
    RELAYED = "relayed"  # a link over a third member
    DIALABLE = "dialable"  # no link; it says that it can be dialled
    INDIRECT = "indirect"  # no link; it must be punched to, or relayed
    NONE = "none"  # tried, and not reached


REACH_MS: dict[Reach, float] = {
    Reach.DIRECT: 0.0,
    Reach.PUNCHED: 5.0,  # ten times the CPU of TCP a byte, measured
    Reach.DIALABLE: 10.0,  # a link has to be made first
    Reach.INDIRECT: 40.0,  # and may come to be relayed
    Reach.RELAYED: 60.0,  # uses a third member's uplink as well
    Reach.NONE: UNKNOWN_MS,
}


class Terms(msgspec.Struct, frozen=True):
    """The parts of a parent's cost, in milliseconds."""

    path_ms: float  # round trip: measured, or estimated by distance
    loss_ms: float
    reach_ms: float
    depth_ms: float
    uplink_ms: float
    cpu_ms: float
    spread_ms: float  # the tie break
    stay_ms: float = 0.0  # below 0 for the present parent

    @property
    def total_ms(self) -> float:
        return self.cost_ms + self.stay_ms

    @property
    def cost_ms(self) -> float:
        """Without the advantage of being there."""
        return (
            self.path_ms
            + self.loss_ms
            + self.reach_ms
            + self.depth_ms
            + self.uplink_ms
            + self.cpu_ms
            + self.spread_ms
        )


def path_ms(rtt_s: float | None, distance_km: float | None) -> float:
    """The round trip as measured, else as the distance lets one expect."""
    if rtt_s is not None:
        return max(0.0, rtt_s) * MS
    if distance_km is not None:
        return ESTIMATE_MS + DETOUR * shortest_rtt_s(distance_km) * MS
    return ESTIMATE_MS + UNKNOWN_MS


def uplink_ms(load: Load | None, bitrate_bps: int, *, fed: bool) -> float:
    """By how full the uplink is, or would be with the stream; `fed`: the stream is part of it already."""
    if load is None:
        return UPLINK_MS * UNTOLD**2
    share = _wanted_bps(load, bitrate_bps, fed=fed) / (load.uplink_budget_bps or ASSUMED_UPLINK_BPS)
    return UPLINK_MS * share**2


def cpu_ms(load: Load | None) -> float:
    """By how busy the processor is."""
    return CPU_MS * (UNTOLD if load is None else load.cpu) ** 2


def has_room(load: Load, bitrate_bps: int) -> bool:
    """Whether a node's uplink budget takes a stream more; the node asks the same before it feeds one."""
    return not load.uplink_budget_bps or _wanted_bps(load, bitrate_bps, fed=False) <= load.uplink_budget_bps


def stay_ms(cost_ms: float, since_s: float) -> float:
    """What the present parent is given ahead, `since_s` after it was chosen."""
    ahead = STAY_MS + STAY_SHARE * cost_ms
    return -max(ahead, cost_ms) if since_s < SETTLE_S else -ahead


def _wanted_bps(load: Load, bitrate_bps: int, *, fed: bool) -> int:
    """Sent, promised to viewers who have not come yet, and this stream."""
    bitrate_bps = bitrate_bps or ASSUMED_BITRATE_BPS
    return load.uplink_bps + (load.reservations + (not fed)) * bitrate_bps
