"""A record of every push, for assertions."""

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

ENTRIES_MAX = 10_000  # the newest; a test sends far fewer


@dataclass(slots=True)
class Entry:
    """One push. Times are seconds since the double started."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    began_s: float
    ended_s: float | None = None  # None: under way
    body_sha256: str = ""
    body_bytes: int = 0
    manifest_id: str = ""
    sequence: int = 0
    status: int | None = None  # None: no answer was sent, or none yet
    text: str = ""
    fault: str = ""
    attempts: int = 0
    new_session: bool = False
    joined: bool = False  # FrameWorks: an earlier request's work was used
    reinit: bool = False  # the transcoder session was begun anew for this segment
    in_flight: int = 0  # of the same session when it began, this one too
    renditions: list[str] = field(default_factory=list)


class Journal:
    """Entries in the order in which requests came."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)
        self._next = 0

    def open(self, method: str, path: str, headers: dict[str, str], began_s: float) -> Entry:
        entry = Entry(self._next, method, path, headers, began_s)
        self._next += 1
        self.entries.append(entry)
        return entry

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.entries]
