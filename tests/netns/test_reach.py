"""Nodes behind firewalls that let no connection in and no UDP at all: who reaches whom, and how.

Every node is a member of every role. A firewalled one is linked by dialling out; two of them by way of a
relay, and without it as soon as one of the firewalls is gone.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Internet
from machine import Machine, MakeMachines, until, who_sees_whom
from natlab import why_no_nat

pytestmark = pytest.mark.netns

LINKED_S = 10.0  # joined -> linked by whatever way there is
TOLD_S = 25.0  # a try to dial a firewalled node is given up after 10 s
STANDBY_S = 10.0  # relay killed -> linked by the other one
UPGRADE_S = 75.0  # firewall gone -> linked without the relay: looked for every 60 s at the latest


@pytest.fixture
def lab(namespaces: None) -> Iterator[Internet]:
    """Four hosts anywhere in the world."""
    if reason := why_no_nat():
        pytest.skip(reason)
    with Internet(4) as made:
        yield made


class Parted:
    """Two relays, and two nodes behind firewalls. What is done to them is done once.

    The tests share it, because to look whether a relay is still needed takes the nodes a minute.
    """

    def __init__(self, lab: Internet, relays: list[Machine], one: Machine, other: Machine) -> None:
        self.lab = lab
        self.relays = relays
        self.one = one
        self.other = other
        self.began = 0.0
        self.opened_at = 0.0

    @property
    def all(self) -> list[Machine]:
        """Those that run."""
        return [machine for machine in (*self.relays, self.one, self.other) if machine.running]

    @property
    def paths(self) -> set[str]:
        """Both sides' word on the path between the firewalled nodes."""
        return paths(self.one, self.other)

    @property
    def via(self) -> Machine | None:
        """The relay between them, when both say the same."""
        return next((relay for relay in self.relays if self.paths == relayed_via(relay)), None)

    def begin(self) -> None:
        """One firewall is silent, the other rejects: no dial to that one is under way when it opens."""
        self.lab.close(self.one.host)
        self.lab.close(self.other.host, verdict="reject")
        for machine in (*self.relays, self.one, self.other):
            machine.start()
        line = self.relays[0].invite("--uses", "3")
        for machine in self.all[1:]:
            machine.cli("join", line)
        self.began = time.monotonic()

    def await_relayed(self) -> Machine:
        until(
            lambda: self.via,
            "two firewalled nodes are linked by a relay",
            LINKED_S,
            seen=lambda: who_sees_whom(*self.all),
        )
        via = self.via
        assert via is not None
        return via

    def open(self) -> None:
        """The firewall that rejects goes."""
        if not self.opened_at:
            self.opened_at = time.monotonic()
            self.lab.open(self.other.host)


@pytest.fixture(scope="module")
def parted(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Parted]:
    """Running and joined."""
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    plugin: Any = pytestconfig.pluginmanager.get_plugin(str(conftest))
    folder = tmp_path_factory.mktemp("parted")
    with Internet(4) as lab:
        machines = [
            Machine(plugin, host, folder / f"p{host.number}", f"p{host.number}") for host in lab.hosts
        ]
        made = Parted(lab, machines[:2], *machines[2:])
        try:
            made.begin()
            yield made
            for machine in machines:
                machine.finish()
        finally:
            for machine in machines:
                machine.close()


def path(machine: Machine, to: Machine) -> str:
    """What `fwnode peers --json` says of the path; "" without a link."""
    peer = machine.peers().get(to.name)
    return "" if peer is None else str(peer["path"])


def paths(one: Machine, other: Machine) -> set[str]:
    """Both sides' word on the path between them."""
    return {path(one, other), path(other, one)}


def told(machine: Machine, event: str) -> list[str]:
    """Lines of its log about that event."""
    return [line for line in machine.log().splitlines() if f'"{event}"' in line]


def counter(machine: Machine, name: str) -> int:
    return int(machine.view()["network"]["counters"].get(name, 0))  # none before it takes part


def relayed_via(relay: Machine) -> set[str]:
    return {f"relayed via {relay.name}"}


