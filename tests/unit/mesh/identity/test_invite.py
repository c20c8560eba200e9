"""Making invites, reading them, joining with them."""

from typing import Any

import pytest

from mesh.errors import Refused, StateError, WireError
from mesh.identity.claim import Chain, make_chain, sign_statement
from mesh.identity.invite import (
    SEEDS_MAX,
    Invite,
    Terms,
    enrol,
    is_address,
    make_invite,
    parse_invite_untrusted,
)
from mesh.identity.line import write_line
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.wire import encode
from mesh.model import Role

DAY = 86_400


def test_there_and_back(network: Any) -> None:
    invite = network.invite(Terms(uses=3))
    line = invite.line()
    assert line.startswith("fwinvite1")
    assert line.isalnum()
    assert parse_invite_untrusted(line.upper()) == invite
    assert len(line) < 420


def test_longest_invite_fits_a_line(network: Any) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    host = ".".join(["x" * 62] * 4)
    seeds = tuple(f"{host}:{port}" for port in range(60001, 60001 + SEEDS_MAX))
    invite = make_invite(
        network.key("inviter"),
        inviter,
        Terms(roles=frozenset({Role.EDGE})),
        enrolment_seed=bytes(32),
        seeds=seeds,
        now_unix_s=network.now,
    )
    assert parse_invite_untrusted(invite.line()) == invite


def test_printing_shows_no_secret(network: Any) -> None:
    invite = network.invite()
    assert repr(invite.key.seed)[2:-1] not in repr(invite)
    assert invite.key.seed.hex() not in repr(invite)


def forged(network: Any, change: str) -> str:
    """A line with a good checksum and something wrong inside."""
    good: Invite = network.invite()
    parts: dict[str, Any] = {"chain": good.chain.data, "secret": good.key.seed, "seeds": good.seeds}
    parts |= {
        "claim": {"chain": network.own.data},
        "secret": {"secret": bytes(32)},
        "seed": {"seeds": ("no port",)},
        "seeds": {"seeds": ("x:1",) * (SEEDS_MAX + 1)},
        "bytes": {"chain": b"\xc1"},
    }[change]
    return write_line("fwinvite", 1, encode(tuple(parts.values())))


@pytest.mark.parametrize("change", ["claim", "secret", "seed", "seeds", "bytes"])
def test_wrong_inside(network: Any, change: str) -> None:
    with pytest.raises(WireError):
        parse_invite_untrusted(forged(network, change))


def test_not_even_an_invite() -> None:
    with pytest.raises(WireError, match="not an invite: an invite begins with fwinvite1"):
        parse_invite_untrusted("https://example.org/")


def test_enrol(network: Any) -> None:
    invite = network.invite(Terms(roles=frozenset({Role.EDGE, Role.RELAY})))
    enrolled = enrol(invite, network.key("new").node_id, "new", network.now + 60)
    claim = enrolled.chain.claim
    assert enrolled.clock == ""
    assert claim.holder == network.key("new").node_id
    assert (claim.not_before, claim.not_after) == (network.now + 60, network.now + 366 * DAY)
    assert network.membership().check(enrolled.chain, network.now + 60).roles == {Role.EDGE, Role.RELAY}


def test_fewer_roles(network: Any) -> None:
    made = enrol(network.invite(), bytes(32), "new", network.now, roles=frozenset({Role.EDGE})).chain
    assert network.membership().check(made, network.now).roles == {Role.EDGE}
    with pytest.raises(Refused, match="role cannot be given here: inviter"):
        enrol(network.invite(), bytes(32), "new", network.now, roles=frozenset({Role.INVITER}))


def test_an_inviter_that_does_not_want_to_be_one(network: Any) -> None:
    invite = network.invite(network.inviter_terms)
    made = enrol(invite, bytes(32), "new", network.now, roles=frozenset({Role.EDGE})).chain
    assert made.claim.invites == 0


@pytest.mark.parametrize("name", ["", "x" * 64, "a\nb", " a"])
def test_bad_names(network: Any, name: str) -> None:
    with pytest.raises(Refused, match="cannot be called"):
        enrol(network.invite(), bytes(32), name, network.now)


