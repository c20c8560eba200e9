"""Whom a node accepts, revocation, renewal, and what is kept."""

from typing import Any

import pytest

from mesh.errors import Refused, StateError, WireError
from mesh.identity.claim import Chain, Link, make_chain, parse_chain_untrusted, sign_statement
from mesh.identity.invite import Terms, parse_invite_untrusted
from mesh.identity.key import SecretKey, verify
from mesh.identity.membership import Membership, found_network
from mesh.identity.moment import CLOCK_TOLERANCE_S, moment
from mesh.identity.wire import encode
from mesh.model import Role, Verify

DAY = 86_400
YEAR = 366 * DAY


def refusal(membership: Membership, chain: Chain, now: float) -> str:
    with pytest.raises(Refused) as raised:
        membership.check(chain, now)
    return str(raised.value)


def counting(asked: list[bytes]) -> Verify:
    """Real verification that notes whose signature was asked about."""

    def check(node_id: bytes, message: bytes, signature: bytes) -> bool:
        asked.append(node_id)
        return verify(node_id, message, signature)

    return check


def test_first_node(network: Any) -> None:
    found = network.membership().check(network.own, network.now)
    assert (found.node_id, found.name, found.roles) == (network.node.node_id, "first", frozenset(Role))
    assert (found.clock, found.not_after_unix_s) == ("", network.now + YEAR)


def test_bad_name_of_first_node(network: Any) -> None:
    with pytest.raises(Refused, match="cannot be called"):
        found_network(network.owner, bytes(32), "", 1)


def test_ends_in_a_grant(network: Any) -> None:
    with pytest.raises(WireError):
        network.membership().check(network.invite().chain, network.now)


def test_another_network(network: Any) -> None:
    other = SecretKey(b"x" * 32)
    chain = found_network(other, network.node.node_id, "first", network.now)
    assert "of another network" in refusal(network.membership(), chain, network.now)
    # The same statements under this network's name: signatures name the network too.
    moved = make_chain(network.owner.node_id, chain.links)
    assert "forged" in refusal(network.membership(), moved, network.now)


@pytest.mark.parametrize("at", range(4))
def test_a_wrong_signature_anywhere(network: Any, at: int) -> None:
    links = list(network.longest().links)
    links[at] = Link(links[at].statement, links[at].body, bytes(64))
    chain = make_chain(network.owner.node_id, tuple(links))
    assert "forged" in refusal(network.membership(), chain, network.now)


def test_a_signature_of_another_kind(network: Any) -> None:
    claim = network.own.claim
    signature = network.owner.sign(b"fwnode grant 1\0" + network.owner.node_id + encode(claim))
    chain = make_chain(network.owner.node_id, (Link(claim, encode(claim), signature),))
    assert "forged" in refusal(network.membership(), chain, network.now)


def test_what_a_stranger_invents_costs_one_signature(network: Any) -> None:
    asked: list[bytes] = []
    membership = Membership(network.own, counting(asked))
    stranger = SecretKey(b"x" * 32)
    own = network.longest()
    links = tuple(sign_statement(own.network, link.statement, stranger) for link in own.links)
    asked.clear()
    refusal(membership, make_chain(own.network, links), network.now)
    assert len(asked) == 1


def test_good_signatures_are_asked_once(network: Any) -> None:
    asked: list[bytes] = []
    membership = Membership(network.own, counting(asked))
    chain = network.longest()
    for _ in range(3):
        membership.check(parse_chain_untrusted(chain.data), network.now)
    assert len(asked) == 1 + 4


@pytest.mark.parametrize("off_s", [600, CLOCK_TOLERANCE_S])
def test_wrong_clocks_work_and_are_said(network: Any, off_s: int) -> None:
    membership = network.membership()
    assert f"begins {off_s} s from now" in membership.check(network.own, network.now - off_s).clock
    assert "tolerance" in membership.check(network.own, network.now + YEAR + off_s).clock


