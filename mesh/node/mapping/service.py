"""Has the router open the mesh port while the mesh runs, and keeps what it said."""

import hashlib
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

from mesh.identity.key import SecretKey
from mesh.node.nat import Portmap

if TYPE_CHECKING:
    from mesh.nat.portmap.model import PortMapping

MODULE = "mesh.nat.portmap.service"  # loaded by the first node that asks: UPnP brings a C library
SECRET_BYTES = 32

OnMapped: TypeAlias = Callable[[str, str], None]
OnNote: TypeAlias = Callable[[str, dict[str, str]], None]


class RouterMapping:
    """`said` is what there is to tell of it at any time."""

    def __init__(self, port: int, key: SecretKey, on_mapped: OnMapped, note: OnNote) -> None:
        """`on_mapped` gets the address that others can be told and the protocol; "" and "" when lost."""
        self.said = Portmap(wanted=True)
        self._port = port
        self._secret = hashlib.blake2b(b"port mapping", key=key.seed, digest_size=SECRET_BYTES).digest()
        self._on_mapped = on_mapped
        self._note = note

    async def run(self) -> None:
        """Until cancelled; then the mapping is removed, in half a second at most."""
        module = await trio.to_thread.run_sync(importlib.import_module, MODULE)
        await module.keep_mappings(
            self._port, self._on_change, on_trouble=self._on_trouble, secret=self._secret
        )

    def _on_change(self, mapping: "PortMapping | None") -> None:
        before = self.said
        self.said = Portmap(True, mapping, before.trouble if mapping is None else "")
        if mapping is None:
            self._note("port mapping lost", {})
        elif before.mapping is None or before.mapping.external != mapping.external:
            use = "told to others" if mapping.usable and mapping.tcp else "of no use outside"
            self._note("port mapped", {"address": mapping.external, "by": mapping.protocol, "use": use})
        if before.announced != self.said.announced:
            protocol = mapping.protocol if mapping is not None and self.said.announced else ""
            self._on_mapped(self.said.announced, protocol)

    def _on_trouble(self, text: str) -> None:
        self.said = Portmap(True, self.said.mapping, text)
        self._note("no port mapping", {"reason": text})
