"""Paths to handlers. Pure."""

from collections.abc import Callable

from media.deliver.http.reply import Reply
from media.deliver.http.request import Head, Request
from media.deliver.http.response import error, preflight

BODY_MAX_BYTES = 65536  # an SDP offer is below 20 KiB; a handler that takes more says so

NOT_FOUND = error(404, "not_found", "there is nothing at this address")

Handler = Callable[[Request, Reply], None]


class Route:
    """One class of requests: its handler, its limits and its counts."""

    __slots__ = ("answers", "body_max_bytes", "bytes_out", "handler", "name", "requests")

    def __init__(self, name: str, handler: Handler, body_max_bytes: int = BODY_MAX_BYTES) -> None:
        self.name = name
        self.handler = handler
        self.body_max_bytes = body_max_bytes
        self.requests = 0
        self.answers = [0] * 6  # by hundreds of the status
        self.bytes_out = 0  # of bodies, as given to the connection; streams not included


_NOTHING: dict[str, Route] = {}


class Router:
    """Finds a route by exact path, else by the path's first segment. Takes no memory per request."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._under: dict[str, dict[str, Route]] = {}
        self._missing = Route("not-found", lambda request, reply: reply.send(NOT_FOUND))
        self._wrong_method = Route("wrong-method", self._refuse_method)
        self._preflight = Route("preflight", self._answer_options)
        self._routes: list[Route] = [self._missing, self._wrong_method, self._preflight]

    def add(
        self,
        methods: str,
        pattern: str,
        handler: Handler,
        *,
        name: str,
        body_max_bytes: int = BODY_MAX_BYTES,
    ) -> Route:
        """Serve `methods` ("GET POST") at `pattern`: a path, or "/first/*" for all paths below.

        GET answers HEAD, too. Handlers split the rest of the path themselves (`request.segments`).
        """
        route = Route(name, handler, body_max_bytes)
        self._routes.append(route)
        if pattern.endswith("/*"):
            table = self._under.setdefault(pattern[1:-2], {})
        else:
            table = self._exact.setdefault(pattern, {})
        for method in methods.split():
            table[method] = route
        if "GET" in table:
            table.setdefault("HEAD", table["GET"])
        return route

    def resolve(self, head: Head) -> Route:
        """The route of a request; unknown paths and methods have routes that say so."""
        table = self._table(head)
        route = table.get(head.method)
        if route is not None:
            return route
        if head.method == "OPTIONS":
            return self._preflight
        return self._wrong_method if table else self._missing

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route, for counting."""
        return tuple(self._routes)

    def _table(self, head: Head) -> dict[str, Route]:
        """Routes by method at a path; empty when there is nothing."""
        table = self._exact.get(head.path)
        if table is None and len(head.segments) > 1:
            table = self._under.get(head.segments[0])
        return table or _NOTHING

    def _methods(self, request: Request) -> str:
        return ", ".join(sorted({*self._table(request.head), "OPTIONS"}))

    def _refuse_method(self, request: Request, reply: Reply) -> None:
        methods = self._methods(request)
        reply.send(error(405, "method_not_allowed", f"use {methods}", headers=(("Allow", methods),)))

    def _answer_options(self, request: Request, reply: Reply) -> None:
        reply.send(preflight(self._methods(request)))