def test_too_wrong_clocks(network: Any) -> None:
    membership = network.membership()
    early, late = network.now - CLOCK_TOLERANCE_S - 1, network.now + YEAR + CLOCK_TOLERANCE_S + 1
    assert "set the clock" in refusal(membership, network.own, early)
    assert f"ended {moment(network.now + YEAR)}" in refusal(membership, network.own, late)


def test_moments() -> None:
    assert moment(1_800_000_000) == "2027-01-15 08:00 UTC"
    assert moment(1 << 40) == "9999-12-31 23:59 UTC"
    assert moment(-1) == "1970-01-01 00:00 UTC"


def test_revoked_node(network: Any) -> None:
    membership, other = network.membership(), network.membership()
    chain = network.join(network.invite(), "a")
    membership.check(chain, network.now)
    version = other.version
    revocation = membership.revoke(network.owner, chain.node_id, network.now)
    assert other.learn_revocation(revocation)
    assert not other.learn_revocation(revocation)
    assert other.version == version + 1
    assert other.revocations.is_revoked(chain.node_id)
    for one in (membership, other):
        assert "was revoked by" in refusal(one, chain, network.now)


def test_revoked_inviter_takes_its_guests_along_but_those_that_are_kept(network: Any) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    invite = network.invite_by("inviter", inviter, Terms(roles=frozenset({Role.EDGE}), uses=2))
    kept, gone = network.join(invite, "kept"), network.join(invite, "gone")
    membership = network.membership()
    membership.check(kept, network.now)
    membership.revoke(network.owner, inviter.node_id, network.now, frozenset({kept.node_id, inviter.node_id}))
    assert "was revoked by" in refusal(membership, inviter, network.now)
    assert "admitted by" in refusal(membership, gone, network.now)
    assert membership.check(kept, network.now).name == "kept"
    membership.revoke(network.owner, inviter.node_id, network.now)
    assert "admitted by" in refusal(membership, kept, network.now)


def test_settled_invite(network: Any) -> None:
    invite = network.invite(Terms(uses=5))
    known, unknown = network.join(invite, "known"), network.join(invite, "unknown")
    membership = network.membership()
    membership.check(known, network.now)
    assert membership.brought_by(invite.chain) == [known.node_id]
    membership.settle(network.owner, invite.chain, network.now + 2 * DAY)
    assert membership.check(known, network.now).name == "known"
    assert "an invite" in refusal(membership, unknown, network.now)


def test_revocations_are_the_owners(network: Any) -> None:
    membership = network.membership()
    with pytest.raises(StateError):
        membership.revoke(network.node, bytes(32), network.now)
    with pytest.raises(Refused, match="cannot be revoked"):
        membership.revoke(network.owner, network.owner.node_id, network.now)
    with pytest.raises(Refused, match="at most 1000"):
        keep = frozenset(number.to_bytes(32, "big") for number in range(1001))
        membership.revoke(network.owner, bytes(32), network.now, keep)


def test_invites_of_an_inviter(network: Any) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    membership = network.membership(inviter)
    terms = Terms(roles=frozenset({Role.EDGE}))
    key = network.key("inviter")

    def invite(uses: int, signer: SecretKey = key) -> Chain:
        more = Terms(roles=terms.roles, uses=uses)
        made = membership.make_invite(
            signer, more, enrolment_seed=network.key(str(uses)).seed, seeds=(), now_unix_s=network.now
        )
        chain: Chain = network.join(parse_invite_untrusted(made.line()), f"guest{uses}")
        return chain

    assert membership.invites_left() == 2
    membership.check(invite(2), network.now)
    assert membership.invites_left() == 1
    with pytest.raises(Refused, match="may admit 1 more nodes, not 2"):
        invite(2)
    assert len(invite(3, network.owner).links) == 2
    with pytest.raises(StateError):
        invite(1, network.key("somebody"))


def test_a_member_without_the_role_invites_nobody(network: Any) -> None:
    membership = network.membership(network.join(network.invite(), "plain"))
    with pytest.raises(Refused, match="needs the inviter role"):
        membership.make_invite(
            network.key("plain"), Terms(), enrolment_seed=bytes(32), seeds=(), now_unix_s=network.now
        )


