"""What offloading did and cost, for metrics and the ledger. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from media.transcode.livepeer.rendition import Rendition

REASONS_MAX = 64  # kinds of failures are this program's own words; a fault here must not grow memory


@dataclass(slots=True)
class Counts:
    """Only grow. Shared by all streams of a node, or one for each."""

    segments_sent: int = 0  # requests; a retry counts again
    bytes_sent: int = 0
    bytes_received: int = 0  # of renditions that were released
    segments_released: int = 0
    segments_fell_back: int = 0
    pictures: int = 0
    pixels: int = 0  # of renditions that were released
    media_ms: int = 0  # of source media whose renditions were released
    rendition_ms: int = 0  # the same for each rendition: what is billed as transcoded minutes
    price: int = 0  # as the gateways' price headers say
    failures: Counter[str] = field(default_factory=Counter)  # of requests, by kind
    fallbacks: Counter[str] = field(default_factory=Counter)  # of segments, by kind

    def released(self, duration_s: float, renditions: Iterable[Rendition]) -> None:
        self.segments_released += 1
        self.media_ms += round(duration_s * 1000)
        for rendition in renditions:
            self.rendition_ms += round(duration_s * 1000)
            self.pictures += len(rendition.pictures)
            self.pixels += rendition.width * rendition.height * len(rendition.pictures)
            self.bytes_received += sum([len(picture.data) for picture in rendition.pictures])

    def failed(self, kind: str) -> None:
        """A request did not bring renditions."""
        _count(self.failures, kind)

    def fell_back(self, kind: str) -> None:
        """A segment has to be made on this node."""
        self.segments_fell_back += 1
        _count(self.fallbacks, kind)


def _count(counter: Counter[str], kind: str) -> None:
    counter[kind if kind in counter or len(counter) < REASONS_MAX else "other"] += 1
