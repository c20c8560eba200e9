"""What viewers and publishers are answered: /play, /ingest, and who is sent on from elsewhere. Pure.

A redirect is 307 and never kept. A viewer is sent on at most twice (`fwnode.steering.moves`), then it stays.
Nothing that a viewer holds already is moved: media playlists, parts and open connections go on here.
"""

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from fwnode.delivery import MAY_BE_ELSEWHERE
from fwnode.steering.choosing import FALLBACKS, HERE, Came, Choosing, Chosen
from fwnode.steering.doors import base_of
from fwnode.steering.forwarded import Proxies
from fwnode.steering.model import IngestAnswer, IngestNode, NodeUrls, PlayAnswer
from fwnode.steering.moves import FIELD, movers, query
from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import NO_STORE, Response, error, plain_error, redirect
from media.deliver.http.router import Handler, Router
from media.track.registry import STREAM_NAME
from mesh.model import NodeId, short
from mesh.routing.viewers import TRIED_MAX
from mesh.routing.viewers import Protocol as Carrying

PATHS = {
    "hls": "/live/{}/index.m3u8",
    "watch": "/watch/{}",
    "embed": "/embed/{}",
    "ws": "/live/{}/ws",
    "mp4": "/live/{}.mp4",
    "ts": "/live/{}.ts",
    "flv": "/live/{}.flv",
}
SENT_TO = {"m3u8": PATHS["hls"], "mp4": PATHS["mp4"], "ts": PATHS["ts"], "flv": PATHS["flv"]}
REDIRECTS_KEPT = 1024  # answers by where they lead: viewers of one stream get few different ones
TOKEN_CHARACTERS_MAX = 2048  # as of playlists; a longer one is nobody's
SESSION_CHARACTERS = 128  # of a player's name; enough to tell players apart
RETRY_S = 5

NO_STREAM = plain_error(404, "no such stream is live in this network now")
NO_STREAM_JSON = error(404, "no_such_stream", "no such stream is live in this network now")
NO_ADDRESS = error(404, "not_found", "there is /play/{stream}, with .m3u8, .mp4, .ts, .flv or /watch behind")
NOBODY = error(
    503,
    "nobody",
    "no node can serve this viewer now: `fwnode explain` on a node says why",
    headers=(("Retry-After", str(RETRY_S)),),
)
NO_INGEST = error(404, "not_found", "there is /ingest/{stream}")

_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


class Answered(Protocol):
    """A Reply, or what keeps the answer for one elsewhere."""

    def send(self, response: Response) -> None: ...


