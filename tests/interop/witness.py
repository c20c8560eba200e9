"""Viewers that behave: one notes what it was sent, one whether its stream ever had a hole."""

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
TIMEOUT_S = 20.0


class FlvViewer:
    """Reads /live/{stream}.flv in a thread while the block runs."""

    def __init__(self, node: LiveNode, stream: str) -> None:
        self._stream = stream
        self._socket = socket.create_connection(node.address("http"), timeout=TIMEOUT_S)
        self._data = bytearray()
        self.arrivals: list[float] = []  # of whatever came, monotonic seconds
        self.ended = False
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "FlvViewer":
        self._socket.sendall(f"GET /live/{self._stream}.flv HTTP/1.1\r\nHost: viewer\r\n\r\n".encode())
        self._thread.start()
        until(lambda: self.ended or self.arrivals, "a viewer's first frames")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ended:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def times(self, kind: str) -> list[int]:
        """Timestamps in milliseconds of all "video" or "audio" frames so far."""
        head, _, body = bytes(self._data).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        wanted = flv.VIDEO if kind == "video" else flv.AUDIO
        found = []
        try:
            for tag in flv.tags(body):
                if tag.kind == wanted and not tag.is_config:
                    found.append(tag.time_ms)
        except flv.FlvError as cut_off:
            assert "cut off" in str(cut_off)
        return found

    def _read(self) -> None:
        try:
            while data := self._socket.recv(READ_BYTES):
                self._data += data
                self.arrivals.append(time.monotonic())
        except OSError:
            pass
        self.ended = True


class Witness:
    """Watches a stream of clips.Clips.long in real time; at the end every frame must have come, in time."""

    def __init__(self, node: LiveNode, stream: str) -> None:
        self._viewer = FlvViewer(node, stream)

    def __enter__(self) -> "Witness":
        viewer = self._viewer.__enter__()
        until(lambda: viewer.ended or len(viewer.arrivals) > 1, "the witness's frames")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        viewer = self._viewer
        before = len(viewer.arrivals)
        try:
            until(lambda: viewer.ended or len(viewer.arrivals) > before, "another frame for the witness")
            ended = viewer.ended
        finally:
            viewer.__exit__(kind, error, trace)
        if error is None:
            assert not ended, "the witness was disconnected"
            assert set(steps(viewer.times("video"))) <= {PICTURE_STEP_MS}
            assert max(steps(viewer.times("audio")), default=0) <= SOUND_STEP_MS
            assert max(steps(viewer.arrivals)) < SILENCE_MAX_S, max(steps(viewer.arrivals))


def steps(values: Sequence[float]) -> list[float]:
    """Differences of neighbours."""
    return [after - before for before, after in itertools.pairwise(values)]
