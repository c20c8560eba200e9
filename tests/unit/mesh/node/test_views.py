"""What a node shows of its network: who is in it, by which path, where, and every count."""

from dataclasses import replace
from typing import Any

import pytest

from mesh.directory.facts import CarriedStream, CarriedStreams, Load, Place, Transcode
from mesh.directory.gossip import LOAD_EVERY_S
from mesh.directory.record import Kind
from mesh.link.refusals import Refusals
from mesh.model import Role
from mesh.node.model import MeshStatus, PeerLoad, PeerView
from mesh.node.views import mesh_counters, mesh_status, peer_views

BERLIN = Place(52.5, 13.4, "configured", "DE")
SYDNEY = Place(-33.9, 151.2, "configured", "AU")


def views(lab: Any, host: Any) -> dict[str, PeerView]:
    return {view.name: view for view in peer_views(host.core, lab.now, lab.unix_s)}


def status(host: Any, refusals: Refusals | None = None) -> MeshStatus:
    refusals = refusals or Refusals()
    counters = mesh_counters(host.core, refusals)
    return mesh_status(host.core, refusals, ["192.0.2.1:7077"], owner=True, counters=counters)


def test_a_node_alone_shows_itself(lab: Any) -> None:
    first = lab.add("first")
    [own] = peer_views(first.core, lab.now, lab.unix_s)
    assert (own.name, own.node, own.state, own.path) == ("first", first.node.hex(), "self", "self")
    assert (own.address, own.version, own.rtt_ms) == (first.address, "fwnode test", None)
    assert (own.load, own.place, own.streams) == (None, None, [])
    assert own.roles == sorted(Role)
    assert own.since_unix_s == int(lab.unix_s)


def test_this_node_comes_first_then_the_linked_by_name_then_the_known(lab: Any) -> None:
    first, *_ = lab.small("first", "zoe", "adam")
    far = lab.add("aaron")
    far.dialable = first.dialable = False
    lab.join(far, lab.hosts["zoe"])
    shown = peer_views(first.core, lab.now, lab.unix_s)
    assert [(view.name, view.state) for view in shown] == [
        ("first", "self"),
        ("adam", "connected"),
        ("zoe", "connected"),
        ("aaron", "known"),
    ]
    assert (shown[3].path, shown[3].rtt_ms, shown[3].address) == ("", None, far.address)
    assert shown[3].since_unix_s >= lab.community.now + 100


def test_a_linked_peer_is_shown_as_it_says_and_as_it_was_measured(lab: Any) -> None:
    first, second = lab.small("first", "second")
    second.core.set_load(Load(5_000_000, 20_000_000, 0.25, 7, 9, 0), lab.now)
    second.core.set_streams(CarriedStreams([CarriedStream("cam", 1, 0, ["v1"])]), lab.now)
    lab.run(LOAD_EVERY_S + 1)
    view = views(lab, first)["second"]
    assert view.load == PeerLoad(0.25, 5_000_000, 20_000_000, 7, 9)
    assert view.streams == ["cam"]
    assert view.rtt_ms == pytest.approx(20.0, abs=0.5)
    assert view.roles == sorted(second.core.membership.own_roles)
    assert view.nat == second.core.nat
    assert view.address == second.address
    up_at = first.core.connector.links[second.node].up_at
    assert view.since_unix_s == int(lab.community.now + up_at)


@pytest.mark.parametrize(
    ("remote", "path"),
    [
        ("192.168.1.4:7077", "lan"),
        ("127.0.0.1:7077", "lan"),
        ("[fe80::1]:7077", "lan"),
        ("198.51.100.1:7077", "direct"),
        ("[2001:db8::1]:7077", "direct"),
    ],
)
def test_the_path_is_told_from_the_address(lab: Any, remote: str, path: str) -> None:
    first, second = lab.add("first"), lab.add("second")
    peer = replace(lab.peer(first, second, dialled=True), remote=remote)
    assert first.core.connected(1, peer, lab.now, lab.unix_s)
    view = views(lab, first)["second"]
    assert (view.path, view.address) == (path, remote)
    # Until its records come, the handshake is all that is known.
    assert (view.version, view.roles) == ("fwnode test", sorted(peer.roles))


