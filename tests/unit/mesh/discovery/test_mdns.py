"""Nodes on loopback that find each other by real multicast."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from zeroconf import ServiceInfo, Zeroconf

from mesh.discovery.mdns import service
from mesh.discovery.mdns.names import (
    SERVICE_TYPE,
    Announcement,
    MdnsOwn,
    encode_text,
    instance_name,
    network_tag,
)
from mesh.discovery.mdns.service import LOOPBACK, serve_mdns
from mesh.model import NodeId

FOUND_S = 20.0  # 0.1 s on an idle machine
OTHERS = "192.0.2.77"


class Node:
    """One node's discovery, and what it found."""

    def __init__(self, network: bytes, port: int, name: str = "node") -> None:
        self.own = MdnsOwn(network, secrets.token_bytes(32), port, name)
        self.troubles: list[str] = []
        self._send, self._receive = trio.open_memory_channel[tuple[str, NodeId]](64)

    @property
    def seen_as(self) -> tuple[str, NodeId]:
        return f"{LOOPBACK}:{self.own.port}", self.own.node_id

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._serve)
            yield
            nursery.cancel_scope.cancel()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        await serve_mdns(
            self.own,
            lambda address, node_id: self._send.send_nowait((address, node_id)),
            on_trouble=self.troubles.append,
            interfaces=[LOOPBACK],
            task_status=task_status,
        )

    async def found(self) -> tuple[str, NodeId]:
        with trio.fail_after(FOUND_S):
            return await self._receive.receive()

    def found_nothing_more(self) -> bool:
        try:
            self._receive.receive_nowait()
        except trio.WouldBlock:
            return True
        return False


@pytest.fixture
def network() -> bytes:
    return secrets.token_bytes(32)


async def test_two_nodes_find_each_other_and_one_that_comes_back(network: bytes) -> None:
    here, there = Node(network, 7001, "gärden.shed"), Node(network, 7002)
    stranger = Node(secrets.token_bytes(32), 7003)
    async with stranger.running(), here.running():
        async with there.running():
            assert await here.found() == there.seen_as
            assert await there.found() == here.seen_as
            began = trio.current_time()
        assert trio.current_time() - began < service.STOP_S + 1.0
        async with there.running():
            assert await here.found() == there.seen_as
            assert await there.found() == here.seen_as
    for node in (here, there, stranger):
        assert node.found_nothing_more()
        assert not node.troubles


async def test_found_ones_are_told_again(network: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RENEW_S", 0.2)
    here, there = Node(network, 7001), Node(network, 7002)
    async with here.running(), there.running():
        assert [await here.found() for _ in range(2)] == [there.seen_as] * 2


async def test_a_stranger_s_answers(network: bytes) -> None:
    """Other networks' nodes, damaged records and addresses of nobody are passed over, the rest is heard."""
    here = Node(network, 7001)
    tag = network_tag(network)
    ids = [secrets.token_bytes(32) for _ in range(5)]
    texts = [
        encode_text(Announcement(network_tag(b"other" * 8), ids[0])),
        b"\x05net=x",
        encode_text(Announcement(tag, here.own.node_id)),  # says that it is us
        encode_text(Announcement(tag, ids[3])),
        encode_text(Announcement(tag, ids[4])),
    ]
    hosts = [OTHERS, OTHERS, OTHERS, "224.0.0.1", OTHERS]
    async with here.running():
        liar = await trio.to_thread.run_sync(lambda: Zeroconf(interfaces=[LOOPBACK], use_asyncio=False))
        try:
            for node_id, text, host in zip(ids, texts, hosts, strict=True):
                info = ServiceInfo(
                    SERVICE_TYPE,
                    instance_name("liar", node_id),
                    port=9,
                    properties=text,
                    server=f"liar-{node_id.hex()[:8]}.local.",
                    parsed_addresses=[host],
                )
                register = partial(liar.register_service, info, cooperating_responders=True)
                await trio.to_thread.run_sync(register)
            assert await here.found() == (f"{OTHERS}:9", ids[4])
        finally:
            await trio.to_thread.run_sync(liar.close)
    assert here.found_nothing_more()


async def test_no_multicast_is_said_once_and_tried_again(
    network: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    tried = trio.Event()

    def refuse(**_: object) -> Zeroconf:
        nonlocal tries
        tries += 1
        if tries == 3:
            trio.from_thread.run_sync(tried.set)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(service, "Zeroconf", refuse)
    monkeypatch.setattr(service, "RENEW_S", 0.01)
    node = Node(network, 7001)
    async with node.running():
        with trio.fail_after(FOUND_S):
            await tried.wait()
    assert len(node.troubles) == 1
    assert "Operation not permitted" in node.troubles[0]


async def test_a_stuck_zeroconf_does_not_hold_the_node(
    network: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = trio.Event()

    def hang(**_: object) -> Zeroconf:
        trio.from_thread.run(released.wait)
        raise OSError("too late")

    monkeypatch.setattr(service, "Zeroconf", hang)
    monkeypatch.setattr(service, "START_S", 0.01)
    monkeypatch.setattr(service, "STOP_S", 0.01)
    monkeypatch.setattr(service, "RENEW_S", 0.01)
    node = Node(network, 7001)
    async with node.running():
        assert "no answer" in node.troubles[0]
    released.set()
