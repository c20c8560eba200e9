"""The private listener's HTTP server: Starlette routes on Hypercorn under trio."""

import base64
import functools
import hashlib
import re
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import hypercorn
import hypercorn.trio
import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fwnode.admin.access import Access, Verdict, password_of
from fwnode.admin.feed import INTERVAL_S, Feed
from fwnode.admin.routes import PREFIX, ROUTES, Route, openapi
from fwnode.admin.service import Api, ApiFailure, decode_body
from fwnode.admin.views import ApiError
from fwnode.errors import StoreError
from fwnode.node import Node
from fwnode.observe import metrics
from fwnode.observe.probe import process_usage
from fwnode.password import verify_password
from fwnode.promise.service import Keeping
from fwnode.store import Database
from media.errors import Unavailable

BODY_BYTES_MAX = 64 * 1024  # the largest request has a pattern and a label
PASSWORD_CHECKS = 1  # at a time: scrypt takes 16 MiB and 50 ms, and waiting in line slows guessing down
STORE_RETRY_S = 10
COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
REFUSALS = {
    Verdict.WRONG_HOST: (
        403,
        "wrong_host",
        "use 127.0.0.1 or localhost: the Host header is not a loopback name",
    ),
    Verdict.CROSS_ORIGIN: (
        403,
        "cross_origin",
        "changes are only taken from this node's own pages and programs",
    ),
    Verdict.UNAUTHORIZED: (401, "unauthorized", "a password is needed"),
}


async def serve_admin(
    node: Node,
    database: Database,
    sock: socket.socket,
    token: str,
    keeping: Keeping,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on a listening socket, which is this function's from now on, until cancelled."""
    api = Api(node, database, keeping)
    feed = Feed(node.streams, api.snapshot)
    access = Access(
        needs_password=bool(node.config.admin_password_hash), token=token, memory_key=secrets.token_bytes(32)
    )
    settings = hypercorn.Config()
    settings.bind = [f"fd://{sock.detach()}"]
    settings.include_server_header = False
    settings.loglevel = "WARNING"
    settings.graceful_timeout = 0.0  # the agent has drained before it stops this
    app = make_app(node, api, feed, access)
    node.streams.subscribe(feed.stream_changed)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tick, feed)
            await nursery.start(functools.partial(hypercorn.trio.serve, app, settings))  # type: ignore[arg-type]  # same ASGI, other names
            task_status.started()
    finally:
        node.streams.unsubscribe(feed.stream_changed)


async def _tick(feed: Feed) -> None:
    while True:
        await trio.sleep(INTERVAL_S)
        feed.tick()


def make_app(node: Node, api: Api, feed: Feed, access: Access) -> Starlette:
    """The ASGI application."""
    document = msgspec.json.format(msgspec.json.encode(openapi()), indent=2)
    page, policy = dashboard()

    async def show_openapi(request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.render(node, process_usage), media_type=metrics.CONTENT_TYPE)

    async def show_dashboard(request: Request) -> Response:
        return Response(
            page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy}
        )

    routes: list[BaseRoute] = [
        StarletteRoute(PREFIX + route.path, _endpoint(route, api), methods=[route.method]) for route in ROUTES
    ]
    routes += [
        StarletteRoute(f"{PREFIX}/events", _Events(feed), methods=["GET"]),
        StarletteRoute(f"{PREFIX}/openapi.json", show_openapi),
        StarletteRoute("/metrics", show_metrics),
        StarletteRoute("/", show_dashboard),
    ]
    guard = Middleware(_Guard, access=access, password_hash=node.config.admin_password_hash)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _http_error})


def dashboard() -> tuple[bytes, str]:
    """The page, and the Content-Security-Policy that allows its own script and style and nothing else."""
    page = (Path(__file__).parent / "dashboard.html").read_bytes()
    hashes = {
        tag: base64.b64encode(hashlib.sha256(body).digest()).decode()
        for tag, body in re.findall(rb"<(script|style)>(.*?)</\1>", page, re.DOTALL)
    }
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes[b'script']}'; "
        f"style-src 'sha256-{hashes[b'style']}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _endpoint(route: Route, api: Api) -> Callable[[Request], Awaitable[Response]]:
    handler = getattr(api, route.operation)

    async def endpoint(request: Request) -> Response:
        arguments = dict(request.path_params)
        arguments |= {name: request.query_params.get(name, "") for name in route.query}
        try:
            if route.body:
                arguments["body"] = decode_body(await _read_body(request), route.body)
            answer = await handler(**arguments)
        except ApiFailure as failure:
            return _error(failure.status, failure.view)
        except StoreError as error:
            return _error(503, ApiError("storage", str(error)), {"Retry-After": str(STORE_RETRY_S)})
        if answer is None:
            return Response(status_code=route.status)
        return Response(msgspec.json.encode(answer), route.status, media_type="application/json")

    return endpoint


async def _read_body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiFailure(415, "not_json", "send the body as Content-Type: application/json")
    data = bytearray()
    more = True
    while more:
        message = await request.receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > BODY_BYTES_MAX:
            raise ApiFailure(413, "too_large", f"the body is longer than {BODY_BYTES_MAX} bytes")
    return bytes(data)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    message = f"{request.method} {request.url.path} is not part of this API: see {PREFIX}/openapi.json"
    return _error(error.status_code, ApiError(code, message), dict(error.headers or {}))


def _error(status: int, view: ApiError, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(view), status, headers, media_type="application/json")


class _Guard:
    """Judges every request before a route sees it, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access, password_hash: str) -> None:
        self._app = app
        self._access = access
        self._password_hash = password_hash
        self._checks = trio.CapacityLimiter(PASSWORD_CHECKS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # WebSockets have no route here; Hypercorn answers 500 to a silent application
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        verdict = self._access.judge(scope["method"], headers)
        if verdict is Verdict.CHECK_PASSWORD:
            verdict = await self._check(password_of(headers) or "")

        async def send_with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))  # type: ignore[call-overload]  # ASGI: pairs of bytes
                common = [(name.lower().encode(), value.encode()) for name, value in COMMON_HEADERS.items()]
                message["headers"] = own + common
            await send(message)

        if verdict is Verdict.ALLOWED:
            await self._app(scope, receive, send_with_headers)  # type: ignore[arg-type]  # ASGI messages are dicts
        else:
            status, code, text = REFUSALS[verdict]
            challenge = (
                {"WWW-Authenticate": 'Basic realm="fwnode", charset="UTF-8"'} if status == 401 else None
            )
            await _error(status, ApiError(code, text), challenge)(scope, receive, send)

    async def _check(self, password: str) -> Verdict:
        good = await trio.to_thread.run_sync(
            verify_password, password, self._password_hash, limiter=self._checks
        )
        if good:
            self._access.remember(password)
        return Verdict.ALLOWED if good else Verdict.UNAUTHORIZED


class _Events:
    """Server-sent events, as an ASGI application so that nothing is left behind when a client goes."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        news = _Wake()
        try:
            mailbox = self._feed.join(news.set)
        except Unavailable as error:
            headers = {"Retry-After": str(round(error.retry_after_s))}
            await _error(503, ApiError("too_many_clients", str(error)), headers)(scope, receive, send)
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                kind = [(b"content-type", b"text/event-stream; charset=utf-8")]
                await send({"type": "http.response.start", "status": 200, "headers": kind})
                while True:
                    await news.wait()
                    await send({"type": "http.response.body", "body": mailbox.take(), "more_body": True})
        finally:
            self._feed.leave(mailbox)


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _Wake:
    """An event that is reset by waiting for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()
