"""What a page may tell, how often, and that a flood costs no memory."""

import json
from typing import Any

import pytest

from media.deliver.http.request import FieldSet, Head, Request
from media.deliver.quality.beacon import (
    ADDRESS_BURST,
    BEACON_MAX_BYTES,
    SESSION_BURST,
    Beacons,
    parse_beacon_untrusted,
)
from media.deliver.quality.board import SESSIONS_PER_ADDRESS, Board
from media.deliver.quality.digest import address_number
from media.deliver.quality.model import LATENCY_MAX_MS, TOTAL_MAX_MS
from media.deliver.quality.pace import Pace
from media.errors import WireError

SESSION = "0123456789abcdef"


def beacon(**members: Any) -> bytes:
    return json.dumps({"session": SESSION, "transport": "websocket"} | members).encode()


class Page:
    """Tells a node, on a clock that the test turns."""

    def __init__(self) -> None:
        self.board = Board(lambda name: name == "live")
        self._beacons = Beacons(self.board)
        self.now = 0.0
        self.statuses: list[int] = []

    def tell(self, body: bytes, *, stream: str = "live", host: str = "192.0.2.1") -> int:
        head = Head("POST", f"/qoe/{stream}".encode(), "1.1", FieldSet({b"host": b"h"}), True)
        self._beacons.handle(Request(head, body, self.now, host, 5, False), self)  # type: ignore[arg-type]  # a Reply
        return self.statuses[-1]

    def send(self, response: Any) -> None:
        self.statuses.append(response.status)


def test_values_are_moved_into_their_bounds() -> None:
    told = parse_beacon_untrusted(
        beacon(latency_ms=1e300, startup_ms=-4, watched_ms=1e40, stalled_ms=1e40, frames=5.4, dropped=9),
        "::1",
    )
    assert (told.latency_ms, told.startup_ms, told.watched_ms) == (LATENCY_MAX_MS, 0, TOTAL_MAX_MS)
    assert (told.stalled_ms, told.frames, told.dropped) == (TOTAL_MAX_MS, 5, 5)
    odd = parse_beacon_untrusted(beacon(transport="<b>", rendition="../../etc/passwd"), "::1")
    assert (odd.transport, odd.rendition) == ("other", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 900,
        beacon(session="short"),
        beacon(session="x" * 65),
        beacon(session="a b c d e f g h i"),
        beacon(stalls="one"),
        beacon(watched_ms=None),
        beacon(rendition="v" * BEACON_MAX_BYTES),
        b'{"session":"0123456789abcdef","transport":"hls","stalls":NaN}',
    ],
)
def test_what_is_no_beacon(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_beacon_untrusted(body, "192.0.2.1")


def test_answers() -> None:
    page = Page()
    assert page.tell(beacon()) == 204
    assert page.tell(b"{}") == 400
    assert page.tell(beacon(), stream="nothing") == 404
    assert page.tell(beacon(), stream="NO/GO") == 404
    totals = page.board.totals
    assert (totals.beacons, totals.malformed, totals.unknown, totals.limited) == (1, 1, 2, 0)


def test_a_session_that_tells_too_often() -> None:
    page = Page()
    assert [page.tell(beacon()) for _ in range(SESSION_BURST + 3)] == [204] * SESSION_BURST + [429] * 3
    page.now += 10
    assert page.tell(beacon()) == 204
    assert page.board.totals.limited == 3


def test_a_flood_from_one_address_stays_small_and_counts_little() -> None:
    page = Page()
    for number in range(20_000):
        page.now += 0.001
        page.tell(beacon(session=f"{number:016}", latency_ms=100_000))
    taken = page.statuses.count(204)
    assert ADDRESS_BURST <= taken < 0.02 * len(page.statuses)
    assert page.statuses.count(429) == len(page.statuses) - taken
    assert len(page.board) <= SESSIONS_PER_ADDRESS
    # A hundred honest viewers decide the median.
    for number in range(100):
        page.tell(beacon(session=f"honest-{number:016}", latency_ms=900), host=f"198.51.100.{number}")
    view = page.board.view("live", page.now)
    assert view is not None and view.latency_ms is not None and view.latency_ms.p50 == 900


def test_a_table_of_paces_is_bounded() -> None:
    pace = Pace(1.0, 2, 100)
    for key in range(10_000):
        assert pace.allows(key, 0.0)
    assert len(pace) == 100


def test_addresses_of_one_household_are_one() -> None:
    assert address_number("2001:db8::1") == address_number("2001:db8::ffff")
    assert address_number("2001:db8::1") != address_number("2001:db8:0:1::1")
    assert address_number("fe80::1%eth0") == address_number("fe80::2")
    assert address_number("192.0.2.1") != address_number("192.0.2.2")
    assert isinstance(address_number("not:an:address"), int)
