"""What arrived on a stream and was not read. Pure."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

SMALL_CHUNK_BYTES = 512  # smaller ones are joined: what is held is then near what was sent
JOINED_BYTES_MAX = 64 << 10


@dataclass(slots=True)
class Stream:
    """One stream's bytes and state. `wake` is called on every change for its users."""

    number: int
    opened_by_peer: bool
    chunks: deque[bytes | bytearray] = field(default_factory=deque)
    size: int = 0
    ended: bool = False  # all has arrived
    broken: str = ""  # cut: no more comes or goes
    stopped: bool = False  # the peer reads no more
    closed: bool = False  # here
    touched: bool = False  # something arrived and `wake` was not called yet
    wake: Callable[[], None] = field(default=lambda: None)

    def put(self, data: bytes) -> None:
        """Bytes arrived."""
        chunks = self.chunks
        if len(data) >= SMALL_CHUNK_BYTES:
            chunks.append(data)
        elif data:
            last = chunks[-1] if chunks else None
            if isinstance(last, bytearray) and len(last) < JOINED_BYTES_MAX:
                last += data
            else:
                chunks.append(bytearray(data))
        self.size += len(data)

    def take(self, count: int) -> bytes:
        """At most `count` bytes, the oldest."""
        parts: list[bytes | bytearray] = []
        chunks, left = self.chunks, count
        while left > 0 and chunks:
            first = chunks.popleft()
            if len(first) > left:
                chunks.appendleft(first[left:])
                first = first[:left]
            parts.append(first)
            left -= len(first)
        data = b"".join(parts)
        self.size -= len(data)
        return data

    def take_into(self, view: memoryview) -> int:
        """Fill `view` as far as there is anything."""
        chunks, at, most = self.chunks, 0, len(view)
        while at < most and chunks:
            first = chunks.popleft()
            length = len(first)
            if length > most - at:
                chunks.appendleft(first[most - at :])
                length = most - at
                first = first[:length]
            view[at : at + length] = first
            at += length
        self.size -= at
        return at
