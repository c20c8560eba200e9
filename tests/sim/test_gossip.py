"""Networks of 2 to 200 gossip cores: joins, crashes, partitions, clocks, losses, slow and lying nodes."""

import math
from collections import Counter

import pytest
from figures import FalseDeaths, begin_load, measure_crash, measure_updates
from memberlist_model import LAN, Memberlist
from simulator import NETWORK_ID, FakeSigner, Loss, Network, node_id

from mesh.directory.record import Kind, sign_record
from mesh.membership.message import Compare, Push, Range, encode
from mesh.membership.neighbour import LINK_BURST_BYTES
from mesh.membership.overlay import ACTIVE_MAX
from mesh.membership.suspicion import Vouch, parse_accusation_untrusted, sign_accusation, sign_vouch

LOSSES = {
    "none": Loss(),
    "independent": Loss(0.1),
    "bursts": Loss(0.1, burst_s=1.0),
    "tcp": Loss(0.1, resent=True),
}


def settled(size: int, seed: int, loss: Loss = LOSSES["independent"], **options: float) -> Network:
    network = Network(size, seed, loss, **options)
    network.start_settled()
    network.run(3.0)
    return network


def run_until_consistent(network: Network, within_s: float) -> float:
    began = network.now
    while not network.is_consistent():
        assert network.now - began < within_s, f"seed {network.seed}: {sizes(network)}"
        network.run(0.5)
    return network.now - began


def sizes(network: Network) -> list[int]:
    return [len(node.gossip.directory) for node in network.alive()]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("size", [10, 50])
def test_joining_nodes_learn_everything(size: int, loss: Loss) -> None:
    network = Network(size, 3, loss)
    network.start_all(0.05)
    run_until_consistent(network, 30.0)
    assert network.wire_errors == 0
    assert all(len(node.gossip.overlay.active) <= ACTIVE_MAX for node in network.nodes)


def test_eight_nodes_are_fully_meshed() -> None:
    network = Network(8, 1, Loss(0.1))
    network.start_all(0.05)
    network.run(30.0)
    assert [len(node.gossip.overlay.active) for node in network.nodes] == [7] * 8


def test_two_hundred_nodes_join_at_once() -> None:
    network = Network(200, 5, Loss(0.1))
    network.start_all(0.01)
    run_until_consistent(network, 40.0)


