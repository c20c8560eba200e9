"""Keys of a node and its network, between the keyring, the notices and the disk."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from fwnode import config, wiring
from fwnode.errors import StoreError
from fwnode.keys import maker_digest
from fwnode.network import Network
from fwnode.node import Node
from fwnode.sharing.service import KeySharing
from fwnode.store import Database
from media.ingest.gate import PublishRequest
from media.net.reactor import Reactor
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.identity.invite import Terms
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership
from mesh.identity.notices import Notices
from mesh.identity.store import IdentityStore
from mesh.model import Role


class Home:
    """One node; other nodes are what `hears` gives it, as its mesh would."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder)
        self.network = Network(
            IdentityStore(folder),
            PeersFile(folder / FILE_NAME),
            name=folder.name,
            program="fwnode test",
            unix_s=time.time,
            entropy=Random(folder.name).randbytes,
        )
        settings = {"geoip.place": ""}
        loaded = config.load({"name": folder.name, "data_dir": str(folder)}, "", "", {}, settings)
        self.node: Node = wiring.compose(
            loaded,
            self.network,
            self.database.keyring(),
            Reactor(lambda kind, error, peer: None),
            started_at=0.0,
            unix_us=lambda: time.time_ns() // 1000,
            random=Random(1),
            player_files={},
        ).node
        self.sharing = KeySharing(self.node, self.database)
        self.notices: Notices | None = None
        self.said = 0

    @property
    def membership(self) -> Membership:
        assert self.network.membership is not None
        return self.network.membership

    def say(self, payloads: Sequence[bytes]) -> None:
        """What MeshNode does with it."""
        assert self.notices is not None
        self.said += self.notices.say(self.network.node_key, payloads, time.time())

    def new_key(self, *, local: bool = False) -> tuple[str, str]:
        text, key = self.database.new_key("*", "", local=local)
        self.node.keyring.add(key)
        return text, key.id

    @asynccontextmanager
    async def run(self) -> AsyncIterator["Home"]:
        self.notices = self.sharing.begin(self.membership, self.sharing.load(self.membership))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sharing.run, self)
            await self.settle()
            yield self
            nursery.cancel_scope.cancel()

    async def settle(self) -> None:
        """Long enough for a look at what changed; it is virtual time."""
        await trio.sleep(1.0)

    async def hears(self, *others: "Home") -> None:
        for other in others:
            assert other.notices is not None and self.notices is not None
            for notice in other.notices.all():
                self.notices.learn(notice, trio.current_time(), time.time())
        self.sharing.wake()
        await self.settle()

    def publish(self, key: str) -> list[str]:
        """Publish with a key; the list gets why it was stopped."""
        stopped: list[str] = []
        request = PublishRequest("rtmp", key, "", "192.0.2.1", 9, "obs")
        self.node.gate.publish(request, stopped.append, 0.0)
        return stopped


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    homes: list[Home] = []

    def home(name: str) -> Home:
        (tmp_path / name).mkdir(exist_ok=True)
        homes.append(Home(tmp_path / name))
        return homes[-1]

    yield home
    for made in homes:
        with closing(made.database):
            pass


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.01)


def join(owner: Home, other: Home, *roles: Role) -> None:
    terms = Terms(roles=frozenset(roles or (Role.ORIGIN,)))
    line = owner.network.invite(terms, ("192.0.2.1:7077",)).carry_out().line()
    other.network.join(line).carry_out()


async def test_a_key_is_told_accepted_and_taken_back(make: Any, clock: Any) -> None:
    attic, cellar = make("attic"), make("cellar")
    first, _ = attic.new_key()
    join(attic, cellar)
    async with attic.run(), cellar.run():
        local, _ = attic.new_key(local=True)
        later, later_id = attic.new_key()
        await attic.settle()
        await cellar.hears(attic)
        assert cellar.node.keyring.match(first) and cellar.node.keyring.match(later)
        assert not cellar.node.keyring.match(local)
        stopped = cellar.publish(later)
        assert [key.last_used_unix_s > 0 for key in cellar.node.keyring.foreign()].count(True) == 1
        assert cellar.node.keyring.take_used() == {}  # it is not in this node's database
        attic.node.revoke(later_id)
        await attic.settle()
        await cellar.hears(attic)
        assert cellar.node.keyring.match(first) and not cellar.node.keyring.match(later)
        assert len(stopped) == 1 and "not valid here any more" in stopped[0]


