"""`fwnode doctor` on nodes that run."""

import json
import time
from collections.abc import Callable
from typing import Any

WITHIN_S = 30.0  # a second or two when the machine is idle
POLL_S = 0.1


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(POLL_S)


def test_a_node_alone_and_two_of_a_network(start_node: Any) -> None:
    attic, cellar = (start_node("--name", name, name=name) for name in ("attic", "cellar"))
    alone = attic.cli("doctor")
    assert "This node is in no network" in alone.stdout and "Nothing needs a hand" in alone.stdout

    cellar.cli("join", attic.cli_json("invite")["invite"])
    until(lambda: attic.cli_json("peers")["network"]["links"] == 1)
    told = attic.cli("doctor").stdout
    for title in ("Router", "Port mapping", "Second opinion (pystun3)", "Paths"):
        assert f"\n{title}\n" in f"\n{told}"
    assert "no public node of the network has answered" in told
    assert "Not asked for.\n  The setting mesh names one address of this machine." in told
    assert "None: no public member to ask." in told
    assert "\n  cellar lan for " in told and told.endswith("Nothing needs a hand.\n")

    said = attic.cli_json("doctor")
    assert (
        said["fine"] is True
        and said["needs"] == []
        and said["pystun3"] == {"trouble": said["pystun3"]["trouble"]}
    )
    nat = said["network"]["nat"]
    assert nat["udp"] is True and nat["portmap"]["state"] == "off" and nat["counters"]["nat_punches"] == 0
    [peer] = [peer for peer in said["peers"] if peer["state"] == "connected"]
    assert peer["path"] == "lan" and peer["loss"] in (0.0, None) and peer["path_since_unix_s"] > 0
    assert "LOSS" in attic.cli("peers").stdout.splitlines()[0]


def test_who_reaches_nobody_needs_a_hand(start_node: Any) -> None:
    lost = start_node("--name", "lost", "--seed", "127.0.0.1:1")
    lost.cli("invite")

    answers: list[Any] = []

    def told() -> bool:
        answers.append(lost.cli("doctor", "--json", "--no-opinion", check=False))
        return answers[-1].returncode == 1 and "no other node is reached" in answers[-1].stdout

    until(told)
    said = json.loads(answers[-1].stdout)
    assert said["fine"] is False and "no other node is reached" in said["needs"][0]
    assert "Needs a hand: no other node is reached" in lost.cli("doctor", check=False).stdout


def test_without_a_node_it_says_how_to_start_one(start_node: Any) -> None:
    node = start_node()
    node.stop()
    ran = node.cli("doctor", check=False)
    assert ran.returncode == 1 and ran.stdout == ""
    assert ran.stderr.count("\n") == 1 and "start it with `fwnode run`" in ran.stderr
