"""Which records win, who is buried, what is forgotten."""

from mesh.directory.record import Kind, Record, sign_record
from mesh.directory.table import (
    GOODBYE_S,
    GRAVE_S,
    MEMBER_S,
    PACE_BURST_S,
    PACE_S,
    Directory,
    Offered,
)


class Signer:
    def __init__(self, number: int) -> None:
        self.node_id = bytes([number]) * 32

    def sign(self, message: bytes) -> bytes:
        import hashlib

        return hashlib.blake2b(self.node_id + message).digest()


def record(owner: int, generation: int = 1, version: int = 1, kind: int = Kind.WHO) -> Record:
    return sign_record(Signer(owner), b"n" * 32, generation, kind, version, b"")


def directory() -> Directory:
    return Directory(lambda record: record.owner != bytes([66]) * 32)


def test_newer_wins_in_any_order() -> None:
    table = directory()
    assert table.offer(record(1), 0.0) is Offered.FIRST
    assert table.offer(record(1, version=3), 0.0) is Offered.NEW
    assert table.offer(record(1, version=2), 0.0) is Offered.OLD
    assert table.offer(record(1, version=3), 0.0) is Offered.OLD
    assert len(table) == table.population == 1


def test_new_generation_drops_the_old_one_whole() -> None:
    table = directory()
    table.offer(record(1, kind=Kind.LOAD, version=9), 0.0)
    assert table.offer(record(1, generation=2), 0.0) is Offered.FIRST
    assert table.record(bytes([1]) * 32, Kind.LOAD) is None
    assert table.offer(record(1, kind=Kind.LOAD, version=10), 0.0) is Offered.OLD
    assert table.generation(bytes([1]) * 32) == 2


def test_forged_is_not_kept() -> None:
    table = directory()
    assert table.offer(record(66), 0.0) is Offered.FORGED
    assert len(table) == table.population == 0


def test_the_dead_stay_dead_until_a_higher_generation() -> None:
    table = directory()
    table.offer(record(1), 0.0)
    node = bytes([1]) * 32
    assert not table.bury(node, 0, 0.0, (), left=False)
    assert table.bury(node, 1, 0.0, (b"proof",), left=False)
    assert not table.bury(node, 1, 0.0, (b"proof",), left=False)
    assert table.dead() == [node] and node not in table and len(table) == 0
    assert table.offer(record(1, version=5), 0.0) is Offered.BURIED
    assert table.offer(record(1, generation=2), 0.0) is Offered.FIRST
    assert table.grave(node) is None


def test_goodbye_voids_and_is_spread_for_a_while() -> None:
    table = directory()
    table.offer(record(1), 0.0)
    goodbye = record(1, kind=Kind.GOODBYE)
    assert table.offer(goodbye, 0.0) is Offered.NEW
    assert list(table) == [goodbye] and table.population == 0 and table.dead() == []
    assert table.offer(record(1, version=7), 1.0) is Offered.BURIED
    table.collect(GOODBYE_S)
    assert len(table) == 0
    assert table.offer(goodbye, GOODBYE_S) is Offered.BURIED
    table.collect(GRAVE_S)
    assert table.grave(bytes([1]) * 32) is None


def test_silent_member_is_forgotten() -> None:
    table = directory()
    table.offer(record(1), 0.0)
    table.offer(record(2), MEMBER_S)
    assert table.collect(MEMBER_S + 1) == [bytes([1]) * 32]
    assert table.members() == [bytes([2]) * 32]


def test_owner_has_an_allowance() -> None:
    table = directory()
    taken = [table.offer(record(1, version=v), 0.0) for v in range(1, 100)].count(Offered.NEW)
    assert PACE_BURST_S / PACE_S - 2 <= taken <= PACE_BURST_S / PACE_S + 1
    assert table.offer(record(1, version=200), 0.0) is Offered.FLOOD
    assert table.offer(record(1, version=200), 5.0) is Offered.NEW


def test_forbidden_is_never_taken() -> None:
    table = directory()
    table.offer(record(1), 0.0)
    table.forbid(bytes([1]) * 32)
    assert len(table) == 0 and table.is_forbidden(bytes([1]) * 32)
    assert table.offer(record(1, generation=9), 0.0) is Offered.FORBIDDEN


def test_fingerprints_follow_the_content() -> None:
    table = directory()
    empty = table.range_fingerprint(0, 0)
    for owner in range(1, 40):
        table.offer(record(owner), 0.0)
    identities = table.range_ids(0, 0)
    for bits, prefix in ((4, identities[0] >> 60), (8, identities[0] >> 56)):
        within = [i for i in identities if i >> (64 - bits) == prefix]
        fingerprint = 0
        for identity in within:
            fingerprint ^= identity
        assert table.range_fingerprint(bits, prefix) == (fingerprint, len(within))
        assert sorted(table.range_ids(bits, prefix)) == sorted(within)
    assert table.has(identities[0]) and table.by_id(identities[0]) is not None
    for owner in range(1, 40):
        table.bury(bytes([owner]) * 32, 1, 0.0, (), left=False)
    assert table.range_fingerprint(0, 0) == empty


def test_a_copy_goes_its_own_way() -> None:
    first, second = directory(), directory()
    first.offer(record(1), 0.0)
    second.hold_as(first)
    assert second.range_fingerprint(0, 0) == first.range_fingerprint(0, 0)
    second.offer(record(1, version=2), 0.0)
    second.offer(record(2), 0.0)
    assert (len(first), first.population) == (1, 1)
    assert first.record(bytes([1]) * 32, Kind.WHO) == record(1)
    assert second.has(record(2).id) and not first.has(record(2).id)
