"""The HTTP server with clients that we did not write."""

import http.client
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from media.deliver.http.reply import Reply
from media.deliver.http.response import IMMUTABLE, Response
from media.deliver.http.router import Router
from media.deliver.http.service import HttpService
from media.deliver.http.websocket import WebSocketSink, websocket_frame
from media.net.reactor import Reactor
from media.net.store import MemoryFiles
from media.net.tls import TlsSettings

pytestmark = pytest.mark.interop

SEGMENT = bytes(range(256)) * 3000
PLAYLIST = b"#EXTM3U\n" + b"#EXTINF:2.0,\n/live/show/v1/1.m4s\n" * 40
IDLE_CONNECTIONS = 1000


class Node:
    """A server with a playlist, segments in memory and in a memory file, a stream and a WebSocket."""

    def __init__(self, folder: Path) -> None:
        self.faults: list[tuple[str, str]] = []
        self.reactor = Reactor(lambda kind, error, peer: self.faults.append((kind, str(error))))
        self.router = Router()
        self._add("/playlist", Response(200, PLAYLIST, content_type="text/plain", etag="p", compress=True))
        self._add(
            "/segment", Response(200, (SEGMENT[:1000], SEGMENT[1000:]), cache_control=IMMUTABLE, etag="s")
        )
        self._add("/file", Response(200, MemoryFiles().put([SEGMENT]) or SEGMENT, etag="f"))
        self.router.add("POST", "/echo", lambda q, r: r.send(Response(200, q.body)), name="echo")
        self.router.add("GET", "/stream", self._stream, name="stream")
        self.router.add("GET", "/ws", self._websocket, name="ws")
        self.service = HttpService(self.reactor, self.router)
        self.http = self.service.listen("127.0.0.1:0").address
        chain, key = folder / "chain.pem", folder / "key.pem"
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        subprocess.run(
            ["openssl", "req", "-x509", *kind, "-subj", "/CN=localhost", "-keyout", key, "-out", chain],
            check=True,
            capture_output=True,
        )
        self.https = self.service.listen("127.0.0.1:0", tls=TlsSettings(str(chain), str(key))).address

    def _add(self, path: str, response: Response) -> None:
        self.router.add("GET", path, lambda request, reply: reply.send(response), name=path)

    def _stream(self, request: object, reply: Reply) -> None:
        sink = reply.stream("video/mp4")
        sink.send(SEGMENT, b"end")
        sink.close()

    def _websocket(self, request: object, reply: Reply) -> None:
        sink = reply.websocket()
        if sink is not None:
            viewer: WebSocketSink = sink
            sink.on_message = lambda message, now: viewer.send(websocket_frame(str(message).encode()))


