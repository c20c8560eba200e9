"""What was made so far, by encoder and rendition, and what of it is not in the database yet. Pure."""

from collections.abc import Iterable

from fwnode.transcoding.usage import BYTES, MEDIA, SENT, Line, rendition_name
from media.transcode.session import Session
from media.transcode.toll import Toll

LINES_MAX = 512  # 16 encoders of 14 sizes; what is beyond goes under OTHER
OTHER = "other"


class Ledger:
    """Sums that outlive the sessions they come from."""

    def __init__(self) -> None:
        self.totals: dict[Line, int] = {}
        self.cpu_s = 0.0
        self._read: dict[Toll, tuple[dict[Line, int], float]] = {}  # what was counted of each
        self._unwritten: dict[Line, int] = {}
        self._sent = 0

    def read(self, sessions: Iterable[Session]) -> None:
        """Count what came of them since, and of those that are gone; to be called every second or so."""
        seen: dict[Toll, tuple[dict[Line, int], float]] = {}
        present = {session.toll for session in sessions}
        for toll in present | self._read.keys():
            before, before_cpu_s = self._read.get(toll, ({}, 0.0))
            lines = _lines(toll)
            for line, amount in lines.items():
                self._add(line, amount - before.get(line, 0))
            self.cpu_s += toll.cpu_s - before_cpu_s
            if toll in present:
                seen[toll] = (lines, toll.cpu_s)
        self._read = seen

    def sent(self, total_bytes: int) -> None:
        """All that left since the node began."""
        self._add((SENT, "", ""), max(0, total_bytes - self._sent))
        self._sent = max(self._sent, total_bytes)

    def take(self) -> dict[Line, int]:
        """What is to be added to the database."""
        taken, self._unwritten = self._unwritten, {}
        return taken

    def give_back(self, taken: dict[Line, int]) -> None:
        """It could not be written: the next time, then."""
        for line, amount in taken.items():
            self._unwritten[line] = self._unwritten.get(line, 0) + amount

    def _add(self, line: Line, amount: int) -> None:
        if amount <= 0:
            return
        if line not in self.totals and len(self.totals) >= LINES_MAX:
            line = (line[0], OTHER, OTHER)
        self.totals[line] = self.totals.get(line, 0) + amount
        self._unwritten[line] = self._unwritten.get(line, 0) + amount


def _lines(toll: Toll) -> dict[Line, int]:
    made = {(MEDIA, engine, rendition_name(side)): us for (engine, side), us in toll.made_us.items()}
    size = {(BYTES, engine, rendition_name(side)): count for (engine, side), count in toll.made_bytes.items()}
    return made | size
