"""Measures the mesh's figures on simulated networks and prints them beside a model of memberlist.

`scripts/sim --report` prints the table; `scripts/sim --report --quick` a rough one in seconds.
`scripts/sim --nodes N --seconds S` runs one network and says what it cost.
`scripts/sim --nat` punches through every pair of routers and prints how often and how fast that went;
`scripts/sim --nat --pair TYPE TYPE --seed N` one of its sessions, packet by packet.
"""

import argparse
import gc
import math
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from figures import (  # noqa: E402 - see above
    FalseDeaths,
    Spread,
    begin_load,
    measure_crash,
    measure_updates,
    rate_below,
)
from memberlist_model import LAN, WAN, Memberlist, Profile  # noqa: E402 - see above
from nat_table import print_session, print_table  # noqa: E402 - see above
from simulator import LAN_DELAY_S, WAN_DELAY_S, Loss, Network  # noqa: E402 - see above

WARM_UP_S = 5.0
DEATHS_NODES = (
    200  # neighbours judge, whatever the size; only an answer has further to go in a larger network
)
DEATHS_S = 1800.0  # of each network; then another seed


def network(options: argparse.Namespace, loss: Loss, delay_s: tuple[float, float] = LAN_DELAY_S) -> Network:
    made = Network(options.nodes, options.seed, loss, delay_s)
    made.start_settled()
    made.run(WARM_UP_S)
    return made


def baseline_updates(options: argparse.Namespace, profile: Profile) -> Spread:
    model = Memberlist(options.nodes, options.loss, profile, options.seed)
    model.run(WARM_UP_S)
    began: dict[tuple[int, int], float] = {}
    left: dict[tuple[int, int], int] = {}
    times = []

    def updated(_: int, subject: int, incarnation: int) -> None:
        key = (subject, incarnation)
        if key in left:
            left[key] -= 1
            if left[key] == 0:
                times.append(model.now - began[key])

    model.on_update = updated
    for subject in range(options.updates):
        key = (subject, model.update(subject))
        began[key], left[key] = model.now, math.ceil((options.nodes - 1) * 0.999)
        model.run(0.5)
    model.run(10.0)
    return Spread(0.999, sorted(times + [math.inf] * (options.updates - len(times))))


