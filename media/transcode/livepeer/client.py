"""Talks HTTP/1.1 to Livepeer gateways, and runs one stream's engine on them."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

import h11
import msgspec
import trio

from media.transcode.livepeer.engine import Engine
from media.transcode.livepeer.order import Gateway
from media.transcode.livepeer.rendition import Rejected, examine_untrusted
from media.transcode.livepeer.request import Request, build_request
from media.transcode.livepeer.schedule import Attempt, FellBack, Outcome, Released

CONNECT_S = 3.0  # name, TCP and TLS: several round trips
READ_BYTES = 256 * 1024
TEXT_BYTES_MAX = 4096  # of an answer that is no success: a line for people
IDLE_MAX_S = 30.0  # a connection that rested longer may be gone at a router in between
STALE_S = 0.5  # a connection that the gateway had closed says so within a round trip
IDLE_CONNECTIONS_MAX = 32  # of one gateway: streams times requests in flight, on a machine with a mesh
PRICE_MAX_DIGITS = 30
CLOSE_S = 1.0

_Stream = trio.abc.Stream


class Clock(Protocol):
    """The clock of the streams; media.net.reactor.Reactor is one."""

    def now(self) -> float: ...


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; `body` of one that is no success may be cut off."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes
    too_large: bool = False


class Progress:
    """How far a request has come, for who cancels it."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class Unreachable(Exception):
    """No connection to the gateway came about."""


class Broken(Exception):
    """The connection ended, or what came over it is no HTTP."""


class _Connection:
    """One kept connection."""

    __slots__ = ("http", "rested_at", "stream")

    def __init__(self, stream: _Stream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)
        self.rested_at = 0.0