class Answers:
    """Handlers for the public listeners."""

    def __init__(
        self, choosing: Choosing, proxies: Proxies, bound: Callable[[], Mapping[str, str]], node: NodeId
    ) -> None:
        """`bound`: addresses of the listeners by option; `node`: this node's key."""
        self._choosing = choosing
        self._proxies = proxies
        self._bound = bound
        self._node = node
        self._redirects: dict[str, Response] = {}

    def add_to(self, router: Router) -> None:
        """Serve /play and /ingest, and look at who comes to pages and playlists."""
        router.add("GET", "/play/*", self.play, name="play")
        router.add("GET", "/ingest/*", self.ingest, name="ingest")
        for route in router.routes:
            if route.name in MAY_BE_ELSEWHERE:
                route.handler = self._before(route.handler, MAY_BE_ELSEWHERE[route.name])

    def judge(self, request: Request, reply: Answered) -> bool:
        """Answer a request of /play and /ingest, or of a viewer who is sent on; False: serve it here."""
        first, segments = request.segments[0], request.segments
        if first == "play":
            self.play(request, reply)
        elif first == "ingest":
            self.ingest(request, reply)
        elif first not in MAY_BE_ELSEWHERE or not MAY_BE_ELSEWHERE[first](segments):
            return False
        else:
            return self._sends_on(request, reply, segments[1], PATHS["watch" if first == "watch" else "hls"])
        return True

    # --- handlers

    def play(self, request: Request, reply: Answered) -> None:
        """GET /play/{stream}, /play/{stream}.m3u8 and friends, /play/{stream}/watch."""
        segments = request.head.segments
        if len(segments) == 3 and segments[2] == "watch":
            self._send_on(request, reply, segments[1], PATHS["watch"])
        elif len(segments) != 2:
            reply.send(NO_ADDRESS)
        elif "." not in segments[1]:
            self._tell(request, reply, segments[1])
        else:
            name, _, form = segments[1].rpartition(".")
            path = SENT_TO.get(form)
            if path is None:
                reply.send(NO_ADDRESS)
            else:
                self._send_on(request, reply, name, path)

    def ingest(self, request: Request, reply: Answered) -> None:
        """GET /ingest/{stream}."""
        segments = request.head.segments
        if len(segments) != 2 or not STREAM_NAME.fullmatch(segments[1]):
            reply.send(NO_INGEST)
            return
        came = self._came(request)
        asked = Came(came.host, secure=False, session=came.session, carrying=Carrying.RTMP)
        nodes = []
        for chosen in self._choosing.publishable(asked, request.now):
            base = base_of(chosen.doors, "rtmp", "rtmps")
            if chosen.here:
                base = base or self._own_rtmp(request)
            if base:
                key, distance_km = self._key_of(chosen), _whole(chosen.distance_km)
                nodes.append(IngestNode(key, chosen.name, f"{base}/live", chosen.here, distance_km))
        reply.send(_json(IngestAnswer(segments[1], nodes)))

    def _tell(self, request: Request, reply: Answered, name: str) -> None:
        came = self._came(request)
        found = self._choose(came, name, request.now, fallbacks=FALLBACKS)
        if found is None:
            reply.send(NO_STREAM_JSON)
        elif not found:
            reply.send(NOBODY)
        else:
            nodes = [self._urls(chosen, name, came, request) for chosen in found]
            last_resort = found[0].standing.name in ("STRETCHED", "FULL")
            reply.send(_json(PlayAnswer(name, last_resort, nodes)))

    def _send_on(self, request: Request, reply: Answered, name: str, path: str) -> None:
        came = self._came(request)
        if not STREAM_NAME.fullmatch(name):
            reply.send(NO_STREAM)
            return
        if len(came.tried) >= TRIED_MAX:
            self._choosing.counters.kept += 1
            reply.send(self._redirect(self._path(request, name, path, moved=False)))
            return
        found = self._choose(came, name, request.now)
        if found is None:
            reply.send(NO_STREAM)
        elif not found:
            reply.send(NOBODY)
        else:
            reply.send(self._redirect(self._location(request, found[0], name, path, came)))

    def _before(self, handler: Handler, concerns: Callable[[tuple[str, ...]], bool]) -> Handler:
        def handle(request: Request, reply: Reply) -> None:
            if not concerns(request.head.segments) or not self.judge(request, reply):
                handler(request, reply)

        return handle

    def _sends_on(self, request: Request, reply: Answered, name: str, path: str) -> bool:
        """Whether the viewer was answered with another node."""
        if self._choosing.census is None or not STREAM_NAME.fullmatch(name):
            return False
        fields = request.head.fields
        if fields.get(b"sec-fetch-site") == b"same-origin" and fields.get(b"sec-fetch-mode") != b"navigate":
            return False  # a page from here, which was looked at, may fetch nothing from another node (CSP)
        came = self._came(request)
        if len(came.tried) >= TRIED_MAX:
            self._choosing.counters.kept += 1
            return False
        chosen = self._choosing.elsewhere(came, name, request.now)
        if chosen is None:
            return False
        location = self._location(request, chosen, name, path, came)
        if not location.startswith("http"):
            return False
        reply.send(self._redirect(location))
        return True

    # --- parts of them

    def _choose(self, came: Came, name: str, now: float, *, fallbacks: int = 0) -> list[Chosen] | None:
        if not STREAM_NAME.fullmatch(name):
            return None
        return self._choosing.choose(came, name, now, fallbacks=fallbacks)

    def _came(self, request: Request) -> Came:
        seen = self._proxies.viewer_of(request)
        fields = request.head.fields
        session = fields.get(b"cmcd-session") or fields.get(b"user-agent") or b""
        tried = movers(request.query(FIELD)) if request.query_text else ()
        name = session[:SESSION_CHARACTERS].decode("latin-1")
        return Came(seen.host, seen.secure, name, Carrying.HTTP, tried)

    def _location(self, request: Request, chosen: Chosen, name: str, path: str, came: Came) -> str:
        """Where a viewer is sent; a path when it stays on this node."""
        base = "" if chosen.here else base_of(chosen.doors, *_schemes(came))
        return base + self._path(request, name, path, moved=bool(base))

    def _path(self, request: Request, name: str, path: str, *, moved: bool) -> str:
        """With the viewer's token and, for another node, who sent it."""
        if not request.query_text and not moved:
            return path.format(name)
        token, before = request.query("token"), movers(request.query(FIELD))
        kept = (("token", token),) if token is not None and len(token) <= TOKEN_CHARACTERS_MAX else ()
        return path.format(name) + query(kept, (*before, short(self._node)) if moved else before)

    def _redirect(self, location: str) -> Response:
        answer = self._redirects.get(location)
        if answer is None:
            answer = redirect(location)
            if len(self._redirects) >= REDIRECTS_KEPT:
                self._redirects.clear()
            self._redirects[location] = answer
        if location.startswith("http"):
            self._choosing.counters.redirects += 1
        return answer

    def _urls(self, chosen: Chosen, name: str, came: Came, request: Request) -> NodeUrls:
        base = base_of(chosen.doors, *_schemes(came))
        rtmp = base_of(chosen.doors, "rtmp", "rtmps")
        if chosen.here:
            base = _asked_at(request, secure=came.secure) or base
            rtmp = rtmp or self._own_rtmp(request)
        urls = {kind: base + path.format(name) for kind, path in PATHS.items()}
        if base:
            urls["ws"] = "ws" + urls["ws"].removeprefix("http")
        if rtmp:
            urls["rtmp"] = f"{rtmp}/live/{name}"
        return NodeUrls(self._key_of(chosen), chosen.name, urls, chosen.here, _whole(chosen.distance_km))

    def _own_rtmp(self, request: Request) -> str:
        """This node's RTMP at the host that the request was made to."""
        bound, asked = self._bound().get("rtmp", ""), _HOST.fullmatch(request.header(b"host"))
        return f"rtmp://{asked[1]}:{bound.rpartition(':')[2]}" if bound and asked else ""

    def _key_of(self, chosen: Chosen) -> str:
        return (self._node if chosen.node == HERE else chosen.node).hex()


def _schemes(came: Came) -> tuple[str, ...]:
    return ("https",) if came.secure else ("http", "https")


def _asked_at(request: Request, *, secure: bool) -> str:
    """The base of the URL that was asked for; "" when the Host field is none."""
    host = request.header(b"host")
    return f"{'https' if secure else 'http'}://{host}" if _HOST.fullmatch(host) else ""


def _whole(distance_km: float | None) -> int | None:
    return None if distance_km is None else round(distance_km)


def _json(answer: msgspec.Struct) -> Response:
    return Response(200, msgspec.json.encode(answer), content_type="application/json", cache_control=NO_STORE)
