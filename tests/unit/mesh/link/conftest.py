"""Members of one small network, and a listening node of it, on loopback."""

import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mesh.identity.invite import Terms, enrol, make_invite
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.link.connection.service import Credentials, SecureConnection
from mesh.link.refusals import Refusals
from mesh.link.server import serve_links

NOW = 1_800_000_000


def key(name: str) -> SecretKey:
    return SecretKey(hashlib.sha256(name.encode()).digest())


class Network:
    """One network: `member("name")` has valid credentials. Each member has a membership of its own."""

    now = NOW

    def __init__(self, owner: str = "owner") -> None:
        self.owner = key(owner)
        self.invite = make_invite(
            self.owner,
            self.owner.node_id,
            Terms(uses=10),
            enrolment_seed=key(f"{owner}'s invite").seed,
            seeds=(),
            now_unix_s=NOW,
        )

    def member(self, name: str, now: int = NOW) -> Credentials:
        node = key(name)
        if name == "first":
            chain = found_network(self.owner, node.node_id, name, NOW)
        else:
            chain = enrol(self.invite, node.node_id, name, NOW).chain
        return Credentials(node, Membership(chain), "fwnode 0.1.0", lambda: now)


class Listening:
    """A node that serves links: what came, and whom it refused."""

    def __init__(self, credentials: Credentials, sock: socket.socket) -> None:
        self.credentials = credentials
        self.sock = sock
        self.refusals = Refusals()
        self.address = f"127.0.0.1:{sock.getsockname()[1]}"
        self.tokens: list[bytes] = []
        self.came: trio.MemorySendChannel[SecureConnection]
        self.came, self.connections = trio.open_memory_channel[SecureConnection](100)

    async def on_connection(self, connection: SecureConnection) -> None:
        await self.came.send(connection)
        await trio.sleep_forever()

    async def on_token(self, sock: socket.socket, token: bytes) -> None:
        self.tokens.append(token)
        sock.close()

    def reasons(self) -> list[tuple[str, bool]]:
        return [(row.reason, row.by_us) for row in self.refusals.rows()]


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def other_network() -> Network:
    return Network("another owner")


@pytest.fixture
def listening() -> Any:
    @asynccontextmanager
    async def listen(
        credentials: Credentials,
        on_connection: Callable[[SecureConnection], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Listening]:
        node = Listening(credentials, bound())
        async with trio.open_nursery() as nursery:
            await nursery.start(
                serve_links,
                [node.sock],
                credentials,
                on_connection or node.on_connection,
                node.on_token,
                node.refusals,
            )
            yield node
            nursery.cancel_scope.cancel()

    return listen