def test_a_relayed_link_names_the_relay(lab: Any) -> None:
    first, relay = lab.small("first", "relay")
    hidden = lab.add("hidden")
    peer = replace(lab.peer(first, hidden, dialled=True), remote="", observed="")
    assert first.core.connected(1_000_000, peer, lab.now, lab.unix_s, via=relay.node)
    view = views(lab, first)["hidden"]
    assert (view.state, view.path, view.address) == ("connected", "relayed via relay", "")
    # A relay that is not known by name is shown by its key.
    first.core.connector.links[hidden.node].via = bytes(range(32))
    assert views(lab, first)["hidden"].path == "relayed via 00010203"


def test_why_a_link_is_relayed_is_shown_as_long_as_it_is(lab: Any) -> None:
    first, relay = lab.small("first", "relay")
    hidden = lab.add("hidden")
    reasons = {hidden.node: "UDP is blocked there", relay.node: "of no interest"}
    peer = replace(lab.peer(first, hidden, dialled=True), remote="", observed="")
    assert first.core.connected(1_000_000, peer, lab.now, lab.unix_s, via=relay.node)

    def shown() -> dict[str, str]:
        found = peer_views(first.core, lab.now, lab.unix_s, reasons)
        return {view.name: view.why_relayed for view in found}

    assert shown() == {"first": "", "hidden": "UDP is blocked there", "relay": ""}
    lab.connect(first, hidden)
    assert shown()["hidden"] == ""


def test_since_when_the_path_holds_and_since_when_there_is_a_link(lab: Any) -> None:
    first, second = lab.small("first", "second")
    linked_at = first.core.connector.links[second.node].up_at
    lab.run(20.0)
    lab.connect(first, second)
    view = views(lab, first)["second"]
    assert view.since_unix_s == int(lab.community.now + linked_at)
    assert view.path_since_unix_s == int(lab.unix_s) > view.since_unix_s
    own = views(lab, first)["first"]
    assert (own.path_since_unix_s, own.loss) == (None, None)


def test_loss_is_told_of_a_link(lab: Any) -> None:
    first, second = lab.small("first", "second")
    assert views(lab, first)["second"].loss == 0.0
    pulse = first.core.connector.links[second.node].pulse
    for number in range(2):
        pulse.ping_now(lab.now + number)
    lab.now += 3.0
    loss = views(lab, first)["second"].loss
    assert loss is not None and 0.0 < loss == round(loss, 3) < 1.0


def test_who_came_is_shown_where_it_listens(lab: Any) -> None:
    first, second = lab.small("first", "second")
    link = first.core.connector.links[second.node]
    assert not link.peer.dialled
    assert link.peer.remote == "192.0.2.2:50000"
    assert views(lab, first)["second"].address == "192.0.2.2:7077"
    link.peer = replace(link.peer, remote="198.51.100.9:50000")  # of a host that it does not announce
    assert views(lab, first)["second"].address == "198.51.100.9:50000"


def test_a_place_that_light_does_not_reach_is_doubted(lab: Any) -> None:
    first, second = lab.small("first", "second")
    first.core.set_place(BERLIN, lab.now)
    second.core.set_place(SYDNEY, lab.now)
    lab.run(1.0)
    shown = views(lab, first)
    own, claimed = shown["first"].place, shown["second"].place
    assert own and claimed
    assert (own.latitude, own.country, own.source, own.doubt) == (52.5, "DE", "configured", "")
    assert "16" in claimed.doubt and "20.0 ms" in claimed.doubt
    second.core.set_place(replace_place(BERLIN, 52.6), lab.now)
    lab.run(1.0)
    near = views(lab, first)["second"].place
    assert near and near.doubt == ""


