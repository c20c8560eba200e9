"""A viewer that behaves and notes whether its stream ever had a hole."""

import itertools
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from clips import FPS
from fwbench import flv
from live_node import LiveNode, until

READ_BYTES = 65536
PICTURE_STEP_MS = 1000 // FPS
SOUND_STEP_MS = 22  # 1024 samples at 48 kHz, rounded to milliseconds
SILENCE_MAX_S = 3.0  # nothing comes for so long: the node stood still. The machine itself stalls for 1 s
BEGIN_S = 20.0


class Witness:
    """Reads /live/{stream}.flv while the block runs; at its end every frame must have come, in time."""

    def __init__(self, node: LiveNode, stream: str) -> None:
        self._node = node
        self._stream = stream
        self._socket = socket.create_connection(node.address("http"), timeout=BEGIN_S)
        self._pieces: list[bytes] = []
        self._arrivals: list[float] = []
        self._ended = False
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Witness":
        self._socket.sendall(f"GET /live/{self._stream}.flv HTTP/1.1\r\nHost: witness\r\n\r\n".encode())
        self._thread.start()
        until(lambda: self._ended or len(self._arrivals) > 1, "the witness's first frames")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        before = len(self._arrivals)
        until(lambda: self._ended or len(self._arrivals) > before, "another frame for the witness")
        ended = self._ended
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        if error is None:
            assert not ended, "the witness was disconnected"
            self._check()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(READ_BYTES):
                self._pieces.append(data)
                self._arrivals.append(time.monotonic())
        except OSError:
            pass
        self._ended = True

    def _check(self) -> None:
        head, _, body = b"".join(self._pieces).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        pictures = [tag.time_ms for tag in self._tags(body) if tag.kind == flv.VIDEO]
        sounds = [tag.time_ms for tag in self._tags(body) if tag.kind == flv.AUDIO]
        assert set(_steps(pictures)) <= {PICTURE_STEP_MS}
        assert max(_steps(sounds)) <= SOUND_STEP_MS
        assert max(_steps(self._arrivals)) < SILENCE_MAX_S, max(_steps(self._arrivals))

    def _tags(self, body: bytes) -> list[flv.Tag]:
        found = []
        try:
            for tag in flv.tags(body):
                if tag.kind != flv.SCRIPT and not tag.is_config:
                    found.append(tag)
        except flv.FlvError as cut_off:
            assert "cut off" in str(cut_off)
        return found


def _steps(values: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(values)]
