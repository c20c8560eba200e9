"""Keeps the mesh port mapped on whatever router this host is behind, until cancelled."""

import contextlib
import errno
import hashlib
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import trio

from mesh.errors import Unavailable, WireError
from mesh.nat.portmap.client import UpnpClient
from mesh.nat.portmap.mapper import (
    WATCH_S,
    Changed,
    Mapper,
    Output,
    Send,
    Trouble,
    UpnpLook,
    UpnpMap,
    UpnpRemove,
)
from mesh.nat.portmap.model import LEASE_S, PortMapping, is_public
from mesh.nat.portmap.pcp import MESSAGE_BYTES_MAX, NONCE_BYTES
from mesh.nat.portmap.probe import Route, default_route
from mesh.nat.portmap.ssdp import GROUP, TARGETS, encode_search, parse_answer_untrusted
from mesh.nat.portmap.ssdp import PORT as SSDP_PORT

SERVER_PORT, CLIENT_PORT = 5351, 5350  # RFC 6887 19.1: requests go to, and announcements come to
ALL_HOSTS = "224.0.0.1"  # to where routers announce themselves
ROUTE_POLL_S = 2.0  # to see that the host changed networks
REMOVE_S = 0.5  # at the end: a router that is there answers in milliseconds
SEARCH_S = 2.0  # for the router to be found by UPnP: it may take 1 s (MX), twice
SEARCHES = 2
UPNP_S = 4.0  # for four to ten requests; slow routers take 0.3 s each
INBOX = 64  # datagrams and results not yet looked at; more are dropped, and asked for again
UPNP_PORTS = 3  # other external ports to try when the first is taken
UPNP_PORT_MIN, UPNP_PORT_MAX = 20000, 59999  # routers often allow none below 1024

Event: TypeAlias = Callable[[float], None]


