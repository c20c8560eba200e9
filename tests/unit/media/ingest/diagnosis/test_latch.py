"""Verdicts become findings that stay, keep their text for a while, and have one place in the list."""

from media.ingest.diagnosis.latch import HOLD_S, REFRESH_S, Latches
from media.ingest.diagnosis.verdict import Step, Verdict, graded
from media.track.stream import Severity

CODES = ("a", "b", "c")


def verdict(text: str = "text", severity: Severity = Severity.WARNING) -> Verdict:
    return Verdict(severity, text, "fix")


def codes(latches: Latches) -> list[str]:
    return [finding.code for finding in latches.findings({})]


def test_a_finding_stays_until_its_rule_is_silent_for_a_while():
    latches = Latches(CODES)
    latches.settle("a", 1, verdict(), 0.0)
    latches.settle("a", 1, None, HOLD_S - 0.1)
    assert codes(latches) == ["a"]
    latches.settle("a", 1, None, HOLD_S)
    assert codes(latches) == [] and latches.last("a", 1) is None


def test_numbers_in_a_text_change_rarely():
    latches = Latches(CODES)
    latches.settle("a", 1, verdict("5.0 s"), 0.0)
    latches.settle("a", 1, verdict("5.1 s"), 1.0)
    assert latches.findings({})[0].message == "5.0 s"
    latches.settle("a", 1, verdict("5.2 s"), REFRESH_S)
    assert latches.findings({})[0].message == "5.2 s"


def test_a_severity_changes_at_once():
    latches = Latches(CODES)
    latches.settle("a", 1, verdict(), 0.0)
    latches.settle("a", 1, verdict("worse", Severity.ERROR), 1.0)
    assert latches.findings({})[0].message == "worse"


def test_order_is_by_severity_then_by_code_however_they_came():
    latches = Latches(CODES)
    latches.settle("c", 1, verdict(severity=Severity.INFO), 0.0)
    latches.settle("b", 1, verdict(), 0.0)
    latches.settle("a", 1, verdict(), 0.0)
    assert codes(latches) == ["a", "b", "c"]
    latches.settle("c", 1, verdict(severity=Severity.ERROR), 1.0)
    assert codes(latches) == ["c", "a", "b"]


def test_one_finding_for_many_tracks():
    latches = Latches(CODES)
    names = {1: "v1", 2: "v2", 3: "v3"}
    latches.settle("a", 3, verdict("mild"), 0.0)
    latches.settle("a", 2, verdict("bad", Severity.ERROR), 0.0)
    (finding,) = latches.findings(names)
    assert finding.severity is Severity.ERROR and finding.message == "v2: bad (also v3)"


STEPS = (Step(Severity.ERROR, 10, 8), Step(Severity.WARNING, 5, 4))


def test_grades_have_two_thresholds():
    assert graded(4.5, STEPS, None) is None
    assert graded(5, STEPS, None) is Severity.WARNING
    assert graded(4.5, STEPS, Severity.WARNING) is Severity.WARNING
    assert graded(3.9, STEPS, Severity.WARNING) is None
    assert graded(9, STEPS, Severity.WARNING) is Severity.WARNING
    assert graded(10, STEPS, Severity.WARNING) is Severity.ERROR
    assert graded(9, STEPS, Severity.ERROR) is Severity.ERROR
    assert graded(7, STEPS, Severity.ERROR) is Severity.WARNING
    assert graded(4.5, STEPS, Severity.ERROR) is Severity.WARNING
