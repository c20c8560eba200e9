"""HLS of one stream: playlists with blocking reload, parts, segments, init segments. Pure.

Every answer is made once for all viewers that want the same. Requests for what does not
exist yet are held (RFC 8216bis 6.2.5.2) in one bounded list per stream and answered in one
pass when a part completes. Where the draft is silent: a stale media sequence number gets the
present playlist at once, one more than MSN_AHEAD_MAX beyond the edge 400, and nothing new
within WAIT_TARGETS target durations 503.
"""

import re
from collections.abc import Callable, Sequence

import msgspec

from media.deliver.http.response import IMMUTABLE, NO_CACHE, Body, Response, plain_error
from media.net.transport import Buffer, FileSlice
from media.package.playlist import media_playlist, multivariant_playlist
from media.package.window import LiveWindow
from media.track.registry import CallAt, Timer
from media.track.stream import Stream, StreamState

MSN_AHEAD_MAX = 2  # RFC 8216bis 6.2.5.2
PART_AHEAD_MAX = 64  # one-second segments of the smallest parts have five
WAIT_TARGETS = 3  # RFC 8216bis 6.2.5.2: time out after three target durations
LADDER_WAIT_S = 1.5  # a worker takes half a second to start, and the next keyframe must come
WAITING_MAX = 20_000  # held requests of one stream; connections are bounded before this is
OBJECTS_MAX = 4096  # prepared answers kept for one stream: an hour of segments, or its parts
FILE_MIN_BYTES = 65536  # below it a copy is cheaper than a page
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE = "video/mp4"

_OBJECT = re.compile(r"(\d{1,15})(?:\.(\d{1,4}))?\.m4s|init-(\d{1,15})\.mp4")


class Directives(msgspec.Struct, frozen=True):
    """The delivery directives of a playlist request (RFC 8216bis 6.2.5)."""

    msn: int | None = None
    part: int | None = None
    skip: bool = False


def parse_directives(msn: str | None, part: str | None, skip: str | None) -> Directives | Response:
    """Directives from query values, or the 400 that tells what is wrong with them."""
    if part is not None and msn is None:
        return plain_error(400, "_HLS_part needs _HLS_msn")
    for name, value in (("_HLS_msn", msn), ("_HLS_part", part)):
        if value is not None and not (value.isascii() and value.isdigit() and len(value) <= 15):
            return plain_error(400, f"{name} is not a number")
    return Directives(
        int(msn) if msn is not None else None,
        int(part) if part is not None else None,
        skip in ("YES", "v2"),
    )


PutFile = Callable[[Sequence[Buffer]], FileSlice | None]
Done = Callable[[Response], None]


class Wait:
    """A held request. `cancel` when the viewer went away."""

    __slots__ = ("deadline", "done", "ready")

    def __init__(self, ready: Callable[[], Response | None], done: Done, deadline: float) -> None:
        self.ready = ready
        self.done: Done | None = done
        self.deadline = deadline

    def cancel(self) -> None:
        self.done = None