async def keep_mappings(
    port: int,
    on_change: Callable[[PortMapping | None], None],
    *,
    on_trouble: Callable[[str], None] = lambda _: None,
    secret: bytes = b"",
    lease_s: int = LEASE_S,
    watch_s: float = WATCH_S,
    find_route: Callable[[], Route | None] = default_route,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Have the home's router send TCP and UDP of an external port to `port` of this host, until cancelled.

    `on_change` gets the mapping when there is one, and after each change; None when it is lost. Announce it
    only when it is `usable`. `on_trouble` gets one sentence when the router gives none, once while that is
    so. `secret`: of this node and lasting; with it a node that was killed gets its old mapping again. Tried
    again when the router was restarted (looked for every `watch_s`), when this host changes networks, and
    now and then. At the end the mapping is removed, in REMOVE_S at most. A host with a public address asks
    nobody. Never raises for what a router does.
    """
    secret = secret or secrets.token_bytes(32)
    task_status.started()
    while True:
        route = find_route()
        if route is not None and not is_public(route.own):
            mapper = Mapper(
                port=port,
                own=route.own,
                gateway=route.gateway,
                nonce=_nonce(secret, port),
                now=trio.current_time(),
                lease_s=lease_s,
                watch_s=watch_s,
            )
            upnp = UpnpClient(own=route.own, port=port, gateway=route.gateway, lease_s=lease_s)
            await _Session(route, mapper, upnp, on_change, on_trouble).run(find_route)
        await _route_changed(route, find_route)


def _nonce(secret: bytes, port: int) -> bytes:
    return hashlib.blake2b(b"pcp %d" % port, key=secret[:64], digest_size=NONCE_BYTES).digest()


async def _route_changed(before: Route | None, find_route: Callable[[], Route | None]) -> None:
    while find_route() == before:  # noqa: ASYNC110 - the kernel's table tells nobody that it changed
        await trio.sleep(ROUTE_POLL_S)


class _Session:
    """As long as the host is in one network."""

    def __init__(
        self,
        route: Route,
        mapper: Mapper,
        upnp: UpnpClient,
        on_change: Callable[[PortMapping | None], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._route, self._mapper, self._upnp = route, mapper, upnp
        self._on_change, self._on_trouble = on_change, on_trouble
        self._send, self._inbox = trio.open_memory_channel[Event](INBOX)
        self._socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def run(self, find_route: Callable[[], Route | None]) -> None:
        """Returns when the route is another one; then, and when cancelled, the mapping is removed."""
        with self._socket:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hear_announcements)
                    nursery.start_soon(self._work)
                    await _route_changed(self._route, find_route)
                    nursery.cancel_scope.cancel()
                if self._mapper.mapping is not None:
                    self._on_change(None)
            finally:
                self._mapper.stop(trio.current_time())
                with trio.move_on_after(REMOVE_S, shield=True):
                    await self._work()

    async def _work(self) -> None:
        """Serve the mapper until it is stopped."""
        async with trio.open_nursery() as nursery:
            # Connected: the kernel lets in only what the router sends, and tells when nothing listens there.
            if await self._connect():
                nursery.start_soon(self._hear)
            while True:
                for output in self._mapper.outputs():
                    await self._do(output, nursery)
                if self._mapper.stopped:
                    break
                deadline = self._mapper.deadline()
                with trio.move_on_at(trio.current_time() + 3600 if deadline is None else deadline) as scope:
                    event = await self._inbox.receive()
                    event(trio.current_time())
                if scope.cancelled_caught:
                    self._mapper.on_deadline(trio.current_time())
            nursery.cancel_scope.cancel()

    async def _connect(self) -> bool:
        try:
            await self._socket.connect((self._route.gateway, SERVER_PORT))
        except OSError:  # no route any more: found out soon
            return False
        return True

    async def _do(self, output: Output, nursery: trio.Nursery) -> None:
        match output:
            case Send(data):
                try:
                    await self._socket.send(data)
                except OSError as error:
                    self._take_error(error)
            case UpnpMap(port):
                nursery.start_soon(self._upnp_map, port)
            case UpnpLook():
                nursery.start_soon(self._upnp_look)
            case UpnpRemove():
                nursery.start_soon(self._upnp_remove)
            case Changed(mapping):
                self._on_change(mapping)
            case Trouble(text):
                self._on_trouble(text)

    def _post(self, event: Event) -> None:
        with contextlib.suppress(trio.WouldBlock):  # asked for again by the mapper's own deadlines
            self._send.send_nowait(event)

    def _take_error(self, error: OSError) -> None:
        if error.errno == errno.ECONNREFUSED:
            self._post(self._mapper.unreachable)

    async def _hear(self) -> None:
        while True:
            try:
                data = await self._socket.recv(MESSAGE_BYTES_MAX + 1)
            except OSError as error:
                self._take_error(error)
                await trio.lowlevel.checkpoint()
            else:
                self._post(partial(self._mapper.receive, data))

    async def _hear_announcements(self) -> None:
        """What the router tells all hosts when it has begun anew (RFC 6887 14.1.3, RFC 6886 3.2.1)."""
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # other programs listen there too
            try:
                await sock.bind((ALL_HOSTS, CLIENT_PORT))
                while True:
                    _, source = await sock.recvfrom(MESSAGE_BYTES_MAX)
                    if source[0] == self._route.gateway:
                        self._post(self._mapper.announced)
            except OSError:  # taken by a program that does not share: the looks find out, later
                return

    # UPnP. A result is sent, not posted: without it the mapper would wait for ever.

    async def _upnp_map(self, wish: int) -> None:
        reason = "no answer"
        with trio.move_on_after(UPNP_S + SEARCH_S):
            try:
                url = await self._found()
                wishes = (wish, *(_random_port() for _ in range(UPNP_PORTS)))
                grant = await trio.to_thread.run_sync(self._upnp.map, url, wishes, abandon_on_cancel=True)
            except Unavailable as error:
                reason = str(error)
            else:
                await self._send.send(partial(self._mapper.upnp_mapped, grant))
                return
        await self._send.send(partial(self._mapper.upnp_failed, reason))

    async def _upnp_look(self) -> None:
        there = True  # a router that does not answer may be busy: the lease will tell
        with trio.move_on_after(UPNP_S + SEARCH_S), contextlib.suppress(Unavailable):
            url = await self._found()  # again: a router that was restarted may listen on another port
            there = await trio.to_thread.run_sync(self._upnp.look, url, abandon_on_cancel=True)
        await self._send.send(partial(self._mapper.upnp_seen, there))

    async def _upnp_remove(self) -> None:
        with contextlib.suppress(Unavailable):
            await trio.to_thread.run_sync(self._upnp.remove, REMOVE_S, abandon_on_cancel=True)
        await self._send.send(lambda _: self._mapper.upnp_removed())

    async def _found(self) -> str:
        """The URL of the router's description. Raises Unavailable when it does not answer."""
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                await sock.bind((self._route.own, 0))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self._route.own))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)  # UDA 1.1, 1.3.2
            except OSError:
                raise Unavailable("no UPnP search can be sent", 0.0) from None
            for _ in range(SEARCHES):
                for target in TARGETS:
                    for host in (GROUP, self._route.gateway):
                        with contextlib.suppress(OSError):  # no multicast here; or an ICMP error of before
                            await sock.sendto(encode_search(target, host), (host, SSDP_PORT))
                with trio.move_on_after(SEARCH_S / SEARCHES):
                    return await self._search_answer(sock)
        raise Unavailable("no answer", 0.0)

    async def _search_answer(self, sock: trio.socket.SocketType) -> str:
        while True:
            try:
                data, source = await sock.recvfrom(MESSAGE_BYTES_MAX * 4)
                if source[0] == self._route.gateway:
                    return parse_answer_untrusted(data, self._route.gateway)
            except (OSError, WireError):
                await trio.lowlevel.checkpoint()


def _random_port() -> int:
    return UPNP_PORT_MIN + secrets.randbelow(UPNP_PORT_MAX - UPNP_PORT_MIN + 1)
