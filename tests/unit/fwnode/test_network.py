"""Being in a network, as its operator changes it: on real files, with a clock and entropy of the test."""

import hashlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fwnode.network import Network
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.errors import Refused, WireError
from mesh.identity.invite import SEEDS_MAX, Terms, parse_invite_untrusted
from mesh.identity.key import SecretKey
from mesh.identity.owner import Cost, export_owner
from mesh.identity.store import MEMBERSHIP, NETWORK_KEY, IdentityStore, StoreError
from mesh.model import NodeId, Role
from mesh.node.model import MeshStatus, PeerView, SecondOpinion
from mesh.node.speed.model import SpeedResult

START = 1_700_000_000
PASSPHRASE = "ten thousand sheep"
MakeNode = Callable[..., Network]


class Clock:
    now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> MakeNode:
    numbers = itertools.count()

    def entropy(count: int) -> bytes:
        return hashlib.shake_256(str(next(numbers)).encode()).digest(count)

    def node(name: str, addresses: tuple[str, ...] = ()) -> Network:
        folder = tmp_path / name
        return Network(
            IdentityStore(folder),
            PeersFile(folder / FILE_NAME),
            name=name,
            program="fwnode 0",
            unix_s=clock,
            entropy=entropy,
            addresses=lambda: addresses,
            turn=threading.Lock(),
        )

    return node


@pytest.fixture
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    def cheaply(key: SecretKey, passphrase: str, entropy: bytes) -> str:
        return export_owner(key, passphrase, entropy, Cost(1, 8192))

    monkeypatch.setattr("fwnode.network.export_owner", cheaply)


def invite(network: Network, terms: Terms | None = None, *seeds: str) -> str:
    return network.invite(terms or Terms(), seeds).carry_out().line()


def test_alone_a_node_shows_itself(make: MakeNode) -> None:
    alone = make("attic")
    [own] = alone.peers()
    assert (own.name, own.state, own.path, own.node) == (
        "attic",
        "self",
        "self",
        alone.node_key.node_id.hex(),
    )
    status = alone.status()
    assert (status.network, status.members, status.links, status.owner) == ("", 0, 0, False)


def test_the_first_invite_makes_a_network_that_is_there_after_a_restart(make: MakeNode) -> None:
    told: list[bool] = []
    founder = make("attic")
    founder.subscribe(lambda: told.append(founder.membership is not None))
    first, second = invite(founder), invite(founder)
    assert first != second and told == [True]
    again = make("attic")
    assert again.membership and again.owner_key and again.status().owner
    assert again.membership.network == parse_invite_untrusted(first).network
    assert again.membership.own_roles == frozenset(Role)


def test_terms_that_cannot_be_make_no_network(make: MakeNode, tmp_path: Path) -> None:
    founder = make("attic")
    for terms, seeds in ((Terms(uses=0), ()), (Terms(), ("nonsense",)), (Terms(expires_in_s=1), ())):
        with pytest.raises(Refused):
            founder.invite(terms, seeds)
    assert founder.membership is None and not (tmp_path / "attic" / NETWORK_KEY).exists()


def test_an_invite_holds_the_seeds_given_or_the_addresses_of_this_node(make: MakeNode) -> None:
    many = tuple(f"192.0.2.{number}:7077" for number in range(1, 20))
    founder = make("attic", ("nonsense", *many))
    assert parse_invite_untrusted(invite(founder)).seeds == many[:SEEDS_MAX]
    assert parse_invite_untrusted(invite(founder, None, "vps.example:1")).seeds == ("vps.example:1",)
    founder.mesh = Mesh(["198.51.100.1:9"])
    assert parse_invite_untrusted(invite(founder)).seeds == ("198.51.100.1:9",)
    assert founder.peers() == [] and founder.status() is STATUS


STATUS = MeshStatus("", False, "", "", [], 0, 0, 0, [], [], {})


class Mesh:
    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    def peers(self) -> list[PeerView]:
        return []

    def status(self) -> MeshStatus:
        return STATUS

    def addresses(self) -> list[str]:
        return self._addresses

    async def second_opinion(self) -> SecondOpinion:
        raise AssertionError("nobody asked")

    async def speed_test(self, peer: NodeId, total: int) -> SpeedResult:
        raise AssertionError("nobody asked")


