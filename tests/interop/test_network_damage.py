"""Networks that do not fit: invites that are no good, wrong clocks, seeds that are away, damaged files."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from live_node import LiveNode, StartNode, until

from mesh.errors import MeshError
from mesh.identity.invite import Invite, Terms, enrol, make_invite, parse_invite_untrusted
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.line import read_line_untrusted, write_line
from mesh.identity.membership import Membership
from mesh.identity.store import IdentityStore
from mesh.link.client import dial
from mesh.link.connection.service import Credentials

pytestmark = pytest.mark.interop

FAKETIME = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1")
TEN_MINUTES, HALF_AN_HOUR = 600, 1800
HOUR_S = 3600
FOUND_S = 15.0  # from a seed's start to the link: tries are up to 8 s apart by then
LOOPBACK = ("--http", "127.0.0.1:0", "--rtmp", "off", "--mesh", "127.0.0.1:0", "--admin", "127.0.0.1:0")
GARBAGE = b"\0garbage\xff" * 20


@pytest.fixture
def plugin(pytestconfig: pytest.Config) -> Any:
    """The tests' own conftest.py, which is a plugin of pytest and no importable module."""
    return pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))


class Folder:
    """A data folder on which no node runs."""

    def __init__(self, plugin: Any, path: Path) -> None:
        self._plugin = plugin
        self.path = path

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = self._plugin.clean_environment(self.path) | {"FWNODE_NAME": self.path.name} | variables
        ran: subprocess.CompletedProcess[str] = self._plugin.run_cli(
            *arguments, environment=environment, check=False
        )
        return ran

    def refuses(
        self, code: int, *says: str, arguments: tuple[str, ...] = ("run", *LOOPBACK), **variables: str
    ) -> None:
        """One line on standard error that says all this, and the exit code; by default of `fwnode run`."""
        ran = self.run(*arguments, **variables)
        assert ran.returncode == code, (ran.returncode, ran.stdout, ran.stderr)
        assert ran.stderr.startswith("fwnode: ") and ran.stderr.count("\n") == 1, ran.stderr
        assert all(text in ran.stderr for text in says), ran.stderr

    def invite(self, *options: str) -> str:
        made = self.run("invite", *options)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def invite_made(self, ago_s: int, expires_in_s: int = HOUR_S) -> str:
        """An invite of this owner's that was made so long ago."""
        key = IdentityStore(self.path).network_key()
        assert key is not None
        terms = Terms(expires_in_s=expires_in_s)
        seed = secrets.token_bytes(SEED_BYTES)
        now = int(time.time()) - ago_s
        return make_invite(key, key.node_id, terms, enrolment_seed=seed, seeds=(), now_unix_s=now).line()


@pytest.fixture
def folder(tmp_path: Path, plugin: Any) -> Callable[[str], Folder]:
    """Data folders by name."""
    return lambda name: Folder(plugin, tmp_path / name)


@pytest.fixture
def owner(folder: Callable[[str], Folder]) -> Folder:
    """A folder that holds a network's owner key."""
    made = folder("owner")
    made.invite()
    return made


def refused_with(node: LiveNode, text: str, *, by_us: bool) -> Callable[[], bool]:
    """Whether `fwnode peers --json` has somebody refused for that reason."""

    def look() -> bool:
        rows = node.cli_json("peers")["network"]["refused"]
        return any(text in row["reason"] and row["by_us"] == by_us for row in rows)

    return look


def linked(node: LiveNode) -> dict[str, Any]:
    """Those it has a link with, by name."""
    return {peer["name"]: peer for peer in node.cli_json("peers")["peers"] if peer["state"] == "connected"}


# --- invites


def test_invites_that_are_no_good(owner: Folder, folder: Callable[[str], Folder]) -> None:
    """Said in one line, by exit code 2 for a wrong line and 1 for a right one that cannot be used."""
    joiner = folder("joiner")
    line = owner.invite("--uses", "3")
    at = len(line) // 2
    mistyped = line[:at] + ("a" if line[at] != "a" else "b") + line[at + 1 :]
    content = bytearray(read_line_untrusted("fwinvite", 1, line, "an invite"))
    network = parse_invite_untrusted(line).network
    content[content.index(network) + 3] ^= 1
    forged = write_line("fwinvite", 1, bytes(content))
    for code, bad, says in (
        (2, line[:60], "cut off"),
        (2, line[:-1], f"cut off after {len(line) - 1} of {len(line)} characters"),
        (2, line + "zz", "2 characters too many"),
        (2, mistyped, "mistyped"),
        (2, line.replace("fwinvite1", "fwinvite7"), "another version"),
        (1, forged, "signature"),
        (1, owner.invite_made(2 * 24 * HOUR_S), "expired"),
        (1, owner.invite_made(-HALF_AN_HOUR), "set the clock"),
    ):
        joiner.refuses(code, says, arguments=("join", bad))
        assert not (joiner.path / "membership.bin").exists(), says
    copied = f"  '{line[:40]}\n {line[40:].upper()}' "
    assert joiner.run("join", copied).returncode == 0, "what copying adds does no harm"


