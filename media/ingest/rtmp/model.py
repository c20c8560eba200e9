"""What RTMP sessions are set to, and what they tell of themselves. Pure."""

import enum

import msgspec

from media.ingest.rtmp.publication import PublicationStatistics

_MAX_STEP_MS = 60_000  # a larger change of transit time is a clock that jumped, not jitter


class RtmpSettings(msgspec.Struct, frozen=True):
    """What all RTMP sessions of a node share; seconds."""

    setup_s: float = 10.0  # from the connection to publish or play
    idle_s: float = 30.0  # a publisher that sends neither picture nor sound for so long is dropped
    wait_s: float = 10.0  # a player waits so long for a stream that is not there


class Role(enum.StrEnum):
    SETUP = "setup"
    PUBLISH = "publish"
    WAIT = "wait"
    PLAY = "play"
    CLOSED = "closed"


class RtmpStatistics(msgspec.Struct, frozen=True):
    """One session's numbers."""

    role: Role
    peer: str
    agent: str
    stream: str
    enhanced: bool
    age_s: float
    bytes_in: int
    bytes_out: int
    messages_in: int
    chunk_bytes_in: int
    rtt_ms: float | None  # of the last ping
    jitter_ms: float | None  # of a publisher's arrivals against its timestamps (RFC 3550 6.4.1)
    publication: PublicationStatistics | None


class ArrivalJitter:
    """Interarrival jitter (RFC 3550 6.4.1), of the last message of each batch."""

    __slots__ = ("_transit_ms", "ms", "pending", "timestamp")

    def __init__(self) -> None:
        self.ms = 0.0
        self.pending = False  # `timestamp` is of this batch
        self.timestamp = 0  # milliseconds
        self._transit_ms: float | None = None

    def arrived(self, now: float) -> None:
        """The batch that ended with `timestamp` was all here at `now`."""
        self.pending = False
        transit_ms = now * 1000 - self.timestamp
        if self._transit_ms is not None:
            step_ms = abs(transit_ms - self._transit_ms)
            if step_ms < _MAX_STEP_MS:
                self.ms += (step_ms - self.ms) / 16
        self._transit_ms = transit_ms
