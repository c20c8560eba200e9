"""The double's listeners: the gateway's HTTP port as h11 and trio serve it, and its faults on the wire."""

import hashlib
import json
import random
import socket
import struct
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import h11
import trio

from livepeer_gateway import checks, hls, naming
from livepeer_gateway.checks import FRAMEWORKS, Push, Refused
from livepeer_gateway.control import Control
from livepeer_gateway.damage import damaged
from livepeer_gateway.faults import Fault
from livepeer_gateway.framing import BOUNDARY_BYTES, Part, error_headers, multipart, multipart_type
from livepeer_gateway.gateway import Gateway
from livepeer_gateway.journal import Entry
from livepeer_gateway.options import Options
from livepeer_gateway.transcoder import Source

HEAD_BYTES_MAX = 1 << 20  # Go's default
DRAIN_BYTES_MAX = 256 * 1024  # Go reads so much of an unread body to keep the connection
READ_BYTES = 64 * 1024
TRICKLES = 20  # pieces of an answer that trickles
FRAMEWORKS_WEBHOOK_S = 5.0
Headers = list[tuple[str, str]]
MPEG = {".ts": "video/mp2t", ".mp4": "video/mp4"}


class Gone(Exception):
    """The connection is to end, or has ended."""


class Connection:
    """One client's connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def event(self) -> Any:
        """The next event. Raises Gone, h11.RemoteProtocolError."""
        while True:
            if self.h11.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            event = self.h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            try:
                self.h11.receive_data(await self.stream.receive_some(READ_BYTES))
            except trio.BrokenResourceError as error:
                raise Gone from error

    async def request(self) -> h11.Request | None:
        """The next request's head, or None when the client has gone."""
        event = await self.event()
        return event if isinstance(event, h11.Request) else None

    async def body(self, limit: int) -> bytes | None:
        """The whole body, or None when it is longer. Raises Gone."""
        received = bytearray()
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise Gone
            received += event.data
            if len(received) > limit:
                return None
        return bytes(received)

    async def answer(
        self, status: int, headers: Headers, pieces: Sequence[bytes], pause_s: float = 0
    ) -> None:
        """A whole answer, each piece a chunk where there is no Content-Length."""
        await self._send(h11.Response(status_code=status, headers=headers, reason=_reason(status)))
        for piece in pieces:
            if piece:
                await self._send(h11.Data(data=piece))
                await trio.sleep(pause_s)
        await self._send(h11.EndOfMessage())

    async def cut_answer(self, headers: Headers, data: bytes) -> None:
        """The beginning of an answer, then the end of the connection. Raises Gone."""
        await self._send(h11.Response(status_code=200, headers=headers, reason=b"OK"))
        await self._send(h11.Data(data=data))
        raise Gone

    async def refuse(self, refused: Refused) -> None:
        """Go's http.Error."""
        body = refused.body
        await self.answer(refused.status, error_headers(body, _date()), [body])

    async def _send(self, event: h11.Event) -> None:
        data = self.h11.send(event)
        try:
            if data:
                await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise Gone from error

    def reset(self) -> None:
        """The next close sends a reset."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class GatewayServer:
    """`run` serves until it is cancelled; `url` and `control_url` are there once it has started."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.url = self.control_url = ""
        self._connections: dict[Connection, trio.CancelScope] = {}
        self._listening = trio.CancelScope()
        self._random = random.SystemRandom()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.gateway = Gateway(self.options, nursery, self._call_webhook)
            self._port = self.options.port
            await self.listen()
            control = Control(self, self.gateway)
            listeners = await trio.open_tcp_listeners(self.options.control_port, host=self.options.host)
            await nursery.start(trio.serve_listeners, control.serve, listeners)
            self.control_url = f"http://{self.options.host}:{listeners[0].socket.getsockname()[1]}"
            task_status.started()

    async def listen(self) -> None:
        """Take connections, on the port of before when there was one."""
        listeners = await trio.open_tcp_listeners(self._port, host=self.options.host)
        self._port = listeners[0].socket.getsockname()[1]
        self.url = f"http://{self.options.host}:{self._port}"
        self._listening = trio.CancelScope()
        await self._nursery.start(self._accept, listeners, self._listening)

    async def _accept(
        self,
        listeners: list[trio.SocketListener],
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._closed = trio.Event()
        with scope:
            task_status.started()
            await trio.serve_listeners(self._serve, listeners, handler_nursery=self._nursery)
        self._closed.set()

    async def refuse_connections(self) -> None:
        """Nobody listens on the port until `listen`; connections that are there end."""
        self._listening.cancel()
        await self._closed.wait()
        self.drop_connections()

    def restart(self) -> None:
        """As when the process is started anew: sessions and connections are lost."""
        self.gateway.restart()
        self.drop_connections()

    def drop_connections(self) -> None:
        for scope in self._connections.values():
            scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream)
        with trio.CancelScope() as scope:
            self._connections[connection] = scope
            try:
                while request := await connection.request():
                    await self._request(connection, request)
                    if connection.h11.our_state is not h11.DONE or connection.h11.their_state is not h11.DONE:
                        break
                    connection.h11.start_next_cycle()
            except (Gone, h11.ProtocolError, trio.BrokenResourceError):
                pass
            finally:
                del self._connections[connection]
        await trio.aclose_forcefully(stream)

    async def _request(self, connection: Connection, request: h11.Request) -> None:
        path = urlsplit(request.target.decode("ascii", "replace")).path
        method = request.method.decode("ascii")
        headers: dict[str, str] = {}
        for name, value in request.headers:
            headers.setdefault(name.decode(), value.decode("utf-8", "replace"))
        if (clean := naming.clean_path(path)) != path:
            await connection.body(DRAIN_BYTES_MAX)
            moved = [("Location", clean), ("Date", _date()), ("Content-Length", "0")]
            await connection.answer(301, moved, [])
        elif path.startswith("/live/") and self.options.http_ingest:
            await self._push(connection, method, path, headers)
        else:
            await connection.body(DRAIN_BYTES_MAX)
            await self._other(connection, path)

    async def _push(self, connection: Connection, method: str, path: str, headers: dict[str, str]) -> None:
        entry = self.gateway.journal.open(method, path, headers, self.gateway.now())
        target = naming.target_of(path)
        entry.manifest_id, entry.sequence = target.manifest_id, target.sequence
        first = self.gateway.find(target.manifest_id) is None
        fault = self.gateway.faults.choose(target.manifest_id, target.sequence, first)
        entry.fault = fault.fault if fault else ""
        try:
            await self._push_checked(connection, method, path, headers, entry, fault)
        except Refused as refused:
            entry.status, entry.text = refused.status, refused.text
            await connection.refuse(refused)
        finally:
            entry.ended_s = self.gateway.now()

    async def _push_checked(
        self,
        connection: Connection,
        method: str,
        path: str,
        headers: dict[str, str],
        entry: Entry,
        fault: Fault | None,
    ) -> None:
        try:
            configuration = checks.read_head(method, path, headers, self.options.dialect)
        except Refused:
            await connection.body(DRAIN_BYTES_MAX)
            raise
        if fault and fault.fault == "stall":
            await trio.sleep(fault.delay_s or float("inf"))
        body = await connection.body(self.options.body_bytes_max)
        if body is None:
            raise Refused(500, "Error reading http request body: input bigger than max buffer size")
        entry.body_bytes, entry.body_sha256 = len(body), hashlib.sha256(body).hexdigest()
        push = checks.read_rest(path, headers, configuration)
        if fault:
            await self._fault_before(connection, fault, push, entry)
        parts = await self.gateway.push(push, headers, body, entry, fault)
        entry.renditions = [part.name for part in parts]
        entry.status = 200
        await self._success(connection, push, parts, body, fault)

    async def _fault_before(self, connection: Connection, fault: Fault, push: Push, entry: Entry) -> None:
        kind = fault.fault
        if kind in ("drop", "reset"):
            if kind == "reset":
                connection.reset()
            raise Gone
        if kind == "restart":
            self.restart()
            await trio.lowlevel.checkpoint()
        if kind == "hang":
            while await connection.stream.receive_some(READ_BYTES):
                pass
            raise Gone
        if kind == "slow":
            await trio.sleep(fault.delay_s)
        refusals = {
            "status": Refused(fault.status, fault.text),
            "forbidden": checks.no_stream(push, 403),
            "overloaded": Refused(503, checks.NO_SESSIONS),
            "transcode": checks.segment_error(422, push, "hit max transcode attempts: UnknownResponse"),
        }
        if kind in refusals:
            raise refusals[kind]
        if kind == "full" and self.gateway.find(push.target.manifest_id) is None:
            raise checks.no_stream(push, 500)

    async def _success(
        self, connection: Connection, push: Push, parts: list[Part], body: bytes, fault: Fault | None
    ) -> None:
        chunked = [("Date", _date()), ("Transfer-Encoding", "chunked")]
        if not push.wants_parts or not parts or (fault and fault.fault == "empty"):
            await connection.answer(200, chunked, [])
            return
        boundary = self._random.randbytes(BOUNDARY_BYTES).hex()
        headers = [("Content-Type", multipart_type(boundary)), *chunked]
        if fault is None:
            await connection.answer(200, headers, multipart(parts, boundary))
            return
        pieces = multipart(damaged(fault.fault, parts, body, self._random), boundary)
        if fault.fault == "html":
            page = [("Content-Type", "text/html; charset=utf-8"), *chunked]
            await connection.answer(200, page, [b"<html>proxy</html>\n"])
        elif fault.fault == "cut":
            await connection.cut_answer(headers, b"".join(pieces[:-2]) + pieces[-2][: len(pieces[-2]) // 2])
        elif fault.fault == "no-end":
            await connection.answer(200, headers, pieces[:-1])
        elif fault.fault == "trickle":
            whole = b"".join(pieces)
            step = len(whole) // TRICKLES + 1
            slices = [whole[at : at + step] for at in range(0, len(whole), step)]
            await connection.answer(200, headers, slices, fault.delay_s / TRICKLES)
        else:
            await connection.answer(200, headers, pieces)

    async def _other(self, connection: Connection, path: str) -> None:
        if path == "/healthz":
            await connection.answer(200, [("Date", _date()), ("Content-Length", "0")], [])
            return
        if not path.startswith("/stream/"):
            await connection.refuse(Refused(404, "404 page not found"))
            return
        found = self._stored(path.removeprefix("/stream/"))
        if found is None:
            await connection.refuse(Refused(404, "ErrNotFound"))
            return
        headers, data = found
        await connection.answer(
            200, [*headers, ("Date", _date()), ("Content-Length", str(len(data)))], [data]
        )

    def _stored(self, path: str) -> tuple[Headers, bytes] | None:
        names = path.split("/")
        session = self.gateway.find(names[0].removesuffix(".m3u8"))
        if session is None:
            return None
        if len(names) == 1 and path.endswith(".m3u8"):
            return hls.HEADERS, hls.master(session).encode()
        if len(names) == 2 and path.endswith(".m3u8"):
            listed = hls.variant(session, names[1].removesuffix(".m3u8"))
            return None if listed is None else (hls.HEADERS, listed.encode())
        if len(names) == 3:
            extension = naming.extension_of(names[2])
            number = naming.atoi(names[2].removesuffix(extension), -1)
            objects = session.stored.get(names[1])
            data = objects.get(number) if objects else None
            kind = [*hls.HEADERS[:2], ("Content-Type", MPEG.get(extension, ""))]
            return None if data is None else (kind, data)
        return None

    async def _call_webhook(
        self, push: Push, headers: Mapping[str, str], source: Source
    ) -> tuple[int, bytes]:
        """What the webhook answers. Raises OSError."""
        question: dict[str, object] = {"url": push.url}
        if self.options.dialect == FRAMEWORKS:
            question |= {
                "profiles": [],
                "source": {
                    "width": source.width,
                    "height": source.height,
                    "fps": source.fps,
                    "codec": source.codec,
                    "pixelFormat": source.pixel_format,
                },
                "jobToken": push.configuration.job_token if push.configuration else "",
                "remoteIP": "127.0.0.1",
            }
            with trio.move_on_after(FRAMEWORKS_WEBHOOK_S):
                return await post_json(self.options.webhook, question)
            raise OSError("the webhook did not answer")
        return await post_json(self.options.webhook, question)


async def post_json(url: str, value: object) -> tuple[int, bytes]:
    """Status and body of a POST. Raises OSError."""
    parts = urlsplit(url)
    body = json.dumps(value).encode()
    client: Any = h11.Connection(h11.CLIENT)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    async with stream:
        head = h11.Request(
            method="POST",
            target=parts.path or "/",
            headers=[
                ("Host", parts.netloc),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ],
        )
        for sent in (head, h11.Data(data=body), h11.EndOfMessage()):
            await stream.send_all(client.send(sent) or b"")
        status, received = 0, bytearray()
        while not isinstance(event := client.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if event is h11.NEED_DATA:
                client.receive_data(await stream.receive_some(READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                received += event.data
        return status, bytes(received)


def _date() -> str:
    return formatdate(usegmt=True)


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
