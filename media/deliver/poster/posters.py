"""Posters of all streams: which are kept, which are to be made, and who waits for them. Pure.

A poster is the newest keyframe of the leading video track. It is made when somebody asks, kept
for FRESH_S, and for as long as its keyframe is the newest. One is in work at a time; all who ask
for the same stream share it. A keyframe that could not be made into a poster is not tried
again for RETRY_S, so that one that crashes the worker costs a process now and then, not one
per request.
"""

import dataclasses
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol
from weakref import WeakKeyDictionary

from media.deliver.http.response import Response, plain_error
from media.deliver.poster.wire import KEYFRAME_MAX_BYTES, Job
from media.track.model import Hollow, Kind, Packet
from media.track.registry import Streams
from media.track.stream import TRACKS_MAX, Stream, StreamState

FRESH_S = 10.0
RETRY_S = 10.0
POSTERS_MAX = 256  # kept; with JPEG_MAX_BYTES at most 32 MiB; the home page shows 200
QUEUE_MAX = 64  # streams that wait for their poster: a few seconds of work
WAITERS_MAX = 1024  # requests that wait, over all streams; each holds its connection
GROUPS_BACK_MAX = 64  # looked through for a keyframe when sound began the newest groups: half a minute

NO_PICTURE = plain_error(404, "this stream has no picture")
TOO_LARGE = plain_error(404, "this stream's keyframes are too large for a poster")
_RETRY = (("Retry-After", f"{RETRY_S:.0f}"),)
BUSY = plain_error(503, "too many posters are being made: try again later", headers=(("Retry-After", "2"),))
NOT_MADE = plain_error(503, "the poster could not be made: try again later", headers=_RETRY)
STOPPED = plain_error(503, "no posters are made here now", headers=_RETRY)


@dataclasses.dataclass(slots=True)
class PosterStatistics:
    """Counters since the start."""

    made: int = 0
    failed: int = 0
    refused: int = 0  # requests, for QUEUE_MAX or WAITERS_MAX
    workers_started: int = 0
    workers_lost: int = 0  # crashed, hung, or could not be started


class Waiter(Protocol):
    """Who is given a poster; media.deliver.http.reply.Reply is one."""

    on_close: Callable[[float], None] | None  # called when it goes before that

    def send(self, response: Response) -> None: ...


@dataclasses.dataclass(slots=True)
class _Kept:
    response: Response
    until: float
    group: int  # whose keyframe it shows; -1: none could be made


@dataclasses.dataclass(slots=True, eq=False)
class _Work:
    stream: Stream
    replies: dict[Waiter, None] = dataclasses.field(default_factory=dict)
    group: int = -1


