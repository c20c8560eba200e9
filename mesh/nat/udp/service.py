"""The mesh's UDP port: one socket for each address family, and fresh ones for hole punching.

Datagrams of equal size go to the kernel in one call (UDP_SEGMENT) and come from it in one (UDP_GRO), where it
can do that. Nothing waits: what the kernel does not take at once is lost, as on the way.
"""

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import trio

from mesh.address import show_address, split_address
from mesh.errors import MeshError

MESH_PORT = 0  # the number that stands for the mesh port's own sockets
SEGMENTS_MAX = 64  # linux/udp.h, UDP_MAX_SEGMENTS of every kernel that has it
BATCH_BYTES_MAX = 65_000  # of one call: below 65,507, what a v4 datagram carries at most (RFC 768, RFC 791)
DATAGRAM_BYTES_MAX = 65_536
READS_PER_TURN = 32  # with GRO up to two megabytes, some 20 ms of QUIC: then others have their turn
BUFFER_BYTES = 4 << 20  # asked of the kernel, which gives what net.core.rmem_max and wmem_max allow
ADDRESSES_MAX = 4096  # remembered in both forms, a few hundred bytes each
FRESH_MAX = 1024  # sockets beside the mesh port: four punches at a time that need 256

SOL_UDP = 17  # linux/udp.h; the socket module does not have these
UDP_SEGMENT = 103
UDP_GRO = 104
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3  # linux/in.h, in6.h: never fragment
GRO_SPACE = socket.CMSG_SPACE(4)
FULL = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS}
NO_SEGMENTS = {errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP}

SockAddress: TypeAlias = tuple[Any, ...]
OnDatagram: TypeAlias = Callable[[int, bytes, str], None]


