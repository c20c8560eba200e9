"""What a protocol machine and the reactor that runs it owe each other. Pure: no sockets here."""

import dataclasses
from typing import Protocol as TypingProtocol

Buffer = bytes | bytearray | memoryview  # a memoryview must be of single bytes, contiguous


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A run of bytes in an open file (a memory file, too), sent without passing through this process.

    The bytes must not change while a slice of them lives: the kernel may send the file's own pages.
    `owner` keeps the descriptor open: whatever closes it when nothing refers to it any more.
    """

    descriptor: int
    offset: int
    length: int
    owner: object


class Transport(TypingProtocol):
    """The sending half of one TCP connection (or TLS connection), as its protocol machine sees it.

    Every method is synchronous and returns at once. After `close` or `abort`, `send` does nothing.
    """

    peer_host: str  # numeric address of the other side
    peer_port: int
    secure: bool  # under TLS

    @property
    def queued_bytes(self) -> int:
        """Given to `send` and not yet taken by the kernel."""

    def send(self, *buffers: Buffer) -> None:
        """Send buffers in order: tries the kernel at once, queues what it does not take.

        Buffers are borrowed until sent: the caller must not change them afterwards. The caller
        bounds the queue by looking at `queued_bytes`.
        """

    def send_file(self, part: FileSlice, head: bytes = b"") -> None:
        """Send `head`, then a part of a file, in order with what `send` was given.

        The file's part takes no memory while queued, nor in the kernel.
        """

    def close(self) -> None:
        """Send what is queued (while the other side takes it), then close. `closed` is called later."""

    def abort(self) -> None:
        """Close now, dropping what is queued. `closed` is called later."""

    def wake_at(self, when: float | None) -> None:
        """Ask for one `on_deadline` at monotonic second `when`; replaces the one asked before."""

    def pause_reading(self) -> None:
        """Stop calling `receive` (the kernel's window closes) until `resume_reading`."""

    def resume_reading(self) -> None: ...


class Protocol(TypingProtocol):
    """A protocol machine: everything that happens on one connection, without I/O, clock or await.

    It may raise only RemoteError: the reactor then counts it, logs it once and aborts.
    """

    def receive(self, data: bytes, now: float) -> None:
        """Bytes arrived; `data` is never empty and belongs to the machine."""

    def receive_eof(self, now: float) -> None:
        """The other side will send no more (it may still read)."""

    def drained(self, now: float) -> None:
        """A queue that was not empty has become empty."""

    def on_deadline(self, now: float) -> None:
        """The time asked for with `wake_at` has come."""

    def closed(self, now: float) -> None:
        """The connection is gone; called exactly once, last."""


class ProtocolFactory(TypingProtocol):
    def __call__(self, transport: Transport, now: float) -> Protocol: ...
