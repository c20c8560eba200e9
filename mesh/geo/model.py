"""A place as found for an address or set by an operator, and what can go wrong in finding one. Pure."""

from typing import Protocol

import msgspec

from mesh.errors import MeshError

CONFIGURED = "configured"  # the operator said so
CITY = "city"  # a city database knows the town, or the surroundings
COUNTRY = "country"  # only the country is known: the place is where its people are


class GeoError(MeshError):
    """A database cannot be fetched or written. One sentence for a person; it never holds a key."""


class Located(msgspec.Struct, frozen=True):
    """A place on earth: degrees, north and east positive."""

    latitude: float
    longitude: float
    country: str = ""  # ISO 3166-1 alpha-2; "" when unknown
    city: str = ""  # English name, as the database spells it; only for people
    source: str = CONFIGURED  # CONFIGURED, CITY or COUNTRY: also how far off it may be


class Spot(Protocol):
    """What a check of a claim needs of a place. `Located` is one, and so is the directory's record."""

    @property
    def latitude(self) -> float: ...

    @property
    def longitude(self) -> float: ...

    @property
    def country(self) -> str: ...

    @property
    def source(self) -> str: ...


class DatabaseFacts(msgspec.Struct, frozen=True):
    """What a database says about itself."""

    path: str
    kind: str  # "GeoLite2-City", "DBIP-City-Lite"
    built_unix_s: int
    size_bytes: int
