"""The gateway's sessions: who has one, under which names, and when an idle one ends."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from livepeer_gateway.profiles import Profile

Result = TypeVar("Result")
IDLE_S = 60.0  # a session unused for longer ends ...
TICK_S = 60.0  # ... at the next look, and that comes this often: 60 to 120 s after the last use
MAX_SESSIONS = 10  # upstream's default
REPLAY_WINDOW = 32  # FrameWorks: segments that can be asked for again
STORED_OBJECTS = 12  # renditions that the memory store keeps for each path


class Full(Exception):
    """No room for another session."""


class Replayed(Exception):
    """A sequence number again, with other bytes or from before the window (FrameWorks)."""


@dataclass(slots=True)
class Job(Generic[Result]):
    """Work on one segment, done or under way."""

    fingerprint: str
    result: Result


@dataclass(slots=True)
class Replay(Generic[Result]):
    """The last segments of a session by sequence number."""

    jobs: "OrderedDict[int, Job[Result]]" = field(default_factory=OrderedDict)
    forgotten: int = -1  # the highest sequence number that has left the window

    def find(self, sequence: int, fingerprint: str) -> Result | None:
        """The job to join, or None for a new segment. Raises Replayed."""
        job = self.jobs.get(sequence)
        if job is None:
            if sequence <= self.forgotten:
                raise Replayed(f"segment {sequence} is outside the replay window")
            return None
        if job.fingerprint != fingerprint:
            raise Replayed(f"segment {sequence} was sent with other content")
        return job.result

    def add(self, sequence: int, fingerprint: str, result: Result) -> None:
        self.jobs[sequence] = Job(fingerprint, result)
        while len(self.jobs) > REPLAY_WINDOW:
            self.forgotten = max(self.forgotten, self.jobs.popitem(last=False)[0])


@dataclass(slots=True)
class Session:
    """One stream. `profiles` is of its first segment and stays."""

    manifest_id: str
    url_id: str
    profiles: tuple[Profile, ...]
    opened: float
    last_used: float
    in_flight: int = 0
    shape: tuple[object, ...] = ()
    workload: str = "live"
    deadline_ms: int = 0
    replay: "Replay[object]" = field(default_factory=lambda: Replay[object]())
    stored: dict[str, "OrderedDict[int, bytes]"] = field(default_factory=dict)
    durations: dict[int, float] = field(default_factory=dict)

    def store(self, name: str, sequence: int, data: bytes) -> None:
        """Keep a rendition's segment for HLS."""
        objects = self.stored.setdefault(name, OrderedDict())
        objects[sequence] = data
        while len(objects) > STORED_OBJECTS:
            objects.popitem(last=False)


class SessionTable:
    """Sessions by manifest ID, and the names in URLs that mean them."""

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self.limit = limit
        self.sessions: dict[str, Session] = {}
        self._aliases: dict[str, str] = {}

    def find(self, url_id: str) -> Session | None:
        return self.sessions.get(self._aliases.get(url_id, url_id))

    def open(self, url_id: str, manifest_id: str, profiles: tuple[Profile, ...], now: float) -> Session:
        """A new session; one with the same manifest ID under another URL is closed. Raises Full."""
        manifest_id = manifest_id or url_id
        self.close(manifest_id)
        if len(self.sessions) >= self.limit:
            raise Full(f"max sessions {self.limit}")
        session = Session(manifest_id, url_id, profiles, now, now)
        self.sessions[manifest_id] = session
        if url_id != manifest_id:
            self._aliases[url_id] = manifest_id
        return session

    def close(self, manifest_id: str) -> None:
        self.sessions.pop(manifest_id, None)
        self._aliases = {url: to for url, to in self._aliases.items() if to != manifest_id}

    def clear(self) -> None:
        """As after a restart: nothing is known any more."""
        self.sessions.clear()
        self._aliases.clear()

    def expire(self, now: float) -> list[str]:
        """Close what idled out by now; the manifest IDs that ended. Segments in work keep theirs."""
        ended = [s.manifest_id for s in self.sessions.values() if not s.in_flight and _ended(s, now)]
        for manifest_id in ended:
            self.close(manifest_id)
        return ended


def _ended(session: Session, now: float) -> bool:
    # Looked at every TICK_S since it opened: did one of those looks find it idle for IDLE_S?
    ticks = (now - session.opened) // TICK_S
    return session.opened + ticks * TICK_S - session.last_used > IDLE_S
