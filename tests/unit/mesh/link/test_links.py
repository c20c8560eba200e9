"""Dialling and being dialled: who gets through, and what both sides say when not."""

import socket
from typing import Any

import pytest
import trio

from mesh.errors import Unavailable
from mesh.link import greeting, hello, knock
from mesh.link.client import dial
from mesh.link.connection import service
from mesh.link.connection.service import Credentials, LinkRefused
from mesh.model import Role

YEAR = 366 * 86_400


async def refusal_of(address: str, credentials: Credentials, **options: Any) -> LinkRefused:
    with trio.fail_after(10), pytest.raises(LinkRefused) as caught:
        await dial(address, credentials, **options)
    return caught.value


async def noted(node: Any) -> list[tuple[str, bool]]:
    """What the listening node noted, once it has."""
    with trio.fail_after(10):
        while not node.refusals.total:
            await trio.lowlevel.checkpoint()
    reasons: list[tuple[str, bool]] = node.reasons()
    return reasons


async def test_both_sides_know_each_other(network: Any, listening: Any) -> None:
    first, second = network.member("first"), network.member("second")
    async with listening(first) as node:
        ours = await dial(
            node.address, second, expect=first.node_id, purpose="media", argument=b"stream/track"
        )
        theirs = await node.connections.receive()
        assert ours.peer.node_id == first.node_id
        assert (ours.peer.name, theirs.peer.name) == ("first", "second")
        assert theirs.peer.node_id == second.node_id
        assert theirs.peer.chain == second.membership.own
        assert Role.INVITER in ours.peer.roles
        assert (ours.peer.dialled, theirs.peer.dialled) == (True, False)
        assert ours.peer.remote == theirs.peer.observed == node.address
        assert theirs.peer.remote == ours.peer.observed != ""
        assert ours.peer.program == "fwnode 0.1.0"
        assert 0 < ours.peer.round_trip_s < 10
        assert 0 < theirs.peer.round_trip_s < 10
        assert (theirs.purpose, theirs.argument) == ("media", b"stream/track")
        assert not node.refusals.total
        await ours.send_all(b"hello")
        assert await theirs.receive_some() == b"hello"
        await ours.aclose()
        assert await theirs.receive_some() == b""


async def test_other_network(network: Any, other_network: Any, listening: Any) -> None:
    async with listening(network.member("first")) as node:
        refused = await refusal_of(node.address, other_network.member("second"))
        assert not refused.by_us
        assert "another network" in str(refused)
        assert await noted(node) == [("it knocked for another network", True)]


async def test_revoked_client(network: Any, listening: Any) -> None:
    first, second = network.member("first"), network.member("second")
    first.membership.revoke(network.owner, second.node_id, network.now)
    async with listening(first) as node:
        refused = await refusal_of(node.address, second)
        assert refused.reason == "it was revoked by the network's owner"
        assert not refused.by_us
        assert refused.node_id == first.node_id
        assert await noted(node) == [(refused.reason, True)]
        assert node.refusals.rows()[0].node == second.node_id.hex()
        assert node.refusals.rows()[0].address == "127.0.0.1"


async def test_revoked_server(network: Any, listening: Any) -> None:
    first, second = network.member("first"), network.member("second")
    second.membership.revoke(network.owner, first.node_id, network.now)
    async with listening(first) as node:
        refused = await refusal_of(node.address, second)
        assert refused.reason == str(refused) == "it was revoked by the network's owner"
        assert refused.by_us
        assert await noted(node) == [(refused.reason, False)]


@pytest.mark.parametrize("who_is_late", ["server", "client"])
async def test_expired(network: Any, listening: Any, who_is_late: str) -> None:
    late = network.now + 10 * YEAR
    first = network.member("first", late if who_is_late == "server" else network.now)
    second = network.member("second", late if who_is_late == "client" else network.now)
    async with listening(first) as node:
        refused = await refusal_of(node.address, second)
        assert refused.reason.startswith("its membership ended ")
        assert refused.by_us == (who_is_late == "client")
        assert await noted(node) == [(refused.reason, not refused.by_us)]


async def test_other_version(network: Any, listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "make_knock", lambda *a: knock.make_knock(*a).replace("v1-", "v2-"))
    async with listening(network.member("first")) as node:
        refused = await refusal_of(node.address, network.member("second"))
        assert not refused.by_us
        assert "another version" in str(refused)
        assert await noted(node) == [
            ("it speaks version 2 of the mesh's protocol, this node 1: update the older", True)
        ]


async def test_other_version_in_the_greeting(
    network: Any, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "ServerHello", lambda version, *a: hello.ServerHello(version + 1, *a))
    async with listening(network.member("first")) as node:
        refused = await refusal_of(node.address, network.member("second"))
        assert refused.by_us
        assert refused.reason.startswith("it speaks version 2 ")
        assert await noted(node) == [(refused.reason, False)]


async def test_other_key_than_expected(network: Any, listening: Any) -> None:
    first, second = network.member("first"), network.member("second")
    async with listening(first) as node:
        refused = await refusal_of(node.address, second, expect=second.node_id)
        assert refused.by_us
        assert refused.node_id == first.node_id
        assert "expected" in str(refused)
        assert await noted(node) == [(refused.reason, False)]


async def test_own_address(network: Any, listening: Any) -> None:
    first = network.member("first")
    async with listening(first) as node:
        refused = await refusal_of(node.address, first)
        assert refused.reason == "it is this node itself"
        assert refused.node_id == first.node_id


async def test_claim_of_another(network: Any, listening: Any) -> None:
    thief = network.member("thief")
    thief.membership = network.member("second").membership
    async with listening(network.member("first")) as node:
        refused = await refusal_of(node.address, thief)
        assert not refused.by_us
        assert "does not have the key" in str(refused)
        assert await noted(node) == [(refused.reason, True)]


async def test_server_with_claim_of_another(network: Any, listening: Any) -> None:
    thief = network.member("thief")
    thief.membership = network.member("third").membership
    async with listening(thief) as node:
        refused = await refusal_of(node.address, network.member("second"))
        assert refused.by_us
        assert refused.reason == "it shows the claim of another node"


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:0", "host:65536", "2001:db8::1:80", "a:x"]
)
async def test_no_address(network: Any, address: str) -> None:
    refused = await refusal_of(address, network.member("second"))
    assert refused.by_us
    assert "is not an address" in str(refused)


async def test_nobody_there(network: Any) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(Unavailable):
            await dial(f"127.0.0.1:{sock.getsockname()[1]}", network.member("second"))
