"""A whole node behind a real router: it has a port opened, is dialled there, says so, and closes it again.

And one whose router opens nothing and cannot be got through: it says why.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import MESH_PORT, Machine, MakeMachines, until, who_sees_whom
from natlab import NatLab, RouterKind, why_no_nat
from portmap_router import WAN_ADDRESS, HomeRouter, why_no_router

pytestmark = pytest.mark.netns

EXTERNAL = f"{WAN_ADDRESS}:{MESH_PORT}"
MAPPED_S = 5.0  # of which a mesh takes one to begin
LINKED_S = 10.0
EXIT_S = 3.0  # 0.3 s to say goodbye, 0.5 s at most to have the port closed; the rest is Python's
WHY_S = 30.0  # the router's kind is known after a second or two, and then a path is looked for
TOLD_S = 15.0  # the other node tried the port on request: at once, or 5 s after it tried another


@pytest.fixture(scope="module")
def router(namespaces: None) -> Iterator[HomeRouter]:
    """A home with a router just switched on."""
    if reason := why_no_router():
        pytest.skip(reason)
    with HomeRouter() as made:
        made.start()
        yield made


@pytest.fixture
def two(router: HomeRouter, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[list[Machine]]:
    """One at home and one outside; nothing runs on them yet."""
    plugin: Any = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    hosts = {"home": router.homes[0], "outside": router.outside}
    made = [Machine(plugin, host, tmp_path / name, name) for name, host in hosts.items()]
    try:
        yield made
        for machine in made:
            machine.finish()
    finally:
        for machine in made:
            machine.close()


def portmap(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = machine.get("/api/v1/network")["nat"]["portmap"]
    return found


def path(machine: Machine, to: Machine) -> str:
    return str(machine.peers().get(to.name, {}).get("path", ""))


def ports_open(router: HomeRouter) -> set[str]:
    return {transport for transport, port, _ in router.mapped() if port == MESH_PORT}


def test_a_node_at_home_is_dialled_from_outside(router: HomeRouter, two: list[Machine]) -> None:
    home, outside = two
    home.start()
    home.invite()  # makes the network: the mesh begins
    until(lambda: portmap(home)["state"] == "mapped", "a port is open", MAPPED_S, seen=lambda: portmap(home))
    said = portmap(home)
    assert (said["external"], said["protocol"], said["lease_s"]) == (EXTERNAL, "pcp", 7200.0)
    assert said["gateway"] == router.router.address and said["said"]
    assert ports_open(router) == {"tcp", "udp"}
    assert json.loads(home.cli("doctor", "--json").stdout)["fine"] is True

    outside.start()
    joined = outside.cli("join", home.invite())
    assert joined.returncode == 0
    until(
        lambda: (path(outside, home), path(home, outside)) == ("mapped", "mapped"),
        "both say that the link leads through the opened port",
        LINKED_S,
        seen=lambda: who_sees_whom(home, outside),
    )
    assert outside.peers()["home"]["address"] == EXTERNAL
    assert [line.split("\t")[2] for line in outside.cli("peers").stdout.splitlines()] == [
        *("PATH", "self", "mapped"),
    ]
    until(lambda: home.get("/api/v1/network")["nat"]["tcp"] == "open", "others can dial it", TOLD_S)
    told = home.cli("doctor").stdout
    print(told)
    assert f"Others are told {EXTERNAL} by pcp" in told and "outside mapped for " in told

    began = time.monotonic()
    assert home.stop() == 0
    took_s = time.monotonic() - began
    print(f"{took_s:6.2f} s to end, {ports_open(router)} open")
    assert took_s < EXIT_S and not ports_open(router)


@pytest.fixture
def lab(namespaces: None) -> Iterator[NatLab]:
    """Two public hosts and two homes whose routers take another port for each destination."""
    if reason := why_no_nat():
        pytest.skip(reason)
    with NatLab() as made:
        made.public(2)
        for _ in range(2):
            made.home(RouterKind.SYMMETRIC_RANDOM)
        yield made


def test_the_doctor_says_why_a_link_is_relayed(lab: NatLab, machines: MakeMachines) -> None:
    first, _, one, other = made = machines(4)
    for machine in made:
        machine.start()
    line = first.invite("--uses", "3")
    for machine in made[1:]:
        machine.cli("join", line)

    def why() -> str:
        return str(one.peers().get(other.name, {}).get("why_relayed", ""))

    until(lambda: "impenetrable" in why(), "why there is no direct path", WHY_S, seen=why)
    until(lambda: portmap(one)["state"] == "refused", "no port is opened", WHY_S, seen=lambda: portmap(one))
    told = one.cli("doctor", check=False)
    print(told.stdout)
    assert told.returncode == 1
    assert "Impenetrable: the router takes another" in told.stdout
    assert "The router 192.168.1.1 maps no port" in told.stdout
    assert "\n  Symmetric, seen at " in told.stdout
    assert f"  {other.name} relayed via " in told.stdout and why() in told.stdout
    assert "Needs a hand: the router is impenetrable: switch on UPnP" in told.stdout
    assert first.cli_json("doctor")["fine"] is True
