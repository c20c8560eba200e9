"""A small network: its owner, invites and members, with keys that are the same in every run."""

import hashlib

import pytest

from mesh.identity.claim import Chain
from mesh.identity.invite import Invite, Terms, enrol, make_invite
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.model import Role

NOW = 1_800_000_000
INVITER_TERMS = Terms(roles=frozenset({Role.EDGE, Role.INVITER}), invites=2)


class Network:
    """One network and how to grow it."""

    now = NOW
    inviter_terms = INVITER_TERMS

    def __init__(self) -> None:
        self.owner = self.key("owner")
        self.node = self.key("first node")
        self.own = found_network(self.owner, self.node.node_id, "first", NOW)

    @staticmethod
    def key(name: str) -> SecretKey:
        return SecretKey(hashlib.sha256(name.encode()).digest())

    def membership(self, own: Chain | None = None) -> Membership:
        return Membership(own or self.own)

    def invite(self, terms: Terms | None = None, name: str = "invite", now: int = NOW) -> Invite:
        return make_invite(
            self.owner,
            self.owner.node_id,
            terms or Terms(),
            enrolment_seed=self.key(name).seed,
            seeds=("203.0.113.7:4100",),
            now_unix_s=now,
        )

    def invite_by(
        self, name: str, chain: Chain, terms: Terms | None = None, invite: str = "second invite"
    ) -> Invite:
        return make_invite(
            self.key(name),
            chain,
            terms or Terms(roles=frozenset({Role.EDGE})),
            enrolment_seed=self.key(invite).seed,
            seeds=(),
            now_unix_s=NOW,
        )

    def join(self, invite: Invite, name: str, now: int = NOW) -> Chain:
        return enrol(invite, self.key(name).node_id, name, now).chain

    def longest(self) -> Chain:
        """A member whom an invited inviter invited: four statements."""
        inviter = self.join(self.invite(INVITER_TERMS, "inviters"), "inviter")
        return self.join(self.invite_by("inviter", inviter), "leaf", NOW + 5)


@pytest.fixture
def network() -> Network:
    return Network()
