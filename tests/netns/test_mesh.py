"""Whole nodes on hosts of their own: joining, dying, cut off, revoked, moving, finding each other.

What a requirement bounds is measured from the last command's return, or from the signal or the cut.
"""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab, Unsupported
from machine import PATIENCE_S, Machine, MakeMachines, all_linked, until, who_sees_whom

from mesh.identity.invite import Invite, parse_invite_untrusted

pytestmark = pytest.mark.netns

SEEN_S = 3.0  # joined -> everybody on everybody's list with a round trip
DEAD_S = 15.0  # killed or cut off -> gone from the others' lists
GOODBYE_S = 1.0  # SIGTERM -> gone from them
REVOKED_S = 5.0  # revoked -> gone from them
MOVED_S = 2.0  # another address -> linked by it
MDNS_S = 2.0  # ready -> linked, by multicast alone
HEALED_S = 30.0  # cut ended -> linked: no requirement, two nodes that lost each other try again by and by
STOP_S = 3.0  # a node without viewers ends at once, whatever does not answer it
PLACE = ("--set", "geoip.place=52.5,13.4")
NOBODY = "10.77.0.250:7077"


def network_of(machines: list[Machine], *options: str) -> None:
    """Start them all; the first invites, the others join; all are linked."""
    for machine in machines:
        machine.start(*options)
    first, *others = machines
    line = first.invite("--uses", str(len(others)))
    for machine in others:
        machine.cli("join", line)
    began = time.monotonic()
    await_linked(machines, "all linked after the last joined", SEEN_S, began)

    def all_told() -> bool:
        views = [machine.view() for machine in machines]
        return all(
            view["network"]["members"] == len(machines)
            and all(peer["place"] or not options for peer in view["peers"])
            for view in views
        )

    until(all_told, "everybody has everybody's records", SEEN_S, began, lambda: who_sees_whom(*machines))


def await_linked(
    machines: list[Machine], what: str, patience_s: float = PATIENCE_S, began: float | None = None
) -> float:
    return until(lambda: all_linked(machines), what, patience_s, began, lambda: who_sees_whom(*machines))


def await_gone(name: str, watchers: list[Machine], what: str, patience_s: float, began: float) -> float:
    def gone() -> bool:
        return not any(name in machine.peers() for machine in watchers)

    return until(gone, what, patience_s, began, lambda: who_sees_whom(*watchers))


def with_seeds(line: str, *seeds: str) -> str:
    """The same invite with other addresses to try."""
    invite: Invite = parse_invite_untrusted(line)
    return replace(invite, seeds=seeds).line()


def test_three_machines_see_each_other_with_place_and_round_trip(machines: MakeMachines) -> None:
    three = machines(3)
    network_of(three, *PLACE)
    keys = {machine.name: machine.key for machine in three}
    assert len(set(keys.values())) == len(three)
    for machine in three:
        shown = machine.cli_json("peers")
        assert shown["network"]["members"] == len(three)
        assert len(shown["network"]["network"]) == 64
        peers = {peer["name"]: peer for peer in shown["peers"]}
        assert {name: peer["node"] for name, peer in peers.items()} == keys
        assert peers[machine.name]["path"] == "self"
        for name, peer in peers.items():
            assert (peer["place"]["latitude"], peer["place"]["longitude"]) == (52.5, 13.4), peer
            if name != machine.name:
                assert (peer["state"], peer["path"]) == ("connected", "lan"), peer
                assert 0 < peer["rtt_ms"] < 1000, peer
    table = three[0].cli("peers").stdout
    assert all(machine.name in table for machine in three)


def test_a_killed_node_is_gone_and_one_that_says_goodbye_at_once(machines: MakeMachines) -> None:
    first, second, third = three = machines(3)
    network_of(three)
    began = time.monotonic()
    third.kill()
    await_gone("n2", [first, second], "the killed node is gone", DEAD_S, began)
    assert first.linked() == second.linked() == {"n0", "n1"}
    process = second.running.process
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    await_gone("n1", [first], "the node that said goodbye is gone", GOODBYE_S, began)
    process.wait(STOP_S)  # a second signal would stop it at once
    assert second.stop() == 0
    for machine in (second, third):
        machine.start()
    await_linked(three, "both are back without a word from anybody")