@pytest.mark.parametrize("off_s", [-600, -CLOCK_TOLERANCE_S, DAY + 600, DAY + CLOCK_TOLERANCE_S])
def test_a_wrong_clock_works_and_is_said(network: Any, off_s: int) -> None:
    enrolled = enrol(network.invite(), network.key("new").node_id, "new", network.now + off_s)
    assert enrolled.clock
    assert network.membership().check(enrolled.chain, network.now + DAY).name == "new"


@pytest.mark.parametrize(
    ("off_s", "said"),
    [
        (-CLOCK_TOLERANCE_S - 1, "set the clock"),
        (DAY + CLOCK_TOLERANCE_S + 1, "expired .* ask for a new one"),
    ],
)
def test_too_wrong_a_clock(network: Any, off_s: int, said: str) -> None:
    with pytest.raises(Refused, match=said):
        enrol(network.invite(), bytes(32), "new", network.now + off_s)


def test_a_forged_invite_is_refused_before_joining(network: Any) -> None:
    good = network.invite()
    link = sign_statement(network.owner.node_id, good.grant, network.key("mallory"))
    with pytest.raises(Refused, match="forged"):
        enrol(Invite(make_chain(good.network, (link,)), good.key, ()), bytes(32), "new", network.now)


def test_by_an_inviter(network: Any) -> None:
    assert network.membership().check(network.longest(), network.now).name == "leaf"


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (Terms(roles=frozenset({Role.RELAY})), "role cannot be given here: relay"),
        (Terms(roles=frozenset({Role.EDGE, Role.INVITER}), invites=1), "role cannot be given here: inviter"),
        (Terms(roles=frozenset({Role.EDGE}), uses=3), "may admit 2 nodes, not 3"),
        (Terms(roles=frozenset({Role.EDGE}), membership_s=400 * DAY), "cannot admit for longer"),
        (Terms(roles=frozenset({Role.EDGE}), uses=0), "1 to 1000"),
        (Terms(roles=frozenset({Role.EDGE}), invites=1001), "1 to 1000"),
        (Terms(roles=frozenset({Role.EDGE}), expires_in_s=59), "one minute"),
        (Terms(roles=frozenset({Role.EDGE}), expires_in_s=367 * DAY), "366 days"),
        (Terms(roles=frozenset({Role.EDGE}), membership_s=3600), "at least as long"),
        (Terms(roles=frozenset({Role.EDGE}), membership_s=8000 * DAY), "20 years"),
    ],
)
def test_no_more_than_the_inviter_has(network: Any, terms: Terms, said: str) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    with pytest.raises(Refused, match=said):
        network.invite_by("inviter", inviter, terms)


def test_an_inviters_invite_ends_with_it(network: Any) -> None:
    inviter = network.join(network.invite(network.inviter_terms), "inviter")
    assert network.invite_by("inviter", inviter).grant.members_until == inviter.claim.not_after


def test_an_inviter_whose_clock_is_behind_its_claim(network: Any) -> None:
    inviter: Chain = network.join(network.invite(network.inviter_terms), "inviter", network.now + 500)
    assert network.invite_by("inviter", inviter).grant.not_before == network.now + 500


def test_signed_by_another(network: Any) -> None:
    with pytest.raises(StateError):
        make_invite(
            network.node, network.owner.node_id, Terms(), enrolment_seed=bytes(32), seeds=(), now_unix_s=1
        )


@pytest.mark.parametrize("seeds", [("nowhere",), ("x:1",) * 9])
def test_seeds_that_cannot_be(network: Any, seeds: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="seeds"):
        make_invite(
            network.owner,
            network.owner.node_id,
            Terms(),
            enrolment_seed=bytes(32),
            seeds=seeds,
            now_unix_s=network.now,
        )


@pytest.mark.parametrize(
    "text", ["a:1", "node.example.org:65535", "192.0.2.1:80", "[2001:db8::1]:4100", "a_b:1", "example.org.:1"]
)
def test_addresses(text: str) -> None:
    assert is_address(text)


NOT_ADDRESSES = [
    *("", ":", "a", "a:", ":1", "a:0", "a:65536", "a:000001", "a:²", "a b:1", "a\n:1", "-a:1", "a..b:1"),
    *("192.0.2.256:1", "1.2.3:1", "[::1:1", "::1:1", "[fe80::1%x]:1", "[a]:1"),
    *("x" * 64 + ":1", "a." * 140 + "b:1"),
]


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_not_addresses(text: str) -> None:
    assert not is_address(text)
