"""What a player tells of one viewing, and what all of them together say. Pure."""

import re
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

STARTUP_MAX_MS = 120_000  # whoever waited two minutes for a picture has not waited longer
LATENCY_MAX_MS = 120_000  # a live picture older than this is a clock that is wrong
TOTAL_MAX_MS = 7 * 86_400_000  # a page that is open for a week
COUNT_MAX = 2**40  # frames of a century
BUFFER_MAX_MS = 600_000
THROUGHPUT_MAX_KBPS = 10_000_000
TRANSPORTS = frozenset(("hls", "hls-native", "websocket", "webrtc", "progressive"))
OTHER = "other"  # a transport that this program does not know

Transport: TypeAlias = Annotated[str, Meta(max_length=16)]
Rendition: TypeAlias = Annotated[str, Meta(max_length=16)]
Described = msgspec.Meta
Count: TypeAlias = Annotated[int, Meta(ge=0, le=COUNT_MAX)]


_NAME = re.compile(r"[a-z0-9-]{0,16}", re.ASCII)


def rendition_untrusted(name: str) -> str:
    """A rendition's name as it may be shown; empty for what can be none."""
    return name if _NAME.fullmatch(name) else ""


def transport_untrusted(name: str) -> str:
    """A transport's name; there are few, as each is a series of metrics."""
    return name if name in TRANSPORTS else OTHER


class Sighting(msgspec.Struct, array_like=True, frozen=True):
    """What was heard of one viewing. Values are within the bounds above; totals are since it began."""

    session: Annotated[int, Meta(ge=0)]  # a digest of what the player calls it
    address: int  # stands for the viewer's address and cannot be turned back into it
    transport: Transport  # of TRANSPORTS, or OTHER
    rendition: Rendition = ""  # a track's name; empty: not known
    startup_ms: Count | None = None  # None: no picture so far, or not known
    latency_ms: Count | None = None  # glass to glass, from the node's reception of the picture
    watched_ms: Count = 0  # playing or stalled
    stalled_ms: Count = 0
    stalls: Count = 0
    frames: Count = 0
    dropped: Count = 0
    ended: bool = False
    # By CMCD; the counts are since the sighting before.
    requests: Count = 0
    starved: Count = 0
    buffer_ms: Count | None = None
    throughput_kbps: Count | None = None


def joined(before: Sighting, after: Sighting) -> Sighting:
    """Two of one session and one kind as one: totals are the later's, counts of both."""
    if not after.requests:
        return after
    return msgspec.structs.replace(
        after,
        requests=before.requests + after.requests,
        starved=before.starved + after.starved,
        buffer_ms=after.buffer_ms if after.buffer_ms is not None else before.buffer_ms,
        throughput_kbps=(
            after.throughput_kbps if after.throughput_kbps is not None else before.throughput_kbps
        ),
    )


class QualitySpread(msgspec.Struct, frozen=True):
    """Of one value for each session: half of them have at most `p50`, 95 % at most `p95`."""

    p50: float
    p95: float
    sessions: Annotated[int, Described(description="That told it.")]


class QualitySlice(msgspec.Struct, frozen=True):
    """Some of the sessions of the last minutes."""

    sessions: Annotated[int, Described(description="Watching now.")]
    startup_ms: Annotated[
        QualitySpread | None, Described(description="From the wish to watch to the first picture.")
    ]
    latency_ms: Annotated[
        QualitySpread | None, Described(description="From the node's reception of a picture to the screen.")
    ]
    watched_s: Annotated[float, Described(description="Playing or stalled, as players tell.")]
    stalled_s: float
    stalls: int
    stall_ratio: Annotated[
        float | None, Described(description="Stalled of watched time; null: nobody watched.")
    ]
    dropped_ratio: Annotated[float | None, Described(description="Of frames, by the viewers' machines.")]


class RequestQuality(msgspec.Struct, frozen=True):
    """What the requests of HLS players say (CMCD)."""

    requests: int
    starved: Annotated[int, Described(description="That told of a buffer that had run dry.")]
    buffer_ms: QualitySpread | None
    throughput_kbps: QualitySpread | None


class QualityView(QualitySlice, frozen=True):
    """What viewers see, by what their players told in the last `window_s`."""

    window_s: int
    heard: Annotated[int, Described(description="Sessions heard of in that time.")]
    by_transport: dict[str, QualitySlice]
    by_rendition: dict[str, QualitySlice]
    cmcd: RequestQuality | None


class Totals(msgspec.Struct):
    """Counters since the node's start."""

    watched_ms: int = 0
    stalled_ms: int = 0
    stalls: int = 0
    beacons: int = 0  # taken in
    cmcd: int = 0  # requests with CMCD that were understood
    malformed: int = 0
    limited: int = 0  # too often, or too many sessions
    unknown: int = 0  # for a stream that is not there