def test_five_nodes_lose_one_that_is_cut_off_and_only_that_one(lab: Lab, machines: MakeMachines) -> None:
    five = machines(5)
    network_of(five)
    *rest, last = five
    began = time.monotonic()
    lab.drop(last.host)
    await_gone("n4", rest, "the node behind the cut is gone", DEAD_S, began)
    until(
        lambda: last.linked() == {"n4"}, "it has no links either", DEAD_S, began, lambda: who_sees_whom(last)
    )
    assert all_linked(rest), who_sees_whom(*rest)
    began = time.monotonic()
    lab.restore(last.host)
    await_linked(five, "all linked again after the cut", HEALED_S, began)


def test_a_network_in_two_halves_heals(lab: Lab, machines: MakeMachines) -> None:
    """A node whose cable is out sees that; the rest of its half is it alone."""
    three = machines(3)
    network_of(three)
    began = time.monotonic()
    lab.unplug(three[0].host)
    await_gone("n0", three[1:], "the owner's node is gone", DEAD_S, began)
    assert all_linked(three[1:])
    began = time.monotonic()
    lab.plug(three[0].host)
    await_linked(three, "all linked again with the cable in", HEALED_S, began)


def test_a_revoked_node_is_gone_and_told_why(machines: MakeMachines) -> None:
    first, second, third = three = machines(3)
    network_of(three)
    key = third.key
    began = time.monotonic()
    first.cli("revoke", "n2", "--yes")
    await_gone("n2", [first, second], "the revoked node is gone", REVOKED_S, began)
    until(lambda: third.linked() == {"n2"}, "it has no links", REVOKED_S, began, lambda: who_sees_whom(third))
    third.stop()
    third.start("--seed", first.address)

    def refused() -> bool:
        ours = [row for row in first.refused("revoked", by_us=True) if row["node"] == key]
        return bool(ours and third.refused("revoked", by_us=False))

    until(refused, "both sides say why", seen=lambda: who_sees_whom(first, third))
    assert first.linked() == second.linked() == {"n0", "n1"}
    assert "revoked" in first.log()
    assert "revoked" in third.log()
    second.stop()
    second.start()
    await_linked([first, second], "the revocation outlasts a restart")
    assert "n2" not in second.peers()


def test_a_node_comes_back_with_another_address(lab: Lab, machines: MakeMachines) -> None:
    first, second = two = machines(2)
    network_of(two)
    key = second.key
    assert second.stop() == 0
    lab.readdress(second.host, "10.77.0.102")
    second.start()
    await_linked(two, "linked after the restart", HEALED_S)
    peer = first.peers()["n1"]
    assert (peer["node"], peer["address"].split(":")[0]) == (key, "10.77.0.102")


@pytest.mark.parametrize("mover", [0, 1], ids=["the one that was joined", "the one that joined"])
def test_a_link_survives_another_address(lab: Lab, machines: MakeMachines, mover: int) -> None:
    """Neither node is ever missing on the other's list, and the new address is in use within two seconds."""
    two = machines(2)
    network_of(two)
    moved, other = two[mover], two[1 - mover]
    missing: list[str] = []

    def arrived() -> bool:
        missing.extend(machine.name for machine in two if len(machine.peers()) < len(two))
        by = other.peers().get(moved.name, {"address": ""})["address"]
        return by.startswith("10.77.0.103:") and all_linked(two)

    began = time.monotonic()
    lab.readdress(moved.host, "10.77.0.103")
    until(arrived, "linked by the new address", MOVED_S, began, lambda: who_sees_whom(*two))
    assert not missing


def test_nodes_on_one_lan_find_each_other_without_an_address(machines: MakeMachines) -> None:
    """By mDNS: the invite has no seeds, and it was used before the node's first run."""
    first, second, stranger = machines(3)
    first.start()
    line = with_seeds(first.invite())
    stranger.start().invite()
    second.cli("join", line, "--name", second.name)
    began = time.monotonic()
    second.start()
    started = time.monotonic()
    print(f"started in {started - began:.2f} s")
    await_linked([first, second], "linked by mDNS", MDNS_S, started)
    assert first.view()["network"]["seeds"] == second.view()["network"]["seeds"] == []
    assert stranger.linked() == {"n2"}, "of another network"