def test_invites_whose_dates_are_off_within_the_tolerance(
    owner: Folder, folder: Callable[[str], Folder]
) -> None:
    """They work, and what is odd is said."""
    for name, line, says in (
        ("late", owner.invite_made(HOUR_S + TEN_MINUTES), "expired"),
        ("early", owner.invite_made(-TEN_MINUTES), "one of the two clocks is that wrong"),
    ):
        joined = folder(name).run("join", line)
        assert joined.returncode == 0, joined.stderr
        assert joined.stderr.startswith("Note: ") and says in joined.stderr


def use_up(invite: Invite) -> None:
    """Join by it, and be seen by the node that it leads to."""
    key = SecretKey(secrets.token_bytes(SEED_BYTES))
    enrolled = enrol(invite, key.node_id, "first", int(time.time()))

    async def link() -> None:
        credentials = Credentials(key, Membership(enrolled.chain), "fwnode 0.1.0", time.time)
        await (await dial(invite.seeds[0], credentials)).aclose()

    def linked_once() -> bool:
        try:
            trio.run(link)
        except MeshError:
            return False  # it was in no network a moment ago and listens only now
        return True

    until(linked_once, "the first one is in")


def test_a_used_up_invite_is_refused_and_both_say_so(start: StartNode) -> None:
    host = start("--name", "host")
    line = host.cli_json("invite")["invite"]
    use_up(parse_invite_untrusted(line))
    time.sleep(1.1)  # claims are dated in whole seconds, and of one second's the digest decides
    late = start("--name", "late")
    joined = late.cli("join", line)
    assert joined.returncode == 0, "nobody can know it here"
    said = late.await_log("peer refused", reason="used", by="them")
    until(refused_with(host, "used", by_us=True), "the host says why")
    assert refused_with(late, "used", by_us=False)(), said
    assert not linked(host) and not linked(late)


def test_a_seed_of_another_network(start: StartNode) -> None:
    host = start("--name", "host")
    host.cli("invite")
    other = start("--name", "other", "--seed", host._running.addresses["mesh"])
    other.cli("invite")
    other.await_log("peer refused", reason="another network")
    until(refused_with(host, "another network", by_us=True), "the host says why")
    assert not linked(other)


# --- clocks


