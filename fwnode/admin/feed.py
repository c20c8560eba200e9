"""News for the clients of the event stream: one bounded mailbox each. Pure."""

from collections import deque
from collections.abc import Callable

import msgspec

from fwnode.admin.views import DroppedEvent, FindingEvent, Snapshot, StreamEvent
from media.errors import Unavailable
from media.track.registry import Streams

MAILBOX_EVENTS = 64  # half a minute of a busy node; overflow drops the oldest, a later snapshot has it all
CLIENTS_MAX = 32  # dashboards open at a time; each costs an encoding of nothing and a copy of a reference
INTERVAL_S = 2.0  # between snapshots; bitrates are means over this long
RETRY_S = 5.0


class Mailbox:
    """Events for one client, oldest dropped first when it reads too slowly."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._events: deque[bytes] = deque(maxlen=MAILBOX_EVENTS)
        self._dropped = 0

    def put(self, event: bytes) -> None:
        """Add one event and wake the client's task."""
        self._dropped += len(self._events) == MAILBOX_EVENTS
        self._events.append(event)
        self._wake()

    def take(self) -> bytes:
        """Everything waiting, in the wire format; b"" when there is nothing."""
        notice = encode_event("dropped", DroppedEvent(self._dropped)) if self._dropped else b""
        taken = notice + b"".join(self._events)
        self._events.clear()
        self._dropped = 0
        return taken


class Feed:
    """Hands what happens to every mailbox."""

    def __init__(self, streams: Streams, snapshot: Callable[[], Snapshot]) -> None:
        self._streams = streams
        self._snapshot = snapshot
        self._mailboxes: dict[Mailbox, None] = {}
        self._findings: frozenset[FindingEvent] = frozenset()

    def join(self, wake: Callable[[], None]) -> Mailbox:
        """A mailbox that begins with a snapshot. Raises Unavailable beyond CLIENTS_MAX."""
        if len(self._mailboxes) >= CLIENTS_MAX:
            raise Unavailable(f"{CLIENTS_MAX} clients follow the events already", RETRY_S)
        mailbox = Mailbox(wake)
        self._mailboxes[mailbox] = None
        mailbox.put(encode_event("snapshot", self._snapshot()))
        return mailbox

    def leave(self, mailbox: Mailbox) -> None:
        """The client went."""
        self._mailboxes.pop(mailbox, None)

    def stream_changed(self, name: str, now: float) -> None:
        """Listener of the stream registry."""
        stream = self._streams.get(name)
        self._tell("stream", StreamEvent(name, stream.state.value if stream else "gone"))

    def tick(self) -> None:
        """Every INTERVAL_S: a snapshot, and what it has of new findings. Free when nobody follows."""
        if not self._mailboxes:
            return
        snapshot = self._snapshot()
        findings = frozenset(_findings(snapshot))
        for finding in sorted(findings - self._findings, key=lambda new: (new.stream, new.code)):
            self._tell("finding", finding)
        self._findings = findings
        self._tell("snapshot", snapshot)

    def _tell(self, kind: str, content: msgspec.Struct) -> None:
        if self._mailboxes:
            event = encode_event(kind, content)
            for mailbox in tuple(self._mailboxes):
                mailbox.put(event)


def encode_event(kind: str, content: msgspec.Struct) -> bytes:
    """One server-sent event (HTML Living Standard 9.2.5); JSON has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(content))


def _findings(snapshot: Snapshot) -> list[FindingEvent]:
    return [
        FindingEvent(stream.name, finding.code, finding.severity.value, finding.message, finding.fix)
        for stream in snapshot.streams
        for finding in stream.findings
    ]