class GatewayClient:
    """Connections to gateways, kept between requests. `aclose` it, or use it as a context."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """`tls` for https; by default certificates are checked against the host's authorities."""
        self.opened = 0  # connections
        self._tls = tls
        self._idle: dict[str, list[_Connection]] = {}

    async def __aenter__(self) -> "GatewayClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what rests."""
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                await trio.aclose_forcefully(connection.stream)

    async def post(self, gateway: Gateway, request: Request, progress: Progress) -> Answer:
        """Send it and read the answer. Raises Unreachable and Broken; the caller has the timeout."""
        key = gateway.url
        while connection := self._rested(key):
            began = trio.current_time()
            try:
                return await self._exchange(key, connection, request, progress)
            except Broken:
                heard = connection.http.their_state is not h11.SEND_RESPONSE
                if heard or trio.current_time() - began > STALE_S:
                    raise  # it had not been closed while it rested
            progress.sent = False
        return await self._exchange(key, await self._open(gateway), request, progress)

    def _rested(self, key: str) -> _Connection | None:
        idle = self._idle.get(key, [])
        while idle:
            connection = idle.pop()
            if trio.current_time() - connection.rested_at <= IDLE_MAX_S:
                return connection
            _drop(connection.stream)
        return None

    async def _open(self, gateway: Gateway) -> _Connection:
        parts = urlsplit(gateway.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with trio.fail_after(CONNECT_S):
                stream: _Stream = await trio.open_tcp_stream(host, port)
                if parts.scheme == "https":
                    self._tls = self._tls or ssl.create_default_context()
                    secured = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
                    try:
                        await secured.do_handshake()
                    except BaseException:
                        await trio.aclose_forcefully(stream)
                        raise
                    stream = secured
        except trio.TooSlowError:
            raise Unreachable(f"{host}:{port} does not answer") from None
        except (OSError, trio.BrokenResourceError) as error:
            raise Unreachable(_text(error)) from None
        self.opened += 1
        return _Connection(stream)

    async def _exchange(
        self, key: str, connection: _Connection, request: Request, progress: Progress
    ) -> Answer:
        http, stream = connection.http, connection.stream
        answer: Answer | None = None
        failure: BaseException | None = None
        try:
            head = http.send(h11.Request(method="POST", target=request.target, headers=list(request.headers)))
            body = http.send(h11.Data(data=request.body))
            http.send(h11.EndOfMessage())
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    # A gateway that refuses closes before it has read all: its answer says more.
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        await stream.send_all((head or b"") + (body or b""))
                        progress.sent = True

                nursery.start_soon(send)
                answer = await _receive(connection, request.answer_bytes_max)
                nursery.cancel_scope.cancel()
        except* (
            Broken,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            h11.ProtocolError,
            OSError,
        ) as group:
            failure = group.exceptions[0]
        finally:
            if not self._keep(key, connection, progress):
                _drop(stream)
        if answer is None:
            raise Broken(_text(failure) if failure else "no answer")
        return answer

    def _keep(self, key: str, connection: _Connection, progress: Progress) -> bool:
        """Keep the connection for the next request, when both sides are through with this one."""
        http = connection.http
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE or not progress.sent:
            return False
        idle = self._idle.setdefault(key, [])
        if len(idle) >= IDLE_CONNECTIONS_MAX:
            return False
        http.start_next_cycle()
        connection.rested_at = trio.current_time()
        idle.append(connection)
        return True


async def serve_offload(
    engine: Engine,
    client: GatewayClient,
    clock: Clock,
    deliver: Callable[[Released | FellBack], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one stream's engine until cancelled; `deliver` gets its outputs as they come."""
    bell = trio.Event()

    def ring() -> None:
        bell.set()

    engine.on_work = ring
    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                bell = trio.Event()
                now = clock.now()
                engine.on_deadline(now)
                for attempt in engine.attempts(now):
                    nursery.start_soon(_make, engine, client, clock, attempt)
                for output in engine.outputs():
                    deliver(output)
                deadline = engine.deadline()
                wait_s = float("inf") if deadline is None else max(0.0, deadline - clock.now())
                with trio.move_on_after(wait_s):
                    await bell.wait()
    finally:
        engine.on_work = lambda: None


async def _make(engine: Engine, client: GatewayClient, clock: Clock, attempt: Attempt) -> None:
    """One request, from the connection to the look at what came."""
    outcome: Outcome | None = None
    gateway = engine.gateways[attempt.gateway]
    progress = Progress()
    try:
        with trio.move_on_after(attempt.timeout_s) as scope:
            outcome = await _outcome(client, gateway, attempt, progress)
        if outcome is None and scope.cancelled_caught:
            outcome = Outcome("timeout" if progress.sent else "broken", text="no answer in time")
    finally:
        if outcome is None:
            engine.abandon(attempt.number)
        else:
            engine.ended(attempt.number, outcome, clock.now())


async def _outcome(client: GatewayClient, gateway: Gateway, attempt: Attempt, progress: Progress) -> Outcome:
    try:
        answer = await client.post(gateway, build_request(gateway, attempt.segment), progress)
    except Unreachable as error:
        return Outcome("unreachable", text=str(error))
    except Broken as error:
        return Outcome("broken", text=str(error))
    if answer.status != 200:
        return Outcome("answer", answer.status, answer.body.decode("utf-8", "replace"))
    if answer.too_large:
        return Outcome("answer", 200, "the answer is too large", fault="bytes")
    try:
        renditions = examine_untrusted(attempt.segment, answer.headers.get("content-type", ""), answer.body)
    except Rejected as error:
        return Outcome("answer", 200, str(error), fault=error.kind)
    price = answer.headers.get(gateway.price_header.lower(), "") if gateway.price_header else ""
    whole = price.isascii() and price.isdigit() and len(price) <= PRICE_MAX_DIGITS
    return Outcome("answer", 200, renditions=renditions, price=int(price) if whole else 0)


async def _receive(connection: _Connection, most: int) -> Answer:
    """The answer, of which no more is read than may be of use. Raises Broken, h11.RemoteProtocolError."""
    http, stream = connection.http, connection.stream
    head: h11.Response | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive_some(READ_BYTES)
            if not data and http.their_state is h11.SEND_RESPONSE:
                raise Broken("the gateway closed the connection without an answer")
            http.receive_data(bytes(data))
        elif isinstance(event, h11.Response):
            head = event
            most = most if head.status_code == 200 else TEXT_BYTES_MAX
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most:
                break
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    if head is None:
        raise Broken("the gateway closed the connection without an answer")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Answer(head.status_code, headers, bytes(body[:most]), too_large=len(body) > most)


def _drop(stream: _Stream) -> None:
    """Close without waiting: what the other side thinks of it does not matter any more."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        stream.socket.close()


def _text(error: BaseException) -> str:
    return str(error) or str(error.__cause__ or "") or type(error).__name__
