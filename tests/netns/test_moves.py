"""A transfer between two homes whose direct path is cut and restored: over the relay and back, all of it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, until, who_sees_whom
from natlab import NatLab, RouterKind, why_no_nat

pytestmark = pytest.mark.netns

LINE_MBPS = 40.0
AMOUNT = "110M"  # five seconds of the line, a quarter of a minute of the relay, and as much of the line again
CUT_S = 3.0
DIRECT = ("direct", "punched")  # TCP opened from both ends, QUIC
GAP_S = 6.0  # without an object: silence is noticed after 2 s; the rest is for a busy machine


@pytest.fixture
def lab(namespaces: None) -> Iterator[NatLab]:
    if reason := why_no_nat():
        pytest.skip(reason)
    with NatLab() as made:
        yield made


def test_a_transfer_goes_over_the_relay_and_back(
    lab: NatLab, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    plugin: Any = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    [host] = lab.public()
    homes = [lab.home(RouterKind.PORT_RESTRICTED) for _ in range(2)]
    homes[1].rate(LINE_MBPS)
    hosts = {"relay": host, "here": homes[0].hosts[0], "there": homes[1].hosts[0]}
    relay, here, there = machines = [Machine(plugin, on, tmp_path / name, name) for name, on in hosts.items()]
    try:
        for machine in machines:
            machine.start()
        line = relay.invite("--uses", "2")
        for machine in (here, there):
            machine.cli("join", line)
        until(
            lambda: here.peers().get("there", {}).get("path") == "punched",
            "a direct path",
            seen=lambda: who_sees_whom(*machines),
        )
        found: list[Any] = []
        test = threading.Thread(
            target=lambda: found.append(here.cli_json("speedtest", "there", "--bytes", AMOUNT))
        )
        test.start()
        time.sleep(3.0)  # the command starts in one, the rest is a third of the transfer
        lab.cut(*homes)
        until(
            lambda: str(here.peers()["there"]["path"]).startswith("relayed"),
            "the relay carries on",
            seen=lambda: who_sees_whom(*machines),
        )
        time.sleep(CUT_S)
        lab.restore_path(*homes)
        test.join(90.0)
        assert not test.is_alive()
        [result] = found
        print(result)
        assert result["intact"] and result["complete"]
        paths = [used["path"] for used in result["paths"]]
        assert paths[0] in DIRECT and paths[-1] in DIRECT
        assert "relayed via relay" in paths
        assert result["longest_gap_s"] < GAP_S
        for machine in machines:
            machine.finish()
    finally:
        for machine in machines:
            machine.close()