def test_two_firewalled_nodes_are_linked_by_a_relay(parted: Parted) -> None:
    via, one, other = parted.await_relayed(), parted.one, parted.other
    until(
        lambda: all(paths(relay, node) == {"direct"} for relay in parted.relays for node in (one, other)),
        "each is linked to both relays by dialling out",
        LINKED_S,
        seen=lambda: who_sees_whom(*parted.all),
    )
    shown = {peer["name"]: peer for peer in one.cli_json("peers")["peers"]}[other.name]
    assert shown["path"] == f"relayed via {via.name}" and shown["rtt_ms"] > 0
    assert f"relayed via {via.name}" in one.cli("peers").stdout
    assert counter(via, "relay_spliced") >= 1


def test_when_a_relay_dies_the_other_one_carries_on(parted: Parted) -> None:
    """Neither node is ever off the other's list."""
    via, one, other = parted.await_relayed(), parted.one, parted.other
    standby = next(relay for relay in parted.relays if relay is not via)
    missing: list[float] = []
    began = time.monotonic()
    via.kill()

    def carried_on() -> bool:
        if other.name not in one.peers() or one.name not in other.peers():
            missing.append(time.monotonic() - began)
        return parted.paths == relayed_via(standby)

    until(carried_on, "the other relay carries on", STANDBY_S, began, lambda: who_sees_whom(*parted.all))
    assert not missing
    parted.open()  # what becomes of that is for the last test here


def test_a_public_node_has_a_firewalled_one_dial_back(lab: Internet, machines: MakeMachines) -> None:
    """Its dial is rejected, so it asks by way of their common neighbour. The other's first dial is lost."""
    first, public, firewalled = machines(3)
    lab.close(firewalled.host, verdict="reject")
    lab.lose_first(firewalled.host, public.host)
    for machine in (first, public, firewalled):
        machine.start()
    line = first.invite("--uses", "2")
    public.cli("join", line)
    began = time.monotonic()
    until(lambda: paths(first, public) == {"direct"}, "the public ones are linked", LINKED_S, began)
    firewalled.cli("join", line)
    began = time.monotonic()

    def direct() -> bool:
        return paths(public, firewalled) == paths(first, firewalled) == {"direct"}

    until(lambda: counter(firewalled, "link_calls"), "asked to dial back", LINKED_S, began)
    until(direct, "linked by dialling out", LINKED_S, began, lambda: who_sees_whom(first, public, firewalled))

    def known() -> bool:
        nat = public.peers()["n2"]["nat"], firewalled.peers()["n1"]["nat"]
        return nat in (("closed", "open"), ("blocked", "open"))

    until(known, "each knows whether the other can be dialled", TOLD_S, began, lambda: str(public.peers()))
    until(lambda: first.peers()["n2"]["nat"] in ("closed", "blocked"), "so does the first one", TOLD_S, began)


def test_a_relay_without_a_budget_refuses_and_both_sides_say_so(
    lab: Internet, machines: MakeMachines
) -> None:
    """What is asked of it goes by another relay, once there is one."""
    stingy, one, other, generous = machines(4)
    lab.close(one.host, other.host)
    stingy.start("--set", "relay.total_mbps=0")
    for machine in (one, other, generous):
        machine.start()
    line = stingy.invite("--uses", "3")
    for machine in (one, other):
        machine.cli("join", line)
    began = time.monotonic()

    reason = "this node does not relay"

    def said() -> bool:
        asked = any(reason in line for node in (one, other) for line in told(node, "relay refused"))
        return asked and any(reason in line for line in told(stingy, "relay denied"))

    until(said, "refused, and both sides say why", LINKED_S, began, lambda: stingy.log())
    assert paths(one, other) == {""} and stingy.linked() == {"n0", "n1", "n2"}
    assert counter(stingy, "relay_denied") >= 1 and counter(stingy, "relay_granted") == 0
    began = time.monotonic()
    generous.cli("join", line)
    until(
        lambda: paths(one, other) == relayed_via(generous),
        "linked by the relay that has a budget",
        UPGRADE_S,
        began,
        lambda: who_sees_whom(stingy, one, other, generous),
    )


def test_without_the_firewall_they_need_no_relay(parted: Parted) -> None:
    """They look again and again. The last test here: others have had their time meanwhile."""
    parted.open()
    until(
        lambda: parted.paths <= {"direct", "punched"},
        "linked without a relay",
        UPGRADE_S,
        parted.opened_at,
        lambda: who_sees_whom(*parted.all),
    )
