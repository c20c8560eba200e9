"""What the double does wrong on purpose, to which requests and how often."""

from dataclasses import dataclass, field
from typing import Any

BEFORE = {
    "drop": "the connection closes before an answer",
    "reset": "the connection is reset before an answer",
    "hang": "no answer at all, the connection stays",
    "stall": "the body is not read: the sender's send blocks",
    "slow": "the answer comes after `delay_s`",
    "status": "`status` with `text`",
    "forbidden": "403, as a webhook that denies",
    "overloaded": "503, no orchestrator",
    "full": "500 of `-maxSessions`, when a session would be new",
    "transcode": "422, the orchestrators could not do it",
    "restart": "all sessions and connections are lost, this request's too",
}
AFTER = {
    "empty": "200 without renditions",
    "html": "200 with another content type",
    "garbage": "parts that hold no media",
    "missing": "the last part is left out",
    "doubled": "the last part comes twice",
    "renamed": "the last part has a name that was not asked for",
    "other-segment": "renditions with the timestamps of another segment",
    "wrong-size": "half of the size that was asked for",
    "source": "the source itself as every rendition",
    "oversized": "parts with padding far beyond their bitrate",
    "cut": "the connection closes in the middle of the last part",
    "no-end": "the closing boundary is missing",
    "wrong-length": "the last part's Content-Length is too large",
    "trickle": "the answer's body comes in pieces over `delay_s`",
}
KINDS = BEFORE | AFTER
_FIELDS = {"fault", "manifest", "sequence", "first", "times", "delay_s", "status", "text", "skip"}


class FaultError(Exception):
    """A fault that cannot be planned."""


@dataclass(slots=True)
class Fault:
    """One kind of fault and the requests that it strikes. `times` 0 is without end."""

    fault: str
    manifest: str = ""  # a beginning of the manifest ID
    sequence: int | None = None
    first: bool | None = None  # a session's first segment, or only the others
    times: int = 0
    skip: int = 0  # so many that it would strike are spared at first
    delay_s: float = 0.0
    status: int = 500
    text: str = "fault"
    struck: int = field(default=0)

    def strikes(self, manifest: str, sequence: int, first: bool) -> bool:
        """Whether this request is struck; it is counted."""
        if not manifest.startswith(self.manifest):
            return False
        if self.sequence not in (None, sequence) or self.first not in (None, first):
            return False
        self.struck += 1
        return self.struck > self.skip and (not self.times or self.struck <= self.skip + self.times)


@dataclass(slots=True)
class FaultPlan:
    """Faults in the order in which they are tried; the first that strikes is the one."""

    faults: list[Fault] = field(default_factory=list)

    def choose(self, manifest: str, sequence: int, first: bool) -> Fault | None:
        return next((fault for fault in self.faults if fault.strikes(manifest, sequence, first)), None)

    def replace(self, given: Any) -> None:
        """Take a list of objects as parsed from JSON. Raises FaultError."""
        if not isinstance(given, list):
            raise FaultError("a list of faults is expected")
        self.faults = [fault_of(one) for one in given]


def fault_of(given: Any) -> Fault:
    """An object like {"fault": "slow", "delay_s": 2}. Raises FaultError."""
    if not isinstance(given, dict) or not given.keys() <= _FIELDS:
        raise FaultError(f"a fault is an object of {sorted(_FIELDS)}")
    if given.get("fault") not in KINDS:
        raise FaultError(f"no such fault: {given.get('fault')!r}; there are {sorted(KINDS)}")
    return Fault(**given)


def parse(text: str) -> Fault:
    """A fault from the command line: `slow,delay_s=2,first=true`. Raises FaultError."""
    name, *settings = text.split(",")
    given: dict[str, Any] = {"fault": name}
    for setting in settings:
        key, _, value = setting.partition("=")
        given[key] = {"true": True, "false": False}.get(value, _number(value))
    return fault_of(given)


def _number(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
