"""One use too many loses, everywhere the same one."""

import itertools
from typing import Any

import msgspec
import pytest

from mesh.errors import Refused, Unavailable
from mesh.identity import uses as uses_module
from mesh.identity.claim import Chain, make_chain, sign_statement
from mesh.identity.invite import Invite, Terms
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.uses import Uses, limit_of
from mesh.model import Role


def counted(chains: "list[Chain] | tuple[Chain, ...]") -> Uses:
    uses = Uses()
    for chain in chains:
        uses.take(chain)
    return uses


def names(uses: Uses) -> list[str]:
    return [chain.claim.name for chain in uses.chains()]


def test_the_first_win_in_any_order(network: Any) -> None:
    invite = network.invite(Terms(uses=2))
    chains = [network.join(invite, name, network.now + at) for at, name in enumerate("abcd")]
    for order in itertools.permutations(chains):
        uses = counted(order)
        assert names(uses) == ["a", "b"]
        assert uses.taken(limit_of(invite.chain)) == 2
        assert uses.reason_against(chains[0]) == ""
        assert "used up: it was for 2 nodes" in uses.reason_against(chains[3])


def test_at_the_same_second_the_digest_decides(network: Any) -> None:
    invite = network.invite()
    chains = [network.join(invite, name) for name in "abc"]
    lowest = min(chains, key=lambda chain: chain.digest())
    for order in itertools.permutations(chains):
        assert names(counted(order)) == [lowest.claim.name]


def test_joining_again_is_the_same_use(network: Any) -> None:
    invite = network.invite()
    first, again = network.join(invite, "a"), network.join(invite, "a", network.now + 9)
    for order in ((first, again), (again, first)):
        uses = counted(order)
        assert len(uses) == 1
        assert uses.chains() == [first]
        assert uses.reason_against(again) == ""


def test_an_inviter_has_one_budget_for_all_its_invites(network: Any) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    leaves = []
    for at in range(4):
        invite = network.invite_by("inviter", inviter, invite=f"invite {at}")
        leaves.append(network.join(invite, f"leaf{at}", network.now + at))
    for order in itertools.permutations(leaves):
        uses = counted(order)
        assert names(uses) == ["inviter", "leaf0", "leaf1"]
        assert uses.taken(limit_of(inviter)) == 2
        assert [node for node in uses.nodes_under(limit_of(inviter))] == [leaf.node_id for leaf in leaves[:2]]


def test_who_came_by_a_loser_loses(network: Any) -> None:
    invite = network.invite(network.inviter_terms)
    late, early = network.join(invite, "late", network.now + 9), network.join(invite, "early")
    leaf = network.join(network.invite_by("late", late), "leaf", network.now + 10)
    for order in itertools.permutations([late, early, leaf]):
        uses = counted(order)
        assert names(uses) == ["early"]
        assert "used up" in uses.reason_against(leaf)


def test_an_inviters_replaced_claim_admits_nobody(network: Any) -> None:
    invite = network.invite(network.inviter_terms)
    old, new = network.join(invite, "inviter"), network.join(invite, "inviter", network.now + 9)
    leaf = network.join(network.invite_by("inviter", new), "leaf", network.now + 10)
    for order in itertools.permutations([old, new, leaf]):
        uses = counted(order)
        assert names(uses) == ["inviter"]
        assert "an earlier one replaced" in uses.reason_against(leaf)


def test_one_enrolment_key_in_two_grants_is_counted_apart(network: Any) -> None:
    first = network.invite()
    link = sign_statement(first.network, msgspec.structs.replace(first.grant, uses=2), network.owner)
    second = Invite(make_chain(first.network, (link,)), first.key, ())
    chains = [network.join(first, "a"), network.join(second, "b"), network.join(second, "c")]
    assert len(counted(chains)) == 3


def test_owners_own_claims_take_no_seat(network: Any) -> None:
    assert len(counted([network.own])) == 0
    assert counted([]).reason_against(network.own) == ""


def test_unknown_is_not_counted(network: Any) -> None:
    assert "never counted" in Uses().reason_against(network.join(network.invite(), "a"))


def test_version_tells_changes(network: Any) -> None:
    uses = Uses()
    chain = network.join(network.invite(), "a")
    uses.take(chain)
    version = uses.version
    uses.take(chain)
    assert uses.version == version > 0


def test_ended_grants_are_forgotten_with_all_below(network: Any) -> None:
    leaf = network.longest()
    other = network.join(network.invite(Terms(membership_s=86_400 * 3)), "short")
    uses = counted([leaf, other])
    uses.forget_ended(other.claim.not_after + CLOCK_TOLERANCE_S)
    assert len(uses) == 3
    uses.forget_ended(other.claim.not_after + CLOCK_TOLERANCE_S + 1)
    assert len(uses) == 2
    uses.forget_ended(leaf.claim.not_after + CLOCK_TOLERANCE_S + 1)
    assert len(uses) == 0
    assert uses.taken(limit_of(leaf.before(3))) == 0


def test_bounded(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses_module, "SEATS_MAX", 2)
    invite = network.invite(Terms(uses=3))
    uses = counted([network.join(invite, name) for name in "ab"])
    with pytest.raises(Unavailable, match="2 members"):
        uses.take(network.join(invite, "c"))
    assert len(uses) == 2


def test_checked_by_membership(network: Any) -> None:
    invite = network.invite()
    membership = network.membership()
    first, second = network.join(invite, "a"), network.join(invite, "b", network.now + 1)
    assert membership.check(first, network.now).name == "a"
    with pytest.raises(Refused, match="used up: it was for 1 node, "):
        membership.check(second, network.now + 1)


def test_an_earlier_one_that_shows_up_late_wins(network: Any) -> None:
    invite = network.invite(Terms(roles=frozenset({Role.EDGE})))
    membership = network.membership()
    first, second = network.join(invite, "a"), network.join(invite, "b", network.now + 1)
    membership.check(second, network.now + 1)
    version = membership.version
    membership.check(first, network.now + 2)
    assert membership.version > version
    with pytest.raises(Refused, match="used up"):
        membership.check(second, network.now + 2)
