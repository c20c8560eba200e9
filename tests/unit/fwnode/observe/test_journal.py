"""Log lines of a node's life."""

from structlog.testing import capture_logs

from fwnode.observe.journal import Journal, log_fault
from media.errors import WireError
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source


class NoTimer:
    def cancel(self) -> None:
        pass


def test_streams_come_and_go_once_each() -> None:
    with capture_logs() as logs:
        streams = Streams(
            RegistrySettings(), call_at=lambda when, callback: NoTimer(), measure=lambda track, data: None
        )
        journal = Journal(streams)
        streams.subscribe(journal.stream_changed)
        writer = streams.open("x", Source("rtmp", "192.0.2.1:5", key_id="abc"), 0.0, 0, lambda reason: None)
        journal.stream_changed("x", 0.0)
        writer.close("gone", 1.0)
    assert [(line["event"], line["stream"]) for line in logs] == [("stream starting", "x")]
    assert logs[0]["peer"] == "192.0.2.1:5" and logs[0]["key_id"] == "abc"
    assert not journal._known


def test_faults_by_kind() -> None:
    with capture_logs() as logs:
        log_fault("remote", WireError("bad chunk"), "192.0.2.1:5")
        log_fault("bug", KeyError("x"), "192.0.2.1:5")
    assert [line["log_level"] for line in logs] == ["warning", "error"]
    assert logs[0]["reason"] == "bad chunk" and logs[0]["exc_info"] is None
    assert isinstance(logs[1]["exc_info"], KeyError)
