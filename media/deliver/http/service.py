"""Binds the HTTP server to the reactor and the clocks."""

import socket
import time

import trio

from media.deliver.http.connection import http_factory
from media.deliver.http.router import Router
from media.deliver.http.site import Site
from media.net.reactor import Reactor
from media.net.server import Listener, bind
from media.net.tls import TlsSettings

CONNECTIONS_MAX = 16384  # of one listener; an idle one takes 2 to 5 KiB here (measured)


class HttpService:
    """The public HTTP server: any number of listeners, plain or TLS, with one set of routes."""

    def __init__(self, reactor: Reactor, router: Router) -> None:
        self.site = Site(router, reactor.now, time.time)
        self._reactor = reactor
        self._listeners: list[Listener] = []

    def listen(
        self, address: str, *, tls: TlsSettings | None = None, limit: int = CONNECTIONS_MAX
    ) -> Listener:
        """Serve on an address. Raises OSError with a useful text."""
        return self.serve(bind(address), tls=tls, limit=limit)

    def serve(
        self, sock: socket.socket, *, tls: TlsSettings | None = None, limit: int = CONNECTIONS_MAX
    ) -> Listener:
        """Serve on a listening, non-blocking socket, which is the listener's from now on."""
        name = "http" if tls is None else "https"
        listener = self._reactor.serve(sock, http_factory(self.site), tls=tls, limit=limit, name=name)
        self._listeners.append(listener)
        return listener

    async def drain(self) -> None:
        """Accept no more, close each connection with its next answer, return when none is left.

        Endless answers are ended by whoever sends them. The caller sets the deadline.
        """
        for listener in self._listeners:
            listener.close()
        self.site.draining = True
        for connection in list(self.site.connections):
            connection.drain()
        empty = trio.Event()
        self.site.on_empty = empty.set
        if self.site.connections:
            await empty.wait()