class Posters:
    """Answers requests for posters, and tells the worker's shell what to make."""

    def __init__(self) -> None:
        self.statistics = PosterStatistics()
        self.on_work: Callable[[], None] | None = None  # called when there is work; None: nobody works
        self._kept: WeakKeyDictionary[Stream, _Kept] = WeakKeyDictionary()  # oldest first
        self._queue: dict[Stream, _Work] = {}
        self._begun: _Work | None = None
        self._waiters = 0

    @property
    def queued(self) -> int:
        """Pieces of work that have not begun."""
        return len(self._queue)

    @property
    def waiting(self) -> int:
        """Requests that wait for a poster."""
        return self._waiters

    @property
    def stream(self) -> str:
        """Whose poster is in work."""
        return self._begun.stream.name if self._begun is not None else ""

    def ask(self, streams: Streams, name: str, reply: Waiter, now: float) -> bool:
        """Give the poster of the stream of that name; False, and nothing is given, when there is none."""
        stream = streams.find(name, now)
        if stream is None or stream.state is StreamState.ENDED:
            return False
        self.answer(stream, reply, now)
        return True

    def answer(self, stream: Stream, reply: Waiter, now: float) -> None:
        """Give a stream's poster, at once or when it is made."""
        keyframe = newest_keyframe(stream)
        kept = self._kept.get(stream)
        if keyframe is None:
            reply.send(NO_PICTURE)
        elif kept is not None and (now < kept.until or kept.group == keyframe.group):
            reply.send(kept.response)
        elif len(keyframe.data) > KEYFRAME_MAX_BYTES:
            reply.send(TOO_LARGE)
        elif self.on_work is None:
            reply.send(STOPPED)
        else:
            self._wait(stream, reply, self.on_work)

    def begin(self) -> Job | None:
        """The next piece of work; `finished` or `failed` must follow. None: there is none."""
        assert self._begun is None, "one at a time"
        while self._queue:
            work = self._queue.pop(next(iter(self._queue)))
            keyframe = newest_keyframe(work.stream)
            if keyframe is not None and len(keyframe.data) <= KEYFRAME_MAX_BYTES:
                self._begun = work
                work.group = keyframe.group
                return Job(keyframe.track.codec, keyframe.track.config, keyframe.data)
            self._give(work, NO_PICTURE if keyframe is None else TOO_LARGE)
        return None

    def finished(self, jpeg: bytes, now: float) -> None:
        """The work that was begun is done."""
        self.statistics.made += 1
        self._settle(poster_response(jpeg), now + FRESH_S, shown=True)

    def failed(self, now: float) -> None:
        """The work that was begun gave no poster."""
        self.statistics.failed += 1
        self._settle(NOT_MADE, now + RETRY_S, shown=False)

    def stop(self) -> None:
        """Nobody makes posters any more: answer all who wait."""
        self.on_work = None
        begun, self._begun = self._begun, None
        queue, self._queue = self._queue, {}
        for work in (*([begun] if begun is not None else ()), *queue.values()):
            self._give(work, STOPPED)

    def _wait(self, stream: Stream, reply: Waiter, on_work: Callable[[], None]) -> None:
        work = self._queue.get(stream)
        if self._begun is not None and self._begun.stream is stream:
            work = self._begun
        if self._waiters >= WAITERS_MAX or (work is None and len(self._queue) >= QUEUE_MAX):
            self.statistics.refused += 1
            reply.send(BUSY)
            return
        if work is None:
            work = self._queue[stream] = _Work(stream)
            on_work()
        work.replies[reply] = None
        self._waiters += 1
        reply.on_close = lambda now: self._left(work, reply)

    def _left(self, work: _Work, reply: Waiter) -> None:
        """A viewer went; what nobody waits for any more is not begun."""
        del work.replies[reply]
        self._waiters -= 1
        if not work.replies and self._queue.get(work.stream) is work:
            del self._queue[work.stream]

    def _settle(self, response: Response, until: float, *, shown: bool) -> None:
        work, self._begun = self._begun, None
        assert work is not None
        self._kept.pop(work.stream, None)
        self._kept[work.stream] = _Kept(response, until, work.group if shown else -1)
        while len(self._kept) > POSTERS_MAX:
            del self._kept[next(iter(self._kept))]
        self._give(work, response)

    def _give(self, work: _Work, response: Response) -> None:
        self._waiters -= len(work.replies)
        replies, work.replies = work.replies, {}
        for reply in replies:
            reply.on_close = None
            reply.send(response)


def poster_response(jpeg: bytes) -> Response:
    """A poster as an answer."""
    return Response(
        200,
        jpeg,
        content_type="image/jpeg",
        cache_control=f"public, max-age={FRESH_S:.0f}",
        etag=blake2b(jpeg, digest_size=8).hexdigest(),
    )


def newest_keyframe(stream: Stream) -> Packet | None:
    """The newest keyframe of the first video track that is held; None when there is no picture."""
    if not any(track.kind is Kind.VIDEO for track in stream.tracks.values()):
        return None
    ring = stream.ring
    index = ring.newest_group()
    for _ in range(GROUPS_BACK_MAX):
        if not ring.first <= index < ring.next:
            return None
        for packet in ring.slice(index, min(index + TRACKS_MAX, ring.next)):
            if packet.keyframe and packet.track.kind is Kind.VIDEO and type(packet) is not Hollow:
                return packet
        before = ring.group_at_or_before(index - 1)
        if before >= index:
            return None
        index = before
    return None