@pytest.fixture
async def node(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await nursery.start(made.reactor.run)
    yield made
    nursery.cancel_scope.cancel()
    assert made.faults == []


Curl = Callable[..., Awaitable[bytes]]


@pytest.fixture
def curl() -> Curl:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    async def run(*arguments: str) -> bytes:
        command = ["curl", "-sS", "--max-time", "20", *arguments]
        return (await trio.run_process(command, capture_stdout=True)).stdout

    return run


async def test_curl_fetches_every_kind_of_body(node: Node, curl: Curl) -> None:
    for scheme, address in (("http", node.http), ("https", node.https)):
        base = f"{scheme}://{address}"
        assert await curl("-k", "--compressed", f"{base}/playlist") == PLAYLIST
        for path in ("segment", "file"):
            assert await curl("-k", f"{base}/{path}") == SEGMENT
            assert await curl("-k", "-r", "70000-70099", f"{base}/{path}") == SEGMENT[70000:70100]
        assert await curl("-k", f"{base}/stream") == SEGMENT + b"end"


async def test_curl_sends_bodies_and_upgrades_in_vain(node: Node, curl: Curl, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(SEGMENT[:60_000])
    url = f"http://{node.http}/echo"
    assert (
        await curl("--data-binary", f"@{tmp_path}/body", "-H", "Expect: 100-continue", url)
        == SEGMENT[:60_000]
    )
    chunked = await curl("-T", str(tmp_path / "body"), "-X", "POST", "-H", "Transfer-Encoding: chunked", url)
    assert chunked == SEGMENT[:60_000]
    assert await curl("--http2", f"http://{node.http}/playlist") == PLAYLIST
    assert await curl("-0", f"http://{node.http}/playlist") == PLAYLIST


async def test_curl_revalidates_and_sees_errors(node: Node, curl: Curl) -> None:
    status = ("-o", "/dev/null", "-w", "%{http_code} %{size_download} %{num_connects}\n")
    base = f"http://{node.http}"
    assert await curl(*status, "-H", 'If-None-Match: "p"', f"{base}/playlist") == b"304 0 1\n"
    again = await curl(*status, f"{base}/none", *status, f"{base}/segment", *status, f"{base}/segment")
    missing, *twice = again.decode().split("\n")[:3]
    assert re.fullmatch(r"404 [1-9]\d* 1", missing)
    assert twice == [f"200 {len(SEGMENT)} 0"] * 2, "the connection was not kept after a 404"
    assert await curl(*status, "-I", f"{base}/file") == b"200 0 1\n"


async def test_python_client_keeps_one_connection(node: Node) -> None:
    def talk() -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = http.client.HTTPConnection(node.http, timeout=20)
        for connection in (plain, http.client.HTTPSConnection(node.https, timeout=20, context=context)):
            for method, path, body in (
                ("GET", "/segment", SEGMENT),
                ("HEAD", "/file", b""),
                ("GET", "/file", SEGMENT),
                ("GET", "/playlist", PLAYLIST),
                ("POST", "/echo", b"x" * 1000),
                ("OPTIONS", "/echo", b""),
            ):
                connection.request(method, path, body=body if method == "POST" else None)
                answer = connection.getresponse()
                assert answer.read() == body
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
            connection.close()

    await trio.to_thread.run_sync(talk)


async def test_wrk_finds_no_fault(node: Node) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    for path in ("playlist", "file"):
        command = ["wrk", "-t1", "-c32", "-d1s", f"http://{node.http}/{path}"]
        report = (await trio.run_process(command, capture_stdout=True)).stdout.decode()
        found = re.search(r"(\d+) requests in", report)
        assert found, report
        assert int(found[1]) > 50
        assert "Non-2xx" not in report
        assert "Socket errors" not in report or "read 0, write 0" in report, report


async def test_websocket_with_wsproto(node: Node) -> None:
    host, _, port = node.http.rpartition(":")
    peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    async with await trio.open_tcp_stream(host, int(port)) as stream:

        async def event() -> object:
            with trio.fail_after(10):
                while True:
                    for found in peer.events():
                        return found
                    peer.receive_data(await stream.receive_some(65536) or None)

        await stream.send_all(peer.send(Request(host=node.http, target="/ws")))
        assert isinstance(await event(), AcceptConnection)
        await stream.send_all(peer.send(TextMessage("hello" * 5000)))
        received = b""
        while len(received) < 25_000:
            message = await event()
            assert isinstance(message, BytesMessage)
            received += message.data
        assert received == b"hello" * 5000
        await stream.send_all(peer.send(Ping(b"p")))
        pong = await event()
        assert isinstance(pong, Pong)
        await stream.send_all(peer.send(CloseConnection(code=1000)))
        assert isinstance(await event(), CloseConnection)
        assert await stream.receive_some() == b""


async def test_a_thousand_idle_connections_and_a_busy_one(node: Node, curl: Curl) -> None:
    host, _, port = node.http.rpartition(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(IDLE_CONNECTIONS)]
    try:
        assert await curl(f"http://{node.http}/segment") == SEGMENT
        with trio.fail_after(10):
            while node.reactor.statistics().connections < IDLE_CONNECTIONS:
                await trio.lowlevel.checkpoint()
    finally:
        for sock in idle:
            sock.close()
    with trio.fail_after(10):
        while node.service.site.connections:
            await trio.lowlevel.checkpoint()


async def test_ten_thousand_pipelined_requests(node: Node) -> None:
    host, _, port = node.http.rpartition(":")
    request = b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
    total = 10_000
    async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, request * total)
        answered, rest = 0, b""
        with trio.fail_after(60):
            while answered < total:
                data = rest + await stream.receive_some(1 << 20)
                answered += data.count(b"HTTP/1.1 404 ")
                rest = data[-12:] if not data.endswith(b"HTTP/1.1 404 ") else b""
                answered -= rest.count(b"HTTP/1.1 404 ")
