"""What a node's claim lets it do, whatever the node says of itself."""

from typing import Any

import pytest

from mesh.model import Role
from mesh.node.roll import Roll

YEARS_S = 10 * 365 * 86400.0


@pytest.fixture
def community(lab: Any) -> Any:
    return lab.community


@pytest.fixture
def roll(community: Any) -> Roll:
    membership = community.membership("first")
    return Roll(membership.node_id, membership, community.now)


def test_roles_are_those_of_the_claim(community: Any, roll: Roll) -> None:
    edge = community.membership("edge", frozenset({Role.EDGE}))
    origin = community.membership("origin", frozenset({Role.EDGE, Role.ORIGIN}))
    for _ in range(2):  # checked, then known
        assert roll.roles_of(edge.node_id, edge.own.data) == {Role.EDGE}
        assert roll.roles_of(origin.node_id, origin.own.data) == {Role.EDGE, Role.ORIGIN}
    assert roll.roles_of(edge.node_id, origin.own.data) == frozenset()  # somebody else's claim
    assert roll.roles_of(edge.node_id, b"") == frozenset()


def test_a_claim_ends(community: Any, roll: Roll) -> None:
    edge = community.membership("edge", frozenset({Role.EDGE}))
    assert roll.roles_of(edge.node_id, edge.own.data)
    roll.unix_s += YEARS_S
    assert roll.roles_of(edge.node_id, edge.own.data) == frozenset()


def test_the_revoked_have_no_roles(community: Any) -> None:
    membership = community.membership("first")
    roll = Roll(membership.node_id, membership, community.now)
    edge = community.membership("edge", frozenset({Role.EDGE}))
    assert roll.roles_of(edge.node_id, edge.own.data)
    membership.revoke(community.owner, edge.node_id, community.now)
    assert roll.roles_of(edge.node_id, edge.own.data) == frozenset()
