"""Who says that it carries which stream: the directory's records, by the streams' names. Pure."""

from collections.abc import Callable, Iterator
from typing import Protocol

from mesh.directory.facts import CarriedStream, CarriedStreams, parse_fact_untrusted
from mesh.directory.record import Kind, Record
from mesh.errors import WireError
from mesh.model import NodeId

FRESH_S = 0.2  # a look at a thousand members' records takes a third of a millisecond: five a second at most


class Directory(Protocol):
    """What is asked of mesh.directory.table.Directory."""

    def members(self) -> list[NodeId]: ...

    def record(self, owner: NodeId, kind: Kind | int) -> Record | None: ...


class Catalogue:
    """Streams of the network by name. Names that nobody carries cost a look-up and keep nothing."""

    def __init__(self, directory: Directory, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._looked_at = -FRESH_S
        self._records: dict[NodeId, Record] = {}  # as they were read
        self._streams: dict[NodeId, list[CarriedStream]] = {}
        self._by_name: dict[str, dict[NodeId, CarriedStream]] = {}

    def said(self, name: str) -> list[tuple[NodeId, CarriedStream]]:
        """Who says that it carries that stream, this node too; as known FRESH_S ago or later."""
        self._refresh()
        return list(self._by_name.get(name, {}).items())

    def everything(self) -> Iterator[tuple[str, NodeId, CarriedStream]]:
        """All that is said, by the streams' names."""
        self._refresh()
        for name in sorted(self._by_name):
            for node, carried in self._by_name[name].items():
                yield name, node, carried

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked_at >= FRESH_S:
            self._looked_at = now
            self._look()

    def _look(self) -> None:
        members = self._directory.members()
        for gone in self._records.keys() - set(members):
            self._replace(gone, [])
            del self._records[gone]
        for node in members:
            record = self._directory.record(node, Kind.STREAMS)
            if record is not None and record is not self._records.get(node):
                self._records[node] = record
                self._replace(node, _streams_in(record))

    def _replace(self, node: NodeId, streams: list[CarriedStream]) -> None:
        for stream in self._streams.pop(node, []):
            said = self._by_name.get(stream.name, {})
            said.pop(node, None)
            if not said:
                self._by_name.pop(stream.name, None)
        if streams:
            self._streams[node] = streams
        for stream in streams:
            self._by_name.setdefault(stream.name, {})[node] = stream


def _streams_in(record: Record) -> list[CarriedStream]:
    if not record.payload:
        return []
    try:
        return parse_fact_untrusted(CarriedStreams, record.payload).streams
    except WireError:
        return []
