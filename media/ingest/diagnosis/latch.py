"""Verdicts that come and go, as findings that stay long enough to be read. Pure."""

from media.ingest.diagnosis.verdict import SEVERITIES, Verdict
from media.track.stream import Finding, Severity

HOLD_S = 5.0  # a finding goes when its rule has said nothing for so long
REFRESH_S = 5.0  # numbers in a text change no more often: who compares findings sees few changes
STREAM = 0  # the track id of verdicts on the whole stream; tracks count from 1

Key = tuple[str, int]


class _Held:
    __slots__ = ("seen", "verdict", "written")

    def __init__(self, verdict: Verdict, now: float) -> None:
        self.verdict = verdict
        self.seen = self.written = now


class Latches:
    """Findings by code and track. Bounded: codes are the program's own, tracks the stream's."""

    def __init__(self, codes: tuple[str, ...]) -> None:
        self._codes = codes
        self._held: dict[Key, _Held] = {}

    def last(self, code: str, track_id: int) -> Severity | None:
        """What stands now; rules need it for their thresholds."""
        held = self._held.get((code, track_id))
        return held.verdict.severity if held else None

    def settle(self, code: str, track_id: int, verdict: Verdict | None, now: float) -> None:
        """What a rule says now."""
        key = code, track_id
        held = self._held.get(key)
        if verdict is None:
            if held is not None and now - held.seen >= HOLD_S:
                del self._held[key]
        elif held is None:
            self._held[key] = _Held(verdict, now)
        else:
            held.seen = now
            if verdict.severity is not held.verdict.severity or now - held.written >= REFRESH_S:
                held.verdict, held.written = verdict, now

    def forget(self, track_id: int) -> None:
        """Other rules are asked of this track from now on."""
        self._held = {key: held for key, held in self._held.items() if key[1] != track_id}

    def findings(self, names: dict[int, str]) -> list[Finding]:
        """At most one finding of a code, the worst first, then in the order of the codes.

        `names` has the tracks that need to be told apart.
        """
        by_code: dict[str, list[tuple[int, Verdict]]] = {}
        for (code, track_id), held in sorted(self._held.items(), key=lambda item: item[0][1]):
            by_code.setdefault(code, []).append((track_id, held.verdict))
        found = [_merge(code, by_code[code], names) for code in self._codes if code in by_code]
        return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _merge(code: str, verdicts: list[tuple[int, Verdict]], names: dict[int, str]) -> Finding:
    track_id, worst = max(verdicts, key=lambda item: SEVERITIES.index(item[1].severity))
    also = [names[other] for other, _ in verdicts if other != track_id and other in names]
    name = f"{names[track_id]}: " if track_id in names else ""
    more = f" (also {', '.join(also)})" if also else ""
    return Finding(code, worst.severity, f"{name}{worst.message}{more}", worst.fix)
