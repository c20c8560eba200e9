"""A record of a place database as a place. Pure.

The layout is MaxMind's GeoIP2 City and Country (https://dev.maxmind.com/geoip/docs/databases/city-and-country),
which DB-IP's databases share. The file may be anybody's: every field is checked.
"""

from typing import Any

from mesh.geo.centroids import centroid
from mesh.geo.model import CITY, COUNTRY, Located

CITY_CHARACTERS_MAX = 100  # the longest names of towns in use have 85 letters
CITY_RADIUS_KM_MAX = 200  # databases give a country's middle with 1000 where they know no more


def country_place(code: str) -> Located | None:
    """The middle of a country; None when there is no such country."""
    where = centroid(code)
    return Located(where[0], where[1], code, "", COUNTRY) if where else None


def located_untrusted(record: object) -> Located | None:
    """The place in a record, or the middle of its country; None when it has neither. Raises nothing."""
    if not isinstance(record, dict):
        return None
    country = _country(record)
    location = _map(record, "location")
    latitude = _degrees(location.get("latitude"), 90.0)
    longitude = _degrees(location.get("longitude"), 180.0)
    if latitude is None or longitude is None:
        return country_place(country)
    city = _city(record)
    radius = location.get("accuracy_radius")
    near = isinstance(radius, int) and radius <= CITY_RADIUS_KM_MAX
    return Located(latitude, longitude, country, city, CITY if city or near else COUNTRY)


def _map(record: dict[Any, Any], key: str) -> dict[Any, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _country(record: dict[Any, Any]) -> str:
    """Where the address is used, or else where it is registered."""
    for key in ("country", "registered_country"):
        code = _map(record, key).get("iso_code")
        if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha():
            return code.upper()
    return ""


def _city(record: dict[Any, Any]) -> str:
    name = _map(_map(record, "city"), "names").get("en")
    if not isinstance(name, str):
        return ""
    return "".join(c for c in name[:CITY_CHARACTERS_MAX] if c.isprintable()).strip()


def _degrees(value: object, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -most <= value <= most else None  # false for NaN
