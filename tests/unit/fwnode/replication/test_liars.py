"""Reports of altered media: what is believed, and what whoever tells untruths gains."""

from types import SimpleNamespace
from typing import Any

import pytest

from fwnode.replication.liars import CHECKS_PER_LOOK, LIARS_MAX, Liars
from media.replicate.signing import Failure, Fault
from media.replicate.vouching import vouched_message
from mesh.directory.facts import REPORTS_MAX, Report, Reports, payload
from mesh.directory.record import Kind
from mesh.identity.key import SecretKey, verify

ORIGIN, LIAR, HONEST, REPORTER = (SecretKey(bytes([number]) * 32) for number in range(1, 5))
ME = SecretKey(b"m" * 32).node_id
FOUND = b"f" * 32
NOT_SIGNED = b"s" * 64


def report(liar: SecretKey, vouched_by: SecretKey | None = None) -> Report:
    """Its liar passed on what the origin did not sign; or somebody else signed that it had."""
    said = vouched_message(ORIGIN.node_id, b"message", NOT_SIGNED, FOUND)
    vouch = (vouched_by or liar).sign(said)
    return Report(liar.node_id, ORIGIN.node_id, b"message", NOT_SIGNED, FOUND, vouch)


class Table:
    """A directory of reports."""

    def __init__(self) -> None:
        self.records: dict[bytes, Any] = {}
        self.asked = 0

    def tell(self, reporter: SecretKey, *reports: Report) -> None:
        self.records[reporter.node_id] = SimpleNamespace(payload=payload(Reports(list(reports))))

    def members(self) -> list[bytes]:
        return list(self.records)

    def record(self, owner: bytes, kind: int) -> Any:
        assert kind == Kind.REPORTS
        return self.records.get(owner)


@pytest.fixture
def table() -> Table:
    return Table()


class Checks:
    """Counts what is verified."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, key: bytes, message: bytes, signature: bytes) -> bool:
        self.made += 1
        return verify(key, message, signature)


def test_a_proof_is_believed_and_checked_once(table: Table) -> None:
    checks = Checks()
    liars = Liars(ME, checks)
    table.tell(REPORTER, report(LIAR))
    assert liars.look(table) == [LIAR.node_id]
    assert "proved" in liars.reason(LIAR.node_id) and not liars.reason(HONEST.node_id)
    made = checks.made
    table.tell(HONEST, report(LIAR))
    assert liars.look(table) == liars.look(table) == []
    assert checks.made == made
    assert liars.reports() == Reports([])  # what others found out is theirs to tell


def test_nobody_is_framed_and_who_tries_is_not_heard_again(table: Table) -> None:
    liars = Liars(ME, verify)
    table.tell(REPORTER, report(HONEST, vouched_by=REPORTER))
    assert liars.look(table) == []
    assert liars.false == 1 and not liars.reason(HONEST.node_id)
    table.tell(REPORTER, report(LIAR))
    assert liars.look(table) == []
    table.tell(HONEST, report(LIAR))
    assert liars.look(table) == [LIAR.node_id]


def test_of_this_node_itself_nothing_is_believed(table: Table) -> None:
    me = SecretKey(b"m" * 32)
    liars = Liars(me.node_id, verify)
    table.tell(REPORTER, report(me))
    assert liars.look(table) == [] and liars.known() == []


def test_checks_are_paced(table: Table) -> None:
    checks = Checks()
    liars = Liars(ME, checks)
    reporters = [SecretKey(bytes([100 + number]) * 32) for number in range(4)]
    for number, reporter in enumerate(reporters):
        table.tell(
            reporter, *(report(SecretKey(bytes([number, index]) * 16)) for index in range(REPORTS_MAX))
        )
    found = liars.look(table)
    assert len(found) == CHECKS_PER_LOOK and checks.made == 2 * CHECKS_PER_LOOK
    while new := liars.look(table):
        found += new
    assert len(found) == len(set(found)) == 4 * REPORTS_MAX


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\x91\x91", b"\x91\xc0"])
def test_records_that_are_none(table: Table, data: bytes) -> None:
    liars = Liars(ME, verify)
    table.records[REPORTER.node_id] = SimpleNamespace(payload=data)
    assert liars.look(table) == [] and liars.false == 0


def failure(fault: Fault = Fault.SIGNATURE, vouch: bytes = b"") -> Failure:
    return Failure(fault, 1, 2, b"message", NOT_SIGNED, bytes(32), FOUND, vouch)


def test_who_lied_to_this_node_is_known_to_it_with_or_without_a_proof() -> None:
    liars = Liars(ME, verify)
    assert not liars.caught(LIAR.node_id, ORIGIN.node_id, failure())
    assert liars.reason(LIAR.node_id) and liars.reports() == Reports([])
    assert not liars.caught(HONEST.node_id, ORIGIN.node_id, failure(vouch=report(LIAR).vouch))
    assert liars.reports() == Reports([])  # its word does not fit: nobody else can be shown that
    proof = failure(vouch=report(LIAR).vouch)
    assert liars.caught(LIAR.node_id, ORIGIN.node_id, proof)
    assert not liars.caught(LIAR.node_id, ORIGIN.node_id, proof)
    assert liars.reports() == Reports([report(LIAR)])


def test_a_broken_chain_is_nobodys_lie_but_the_origins() -> None:
    liars = Liars(ME, verify)
    assert not liars.caught(LIAR.node_id, ORIGIN.node_id, failure(Fault.CHAIN, report(LIAR).vouch))
    assert not liars.known()


def test_what_is_kept_is_bounded() -> None:
    liars = Liars(ME, lambda key, message, signature: key != ORIGIN.node_id)
    for number in range(LIARS_MAX + 10):
        liars.caught(number.to_bytes(32, "big"), ORIGIN.node_id, failure(vouch=bytes(64)))
    assert len(liars.known()) == LIARS_MAX
    assert len(liars.reports().reports) == REPORTS_MAX
