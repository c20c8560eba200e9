"""Says by mDNS that this node is here, and hears of others. python-zeroconf runs in its own threads."""

import asyncio
import ipaddress
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

import trio
import zeroconf
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from mesh.discovery.mdns.names import (
    ADDRESSES_MAX,
    SERVICE_TYPE,
    Announcement,
    MdnsOwn,
    addresses_untrusted,
    encode_text,
    host_name,
    instance_name,
    network_tag,
    parse_text_untrusted,
)
from mesh.discovery.probe import own_addresses, watch_addresses
from mesh.errors import WireError
from mesh.model import NodeId

OnFound = Callable[[str, NodeId], None]

RENEW_S = 60.0  # between questions to the LAN: zeroconf itself asks four times in 9 s, then waits 75 minutes
START_S = 5.0  # to open the sockets; milliseconds, but zeroconf waits for ever when its thread fails
STOP_S = 0.5  # to say goodbye: three packets 125 ms apart (RFC 6762 10.1)
ASK_S = 3.0  # for zeroconf's loop to do what it was told; only a starved machine needs it
LOOKUP_MS = 3000  # for the records of an instance of which only the name came
LOOKUPS_MAX = 32  # at a time; our own kind sends all records with the name, so none is the normal number
ANSWERS_MAX = 256  # not yet handed on; the oldest is dropped, and heard again after RENEW_S
INSTANCES_MAX = 256  # remembered; with more on one LAN some are handed on twice
LOOPBACK = "127.0.0.1"


