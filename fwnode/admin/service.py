"""The control API's operations on a running node. What changes is on disk before it is in force."""

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import msgspec
import trio

from fwnode import __version__
from fwnode.admin import views
from fwnode.admin.views import (
    config_view,
    invite_view,
    joined_view,
    key_list,
    new_key_view,
    revoked_view,
)
from fwnode.errors import StoreError
from fwnode.keys import StreamKey
from fwnode.network import Change
from fwnode.node import Node
from fwnode.observe.probe import process_usage
from fwnode.promise.holds import EVERYBODY, FOREVER, Holds
from fwnode.promise.model import PromiseView
from fwnode.promise.service import Keeping
from fwnode.replication.model import TreeList
from fwnode.steering.explaining import explain, steering_view
from fwnode.steering.model import ExplainView, SteeringView
from fwnode.store import Database
from media.track.stream import Stream
from mesh.errors import Refused, Unavailable, WireError
from mesh.identity.store import StoreError as IdentityStoreError
from mesh.model import short
from mesh.node.model import MeshStatus, SecondOpinion
from mesh.node.speed.model import SpeedResult

W = TypeVar("W")
T = TypeVar("T")

OPINIONS = 1  # at a time: each is a thread for some seconds, and packets to others
PASSPHRASES = 1  # at a time: each takes 64 MiB and up to a second of a core


