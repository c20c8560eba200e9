"""An RTMP client that publishes as right or as wrong as a test wants. Blocking.

The wire is fwbench.rtmp's; timestamps beyond 24 bits are added here (RTMP 1.0 5.3.1.3).
"""

import re
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from fwbench import flv, rtmp

CHUNK_BYTES = 4096
TIMEOUT_S = 20.0
READ_BYTES = 65536
BATCH_BYTES = 65536  # handed to the kernel at a time
_STREAM = 1
_EXTENDED = 0xFFFFFF


class Gone(Exception):
    """The node closed the connection."""


class RtmpClient:
    """One connection. `with RtmpClient(node.address("rtmp")) as client: client.publish("name")`."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._reader = rtmp.ChunkReader()
        self._waiting: list[rtmp.Message] = []

    def __enter__(self) -> "RtmpClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """This end, as the node logs it."""
        host, port = self._socket.getsockname()[:2]
        return f"{host}:{port}"

    # Raw.

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Vanish with a RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def stop_sending(self) -> None:
        """FIN; the node may still answer."""
        self._socket.shutdown(socket.SHUT_WR)

    def drain_until_closed(self) -> bytes:
        """Everything that the node still says until it closes; fails when it does not."""
        said = bytearray()
        try:
            while data := self._socket.recv(READ_BYTES):
                said += data
        except ConnectionResetError:
            pass
        return bytes(said)

    # The protocol.

    def handshake(self) -> None:
        self.send(rtmp.hello())
        answer = self._exactly(1 + 2 * rtmp.HANDSHAKE_BYTES)
        self.send(answer[1 : 1 + rtmp.HANDSHAKE_BYTES])

    def connect(self, app: str = "live") -> None:
        """Handshake, connect, createStream."""
        self.handshake()
        self.send(
            rtmp.set_chunk_size(CHUNK_BYTES) + connect_command(app) + rtmp.command("createStream", 2.0, None)
        )
        self.await_command("_result", 2.0)

    def publish(self, name: str) -> str:
        """Connect and ask to publish; the status code that comes back."""
        self.connect()
        self.send(publish_command(name))
        return self.await_status()

    def play(self, name: str) -> str:
        """Connect and ask to play; the first status code that is not about starting over."""
        self.ask_to_play(name)
        code = self.await_status()
        return self.await_status() if code.endswith("Play.Reset") else code

    def ask_to_play(self, name: str) -> None:
        """Connect and ask to play, without waiting for an answer."""
        self.connect()
        self.send(rtmp.command("play", 4.0, None, name, stream_id=_STREAM))

    def send_tags(self, tags: Iterable[flv.Tag], shift_ms: int = 0) -> None:
        """Media and metadata as fast as the node takes them."""
        batch = bytearray()
        for tag in tags:
            batch += message(tag.kind, tag.body, tag.time_ms + shift_ms)
            if len(batch) >= BATCH_BYTES:
                self.send(bytes(batch))
                batch.clear()
        self.send(bytes(batch))

    def settle(self) -> None:
        """Return when the node has read everything that was sent: it answers a ping after it."""
        self.send(rtmp.message(rtmp.USER_CONTROL, b"\0\x06" + b"mark"))
        self.await_message(lambda found: found.kind == rtmp.USER_CONTROL and found.body == b"\0\x07mark")

    def stop_publishing(self) -> None:
        """End as ffmpeg does, then close."""
        self.send(rtmp.command("FCUnpublish", 6.0, None, "x") + rtmp.command("deleteStream", 7.0, None, 1.0))
        self.stop_sending()
        self.drain_until_closed()
        self.close()

    def await_status(self) -> str:
        """The code of the next onStatus."""
        found = self.await_command("onStatus", 0.0)
        self.description = _text_after(found.body, b"description")
        return _text_after(found.body, b"code")

    def await_command(self, name: str, transaction: float) -> rtmp.Message:
        return self.await_message(lambda found: found.command() == (name, transaction))

    def await_message(self, wanted: Callable[[rtmp.Message], bool]) -> rtmp.Message:
        """The next message for which `wanted` is true; those before it are passed over. Raises Gone."""
        while True:
            while self._waiting:
                found = self._waiting.pop(0)
                if wanted(found):
                    return found
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise Gone
            self._waiting += self._reader.receive(data)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise Gone
            data += more
        return bytes(data)


def connect_command(app: str = "live") -> bytes:
    return rtmp.command("connect", 1.0, {"app": app, "flashVer": "test", "tcUrl": f"rtmp://127.0.0.1/{app}"})


def publish_command(name: str) -> bytes:
    return rtmp.command("publish", 3.0, None, name, "live", stream_id=_STREAM)


def message(kind: int, body: bytes, time_ms: int) -> bytes:
    """A media message with any 32-bit time, on message stream 1."""
    time_ms &= 0xFFFFFFFF
    if time_ms < _EXTENDED:
        return rtmp.message(kind, body, time_ms, _STREAM)
    head = rtmp.chunk_header(kind, len(body), 0, _STREAM)
    extended = time_ms.to_bytes(4, "big")
    pieces = [body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES)]
    again = bytes([0xC0 | head[0]]) + extended
    return head[:1] + b"\xff\xff\xff" + head[4:] + extended + again.join(pieces)


def headers_of(tags: Sequence[flv.Tag]) -> list[flv.Tag]:
    """Metadata and sequence headers."""
    return [tag for tag in tags if tag.kind == flv.SCRIPT or tag.is_config]


def _text_after(body: bytes, name: bytes) -> str:
    found = re.search(re.escape(name) + rb"\x02(..)", body, re.DOTALL)
    if found is None:
        return ""
    return body[found.end() : found.end() + int.from_bytes(found[1], "big")].decode()
