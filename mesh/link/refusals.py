"""Who was refused and why, for people to look at. Pure, bounded."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from mesh.link.text import one_line
from mesh.model import NodeId

ROWS_MAX = 128  # a page for people; more strangers than that push out the ones seen longest ago
REASON_LENGTH_MAX = 200

_Key: TypeAlias = tuple[str, str, str, bool]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody with whom no link was made. The fields are those that are shown."""

    address: str  # "host" for who came, "host:port" for who was dialled
    node: str  # public key, 64 hexadecimal digits, "" when it was not shown
    reason: str
    by_us: bool
    count: int
    last_unix_s: int


class Refusals:
    """The last ROWS_MAX different refusals."""

    def __init__(self) -> None:
        self.total = 0
        self._rows: dict[_Key, Refusal] = {}  # the one seen longest ago first

    def note(self, address: str, node: NodeId | None, reason: str, by_us: bool, unix_s: float) -> None:
        """Count one more."""
        self.total += 1
        reason = one_line(reason, REASON_LENGTH_MAX)
        shown = node.hex() if node else ""
        key = (address, shown, reason, by_us)
        known = self._rows.pop(key, None)
        if known is None and len(self._rows) >= ROWS_MAX:
            del self._rows[next(iter(self._rows))]
        fresh = known or Refusal(address, shown, reason, by_us, 0, 0)
        self._rows[key] = replace(fresh, count=fresh.count + 1, last_unix_s=int(unix_s))

    def rows(self) -> list[Refusal]:
        """The newest first."""
        return list(reversed(self._rows.values()))