def clock(ahead_s: int) -> dict[str, str]:
    """The environment of a process whose wall clock is so many seconds ahead; the monotonic one is right."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{ahead_s:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.fixture
def with_clock(plugin: Any, tmp_path: Path) -> Iterator[Callable[[str, int], LiveNode]]:
    """Starts nodes whose clock is so many seconds ahead."""
    if not FAKETIME.exists():
        pytest.skip(f"{FAKETIME} is missing: Debian's package faketime has it")
    nodes: list[LiveNode] = []

    def start_with_clock(name: str, ahead_s: int) -> LiveNode:
        options = ("--name", name, "--set", "drain_s=0.2")
        running = plugin.RunningNode(tmp_path / name, *options, environment=clock(ahead_s))
        nodes.append(LiveNode(running))
        return nodes[-1]

    yield start_with_clock
    for node in nodes:
        node.finish()


def await_clock_shown(node: LiveNode, name: str) -> None:
    until(lambda: linked(node)[name]["clock"], f"`fwnode peers` says it of {name}")


def test_clocks_ten_minutes_off_work_and_are_said(
    start: StartNode, with_clock: Callable[[str, int], LiveNode]
) -> None:
    host = start("--name", "host")
    line = host.cli_json("invite", "--uses", "2")["invite"]
    ahead, behind = with_clock("ahead", TEN_MINUTES), with_clock("behind", -TEN_MINUTES)
    joined = behind.cli("join", line)
    assert "one of the two clocks is that wrong" in joined.stderr
    ahead.cli("join", line)
    until(lambda: linked(host).keys() == {"ahead", "behind"}, "both are linked")
    for node, name in ((host, "ahead"), (behind, "host")):
        told = node.await_log("clock", node=name)
        assert "one of the two clocks is at least that wrong" in told["what"]
        await_clock_shown(node, name)


def test_clocks_half_an_hour_off_are_refused_with_the_reason(
    start: StartNode, with_clock: Callable[[str, int], LiveNode], folder: Callable[[str], Folder]
) -> None:
    """Behind, it cannot use the invite yet; ahead, its claim begins too late for everybody else."""
    host = start("--name", "host")
    line = host.cli_json("invite")["invite"]
    folder("behind").refuses(1, "set the clock", arguments=("join", line), **clock(-HALF_AN_HOUR))
    ahead = with_clock("ahead", HALF_AN_HOUR)
    ahead.cli("join", line)
    said = ahead.await_log("peer refused", reason="set the clock of the node that is wrong", by="them")
    assert "its membership begins" in said["reason"]
    until(refused_with(host, "set the clock", by_us=True), "the host says why")
    assert not linked(host)


# --- seeds


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_a_seed_that_is_away_is_said_once_and_tried_until_it_comes(owner: Folder, start: StartNode) -> None:
    port = free_port()
    seed = f"127.0.0.1:{port}"
    line = replace(parse_invite_untrusted(owner.invite()), seeds=()).line()
    node = start("--name", "early", "--seed", seed)
    began = time.monotonic()
    node.cli("join", line)
    node.await_log("seed not reached", address=seed)

    def tries() -> int:
        return int(node.cli_json("peers")["network"]["counters"]["link_dials"])

    until(lambda: tries() >= 3, "it is tried again and again")
    print(f"three tries in {time.monotonic() - began:.1f} s")
    said = [line for line in node.log() if line["event"] == "seed not reached"]
    assert len(said) == 1, said
    came = time.monotonic()
    start("--name", "owner", "--mesh", seed, data_dir=owner.path)
    until(lambda: "owner" in linked(node), "linked when the seed is there", FOUND_S)
    print(f"{time.monotonic() - came:.1f} s from the seed's start to the link")


# --- files


def put(file: Path, content: bytes) -> None:
    """Write a file that nobody else can use."""
    file.touch(0o600)
    file.write_bytes(content)


@pytest.mark.parametrize("content", [b'{"addresses": 7}', b"[" * 100_000], ids=["false", "long"])
def test_a_damaged_list_of_peers(owner: Folder, start: StartNode, content: bytes) -> None:
    """It is kept aside and said, and costs nothing else."""
    (owner.path / "peers.json").write_bytes(content)
    node = start(data_dir=owner.path)
    said = node.await_log("last known peers", trouble="damaged")
    assert "kept as peers.json.damaged-1, begun anew" in said["trouble"]
    assert (owner.path / "peers.json.damaged-1").read_bytes() == content
    assert node.cli_json("peers")["network"]["members"] == 1


def test_a_list_of_peers_that_is_a_folder(owner: Folder, start: StartNode) -> None:
    (owner.path / "peers.json").mkdir()
    node = start(data_dir=owner.path)
    node.await_log("last known peers", trouble="cannot read")
    assert node.cli_json("peers")["network"]["members"] == 1


@pytest.mark.parametrize("name", ["node.key", "network.key", "membership.bin"])
def test_a_damaged_file_of_the_identity_ends_the_start(owner: Folder, name: str) -> None:
    """It is kept aside and never silently replaced; restored, the node is who it was."""
    file = owner.path / name
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) * 2 // 3] ^= 2
    for number, bad in enumerate((bytes(flipped), good[: len(good) // 2], b"", GARBAGE), 1):
        put(file, bad)
        copy = file.with_name(f"{name}.damaged-{number}")
        owner.refuses(1, f"{file} is damaged", f"kept as {copy.name}", "restore it from a backup, or move")
        assert copy.read_bytes() == bad and not file.exists()
        owner.refuses(1, f"{file} is missing", copy.name)
        assert not file.exists(), "a supervisor that starts it again changes nothing"
    owner.refuses(1, f"{file} is missing", arguments=("invite",))
    put(file, good)
    assert owner.run("invite").returncode == 0, "restored, it is as it was"


def test_files_that_do_not_belong_together(owner: Folder, folder: Callable[[str], Folder]) -> None:
    other = folder("other")
    other.invite()
    membership, node_key, network_key = (
        owner.path / name for name in ("membership.bin", "node.key", "network.key")
    )
    kept = {file: file.read_bytes() for file in (membership, node_key, network_key)}
    node_key.write_bytes((other.path / "node.key").read_bytes())
    owner.refuses(1, "is the membership of another node than node.key")
    node_key.write_bytes(kept[node_key])
    network_key.write_bytes((other.path / "network.key").read_bytes())
    owner.refuses(1, "may admit 0 more nodes", arguments=("invite",))
    owner.refuses(1, "no owner key", arguments=("revoke", "other"))
    assert membership.read_bytes() == kept[membership], "nothing was changed"


def test_files_that_others_can_read_and_things_that_are_no_files(owner: Folder) -> None:
    key = owner.path / "node.key"
    good = key.read_bytes()
    key.chmod(0o644)
    owner.refuses(1, "can be used by others (mode 0644)", f"chmod 600 {key}")
    key.unlink()
    key.mkdir()
    owner.refuses(1, str(key))
    key.rmdir()
    os.mkfifo(key, 0o600)
    owner.refuses(1, f"{key} is not a file")
    key.unlink()
    put(key, good)
    assert owner.run("invite").returncode == 0
