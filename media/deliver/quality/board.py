"""What the viewers of each stream see, from what their players tell. Pure.

Players are not believed further than they have to be. A percentile is over sessions, each of which has
one value, so that a session which tells much weighs no more than another; an address has few sessions;
the time that a session claims to have watched is at most the time that went by here; and all of it is
forgotten WINDOW_S after it was told.
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain

from media.deliver.quality.model import (
    QualitySlice,
    QualitySpread,
    QualityView,
    RequestQuality,
    Sighting,
    Totals,
)

WINDOW_S = 300.0
NOW_S = 30.0  # three of the player's reports: who is silent so long watches no more
SESSIONS_MAX = 4_000  # over all streams, a fair sample of more; about 4 MB, 20 ms to look at (measured)
SESSIONS_PER_ADDRESS = 64  # a household, an office, a proxy; more of them are not needed to know
SPAN_S = 60.0  # watched and stalled times are kept in pieces so long
FIRST_WATCHED_MS = 15_000  # what the first report may claim: a player that begins to tell late
SLACK_MS = 2_000  # of two clocks, and of a report that was on its way longer
GROUPS_MAX = 24  # transports, or renditions, shown of one stream; who has another one is in the sum only
SWEEP_S = 5.0
# What each session's time is counted in: watched ms, stalled ms, stalls, frames, dropped, requests, starved.
NONE = [0] * 7


class _Session:
    """One viewing of one stream."""

    __slots__ = (
        "address",
        "beacon_at",
        "began_at",
        "ended",
        "last",
        "seen_at",
        "spans",
    )

    def __init__(self, address: int, now: float) -> None:
        self.address = address
        self.began_at = now
        self.seen_at = now
        self.beacon_at: float | None = None
        self.ended = False
        self.last: Sighting | None = None  # the newest of every value
        self.spans: deque[tuple[float, list[int]]] = deque()  # since when, and what is counted


class Board:
    """A Taker that keeps it."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        """`is_known`: there is a stream of that name."""
        self.totals = Totals()
        self._is_known = is_known
        self._streams: dict[str, dict[int, _Session]] = {}
        self._count = 0
        self._addresses: dict[int, int] = {}  # how many sessions each has
        self._swept_at = float("-inf")

    def __len__(self) -> int:
        """Sessions kept."""
        return self._count

    def take(self, name: str, sighting: Sighting, now: float) -> bool:
        """Keep what was heard; what is over a limit is counted and passed over."""
        if not self._is_known(name):
            return False
        self._sweep(now)
        sessions = self._streams.setdefault(name, {})
        session = sessions.get(sighting.session)
        if session is None:
            session = self._admit(sessions, sighting, now)
            if session is None:
                self.totals.limited += 1
                return True
        self._add(session, sighting, now)
        return True

    def view(self, name: str, now: float) -> QualityView | None:
        """What the viewers of a stream see; None: nobody told."""
        self._sweep(now)
        sessions = self._streams.get(name)
        return _view(sessions.values(), now) if sessions else None

    def view_of_all(self, now: float) -> QualityView | None:
        """What all viewers of this node see."""
        self._sweep(now)
        if not self._streams:
            return None
        return _view(chain.from_iterable(held.values() for held in self._streams.values()), now)

    def names(self) -> list[str]:
        """Streams of which something was told."""
        return list(self._streams)

    def _admit(self, sessions: dict[int, _Session], sighting: Sighting, now: float) -> _Session | None:
        of_address = self._addresses.get(sighting.address, 0)
        if self._count >= SESSIONS_MAX or of_address >= SESSIONS_PER_ADDRESS:
            return None
        self._count += 1
        self._addresses[sighting.address] = of_address + 1
        session = sessions[sighting.session] = _Session(sighting.address, now)
        return session

    def _add(self, session: _Session, sighting: Sighting, now: float) -> None:
        totals, before = self.totals, session.last
        if sighting.requests:
            totals.cmcd += sighting.requests
            counts = [0, 0, 0, 0, 0, sighting.requests, min(sighting.starved, sighting.requests)]
            session.last = sighting if before is None else _requested(before, sighting)
        else:
            totals.beacons += 1
            counts = [*_watched(session, sighting, now), 0, 0]
            session.beacon_at = now
            session.ended = sighting.ended
            session.last = sighting if before is None else _told(before, sighting)
            totals.watched_ms += counts[0]
            totals.stalled_ms += counts[1]
            totals.stalls += counts[2]
        session.seen_at = now
        spans = session.spans
        if not spans or now - spans[-1][0] >= SPAN_S:
            spans.append((now, counts))
        else:
            held = spans[-1][1]
            for index, count in enumerate(counts):
                held[index] += count

    def _sweep(self, now: float) -> None:
        """Forget what was told too long ago."""
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for name, sessions in list(self._streams.items()):
            for key in [key for key, held in sessions.items() if now - held.seen_at > WINDOW_S]:
                self._forget(sessions.pop(key))
            for session in sessions.values():
                while session.spans and now - session.spans[0][0] > WINDOW_S:
                    session.spans.popleft()
            if not sessions:
                del self._streams[name]

    def _forget(self, session: _Session) -> None:
        self._count -= 1
        left = self._addresses[session.address] - 1
        if left:
            self._addresses[session.address] = left
        else:
            del self._addresses[session.address]


def _watched(session: _Session, sighting: Sighting, now: float) -> list[int]:
    """Watched, stalled, stalls, frames and dropped since the beacon before, no more than can be true."""
    before = session.last
    if session.beacon_at is None or before is None:
        longest, past = FIRST_WATCHED_MS, (0, 0, 0, 0, 0)
    else:
        longest = round((now - session.beacon_at) * 1000) + SLACK_MS
        past = _figures(before)
    watched, stalled, stalls, frames, dropped = (
        max(0, new - old) for new, old in zip(_figures(sighting), past, strict=True)
    )
    watched = min(watched, longest)
    frames = min(frames, longest)  # a thousand a second
    # A stall that nobody could have seen, as it took no time, is none.
    return [watched, min(stalled, watched), min(stalls, watched // 20), frames, min(dropped, frames)]


def _figures(sighting: Sighting) -> tuple[int, int, int, int, int]:
    return (
        sighting.watched_ms,
        sighting.stalled_ms,
        sighting.stalls,
        sighting.frames,
        sighting.dropped,
    )


def _told(before: Sighting, beacon: Sighting) -> Sighting:
    """A beacon's values, with what CMCD said."""
    return Sighting(
        beacon.session,
        before.address,
        beacon.transport,
        beacon.rendition or before.rendition,
        before.startup_ms if before.startup_ms is not None else beacon.startup_ms,
        beacon.latency_ms,
        beacon.watched_ms,
        beacon.stalled_ms,
        beacon.stalls,
        beacon.frames,
        beacon.dropped,
        beacon.ended,
        0,
        0,
        before.buffer_ms,
        before.throughput_kbps,
    )


