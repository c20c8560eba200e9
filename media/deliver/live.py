"""Everything below /live/: playlists, media objects, progressive files, WebSockets, posters. Pure.

Unknown names cost a dictionary look-up and are not remembered. A request for a stream that
has a publisher but no picture yet is held; for a stream that nobody publishes it is 404,
except on a WebSocket, which may wait for the stream to begin.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from media.container import fmp4
from media.container.feed import FORMATS, Feed, Feeds, Mp4Muxer
from media.deliver.audience import Audience
from media.deliver.hls import Directives, HlsStream, PutFile, Wait, parse_directives
from media.deliver.http.reply import Reply, Sink
from media.deliver.http.request import Request
from media.deliver.http.response import Response, plain_error
from media.deliver.http.websocket import Opcode, WebSocketSink, websocket_frame
from media.deliver.poster.posters import Waiter
from media.errors import Refused
from media.package.playlist import codec_string, mime_type
from media.track.derived import LADDER_SUFFIX, ladder_of
from media.track.model import Packet
from media.track.registry import CallAt, Streams, Timer
from media.track.stream import Section, Stream, StreamState

HLS_IDLE_S = 60.0  # without a request for so long, what was packaged for HLS is let go
SOCKET_WAIT_S = 60.0  # a WebSocket may wait so long for its stream to begin
CONTENT_TYPES = {"mp4": "video/mp4", "ts": "video/mp2t", "flv": "video/x-flv"}
TOKEN_QUERY_MAX = 2048  # a token is repeated on every address of a multivariant playlist

NO_STREAM = plain_error(404, "no such stream is live here now")
NO_OBJECT = plain_error(404, "there is nothing at this address")
ANY_PLAYLIST = Directives()


class PosterSource(Protocol):
    """Where posters come from; media.deliver.poster.posters.Posters makes them here."""

    def ask(self, streams: Streams, name: str, reply: Waiter, now: float) -> bool:
        """Answer with a stream's poster, now or later; False, without an answer: there is no such stream."""


class Attendance(Protocol):
    """Who counts viewers by HLS; see Audience."""

    def __len__(self) -> int: ...

    def seen(self, stream: Stream, session: str, now: float) -> None: ...

    def sweep(self, now: float) -> None: ...


