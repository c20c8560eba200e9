"""Streams by name, from records that come, change and go."""

from types import SimpleNamespace
from typing import Any

from fwnode.replication.catalogue import FRESH_S, Catalogue
from mesh.directory.facts import CarriedStream, CarriedStreams, payload

A, B = b"a" * 32, b"b" * 32


class Directory:
    """Records as a test sets them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.records: dict[bytes, Any] = {}

    def members(self) -> list[bytes]:
        return list(self.records)

    def record(self, owner: bytes, kind: int) -> Any:
        return self.records[owner]

    def say(self, owner: bytes, *names: str) -> None:
        streams = CarriedStreams([CarriedStream(name, 1, 0, []) for name in names])
        self.records[owner] = SimpleNamespace(payload=payload(streams))
        self.now += 2 * FRESH_S


def test_streams_come_change_and_go() -> None:
    directory = Directory()
    catalogue = Catalogue(directory, lambda: directory.now)
    assert catalogue.said("cam") == []
    directory.say(A, "cam", "zoo")
    directory.say(B, "cam")
    assert [node for node, _ in catalogue.said("cam")] == [A, B]
    directory.say(A, "zoo")
    assert [node for node, _ in catalogue.said("cam")] == [B]
    assert [node for node, _ in catalogue.said("zoo")] == [A]
    del directory.records[B]
    directory.now += 2 * FRESH_S
    assert catalogue.said("cam") == []


def test_it_looks_so_often_and_no_more() -> None:
    directory = Directory()
    catalogue = Catalogue(directory, lambda: directory.now)
    directory.say(A, "cam")
    assert catalogue.said("cam")
    directory.records.clear()
    assert catalogue.said("cam")


def test_records_that_are_none_tell_of_nothing() -> None:
    directory = Directory()
    catalogue = Catalogue(directory, lambda: directory.now)
    directory.say(A, "cam")
    assert catalogue.said("cam")
    for data in (b"", b"\xc1", b"\x92"):
        directory.records[A] = SimpleNamespace(payload=data)
        directory.now += 2 * FRESH_S
        assert catalogue.said("cam") == []