def test_a_used_up_invite(machines: MakeMachines) -> None:
    first, second, third = machines(3)
    for machine in (first, second, third):
        machine.start()
    line = first.invite()
    second.cli("join", line)
    await_linked([first, second], "linked", SEEN_S)
    time.sleep(1.1)  # claims are dated in whole seconds, and of one second's the digest decides
    joined = third.cli("join", line, check=False)

    def told() -> bool:
        return "used" in joined.stderr or bool(third.refused("used", by_us=False))

    until(told, "the late one is told why", seen=lambda: (joined.stderr, who_sees_whom(third)))
    until(lambda: bool(first.refused("used", by_us=True)) or joined.returncode, "and so is the other side")
    assert first.linked() == second.linked() == {"n0", "n1"}
    assert "n2" not in first.peers()
    assert "Traceback" not in joined.stderr


def test_lines_that_are_no_good(machines: MakeMachines) -> None:
    """One line on standard error, exit code 1 or 2, and the node goes on as it was."""
    first, second = machines(2)
    for machine in (first, second):
        machine.start()
    line = first.invite()
    for bad, why in ((line[:-9], "cut"), (line[:-1], "cut"), ("hello", "invite"), ("", "")):
        ran = second.cli("join", bad, check=False)
        assert ran.returncode in (1, 2), (bad, ran.stdout)
        assert ran.stderr.strip() and "Traceback" not in ran.stderr
        assert why in ran.stderr, (bad, ran.stderr)
        assert second.view()["network"]["network"] == ""
    second.cli("join", line)
    await_linked([first, second], "the right line works after them", SEEN_S)


def test_a_node_of_another_network(machines: MakeMachines) -> None:
    """It may not come in by a seed, it is told why, and joining does not silently leave its own network."""
    first, second = machines(2)
    first.start()
    line = first.invite()
    second.start("--seed", first.address)
    second.invite()
    own = second.view()["network"]["network"]
    assert own != first.view()["network"]["network"]

    def refused() -> bool:
        return bool(first.refused("network", by_us=True) and second.refused("network", by_us=False))

    until(refused, "both sides say why", seen=lambda: who_sees_whom(first, second))
    joined = second.cli("join", line, check=False)
    assert joined.returncode in (1, 2)
    assert "leave" in joined.stderr, "what to do about it"
    assert second.view()["network"]["network"] == own
    assert first.linked() == {"n0"}


def test_seeds_that_do_not_answer(machines: MakeMachines) -> None:
    """They delay nothing: the one that answers is linked, and the node ends as fast as any."""
    first, second = two = machines(2)
    first.start()
    line = with_seeds(first.invite(), NOBODY, "no-such-host.invalid:7077", first.address)
    second.start("--seed", NOBODY, "--seed", "no-such-host.invalid:7077")
    joined = time.monotonic()
    second.cli("join", line)
    await_linked(two, "linked beside dead seeds", PATIENCE_S, joined)
    assert NOBODY in second.view()["network"]["seeds"]
    first.stop()
    second.stop()
    second.start("--seed", NOBODY)
    until(lambda: second.get("/api/v1/status"), "it runs alone")
    assert second.linked() == {"n1"}
    began = time.monotonic()
    assert second.stop() == 0
    assert time.monotonic() - began < STOP_S


def test_leaving(machines: MakeMachines) -> None:
    first, second, third = three = machines(3)
    network_of(three)
    began = time.monotonic()
    second.cli("leave", "--yes")
    await_gone("n1", [first, third], "who left is gone", REVOKED_S, began)
    assert second.view()["network"]["network"] == ""
    assert second.linked() <= {"n1"}
    assert all_linked([first, third])


def test_last_known_peers_are_only_addresses(machines: MakeMachines) -> None:
    """They are kept for the next start; a damaged file is set aside and said, and the node starts."""
    first, second = two = machines(2)
    network_of(two)
    second.stop()
    file = Path(second.data_dir / "peers.json")
    assert first.address in file.read_text()
    assert second.name not in file.read_text()
    json.loads(file.read_text())
    file.write_bytes(b"\0garbage")
    second.start()
    await_linked(two, "linked with a damaged file of peers")
    assert list(second.data_dir.glob("peers.json.damaged-*"))
    assert "damaged" in second.log() + str(second.running.stdout)


def test_round_trips_are_those_of_the_path(lab: Lab, machines: MakeMachines) -> None:
    two = machines(2)
    try:
        for machine in two:
            lab.delay(machine.host, 40)
    except Unsupported as reason:
        pytest.skip(str(reason))
    network_of(two)
    assert 80 <= two[0].peers()["n1"]["rtt_ms"] < 200
