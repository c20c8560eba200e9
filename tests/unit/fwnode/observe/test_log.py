"""Logs: two forms, no secrets, no floods."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fwnode.observe import log
from fwnode.observe.log import REPEATS_FREE, REPEATS_S, Repeats, configure, redact_text

KEY = "sk_abcdefghijklmnopqrstuvwxyz234567"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_do_not_come_out(form: str) -> None:
    out = io.StringIO()
    configure("info", "json" if form == "json" else "text", lambda: 0.0, out)
    logger = structlog.get_logger()
    logger.info(f"who is {KEY}", key="k1", password="p1", url=f"rtmp://h/live/x?key=k2&token=k3&x=ok {KEY}")
    try:
        raise ValueError(f"bad {KEY}")
    except ValueError:
        logger.error("boom", exc_info=True)
    logging.getLogger("library").warning("saw %s", KEY)
    text = out.getvalue()
    assert KEY not in text
    assert not any(secret in text for secret in ("k1", "p1", "k2", "k3"))
    assert "x=ok" in text and "ValueError: bad ***" in text and "library" in text


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    configure("info", "auto", lambda: 0.0, out)
    structlog.get_logger().info("stream live", stream="x", count=3)
    structlog.get_logger().debug("not shown")
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["stream"], line["count"]) == ("stream live", "info", "x", 3)
    assert line["timestamp"].endswith("Z")


def test_redacting_keeps_the_rest() -> None:
    assert redact_text("GET /live/x?key=abc&_HLS_msn=3") == "GET /live/x?key=***&_HLS_msn=3"
    assert redact_text("monkey=1 sky sk_") == "monkey=1 sky sk_"


def test_repeats_are_dropped_and_counted() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    passed = 0
    for _ in range(REPEATS_FREE + 3):
        try:
            repeats(None, "warning", {"event": "again"})
            passed += 1
        except structlog.DropEvent:
            pass
    assert passed == REPEATS_FREE
    now = REPEATS_S
    assert repeats(None, "warning", {"event": "again"}) == {"event": "again", "suppressed": 3}
    assert repeats(None, "warning", {"event": "other"}) == {"event": "other"}


def test_repeats_are_bounded_and_leave_information_alone() -> None:
    repeats = Repeats(lambda: 0.0)
    for number in range(log.REPEATS_TRACKED * 2):
        repeats(None, "error", {"event": str(number)})
    assert len(repeats._seen) == log.REPEATS_TRACKED
    for _ in range(REPEATS_FREE * 2):
        repeats(None, "info", {"event": "request"})
