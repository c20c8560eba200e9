"""Metrics of what viewers see, as their players tell it. Pure."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from fwnode.observe.families import Samples, counter, gauge
from media.deliver.quality.board import Board
from media.deliver.quality.model import QualitySlice, QualitySpread, QualityView

SHARES = (("0.5", "p50"), ("0.95", "p95"))
LABELS = ("stream", "transport")
RESULTS = ("beacons", "cmcd", "malformed", "limited", "unknown")


def of_viewing(board: Board, now: float) -> Iterator[Metric]:
    """Of the last minutes, by stream and transport; counters of the whole node."""
    found = [(name, view) for name in board.names() if (view := board.view(name, now)) is not None]
    rows = [
        ((name, transport), part) for name, view in found for transport, part in view.by_transport.items()
    ]
    watching = [(key, part.sessions) for key, part in rows]
    yield gauge("fwnode_viewer_sessions", "Viewers whose players tell what they see.", LABELS, watching)
    yield from _times(rows)
    stalled = [(key, part.stall_ratio) for key, part in rows if part.stall_ratio is not None]
    yield gauge("fwnode_viewer_stall_ratio", "Stalled of watched time.", LABELS, stalled)
    dropped = [(key, part.dropped_ratio) for key, part in rows if part.dropped_ratio is not None]
    yield gauge("fwnode_viewer_dropped_ratio", "Frames that viewers' machines left out.", LABELS, dropped)
    yield from _of_requests(found)
    yield from _totals(board)


def _times(rows: list[tuple[tuple[str, str], QualitySlice]]) -> Iterator[Metric]:
    labels = (*LABELS, "quantile")
    yield gauge(
        "fwnode_viewer_startup_seconds",
        "Wait for the first picture.",
        labels,
        _shares((key, part.startup_ms) for key, part in rows),
    )
    yield gauge(
        "fwnode_viewer_latency_seconds",
        "From the node's reception of a picture to the screen.",
        labels,
        _shares((key, part.latency_ms) for key, part in rows),
    )


def _of_requests(found: list[tuple[str, QualityView]]) -> Iterator[Metric]:
    said = [(name, view.cmcd) for name, view in found if view.cmcd is not None]
    yield gauge(
        "fwnode_viewer_buffer_seconds",
        "Buffered by HLS players, as their requests say.",
        ("stream", "quantile"),
        _shares(((name,), cmcd.buffer_ms) for name, cmcd in said),
    )


def _totals(board: Board) -> Iterator[Metric]:
    totals = board.totals
    yield counter("fwnode_viewer_watched_seconds", "As players tell.", (), [((), totals.watched_ms / 1000)])
    yield counter("fwnode_viewer_stalled_seconds", "Of these.", (), [((), totals.stalled_ms / 1000)])
    yield counter("fwnode_viewer_stalls", "Times that playing stopped.", (), [((), totals.stalls)])
    yield counter(
        "fwnode_viewer_reports",
        "What players told: taken in as beacons or CMCD, or not taken in and why.",
        ("result",),
        [((result,), getattr(totals, result)) for result in RESULTS],
    )


def _shares(rows: Iterable[tuple[tuple[str, ...], QualitySpread | None]]) -> Samples:
    return [
        ((*key, share), getattr(spread, field) / 1000)
        for key, spread in rows
        if spread is not None
        for share, field in SHARES
    ]
