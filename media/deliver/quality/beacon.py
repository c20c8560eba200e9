"""What a page tells of its viewing: `POST /qoe/{stream}`. Pure.

The answer is always the same few bytes. What is told is believed only within bounds: see
`parse_beacon_untrusted` for values, Board for how much one session or address counts.
"""

import re
from typing import Protocol

import msgspec

from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import Response, error
from media.deliver.quality.digest import address_number, session_number
from media.deliver.quality.model import (
    COUNT_MAX,
    LATENCY_MAX_MS,
    STARTUP_MAX_MS,
    TOTAL_MAX_MS,
    Sighting,
    Totals,
    rendition_untrusted,
    transport_untrusted,
)
from media.deliver.quality.pace import Pace
from media.errors import WireError
from media.track.registry import STREAM_NAME

BEACON_MAX_BYTES = 1024  # the player's are 250
SESSION_RATE_PER_S = 0.25  # the player tells once in 10 s, and when its page is hidden or left
SESSION_BURST = 6
ADDRESS_RATE_PER_S = 10.0  # a hundred viewers behind one address
ADDRESS_BURST = 60
PACED_MAX = 20_000  # sessions, and addresses, whose pace is known; about 4 MB

TAKEN = Response(204)
MALFORMED = error(400, "bad_request", "this is no report of a player")
NOT_HERE = error(404, "not_found", "no such stream is live here now")
TOO_OFTEN = error(
    429, "too_many_requests", "one report in ten seconds is enough", headers=(("Retry-After", "30"),)
)

_SESSION = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


class Told(msgspec.Struct, frozen=True):
    """A beacon's JSON. Numbers may be fractions; unknown members are passed over."""

    session: str
    transport: str
    rendition: str = ""
    startup_ms: float | None = None
    latency_ms: float | None = None
    watched_ms: float = 0
    stalled_ms: float = 0
    stalls: float = 0
    frames: float = 0
    dropped: float = 0
    ended: bool = False


_decoder = msgspec.json.Decoder(Told)


def parse_beacon_untrusted(body: bytes, peer_host: str) -> Sighting:
    """A sighting whose numbers are moved into their bounds. Raises WireError."""
    if len(body) > BEACON_MAX_BYTES:
        raise WireError(f"a beacon of {len(body)} bytes")
    try:
        told = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a beacon: {error}") from None
    if not _SESSION.fullmatch(told.session):
        raise WireError("a session is 16 to 64 letters, digits, - and _")
    watched_ms = _within(told.watched_ms, TOTAL_MAX_MS)
    frames = _within(told.frames, COUNT_MAX)
    return Sighting(
        session=session_number(told.session),
        address=address_number(peer_host),
        transport=transport_untrusted(told.transport),
        rendition=rendition_untrusted(told.rendition),
        startup_ms=None if told.startup_ms is None else _within(told.startup_ms, STARTUP_MAX_MS),
        latency_ms=None if told.latency_ms is None else _within(told.latency_ms, LATENCY_MAX_MS),
        watched_ms=watched_ms,
        stalled_ms=min(_within(told.stalled_ms, TOTAL_MAX_MS), watched_ms),
        stalls=_within(told.stalls, COUNT_MAX),
        frames=frames,
        dropped=min(_within(told.dropped, COUNT_MAX), frames),
        ended=told.ended,
    )


def _within(value: float, most: int) -> int:
    return round(min(max(value, 0.0), most))


class Taker(Protocol):
    """Who keeps what viewers see: a Board, or what sends it to one."""

    totals: Totals

    def take(self, name: str, sighting: Sighting, now: float) -> bool:
        """Keep it; False: there is no such stream."""


class Beacons:
    """Answers POST below /qoe/."""

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self._sessions = Pace(SESSION_RATE_PER_S, SESSION_BURST, PACED_MAX)
        self._addresses = Pace(ADDRESS_RATE_PER_S, ADDRESS_BURST, PACED_MAX)

    def handle(self, request: Request, reply: Reply) -> None:
        reply.send(self._answer(request))

    def _answer(self, request: Request) -> Response:
        totals, now = self._taker.totals, request.now
        if not self._addresses.allows(address_number(request.peer_host), now):
            totals.limited += 1
            return TOO_OFTEN
        segments = request.segments
        if len(segments) != 2 or not STREAM_NAME.fullmatch(segments[1]):
            totals.unknown += 1
            return NOT_HERE
        try:
            sighting = parse_beacon_untrusted(request.body, request.peer_host)
        except WireError:
            totals.malformed += 1
            return MALFORMED
        if not self._sessions.allows(sighting.session, now):
            totals.limited += 1
            return TOO_OFTEN
        if not self._taker.take(segments[1], sighting, now):
            totals.unknown += 1
            return NOT_HERE
        return TAKEN
