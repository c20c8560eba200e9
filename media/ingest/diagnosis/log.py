"""Which findings are news: each once when it appears, once when it is gone. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from media.ingest.diagnosis.verdict import SEVERITIES
from media.track.stream import Finding

QUIET_S = 60.0  # between two appearances of one code in the log
CODES_MAX = 128  # codes remembered; the diagnosis has about thirty


class Change(NamedTuple):
    """One line for the log."""

    finding: Finding
    appeared: bool  # False: it cleared


class _Told:
    __slots__ = ("at", "finding", "standing")

    def __init__(self, finding: Finding, now: float) -> None:
        self.finding = finding  # as told
        self.at = now  # when it appeared in the log
        self.standing = True  # and its clearing was not told of yet


class FindingsLog:
    """Turns what `Observer.findings` gives, time after time, into news.

    A finding that got worse appears again. One that returns within `quiet_s` of its last
    appearance is told of only if it still stands then. A clearing is told of only if the
    appearance was.
    """

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._told: dict[str, _Told] = {}

    def changes(self, findings: Sequence[Finding], now: float) -> list[Change]:
        """News since the call before: first what cleared, then what appeared, in the order given."""
        present = {finding.code for finding in findings}
        cleared = []
        for code, told in list(self._told.items()):
            if code in present:
                continue
            if told.standing:
                told.standing = False
                cleared.append(Change(told.finding, appeared=False))
            if now - told.at >= self._quiet_s:
                del self._told[code]
        return cleared + [
            Change(finding, appeared=True) for finding in findings if self._is_news(finding, now)
        ]

    def _is_news(self, finding: Finding, now: float) -> bool:
        told = self._told.get(finding.code)
        if told is None:
            if len(self._told) >= CODES_MAX:
                return False
        elif told.standing:
            worse = SEVERITIES.index(finding.severity) > SEVERITIES.index(told.finding.severity)
            if not worse:
                return False
        elif now - told.at < self._quiet_s:
            return False
        self._told[finding.code] = _Told(finding, now)
        return True
