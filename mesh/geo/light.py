"""Light cannot lie: whether a place that is claimed can be true, given a round-trip time. Pure.

A signal takes 5 us for a kilometre of fibre (two thirds of c; ITU-T G.652 gives a group index of 1.468), and
no cable is straighter than a great circle. A round trip faster than that means that one of the two places is
wrong. A slower one means nothing: a cable may go any way round.
"""

import math

from mesh.geo.centroids import reach_km
from mesh.geo.model import CITY, CONFIGURED, Spot

EARTH_RADIUS_KM = 6371.0  # mean radius (IUGG); a sphere is wrong by at most 0.6 %
FIBRE_KM_PER_S = 200_000.0
SPHERE_FACTOR = 0.994  # what the sphere may add to a distance is taken off again
CONFIGURED_KM = 100.0  # people write whole degrees: up to 80 km off, and little more
CITY_KM = 250.0  # city databases put most addresses within 50 km, and mobile ones at their carrier's gateway


def distance_km(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Along the great circle (haversine formula). Degrees in, kilometres out, 0 to 20,015."""
    phi, to_phi = math.radians(latitude), math.radians(to_latitude)
    half_phi = (to_phi - phi) / 2
    half_lambda = math.radians(to_longitude - longitude) / 2
    h = math.sin(half_phi) ** 2 + math.cos(phi) * math.cos(to_phi) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def shortest_rtt_s(distance: float) -> float:
    """The least that a round trip over `distance` kilometres takes."""
    return 2 * distance * SPHERE_FACTOR / FIBRE_KM_PER_S


def light_allows(distance: float, rtt_s: float) -> bool:
    """Whether a round trip of `rtt_s` can have gone `distance` kilometres there and back."""
    return rtt_s >= shortest_rtt_s(distance)


def uncertainty_km(place: Spot) -> float:
    """How far the truth may be from a place, by how it was found."""
    if place.source == CONFIGURED:
        return CONFIGURED_KM
    return CITY_KM if place.source == CITY else reach_km(place.country)


def doubt(own: Spot, claimed: Spot, rtt_s: float) -> str:
    """Why `claimed` cannot be true of a peer that answers within `rtt_s`; "" when it can.

    Doubts only what is impossible even if both places are as wrong as places of their kind can be, so an
    honest peer with a rough database is never accused. Give the smallest round trip seen.
    """
    if not math.isfinite(rtt_s) or rtt_s <= 0:
        return ""  # nothing was measured
    distance = distance_km(own.latitude, own.longitude, claimed.latitude, claimed.longitude)
    certain = distance - uncertainty_km(own) - uncertainty_km(claimed)
    if certain <= 0 or light_allows(certain, rtt_s):
        return ""
    return (
        f"claims to be {distance:.0f} km away but answers in {rtt_s * 1000:.1f} ms: "
        f"light in fibre needs {shortest_rtt_s(certain) * 1000:.0f} ms at the least"
    )