def test_same_seed_same_history() -> None:
    digests = []
    for seed in (7, 7, 8):
        network = Network(30, seed, Loss(0.1, burst_s=0.5), duplicates=0.05)
        network.start_all(0.02)
        network.run(10.0)
        network.crash(3)
        network.run(10.0)
        digests.append(network.digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_updates_reach_everybody_in_time(loss: Loss) -> None:
    spread = measure_updates(settled(100, 11, loss), 10, 0.5)
    assert spread.quantile(0.5) <= 0.6
    assert spread.quantile(0.99) <= 1.0


def test_updates_reach_everybody_while_load_is_published() -> None:
    network = settled(100, 12)
    begin_load(network)
    assert measure_updates(network, 10, 0.5).quantile(0.99) <= 1.0


def test_updates_beat_the_memberlist_model() -> None:
    model = Memberlist(100, 0.1, LAN, 1)
    heard: set[int] = set()
    model.on_update = lambda index, subject, incarnation: heard.add(index)
    model.run(2.0)
    model.update(3)
    began = model.now
    while len(heard) < 99:
        model.run(0.05)
    assert measure_updates(settled(100, 1), 10, 0.5).quantile(0.5) < model.now - began


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_crash_is_known_in_time(loss: Loss) -> None:
    assert measure_crash(settled(100, 13, loss), 7) <= 8.0


@pytest.mark.parametrize("seed", range(40, 50))
@pytest.mark.parametrize("size", [2, 3, 5])
def test_crash_in_a_small_network(size: int, seed: int) -> None:
    network = Network(size, seed, Loss(0.1))
    network.start_all(0.1)
    run_until_consistent(network, 10.0)
    network.run(5.0)
    assert measure_crash(network, 1) <= 15.0


def test_half_of_the_nodes_crash() -> None:
    network = settled(60, 15)
    for index in range(0, 60, 2):
        network.crash(index)
    network.run(40.0)
    run_until_consistent(network, 30.0)


def test_goodbye_is_known_at_once() -> None:
    network = settled(50, 16, LOSSES["none"])
    network.leave(5)
    network.run(1.0)
    assert network.known_dead(5) == 49
    assert all(node.gossip.directory.grave(node_id(5)).left for node in network.alive())


def test_no_false_deaths_under_heavy_loss() -> None:
    for loss in (Loss(0.2), Loss(0.1, burst_s=1.0)):
        network = settled(60, 17, loss)
        counted = FalseDeaths(network)
        network.run(60.0)
        assert not counted.victims


def test_partition_heals() -> None:
    network = settled(40, 18)
    network.partition([index % 2 for index in range(40)])
    network.run(40.0)
    assert {node.gossip.directory.population for node in network.nodes} == {20}
    network.partition(None)
    run_until_consistent(network, 150.0)


def test_restarted_node_replaces_its_former_life() -> None:
    network = settled(30, 19)
    network.publish(4, Kind.STREAMS, b"old")
    network.run(2.0)
    network.crash(4)
    network.run(1.0)
    network.start(4)
    network.join(4, 9)
    network.run(10.0)
    run_until_consistent(network, 10.0)
    assert network.nodes[0].gossip.directory.record(node_id(4), Kind.STREAMS) is None


def test_clock_that_went_back_is_outdone() -> None:
    network = settled(20, 20)
    network.crash(4)
    network.run(1.0)
    network.generation = 0
    network.start(4)
    network.join(4, 9)
    network.run(15.0)
    run_until_consistent(network, 10.0)
    assert network.nodes[4].gossip.generation > 1


def test_clock_skew_does_not_matter() -> None:
    network = Network(30, 21, Loss(0.1))
    for index in range(30):
        network.start(index, drift=1 + 0.002 * (index - 15), offset=600.0 * index)
        if index:
            network.join(index, index // 2)
        network.run(0.05)
    counted = FalseDeaths(network)
    run_until_consistent(network, 30.0)
    network.run(30.0)
    assert not counted.victims


@pytest.mark.parametrize("seed", range(50, 53))
def test_slow_nodes_live(seed: int) -> None:
    network = settled(40, seed)
    for index in range(0, 40, 10):
        network.nodes[index].slow_s = 0.8
    counted = FalseDeaths(network)
    network.run(60.0)
    assert not counted.victims


def test_broken_connections_come_back() -> None:
    network = settled(20, 23)
    counted = FalseDeaths(network)
    for _ in range(20):
        node = network.random.choice(network.nodes)
        if node.links:
            network.break_link(node.index, network.random.choice(sorted(node.links)))
        network.run(1.0)
    network.run(15.0)
    assert not counted.victims
    assert network.is_consistent()


def vouch_for(network: Network, accuser: int, subject: int) -> Vouch:
    held = network.nodes[accuser].gossip.overlay.links[node_id(subject)].vouch
    assert held is not None
    return held


def test_lie_about_a_neighbour_is_refuted() -> None:
    network = settled(30, 24, LOSSES["none"])
    liar = 3
    subject = network.index[next(iter(network.nodes[liar].gossip.overlay.active))]
    before = network.nodes[subject].gossip.generation
    counted = FalseDeaths(network)
    accusation = sign_accusation(
        FakeSigner(node_id(liar)), NETWORK_ID, vouch_for(network, liar, subject), final=True
    )
    for other in sorted(network.nodes[liar].links):
        network.inject(liar, other, encode(Push([], [accusation.blob])))
    network.run(10.0)
    assert not counted.victims
    assert network.nodes[subject].gossip.generation == before + 1
    run_until_consistent(network, 10.0)


def test_liar_cannot_make_up_a_quorum() -> None:
    network = settled(30, 25, LOSSES["none"])
    liar = 3
    subject = network.index[next(iter(network.nodes[liar].gossip.overlay.active))]
    forged = sign_vouch(FakeSigner(node_id(liar)), NETWORK_ID, 99, 1, [node_id(liar)])
    accusation = sign_accusation(FakeSigner(node_id(liar)), NETWORK_ID, forged, final=True)
    network.inject(liar, subject, encode(Push([], [accusation.blob])))
    network.run(5.0)
    assert not network.known_dead(subject)
    assert network.nodes[subject].gossip.counters.refutations == 0
    assert parse_accusation_untrusted(accusation.blob, NETWORK_ID, lambda *_: True).vouch == forged


def test_forged_record_costs_the_link() -> None:
    network = settled(20, 26, LOSSES["none"])
    other = min(network.nodes[3].links)
    genuine = sign_record(FakeSigner(node_id(9)), NETWORK_ID, 1000, Kind.WHO, 1, b"me")
    network.inject(3, other, encode(Push([genuine.blob[:-1] + b"x"])))
    network.run(1.0)
    assert network.wire_errors == 1
    record = network.nodes[other].gossip.directory.record(node_id(9), Kind.WHO)
    assert record is not None and record.generation < 1000


def test_replayed_old_records_change_nothing() -> None:
    network = settled(20, 27, LOSSES["none"])
    old = network.publish(9, Kind.STREAMS, b"old")
    network.run(1.0)
    new = network.publish(9, Kind.STREAMS, b"new")
    network.leave(8)
    network.run(1.0)
    assert old is not None and new is not None
    buried = sign_record(FakeSigner(node_id(8)), NETWORK_ID, 1, Kind.WHO, 7, b"zombie")
    for other in sorted(network.nodes[3].links):
        network.inject(3, other, encode(Push([old.blob, buried.blob])))
    network.run(2.0)
    for node in network.alive():
        assert node.gossip.directory.record(node_id(9), Kind.STREAMS) == new
        assert node_id(8) not in node.gossip.directory


def test_revoked_node_that_will_not_go() -> None:
    network = settled(30, 28)
    for index in range(30):
        if index != 4:
            network.forbid(index, 4)
    for other in range(30):
        if other != 4:
            network.join(4, other)
    network.publish(4, Kind.STREAMS, b"still here")
    network.run(10.0)
    others = [node for node in network.nodes if node.index != 4]
    assert all(node_id(4) not in node.gossip.directory for node in others)
    assert all(node_id(4) not in node.gossip.overlay.links for node in others)


def test_flood_of_a_member_is_dropped_then_the_link() -> None:
    network = settled(20, 29, LOSSES["none"])
    other = min(network.nodes[3].links)
    target = network.nodes[other].gossip
    message = encode(Compare([Range(0, 0, 1, 1)] * 200))
    sent = target.outbox.bytes_out
    for _ in range(3000):
        network.inject(3, other, message)
    network.run(1.0)
    assert target.counters.flooded >= 1000
    assert target.outbox.bytes_out - sent < 1.2 * LINK_BURST_BYTES
    assert node_id(3) not in target.overlay.active


def test_flood_of_records_is_held_at_the_first_hop() -> None:
    network = settled(20, 30, LOSSES["none"])
    taken = Counter()
    network.on_changed = lambda index, record: taken.update([index])
    for serial in range(300):
        network.publish(3, Kind.STREAMS, serial.to_bytes(2, "big"))
    network.run(2.0)
    assert max(taken[index] for index in range(20) if index != 3) <= 45
    network.run(30.0)
    network.publish(3, Kind.STREAMS, b"calm again")
    network.run(10.0)
    assert network.is_consistent()


def test_traffic_is_in_bounds() -> None:
    network = settled(150, 31)
    rate = begin_load(network)
    network.run(10.0)
    before = network.bytes
    network.run(10.0)
    assert rate > 2
    assert (network.bytes - before) / 10 / 150 < 2500  # 7 kB/s at 1000 nodes, where there is more to tell


def test_spread_quantiles() -> None:
    network = Network(10, 32)
    network.start_settled()
    network.partition([0] * 5 + [1] * 5)
    assert measure_updates(network, 2, 0.1).quantile(0.5) == math.inf