class Live:
    """Answers GET below /live/."""

    def __init__(
        self,
        streams: Streams,
        feeds: Feeds,
        posters: PosterSource,
        *,
        window_us: int,
        put_file: PutFile,
        call_at: CallAt,
        audience: Attendance | None = None,
    ) -> None:
        """`window_us` is the length of media playlists; for `put_file` see HlsStream.

        `audience` is told of viewers by HLS; without it they are counted here.
        """
        self.audience: Attendance = Audience() if audience is None else audience
        self._streams = streams
        self._feeds = feeds
        self._posters = posters
        self._window_us = window_us
        self._put_file = put_file
        self._call_at = call_at
        self._hls: dict[str, HlsStream] = {}
        self._sweeper: Timer | None = None

    @property
    def waiting(self) -> int:
        """Held HLS requests."""
        return sum(hls.waiting for hls in self._hls.values())

    def handle(self, request: Request, reply: Reply) -> None:
        """Handler of GET /live/*."""
        segments = request.head.segments
        if len(segments) > 1 and LADDER_SUFFIX in segments[1]:
            reply.send(NO_STREAM)  # its renditions are the source's, as viewers see them
        elif len(segments) == 4:
            self._track_file(request, reply, segments[1], segments[2], segments[3])
        elif len(segments) == 3 and segments[2] == "index.m3u8":
            self._multivariant(request, reply, segments[1])
        elif len(segments) == 3 and segments[2] == "ws":
            self._websocket(request, reply, segments[1])
        elif len(segments) == 3 and segments[2] == "poster.jpg":
            self._poster(request, reply, segments[1])
        elif len(segments) == 2:
            self._progressive(request, reply, segments[1])
        else:
            reply.send(NO_OBJECT)

    def _track_file(self, request: Request, reply: Reply, name: str, track: str, file: str) -> None:
        hls = self._hls_with(name, track, request.now)
        if hls is None:
            reply.send(NO_STREAM)
            return
        if file != "index.m3u8":
            _held(reply, hls.object(track, file, reply.send, request.now))
            return
        self._seen(self._streams.get(name) or hls.stream, request)
        directives: Directives | Response = ANY_PLAYLIST
        if request.query_text:
            query = request.query
            directives = parse_directives(query("_HLS_msn"), query("_HLS_part"), query("_HLS_skip"))
        if isinstance(directives, Response):
            reply.send(directives)
        else:
            _held(reply, hls.playlist(track, directives, reply.send, request.now))

    def _multivariant(self, request: Request, reply: Reply, name: str) -> None:
        hls = self._hls_of(name, request.now)
        if hls is None:
            reply.send(NO_STREAM)
            return
        token = request.query_text if request.query("token") is not None else ""
        query = f"?{token}" if token and len(token) <= TOKEN_QUERY_MAX and '"' not in token else ""
        ladder = self._hls_of(ladder_of(name), request.now, asked=False)
        _held(reply, hls.multivariant(query, reply.send, request.now, ladder))

    def _seen(self, stream: Stream, request: Request) -> None:
        session = request.header(b"cmcd-session") or request.header(b"user-agent")
        self.audience.seen(stream, f"{request.peer_host} {session}", request.now)

    def _hls_with(self, name: str, rendition: str, now: float) -> HlsStream | None:
        """The stream of that name, or its ladder when that is where the rendition is."""
        hls = self._hls_of(name, now)
        if hls is None or hls.has(rendition):
            return hls
        ladder = self._hls_of(ladder_of(name), now)
        if ladder is None or not (ladder.is_undescribed or ladder.has(rendition)):
            return hls
        hls.beside, ladder.beside = ladder, hls
        return ladder

    def _hls_of(self, name: str, now: float, *, asked: bool = True) -> HlsStream | None:
        """`asked`: for its media, and not just for what it has."""
        hls = self._hls.get(name)
        stream = None if asked else self._streams.get(name)
        if stream is None or stream.state is StreamState.ENDED:
            stream = self._streams.find(name, now)
        if hls is not None:
            if hls.stream is stream:
                return hls
            del self._hls[name]
            hls.close()
        if stream is None:
            return None
        hls = self._hls[name] = HlsStream(stream, self._window_us, self._put_file, self._call_at, now)
        if self._sweeper is None:
            self._sweeper = self._call_at(now + HLS_IDLE_S, self._sweep)
        return hls

    def _sweep(self, now: float) -> None:
        """Let go of what was packaged for streams that nobody asks for, or that are gone."""
        for name, hls in list(self._hls.items()):
            gone = self._streams.get(name) is not hls.stream
            if gone or (not hls.waiting and now - hls.asked_at > HLS_IDLE_S):
                del self._hls[name]
                hls.close()
        self.audience.sweep(now)
        self._sweeper = None
        if self._hls or len(self.audience):
            self._sweeper = self._call_at(now + HLS_IDLE_S / 4, self._sweep)

    def _poster(self, request: Request, reply: Reply, name: str) -> None:
        if not self._posters.ask(self._streams, name, reply, request.now):
            reply.send(NO_STREAM)

    def _progressive(self, request: Request, reply: Reply, file: str) -> None:
        name, _, form = file.rpartition(".")
        if form not in CONTENT_TYPES:
            reply.send(NO_OBJECT)
            return
        stream = self._streams.find(name, request.now)
        if stream is None or stream.state is StreamState.ENDED:
            reply.send(NO_STREAM)
            return
        try:
            feed = self._feeds.of(stream, form, FORMATS[form])
        except Refused as refused:
            reply.send(plain_error(406, str(refused)))
            return
        sink = reply.stream(CONTENT_TYPES[form], (("Cache-Control", "no-store"),))
        viewer = ProgressiveViewer(sink, same_header_only=form != "ts")
        self._follow(feed, viewer, sink, form)

    def _websocket(self, request: Request, reply: Reply, name: str) -> None:
        sink = reply.websocket()
        if sink is None:
            return
        stream = self._streams.find(name, request.now)
        if stream is not None and stream.state in (StreamState.LIVE, StreamState.LINGERING):
            self._join_socket(stream, sink)
        else:
            SocketWait(self, name, sink, request.now, self._streams, self._call_at)

    def _join_socket(self, stream: Stream, sink: WebSocketSink) -> None:
        self._follow(self._feeds.of(stream, "ws", SocketMuxer), SocketViewer(sink), sink, "ws")

    def _follow(self, feed: Feed, viewer: "ProgressiveViewer | SocketViewer", sink: Sink, form: str) -> None:
        feed.stream.viewer_came(form)

        def gone(now: float) -> None:
            feed.stream.viewer_left(form)
            feed.leave(viewer)

        sink.on_close = gone
        feed.join(viewer)


