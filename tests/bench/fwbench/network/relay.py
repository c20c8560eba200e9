"""A relay between two connections, ours or a plain copy, and the two ends that it connects."""

import secrets
import select
import socket
from collections.abc import Iterator

import trio

from fwbench.load.control import Poller, Result
from fwbench.load.session import PATIENCE_S
from fwbench.network import members
from fwbench.network.bulk import bound
from fwbench.network.specs import HOST, MESSAGE_BYTES, RelaySpec, SplicedSpec
from mesh.link.connection.service import SecureConnection
from mesh.link.refusals import Refusals
from mesh.link.relay.book import PREAMBLE, Granted, RelayBook, RelaySettings
from mesh.link.relay.service import Splicer
from mesh.link.server import serve_links

_COPY_BYTES = 64 << 10  # what trio's SocketStream reads at once
_SCRATCH = bytearray(MESSAGE_BYTES)  # never touched where MSG_TRUNC discards


class Relay:
    """One granted pair, without a limit of its rate."""

    def __init__(self, spec: RelaySpec) -> None:
        self._spec = spec
        self._before = 0
        self._copied = 0
        self._book = RelayBook(RelaySettings(0, 0), secrets.token_bytes, trio.current_time())

    async def run(self, *, task_status: trio.TaskStatus[Result]) -> None:
        if self._spec.plain:
            await self._copy_pair(task_status)
            return
        sock = bound()
        own = members.credentials(self._spec.invite, "relay")
        splicer = Splicer(self._book)
        granted = self._book.ask(b"sink", b"source", trio.current_time())
        assert isinstance(granted, Granted)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_links, [sock], own, _nobody, splicer.join, Refusals())
            tokens = (granted.origin_token, granted.target_token)
            task_status.started(
                {"port": float(sock.getsockname()[1]), "tokens": " ".join(token.hex() for token in tokens)}
            )

    def begin(self) -> None:
        self._before = self._passed()

    def end(self) -> Result:
        return {"bytes": float(self._passed() - self._before)}

    def _passed(self) -> int:
        return self._copied + self._book.counters.bytes

    async def _copy_pair(self, task_status: trio.TaskStatus[Result]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        task_status.started({"port": float(listener.socket.getsockname()[1]), "tokens": ""})
        sink, source = await listener.accept(), await listener.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, sink, source)
            nursery.start_soon(self._copy, source, sink)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some(_COPY_BYTES):
            await sink.send_all(data)
            self._copied += len(data)


async def _nobody(_connection: SecureConnection) -> None:
    """No member comes here but by a token."""


class Spliced:
    """A `fwbench.load.control.Load`: what is sent is not looked at, what arrives is not copied."""

    def __init__(self, spec: SplicedSpec) -> None:
        self._spec = spec
        self._message = memoryview(bytes(MESSAGE_BYTES))
        self._bytes = 0
        self._fault = ""
        self._sink: socket.socket
        self._source: socket.socket

    def connect(self, poller: Poller) -> Iterator[None]:
        tokens = self._spec.tokens or ["", ""]
        self._sink, self._source = (_connected(self._spec.port, token) for token in tokens)
        poller.add(self._sink.fileno(), self._discard)
        poller.add(self._source.fileno(), self._send, select.EPOLLOUT)
        yield

    def tick(self, now: float) -> float:
        return 1.0

    def begin(self, now: float) -> None:
        self._bytes = 0

    def end(self, now: float) -> Result:
        return {"bytes": float(self._bytes), "fault": self._fault}

    def _discard(self, _events: int) -> None:
        count = self._sink.recv_into(_SCRATCH, len(_SCRATCH), socket.MSG_TRUNC)
        if not count:
            raise ConnectionError("the relay closed the connection")
        self._bytes += count

    def _send(self, _events: int) -> None:
        try:
            self._source.send(self._message)
        except BlockingIOError:
            pass


def _connected(port: int, token: str) -> socket.socket:
    sock = socket.create_connection((HOST, port), PATIENCE_S)
    if token:
        sock.sendall(PREAMBLE + bytes.fromhex(token))
    sock.setblocking(False)
    return sock