class HlsStream:
    """One stream's HLS. Lives while somebody asks for it."""

    def __init__(
        self, stream: Stream, window_us: int, put_file: PutFile, call_at: CallAt, now: float
    ) -> None:
        """`window_us`: length of playlists; `put_file` takes large objects, to be sent without a copy."""
        self.stream = stream
        self.asked_at = now
        self.window = LiveWindow(stream)
        self._newest = self.window.newest()  # (msn, part), asked for by every request
        self._window_us = window_us
        self._put_file = put_file
        self._call_at = call_at
        self._waiting: list[Wait] = []
        self._playlists: dict[tuple[str, bool, bool], Response] = {}
        self._objects: dict[str, Response] = {}
        self._timer: Timer | None = None
        self.heard_at = now  # of the stream, last
        self.beside: HlsStream | None = None  # other renditions of the same pictures
        stream.subscribe(self._news)

    def close(self) -> None:
        """Forget everything; held requests get 404."""
        if self.beside is not None:
            self.beside.beside = None
            self.beside = None
        self.stream.unsubscribe(self._news)
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            if wait.done is not None:
                wait.done(plain_error(404, "this stream is not live now"))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def has(self, rendition: str) -> bool:
        """Is, was or will there be a rendition of that name in what is held?"""
        segments = self.window.segments
        if segments and rendition in segments[-1].renditions:
            return True
        if any([rendition in segment.renditions for segment in segments]):
            return True
        return any([rendition == track.name for track in self.stream.tracks.values()])

    @property
    def is_undescribed(self) -> bool:
        """Does it begin, and has not told its tracks?"""
        return self.stream.state is StreamState.STARTING and not self.stream.sections

    def multivariant(
        self, query: str, done: Done, now: float, ladder: "HlsStream | None" = None
    ) -> Wait | None:
        """The multivariant playlist; held while the stream has no complete part yet.

        `ladder` has its smaller renditions; for a moment it is waited for until they are known, too.
        """
        self.asked_at = now
        renditions = ladder.window if ladder is not None else None

        def ready() -> Response | None:
            if self._newest is None:
                return None
            if ladder is not None and ladder.is_undescribed and self.heard_at < now + LADDER_WAIT_S:
                return None
            text = multivariant_playlist(self.window, query, renditions)
            return _playlist_response(text, NO_CACHE) if text else None

        return self._now_or_later(ready, done, now)

    def playlist(self, name: str, directives: Directives, done: Done, now: float) -> Wait | None:
        """A media playlist, at once or when the directives are met."""
        self._asked(name, now)
        newest = self._newest
        if newest is not None:
            wrong = self._beyond(directives, newest)
            if wrong is not None:
                done(wrong)
                return None
        blocking = directives.msn is not None

        def ready() -> Response | None:
            if not self._met(directives):
                return None
            return self._playlist(name, skip=directives.skip, blocking=blocking)

        return self._now_or_later(ready, done, now)

    def object(self, name: str, file: str, done: Done, now: float) -> Wait | None:
        """A part, segment or init segment by its file name; the next part is waited for.

        So is, of another node's stream, whatever may still come here: viewers change nodes at any time.
        """
        self._asked(name, now)
        key = f"{name}/{file}"
        held = self._objects.get(key)
        if held is not None:
            done(held)
            return None
        match = _OBJECT.fullmatch(file)
        if match is None:
            done(plain_error(404, "no such media object"))
            return None
        msn, part, init = (int(text) if text is not None else None for text in match.groups())

        def ready() -> Response | None:
            data = self._data(name, msn, part, init)
            if not data and self._still_to_come(msn, part):
                return None
            return self._keep(key, file, data)

        return self._now_or_later(ready, done, now)

    def _data(
        self, name: str, msn: int | None, part: int | None, init: int | None
    ) -> bytes | tuple[bytes, ...] | None:
        """The object of those numbers, if it is held whole."""
        if init is not None:
            return self.window.init_bytes(name, init)
        assert msn is not None
        if part is not None:
            return self.window.part_bytes(name, msn, part)
        return self.window.segment_bytes(name, msn)

    def _still_to_come(self, msn: int | None, part: int | None) -> bool:
        """Is this the part that was hinted at last? Of a copy, may it be on its way from another node?"""
        window = self.window
        if window.ended:
            return False
        if not self.stream.replicated:
            return bool(window.segments) and part is not None and (msn, part) == window.upcoming()
        if self._newest is None:
            return True
        if msn is None:
            return False
        upcoming = window.upcoming()
        ahead = msn - upcoming[0]
        if part is None:
            return 0 <= ahead <= MSN_AHEAD_MAX
        return (msn, part) >= upcoming and ahead <= MSN_AHEAD_MAX and part <= PART_AHEAD_MAX

    def _asked(self, name: str, now: float) -> None:
        """Somebody wants a rendition: it has to be fetched, where that is done."""
        self.asked_at = now
        if self.stream.replicated and (rendition := self.window.rendition(name)) is not None:
            self.stream.track_asked(rendition.tracks, now)

    def _keep(self, key: str, file: str, data: bytes | tuple[bytes, ...] | None) -> Response:
        if not data:
            return plain_error(404, "no such media object: it is too old, or does not exist yet")
        body: Body = data
        parts = data if isinstance(data, tuple) else (data,)
        if sum(map(len, parts)) >= FILE_MIN_BYTES:
            body = self._put_file(parts) or data
        answer = Response(200, body, content_type=SEGMENT_TYPE, cache_control=IMMUTABLE, etag=file)
        self._objects[key] = answer
        if len(self._objects) > OBJECTS_MAX:
            del self._objects[next(iter(self._objects))]
        return answer

    def _playlist(self, name: str, *, skip: bool, blocking: bool) -> Response:
        key = (name, skip, blocking)
        held = self._playlists.get(key)
        if held is None:
            beside = self.beside.window if self.beside is not None else None
            text = media_playlist(self.window, name, self._window_us, skip=skip, beside=beside)
            if text is None:
                return plain_error(404, f"this stream has no track '{name[:16]}' now")
            held = _playlist_response(text, self._playlist_cache(blocking), self._etag(skip=skip))
            self._playlists[key] = held
        return held

    def _playlist_cache(self, blocking: bool) -> str:
        """A blocking answer stays true for its address (RFC 8216bis B.1); others are always asked anew."""
        target_s = -(-self.stream.target_duration_us // 1_000_000)
        return f"public, max-age={6 * target_s}" if blocking else NO_CACHE

    def _etag(self, *, skip: bool) -> str:
        """Names a playlist's bytes: numbers of parts never come back, not after a restart either."""
        newest = self._newest or (0, 0)
        oldest = self.window.segments[0].msn
        return f"{oldest}-{newest[0]}.{newest[1]}-{self.stream.state}{'-delta' if skip else ''}"

    def _beyond(self, directives: Directives, newest: tuple[int, int]) -> Response | None:
        if directives.msn is None:
            return None
        if directives.msn > newest[0] + MSN_AHEAD_MAX:
            return plain_error(400, f"_HLS_msn is more than {MSN_AHEAD_MAX} segments ahead of {newest[0]}")
        if (directives.part or 0) > PART_AHEAD_MAX:
            return plain_error(400, "_HLS_part is beyond any part of that segment")
        return None

    def _met(self, directives: Directives) -> bool:
        newest = self._newest
        if newest is None:
            return False
        if directives.msn is None or self.window.ended:
            return True
        if directives.part is not None:
            return newest >= (directives.msn, directives.part)
        segment = self.window.find(directives.msn)
        return newest[0] > directives.msn or (segment is not None and segment.complete)

    def _now_or_later(self, ready: Callable[[], Response | None], done: Done, now: float) -> Wait | None:
        answer = ready()
        if answer is not None:
            done(answer)
            return None
        if self.stream.state is StreamState.ENDED:
            done(plain_error(404, "this stream is not live now"))
            return None
        if len(self._waiting) >= WAITING_MAX:
            done(plain_error(503, "too many viewers wait on this stream: try again"))
            return None
        wait = Wait(ready, done, now + WAIT_TARGETS * self.stream.target_duration_us / 1_000_000)
        self._waiting.append(wait)
        if self._timer is None:
            self._timer = self._call_at(wait.deadline, self._expire)
        return wait

    def _news(self, now: float) -> None:
        self.heard_at = now
        if not self.window.update():
            return
        self._newest = self.window.newest()
        self._playlists.clear()
        self._drop_old_objects()
        self._answer(now)

    def _answer(self, now: float) -> None:
        """Response what can be answered now; the rest waits on."""
        waiting, self._waiting = self._waiting, []
        still: list[Wait] = []
        for wait in waiting:
            if wait.done is None:
                continue
            answer = wait.ready()
            if answer is None and self.stream.state is StreamState.ENDED:
                answer = plain_error(404, "this stream has ended")
            if answer is None:
                still.append(wait)
            else:
                wait.done(answer)
        self._waiting = still + self._waiting

    def _expire(self, now: float) -> None:
        self._timer = None
        late = [wait for wait in self._waiting if wait.deadline <= now]
        self._waiting = [wait for wait in self._waiting if wait.deadline > now and wait.done is not None]
        for wait in late:
            if wait.done is not None:
                wait.done(plain_error(503, "nothing new came from the publisher in time: try again"))
        if self._waiting and self._timer is None:
            self._timer = self._call_at(min(wait.deadline for wait in self._waiting), self._expire)

    def _drop_old_objects(self) -> None:
        """Objects of segments that the window no longer holds; insertion order is nearly age."""
        segments = self.window.segments
        oldest = segments[0].msn if segments else 0
        for key in list(self._objects):
            number = key.partition("/")[2].partition(".")[0]
            if number.isdigit():
                if int(number) >= oldest:
                    break
                del self._objects[key]


def _playlist_response(text: bytes, cache_control: str, etag: str = "") -> Response:
    return Response(
        200, text, content_type=PLAYLIST_TYPE, cache_control=cache_control, etag=etag, compress=True
    )
