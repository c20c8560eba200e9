"""The public listener's addresses, bound to what answers them. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import NO_CACHE, NO_STORE, Response, error
from media.deliver.http.router import Router
from media.deliver.http.static import StaticFiles
from media.deliver.live import Live
from media.deliver.pages import (
    CONTENT_SECURITY_POLICY,
    HLS_SCRIPT,
    PLAYER_PATH,
    Listed,
    embed_page,
    home_page,
    watch_page,
)
from media.track.derived import is_ladder
from media.track.registry import STREAM_NAME
from media.track.stream import StreamState

HTML = "text/html; charset=utf-8"
LISTED_MAX = 200  # streams on the home page
SHOWN = (StreamState.LIVE, StreamState.LINGERING, StreamState.STARTING)
NO_SUCH_NAME = error(404, "not_found", "a stream's name has only lower-case letters, digits, - and _")


class Shown(Protocol):
    """What the home page shows of a stream."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> StreamState: ...

    @property
    def viewers(self) -> Mapping[str, int]: ...


class Pages:
    """Home, watch and embed pages, and the health check."""

    def __init__(
        self, streams: Iterable[Shown], *, node: str, hls_script: bool, ready: Callable[[], bool]
    ) -> None:
        """`hls_script`: hls.js was fetched at set-up; `ready` is False while the node drains."""
        self._streams = streams
        self._node = node
        self._hls_script = hls_script
        self._ready = ready

    def home(self, request: Request, reply: Reply) -> None:
        listed = [
            Listed(stream.name, stream.state is StreamState.LIVE, sum(stream.viewers.values()))
            for stream in self._streams
            if stream.state in SHOWN and not is_ladder(stream.name)
        ]
        listed.sort(key=lambda stream: (not stream.live, -stream.viewers, stream.name))
        reply.send(_page(home_page(listed[:LISTED_MAX], node=self._node)))

    def watch(self, request: Request, reply: Reply) -> None:
        self._player(
            request, reply, lambda name: watch_page(name, node=self._node, hls_script=self._hls_script)
        )

    def embed(self, request: Request, reply: Reply) -> None:
        self._player(request, reply, lambda name: embed_page(name, hls_script=self._hls_script))

    def health(self, request: Request, reply: Reply) -> None:
        ready = self._ready()
        reply.send(
            Response(
                200 if ready else 503,
                b"ok\n" if ready else b"draining\n",
                content_type="text/plain; charset=utf-8",
                cache_control=NO_STORE,
            )
        )

    def _player(self, request: Request, reply: Reply, page: Callable[[str], bytes]) -> None:
        segments = request.segments
        if len(segments) != 2 or not STREAM_NAME.fullmatch(segments[1]):
            reply.send(NO_SUCH_NAME)
        else:
            reply.send(_page(page(segments[1])))


def public_router(live: Live, pages: Pages, player_files: Mapping[str, bytes]) -> Router:
    """Every public address. `player_files` are the player's, with hls.js where it was fetched."""
    router = Router()
    router.add("GET", "/live/*", live.handle, name="live")
    router.add("GET", "/", pages.home, name="home")
    router.add("GET", "/watch/*", pages.watch, name="watch")
    router.add("GET", "/embed/*", pages.embed, name="embed")
    router.add("GET", "/healthz", pages.health, name="health")
    router.add("GET", f"{PLAYER_PATH}/*", StaticFiles(f"{PLAYER_PATH}/", player_files), name="player")
    return router


def has_hls_script(player_files: Mapping[str, bytes]) -> bool:
    """Was hls.js fetched?"""
    return HLS_SCRIPT in player_files


def _page(body: bytes) -> Response:
    return Response(
        200,
        body,
        content_type=HTML,
        cache_control=NO_CACHE,
        headers=(
            ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ),
        compress=True,
    )
