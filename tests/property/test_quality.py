"""Garbage from players raises WireError and nothing else, and a board keeps its bounds."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.deliver.quality.beacon import parse_beacon_untrusted
from media.deliver.quality.board import SESSIONS_PER_ADDRESS, Board
from media.deliver.quality.cmcd import parse_cmcd_untrusted
from media.deliver.quality.model import (
    BUFFER_MAX_MS,
    COUNT_MAX,
    LATENCY_MAX_MS,
    STARTUP_MAX_MS,
    TOTAL_MAX_MS,
    Sighting,
)
from media.errors import WireError

KEYS = st.sampled_from(
    ["sid", "bl", "br", "bs", "mtp", "ot", "st", "su", "d", "dl", "pr", "tb", "sf", "v", "nor"]
)
VALUES = st.one_of(
    st.integers(0, 10**14).map(str),
    st.text("abvmlk0123456789.-", max_size=8),
    st.text(max_size=20).map(lambda text: json.dumps(text)),
    st.just(None),
)
LISTS = st.lists(st.tuples(KEYS, VALUES), max_size=20).map(
    lambda pairs: ",".join(key if value is None else f"{key}={value}" for key, value in pairs)
)
NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), st.none()
)


@settings(max_examples=60)
@given(st.one_of(st.text(max_size=300), LISTS, st.text('ab="\\,;=?01.', max_size=200)))
def test_any_cmcd(text: str) -> None:
    try:
        found = parse_cmcd_untrusted(text)
    except WireError:
        return
    assert len(found.sid) <= 64
    assert all(value is None or 0 <= value < 10**12 for value in (found.bl, found.br, found.mtp, found.tb))


@given(st.text("abcXYZ019-_ ,=", min_size=1, max_size=64), st.integers(0, 10**12 - 1), st.booleans())
def test_what_was_said_is_understood(sid: str, bl: int, bs: bool) -> None:
    found = parse_cmcd_untrusted(f'bl={bl},{"bs," if bs else ""}sid="{sid}",su')
    assert (found.sid, found.bl, found.bs, found.su) == (sid, bl, bs, True)


@given(st.one_of(st.binary(max_size=1100), st.text(max_size=300).map(str.encode)))
def test_any_bytes_as_a_beacon(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_beacon_untrusted(body, "192.0.2.1")


@given(
    st.dictionaries(
        st.sampled_from(
            ["startup_ms", "latency_ms", "watched_ms", "stalled_ms", "stalls", "frames", "dropped"]
        ),
        NUMBERS,
    )
)
def test_any_numbers_in_a_beacon(values: dict[str, float | None]) -> None:
    told = {"session": "0123456789abcdef", "transport": "hls"} | values
    try:
        seen = parse_beacon_untrusted(json.dumps(told).encode(), "192.0.2.1")
    except WireError:
        return
    assert 0 <= (seen.startup_ms or 0) <= STARTUP_MAX_MS
    assert 0 <= (seen.latency_ms or 0) <= LATENCY_MAX_MS
    assert 0 <= seen.stalled_ms <= seen.watched_ms <= TOTAL_MAX_MS
    assert 0 <= seen.stalls <= COUNT_MAX
    assert 0 <= seen.dropped <= seen.frames <= COUNT_MAX


SIGHTINGS = st.builds(
    Sighting,
    session=st.integers(0, 200),
    address=st.integers(0, 2),
    transport=st.sampled_from(["hls", "websocket", "other"]),
    rendition=st.sampled_from(["", "v1", "v2"]),
    startup_ms=st.none() | st.integers(0, STARTUP_MAX_MS),
    latency_ms=st.none() | st.integers(0, LATENCY_MAX_MS),
    watched_ms=st.integers(0, TOTAL_MAX_MS),
    stalled_ms=st.integers(0, TOTAL_MAX_MS),
    stalls=st.integers(0, COUNT_MAX),
    frames=st.integers(0, COUNT_MAX),
    dropped=st.integers(0, COUNT_MAX),
    ended=st.booleans(),
    requests=st.integers(0, 3),
    starved=st.integers(0, 3),
    buffer_ms=st.none() | st.integers(0, BUFFER_MAX_MS),
)


@settings(max_examples=50)
@given(st.lists(st.tuples(SIGHTINGS, st.floats(0, 400)), max_size=60))
def test_a_board_keeps_its_bounds_and_its_sums(told: list[tuple[Sighting, float]]) -> None:
    board, now = Board(lambda name: True), 0.0
    for sighting, passed in told:
        now += passed
        board.take("live", sighting, now)
        assert len(board) <= 3 * SESSIONS_PER_ADDRESS
        view = board.view("live", now)
        if view is None:
            continue
        assert 0 <= view.sessions <= view.heard == len(board)
        assert view.stall_ratio is None or 0 <= view.stall_ratio <= 1
        assert view.dropped_ratio is None or 0 <= view.dropped_ratio <= 1
        assert sum(part.sessions for part in view.by_transport.values()) == view.sessions
        assert view.latency_ms is None or view.latency_ms.p50 <= view.latency_ms.p95
    assert board.view("live", now + 1000) is None
    assert len(board) == 0
