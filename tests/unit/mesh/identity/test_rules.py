"""Each rule of chains, by a chain that breaks only it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mesh.errors import Refused, WireError
from mesh.identity.claim import (
    Chain,
    Claim,
    Grant,
    make_chain,
    parse_chain_untrusted,
    sign_statement,
    to_bits,
    to_roles,
)
from mesh.identity.key import SecretKey
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.rules import check_shape
from mesh.model import Role

NOW = 1_800_000_000
DAY = 86_400
OWNER = SecretKey(b"o" * 32)
KEYS = [SecretKey(bytes([number]) * 32) for number in range(5)]
EDGE = to_bits({Role.EDGE})
BOTH = to_bits({Role.EDGE, Role.INVITER})


def grant(at: int, **changes: Any) -> Grant:
    base = Grant(KEYS[at].node_id, EDGE, NOW, NOW + DAY, NOW + 9 * DAY, 2)
    return msgspec.structs.replace(base, **changes)


def claim(at: int, **changes: Any) -> Claim:
    base = Claim(KEYS[at].node_id, EDGE, NOW, NOW + 9 * DAY, 1, f"node{at}")
    return msgspec.structs.replace(base, **changes)


def inviter(at: int, **changes: Any) -> Claim:
    return claim(at, **{"roles": BOTH, "invites": 5} | changes)


def chain(*statements: Grant | Claim) -> Chain:
    """Statements at places 0, 1, 2... each signed by the key of the place before."""
    signers = [OWNER, *KEYS]
    links = tuple(
        sign_statement(OWNER.node_id, statement, signers[at]) for at, statement in enumerate(statements)
    )
    return make_chain(OWNER.node_id, links)


GOOD: list[tuple[Grant | Claim, ...]] = [
    (claim(0),),
    (grant(0),),
    (grant(0), claim(1)),
    (inviter(0), claim(1)),
    (inviter(0), grant(1)),
    (inviter(0), grant(1), claim(2)),
    (grant(0, roles=BOTH, invites=5), inviter(1), claim(2)),
    (grant(0, roles=BOTH, invites=5), inviter(1), grant(2), claim(3)),
    (grant(0, roles=BOTH, invites=5), claim(1)),
    (inviter(0, roles=BOTH | 0x100), claim(1, roles=EDGE | 0x100)),
]


@pytest.mark.parametrize("statements", GOOD)
def test_good_chains(statements: tuple[Grant | Claim, ...]) -> None:
    made = chain(*statements)
    check_shape(made)
    assert parse_chain_untrusted(made.data) == made


BAD: list[tuple[str, tuple[Grant | Claim, ...]]] = [
    ("not further invites", (grant(0), grant(1))),
    ("not further invites", (inviter(0), grant(1), grant(2))),
    ("without the inviter role", (claim(0), claim(1))),
    ("without the inviter role", (claim(0), grant(1))),
    ("through two", (inviter(0), claim(1), claim(2))),
    ("role cannot be given here: inviter", (inviter(0), inviter(1, invites=0))),
    ("role cannot be given here: inviter", (inviter(0), grant(1, roles=BOTH))),
    ("role cannot be given here: origin", (grant(0), claim(1, roles=to_bits({Role.ORIGIN})))),
    ("role cannot be given here: relay", (inviter(0), claim(1, roles=to_bits({Role.RELAY})))),
    ("role cannot be given here: relay", (inviter(0), grant(1, roles=to_bits({Role.RELAY})))),
    ("roles of a newer version", (grant(0), claim(1, roles=0x100))),
    ("admits itself", (inviter(0), claim(0))),
    ("ends before", (claim(0, not_after=NOW - 1),)),
    ("outlast", (grant(0, members_until=NOW + DAY - 1),)),
    ("without giving the inviter role", (grant(0, invites=1),)),
    ("without the inviter role", (claim(0, invites=1),)),
    ("brings at most", (grant(0, roles=BOTH, uses=1000, invites=10),)),
    ("for joining until", (grant(0), claim(1, not_before=NOW - 1))),
    ("for joining until", (grant(0), claim(1, not_before=NOW + DAY + 1))),
    ("not longer", (grant(0), claim(1, not_after=NOW + 9 * DAY + 1))),
    ("other invites", (grant(0, roles=BOTH, invites=5), inviter(1, invites=6))),
    ("other invites", (grant(0), claim(1, invites=1))),
    ("for longer", (inviter(0), claim(1, not_after=NOW + 9 * DAY + 1))),
    ("for longer", (inviter(0), claim(1, not_before=NOW - 1))),
    ("for longer", (inviter(0), grant(1, members_until=NOW + 10 * DAY))),
    ("may admit 5 nodes, not 6", (inviter(0), grant(1, uses=6))),
    ("may admit nobody", (inviter(0, invites=0), claim(1))),
    ("only the owner gives", (inviter(0), claim(1, invites=1))),
    (
        "at most 4",
        (grant(0, roles=BOTH, invites=5), inviter(1), grant(2), claim(3), claim(4)),
    ),
]


@pytest.mark.parametrize(("said", "statements"), BAD)
def test_bad_chains(said: str, statements: tuple[Grant | Claim, ...]) -> None:
    with pytest.raises(Refused, match=said):
        check_shape(chain(*statements))


@pytest.mark.parametrize(
    "made",
    [
        lambda: chain(claim(0, name="")),
        lambda: chain(claim(0, name="x" * 64)),
        lambda: chain(claim(0, name="two\nlines")),
        lambda: chain(claim(0, name=" x")),
        lambda: chain(claim(0, name="\u202egnp")),
        lambda: chain(claim(0, holder=b"short")),
        lambda: chain(claim(0, not_after=1 << 41)),
        lambda: chain(grant(0, uses=0)),
        lambda: chain(grant(0, uses=1001)),
        lambda: chain(claim(0, roles=1 << 16)),
        lambda: chain(*[inviter(0)] * 5),
        lambda: make_chain(OWNER.node_id, ()),
        lambda: make_chain(OWNER.node_id[:31], chain(claim(0)).links),
    ],
)
def test_out_of_bounds_does_not_parse(made: Callable[[], Chain]) -> None:
    with pytest.raises(WireError):
        parse_chain_untrusted(made().data)


def test_one_encoding_only() -> None:
    data = chain(claim(0)).data
    network, links = msgspec.msgpack.decode(data)
    longer = b"\xdc\x00\x02" + data[1:]  # the same array with a longer header
    assert msgspec.msgpack.decode(longer) == [network, links]
    for other in (longer, data + b"\0", msgspec.msgpack.encode([network, links, 1])):
        with pytest.raises(WireError):
            parse_chain_untrusted(other)


def test_longest_statements_fit() -> None:
    name = "\U0001d56a" * 63
    made = chain(
        grant(0, roles=BOTH, invites=900, uses=11),
        inviter(1, name=name, invites=900, serial=(1 << 63) - 1),
        grant(2),
        claim(3, name=name, serial=(1 << 63) - 1),
    )
    assert parse_chain_untrusted(made.data).claim.name == name


def test_a_grant_stands_for_no_node() -> None:
    with pytest.raises(WireError):
        _ = chain(grant(0)).node_id


def test_roles() -> None:
    everything = frozenset(Role)
    assert to_roles(to_bits(everything)) == everything
    assert to_roles(0x8000) == frozenset()
    assert [to_bits({role}) for role in Role] == [1, 2, 4, 8, 16]


def test_tolerance_covers_ten_minutes() -> None:
    assert CLOCK_TOLERANCE_S > 600
