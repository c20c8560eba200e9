"""The event stream's mailboxes."""

import pytest

from fwnode.admin.feed import CLIENTS_MAX, MAILBOX_EVENTS, Feed, Mailbox
from fwnode.admin.views import NodeStatus, Snapshot, replication_view, stream_view
from media.errors import Unavailable
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source
from mesh.node.model import MeshStatus

STATUS = NodeStatus(
    name="here",
    version="0",
    pid=1,
    state="ready",
    started_unix_s=0,
    uptime_s=0,
    data_dir="/data",
    listeners={},
    open_ingest=False,
    streams=0,
    publishers=0,
    viewers=0,
    connections=0,
    connections_accepted=0,
    connections_refused=0,
    publishers_refused=0,
    bytes_in=0,
    bytes_out=0,
    faults={},
    memory_bytes=0,
    cpu_s=0,
)


NETWORK = MeshStatus("", False, "00", "here", [], 0, 0, 0, [], [], {})


class NoTimer:
    def cancel(self) -> None:
        pass


def make_feed() -> tuple[Feed, Streams]:
    streams = Streams(
        RegistrySettings(), call_at=lambda when, callback: NoTimer(), measure=lambda track, data: None
    )

    def snapshot() -> Snapshot:
        found = [stream_view(stream.statistics(0.0), None) for stream in streams]
        return Snapshot(STATUS, found, NETWORK, [], replication_view(None, 0))

    feed = Feed(streams, snapshot)
    streams.subscribe(feed.stream_changed)
    return feed, streams


def kinds(data: bytes) -> list[str]:
    return [line[7:] for line in data.decode().splitlines() if line.startswith("event: ")]


def test_a_client_gets_a_snapshot_at_once_then_news() -> None:
    feed, streams = make_feed()
    woken: list[int] = []
    mailbox = feed.join(lambda: woken.append(1))
    assert kinds(mailbox.take()) == ["snapshot"] and woken
    streams.open("x", Source("rtmp", "1.1.1.1:1"), 0.0, 0, lambda reason: None)
    feed.tick()
    data = mailbox.take()
    assert kinds(data) == ["stream", "snapshot"]
    assert b'data: {"name":"x","state":"starting"}\n\n' in data
    streams.stop("x", "enough", 1.0)
    assert b'"state":"gone"' in mailbox.take()
    assert mailbox.take() == b""


def test_nothing_is_made_when_nobody_follows() -> None:
    feed, _ = make_feed()
    feed._snapshot = lambda: pytest.fail("made a snapshot for nobody")
    feed.tick()


def test_a_slow_client_loses_the_oldest_and_is_told() -> None:
    mailbox = Mailbox(lambda: None)
    for number in range(MAILBOX_EVENTS + 10):
        mailbox.put(b"event: n%d\n\n" % number)
    data = mailbox.take()
    assert data.startswith(b'event: dropped\ndata: {"count":10}\n\n')
    assert kinds(data)[-1] == f"n{MAILBOX_EVENTS + 9}"
    assert len(kinds(data)) <= MAILBOX_EVENTS + 1
    mailbox.put(b"event: more\n\n")
    assert kinds(mailbox.take()) == ["more"]


def test_clients_are_bounded() -> None:
    feed, _ = make_feed()
    mailboxes = [feed.join(lambda: None) for _ in range(CLIENTS_MAX)]
    with pytest.raises(Unavailable):
        feed.join(lambda: None)
    feed.leave(mailboxes[0])
    feed.join(lambda: None)
