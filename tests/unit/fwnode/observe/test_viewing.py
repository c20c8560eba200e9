"""What viewers see, as Prometheus gets it."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from fwnode.observe.viewing import of_viewing
from media.deliver.quality.board import Board
from media.deliver.quality.model import Sighting


def test_metrics_by_stream_and_transport() -> None:
    board = Board(lambda name: True)
    board.take("live", Sighting(1, 1, "websocket", startup_ms=400, latency_ms=900, watched_ms=9000), 0.0)
    seen = Sighting(1, 1, "websocket", startup_ms=400, latency_ms=900, watched_ms=19000, stalled_ms=500)
    board.take("live", seen, 10.0)
    board.take("live", Sighting(2, 2, "hls", requests=1, buffer_ms=2000), 10.0)
    board.totals.limited = 3

    class One(Collector):
        def collect(self) -> Iterable[Metric]:
            return of_viewing(board, 10.0)

    registry = CollectorRegistry()
    registry.register(One())
    page = generate_latest(registry).decode().splitlines()
    for line in (
        'fwnode_viewer_sessions{stream="live",transport="websocket"} 1.0',
        'fwnode_viewer_sessions{stream="live",transport="hls"} 1.0',
        'fwnode_viewer_startup_seconds{quantile="0.5",stream="live",transport="websocket"} 0.4',
        'fwnode_viewer_latency_seconds{quantile="0.95",stream="live",transport="websocket"} 0.9',
        'fwnode_viewer_stall_ratio{stream="live",transport="websocket"} 0.026316',
        'fwnode_viewer_buffer_seconds{quantile="0.5",stream="live"} 2.0',
        "fwnode_viewer_watched_seconds_total 19.0",
        'fwnode_viewer_reports_total{result="limited"} 3.0',
        'fwnode_viewer_reports_total{result="beacons"} 2.0',
    ):
        assert line in page
