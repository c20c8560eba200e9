"""Where people and hobby nodes are, and what lines nodes have; drawn from one seed.

Cities of over a million people or the largest of their country, with the population of the urban area in
millions (rounded from the UN's World Urbanization Prospects 2018). People live in and around them. Nodes of
networks like this one (Owncast's and PeerTube's directories, Tor's relays) stand mostly in Europe and North
America: `NODES` and `AUDIENCE` weigh the regions so. Weights and lines are guesses of that kind.
"""

import math
from dataclasses import dataclass
from random import Random

from mesh.geo.model import CITY, Located
from mesh.routing.viewer_costs import Point, point

CITIES = """
EU: London 51.5 -0.1 9.3, Paris 48.9 2.4 11.0, Madrid 40.4 -3.7 6.6, Barcelona 41.4 2.2 5.5,
Berlin 52.5 13.4 3.6, Hamburg 53.6 10.0 1.8, Munich 48.1 11.6 1.5, Cologne 50.9 7.0 1.1,
Frankfurt 50.1 8.7 0.8, Stuttgart 48.8 9.2 0.6, Leipzig 51.3 12.4 0.6, Amsterdam 52.4 4.9 1.1,
Rotterdam 51.9 4.5 1.0, Utrecht 52.1 5.1 0.5, Brussels 50.9 4.4 2.1, Vienna 48.2 16.4 1.9,
Zurich 47.4 8.5 1.4, Geneva 46.2 6.1 0.6, Milan 45.5 9.2 3.1, Rome 41.9 12.5 4.2, Naples 40.8 14.3 2.2,
Turin 45.1 7.7 1.8, Lisbon 38.7 -9.1 2.9, Porto 41.1 -8.6 1.3, Dublin 53.3 -6.3 1.2,
Manchester 53.5 -2.2 2.7, Birmingham 52.5 -1.9 2.6, Glasgow 55.9 -4.3 1.7, Copenhagen 55.7 12.6 1.3,
Stockholm 59.3 18.1 1.6, Gothenburg 57.7 12.0 0.6, Oslo 59.9 10.8 1.0, Helsinki 60.2 24.9 1.3,
Tallinn 59.4 24.8 0.4, Riga 56.9 24.1 0.6, Vilnius 54.7 25.3 0.5, Warsaw 52.2 21.0 1.8,
Krakow 50.1 19.9 0.8, Gdansk 54.4 18.6 0.5, Prague 50.1 14.4 1.3, Brno 49.2 16.6 0.4,
Budapest 47.5 19.0 1.8, Bucharest 44.4 26.1 1.8, Sofia 42.7 23.3 1.3, Belgrade 44.8 20.5 1.4,
Zagreb 45.8 16.0 0.7, Athens 38.0 23.7 3.2, Kyiv 50.5 30.5 3.0, Lviv 49.8 24.0 0.7, Lyon 45.8 4.8 1.7,
Marseille 43.3 5.4 1.6, Toulouse 43.6 1.4 1.0, Bordeaux 44.8 -0.6 0.9, Lille 50.6 3.1 1.1,
Moscow 55.8 37.6 12.5, Saint-Petersburg 59.9 30.3 5.4, Istanbul 41.0 29.0 15.2, Valencia 39.5 -0.4 0.8
NA: NewYork 40.7 -74.0 18.8, LosAngeles 34.1 -118.2 12.4, Chicago 41.9 -87.6 8.9, Houston 29.8 -95.4 6.3,
Dallas 32.8 -96.8 6.3, Miami 25.8 -80.2 6.1, Atlanta 33.7 -84.4 5.8, Philadelphia 40.0 -75.2 5.7,
Washington 38.9 -77.0 5.3, Phoenix 33.4 -112.1 4.5, Boston 42.4 -71.1 4.3, Detroit 42.3 -83.0 3.5,
Seattle 47.6 -122.3 3.4, SanFrancisco 37.8 -122.4 3.3, SanDiego 32.7 -117.2 3.2,
Minneapolis 45.0 -93.3 2.9, Denver 39.7 -105.0 2.8, SaltLake 40.8 -111.9 1.2, Portland 45.5 -122.7 2.1,
StLouis 38.6 -90.2 2.2, KansasCity 39.1 -94.6 1.7, Pittsburgh 40.4 -80.0 1.7, Charlotte 35.2 -80.8 2.2,
Nashville 36.2 -86.8 1.2, Toronto 43.7 -79.4 6.1, Montreal 45.5 -73.6 4.2, Vancouver 49.3 -123.1 2.5,
Calgary 51.0 -114.1 1.5, Mexico 19.4 -99.1 21.6, Guadalajara 20.7 -103.3 5.0, Monterrey 25.7 -100.3 4.7
SA: SaoPaulo -23.6 -46.6 21.7, Rio -22.9 -43.2 13.3, BuenosAires -34.6 -58.4 15.0, Lima -12.0 -77.0 10.4,
Bogota 4.7 -74.1 10.6, Santiago -33.4 -70.7 6.7, Caracas 10.5 -66.9 2.9, Brasilia -15.8 -47.9 4.5,
Recife -8.1 -34.9 4.0, PortoAlegre -30.0 -51.2 4.1, Montevideo -34.9 -56.2 1.7, Medellin 6.2 -75.6 3.9
AS: Tokyo 35.7 139.7 37.5, Osaka 34.7 135.5 19.3, Nagoya 35.2 136.9 9.5, Seoul 37.6 127.0 10.0,
Busan 35.2 129.1 3.5, Taipei 25.0 121.5 2.7, HongKong 22.3 114.2 7.4, Shanghai 31.2 121.5 25.6,
Beijing 39.9 116.4 19.6, Singapore 1.4 103.8 5.8, KualaLumpur 3.1 101.7 7.6, Bangkok 13.8 100.5 10.2,
Jakarta -6.2 106.8 10.5, Manila 14.6 121.0 13.5, Hanoi 21.0 105.8 7.9, Delhi 28.6 77.2 28.5,
Mumbai 19.1 72.9 20.0, Bangalore 13.0 77.6 11.4, Chennai 13.1 80.3 10.5, Karachi 24.9 67.0 15.4,
Dhaka 23.8 90.4 19.6, TelAviv 32.1 34.8 4.0, Dubai 25.2 55.3 2.8, Riyadh 24.7 46.7 6.9,
Tehran 35.7 51.4 8.9, Almaty 43.2 76.9 1.8
AF: Cairo 30.0 31.2 20.1, Lagos 6.5 3.4 13.5, Nairobi -1.3 36.8 4.4, Johannesburg -26.2 28.0 5.5,
CapeTown -33.9 18.4 4.4, Casablanca 33.6 -7.6 3.7, Accra 5.6 -0.2 2.4, Tunis 36.8 10.2 2.3,
Kinshasa -4.3 15.3 13.2
OC: Sydney -33.9 151.2 4.8, Melbourne -37.8 145.0 4.8, Brisbane -27.5 153.0 2.3, Perth -31.9 115.9 2.0,
Auckland -36.8 174.8 1.6, Wellington -41.3 174.8 0.4
"""
NODES = {"EU": 6.0, "NA": 4.0, "OC": 5.0, "SA": 0.5, "AS": 0.3, "AF": 0.1}  # beside their people
AUDIENCE = {"EU": 6.0, "NA": 4.0, "OC": 5.0, "SA": 1.0, "AS": 0.4, "AF": 0.2}
TOWN_SHARE, TOWN_KM, LAND_KM = 0.7, 15.0, 100.0  # the rest live around
KNOWN_KM, ROUGHLY_KM, KNOWN_SHARE = 15.0, 80.0, 0.8  # how far off a city database is, mostly and else
KM_PER_DEGREE = 111.2
LINES_BPS = (  # of how many, from, to; evenly in the logarithm
    (0.60, 5e6, 50e6),  # DSL and cable
    (0.28, 50e6, 500e6),  # fibre
    (0.09, 500e6, 1e9),  # small servers
    (0.03, 1e9, 10e9),  # large ones
)