async def test_nothing_is_said_twice(make: Any, clock: Any) -> None:
    attic = make("attic")
    attic.new_key()
    attic.network.invite(Terms()).carry_out()
    async with attic.run():
        assert attic.said == 1
        attic.sharing.wake()
        await trio.sleep(600)
        assert attic.said == 1
    again = make("attic")
    async with again.run():
        assert again.said == 0


async def test_a_restarted_node_accepts_what_it_knew(make: Any, clock: Any) -> None:
    attic, cellar = make("attic"), make("cellar")
    text, _ = attic.new_key()
    join(attic, cellar)
    async with attic.run(), cellar.run():
        await cellar.hears(attic)
    again = make("cellar")
    again.sharing.begin(again.membership, again.sharing.load(again.membership))
    assert again.node.keyring.match(text)
    again.sharing.end()
    assert not again.node.keyring.match(text)


async def test_a_node_without_the_role_shares_and_accepts_nothing_but_keeps_it(make: Any, clock: Any) -> None:
    attic, edge, cellar = make("attic"), make("edge"), make("cellar")
    text, _ = attic.new_key()
    own, _ = edge.new_key()
    join(attic, edge, Role.EDGE)
    join(attic, cellar)
    async with attic.run(), edge.run(), cellar.run():
        await edge.hears(attic)
        assert not edge.node.keyring.match(text) and edge.node.keyring.match(own)
        await cellar.hears(edge)  # which never met attic
        assert cellar.node.keyring.match(text) and not cellar.node.keyring.match(own)


async def test_what_the_owner_revokes_its_maker_forgets(make: Any, clock: Any) -> None:
    attic, cellar = make("attic"), make("cellar")
    text, key_id = cellar.new_key()
    join(attic, cellar)
    async with attic.run(), cellar.run():
        await attic.hears(cellar)
        [key] = attic.node.keyring.find(key_id)
        assert key.digest == maker_digest(cellar.node.keyring.find(key_id)[0].digest, key.maker)
        revocation = attic.network.revoke_key(key.digest).write()
        assert cellar.membership.learn_revocation(revocation)
        stopped = cellar.publish(text)
        cellar.sharing.wake()
        await cellar.settle()
        assert not cellar.node.keyring.match(text) and len(stopped) == 1
        assert len(cellar.database.keyring()) == 0
    again = make("cellar")
    assert len(again.node.keyring) == 0


async def test_who_leaves_takes_its_keys_along(make: Any, clock: Any) -> None:
    attic, cellar = make("attic"), make("cellar")
    mine, _ = cellar.new_key()
    others, _ = attic.new_key()
    join(attic, cellar)
    async with attic.run(), cellar.run():
        await attic.hears(cellar)
        await cellar.hears(attic)
        assert attic.node.keyring.match(mine) and cellar.node.keyring.match(others)
        cellar.sharing.leave(cellar)
        await cellar.settle()
        assert not cellar.node.keyring.match(others) and cellar.node.keyring.match(mine)
        await attic.hears(cellar)
        assert not attic.node.keyring.match(mine)


async def test_a_full_disk_stops_no_key(make: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("disk is full")

    attic, cellar = make("attic"), make("cellar")
    text, _ = attic.new_key()
    join(attic, cellar)
    monkeypatch.setattr(cellar.database, "keep_notices", full)
    async with attic.run(), cellar.run():
        await cellar.hears(attic)
        assert cellar.node.keyring.match(text)
        monkeypatch.undo()
        cellar.sharing.wake()
        await cellar.settle()
        assert len(cellar.database.notices(cellar.membership.network)) == 1


async def test_what_is_damaged_on_disk_is_left_out(make: Any, clock: Any) -> None:
    attic = make("attic")
    attic.network.invite(Terms()).carry_out()
    stranger = SecretKey(bytes(32)).node_id
    attic.database.keep_notices(attic.membership.network, {(stranger, 0): b"damaged"}, ())
    async with attic.run():
        assert attic.notices is not None and len(attic.notices) == 0
