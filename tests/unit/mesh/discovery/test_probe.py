"""This host's addresses, and word of their changes."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from mesh.discovery import probe
from mesh.discovery.candidates import CANDIDATES_MAX, make_candidates


def test_own_addresses_can_be_published() -> None:
    own = probe.own_addresses()
    assert len(set(own)) == len(own) <= probe.ADDRESSES_MAX
    for host in own:
        ip = ipaddress.ip_address(host)
        assert not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)
    assert len(make_candidates(7000, own)) == min(len(own), CANDIDATES_MAX)


def test_the_address_of_the_default_route_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {("br-1", "172.17.0.1"), ("eth0", "192.168.1.5"), ("lo", "127.0.0.1"), ("wl", "fe80::1")}
    monkeypatch.setattr(probe, "_interface_addresses", lambda: found)
    monkeypatch.setattr(probe, "_default_sources", lambda: ["192.168.1.5", "198.51.100.1"])
    assert probe.own_addresses() == ["192.168.1.5", "172.17.0.1"]


def test_no_right_to_list_addresses_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Iterator[object]:
        raise PermissionError

    monkeypatch.setattr("ifaddr.get_adapters", refuse)
    assert probe.own_addresses() == []


def test_a_snapshot_of_the_same_is_the_same() -> None:
    assert probe.snapshot() == probe.snapshot()


async def test_netlink_can_be_had_here() -> None:
    sock = probe._netlink()
    assert sock is not None
    sock.close()


class Network:
    """Stands for the host's network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sock: trio.socket.SocketType | None) -> None:
        self.state = 0
        self.calls: list[float] = []
        monkeypatch.setattr(probe, "_netlink", lambda: sock)
        monkeypatch.setattr(probe, "snapshot", lambda: frozenset({("eth0", str(self.state))}))

    def on_change(self) -> None:
        self.calls.append(trio.current_time())


async def test_polled(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    network = Network(monkeypatch, None)
    nursery.start_soon(probe.watch_addresses, network.on_change)
    await trio.sleep(10.5)
    assert network.calls == []
    network.state = 1
    await trio.sleep(10)
    assert len(network.calls) == 1
    assert network.calls[0] - trio.current_time() == pytest.approx(-8.5)


async def test_a_burst_is_one_change(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel:
        network = Network(monkeypatch, trio.socket.from_stdlib_socket(ours))
        nursery.start_soon(probe.watch_addresses, network.on_change)
        await trio.sleep(1)
        network.state = 1
        for _ in range(5):
            kernel.send(b"message")
        await trio.sleep(1)
        assert len(network.calls) == 1
        kernel.send(b"a refreshed lifetime")
        await trio.sleep(1)
        assert len(network.calls) == 1
        network.state = 2
        kernel.send(b"message")
        await trio.sleep(1)
        assert len(network.calls) == 2
        nursery.cancel_scope.cancel()