async def serve_mdns(
    own: MdnsOwn,
    on_found: OnFound,
    *,
    on_trouble: Callable[[str], None] = lambda _: None,
    interfaces: Sequence[str] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Announce this node and report others of its network, until cancelled.

    `on_found("host:port", node id)` runs in this task's loop, once for each address of a node and again every
    RENEW_S while it is there. It is hearsay: dial with that id expected. `interfaces`: numeric addresses to
    speak on and to announce; all of the host's without them. `on_trouble` gets one sentence when mDNS cannot
    be had; it is tried again every RENEW_S and when the host's addresses change. Never raises for that.
    """
    wake, woken = trio.open_memory_channel[None](1)

    def stir() -> None:
        try:
            wake.send_nowait(None)
        except trio.WouldBlock:
            pass  # a refresh is due already

    # It logs every interface that cannot send, with a traceback; what matters is told by `on_trouble`.
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)
    found = _Found(own, on_found, trio.lowlevel.current_trio_token())
    lan = _Lan(own, interfaces, found)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_addresses, stir)
            trouble = await _refreshed(lan, "", on_trouble)
            task_status.started()
            while True:
                with trio.move_on_after(RENEW_S):
                    await woken.receive()
                trouble = await _refreshed(lan, trouble, on_trouble)
    finally:
        found.close()
        with trio.move_on_after(STOP_S, shield=True):
            await trio.to_thread.run_sync(lan.close, abandon_on_cancel=True)


async def _refreshed(lan: "_Lan", before: str, on_trouble: Callable[[str], None]) -> str:
    trouble = f"no answer from zeroconf in {START_S:g} s"
    with trio.move_on_after(START_S):
        trouble = await trio.to_thread.run_sync(lan.refresh, abandon_on_cancel=True)
    if trouble and trouble != before:
        on_trouble(f"nodes on this LAN are not found by mDNS: {trouble}")
    return trouble


class _Found:
    """Carries what zeroconf's threads heard to the trio loop."""

    def __init__(self, own: MdnsOwn, on_found: OnFound, token: trio.lowlevel.TrioToken) -> None:
        self.loopback = False  # whether loopback addresses may be dialled
        self._own = own
        self._tag = network_tag(own.network)
        self._on_found = on_found
        self._token = token
        self._answers: deque[tuple[str, NodeId]] = deque(maxlen=ANSWERS_MAX)
        self._told: dict[
            str, tuple[str, ...]
        ] = {}  # instance -> addresses; only zeroconf's browser touches it
        self._open = True

    def renew(self) -> None:
        """Hand on again what was handed on before."""
        self._told = {}

    def hear(self, info: ServiceInfo) -> None:
        """All records of one instance came. Called in zeroconf's threads."""
        try:
            said = parse_text_untrusted(info.text or b"")
            if said.tag != self._tag or said.node_id == self._own.node_id:
                return
            addresses = tuple(addresses_untrusted(info.parsed_addresses(), info.port, self.loopback))
        except WireError:
            return
        told = self._told
        if told.get(info.name) == addresses:
            return
        if len(told) < INSTANCES_MAX:
            told[info.name] = addresses
        self._answers.extend((address, said.node_id) for address in addresses)
        try:
            self._token.run_sync_soon(self._hand_on, idempotent=True)
        except trio.RunFinishedError:
            pass  # the program ends

    def forget(self, name: str) -> None:
        """The instance said goodbye or expired."""
        self._told.pop(name, None)

    def close(self) -> None:
        """Hand nothing on any more. Called in the trio loop."""
        self._open = False

    def _hand_on(self) -> None:
        while self._answers and self._open:
            self._on_found(*self._answers.popleft())


class _Lan:
    """One Zeroconf instance. `refresh` and `close` block: they run in threads, one at a time."""

    def __init__(self, own: MdnsOwn, interfaces: Sequence[str] | None, found: _Found) -> None:
        self._own = own
        self._interfaces = None if interfaces is None else list(interfaces)
        self._found = found
        self._name = instance_name(own.name, own.node_id)
        self._lock = threading.Lock()
        self._closed = False
        self._zeroconf: Zeroconf | None = None
        self._browser: ServiceBrowser | None = None
        self._hosts: list[str] = []  # announced
        self._lookups: set[Future[bool]] = set()

    def refresh(self) -> str:
        """Announce and ask on all interfaces as they are now. What is wrong, or nothing."""
        if not self._lock.acquire(blocking=False):
            return "zeroconf is stuck"  # waiting too would take one thread more each time
        try:
            if not self._closed:
                self._refresh()
        except (OSError, RuntimeError, TimeoutError, zeroconf.Error) as error:
            return str(error) or type(error).__name__
        finally:
            self._lock.release()
        return ""

    def close(self) -> None:
        """Say goodbye and stop."""
        with self._lock:
            self._closed = True
            for lookup in list(self._lookups):
                lookup.cancel()
            if self._zeroconf is not None:
                if self._browser is not None:
                    self._browser.cancel()
                try:
                    self._zeroconf.close()
                except (OSError, RuntimeError, TimeoutError, zeroconf.Error):
                    pass  # it is over either way, and others notice by the link
                self._zeroconf = None

    def _refresh(self) -> None:
        # Loopback is for nodes on one host that has no network.
        hosts = (self._interfaces or own_addresses() or [LOOPBACK])[:ADDRESSES_MAX]
        self._found.loopback = all(ipaddress.ip_address(host).is_loopback for host in hosts)
        instance = self._zeroconf
        if instance is None:
            instance = self._zeroconf = self._start()
            self._ask(instance)
            self._do(
                instance, instance.async_register_service(self._info(hosts), cooperating_responders=True)
            )
        else:
            if hosts != self._hosts:
                self._do(instance, instance.async_update_service(self._info(hosts)))
            self._do(instance, instance.async_update_interfaces())
            self._ask(instance)
        self._hosts = hosts

    def _start(self) -> Zeroconf:
        if self._interfaces is not None:
            return Zeroconf(interfaces=self._interfaces, use_asyncio=False)
        # IPv4 carries it wherever there is IPv4, addresses of both families in it. Beside it, IPv6 finds
        # nobody more, and zeroconf leaks a socket for each address still being checked for duplicates.
        has_v4 = any(":" not in host for host in own_addresses())
        version = IPVersion.V4Only if has_v4 else IPVersion.All
        return Zeroconf(interfaces=InterfaceChoice.All, ip_version=version, use_asyncio=False)

    def _ask(self, instance: Zeroconf) -> None:
        """Ask the LAN who is there; what is cached is reported at once."""
        if self._browser is not None:
            self._browser.cancel()
        self._found.renew()
        self._browser = ServiceBrowser(instance, SERVICE_TYPE, handlers=[self._on_change])

    def _do(self, instance: Zeroconf, work: Coroutine[Any, Any, object]) -> None:
        # Zeroconf's own blocking calls wait for the last of three announcements as well.
        assert instance.loop is not None
        asyncio.run_coroutine_threadsafe(work, instance.loop).result(ASK_S)

    def _info(self, hosts: Sequence[str]) -> ServiceInfo:
        return ServiceInfo(
            SERVICE_TYPE,
            self._name,
            port=self._own.port,
            properties=encode_text(Announcement(network_tag(self._own.network), self._own.node_id)),
            server=host_name(self._own.node_id),
            parsed_addresses=list(hosts),
        )

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """Called in the browser's thread, which an exception would end."""
        if name == self._name:
            return
        if state_change is ServiceStateChange.Removed:
            self._found.forget(name)
            return
        info = _info_untrusted(service_type, name)
        if info is None:
            return
        if info.load_from_cache(zeroconf):
            self._found.hear(info)
        elif len(self._lookups) < LOOKUPS_MAX:
            self._look_up(zeroconf, info)

    def _look_up(self, instance: Zeroconf, info: ServiceInfo) -> None:
        assert instance.loop is not None
        request = info.async_request(instance, LOOKUP_MS)
        try:
            lookup = asyncio.run_coroutine_threadsafe(request, instance.loop)
        except RuntimeError:  # the loop has just been closed
            request.close()
            return

        def done(lookup: Future[bool]) -> None:
            self._lookups.discard(lookup)
            if not lookup.cancelled() and lookup.exception() is None and lookup.result():
                self._found.hear(info)

        self._lookups.add(lookup)
        lookup.add_done_callback(done)


def _info_untrusted(service_type: str, name: str) -> ServiceInfo | None:
    try:
        return ServiceInfo(service_type, name)
    except zeroconf.Error:  # no name that DNS-SD allows
        return None
