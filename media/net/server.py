"""TCP connections and the listeners that accept them, run by a reactor. Does socket I/O; never blocks."""

import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from errno import EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from math import inf
from typing import Any
from typing import Protocol as TypingProtocol

from media.errors import RemoteError
from media.net.address import counting_key, format_address, parse_address, plain_host
from media.net.timers import Timer
from media.net.transport import Buffer, FileSlice, Protocol, ProtocolFactory

# Poll masks in epoll's numbers; the kqueue poller speaks them, too.
READ, WRITE, ERROR, HANGUP = 0x01, 0x04, 0x08, 0x10

RECEIVE_BYTES = 65536  # one recv: an ingest's burst in one call, and below malloc's mmap threshold
FLUSH_BYTES = 1 << 20  # handed to the kernel for one connection in one turn, so that others get theirs
IOV_MAX = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 16  # POSIX minimum
STALL_S = 30.0  # a queue that does not move for so long: the reader is gone or hostile
LINGER_S = 5.0  # wait for the other side's FIN after ours, so that a reset does not eat the last bytes
LINGER_DISCARD_BYTES = 1 << 20  # what it may still send meanwhile
MAX_QUEUED_BYTES = 64 << 20  # memory queued on one connection: far above what any protocol here allows
BACKLOG = 1024  # a burst of viewers when a stream starts; the kernel caps it by somaxconn
ACCEPTS_PER_TURN = 64  # a flood of connections must not starve those that are served
ACCEPT_RETRY_S = 0.25  # how long to wait when descriptors or kernel memory ran out
PER_ADDRESS_LIMIT = 512  # connections of one IPv4 address or IPv6 /64: a school behind one NAT


_MORE = getattr(socket, "MSG_MORE", 0)  # the head waits for the file's first packet


class Pollable(TypingProtocol):
    """What the reactor calls when a descriptor is ready. Must not raise."""

    def ready(self, mask: int, now: float) -> None: ...

    def discard(self, now: float) -> None:
        """The reactor ends: release the descriptor now."""


