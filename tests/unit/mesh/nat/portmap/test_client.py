"""miniupnpc and a gateway that answers as it is told."""

import threading
from typing import Any

import pytest

from mesh.errors import Unavailable
from mesh.nat.portmap import client as client_module
from mesh.nat.portmap.client import UpnpClient

OWN, PORT = "192.168.1.2", 7077
ADD, DELETE, LOOK = "AddPortMapping", "DeletePortMapping", "GetSpecificPortMappingEntry"


@pytest.fixture
def client(gateway: str) -> UpnpClient:
    pytest.importorskip("miniupnpc")
    return UpnpClient(own=OWN, port=PORT, gateway=gateway, lease_s=7200)


def test_both_transports(client: UpnpClient, igd: Any) -> None:
    grant = client.map(igd.url, (PORT, 40000))
    assert (grant.external_host, grant.external_port, grant.lease_s) == ("203.0.113.7", PORT, 7200.0)
    assert grant.tcp and grant.udp and not grant.said
    assert set(igd.mapped) == {("TCP", "7077"), ("UDP", "7077")}
    said = igd.mapped["UDP", "7077"]
    assert (said["NewInternalClient"], said["NewInternalPort"]) == (OWN, "7077")
    assert (said["NewLeaseDuration"], said["NewPortMappingDescription"]) == ("7200", "fwnode")
    assert client.look(igd.url)
    client.remove(0.0)
    assert igd.mapped == {}


def test_a_port_of_another_host(client: UpnpClient, igd: Any) -> None:
    """The one of the two that was mapped is given back, then another port is asked for."""
    igd.errors = {(ADD, "7077"): 718}
    grant = client.map(igd.url, (PORT, 40000))
    assert grant.external_port == 40000
    assert set(igd.mapped) == {("TCP", "40000"), ("UDP", "40000")}
    igd.errors = {(ADD, "40000"): 718}
    assert client.map(igd.url, (40000, 40001)).external_port == 40001


def test_only_udp_is_taken(client: UpnpClient, igd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add = igd._act

    def act(action: str, body: str) -> Any:
        if action == ADD and "<NewExternalPort>7077<" in body and "UDP" in body:
            igd.errors[ADD, "7077"] = 729
        return add(action, body)

    monkeypatch.setattr(igd, "_act", act)
    assert client.map(igd.url, (PORT, 40000)).external_port == 40000
    assert set(igd.mapped) == {("TCP", "40000"), ("UDP", "40000")}


def test_all_ports_are_taken(client: UpnpClient, igd: Any) -> None:
    igd.errors = {(ADD, ""): 718}
    with pytest.raises(Unavailable, match="the port is another host's"):
        client.map(igd.url, (PORT, 40000, 40001))
    assert len([action for action in igd.actions if action.startswith(ADD)]) == 6
    assert igd.mapped == {}


def test_only_permanent_leases(client: UpnpClient, igd: Any) -> None:
    igd.errors = {(ADD, "7200"): 725}
    grant = client.map(igd.url, (PORT,))
    assert grant.lease_s == 0
    assert grant.tcp and grant.udp


def test_one_transport_only(client: UpnpClient, igd: Any) -> None:
    igd.errors = {(ADD, "UDP"): 606}
    grant = client.map(igd.url, (PORT, 40000))
    assert grant.tcp and not grant.udp
    assert grant.said == "UDP: it does not allow it"
    assert client.look(igd.url)


@pytest.mark.parametrize(
    ("code", "reason"), [(606, "it does not allow it"), (501, "Action Failed"), (799, "UnknownError")]
)
def test_refused(client: UpnpClient, igd: Any, code: int, reason: str) -> None:
    igd.errors = {(ADD, ""): code}
    with pytest.raises(Unavailable, match=reason):
        client.map(igd.url, (PORT, 40000))
    assert len([action for action in igd.actions if action.startswith(ADD)]) == 2


@pytest.mark.parametrize("host", ["", "x", "203.0.113.7.1", "router.example", "&lt;b>"])
def test_an_external_address_that_is_none(client: UpnpClient, igd: Any, host: str) -> None:
    igd.external_host = host
    try:
        assert client.map(igd.url, (PORT,)).external_host == ""
    except Unavailable:
        assert not host  # miniupnpc takes no answer for an error


def test_a_mapping_that_somebody_changed(client: UpnpClient, igd: Any) -> None:
    client.map(igd.url, (PORT,))
    igd.mapped["TCP", "7077"]["NewInternalClient"] = "192.168.1.3"
    assert not client.look(igd.url)
    igd.mapped.clear()
    assert not client.look(igd.url)


def test_a_description_that_points_elsewhere(client: UpnpClient, igd: Any) -> None:
    igd.control = "http://127.0.0.1:9/control"
    with pytest.raises(Unavailable, match="another host"):
        client.map(igd.url, (PORT,))
    assert igd.actions == []


def test_one_call_at_a_time(client: UpnpClient, igd: Any) -> None:
    igd.hangs.clear()
    thread = threading.Thread(target=client.map, args=(igd.url, (PORT,)))
    thread.start()
    while not client._lock.locked():
        pass
    with pytest.raises(Unavailable, match="hangs"):
        client.look(igd.url)
    with pytest.raises(Unavailable, match="hangs"):
        client.remove(0.01)
    igd.hangs.set()
    thread.join()
    client.remove(1.0)
    assert igd.mapped == {}


def test_without_miniupnpc(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "miniupnpc", None)
    client = UpnpClient(own=OWN, port=PORT, gateway=gateway, lease_s=7200)
    with pytest.raises(Unavailable, match="miniupnpc is not installed"):
        client.map(f"http://{gateway}/", (PORT,))
    client.remove(0.0)
