"""The growing set: bounded, the same in any order."""

import itertools
from typing import Any

import pytest

from mesh.errors import Refused, WireError
from mesh.identity import revocation as module
from mesh.identity.key import SecretKey, verify
from mesh.identity.revocation import (
    Revocation,
    Revocations,
    Revoked,
    check_revocation,
    make_revocation,
    parse_revocation_untrusted,
)

OWNER = SecretKey(b"o" * 32)


def revoke(serial: int, key: bytes = b"k" * 32, keep: tuple[bytes, ...] = ()) -> Revocation:
    return make_revocation(OWNER, Revoked(key, 1_800_000_000, serial, keep))


def test_there_and_back() -> None:
    made = revoke(1, keep=(b"a" * 32, b"b" * 32))
    assert parse_revocation_untrusted(made.data) == made
    check_revocation(made, OWNER.node_id, verify)


def test_largest_parses() -> None:
    keep = tuple(number.to_bytes(32, "big") for number in range(1000))
    assert len(parse_revocation_untrusted(revoke(1, keep=keep).data).said.keep) == 1000
    with pytest.raises(WireError):
        parse_revocation_untrusted(revoke(1, keep=(*keep, b"\xff" * 32)).data)


@pytest.mark.parametrize("keep", [(b"b" * 32, b"a" * 32), (b"a" * 32, b"a" * 32)])
def test_kept_nodes_are_in_one_order(keep: tuple[bytes, ...]) -> None:
    with pytest.raises(WireError, match="ascending"):
        parse_revocation_untrusted(revoke(1, keep=keep).data)


def test_whose_it_is() -> None:
    stranger = SecretKey(b"x" * 32)
    foreign = make_revocation(stranger, Revoked(b"k" * 32, 1, 1))
    with pytest.raises(Refused, match="another network"):
        check_revocation(foreign, OWNER.node_id, verify)
    good = revoke(1)
    forged = Revocation(OWNER.node_id, good.said, good.body, bytes(64), good.data)
    with pytest.raises(Refused, match="owner did not sign"):
        check_revocation(forged, OWNER.node_id, verify)


def test_bounded_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REVOCATIONS_MAX", 2)
    made = [revoke(serial, bytes([serial]) * 32) for serial in (1, 2, 3)]
    for order in itertools.permutations(made):
        known = Revocations()
        for one in order:
            known.add(one)
        assert known.all() == made[:2]
        assert not known.is_revoked(made[2].said.key)
        with pytest.raises(Refused, match="new network"):
            known.next_serial(0)


def test_two_for_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REVOCATIONS_MAX", 2)
    known = Revocations()
    for serial in (3, 2, 1):
        known.add(revoke(serial))
    assert [one.said.serial for one in known.all()] == [1, 2]
    assert known.is_revoked(b"k" * 32)


def test_room_for_kept_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Revocations()
    known.add(revoke(7, keep=(b"a" * 32,)))
    assert known.next_serial(5) == 8
    monkeypatch.setattr(module, "KEEP_TOTAL_MAX", 5)
    with pytest.raises(Refused, match="new network"):
        known.next_serial(5)


def test_reasons(network: Any) -> None:
    known = Revocations()
    chain = network.longest()
    assert known.reason_against(chain) == ""
    known.add(revoke(1, chain.issuer(1)))  # the enrolment key of the first invite
    assert "admitted by" in known.reason_against(chain)
    assert known.reason_against(network.own) == ""
