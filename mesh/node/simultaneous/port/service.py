"""A fresh TCP port from which any number of connections are made, and one that listens for the LAN."""

import socket
from collections.abc import Collection
from typing import Self

import trio

from mesh.address import show_host, split_address
from mesh.errors import Unavailable

BACKLOG = 8  # connections that nobody has taken yet: more come from nobody who was told of the port
RETRY_S = 5.0


class FreshPort:
    """One port of this host, in one address family. A context manager: at its end nothing listens."""

    def __init__(self, *, v6: bool) -> None:
        """Raises OSError when the system has none."""
        self.v6 = v6
        self._kept = self._bound(0)
        self.number = int(self._kept.getsockname()[1])
        try:
            self._listener = self._bound(0)
        except BaseException:
            self._kept.close()
            raise
        self.near = int(self._listener.getsockname()[1])  # where hosts of the LAN connect to
        self._listener.listen(BACKLOG)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        self._listener.close()

    async def connect(self, address: str, ttl: int | None = None, *, near: bool = False) -> socket.socket:
        """A connection to a numeric "host:port", from this port unless that is `near`.

        `ttl`: hops that its first packet may take, None: the usual.

        Raises Unavailable; without one it can take as long as the kernel's patience.
        """
        try:
            sock = self._bound(0 if near else self.number)
        except OSError as error:
            raise Unavailable(str(error), RETRY_S) from None
        try:
            usual = self._usual_ttl(sock)
            if ttl is not None:
                self._set_ttl(sock, ttl)
            try:
                sock.connect(split_address(address))
            except BlockingIOError:
                if ttl is not None:
                    self._set_ttl(sock, usual)  # that packet has left: what follows must arrive
                await trio.lowlevel.wait_writable(sock)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, "no connection")
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise Unavailable(str(error), RETRY_S) from None
            raise
        return sock

    async def accept(self, hosts: Collection[str]) -> socket.socket:
        """The next connection that comes from one of these hosts; all others are closed."""
        while True:
            try:
                sock, source = self._listener.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._listener)
                continue
            except OSError:
                continue  # it went away before it was taken
            if show_host(source) in hosts:
                sock.setblocking(False)
                return sock
            sock.close()

    def _bound(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self.v6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("::" if self.v6 else "0.0.0.0", port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _ttl_option(self) -> tuple[int, int]:
        if self.v6:
            return socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS
        return socket.IPPROTO_IP, socket.IP_TTL

    def _usual_ttl(self, sock: socket.socket) -> int:
        return sock.getsockopt(*self._ttl_option())

    def _set_ttl(self, sock: socket.socket, ttl: int) -> None:
        sock.setsockopt(*self._ttl_option(), ttl)
