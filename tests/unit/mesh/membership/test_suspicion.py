"""Vouches, accusations, quorum, grace, forgetting."""

import pytest

from mesh.errors import WireError
from mesh.membership.suspicion import (
    CASE_S,
    CASES_MAX,
    FINAL_GRACE_S,
    QUORUM_GRACE_S,
    Suspicions,
    parse_accusation_untrusted,
    parse_vouch_untrusted,
    sign_accusation,
    sign_vouch,
)

NETWORK = b"n" * 32


class Signer:
    def __init__(self, number: int) -> None:
        self.node_id = number.to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        return (self.node_id + message[:20] + message[-40:]).ljust(128, b"\0")[-64:]


def verify(node_id: bytes, message: bytes, signature: bytes) -> bool:
    return Signer(int.from_bytes(node_id, "big")).sign(message) == signature


def vouch(subject: int, neighbours: list[int], generation: int = 1, sequence: int = 1):
    named = [Signer(number).node_id for number in neighbours]
    return sign_vouch(Signer(subject), NETWORK, generation, sequence, named)


def accuse(accuser: int, vouched, final: bool = False):
    return sign_accusation(Signer(accuser), NETWORK, vouched, final)


def dead(suspicions: Suspicions, now: float) -> list[bytes]:
    return [held.subject for held, _ in suspicions.verdicts(now)]


@pytest.mark.parametrize(("neighbours", "quorum"), [(1, 2), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_quorum_is_a_majority_of_at_least_two(neighbours: int, quorum: int) -> None:
    assert vouch(9, list(range(neighbours))).quorum == quorum


def test_quorum_after_grace_is_death() -> None:
    suspicions = Suspicions()
    vouched = vouch(9, [1, 2, 3, 4, 5])
    for number, accuser in enumerate((1, 2, 3)):
        assert suspicions.add(accuse(accuser, vouched), float(number))
    assert suspicions.deadline() == 2.0 + QUORUM_GRACE_S
    assert dead(suspicions, 2.0) == []
    verdicts = suspicions.verdicts(2.0 + QUORUM_GRACE_S)
    assert [(held.subject, len(proof)) for held, proof in verdicts] == [(vouched.subject, 3)]
    assert len(suspicions) == 0


def test_same_accuser_counts_once_and_is_no_news() -> None:
    suspicions = Suspicions()
    vouched = vouch(9, [1, 2, 3])
    assert suspicions.add(accuse(1, vouched), 0.0)
    assert not suspicions.add(accuse(1, vouched), 0.0)
    assert dead(suspicions, 10.0) == []


def test_lone_final_accusation_waits_longer() -> None:
    suspicions = Suspicions()
    vouched = vouch(9, [1, 2, 3, 4])
    suspicions.add(accuse(1, vouched), 0.0)
    assert suspicions.add(accuse(1, vouched, final=True), 6.0)
    assert dead(suspicions, 6.0 + FINAL_GRACE_S - 0.1) == []
    assert dead(suspicions, 6.0 + FINAL_GRACE_S) == [vouched.subject]


def test_newest_vouch_says_who_counts() -> None:
    suspicions = Suspicions()
    old, new = vouch(9, [1, 2, 3], sequence=1), vouch(9, [3, 4, 5], sequence=2)
    suspicions.add(accuse(3, new), 0.0)
    suspicions.add(accuse(1, old), 0.0)
    assert dead(suspicions, 5.0) == []
    suspicions.add(accuse(4, new), 5.0)
    assert dead(suspicions, 5.0 + QUORUM_GRACE_S) == [new.subject]


def test_higher_generation_voids_the_case() -> None:
    suspicions = Suspicions()
    suspicions.add(accuse(1, vouch(9, [1, 2])), 0.0)
    suspicions.add(accuse(2, vouch(9, [1, 2], generation=2)), 0.0)
    assert not suspicions.add(accuse(1, vouch(9, [1, 2])), 0.0)
    assert dead(suspicions, 5.0) == []


def test_accusation_without_a_quorum_is_forgotten() -> None:
    suspicions = Suspicions()
    accusation = accuse(1, vouch(9, [1, 2]))
    suspicions.add(accusation, 0.0)
    assert suspicions.holds(accusation.id) == accusation
    assert suspicions.verdicts(CASE_S) == []
    assert suspicions.holds(accusation.id) is None and suspicions.deadline() is None


def test_answer_clears_the_case() -> None:
    suspicions = Suspicions()
    vouched = vouch(9, [1])
    suspicions.add(accuse(1, vouched, final=True), 0.0)
    suspicions.clear(vouched.subject)
    assert dead(suspicions, 10.0) == []


def test_cases_are_bounded() -> None:
    suspicions = Suspicions()
    added = [suspicions.add(accuse(1, vouch(10 + i, [1])), 0.0) for i in range(CASES_MAX + 5)]
    assert sum(added) == len(suspicions) == CASES_MAX


def test_parsing_checks_both_signatures_and_the_neighbourhood() -> None:
    vouched = vouch(9, [1, 2])
    good = accuse(1, vouched)
    assert parse_accusation_untrusted(good.blob, NETWORK, verify) == good
    assert parse_vouch_untrusted(vouched.blob, NETWORK, verify) == vouched
    for bad in (accuse(7, vouched).blob, good.blob[:-1] + b"\xff", b"", good.blob[:70]):
        with pytest.raises(WireError):
            parse_accusation_untrusted(bad, NETWORK, verify)
    with pytest.raises(WireError):
        parse_vouch_untrusted(vouched.blob, b"other".ljust(32), lambda *_: False)
