"""Distances, and claims that light refutes."""

import math

import pytest

from mesh.directory.facts import Place
from mesh.geo import light
from mesh.geo.centroids import CENTROIDS, centroid, reach_km
from mesh.geo.model import CITY, COUNTRY, Located

BERLIN = Located(52.52, 13.40, "DE")
LONDON = Located(51.51, -0.13, "GB", "London", CITY)
SYDNEY = Located(-33.87, 151.21, "AU", "Sydney", CITY)


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ((52.52, 13.40), (51.51, -0.13), 932),
        ((51.51, -0.13), (-33.87, 151.21), 16_990),
        ((0.0, 179.9), (0.0, -179.9), 22),
        ((90.0, 0.0), (-90.0, 0.0), 20_015),
        ((0.0, 0.0), (0.0, 180.0), 20_015),
        ((10.0, 10.0), (10.0, 10.0), 0),
    ],
)
def test_distance(a: tuple[float, float], b: tuple[float, float], km: float) -> None:
    assert light.distance_km(*a, *b) == pytest.approx(km, rel=0.005, abs=0.5)
    assert light.distance_km(*b, *a) == light.distance_km(*a, *b)


def test_a_thousand_kilometres_take_ten_milliseconds_there_and_back() -> None:
    assert light.light_allows(1000, 0.010)
    assert not light.light_allows(1000, 0.0098)
    assert light.light_allows(0, 0.0)


def test_what_cannot_be_is_doubted_with_figures() -> None:
    reason = light.doubt(BERLIN, SYDNEY, 0.02)
    assert reason.startswith("claims to be 16") and "20.0 ms" in reason


@pytest.mark.parametrize("rtt_s", [0.3, 0.16, 0.0, -1.0, math.nan, math.inf])
def test_what_may_be_and_what_was_not_measured_is_not(rtt_s: float) -> None:
    assert light.doubt(BERLIN, SYDNEY, rtt_s) == ""


def test_near_places_are_never_doubted() -> None:
    # 932 km, of which the kinds of the two places may explain 350.
    assert light.doubt(BERLIN, LONDON, 0.007) == ""
    assert light.doubt(BERLIN, LONDON, 0.001)


def test_a_country_is_as_large_as_it_is() -> None:
    somewhere = Place(38.0, -92.0, COUNTRY, "US")  # and the peer is in Boston, 5300 km from London
    assert light.doubt(LONDON, somewhere, 0.070) == ""
    assert light.doubt(LONDON, Place(1.3, 103.8, COUNTRY, "SG"), 0.070)
    assert light.doubt(LONDON, Place(1.3, 103.8, COUNTRY, "ZZ"), 0.001) == ""


def test_every_country_has_a_place() -> None:
    assert len(CENTROIDS) == 250
    for code, (latitude, longitude) in CENTROIDS.items():
        assert len(code) == 2 and code.isupper()
        assert -90 <= latitude <= 90 and -180 <= longitude <= 180
        assert 500 <= reach_km(code) < 20_016
    assert centroid("ZZ") is None


@pytest.mark.parametrize(
    ("code", "latitude", "longitude"),
    [
        ("US", 21.3, -157.9),  # Honolulu
        ("RU", 53.0, 158.7),  # Petropavlovsk-Kamchatsky
        ("ES", 28.1, -15.4),  # Las Palmas
        ("IN", 8.1, 77.5),  # Kanyakumari
        ("JP", 26.2, 127.7),  # Naha
        ("CN", 43.8, 87.6),  # Urumqi
        ("GB", 60.2, -1.1),  # Lerwick
        ("NO", 69.7, 30.0),  # Kirkenes
        ("DZ", 22.8, 5.5),  # Tamanrasset
        ("ZA", -33.9, 18.4),  # Cape Town
    ],
)
def test_far_corners_are_within_reach(code: str, latitude: float, longitude: float) -> None:
    assert light.distance_km(*CENTROIDS[code], latitude, longitude) < reach_km(code)
