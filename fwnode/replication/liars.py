"""Members that altered media: those that gave it to this node, and those whom others convict. Pure.

Whoever lied to this node is never its parent again, until restart. What convicts it before everybody
(media.replicate.vouching) is told in the directory; what others tell there is believed when the proof holds,
and who tells of one that does not is not listened to any more.
"""

from collections.abc import Iterator
from typing import Protocol

from media.replicate.signing import Failure, Fault, Verify
from media.replicate.vouching import Statement, convicts
from mesh.directory.facts import REPORTS_MAX, Report, Reports, parse_fact_untrusted
from mesh.directory.record import Kind, Record
from mesh.errors import WireError
from mesh.model import NodeId

LIARS_MAX = 1024  # remembered, the first: they never end, and a network with more has another trouble
CHECKS_PER_LOOK = 16  # proofs, two signatures each: 4 ms a second at most
REPORTERS_MAX = 16 * 1024  # as many as the directory has members
GUILT = (
    Fault.SIGNATURE,
    Fault.PACKETS,
)  # who passes a part on has checked these; a broken chain its origin made


class Directory(Protocol):
    """What is asked of mesh.directory.table.Directory."""

    def members(self) -> list[NodeId]: ...

    def record(self, owner: NodeId, kind: Kind | int) -> Record | None: ...


class Liars:
    """What one node knows of them."""

    def __init__(self, node: NodeId, verify: Verify) -> None:
        self.believed = self.false = 0  # reports of others
        self._node = node
        self._verify = verify
        self._reasons: dict[NodeId, str] = {}
        self._own: list[Report] = []  # the newest
        self._read: dict[NodeId, Record] = {}  # records of reports that were looked at to their end
        self._discredited: set[NodeId] = set()

    def reason(self, node: NodeId) -> str:
        """Why a node must never be a parent, "" when it may."""
        return self._reasons.get(node, "")

    def known(self) -> list[NodeId]:
        """All of them."""
        return list(self._reasons)

    def reports(self) -> Reports:
        """What to tell in the directory."""
        return Reports(list(self._own))

    def caught(self, parent: NodeId, origin: NodeId, failure: Failure) -> bool:
        """A parent gave this node a part that is not its origin's. Whether there is news to tell of it."""
        if failure.fault not in GUILT:
            return False
        self._add(parent, "it gave this node altered media")
        if len(failure.vouch) == 0 or any(report.liar == parent for report in self._own):
            return False
        report = Report(parent, origin, failure.message, failure.signature, failure.found, failure.vouch)
        if not self._convicts(report):
            return False
        self._own = [*self._own, report][-REPORTS_MAX:]
        return True

    def look(self, directory: Directory) -> list[NodeId]:
        """Read what others report; returns the liars that are new."""
        members = directory.members()
        for gone in self._read.keys() - set(members):
            del self._read[gone]
        found: list[NodeId] = []
        left = CHECKS_PER_LOOK
        for node in members:
            record = directory.record(node, Kind.REPORTS)
            if record is None or node == self._node or record is self._read.get(node):
                continue
            for report in self._unchecked(node, record):
                if not left:
                    return found  # from here on at the next look
                left -= 1
                if not self._convicts(report):
                    self.false += 1
                    if len(self._discredited) < REPORTERS_MAX:
                        self._discredited.add(node)
                    break
                self.believed += 1
                self._add(report.liar, "another node proved that it altered media")
                found.append(report.liar)
            self._read[node] = record
        return found

    def _unchecked(self, reporter: NodeId, record: Record) -> Iterator[Report]:
        """Those of its reports that say anything new."""
        if reporter in self._discredited or len(self._read) >= REPORTERS_MAX:
            return
        try:
            reports = parse_fact_untrusted(Reports, record.payload).reports
        except WireError:
            return
        for report in reports:
            if report.liar not in self._reasons and report.liar != self._node:
                yield report

    def _convicts(self, report: Report) -> bool:
        statement = Statement(report.origin, report.message, report.signature, report.found, report.vouch)
        return convicts(statement, report.liar, self._verify)

    def _add(self, node: NodeId, reason: str) -> None:
        if len(self._reasons) < LIARS_MAX:
            self._reasons.setdefault(node, reason)