def test_renewed_by_the_owner(network: Any) -> None:
    chain = network.join(network.invite(network.inviter_terms), "inviter")
    mine = network.membership(chain)
    due = network.now + YEAR * 2 // 3
    assert not mine.renewal_due(due - 1)
    assert mine.renewal_due(due)
    renewed = network.membership().renew(network.owner, chain, due)
    assert len(renewed.links) == 1
    assert (renewed.claim.not_after, renewed.claim.invites) == (due + YEAR, 2)
    version = mine.version
    mine.adopt(renewed, due)
    assert mine.own == renewed
    assert mine.version > version
    assert not mine.renewal_due(due)
    with pytest.raises(Refused, match="no newer"):
        mine.adopt(chain, due)
    with pytest.raises(Refused, match="another node"):
        mine.adopt(network.own, due)


def test_renewed_by_an_inviter(network: Any) -> None:
    short = network.join(network.invite(Terms(roles=frozenset({Role.EDGE}), membership_s=9 * DAY)), "short")
    inviter = network.join(network.invite(network.inviter_terms, "inviters"), "inviter")
    membership = network.membership(inviter)
    renewed = membership.renew(network.key("inviter"), short, network.now + 8 * DAY)
    assert renewed.claim.not_after == inviter.claim.not_after
    assert network.membership().check(renewed, network.now + 8 * DAY).serial > short.claim.serial
    assert membership.invites_left() == 1
    with pytest.raises(Refused, match="cannot renew beyond"):
        membership.renew(network.key("inviter"), renewed, network.now + 8 * DAY)
    with pytest.raises(StateError):
        membership.renew(network.key("short"), short, network.now)


def test_an_inviter_without_invites_renews_nobody(network: Any) -> None:
    short = network.join(network.invite(Terms(roles=frozenset({Role.EDGE}), membership_s=9 * DAY)), "short")
    terms = Terms(roles=frozenset({Role.EDGE, Role.INVITER}))
    membership = network.membership(network.join(network.invite(terms, "inviters"), "inviter"))
    with pytest.raises(Refused, match="no more nodes"):
        membership.renew(network.key("inviter"), short, network.now)


def test_state_there_and_back(network: Any) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    membership = network.membership(inviter)
    membership.check(network.longest(), network.now)
    membership.revoke(network.owner, b"r" * 32, network.now)
    again = Membership.restore(membership.state())
    assert again.state() == membership.state()
    assert again.own == inviter
    assert again.invites_left() == membership.invites_left()
    assert again.revocations.is_revoked(b"r" * 32)
    assert network.key("inviter").seed not in membership.state()


def test_states_that_do_not_fit(network: Any) -> None:
    other = SecretKey(b"x" * 32)
    foreign = Membership(found_network(other, bytes(32), "x", network.now))
    revocation = foreign.revoke(other, bytes(32), network.now).data
    own = network.own.data
    for state in ((1, own, (revocation,), ()), (1, own, (), (foreign.own.data,))):
        with pytest.raises(Refused):
            Membership.restore(encode(state))
    for wrong in (b"", b"\xc1", encode((2, own, (), ())), encode((1, own, (b"x",), ()))):
        with pytest.raises(WireError):
            Membership.restore(wrong)


def test_uses_learnt_from_others(network: Any) -> None:
    membership = network.membership()
    chain = network.join(network.invite(), "a")
    assert membership.learn_use(chain, network.now)
    assert not membership.learn_use(chain, network.now)
    membership.forget_ended(network.now + 2 * YEAR)
    assert len(membership.uses) == 0
    assert not membership.learn_use(chain, network.now + 2 * YEAR)
    assert membership.learn_use(chain, network.now + YEAR)
    assert not membership.learn_use(network.own, network.now)
    links = (chain.links[0], Link(chain.links[1].statement, chain.links[1].body, bytes(64)))
    with pytest.raises(Refused, match="forged"):
        membership.learn_use(make_chain(chain.network, links), network.now)
