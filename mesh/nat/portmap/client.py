"""Speaks UPnP IGD with one router. Blocks: for threads."""

import ipaddress
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mesh.errors import Unavailable
from mesh.nat.portmap.model import TRANSPORTS, UpnpGrant

try:
    import miniupnpc
except ImportError:  # no wheel for this Python, and no compiler
    miniupnpc = None

Found = TypeVar("Found")

DESCRIPTION = "fwnode"  # what the router's pages show beside the mapping
REASON_LENGTH_MAX = 100
# miniupnpc gives texts for the error codes of WANIPConnection:1 2.4.16.
_PERMANENT_ONLY = "OnlyPermanentLeasesSupported"  # 725
_TAKEN = ("the port is another host's", "the port is in use")
_REASONS = {
    "ConflictInMappingEntry": _TAKEN[0],  # 718
    "ConflictWithOtherMechanisms": _TAKEN[1],  # 729, WANIPConnection:2
    "Action not authorized": "it does not allow it",
    "SamePortValuesRequired": "it maps only to the same port",
    "Miniupnpc HTTP error": "it did not answer",
}


class UpnpClient:
    """One router, one port of this host. One call at a time: a second one is Unavailable while one hangs."""

    def __init__(self, *, own: str, port: int, gateway: str, lease_s: int) -> None:
        self._own, self._port, self._gateway, self._lease_s = own, port, gateway, lease_s
        self._lock = threading.Lock()
        self._igd: Any = None
        self._given_s = 0  # the lease
        self._granted: dict[str, int] = {}  # transport -> external port

    def map(self, url: str, wishes: Sequence[int]) -> UpnpGrant:
        """Map TCP and UDP of the first of the external ports `wishes` that is free.

        `url`: of the router's description. Raises Unavailable with the reason.
        """
        return self._alone(lambda: self._map(url, wishes), 0.0)

    def look(self, url: str) -> bool:
        """Whether the router still has what it gave. Raises Unavailable."""
        return self._alone(lambda: self._look(url), 0.0)

    def remove(self, patience_s: float) -> None:
        """Give up what it gave. Waits so long for a call before it. Raises Unavailable."""
        self._alone(self._remove, patience_s)

    def _alone(self, call: Callable[[], Found], patience_s: float) -> Found:
        if not self._lock.acquire(timeout=patience_s):
            raise Unavailable("an earlier request hangs", 0.0)
        try:
            return call()
        finally:
            self._lock.release()

    def _map(self, url: str, wishes: Sequence[int]) -> UpnpGrant:
        self._igd = self._connected(url)
        host = _host_untrusted(_said(self._igd.externalipaddress))
        refused: dict[str, str] = {}
        for wish in wishes:
            refused = self._add_both(wish)
            taken = any(reason in _TAKEN for reason in refused.values())
            if len(refused) < len(TRANSPORTS) and not taken:
                return UpnpGrant(
                    external_host=host,
                    external_port=wish,
                    tcp="TCP" in self._granted,
                    udp="UDP" in self._granted,
                    lease_s=float(self._given_s),
                    said="; ".join(f"{name}: {reason}" for name, reason in refused.items()),
                )
            self._remove()
            if not taken:
                break
        raise Unavailable(next(iter(refused.values()), "no port was asked for"), 0.0)

    def _add_both(self, wish: int) -> dict[str, str]:
        """Reasons of the transports that it does not map."""
        refused = {}
        for transport in TRANSPORTS:
            try:
                self._given_s = self._add(wish, transport.name)
                self._granted[transport.name] = wish
            except Unavailable as error:
                refused[transport.name] = str(error)
        return refused

    def _connected(self, url: str) -> Any:
        """A client whose requests all go to the router. Raises Unavailable."""
        if miniupnpc is None:
            raise Unavailable("the Python package miniupnpc is not installed", 0.0)
        igd = miniupnpc.UPnP()
        control = str(_said(igd.selectigd, url))
        try:
            host = urlsplit(control).hostname
        except ValueError:
            host = None
        if host != self._gateway:
            raise Unavailable("it sends its clients to another host", 0.0)
        return igd

    def _add(self, wish: int, name: str) -> int:
        """The lease; 0 when the router has only permanent ones."""
        arguments = (wish, name, self._own, self._port, DESCRIPTION, "")
        try:
            _said(self._igd.addportmapping, *arguments, self._lease_s)
        except Unavailable as error:
            if str(error) != _PERMANENT_ONLY:
                raise
            _said(self._igd.addportmapping, *arguments, 0)
            return 0
        return self._lease_s

    def _look(self, url: str) -> bool:
        self._igd = self._connected(url)
        found = (_said(self._igd.getspecificportmapping, port, name) for name, port in self._granted.items())
        return all(mapped and mapped[:2] == (self._own, self._port) for mapped in found)

    def _remove(self) -> None:
        while self._granted:
            name, port = self._granted.popitem()
            _said(self._igd.deleteportmapping, port, name)


def _said(call: Callable[..., Any], *arguments: object) -> Any:
    """What one request gave; raises Unavailable with the router's reason."""
    try:
        return call(*arguments)
    except Exception as error:  # miniupnpc raises nothing else
        text = str(error)
        raise Unavailable(_REASONS.get(text, text[:REASON_LENGTH_MAX]), 0.0) from None


def _host_untrusted(said: object) -> str:
    """The external address, "" when it is none."""
    try:
        return str(ipaddress.IPv4Address(str(said)))
    except ValueError:
        return ""