def test_joining_is_kept_with_the_seeds(make: MakeNode, tmp_path: Path) -> None:
    founder, newcomer = make("attic"), make("cellar")
    line = invite(founder, Terms(frozenset({Role.EDGE, Role.RELAY})), "192.0.2.1:7077")
    joined = newcomer.join(line, name="wine", roles=frozenset({Role.EDGE})).carry_out()
    assert founder.membership and joined.network == founder.membership.network
    assert (joined.name, sorted(joined.roles), joined.notes) == ("wine", [Role.EDGE], ())
    again = make("cellar")
    assert again.status().name == "wine" and not again.status().owner
    assert PeersFile(tmp_path / "cellar" / FILE_NAME).load() == ["192.0.2.1:7077"]
    founder.membership.check(again.membership.own if again.membership else None, START)  # type: ignore[arg-type]  # it has one


def test_a_wrong_clock_is_worked_around_and_said(make: MakeNode, clock: Clock) -> None:
    line = invite(make("attic"))
    clock.now -= 600
    assert "clock" in make("cellar").join(line).carry_out().notes[0]
    clock.now -= 3600
    with pytest.raises(Refused, match="set the clock"):
        make("loft").join(line)


def test_who_is_in_a_network_leaves_it_before_joining_another(make: MakeNode, tmp_path: Path) -> None:
    newcomer = make("cellar")
    newcomer.join(invite(make("attic"), None, "192.0.2.1:7077")).carry_out()
    other = invite(make("barn"))
    with pytest.raises(Refused, match="`fwnode leave` first"):
        newcomer.join(other)
    newcomer.leave().carry_out()
    assert newcomer.membership is None and not (tmp_path / "cellar" / MEMBERSHIP).exists()
    assert PeersFile(tmp_path / "cellar" / FILE_NAME).load() == []
    newcomer.join(other).carry_out()
    with pytest.raises(Refused, match="in no network"):
        make("loft").leave()


def test_joining_again_with_a_new_invite_changes_the_claim(make: MakeNode, clock: Clock) -> None:
    founder, member = make("attic"), make("cellar")
    member.join(invite(founder, Terms(frozenset({Role.EDGE})))).carry_out()
    before = member.membership
    told: list[bool] = []
    member.subscribe(lambda: told.append(member.membership is not before))
    clock.now += 60
    joined = member.join(invite(founder, Terms(frozenset({Role.RELAY})))).carry_out()
    assert (sorted(joined.roles), joined.name, told) == ([Role.RELAY], "cellar", [True])
    assert make("cellar").status().roles == ["relay"]


def test_an_owner_does_not_join_its_own_network(make: MakeNode) -> None:
    founder = make("attic")
    line = invite(founder)
    with pytest.raises(Refused, match="owner key"):
        founder.join(line)
    founder.leave().carry_out()
    with pytest.raises(Refused, match="owner key"):
        founder.join(line)
    assert parse_invite_untrusted(invite(founder)).network == parse_invite_untrusted(line).network


@pytest.mark.parametrize("line", ["", "hello", "fwinvite1", "fwinvite1zzzz", "fwowner1000"])
def test_what_is_no_invite(make: MakeNode, line: str) -> None:
    with pytest.raises(WireError):
        make("cellar").join(line)


def test_a_member_may_not_invite_but_an_inviter_may(make: MakeNode) -> None:
    founder, member, inviter = make("attic"), make("cellar"), make("barn")
    member.join(invite(founder)).carry_out()
    with pytest.raises(Refused, match="inviter role"):
        member.invite(Terms())
    terms = Terms(frozenset({Role.EDGE, Role.INVITER}), invites=2)
    inviter.join(invite(founder, terms)).carry_out()
    make("loft").join(invite(inviter, Terms(frozenset({Role.EDGE}), membership_s=None))).carry_out()


