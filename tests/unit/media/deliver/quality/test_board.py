"""What all viewers together see, and that no one of them can say much."""

from typing import Any

from media.deliver.quality.board import (
    FIRST_WATCHED_MS,
    GROUPS_MAX,
    NOW_S,
    SESSIONS_MAX,
    SESSIONS_PER_ADDRESS,
    SWEEP_S,
    WINDOW_S,
    Board,
)
from media.deliver.quality.model import QualityView, Sighting


class Viewers:
    """Players that tell a board, on a clock that the test turns."""

    def __init__(self) -> None:
        self.board = Board(lambda name: name in ("live", "other"))
        self.now = 1000.0

    def tell(self, session: int, *, stream: str = "live", **values: Any) -> bool:
        said = {"address": session, "transport": "websocket"} | values
        return self.board.take(stream, Sighting(session, **said), self.now)

    def watch(self, session: int, seconds: int, stalled_ms: int = 0, **values: Any) -> None:
        """Ten seconds between reports, and in all so many; the stall is in the last of them."""
        for passed in range(10, seconds + 10, 10):
            self.now += 10
            last = passed + 10 > seconds
            self.tell(
                session, watched_ms=passed * 1000, stalled_ms=stalled_ms * last, stalls=int(last), **values
            )

    @property
    def view(self) -> QualityView:
        found = self.board.view("live", self.now)
        assert found is not None
        return found


def test_percentiles_are_over_sessions() -> None:
    viewers = Viewers()
    for session in range(100):
        viewers.tell(session, latency_ms=1000 + session, startup_ms=10 * session)
    for _ in range(50):
        viewers.tell(7, latency_ms=90_000)
    view = viewers.view
    assert view.latency_ms is not None and view.startup_ms is not None
    assert (view.latency_ms.p50, view.latency_ms.p95, view.latency_ms.sessions) == (1050, 1095, 100)
    assert (view.startup_ms.p50, view.startup_ms.p95) == (490, 940)
    assert (view.sessions, view.heard) == (100, 100)


def test_stalled_of_watched_time() -> None:
    viewers = Viewers()
    viewers.watch(1, 100, stalled_ms=2000)
    view = viewers.view
    assert (view.watched_s, view.stalled_s, view.stalls, view.stall_ratio) == (100, 2, 1, 0.02)
    assert viewers.board.totals.watched_ms == 100_000


def test_nobody_watches_longer_than_time_goes_by() -> None:
    viewers = Viewers()
    viewers.tell(1, watched_ms=10**8, stalled_ms=10**8, stalls=10**9, frames=10**12, dropped=10**12)
    assert viewers.view.watched_s == FIRST_WATCHED_MS / 1000
    viewers.now += 10
    viewers.tell(1, watched_ms=5 * 10**8, stalled_ms=5 * 10**8, stalls=10**12)
    assert viewers.view.watched_s <= 27 and viewers.view.stalls <= 27 * 50
    # Totals that go back count nothing.
    viewers.now += 10
    viewers.tell(1, watched_ms=0)
    assert viewers.view.watched_s <= 27


def test_by_transport_and_rendition() -> None:
    viewers = Viewers()
    viewers.tell(1, transport="websocket", rendition="v1", latency_ms=400)
    viewers.tell(2, transport="hls", rendition="v2", latency_ms=1800)
    viewers.tell(3, transport="hls", rendition="v1", latency_ms=2000)
    view = viewers.view
    assert {name: part.sessions for name, part in view.by_transport.items()} == {"hls": 2, "websocket": 1}
    assert view.by_transport["hls"].latency_ms and view.by_transport["hls"].latency_ms.p95 == 2000
    assert view.by_rendition["v1"].sessions == 2
    for session in range(10, 10 + 3 * GROUPS_MAX):
        viewers.tell(session, rendition=f"x{session}")
    assert len(viewers.view.by_rendition) == GROUPS_MAX
    assert next(iter(viewers.view.by_rendition)) == "v1"


def test_who_is_silent_watches_no_more_and_is_forgotten() -> None:
    viewers = Viewers()
    viewers.tell(1, latency_ms=500, startup_ms=300)
    viewers.tell(2, latency_ms=500, ended=True)
    assert viewers.view.sessions == 1
    viewers.now += NOW_S + 1
    assert viewers.view.sessions == 0 and viewers.view.latency_ms is not None
    viewers.now += WINDOW_S + SWEEP_S
    assert viewers.board.view("live", viewers.now) is None
    assert len(viewers.board) == 0 and viewers.board.names() == []


def test_an_hour_ago_is_forgotten_though_it_goes_on() -> None:
    viewers = Viewers()
    viewers.tell(1, startup_ms=900)
    viewers.watch(1, 1800, stalled_ms=0)
    view = viewers.view
    assert view.startup_ms is None
    assert WINDOW_S <= view.watched_s <= WINDOW_S + 120
    assert viewers.board.totals.watched_ms > 1_700_000


def test_what_requests_say_and_what_the_page_says_are_one_session() -> None:
    viewers = Viewers()
    viewers.tell(1, transport="hls", latency_ms=1500, startup_ms=700)
    viewers.tell(1, transport="hls", rendition="v2", requests=1, starved=1, throughput_kbps=8000)
    viewers.tell(1, transport="hls", requests=1, buffer_ms=2500)
    view = viewers.view
    assert view.heard == 1 and view.latency_ms and view.latency_ms.p50 == 1500
    assert view.cmcd is not None and (view.cmcd.requests, view.cmcd.starved) == (2, 1)
    assert view.cmcd.buffer_ms and view.cmcd.throughput_kbps
    assert (view.cmcd.buffer_ms.p50, view.cmcd.throughput_kbps.p50) == (2500, 8000)
    assert list(view.by_rendition) == ["v2"]


def test_bounds() -> None:
    viewers = Viewers()
    for session in range(2 * SESSIONS_PER_ADDRESS):
        assert viewers.tell(session, address=1)
    assert len(viewers.board) == SESSIONS_PER_ADDRESS
    assert viewers.board.totals.limited == SESSIONS_PER_ADDRESS
    for session in range(1000, 1000 + 2 * SESSIONS_MAX):
        viewers.tell(session)
    assert len(viewers.board) == SESSIONS_MAX
    assert not viewers.tell(1, stream="nothing")
    assert viewers.board.names() == ["live"]


def test_all_streams_together() -> None:
    viewers = Viewers()
    viewers.tell(1, latency_ms=100)
    viewers.tell(1, stream="other", latency_ms=300)
    found = viewers.board.view_of_all(viewers.now)
    assert found is not None and found.heard == 2