@dataclass(slots=True)
class UdpCounters:
    """What went in and out, and what was lost here."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped_full: int = 0  # the kernel's buffer was full
    dropped_large: int = 0  # larger than what the first link carries
    dropped_other: int = 0  # no route, no such address family here, a closed socket


@dataclass(slots=True)
class _Socket:
    number: int
    sock: socket.socket
    family: int
    segments: bool = True


class UdpPort:
    """Bound UDP sockets. `send`, `fresh` and `close` are for the loop's thread and never wait."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        """`sockets` are those of the mesh port, bound, one for each address family; they are taken."""
        self.counters = UdpCounters()
        self._mesh: dict[int, _Socket] = {}
        self._fresh: dict[int, _Socket] = {}
        self._last = MESH_PORT
        self._buffer = bytearray(DATAGRAM_BYTES_MAX)  # of all sockets: emptied before anybody else runs
        self._to_read: deque[_Socket] = deque()
        self._wake = trio.Event()
        self._shown: dict[SockAddress, str] = {}
        self._parsed: dict[str, tuple[int, SockAddress] | None] = {}
        for sock in sockets:
            self._mesh[sock.family] = self._add(MESH_PORT, sock)

    # --- sending

    def send(self, number: int, address: str, datagrams: Sequence[bytes], ttl: int | None = None) -> None:
        """Send datagrams to "host:port" (numeric) from a socket, in order.

        Those that the kernel does not take at once are dropped and counted. `ttl` is for these only.
        """
        place = self._place(address)
        port = self._by_number(number, place[0]) if place is not None else None
        if port is None or place is None:
            self.counters.dropped_other += len(datagrams)
            return
        first, last = 0, len(datagrams)
        while first < last:
            end = _run_end(datagrams, first) if port.segments and ttl is None else first + 1
            if end - first > 1:
                end = self._send_run(port, datagrams[first:end], place[1]) + first
            else:
                self._send_one(port, datagrams[first], place[1], ttl)
            first = end

    def _send_run(self, port: _Socket, run: Sequence[bytes], place: SockAddress) -> int:
        """One call for many of equal size; how many of them that was."""
        size = len(run[0])
        try:
            port.sock.sendmsg(run, [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))], 0, place)
        except OSError as error:
            if error.errno not in NO_SEGMENTS:
                self._lost(error, len(run))
                return len(run)
            port.segments = False  # this kernel or this interface cannot: one by one from now on
            self._send_one(port, run[0], place, None)
            return 1
        self.counters.datagrams_out += len(run)
        self.counters.bytes_out += sum(map(len, run))
        return len(run)

    def _send_one(self, port: _Socket, data: bytes, place: SockAddress, ttl: int | None) -> None:
        try:
            if ttl is None:
                port.sock.sendto(data, place)
            else:
                v6 = port.family == socket.AF_INET6
                level, kind = (
                    (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) if v6 else (socket.IPPROTO_IP, socket.IP_TTL)
                )
                port.sock.sendmsg([data], [(level, kind, struct.pack("=i", ttl))], 0, place)
        except OSError as error:
            self._lost(error, 1)
            return
        self.counters.datagrams_out += 1
        self.counters.bytes_out += len(data)

    def _lost(self, error: OSError, count: int) -> None:
        if error.errno in FULL:
            self.counters.dropped_full += count
        elif error.errno == errno.EMSGSIZE:
            self.counters.dropped_large += count
        else:
            self.counters.dropped_other += count

    # --- sockets beside the mesh port

    def fresh(self, count: int, family: int = socket.AF_INET) -> list[int]:
        """Open sockets on ports that the kernel chooses; their numbers, fewer when there are no more."""
        made: list[int] = []
        for _ in range(min(count, FRESH_MAX - len(self._fresh))):
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM)
                sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
            except OSError:
                break  # out of descriptors: what there is has to do
            self._last += 1
            self._fresh[self._last] = self._add(self._last, sock)
            made.append(self._last)
        return made

    def close(self, numbers: Sequence[int]) -> None:
        """Close sockets of `fresh`; unknown numbers are ignored."""
        for number in numbers:
            port = self._fresh.pop(number, None)
            if port is not None:
                trio.lowlevel.notify_closing(port.sock)
                port.sock.close()

    def local(self, number: int, family: int = socket.AF_INET) -> str:
        """The address a socket is bound to, "" when there is none."""
        port = self._by_number(number, family)
        return show_address(port.sock.getsockname()) if port is not None else ""

    # --- receiving

    async def run(
        self,
        on_datagram: OnDatagram,
        on_turn: Callable[[], None] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Receive until cancelled; then every socket is closed.

        `on_datagram(number, data, source)` is called for each datagram, `on_turn` after each batch of them:
        the moment to send what they gave rise to.
        """
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    while self._to_read:
                        port = self._to_read.popleft()
                        nursery.start_soon(self._read, port, on_datagram, on_turn)
                    self._wake = trio.Event()
                    await self._wake.wait()
        finally:
            self.close(list(self._fresh))
            for port in self._mesh.values():
                port.sock.close()

    async def _read(self, port: _Socket, on_datagram: OnDatagram, on_turn: Callable[[], None] | None) -> None:
        sock, view = port.sock, memoryview(self._buffer)
        receive = partial(sock.recvmsg_into, [self._buffer], GRO_SPACE)
        while sock.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            for _ in range(READS_PER_TURN):
                try:
                    size, extra, _flags, place = receive()
                except BlockingIOError:
                    break
                except OSError:
                    if sock.fileno() < 0:
                        return
                    continue  # an ICMP error of an earlier datagram; whoever waits for an answer finds out
                self._took(port.number, view[:size], _segment_of(extra, size), place, on_datagram)
                if sock.fileno() < 0:
                    break  # closed by what came
            if on_turn is not None:
                on_turn()

    def _took(
        self, number: int, view: memoryview, segment: int, place: SockAddress, on_datagram: OnDatagram
    ) -> None:
        source = self._shown.get(place) or self._show(place)
        counters = self.counters
        counters.bytes_in += len(view)
        if segment >= len(view):
            counters.datagrams_in += 1
            on_datagram(number, view.tobytes(), source)
            return
        for at in range(0, len(view), segment):
            counters.datagrams_in += 1
            on_datagram(number, view[at : at + segment].tobytes(), source)

    # --- parts

    def _add(self, number: int, sock: socket.socket) -> _Socket:
        sock.setblocking(False)
        v6 = sock.family == socket.AF_INET6
        settings = [
            (socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES),
            (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES),
            (SOL_UDP, UDP_GRO, 1),
            (socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE),
        ]
        if v6:
            settings[-1] = (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        for level, option, value in settings:
            try:
                sock.setsockopt(level, option, value)
            except OSError:
                pass  # another system: it works without
        port = _Socket(number, sock, sock.family)
        self._to_read.append(port)
        self._wake.set()
        return port

    def _by_number(self, number: int, family: int) -> _Socket | None:
        if number == MESH_PORT:
            return self._mesh.get(family)
        port = self._fresh.get(number)
        return port if port is not None and port.family == family else None

    def _show(self, place: SockAddress) -> str:
        if len(self._shown) >= ADDRESSES_MAX:
            self._shown.clear()  # a flood of sources; those that matter come again
        source = self._shown[place] = show_address(place)
        return source

    def _place(self, address: str) -> tuple[int, SockAddress] | None:
        """Family and socket address of a numeric address, None when it is none."""
        try:
            return self._parsed[address]
        except KeyError:
            pass
        if len(self._parsed) >= ADDRESSES_MAX:
            self._parsed.clear()
        found = self._parsed[address] = _parse(address)
        return found


def _parse(address: str) -> tuple[int, SockAddress] | None:
    try:
        host, port = split_address(address)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    except (MeshError, OSError, UnicodeError):
        return None
    family, _kind, _protocol, _name, place = found[0]
    return int(family), place


def _run_end(datagrams: Sequence[bytes], first: int) -> int:
    """Where a run ends that one call can send: equal sizes, the last may be smaller."""
    size, last = len(datagrams[first]), len(datagrams)
    most = min(last, first + SEGMENTS_MAX, first + max(1, BATCH_BYTES_MAX // max(1, size)))
    at = first + 1
    while at < most:
        length = len(datagrams[at])
        if length != size:
            return at + 1 if 0 < length < size else at
        at += 1
    return at


def _segment_of(extra: list[tuple[int, int, bytes]], size: int) -> int:
    """How large each datagram is of what one call gave."""
    for level, kind, data in extra:
        if level == SOL_UDP and kind == UDP_GRO and len(data) >= 4:
            return struct.unpack("=i", data[:4])[0] or size
    return size
