"""The two ends of a bulk stream: over a link, or over trio's own TLS."""

import os
import socket
import ssl
import tempfile

import trio

from fwbench.load.control import Result
from fwbench.network import members
from fwbench.network.specs import BUFFER_BYTES, HOST, MESSAGE_BYTES, ReceiverSpec, SenderSpec
from mesh.link.certificate import make_certificate
from mesh.link.client import dial
from mesh.link.connection.service import SecureConnection
from mesh.link.refusals import Refusals
from mesh.link.server import serve_links

_PURPOSE = "bulk"


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind((HOST, 0))
    return sock


async def no_token(sock: socket.socket, _token: bytes) -> None:
    sock.close()


class Receiver:
    def __init__(self, spec: ReceiverSpec) -> None:
        self._spec = spec
        self._bytes = 0

    async def run(self, *, task_status: trio.TaskStatus[Result]) -> None:
        if self._spec.plain:
            await self._serve_plain(task_status)
            return
        sock = bound()
        own = members.credentials(self._spec.invite, "receiver")
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_links, [sock], own, self._take, no_token, Refusals())
            task_status.started({"port": float(sock.getsockname()[1])})

    def begin(self) -> None:
        self._bytes = 0

    def end(self) -> Result:
        return {"bytes": float(self._bytes)}

    async def _take(self, connection: SecureConnection) -> None:
        buffer = bytearray(BUFFER_BYTES)
        while count := await connection.receive_into(buffer):
            self._bytes += count

    async def _serve_plain(self, task_status: trio.TaskStatus[Result]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        task_status.started({"port": float(listener.socket.getsockname()[1])})
        stream = trio.SSLStream(await listener.accept(), _server_tls(), server_side=True)
        while data := await stream.receive_some(BUFFER_BYTES):
            self._bytes += len(data)


class Sender:
    def __init__(self, spec: SenderSpec) -> None:
        self._spec = spec
        self._bytes = 0

    async def run(self, *, task_status: trio.TaskStatus[Result]) -> None:
        stream = await self._connect()
        message = os.urandom(MESSAGE_BYTES)
        await stream.send_all(message)
        task_status.started({"ready": 1.0})
        while True:
            await stream.send_all(message)
            self._bytes += len(message)

    def begin(self) -> None:
        self._bytes = 0

    def end(self) -> Result:
        return {"bytes": float(self._bytes)}

    async def _connect(self) -> "SecureConnection | trio.SSLStream[trio.SocketStream]":
        port = self._spec.port
        if not self._spec.plain:
            own = members.credentials(self._spec.invite, "sender")
            return await dial(f"{HOST}:{port}", own, purpose=_PURPOSE)
        return trio.SSLStream(await trio.open_tcp_stream(HOST, port), client_tls(), server_hostname="bench")


def client_tls() -> ssl.SSLContext:
    """TLS 1.3 that believes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.NamedTemporaryFile() as file:
        file.write(make_certificate(members.new_key()))
        file.flush()
        context.load_cert_chain(file.name)
    return context