class Loop(TypingProtocol):
    """What connections and listeners need of the reactor."""

    bytes_in: int
    bytes_out: int
    accepted: int
    refused: int

    def now(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer: ...
    def watch(self, descriptor: int, mask: int, pollable: Pollable) -> None: ...
    def rewatch(self, descriptor: int, mask: int) -> None: ...
    def unwatch(self, descriptor: int) -> None: ...
    def fault(self, kind: str, error: Exception, peer: str) -> None: ...


class Connection:
    """One TCP connection: a `Transport` to its protocol, a `Pollable` to the reactor."""

    __slots__ = (
        "_armed_at",
        "_descriptor",
        "_discarded_bytes",
        "_eof",
        "_idle",
        "_linger_until",
        "_loop",
        "_mask",
        "_moved_at",
        "_on_gone",
        "_open",
        "_protocol",
        "_queue",
        "_queued_file_bytes",
        "_reading",
        "_receive",
        "_socket",
        "_socket_receive",
        "_socket_send",
        "_timer",
        "_wake_at",
        "_watched",
        "peer_host",
        "peer_port",
        "queued_bytes",
        "secure",
    )

    def __init__(
        self, sock: socket.socket, host: str, port: int, loop: Loop, on_gone: Callable[[], None]
    ) -> None:
        self.peer_host = host
        self.peer_port = port
        self.secure = False
        self.queued_bytes = 0
        self._socket = sock
        self._socket_receive = sock.recv
        self._socket_send = sock.send
        self._descriptor = sock.fileno()
        self._loop = loop
        self._on_gone = on_gone
        self._open = True  # neither close nor abort was called
        self._idle = True  # open and nothing queued: send may try the kernel
        self._watched = False
        self._reading = True
        self._eof = False
        self._queue: deque[Buffer | FileSlice] = deque()
        self._queued_file_bytes = 0
        self._mask = READ
        self._wake_at = inf
        self._linger_until = inf
        self._moved_at = 0.0
        self._discarded_bytes = 0
        self._timer: Timer | None = None
        self._armed_at = inf
        self._protocol: Protocol | None = None
        self._receive: Callable[[bytes, float], None] = self._discard_input

    def start(self, factory: ProtocolFactory, now: float) -> None:
        """Make the protocol and begin reading."""
        self._loop.watch(self._descriptor, READ, self)
        self._watched = True
        try:
            self._protocol = factory(self, now)
        except Exception as error:
            self._fault(error)
            return
        if self._open:
            self._receive = self._protocol.receive

    # What the protocol calls.

    def send(self, *buffers: Buffer) -> None:
        if self._idle:
            try:
                if len(buffers) == 1:
                    sent = self._socket_send(buffers[0])
                    if sent == len(buffers[0]):
                        self._loop.bytes_out += sent
                        return
                else:
                    sent = self._socket.sendmsg(buffers[:IOV_MAX])
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abort()
                return
            self._loop.bytes_out += sent
            self._enqueue(buffers, sent)
        elif self._open:
            self._enqueue(buffers, 0)

    def send_file(self, part: FileSlice, head: bytes = b"") -> None:
        if not self._open:
            return
        sent = 0
        if self._idle:
            try:
                if head:
                    sent = self._socket_send(head, _MORE)
                if sent == len(head):
                    sent += os.sendfile(self._descriptor, part.descriptor, part.offset, part.length)
            except BlockingIOError:
                pass
            except OSError:
                self.abort()
                return
            self._loop.bytes_out += sent
            if sent == len(head) + part.length:
                return
        if sent < len(head):
            self._enqueue((head,), sent)
        elif sent:
            part = _file_rest(part, sent - len(head))
        self._queue.append(part)
        self.queued_bytes += part.length
        self._queued_file_bytes += part.length
        self._await_writable()

    def close(self) -> None:
        if not self._open:
            return
        self._open = self._idle = False
        self._wake_at = inf
        self._receive = self._discard_input
        if not self._queue:
            self._half_close()
        elif not self._eof:
            self._reading = True
            self._set_mask()

    def abort(self) -> None:
        self._open = self._idle = False
        if not self._watched:
            return
        self._queue.clear()
        self.queued_bytes = self._queued_file_bytes = 0
        self._wake_at = self._linger_until = inf
        self._watched = False
        self._loop.unwatch(self._descriptor)
        self._loop.call_at(self._loop.now(), self._finish)

    def wake_at(self, when: float | None) -> None:
        self._wake_at = inf if when is None or not self._open else when
        if self._wake_at < self._armed_at:
            self._arm(self._wake_at)

    def pause_reading(self) -> None:
        if self._open:
            self._reading = False
            self._set_mask()

    def resume_reading(self) -> None:
        self._reading = True
        self._set_mask()

    # What the reactor calls.

    def ready(self, mask: int, now: float) -> None:
        try:
            if mask & ~WRITE:
                self._read(mask, now)
            if mask & WRITE and self._queue:
                self._flush(now)
        except Exception as error:
            self._fault(error)

    def discard(self, now: float) -> None:
        self.abort()
        self._finish(now)

    def _read(self, mask: int, now: float) -> None:
        if not self._reading or self._eof:
            if mask & (ERROR | HANGUP):
                self.abort()
            return
        try:
            data = self._socket_receive(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if data:
            self._loop.bytes_in += len(data)
            self._receive(data, now)
        else:
            self._receive_eof(now)

    def _receive_eof(self, now: float) -> None:
        self._eof = True
        self._set_mask()
        if self._open and self._protocol is not None:
            self._protocol.receive_eof(now)
        elif not self._queue:
            self.abort()

    def _discard_input(self, data: bytes, now: float) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > LINGER_DISCARD_BYTES:
            self.abort()

    def _flush(self, now: float) -> None:
        budget = FLUSH_BYTES
        while self._queue and budget > 0:
            try:
                offered, sent = self._offer(self._queue[0])
            except BlockingIOError:
                break
            except OSError:
                self.abort()
                return
            self._loop.bytes_out += sent
            self._moved_at = now
            self._take(sent)
            budget = budget - sent if sent == offered else 0
        if not self._queue:
            self._set_mask()
            if not self._open:
                self._half_close()
            elif self._protocol is not None:
                self._idle = True
                self._protocol.drained(now)

    def _offer(self, first: Buffer | FileSlice) -> tuple[int, int]:
        """Give the kernel the queue's head; returns bytes offered, bytes taken."""
        if isinstance(first, FileSlice):
            offered = min(first.length, FLUSH_BYTES)
            sent = os.sendfile(self._descriptor, first.descriptor, first.offset, offered)
            if not sent:
                raise OSError(EINVAL, "the file ends before its slice does")
            return offered, sent
        if len(self._queue) == 1:
            return len(first), self._socket_send(first)
        parts: list[Buffer] = []
        offered = 0
        for part in self._queue:
            if isinstance(part, FileSlice) or len(parts) == IOV_MAX or offered >= FLUSH_BYTES:
                break
            parts.append(part)
            offered += len(part)
        return offered, self._socket.sendmsg(parts)

    def _take(self, sent: int) -> None:
        """Drop what the kernel took from the queue's head."""
        queue = self._queue
        self.queued_bytes -= sent
        while sent:
            first = queue[0]
            if isinstance(first, FileSlice):
                taken = min(sent, first.length)
                self._queued_file_bytes -= taken
                if taken < first.length:
                    queue[0] = _file_rest(first, taken)
                else:
                    queue.popleft()
                sent -= taken
            elif len(first) <= sent:
                sent -= len(first)
                queue.popleft()
            else:
                queue[0] = memoryview(first)[sent:]
                sent = 0

    def _enqueue(self, buffers: tuple[Buffer, ...], skip: int) -> None:
        """Queue all but the first `skip` bytes of the buffers."""
        for buffer in buffers:
            size = len(buffer)
            if skip >= size:
                skip -= size
                continue
            self._queue.append(memoryview(buffer)[skip:] if skip else buffer)
            self.queued_bytes += size - skip
            skip = 0
        if self.queued_bytes - self._queued_file_bytes > MAX_QUEUED_BYTES:
            self._loop.fault("overflow", OverflowError("send queue"), self.peer)
            self.abort()
        elif self._queue:
            self._await_writable()

    def _await_writable(self) -> None:
        if self._mask & WRITE:
            return
        self._idle = False
        self._moved_at = self._loop.now()
        self._set_mask()
        self._arm_due()

    def _half_close(self) -> None:
        """Everything is sent: send FIN and wait for the other side's."""
        if self._eof:
            self.abort()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._reading = True
        self._set_mask()
        self._linger_until = self._loop.now() + LINGER_S
        self._arm_due()

    def _finish(self, now: float) -> None:
        protocol, self._protocol = self._protocol, None
        if self._descriptor < 0:
            return
        self._descriptor = -1
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        self._receive = self._discard_input
        self._on_gone()
        if protocol is not None:
            try:
                protocol.closed(now)
            except Exception as error:
                self._fault(error)

    def _fault(self, error: Exception) -> None:
        kind = "remote" if isinstance(error, RemoteError) else "bug"
        self._loop.fault(kind, error, self.peer)
        self.abort()

    @property
    def peer(self) -> str:
        return format_address(self.peer_host, self.peer_port)

    def _set_mask(self) -> None:
        mask = (READ if self._reading and not self._eof else 0) | (WRITE if self._queue else 0)
        if mask != self._mask and self._watched:
            self._mask = mask
            self._loop.rewatch(self._descriptor, mask)

    # One timer serves every deadline. Moving a deadline later costs no timer work: the timer
    # fires at the old time and finds out.

    def _arm_due(self) -> None:
        stall_at = self._moved_at + STALL_S if self._queue else inf
        due = min(self._wake_at, self._linger_until, stall_at)
        if due < self._armed_at:
            self._arm(due)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_at = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self, now: float) -> None:
        self._timer = None
        self._armed_at = inf
        if not self._watched or self._linger_until <= now:
            self.abort()
            return
        if self._queue and self._moved_at + STALL_S <= now:
            self._loop.fault("stall", TimeoutError(f"took nothing for {STALL_S:.0f} s"), self.peer)
            self.abort()
            return
        if self._wake_at <= now and self._protocol is not None:
            self._wake_at = inf
            try:
                self._protocol.on_deadline(now)
            except Exception as error:
                self._fault(error)
        self._arm_due()


def _file_rest(part: FileSlice, taken: int) -> FileSlice:
    return FileSlice(part.descriptor, part.offset + taken, part.length - taken, part.owner)


class Listener:
    """One listening socket: accepts within its limits and starts a protocol for each connection."""

    def __init__(
        self, sock: socket.socket, factory: ProtocolFactory, loop: Loop, *, limit: int, name: str
    ) -> None:
        self.name = name
        self.address = format_address(*sock.getsockname()[:2])
        self.connections = 0
        self._socket = sock
        self._factory = factory
        self._loop = loop
        self._limit = limit
        self._by_address: dict[str, int] = {}
        self._open = True
        loop.watch(sock.fileno(), READ, self)

    def close(self) -> None:
        """Stop accepting; connections go on."""
        if self._open:
            self._open = False
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def discard(self, now: float) -> None:
        self.close()

    def ready(self, mask: int, now: float) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._open:
                return
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
                    self._pause(error, now)
                    return
                continue  # the peer left between SYN and accept (accept(2), ERRORS)
            self._admit(sock, plain_host(address[0]), address[1], now)

    def _admit(self, sock: socket.socket, host: str, port: int, now: float) -> None:
        key = counting_key(host)
        count = self._by_address.get(key, 0)
        if self.connections >= self._limit or (key and count >= PER_ADDRESS_LIMIT):
            self._loop.refused += 1
            sock.close()
            return
        sock.setblocking(False)
        self._loop.accepted += 1
        self.connections += 1
        self._by_address[key] = count + 1
        Connection(sock, host, port, self._loop, lambda: self._gone(key)).start(self._factory, now)

    def _gone(self, key: str) -> None:
        self.connections -= 1
        self._by_address[key] -= 1
        if not self._by_address[key]:
            del self._by_address[key]

    def _pause(self, error: OSError, now: float) -> None:
        """Descriptors or kernel memory ran out: leave connections in the backlog for a while."""
        self._loop.fault("accept", error, self.address)
        self._loop.rewatch(self._socket.fileno(), 0)
        self._loop.call_at(now + ACCEPT_RETRY_S, self._resume)

    def _resume(self, now: float) -> None:
        if self._open:
            self._loop.rewatch(self._socket.fileno(), READ)


def bind(address: str) -> socket.socket:
    """A listening, non-blocking TCP socket. Raises OSError with the address and what to do about it.

    "[::]:port" takes IPv4, too. Port 0 takes a free port. TCP options set here are inherited by
    the accepted sockets.
    """
    return bind_shared(address, 1)[0]


def bind_shared(address: str, count: int) -> list[socket.socket]:
    """As `bind`, for `count` processes that share the port.

    On Linux each gets a queue of its own, which the kernel fills evenly (SO_REUSEPORT, socket(7)).
    Elsewhere the kernel does not balance, and all are the same socket: whoever is quick accepts.
    """
    family, kind, protocol, where = _where(address)
    socks: list[socket.socket] = []
    try:
        for _ in range(count if sys.platform == "linux" else 1):
            socks.append(sock := socket.socket(family, kind, protocol))
            _prepare(sock, shared=len(socks) > 1, dual=where[0] == "::")
            # The first one binds alone, so that a port that somebody else shares out is refused.
            sock.bind(where if len(socks) == 1 else socks[0].getsockname())
            if count > 1 and sys.platform == "linux":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for sock in socks:
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError as error:
        for sock in socks:
            sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return socks + [socks[0].dup() for _ in range(count - len(socks))]


def _where(address: str) -> tuple[int, int, int, Any]:
    """Family, kind, protocol and socket address to bind. Raises OSError."""
    try:
        host, port = parse_address(address)
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (ValueError, socket.gaierror) as error:
        raise OSError(EINVAL, f"cannot listen on {address}: {error}") from error
    return family, kind, protocol, where


def _prepare(sock: socket.socket, *, shared: bool, dual: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    tune(sock)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)


def tune(sock: socket.socket) -> None:
    """Send without delay, and let the kernel give up on a peer that acknowledges nothing."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_S * 1000))
