"""Keeps the network informed of this node's stream keys, and this node of the network's."""

import time
from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from fwnode.errors import StoreError
from fwnode.keys import maker_digest
from fwnode.node import Node
from fwnode.sharing.foreign import ForeignKeys
from fwnode.sharing.pages import Pages
from fwnode.store import Database, NoticeKey
from mesh.identity.membership import Membership
from mesh.identity.notices import Notices
from mesh.model import Role

LOOK_S = 60.0  # between looks at what time alone changes: claims and notices that end, ones to repeat
PAUSE_S = 0.3  # after a look: a script that makes many keys says so in few notices


class Mesh(Protocol):
    """What is asked of `mesh.node.service.MeshNode`."""

    def say(self, payloads: Sequence[bytes]) -> None: ...


class KeySharing:
    """One node's part in it, for one membership after the other. For the trio thread."""

    def __init__(self, node: Node, database: Database) -> None:
        self._node = node
        self._database = database
        self._wake = trio.Event()
        self._notices: Notices | None = None
        self._pages = Pages(node.network.node_key.node_id)
        self._foreign = ForeignKeys(node.network.node_key.node_id)
        self._payloads: list[bytes] | None = None  # until this node's keys change
        self._obeyed = -1  # version of the membership whose revocations this node's keys were held against
        self._kept: dict[NoticeKey, bytes] = {}
        node.keyring.subscribe(self._keys_changed)

    def load(self, membership: Membership) -> list[bytes]:
        """What this node kept of a network, for `begin`. Blocks."""
        try:
            return self._database.notices(membership.network)
        except StoreError as error:
            structlog.get_logger().warning("notices not read", reason=str(error))
            return []  # neighbours have them

    def begin(self, membership: Membership, kept: list[bytes]) -> Notices:
        """Accept what is known to be good in this network, before any other node is heard."""
        notices = Notices(membership)
        if damaged := notices.restore(kept):
            structlog.get_logger().warning("notices damaged", count=damaged)
        self._notices = notices
        self._kept = {(notice.author, notice.slot): notice.data for notice in notices.all()}
        self._pages = Pages(membership.node_id)
        for notice in notices.all():
            if notice.author == membership.node_id and notice.payload:
                self._pages.remember(notice.slot, notice.payload)
        self._payloads, self._obeyed = None, -1
        self._look(notices)
        self.wake()
        return notices

    def end(self) -> None:
        """This node is in that network no more: nobody else's keys are good here."""
        self._notices = None
        self._node.accept(())

    def wake(self) -> None:
        """Something changed: look soon."""
        self._wake.set()

    async def run(self, mesh: Mesh) -> None:
        """Share what is this node's, accept what is not, keep it, until cancelled."""
        while True:
            with trio.move_on_after(LOOK_S):
                await self._wake.wait()
            self._wake = trio.Event()
            if self._notices is None:
                return
            self._look(self._notices)
            self._say(self._notices, mesh)
            await self._obey(self._notices)
            await self._keep(self._notices)
            await trio.sleep(PAUSE_S)

    def leave(self, mesh: Mesh) -> None:
        """Take back what this node said: it leaves the network, before `mesh` does."""
        self.end()
        mesh.say(())

    def _keys_changed(self) -> None:
        self._payloads = None
        self.wake()

    def _look(self, notices: Notices) -> None:
        """Accept the keys of others that are good now."""
        membership = notices.membership
        takes_part = Role.ORIGIN in membership.own_roles
        in_force = notices.in_force(time.time()) if takes_part else ()
        self._node.accept(self._foreign.accepted(in_force, membership.revocations.is_revoked))

    def _say(self, notices: Notices, mesh: Mesh) -> None:
        """Tell the others this node's keys, where its role allows any."""
        shares = Role.ORIGIN in notices.membership.own_roles
        if self._payloads is None:
            self._payloads = self._pages.payloads(self._node.keyring.all() if shares else ())
        mesh.say(self._payloads)

    async def _obey(self, notices: Notices) -> None:
        """Forget own keys that the network's owner revoked."""
        membership = notices.membership
        if membership.revocations.version == self._obeyed:
            return
        self._obeyed = membership.revocations.version
        for key in self._node.keyring.all():
            digest = maker_digest(key.digest, membership.node_id)
            if not key.local and membership.revocations.is_revoked(digest):
                self._node.revoke(key.id)
                structlog.get_logger().info("stream key revoked by the network's owner", key_id=key.id)
                try:
                    await trio.to_thread.run_sync(self._database.delete_key, key.id)
                except StoreError as error:  # after the next start it is refused again
                    structlog.get_logger().warning("revoked key not deleted", reason=str(error))

    async def _keep(self, notices: Notices) -> None:
        """Write what changed since the last time."""
        now = {(notice.author, notice.slot): notice.data for notice in notices.all()}
        put = {key: data for key, data in now.items() if self._kept.get(key) != data}
        gone = [key for key in self._kept if key not in now]
        if not put and not gone:
            return
        network = notices.membership.network
        try:
            await trio.to_thread.run_sync(self._database.keep_notices, network, put, gone)
        except StoreError as error:
            # Keys work and are refused all the same; only a restart would bring older news back for a while.
            structlog.get_logger().warning("notices not kept", reason=str(error))
        else:
            self._kept = now
