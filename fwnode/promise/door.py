"""The promise at the doors that viewers come through: HTTP in this process or a worker, RTMP here. Pure."""

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from fwnode.promise.model import Refusal, Why
from fwnode.promise.promise import DRAINS, Promise, behind_bits
from media.deliver.live import ALLOWED, Entry
from media.errors import Refused
from media.track.registry import Streams
from media.track.stream import Stream

BITS = 8


class Lent(msgspec.Struct, array_like=True, frozen=True):
    """What a worker may do by itself until it is told anew: let viewers in for its share of the uplink."""

    budget_bps: Annotated[int, Meta(ge=0)] = 0  # 0: no limit
    refusal: Refusal | None = None  # why nobody new may come
    drain: bool = False  # tell load balancers, and end connections with their next answer


class PromiseDoor:
    """Asks a promise about real streams: a media.deliver.live.Door."""

    def __init__(self, promise: Promise, streams: Streams, now: Callable[[], float]) -> None:
        self._promise = promise
        self._streams = streams
        self._now = now

    def ask(self, stream: Stream, session: str, now: float) -> Entry:
        """Let a viewer in, or say why not. One of the last that fit gets nothing of the past."""
        promise, foreign = self._promise, stream.replicated
        if session and promise.crowd.has(stream.name, session, now):
            return ALLOWED
        past = self._past_bits(stream, hls=bool(session))
        if not session and promise.is_tight(stream, past, now):
            refusal = promise.admit(stream, "", 0, now, foreign=foreign)
            return Entry(past=False) if refusal is None else Entry(refusal.text, refusal.retry_s)
        refusal = promise.admit(stream, session, past, now, foreign=foreign)
        return ALLOWED if refusal is None else Entry(refusal.text, refusal.retry_s)

    def admit_player(self, stream: Stream, now: float) -> None:
        """The same for a player by RTMP; raises Refused."""
        past = self._past_bits(stream, hls=False)
        refusal = self._promise.admit(stream, "", past, now, foreign=stream.replicated)
        if refusal is not None:
            raise Refused(f"{refusal.text}: try again in {refusal.retry_s} s, or another node")

    def may_admit(self, stream: str, session: str = "") -> str:
        """Why a viewer would be turned away now, "" when it would be let in; for model.Door.

        A stream that is not here yet counts at a usual bitrate.
        """
        promise, now, found = self._promise, self._now(), self._streams.get(stream)
        if session and promise.crowd.has(stream, session, now):
            return ""
        bps = promise.crowd.viewer_bps(found) if found is not None else promise.crowd.unknown_bps
        past = self._past_bits(found, hls=True) if found is not None else 0
        foreign = found is None or found.replicated
        refusal = promise.why_not(stream, bps, past, now, foreign=foreign)
        return refusal.text if refusal is not None else ""

    def _past_bits(self, stream: Stream, *, hls: bool) -> int:
        """What a viewer is sent at once: by HLS some target durations, else what followed a keyframe."""
        if not self._promise.budget_bps:
            return 0
        if hls:
            return behind_bits(self._promise.crowd.viewer_bps(stream), stream.target_duration_us)
        ring = stream.ring
        begin = max(ring.newest_group(), ring.first)
        return sum(len(packet.data) for packet in ring.slice(begin, ring.next)) * BITS


def lent(promise: Promise, streams: Streams, workers: int, now: float, *, stopping: bool) -> Lent:
    """What each of some workers may do: an equal share of what edges and players by RTMP leave."""
    draining = promise.draining_viewers
    refusal = Refusal(Why.DRAINING, DRAINS) if stopping else promise.closed()
    budget_bps = promise.budget_bps
    if budget_bps:
        rtmp = sum(stream.viewers.get("rtmp", 0) * promise.crowd.viewer_bps(stream) for stream in streams)
        # A share of nothing is still a limit.
        budget_bps = max(1, (budget_bps - promise.edges_bps() - rtmp) // max(1, workers))
    return Lent(budget_bps, refusal, draining)