@dataclass(frozen=True, slots=True)
class City:
    region: str
    latitude: float
    longitude: float
    people: float


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something is, and where a database says that it is."""

    region: str
    at: Point
    known: Located


def cities() -> list[City]:
    found = []
    for part in CITIES.strip().replace(",\n", ", ").splitlines():
        region, _, rest = part.partition(": ")
        for entry in rest.split(", "):
            _, latitude, longitude, people = entry.split()
            found.append(City(region, float(latitude), float(longitude), float(people)))
    return found


class Places:
    """Draws places: of nodes, of viewers, of one region or of all."""

    def __init__(self, weights: dict[str, float]) -> None:
        self._all = cities()
        self._weights = _running([city.people * weights[city.region] for city in self._all])
        self._of: dict[str, tuple[list[City], list[float]]] = {}
        for region in weights:
            of = [city for city in self._all if city.region == region]
            self._of[region] = of, _running([city.people for city in of])

    def draw(self, random: Random, region: str = "") -> Spot:
        among, weights = self._of[region] if region else (self._all, self._weights)
        (city,) = random.choices(among, cum_weights=weights)
        off_km = TOWN_KM if random.random() < TOWN_SHARE else LAND_KM
        latitude, longitude = _off(random, city.latitude, city.longitude, off_km)
        wrong_km = KNOWN_KM if random.random() < KNOWN_SHARE else ROUGHLY_KM
        known = Located(*_off(random, latitude, longitude, wrong_km), source=CITY)
        at = point(Located(latitude, longitude))
        assert at is not None
        return Spot(city.region, at, known)


def line_bps(random: Random) -> int:
    """What a node's owner allows: most have little, few have very much."""
    (kind,) = random.choices(LINES_BPS, [share for share, _, _ in LINES_BPS])
    return round(math.exp(random.uniform(math.log(kind[1]), math.log(kind[2]))))


def _off(random: Random, latitude: float, longitude: float, km: float) -> tuple[float, float]:
    north, east = random.gauss(0, km), random.gauss(0, km)
    return (
        latitude + north / KM_PER_DEGREE,
        longitude + east / KM_PER_DEGREE / math.cos(math.radians(latitude)),
    )


def _running(weights: list[float]) -> list[float]:
    total, running = 0.0, []
    for weight in weights:
        total += weight
        running.append(total)
    return running
