"""Findings become news: once when they appear, once when they clear, not too often."""

from media.ingest.diagnosis.log import CODES_MAX, QUIET_S, Change, FindingsLog
from media.track.stream import Finding, Severity


def finding(code: str = "stall", severity: Severity = Severity.WARNING, text: str = "text") -> Finding:
    return Finding(code, severity, text, "fix")


def test_once_when_it_appears_and_once_when_it_clears():
    log = FindingsLog()
    assert log.changes([finding()], 0.0) == [Change(finding(), appeared=True)]
    assert log.changes([finding(text="other numbers")], 1.0) == []
    assert log.changes([], 2.0) == [Change(finding(), appeared=False)]
    assert log.changes([], 3.0) == []


def test_what_comes_back_soon_is_told_of_only_if_it_stays():
    log = FindingsLog()
    log.changes([finding()], 0.0)
    log.changes([], 1.0)
    assert log.changes([finding()], 2.0) == []
    assert log.changes([], 3.0) == [], "its return was not told of"
    assert log.changes([finding()], 4.0) == []
    assert log.changes([finding()], QUIET_S) == [Change(finding(), appeared=True)]


def test_worse_is_news_once():
    log = FindingsLog()
    log.changes([finding()], 0.0)
    worse = finding(severity=Severity.ERROR)
    assert log.changes([worse], 1.0) == [Change(worse, appeared=True)]
    assert log.changes([finding()], 2.0) == []
    assert log.changes([worse], 3.0) == []
    assert log.changes([], 4.0) == [Change(worse, appeared=False)]


def test_cleared_comes_before_appeared():
    log = FindingsLog()
    log.changes([finding("a"), finding("b")], 0.0)
    changes = log.changes([finding("c"), finding("b")], 1.0)
    assert [(change.finding.code, change.appeared) for change in changes] == [("a", False), ("c", True)]


def test_memory_is_bounded():
    log = FindingsLog()
    told = log.changes([finding(f"code-{index}") for index in range(CODES_MAX + 5)], 0.0)
    assert len(told) == CODES_MAX
    log.changes([], QUIET_S)
    assert len(log.changes([finding("other")], QUIET_S)) == 1
