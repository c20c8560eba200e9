"""Records of databases, good and garbage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.geo.model import CITY, COUNTRY, Located
from mesh.geo.record import CITY_CHARACTERS_MAX, country_place, located_untrusted

LONDON: dict[str, Any] = {
    "city": {"names": {"en": "London", "de": "London"}},
    "country": {"iso_code": "GB"},
    "location": {"latitude": 51.5, "longitude": -0.1, "accuracy_radius": 10},
}
GERMANY = Located(51.0, 10.0, "DE", "", COUNTRY)


def test_city() -> None:
    assert located_untrusted(LONDON) == Located(51.5, -0.1, "GB", "London", CITY)


def test_only_a_country() -> None:
    assert located_untrusted({"country": {"iso_code": "DE"}}) == GERMANY
    assert located_untrusted({"registered_country": {"iso_code": "DE"}}) == GERMANY


def test_the_middle_of_a_country_is_not_a_city() -> None:
    record = {
        "country": {"iso_code": "US"},
        "location": {"latitude": 37.751, "longitude": -97.822, "accuracy_radius": 1000},
    }
    assert located_untrusted(record) == Located(37.751, -97.822, "US", "", COUNTRY)


@pytest.mark.parametrize(
    "location",
    [
        {"latitude": 91.0, "longitude": 0.0},
        {"latitude": float("nan"), "longitude": 0.0},
        {"latitude": "51", "longitude": "0"},
        {"latitude": True, "longitude": False},
        {"latitude": 1.0},
        [],
        None,
    ],
)
def test_bad_degrees_leave_the_country(location: Any) -> None:
    assert located_untrusted({"country": {"iso_code": "DE"}, "location": location}) == GERMANY
    assert located_untrusted({"location": location}) is None


def test_names_are_bounded_and_printable() -> None:
    name = "Lon\x1b[31mdon\n" + "x" * 1000
    found = located_untrusted(LONDON | {"city": {"names": {"en": name}}})
    assert found is not None
    assert found.city.isprintable() and len(found.city) <= CITY_CHARACTERS_MAX


def test_countries() -> None:
    assert country_place("DE") == GERMANY
    assert country_place("ZZ") is None
    assert country_place("") is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["city", "names", "en", "country", "iso_code", "location", "latitude", "longitude"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(junk)
def test_garbage_is_no_place_or_a_good_one(record: Any) -> None:
    found = located_untrusted(record)
    assert found is None or (-90 <= found.latitude <= 90 and -180 <= found.longitude <= 180)