class ApiFailure(Exception):
    """A request that is not done: HTTP status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.view = views.ApiError(code, message)


class Api:
    """Handlers of fwnode.admin.routes, by operation. Each raises ApiFailure or StoreError."""

    def __init__(self, node: Node, database: Database, keeping: Keeping) -> None:
        self._node = node
        self._keeping = keeping
        self._database = database
        self._turn = trio.Lock()  # one change of the network at a time
        self._opinions = trio.CapacityLimiter(OPINIONS)
        self._stretching = trio.CapacityLimiter(PASSPHRASES)

    def snapshot(self) -> views.Snapshot:
        """Everything that the dashboard shows."""
        network = self._node.network
        return views.Snapshot(
            self._status(), self._streams(), network.status(), network.peers(), self._replication()
        )

    async def get_status(self) -> views.NodeStatus:
        """State and counters."""
        return self._status()

    async def list_streams(self) -> views.StreamList:
        """Every stream by name."""
        return views.StreamList(self._streams())

    async def get_stream(self, name: str) -> views.StreamView:
        """One stream."""
        return self._view(self._stream(name))

    async def get_tree(self) -> TreeList:
        """Who takes what from whom."""
        replication = self._node.replication
        return replication.tree() if replication is not None else TreeList([])

    async def get_replication(self) -> views.ReplicationView:
        """Streams given and taken."""
        return self._replication()

    async def stop_stream(self, name: str) -> None:
        """Disconnect a publisher."""
        self._stream(name)
        if not self._node.stop_stream(name):
            raise ApiFailure(409, "not_published", f"nobody publishes {name} now")

    async def list_keys(self) -> views.KeyList:
        """Every stream key."""
        return key_list(self._node.keyring, self._node.network)

    async def make_key(self, body: views.KeyRequest) -> views.NewKey:
        """Make a stream key."""
        try:
            text, key = await trio.to_thread.run_sync(
                partial(self._database.new_key, body.stream, body.label, local=body.local)
            )
        except ValueError as error:
            raise ApiFailure(400, "bad_request", str(error)) from None
        self._node.keyring.add(key)
        return new_key_view(text, key)

    async def revoke_key(self, key_id: str) -> None:
        """Revoke a stream key."""
        found = self._node.keyring.find(key_id)
        if found and found[0].maker:
            await self._revoke_foreign(found)
            return
        known = await trio.to_thread.run_sync(self._database.delete_key, key_id)
        if self._node.revoke(key_id) is None and not known:
            raise ApiFailure(
                404, "no_such_key", f"there is no stream key {key_id}: `fwnode key list` shows them"
            )

    async def _revoke_foreign(self, found: list[StreamKey]) -> None:
        """Revoke a key that another node made, where this node may."""
        node, [key, *others] = self._node, found
        if others:
            names = ", ".join(key.name for key in found)
            raise ApiFailure(409, "ambiguous", f"several nodes have a key of that id: revoke one of {names}")
        if node.network.owner_key is None:
            where = f"{key.maker_name} ({short(key.maker)})"
            advice = "revoke it there, or on the node of the network's owner"
            raise ApiFailure(409, "made_elsewhere", f"the key {key.id} was made on {where}: {advice}")
        await self._change(lambda: node.network.revoke_key(key.digest))
        node.accept(other for other in node.keyring.foreign() if other.name != key.name)

    async def get_steering(self) -> SteeringView:
        """How viewers are sent to nodes."""
        return steering_view(self._node.choosing, self._node.reactor.now())

    async def get_choice(self, stream: str, address: str, protocol: str) -> ExplainView:
        """Which node a viewer is sent to."""
        try:
            plain = str(ipaddress.ip_address(address.strip("[]").partition("%")[0]))
        except ValueError:
            text = f"{address[:64]!r} is no address: give it as numbers"
            raise ApiFailure(400, "bad_request", text) from None
        try:
            now = self._node.reactor.now()
            found = explain(self._node.choosing, stream, plain, protocol or "http", now)
        except ValueError as error:
            raise ApiFailure(400, "bad_request", str(error)) from None
        if found is None:
            raise ApiFailure(404, "no_such_stream", f"nobody in the network has a stream {stream[:64]} now")
        return found

    async def get_promise(self) -> PromiseView:
        """What is promised and used."""
        return self._node.promise_view()

    async def drain_node(self, body: views.DrainRequest) -> PromiseView:
        """Let nobody new in, and have who is here go elsewhere."""
        holds = self._node.promise.holds
        return await self._keeping.hold(holds.drained(body.roles or EVERYBODY, _until(body.for_s)))

    async def pause_node(self, body: views.PauseRequest) -> PromiseView:
        """Let nobody new in."""
        return await self._keeping.hold(self._node.promise.holds.paused(_until(body.for_s)))

    async def resume_node(self) -> PromiseView:
        """End drain and pause."""
        return await self._keeping.hold(Holds())

    async def get_config(self) -> views.ConfigView:
        """Every setting in force."""
        return config_view(self._node.config)

    async def get_network(self) -> MeshStatus:
        """The network as this node sees it."""
        return self._node.network.status()

    async def list_peers(self) -> views.PeerList:
        """Every known node."""
        return views.PeerList(self._node.network.peers())

    async def ask_second_opinion(self) -> SecondOpinion:
        """What pystun3 makes of the router."""
        with _failures():
            async with self._opinions:
                return await self._node.network.second_opinion()

    async def test_peer(self, node: str, body: views.SpeedRequest) -> SpeedResult:
        """How fast bytes come from a node."""
        with _failures():
            return await self._node.network.speed_test(node, body.bytes)

    async def make_invite(self, body: views.InviteRequest) -> views.NewInvite:
        """Make an invite."""
        terms = views.terms_of(body)
        with _failures():
            return invite_view(await self._change(lambda: self._node.network.invite(terms, body.seeds)))

    async def join_network(self, body: views.JoinRequest) -> views.JoinedView:
        """Become a member."""
        roles = views.wanted_roles(body)
        return joined_view(
            await self._change(lambda: self._node.network.join(body.invite, name=body.name, roles=roles))
        )

    async def leave_network(self) -> None:
        """Be in no network."""
        await self._change(self._node.network.leave)

    async def revoke_node(self, body: views.RevocationRequest) -> views.RevokedNode:
        """Expel a node."""
        return revoked_view(await self._change(lambda: self._node.network.revoke(body.node)))

    async def export_owner(self, body: views.OwnerExportRequest) -> views.OwnerExport:
        """The owner key, encrypted."""
        with _failures():
            line = await trio.to_thread.run_sync(
                self._node.network.export_owner, body.passphrase, limiter=self._stretching
            )
        return views.OwnerExport(line)

    async def import_owner(self, body: views.OwnerImportRequest) -> views.OwnedNetwork:
        """Take an owner key in."""
        network = await self._change(lambda: self._node.network.import_owner(body.line, body.passphrase))
        return views.OwnedNetwork(network.hex())

    async def _change(self, work_out: Callable[[], Change[W, T]]) -> T:
        """Carry a change of the network out: on disk first, then in force."""
        async with self._turn:
            with _failures():
                change = work_out()
                return change.apply(await trio.to_thread.run_sync(change.write))

    def _stream(self, name: str) -> Stream:
        stream = self._node.streams.get(name)
        if stream is None:
            raise ApiFailure(404, "no_such_stream", f"there is no stream {name[:64]} now")
        return stream

    def _streams(self) -> list[views.StreamView]:
        return sorted((self._view(stream) for stream in self._node.streams), key=lambda found: found.name)

    def _view(self, stream: Stream) -> views.StreamView:
        replication = self._node.replication
        place = replication.place_of(stream.name) if replication is not None else None
        now = self._node.reactor.now()
        return views.stream_view(stream.statistics(now), place, self._node.quality.view(stream.name, now))

    def _replication(self) -> views.ReplicationView:
        return views.replication_view(self._node.replication, self._node.copies)

    def _status(self) -> views.NodeStatus:
        node, counts, usage = self._node, self._node.counts(), process_usage()
        return views.NodeStatus(
            name=node.config.name,
            version=__version__,
            pid=usage.pid,
            state=node.state,
            started_unix_s=node.started_unix_s,
            uptime_s=round(node.reactor.now() - node.started_at, 3),
            data_dir=node.config.data_dir,
            listeners=node.addresses,
            open_ingest=node.config.ingest.open,
            streams=len(node.streams),
            publishers=node.publishers,
            viewers=node.viewers,
            connections=node.connections,
            connections_accepted=counts.accepted,
            connections_refused=counts.refused,
            publishers_refused=node.gate.refused,
            bytes_in=counts.bytes_in,
            bytes_out=counts.bytes_out,
            faults=counts.faults,
            memory_bytes=usage.memory_bytes,
            cpu_s=usage.cpu_s,
            edges=node.edges,
            workers=node.crew.status(),
            promise=node.promise_view(),
            quality=node.quality.view_of_all(node.reactor.now()),
        )


def _until(for_s: float | None) -> float:
    """The end of a hold that begins now."""
    return FOREVER if for_s is None else time.time() + for_s


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn what the mesh says into an answer."""
    try:
        yield
    except WireError as error:
        raise ApiFailure(400, "bad_request", str(error)) from None
    except Refused as error:
        raise ApiFailure(409, "refused", str(error)) from None
    except Unavailable as error:
        raise ApiFailure(503, "unavailable", str(error)) from None
    except IdentityStoreError as error:
        raise StoreError(str(error)) from None


def decode_body(data: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """A request's JSON body. Raises ApiFailure."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ApiFailure(400, "bad_request", f"the body cannot be used: {error}") from None
