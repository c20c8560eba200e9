"""An HTTP connection on a transport and a clock that a test turns by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from media.deliver.http.connection import HttpConnection
from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import Response
from media.deliver.http.router import Router
from media.deliver.http.site import Site
from media.net.transport import Buffer, FileSlice

UNIX = 1_800_000_000.25  # Fri, 15 Jan 2027 08:00:00 GMT and a quarter second


class FakeTransport:
    """Takes everything at once, unless `blocked`: then it queues until `unblock`."""

    peer_host = "192.0.2.7"
    peer_port = 40000
    secure = False

    def __init__(self) -> None:
        self.sent = bytearray()
        self.files: list[FileSlice] = []
        self.blocked = False
        self.queued: list[bytes] = []
        self.closing = self.aborted = self.reading_paused = False
        self.wake: float | None = None

    @property
    def queued_bytes(self) -> int:
        return sum(map(len, self.queued))

    def send(self, *buffers: Buffer) -> None:
        if self.closing or self.aborted:
            return
        for buffer in buffers:
            if self.blocked:
                self.queued.append(bytes(buffer))
            else:
                self.sent += buffer

    def send_file(self, part: FileSlice, head: bytes = b"") -> None:
        self.send(head)
        self.files.append(part)

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    def wake_at(self, when: float | None) -> None:
        self.wake = when

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False


@dataclasses.dataclass
class Answer:
    """One response as it came over the wire."""

    status: int
    fields: dict[str, str]
    body: bytes


def parse_answers(data: bytes, methods: str = "") -> list[Answer]:
    """Responses by their Content-Length, written apart from the code under test."""
    answers = []
    bodyless = methods.split()
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        fields: dict[str, str] = {}
        for line in lines:
            name, value = line.split(": ", 1)
            assert name not in fields or name == "Connection", f"{name} came twice"
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        length = int(fields.get("Content-Length", "0"))
        if bodyless and bodyless.pop(0) == "HEAD":
            length = 0
        answers.append(Answer(int(status), fields, data[:length]))
        data = data[length:]
    return answers


class Client:
    """The other side of one connection to a site whose handlers the test writes."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.transport = FakeTransport()
        self.connection = HttpConnection(server.site, self.transport, server.now)

    def send(self, data: bytes | str) -> None:
        self.connection.receive(data.encode() if isinstance(data, str) else data, self.server.now)

    def get(self, target: str, *fields: str) -> Answer:
        self.take()
        lines = "".join(f"{field}\r\n" for field in fields)
        self.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
        (answer,) = self.answers()
        return answer

    def take(self) -> bytes:
        data = bytes(self.transport.sent)
        self.transport.sent.clear()
        return data

    def answers(self, methods: str = "") -> list[Answer]:
        return parse_answers(self.take(), methods)

    def advance(self, seconds: float) -> None:
        """Let time pass, with the deadlines that fall into it; a deadline of now comes at once."""
        end = self.server.now + seconds
        while self.transport.wake is not None and self.transport.wake <= end:
            self.server.now = max(self.server.now, self.transport.wake)
            self.transport.wake = None
            self.connection.on_deadline(self.server.now)
        self.server.now = end

    def step(self) -> bool:
        """Run the deadline that is due now; False when there is none."""
        due = self.transport.wake is not None and self.transport.wake <= self.server.now
        if due:
            self.transport.wake = None
            self.connection.on_deadline(self.server.now)
        return due

    def unblock(self) -> None:
        self.transport.blocked = False
        for chunk in self.transport.queued:
            self.transport.sent += chunk
        self.transport.queued = []
        self.connection.drained(self.server.now)


class Server:
    """A site with a few routes: /hello, /later, /echo, /big, /bug."""

    def __init__(self) -> None:
        self.now = 100.0
        self.router = Router()
        self.site = Site(self.router, lambda: self.now, lambda: UNIX + self.now - 100.0)
        self.requests: list[Request] = []
        self.held: list[Reply] = []
        self.big = Response(200, b"x" * 750_000, content_type="video/mp4", etag="big")
        hello = Response(200, b"hello", content_type="text/plain", etag="e")
        self.route("GET", "/hello", lambda request, reply: reply.send(hello))
        self.route("GET", "/later", lambda request, reply: self.held.append(reply))
        self.route("GET", "/big", lambda request, reply: reply.send(self.big))
        self.route("GET POST", "/echo", lambda request, reply: reply.send(Response(200, request.body)))
        self.route("GET", "/bug", self._bug)

    def route(
        self, methods: str, pattern: str, handler: Callable[[Request, Reply], None], **more: Any
    ) -> None:
        def seen(request: Request, reply: Reply) -> None:
            self.requests.append(request)
            handler(request, reply)

        self.router.add(methods, pattern, seen, name=pattern, **more)

    def client(self) -> Client:
        return Client(self)

    def _bug(self, request: Request, reply: Reply) -> None:
        raise ZeroDivisionError("a bug")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()
