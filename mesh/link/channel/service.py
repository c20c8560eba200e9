"""Frames on the control connection: sends never wait, a peer that does not read is dropped."""

from collections import deque
from collections.abc import Callable

import trio

from mesh.errors import RemoteError
from mesh.link.frame import FrameReader, encode_frame
from mesh.link.limits import FrameLimits
from mesh.link.model import Connection

QUEUED_BYTES_MAX = 4 << 20  # a whole directory of 1000 nodes ten times over; beside what the kernel holds
READ_BYTES = 16 << 10  # one record of TLS; each link holds as much
FRAMES_PER_TURN = 256  # handled at once, some milliseconds: one read may hold sixty times as many
STALLED = "stalled"
ENDED = "closed by the other side"
LOST = "the connection was lost"


class Channel:
    """A connection that carries frames. The owner runs `run`; anybody in the same loop may `send`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.reason = ""  # why it ended, "" while it lives
        self.frames_in = 0
        self.frames_out = 0
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._limits = FrameLimits(trio.current_time())

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent, the frames being sent included."""
        return self._queued_bytes

    def send(self, kind: int, data: bytes) -> None:
        """Queue a frame; on a closed channel nothing. More than QUEUED_BYTES_MAX closes it: stalled."""
        if self.reason:
            return
        frame = encode_frame(kind, data)
        if self._queued_bytes + len(frame) > QUEUED_BYTES_MAX:
            self.close(STALLED)
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self.frames_out += 1
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._wake.set()

    async def run(self, on_frame: Callable[[int, bytes], None]) -> None:
        """Send and receive until either side closes; `reason` says why it ended.

        What `on_frame` raises of RemoteError is the peer's fault and closes the channel with its text. The
        connection is closed when this returns.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_frames)
                await self._receive_frames(on_frame)
                nursery.cancel_scope.cancel()
        finally:
            self.close("stopped")

    async def flush(self) -> None:
        """Wait until all that was queued is handed to the kernel, or the channel is closed."""
        await self._idle.wait()

    def close(self, reason: str) -> None:
        """End it now. The first reason stays."""
        if self.reason:
            return
        self.reason = reason
        self._queue.clear()
        self._queued_bytes = 0
        self._wake.set()
        self._idle.set()
        self.connection.close()

    async def _send_frames(self) -> None:
        while not self.reason:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._queue:
                batch = b"".join(self._queue)
                self._queue.clear()
                try:
                    await self.connection.send_all(batch)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.close(LOST)
                    return
                self._queued_bytes = max(0, self._queued_bytes - len(batch))
            self._idle.set()

    async def _receive_frames(self, on_frame: Callable[[int, bytes], None]) -> None:
        reader = FrameReader()
        buffer = bytearray(READ_BYTES)
        view = memoryview(buffer)
        while not self.reason:
            try:
                count = await self.connection.receive_into(buffer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.close(LOST)
                return
            if not count:
                self.close(ENDED)
                return
            try:
                await self._hand_on(reader.feed(view[:count]), on_frame)
            except RemoteError as error:
                self.close(str(error))

    async def _hand_on(self, frames: list[tuple[int, bytes]], on_frame: Callable[[int, bytes], None]) -> None:
        """What is over the peer's allowance waits, and with it what was not read: TCP holds the peer back."""
        for first in range(0, len(frames), FRAMES_PER_TURN):
            turn = frames[first : first + FRAMES_PER_TURN]
            await trio.sleep(self._limits.take(len(turn), trio.current_time()))
            for kind, data in turn:
                if self.reason:
                    return
                self.frames_in += 1
                on_frame(kind, data)
