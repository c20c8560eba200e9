"""The control API's operations on a running node. What changes is on disk before it is in force."""

import msgspec
import trio

from fwnode import __version__
from fwnode.admin import views
from fwnode.admin.views import config_view, key_view
from fwnode.node import Node
from fwnode.observe.probe import process_usage
from fwnode.store import Database
from media.track.stream import Stream, StreamStatistics


class ApiFailure(Exception):
    """A request that is not done: HTTP status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.view = views.ApiError(code, message)


class Api:
    """Handlers of fwnode.admin.routes, by operation. Each raises ApiFailure or StoreError."""

    def __init__(self, node: Node, database: Database) -> None:
        self._node = node
        self._database = database

    def snapshot(self) -> views.Snapshot:
        """Everything that the dashboard shows."""
        return views.Snapshot(self._status(), self._streams())

    async def get_status(self) -> views.NodeStatus:
        """State and counters."""
        return self._status()

    async def list_streams(self) -> views.StreamList:
        """Every stream by name."""
        return views.StreamList(self._streams())

    async def get_stream(self, name: str) -> StreamStatistics:
        """One stream."""
        return self._stream(name).statistics(self._node.reactor.now())

    async def stop_stream(self, name: str) -> None:
        """Disconnect a publisher."""
        self._stream(name)
        if not self._node.stop_stream(name):
            raise ApiFailure(409, "not_published", f"nobody publishes {name} now")

    async def list_keys(self) -> views.KeyList:
        """Every stream key."""
        return views.KeyList([key_view(key) for key in self._node.keyring.all()])

    async def make_key(self, body: views.KeyRequest) -> views.NewKey:
        """Make a stream key."""
        try:
            text, key = await trio.to_thread.run_sync(self._database.new_key, body.stream, body.label)
        except ValueError as error:
            raise ApiFailure(400, "bad_request", str(error)) from None
        self._node.keyring.add(key)
        return views.NewKey(text, key.id, key.pattern, key.label)

    async def revoke_key(self, key_id: str) -> None:
        """Revoke a stream key."""
        known = await trio.to_thread.run_sync(self._database.delete_key, key_id)
        if self._node.revoke(key_id) is None and not known:
            raise ApiFailure(
                404, "no_such_key", f"there is no stream key {key_id}: `fwnode key list` shows them"
            )

    async def get_config(self) -> views.ConfigView:
        """Every setting in force."""
        return config_view(self._node.config)

    def _stream(self, name: str) -> Stream:
        stream = self._node.streams.get(name)
        if stream is None:
            raise ApiFailure(404, "no_such_stream", f"there is no stream {name[:64]} now")
        return stream

    def _streams(self) -> list[StreamStatistics]:
        now = self._node.reactor.now()
        return sorted((stream.statistics(now) for stream in self._node.streams), key=lambda found: found.name)

    def _status(self) -> views.NodeStatus:
        node, reactor, usage = self._node, self._node.reactor.statistics(), process_usage()
        return views.NodeStatus(
            name=node.config.name,
            version=__version__,
            pid=usage.pid,
            state="draining" if node.draining else "ready",
            started_unix_s=node.started_unix_s,
            uptime_s=round(node.reactor.now() - node.started_at, 3),
            data_dir=node.config.data_dir,
            listeners=node.addresses,
            open_ingest=node.config.ingest.open,
            streams=len(node.streams),
            publishers=node.publishers,
            viewers=node.viewers,
            connections=node.connections,
            connections_accepted=reactor.accepted,
            connections_refused=reactor.refused,
            publishers_refused=node.gate.refused,
            bytes_in=reactor.bytes_in,
            bytes_out=reactor.bytes_out,
            faults=reactor.faults,
            memory_bytes=usage.memory_bytes,
            cpu_s=usage.cpu_s,
        )


def decode_body(data: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """A request's JSON body. Raises ApiFailure."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ApiFailure(400, "bad_request", f"the body cannot be used: {error}") from None
