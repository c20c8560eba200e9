"""What a viewer costs at a member: a sum of terms in milliseconds, as parents have one. Pure.

Distance leads: of two members with room the nearer one is taken unless its uplink or processor is nearly
full. Every term but `stay_ms` is at least 0 and grows, or stays, as the thing that it measures gets worse.
"""

import math
from typing import TypeAlias

import msgspec

from mesh.geo.light import EARTH_RADIUS_KM, shortest_rtt_s
from mesh.geo.model import Spot
from mesh.routing.costs import CPU_MS, DETOUR, MS, UNKNOWN_MS, UNTOLD, UPLINK_MS

ACCESS_MS = 15.0  # what a viewer's own line adds to light's way; guess: between fibre's 3 and DSL's 30
KM_MS = DETOUR * shortest_rtt_s(1.0) * MS  # a round trip's share of a kilometre
LAN_MS = 1.0  # the same local network
PREFIX_MS = 10.0  # the same block of addresses: the same provider, mostly in the same town
HOP_MS = 0.5  # a hop from the origin adds its way to the delay once, not to every request; guess
COLD_MS = 0.5  # fetching a stream that is not there: once for all viewers, and one copy's uplink
COLD_SHARE = 0.05  # of the way from the parent, which the first viewer pays and all later ones save
AWAY_MS = 0.25  # being sent on costs a round trip, once
NEARLY_FULL = 12  # the power of pressure: three quarters full weighs 3 % of full, nine tenths 28 %
CPU_POWER = 8  # of the processor likewise, whose share is the noisier measure
SPREAD_MS = 0.25  # 12 km: less than places of addresses are off, so it costs nothing

Point: TypeAlias = tuple[float, float, float]
"""A place as a vector of length 1 from the middle of the earth."""


class Terms(msgspec.Struct, frozen=True):
    """The parts of a viewer's cost at a member, in milliseconds."""

    path_ms: float  # round trip: measured, or estimated by distance
    away_ms: float  # the viewer has to be sent there
    source_ms: float  # hops that the stream has come, or will have when it is fetched, and the fetching
    uplink_ms: float  # how full with this viewer
    cpu_ms: float
    spread_ms: float  # the tie break
    stay_ms: float = 0.0  # below 0 where the viewer is now

    @property
    def total_ms(self) -> float:
        return self.cost_ms + self.stay_ms

    @property
    def cost_ms(self) -> float:
        """Without the advantage of being there."""
        return self.path_ms + self.away_ms + self.source_ms + self.uplink_ms + self.cpu_ms + self.spread_ms


def point(place: Spot | None) -> Point | None:
    """A place to measure from; None when there is none, or when it is no place on earth."""
    if place is None or not (math.isfinite(place.latitude) and math.isfinite(place.longitude)):
        return None
    phi, lambda_ = math.radians(place.latitude), math.radians(place.longitude)
    flat = math.cos(phi)
    return flat * math.cos(lambda_), flat * math.sin(lambda_), math.sin(phi)


def apart_km(a: Point, b: Point) -> float:
    """Along the great circle, by the chord: exact for neighbours, and half the price of the haversine."""
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(x * x + y * y + z * z) / 2))


def estimate_ms(a: Point | None, b: Point | None) -> float:
    """The round trip that a distance lets one expect; half-way round the earth where it is not known."""
    return ACCESS_MS + (UNKNOWN_MS if a is None or b is None else KM_MS * apart_km(a, b))


def uplink_ms(wanted_bps: float, budget_bps: int) -> float:
    """By how full an uplink is; more than full goes on growing, so that the last resort is spread as well."""
    return UPLINK_MS * (max(0.0, wanted_bps) / budget_bps) ** NEARLY_FULL


def cpu_ms(cpu: float | None) -> float:
    """By how busy the processor is; None: not told."""
    return CPU_MS * float(UNTOLD if cpu is None else min(1.0, max(0.0, cpu))) ** CPU_POWER
