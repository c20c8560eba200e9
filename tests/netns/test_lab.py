"""The lab itself: hosts that reach each other, until they are cut off."""

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import NAMESPACES, Host, Lab, LabError, Unsupported

pytestmark = pytest.mark.netns

WAIT_S = 0.4  # a connection inside one kernel takes far less; a cut one takes for ever
HEAL_S = 5.0  # TCP repeats its SYN after a second; each try here is a new one
PORT = 8000
GROUP = ("224.0.0.251", 5353)


@pytest.fixture
def two(lab: Lab) -> tuple[Host, Host]:
    return lab.hosts[0], lab.hosts[1]


@pytest.fixture
def server(two: tuple[Host, Host]) -> Iterator[Host]:
    """The second host, which listens."""
    with two[1].socket() as listener:
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        yield two[1]


def reaches(host: Host, other: Host) -> bool:
    with host.socket() as connection:
        connection.settimeout(WAIT_S)
        try:
            connection.connect((other.address, PORT))
        except OSError:
            return False
        return True


def await_reaching(host: Host, other: Host) -> None:
    deadline = time.monotonic() + HEAL_S
    while not reaches(host, other):
        assert time.monotonic() < deadline


def test_hosts_are_apart_from_this_machine(lab: Lab) -> None:
    links = lab.hosts[0].run("ip", "-brief", "link").splitlines()
    assert sorted(line.split()[0].split("@")[0] for line in links) == ["eth0", "lo"]
    assert {f"fwlab{os.getpid()}"} == {host.namespace.split("-")[0] for host in lab.hosts}


def test_drop_cuts_and_restore_heals(lab: Lab, two: tuple[Host, Host], server: Host) -> None:
    client = two[0]
    assert reaches(client, server)
    for cut, heal in ((lab.drop, lab.restore), (lab.unplug, lab.plug)):
        cut(server)
        assert not reaches(client, server)
        heal(server)
        await_reaching(client, server)


def test_only_those_dropped_are_cut_off(lab: Lab, two: tuple[Host, Host], server: Host) -> None:
    lab.drop(lab.hosts[2])
    assert reaches(two[0], server)
    assert not reaches(lab.hosts[2], server)


def test_dropped_hosts_keep_their_carrier(lab: Lab, two: tuple[Host, Host]) -> None:
    lab.drop(two[0])
    assert "NO-CARRIER" not in two[0].run("ip", "link", "show", "eth0")
    lab.unplug(two[0])
    assert "NO-CARRIER" in two[0].run("ip", "link", "show", "eth0")


def test_another_address(lab: Lab, two: tuple[Host, Host], server: Host) -> None:
    old = server.address
    lab.readdress(server, "10.77.0.77")
    await_reaching(two[0], server)
    server.address = old
    assert not reaches(two[0], server)


def test_multicast_arrives(two: tuple[Host, Host]) -> None:
    with two[0].socket(kind=socket.SOCK_DGRAM) as sender, two[1].socket(kind=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("0.0.0.0", GROUP[1]))
        membership = socket.inet_aton(GROUP[0]) + socket.inet_aton(two[1].address)
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        receiver.settimeout(HEAL_S)
        sender.sendto(b"to all", GROUP)
        data, (source, _) = receiver.recvfrom(100)
        assert (data, source) == (b"to all", two[0].address)


def test_programs_run_in_a_host(two: tuple[Host, Host], tmp_path: Path) -> None:
    """A server in one host, a client in the other; this machine reaches neither."""
    (tmp_path / "found").write_text("here")
    listen = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(tmp_path)]
    url = f"http://{two[1].address}:{PORT}/found"
    program = f"import urllib.request as r; print(r.urlopen('{url}', timeout=2).read().decode())"
    with subprocess.Popen([*two[1].prefix, *listen], stdout=-3, stderr=-3) as process:
        try:
            assert Path(f"/proc/{process.pid}/comm").exists(), "under the id that it was started with"
            await_reaching(two[0], two[1])
            assert two[0].run(sys.executable, "-c", program).strip() == "here"
            with pytest.raises(OSError, match=r"."):
                urllib.request.urlopen(url, timeout=WAIT_S)
        finally:
            process.kill()


def test_a_failing_command_says_which(two: tuple[Host, Host]) -> None:
    with pytest.raises(LabError, match="ip route add 192"):
        two[0].run("ip", "route", "add", "192.0.2.0/24", "via", "198.51.100.1")


def test_delay(lab: Lab, two: tuple[Host, Host], server: Host) -> None:
    try:
        lab.delay(server, 100)
    except Unsupported as reason:
        pytest.skip(str(reason))
    began = time.monotonic()
    assert reaches(two[0], server)
    assert time.monotonic() - began > 0.09


def test_nothing_is_left_and_what_was_left_is_removed(namespaces: None) -> None:
    """A run that was killed leaves its namespaces; the next one takes them away."""
    ended = next(number for number in itertools.count(2**22 + 1) if not Path(f"/proc/{number}").exists())
    subprocess.run(["ip", "netns", "add", f"fwlab{ended}-0-br"], check=True)
    with Lab(1) as lab:
        assert (NAMESPACES / lab.hosts[0].namespace).exists()
        assert not (NAMESPACES / f"fwlab{ended}-0-br").exists()
    assert not (NAMESPACES / lab.hosts[0].namespace).exists()
