"""An RTMP client's way to a publishing or playing connection, in blocking calls."""

import socket

from fwbench import rtmp

PATIENCE_S = 10.0


class SessionError(Exception):
    """The server did not let us publish or play; the text says what it sent last."""


class Session:
    """Connected, handshaken and past NetConnection.connect and createStream after the constructor."""

    def __init__(self, host: str, port: int, app: str) -> None:
        self.sock = socket.create_connection((host, port), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = rtmp.ChunkReader()
        self._pending: list[rtmp.Message] = []
        self.sock.sendall(rtmp.hello())
        answer = self._exactly(1 + 2 * rtmp.HANDSHAKE_BYTES)
        self.sock.sendall(answer[1 : 1 + rtmp.HANDSHAKE_BYTES])
        self._connect(app, f"rtmp://{host}:{port}/{app}")

    def _connect(self, app: str, url: str) -> None:
        about: dict[str, rtmp.Value] = {"app": app, "type": "nonprivate", "tcUrl": url}
        self.sock.sendall(rtmp.set_chunk_size(rtmp.CHUNK_BYTES) + rtmp.command("connect", 1.0, about))
        self._wait("_result", 1.0)
        self.sock.sendall(rtmp.command("createStream", 2.0, None))
        self.stream_id = int(self._wait("_result", 2.0).last_number())

    def publish(self, name: str) -> None:
        self.sock.sendall(rtmp.command("publish", 3.0, None, name, "live", stream_id=self.stream_id))
        self._wait_status(b"NetStream.Publish.Start")

    def play(self, name: str) -> None:
        self.sock.sendall(rtmp.command("play", 3.0, None, name, -2000.0, stream_id=self.stream_id))
        self._wait_status(b"NetStream.Play.Start")

    def received(self, data: bytes) -> list[rtmp.Message]:
        """The messages that are whole with these bytes, and those that nobody has asked for yet."""
        before, self._pending = self._pending, []
        return before + self._reader.receive(data)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += self._some(size - len(data))
        return bytes(data)

    def _some(self, size: int) -> bytes:
        data = self.sock.recv(size)
        if not data:
            raise SessionError("the server closed the connection")
        return data

    def _next(self) -> rtmp.Message:
        while not self._pending:
            self._pending = self._reader.receive(self._some(65536))
        return self._pending.pop(0)

    def _wait(self, name: str, transaction: float) -> rtmp.Message:
        while True:
            message = self._next()
            heard, number = message.command()
            if heard == name and number == transaction:
                return message
            if heard == "_error":
                raise SessionError(f"refused: {message.body!r}")

    def _wait_status(self, code: bytes) -> None:
        while True:
            message = self._next()
            if message.command()[0] == "onStatus":
                if code in message.body:
                    return
                if b"error" in message.body:
                    raise SessionError(f"refused: {message.body!r}")