def replace_place(place: Place, latitude: float) -> Place:
    return Place(latitude, place.longitude, place.source, place.country)


def test_nobody_is_doubted_by_who_does_not_know_its_own_place(lab: Any) -> None:
    first, second = lab.small("first", "second")
    second.core.set_place(SYDNEY, lab.now)
    lab.run(1.0)
    place = views(lab, first)["second"].place
    assert place and place.doubt == ""


def test_facts_that_are_not_understood_are_shown_as_missing(lab: Any) -> None:
    first, second = lab.small("first", "second")
    for kind in (Kind.WHERE, Kind.LOAD, Kind.STREAMS, Kind.PLACE, Kind.TRANSCODE):
        second.core.gossip.publish(kind, b"\xc1", lab.now)
    second.core.set_streams(CarriedStreams([]), lab.now)
    lab.run(LOAD_EVERY_S + 1)
    view = views(lab, first)["second"]
    assert (view.load, view.place, view.nat) == (None, None, "")
    assert first.core.fact(second.node, Transcode) is None


def test_who_left_is_shown_no_more(lab: Any) -> None:
    first, _, third = lab.small("first", "second", "third")
    third.core.leave(lab.now)
    lab.run(0.5)
    assert sorted(views(lab, first)) == ["first", "second"]
    assert status(first).members == 2


def test_the_status_of_a_network(lab: Any) -> None:
    first, *_ = lab.small("first", "second", "third")
    said = status(first)
    assert said.network == lab.community.owner.node_id.hex()
    assert (said.name, said.node, said.owner) == ("first", first.node.hex(), True)
    assert said.roles == sorted(Role)
    assert (said.members, said.links, said.seeds) == (3, 2, ["192.0.2.1:7077"])
    assert said.member_until_unix_s == first.core.membership.own.claim.not_after > lab.unix_s


def test_refusals_are_shown_newest_first_with_their_counts(lab: Any) -> None:
    first, refusals = lab.add("first"), Refusals()
    refusals.note("192.0.2.66", bytes(range(32)), "another network", True, 10.0)
    refusals.note("192.0.2.67:1", None, "we are full", False, 11.0)
    refusals.note("192.0.2.66", bytes(range(32)), "another network", True, 12.0)
    shown = [
        (row.address, row.reason, row.by_us, row.count, row.last_unix_s)
        for row in status(first, refusals).refused
    ]
    assert shown == [
        ("192.0.2.66", "another network", True, 2, 12),
        ("192.0.2.67:1", "we are full", False, 1, 11),
    ]
    assert status(first, refusals).refused[0].node == bytes(range(32)).hex()


def test_every_count_goes_up_with_what_it_counts(lab: Any) -> None:
    first, second, third = lab.small("first", "second", "third")
    refusals = Refusals()
    before = mesh_counters(first.core, refusals)
    assert all(type(count) is int for count in before.values())
    assert before["link_links_made"] >= 2
    assert before["gossip_messages_in"] > 0
    assert before["gossip_messages_out"] > 0
    assert before["gossip_bytes_out"] > before["gossip_messages_out"]
    assert before["membership_learned_uses"] + before["membership_bytes_out"] > 0
    first.core.book.ask(second.node, second.node, lab.now)
    first.core.book.ask(second.node, third.node, lab.now)
    refusals.note("192.0.2.66", None, "no", True, 1.0)
    first.core.membership.revoke(lab.community.owner, third.node, int(lab.unix_s))
    first.core.membership_changed(lab.now, lab.unix_s)
    lab.run(1.0)
    after = mesh_counters(first.core, refusals)
    assert after.keys() == before.keys()
    assert after["relay_denied"] == before["relay_denied"] + 1
    assert after["relay_granted"] == before["relay_granted"] + 1
    assert after["refused"] == 1
    assert mesh_counters(second.core, refusals)["membership_learned_revocations"] == 1
