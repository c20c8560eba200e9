"""Making, entering and leaving a network from the command line, with nodes that run and without."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WITHIN_S = 30.0  # a second or two when the machine is idle
POLL_S = 0.1
PASSPHRASE = {"FWNODE_OWNER_PASSPHRASE": "ten thousand sheep"}


@pytest.fixture
def plugin(pytestconfig: pytest.Config) -> Any:
    """The tests' own conftest.py, which is a plugin of pytest and no importable module."""
    return pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))


@pytest.fixture
def offline(tmp_path: Path, plugin: Any) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """One command on a folder where no node runs: `offline("attic", "invite")`."""

    def run(folder: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = plugin.clean_environment(tmp_path / folder) | {"FWNODE_NAME": folder} | variables
        ran: subprocess.CompletedProcess[str] = plugin.run_cli(
            *arguments, environment=environment, check=False
        )
        return ran

    return run


def one_line(ran: "subprocess.CompletedProcess[str]", code: int, says: str) -> None:
    assert ran.returncode == code, ran.stderr
    assert ran.stderr.startswith("fwnode: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert says in ran.stderr


def peers_of(node: Any) -> dict[str, dict[str, Any]]:
    return {peer["name"]: peer for peer in node.cli_json("peers")["peers"]}


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(POLL_S)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["peers"], 1, "no node is running on "),
        (["peers", "--watch", "--json"], 2, "--watch is for people"),
        (["invite", "--role", "king"], 2, "the roles are origin, edge, relay, transcode, inviter"),
        (["invite", "--uses", "0"], 2, "--uses 0: an invite is for 1 to 1000 nodes"),
        (["invite", "--uses", "many"], 2, "--uses"),
        (["invite", "--expires", "soon"], 2, "like 30m, 24h or 7d"),
        (["invite", "--expires", "10s"], 2, "good for 1m to 366d"),
        (["invite", "--seed", "vps.example"], 2, "write HOST:PORT"),
        (["invite", "--export-owner", "--import-owner", "x"], 2, "not both"),
        (["invite", "--export-owner"], 2, "FWNODE_OWNER_PASSPHRASE"),
        (["join"], 2, "Missing argument"),
        (["join", "hello"], 2, "an invite begins with fwinvite1"),
        (["leave"], 1, "there is no node in "),
        (["revoke", "cellar"], 1, "there is no node in "),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    offline: Any, arguments: list[str], code: int, says: str
) -> None:
    one_line(offline("attic", *arguments), code, says)


def test_a_network_before_any_node_ran(offline: Any, tmp_path: Path) -> None:
    made = offline("attic", "invite", "--uses", "2", "--seed", "192.0.2.1:7077")
    line = made.stdout.strip()
    assert made.returncode == 0 and made.stdout.count("\n") == 1 and line.startswith("fwinvite1")
    assert "2 machines can join" in made.stderr
    joined = offline("cellar", "join", line, "--name", "wine", "--role", "edge")
    assert "'wine'" in joined.stdout and "when `fwnode run` starts" in joined.stdout
    told = json.loads(offline("barn", "join", line, "--json").stdout)
    assert (told["name"], told["running"], told["notes"]) == ("barn", False, [])
    assert line not in str(told)
    other = json.loads(offline("loft", "invite", "--json").stdout)["invite"]
    one_line(offline("cellar", "join", other), 1, "`fwnode leave` first")
    one_line(offline("cellar", "invite"), 1, "inviter role")
    one_line(offline("cellar", "revoke", "attic"), 1, "only the owner's node")
    one_line(offline("attic", "revoke", "nobody"), 1, "no node is called 'nobody'")
    assert offline("cellar", "leave", "--yes").returncode == 0
    one_line(offline("cellar", "leave"), 1, "in no network")
    assert offline("cellar", "join", other).returncode == 0
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "attic").iterdir()} == {0o600}


def test_an_invite_from_standard_input(offline: Any, plugin: Any, tmp_path: Path) -> None:
    ran = subprocess.run(
        [*plugin.FWNODE, "join", "-", "--json"],
        input=f"\n  {offline('attic', 'invite').stdout} ",
        env=plugin.clean_environment(tmp_path / "cellar"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(ran.stdout)["running"] is False


def test_the_owner_key_moves_with_a_passphrase(offline: Any) -> None:
    offline("attic", "invite")
    line = json.loads(offline("attic", "invite", "--export-owner", "--json", **PASSPHRASE).stdout)["owner"]
    wrong = {"FWNODE_OWNER_PASSPHRASE": "ten thousand goats"}
    one_line(offline("barn", "invite", "--import-owner", line, **wrong), 1, "passphrase is wrong")
    one_line(offline("barn", "invite", "--import-owner", line[:-5], **PASSPHRASE), 2, "cut off")
    assert "has the owner key" in offline("barn", "invite", "--import-owner", line, **PASSPHRASE).stdout
    one_line(offline("attic", "invite", "--export-owner", FWNODE_OWNER_PASSPHRASE="short"), 1, "at least 10")


def test_a_settings_mistake_is_named(offline: Any, tmp_path: Path) -> None:
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "fwnode.toml").write_text('nane = "x"\n')
    one_line(offline("attic", "invite"), 2, 'did you mean "name"?')


def test_nodes_that_run_make_a_network_and_part(start_node: Any) -> None:
    attic, cellar = (start_node("--name", name, name=name) for name in ("attic", "cellar"))
    assert "In no network" in attic.cli("peers").stdout
    made = attic.cli_json("invite")
    assert made["seeds"] == [attic.addresses["mesh"]]
    joined = cellar.cli_json("join", made["invite"])
    assert joined["running"] is True and joined["network"] == made["network"]
    until(lambda: peers_of(attic).get("cellar", {}).get("state") == "connected")
    until(lambda: peers_of(cellar).get("attic", {}).get("rtt_ms") is not None)
    found = cellar.cli_json("peers")
    assert found["peers"][0]["path"] == "self" and found["network"]["links"] == 1
    assert peers_of(cellar)["attic"]["path"] == "lan"
    header, *rows = attic.cli("peers").stdout.splitlines()
    assert header.split("\t")[:4] == ["NAME", "PLACE", "PATH", "RTT"]
    assert [line.split("\t")[0] for line in rows[:2]] == ["attic", "cellar"]
    expelled = attic.cli_json("revoke", "cellar")
    assert expelled["node"] == peers_of(cellar)["cellar"]["node"]
    until(lambda: "cellar" not in peers_of(attic))
    one_line(attic.cli("revoke", "cellar", check=False), 1, "revoked already")
    until(lambda: cellar.cli_json("peers")["network"]["links"] == 0)
    assert cellar.cli_json("leave") == {"left": True}
    assert cellar.cli_json("peers")["network"]["network"] == ""
    again = cellar.cli_json("invite")
    assert again["network"] != made["network"] and again["seeds"] == [cellar.addresses["mesh"]]
    assert attic.cli_json("leave") == {"left": True}
    attic.cli("join", again["invite"])
    until(lambda: peers_of(cellar).get("attic", {}).get("state") == "connected")