def baseline_crash(options: argparse.Namespace, profile: Profile) -> float:
    model = Memberlist(options.nodes, options.loss, profile, options.seed)
    model.run(WARM_UP_S)
    model.nodes[options.nodes // 2].up = False
    began = model.now
    while model.known_dead(options.nodes // 2) < 0.99 * (options.nodes - 1):
        if model.now - began > 150:
            return math.inf
        model.run(0.1)
    return model.now - began


def baseline_steady(options: argparse.Namespace) -> tuple[float, float]:
    """False deaths per node-hour and bytes per node and second."""
    model = Memberlist(options.nodes, options.loss, LAN, options.seed)
    model.run(options.seconds)
    hours = options.nodes * options.seconds / 3600
    return len(model.false_deaths) / hours, model.bytes / options.nodes / options.seconds


def row(what: str, ours: str, wanted: str, baseline: str) -> None:
    print(f"| {what} | {ours} | {wanted} | {baseline} |", flush=True)


def report_updates(options: argparse.Namespace) -> None:
    lan, wan = baseline_updates(options, LAN), baseline_updates(options, WAN)
    known = f"{lan.quantile(0.5):.2f} / {lan.quantile(0.99):.2f} LAN, {wan.quantile(0.5):.2f} / "
    known += f"{wan.quantile(0.99):.2f} WAN"
    lossy = Loss(options.loss)
    for name, loss, delay_s in (
        ("messages lost, LAN", lossy, LAN_DELAY_S),
        ("messages lost in bursts of 1 s, LAN", Loss(options.loss, burst_s=1.0), LAN_DELAY_S),
        ("TCP, packets lost, LAN", Loss(options.loss, resent=True), LAN_DELAY_S),
        ("messages lost, WAN", lossy, WAN_DELAY_S),
    ):
        spread = measure_updates(network(options, loss, delay_s), options.updates, 0.5)
        row(
            f"update seen by 99.9 %, median / p99, s ({name})",
            f"{spread.quantile(0.5):.2f} / {spread.quantile(0.99):.2f}",
            "0.60 / 1.00",
            known,
        )


def report_crashes(options: argparse.Namespace) -> None:
    known = f"{baseline_crash(options, LAN):.1f} LAN, {baseline_crash(options, WAN):.1f} WAN"
    made = network(options, Loss(options.loss))
    times = sorted(measure_crash(made, index) for index in range(options.crashes))
    row(
        "crash known by 99 %, median / worst, s",
        f"{times[len(times) // 2]:.1f} / {times[-1]:.1f}",
        "8",
        known,
    )


def report_steady(options: argparse.Namespace) -> None:
    cost = baseline_steady(options)[1]
    made = network(options, Loss(options.loss))
    rate = begin_load(made)
    made.run(WARM_UP_S)
    before = made.bytes
    made.run(options.seconds)
    ours = (made.bytes - before) / options.seconds / options.nodes
    row(
        f"control traffic, {rate:.1f} load records a second, {options.seconds:.0f} s, B/s a node",
        f"{ours:.0f}",
        "7000",
        f"{cost:.0f}",
    )


def report_deaths(options: argparse.Namespace) -> None:
    """Idle networks, the worse case: a link that carries records is heard more often."""
    known = baseline_steady(options)[0]
    for name, loss, wanted, share in (
        (f"{options.loss:.0%} loss", Loss(options.loss), "0.001", 1.0),
        (f"{2 * options.loss:.0%} loss", Loss(2 * options.loss), "0.01", 0.1),
        (f"{options.loss:.0%} in bursts of 1 s", Loss(options.loss, burst_s=1.0), "0.001", 0.1),
    ):
        deaths, hours, seed = 0, 0.0, options.seed
        while hours < options.hours * share:
            made = Network(min(options.nodes, DEATHS_NODES), seed, loss)
            made.start_settled()
            counted = FalseDeaths(made)
            made.run(DEATHS_S)
            deaths += len(counted.victims)
            hours += len(made.nodes) * DEATHS_S / 3600
            seed += 1
            del made, counted
            gc.collect()
        row(
            f"false deaths a node-hour, {name}",
            f"{deaths} in {hours:.0f} h: below {rate_below(deaths, hours):.4f} with 95 %",
            wanted,
            f"{known:.3f}",
        )


def report_speed(options: argparse.Namespace) -> None:
    digests = []
    for seconds in (60.0, 60.0, 600.0):
        began = time.perf_counter()
        made = network(options, Loss(options.loss))
        made.run(min(seconds, options.seconds * 10) - WARM_UP_S)
        took = time.perf_counter() - began
        digests.append(made.digest)
    same = "identical" if digests[0] == digests[1] else "DIFFERENT"
    row(f"{options.nodes} nodes, {made.now:.0f} simulated s, wall clock s", f"{took:.0f}, {same}", "60", "-")


def run_one(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    made = Network(options.nodes, options.seed, Loss(options.loss))
    if options.join:
        made.start_all()
    else:
        made.start_settled()
    started = time.perf_counter()
    messages, traffic, since = made.messages, made.bytes, made.now
    made.run(options.seconds)
    took = time.perf_counter() - started
    counters = [node.gossip.counters for node in made.nodes]
    passed = made.now - since
    print(f"nodes {options.nodes}, seed {options.seed}, loss {options.loss:.0%}, simulated {passed:.0f} s")
    print(f"start {started - began:.1f} s, run {took:.1f} s of wall clock, digest {made.digest:08x}")
    print(f"{(made.messages - messages) / passed / options.nodes:.1f} messages and ", end="")
    print(f"{(made.bytes - traffic) / passed / options.nodes:.0f} bytes a second and node")
    print(f"duplicates {sum(c.duplicates for c in counters)}, ", end="")
    print(f"refutations {sum(c.refutations for c in counters)}, deaths {sum(c.deaths for c in counters)}")
    print("consistent" if made.is_consistent() else "not consistent at this moment")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/sim", description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="measure and print the table")
    parser.add_argument("--quick", action="store_true", help="with --report: 200 nodes, seconds")
    parser.add_argument("--only", choices=list(_SECTIONS), help="with --report: one section")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated, for rates and single runs")
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument(
        "--hours", type=float, default=3000.0, help="node-hours in which to count false deaths"
    )
    parser.add_argument("--crashes", type=int, default=10)
    parser.add_argument("--join", action="store_true", help="start by joining one after another")
    parser.add_argument("--nat", action="store_true", help="punch through routers and print the table")
    parser.add_argument("--sessions", type=int, default=100, help="with --nat: of each pair")
    parser.add_argument("--pair", nargs=2, metavar="TYPE", help="with --nat: one session of this pair")
    options = parser.parse_args()
    if options.nat:
        if options.pair:
            print_session(*options.pair, options.seed)
        else:
            print_table(options.sessions)
        return
    gc.disable()  # nothing here makes cycles; looking for them among millions of objects takes a third
    if not options.report:
        run_one(options)
        return
    if options.quick:
        options.nodes, options.seconds, options.updates, options.crashes = 200, 20.0, 20, 3
        options.hours = 100.0
    print(f"{options.nodes} nodes, {options.loss:.0%} loss, seed {options.seed}")
    row("what", "here", "wanted at most", "memberlist model")
    row("---", "---", "---", "---")
    for name, section in _SECTIONS.items():
        if options.only in (None, name):
            section(options)
            gc.collect()


_SECTIONS = {
    "updates": report_updates,
    "crashes": report_crashes,
    "steady": report_steady,
    "deaths": report_deaths,
    "speed": report_speed,
}

if __name__ == "__main__":
    main()