class SocketMuxer(Mp4Muxer):
    """Fragmented MP4, every chunk one WebSocket message."""

    def chunk(self, packets: list[Packet], index: int) -> bytes:
        return websocket_frame(*fmp4.fragment(self._tracks, packets, (index + 1) & 0xFFFFFFFF))


class SocketWait:
    """A WebSocket whose stream has not begun."""

    def __init__(
        self, live: Live, name: str, sink: WebSocketSink, now: float, streams: Streams, call_at: CallAt
    ) -> None:
        self._live = live
        self._name = name
        self._sink = sink
        self._streams = streams
        sink.send(_text({"type": "offline"}))
        try:
            self._cancel = streams.wait_for(name, self._begun)
        except Refused as refused:
            sink.send(_end(str(refused)))
            sink.close()
            return
        self._timer = call_at(now + SOCKET_WAIT_S, self._too_long)
        sink.on_close = self._gone

    def _begun(self, now: float) -> None:
        self._timer.cancel()
        stream = self._streams.get(self._name)
        assert stream is not None
        self._live._join_socket(stream, self._sink)

    def _too_long(self, now: float) -> None:
        self._cancel()
        self._sink.on_close = None
        self._sink.send(_end("offline"))
        self._sink.close()

    def _gone(self, now: float) -> None:
        self._timer.cancel()
        self._cancel()


class ProgressiveViewer:
    """A member of a feed that reads one endless file."""

    __slots__ = ("_header", "_same_header_only", "_sink", "send")

    def __init__(self, sink: Sink, *, same_header_only: bool) -> None:
        self._sink = sink
        self._same_header_only = same_header_only  # a file cannot begin a second time
        self._header: bytes | None = None
        self.send: Callable[..., None] = sink.send

    @property
    def queued_bytes(self) -> int:
        return self._sink.queued_bytes

    def begin(self, section: Section, header: bytes) -> bool:
        before, self._header = self._header, header
        if before is None:
            if header:
                self._sink.send(header)
            return True
        return before == header or not self._same_header_only

    def end(self, reason: str) -> None:
        self._sink.close()


class SocketViewer:
    """A member of a feed that takes MP4 by WebSocket: a JSON text before every init segment."""

    __slots__ = ("_sink", "send")

    def __init__(self, sink: WebSocketSink) -> None:
        self._sink = sink
        self.send: Callable[..., None] = sink.send

    @property
    def queued_bytes(self) -> int:
        return self._sink.queued_bytes

    def begin(self, section: Section, header: bytes) -> bool:
        self._sink.send(_init_message(section), websocket_frame(header))
        return True

    def end(self, reason: str) -> None:
        self._sink.send(_end(reason))
        self._sink.close()


def _init_message(section: Section) -> bytes:
    lead = section.tracks[0]
    return _text(
        {
            "type": "init",
            "mime": mime_type(section.tracks),
            "width": lead.width,
            "height": lead.height,
            "unix_us_at_zero": section.unix_us_at(0),
            "tracks": [
                {"name": track.name, "codec": codec_string(track), "kind": track.kind}
                for track in section.tracks
            ],
        }
    )


def _end(reason: str) -> bytes:
    return _text({"type": "end", "reason": reason})


def _text(message: dict[str, object]) -> bytes:
    return websocket_frame(msgspec.json.encode(message), opcode=Opcode.TEXT)


def _held(reply: Reply, wait: Wait | None) -> None:
    if wait is not None:
        reply.on_close = lambda now: wait.cancel()