def _requested(before: Sighting, request: Sighting) -> Sighting:
    """What CMCD says, with the values of the last beacon."""
    return Sighting(
        before.session,
        before.address,
        before.transport,
        request.rendition or before.rendition,
        before.startup_ms,
        before.latency_ms,
        before.watched_ms,
        before.stalled_ms,
        before.stalls,
        before.frames,
        before.dropped,
        before.ended,
        0,
        0,
        request.buffer_ms if request.buffer_ms is not None else before.buffer_ms,
        request.throughput_kbps if request.throughput_kbps is not None else before.throughput_kbps,
    )


class _Row:
    """A session as it is looked at: every sum is made once."""

    __slots__ = ("is_new", "last", "sums", "watches")

    def __init__(self, session: _Session, last: Sighting, now: float) -> None:
        self.last = last
        self.watches = not session.ended and now - session.seen_at <= NOW_S
        self.is_new = now - session.began_at <= WINDOW_S
        self.sums = [sum(counts) for counts in zip(*(span for _, span in session.spans), strict=True)] or NONE


def _view(sessions: Iterable[_Session], now: float) -> QualityView:
    rows = [_Row(session, session.last, now) for session in sessions if session.last is not None]
    whole = _slice(rows)
    return QualityView(
        whole.sessions,
        whole.startup_ms,
        whole.latency_ms,
        whole.watched_s,
        whole.stalled_s,
        whole.stalls,
        whole.stall_ratio,
        whole.dropped_ratio,
        window_s=round(WINDOW_S),
        heard=len(rows),
        by_transport=_grouped(rows, lambda last: last.transport),
        by_rendition=_grouped(rows, lambda last: last.rendition),
        cmcd=_requests(rows),
    )


def _grouped(rows: list[_Row], key: Callable[[Sighting], str]) -> dict[str, QualitySlice]:
    """By what each session had last, those with most sessions first."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        if name := key(row.last):
            groups.setdefault(name, []).append(row)
    most = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[:GROUPS_MAX]
    return {name: _slice(members) for name, members in most}


def _slice(rows: list[_Row]) -> QualitySlice:
    watched, stalled, stalls, frames, dropped = (sum(row.sums[index] for row in rows) for index in range(5))
    return QualitySlice(
        sessions=sum(row.watches for row in rows),
        startup_ms=_spread(row.last.startup_ms for row in rows if row.is_new),
        latency_ms=_spread(row.last.latency_ms for row in rows),
        watched_s=watched / 1000,
        stalled_s=stalled / 1000,
        stalls=stalls,
        stall_ratio=round(stalled / watched, 6) if watched else None,
        dropped_ratio=round(dropped / frames, 6) if frames else None,
    )


def _requests(rows: list[_Row]) -> RequestQuality | None:
    requests, starved = (sum(row.sums[index] for row in rows) for index in (5, 6))
    if not requests:
        return None
    return RequestQuality(
        requests,
        starved,
        _spread(row.last.buffer_ms for row in rows),
        _spread(row.last.throughput_kbps for row in rows),
    )


def _spread(values: Iterable[int | None]) -> QualitySpread | None:
    """The nearest-rank percentiles of those that are known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    ranks = [known[-(-share * len(known) // 100) - 1] for share in (50, 95)]
    return QualitySpread(float(ranks[0]), float(ranks[1]), len(known))
