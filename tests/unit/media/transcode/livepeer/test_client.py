"""The client against servers that a test writes by hand."""

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from media.transcode.livepeer.client import Broken, GatewayClient, Progress, Unreachable
from media.transcode.livepeer.order import Gateway
from media.transcode.livepeer.request import Request

Stream = trio.abc.Stream
Serve = Callable[[Stream, int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def request(size: int = 10, most: int = 1000) -> Request:
    return Request("/live/a/0.ts", (("Host", "x"), ("Content-Length", str(size))), bytes(size), most)


async def read_request(stream: Stream, size: int = 10) -> None:
    data = b""
    while len(data) < size or not data.endswith(bytes(size)):
        piece = await stream.receive_some(65536)
        if not piece:
            raise trio.BrokenResourceError
        data += piece


class Server:
    """Counts connections and lets a test answer each."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self.connections = 0
        self._nursery, self._serve = nursery, serve
        self.gateway = Gateway("")

    async def start(self) -> None:
        listening = partial(trio.serve_tcp, self._one, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await self._nursery.start(listening)
        self.gateway = Gateway(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")

    async def _one(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            await self._serve(stream, self.connections)
        except trio.BrokenResourceError:
            pass


async def with_server(serve: Serve, use: Callable[[Server, GatewayClient], Awaitable[None]]) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, GatewayClient() as client:
            server = Server(nursery, serve)
            await server.start()
            await use(server, client)
            nursery.cancel_scope.cancel()


async def test_connections_are_kept_and_renewed_when_they_were_closed() -> None:
    async def serve(stream: Stream, number: int) -> None:
        for _ in range(2):
            await read_request(stream)
            await stream.send_all(OK)
        await stream.aclose()

    async def use(server: Server, client: GatewayClient) -> None:
        for _ in range(5):
            progress = Progress()
            answer = await client.post(server.gateway, request(), progress)
            assert (answer.status, answer.body, progress.sent) == (200, b"hi", True)
        assert server.connections == 3 == client.opened

    await with_server(serve, use)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200",
    ],
)
async def test_what_is_no_answer_is_broken(answer: bytes) -> None:
    async def serve(stream: Stream, number: int) -> None:
        await read_request(stream)
        await stream.send_all(answer)
        await stream.aclose()

    async def use(server: Server, client: GatewayClient) -> None:
        with pytest.raises(Broken, match=r".+"):
            await client.post(server.gateway, request(), Progress())

    await with_server(serve, use)


async def test_an_early_answer_is_heard_while_the_body_is_not_read() -> None:
    async def serve(stream: Stream, number: int) -> None:
        await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
        await trio.sleep_forever()

    async def use(server: Server, client: GatewayClient) -> None:
        progress = Progress()
        answer = await client.post(server.gateway, request(50_000_000), progress)
        assert (answer.status, answer.body, progress.sent) == (503, b"busy", False)
        assert not client._idle.get(server.gateway.url)

    await with_server(serve, use)


@pytest.mark.parametrize("head", [b"Content-Length: 100000000", b"Transfer-Encoding: chunked"])
async def test_no_more_is_read_than_may_be_of_use(head: bytes) -> None:
    async def serve(stream: Stream, number: int) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while True:
            await stream.send_all(
                (b"ffff\r\n" + bytes(0xFFFF) + b"\r\n") if b"chunked" in head else bytes(65536)
            )

    async def use(server: Server, client: GatewayClient) -> None:
        answer = await client.post(server.gateway, request(most=500_000), Progress())
        assert answer.too_large
        assert len(answer.body) == 500_000

    await with_server(serve, use)


async def test_nobody_there_is_unreachable() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    for url in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", "http://name.invalid:1"):
        async with GatewayClient() as client:
            with pytest.raises(Unreachable, match=r".+"):
                await client.post(Gateway(url), request(), Progress())


async def test_cancelled_while_it_waits() -> None:
    closed = trio.Event()

    async def serve(stream: Stream, number: int) -> None:
        await read_request(stream)
        assert not await stream.receive_some(1)
        closed.set()

    async def use(server: Server, client: GatewayClient) -> None:
        progress = Progress()
        with trio.move_on_after(0.2) as scope:
            await client.post(server.gateway, request(), progress)
        assert scope.cancelled_caught and progress.sent
        await closed.wait()

    await with_server(serve, use)


async def test_https_checks_the_certificate(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)]
    await trio.run_process(["openssl", *kind.split(), *files], capture_stderr=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)

    async def serve(stream: Stream, number: int) -> None:
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        for _ in range(2):
            await read_request(secured, 3_000_000)
            await secured.send_all(OK)

    async def use(server: Server, client: GatewayClient) -> None:
        gateway = Gateway(server.gateway.url.replace("http", "https"))
        with pytest.raises(Unreachable, match="certificate"):
            await client.post(gateway, request(), Progress())
        async with GatewayClient(ssl.create_default_context(cafile=str(chain))) as trusting:
            for _ in range(2):
                assert (await trusting.post(gateway, request(3_000_000), Progress())).body == b"hi"
            assert trusting.opened == 1

    await with_server(serve, use)
