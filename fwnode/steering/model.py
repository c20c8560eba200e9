"""What the choice of nodes says to viewers, to programs and to its operator. Pure."""

import dataclasses
from typing import Annotated

import msgspec

Described = msgspec.Meta
DISTANCES_KM = (50, 200, 500, 1000, 2000, 5000)  # bounds of the classes that distances are counted in


class NodeUrls(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node of an answer of /play/{stream}. `urls` by what they are: hls, watch, embed, ws, mp4, rtmp."""

    node: str
    name: str
    urls: dict[str, str]
    here: bool = False
    distance_km: int | None = None


class PlayAnswer(msgspec.Struct, frozen=True):
    """The answer of /play/{stream}: the best node first, then fallbacks."""

    stream: str
    last_resort: bool
    nodes: list[NodeUrls]


class IngestNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node of an answer of /ingest/{stream}; the key goes behind `rtmp`."""

    node: str
    name: str
    rtmp: str
    here: bool = False
    distance_km: int | None = None


class IngestAnswer(msgspec.Struct, frozen=True):
    """The answer of /ingest/{stream}: the best node to publish to first."""

    stream: str
    nodes: list[IngestNode]


class TermsView(msgspec.Struct, frozen=True):
    """The parts of a candidate's cost, in milliseconds."""

    path: Annotated[float, Described(description="Round trip to the viewer, measured or by distance.")]
    away: Annotated[float, Described(description="The viewer has to be sent there.")]
    source: Annotated[float, Described(description="The way that the stream comes, or has to come.")]
    uplink: Annotated[float, Described(description="By how full it is with this viewer.")]
    cpu: float
    spread: Annotated[float, Described(description="The tie break of this viewer.")]
    stay: Annotated[float, Described(description="Below 0: the viewer is there already.")]


class CandidateView(msgspec.Struct, frozen=True):
    """One node and why it is where it is."""

    node: Annotated[str, Described(description="Public key, 64 hexadecimal digits.")]
    name: str
    standing: Annotated[str, Described(description="room, kept, stretched, full or barred: the first wins.")]
    total_ms: float
    terms: TermsView
    has_stream: bool
    why: Annotated[str, Described(description="Why it is not with those that have room; or how it lost.")]
    source: Annotated[str, Described(description="Public key of who would feed it; empty: nobody needs to.")]
    source_name: str
    doors: Annotated[list[str], Described(description="Where viewers reach it.")]
    distance_km: int | None


class ViewerPlace(msgspec.Struct, frozen=True):
    """Where the viewer is taken to be."""

    latitude: float
    longitude: float
    country: str
    city: str
    source: Annotated[str, Described(description="configured, city or country.")]


class ExplainView(msgspec.Struct, frozen=True):
    """One decision with all its reasons. Nothing was reserved for it."""

    stream: str
    address: str
    door: Annotated[str, Described(description="What the viewer needs: http, https, rtmp or rtmps.")]
    place: ViewerPlace | None
    prefix: Annotated[str, Described(description="The address's block; empty for one that is not public.")]
    local: Annotated[bool, Described(description="The address is of a network that this node is on.")]
    chosen: Annotated[str, Described(description="Public key; empty: nobody.")]
    chosen_name: str
    last_resort: bool
    reason: str
    candidates: Annotated[list[CandidateView], Described(description="Best first.")]


class SteeringView(msgspec.Struct, frozen=True):
    """The choice of nodes for viewers, as this node makes it; counts since its start."""

    public_doors: Annotated[list[str], Described(description="Where anybody reaches this node.")]
    lan_doors: list[str]
    closed: Annotated[str, Described(description="Why viewers are kept away now; empty: they are not.")]
    candidates: Annotated[int, Described(description="Nodes that are considered, this one included.")]
    reserved: Annotated[int, Described(description="Viewers expected here whom the load does not show.")]
    counters: Annotated[dict[str, int], Described(description="Counts by name.")]
    distances: Annotated[
        dict[str, int], Described(description="Viewers sent, by kilometres: up to that many, or inf.")
    ]


@dataclasses.dataclass(slots=True)
class Counters:
    """Counts of one node since its start."""

    decisions: int = 0
    redirects: int = 0  # viewers sent to other nodes by 307
    kept: int = 0  # viewers who stay, as they were sent on often enough
    refused: int = 0  # viewers for whom there was nobody
    last_resort: int = 0  # viewers sent beyond a promise rather than to nobody
    unknown: int = 0  # asked for streams that nobody has
    distance_km: int = 0  # of all viewers whose distance is known
    placed: int = 0  # how many those are
    by_distance: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(DISTANCES_KM) + 1))

    def sent(self, distance_km: float | None) -> None:
        """A viewer was given a node so far away."""
        if distance_km is None:
            return
        self.placed += 1
        self.distance_km += round(distance_km)
        self.by_distance[sum(distance_km > bound for bound in DISTANCES_KM)] += 1

    def named(self) -> dict[str, int]:
        """All but the classes of distance."""
        found = dataclasses.asdict(self)
        del found["by_distance"]
        return found

    def distances(self) -> dict[str, int]:
        """Viewers by the upper bound of their class."""
        return dict(zip((*map(str, DISTANCES_KM), "inf"), self.by_distance, strict=True))
