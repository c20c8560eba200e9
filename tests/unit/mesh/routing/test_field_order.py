"""The order in which members are looked at for a viewer."""

import msgspec

from mesh.directory.facts import CarriedStream
from mesh.geo.model import Located
from mesh.routing.field import Field
from mesh.routing.owners import Publication
from mesh.routing.reservations import Reservations
from mesh.routing.viewers import Candidate, Viewer, Wanted, rank

NAME = "garden"
ORIGIN, FAR = bytes(32), bytes([3] * 32)


def test_who_is_nowhere_comes_before_the_other_side_of_the_earth() -> None:
    """An unknown way is reckoned shorter than that, so it must not stand behind it."""
    publication = Publication(1_700_000_000_000_000, ORIGIN)
    wanted = Wanted(NAME, publication, 5_000_000)
    http = frozenset(("http",))
    carried = CarriedStream(NAME, publication.epoch_unix_us, 1, [], ORIGIN)
    candidates = [
        Candidate(ORIGIN, doors=http),
        Candidate(FAR, place=Located(0.0, 1.0, "", "", "configured"), doors=http, carried=carried),
    ]
    field, reservations = Field(), Reservations()
    field.want(wanted)
    for candidate in candidates:
        field.put(msgspec.structs.replace(candidate, carried=None))
        field.carry(NAME, candidate.node, candidate.carried)
    viewer = Viewer(key=b"", place=Located(0.0, 97.0), asked=bytes([1] * 32))
    found = field.choose(viewer, NAME, reservations, 0.0)
    ranking = rank(viewer, wanted, candidates, reservations, 0.0)
    assert found is not None and found.node == ranking.chosen == ORIGIN