def test_revoking_by_name_or_by_the_beginning_of_the_key(make: MakeNode) -> None:
    founder, one, two = make("attic"), make("cellar"), make("barn")
    line = invite(founder, Terms(uses=5))
    for member in (one, two):
        member.join(line).carry_out()
        assert founder.membership and member.membership
        founder.membership.check(member.membership.own, START)
    told: list[None] = []
    before = founder.membership
    founder.subscribe(lambda: told.append(None))
    expelled = founder.revoke("cellar").carry_out()
    assert (expelled.node_id, expelled.name) == (one.node_key.node_id, "cellar")
    assert "good for 3 more until" in expelled.note
    assert founder.membership is before and told == [None]
    assert founder.revoke(two.node_key.node_id.hex()[:8].upper()).carry_out().name == "barn"
    again = make("attic").membership
    assert again and one.membership
    with pytest.raises(Refused, match="revoked by the network's owner"):
        again.check(one.membership.own, START)


def test_whom_revoking_cannot_mean(make: MakeNode) -> None:
    founder, one, two = make("attic"), make("cellar"), make("barn")
    line = invite(founder, Terms(uses=5))
    for member in (one, two):
        member.join(line, name="twin").carry_out()
        assert founder.membership and member.membership
        founder.membership.check(member.membership.own, START)
    with pytest.raises(Refused, match="several nodes"):
        founder.revoke("twin")
    with pytest.raises(Refused, match="no node is called"):
        founder.revoke("cellar")
    with pytest.raises(Refused, match="at least 8 digits"):
        founder.revoke(one.node_key.node_id.hex()[:7])
    with pytest.raises(Refused, match="cannot revoke itself"):
        founder.revoke("attic")
    with pytest.raises(Refused, match="only the owner's node"):
        one.revoke("attic")
    founder.revoke(one.node_key.node_id.hex()).carry_out()
    with pytest.raises(Refused, match="revoked already"):
        founder.revoke(one.node_key.node_id.hex())
    assert founder.revoke("twin").carry_out().node_id == two.node_key.node_id
    assert founder.revoke("ab" * 32).carry_out().name == ""


def test_a_disk_that_takes_nothing_changes_nothing(make: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    founder, member = make("attic"), make("cellar")
    line = invite(founder)
    member.join(line).carry_out()
    assert founder.membership and member.membership
    founder.membership.check(member.membership.own, START)

    def full(*arguments: object) -> None:
        raise StoreError("no space left")

    for name in ("keep_membership", "forget_membership"):
        monkeypatch.setattr(IdentityStore, name, full)
    newcomer = make("barn")
    for change in (founder.revoke("cellar"), founder.leave(), newcomer.join(line), newcomer.invite(Terms())):
        with pytest.raises(StoreError):
            change.carry_out()
    assert founder.membership and newcomer.membership is None
    founder.membership.check(member.membership.own, START)


def test_a_stopping_mesh_brings_no_old_membership_back(make: MakeNode, tmp_path: Path) -> None:
    founder = make("attic")
    invite(founder)
    assert founder.membership
    keep, state = founder.keeper(founder.membership), founder.membership.state()
    keep(state)
    founder.leave().carry_out()
    keep(state)
    assert not (tmp_path / "attic" / MEMBERSHIP).exists()


@pytest.mark.usefixtures("quick_passphrases")
def test_the_owner_key_moves_to_another_node(make: MakeNode) -> None:
    founder, member, fresh, stranger = make("attic"), make("cellar"), make("barn"), make("loft")
    member.join(invite(founder)).carry_out()
    invite(stranger)
    line = founder.export_owner(PASSPHRASE)
    with pytest.raises(Refused, match="at least 10"):
        founder.export_owner("short")
    with pytest.raises(Refused, match="no owner key"):
        member.export_owner(PASSPHRASE)
    with pytest.raises(Refused, match="wrong"):
        fresh.import_owner(line, "something else").carry_out()
    assert fresh.membership is None
    with pytest.raises(Refused, match="fresh data folder"):
        stranger.import_owner(line, PASSPHRASE)
    before = member.membership
    for node in (member, fresh):
        network = node.import_owner(line, PASSPHRASE).carry_out()
        assert founder.membership and network == founder.membership.network
        assert node.owner_key == founder.owner_key
    assert member.membership is not before and make("cellar").status().owner
    assert make("barn").status().roles == sorted(Role)
